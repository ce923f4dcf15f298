"""A bot is a `Strategy`; `run` is the one loop that drives it, live, on paper and on history."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, assert_never

from hybridbroker.alerts import Notifier
from hybridbroker.bars import BarBuilder
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, FeedMode, Gap, Interval, MarketEvent, MarketPhase, MarketStatus, Tick
from hybridbroker.domain.orders import Order
from hybridbroker.protocols import Broker, InstrumentLookup, MarketData, MarketStream

__all__ = ["Strategy", "TradingSession", "run"]

logger = logging.getLogger(__name__)

_LAST_HOOK: Final = 20.0
"""Seconds that a running hook may go on after the run is over: longer than an order waits for its answer."""


class TradingSession(Protocol):
    """What a strategy sees of the session it runs in; `hybridbroker.Session` is the real one."""

    @property
    def data(self) -> MarketData:
        """Where prices come from."""
        ...

    @property
    def broker(self) -> Broker:
        """Where orders go."""
        ...

    @property
    def instruments(self) -> InstrumentLookup:
        """Which instruments there are."""
        ...

    @property
    def clock(self) -> Clock:
        """What time it is."""
        ...

    @property
    def notifier(self) -> Notifier:
        """Where alerts go."""
        ...


class Strategy:
    """Base of a bot: override what you need; the hooks of one strategy never overlap.

    The loop awaits each hook before it takes the next event, while the feed goes on being
    read: a slow hook meets the newest price next, not a backlog.
    """

    instruments: Sequence[Instrument] = ()
    """What to stream; may be set in ``on_start``."""
    mode: FeedMode = FeedMode.FULL
    interval: Interval | None = None
    """Length of the bars given to ``on_candle``; None builds none."""
    stopping: bool = False

    async def on_start(self, session: TradingSession) -> None:
        """Prepare: keep ``session``, look instruments up, warm indicators. No stream is open yet."""

    async def on_tick(self, tick: Tick) -> None:
        """React to a price."""

    async def on_candle(self, candle: Candle) -> None:
        """React to a finished bar; comes before the tick that began the next one."""

    async def on_order(self, order: Order) -> None:
        """React to a change of any order of the account, in the broker's order of events."""

    async def on_gap(self, gap: Gap) -> None:
        """React to a stretch in which prices or order updates may have been missed."""

    async def on_stop(self) -> None:
        """Clean up; called once if ``on_start`` returned, also after an error or a cancellation."""

    def stop(self) -> None:
        """Ask the loop to end after the current hook."""
        self.stopping = True


async def run(
    strategy: Strategy, session: TradingSession, *, until_close: bool = False, build_bars: bool = True
) -> None:
    """Drive ``strategy`` until it stops, the stream ends, or (``until_close``) the market closes.

    ``build_bars=False`` builds none from ticks: the stream carries whole ones, as a replay can.

    An exception from a hook ends the run: ``on_stop`` is called, then it propagates. Neither
    that nor a cancellation (Ctrl-C) interrupts a hook that is running, which may be waiting for
    the answer to an order, unless it takes longer than twenty seconds; a second one does.
    """
    await strategy.on_start(session)
    try:
        async with (
            session.broker.order_updates() as updates,
            session.data.stream(strategy.instruments, mode=strategy.mode) as events,
        ):
            await _Loop(strategy, until_close=until_close, build_bars=build_bars).drive(events, updates)
    finally:
        await strategy.on_stop()


def _nothing() -> None:
    """Say that a stream has nothing at hand."""


_Held = Callable[[], AbstractContextManager[deque[Order | Gap]]]
"""Gives the order updates at hand, and keeps them from waking anybody meanwhile."""


def _nothing_held() -> AbstractContextManager[deque[Order | Gap]]:
    return nullcontext(deque())


class _Loop:
    """One run: two streams in, one hook at a time."""

    def __init__(self, strategy: Strategy, *, until_close: bool, build_bars: bool) -> None:
        self._strategy = strategy
        self._until_close = until_close
        self._build_bars = build_bars
        self._turn = asyncio.Lock()
        self._bars: dict[str, BarBuilder] = {}
        self._closed: dict[str, MarketPhase] = {}

    async def drive(self, events: MarketStream, updates: AsyncIterator[Order | Gap]) -> None:
        """Run both streams; the first to end or fail ends the other."""
        market = asyncio.create_task(
            self._market(events, getattr(updates, "held", _nothing_held)), name="hybridbroker-market"
        )
        orders = asyncio.create_task(self._orders(updates), name="hybridbroker-orders")
        try:
            done, _ = await asyncio.wait({market, orders}, return_when=asyncio.FIRST_COMPLETED)
            if orders in done and orders.exception() is None:
                # No more order updates is no reason to stop trading what is held.
                await asyncio.wait({market})
        except asyncio.CancelledError:
            for failure in await self._end(market, orders):
                logger.warning("the hook that was running failed: %s: %s", type(failure).__name__, failure)
            raise
        failures = await self._end(market, orders)
        if failures:
            raise failures[0]

    async def _end(self, *tasks: asyncio.Task[None]) -> list[Exception]:
        """End both streams after the hook that is running, and return what failed."""
        try:
            async with asyncio.timeout(_LAST_HOOK), self._turn:
                pass  # it may be waiting for the answer to an order
        except TimeoutError:
            logger.warning("interrupting a hook that has not ended within %.0f s", _LAST_HOOK)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        return [each for each in results if isinstance(each, Exception)]

    async def _market(self, events: MarketStream, held: _Held) -> None:
        strategy, at_hand = self._strategy, getattr(events, "next_now", _nothing)
        async for first in events:
            async with self._turn:
                with held() as updates:
                    event: MarketEvent | Candle | None = first
                    while event is not None:
                        if type(event) is Candle:
                            await strategy.on_candle(event)
                        else:
                            await self._dispatch(event)
                        is_over = strategy.stopping or (self._until_close and self._is_over(event))
                        while updates:
                            await self._tell(updates.popleft())
                        if is_over:
                            await self._flush()
                            return
                        # A replay has the next event ready while nobody else, who might want the turn,
                        # has anything to do.
                        event = at_hand()
        async with self._turn:
            await self._flush()

    async def _orders(self, updates: AsyncIterator[Order | Gap]) -> None:
        async for update in updates:
            async with self._turn:
                await self._tell(update)

    async def _tell(self, update: Order | Gap) -> None:
        if isinstance(update, Gap):
            await self._strategy.on_gap(update)
        else:
            await self._strategy.on_order(update)

    async def _dispatch(self, event: MarketEvent | Candle) -> None:
        match event:
            case Tick():
                bar = self._bar(event)
                if bar is not None:
                    await self._strategy.on_candle(bar)
                await self._strategy.on_tick(event)
            case Gap():
                for builder in self._bars.values():
                    builder.interrupt()
                await self._strategy.on_gap(event)
            case Candle():
                await self._strategy.on_candle(event)
            case MarketStatus():
                logger.info("market phases: %s", {name: phase.value for name, phase in event.phases.items()})
            case _:
                assert_never(event)

    def _bar(self, tick: Tick) -> Candle | None:
        if self._strategy.interval is None or not self._build_bars:
            return None
        builder = self._bars.get(tick.instrument.id)
        if builder is None:
            builder = self._bars[tick.instrument.id] = BarBuilder(tick.instrument, self._strategy.interval)
        return builder.add(tick)

    async def _flush(self) -> None:
        for builder in self._bars.values():
            bar = builder.flush()
            if bar is not None and not self._strategy.stopping:
                await self._strategy.on_candle(bar)

    def _is_over(self, event: MarketEvent | Candle) -> bool:
        """Say whether every segment the strategy trades has closed."""
        if not isinstance(event, MarketStatus):
            return False
        self._closed.update(event.phases)
        segments = {f"{each.exchange}:{each.segment.value}" for each in self._strategy.instruments}
        return bool(segments) and all(self._closed.get(each) is MarketPhase.CLOSED for each in segments)
