"""A source of prices that tells somebody else of each event before it hands it out.

What simulated brokers, the risk guard and the demo need: to see what the strategy sees,
when it sees it, without a socket of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any, Self

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candles, FeedMode, Interval, MarketEvent, Quote, Tick
from hybridbroker.protocols import FeedHealth, MarketData, MarketStream, Overflow
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

    def __getattr__(self, name: str) -> Any:
        """Return what else the source can do, such as ``option_chain``."""
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
