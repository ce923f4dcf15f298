"""At most so many order writes a second, counted together by all processes of one account.

The regulatory line is ten orders a second and account; the brokers' own limits (per minute,
per day) are their slices' matter. A write occupies one of ten places from when it leaves
until a second after its answer came: so the eleventh leaves more than a second after the
first *arrived*, whatever delays there were on the way. The places are a hundred bytes in a
file, read and written under a lock that dies with its process. Written here: the kept rate
limiters count when requests leave, and those that share a count want a server.
"""

from __future__ import annotations

import asyncio
import heapq
import io
import itertools
import math
import os
import struct
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self, TypeVar

import attrs

from hybridbroker.clock import Clock
from hybridbroker.errors import ConfigurationError
from hybridbroker.files import lock, unlock

__all__ = ["WRITES_PER_SECOND", "Turn", "WriteRate"]

T = TypeVar("T")

WRITES_PER_SECOND: Final = 10
"""More than this needs an algo registered with the exchange (SEBI circular of 4 February 2025)."""

_SECOND: Final = 1.005
_UNANSWERED: Final = 3.0
"""Seconds a place stays taken by a write that has no answer, or whose process died: time enough to arrive."""
_URGENT_FOR: Final = 0.2
_POLL: Final = 0.05
_BUSY: Final = 0.002
_TRIES: Final = 20
_PATIENCE: Final = 5.0
_FREE: Final = -math.inf
_OPEN: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_FORMAT: Final = struct.Struct(f"<{WRITES_PER_SECOND}ddq")


@attrs.frozen
class Places:
    """What the file holds; times are seconds of the machine's monotonic clock."""

    until: tuple[float, ...] = (_FREE,) * WRITES_PER_SECOND
    """When each place is free again."""
    urgent_until: float = _FREE
    """Until when a cancel or exit that waits goes before everybody else's entries."""
    urgent_process: int = 0

    @classmethod
    def read(cls, content: bytes, *, now: float) -> Places:
        """Read them; the monotonic clock starts anew with the machine, so what lies far ahead is from before."""
        if len(content) != _FORMAT.size:
            return cls()
        *until, urgent, process = _FORMAT.unpack(content)
        latest = now + _UNANSWERED + _SECOND
        return cls(tuple(at if at <= latest else _FREE for at in until), urgent if urgent <= latest else _FREE, process)

    def write(self) -> bytes:
        """Return them as the file holds them."""
        return _FORMAT.pack(*self.until, self.urgent_until, self.urgent_process)

    def take(self, now: float, *, limit: int, urgent: bool, process: int) -> tuple[int | None, float, Places]:
        """Take a place: return its number, 0, and the places after it; or None, the seconds to wait, and the places."""
        taken = sorted(at for at in self.until if at > now)
        if len(taken) >= limit:
            delay = min(taken[len(taken) - limit] - now, _POLL)
            if not urgent:
                return None, delay, self
            return None, delay, attrs.evolve(self, urgent_until=now + _URGENT_FOR, urgent_process=process)
        if not urgent and self.urgent_until > now and self.urgent_process != process:
            return None, min(self.urgent_until - now, _POLL), self
        number = min(range(WRITES_PER_SECOND), key=lambda each: self.until[each])
        served = urgent and self.urgent_process == process
        after = self.set(number, now + _UNANSWERED)
        return number, 0.0, attrs.evolve(after, urgent_until=_FREE) if served else after

    def set(self, number: int, until: float) -> Places:
        """Return the places with one free again from ``until`` on."""
        return attrs.evolve(self, until=(*self.until[:number], until, *self.until[number + 1 :]))


@attrs.frozen
class Turn:
    """A place that was taken for one write."""

    waited: bool
    """Whether others had to be let through first."""
    _rate: WriteRate
    _number: int
    _until: float

    async def around(self, write: Awaitable[T]) -> T:
        """Await the write and give the place back a second after it ended, however it did."""
        try:
            return await write
        finally:
            self._rate.leave(self._number, self._until, after=_SECOND)

    def unused(self) -> None:
        """Give the place back at once: nothing was sent."""
        self._rate.leave(self._number, self._until, after=0.0)


@attrs.define
class _Held:
    """The places while the lock on them is held."""

    places: Places


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
        self._places = Places()
        self._order = itertools.count()
        self._waiting: list[tuple[bool, int, asyncio.Future[Turn]]] = []
        self._server: asyncio.Task[None] | None = None
        self._busy_since = math.inf

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            ConfigurationError: It cannot be opened.
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

    async def acquire(self, *, urgent: bool = False) -> Turn:
        """Wait for a place and take it; urgent ones go before all others, also those of other processes.

        Raises:
            ConfigurationError: The count stayed locked or cannot be written; nothing may be sent.
        """
        if not self._waiting:
            turn, _ = self._take(urgent=urgent, waited=False)
            if turn is not None:
                return turn
        ticket: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not urgent, next(self._order), ticket))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(), name="hybridbroker-write-rate")
        return await ticket

    def leave(self, number: int, until: float, *, after: float) -> None:
        """Give a place back in ``after`` seconds, unless somebody else has taken it meanwhile.

        Where the file stays locked or cannot be written, the place frees itself, only later.
        """
        for _ in range(_TRIES):
            with suppress(ConfigurationError), self._held() as held:
                if held is None:
                    continue
                if held.places.until[number] == until:
                    held.places = held.places.set(number, self._clock.monotonic() + after)
            return

    async def _serve(self) -> None:
        while self._waiting:
            later, _, ticket = self._waiting[0]
            delay = 0.0 if ticket.done() else self._try(ticket, urgent=not later)
            if delay > 0:
                await self._clock.sleep(delay)
            else:
                heapq.heappop(self._waiting)

    def _try(self, ticket: asyncio.Future[Turn], *, urgent: bool) -> float:
        """Settle the first in the queue and return 0, or return the seconds to wait."""
        now = self._clock.monotonic()
        try:
            turn, delay = self._take(urgent=urgent, waited=True)
        except ConfigurationError as exc:
            ticket.set_exception(exc)
            return 0.0
        self._busy_since = min(self._busy_since, now) if delay == _BUSY else math.inf
        if now - self._busy_since > _PATIENCE:
            ticket.set_exception(ConfigurationError(f"the write-rate count {self._path} stays locked"))
            return 0.0
        if turn is not None:
            ticket.set_result(turn)
        return delay

    def _take(self, *, urgent: bool, waited: bool) -> tuple[Turn | None, float]:
        """Take a place, or say how many seconds to wait before trying again."""
        with self._held() as held:
            if held is None:
                return None, _BUSY
            # Under the lock: a time taken before it could be older than what another process just wrote.
            now = self._clock.monotonic()
            number, delay, held.places = held.places.take(now, limit=self._limit, urgent=urgent, process=os.getpid())
            if number is None:
                return None, delay
            return Turn(waited, self, number, held.places.until[number]), 0.0

    @contextmanager
    def _held(self) -> Iterator[_Held | None]:
        """Hold the places while the context lasts, and write back what was changed; None where another has them."""
        file = self._file
        if file is None:
            if self._path is not None:
                raise ConfigurationError("the write-rate count is not open; enter it with 'with' before using it")
            held = _Held(self._places)
            yield held
            self._places = held.places
            return
        try:
            if not lock(file.fileno()):
                yield None
                return
            try:
                file.seek(0)
                before = Places.read(file.read(_FORMAT.size), now=self._clock.monotonic())
                held = _Held(before)
                yield held
                if held.places is not before:
                    file.seek(0)
                    file.write(held.places.write())
            finally:
                unlock(file.fileno())
        except OSError as exc:
            raise ConfigurationError(f"the write-rate count {self._path} cannot be written: {exc}") from exc
