"""What happens in an emulated market, instant by instant, and how bars become that."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from itertools import groupby, pairwise
from typing import Final

import attrs

from hybridbroker.clock import IST, to_epoch_ms
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.book import Book
from hybridbroker.testing.emulators.candles import MINUTE_MS, Bar
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = ["Step", "play_bars", "session_bounds"]

_OPENS: Final = time(9, 15)
_CLOSES: Final = time(15, 30)


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
