"""At most so many order writes a second, counted together by all processes of one account.

The regulatory line is ten orders a second and account; the brokers' own limits (per minute,
per day) are their slices' matter. The count is a hundred bytes in a file, read and written
under a lock that dies with its process. Written here: the kept rate limiters that share a
count want a server (limits, pyrate-limiter with Redis), and none lets cancels pass.
"""

from __future__ import annotations

import asyncio
import heapq
import io
import itertools
import math
import os
import struct
from pathlib import Path
from typing import Final, Self

import attrs

from hybridbroker.clock import Clock
from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.account import lock, unlock

__all__ = ["WRITES_PER_SECOND", "WriteRate"]

WRITES_PER_SECOND: Final = 10
"""More than this needs an algo registered with the exchange (SEBI circular of 4 February 2025)."""

_SLACK: Final = 0.05
"""The way to the broker may bunch requests up by so much without ten becoming eleven."""
_WINDOW: Final = 1.0 + _SLACK
_BUSY: Final = 0.002
_PATIENCE: Final = 5.0
_LONG_AGO: Final = -math.inf
_OPEN: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_FORMAT: Final = struct.Struct(f"<{WRITES_PER_SECOND}ddq")


@attrs.frozen
class _Count:
    """What the file holds; times are seconds of the machine's monotonic clock."""

    times: tuple[float, ...] = (_LONG_AGO,) * WRITES_PER_SECOND
    """The newest ten writes, in any order."""
    urgent_until: float = _LONG_AGO
    """Until when a cancel or exit that waits goes before everybody else's entries."""
    urgent_process: int = 0

    @classmethod
    def read(cls, content: bytes, *, now: float) -> _Count:
        """Read it; the monotonic clock starts anew with the machine, so what lies ahead is from before."""
        if len(content) != _FORMAT.size:
            return cls()
        *times, until, process = _FORMAT.unpack(content)
        return cls(
            tuple(at if at <= now else _LONG_AGO for at in times),
            until if until <= now + 2 * _WINDOW else _LONG_AGO,
            process,
        )

    def write(self) -> bytes:
        """Return it as the file holds it."""
        return _FORMAT.pack(*self.times, self.urgent_until, self.urgent_process)

    def take(self, now: float, *, limit: int, urgent: bool, process: int) -> tuple[float, _Count]:
        """Return 0 and the count with one more write, or the seconds until there may be a place."""
        newest = sorted(self.times, reverse=True)
        delay = newest[limit - 1] + _WINDOW - now
        if delay > 0:
            return delay, attrs.evolve(
                self, urgent_until=now + delay + _SLACK, urgent_process=process
            ) if urgent else self
        if not urgent and self.urgent_until > now and self.urgent_process != process:
            return self.urgent_until - now, self
        served = urgent and self.urgent_process == process
        return 0.0, _Count((now, *newest[:-1]), _LONG_AGO if served else self.urgent_until, self.urgent_process)


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
        self._file: io.FileIO | None = None
        self._count = _Count()
        self._order = itertools.count()
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._server: asyncio.Task[None] | None = None
        self._busy_since = math.inf

    def __enter__(self) -> Self:
        """Open the count.

        Raises:
            ConfigurationError: Its file cannot be opened.
        """
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = io.FileIO(os.open(self._path, _OPEN, 0o600), "r+")
            except OSError as exc:
                raise ConfigurationError(
                    f"the write-rate count {self._path} cannot be opened ({exc}); give a directory that can be "
                    "written with $HYBRIDBROKER_STATE_DIR"
                ) from exc
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.cancel()
        if self._file is not None:
            self._file.close()
            self._file = None

    async def acquire(self, *, urgent: bool = False) -> bool:
        """Wait for a place and take it; say whether there was a wait.

        Urgent ones go before all others, also those of other processes.

        Raises:
            ConfigurationError: The count stayed locked or cannot be written; nothing may be sent.
        """
        if not self._waiting and self._take(urgent=urgent) <= 0:
            return False
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not urgent, next(self._order), ticket))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(), name="hybridbroker-write-rate")
        await ticket
        return True

    async def _serve(self) -> None:
        while self._waiting:
            later, _, ticket = self._waiting[0]
            delay = 0.0 if ticket.done() else self._try(ticket, urgent=not later)
            if delay > 0:
                await self._clock.sleep(delay)
            else:
                heapq.heappop(self._waiting)

    def _try(self, ticket: asyncio.Future[None], *, urgent: bool) -> float:
        """Settle the first in the queue and return 0, or return the seconds to wait."""
        now = self._clock.monotonic()
        try:
            delay = self._take(urgent=urgent)
        except ConfigurationError as exc:
            ticket.set_exception(exc)
            return 0.0
        self._busy_since = min(self._busy_since, now) if delay == _BUSY else math.inf
        if now - self._busy_since > _PATIENCE:
            ticket.set_exception(ConfigurationError(f"the write-rate count {self._path} stays locked"))
            return 0.0
        if delay <= 0:
            ticket.set_result(None)
        return delay

    def _take(self, *, urgent: bool) -> float:
        """Take a place and return 0, or return the seconds until one may be free."""
        now, process = self._clock.monotonic(), os.getpid()
        file = self._file
        if file is None:
            if self._path is not None:
                raise ConfigurationError("the write-rate count is not open; enter it with 'with' before using it")
            delay, self._count = self._count.take(now, limit=self._limit, urgent=urgent, process=process)
            return delay
        try:
            if not lock(file.fileno()):
                return _BUSY
            try:
                file.seek(0)
                before = _Count.read(file.read(_FORMAT.size), now=now)
                delay, after = before.take(now, limit=self._limit, urgent=urgent, process=process)
                if after is not before:
                    file.seek(0)
                    file.write(after.write())
            finally:
                unlock(file.fileno())
        except OSError as exc:
            raise ConfigurationError(f"the write-rate count {self._path} cannot be written: {exc}") from exc
        return delay
