"""A year of minute bars of one share: our backtest beside backtesting.py, same bars, same strategy, one run.

    python benchmarks/backtest.py            # needs pip install backtesting numpy pandas plotly
    python benchmarks/backtest.py --smoke    # twelve days, once, for CI; bars are not judged

The strategy goes long ten shares when a nine-bar average crosses above a twenty-one-bar one, computed bar by bar in
both, and both buy at the next open. Ours is measured bare (as backtesting.py: no charges, no limits), with charges,
and as live, with charges, limits and the order journal. Every round runs each of them once; what is compared is the
processor time of a round, since the machine has other things to do, and the median round counts. The bars:

- bare, which is the same work, no slower than backtesting.py in the median round (without it, nothing is judged);
- the run with charges and its whole report (tables, JSON, the page) in under 3 s.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from attrs import define

import hybridbroker as hb
from hybridbroker.clock import IST
from hybridbroker.domain.market import Candles, Interval
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.result import BacktestResult

FAST, SLOW, UNITS, CASH = 9, 21, 10, 10_000_000
BARE, CHARGED, LIVE = "hybridbroker, bare", "hybridbroker, with charges", "hybridbroker, as live"
THEIRS = "backtesting.py"
REPORT_BAR = 3.0
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


@define
class Took:
    """Seconds of one run, by the clock and by the processor, and what came of it."""

    wall: float
    cpu: float
    value: Any


def timed(call: Callable[[], Any]) -> Took:
    gc.collect()  # so that none pays for what another left
    wall, cpu = time.perf_counter(), time.process_time()
    value = call()
    return Took(time.perf_counter() - wall, time.process_time() - cpu, value)


def reported(result: BacktestResult) -> dict[str, Took]:
    """Make everything a result can show, timed."""
    with tempfile.TemporaryDirectory() as directory:
        return {
            "tables and JSON": timed(lambda: (result.statistics(), result.report(), result.dumps())),
            "HTML page": timed(lambda: result.to_html(Path(directory) / "r.html")),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--live-rounds", type=int, default=1, help="rounds that also run as live, which takes longest")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    candles = year(12 if options.smoke else 250)
    rounds = 1 if options.smoke else options.rounds
    runs: dict[str, Callable[[], Any]] = {
        BARE: lambda: run_ours(candles, limits=None, charges=None),
        CHARGED: lambda: run_ours(candles, limits=None),
    }
    other = theirs(candles)
    if other is not None:
        runs[THEIRS] = other
    took: dict[str, list[Took]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, call in runs.items():
            took[name].append(timed(call))
            if len(took[name]) > 1:
                took[name][-2].value = None
    if options.live_rounds:
        took[LIVE] = [timed(lambda: run_ours(candles)) for _ in range(min(rounds, options.live_rounds))]
    shown = reported(took[CHARGED][-1].value)
    told = summary(took, shown, bars=len(candles))
    if options.as_json:
        print(json.dumps(told))
        return 0
    show(told, rounds=rounds)
    if options.smoke:
        return 0
    missed = [each for each in judged(told) if not each[1]]
    for bar, is_met in judged(told):
        print(f"bar {'met' if is_met else 'MISSED'}: {bar}")
    return int(bool(missed))


def summary(took: dict[str, list[Took]], shown: dict[str, Took], *, bars: int) -> dict[str, Any]:
    """Return the figures: medians, and speeds as multiples of backtesting.py's in the same round."""
    runs = {}
    for name, each in took.items():
        cpu = median(one.cpu for one in each)
        runs[name] = {"seconds": median(one.wall for one in each), "cpu_seconds": cpu, "bars_per_second": bars / cpu}
        if THEIRS in took and name != THEIRS:
            ratios = [theirs.cpu / ours.cpu for theirs, ours in zip(took[THEIRS], each, strict=False)]
            runs[name]["speed_ratio"] = median(ratios)
    report = {name: each.cpu for name, each in shown.items()}
    return {
        "bars": bars,
        "orders": len(took[CHARGED][-1].value.orders),
        "load": os.getloadavg()[0],
        "runs": runs,
        "report_cpu_seconds": report,
        "run_and_report_cpu_seconds": runs[CHARGED]["cpu_seconds"] + sum(report.values()),
    }


def show(told: dict[str, Any], *, rounds: int) -> None:
    print(f"{told['bars']:,} bars, {told['orders']:,} orders; median of {rounds} rounds, load {told['load']:.1f}")
    for name, each in told["runs"].items():
        ratio = f"{each['speed_ratio']:6.2f} x backtesting.py" if "speed_ratio" in each else ""
        print(
            f"  {name:28} {each['cpu_seconds']:6.2f} s cpu  {each['seconds']:6.2f} s  "
            f"{each['bars_per_second']:9,.0f} bars/s  {ratio}"
        )
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in told["report_cpu_seconds"].items())
    print(f"  report: {parts}")


def judged(told: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return each bar with the figure, and whether it was met."""
    whole = told["run_and_report_cpu_seconds"]
    bars = [(f"run and full report in under {REPORT_BAR:.0f} s: {whole:.2f} s of processor", whole < REPORT_BAR)]
    ratio = told["runs"][BARE].get("speed_ratio")
    if ratio is not None:
        bars.append((f"{BARE}, no slower than backtesting.py: {ratio:.2f} times its speed", ratio >= 1))
    return bars


if __name__ == "__main__":
    raise SystemExit(main())
