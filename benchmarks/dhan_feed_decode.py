"""Decoding Dhan's feed packets beside the vendor SDK's ``MarketFeed``, and prices beside its strings.

    python benchmarks/dhan_feed_decode.py                          # dhanhq is installed beside hybridbroker
    python benchmarks/dhan_feed_decode.py --vendor-python PYTHON   # it is installed for another interpreter
    python benchmarks/dhan_feed_decode.py --smoke                  # quick; without dhanhq there are no ratios
    python benchmarks/dhan_feed_decode.py --fuzz 1000000           # mutated frames instead, counted by outcome

Packets are invented: 50 instruments whose prices walk in ticks of five paise. Ours turns each
into a tick and reads everything it holds, typed: prices, times and quantities as numbers,
the day's bar and the book as values. The vendor's side makes its dictionary of strings, and
nothing is read from it. Both take turns, packet kind by packet kind, on CPU time; each ratio
is the median over the rounds, and only ratios carry over to another machine.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import random
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BARS = {"ticker": 2.0, "quote": 1.0, "full": 1.0}
INSTRUMENTS = 50
NOW_MS = 1_789_446_600_500
WALL_S = 1_789_466_400
"""10:00 IST on 15 September 2026 as the feed writes it: the wall clock read as UTC."""
HIGH_PRICES = (131_072.10, 145_210.35, 152_345.65, 187_654.45, 262_143.95)

Decode = Callable[[bytes], object]


class Share:
    """One instrument's day: a price that walks, and what a quote tells of it."""

    def __init__(self, security_id: int, chance: random.Random) -> None:
        self.security_id = security_id
        self.chance = chance
        self.ticks = self.high = self.low = self.open = chance.randrange(4_000, 60_000)
        self.close = self.open + chance.randrange(-200, 200)
        self.lots = 0

    def packet(self, kind: str) -> bytes:
        """Trade once more, and return the packet that tells of it."""
        self.ticks += self.chance.choice((-2, -1, 1, 2))
        self.high, self.low = max(self.high, self.ticks), min(self.low, self.ticks)
        self.lots += 1
        average = round((self.open + self.ticks) / 40, 2)
        day = (self.open / 20, self.close / 20, self.high / 20, self.low / 20)
        return packet(kind, self.security_id, self.ticks / 20, lots=self.lots, average=average, day=day)


def shares(kind: str) -> list[Share]:
    """Return the instruments of a market; the same for the same kind of packet."""
    chance = random.Random(kind)  # noqa: S311 - reproducible prices
    return [Share(1_000 + which, chance) for which in range(INSTRUMENTS)]


def packets_of(kind: str, *, count: int, market: list[Share] | None = None) -> list[bytes]:
    """Return the next packets of a market, no two alike."""
    market = market or shares(kind)
    return [market[index % INSTRUMENTS].packet(kind) for index in range(count)]


def packet(
    kind: str,
    security_id: int,
    price: float,
    *,
    lots: int = 0,
    average: float = 0.0,
    day: tuple[float, float, float, float] = (0, 0, 0, 0),
) -> bytes:
    """Return one packet as Dhan documents it; ``lots`` is how many trades and seconds have gone by."""
    second, volume = WALL_S + lots, 100_000 + 25 * lots
    if kind == "ticker":
        return struct.pack("<BHBIfI", 2, 16, 1, security_id, price, second)
    told = (price, 25, second, average, volume, 45_000 + lots, 52_000 + lots)
    if kind == "quote":
        return struct.pack("<BHBIfHIfIIIffff", 4, 50, 1, security_id, *told, *day)
    rows = b"".join(
        struct.pack("<IIHHff", 100 * n, 75 * n, n, 2 * n, price - n / 20, price + (n - 1) / 20) for n in range(1, 6)
    )
    return struct.pack("<BHBIfHIfIIIIIIffff", 8, 162, 1, security_id, *told, 900_000, 910_000, 890_000, *day) + rows


def our_decoder() -> Any:
    """Return a decoder that knows every instrument."""
    from decimal import Decimal

    from hybridbroker.brokers.dhan.data.feed import FeedDecoder
    from hybridbroker.brokers.dhan.data.packets import feed_key
    from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment

    decoder = FeedDecoder()
    for which in range(INSTRUMENTS):
        share = Instrument(
            id=f"NSE:TEST{which}",
            exchange=Exchange.NSE,
            segment=Segment.CASH,
            kind=InstrumentKind.EQUITY,
            symbol=f"TEST{which}",
            tick_size=Decimal("0.05"),
        )
        decoder.add({feed_key(1, 1_000 + which): share})
    return decoder


def ours(kind: str, decoder: Any) -> Decode:
    """Return the way from bytes to everything they hold, typed."""
    feed = decoder.feed

    def ticker(frame: bytes) -> None:
        for tick in feed(frame, NOW_MS):
            _ = tick.instrument, tick.last_price, tick.traded_ms

    def details(frame: bytes) -> None:
        for tick in feed(frame, NOW_MS):
            _ = tick.instrument, tick.last_price, tick.traded_ms, tick.last_quantity, tick.volume, tick.previous_close
            _ = tick.average_price, tick.total_buy_quantity, tick.total_sell_quantity, tick.day

    def full(frame: bytes) -> None:
        for tick in feed(frame, NOW_MS):
            _ = tick.instrument, tick.last_price, tick.traded_ms, tick.last_quantity, tick.volume, tick.previous_close
            _ = tick.average_price, tick.total_buy_quantity, tick.total_sell_quantity, tick.day
            _ = tick.open_interest, tick.depth.bids, tick.depth.asks

    return {"ticker": ticker, "quote": details, "full": full}[kind]


def vendor_decode() -> Decode:
    """Return the SDK's own way from bytes to dictionary; no connection is made."""
    from dhanhq.marketfeed import MarketFeed

    decode: Decode = MarketFeed.__new__(MarketFeed).process_data
    return decode


def seconds(work: Decode, frames: Sequence[bytes]) -> float:
    """Return the CPU seconds that ``work`` takes over all frames."""
    gc.collect()
    begin = time.thread_time()
    for frame in frames:
        work(frame)
    return time.thread_time() - begin


class Vendor:
    """The SDK, here or in a process of another interpreter; asked for one round at a time."""

    def __init__(self, python: str | None, *, count: int) -> None:
        self._frames = {kind: packets_of(kind, count=count) for kind in BARS}
        self._worker: subprocess.Popen[str] | None = None
        self._decode: Decode | None = None
        if python is None:
            self._decode = vendor_decode()
            return
        command = [python, str(Path(__file__).resolve()), "--vendor-worker", str(count)]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        if self._ask("ready") != "yes":
            raise ImportError(f"{python} has no dhanhq")

    def seconds(self, kind: str) -> float:
        """Return the CPU seconds of one round."""
        if self._decode is not None:
            return seconds(self._decode, self._frames[kind])
        return float(self._ask(kind))

    def price(self, frame: bytes) -> str:
        """Return the last price as the SDK prints it."""
        if self._decode is not None:
            return str(self._decode(frame)["LTP"])  # type: ignore[index]
        return self._ask(frame.hex())

    def close(self) -> None:
        """End the other process."""
        if self._worker is not None:
            self._worker.communicate()

    def _ask(self, question: str) -> str:
        assert self._worker is not None
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        try:
            self._worker.stdin.write(f"{question}\n")
            self._worker.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._worker.stdout.readline().strip()


def serve_as_vendor(count: int) -> int:
    """Answer `Vendor` on the standard streams; needs nothing but dhanhq."""
    try:
        decode = vendor_decode()
    except ImportError:
        return 1
    frames = {kind: packets_of(kind, count=count) for kind in BARS}
    for line in sys.stdin:
        question = line.strip()
        if question == "ready":
            answer = "yes"
        elif question in frames:
            answer = repr(seconds(decode, frames[question]))
        else:
            answer = str(decode(bytes.fromhex(question))["LTP"])  # type: ignore[index]
        print(answer, flush=True)
    return 0


def measure(vendor: Vendor | None, *, rounds: int, count: int) -> list[dict[str, Any]]:
    """Return one row per kind of packet: CPU microseconds of ours and the median ratio to the vendor's."""
    rows = []
    for kind in BARS:
        decoder, market = our_decoder(), shares(kind)
        work = ours(kind, decoder)
        mine: list[float] = []
        theirs: list[float] = []
        for turn in range(rounds + 1):
            # A decoder takes nothing twice, so the day goes on from round to round.
            spent = seconds(work, packets_of(kind, count=count, market=market))
            told = None if vendor is None else vendor.seconds(kind)
            if turn:  # the first round only warms up
                mine.append(spent)
                theirs += [] if told is None else [told]
        row: dict[str, Any] = {"packet": kind, "us": statistics.median(mine) / count * 1e6}
        if theirs:
            row["vendor_us"] = statistics.median(theirs) / count * 1e6
            row["ratio"] = statistics.median(v / m for v, m in zip(theirs, mine, strict=True))
        rows.append(row)
    return rows


def prices_above(vendor: Vendor | None) -> list[dict[str, Any]]:
    """Return what becomes of prices above 131,072 rupees, where single precision is coarser than a paisa."""
    rows = []
    for index, price in enumerate(HIGH_PRICES):
        frame = packet("ticker", 1_000, price, lots=index)
        (tick,) = our_decoder().feed(frame, NOW_MS)
        row: dict[str, Any] = {"sent": f"{price:.2f}", "ours": tick.last_price, "right": tick.last_price == price}
        if vendor is not None:
            row["vendor"] = vendor.price(frame)
        rows.append(row)
    return rows


def fuzz(count: int) -> dict[str, int]:
    """Feed ``count`` mutated frames, and return how often each outcome was met; anything but a tick is counted."""
    from hybridbroker.domain.market import Tick

    chance = random.Random(9)  # noqa: S311 - reproducible damage
    supply = [each for kind in BARS for each in packets_of(kind, count=200)]
    supply += [struct.pack("<BHBII", 5, 12, 1, 1_000, 7), struct.pack("<BHBIfI", 6, 16, 1, 1_000, 99.5, 0)]
    supply += [struct.pack("<BHBI", 7, 8, 1, 0), struct.pack("<BHBIH", 50, 10, 0, 0, 805)]
    decoder, seen = our_decoder(), collections.Counter[str]()
    for _ in range(count):
        frame = bytearray(b"".join(chance.choices(supply, k=chance.choice((1, 1, 1, 2, 3)))))
        for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        cut = chance.randrange(len(frame) + 1) if chance.random() < 0.2 else len(frame)
        for event in decoder.feed(bytes(frame[:cut]), NOW_MS):
            seen[type(event).__name__] += 1
            if isinstance(event, Tick):
                assert 0 < event.last_price < 4e38
                assert event.traded_ms is None or 946_000_000_000 < event.traded_ms < 4_103_000_000_000
                _ = event.details
        seen["Goodbye"] += decoder.goodbye is not None
        decoder.goodbye = None
    return {"frames": count, **seen, **{f"skipped: {reason}": n for reason, n in decoder.skipped.items()}}


def main() -> int:
    """Print the tables; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vendor-python", help="an interpreter that has dhanhq")
    parser.add_argument("--vendor-worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--smoke", action="store_true", help="one quick round; bars are not judged")
    parser.add_argument("--fuzz", type=int, metavar="FRAMES", help="feed mutated frames, and measure nothing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.vendor_worker:
        return serve_as_vendor(options.vendor_worker)
    if options.fuzz:
        for outcome, times in fuzz(options.fuzz).items():
            print(f"{outcome:30} {times:>10}")
        return 0
    rounds, count = (1, 500) if options.smoke else (options.rounds, 5_000)
    notes: list[str] = []
    vendor: Vendor | None = None
    try:
        vendor = Vendor(options.vendor_python, count=count)
    except (ImportError, OSError) as exc:
        notes.append(f"the vendor's side is left out, dhanhq is not there: {exc}")
    rows, prices = measure(vendor, rounds=rounds, count=count), prices_above(vendor)
    if vendor is not None:
        vendor.close()
    missed = [row["packet"] for row in rows if row.get("ratio", float("inf")) < BARS[row["packet"]]]
    missed += [f"price {row['sent']}" for row in prices if not row["right"]]
    if options.json:
        print(json.dumps({"rows": rows, "prices": prices, "notes": notes, "missed": missed}))
    else:
        show(rows, prices, notes)
        if missed and not options.smoke:
            print("missed: " + "; ".join(missed))
    return int(bool(missed) and not options.smoke)


def show(rows: list[dict[str, Any]], prices: list[dict[str, Any]], notes: list[str]) -> None:
    """Print what was found."""
    print(f"{'packet':10} {'us each':>8} {'vendor us':>10} {'x vendor':>9} {'bar':>5}")
    for row in rows:
        times = f"{row['us']:8.2f} {row.get('vendor_us', float('nan')):10.2f} {row.get('ratio', float('nan')):9.1f}"
        print(f"{row['packet']:10} {times} {BARS[row['packet']]:5}")
    print(f"\n{'price sent':12} {'ours':>12} {'vendor':>12}")
    for row in prices:
        print(f"{row['sent']:12} {row['ours']:12.2f} {row.get('vendor', '-'):>12}")
    for note in notes:
        print(f"note: {note}")


if __name__ == "__main__":
    sys.exit(main())
