"""The last price of each streamed instrument, noted as ticks pass by on their way to the strategy."""

from __future__ import annotations

from decimal import Decimal

from hybridbroker.clock import Clock, to_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import MarketEvent, Tick
from hybridbroker.protocols import MarketData
from hybridbroker.watching import WatchedData, WatchedStream

__all__ = ["LastPrices"]


class LastPrices:
    """What the guard knows of the market without asking anybody."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, tuple[float, float]] = {}
        self._streams: list[WatchedStream] = []

    def watch(self, source: MarketData) -> MarketData:
        """Return ``source`` with its ticks noted here; entering it stays the caller's matter."""
        return WatchedData(source, hear=self._hear, opened=self._streams.append, closed=self._streams.remove)

    def note(self, tick: Tick) -> None:
        """Keep a tick's price, as old as it is: a slow strategy may take it long after it was read."""
        age = max(0, to_epoch_ms(self._clock.now()) - tick.received_ms) / 1000
        self._last[tick.instrument.id] = (tick.last_price, self._clock.monotonic() - age)

    def price(self, instrument: Instrument, *, max_age: float | None) -> Decimal | None:
        """Return the last price, or None where none came within ``max_age`` seconds (None: ever)."""
        known = self._last.get(instrument.id)
        if known is None or (max_age is not None and self._clock.monotonic() - known[1] > max_age):
            return None
        return instrument.price(known[0])

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

    def _hear(self, event: MarketEvent) -> None:
        if isinstance(event, Tick):
            self.note(event)
