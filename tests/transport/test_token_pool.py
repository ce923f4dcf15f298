"""The pool of tokens: newest first, renewed once for all who ask, kept where renewal fails."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Collection, Hashable
from datetime import datetime, timedelta

import attrs
import pytest

from hybridbroker.errors import AuthenticationError, ConfigurationError, HybridBrokerError, NotSent, TokenExpired
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.tokens import TokenPool, instant, jwt_claims, shared_pool


@attrs.frozen
class Key:
    secret: str
    dies: datetime

    def check(self, now: datetime) -> None:
        if now > self.dies:
            raise TokenExpired(f"{self.secret} is over")


class World:
    """Tokens that are there, and a mint that makes more."""

    def __init__(self, *, mints: bool = True) -> None:
        self.clock = ManualClock()
        self.there: list[Key] = []
        self.made: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: HybridBrokerError | None = None
        self.is_due = False
        self.pool = TokenPool(
            clock=self.clock,
            candidates=lambda: self.there,
            none=lambda last: TokenExpired("log in") if last else ConfigurationError("no token"),
            make=self.make if mints else None,
            due=lambda _, __: self.is_due,
        )

    def key(self, secret: str, hours: float = 1.0) -> Key:
        return Key(secret, self.clock.now() + timedelta(hours=hours))

    async def make(self, refused: Collection[Hashable]) -> Key:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.made.append(f"made-{len(self.made)}")
        self.there = [self.key(self.made[-1])]
        assert self.made[-1] not in refused
        return self.there[0]


async def test_the_first_living_token_is_used() -> None:
    world = World()
    world.there = [world.key("dead", -1), world.key("alive")]

    assert (await world.pool.token()).secret == "alive"
    assert world.made == []


async def test_many_who_are_refused_at_once_share_one_renewal() -> None:
    world = World()
    world.there = [world.key("old")]
    old = await world.pool.token()
    world.gate.clear()

    asking = [asyncio.create_task(world.pool.renewed(old)) for _ in range(20)]
    await asyncio.sleep(0)
    world.gate.set()
    renewed = await asyncio.gather(*asking)

    assert {each.secret for each in renewed} == {"made-0"}
    assert world.made == ["made-0"]


async def test_one_who_is_refused_late_gets_what_the_others_have() -> None:
    world = World()
    world.there = [world.key("old")]
    old = await world.pool.token()
    await world.pool.renewed(old)

    late = await world.pool.renewed(old)

    assert (late.secret, world.made) == ("made-0", ["made-0"])


async def test_who_is_cancelled_does_not_lose_the_token_that_is_being_made() -> None:
    world = World()
    world.gate.clear()
    asking = asyncio.create_task(world.pool.token())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    world.gate.set()
    token = await world.pool.token()

    assert (token.secret, world.made) == ("made-0", ["made-0"])


async def test_a_failure_is_shared_and_not_remembered() -> None:
    world = World()
    world.failure = NotSent("no network")
    failures = await asyncio.gather(world.pool.token(), world.pool.token(), return_exceptions=True)
    world.failure = None

    token = await world.pool.token()

    assert [type(each) for each in failures] == [NotSent, NotSent]
    assert token.secret == "made-0"


async def test_a_failure_nobody_waits_for_makes_no_noise() -> None:
    world = World()
    world.failure = NotSent("no network")
    asking = asyncio.create_task(world.pool.token())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.sleep(0.01)

    gc.collect()  # "exception was never retrieved" would fail this test
    assert asking.cancelled()


async def test_a_token_that_is_due_is_replaced_while_it_lives() -> None:
    world = World()
    world.there, world.is_due = [world.key("old")], True

    assert (await world.pool.token()).secret == "made-0"


async def test_a_token_that_is_due_is_used_on_where_renewal_fails_and_not_hammered() -> None:
    world = World()
    world.there, world.is_due, world.failure = [world.key("old")], True, AuthenticationError("no")
    tokens = [(await world.pool.token()).secret for _ in range(3)]
    world.failure = None
    soon = (await world.pool.token()).secret
    world.clock.advance(61)

    assert [*tokens, soon] == ["old"] * 4
    assert (await world.pool.token()).secret == "made-0"


async def test_a_refused_token_comes_after_others_and_before_none() -> None:
    world = World(mints=False)
    world.there = [world.key("first"), world.key("second")]
    first = await world.pool.token()
    second = await world.pool.renewed(first)
    with pytest.raises(TokenExpired):
        await world.pool.renewed(second)

    assert second.secret == "second"
    assert (await world.pool.token()).secret == "first"


async def test_nothing_at_all_says_how_to_log_in() -> None:
    with pytest.raises(ConfigurationError, match="no token"):
        await World(mints=False).pool.token()


async def test_all_of_one_account_share_a_pool_while_anybody_keeps_it() -> None:
    one, other = World(), World()
    first = shared_pool(("dhan", "1"), one.clock, lambda: one.pool)
    again = shared_pool(("dhan", "1"), one.clock, lambda: other.pool)
    elsewhere = shared_pool(("dhan", "2"), one.clock, lambda: other.pool)

    assert first is again
    assert elsewhere is not first


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "a.W10.c", "é.é.é", "a." + "W" * 9 + ".c"])
def test_what_is_no_web_token_says_nothing(text: str) -> None:
    assert jwt_claims(text) == {}


@pytest.mark.parametrize("epoch", [None, "1", True, 1e300, float("nan")])
def test_what_is_no_epoch_is_no_instant(epoch: object) -> None:
    assert instant(epoch) is None
