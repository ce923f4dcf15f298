"""A source of prices that tells somebody else of each event before it hands it out.

What simulated brokers, the risk guard and the demo need: to see what the strategy sees,
when it sees it, without a socket of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any, Self

from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Instrument
from hybridbroker.domain.market import Candles, FeedMode, Interval, MarketEvent, MarketStatus, Quote, Tick
from hybridbroker.domain.options import OptionChain
from hybridbroker.errors import Unsupported
from hybridbroker.protocols import Capability, FeedHealth, MarketData, MarketStream, Overflow
from hybridbroker.streams import only_ticks

__all__ = ["WatchedData", "WatchedStream"]


def _nobody(_: object) -> None:
    """Hear, and do nothing."""


class WatchedData:
    """A `MarketData` around another; entering it enters the inner one, everything else is passed on.

    ``hear`` is told of each event of each stream, ``opened`` and ``closed`` of the streams
    themselves. None of them may raise or wait.
    """

    def __init__(
        self,
        source: MarketData,
        *,
        hear: Callable[[MarketEvent], None] = _nobody,
        opened: Callable[[WatchedStream], None] = _nobody,
        closed: Callable[[WatchedStream], None] = _nobody,
    ) -> None:
        self.name = source.name
        self.capabilities = source.capabilities
        self._source = source
        self._hear = hear
        self._opened = opened
        self._closed = closed

    async def __aenter__(self) -> Self:
        await self._source.__aenter__()
        self.capabilities = self._source.capabilities  # some learn them by then
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._source.__aexit__(*exc)

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        """Return what the source answers."""
        return await self._source.quotes(instruments)

    async def candles(
        self,
        instrument: Instrument,
        interval: Interval,
        *,
        start: date | datetime,
        end: date | datetime | None = None,
        **more: Any,
    ) -> Candles:
        """Return what the source answers; ``more`` is what this source takes besides, such as ``progress``."""
        return await self._source.candles(instrument, interval, start=start, end=end, **more)

    async def expiries(self, underlying: Instrument) -> Sequence[date]:
        """Return what the source answers; see `OptionChains.expiries`."""
        found: Sequence[date] = await self._able(Capability.OPTION_CHAINS, "option chains").expiries(underlying)
        return found

    async def option_chain(self, underlying: Instrument, *, expiry: date) -> OptionChain:
        """Return what the source answers; see `OptionChains.option_chain`."""
        source = self._able(Capability.OPTION_CHAINS, "option chains")
        found: OptionChain = await source.option_chain(underlying, expiry=expiry)
        return found

    async def extend_calendar(self, calendar: TradingCalendar) -> TradingCalendar:
        """Return what the source answers; see `MarketSchedule.extend_calendar`."""
        source = self._able(Capability.MARKET_SCHEDULE, "market calendar")
        found: TradingCalendar = await source.extend_calendar(calendar)
        return found

    async def market_status(self, exchange: Exchange) -> MarketStatus:
        """Return what the source answers; see `MarketSchedule.market_status`."""
        found: MarketStatus = await self._able(Capability.MARKET_SCHEDULE, "market calendar").market_status(exchange)
        return found

    def _able(self, flag: Capability, what: str) -> Any:
        if flag not in self.capabilities:
            raise Unsupported(f"{self.name} has no {what}")
        return self._source

    def __getattr__(self, name: str) -> Any:
        """Return what else the source can do, such as ``ohlc``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source, name)

    @asynccontextmanager
    async def stream(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> AsyncIterator[MarketStream]:
        """Open a stream of the source, watched."""
        wanted = tuple(instruments)
        async with self._source.stream(wanted, mode=mode, overflow=overflow) as events:
            stream = WatchedStream(events, hear=self._hear, instruments=wanted)
            self._opened(stream)
            try:
                yield stream
            finally:
                self._closed(stream)


class WatchedStream:
    """A `MarketStream` that tells of each event in passing, and knows what is subscribed."""

    def __init__(
        self, stream: MarketStream, *, hear: Callable[[MarketEvent], None], instruments: Iterable[Instrument]
    ) -> None:
        self.subscribed = {each.id for each in instruments}
        """Ids of the instruments asked for."""
        self._stream = stream
        self._hear = hear

    @property
    def health(self) -> FeedHealth:
        """How the inner stream is doing."""
        return self._stream.health

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MarketEvent:
        event = await self._stream.__anext__()
        self._hear(event)
        return event

    def ticks(self) -> AsyncIterator[Tick]:
        """Iterate over ticks alone."""
        return only_ticks(self)

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Pass on."""
        added = tuple(instruments)
        await self._stream.subscribe(added, mode=mode)
        self.subscribed.update(each.id for each in added)

    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        """Pass on."""
        removed = tuple(instruments)
        await self._stream.unsubscribe(removed)
        self.subscribed.difference_update(each.id for each in removed)
