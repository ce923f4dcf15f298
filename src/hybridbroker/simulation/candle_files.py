"""Bars from files: brokers' JSON, and the CSV and Parquet that ``hybridbroker candles`` writes; nothing is mended."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candles, Interval
from hybridbroker.errors import ConfigurationError

__all__ = ["COLUMNS", "infer_interval", "read_candles"]

COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume", "open_interest")
"""Of CSV and Parquet files; times in ISO form, IST where they name no zone."""
_WRITTEN_AS: Final = "start"
"""What ``hybridbroker candles`` calls the time."""

_LENGTHS: Final = {each.duration: each for each in Interval if each.duration is not None}
_WEEK: Final = timedelta(days=7)
_MONTH: Final = timedelta(days=28)


def read_candles(path: Path | str, *, instrument: Instrument, interval: Interval | None = None) -> Candles:
    """Read the bars of one instrument, oldest first; a file that is newest first is turned around.

    ``.json`` is Upstox's envelope (``{"data": {"candles": [[time, open, …], …]}}``), ``.csv`` and
    ``.parquet`` have the `COLUMNS`; JSON and CSV may be packed with gzip. What is no number is
    NaN, rows stay in their order: `validate` is for telling what is wrong.

    Raises:
        ConfigurationError: The file is not there, not readable, or none of these.
    """
    path = Path(path)
    name = path.name.removesuffix(".gz")
    if name.endswith(".json"):
        rows = _from_json(path)
    elif name.endswith(".csv"):
        rows = _from_csv(path)
    elif name.endswith(".parquet"):
        rows = _from_parquet(path)
    else:
        raise ConfigurationError(f"{path} is no candle file by its name: .json, .csv (both also .gz) or .parquet")
    if not rows:
        raise ConfigurationError(f"{path} holds no candles")
    if len(rows) > 1 and sum(b[0] < a[0] for a, b in pairwise(rows)) > len(rows) / 2:
        rows.reverse()
    columns = list(zip(*rows, strict=True))
    return Candles(
        instrument=instrument,
        interval=interval or infer_interval(columns[0]),
        start=columns[0],
        open=columns[1],
        high=columns[2],
        low=columns[3],
        close=columns[4],
        volume=columns[5],
        open_interest=columns[6],
    )


def infer_interval(starts: Sequence[datetime]) -> Interval:
    """Return the length of bars by the commonest distance between them.

    Raises:
        ConfigurationError: It is none that there is a name for.
    """
    steps = Counter(abs(after - before) for before, after in pairwise(starts))
    steps.pop(timedelta(0), None)
    if not steps:
        raise ConfigurationError("one bar does not say how long it is; name the interval")
    step = min(steps, key=lambda each: (-steps[each], each))
    if step in _LENGTHS:
        return _LENGTHS[step]
    if step < timedelta(days=1):
        raise ConfigurationError(f"bars {step} apart have no name here; there are {', '.join(Interval)}")
    if step < _WEEK:
        return Interval.DAY_1
    return Interval.WEEK_1 if step < _MONTH else Interval.MONTH_1


_Row = tuple[datetime, float, float, float, float, int, int]


def _from_json(path: Path) -> list[_Row]:
    try:
        rows = json.loads(_text(path))["data"]["candles"]
        return [_row(*row[:7]) for row in rows]
    except (ValueError, TypeError, KeyError) as exc:
        raise ConfigurationError(
            f'{path} is no candle file: expected {{"data": {{"candles": [[time, open, high, low, close, volume, oi], '
            f"…]}}}} ({type(exc).__name__}: {exc})"
        ) from None


def _from_csv(path: Path) -> list[_Row]:
    reader = csv.DictReader(io.StringIO(_text(path)))
    return _from_mappings(path, reader.fieldnames or (), reader)


def _from_parquet(path: Path) -> list[_Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise ConfigurationError("pyarrow is missing: pip install 'hybridbroker[parquet]'") from exc
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as exc:
        raise ConfigurationError(f"{path} cannot be read as Parquet: {exc}") from exc
    return _from_mappings(path, table.column_names, table.to_pylist())


def _from_mappings(path: Path, names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> list[_Row]:
    found = set(names)
    columns = (_WRITTEN_AS, *COLUMNS[1:]) if COLUMNS[0] not in found and _WRITTEN_AS in found else COLUMNS
    missing = [each for each in columns[:6] if each not in found]
    if missing:
        raise ConfigurationError(f"{path} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    read: list[_Row] = []
    for number, row in enumerate(rows):
        try:
            read.append(_row(*(row.get(name) for name in columns)))
        except (ValueError, TypeError) as exc:
            raise ConfigurationError(f"{path} row {number} is no bar ({exc})") from None
    return read


def _row(  # noqa: PLR0917 - the columns of a row
    start: Any, first: Any, high: Any, low: Any, last: Any, volume: Any = 0, interest: Any = 0
) -> _Row:  # fmt: skip
    at = start if isinstance(start, datetime) else datetime.fromisoformat(str(start))
    at = at.replace(tzinfo=IST) if at.tzinfo is None else at.astimezone(IST)
    return at, _number(first), _number(high), _number(low), _number(last), _count(volume), _count(interest)


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _count(value: Any) -> int:
    number = _number(value)
    return 0 if math.isnan(number) else int(number)


def _text(path: Path) -> str:
    read: Callable[[bytes], bytes] = gzip.decompress if path.suffix == ".gz" else bytes
    try:
        return read(path.read_bytes()).decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ConfigurationError(f"{path} is damaged or cut short; download it again") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no text; is it packed, and not named .gz?") from None
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}; check the path") from None
