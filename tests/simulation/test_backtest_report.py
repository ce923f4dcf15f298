"""What a backtest shows of itself: exact money, one page without a network, the same text for the same run."""

from __future__ import annotations

import io
import json
import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from backtest_kit import MORNING, Scripted, bars, flat
from rich.console import Console
from simulated import ACME

from hybridbroker.domain.market import Candles, Interval
from hybridbroker.domain.orders import MarketOrder, Side
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.page import thinned
from hybridbroker.simulation.result import BacktestResult
from hybridbroker.simulation.statutory import STATUTORY_ONLY

BUY = MarketOrder(ACME, Side.BUY, quantity=10)
SELL = MarketOrder(ACME, Side.SELL, quantity=10)


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    """Two round trips on two days, the second at a loss, and a third still open."""
    first = bars((100, 100, 100, 100), (100, 101, 99, 101), (110, 110, 110, 110), (110, 110, 110, 110))
    second = flat(120, 2, start=MORNING + timedelta(days=1))
    third = flat(90, 4, start=MORNING + timedelta(days=15))
    rows = Candles.from_rows([*first, *second, *third], instrument=ACME, interval=Interval.MINUTE_1)
    return simulate(Scripted({0: [BUY], 1: [SELL], 3: [BUY], 5: [SELL], 7: [BUY]}), rows)


def test_round_trips_hold_entry_exit_and_their_share_of_the_charges(result: BacktestResult) -> None:
    trips = result.round_trips()

    assert [(trip.entry_price, trip.exit_price, trip.gross) for trip in trips] == [
        (Decimal(100), Decimal(110), Decimal(100)),
        (Decimal(120), Decimal(90), Decimal(-300)),
        (Decimal(90), None, Decimal(0)),
    ]
    assert sum(trip.charges for trip in trips) == pytest.approx(result.charges.total)
    assert trips[-1].is_open


def test_the_equity_curve_ends_at_the_exact_equity(result: BacktestResult) -> None:
    curve = result.equity()

    assert curve.equity[-1] == pytest.approx(float(result.final_equity))
    assert result.final_equity == Decimal(100_000) - 200 - result.charges.total
    assert min(curve.drawdown) == pytest.approx(result.statistics().max_drawdown)


def test_each_days_charges_are_its_contract_note(result: BacktestResult) -> None:
    by_day = {
        day: STATUTORY_ONLY.charges_for([each for each in result.trades if each.traded_at.date() == day]).total
        for day in {each.traded_at.date() for each in result.trades}
    }

    assert dict(result.charges_by_day) == by_day
    assert sum(by_day.values()) == result.charges.total


def test_months_multiply_to_the_whole(result: BacktestResult) -> None:
    months = result.equity().by_month(float(result.cash))

    assert list(months) == [(2026, 9), (2026, 10)]
    whole = (1 + months[2026, 9]) * (1 + months[2026, 10]) - 1
    assert whole == pytest.approx(result.statistics().total_return)


def test_the_table_states_the_assumptions(result: BacktestResult) -> None:
    console = Console(record=True, width=200, file=io.StringIO())

    console.print(result.report())

    text = console.export_text()
    for said in ("Scripted on NSE:ACME", "next bar's open", "no calendar", "Stamp duty", "statutory"):
        assert said in text


def test_the_page_is_self_contained(result: BacktestResult, tmp_path: Path) -> None:
    path = tmp_path / "report.html"

    result.to_html(path)

    page = path.read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    for said in ("Equity and drawdown", "Returns by month", "purchases", "Stamp duty", "Round trips", "next bar"):
        assert said in page


def test_json_is_whole_and_money_is_exact(result: BacktestResult) -> None:
    told = json.loads(result.dumps())

    assert told["pnl"]["net"] == f"{result.pnl.net:.2f}"
    assert len(told["trades"]) == len(result.trades) == 5
    assert told["ok"] is True
    assert "seconds" not in told


def test_frames_hold_the_curve_and_the_round_trips(result: BacktestResult) -> None:
    pytest.importorskip("pandas")

    frame, trips = result.to_pandas(), result.trades_to_pandas()

    assert list(frame.columns) == ["equity", "drawdown"]
    assert frame.index[0].date() == date(2026, 9, 21)
    assert list(trips["gross"]) == [100, -300, 0]


def test_a_run_without_trades_has_a_report_too() -> None:
    empty = simulate(Scripted({}), flat(100, 3))

    assert empty.statistics().win_rate is None
    assert empty.report()
    assert json.loads(empty.dumps())["statistics"]["trades"] == 0


def test_a_page_that_cannot_be_written_is_told(result: BacktestResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot write"):
        result.to_html(tmp_path / "no" / "where.html")


def test_thinned_lines_keep_their_extremes() -> None:
    values = [float(number % 997) for number in range(50_000)]

    times, kept = thinned(range(50_000), values)

    assert len(kept) <= 4_000
    assert (min(kept), max(kept)) == (0.0, 996.0)
    assert times == sorted(times)
