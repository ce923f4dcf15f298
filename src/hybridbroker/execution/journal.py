"""The order journal: SQLite, one writer, and every intent on disk before its request leaves.

Only the intent is synced (`PRAGMA synchronous=FULL`, one commit). Everything after it is
written at once but left to the operating system: a killed process loses none of it, and
after a power cut the row is still at least an intent, which is resolved by asking the
broker. Commits happen on the event loop on purpose: nothing can come between an intent and
its request, no cancellation can leave a commit in doubt, and ticks wait in the socket.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import attrs

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.orders import OrderStatus, OrderType, Product, Side, Trade, Validity
from hybridbroker.errors import ConfigurationError, InvalidOrder
from hybridbroker.execution.records import Entry, OrderState, scrubbed
from hybridbroker.files import FileLock

__all__ = ["SCHEMA_VERSION", "Change", "Event", "OrderJournal"]

SCHEMA_VERSION: Final = 1
_APPLICATION: Final = 0x48425244
"""Marks our files, so that somebody else's database is never written into."""

_SCHEMA: Final = """
CREATE TABLE orders (
  client_order_id TEXT PRIMARY KEY, instrument TEXT NOT NULL, side TEXT NOT NULL, type TEXT NOT NULL,
  product TEXT NOT NULL, validity TEXT NOT NULL, quantity INTEGER NOT NULL, price TEXT, trigger_price TEXT,
  after_market INTEGER NOT NULL, value TEXT, state TEXT NOT NULL, order_id TEXT, status TEXT,
  filled_quantity INTEGER NOT NULL, average_price TEXT, reason TEXT, created_at TEXT NOT NULL, sent_at TEXT,
  changed_at TEXT NOT NULL, updated_at TEXT, delivered TEXT NOT NULL, overridden INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX orders_state ON orders (state);
CREATE INDEX orders_created ON orders (created_at);
CREATE INDEX orders_carried ON orders (product) WHERE product = 'margin';
CREATE INDEX orders_queued ON orders (changed_at) WHERE after_market;
CREATE TABLE changes (
  id INTEGER PRIMARY KEY, order_id TEXT NOT NULL, kind TEXT NOT NULL, wanted TEXT NOT NULL, state TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at TEXT NOT NULL, client_order_id TEXT, kind TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX events_order ON events (client_order_id);
CREATE TABLE fills (
  order_id TEXT NOT NULL, trade_id TEXT NOT NULL, instrument TEXT NOT NULL, side TEXT NOT NULL, product TEXT NOT NULL,
  quantity INTEGER NOT NULL, price TEXT NOT NULL, traded_at TEXT NOT NULL, PRIMARY KEY (order_id, trade_id)
) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_FIELDS: Final = tuple(field.name for field in attrs.fields(Entry))
_INSERT: Final = f"INSERT INTO orders ({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608
_CHANGING: Final = (
    "quantity", "price", "trigger_price", "state", "order_id", "status", "filled_quantity", "average_price", "reason",
    "sent_at", "changed_at", "updated_at", "delivered", "overridden",
)  # fmt: skip
_UPDATE: Final = f"UPDATE orders SET {', '.join(f'{name}=?' for name in _CHANGING)} WHERE client_order_id=?"  # noqa: S608
_SELECT: Final = f"SELECT {', '.join(_FIELDS)} FROM orders"  # noqa: S608
_SENT: Final = "UPDATE orders SET state=?, sent_at=?, changed_at=? WHERE client_order_id=?"
_EVENT: Final = "INSERT INTO events (at, client_order_id, kind, detail) VALUES (?, ?, ?, ?)"


@attrs.frozen
class Event:
    """One line of an order's history."""

    at: datetime
    client_order_id: str | None
    kind: str
    detail: str


@attrs.frozen
class Change:
    """A modification, a cancellation or a standing order, as it was meant, and what came of it."""

    id: int
    order_id: str
    kind: str
    wanted: str
    at: datetime
    state: str


class OrderJournal:
    """Every order of one account that this library sent, or meant to send.

    ``path=None`` keeps it in memory: for simulated money. ``read_only`` looks on while
    another process writes. Entering opens, checks, locks and writes once, so that what would
    keep an intent from being recorded is found before any order.

    Raises:
        ConfigurationError: The file is locked, damaged, of a newer version, somebody else's,
            or cannot be written (full disk, read-only directory); nothing was sent.
    """

    def __init__(self, path: Path | None, *, clock: Clock | None = None, read_only: bool = False) -> None:
        self.path = path
        self.sync_seconds: deque[float] = deque(maxlen=4096)
        """How long each synced commit took."""
        self._clock = clock or SystemClock()
        self._read_only = read_only
        self._stack = ExitStack()
        self._connection: sqlite3.Connection | None = None
        self._syncing: bool | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack, self._explained("opening"):
            if self.path is not None and not self._read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(
                    FileLock(
                        self.path.with_name(self.path.name + ".lock"),
                        use="writes the journal",
                        instead="give this one a journal of its own with journal=PATH",
                    )
                )
            self._connection = self._connect()
            stack.callback(self._close)
            self._prepare()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, entry: Entry, detail: str) -> None:
        """Make the intent durable: when this returns, it survives a power cut.

        Raises:
            InvalidOrder: Its client order id was used before; ids are never used twice.
            ConfigurationError: It cannot be written; nothing may be sent.
        """
        try:
            with self._transaction(synced=True) as run:
                run.execute(_INSERT, _row(entry))
                run.execute(_EVENT, (_text(entry.created_at), entry.client_order_id, "intent", detail))
        except sqlite3.IntegrityError:
            raise InvalidOrder(
                f"client order id {entry.client_order_id!r} was used before; an id is never used twice: "
                "look the order up with find_order(), or leave the id out to get a fresh one"
            ) from None

    def mark_sent(self, entry: Entry) -> None:
        """Write that the request is handed over next; as `save`, with the least work, since the order waits for it."""
        assert entry.sent_at is not None  # noqa: S101 - that is what is being written
        at = _text(entry.sent_at)
        with self._explained("writing"):
            self._sync(on=False)
            self._db.execute(_SENT, (entry.state.value, at, at, entry.client_order_id))

    def save(self, entry: Entry, kind: str, detail: str = "") -> None:
        """Write what was learnt about an order; survives this process, not a power cut."""
        with self._transaction() as run:
            run.execute(_UPDATE, (*_row(entry, _CHANGING), entry.client_order_id))
            run.execute(_EVENT, (_text(self._clock.now()), entry.client_order_id, kind, scrubbed(detail)))

    def mark_delivered(self, client_order_id: str, signature: str) -> None:
        """Remember that the strategy was told of this change."""
        with self._transaction() as run:
            run.execute("UPDATE orders SET delivered=? WHERE client_order_id=?", (signature, client_order_id))

    def begin_change(self, order_id: str, kind: str, wanted: str) -> int:
        """Make the intent to modify or cancel durable, and return its number."""
        at = _text(self._clock.now())
        with self._transaction(synced=True) as run:
            cursor = run.execute(
                "INSERT INTO changes (order_id, kind, wanted, state, at) VALUES (?, ?, ?, 'sent', ?)",
                (order_id, kind, wanted, at),
            )
            run.execute(_EVENT, (at, order_id, f"{kind}-intent", wanted))
        return int(cursor.lastrowid or 0)

    def end_change(self, change: int, state: str, *, order_id: str, kind: str, detail: str = "") -> None:
        """Write how a modification or cancellation ended."""
        with self._transaction() as run:
            run.execute("UPDATE changes SET state=? WHERE id=?", (state, change))
            run.execute(_EVENT, (_text(self._clock.now()), order_id, f"{kind}-{state}", scrubbed(detail)))

    def open_changes(self) -> Sequence[Change]:
        """Return the modifications, cancellations and standing orders whose outcome is not known, oldest first."""
        return self._changes("state IN ('sent', 'unknown')")

    def changes(self, *, since: datetime) -> Sequence[Change]:
        """Return those meant since an instant, however they ended, oldest first."""
        return self._changes("at >= ?", _text(since))

    def _changes(self, condition: str, *values: str) -> Sequence[Change]:
        query = f"SELECT id, order_id, kind, wanted, at, state FROM changes WHERE {condition} ORDER BY id"  # noqa: S608
        with self._explained("reading"):
            return [
                Change(number, order, kind, wanted, datetime.fromisoformat(at), state)
                for number, order, kind, wanted, at, state in self._db.execute(query, values)
            ]

    def has_changes(self, kind: str) -> bool:
        """Say whether a change of this kind was ever meant to be sent."""
        with self._explained("reading"):
            return self._db.execute("SELECT 1 FROM changes WHERE kind=? LIMIT 1", (kind,)).fetchone() is not None

    def add_fills(self, trades: Iterable[Trade]) -> int:
        """Keep executions that are new, and return how many were."""
        rows = [
            (
                each.order_id,
                each.id,
                each.instrument.id,
                each.side.value,
                each.product.value,
                each.quantity,
                str(each.price),
                _text(each.traded_at),
            )
            for each in trades
        ]
        with self._transaction() as run:
            before = run.total_changes
            run.executemany("INSERT OR IGNORE INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            return run.total_changes - before

    def fills(self, order_id: str) -> Sequence[tuple[str, int, Decimal]]:
        """Return trade id, units and price of each execution of an order."""
        with self._explained("reading"):
            rows = self._db.execute(
                "SELECT trade_id, quantity, price FROM fills WHERE order_id=? ORDER BY traded_at", (order_id,)
            )
            return [(trade, quantity, Decimal(price)) for trade, quantity, price in rows]

    def net_fills(self, *, since: datetime) -> Mapping[tuple[str, Product], int]:
        """Return the net units that our orders filled: today's for shares, all for derivatives.

        ``since`` is when today began. An after-market order counts for the day it filled.
        """
        query = (
            "SELECT instrument, product, sum(CASE side WHEN 'buy' THEN filled_quantity ELSE -filled_quantity END) "
            "FROM orders WHERE product = 'margin' OR created_at >= ?1 OR (after_market AND changed_at >= ?1) "
            "GROUP BY instrument, product"
        )
        with self._explained("reading"):
            rows = self._db.execute(query, (_text(since),))
            return {(name, Product(product)): int(units) for name, product, units in rows if units}

    def entries(self, *, since: datetime | None = None) -> Sequence[Entry]:
        """Return the orders made since an instant, or all, oldest first."""
        with self._explained("reading"):
            rows = self._db.execute(
                f"{_SELECT} WHERE created_at >= ? ORDER BY created_at", ("" if since is None else _text(since),)
            )
            return [_entry(row) for row in rows]

    def unfinished(self) -> Sequence[Entry]:
        """Return the orders that are neither rejected nor final, oldest first."""
        with self._explained("reading"):
            rows = self._db.execute(
                f"{_SELECT} WHERE state IN ('intent', 'sent', 'unknown', 'accepted', 'absent') ORDER BY created_at"
            )
            return [_entry(row) for row in rows]

    def entry(self, client_order_id: str) -> Entry | None:
        """Return one order, or None where this journal never saw the id."""
        with self._explained("reading"):
            row = self._db.execute(f"{_SELECT} WHERE client_order_id=?", (client_order_id,)).fetchone()
            return None if row is None else _entry(row)

    def history(self, client_order_id: str) -> Sequence[Event]:
        """Return everything that was written about one order, oldest first."""
        query = "SELECT at, client_order_id, kind, detail FROM events WHERE client_order_id=? ORDER BY id"
        with self._explained("reading"):
            rows = self._db.execute(query, (client_order_id,))
            return [Event(datetime.fromisoformat(at), name, kind, detail) for at, name, kind, detail in rows]

    def note(self, name: str) -> str | None:
        """Return a kept text, or None."""
        with self._explained("reading"):
            row = self._db.execute("SELECT value FROM notes WHERE name=?", (name,)).fetchone()
            return None if row is None else str(row[0])

    def keep(self, name: str, value: str, *, why: str = "") -> None:
        """Keep a text under a name, replacing the one before; ``why`` goes into the history."""
        with self._transaction() as run:
            run.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
            if why:
                run.execute(_EVENT, (_text(self._clock.now()), None, name, scrubbed(why)))

    def checkpoint(self) -> None:
        """Fold the write-ahead log back into the file; done while idle, never on the way of an order."""
        with self._explained("writing"):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ConfigurationError("the order journal is not open; enter it with 'with' before using it")
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        if self.path is None:
            return sqlite3.connect(":memory:", isolation_level=None)
        if self._read_only:
            return sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        return sqlite3.connect(self.path, isolation_level=None, timeout=1.0)

    def _prepare(self) -> None:
        run = self._db
        application = int(run.execute("PRAGMA application_id").fetchone()[0])
        version = int(run.execute("PRAGMA user_version").fetchone()[0])
        is_new = application == 0 and version == 0 and not run.execute("SELECT 1 FROM sqlite_schema").fetchone()
        if not is_new and application != _APPLICATION:
            raise ConfigurationError(f"{self.path} is a database of something else; name another file with journal=")
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"the order journal {self.path} was written by a newer version of hybridbroker (schema {version}, this "
                f"one knows {SCHEMA_VERSION}); upgrade, or name another file with journal="
            )
        verdict = run.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _Damaged(verdict)
        if self._read_only:
            return
        run.execute("PRAGMA journal_mode=WAL")
        run.execute("PRAGMA wal_autocheckpoint=0")
        run.execute("PRAGMA fullfsync=1")
        if is_new:
            run.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id={_APPLICATION}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
        with self._transaction(synced=True) as probe:
            probe.execute("INSERT OR REPLACE INTO notes VALUES ('opened', ?)", (_text(self._clock.now()),))
        self.sync_seconds.clear()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _sync(self, *, on: bool) -> None:
        if self.path is not None and on is not self._syncing:
            self._db.execute(f"PRAGMA synchronous={'FULL' if on else 'NORMAL'}")
            self._syncing = on

    @contextmanager
    def _transaction(self, *, synced: bool = False) -> Iterator[sqlite3.Connection]:
        with self._explained("writing"):
            run = self._db
            self._sync(on=synced)
            run.execute("BEGIN IMMEDIATE")
            try:
                yield run
                started = time.perf_counter()
                run.execute("COMMIT")
            except BaseException:
                if run.in_transaction:
                    run.execute("ROLLBACK")
                raise
            if synced:
                self.sync_seconds.append(time.perf_counter() - started)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, OSError) as exc:
            raise ConfigurationError(f"{doing} the order journal {self.path}: {self._advice(exc)}") from exc

    def _advice(self, exc: Exception) -> str:
        name = getattr(exc, "sqlite_errorname", "") or ""
        if name == "SQLITE_FULL" or getattr(exc, "errno", None) == 28:  # noqa: PLR2004 - ENOSPC
            return f"the disk is full{self._room()}; free some space first. Nothing was sent without its record"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return "another process has it locked; close whatever has it open, or name another file with journal="
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or isinstance(exc, _Damaged):
            return (
                f"the file is damaged ({exc}); keep it as evidence under another name, compare the broker's own order "
                "book with what you expect, then start with a new journal"
            )
        return f"{exc}; give a directory that can be written with journal=PATH or $HYBRIDBROKER_STATE_DIR"

    def _room(self) -> str:
        try:
            return "" if self.path is None else f" ({shutil.disk_usage(self.path.parent).free // 1024:,} KiB free)"
        except OSError:
            return ""


class _Damaged(sqlite3.DatabaseError):
    """The consistency check found something."""


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def _row(entry: Entry, names: Sequence[str] = _FIELDS) -> list[Any]:
    return [_plain(getattr(entry, name)) for name in names]


def _plain(value: Any) -> Any:
    if value is None or type(value) in {str, int, bool}:
        return value
    if isinstance(value, datetime):
        return _text(value)
    return value.value if isinstance(value, StrEnum) else str(value)


def _entry(row: Sequence[Any]) -> Entry:
    values = dict(zip(_FIELDS, row, strict=True))
    for name, read in _READERS.items():
        if values[name] is not None:
            values[name] = read(values[name])
    return Entry(**values)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "side": Side,
    "type": OrderType,
    "product": Product,
    "validity": Validity,
    "price": Decimal,
    "trigger_price": Decimal,
    "after_market": bool,
    "value": Decimal,
    "state": OrderState,
    "status": OrderStatus,
    "average_price": Decimal,
    "created_at": datetime.fromisoformat,
    "sent_at": datetime.fromisoformat,
    "changed_at": datetime.fromisoformat,
    "updated_at": datetime.fromisoformat,
    "overridden": bool,
}
