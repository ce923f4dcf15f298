"""The last price of each streamed instrument, noted as ticks pass by on their way to the strategy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Self

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candles, FeedMode, Interval, MarketEvent, Quote, Tick
from hybridbroker.protocols import Capability, FeedHealth, MarketData, MarketStream, Overflow
from hybridbroker.streams import only_ticks

__all__ = ["LastPrices"]


class LastPrices:
    """What the guard knows of the market without asking anybody."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, tuple[float, float]] = {}
        self._streams: list[_WatchedStream] = []

    def watch(self, source: MarketData) -> MarketData:
        """Return ``source`` with its ticks noted here; entering it stays the caller's matter."""
        return _WatchedData(source, self)

    def note(self, tick: Tick) -> None:
        """Keep a tick's price."""
        self._last[tick.instrument.id] = (tick.last_price, self._clock.monotonic())

    def price(self, instrument: Instrument, *, max_age: float | None) -> Decimal | None:
        """Return the last price, or None where none came within ``max_age`` seconds (None: ever)."""
        known = self._last.get(instrument.id)
        if known is None or (max_age is not None and self._clock.monotonic() - known[1] > max_age):
            return None
        return instrument.price(known[0])

    def prices(self) -> Mapping[str, Decimal]:
        """Return the last prices by instrument id, however old."""
        return {name: Decimal(str(price)) for name, (price, _) in self._last.items()}

    def stale_for(self, instrument: Instrument, *, after: float) -> float | None:
        """Return how many seconds a streamed instrument has been silent, if more than ``after``.

        None for one that ticks, and for one that nobody streams.
        """
        healths = [each.health for each in self._streams if instrument.id in each.subscribed]
        if not healths or not all(each.stale(instrument, after=after) for each in healths):
            return None
        known = self._last.get(instrument.id)
        return max(after, 0.0 if known is None else self._clock.monotonic() - known[1])

    def since_read(self) -> float | None:
        """Return the seconds since the event that a strategy is acting on was read from its socket."""
        read = [each.health.read_at for each in self._streams]
        return self._clock.monotonic() - max(read) if read else None

    def opened(self, stream: _WatchedStream) -> None:
        """Take note of a stream."""
        self._streams.append(stream)

    def closed(self, stream: _WatchedStream) -> None:
        """Forget a stream."""
        self._streams.remove(stream)


class _WatchedData:
    """A `MarketData` whose streams are watched; everything else is the inner one's."""

    def __init__(self, source: MarketData, prices: LastPrices) -> None:
        self._source = source
        self._prices = prices
        self.name: str = source.name
        self.capabilities: Capability = source.capabilities

    async def __aenter__(self) -> Self:
        await self._source.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._source.__aexit__(*exc)

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        return await self._source.quotes(instruments)

    async def candles(
        self, instrument: Instrument, interval: Interval, *, start: date | datetime, end: date | datetime | None = None
    ) -> Candles:
        return await self._source.candles(instrument, interval, start=start, end=end)

    @asynccontextmanager
    async def stream(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> AsyncIterator[MarketStream]:
        wanted = tuple(instruments)
        async with self._source.stream(wanted, mode=mode, overflow=overflow) as inner:
            watched = _WatchedStream(inner, self._prices, wanted)
            self._prices.opened(watched)
            try:
                yield watched
            finally:
                self._prices.closed(watched)


class _WatchedStream:
    """A `MarketStream` that shows its ticks to `LastPrices` in passing."""

    def __init__(self, stream: MarketStream, prices: LastPrices, instruments: Iterable[Instrument]) -> None:
        self._stream = stream
        self._note = prices.note
        self.subscribed = {each.id for each in instruments}

    @property
    def health(self) -> FeedHealth:
        return self._stream.health

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MarketEvent:
        event = await self._stream.__anext__()
        if isinstance(event, Tick):
            self._note(event)
        return event

    def ticks(self) -> AsyncIterator[Tick]:
        return only_ticks(self)

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        added = tuple(instruments)
        await self._stream.subscribe(added, mode=mode)
        self.subscribed.update(each.id for each in added)

    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        removed = tuple(instruments)
        await self._stream.unsubscribe(removed)
        self.subscribed.difference_update(each.id for each in removed)
