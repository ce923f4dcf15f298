"""A recorded day through emulator and client, beside an independent reading of the same files.

    python benchmarks/recorded_day.py FOLDER            # NSE_*.ndjson.gz recordings of mode full, one a file
    python benchmarks/recorded_day.py FOLDER --lines 500  # only the first lines of each

Every entry is encoded by the emulator, sent over a real socket, decoded by the client and made
into minute bars. The other reading takes the JSON as it is: dictionaries, no line of ours. For
each instrument the last price, volume and book, the feed's own minute bars and the bars made
from ticks must be equal to the last digit; the exit code is 1 where one is not.

Both leave out what a recording holds besides: updates that come late, as older states by
volume and time, and the minute in which the recording began.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from hybridbroker.bars import BarBuilder
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import Candle, FeedMode, Interval, MarketStatus, Tick
from hybridbroker.errors import InstrumentNotFound
from hybridbroker.protocols import MarketStream, Overflow
from hybridbroker.testing.emulators import EmulatedMarket, ListedInstrument, Recording, UpstoxEmulator
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.messages import market_info

MINUTE_MS = 60_000
Row = tuple[float, float, float, float, int]
"""Open, high, low, close, volume."""


class Reading:
    """What one way of reading makes of one instrument."""

    def __init__(self) -> None:
        self.last_price = 0.0
        self.volume = 0
        self.bids: list[tuple[float, int]] = []
        self.asks: list[tuple[float, int]] = []
        self.feed_bars: dict[int, Row] = {}
        self.made_bars: dict[int, Row] = {}
        self.updates = 0

    def differences(self, other: Reading) -> list[str]:
        """Return the names of what is not equal."""
        names = ("last_price", "volume", "bids", "asks", "feed_bars", "made_bars", "updates")
        return [name for name in names if getattr(self, name) != getattr(other, name)]


def key_of(path: Path) -> str:
    """Return the instrument key of a file such as ``2025-12-15_NSE_FO_51420.ndjson.gz``."""
    return "|".join(path.name.partition("_")[2].partition(".")[0].rsplit("_", 1))


def independent(path: Path, lines: int | None = None) -> Reading:
    """Read one recording as plain JSON."""
    told, volume, traded_ms, minute = Reading(), 0, 0, 0
    before: dict[str, Any] = {}
    running: list[Any] = []
    with gzip.open(path, "rt") as text:
        for line in islice(text, lines):
            market = json.loads(line)["fullFeed"]["marketFF"]
            stamp, traded = int(market["ltpc"]["ltt"]), int(market["vtt"])
            if market == before or (traded < volume and stamp <= traded_ms):
                continue
            before = market
            price = market["ltpc"]["ltp"]
            if stamp - stamp % MINUTE_MS > minute:
                if running:
                    told.made_bars[minute] = (*running[:4], running[4])
                minute, running = stamp - stamp % MINUTE_MS, [price, price, price, price, 0]
            elif stamp - stamp % MINUTE_MS == minute:
                running[1:4] = max(running[1], price), min(running[2], price), price
            running[4] += max(0, traded - volume)
            volume, traded_ms = max(volume, traded), stamp
            told.updates += 1
            for bar in market["marketOHLC"]["ohlc"]:
                if bar["interval"] == "I1":
                    prices = (bar["open"], bar["high"], bar["low"], bar["close"])
                    told.feed_bars[int(bar["ts"])] = (*prices, int(bar.get("vol", 0)))
    if running:
        told.made_bars[minute] = (*running[:4], running[4])
        del told.made_bars[min(told.made_bars)]
        levels = before["marketLevel"]["bidAskQuote"]
        told.last_price, told.volume = before["ltpc"]["ltp"], int(before["vtt"])
        told.bids = [(each["bidP"], int(each.get("bidQ", 0))) for each in levels if each.get("bidP")]
        told.asks = [(each["askP"], int(each.get("askQ", 0))) for each in levels if each.get("askP")]
    return told


class Names:
    """An `InstrumentLookup` in which an instrument's id is Upstox's key."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._by_key = {key: _instrument(key) for key in keys}

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the domain's word
        return self._by_key[id]

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        return BrokerKey(broker=broker, segment=instrument.id.partition("|")[0], id=instrument.id)

    def by_key(self, broker: str, key: str) -> Instrument:
        if key not in self._by_key:
            raise InstrumentNotFound(f"{broker}: {key}")
        return self._by_key[key]


def _instrument(key: str) -> Instrument:
    is_share = key.startswith("NSE_EQ")
    return Instrument(
        id=key,
        exchange=Exchange.NSE,
        segment=Segment.CASH if is_share else Segment.DERIVATIVES,
        kind=InstrumentKind.EQUITY if is_share else InstrumentKind.OPTION,
        symbol=key,
        tick_size=Decimal("0.05"),
    )


def encoded(tape: Recording, lines: int | None = None) -> Iterator[bytes]:
    """Encode recordings, merged by time: one instrument at most once a frame, as few frames as that takes."""
    listed = {key: ListedInstrument(_instrument(key), key, "-", key) for key in tape.keys}
    left = Counter(dict.fromkeys(tape.keys, sys.maxsize if lines is None else lines))
    frame = pb.FeedResponse(type=pb.live_feed)
    for step in tape.steps(listed):
        for each, feed in step.updates:
            key = each.upstox_key
            if not left[key]:
                continue
            left[key] -= 1
            if key in frame.feeds:
                yield frame.SerializeToString()
                frame = pb.FeedResponse(type=pb.live_feed)
            frame.feeds[key].CopyFrom(feed)
            frame.currentTs = step.at_ms
        if not any(left.values()):
            break
    yield frame.SerializeToString()


async def streamed(tape: Recording, frames: Iterable[bytes]) -> tuple[dict[str, Reading], Mapping[str, int]]:
    """Send frames through the emulator and read them with the client; return the readings and what was skipped."""
    names, listed = Names(tape.keys), [ListedInstrument(_instrument(key), key, "-", key) for key in tape.keys]
    market = EmulatedMarket.from_recording(tape, listed)
    async with UpstoxEmulator(market, autoplay=False) as emulator:
        settings = UpstoxSettings.model_validate({"access_token": emulator.access_token, "base_url": emulator.rest_url})
        async with (
            UpstoxMarketData(settings, instruments=names) as data,
            data.stream((each.instrument for each in listed), mode=FeedMode.FULL, overflow=Overflow.BLOCK) as events,
        ):
            reading = asyncio.create_task(_read(events, tape.keys))
            while len(emulator.subscriptions) < len(listed):  # noqa: ASYNC110 - what it waits for tells nobody
                await asyncio.sleep(0.01)
            for frame in frames:
                await emulator.send_raw(frame)
            await emulator.send_raw(market_info(pb.NORMAL_CLOSE, at_ms=tape.start_ms))
            return await reading, dict(events.health.skipped)


async def _read(events: MarketStream, keys: Iterable[str]) -> dict[str, Reading]:
    told = {key: Reading() for key in keys}
    builders = {key: BarBuilder(_instrument(key), Interval.MINUTE_1) for key in keys}
    last: dict[str, Tick] = {}
    async for event in events:
        if isinstance(event, MarketStatus) and last:
            break
        if not isinstance(event, Tick):
            continue
        key = event.instrument.id
        last[key], reading = event, told[key]
        reading.updates += 1
        _keep(reading.made_bars, builders[key].add(event))
        _keep(reading.feed_bars, event.minute)
    for key, tick in last.items():
        _keep(told[key].made_bars, builders[key].flush())
        assert tick.depth is not None
        told[key].last_price, told[key].volume = tick.last_price, tick.volume or 0
        told[key].bids = [(each.price, each.quantity) for each in tick.depth.bids]
        told[key].asks = [(each.price, each.quantity) for each in tick.depth.asks]
    return told


def _keep(bars: dict[int, Row], bar: Candle | None) -> None:
    if bar is not None:
        bars[to_epoch_ms(bar.start)] = (bar.open, bar.high, bar.low, bar.close, bar.volume)


def main() -> int:
    """Print the table; return 1 where the two readings differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds *_NSE_*.ndjson.gz")
    parser.add_argument("--lines", type=int, help="only so many lines of each file")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*_NSE_*_*.ndjson.gz"))
    if not paths:
        print(f"{options.folder} holds no recordings", file=sys.stderr)
        return 2
    began = time.perf_counter()
    tape = Recording.open(*paths)
    told, skipped = asyncio.run(streamed(tape, encoded(tape, options.lines)))
    took = time.perf_counter() - began
    print(f"{'instrument':24} {'ticks':>7} {'last':>9} {'volume':>10} {'bars':>5}  last price, volume, book, bars")
    failed = False
    for path in paths:
        key, plain = key_of(path), independent(path, options.lines)
        differing = told[key].differences(plain)
        failed = failed or bool(differing)
        made = told[key]
        verdict = "equal" if not differing else "DIFFERENT: " + ", ".join(differing)
        print(f"{key:24} {made.updates:7} {made.last_price:9} {made.volume:10} {len(made.made_bars):5}  {verdict}")
    when = datetime.now(UTC)
    print(f"passed over: {skipped}; {took:.0f} s, {when:%Y-%m-%d}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
