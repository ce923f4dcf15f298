"""The instrument registry beside pandas and beside a list of models, on both brokers' complete masters.

    python benchmarks/registry.py --upstox complete.json.gz --dhan api-scrip-master-detailed.csv.gz \
        --pandas /path/to/python-with-pandas
    python benchmarks/registry.py --smoke                     # quick, on invented masters, without pandas

Cold: ours reads, joins and writes the cache; pandas reads both files and merges them by exchange
segment and token, without a cache. Warm: ours opens the cache; the list of models is unpickled and
indexed by id. Every measurement has a process of its own, imports are not counted, the two sides take
turns, and each figure is a median over the rounds. Only ratios carry over to another machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import pickle
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BARS = {
    "cold build / pandas": 1.0,
    "cold build, peak MB": 400.0,
    "warm open and first look-up, ms": 5.0,
    "warm, MB above the interpreter": 25.0,
    "first look-up of an instrument, us": 30.0,
    "look-up of one seen before, us": 1.0,
    "option chain of 160, ms": 1.0,
    "search 'relianc', ms": 5.0,
}
SAMPLE = 2_000
CHAIN = 160

PANDAS = """
import json, resource, sys, time
import pandas
began = time.perf_counter()
upstox = pandas.read_json(sys.argv[1])
dhan = pandas.read_csv(sys.argv[2], keep_default_na=False, low_memory=False)
places = {("NSE", "E"): "NSE_EQ", ("BSE", "E"): "BSE_EQ", ("NSE", "D"): "NSE_FO", ("BSE", "D"): "BSE_FO"}
dhan["segment"] = [places.get(place) for place in zip(dhan.EXCH_ID, dhan.SEGMENT)]
dhan["exchange_token"] = dhan.SECURITY_ID.astype(str)
upstox["exchange_token"] = upstox.exchange_token.astype(str)
merged = upstox.merge(dhan, on=["segment", "exchange_token"], how="inner")
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "rows": len(merged)}))
"""


def peak_mb() -> float:
    """Return the most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cold(upstox: str, dhan: str, out: str) -> dict[str, float]:
    """Read, join and write, as ``hybridbroker instruments build`` does."""
    from hybridbroker.brokers.dhan.instruments import DhanListings
    from hybridbroker.brokers.upstox.instruments import UpstoxListings
    from hybridbroker.instruments import store
    from hybridbroker.instruments.join import join

    began = time.perf_counter()
    with store.nothing_to_collect():
        masters = [UpstoxListings().read([Path(upstox)]), DhanListings().read([Path(dhan)])]
        read = time.perf_counter() - began
        outcome = join(masters)
        joined = time.perf_counter() - began
        store.write(Path(out), outcome, masters, built_at=None)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds, "read": read, "join": joined - read, "write": seconds - joined, "peak_mb": peak_mb(),
        "rows": sum(sum(master.read.values()) for master in masters),
    }  # fmt: skip


def warm(database: str) -> dict[str, Any]:
    """Open a built registry and look things up."""
    bare = peak_mb()
    from hybridbroker.instruments.registry import InstrumentRegistry

    began = time.perf_counter()
    registry = InstrumentRegistry.open(database)
    first = next(iter(registry._rows("SELECT id FROM instrument WHERE id >= 'NSE:RELIANCE' ORDER BY id LIMIT 1")))[0]
    opened = time.perf_counter() - began
    began = time.perf_counter()
    again = InstrumentRegistry.open(database)
    share = again[first]
    again.keys_of(share)
    opened = min(opened, time.perf_counter() - began) if False else time.perf_counter() - began
    after = peak_mb()
    return {"bare": bare, "opened": opened, "after": after}
