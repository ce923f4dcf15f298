"""Bars that are known at a given instant, and no other: what keeps a replay from looking ahead."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import Final

from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Candles, Interval
from hybridbroker.errors import ConfigurationError

__all__ = ["History", "SessionHours", "aggregate"]

_OPENS: Final = time(9, 15)
_CLOSES: Final = time(15, 30)
_DAY: Final = timedelta(days=1)
_ORDER: Final = tuple(Interval)


class SessionHours:
    """When trading begins and ends on a day: the calendar's word, 9:15 to 15:30 where it has none."""

    def __init__(self, calendar: TradingCalendar | None) -> None:
        self.guessed: set[date] = set()
        """Days on which the regular hours were assumed."""
        self._calendar = calendar
        self._known: dict[date, tuple[datetime, datetime]] = {}

    def of(self, day: date, instrument: Instrument) -> tuple[datetime, datetime]:
        """Return opening and closing of ``day``, in IST."""
        known = self._known.get(day)
        if known is None:
            known = self._known[day] = self._look_up(day, instrument)
        return known

    def _look_up(self, day: date, instrument: Instrument) -> tuple[datetime, datetime]:
        try:
            session = None
            if self._calendar is not None:
                session = self._calendar.session(day, segment=instrument.segment, exchange=instrument.exchange)
        except ConfigurationError:
            session = None
        if session is not None:
            return session.opens, session.closes
        self.guessed.add(day)
        return datetime.combine(day, _OPENS, IST), datetime.combine(day, _CLOSES, IST)


class History:
    """The bars of a replay; every question is answered as of an instant."""

    def __init__(self, series: Iterable[Candles], *, hours: SessionHours) -> None:
        self._hours = hours
        self._series: dict[str, list[Candles]] = {}
        for each in series:
            self._series.setdefault(each.instrument.id, []).append(each)
        for known in self._series.values():
            known.sort(key=lambda candles: _ORDER.index(candles.interval))

    def __contains__(self, instrument: Instrument) -> bool:
        """Say whether there are any bars of it."""
        return instrument.id in self._series

    def candles(
        self,
        instrument: Instrument,
        interval: Interval,
        *,
        start: date | datetime,
        end: date | datetime | None,
        now: datetime,
    ) -> Candles:
        """Return the bars from ``start`` to ``end`` that had ended at ``now``, oldest first.

        A coarser interval is put together from a finer one. The running bar is never shown.

        Raises:
            ConfigurationError: Only coarser bars are there.
        """
        known = self._series.get(instrument.id, [])
        if not known:
            return Candles.from_rows((), instrument=instrument, interval=interval)
        fitting = [each for each in known if _ORDER.index(each.interval) <= _ORDER.index(interval)]
        if not fitting:
            raise ConfigurationError(
                f"bars of {interval} cannot be made from the {known[0].interval} bars of {instrument.id} in this replay"
            )
        finest = fitting[-1]
        first, last = _instant(start, closing=False), now if end is None else min(now, _instant(end, closing=True))
        seen = finest[: self._ended(finest, now)]
        if finest.interval is interval:
            chosen: Candles = seen[
                bisect_right(seen.start, first - timedelta(microseconds=1)) : bisect_right(seen.start, last)
            ]
            return chosen
        rows = aggregate(seen[bisect_right(seen.start, _well_before(first)) :], interval)
        rows = [row for row in rows if first <= row.start <= last and self.end_of(row, interval) <= now]
        return Candles.from_rows(rows, instrument=instrument, interval=interval)

    def end_of(self, bar: Candle, interval: Interval) -> datetime:
        """Return when a bar has ended."""
        if interval.duration is not None:
            return bar.start + interval.duration
        day = bar.start.date()
        if interval is Interval.WEEK_1:
            day += timedelta(days=6 - day.weekday())
        elif interval is Interval.MONTH_1:
            day = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - _DAY
        return self._hours.of(day, bar.instrument)[1]

    def _ended(self, candles: Candles, now: datetime) -> int:
        length = candles.interval.duration
        if length is not None:
            return bisect_right(candles.start, now - length)
        known = bisect_right(candles.start, now)
        while known and self.end_of(candles[known - 1], candles.interval) > now:
            known -= 1
        return known


def aggregate(rows: Iterable[Candle], interval: Interval) -> list[Candle]:
    """Return coarser bars, oldest first; intraday ones are counted from 9:15 IST, weeks from Monday."""
    return [_merge(start, list(group)) for start, group in groupby(rows, key=lambda row: _bucket(row.start, interval))]


def _bucket(start: datetime, interval: Interval) -> datetime:
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case Interval.DAY_1:
            return midnight
        case Interval.WEEK_1:
            return midnight - timedelta(days=start.weekday())
        case Interval.MONTH_1:
            return midnight.replace(day=1)
        case _:
            assert interval.duration is not None  # noqa: S101 - the others are intraday
            anchor = midnight + timedelta(hours=9, minutes=15)
            return anchor + (start - anchor) // interval.duration * interval.duration


def _merge(start: datetime, rows: Sequence[Candle]) -> Candle:
    return Candle(
        instrument=rows[0].instrument,
        start=start,
        open=rows[0].open,
        high=max(row.high for row in rows),
        low=min(row.low for row in rows),
        close=rows[-1].close,
        volume=sum(row.volume for row in rows),
        open_interest=rows[-1].open_interest,
    )


def _well_before(instant: datetime) -> datetime:
    """Return an instant before which no bucket that holds ``instant`` can begin."""
    return instant - timedelta(days=32)


def _instant(value: date | datetime, *, closing: bool) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime.combine(value, time.max if closing else time.min, IST)
