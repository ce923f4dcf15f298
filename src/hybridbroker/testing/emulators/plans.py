"""What an emulated market will play: a synthetic day, candle files, a recording, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

import attrs

from hybridbroker.clock import IST, to_epoch_ms
from hybridbroker.errors import ConfigurationError
from hybridbroker.testing.emulators.book import Book
from hybridbroker.testing.emulators.candles import Bar, read_candles, sessions
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.recording import Recording
from hybridbroker.testing.emulators.steps import Step, play_bars
from hybridbroker.testing.emulators.walk import walk

__all__ = ["DAY", "Plan", "candle_days", "recorded_day", "still_day", "synthetic_day"]

DAY: Final = date(2026, 10, 6)
"""The trading day that is played where nobody chose one."""

_PRICES: Final = {
    "NSE:RELIANCE": 1400.0,
    "NSE:TCS": 3100.0,
    "NSE:INFY": 1500.0,
    "NSE:HDFCBANK": 960.0,
    "NSE:SBIN": 880.0,
    "NSE:ICICIBANK": 1380.0,
    "NSE:NIFTY 50:INDEX": 25_000.0,
}
_PRICE: Final = 1000.0


@attrs.frozen(kw_only=True)
class Plan:
    """Instruments, what happens to them, and what happened before."""

    listed: tuple[ListedInstrument, ...]
    start_ms: int
    steps: Iterator[Step]
    books: Mapping[str, Book] = attrs.field(factory=dict)
    """By Upstox key; a recording has none, since its entries are ready-made."""
    history: Mapping[str, Sequence[Bar]] = attrs.field(factory=dict)
    """Minute bars of earlier sessions, oldest first, by Upstox key."""


def synthetic_day(
    listed: Iterable[ListedInstrument],
    *,
    seed: int,
    day: date,
    history_days: int,
    prices: Mapping[str, float],
    levels: int,
) -> Plan:
    """Plan a random walk of every instrument, and of the days before."""
    starts = {**_PRICES, **prices}
    history: dict[str, Sequence[Bar]] = {}
    today: dict[ListedInstrument, Sequence[Bar]] = {}
    for each in listed:
        price = starts.get(each.instrument.id, _PRICE)
        history[each.upstox_key], today[each] = walk(
            each, start_price=price, day=day, seed=seed, history_days=history_days
        )
    return _of_bars([today], history, levels=levels, seed=seed)


def candle_days(files: Mapping[ListedInstrument, Path], *, days: int | None, levels: int) -> Plan:
    """Plan the last ``days`` sessions of candle files (None: all); raises `ConfigurationError`."""
    if not files:
        raise ConfigurationError("no candle file was given; name at least one")
    by_day: dict[date, dict[ListedInstrument, Sequence[Bar]]] = {}
    for listed, path in files.items():
        found = sessions(read_candles(path))
        if max(map(len, found)) == 1:
            raise ConfigurationError(f"{path} holds daily bars; a market day is played from minute bars")
        for session in found:
            by_day.setdefault(session[0].start.date(), {})[listed] = session
    dates = sorted(by_day)
    first = dates[0] if days is None else dates[-days:][0]
    history = {
        listed.upstox_key: [bar for day in dates if day < first for bar in by_day[day].get(listed, ())]
        for listed in files
    }
    return _of_bars([by_day[day] for day in dates if day >= first], history, levels=levels, seed=0)


def recorded_day(recording: Recording, listed: Iterable[ListedInstrument]) -> Plan:
    """Plan a recording; raises `ConfigurationError` where it knows none of ``listed``."""
    by_key = {each.upstox_key: each for each in listed}
    if not by_key.keys() & set(recording.keys):
        known = ", ".join(recording.keys)
        raise ConfigurationError(f"the recording holds only {known}; list one of these instruments")
    return Plan(listed=tuple(by_key.values()), start_ms=recording.start_ms, steps=recording.steps(by_key))


def still_day(
    listed: Iterable[ListedInstrument], *, prices: Mapping[str, float], at: datetime | None, levels: int
) -> Plan:
    """Plan nothing, after one trade in each instrument."""
    start_ms = to_epoch_ms(at or datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=IST))
    starts = {**_PRICES, **prices}
    books = {}
    for each in (listed := tuple(listed)):
        price = starts.get(each.instrument.id, _PRICE)
        books[each.upstox_key] = book = Book(each, previous_close=price, last_ms=start_ms, levels=levels)
        book.trade(price, 0 if each.is_index else each.instrument.lot_size, start_ms)
    return Plan(listed=listed, start_ms=start_ms, steps=iter(()), books=books)


def _of_bars(
    days: Sequence[Mapping[ListedInstrument, Sequence[Bar]]],
    history: Mapping[str, Sequence[Bar]],
    *,
    levels: int,
    seed: int,
) -> Plan:
    listed = tuple(dict.fromkeys(each for day in days for each in day))
    books = {}
    for each in listed:
        past = history.get(each.upstox_key)
        first = next(day[each][0] for day in days if each in day)
        close, last_ms = (past[-1].close, past[-1].start_ms) if past else (first.open, first.start_ms)
        books[each.upstox_key] = Book(each, previous_close=close, last_ms=last_ms, seed=seed, levels=levels)
    return Plan(
        listed=listed,
        start_ms=min(bars[0].start_ms for bars in days[0].values()),
        steps=play_bars(days, books),
        books=books,
        history=history,
    )
