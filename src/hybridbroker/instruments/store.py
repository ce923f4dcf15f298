"""A built registry on disk: one SQLite file, written beside its place and moved there whole, opened read-only.

Kept out of the Python heap on purpose: a heap of some 400,000 objects costs the feed a pause of
over a hundred milliseconds whenever the garbage collector walks it.

An instrument is one short row: its id (which says exchange, symbol, expiry, strike and right), what
the id does not say as one text, and each broker's key in a column of its own. Binding a value is what
inserting costs, and a build inserts 180,000 rows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import cache
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, Final

import attrs

from hybridbroker.domain.instrument import Exchange, InstrumentKind, Segment
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.identity import instrument_id
from hybridbroker.instruments.index_names import index_of_underlying
from hybridbroker.instruments.listings import Listing, Listings
from hybridbroker.instruments.outcome import Alone, Entry, LeftOut, Outcome
from hybridbroker.instruments.report import Census
from hybridbroker.instruments.search import search_text

__all__ = ["HINT", "VERSION", "brokers_of", "copy", "fill", "open_readonly", "write"]

VERSION: Final = 1
"""Of the tables below; a file of another version is built again, never migrated."""
HINT: Final = "build one with: hybridbroker instruments build"
_APPLICATION: Final = 0x48425249  # "HBRI"
_BROKER: Final = re.compile(r"[A-Za-z0-9_-]+")

_TABLES: Final = """
CREATE TABLE instrument (id TEXT, terms TEXT {keys});
CREATE TABLE cash (symbol TEXT, isin TEXT, exchange TEXT, series TEXT, id TEXT);
CREATE TABLE alias (key TEXT PRIMARY KEY, id TEXT) WITHOUT ROWID;
CREATE TABLE conflict (number INTEGER PRIMARY KEY, kind TEXT, message TEXT, ids TEXT);
CREATE TABLE contested (name TEXT PRIMARY KEY, conflict INTEGER) WITHOUT ROWID;
CREATE TABLE left_out (key TEXT, id TEXT, reason TEXT);
CREATE TABLE expiry (underlying TEXT, exchange TEXT, kind TEXT, day TEXT,
    PRIMARY KEY (underlying, exchange, kind, day)) WITHOUT ROWID;
CREATE TABLE underlying (exchange TEXT, symbol TEXT, id TEXT, PRIMARY KEY (exchange, symbol)) WITHOUT ROWID;
CREATE TABLE search (names TEXT, vocabulary TEXT);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
_INDICES: Final = """
CREATE UNIQUE INDEX by_id ON instrument (id);
CREATE INDEX cash_by_symbol ON cash (symbol);
CREATE INDEX cash_by_isin ON cash (isin) WHERE isin IS NOT NULL;
CREATE INDEX left_out_by_key ON left_out (key);
"""
_BATCH: Final = 25
_FAST: Final = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY;"


def write(
    path: Path,
    outcome: Outcome,
    masters: Sequence[Listings],
    *,
    built_at: datetime | None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Build the file beside ``path`` and move it there; whoever has the old one open keeps reading the old one.

    Raises:
        ConfigurationError: The directory cannot be written to.
    """
    with _in_place(path) as part:
        connection = sqlite3.connect(part, isolation_level=None)
        try:
            connection.executescript(_FAST)
            fill(connection, outcome, masters, built_at=built_at, extra=extra)
        finally:
            connection.close()


def copy(source: Path, target: Path) -> None:
    """Copy a built file, whole or not at all.

    Raises:
        ConfigurationError: The target cannot be written.
    """
    with _in_place(target) as part:
        shutil.copyfile(source, part)


@contextmanager
def _in_place(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write to, and put it there once it is written."""
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except (OSError, sqlite3.OperationalError) as exc:
        raise ConfigurationError(f"{path}: cannot be written ({exc}); choose another place") from exc
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def fill(
    connection: sqlite3.Connection,
    outcome: Outcome,
    masters: Sequence[Listings],
    *,
    built_at: datetime | None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a join's outcome into an empty database."""
    columns = {master.broker: _column(master.broker) for master in masters}
    connection.executescript(_TABLES.format(keys="".join(f", {column} TEXT" for column in columns.values())))
    connection.execute(f"PRAGMA application_id={_APPLICATION}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("BEGIN")
    census = Census()
    brokers = list(columns)
    _insert(connection, "instrument", 2 + len(brokers), _instruments(census.walk(outcome.settled), brokers))
    for each in census.walk_alone(outcome.alone):
        _insert_alone(connection, columns[each.contracts.broker], each)
    _insert(connection, "cash", 5, (_cash(row) for row in census.papers if row.segment is Segment.CASH))
    _insert(connection, "left_out", 3, chain.from_iterable(map(_left_out, outcome.left_out)))
    for statement in _INDICES.strip().splitlines():
        connection.execute(statement)
    for broker, column in columns.items():
        connection.execute(f'CREATE UNIQUE INDEX "by {broker}" ON instrument ({column}) WHERE {column} IS NOT NULL')
    _fill_conflicts(connection, outcome)
    derived_on = _fill_underlyings(connection, census, masters)
    meta = {
        "built_at": None if built_at is None else built_at.isoformat(),
        "masters": [_master(master) for master in masters],
        "kept": {master.broker: len(master) for master in masters},
        "coverage": attrs.asdict(census.coverage(outcome, masters)),
        **(extra or {}),
    }
    connection.executemany("INSERT INTO meta VALUES (?,?)", ((name, json.dumps(value)) for name, value in meta.items()))
    connection.execute("INSERT INTO search VALUES (?,?)", search_text(census.papers, derived_on=derived_on))
    connection.execute("COMMIT")


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open a built registry without locks, since a file in place is never changed, only replaced.

    Raises:
        ConfigurationError: There is none, it is something else, or another version of this library built it.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such instrument registry; {HINT}")
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    except sqlite3.DatabaseError as exc:
        connection.close()
        raise ConfigurationError(f"{path}: not an instrument registry ({exc}); {HINT}") from exc
    size = path.stat().st_size
    if application == _APPLICATION and version == VERSION and pages * page_size == size:
        return connection
    connection.close()
    if application != _APPLICATION:
        raise ConfigurationError(f"{path}: a database, but no instrument registry; {HINT}")
    if version != VERSION:
        raise ConfigurationError(f"{path}: built by another version of this library ({version}, not {VERSION}); {HINT}")
    raise ConfigurationError(f"{path}: damaged ({size:,} bytes where {pages * page_size:,} should be); {HINT}")


def brokers_of(connection: sqlite3.Connection, schema: str = "main") -> dict[str, str]:
    """Return the brokers a registry knows, each with the column that holds its keys."""
    columns = [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info(instrument)")]
    return {column.removeprefix("key "): f'"{column}"' for column in columns if column.startswith("key ")}


def _column(broker: str) -> str:
    if _BROKER.fullmatch(broker) is None:
        raise ConfigurationError(f"{broker!r} cannot name a broker; letters, digits, hyphens and underscores can")
    return f'"key {broker}"'


def _insert(connection: sqlite3.Connection, table: str, width: int, rows: Iterable[tuple[object, ...]]) -> None:
    """Insert many rows, several by one statement, which takes half the time."""
    one = f"({','.join('?' * width)})"
    several = f"INSERT INTO {table} VALUES {','.join([one] * _BATCH)}"  # noqa: S608 - our own tables
    remaining = iter(rows)
    while len(batch := list(islice(remaining, _BATCH))) == _BATCH:
        connection.execute(several, tuple(chain.from_iterable(batch)))
    connection.executemany(f"INSERT INTO {table} VALUES {one}", batch)  # noqa: S608 - our own tables


def _instruments(entries: Iterable[Entry], brokers: Sequence[str]) -> Iterator[tuple[str | None, ...]]:
    at = {broker: index for index, broker in enumerate(brokers)}
    for entry in entries:
        row = entry.terms
        keys: list[str | None] = [None] * len(brokers)
        for each in entry.rows:
            keys[at[each.broker]] = each.key_text
        yield (row.id, _cash_terms(row) if row.expiry is None else _contract_terms(row), *keys)


def _insert_alone(connection: sqlite3.Connection, column: str, each: Alone) -> None:
    """Insert one broker's contracts: what they share is bound once, the other brokers' columns not at all."""
    terms, keys = _contract_terms(each.contracts.listing(0)), each.contracts.keys()
    for start in range(0, len(keys), _BATCH):
        ids = each.ids[start : start + _BATCH]
        values: list[str] = [terms] * (1 + 2 * len(ids))
        values[1::2] = ids
        values[2::2] = keys[start : start + _BATCH]
        connection.execute(_several_alone(column, len(ids)), values)


@cache
def _several_alone(column: str, count: int) -> str:
    rows = ",".join(f"(?{2 * index + 2}, ?1, ?{2 * index + 3})" for index in range(count))
    return f"INSERT INTO instrument (id, terms, {column}) VALUES {rows}"  # noqa: S608 - our own column


def _contract_terms(row: Listing) -> str:
    """Write what the id does not say; `rows.unpack` reads it."""
    return f"{row.kind}\t{row.lot_size}\t{row.tick_size}\t{row.freeze_quantity or ''}"


def _cash_terms(row: Listing) -> str:
    name = row.name.replace("\t", " ")
    return f"{row.kind}\t{row.lot_size}\t{row.tick_size}\t\t{name}\t{row.isin or ''}\t{row.series or ''}"


def _cash(row: Listing) -> tuple[str | None, ...]:
    return row.symbol, row.isin, row.exchange.value, row.series, row.id


def _left_out(each: LeftOut) -> Iterator[tuple[str, str, str]]:
    names = (f"{each.broker} {key}" for key in each.keys)
    return zip(names, each.ids, repeat(str(each.reason)), strict=False)


def _fill_conflicts(connection: sqlite3.Connection, outcome: Outcome) -> None:
    for number, conflict in enumerate(outcome.conflicts, start=1):
        ids = sorted({row.id for row in conflict.rows})
        keys = {f"{row.broker} {row.key_text}" for row in conflict.rows}
        isins = {f"{row.exchange} ISIN {row.isin}" for row in conflict.rows if row.isin is not None}
        connection.execute(
            "INSERT INTO conflict VALUES (?,?,?,?)", (number, conflict.kind.value, conflict.message, json.dumps(ids))
        )
        connection.executemany(
            "INSERT OR IGNORE INTO contested VALUES (?,?)", ((name, number) for name in {*ids, *keys, *isins})
        )


def _fill_underlyings(connection: sqlite3.Connection, census: Census, masters: Sequence[Listings]) -> frozenset[str]:
    series = census.contracts.values()
    rows = {(row.symbol, row.exchange.value, row.kind.value, _text(row.expiry)) for row in series}
    connection.executemany("INSERT INTO expiry VALUES (?,?,?,?)", sorted(rows, key=str))
    plain = {row.id for row in census.papers}
    known = dict(_underlyings({(row.exchange, row.symbol) for row in series}, plain))
    connection.executemany(
        "INSERT INTO underlying VALUES (?,?,?)", ((where.value, symbol, id_) for (where, symbol), id_ in known.items())
    )
    connection.executemany(
        "INSERT OR IGNORE INTO alias VALUES (?,?)",
        (
            (f"{key.broker} {key}", known[where])
            for master in masters
            for where, key in master.underlying_ids.items()
            if where in known
        ),
    )
    return frozenset(known.values())


def _underlyings(wanted: Iterable[tuple[Exchange, str]], ids: set[str]) -> Iterator[tuple[tuple[Exchange, str], str]]:
    for exchange, symbol in wanted:
        index = instrument_id(exchange, InstrumentKind.INDEX, index_of_underlying(exchange, symbol))
        share = instrument_id(exchange, InstrumentKind.EQUITY, symbol)
        found = next((each for each in (index, share) if each in ids), None)
        if found is not None:
            yield (exchange, symbol), found


def _master(master: Listings) -> dict[str, Any]:
    return {
        "broker": master.broker,
        "files": list(master.files),
        "published": _text(master.published),
        "not_after": _text(master.not_after),
    }


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
