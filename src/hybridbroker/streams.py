"""Between a reader that must never wait and a consumer that may: the newest price wins.

Written here rather than taken from a library: a queue that conflates by key, keeps gaps
in order and wakes its consumer once per frame instead of once per tick is not on offer.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Final

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import FeedState, Gap, MarketEvent, Tick
from hybridbroker.errors import FeedError
from hybridbroker.protocols import Overflow

__all__ = ["EventBuffer", "StreamHealth", "only_ticks"]

_MAX_LAG: Final = 0.25
_MAX_PENDING: Final = 20_000


class StreamHealth:
    """The `FeedHealth` that our streams share; the reader writes it, everybody reads it."""

    def __init__(self, clock: Clock) -> None:
        self.state = FeedState.CONNECTING
        self.last_frame: datetime | None = None
        self.last_data: datetime | None = None
        self.reconnects = 0
        self.gaps = 0
        self.conflated = 0
        self.skipped: Counter[str] = Counter()
        self.read_at = clock.monotonic()
        self._clock = clock
        self._seen: dict[str, float] = {}
        self._newest = clock.monotonic()

    def frame(self) -> None:
        """Note that something came from the socket, be it only a ping."""
        self.last_frame = self._clock.now()

    def ticked(self, ticks: Iterable[Tick]) -> None:
        """Note which instruments a frame spoke of."""
        self.last_frame = self.last_data = self._clock.now()
        self._newest = now = self._clock.monotonic()
        for tick in ticks:
            self._seen[tick.instrument.id] = now

    def expect(self, instruments: Iterable[Instrument]) -> None:
        """Start the staleness clock of instruments that have just been subscribed."""
        now = self._clock.monotonic()
        for instrument in instruments:
            self._seen.setdefault(instrument.id, now)

    def forget(self, instruments: Iterable[Instrument]) -> None:
        """Stop the staleness clock of instruments that are no longer subscribed."""
        for instrument in instruments:
            self._seen.pop(instrument.id, None)

    def stale(self, instrument: Instrument | None = None, *, after: float = 30.0) -> bool:
        """Say whether nothing came for ``after`` seconds; an instrument nobody subscribed is stale."""
        seen = self._newest if instrument is None else self._seen.get(instrument.id)
        return seen is None or self._clock.monotonic() - seen > after


class EventBuffer:
    """Events of one stream on their way from the reading task to one consumer.

    A consumer that keeps up sees every tick. Once the oldest waiting event is older than
    ``max_lag`` seconds (or too many wait), ticks are conflated: the newest of each
    instrument stays, the rest is counted in ``health.conflated``. Gaps and market statuses
    are never dropped, and come before the ticks that followed them.
    """

    def __init__(
        self, *, health: StreamHealth, clock: Clock, overflow: Overflow = Overflow.CONFLATE, max_lag: float = _MAX_LAG
    ) -> None:
        self._health = health
        self._clock = clock
        self._overflow = overflow
        self._max_lag = max_lag
        self._events: deque[tuple[float, MarketEvent]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self._error: BaseException | None = None

    def put(self, events: Iterable[MarketEvent]) -> None:
        """Add the events of one frame and wake the consumer once; never waits."""
        if self._closed:
            return
        now = self._clock.monotonic()
        self._events.extend([(now, event) for event in events])
        if not self._events:
            return
        if len(self._events) > 1 and self._overflow is not Overflow.BLOCK and self._is_late():
            self._overflowed()
        self._notify()

    async def room(self) -> None:
        """With ``Overflow.BLOCK``, wait until the consumer has taken everything; else return at once."""
        while self._overflow is Overflow.BLOCK and self._events and not self._closed:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def close(self, error: BaseException | None = None) -> None:
        """End the stream; the consumer gets what is left, then ``error`` or the end."""
        if not self._closed:
            self._closed, self._error = True, error
            self._notify()
            self._release()

    async def get(self) -> MarketEvent:
        """Return the next event; raise `StopAsyncIteration` after the last."""
        while not self._events:
            if self._closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._overflow is Overflow.CONFLATE and len(self._events) > 1 and self._is_late():
            self._conflate()
        self._health.read_at, event = self._events.popleft()
        if not self._events:
            self._release()
        return event

    def _is_late(self) -> bool:
        return len(self._events) > _MAX_PENDING or self._clock.monotonic() - self._events[0][0] > self._max_lag

    def _overflowed(self) -> None:
        if self._overflow is Overflow.CONFLATE:
            self._conflate()
        else:
            self.close(FeedError(f"the consumer fell {self._max_lag} s behind the market (overflow='error')"))

    def _conflate(self) -> None:
        newest: dict[str, tuple[float, MarketEvent]] = {}
        others: list[tuple[float, MarketEvent]] = []
        before = len(self._events)
        for entry in self._events:
            event = entry[1]
            if isinstance(event, Tick):
                newest.pop(event.instrument.id, None)
                newest[event.instrument.id] = entry
            else:
                others.append(entry)
                if isinstance(event, Gap):
                    newest.clear()  # what was seen before a gap must not be taken for fresh after it
        self._events = deque((*others, *newest.values()))
        self._health.conflated += before - len(self._events)

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _release(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


async def only_ticks(events: AsyncIterator[MarketEvent]) -> AsyncIterator[Tick]:
    """Iterate over the ticks of a stream, passing over everything else."""
    async for event in events:
        if isinstance(event, Tick):
            yield event
