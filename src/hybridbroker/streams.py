"""Between a reader that must never wait and a consumer that may: the newest price wins; and how the reader is doing.

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
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Instrument, Segment
from hybridbroker.domain.market import FeedState, Gap, MarketEvent, MarketStatus, Tick
from hybridbroker.errors import FeedError
from hybridbroker.protocols import Overflow
from hybridbroker.silence import OpenHours

__all__ = ["EventBuffer", "StreamHealth", "only_ticks"]

_MAX_LAG: Final = 0.25
_MAX_PENDING: Final = 20_000


class StreamHealth:
    """The `FeedHealth` that our streams share; the reader writes it, everybody reads it.

    With a ``calendar`` silence counts only while the instrument's session is open; beyond what
    the calendar covers the broker's own market status decides. Without one it knows only time.
    """

    def __init__(self, clock: Clock, *, calendar: TradingCalendar | None = None) -> None:
        self.state = FeedState.CONNECTING
        self.trouble: str | None = None
        """Why there is no connection, in words for a person; None while there is one."""
        self.refusals = 0
        """How often the server turned a connection down, such as with HTTP 403 or 429."""
        self.silent = False
        """Whether nothing comes although a session is open, for longer than is usual; set by the stream's watch."""
        self.last_frame: datetime | None = None
        self.last_data: datetime | None = None
        self.newest_trade_ms = 0
        """The newest exchange time of any tick, milliseconds since 1970 UTC; 0 before the first."""
        self.reconnects = 0
        self.gaps = 0
        self.conflated = 0
        self.skipped: Counter[str] = Counter()
        self.read_at = clock.monotonic()
        self._clock = clock
        self._hours = None if calendar is None else OpenHours(calendar, clock)
        self._expected: dict[str, Instrument] = {}
        self._markets: Counter[tuple[Exchange, Segment]] = Counter()
        self._unheard: dict[str, None] = {}
        self._seen: dict[str, float] = {}
        self._newest = clock.monotonic()

    @property
    def unheard(self) -> tuple[str, ...]:
        """Return the ids of the instruments that have told nothing since they were subscribed."""
        return tuple(self._unheard)

    def frame(self) -> None:
        """Note that something came from the socket, be it only a ping."""
        self.last_frame = self._clock.now()

    def ticked(self, ticks: Iterable[Tick]) -> None:
        """Note which instruments a frame spoke of."""
        self.last_frame = self.last_data = self._clock.now()
        self._newest = now = self._clock.monotonic()
        seen, unheard, newest_ms = self._seen, self._unheard, self.newest_trade_ms
        for tick in ticks:
            name = tick.instrument.id
            seen[name] = now
            if unheard:
                unheard.pop(name, None)
            if tick.traded_ms is not None and tick.traded_ms > newest_ms:
                newest_ms = tick.traded_ms
        self.newest_trade_ms = newest_ms

    def heard(self, instruments: Iterable[Instrument]) -> None:
        """Note instruments that a frame spoke of without telling anything new."""
        self.last_frame = self.last_data = self._clock.now()
        self._newest = now = self._clock.monotonic()
        for instrument in instruments:
            self._seen[instrument.id] = now
            self._unheard.pop(instrument.id, None)

    def told(self, status: MarketStatus) -> None:
        """Note what the broker says of its markets."""
        if self._hours is not None:
            self._hours.told(status)

    def expect(self, instruments: Iterable[Instrument]) -> None:
        """Start the staleness clock of instruments that have just been subscribed."""
        now = self._clock.monotonic()
        if not self._expected:
            self._newest = now
        for instrument in instruments:
            if instrument.id not in self._expected:
                self._expected[instrument.id] = instrument
                self._markets[instrument.exchange, instrument.segment] += 1
                self._unheard[instrument.id] = None
                self._seen[instrument.id] = now

    def forget(self, instruments: Iterable[Instrument]) -> None:
        """Stop the staleness clock of instruments that are no longer subscribed."""
        for instrument in instruments:
            if self._expected.pop(instrument.id, None) is not None:
                self._markets -= Counter([(instrument.exchange, instrument.segment)])
            self._unheard.pop(instrument.id, None)
            self._seen.pop(instrument.id, None)

    def silence(self, instrument: Instrument | None = None) -> float:
        """Return the seconds in which something should have come and nothing did, of the feed or of one instrument.

        0 outside the session, and counted from its opening at the earliest; infinite for an
        instrument that nobody subscribed.
        """
        seen = self._newest if instrument is None else self._seen.get(instrument.id)
        if seen is None:
            return float("inf")
        silent = self._clock.monotonic() - seen
        if self._hours is None:
            return silent
        markets = self._markets if instrument is None else ((instrument.exchange, instrument.segment),)
        return min(silent, self._hours.longest_open(markets))

    def stale(self, instrument: Instrument | None = None, *, after: float = 30.0) -> bool:
        """Say whether nothing came for ``after`` seconds of an open session; what nobody subscribed is stale."""
        return self.silence(instrument) > after


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

    @property
    def is_held_up(self) -> bool:
        """Whether the reader waits for the consumer at present (``Overflow.BLOCK``)."""
        return self._room is not None and not self._room.done()

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
