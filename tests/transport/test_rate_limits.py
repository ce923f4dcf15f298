"""RateLimiter: exact windows, first come first served, pauses, urgency."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.errors import ConfigurationError, RateLimited
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.limits import RateLimiter, Window, retry_after


class Turns:
    """Acquire by name and note who got through when."""

    def __init__(self, *windows: Window) -> None:
        self.clock = ManualClock()
        self.limiter = RateLimiter({"order": windows}, clock=self.clock)
        self.passed: list[tuple[str, float]] = []

    async def take(self, name: str, *, urgent: bool = False, patience: float | None = None) -> None:
        await self.limiter.acquire("order", urgent=urgent, patience=patience)
        self.passed.append((name, self.clock.monotonic()))

    def start(self, name: str, *, urgent: bool = False) -> asyncio.Task[None]:
        return asyncio.create_task(self.take(name, urgent=urgent))


async def test_requests_within_the_window_pass_at_once() -> None:
    turns = Turns(Window(3, 1))

    for name in "abc":
        await turns.take(name)

    assert turns.passed == [("a", 0), ("b", 0), ("c", 0)]


async def test_the_request_above_the_window_waits_until_the_first_has_left_it() -> None:
    turns = Turns(Window(2, 10))

    await turns.take("a")
    turns.clock.advance(4)
    await turns.take("b")
    await turns.take("c")
    await turns.take("d")

    assert turns.passed == [("a", 0), ("b", 4), ("c", 10), ("d", 14)]


async def test_the_tightest_of_several_windows_decides() -> None:
    turns = Turns(Window(2, 1), Window(3, 60))

    for name in "abcd":
        await turns.take(name)

    assert turns.passed == [("a", 0), ("b", 0), ("c", 1), ("d", 60)]


async def test_those_who_wait_pass_in_order_of_arrival() -> None:
    turns = Turns(Window(1, 1))

    await asyncio.gather(*(turns.take(name) for name in "abcde"))

    assert turns.passed == [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)]


async def test_urgent_requests_pass_those_who_wait() -> None:
    turns = Turns(Window(1, 1))

    await turns.take("first")
    waiting = [turns.start("a"), turns.start("b"), turns.start("cancel", urgent=True), turns.start("exit", urgent=True)]
    await asyncio.gather(*waiting)

    assert [name for name, _ in turns.passed] == ["first", "cancel", "exit", "a", "b"]


async def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    turns = Turns(Window(1, 1))
    await turns.take("first")
    waiting = turns.start("waits")
    await asyncio.sleep(0)
    turns.clock.advance(5)

    await turns.take("newcomer")
    await waiting

    assert [name for name, _ in turns.passed] == ["first", "waits", "newcomer"]


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_one_who_gives_up_holds_nobody_up(leaver: int) -> None:
    turns = Turns(Window(1, 1))
    await turns.take("first")
    waiting = [turns.start(name) for name in "abc"]
    await asyncio.sleep(0)

    waiting[leaver].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    stayed = [name for number, name in enumerate("abc") if number != leaver]
    assert [name for name, _ in turns.passed] == ["first", *stayed]


async def test_everybody_may_give_up() -> None:
    turns = Turns(Window(1, 1))
    await turns.take("first")
    waiting = [turns.start(name) for name in "abc"]
    await asyncio.sleep(0)

    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await turns.take("later")

    assert [name for name, _ in turns.passed] == ["first", "later"]


async def test_impatience_is_refused_at_once_and_takes_no_place() -> None:
    turns = Turns(Window(1, 10))
    await turns.take("first")

    with pytest.raises(RateLimited, match="'order'") as caught:
        await turns.take("impatient", patience=9)
    await turns.take("patient", patience=10)

    assert caught.value.retry_after == 10
    assert turns.passed == [("first", 0), ("patient", 10)]


async def test_patience_counts_those_who_wait_already() -> None:
    turns = Turns(Window(2, 10))
    await turns.take("a")
    await turns.take("b")
    waiting = [turns.start(name) for name in "cde"]
    await asyncio.sleep(0)

    with pytest.raises(RateLimited) as caught:
        await turns.take("f", patience=1)
    await asyncio.gather(*waiting)

    assert caught.value.retry_after == 20
    assert turns.passed[-1] == ("e", 20)


async def test_a_pause_holds_everybody_up_even_without_windows() -> None:
    turns = Turns()
    turns.limiter.pause("order", 3)
    turns.limiter.pause("order", 1)

    await turns.take("a")

    assert turns.passed == [("a", 3)]


async def test_a_pause_while_somebody_waits_prolongs_the_wait() -> None:
    turns = Turns(Window(1, 1))
    await turns.take("a")
    waiting = turns.start("b")
    await asyncio.sleep(0)

    turns.limiter.pause("order", 30)
    await waiting

    assert turns.passed == [("a", 0), ("b", 30)]


async def test_families_do_not_hold_each_other_up() -> None:
    clock = ManualClock()
    limiter = RateLimiter({"order": [Window(1, 60)], "read": [Window(1, 60)]}, clock=clock)

    await limiter.acquire("order")
    await limiter.acquire("read")

    assert clock.monotonic() == 0


async def test_an_unknown_family_is_a_mistake() -> None:
    limiter = RateLimiter({"read": [], "order": []})

    with pytest.raises(ConfigurationError, match="'ordre'; known: order, read"):
        await limiter.acquire("ordre")
    with pytest.raises(ConfigurationError):
        limiter.pause("ordre", 1)


@pytest.mark.parametrize("terms", [(0, 1), (1, 0), (-1, 1)])
def test_a_window_that_lets_nobody_through_is_refused(terms: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Window(*terms)


@given(
    windows=st.lists(
        st.tuples(st.integers(min_value=1, max_value=5), st.integers(min_value=1, max_value=20)), min_size=1, max_size=3
    ),
    pauses=st.lists(st.integers(min_value=0, max_value=40), max_size=40),
)
def test_no_window_is_ever_exceeded_nor_a_place_wasted(windows: list[tuple[int, int]], pauses: list[int]) -> None:
    passed: list[float] = []

    async def arrivals() -> None:
        turns = Turns(*(Window(*window) for window in windows))
        for pause in pauses:
            turns.clock.advance(pause / 8)
            arrived = turns.clock.monotonic()
            await turns.take("x")
            passed.append(turns.clock.monotonic())
            assert passed[-1] == max([arrived, *(_earliest(passed[:-1], *window) for window in windows)])

    asyncio.run(arrivals())

    for limit, seconds in windows:
        assert all(later - earlier >= seconds for earlier, later in zip(passed, passed[limit:], strict=False))


def _earliest(passed: list[float], limit: int, seconds: int) -> float:
    return passed[-limit] + seconds if len(passed) >= limit else 0.0


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("", None), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("nan", None), ("inf", None), ("Mon, 05", None)],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert retry_after(header) == expected
