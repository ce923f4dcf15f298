"""Feed decoding beside the vendor SDK's ``FromString`` + ``MessageToDict``, on recorded full-mode frames.

    python benchmarks/feed_decode.py RECORDING.frames.gz      # needs upstox-python-sdk beside hybridbroker
    python benchmarks/feed_decode.py --smoke                  # quick, on invented frames, without the SDK

A recording is gzip: frames of wire bytes, each after its length as a little-endian uint32.
Ours delivers every tick and reads last price, trade time, volume and previous close; "with
depth" makes the five levels of both sides as well. The vendor's side makes its dictionary, and
nothing is read from it. Updates that repeat the one before are left out beforehand, since ours
passes over them. All ways take turns in one process, and each ratio is the median over
the rounds; only ratios carry over to another machine.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import itertools
import json
import os
import statistics
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridbroker.brokers.upstox.data.feed import FeedDecoder
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import Tick

BARS = {"1, headline": 12.0, "50, headline": 16.0, "1, with depth": 7.0, "50, with depth": 8.0}
MAX_BYTES = 3 * 1024
CACHE = 5000
COPIES = 5
BATCH = 50
NOW = 1_765_771_374_200

Decode = Callable[[bytes], object]


def recorded_entries(path: Path) -> list[tuple[str, bytes]]:
    """Return the (key, Feed) pairs of a recording, in order, without those that repeat the one before."""
    data, at = gzip.decompress(path.read_bytes()), 0
    entries: list[tuple[str, bytes]] = []
    before: dict[str, bytes] = {}
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        for key, body in pb.FeedFrame.FromString(data[at + 4 : at + 4 + length]).feeds.items():
            if before.get(key) != body:
                entries.append((key, body))
            before[key] = body
        at += 4 + length
    return entries


def invented_entries(count: int) -> list[tuple[str, bytes]]:
    """Return full-mode entries of the usual size."""
    return [(f"NSE_FO|{index % 9}", _invented(index).SerializeToString()) for index in range(count)]


def _invented(index: int) -> pb.Feed:
    price = 100.0 + index % 40 / 20
    levels = [pb.Quote(bidQ=75 * n, bidP=price - n / 20, askQ=150 * n, askP=price + n / 20) for n in range(1, 6)]
    bars = [
        pb.OHLC(interval=name, open=99.5, high=120.0, low=98.0, close=price, vol=9000 + index, ts=1_765_771_260_000)
        for name in ("1d", "I1")
    ]
    market = pb.MarketFullFeed(
        ltpc=pb.LTPC(ltp=price, ltt=1_765_771_374_077 + index, ltq=75, cp=96.4),
        marketLevel=pb.MarketLevel(bidAskQuote=levels),
        optionGreeks=pb.OptionGreeks(delta=0.57, theta=-16.9, gamma=0.0003, vega=47.7, rho=13.9),
        marketOHLC=pb.MarketOHLC(ohlc=bars),
        atp=103.2,
        vtt=240_000 + index,
        oi=240_940.0,
        iv=0.108,
        tbq=25_375.0,
        tsq=35_770.0,
    )
    return pb.Feed(fullFeed=pb.FullFeed(marketFF=market), requestMode=pb.full_d5)


def frames_of(entries: Sequence[tuple[str, bytes]], *, size: int, keys: int) -> tuple[list[bytes], list[str]]:
    """Merge entries into frames of ``size`` instruments; key ``i`` always replays one recorded instrument."""
    by_key: dict[str, list[bytes]] = {}
    for key, body in entries:
        by_key.setdefault(key, []).append(body)
    names = [f"{name}#{index}" for index, name in zip(range(keys), itertools.cycle(by_key), strict=False)]
    turns = max(1, len(entries) // keys)
    supply: dict[str, Iterator[bytes]] = {}
    for index, name in enumerate(names):
        known = by_key[name.partition("#")[0]]
        supply[name] = itertools.islice(known, index % (len(known) - turns), None)  # never back in time
    order = [name for _ in range(turns) for name in names]
    frames = []
    for first in range(0, len(order), size):
        feeds = {name: next(supply[name]) for name in order[first : first + size]}
        frames.append(pb.FeedFrame(type=pb.live_feed, feeds=feeds, currentTs=1_765_771_374_100).SerializeToString())
    return frames, names


def snapshot_of(frame: bytes) -> bytes:
    """Return the frame as the first of a connection."""
    cut = pb.FeedFrame.FromString(frame)
    cut.type = pb.initial_feed
    return cut.SerializeToString()


def decoder_for(keys: Sequence[str]) -> FeedDecoder:
    """Return a decoder that knows ``keys``."""
    decoder = FeedDecoder()
    decoder.add({key: _instrument(key) for key in keys})
    return decoder


def _instrument(key: str) -> Instrument:
    return Instrument(
        id=key, exchange=Exchange.NSE, segment=Segment.DERIVATIVES, kind=InstrumentKind.FUTURE, symbol="X"
    )


def read_headline(decoder: FeedDecoder, frame: bytes) -> None:
    """Deliver a frame and read what most strategies read."""
    for tick in decoder.feed(frame, NOW):
        assert isinstance(tick, Tick)
        _ = tick.last_price, tick.traded_ms, tick.volume, tick.previous_close


def read_depth(decoder: FeedDecoder, frame: bytes) -> None:
    """As `read_headline`, and every price and quantity of the book."""
    for tick in decoder.feed(frame, NOW):
        assert isinstance(tick, Tick)
        _ = tick.last_price, tick.traded_ms, tick.volume, tick.previous_close
        depth = tick.depth
        assert depth is not None
        _ = depth.bids, depth.asks


def vendor_decode() -> Decode | None:
    """Return the SDK's own way from bytes to dictionary, or None where it is not installed."""
    try:
        from google.protobuf.json_format import MessageToDict
        from upstox_client.feeder.proto import MarketDataFeedV3_pb2 as vendor
    except ImportError:
        return None

    def decode(frame: bytes) -> object:
        return MessageToDict(vendor.FeedResponse.FromString(frame))

    return decode


def seconds(work: Callable[[bytes], object], frames: Sequence[bytes]) -> float:
    """Return how long ``work`` takes over all frames."""
    gc.collect()
    begin = time.thread_time()
    for frame in frames:
        work(frame)
    return time.thread_time() - begin


def measure(entries: Sequence[tuple[str, bytes]], vendor: Decode | None, *, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield one row per case: CPU microseconds per instrument and the median ratio to the vendor's."""
    for size in (1, BATCH):
        frames, keys = frames_of(entries[: 10 * BATCH], size=size, keys=BATCH)
        ours = decoder_for(keys)
        greetings, frames = [snapshot_of(frame) for frame in frames[: BATCH // size]], frames[BATCH // size :]
        for frame in greetings:
            ours.feed(frame, NOW)
        assert sum(len(ours.feed(frame, NOW)) for frame in frames) == len(frames) * size, "not every tick is delivered"
        ways: dict[str, Callable[[bytes], object]] = {
            "headline": lambda frame, ours=ours: read_headline(ours, frame),  # type: ignore[misc]
            "with depth": lambda frame, ours=ours: read_depth(ours, frame),  # type: ignore[misc]
            "raw parse": pb.FeedResponse.FromString,
        }
        if vendor is not None:
            ways["vendor"] = vendor
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for name, way in ways.items():
                for frame in greetings:  # the same frames come once more: without a new beginning they would be late
                    ours.feed(frame, NOW)
                spent = seconds(way, frames)
                if turn:  # the first round only warms up
                    taken[name].append(spent)
        count = len(frames) * size
        for name, spans in taken.items():
            row: dict[str, Any] = {"case": f"{size}, {name}", "us": statistics.median(spans) / count * 1e6}
            if vendor is not None:
                row["ratio"] = statistics.median(v / s for v, s in zip(taken["vendor"], spans, strict=True))
            yield row


def cache_bytes(entries: Sequence[tuple[str, bytes]]) -> dict[str, float]:
    """Return bytes per instrument of a last-tick cache, the decoder's own state included.

    Python's own allocations are traced; the messages live in protobuf's memory, which only
    shows as growth of the resident set (told where /proc is; several caches, so that memory
    freed before counts for little).
    """
    frames, keys = frames_of(entries, size=BATCH, keys=CACHE)

    def fill() -> tuple[FeedDecoder, dict[str, Tick]]:
        decoder = decoder_for(keys)
        ticks = itertools.chain.from_iterable(decoder.feed(frame, NOW) for frame in frames)
        return decoder, {tick.instrument.id: tick for tick in ticks if isinstance(tick, Tick)}

    gc.collect()
    before, kept = resident(), [fill() for _ in range(COPIES)]
    assert all(len(cache) == CACHE for _, cache in kept)
    told = {} if before is None else {"resident": ((resident() or 0) - before) / CACHE / COPIES}
    kept.clear()
    gc.collect()
    tracemalloc.start()
    kept.append(fill())
    told["traced"] = tracemalloc.get_traced_memory()[0] / CACHE
    tracemalloc.stop()
    return told


def resident() -> int | None:
    """Return this process's resident bytes, where the system says."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if statm.exists() else None


def main() -> int:
    """Print the table; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, nargs="?", help="*.frames.gz of full-mode entries")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--smoke", action="store_true", help="one quick round; bars are not judged")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    notes: list[str] = []
    if options.recording is None:
        notes.append("no recording given: frames are invented")
    entries = invented_entries(2000) if options.recording is None else recorded_entries(options.recording)
    vendor = vendor_decode()
    if vendor is None:
        notes.append("upstox-python-sdk is not installed: no ratios")
    memory = cache_bytes(entries)  # first, while the process is still small
    rows = list(measure(entries, vendor, rounds=1 if options.smoke else options.rounds))
    missed = [row["case"] for row in rows if row.get("ratio", float("inf")) < BARS.get(row["case"], 0.0)]
    if max(memory.values()) > MAX_BYTES:
        missed.append("memory")
    if options.json:
        print(json.dumps({"rows": rows, "cache_bytes": memory, "notes": notes, "missed": missed}))
    else:
        print(f"{'instruments a frame, read':30} {'us each':>8} {'x vendor':>9} {'bar':>5}")
        for row in rows:
            bar = BARS.get(row["case"])
            print(f"{row['case']:30} {row['us']:8.2f} {row.get('ratio', float('nan')):9.1f} {bar or '':>5}")
        for how, size in memory.items():
            print(f"last-tick cache of {CACHE} instruments, {how}: {size:.0f} bytes each (bar {MAX_BYTES})")
        for note in notes:
            print(f"note: {note}")
        if missed and not options.smoke:
            print("missed: " + "; ".join(missed))
    return int(bool(missed) and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
