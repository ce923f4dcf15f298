"""The loop that drives a bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hybridbroker import (
    Candle,
    Gap,
    Interval,
    MarketEvent,
    MarketPhase,
    MarketStatus,
    Order,
    Strategy,
    Tick,
    TradingSession,
    run,
)
from hybridbroker.clock import IST, from_epoch_ms, to_epoch_ms
from hybridbroker.testing.factories import make_instrument, make_order, make_tick

SHARE = make_instrument(symbol="AAA")
OPEN = to_epoch_ms(from_epoch_ms(1_789_443_900_000))  # 2026-09-15 09:15 IST
GAP = Gap(since=from_epoch_ms(OPEN), until=from_epoch_ms(OPEN), reason="test")


def tick(second: int, price: float = 100.0) -> Tick:
    return make_tick(instrument=SHARE, last_price=price, traded_ms=OPEN + second * 1000, volume=second + 1)


def status(phase: MarketPhase) -> MarketStatus:
    return MarketStatus(phases={"NSE:cash": phase, "NSE:derivatives": MarketPhase.OPEN}, at=from_epoch_ms(OPEN))


class Scripted:
    """A session whose streams say what they are told to; ``None`` in a script hangs there."""

    def __init__(self, events: Sequence[MarketEvent | None], updates: Sequence[Order | Gap | None] = (None,)) -> None:
        self.closed: list[str] = []
        self.data = SimpleNamespace(stream=lambda *_, **__: self._stream("data", events))
        self.broker = SimpleNamespace(order_updates=lambda: self._stream("broker", updates))

    @asynccontextmanager
    async def _stream(self, name: str, script: Sequence[Any]) -> AsyncIterator[AsyncIterator[Any]]:
        try:
            yield self._play(script)
        finally:
            self.closed.append(name)

    async def _play(self, script: Sequence[Any]) -> AsyncIterator[Any]:
        for each in script:
            if each is None:
                await asyncio.Event().wait()
            yield each
            await asyncio.sleep(0)

    @property
    def session(self) -> TradingSession:
        return cast("TradingSession", self)


class Diary(Strategy):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.instruments = [SHARE]
        self.lines: list[Any] = []
        self.inside = 0

    async def _note(self, line: object) -> None:
        self.inside += 1
        assert self.inside == 1, "two hooks of one strategy overlap"
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            self.lines.append(line)
        finally:
            self.inside -= 1

    async def on_start(self, session: TradingSession) -> None:
        await self._note("start")

    async def on_tick(self, tick: Tick) -> None:
        await self._note(tick.last_price)

    async def on_candle(self, candle: Candle) -> None:
        await self._note((candle.start.astimezone(IST).strftime("%H:%M"), candle.close))

    async def on_order(self, order: Order) -> None:
        await self._note(order.id)

    async def on_gap(self, gap: Gap) -> None:
        await self._note("gap")

    async def on_stop(self) -> None:
        await self._note("stop")


async def test_hooks_come_in_the_order_of_events_and_end_with_the_stream() -> None:
    diary, script = Diary(), Scripted([tick(0, 1), GAP, tick(1, 2)])

    await run(diary, script.session)

    assert diary.lines == ["start", 1, "gap", 2, "stop"]
    assert sorted(script.closed) == ["broker", "data"]


async def test_hooks_of_prices_and_of_orders_never_overlap() -> None:
    orders = [make_order(id=f"o{n}") for n in range(5)]
    diary, script = Diary(), Scripted([tick(n, n + 1) for n in range(30)], [*orders, None])

    await run(diary, script.session)

    assert [line for line in diary.lines if isinstance(line, str) and line.startswith("o")] == [o.id for o in orders]


async def test_a_bar_comes_before_the_tick_that_began_the_next_and_the_last_with_the_end() -> None:
    diary, script = Diary(), Scripted([tick(0, 1), tick(30, 2), tick(60, 3)])
    diary.interval = Interval.MINUTE_1

    await run(diary, script.session)

    assert diary.lines == ["start", 1, 2, ("09:15", 2), 3, ("09:16", 3), "stop"]


async def test_a_strategy_that_stops_gets_no_more_events() -> None:
    class OneTick(Diary):
        async def on_tick(self, tick: Tick) -> None:
            await super().on_tick(tick)
            self.stop()

    diary, script = OneTick(), Scripted([tick(0, 1), tick(1, 2), None])

    await asyncio.wait_for(run(diary, script.session), 5)

    assert diary.lines == ["start", 1, "stop"]


async def test_the_run_ends_when_the_segments_it_trades_have_closed() -> None:
    events: list[MarketEvent | None] = [status(MarketPhase.OPEN), tick(0, 1), status(MarketPhase.CLOSED), None]
    diary = Diary()

    await asyncio.wait_for(run(diary, Scripted(events).session, until_close=True), 5)

    assert diary.lines == ["start", 1, "stop"]


@pytest.mark.parametrize("hook", ["on_tick", "on_order", "on_gap"])
async def test_an_error_in_a_hook_ends_the_run_and_closes_everything(hook: str) -> None:
    class Broken(Diary):
        pass

    async def fail(*_: object) -> None:
        raise RuntimeError(hook)

    setattr(Broken, hook, fail)
    diary, script = Broken(), Scripted([tick(0, 1), GAP, None], [make_order(), None])

    with pytest.raises(RuntimeError, match=hook):
        await asyncio.wait_for(run(diary, script.session), 5)

    assert diary.lines[-1] == "stop"
    assert sorted(script.closed) == ["broker", "data"]


async def test_an_error_in_one_hook_interrupts_no_other() -> None:
    begun: list[str] = []
    ended: list[str] = []

    class Broken(Diary):
        async def on_tick(self, tick: Tick) -> None:
            raise RuntimeError("on_tick")

        async def on_order(self, order: Order) -> None:
            begun.append(order.id)
            await asyncio.sleep(0.01)
            ended.append(order.id)

    script = Scripted([GAP, tick(0, 1), None], [*(make_order(id=f"o{n}") for n in range(3)), None])

    with pytest.raises(RuntimeError, match="on_tick"):
        await asyncio.wait_for(run(Broken(), script.session), 5)

    assert begun == ended != []


async def test_the_end_of_order_updates_does_not_end_the_run() -> None:
    diary = Diary()

    await asyncio.wait_for(run(diary, Scripted([tick(n, n + 1) for n in range(5)], []).session), 5)

    assert diary.lines == ["start", 1, 2, 3, 4, 5, "stop"]


async def test_cancelling_the_run_stops_the_strategy_and_closes_everything() -> None:
    ticked = asyncio.Event()

    class Waiting(Diary):
        async def on_tick(self, tick: Tick) -> None:
            ticked.set()
            await super().on_tick(tick)

    diary, script = Waiting(), Scripted([tick(0, 1), None])
    task = asyncio.create_task(run(diary, script.session))
    await ticked.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert diary.lines[-1] == "stop"
    assert sorted(script.closed) == ["broker", "data"]
