"""What guard and journal cost an order: place_order with and without them, over loopback, in one interleaved run.

```
python benchmarks/journal.py [--pairs 200] [--directory DIR] [--json]
```

The emulator runs in a process of its own. Calls are spaced so that no write rate ever holds one
up; the broker slice's own per-minute limit is raised, which is said in the output. The sync of
the intent is measured by the journal itself and shown separately, since it is the disk's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hybridbroker.brokers.dhan import broker as trading
from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.limits import LIMITS
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import SystemClock
from hybridbroker.domain.orders import LimitOrder, Side
from hybridbroker.execution import RiskLimits, guarded
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.transport.limits import Window

_SPACING = 0.11
_LIMITS = {**LIMITS, "order": (Window(limit=10, seconds=1.05),)}
_REGISTRY = InstrumentRegistry.builtin()
_RELIANCE = _REGISTRY["NSE:RELIANCE"]


@contextmanager
def emulator() -> Iterator[dict[str, Any]]:
    """Run both emulators in another process and yield Dhan's address."""
    command = [sys.executable, "-m", "hybridbroker", "emulate", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["dhan"]
    finally:
        process.terminate()
        process.wait()


def at(address: dict[str, Any]) -> trading.DhanBroker:
    settings = DhanSettings(
        client_id=address["client_id"],
        access_token=address["access_token"],
        base_url=address["rest"],
        order_updates_url=address["order_updates"],
        keep_warm_seconds=0,
    )
    with patch.object(trading, "DhanClient", partial(DhanClient, limits=_LIMITS)):
        return trading.DhanBroker(settings, instruments=_REGISTRY, clock=SystemClock())


def order(number: int) -> LimitOrder:
    # A price of its own each, far from the market: nothing fills, and no two are duplicates.
    price = Decimal(1000) + Decimal("0.1") * number
    return LimitOrder(_RELIANCE, Side.BUY, quantity=1, price=price)


async def measure(address: dict[str, Any], *, pairs: int, directory: Path) -> dict[str, Any]:
    bare_times, guarded_times, sync_times = [], [], []
    async with at(address) as plain, at(address) as wrapped:
        broker = guarded(
            wrapped, directory=directory, limits=RiskLimits(max_order_value=100_000, max_day_value=100_000_000)
        )
        async with broker:
            journal = broker._broker._journal  # noqa: SLF001 - its own stopwatch
            for number in range(pairs + 10):
                started = time.perf_counter()
                await plain.place_order(order(2 * number))
                bare = time.perf_counter() - started
                await asyncio.sleep(_SPACING)
                started = time.perf_counter()
                await broker.place_order(order(2 * number + 1))
                whole = time.perf_counter() - started
                await asyncio.sleep(_SPACING)
                if number >= 10:  # the first ones warm caches and connections
                    bare_times.append(bare)
                    guarded_times.append(whole)
                    sync_times.append(journal.sync_seconds[-1])
    without = [whole - sync for whole, sync in zip(guarded_times, sync_times, strict=True)]
    return {
        "pairs": pairs,
        "per_minute_limit_of_the_slice": "raised",
        "bare_ms": summary(bare_times),
        "guard_and_journal_ms": summary(guarded_times),
        "sync_ms": summary(sync_times),
        "guard_and_journal_without_sync_ms": summary(without),
        "ratio_p50_without_sync": round(statistics.median(without) / statistics.median(bare_times), 3),
        "ratio_p50_with_sync": round(statistics.median(guarded_times) / statistics.median(bare_times), 3),
    }


def summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50": round(statistics.median(ordered) * 1e3, 3),
        "p90": round(ordered[round((len(ordered) - 1) * 0.9)] * 1e3, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--directory", type=Path, help="where the journal goes; its disk's sync is what is measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="few pairs, to see that it runs; the ratios mean nothing")
    options = parser.parse_args()
    if options.smoke:
        options.pairs = 5
    logging.getLogger("hybridbroker").setLevel(logging.ERROR)
    with emulator() as address, tempfile.TemporaryDirectory(dir=options.directory) as directory:
        result = asyncio.run(measure(address, pairs=options.pairs, directory=Path(directory)))
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
