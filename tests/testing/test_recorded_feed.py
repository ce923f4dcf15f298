"""Recorded frames, replayed: every field arrives as it was recorded."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from emulator_kit import feed, receive, request
from google.protobuf import json_format

from hybridbroker.testing.emulators import LISTED, EmulatedMarket, ListedInstrument, Recording, UpstoxEmulator
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.messages import feed_frames

NAMES = ["NSE_EQ_INE465A01025", "NSE_FO_51420"]
LINES = 400


@pytest.fixture(params=NAMES)
def recording(request: pytest.FixtureRequest, shared_data: Path, tmp_path: Path) -> Path:
    """The first lines of one recorded session."""
    whole = shared_data / "samples/upstox_feed_v3" / f"2025-12-15_{request.param}.ndjson.gz"
    with gzip.open(whole) as lines:
        head = b"".join(next(lines) for _ in range(LINES))
    path = tmp_path / "head.ndjson"
    path.write_bytes(head)
    return path


def listed_as(key: str) -> ListedInstrument:
    return attrs.evolve(LISTED[0], upstox_key=key)


def recorded(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_entry_arrives_as_recorded(recording: Path) -> None:
    tape = Recording.open(recording)
    key = tape.keys[0]
    expected = [
        json_format.ParseDict({"fullFeed": line["fullFeed"], "requestMode": line["requestMode"]}, pb.Feed())
        for line in recorded(recording)
    ]
    received = []

    async with UpstoxEmulator(EmulatedMarket.from_recording(tape, [listed_as(key)])) as upstox, feed(upstox) as socket:
        await socket.send(request("sub", [key], "full"))
        await receive(socket)
        while (message := await receive(socket)).type != pb.market_info:
            received.append(message.feeds[key])

    assert received == expected


def frames(path: Path) -> Iterator[bytes]:
    data = gzip.decompress(path.read_bytes())
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def test_recorded_frames_survive_our_schema_byte_for_byte(shared_data: Path) -> None:
    known = list(frames(shared_data / "samples/upstox_feed_v3/2025-12-15_interleaved.reencoded.frames.gz"))

    for frame in known:
        message = pb.FeedResponse.FromString(frame)
        again = list(
            feed_frames(list(message.feeds.items()), at_ms=message.currentTs, snapshot=message.type == 0, batch=50)
        )
        assert again == [frame]

    assert len(known) > 100


async def test_recorded_index_messages_are_played(shared_data: Path) -> None:
    path = shared_data / "samples/upstox_feed_v3/2025-02-27_first_messages_index_full.ndjson"
    tape = Recording.open(path)
    market = EmulatedMarket.from_recording(tape, [listed_as(key) for key in tape.keys])

    await market.run()

    nifty = market.feed("NSE_INDEX|Nifty 50")
    assert nifty is not None
    assert nifty.fullFeed.indexFF.ltpc.ltp == 22544.35


async def test_recorded_minutes_are_the_feeds_own_bars(shared_data: Path) -> None:
    name = "NSE_EQ_INE465A01025"
    tape = Recording.open(shared_data / f"samples/upstox_feed_v3/2025-12-15_{name}.ndjson.gz")
    market = EmulatedMarket.from_recording(tape, [listed_as(tape.keys[0])])
    with gzip.open(shared_data / f"candles/minute1_from_feed/{name}_2025-12-15.json.gz") as file:
        independent = json.load(file)["data"]["candles"][::-1]

    await market.run()

    ours = {bar.row()[0]: bar.row() for bar in market.today_bars(tape.keys[0])}
    assert [ours[row[0]] for row in independent] == independent


async def test_real_candles_are_played_bar_for_bar(shared_data: Path) -> None:
    path = shared_data / "candles/minute1_2016/RELIANCE.json.gz"
    market = EmulatedMarket.from_candles({LISTED[0]: path})
    with gzip.open(path) as file:
        rows = json.load(file)["data"]["candles"]

    await market.run()

    assert [bar.row() for bar in market.today_bars(LISTED[0].upstox_key)][::-1] == rows[:375]
    assert len(market.past_bars(LISTED[0].upstox_key)) == len(rows) - 375
