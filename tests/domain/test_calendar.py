"""Trading days and hours, asked in any zone."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Segment
from hybridbroker.domain.sessions import COVERED, SPECIAL_SESSIONS, SpecialSession
from hybridbroker.errors import ConfigurationError, Unsupported

CALENDAR = TradingCalendar()
MUHURAT_2026 = date(2026, 11, 8)
HOLIDAYS_2026 = [
    "2026-01-15", "2026-01-26", "2026-03-03", "2026-03-26", "2026-03-31", "2026-04-03", "2026-04-14", "2026-05-01",
    "2026-05-28", "2026-06-26", "2026-09-14", "2026-10-02", "2026-10-20", "2026-11-10", "2026-11-24", "2026-12-25",
]  # fmt: skip


def ist(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST)


@pytest.mark.parametrize("day", HOLIDAYS_2026)
@pytest.mark.parametrize("segment", [Segment.CASH, Segment.DERIVATIVES])
@pytest.mark.parametrize("exchange", [Exchange.NSE, Exchange.BSE])
def test_a_holiday_of_this_year_has_no_session(day: str, segment: Segment, exchange: Exchange) -> None:
    assert CALENDAR.session(date.fromisoformat(day), segment=segment, exchange=exchange) is None


@pytest.mark.parametrize(
    ("day", "segment", "opens", "closes"),
    [
        pytest.param("2026-07-31", Segment.CASH, "09:15", "15:30", id="cash"),
        pytest.param("2026-07-31", Segment.DERIVATIVES, "09:15", "15:30", id="derivatives until July 2026"),
        pytest.param("2026-08-03", Segment.CASH, "09:15", "15:30", id="cash since the closing auction"),
        pytest.param("2026-08-03", Segment.DERIVATIVES, "09:15", "15:40", id="derivatives since August 2026"),
        pytest.param("2026-08-03", Segment.INDEX, "09:15", "15:30", id="indices go with cash"),
        pytest.param("2026-12-07", Segment.DERIVATIVES, "09:15", "15:45", id="derivatives since December 2026"),
        pytest.param("2026-02-01", Segment.CASH, "09:15", "15:30", id="Budget Sunday"),
        pytest.param("2025-10-21", Segment.DERIVATIVES, "13:45", "14:45", id="Muhurat in the afternoon"),
        pytest.param("2024-11-01", Segment.CASH, "18:00", "19:00", id="Muhurat in the evening"),
    ],
)
def test_session_hours(day: str, segment: Segment, opens: str, closes: str) -> None:
    session = CALENDAR.session(date.fromisoformat(day), segment=segment)

    assert session is not None
    assert (session.opens, session.closes) == (ist(f"{day} {opens}"), ist(f"{day} {closes}"))


@pytest.mark.parametrize(
    ("day", "expected"), [("2026-07-31", None), ("2026-08-03", time(15, 15)), ("2026-12-07", None)]
)
def test_the_closing_auction_cuts_continuous_trading_short_between_august_and_december(
    day: str, expected: time | None
) -> None:
    session = CALENDAR.session(date.fromisoformat(day))

    assert session is not None
    assert (session.auction_from and session.auction_from.time()) == expected


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        pytest.param(ist("2026-09-21 09:14:59.999999"), False, id="a moment early"),
        pytest.param(ist("2026-09-21 09:15"), True, id="the opening"),
        pytest.param(datetime(2026, 9, 21, 3, 45, tzinfo=UTC), True, id="the opening in UTC"),
        pytest.param(
            datetime(2026, 9, 20, 23, 45, tzinfo=ZoneInfo("America/New_York")), True, id="yesterday evening in New York"
        ),
        pytest.param(ist("2026-09-21 15:30"), False, id="the closing"),
        pytest.param(ist("2026-09-20 12:00"), False, id="Sunday"),
        pytest.param(ist("2024-03-02 09:30"), True, id="first part of a split session"),
        pytest.param(ist("2024-03-02 10:30"), False, id="between the parts"),
        pytest.param(ist("2024-03-02 12:00"), True, id="second part"),
    ],
)
def test_is_open(instant: datetime, expected: bool) -> None:
    assert CALENDAR.is_open(instant) is expected


@pytest.mark.parametrize(
    ("day", "segment", "expected"),
    [
        pytest.param(date(2026, 8, 31), Segment.CASH, ("09:00", "09:15"), id="shares"),
        pytest.param(date(2026, 9, 7), Segment.CASH, None, id="shares, since NSE changed it: not stated, not guessed"),
        pytest.param(date(2025, 12, 5), Segment.DERIVATIVES, None, id="derivatives, before they had one"),
        pytest.param(date(2025, 12, 8), Segment.DERIVATIVES, ("09:00", "09:15"), id="derivatives, from the first day"),
        pytest.param(date(2024, 3, 2), Segment.CASH, None, id="a special Saturday"),
    ],
)
def test_pre_open(day: date, segment: Segment, expected: tuple[str, str] | None) -> None:
    session = TradingCalendar().session(day, segment)

    assert session is not None
    found = session.pre_open
    assert (None if found is None else tuple(f"{each:%H:%M}" for each in found)) == expected


def test_is_open_refuses_a_naive_instant() -> None:
    with pytest.raises(ValueError, match="timezone-aware"):
        CALENDAR.is_open(datetime(2026, 9, 21, 12))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        pytest.param("2026-09-21 08:00", "2026-09-21 09:15", id="this morning"),
        pytest.param("2026-09-21 09:15", "2026-09-22 09:15", id="strictly after an opening"),
        pytest.param("2026-10-01 16:00", "2026-10-05 09:15", id="over a holiday and a weekend"),
        pytest.param("2026-01-30 16:00", "2026-02-01 09:15", id="a Sunday that trades"),
        pytest.param("2024-03-02 10:00", "2024-03-02 11:30", id="the second part of a split session"),
        pytest.param("2025-10-20 18:00", "2025-10-21 13:45", id="Muhurat"),
    ],
)
def test_next_open(instant: str, expected: str) -> None:
    assert CALENDAR.next_open(ist(instant)) == ist(expected)


@pytest.mark.parametrize(
    ("before", "expected"),
    [("2026-09-22", "2026-09-21"), ("2026-10-05", "2026-10-01"), ("2026-02-02", "2026-02-01")],
)
def test_previous_session(before: str, expected: str) -> None:
    assert CALENDAR.previous_session(date.fromisoformat(before)).date == date.fromisoformat(expected)


@pytest.mark.parametrize("day", [COVERED[0] - timedelta(days=1), COVERED[1] + timedelta(days=1)])
def test_a_date_that_is_not_covered_is_an_error_that_says_what_to_do(day: date) -> None:
    with pytest.raises(ConfigurationError, match=r"covers 2015-01-01 to 2026-12-31, .*extended"):
        CALENDAR.session(day)


def test_the_next_open_after_the_last_covered_session_is_not_guessed() -> None:
    with pytest.raises(ConfigurationError, match="covers"):
        CALENDAR.next_open(ist("2026-12-31 16:00"))


def test_a_special_session_without_known_hours_is_not_guessed() -> None:
    assert CALENDAR.is_trading_day(MUHURAT_2026)
    with pytest.raises(ConfigurationError, match="Muhurat"):
        CALENDAR.session(MUHURAT_2026)


def test_extended_adds_years_and_sessions_and_leaves_the_rest() -> None:
    muhurat = SpecialSession(name="Muhurat", stretches=((time(18), time(19)),), source="test")

    longer = CALENDAR.extended(
        through=date(2027, 1, 31), closed_days=frozenset({date(2027, 1, 26)}), special={MUHURAT_2026: muhurat}
    )

    assert longer.covered == (date(2015, 1, 1), date(2027, 1, 31))
    assert longer.session(date(2027, 1, 26)) is None
    assert longer.session(date(2027, 1, 27)) is not None
    assert longer.is_open(ist("2026-11-08 18:30"))
    assert longer.session(date(2026, 1, 26)) is None
    assert CALENDAR.covered == COVERED


@pytest.mark.parametrize(
    ("segment", "exchange"),
    [(Segment.COMMODITY, Exchange.NSE), (Segment.CURRENCY, Exchange.BSE), (Segment.CASH, Exchange.MCX)],
)
def test_markets_without_a_table_are_refused(segment: Segment, exchange: Exchange) -> None:
    with pytest.raises(Unsupported, match="not tabulated"):
        CALENDAR.session(date(2026, 9, 21), segment=segment, exchange=exchange)


def test_every_special_session_names_its_source() -> None:
    assert all(each.source for each in SPECIAL_SESSIONS.values())


@settings(deadline=None)
@given(
    day=st.dates(COVERED[0], COVERED[1] - timedelta(days=14)).filter(
        lambda each: not MUHURAT_2026 - timedelta(days=14) <= each <= MUHURAT_2026
    ),
    minute=st.integers(0, 24 * 60 - 1),
)
def test_next_open_is_an_opening_and_nothing_opens_before_it(day: date, minute: int) -> None:
    instant = datetime.combine(day, time(), IST) + timedelta(minutes=minute)

    opening = CALENDAR.next_open(instant)

    assert opening > instant
    assert CALENDAR.is_open(opening)
    assert not CALENDAR.is_open(opening - timedelta(microseconds=1))
    between = CALENDAR.sessions(day, opening.date())
    assert not any(instant < start < opening for session in between for start, _ in session.stretches)


def _dates(path: Path) -> set[date]:
    with gzip.open(path) as file:
        rows: list[list[Any]] = json.load(file)["data"]["candles"]
    return {date.fromisoformat(row[0][:10]) for row in rows}


MISSING_FROM_RECORDINGS = date(2020, 11, 14)
"""Muhurat trading on a Saturday: NSE's timetable names it, this vendor's candles leave it out."""


@pytest.mark.parametrize("file", ["daily/RELIANCE", "daily/TCS", "daily_2008_2021/RELIANCE", "daily_2008_2021/SBIN"])
def test_sessions_are_the_dates_of_recorded_daily_candles(file: str, shared_data: Path) -> None:
    traded = {day for day in _dates(shared_data / "candles" / f"{file}.json.gz") if day >= COVERED[0]}

    ours = {day for day in _days(min(traded), max(traded)) if CALENDAR.is_trading_day(day)}
    assert ours - traded <= {MISSING_FROM_RECORDINGS}
    assert traded - ours == set()


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=each) for each in range((last - first).days + 1)]


def test_sessions_hold_every_recorded_minute(shared_data: Path) -> None:
    file = shared_data / "candles" / "minute1" / "BSE_INE092E01011_2024-09-30_2025-02-14.json.gz"
    with gzip.open(file) as stream:
        starts = [datetime.fromisoformat(row[0]) for row in json.load(stream)["data"]["candles"]]

    assert [each for each in starts if not CALENDAR.is_open(each, exchange=Exchange.BSE)] == []


@pytest.mark.filterwarnings("ignore")  # the oracle's own, about pandas
def test_sessions_differ_from_exchange_calendars_only_by_the_special_ones() -> None:
    calendars = pytest.importorskip("exchange_calendars", reason="an oracle, not a dependency")
    other = calendars.get_calendar("XBOM", start=str(COVERED[0]), end=str(COVERED[1]))
    theirs = {each.date() for each in other.sessions}

    ours = {day for day in _days(*COVERED) if CALENDAR.is_trading_day(day)}

    assert ours ^ theirs == set(SPECIAL_SESSIONS)
