"""Tick to order over loopback: from a feed frame leaving the market to the order's last byte reaching it.

    python benchmarks/tick_to_order.py            # the ratios; needs upstox-python-sdk and dhanhq beside hybridbroker
    python benchmarks/tick_to_order.py --check    # exit code 1 where a bar is missed
    python benchmarks/tick_to_order.py --smoke    # quick, whether or not the vendors' clients are installed

The market is a process of its own that sends one protobuf frame, waits for the order, checks its
price against the tick and acknowledges it; it alone reads the clock. Beside ours run the two
vendors' own clients together, and a floor of raw asyncio streams. All take turns in one run, so
ratios carry over to another machine; microseconds do not. Loopback hides the network: this is
the client's own share of an order's latency, and no claim about how fast an order is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from _clients import floor, ours, vendors, vendors_are_installed
from _market import Round, serve

BARS = {1: 1.2, 50: 5.0}
"""Least p50 of the vendors' clients divided by ours, by instruments a frame."""
CONDITIONS = (
    "ours: order rate limits raised, order journal off",
    "feed in mode full, one instrument subscribed; no TLS; market and clients on processors of their own where possible",
)
CLIENTS: Mapping[str, Callable[[int], None]] = {"ours": ours, "vendors": vendors, "floor": floor}

_WARM_UP = 30
_PATIENCE = 120.0

Spans = dict[tuple[int, str], list[list[int]]]
"""Nanoseconds by instruments a frame and client, one list per round."""


class Broken(Exception):
    """A client or the market did something wrong, so there is nothing to compare."""


class MarketProcess:
    """The market's end of the pipe."""

    def __init__(self, control: Any) -> None:
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
    """Measure every client under every setting, taking turns; each has its warm-up first."""
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


def percentile(values: Sequence[int], share: float) -> float:
    """Return the smallest value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return float(ordered[max(0, -int(-share * len(ordered) // 1) - 1)])


def rows_of(spans: Spans) -> Iterator[dict[str, Any]]:
    """Yield one row per setting and client: medians over the rounds, and ratios of the same round's p50 and p99."""
    for (instruments, name), mine in spans.items():
        row: dict[str, Any] = {"instruments": instruments, "client": name}
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            own = [percentile(each, share) for each in mine]
            for other, kind in (("vendors", f"vendors/{label}"), ("floor", f"floor/{label}")):
                theirs = [percentile(each, share) for each in spans.get((instruments, other), [])]
                if theirs and other == "vendors":
                    row[kind] = statistics.median(v / o for v, o in zip(theirs, own, strict=True))
                elif theirs:
                    row[kind] = statistics.median(o / v for v, o in zip(theirs, own, strict=True))
            row[f"{label}_us"] = statistics.median(own) / 1000
        yield row


def missed_bars(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each bar that ours misses or that could not be judged."""
    found = {row["instruments"]: row.get("vendors/p50") for row in rows if row["client"] == "ours"}
    missed = []
    for instruments, bar in BARS.items():
        ratio = found.get(instruments)
        case = f"tick to order, {instruments} a frame"
        if ratio is None:
            missed.append(f"{case}: not compared, so the bar of {bar} cannot be judged")
        elif ratio < bar:
            missed.append(f"{case}: the vendors' p50 is {ratio:.2f} times ours, the bar is {bar}")
    return missed


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table, ratios first."""
    yield f"{'':20}{'vendors / this':>18}{'this / floor':>18}{'microseconds':>18}"
    yield f"{'a frame, client':20}" + f"{'p50':>9}{'p99':>9}" * 3 + f"{'bar':>6}"
    names = ("vendors/p50", "vendors/p99", "floor/p50", "floor/p99")
    for row in rows:
        ratios = "".join(f"{row[name]:9.2f}" if name in row else f"{'-':>9}" for name in names)
        bar = BARS[row["instruments"]] if row["client"] == "ours" else ""
        title = f"{row['instruments']}, {row['client']}"
        yield f"{title:20}{ratios}{row['p50_us']:9.0f}{row['p99_us']:9.0f}{bar:>6}"


def main() -> int:
    """Print the comparison; return 1 where it broke, or where a bar is missed and ``--check`` asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns each client takes under each setting")
    parser.add_argument("--loops", type=int, default=300, help="frames in each turn")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("--smoke", action="store_true", help="one short turn; bars are not judged")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a bar is missed")
    options = parser.parse_args()
    if options.rounds < 1 or options.loops < 1:
        parser.error("--rounds and --loops begin at 1")
    rounds, loops = (1, 20) if options.smoke else (options.rounds, options.loops)
    notes = [f"{rounds} rounds of {loops} loops, medians over the rounds", *CONDITIONS]
    names = list(CLIENTS)
    if not vendors_are_installed():
        names.remove("vendors")
        notes.append("skipped: upstox-python-sdk and dhanhq are not both installed, so there is nothing to compare with")
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
