"""Where an emulated market's events come from: bars, a seeded random walk, or a recording of the feed."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from hybridbroker.clock import IST, to_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.errors import ConfigurationError
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.book import Book
from hybridbroker.testing.emulators.candles import MINUTE_MS, Bar, read_text
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = ["Recording", "Step", "play_bars", "session_bounds", "walk"]

_OPENS: Final = time(9, 15)
_CLOSES: Final = time(15, 30)
_MINUTES: Final = 375


@attrs.frozen
class Step:
    """What happened at one instant."""

    at_ms: int
    updates: tuple[tuple[ListedInstrument, pb.Feed], ...] = ()
    status: pb.MarketStatus | None = None
    """The phase that every segment enters, as the feed numbers it."""


def session_bounds(day: date) -> tuple[int, int]:
    """Return when the regular session of ``day`` opens and closes, milliseconds since 1970 UTC."""
    return to_epoch_ms(datetime.combine(day, _OPENS, IST)), to_epoch_ms(datetime.combine(day, _CLOSES, IST))


def play_bars(days: Sequence[Mapping[ListedInstrument, Sequence[Bar]]], books: Mapping[str, Book]) -> Iterator[Step]:
    """Play sessions bar by bar: each becomes four trades, open, the extremes in likely order, close.

    ``days`` are in order, each with its instruments' bars, oldest first; ``books`` by Upstox key.
    Instruments that trade at the same instant share a step. Volume is cumulative, and each
    bar's adds up to its own; a bar without volume moves the price but trades nothing.
    """
    for day in days:
        for listed in day:
            books[listed.upstox_key].new_day()
        first = next(iter(day.values()))[0].start.date()
        opens, closes = session_bounds(first)
        yield Step(min(opens, *(bars[0].start_ms for bars in day.values())), status=pb.NORMAL_OPEN)
        last_ms = closes
        trades = heapq.merge(*(_trades(listed, bars) for listed, bars in day.items()), key=_when)
        for at_ms, group in groupby(trades, key=_when):
            last_ms = max(last_ms, at_ms)
            yield Step(
                at_ms,
                tuple((listed, books[listed.upstox_key].trade(price, lots, at_ms)) for _, listed, price, lots in group),
            )
        yield Step(last_ms, status=pb.NORMAL_CLOSE)


_Trade = tuple[int, ListedInstrument, float, int]


def _when(trade: _Trade) -> int:
    return trade[0]


def _trades(listed: ListedInstrument, bars: Sequence[Bar]) -> Iterator[_Trade]:
    length = min((b.start_ms - a.start_ms for a, b in pairwise(bars)), default=MINUTE_MS)
    for bar in bars:
        extremes = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
        path = (bar.open, *extremes, bar.close)
        done = 0
        for index, price in enumerate(path):
            upto = bar.volume * (index + 1) // len(path)
            yield bar.start_ms + length * index // len(path), listed, price, upto - done
            done = upto


_SHAPE: Final = ((0.20, -0.0035, 0.7), (0.12, 0.011, 2.6), (0.18, 0.006, 1.2), (0.20, 0.0, 0.7), (0.30, -0.010, 1.3))
"""A day with one clear trend: (part of the session, drift over it, volume against the usual).

A slow fall, a breakout on heavy volume, a slower rise, a rest, a fall that ends below.
"""


def walk(
    listed: ListedInstrument, *, start_price: float, day: date, seed: int, history_days: int
) -> tuple[list[Bar], list[Bar]]:
    """Return minute bars of ``history_days`` trading days before ``day``, and of ``day`` itself.

    The same arguments give the same bars. Past days drift nowhere; ``day`` falls, breaks
    out on volume, and falls again, so that a moving-average crossover has something to find.
    """
    rng = random.Random(f"{seed}{listed.upstox_key}")  # noqa: S311 - a reproducible market, no secret
    calendar = TradingCalendar()
    days = [day]
    while len(days) <= history_days:
        days.append(calendar.previous_session(days[-1]).date)
    price = start_price
    past: list[Bar] = []
    for each in reversed(days[1:]):
        bars = _walk_day(listed, price, each, rng, shape=((1.0, 0.0, 1.0),))
        past += bars
        price = bars[-1].close
    return past, _walk_day(listed, price, day, rng, shape=_SHAPE)


def _walk_day(
    listed: ListedInstrument,
    price: float,
    day: date,
    rng: random.Random,
    *,
    shape: Sequence[tuple[float, float, float]],
) -> list[Bar]:
    opens, _ = session_bounds(day)
    plan = [(drift / (part * _MINUTES), busy) for part, drift, busy in shape for _ in range(math.ceil(part * _MINUTES))]
    bars: list[Bar] = []
    for minute, (drift, busy) in enumerate(plan[:_MINUTES]):
        pace = 1.0 + 1.5 * math.cos(math.pi * minute / _MINUTES) ** 2
        points = [price := price * math.exp(drift / 3 + rng.gauss(0, 0.00018)) for _ in range(3)]
        path = [_on_tick(listed, point) for point in (bars[-1].close if bars else points[0], *points)]
        volume = 0 if listed.is_index else int(9_000 * busy * pace * rng.lognormvariate(0, 0.35))
        volume -= volume % listed.instrument.lot_size
        bars.append(Bar(opens + minute * MINUTE_MS, path[0], max(path), min(path), path[-1], volume))
    return bars


def _on_tick(listed: ListedInstrument, price: float) -> float:
    return float(listed.instrument.price(round(price, 4)))


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
        """
        for at_ms, line in self._lines:
            entries = line.feeds or ({line.key: {"fullFeed": msgspec.json.decode(line.full)}} if line.key else {})
            updates = tuple((listed[key], _feed(entry)) for key, entry in entries.items() if key in listed)
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


def _feed(entry: Mapping[str, Any]) -> pb.Feed:
    return pb.Feed(fullFeed=_plain(entry["fullFeed"]), requestMode=pb.full_d5)


def _plain(value: Any) -> Any:
    """Undo protobuf's JSON, which writes 64-bit integers as strings; eight times faster than ParseDict."""
    if isinstance(value, dict):
        return {name: int(each) if name in _INTEGERS else _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
