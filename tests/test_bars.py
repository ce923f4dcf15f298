"""Bars from ticks."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from hybridbroker import (
    IST,
    BarBuilder,
    Candle,
    ConfigurationError,
    Exchange,
    Instrument,
    InstrumentKind,
    Interval,
    Segment,
    Tick,
)
from hybridbroker.clock import to_epoch_ms

RELIANCE = Instrument(
    id="NSE:RELIANCE", exchange=Exchange.NSE, segment=Segment.CASH, kind=InstrumentKind.EQUITY, symbol="RELIANCE",
    tick_size=Decimal("0.10"),
)  # fmt: skip


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-09-15T{clock}").replace(tzinfo=IST)


def tick(clock: str, price: float, volume: int | None = None, *, quantity: int = 1, snapshot: bool = False) -> Tick:
    ms = to_epoch_ms(at(clock))
    return Tick(RELIANCE, price, quantity, ms, ms, volume=volume, is_snapshot=snapshot)


def bars_of(*ticks: Tick, interval: Interval = Interval.MINUTE_1) -> list[Candle]:
    builder = BarBuilder(RELIANCE, interval)
    return [bar for bar in map(builder.add, ticks) if bar is not None]


def test_a_bar_holds_what_traded_in_its_minute() -> None:
    (bar,) = bars_of(
        tick("09:15:00", 100, 10), tick("09:15:20", 103, 15), tick("09:15:40", 99, 30), tick("09:15:59", 101, 31),
        tick("09:16:00", 200, 40),
    )  # fmt: skip

    assert (bar.start, bar.open, bar.high, bar.low, bar.close) == (at("09:15:00"), 100, 103, 99, 101)
    assert bar.volume == 22  # one unit of the first trade, then 31 - 10


def test_volume_before_the_stream_is_not_counted() -> None:
    (bar,) = bars_of(
        tick("09:14:59", 99, 1000, snapshot=True), tick("09:15:01", 100, 1005), tick("09:16:00", 100, 1006)
    )

    assert bar.volume == 5


def test_a_minute_joined_late_is_not_reported() -> None:
    builder = BarBuilder(RELIANCE, Interval.MINUTE_1)

    bars = [
        builder.add(tick("09:15:30", 100, 10)),
        builder.add(tick("09:16:00", 101, 11)),
        builder.add(tick("09:17:00", 1, 12)),
    ]

    assert [bar.start for bar in bars if bar] == [at("09:16:00")]
    assert builder.dropped == 1


def test_a_minute_with_a_gap_in_it_is_not_reported() -> None:
    builder = BarBuilder(RELIANCE, Interval.MINUTE_1)
    builder.add(tick("09:15:00", 100, 10))

    builder.interrupt()

    assert builder.add(tick("09:16:00", 101, 11)) is None
    assert builder.dropped == 1


def test_a_late_trade_moves_no_price_but_its_volume_counts() -> None:
    (bar,) = bars_of(tick("09:16:00", 100, 10), tick("09:15:59", 500, 14), tick("09:17:00", 101, 15))

    assert (bar.high, bar.volume) == (100, 5)


def test_volume_that_goes_back_is_never_counted_twice() -> None:
    (bar,) = bars_of(
        tick("09:15:00", 100, 10), tick("09:15:10", 100, 8), tick("09:15:20", 100, 12), tick("09:16:00", 1, 12)
    )

    assert bar.volume == 3  # 1 + (12 - 10)


def test_without_cumulative_volume_the_trades_are_added_up() -> None:
    (bar,) = bars_of(tick("09:15:00", 100, quantity=5), tick("09:15:10", 100, quantity=7), tick("09:16:00", 100))

    assert bar.volume == 12


def test_minutes_without_trades_make_no_bars() -> None:
    bars = bars_of(tick("09:15:00", 100, 1), tick("09:20:00", 101, 2), tick("09:21:00", 101, 3))

    assert [bar.start for bar in bars] == [at("09:15:00"), at("09:20:00")]


def test_hours_are_aligned_to_the_indian_clock() -> None:
    (bar,) = bars_of(tick("10:00:00", 100, 1), tick("11:00:00", 101, 2), interval=Interval.HOUR_1)

    assert bar.start == at("10:00:00")


def test_days_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="candles"):
        BarBuilder(RELIANCE, Interval.DAY_1)


def test_one_tick_stamped_far_ahead_does_not_silence_the_builder() -> None:
    wrong = Tick(RELIANCE, 500.0, 1, to_epoch_ms(at("23:59:00")), to_epoch_ms(at("09:15:30")), volume=12)

    first, second = bars_of(
        tick("09:15:00", 100, 10), wrong, tick("09:15:40", 101, 14), tick("09:16:00", 102, 15), tick("09:17:00", 1, 16)
    )

    assert (first.start, first.high, first.close, first.volume) == (at("09:15:00"), 101, 101, 5)
    assert (second.start, second.close) == (at("09:16:00"), 102)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_wrong_stamps_that_agree_cost_a_bar_and_no_more(count: int) -> None:
    wrong = [tick("23:59:00", 500, 11) for _ in range(count)]
    later = [tick(f"09:{minute}:0{second}", 101, minute) for minute in range(16, 30) for second in (0, 1, 2, 3)]

    bars = bars_of(tick("09:15:00", 100, 10), *wrong, *later)

    starts = [bar.start for bar in bars]
    assert starts == sorted(set(starts))
    assert at("09:20:00") in starts
    assert starts[-1] == at("09:28:00")
    assert max(bar.high for bar in bars) <= 101


def test_a_first_tick_stamped_far_ahead_is_taken_back() -> None:
    real = (tick("09:15:00", 100, 10), tick("09:16:00", 101, 11), tick("09:17:00", 1, 12))

    bars = bars_of(tick("23:59:00", 500, 9), *real)

    assert [(bar.start, bar.close) for bar in bars] == [(at("09:15:00"), 100), (at("09:16:00"), 101)]


def test_trades_after_a_long_quiet_are_taken_as_they_come() -> None:
    bars = bars_of(tick("09:15:00", 100, 1), tick("11:00:00", 101, 2), tick("13:00:00", 102, 3))

    assert [bar.start for bar in bars] == [at("09:15:00"), at("11:00:00")]


def test_a_market_far_ahead_of_the_clock_is_taken_once_two_ticks_agree() -> None:
    def ahead(clock: str, price: float) -> Tick:
        return Tick(RELIANCE, price, 1, to_epoch_ms(at(clock)), to_epoch_ms(at("09:15:00")), volume=None)

    bars = bars_of(*(ahead(clock, 1.0) for clock in ("09:15:00", "10:00:00", "11:00:00", "12:00:00", "12:00:01")))

    assert [f"{bar.start:%H:%M}" for bar in bars] == ["09:15", "10:00", "11:00"]


def test_a_snapshot_repeats_a_trade_and_does_not_count_it_again() -> None:
    (bar,) = bars_of(
        tick("09:15:00", 100, quantity=5), tick("09:15:00", 100, quantity=5, snapshot=True), tick("09:16:00", 1)
    )

    assert bar.volume == 5
