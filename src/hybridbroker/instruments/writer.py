"""Writing a join's outcome into a registry file.

An instrument is one short row: its id (which says exchange, symbol, expiry, strike and right), what
the id does not say as one text, and each broker's key in a column of its own. Binding a value is what
inserting costs, and a build inserts 180,000 rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, Final

import attrs

from hybridbroker.domain.instrument import Exchange, InstrumentKind, Segment
from hybridbroker.instruments import store
from hybridbroker.instruments.identity import instrument_id
from hybridbroker.instruments.index_names import index_of_underlying
from hybridbroker.instruments.listings import Listing, Listings
from hybridbroker.instruments.outcome import Alone, Entry, LeftOut, Outcome
from hybridbroker.instruments.report import Census
from hybridbroker.instruments.search import search_text

__all__ = ["fill", "write"]


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
CREATE TABLE search (part TEXT PRIMARY KEY, text TEXT);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
# The first index holds the terms too: looking up an instrument or a chain then reads nothing else.
_INDICES: Final = """
CREATE INDEX by_id ON instrument (id, terms);
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
    with store.in_place(path) as part:
        connection = sqlite3.connect(part, isolation_level=None)
        try:
            connection.executescript(_FAST)
            fill(connection, outcome, masters, built_at=built_at, extra=extra)
        finally:
            connection.close()


def fill(
    connection: sqlite3.Connection,
    outcome: Outcome,
    masters: Sequence[Listings],
    *,
    built_at: datetime | None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a join's outcome into an empty database."""
    columns = {master.broker: store.key_column(master.broker) for master in masters}
    connection.executescript(_TABLES.format(keys="".join(f", {column} TEXT" for column in columns.values())))
    connection.execute(f"PRAGMA application_id={store.APPLICATION}")
    connection.execute(f"PRAGMA user_version={store.VERSION}")
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
    texts = search_text(census.papers, derived_on=derived_on)
    connection.executemany("INSERT INTO search VALUES (?,?)", texts.items())
    connection.execute("COMMIT")


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
