"""The instrument registry beside pandas and beside a list of models, on both brokers' complete masters.

    python benchmarks/registry.py --upstox complete.json.gz --dhan api-scrip-master-detailed.csv.gz \
        --pandas /path/to/a/python/that/has/pandas
    python benchmarks/registry.py --smoke                     # quick, on invented masters, without pandas

Cold: ours reads, joins and writes the cache; pandas reads both files and merges them by segment and
token, without a cache. Warm: ours opens the cache; the list of models is unpickled and indexed by
id. Every measurement has a process of its own and counts no imports, the sides take turns, and each
figure is the median over the rounds. Only ratios carry over to another machine.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from hybridbroker.domain.instrument import Exchange
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.instruments.rows import unpack

BARS = {
    "cold: seconds beside pandas'": 1.0,
    "cold: peak MB": 400.0,
    "warm: open and first look-up, ms": 5.0,
    "warm: MB above the interpreter": 25.0,
    "first look-up of an instrument, us": 30.0,
    "look-up of one seen before, us": 1.0,
    "option chain of 160, ms": 1.0,
    "search 'relianc', ms": 5.0,
}
FIRST = "NSE:RELIANCE"
SAMPLE = 2_000
CHAIN = 160
CHAINS = 20
NSE = Exchange.NSE

PANDAS = """
import json, sys, time, warnings
import pandas
warnings.simplefilter("ignore")
began = time.perf_counter()
upstox = pandas.read_json(sys.argv[1])
dhan = pandas.read_csv(sys.argv[2])
places = {("NSE", "E"): "NSE_EQ", ("BSE", "E"): "BSE_EQ", ("NSE", "D"): "NSE_FO", ("BSE", "D"): "BSE_FO"}
dhan["segment"] = [places.get(place) for place in zip(dhan.EXCH_ID, dhan.SEGMENT)]
dhan["exchange_token"] = dhan.SECURITY_ID.astype(str)
upstox["exchange_token"] = upstox.exchange_token.astype(str)
merged = upstox.merge(dhan, on=["segment", "exchange_token"])
seconds = time.perf_counter() - began
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps({"seconds": seconds, "peak_mb": peak, "merged": len(merged)}))
"""
BARE = "print(int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) / 1024)"


def peak_mb() -> float:
    """Return the most memory this process ever held; the resource counter would include what its parent held."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and answer of one call."""
    began = time.perf_counter()
    answer = call()
    return time.perf_counter() - began, answer


def cold(upstox: str, dhan: str, database: str) -> dict[str, float]:
    """Read, join and write, as ``hybridbroker instruments build`` does."""
    from hybridbroker.brokers.dhan.instruments import DhanListings
    from hybridbroker.brokers.upstox.instruments import UpstoxListings
    from hybridbroker.instruments.build import nothing_to_collect
    from hybridbroker.instruments.join import join
    from hybridbroker.instruments.writer import write

    began = time.perf_counter()
    readers = [partial(UpstoxListings().read, [Path(upstox)]), partial(DhanListings().read, [Path(dhan)])]
    with nothing_to_collect():
        masters = [read() for read in readers]
        read = time.perf_counter()
        outcome = join(masters)
        joined = time.perf_counter()
        write(Path(database), outcome, masters, built_at=None)
    done = time.perf_counter()
    rows = sum(sum(master.read.values()) for master in masters)
    return {
        "seconds": done - began, "read": read - began, "join": joined - read, "write": done - joined,
        "peak_mb": peak_mb(), "rows": rows, "instruments": len(outcome),
    }  # fmt: skip


def warm(database: str) -> dict[str, float]:
    """Open a built registry and look things up; what is called first meets the file, not a cache of ours."""
    began = time.perf_counter()
    registry = InstrumentRegistry.open(database)
    registry.key(registry[FIRST], "dhan")
    seconds = time.perf_counter() - began
    peak = peak_mb()
    searching, found = timed(lambda: registry.search("relianc"))
    again, _ = timed(lambda: registry.search("relianc"))
    chains = [
        timed(partial(registry.chain, name, expiry=day, exchange=NSE)) for name, day in chains_of(CHAIN, registry)
    ]
    chain = statistics.median(seconds * CHAIN / len(options) for seconds, options in chains)
    names = random.Random(1).sample(  # noqa: S311 - only a sample
        list(registry), min(SAMPLE, len(registry))
    )
    registry = InstrumentRegistry.open(database)
    first, _ = timed(lambda: [registry[name] for name in names])
    seen, _ = timed(lambda: [registry[name] for name in names])
    return {
        "open_ms": seconds * 1e3, "peak_mb": peak, "search_ms": searching * 1e3, "search_again_ms": again * 1e3,
        "chain_ms": chain * 1e3, "first_us": first / len(names) * 1e6,
        "seen_us": seen / len(names) * 1e6, "found_first": found[0].id == FIRST,
    }  # fmt: skip


def chains_of(size: int, registry: InstrumentRegistry) -> list[tuple[str, date]]:
    """Return underlying and expiry of the NSE chains whose lengths are nearest to ``size``."""
    query = "SELECT count(*) FROM instrument WHERE id > ? AND id < ?"
    found = registry._rows("SELECT underlying, day FROM expiry WHERE kind = 'option' AND exchange = 'NSE'")  # noqa: SLF001
    sized = []
    for underlying, day in found:
        prefix = f"NSE:{underlying}:{day}"
        ((count,),) = registry._rows(query, f"{prefix}:", f"{prefix};")  # noqa: SLF001 - its insides
        sized.append((abs(size - count), underlying, day))
    return [(underlying, date.fromisoformat(day)) for _, underlying, day in sorted(sized)[:CHAINS]]


def models(pickled: str) -> dict[str, float]:
    """Load every instrument as an object and find some: what a list of models costs."""
    began = time.perf_counter()
    with Path(pickled).open("rb") as file:
        every = pickle.load(file)  # noqa: S301 - written by this script
    by_id = {instrument.id: instrument for instrument in every}
    _ = by_id[FIRST]
    opened = time.perf_counter() - began
    chain, _ = timed(lambda: [one for one in every if one.symbol == "NIFTY" and one.strike is not None])
    search, _ = timed(lambda: [one for one in every if "RELIANC" in one.symbol or "RELIANC" in one.name])
    collect, _ = timed(gc.collect)
    return {
        "open_ms": opened * 1e3, "peak_mb": peak_mb(), "chain_ms": chain * 1e3, "search_ms": search * 1e3,
        "collect_ms": collect * 1e3,
    }  # fmt: skip


def write_models(database: str, pickled: str) -> None:
    """Save every instrument of a registry as one list."""
    registry = InstrumentRegistry.open(database)
    every = [unpack(*row) for row in registry._rows("SELECT id, terms FROM instrument")]  # noqa: SLF001 - its insides
    with Path(pickled).open("wb") as file:
        pickle.dump(every, file, protocol=5)


PARTS: dict[str, Callable[..., Any]] = {"cold": cold, "warm": warm, "models": models, "write-models": write_models}


def apart(*words: str, python: str = sys.executable) -> Any:
    """Run one part in a process of its own."""
    done = subprocess.run([python, *words], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:3])[:80]}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def compare(upstox: str, dhan: str, *, pandas: str | None, rounds: int) -> dict[str, Any]:
    """Let the sides take turns; return medians."""
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "pandas": [], "warm": [], "models": []}
    with tempfile.TemporaryDirectory() as folder:
        database, pickled = f"{folder}/registry.sqlite", f"{folder}/models.pickle"
        for number in range(rounds):
            runs["cold"].append(apart(__file__, "--part", "cold", upstox, dhan, database))
            if number == 0:
                apart(__file__, "--part", "write-models", database, pickled)
            if pandas is not None:
                runs["pandas"].append(apart("-c", PANDAS, upstox, dhan, python=pandas))
            runs["warm"].append(apart(__file__, "--part", "warm", database))
            runs["models"].append(apart(__file__, "--part", "models", pickled))
    bare = apart("-c", BARE)
    return {"bare_mb": bare, **{name: medians(each) for name, each in runs.items() if each}}


def medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def verdicts(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that have a bar."""
    ours, warmed = figures["cold"], figures["warm"]
    found = {
        "cold: peak MB": ours["peak_mb"],
        "warm: open and first look-up, ms": warmed["open_ms"],
        "warm: MB above the interpreter": warmed["peak_mb"] - figures["bare_mb"],
        "first look-up of an instrument, us": warmed["first_us"],
        "look-up of one seen before, us": warmed["seen_us"],
        "option chain of 160, ms": warmed["chain_ms"],
        "search 'relianc', ms": warmed["search_ms"],
    }
    if "pandas" in figures:
        found["cold: seconds beside pandas'"] = ours["seconds"] / figures["pandas"]["seconds"]
    return found


def report(figures: dict[str, Any]) -> None:
    bare, ours, warmed, listed = (figures[name] for name in ("bare_mb", "cold", "warm", "models"))
    parts = ", ".join(f"{name} {ours[name]:.2f}" for name in ("read", "join", "write"))
    print(f"{ours['rows']:,.0f} rows, {ours['instruments']:,.0f} instruments; {figures['rounds']} rounds, medians")
    print(f"cold    ours   {ours['seconds']:7.2f} s ({parts}), peak {ours['peak_mb']:.0f} MB, cache written")
    if "pandas" in figures:
        beside = figures["pandas"]
        print(f"        pandas {beside['seconds']:7.2f} s, peak {beside['peak_mb']:.0f} MB, no cache")
    print(f"warm    ours   {warmed['open_ms']:7.2f} ms, {warmed['peak_mb'] - bare:.0f} MB above the interpreter")
    garbage = f"{listed['collect_ms']:.0f} ms for each full garbage collection"
    print(f"        models {listed['open_ms']:7.0f} ms, {listed['peak_mb'] - bare:.0f} MB, {garbage}")
    print(f"look-up ours   {warmed['first_us']:7.2f} us first, {warmed['seen_us']:.2f} us again")
    print(f"chain   ours   {warmed['chain_ms']:7.2f} ms per {CHAIN}, not met before;", end=" ")
    print(f"models, scanned: {listed['chain_ms']:.1f} ms")
    print(f"search  ours   {warmed['search_ms']:7.2f} ms, then {warmed['search_again_ms']:.2f};", end=" ")
    print(f"models, scanned and unranked: {listed['search_ms']:.1f} ms")
    for name, figure in verdicts(figures).items():
        print(f"{'ok  ' if figure <= BARS[name] else 'OVER'} {name}: {figure:.3g} (bar {BARS[name]:g})")


def invent(folder: Path) -> tuple[str, str]:
    """Write small masters in both formats: a share, and one chain of an index."""
    contracts = [(9000 + number, 20_000 + 50 * (number // 2), ("CE", "PE")[number % 2]) for number in range(CHAIN)]
    common = {"lot_size": 75, "tick_size": 5.0, "expiry": 1_795_544_999_000, "underlying_symbol": "NIFTY"}
    rows: list[dict[str, Any]] = [
        {
            "segment": "NSE_FO", "instrument_key": f"NSE_FO|{token}", "exchange_token": str(token),
            "instrument_type": right, "strike_price": float(strike), **common,
        }
        for token, strike, right in contracts
    ]  # fmt: skip
    share = {
        "segment": "NSE_EQ", "instrument_key": "NSE_EQ|INE111A01011", "isin": "INE111A01011", "exchange_token": "1",
        "instrument_type": "EQ", "trading_symbol": "RELIANCE", "name": "RELIANCE", "lot_size": 1, "tick_size": 10.0,
    }  # fmt: skip
    upstox, dhan = folder / "upstox.json.gz", folder / "dhan.csv"
    upstox.write_bytes(gzip.compress(json.dumps([share, *rows]).encode()))
    header = (
        "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,"
        "OPTION_TYPE,TICK_SIZE,SYMBOL_NAME,DISPLAY_NAME,UNDERLYING_SYMBOL,UNDERLYING_SECURITY_ID"
    )
    lines = [
        f"NSE,D,{token},NA,OPTIDX,OP,NA,75.0,2026-11-24,{strike}.0,{right},5.0,x,x,NIFTY,26000"
        for token, strike, right in contracts
    ]
    lines.append("NSE,E,1,INE111A01011,EQUITY,ES,EQ,1.0,,,,10.0,RELIANCE LTD,Reliance,RELIANCE,")
    dhan.write_text("\n".join([header, *lines, ""]))
    return str(upstox), str(dhan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstox", help="Upstox's complete JSON master")
    parser.add_argument("--dhan", help="Dhan's detailed CSV master")
    parser.add_argument("--pandas", help="an interpreter that has pandas; without it pandas is left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="invented masters, one round, no bars")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](*given.files)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.smoke:
            masters, rounds = invent(Path(folder)), 1
        elif given.upstox and given.dhan:
            masters, rounds = (given.upstox, given.dhan), given.rounds
        else:
            parser.error("give --upstox and --dhan, or --smoke")
        figures = {"rounds": rounds, **compare(*masters, pandas=given.pandas, rounds=rounds)}
    if given.json:
        print(json.dumps({**figures, "bars": {} if given.smoke else verdicts(figures)}))
    else:
        report(figures)


if __name__ == "__main__":
    main()
