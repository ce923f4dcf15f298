"""A built registry on disk: one SQLite file, written beside its place and moved there whole, opened read-only.

Kept out of the Python heap on purpose: a heap of some 400,000 objects costs the feed a pause of
over a hundred milliseconds whenever the garbage collector walks it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import attrs

from hybridbroker.domain.instrument import Exchange, InstrumentKind
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.identity import instrument_id, strike_text
from hybridbroker.instruments.index_names import index_of_underlying
from hybridbroker.instruments.join import Outcome
from hybridbroker.instruments.listings import Listing, Listings
from hybridbroker.instruments.report import coverage_of
from hybridbroker.instruments.search import search_text

__all__ = ["VERSION", "fill", "open_readonly", "write"]

VERSION: Final = 1
"""Of the tables below; a file of another version is built again, never migrated."""
_APPLICATION: Final = 0x48425249  # "HBRI"

_TABLES: Final = """
CREATE TABLE instrument (
    id TEXT PRIMARY KEY, exchange TEXT, kind TEXT, symbol TEXT, name TEXT, isin TEXT, series TEXT, lot_size INTEGER,
    tick_size TEXT, freeze_quantity INTEGER, expiry TEXT, strike TEXT, option_right TEXT, keys TEXT
) WITHOUT ROWID;
CREATE TABLE native (key TEXT PRIMARY KEY, id TEXT, conflict INTEGER) WITHOUT ROWID;
CREATE TABLE contested (name TEXT PRIMARY KEY, conflict INTEGER) WITHOUT ROWID;
CREATE TABLE conflict (number INTEGER PRIMARY KEY, kind TEXT, message TEXT, ids TEXT);
CREATE TABLE left_out (key TEXT PRIMARY KEY, id TEXT, reason TEXT) WITHOUT ROWID;
CREATE TABLE expiry (underlying TEXT, exchange TEXT, kind TEXT, day TEXT,
    PRIMARY KEY (underlying, exchange, kind, day)) WITHOUT ROWID;
CREATE TABLE underlying (exchange TEXT, symbol TEXT, id TEXT, PRIMARY KEY (exchange, symbol)) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
_INDICES: Final = """
CREATE INDEX instrument_isin ON instrument (isin) WHERE isin IS NOT NULL;
"""
_FAST: Final = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; PRAGMA page_size=8192;"


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as exc:
        raise ConfigurationError(f"{path}: cannot be written ({exc.strerror}); choose another place") from exc
    part = Path(name)
    try:
        connection = sqlite3.connect(part, isolation_level=None)
        try:
            connection.executescript(_FAST)
            fill(connection, outcome, masters, built_at=built_at, extra=extra)
        finally:
            connection.close()
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except (OSError, sqlite3.OperationalError) as exc:
        raise ConfigurationError(f"{path}: cannot be written ({exc})") from exc
    finally:
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
    connection.executescript(_TABLES)
    connection.execute(f"PRAGMA application_id={_APPLICATION}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO instrument VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (_instrument_row(entry.terms, entry.rows) for entry in outcome.entries),
    )
    connection.executemany(
        "INSERT INTO native VALUES (?,?,NULL)",
        ((_key(row), entry.terms.id) for entry in outcome.entries for row in entry.rows),
    )
    _fill_conflicts(connection, outcome)
    connection.executemany(
        "INSERT OR REPLACE INTO left_out VALUES (?,?,?)",
        ((_key(each.row), each.row.id, each.reason) for each in outcome.left_out),
    )
    derived_on = _fill_underlyings(connection, outcome, masters)
    meta = _meta_of(outcome, masters, built_at=built_at, derived_on=derived_on) | dict(extra or {})
    connection.executemany("INSERT INTO meta VALUES (?,?)", ((name, json.dumps(value)) for name, value in meta.items()))
    connection.execute("COMMIT")
    connection.executescript(_INDICES)


def _meta_of(
    outcome: Outcome, masters: Sequence[Listings], *, built_at: datetime | None, derived_on: frozenset[str]
) -> dict[str, Any]:
    names, vocabulary = search_text(
        (entry.terms for entry in outcome.entries if entry.terms.expiry is None), derived_on=derived_on
    )
    return {
        "built_at": None if built_at is None else built_at.isoformat(),
        "masters": [
            {
                "broker": master.broker,
                "files": list(master.files),
                "published": _text(master.published),
                "not_after": _text(master.not_after),
            }
            for master in masters
        ],
        "kept": {master.broker: len(master.rows) for master in masters},
        "coverage": attrs.asdict(coverage_of(outcome, masters)),
        "names": names,
        "vocabulary": vocabulary,
    }


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open a built registry without locks, since a file in place is never changed, only replaced.

    Raises:
        ConfigurationError: There is none, it is something else, or another version of this library built it.
    """
    hint = "build one with: hybridbroker instruments build"
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such instrument registry; {hint}")
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
        raise ConfigurationError(f"{path}: not an instrument registry ({exc}); {hint}") from exc
    size = path.stat().st_size
    if application == _APPLICATION and version == VERSION and pages * page_size == size:
        return connection
    connection.close()
    if application != _APPLICATION:
        raise ConfigurationError(f"{path}: a database, but no instrument registry; {hint}")
    if version != VERSION:
        raise ConfigurationError(f"{path}: built by another version of this library ({version}, not {VERSION}); {hint}")
    raise ConfigurationError(f"{path}: damaged ({size:,} bytes where {pages * page_size:,} should be); {hint}")


def _key(row: Listing) -> str:
    native = row.native_id
    name = native if native.startswith(f"{row.segment_name}|") else f"{row.segment_name}:{native}"
    return f"{row.broker} {name}"


def _instrument_row(terms: Listing, rows: Sequence[Listing]) -> tuple[object, ...]:
    return (
        terms.id,
        terms.exchange,
        terms.kind,
        terms.symbol,
        terms.name,
        terms.isin,
        terms.series,
        terms.lot_size,
        str(terms.tick_size),
        terms.freeze_quantity,
        None if terms.expiry is None else terms.expiry.isoformat(),
        None if terms.strike is None else strike_text(terms.strike),
        terms.right,
        "\n".join(f"{row.broker}\t{row.segment_name}\t{row.native_id}" for row in rows),
    )


def _fill_conflicts(connection: sqlite3.Connection, outcome: Outcome) -> None:
    for number, conflict in enumerate(outcome.conflicts, start=1):
        ids = sorted({row.id for row in conflict.rows})
        connection.execute(
            "INSERT INTO conflict VALUES (?,?,?,?)", (number, conflict.kind, conflict.message, json.dumps(ids))
        )
        isins = {f"{row.exchange}:{row.isin}" for row in conflict.rows if row.isin is not None}
        connection.executemany(
            "INSERT OR IGNORE INTO contested VALUES (?,?)", ((each, number) for each in {*ids, *isins})
        )
        connection.executemany(
            "INSERT OR REPLACE INTO native VALUES (?,NULL,?)", ((_key(row), number) for row in conflict.rows)
        )


def _fill_underlyings(connection: sqlite3.Connection, outcome: Outcome, masters: Sequence[Listings]) -> frozenset[str]:
    ids = {entry.terms.id for entry in outcome.entries}
    series = {
        (entry.terms.symbol, entry.terms.exchange, entry.terms.kind, entry.terms.expiry)
        for entry in outcome.entries
        if entry.terms.expiry is not None
    }
    connection.executemany(
        "INSERT INTO expiry VALUES (?,?,?,?)",
        ((symbol, exchange, kind, day.isoformat()) for symbol, exchange, kind, day in series if day is not None),
    )
    known = dict(_underlyings({(exchange, symbol) for symbol, exchange, _, _ in series}, ids))
    connection.executemany("INSERT INTO underlying VALUES (?,?,?)", ((*where, id_) for where, id_ in known.items()))
    connection.executemany(
        "INSERT OR IGNORE INTO native VALUES (?,?,NULL)",
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
