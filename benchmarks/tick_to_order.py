"""Tick to order over loopback: from a feed frame leaving the market to the order's last byte reaching it.

    python benchmarks/tick_to_order.py            # the ratios; needs upstox-python-sdk and dhanhq beside hybridbroker
    python benchmarks/tick_to_order.py --check    # exit code 1 where a bar is missed
    python benchmarks/tick_to_order.py --smoke    # quick, whether or not the vendors' clients are installed

The market is a process of its own that sends one protobuf frame, waits for the order, checks its
price against the tick and acknowledges it; it alone reads the clock. Beside ours run the two
vendors' own clients together, and a floor of raw asyncio streams. All take turns in one run, so
ratios carry over to another machine; microseconds do not. Run it on an idle machine: where
others compete for the processors, waiting for a turn drowns what is measured and ratios tend
to 1. Loopback hides the network: this is the client's own share of an order's latency, and no
claim about how fast an order is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from _clients import floor, ours, vendors, vendors_are_installed
from _market import Round, serve

BARS = {1: 1.2, 50: 5.0}
"""Least p50 of the vendors' clients divided by ours, by instruments a frame."""
CLIENTS: Mapping[str, Callable[[int], None]] = {"ours": ours, "vendors": vendors, "floor": floor}
CONDITIONS = (
    "ours: order rate limits raised, order journal off",
    "feed in mode full, one instrument subscribed, every frame with a new price; plain HTTP and WebSocket, no TLS",
)
SKIPPED = "skipped: upstox-python-sdk and dhanhq are not both installed, so ours is compared with the floor alone"

_WARM_UP = 30
_PATIENCE = 120.0
_BUSY = 0.25

Spans = dict[tuple[int, str], list[list[int]]]
"""Nanoseconds by instruments a frame and client, one list per round."""
Row = dict[str, Any]


class Broken(Exception):
    """A client or the market did something wrong, so there is nothing to compare."""


class MarketProcess:
    """Our end of the pipe to the market's process."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self.port = int(self._answer())

    def measure(self, task: Round) -> list[int]:
        """Return nanoseconds per loop."""
        self._control.send(task)
        answer = self._answer()
        if isinstance(answer, str):
            raise Broken(f"{task.client}, {task.instruments} a frame: {answer}")
        return list(answer)

    def _answer(self) -> Any:
        try:
            if self._control.poll(_PATIENCE):
                return self._control.recv()
        except (EOFError, OSError) as exc:
            raise Broken(f"the market's process ended ({exc!r})") from None
        raise Broken(f"the market did not answer within {_PATIENCE:.0f} s")


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run ``target`` in a fresh interpreter until the end of the block."""
    child = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    child.start()
    try:
        yield
    finally:
        child.terminate()
        child.join()


def run(names: Sequence[str], *, rounds: int, loops: int) -> Spans:
    """Measure every client under every setting, in turns that begin with another one each round."""
    spans: Spans = {}
    here, there = multiprocessing.Pipe()
    with ExitStack() as stack:
        stack.enter_context(process(serve, there))
        there.close()
        market = MarketProcess(here)
        for name in names:
            stack.enter_context(process(CLIENTS[name], market.port))
        for instruments in BARS:
            for name in names:
                market.measure(Round(name, instruments, min(loops, _WARM_UP)))
        for turn in range(rounds):
            first = turn % len(names)
            for instruments in BARS:
                for name in (*names[first:], *names[:first]):
                    taken = market.measure(Round(name, instruments, loops))
                    spans.setdefault((instruments, name), []).append(taken)
    return spans


def percentile(values: Sequence[int], percent: int) -> int:
    """Return the smallest of ``values`` that ``percent`` of them do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def rows_of(spans: Spans) -> Iterator[Row]:
    """Yield a row per setting and client: ratios within each round, then microseconds; medians over the rounds."""
    for (instruments, name), rounds in spans.items():
        row: Row = {"instruments": instruments, "client": name}
        for percent in (50, 99):
            own = [percentile(each, percent) for each in rounds]
            for other, label in (("vendors", "vendors_to_this"), ("floor", "this_to_floor")):
                if (instruments, other) in spans:
                    theirs = [percentile(each, percent) for each in spans[instruments, other]]
                    pairs = zip(theirs, own, strict=True) if other == "vendors" else zip(own, theirs, strict=True)
                    row[f"{label}_p{percent}"] = statistics.median(above / below for above, below in pairs)
            row[f"us_p{percent}"] = statistics.median(own) / 1000
        yield row


def missed_bars(rows: Sequence[Row]) -> list[str]:
    """Return a line for each bar that ours misses or that could not be judged."""
    found = {row["instruments"]: row.get("vendors_to_this_p50") for row in rows if row["client"] == "ours"}
    missed = []
    for instruments, bar in BARS.items():
        ratio = found.get(instruments)
        if ratio is None:
            missed.append(f"{instruments} a frame: the bar of {bar} was not judged, the vendors' clients did not run")
        elif ratio < bar:
            missed.append(f"{instruments} a frame: the vendors' p50 is {ratio:.2f} times ours, the bar is {bar}")
    return missed


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table, ratios first."""
    columns = [f"{name}_p{percent}" for name in ("vendors_to_this", "this_to_floor", "us") for percent in (50, 99)]
    yield f"{'':16}{'vendors / this':>16}{'this / floor':>16}{'microseconds':>16}"
    yield f"{'a frame, client':16}" + f"{'p50':>8}{'p99':>8}" * 3 + f"{'bar':>6}"
    for row in rows:
        digits = ("8.0f" if name.startswith("us") else "8.2f" for name in columns)
        cells = (
            f"{row[name]:{form}}" if name in row else f"{'-':>8}" for name, form in zip(columns, digits, strict=True)
        )
        title = f"{row['instruments']}, {row['client']}"
        yield f"{title:16}" + "".join(cells) + (f"{BARS[row['instruments']]:6}" if row["client"] == "ours" else "")


def notes_of(names: Sequence[str], *, rounds: int, loops: int) -> Iterator[str]:
    """Yield what a reader of the figures must know."""
    yield f"{rounds} rounds of {loops} loops for each row; medians over the rounds, ratios within a round"
    yield from CONDITIONS
    if len(names) < len(CLIENTS):
        yield SKIPPED
    load, processors = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > _BUSY * processors:
        yield f"the machine was busy before the run (load {load:.1f} on {processors} processors): ratios tend to 1"


def main() -> int:
    """Print the comparison; return 1 where it broke, or where a bar is missed and ``--check`` asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns each client takes under each setting")
    parser.add_argument("--loops", type=int, default=150, help="frames in each turn")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("--smoke", action="store_true", help="one short turn; bars are not judged")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a bar is missed")
    options = parser.parse_args()
    if options.rounds < 1 or options.loops < 1:
        parser.error("--rounds and --loops begin at 1")
    rounds, loops = (1, 20) if options.smoke else (options.rounds, options.loops)
    names = [name for name in CLIENTS if name != "vendors" or vendors_are_installed()]
    notes = list(notes_of(names, rounds=rounds, loops=loops))
    try:
        rows = list(rows_of(run(names, rounds=rounds, loops=loops)))
    except Broken as exc:
        print(f"broken: {exc}", file=sys.stderr)
        return 1
    missed = [] if options.smoke else missed_bars(rows)
    if options.json:
        print(json.dumps({"rows": rows, "bars": BARS, "notes": notes, "missed": missed}))
    else:
        print("\n".join([*table(rows), *(f"note: {note}" for note in notes)]))
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
