"""A recorded feed, played back entry by entry as it was received."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from hybridbroker.clock import IST, from_epoch_ms, to_epoch_ms
from hybridbroker.errors import ConfigurationError
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.candles import read_text
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.steps import Step

__all__ = ["Recording"]


class _Line(msgspec.Struct, rename={"inserted_at": "_insertion_time", "key": "instrumentKey", "sent_at": "currentTs"}):
    """One line of a recording: an entry of one instrument, or a whole message."""

    full: msgspec.Raw = msgspec.field(name="fullFeed", default=msgspec.Raw())
    key: str = ""
    inserted_at: str = ""
    feeds: dict[str, Any] = {}
    sent_at: str = ""


@attrs.frozen
class Recording:
    """Feed entries as a client stored them, in the order it received them."""

    keys: tuple[str, ...]
    """Upstox keys that occur, in order of appearance."""
    _lines: Sequence[tuple[int, _Line]]

    @classmethod
    def open(cls, *paths: Path) -> Recording:
        """Read recordings in mode full, merged by time (``.gz`` allowed).

        Each line is either one entry with ``instrumentKey`` and the recorder's
        ``_insertion_time`` in IST, or one whole message with ``currentTs``; both as
        protobuf's JSON.

        Raises:
            ConfigurationError: A file is unreadable, damaged, or no recording.
        """
        keys: dict[str, None] = {}
        merged: list[list[tuple[int, _Line]]] = []
        for path in paths:
            lines = list(_read_lines(path))
            merged.append(lines)
            for _, line in lines:
                keys.update(dict.fromkeys(line.feeds or ((line.key,) if line.key else ())))
        if not keys:
            raise ConfigurationError(
                f"{', '.join(map(str, paths))}: no feed entries; give an NDJSON recording in mode full"
            )
        return cls(tuple(keys), list(heapq.merge(*merged, key=lambda pair: pair[0])))

    @property
    def start_ms(self) -> int:
        """Return when its first entry came."""
        return self._lines[0][0]

    def steps(self, listed: Mapping[str, ListedInstrument]) -> Iterator[Step]:
        """Play the entries of ``listed`` (by Upstox key) as they are.

        Other instruments are passed over, and so are recorded ``market_info`` messages.

        Raises:
            ConfigurationError: An entry is not of mode full, found when its turn comes.
        """
        for at_ms, line in self._lines:
            entries = line.feeds or ({line.key: {"fullFeed": msgspec.json.decode(line.full)}} if line.key else {})
            updates = tuple((listed[key], _feed(key, entry, at_ms)) for key, entry in entries.items() if key in listed)
            if updates:
                yield Step(at_ms, updates)
        yield Step(self._lines[-1][0], status=pb.NORMAL_CLOSE)


def _read_lines(path: Path) -> Iterator[tuple[int, _Line]]:
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
            if line.key:
                yield to_epoch_ms(datetime.fromisoformat(line.inserted_at).replace(tzinfo=IST)), line
            else:
                yield int(line.sent_at), line
        except (msgspec.DecodeError, ValueError) as exc:
            raise ConfigurationError(
                f"{path} line {number} is no recorded feed entry ({exc}); cut the line out or record again"
            ) from None


_INTEGERS: Final = frozenset({"ltt", "ltq", "vtt", "bidQ", "askQ", "vol", "ts", "ieq", "iiqTotal", "iiqM"})


def _feed(key: str, entry: Mapping[str, Any], at_ms: int) -> pb.Feed:
    try:
        return pb.Feed(fullFeed=_plain(entry["fullFeed"]), requestMode=pb.full_d5)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ConfigurationError(
            f"the recorded entry of {key} at {from_epoch_ms(at_ms)} is none of mode full ({exc}); cut it out"
        ) from None


def _plain(value: Any) -> Any:
    """Undo protobuf's JSON, which writes 64-bit integers as strings; eight times faster than ParseDict."""
    if isinstance(value, dict):
        return {name: int(each) if name in _INTEGERS else _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
