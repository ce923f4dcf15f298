"""What Upstox says of market hours, read into the domain's calendar and phases; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Final

import attrs

from hybridbroker.brokers.upstox.data import wire
from hybridbroker.brokers.upstox.data.mapping import MAX_EPOCH_MS, PHASES
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Segment
from hybridbroker.domain.market import MarketPhase, MarketStatus
from hybridbroker.domain.sessions import SpecialSession

__all__ = ["EXCHANGES", "calendar_from_wire", "hours_from_wire", "status_from_wire", "with_hours"]

EXCHANGES: Final[Mapping[Exchange, Mapping[str, str]]] = {
    Exchange.NSE: {"NSE": "NSE:cash", "NFO": "NSE:derivatives", "CDS": "NSE:currency", "NSCOM": "NSE:commodity"},
    Exchange.BSE: {"BSE": "BSE:cash", "BFO": "BSE:derivatives", "BCD": "BSE:currency"},
    Exchange.MCX: {"MCX": "MCX:commodity"},
}
"""Upstox's names of an exchange's markets, by the names that `MarketStatus` uses."""

_SATURDAY: Final = 5
_WHOLE_YEAR: Final = 8
"""A year with so many closed weekdays in the list is there as a whole; NSE's had 13 to 17 since 2015."""

_URL: Final = "upstox.com/developer/api-documentation/get-market-holidays"
_TIMINGS_URL: Final = "upstox.com/developer/api-documentation/get-market-timings"


def status_from_wire(answers: Iterable[wire.Status], *, read_at: datetime) -> MarketStatus:
    """Join what single markets say; ``raw`` has Upstox's words, the closing auction's included."""
    names = {name: market for markets in EXCHANGES.values() for name, market in markets.items()}
    phases: dict[str, MarketPhase] = {}
    raw: dict[str, str] = {}
    told_ms = 0
    for answer in answers:
        told = answer.data
        raw[told.exchange] = told.status
        if told.exchange in names:
            phases[names[told.exchange]] = PHASES.get(told.status, MarketPhase.UNKNOWN)
        if told.cas_eligible_status is not None:
            raw[f"{told.exchange}.cas_eligible_status"] = told.cas_eligible_status.status
        if told.last_updated is not None and told_ms < told.last_updated < MAX_EPOCH_MS:
            told_ms = told.last_updated
    return MarketStatus(phases=phases, at=from_epoch_ms(told_ms) if told_ms else read_at, raw=raw)


def hours_from_wire(rows: Iterable[wire.OpenExchange]) -> dict[str, tuple[datetime, datetime]]:
    """Return opening and closing by Upstox's name of the exchange; impossible ones are left out."""
    return {
        row.exchange: (from_epoch_ms(row.start_time), from_epoch_ms(row.end_time))
        for row in rows
        if 0 < row.start_time < row.end_time < MAX_EPOCH_MS
    }


def calendar_from_wire(rows: Sequence[wire.Holiday], calendar: TradingCalendar) -> TradingCalendar:
    """Return ``calendar`` with the days of NSE's cash market that it does not know yet.

    Read from the lists of exchanges, not from the type of day, which says little (the documented
    example of a trading holiday closes nothing). Days the calendar covers stay as they are, save
    special sessions whose hours it lacks. A year is covered once the list holds it as a whole.
    """
    closed: set[date] = set()
    special: dict[date, SpecialSession] = {}
    for row in rows:
        is_new, known = row.date > calendar.covered[1], calendar.special.get(row.date)
        if not is_new and (known is None or known.stretches):
            continue
        hours = _hours_on(row)
        if hours is not None and (known is not None or row.date.weekday() >= _SATURDAY or not _usual(row, calendar)):
            special[row.date] = SpecialSession(
                name=row.description or "special session", stretches=(hours,), source=_URL
            )
        elif hours is None and is_new and "NSE" in row.closed_exchanges and row.date.weekday() < _SATURDAY:
            closed.add(row.date)
    year = calendar.covered[1].year + 1
    through = calendar.covered[1]
    while sum(day.year == year for day in closed) >= _WHOLE_YEAR:
        through, year = date(year, 12, 31), year + 1
    return calendar.extended(
        through=through,
        closed_days=frozenset(day for day in closed if day <= through),
        special={day: session for day, session in special.items() if day <= through},
    )


def with_hours(calendar: TradingCalendar, day: date, rows: Iterable[wire.OpenExchange]) -> TradingCalendar:
    """Return ``calendar`` with the hours of a special session, where the rows state NSE's."""
    told = hours_from_wire(rows).get("NSE")
    if told is None or not told[0].date() == told[1].date() == day:
        return calendar
    session = attrs.evolve(calendar.special[day], stretches=((told[0].time(), told[1].time()),), source=_TIMINGS_URL)
    return calendar.extended(special={day: session})


def _hours_on(row: wire.Holiday) -> tuple[time, time] | None:
    hours = hours_from_wire(row.open_exchanges).get("NSE")
    if hours is None or not hours[0].date() == hours[1].date() == row.date:
        return None
    return hours[0].time(), hours[1].time()


def _usual(row: wire.Holiday, calendar: TradingCalendar) -> bool:
    known = [each for each in calendar.hours if each.segment is Segment.CASH and each.valid_from <= row.date]
    regular = max(known, key=lambda each: each.valid_from)
    return _hours_on(row) == (regular.opens, regular.closes)
