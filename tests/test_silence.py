"""When silence means something."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from hybridbroker import IST, Exchange, MarketPhase, MarketStatus, Segment
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.silence import OpenHours, Patience, SilenceWatch, Verdict
from hybridbroker.streams import StreamHealth
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.factories import make_instrument, make_tick

CASH = [(Exchange.NSE, Segment.CASH)]
DERIVATIVES = [(Exchange.NSE, Segment.DERIVATIVES)]
MCX = [(Exchange.MCX, Segment.COMMODITY)]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST)


def hours(now: str) -> tuple[OpenHours, ManualClock]:
    clock = ManualClock(at(now))
    return OpenHours(TradingCalendar(), clock), clock


def status(market: str, phase: MarketPhase) -> MarketStatus:
    return MarketStatus(phases={market: phase}, at=at("2026-10-01T10:00"))


@pytest.mark.parametrize(
    ("now", "markets", "seconds"),
    [
        ("2026-10-01T09:14:59", CASH, 0),
        ("2026-10-01T09:15:10", CASH, 10),
        ("2026-10-01T15:35:00", CASH, 0),
        ("2026-10-01T15:35:00", DERIVATIVES, 6 * 3600 + 1200),
        ("2026-10-01T15:35:00", [*CASH, *DERIVATIVES], 6 * 3600 + 1200),
        ("2026-10-02T10:00:00", CASH, 0),
        ("2026-10-03T10:00:00", CASH, 0),
        ("2026-10-01T10:00:00", [], 0),
    ],
)
def test_the_calendar_says_how_long_a_market_is_open(
    now: str, markets: list[tuple[Exchange, Segment]], seconds: int
) -> None:
    known, _ = hours(now)

    assert known.longest_open(markets) == seconds


def test_a_halt_told_during_the_session_closes_it_and_yesterdays_word_does_not() -> None:
    known, clock = hours("2026-09-30T15:30:00")
    known.told(status("NSE:cash", MarketPhase.CLOSED))
    clock.advance(timedelta(hours=18, minutes=30).total_seconds())
    next_morning = known.longest_open(CASH)
    known.told(status("NSE:cash", MarketPhase.OPEN))
    known.told(status("NSE:cash", MarketPhase.CLOSED))

    assert next_morning == 2700
    assert known.longest_open(CASH) == 0


def test_a_market_the_calendar_does_not_know_is_as_the_broker_says() -> None:
    known, clock = hours("2026-10-01T21:00:00")
    unknown = known.longest_open(MCX)
    known.told(status("MCX:commodity", MarketPhase.OPEN))
    clock.advance(50)
    known.told(status("MCX:commodity", MarketPhase.OPEN))
    opened = known.longest_open(MCX)
    known.told(status("MCX:commodity", MarketPhase.CLOSED))

    assert unknown == float("inf")
    assert opened == 50
    assert known.longest_open(MCX) == 0


def test_a_silence_is_reported_once_then_ends_in_a_replacement() -> None:
    watch = SilenceWatch(Patience())

    verdicts = [watch.judge(float(second), connected=1e6, newest_trade_ms=1) for second in range(62)]

    assert verdicts.count(Verdict.REPORT) == 1
    assert verdicts[31] is Verdict.REPORT
    assert verdicts[61] is Verdict.REPLACE


def test_a_replacement_that_is_as_silent_is_replaced_after_twice_the_time() -> None:
    watch, silence, replaced = SilenceWatch(Patience(longest=200)), 0.0, list[float]()

    connected = 0.0
    for _ in range(1200):
        silence, connected = silence + 1, connected + 1
        if watch.judge(silence, connected=connected, newest_trade_ms=1) is Verdict.REPLACE:
            replaced.append(connected)
            connected = 0.0

    assert replaced == [61, 121, *[201] * 5]


@pytest.mark.parametrize(
    ("newest", "next_report"), [(1, 61), (2, 31)], ids=["nothing was missed", "a trade was missed"]
)
def test_patience_grows_where_nothing_was_missed(newest: int, next_report: int) -> None:
    watch = SilenceWatch(Patience())
    for second in range(62):
        watch.judge(float(second), connected=1e6, newest_trade_ms=1)
    watch.judge(0.0, connected=1.0, newest_trade_ms=newest)

    verdicts = [watch.judge(float(second), connected=1e6, newest_trade_ms=newest) for second in range(62)]

    assert verdicts.index(Verdict.REPORT) == next_report


def test_without_a_connection_nothing_is_replaced() -> None:
    watch = SilenceWatch(Patience())

    verdicts = {watch.judge(float(second), connected=0.0, newest_trade_ms=1) for second in range(1000)}

    assert verdicts == {Verdict.FINE, Verdict.REPORT}


def test_other_instruments_are_watched_with_the_first_patience() -> None:
    watch = SilenceWatch(Patience())
    for second in (31.0, 61.0, 0.0):
        watch.judge(second, connected=1e6, newest_trade_ms=1)
    watch.restart()

    assert watch.judge(31.0, connected=1e6, newest_trade_ms=1) is Verdict.REPORT


def test_health_counts_silence_in_the_session_alone() -> None:
    clock = ManualClock(at("2026-10-01T15:29:00"))
    health = StreamHealth(clock, calendar=TradingCalendar())
    share, other, stranger = (make_instrument(symbol=name) for name in ("AAA", "BBB", "CCC"))
    health.expect([share, other])
    clock.advance(40)
    health.ticked([make_tick(instrument=share)])

    assert health.stale(other)
    assert not health.stale(share)
    assert not health.stale()
    assert health.unheard == (other.id,)
    clock.advance(40)  # the session is over
    assert not health.stale(other)
    assert health.silence() == 0
    assert health.stale(stranger)
    clock.advance(timedelta(hours=17, minutes=45, seconds=10).total_seconds())  # 9:15:30 on a holiday
    assert not health.stale(other)


def test_a_feed_without_instruments_is_not_silent() -> None:
    clock = ManualClock(at("2026-10-01T10:00:00"))
    health = StreamHealth(clock, calendar=TradingCalendar())
    share = make_instrument(symbol="AAA")

    clock.advance(100)
    before = health.silence()
    health.expect([share])
    clock.advance(10)

    assert before == 0
    assert health.silence() == 10
    health.forget([share])
    assert health.silence() == 0


def test_a_repeated_update_is_a_sign_of_life() -> None:
    clock = ManualClock(at("2026-10-01T10:00:00"))
    health = StreamHealth(clock, calendar=TradingCalendar())
    share = make_instrument(symbol="AAA")
    health.expect([share])
    clock.advance(100)

    health.heard([share])

    assert (health.stale(), health.stale(share), health.unheard) == (False, False, ())
