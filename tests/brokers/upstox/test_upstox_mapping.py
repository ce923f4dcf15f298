"""Tables are total, windows have no seams, rows become bars and quotes."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstox_kit import NIFTY, RELIANCE

from hybridbroker.brokers.upstox.data import wire
from hybridbroker.brokers.upstox.data.mapping import INTERVALS, candles_from_wire, quote_from_wire, windows
from hybridbroker.clock import IST
from hybridbroker.domain.market import Depth, DepthLevel, Interval, Quote

AS_OF = datetime(2026, 10, 1, 10, 15, tzinfo=IST)
days = st.dates(date(2000, 1, 1), date(2027, 1, 1))


@pytest.mark.parametrize("interval", Interval)
def test_every_interval_has_a_spelling(interval: Interval) -> None:
    assert INTERVALS[interval].unit in {"minutes", "hours", "days", "weeks", "months"}


@pytest.mark.parametrize(
    ("interval", "days"), [(Interval.MINUTE_15, 28), (Interval.MINUTE_30, 89), (Interval.HOUR_1, 89)]
)
def test_windows_stay_below_the_documented_ones(interval: Interval, days: int) -> None:
    assert INTERVALS[interval].span == timedelta(days=days)


@given(first=days, last=days, span=st.integers(1, 4000))
def test_windows_cover_every_day_once_and_in_order(first: date, last: date, span: int) -> None:
    cut = windows(first, last, span=timedelta(days=span))

    covered = [since + timedelta(days=n) for since, until in cut for n in range((until - since).days + 1)]
    assert covered == [first + timedelta(days=n) for n in range((last - first).days + 1)]
    assert all((until - since).days < span for since, until in cut)


def test_weeks_are_one_window() -> None:
    assert windows(date(2000, 1, 1), date(2026, 1, 1), span=None) == [(date(2000, 1, 1), date(2026, 1, 1))]
    assert not windows(date(2026, 1, 2), date(2026, 1, 1), span=None)


def row(at: str, close: float | None = 10.0, volume: float | None = 5.0) -> wire.CandleRow:
    return datetime.fromisoformat(f"{at}+05:30"), 9.0, 11.0, 8.0, close, volume, None


def test_rows_become_bars_oldest_first_once_each_within_the_span() -> None:
    rows = [
        row("2026-10-01T09:17:00"),
        row("2026-10-01T09:16:00", close=1.0),
        row("2026-10-01T09:15:00"),
        row("2026-10-01T09:16:00", close=2.0),
        row("2026-09-30T15:29:00"),
    ]

    candles = candles_from_wire(
        rows,
        instrument=RELIANCE,
        interval=Interval.MINUTE_1,
        first=datetime(2026, 10, 1, 9, 16, tzinfo=IST),
        last=datetime(2026, 10, 1, 9, 17, tzinfo=IST),
    )

    assert [f"{start:%H:%M}" for start in candles.start] == ["09:16", "09:17"]
    assert list(candles.close) == [2.0, 10.0]
    assert candles[0].start.tzinfo is IST
    assert candles[0].open_interest == 0


def test_a_row_without_prices_is_no_bar_and_one_without_volume_is() -> None:
    rows = [row("2026-10-01T09:15:00", close=None), row("2026-10-01T09:16:00", volume=None)]
    span = {"first": AS_OF - timedelta(days=1), "last": AS_OF + timedelta(days=1)}

    candles = candles_from_wire(rows, instrument=RELIANCE, interval=Interval.MINUTE_1, **span)

    assert [(f"{bar.start:%H:%M}", bar.volume) for bar in candles] == [("09:16", 0)]


def ltp(**fields: object) -> wire.LtpQuote:
    return wire.LtpQuote.model_validate({"instrument_token": "K", "last_price": 1404.9, **fields})


def full(**fields: object) -> wire.FullQuote:
    return wire.FullQuote.model_validate({"instrument_token": "K", "last_price": 1404.9, **fields})


def test_both_calls_together_make_a_quote() -> None:
    book = {
        "buy": [{"quantity": 310, "price": 1404.8, "orders": 6}, {"quantity": 0, "price": 0, "orders": 0}],
        "sell": [],
    }
    day = {"open": 1399.0, "high": 1409.4, "low": 1394.2, "close": 1404.9}

    quote = quote_from_wire(
        ltp(ltq=12, volume=5, cp=1398.1),
        full(volume=6841203, ohlc=day, depth=book, lower_circuit_limit=1258.3, upper_circuit_limit=1537.9),
        instrument=RELIANCE,
        as_of=AS_OF,
    )

    assert quote == Quote(
        instrument=RELIANCE,
        last_price=1404.9,
        as_of=AS_OF,
        previous_close=1398.1,
        volume=6841203,
        last_quantity=12,
        open=1399.0,
        high=1409.4,
        low=1394.2,
        lower_circuit=1258.3,
        upper_circuit=1537.9,
        depth=Depth(bids=(DepthLevel(1404.8, 310, 6),), asks=()),
    )


def test_either_call_alone_makes_a_quote() -> None:
    light = quote_from_wire(ltp(cp=1398.1), None, instrument=RELIANCE, as_of=AS_OF)
    heavy = quote_from_wire(None, full(prev_close_price=1398.1), instrument=RELIANCE, as_of=AS_OF)

    assert light == heavy == Quote(instrument=RELIANCE, last_price=1404.9, as_of=AS_OF, previous_close=1398.1)


def test_zeros_say_nothing_and_an_index_has_no_volume() -> None:
    quote = quote_from_wire(
        ltp(ltq=0, volume=0, cp=0),
        full(volume=0, ohlc={"open": 0, "high": 0, "low": 0}, lower_circuit_limit=0, depth=None),
        instrument=NIFTY,
        as_of=AS_OF,
    )

    assert quote == Quote(instrument=NIFTY, last_price=1404.9, as_of=AS_OF)


@pytest.mark.parametrize("price", [0, None])
def test_what_never_traded_has_no_quote(price: float | None) -> None:
    assert quote_from_wire(ltp(last_price=price), None, instrument=RELIANCE, as_of=AS_OF) is None
    assert quote_from_wire(None, None, instrument=RELIANCE, as_of=AS_OF) is None
