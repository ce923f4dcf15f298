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
_LEAP_MS: Final = 300_000
"""A stamp so far ahead of the clock, or so far behind the one before it, is looked at twice."""
_CONVINCING: Final = 3
"""So many ticks in a row far behind the running bar, and it is the bar that was wrong."""


class BarBuilder:
    """Turns the ticks of one instrument into bars aligned to the IST clock.

    A bar is reported when the first tick of a later bar comes, by exchange time. A bar that
    the stream did not see from its beginning (after the start, a snapshot or a gap) would
    lie about its volume, so it is reported only if its first tick came within five seconds
    of its start; otherwise it is dropped and counted. Ticks stamped before the running bar
    move no price; their volume counts in the running bar.

    A tick stamped five minutes or more ahead of the clock that the ticks before it agree on
    opens no bar until the next tick agrees with it. Where the next does not, it was a wrong
    stamp: its price is left out, and the running bar goes on.
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
        self._is_proven = False
        self._behind = 0
        self._ahead_ms: int | None = None
        self._held: Tick | None = None
        self._reported: int | None = None
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
        held, self._held = self._held, None
        if held is not None and held.traded_ms is not None:
            if held.traded_ms - tick.traded_ms <= _LEAP_MS // 2:
                return self._take_both(held, held.traded_ms, tick, tick.traded_ms)
            self._count(held)
        elif self._leaps(tick, tick.traded_ms):
            self._held = tick
            return None
        return self._take(tick, tick.traded_ms)

    def _take_both(self, held: Tick, held_ms: int, tick: Tick, traded_ms: int) -> Candle | None:
        done = self._take(held, held_ms)
        if self._bar_of(traded_ms) > self._bar_of(held_ms):
            self._held = tick  # one bar at a time: the next tick brings this one's
        else:
            self._take(tick, traded_ms)
        return done

    def _leaps(self, tick: Tick, traded_ms: int) -> bool:
        """Say whether a stamp lies in the future, as far as the ticks so far tell what the present is."""
        ahead = traded_ms - tick.received_ms
        return self._ahead_ms is not None and ahead > _LEAP_MS and ahead - self._ahead_ms > _LEAP_MS

    def _take(self, tick: Tick, traded_ms: int) -> Candle | None:
        ahead = traded_ms - tick.received_ms
        self._ahead_ms = ahead if self._ahead_ms is None else max(ahead, self._ahead_ms)
        if self._start is not None:
            is_behind = self._start - traded_ms > _LEAP_MS
            self._behind = self._behind + 1 if is_behind else 0
            if is_behind and (self._behind >= _CONVINCING or not self._is_proven):
                # The running bar was begun by a wrong stamp: begin again.
                self._start, self._ahead_ms, self._behind, self._resumed = None, ahead, 0, True
                self.dropped += 1
            self._is_proven = not is_behind
        bar, done = self._bar_of(traded_ms), None
        if self._start is None or bar > self._start:
            done = self.flush()
            self._begin(bar, tick.last_price, joined_late=traded_ms - bar > _GRACE_MS)
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
        self._held = None
        if start is None:
            return None
        if not self._whole:
            self.dropped += 1
            return None
        self._reported = start
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

    def _begin(self, bar: int, price: float, *, joined_late: bool) -> None:
        is_repeated = self._reported is not None and bar <= self._reported
        self._whole = not is_repeated and not (self._resumed and joined_late)
        self._resumed = self._is_proven = False
        self._start = bar
        self._volume = 0
        self._open = self._high = self._low = self._close = price

    def _count(self, tick: Tick) -> None:
        if tick.volume is None:
            self._volume += 0 if tick.is_snapshot else tick.last_quantity or 0  # a snapshot repeats a trade
            return
        if self._volume_before is None:
            self._volume += tick.last_quantity or 0
        elif tick.volume > self._volume_before:
            self._volume += tick.volume - self._volume_before
        # The cumulative volume goes back with a late tick now and then (recorded): never count it twice.
        self._volume_before = max(tick.volume, self._volume_before or 0)
