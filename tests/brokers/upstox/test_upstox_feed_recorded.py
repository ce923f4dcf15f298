"""Recorded market days: every value of the recording comes out of the decoder."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upstox_kit import RECEIVED_MS

from hybridbroker.brokers.upstox.data.feed import FeedDecoder
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import Candle, MarketStatus, Tick


@pytest.fixture(scope="session")
def recordings(shared_data: Path) -> Path:
    return shared_data / "samples" / "upstox_feed_v3"


def frames_in(path: Path) -> Iterator[bytes]:
    data, at = gzip.decompress(path.read_bytes()), 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def entries_in(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        yield from map(json.loads, lines)


def instrument(key: str) -> Instrument:
    segment, _, name = key.partition("|")
    kinds = {"NSE_EQ": InstrumentKind.EQUITY, "NSE_FO": InstrumentKind.OPTION, "NSE_INDEX": InstrumentKind.INDEX}
    return Instrument(id=key, exchange=Exchange.NSE, segment=Segment.CASH, kind=kinds[segment], symbol=name)


def decoder_for(*keys: str) -> FeedDecoder:
    decoder = FeedDecoder()
    decoder.add({key: instrument(key) for key in keys})
    return decoder


def bar(rows: list[dict[str, Any]], interval: str) -> dict[str, Any] | None:
    return next((row for row in reversed(rows) if row.get("interval") == interval), None)


def same_bar(candle: Candle | None, row: dict[str, Any] | None) -> bool:
    if candle is None or row is None:
        return candle is None and row is None
    told = (to_epoch_ms(candle.start), candle.open, candle.high, candle.low, candle.close, candle.volume)
    return told == (int(row["ts"]), row["open"], row["high"], row["low"], row["close"], int(row.get("vol", 0)))


def assert_same(tick: Tick, entry: dict[str, Any]) -> None:
    """Compare a tick with what the vendor's SDK made of the same bytes: zeros are left out there."""
    market = entry["fullFeed"]["marketFF"]
    ltpc, option = market["ltpc"], tick.instrument.kind is InstrumentKind.OPTION
    assert tick.last_price == ltpc["ltp"]
    assert tick.traded_ms == int(ltpc["ltt"])
    assert tick.last_quantity == (int(ltpc["ltq"]) if "ltq" in ltpc else None)
    assert tick.previous_close == ltpc["cp"]
    assert tick.volume == int(market.get("vtt", 0))
    assert tick.average_price == market["atp"]
    assert tick.open_interest == (market.get("oi", 0.0) if option else None)
    assert tick.total_buy_quantity == market.get("tbq", 0.0)
    assert tick.total_sell_quantity == market.get("tsq", 0.0)
    rows = market["marketLevel"]["bidAskQuote"]
    assert tick.depth is not None
    assert [(each.price, each.quantity) for each in tick.depth.bids] == [
        (row["bidP"], int(row.get("bidQ", 0))) for row in rows if "bidP" in row
    ]
    assert [(each.price, each.quantity) for each in tick.depth.asks] == [
        (row["askP"], int(row.get("askQ", 0))) for row in rows if "askP" in row
    ]
    letters = market["optionGreeks"]
    assert (tick.greeks is None) == (not letters)
    if tick.greeks is not None:
        for name in ("delta", "theta", "gamma", "vega", "rho"):
            assert getattr(tick.greeks, name) == letters.get(name, 0.0)
        assert tick.greeks.implied_volatility == market.get("iv")
    assert same_bar(tick.day, bar(market["marketOHLC"]["ohlc"], "1d"))
    assert same_bar(tick.minute, bar(market["marketOHLC"]["ohlc"], "I1"))
    assert tick.auction is None


def test_every_recorded_frame_tells_what_the_recording_tells(recordings: Path) -> None:
    frames = list(frames_in(recordings / "2025-12-15_interleaved.reencoded.frames.gz"))
    told: dict[str, Iterator[dict[str, Any]]] = {}
    for path in sorted(recordings.glob("2025-12-15_NSE_*.ndjson.gz")):
        key = path.name.removeprefix("2025-12-15_").removesuffix(".ndjson.gz")
        told["|".join(key.rsplit("_", 1))] = entries_in(path)
    decoder, before = decoder_for(*told), dict[str, dict[str, Any]]()
    compared = repeated = 0

    for frame in frames:
        (key,) = pb.FeedFrame.FromString(frame).feeds
        ticks, entry = decoder.feed(frame, RECEIVED_MS), next(told[key])
        if entry["fullFeed"] == before.get(key):
            assert ticks == []
            assert decoder.unchanged == [instrument(key)]
            repeated += 1
            continue
        (tick,) = ticks
        assert isinstance(tick, Tick)
        assert_same(tick, entry)
        before[key] = entry["fullFeed"]
        compared += 1

    assert compared > repeated > 0
    assert decoder.skipped == {"duplicate": repeated}


def test_the_first_messages_of_a_connection_are_status_snapshot_and_updates(recordings: Path) -> None:
    frames = list(frames_in(recordings / "2025-02-27_first_messages_index_full.reencoded.frames.gz"))
    lines = (recordings / "2025-02-27_first_messages_index_full.ndjson").read_text().splitlines()
    messages = [json.loads(line) for line in lines]
    decoder = decoder_for("NSE_INDEX|Nifty 50", "NSE_INDEX|Nifty Bank")

    (status,), *rest = [decoder.feed(frame, RECEIVED_MS) for frame in frames]

    assert isinstance(status, MarketStatus)
    assert status.raw == messages[0]["marketInfo"]["segmentStatus"]
    assert {tick.is_snapshot for tick in rest[0] if isinstance(tick, Tick)} == {True}
    for message, ticks in zip(messages[1:], rest, strict=True):
        assert len(ticks) == len(message["feeds"])
        for tick in ticks:
            assert isinstance(tick, Tick)
            part = message["feeds"][tick.instrument.id]["fullFeed"]["indexFF"]
            assert (tick.last_price, tick.previous_close) == (part["ltpc"]["ltp"], part["ltpc"]["cp"])
            assert same_bar(tick.day, bar(part["marketOHLC"]["ohlc"], "1d"))
            assert same_bar(tick.minute, bar(part["marketOHLC"]["ohlc"], "I1"))
            assert (tick.volume, tick.depth, tick.last_quantity) == (None, None, None)
