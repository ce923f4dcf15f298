"""Bars of any intraday interval, built from ticks: pure, one builder per instrument."""

from __future__ import annotations

from typing import Final

from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Interval, Tick
from hybridbroker.errors import ConfigurationError

__all__ = ["BarBuilder"]

_IST_OFFSET_MS: Final = 19_800_000
_GRACE_MS: Final = 5_000


class BarBuilder:
    """Turns the ticks of one instrument into bars aligned to the IST clock.

    A bar is reported when the first tick of a later bar comes, by exchange time. A bar that
    the stream did not see from its beginning (after the start, a snapshot or a gap) would
    lie about its volume, so it is reported only if its first tick came within five seconds
    of its start; otherwise it is dropped and counted. Ticks stamped before the running bar
    move no price; their volume counts in the running bar.
    """

    def __init__(self, instrument: Instrument, interval: Interval) -> None:
        if interval.duration is None:
            raise ConfigurationError(f"bars of {interval} follow the calendar, not the clock; use candles()")
        self.dropped = 0
        """Bars not reported because the stream missed their beginning."""
        self._instrument = instrument
        self._length_ms = int(interval.duration.total_seconds() * 1000)
        self._start: int | None = None
        self._whole = False
        self._resumed = True
        self._volume_before: int | None = None
        self._volume = 0
        self._open = self._high = self._low = self._close = 0.0

    def add(self, tick: Tick) -> Candle | None:
        """Take one tick and return the bar it completed, if any.

        A snapshot only sets the volume baseline: its trade may be hours old.
        """
        if tick.traded_ms is None:
            return None
        if tick.is_snapshot and self._start is None:
            self._volume_before = tick.volume
            return None
        bar = self._bar_of(tick.traded_ms)
        done = None
        if self._start is None or bar > self._start:
            done = self.flush()
            self._begin(bar, tick)
        elif bar == self._start:
            self._high = max(self._high, tick.last_price)
            self._low = min(self._low, tick.last_price)
            self._close = tick.last_price
        self._count(tick)
        return done

    def interrupt(self) -> None:
        """Note a gap: the running bar, and a next one joined late, are not whole."""
        self._whole = False
        self._resumed = True

    def flush(self) -> Candle | None:
        """End the running bar and return it if it is whole; call it at the end of a session."""
        start, self._start = self._start, None
        if start is None:
            return None
        if not self._whole:
            self.dropped += 1
            return None
        return Candle(
            instrument=self._instrument,
            start=from_epoch_ms(start),
            open=self._open,
            high=self._high,
            low=self._low,
            close=self._close,
            volume=self._volume,
        )

    def _bar_of(self, instant_ms: int) -> int:
        local = instant_ms + _IST_OFFSET_MS
        return local - local % self._length_ms - _IST_OFFSET_MS

    def _begin(self, bar: int, tick: Tick) -> None:
        joined_late = tick.traded_ms is not None and tick.traded_ms - bar > _GRACE_MS
        self._whole = not (self._resumed and joined_late)
        self._resumed = False
        self._start = bar
        self._volume = 0
        self._open = self._high = self._low = self._close = tick.last_price

    def _count(self, tick: Tick) -> None:
        if tick.volume is None:
            self._volume += tick.last_quantity or 0
            return
        if self._volume_before is None:
            self._volume += tick.last_quantity or 0
        elif tick.volume > self._volume_before:
            self._volume += tick.volume - self._volume_before
        # The cumulative volume goes back with a late tick now and then (recorded): never count it twice.
        self._volume_before = max(tick.volume, self._volume_before or 0)
