"""A year of minute bars of one share: our backtest beside backtesting.py, same bars, same strategy, one run.

    python benchmarks/backtest.py            # needs pip install backtesting numpy pandas
    python benchmarks/backtest.py --quick    # a twentieth, for CI; without backtesting.py it measures us alone

The strategy goes long ten shares when a nine-bar average crosses above a twenty-one-bar one, computed bar by bar in
both, and both buy at the next open. Ours is measured bare (as backtesting.py: no charges, no limits), with charges,
and as live, with charges, limits and the order journal; the order of the runs alternates, the best of each counts.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import hybridbroker as hb
from hybridbroker.clock import IST
from hybridbroker.domain.market import Candles, Interval
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.result import BacktestResult

FAST, SLOW, UNITS, CASH = 9, 21, 10, 10_000_000
RELIANCE = InstrumentRegistry.builtin()["NSE:RELIANCE"]


def year(days: int) -> Candles:
    """Minute bars from a seeded walk, on weekdays from 1 January 2025."""
    rng = random.Random(7)  # noqa: S311 - a reproducible market, no secret
    day, left, price = date(2025, 1, 1), days, 1400.0
    columns: dict[str, list[Any]] = {name: [] for name in ("start", "open", "high", "low", "close", "volume")}
    while left:
        if day.weekday() < 5:
            left -= 1
            opens = datetime(day.year, day.month, day.day, 9, 15, tzinfo=IST)
            for minute in range(375):
                first = price
                price = round(price * (1 + rng.gauss(0, 0.0006)) * 20) / 20
                columns["start"].append(opens + timedelta(minutes=minute))
                columns["open"].append(first)
                columns["high"].append(max(first, price) + 0.05)
                columns["low"].append(min(first, price) - 0.05)
                columns["close"].append(price)
                columns["volume"].append(rng.randrange(100, 10_000))
        day += timedelta(days=1)
    return Candles(
        instrument=RELIANCE, interval=Interval.MINUTE_1, open_interest=[0] * len(columns["start"]), **columns
    )


class Ours(hb.Strategy):
    interval = Interval.MINUTE_1
    instruments = (RELIANCE,)

    async def on_start(self, session: hb.TradingSession) -> None:
        self.broker, self.held, self.fast, self.slow = session.broker, False, 0.0, 0.0

    async def on_candle(self, candle: hb.Candle) -> None:
        close = candle.close
        self.fast = close if not self.fast else self.fast + 2 / (FAST + 1) * (close - self.fast)
        self.slow = close if not self.slow else self.slow + 2 / (SLOW + 1) * (close - self.slow)
        wanted = self.fast > self.slow
        if wanted is not self.held:
            self.held = wanted
            side = hb.Side.BUY if wanted else hb.Side.SELL
            await self.broker.place_order(hb.MarketOrder(RELIANCE, side, quantity=UNITS))


def run_ours(candles: Candles, **options: Any) -> BacktestResult:
    return simulate(Ours(), candles, cash=Decimal(CASH), **options)


def theirs(candles: Candles) -> Callable[[], int] | None:
    """Return a run of backtesting.py that returns the number of its trades, or None where it is not installed."""
    try:
        import pandas as pd
        from backtesting import Backtest, Strategy
    except ImportError:
        return None

    class Theirs(Strategy):  # type: ignore[misc,unused-ignore]
        def init(self) -> None:
            self.fast = self.slow = 0.0

        def next(self) -> None:
            close = self.data.Close[-1]
            self.fast = close if not self.fast else self.fast + 2 / (FAST + 1) * (close - self.fast)
            self.slow = close if not self.slow else self.slow + 2 / (SLOW + 1) * (close - self.slow)
            if self.fast > self.slow:
                if not self.position:
                    self.buy(size=UNITS)
            elif self.position:
                self.position.close()

    frame = pd.DataFrame(
        {name.title(): list(getattr(candles, name)) for name in ("open", "high", "low", "close", "volume")},
        index=pd.DatetimeIndex([at.replace(tzinfo=None) for at in candles.start]),
    )

    def once() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return len(Backtest(frame, Theirs, cash=CASH, finalize_trades=False).run()["_trades"])

    return once


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds of the wall clock, seconds of the processor, and what came of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = call()
    return time.perf_counter() - wall, time.process_time() - cpu, value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    candles = year(12 if options.quick else 250)
    runs: dict[str, Callable[[], Any]] = {
        "hybridbroker, bare": lambda: run_ours(candles, limits=None, charges=None),
        "hybridbroker, with charges": lambda: run_ours(candles, limits=None),
        "hybridbroker, as live": lambda: run_ours(candles),
    }
    other = theirs(candles)
    if other is not None:
        runs["backtesting.py"] = other
    best: dict[str, tuple[float, float, Any]] = {}
    for _ in range(1 if options.quick else options.rounds):
        for name, call in runs.items():
            took = timed(call)
            best[name] = min(best.get(name, took), took, key=lambda each: each[0])
    result: BacktestResult = best["hybridbroker, with charges"][2]
    with tempfile.TemporaryDirectory() as directory:
        shown, _, _ = timed(lambda: (result.statistics(), result.report(), result.dumps()))
        page, _, _ = timed(lambda: result.to_html(Path(directory) / "r.html"))
    bars = len(candles)
    figures = {
        name: {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "bars_per_second": round(bars / wall)}
        for name, (wall, cpu, _) in best.items()
    }
    told = {"bars": bars, "orders": len(result.orders), "runs": figures, "tables_s": shown, "html_s": page}
    if options.as_json:
        print(json.dumps(told))
        return
    print(f"{bars:,} bars, {len(result.orders):,} orders; best of {options.rounds}")
    for name, each in figures.items():
        print(f"  {name:28} {each['seconds']:7.2f} s  {each['bars_per_second']:9,} bars/s  ({each['cpu_seconds']} cpu)")
    print(f"  report: tables and JSON {shown:.2f} s, HTML page {page:.2f} s")


if __name__ == "__main__":
    main()
