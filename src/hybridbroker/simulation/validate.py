"""What is wrong with bars before anybody trades on them: each defect with its row and reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import islice, pairwise
from operator import lt
from typing import Final

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.market import Candles, Interval
from hybridbroker.errors import ConfigurationError, Unsupported

__all__ = ["BadData", "Defect", "Finding", "playable", "to_defects", "validate"]

_SPLITS: Final = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0)
_SPLIT_LEAST: Final = 1.5
"""Overnight price ratios from here on are looked at: bonus issues of 1:2 and up, splits of 2 and up."""
_SPLIT_NEVER: Final = 1.4
_SPLIT_TOLERANCE: Final = 0.06
_SHOWN: Final = 5


class Defect(StrEnum):
    """Kinds of defects; by their names they are allowed."""

    NOT_A_NUMBER = "not-a-number"
    NOT_POSITIVE = "not-positive"
    INCONSISTENT = "inconsistent"
    """The high is below the low, or the open or close outside them, or the volume below zero."""
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out-of-order"
    SPLIT = "split"
    """The price opened at a small whole fraction or multiple of the last close: unadjusted, it would be a profit."""
    MISSING = "missing"
    """Bars are absent within a session, or a trading day has none; a thin share has many."""


_INTRADAY: Final = frozenset(each for each in Interval if each.duration is not None)
_DROPPED: Final = frozenset(Defect) - {Defect.SPLIT, Defect.MISSING}
_TOLD_ONLY: Final = frozenset({Defect.MISSING})


@attrs.frozen(kw_only=True)
class Finding:
    """One defect."""

    row: int
    """Of the data as given, from 0."""
    at: datetime | None
    """The row's time."""
    defect: Defect
    reason: str

    @property
    def blocks(self) -> bool:
        """Say whether nothing is traded unless it is allowed."""
        return self.defect not in _TOLD_ONLY

    def __str__(self) -> str:
        when = "" if self.at is None else f" ({self.at:%Y-%m-%d %H:%M})"
        return f"row {self.row}{when}: {self.defect.value}: {self.reason}"


class BadData(ConfigurationError):
    """The data has defects that were not allowed; nothing was traded."""

    def __init__(self, instrument: str, findings: Sequence[Finding]) -> None:
        kinds = Counter(each.defect for each in findings)
        counted = ", ".join(f"{count} {kind.value}" for kind, count in kinds.items())
        shown = "; ".join(map(str, findings[:_SHOWN]))
        more = f"; and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
        super().__init__(
            f"the bars of {instrument} have defects ({counted}): {shown}{more}. Mend the data, or allow them by name "
            f"(--allow {','.join(sorted(kinds))}): bars that cannot be played are then left out"
        )
        self.findings = tuple(findings)
        """Every one of them."""


def validate(candles: Candles, *, calendar: TradingCalendar | None = None) -> list[Finding]:
    """Return every defect, in the order of the rows; bars and days are missing only by a calendar that knows them.

    Without a calendar, bars count as missing only between two bars of one day.
    """
    found = [*_values(candles), *_order(candles), *_splits(candles), *_missing(candles, calendar)]
    return sorted(found, key=lambda each: each.row)


def to_defects(allow: Collection[Defect | str]) -> frozenset[Defect]:
    """Read names of defects.

    Raises:
        ConfigurationError: There is no such defect.
    """
    try:
        return frozenset(Defect(each) for each in allow)
    except ValueError as exc:
        raise ConfigurationError(f"{exc}; there are {', '.join(Defect)}") from None


def playable(
    candles: Candles,
    *,
    allow: Collection[Defect | str] = (),
    calendar: TradingCalendar | None = None,
    notes: list[str] | None = None,
) -> Candles:
    """Return bars that can be played: sorted, without what is no bar; what was found goes into ``notes``.

    Raises:
        BadData: There are defects that were not allowed.
    """
    found = validate(candles, calendar=calendar)
    if not found:
        return candles
    allowed = to_defects(allow)
    refused = [each for each in found if each.blocks and each.defect not in allowed]
    if refused:
        raise BadData(candles.instrument.id, refused)
    if notes is not None:
        notes.extend(_told(candles, found))
    return without(candles, {each.row for each in found if each.defect in _DROPPED})


def without(candles: Candles, rows: Collection[int]) -> Candles:
    """Return the bars but those of ``rows``."""
    if not rows:
        return candles
    kept = [row for index, row in enumerate(candles) if index not in rows]
    return Candles.from_rows(kept, instrument=candles.instrument, interval=candles.interval)


def _told(candles: Candles, found: Sequence[Finding]) -> Iterator[str]:
    for kind in dict.fromkeys(each.defect for each in found):
        of_kind = [each for each in found if each.defect is kind]
        what = "left out" if kind in _DROPPED else "played as they are"
        more = f" and {len(of_kind) - 1} more" if len(of_kind) > 1 else ""
        yield f"{candles.instrument.id}: {len(of_kind)} {kind.value} ({what}): {of_kind[0]}{more}"


def _values(candles: Candles) -> Iterator[Finding]:
    columns = zip(candles.open, candles.high, candles.low, candles.close, candles.volume, strict=True)
    for row, (first, high, low, last, volume) in enumerate(columns):
        if 0 < low <= first <= high < math.inf and low <= last <= high and volume >= 0:
            continue
        prices = (first, high, low, last)
        told = f"open {first}, high {high}, low {low}, close {last}, volume {volume}"
        if not all(map(math.isfinite, prices)):
            defect = Defect.NOT_A_NUMBER
        elif min(prices) <= 0:
            defect = Defect.NOT_POSITIVE
        else:
            defect = Defect.INCONSISTENT
        yield Finding(row=row, at=candles.start[row], defect=defect, reason=told)


def _order(candles: Candles) -> Iterator[Finding]:
    if all(map(lt, candles.start, islice(candles.start, 1, None))):
        return
    newest: datetime | None = None
    seen: set[datetime] = set()
    for row, at in enumerate(candles.start):
        if newest is not None and at <= newest:
            if at in seen:
                yield Finding(row=row, at=at, defect=Defect.DUPLICATE, reason="a bar of this time came before")
            else:
                reason = f"it comes after the bar of {newest:%Y-%m-%d %H:%M}"
                yield Finding(row=row, at=at, defect=Defect.OUT_OF_ORDER, reason=reason)
        else:
            newest = at
        seen.add(at)


def _splits(candles: Candles) -> Iterator[Finding]:
    for row, (before, after) in enumerate(zip(candles.close, islice(candles.open, 1, None), strict=False), start=1):
        if before < _SPLIT_NEVER * after and after < _SPLIT_NEVER * before:
            continue
        if not (0 < before < math.inf and 0 < after < math.inf):
            continue
        ratio = max(before / after, after / before)
        if ratio < _SPLIT_LEAST or candles.start[row].date() == candles.start[row - 1].date():
            continue
        nearest = min(_SPLITS, key=lambda each: abs(ratio / each - 1))
        if abs(ratio / nearest - 1) <= _SPLIT_TOLERANCE or abs(ratio / _SPLIT_LEAST - 1) <= _SPLIT_TOLERANCE / 2:
            reason = f"it opened at {after} after a close of {before}: a ratio of {ratio:.2f}; adjust the prices before"
            yield Finding(row=row, at=candles.start[row], defect=Defect.SPLIT, reason=reason)


def _missing(candles: Candles, calendar: TradingCalendar | None) -> Iterator[Finding]:
    length = candles.interval.duration
    if length is not None:
        yield from _missing_bars(candles, length)
    if calendar is not None and candles.interval in {Interval.DAY_1, *_INTRADAY}:
        yield from _missing_days(candles, calendar)


def _missing_bars(candles: Candles, length: timedelta) -> Iterator[Finding]:
    for row, (before, after) in enumerate(pairwise(candles.start), start=1):
        if after - before > length and before.date() == after.date():
            count = (after - before) // length - 1
            if count:
                reason = f"{count} bars before it, after {before:%H:%M}"
                yield Finding(row=row, at=after, defect=Defect.MISSING, reason=reason)


def _missing_days(candles: Candles, calendar: TradingCalendar) -> Iterator[Finding]:
    rows: dict[date, int] = {}
    for row, at in enumerate(candles.start):
        rows.setdefault(at.astimezone(IST).date(), row)
    if not rows:
        return
    days = sorted(rows)
    first, last = days[0], days[-1]
    instrument = candles.instrument
    start, end = max(first, calendar.covered[0]), min(last, calendar.covered[1])
    if start > end:
        return
    try:
        expected = [
            each.date
            for each in calendar.sessions(start, end, segment=instrument.segment, exchange=instrument.exchange)
        ]
    except (ConfigurationError, Unsupported):
        return
    after = iter(days)
    following = next(after, None)
    for day in expected:
        while following is not None and following < day:
            following = next(after, None)
        if day not in rows and following is not None:
            row = rows[following]
            yield Finding(row=row, at=candles.start[row], defect=Defect.MISSING, reason=f"{day} has no bars")
