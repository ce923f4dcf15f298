"""At most so many order writes a second, counted together by all processes of one account.

The regulatory line is ten orders a second and account; the brokers' own limits (per minute,
per day) are their slices' matter. The count lives in a small SQLite file, since a lock, an
atomic update and recovery from a killed process are what SQLite is; nothing in it is synced,
because a second after a power cut it means nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import sqlite3
from pathlib import Path
from typing import Final, Self

from hybridbroker.clock import Clock
from hybridbroker.errors import ConfigurationError

__all__ = ["WRITES_PER_SECOND", "WriteRate"]

WRITES_PER_SECOND: Final = 10
"""More than this needs an algo registered with the exchange (SEBI circular of 4 February 2025)."""

_WINDOW: Final = 1.0
_SLACK: Final = 0.05
"""The way to the broker may bunch requests up by so much without ten becoming eleven."""
_BUSY: Final = 0.002
_PATIENCE: Final = 5.0
_TAKE_OVER: Final = "UPDATE writes SET at = ? WHERE rowid = (SELECT rowid FROM writes WHERE at <= ? OR at > ? LIMIT 1)"


class WriteRate:
    """Places for order writes, first come first served, cancels and exits first.

    ``path=None`` counts this process alone. Entering opens the file.
    """

    def __init__(self, path: Path | None, *, clock: Clock, limit: int = WRITES_PER_SECOND) -> None:
        if not 1 <= limit <= WRITES_PER_SECOND:
            raise ConfigurationError(f"the write rate can be 1 to {WRITES_PER_SECOND} a second, was {limit}")
        self._path = path
        self._clock = clock
        self._limit = limit
        self._connection: sqlite3.Connection | None = None
        self._order = itertools.count()
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._server: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Open the ledger.

        Raises:
            ConfigurationError: Its file cannot be opened.
        """
        try:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            run = sqlite3.connect(self._path or ":memory:", isolation_level=None, timeout=1.0)
            run.execute("PRAGMA journal_mode=WAL")
            run.execute("PRAGMA synchronous=OFF")
            run.execute("CREATE TABLE IF NOT EXISTS writes (at REAL NOT NULL)")
            run.execute("CREATE TABLE IF NOT EXISTS urgent (process INTEGER PRIMARY KEY, until REAL NOT NULL)")
            run.execute("PRAGMA busy_timeout=0")
        except (sqlite3.Error, OSError) as exc:
            raise ConfigurationError(
                f"the write-rate ledger {self._path} cannot be opened ({exc}); give a directory that can be written "
                "with $HYBRIDBROKER_STATE_DIR"
            ) from exc
        self._connection = run
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.cancel()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def acquire(self, *, urgent: bool = False) -> None:
        """Wait for a place and take it; urgent ones go before all others, also of other processes.

        Raises:
            ConfigurationError: The ledger stayed locked or cannot be written; nothing may be sent.
        """
        if not self._waiting and self._take(urgent=urgent) <= 0:
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not urgent, next(self._order), ticket))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(), name="hybridbroker-write-rate")
        await ticket

    async def _serve(self) -> None:
        busy_since: float | None = None
        while self._waiting:
            later, _, ticket = self._waiting[0]
            if ticket.done():
                heapq.heappop(self._waiting)
                continue
            try:
                delay = self._take(urgent=not later)
            except ConfigurationError as exc:
                heapq.heappop(self._waiting)
                ticket.set_exception(exc)
                continue
            if delay <= 0:
                heapq.heappop(self._waiting)
                ticket.set_result(None)
                busy_since = None
                continue
            if delay == _BUSY:
                now = self._clock.monotonic()
                busy_since = now if busy_since is None else busy_since
                if now - busy_since > _PATIENCE:
                    heapq.heappop(self._waiting)
                    ticket.set_exception(ConfigurationError(f"the write-rate ledger {self._path} stays locked"))
            await self._clock.sleep(delay)

    def _take(self, *, urgent: bool) -> float:
        """Take a place and return 0, or return the seconds until one may be free."""
        run = self._connection
        if run is None:
            raise ConfigurationError("the write-rate ledger is not open; enter it with 'with' before using it")
        try:
            run.execute("BEGIN IMMEDIATE")
            try:
                delay = self._count(run, urgent=urgent)
                run.execute("COMMIT")
            except BaseException:
                run.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorname.startswith("SQLITE_BUSY"):
                return _BUSY
            raise ConfigurationError(f"the write-rate ledger {self._path} cannot be written: {exc}") from exc
        return delay

    def _count(self, run: sqlite3.Connection, *, urgent: bool) -> float:
        now, window = self._clock.monotonic(), _WINDOW + _SLACK
        process = os.getpid()
        times = [float(at) for (at,) in run.execute("SELECT at FROM writes WHERE at > ? ORDER BY at", (now - window,))]
        # The monotonic clock of a machine starts anew with it: what lies ahead is from before.
        times = [at for at in times if at <= now]
        if len(times) >= self._limit:
            delay = times[-self._limit] + window - now
            if urgent:
                run.execute("INSERT OR REPLACE INTO urgent VALUES (?, ?)", (process, now + delay + _SLACK))
            return max(delay, _BUSY / 2)
        if urgent:
            run.execute("DELETE FROM urgent WHERE process = ?", (process,))
        else:
            ahead = run.execute("SELECT max(until) FROM urgent WHERE process != ? AND until > ?", (process, now))
            until = ahead.fetchone()[0]
            if until is not None and until <= now + window:
                return max(float(until) - now, _BUSY / 2)
        # One row a place, taken over from the oldest: the table never grows.
        taken = run.execute(_TAKE_OVER, (now, now - window, now))
        if not taken.rowcount:
            run.execute("INSERT INTO writes VALUES (?)", (now,))
        return 0.0
