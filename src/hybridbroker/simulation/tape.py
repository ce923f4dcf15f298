"""Recorded market events on disk: Parquet, one file an hour, which a crash leaves readable.

A recorder writes what came since its last flush to a small part of its own (temporary file,
fsync, rename) and, when the hour is over, all parts of the hour into one file. So every file
that can be seen is whole, and a killed recorder loses what came after its last flush: ten
seconds, unless told otherwise.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import MarketEvent
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.tape_rows import COLUMNS, from_columns, instrument_from, instrument_to, to_row

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SCHEMA_VERSION", "Tape", "TapeWriter"]

SCHEMA_VERSION: Final = 1
"""Of the columns; a file of a later one is refused."""

_BATCH: Final = 2048
_HOUR_MS: Final = 3_600_000
_IST_MS: Final = 19_800_000
_VERSION: Final = b"hybridbroker.tape"
_INSTRUMENTS: Final = b"hybridbroker.instruments"
_PARTS: Final = b"hybridbroker.parts"


class TapeWriter:
    """Writes events to a directory, which others may already record into.

    Events are kept in memory until `flush`; the hour of an event is that in which it was
    received. Leaving the ``with`` flushes and closes the hour.

    Raises:
        ConfigurationError: pyarrow is missing, or the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        _arrow()
        self.written = 0
        """Events on disk."""
        self._directory = directory
        self._token = secrets.token_hex(4)
        self._rows: list[dict[str, Any]] = []
        self._seen: dict[str, Instrument] = {}
        self._parts: list[Path] = []
        self._hour: int | None = None
        self._count = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(f"cannot write tapes to {directory}: {exc.strerror}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Return how many events a crash would lose now."""
        return len(self._rows)

    def add(self, event: MarketEvent) -> None:
        """Take an event; nothing is written yet."""
        row = to_row(event)
        instrument = getattr(event, "instrument", None)
        if instrument is not None:
            self._seen[instrument.id] = instrument
        self._rows.append(row)

    def flush(self) -> None:
        """Put what came since the last flush on disk; may run in a thread, one at a time."""
        rows, self._rows = self._rows, []
        while rows:
            hour = _hour(rows[0])
            cut = next((number for number, row in enumerate(rows) if _hour(row) != hour), len(rows))
            now, rows = rows[:cut], rows[cut:]
            if self._hour is not None and hour != self._hour:
                self._close_hour()
            self._hour = hour
            self._parts.append(self._write(self._table(now), now[0]["at_ms"], parts=()))
            self.written += len(now)

    def close(self) -> None:
        """Flush, and close the hour."""
        self.flush()
        self._close_hour()

    def _close_hour(self) -> None:
        parts, self._parts = self._parts, []
        if len(parts) < 2:  # noqa: PLR2004 - one part is an hour's file already
            return
        pa, pq = _arrow()
        table = pa.concat_tables([pq.read_table(each) for each in parts])
        self._write(table, table["at_ms"][0].as_py(), parts=[each.name for each in parts])
        for part in parts:
            part.unlink(missing_ok=True)

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        pa, _ = _arrow()
        return pa.Table.from_pylist(list(rows), schema=_schema())

    def _write(self, table: pa.Table, at_ms: int, *, parts: Sequence[str]) -> Path:
        _, pq = _arrow()
        self._count += 1
        path = self._directory / f"{from_epoch_ms(at_ms):%Y-%m-%dT%H%M%S}-{self._token}-{self._count:05d}.parquet"
        temporary = path.with_suffix(".tmp")
        told = {
            _VERSION: str(SCHEMA_VERSION).encode(),
            _INSTRUMENTS: json.dumps([instrument_to(each) for each in self._seen.values()]).encode(),
            _PARTS: json.dumps(list(parts)).encode(),
        }
        try:
            with temporary.open("wb") as file:
                pq.write_table(table.replace_schema_metadata(told), file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as exc:
            raise ConfigurationError(f"cannot write the tape {path}: {exc.strerror}") from exc
        return path


class Tape:
    """What one or several recorders wrote to a directory (or one of its files)."""

    def __init__(self, path: Path, files: Sequence[Path], instruments: Sequence[Instrument]) -> None:
        self.path = path
        self.instruments = tuple(instruments)
        """Instruments that occur, by id."""
        self._files = tuple(files)

    @classmethod
    def open(cls, path: Path | str) -> Tape:
        """Look at a tape; only the ends of its files are read.

        Raises:
            ConfigurationError: It is no tape, is damaged, or was written by a newer version.
        """
        path = Path(path)
        found = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not found:
            raise ConfigurationError(f"{path} holds no tape; 'hybridbroker record … --out {path}' makes one")
        _, pq = _arrow()
        instruments: dict[str, Instrument] = {}
        in_hours: set[str] = set()
        for file in found:
            metadata = _metadata(file, pq)
            for each in json.loads(metadata[_INSTRUMENTS]):
                instrument = instrument_from(each)
                instruments[instrument.id] = instrument
            in_hours.update(json.loads(metadata[_PARTS]))
        # A recorder killed while it closed an hour leaves parts beside the file that holds them.
        files = [each for each in found if each.name not in in_hours]
        return cls(path, files, [instruments[name] for name in sorted(instruments)])

    def __len__(self) -> int:
        """Return the number of events."""
        _, pq = _arrow()
        return sum(pq.ParquetFile(each).metadata.num_rows for each in self._files)

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        """Iterate over events with the time they were received, milliseconds since 1970 UTC.

        One recorder's events come as they were received, several recorders' merged by time. A
        few thousand events are in memory at a time, whatever the length.

        Raises:
            ConfigurationError: A file is damaged, found when its turn comes.
        """
        by_recorder: dict[str, list[Path]] = {}
        for each in self._files:
            by_recorder.setdefault(each.stem.rpartition("-")[0][-8:], []).append(each)
        known = {each.id: each for each in self.instruments}
        recorded = [chain.from_iterable(_events(file, known) for file in files) for files in by_recorder.values()]
        newest = 0
        for at_ms, event in merge(*recorded, key=lambda pair: pair[0]) if len(recorded) > 1 else recorded[0]:
            newest = max(newest, at_ms)  # a clock set back must not take the replay back
            yield newest, event


def _hour(row: Mapping[str, Any]) -> int:
    """Return the hour of a row on the Indian clock."""
    return int((row["at_ms"] + _IST_MS) // _HOUR_MS)


def _events(file: Path, known: Mapping[str, Instrument]) -> Iterator[tuple[int, MarketEvent]]:
    pa, pq = _arrow()
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH):
            yield from from_columns({name: batch.column(name).to_pylist() for name in COLUMNS}, known)
    except (pa.ArrowException, OSError) as exc:
        raise ConfigurationError(f"{file} is damaged ({exc}); delete it to replay the rest") from exc


def _metadata(file: Path, pq: Any) -> Mapping[bytes, bytes]:
    pa, _ = _arrow()
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowException, OSError) as exc:
        raise ConfigurationError(f"{file} is no tape, or a damaged one ({exc})") from exc
    version = int(metadata.get(_VERSION, b"0"))
    if not version:
        raise ConfigurationError(f"{file} is a Parquet file, but no tape; tapes are made by 'hybridbroker record'")
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{file} was written by a newer version of hybridbroker (tape {version}, this one reads "
            f"{SCHEMA_VERSION}); upgrade"
        )
    return dict(metadata)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise ConfigurationError("pyarrow is missing: pip install 'hybridbroker[parquet]'") from exc
    return pa, pq


def _schema() -> pa.Schema:
    pa, _ = _arrow()
    level = pa.struct([("price", pa.float64()), ("quantity", pa.int64()), ("orders", pa.int64())])
    bar = pa.struct(
        [("start_ms", pa.int64())]
        + [(name, pa.float64()) for name in ("open", "high", "low", "close")]
        + [("volume", pa.int64()), ("open_interest", pa.int64())]
    )
    greeks = pa.struct(
        [(name, pa.float64()) for name in ("delta", "theta", "gamma", "vega", "rho", "implied_volatility")]
    )
    auction = pa.struct(
        [
            ("price", pa.float64()),
            ("quantity", pa.int64()),
            ("reference_price", pa.float64()),
            ("imbalance", pa.int64()),
            ("market_imbalance", pa.int64()),
            ("eligible", pa.bool_()),
        ]
    )
    types = {
        "float": pa.float64(),
        "int": pa.int64(),
        "bool": pa.bool_(),
        "name": pa.string(),
        "levels": pa.list_(level),
        "bar": bar,
        "greeks": greeks,
        "auction": auction,
    }
    return pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
