"""Candle files that survive being killed: finished windows are kept in a part file, the whole file appears at once.

A part file is text: a line that says what is downloaded, then for each finished window its rows
and a line that says through which day it goes. What follows the last such line was cut off.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.market import Candle
from hybridbroker.errors import ConfigurationError

__all__ = ["COLUMNS", "FORMATS", "PartFile", "check_format", "write_candles"]

COLUMNS: Final = ("start", "open", "high", "low", "close", "volume", "open_interest")
FORMATS: Final = (".csv", ".parquet")

_THROUGH: Final = "# through "
_ROWS_PER_GROUP: Final = 100_000

Row = Sequence[str]


def check_format(path: Path) -> None:
    """Check that ``path`` can be written before anything is downloaded.

    Raises:
        ConfigurationError: Its ending says no format, or what writes it is not installed.
    """
    if path.suffix not in FORMATS:
        raise ConfigurationError(f"{path}: end the name in {' or '.join(FORMATS)}, which says the format")
    if path.suffix == ".parquet":
        _pyarrow()


@attrs.define
class PartFile:
    """What is downloaded already of one file; ``subject`` says what that is."""

    path: Path
    subject: dict[str, str]
    through: date | None = None
    """Through which day it goes; None where nothing is finished."""

    @classmethod
    def open(cls, path: Path, *, subject: dict[str, str]) -> PartFile:
        """Open one, or begin one; one of another download is begun anew.

        Raises:
            ConfigurationError: It cannot be read or written.
        """
        part = cls(path, subject)
        try:
            kept = part._kept()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+" if kept else "w", encoding="utf-8", newline="") as file:
                if kept:
                    file.truncate(kept)
                else:
                    file.write(json.dumps(subject) + "\n")
                _settle(file)
        except OSError as exc:
            raise ConfigurationError(f"{path} cannot be written: {exc.strerror}; check the folder") from None
        return part

    def append(self, candles: Iterable[Candle], *, through: date) -> None:
        """Keep the candles of a window that is finished; once this returns it survives a crash."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(map(_row, candles))
            file.write(f"{_THROUGH}{through}\n")
            _settle(file)
        self.through = through

    def rows(self) -> Iterator[Row]:
        """Iterate over what is kept, oldest first."""
        with self.path.open(encoding="utf-8", newline="") as file:
            next(file)
            yield from csv.reader(line for line in file if not line.startswith(_THROUGH))

    def remove(self) -> None:
        """Delete it: the whole file is there."""
        self.path.unlink(missing_ok=True)

    def _kept(self) -> int:
        """Return how many bytes hold finished windows, 0 where it is another download's; note how far they go."""
        if not self.path.exists():
            return 0
        kept = at = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                at += len(line)
                text = line.decode("utf-8", "replace")
                if number == 0:
                    if not line.endswith(b"\n") or _subject(text) != self.subject:
                        return 0
                    kept = at
                elif text.startswith(_THROUGH) and text.endswith("\n"):
                    kept, self.through = at, _day(text.removeprefix(_THROUGH).strip(), self.path)
        return kept


def write_candles(path: Path, kept: Iterable[Row], newest: Iterable[Candle]) -> tuple[int, str, str]:
    """Write rows, then candles, so that ``path`` is either the old file or the whole new one.

    Returns:
        How many rows there are, and when the first and the last one start; empty where there are none.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    seen = _Seen()
    rows = seen.watch(_all(kept, newest))
    try:
        if path.suffix == ".parquet":
            _write_parquet(temporary, rows)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                writer.writerows(rows)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}; check the folder and its space") from None
    finally:
        temporary.unlink(missing_ok=True)
    return seen.count, seen.first, seen.last


@attrs.define
class _Seen:
    count: int = 0
    first: str = ""
    last: str = ""

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.count += 1
            self.first = self.first or row[0]
            self.last = row[0]
            yield row


def _all(kept: Iterable[Row], newest: Iterable[Candle]) -> Iterator[Row]:
    yield from kept
    yield from map(_row, newest)


def _row(candle: Candle) -> Row:
    prices = (candle.open, candle.high, candle.low, candle.close)
    return [candle.start.isoformat(), *map(repr, prices), str(candle.volume), str(candle.open_interest)]


def _write_parquet(path: Path, rows: Iterator[Row]) -> None:
    pa, parquet = _pyarrow()
    zone = pa.timestamp("ms", tz="Asia/Kolkata")
    types = dict(zip(COLUMNS, (zone, *[pa.float64()] * 4, *[pa.int64()] * 2), strict=True))
    schema = pa.schema(list(types.items()))
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(rows):
            start, *prices, volume, interest = zip(*group, strict=True)
            columns: list[list[Any]] = [[datetime.fromisoformat(each).astimezone(IST) for each in start]]
            columns += [[float(each) for each in column] for column in prices]
            columns += [[int(each) for each in column] for column in (volume, interest)]
            arrays = [pa.array(column, type=kind) for column, kind in zip(columns, types.values(), strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == _ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ConfigurationError(
            "pyarrow is missing, which writes Parquet: pip install 'hybridbroker[parquet]', or name a .csv file"
        ) from None
    return pa, parquet


def _subject(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _day(text: str, path: Path) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{path} is damaged; delete it, and the download begins anew") from None


def _settle(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())
