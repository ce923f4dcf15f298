"""Bars as the emulated market remembers them: read from candle files, built from trades, served in any unit."""

from __future__ import annotations

import gzip
import json
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import attrs

from hybridbroker.clock import IST, from_epoch_ms, to_epoch_ms
from hybridbroker.errors import ConfigurationError

__all__ = ["MINUTE_MS", "Bar", "MinuteBars", "aggregate", "on_days", "read_candles", "read_text", "sessions"]

MINUTE_MS: Final = 60_000
_OPENS: Final = timedelta(hours=9, minutes=15)


@attrs.frozen
class Bar:
    """One bar; prices in rupees, volume in units."""

    start_ms: int
    """When it opened, milliseconds since 1970 UTC."""
    open: float
    high: float
    low: float
    close: float
    volume: int = 0
    open_interest: int = 0

    @property
    def start(self) -> datetime:
        """Return when it opened, in IST."""
        return from_epoch_ms(self.start_ms)

    def row(self) -> list[object]:
        """Return it as Upstox's candle endpoints write it (documented)."""
        return [self.start.isoformat(), self.open, self.high, self.low, self.close, self.volume, self.open_interest]


class MinuteBars:
    """One session's minute bars, built trade by trade; the last one is still running."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []

    def add(self, price: float, volume: int, at_ms: int) -> None:
        """Count a trade of ``volume`` units; one that is late by a minute or more is left out."""
        start = at_ms - at_ms % MINUTE_MS
        last = self.bars[-1] if self.bars else None
        if last is None or start > last.start_ms:
            self.bars.append(Bar(start, price, price, price, price, volume))
        elif start == last.start_ms:
            self.bars[-1] = attrs.evolve(
                last,
                high=max(last.high, price),
                low=min(last.low, price),
                close=price,
                volume=last.volume + volume,
            )

    def replace(self, bar: Bar) -> None:
        """Take ``bar`` as the truth about its minute."""
        for index in range(len(self.bars) - 1, -1, -1):
            if self.bars[index].start_ms == bar.start_ms:
                self.bars[index] = bar
                return
            if self.bars[index].start_ms < bar.start_ms:
                self.bars.insert(index + 1, bar)
                return
        self.bars.insert(0, bar)

    @property
    def completed(self) -> Bar | None:
        """Return the last whole minute, or None during the first."""
        return self.bars[-2] if len(self.bars) > 1 else None


def sessions(bars: Iterable[Bar]) -> list[list[Bar]]:
    """Return ``bars``, which must be oldest first, one list per day in IST."""
    return [list(group) for _, group in groupby(bars, key=lambda bar: bar.start.date())]


def aggregate(bars: Iterable[Bar], unit: str, interval: int) -> list[Bar]:
    """Return coarser bars, oldest first, from minute bars, oldest first.

    Minutes and hours are counted from 9:15 IST of each day, as recorded Upstox answers are;
    weeks begin on Monday.
    """
    if unit == "minutes" and interval == 1:
        return list(bars)
    return [_merge(start, list(group)) for start, group in groupby(bars, key=lambda bar: _bucket(bar, unit, interval))]


def _bucket(bar: Bar, unit: str, interval: int) -> int:
    start = bar.start
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    match unit:
        case "minutes" | "hours":
            length = timedelta(minutes=interval) * (60 if unit == "hours" else 1)
            anchor = midnight + _OPENS
            return to_epoch_ms(anchor + (start - anchor) // length * length)
        case "weeks":
            return to_epoch_ms(midnight - timedelta(days=start.weekday()))
        case "months":
            return to_epoch_ms(midnight.replace(day=1))
        case _:
            return to_epoch_ms(midnight)


def _merge(start_ms: int, bars: Sequence[Bar]) -> Bar:
    return Bar(
        start_ms,
        bars[0].open,
        max(bar.high for bar in bars),
        min(bar.low for bar in bars),
        bars[-1].close,
        sum(bar.volume for bar in bars),
        bars[-1].open_interest,
    )


def read_text(path: Path) -> bytes:
    """Return a file's content, unpacked where its name ends in ``.gz``.

    Raises:
        ConfigurationError: It is not there, not readable, not gzip, or cut short.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except EOFError:
        raise ConfigurationError(f"{path} is cut short: the gzip stream has no end; download it again") from None
    except (gzip.BadGzipFile, zlib.error):
        raise ConfigurationError(f"{path} is damaged, or no gzip file at all; download it again") from None
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}; check the path") from None


def read_candles(path: Path) -> list[Bar]:
    """Read bars, oldest first, from a file of Upstox candle JSON (``.gz`` allowed).

    Raises:
        ConfigurationError: The file is unreadable, damaged, or holds no candles.
    """
    try:
        rows = json.loads(read_text(path))["data"]["candles"]
        bars = sorted(_bars(rows), key=lambda bar: bar.start_ms)
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(
            f'{path} is no candle file: expected Upstox JSON, {{"data": {{"candles": [[time, open, high, …], …]}}}}'
        ) from None
    if not bars:
        raise ConfigurationError(f"{path} holds no candles; choose a span with trading days")
    return bars


def _bars(rows: Iterable[Sequence[Any]]) -> Iterator[Bar]:
    for start, open_, high, low, close, volume, *rest in rows:
        opened = datetime.fromisoformat(start)
        if opened.tzinfo is None:
            opened = opened.replace(tzinfo=IST)
        yield Bar(
            to_epoch_ms(opened),
            float(open_),
            float(high),
            float(low),
            float(close),
            int(volume),
            int(rest[0]) if rest else 0,
        )


def on_days(bars: Sequence[Bar], first: date, last: date) -> list[Bar]:
    """Return the bars, oldest first, whose day in IST lies between ``first`` and ``last``, both included."""
    begin = bisect_left(bars, _midnight(first), key=_start)
    return list(bars[begin : bisect_left(bars, _midnight(last + timedelta(days=1)), key=_start)])


def _start(bar: Bar) -> int:
    return bar.start_ms


def _midnight(day: date) -> int:
    return to_epoch_ms(datetime.combine(day, time(), IST))
