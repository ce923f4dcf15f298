"""How one call is made: the token of the moment, one renewal for reads, none for writes, limits that are shared."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping

import pytest
from pydantic import SecretStr
from upstox_desk_kit import ACK, ID, NOON, Answer, Asked, always, limit_order, order_row, script, serving, upstox
from upstox_kit import RELIANCE

from hybridbroker.brokers.upstox.auth import AccessToken
from hybridbroker.brokers.upstox.limits import LIMITS
from hybridbroker.clock import SystemClock
from hybridbroker.domain.orders import Order, Side
from hybridbroker.domain.standing import GttOrder, Trigger
from hybridbroker.errors import AuthenticationError, ConfigurationError, NotSent, RateLimited, TokenExpired
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.limits import RateLimiter, Window, shared

UNAUTHORIZED = Answer.refusal("UDAPI100050", status=401)


class Tokens:
    """A `TokenSource` whose token is renewed when it is refused, as long as there are more."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = list(secrets)
        self.renewals = 0

    def _now(self) -> AccessToken:
        return AccessToken.of(SecretStr(self._secrets[0]), seen_at=NOON)

    async def token(self) -> AccessToken:
        return self._now()

    async def renewed(self, refused: AccessToken) -> AccessToken:
        self.renewals += 1
        assert refused.secret.get_secret_value() == self._secrets[0]
        if len(self._secrets) == 1:
            raise TokenExpired("there is no other token")
        self._secrets.pop(0)
        return self._now()


def by_token(answer: Answer, *, good: str = "fresh") -> Callable[[Asked], Answer]:
    def answer_one(asked: Asked) -> Answer:
        return answer if asked.headers["authorization"] == f"Bearer {good}" else UNAUTHORIZED

    return answer_one


async def test_a_refused_read_is_repeated_once_with_a_renewed_token() -> None:
    tokens = Tokens("stale", "fresh")
    async with serving(by_token(Answer.data([]))) as server, upstox(server.url, tokens=tokens) as broker:
        orders = await broker.orders()

    assert orders == []
    assert (tokens.renewals, len(server.asked)) == (1, 2)


async def test_a_read_by_post_is_repeated_the_same_way() -> None:
    tokens = Tokens("stale", "fresh")
    answer = Answer.data({"required_margin": 5})
    async with serving(by_token(answer)) as server, upstox(server.url, tokens=tokens) as broker:
        margin = await broker.margin(limit_order())

    assert margin.required == 5
    assert (tokens.renewals, len(server.asked)) == (1, 2)


async def test_a_read_refused_again_ends() -> None:
    tokens = Tokens("stale", "staler", "fresh")
    async with serving(always(UNAUTHORIZED)) as server, upstox(server.url, tokens=tokens) as broker:
        with pytest.raises(TokenExpired):
            await broker.orders()

    assert (tokens.renewals, len(server.asked)) == (1, 2)


async def test_a_read_whose_token_cannot_be_renewed_says_what_upstox_said() -> None:
    async with serving(always(UNAUTHORIZED)) as server, upstox(server.url, tokens=Tokens("stale")) as broker:
        with pytest.raises(TokenExpired, match="UDAPI100050"):
            await broker.orders()

    assert len(server.asked) == 1


@pytest.mark.parametrize("code", ["UDAPI100067", "UDAPI100073"])
async def test_a_token_that_is_good_but_not_for_this_is_not_renewed(code: str) -> None:
    tokens = Tokens("good", "another")
    refused = Answer.refusal(code, status=401)
    async with serving(always(refused)) as server, upstox(server.url, tokens=tokens) as broker:
        with pytest.raises(AuthenticationError):
            await broker.orders()
        with pytest.raises(AuthenticationError):
            await broker.place_order(limit_order())
        with pytest.raises(AuthenticationError):
            await broker.orders()

    assert (tokens.renewals, len(server.asked)) == (0, 3)


async def test_a_refused_write_is_never_repeated_but_the_next_has_a_new_token() -> None:
    tokens = Tokens("stale", "fresh")
    async with serving(by_token(ACK)) as server, upstox(server.url, tokens=tokens) as broker:
        with pytest.raises(AuthenticationError):
            await broker.place_order(limit_order())
        before = len(server.asked)
        order = await broker.place_order(limit_order())

    assert before == 1
    assert isinstance(order, Order)
    assert [each.headers["authorization"] for each in server.asked] == ["Bearer stale", "Bearer fresh"]


async def test_a_write_goes_out_with_the_old_token_where_there_is_no_new_one() -> None:
    async with (
        serving(script(("POST", UNAUTHORIZED), ("POST", ACK))) as server,
        upstox(server.url, tokens=Tokens("the-only-one")) as broker,
    ):
        with pytest.raises(AuthenticationError):
            await broker.place_order(limit_order())
        order = await broker.place_order(limit_order())

    assert order.id == ID
    assert len(server.asked) == 2


async def test_a_429_pauses_its_family_and_no_other() -> None:
    clock = ManualClock(NOON)
    answers = script(("POST", Answer.refusal("UDAPI10005", status=429)), ("POST", ACK), ("GET", Answer.data([])))
    async with serving(answers) as server, upstox(server.url, clock=clock) as broker:
        with pytest.raises(RateLimited):
            await broker.place_order(limit_order())
        await broker.orders()
        after_read = clock.monotonic()
        await broker.place_order(limit_order())

    assert after_read == 0
    assert clock.monotonic() >= 1


async def test_too_many_requests_said_in_a_400_pause_the_family_as_well() -> None:
    clock = ManualClock(NOON)
    answers = script(("POST", Answer.refusal("UDAPI10005")), ("POST", ACK))
    async with serving(answers) as server, upstox(server.url, clock=clock) as broker:
        with pytest.raises(RateLimited):
            await broker.place_order(limit_order())
        await broker.place_order(limit_order())

    assert clock.monotonic() >= 1


async def test_ten_orders_a_second_are_sent_and_the_eleventh_waits() -> None:
    clock = ManualClock(NOON)
    async with serving(always(ACK)) as server, upstox(server.url, clock=clock) as broker:
        for _ in range(10):
            await broker.place_order(limit_order())
        burst = clock.monotonic()
        await broker.place_order(limit_order())

    assert burst == 0
    assert 1 <= clock.monotonic() < 1.5


async def test_a_registered_algorithm_may_send_fifty() -> None:
    clock = ManualClock(NOON)
    async with serving(always(ACK)) as server, upstox(server.url, clock=clock, algo_name="ema") as broker:
        for _ in range(50):
            await broker.place_order(limit_order())

    assert clock.monotonic() == 0
    assert len(server.asked) == 50


async def test_two_brokers_of_one_process_share_their_limits() -> None:
    clock = ManualClock(NOON)
    async with (
        serving(always(ACK)) as server,
        upstox(server.url, clock=clock) as one,
        upstox(server.url, clock=clock) as other,
    ):
        for _ in range(5):
            await one.place_order(limit_order())
            await other.place_order(limit_order())
        burst = clock.monotonic()
        await one.place_order(limit_order())

    assert burst == 0
    assert clock.monotonic() >= 1


async def test_cancellations_and_exits_go_before_the_orders_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[str, bool]] = []

    async def acquire(_: RateLimiter, family: str, *, urgent: bool = False, patience: float | None = None) -> None:
        assert (patience is None) == (family == "read")
        taken.append((family, urgent))

    def answer(asked: Asked) -> Answer:
        match asked.method, asked.path:
            case "GET", "/v3/order/gtt":
                rule = {"strategy": "ENTRY", "status": "SCHEDULED", "transaction_type": "BUY", "trigger_price": 5}
                about = {"type": "SINGLE", "quantity": 1, "product": "D", "instrument_token": "NSE_EQ|INE000A01018"}
                return Answer.data([{**about, "gtt_order_id": "GTT-1", "rules": [rule]}])
            case "GET", "/v2/user/kill-switch":
                return Answer.data([{"segment": "NSE_EQ", "kill_switch_enabled": False}])
            case "GET", _:
                return Answer.data(order_row())
        return Answer.data({"order_ids": [ID], "order_id": ID, "gtt_order_ids": ["GTT-1"]})

    monkeypatch.setattr(RateLimiter, "acquire", acquire)
    async with serving(answer) as server, upstox(server.url) as broker:
        await broker.place_order(limit_order())
        await broker.modify_order(ID, quantity=20)
        plain = [urgent for family, urgent in taken if family == "order"]
        taken.clear()
        await broker.cancel_order(ID)
        await broker.cancel_all()
        await broker.exit_all()
        await broker.cancel_gtt("GTT-1")
        await broker.activate_kill_switch()

    assert plain == [False, False]
    assert [urgent for family, urgent in taken if family == "order"] == [True] * 5
    assert {family for family, _ in taken} == {"order", "read"}


async def test_an_order_whose_turn_is_too_far_off_is_not_sent_and_reads_go_on() -> None:
    clock = ManualClock(NOON)
    async with serving(always(Answer.data([]))) as server, upstox(server.url, clock=clock) as broker:
        shared(("upstox", server.url, ""), LIMITS, clock).pause("order", 30)
        with pytest.raises(NotSent):
            await broker.place_order(limit_order())
        await broker.orders()

    assert [each.method for each in server.asked] == ["GET"]


async def test_an_open_connection_is_kept_warm_without_a_token() -> None:
    async with serving(always(ACK)) as server, upstox(server.url, keep_warm_seconds=15) as broker:
        await broker.place_order(limit_order())

    first, second = server.asked
    assert (first.method, first.path, second.path) == ("GET", "/", "/v3/order/place")
    assert "authorization" not in first.headers
    assert server.connections == 1


async def test_addresses_that_are_not_encrypted_are_refused() -> None:
    for field in ("base_url", "order_url"):
        with pytest.raises(ConfigurationError):
            upstox("https://api.upstox.com", **{field: "http://api.upstox.com"})


async def test_a_price_read_for_a_gtt_order_comes_before_its_one_write() -> None:
    quotes = Answer.data({"NSE_EQ:X": {"instrument_token": "NSE_EQ|INE000A01018", "last_price": 1400.0}})
    answers = script(("GET", quotes), ("POST", Answer.data({"gtt_order_ids": ["GTT-1"]})))
    async with serving(answers) as server, upstox(server.url) as broker:
        await broker.place_gtt(GttOrder(RELIANCE, Side.BUY, quantity=1, trigger=Trigger("1390")))

    assert [each.method for each in server.asked] == ["GET", "POST"]


async def test_limits_are_one_for_an_account_and_a_clock_and_end_with_their_last_user() -> None:
    clock, other = ManualClock(NOON), ManualClock(NOON)
    limits = {"read": (Window(1, 1.0),)}

    one = shared(("b", "me"), limits, clock)

    assert shared(("b", "me"), limits, clock) is one
    assert shared(("b", "you"), limits, clock) is not one
    assert shared(("b", "me"), limits, other) is not one
    with pytest.raises(ConfigurationError, match="in use"):
        shared(("b", "me"), {"read": (Window(2, 1.0),)}, clock)
    del one
    gc.collect()
    assert isinstance(shared(("b", "me"), {"read": (Window(2, 1.0),)}, clock), RateLimiter)


async def test_real_clocks_share_and_event_loops_do_not() -> None:
    limits = {"read": (Window(1, 1.0),)}
    here = shared(("b", "me"), limits, SystemClock())

    elsewhere = await asyncio.to_thread(lambda: asyncio.run(_limiter(limits)))

    assert shared(("b", "me"), limits, SystemClock()) is here
    assert elsewhere is not here


async def _limiter(limits: Mapping[str, tuple[Window, ...]]) -> RateLimiter:
    return shared(("b", "me"), limits, SystemClock())


@pytest.mark.parametrize("family", LIMITS)
def test_every_family_has_the_documented_windows(family: str) -> None:
    first, *rest = LIMITS[family]

    assert first.limit == (10 if family == "order" else 50)
    assert [(window.limit, window.seconds) for window in rest] == [(500, 60.0), (2000, 1800.0)]
