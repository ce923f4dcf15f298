"""The same strategy twice: by the engine, and straightforwardly in numpy; to the paisa, on real candles."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import Candle, Candles, Interval
from hybridbroker.domain.orders import MarketOrder, Product, Side
from hybridbroker.execution import RiskLimits
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.candle_files import read_candles
from hybridbroker.simulation.result import BacktestResult
from hybridbroker.simulation.validate import Defect
from hybridbroker.strategy import Strategy, TradingSession

Whole = np.ndarray[tuple[int], np.dtype[np.int64]]
Column = np.ndarray[tuple[int], np.dtype[np.float64]]

UNITS = 10
FAST, SLOW = 9, 21
SQUARE_OFF = time(15, 20)
CASH = Decimal(10_000_000)
DAILY, MINUTES = ("daily", "daily_2008_2021"), ("minute1_2016",)


class EmaCross(Strategy):
    """Ten shares while the fast average of closes is above the slow one."""

    def __init__(self, instrument: Instrument, interval: Interval) -> None:
        self.instruments, self.interval = [instrument], interval
        self.fast = self.slow = 0.0
        self.held = self.warm = False
        self.day: date | None = None

    async def on_start(self, session: TradingSession) -> None:
        self.broker, self.clock = session.broker, session.clock

    async def on_candle(self, candle: Candle) -> None:
        if not self.warm:
            self.fast = self.slow = candle.close
            self.warm = True
        self.fast += 2 / (FAST + 1) * (candle.close - self.fast)
        self.slow += 2 / (SLOW + 1) * (candle.close - self.slow)
        now = self.clock.now()
        intraday = self.interval is Interval.MINUTE_1
        if intraday and now.date() != self.day:
            self.day, self.held = now.date(), False
        if intraday and now.time() >= SQUARE_OFF:
            return
        wanted = self.fast > self.slow
        if wanted is not self.held:
            self.held = wanted
            product = Product.INTRADAY if intraday else Product.DELIVERY
            side = Side.BUY if wanted else Side.SELL
            await self.broker.place_order(MarketOrder(candle.instrument, side, quantity=UNITS, product=product))


def load(path: Path, interval: Interval) -> Candles:
    name = path.name.partition(".")[0]
    instrument = Instrument(
        id=f"NSE:{name}",
        exchange=Exchange.NSE,
        segment=Segment.CASH,
        kind=InstrumentKind.EQUITY,
        symbol=name,
        series="EQ",
        tick_size=Decimal("0.05"),
    )
    return read_candles(path, instrument=instrument, interval=interval)


def play(candles: Candles, *, limits: RiskLimits | None = None) -> BacktestResult:
    bot = EmaCross(candles.instrument, candles.interval)
    square_off = SQUARE_OFF if candles.interval is Interval.MINUTE_1 else None
    return simulate(bot, candles, cash=CASH, limits=limits, square_off=square_off, allow=list(Defect))


# The recomputation: whole columns, paise as whole numbers, no code of the library's.


def paise(prices: Sequence[float]) -> Whole:
    whole: Whole = np.rint(np.asarray(prices) * 20).astype(np.int64) * 5
    return whole


def ema(values: Column, length: int) -> Column:
    out = np.empty_like(values)
    average, part = values[0], 2 / (length + 1)
    for index, value in enumerate(values):
        average += part * (value - average)
        out[index] = average
    return out


def half_up(numerator: Whole, unit: int) -> Whole:
    return (2 * numerator + unit) // (2 * unit)


def recompute(candles: Candles) -> tuple[int, int, int]:
    """Return gross and charges in paise, and the number of trades."""
    closes = np.asarray(candles.close)
    opens, last = paise(candles.open), paise(candles.close)
    up = ema(closes, FAST) > ema(closes, SLOW)
    days = np.asarray([at.toordinal() for at in candles.start])
    intraday = candles.interval is Interval.MINUTE_1
    wanted = np.zeros(len(closes), dtype=np.int64)
    wanted[1:] = up[:-1]
    before = np.concatenate([[0], wanted[:-1]])
    if intraday:
        late = np.asarray([at.time() >= SQUARE_OFF for at in candles.start])
        first = np.concatenate([[True], days[1:] != days[:-1]])
        wanted[late] = 0
        before = np.concatenate([[0], wanted[:-1]])
        before[first] = 0
        price = np.where(late, np.concatenate([[0], last[:-1]]), opens)
    else:
        price = opens
    change = wanted - before
    traded = np.nonzero(change)[0]
    units, value = change[traded] * UNITS, np.abs(change[traded]) * UNITS * price[traded]
    held = units.sum()
    gross = int(-(units * price[traded]).sum() + held * last[-1])
    notes, where = np.unique(days[traded], return_inverse=True)
    bought = np.bincount(where, weights=np.where(units > 0, value, 0), minlength=len(notes)).astype(np.int64)
    sold = np.bincount(where, weights=np.where(units < 0, value, 0), minlength=len(notes)).astype(np.int64)
    both = bought + sold
    # Rupee-rounded: 100 paise. Rates by the first row of each table, which is in force or the earliest.
    tax = half_up(sold * 25, 100_000 * 100) if intraday else half_up(both * 100, 100_000 * 100)
    stamp = half_up(bought * (3 if intraday else 15), 100_000 * 100)
    exchange = half_up(both * 297, 10_000_000)
    fund = half_up(both * 10, 10_000_000)
    board = half_up(both * 10, 10_000_000)
    gst = half_up(both * (297 + 10 + 10) * 18, 10_000_000 * 100)
    charges = int((tax * 100 + stamp * 100 + exchange + fund + board + gst).sum())
    return gross, charges, len(traded)


def assert_reproduced(path: Path, interval: Interval, *, limits: RiskLimits | None = None) -> int:
    candles = load(path, interval)

    result = play(candles, limits=limits)

    gross, charges, trades = recompute(candles)
    assert result.ok
    assert len(result.trades) == trades, path
    assert result.pnl.gross == Decimal(gross) / 100, path
    assert result.charges.total == Decimal(charges) / 100, path
    assert result.final_equity == CASH + Decimal(gross - charges) / 100
    assert result.equity().equity[-1] == pytest.approx(float(result.final_equity), abs=0.005)
    return trades


@pytest.mark.parametrize("folder", DAILY)
def test_totals_of_all_daily_candles_are_reproduced_to_the_paisa(shared_data: Path, folder: str) -> None:
    files = sorted((shared_data / "candles" / folder).glob("*.json.gz"))

    trades = sum(assert_reproduced(path, Interval.DAY_1) for path in files)

    assert len(files) >= 6
    assert trades > 200


def test_totals_of_all_minute_candles_of_2016_are_reproduced_to_the_paisa(shared_data: Path) -> None:
    files = sorted((shared_data / "candles" / "minute1_2016").glob("*.json.gz"))

    trades = sum(assert_reproduced(path, Interval.MINUTE_1) for path in files)

    assert len(files) == 5
    assert trades > 1_000


def test_totals_are_the_same_behind_limits_and_journal(shared_data: Path) -> None:
    assert_reproduced(shared_data / "candles" / "daily" / "RELIANCE.json.gz", Interval.DAY_1, limits=RiskLimits())
