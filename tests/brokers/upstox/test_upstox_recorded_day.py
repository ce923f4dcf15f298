"""The recorded feed through emulator and client, beside a reading that shares no line with either."""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hybridbroker.testing.emulators import Recording
from hybridbroker.testing.emulators import feed_pb2 as pb

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("recorded_day")


def frames_in(path: Path) -> Iterator[bytes]:
    data, at = gzip.decompress(path.read_bytes()), 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


async def test_every_instrument_and_frame_gives_what_an_independent_reading_gives(
    script: Any, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "samples" / "upstox_feed_v3"
    frames = list(frames_in(folder / "2025-12-15_interleaved.reencoded.frames.gz"))
    lines = Counter(key for frame in frames for key in pb.FeedResponse.FromString(frame).feeds)
    heads = []
    for path in sorted(folder.glob("2025-12-15_NSE_*.ndjson.gz")):
        heads.append(tmp_path / path.name)
        with gzip.open(path) as whole, gzip.open(heads[-1], "wb", compresslevel=1) as head:
            head.writelines(islice(whole, lines[script.key_of(path)]))

    told, skipped = await script.streamed(Recording.open(*heads), frames)

    assert len(heads) == len(told) == len(lines) == 9
    for path in heads:
        plain = script.independent(path)
        assert told[script.key_of(path)].differences(plain) == []
        assert plain.updates > 50
        assert plain.made_bars
        assert plain.feed_bars
    assert sum(reading.updates for reading in told.values()) + sum(skipped.values()) == len(frames)
    assert set(skipped) == {"duplicate"}


async def test_late_updates_of_the_recording_are_left_out_of_both(
    script: Any, shared_data: Path, tmp_path: Path
) -> None:
    whole = shared_data / "samples" / "upstox_feed_v3" / "2025-12-15_NSE_FO_51498.ndjson.gz"
    path = tmp_path / whole.name
    with gzip.open(whole) as lines, gzip.open(path, "wb", compresslevel=1) as some:
        some.writelines(islice(lines, 800, 1600))  # the first late one is line 1184
    tape = Recording.open(path)

    told, skipped = await script.streamed(tape, script.encoded(tape))

    assert told["NSE_FO|51498"].differences(script.independent(path)) == []
    assert skipped["out of order"] == 1
