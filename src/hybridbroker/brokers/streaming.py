"""A `MarketStream` on one socket, as brokers' slices share it: frames in, events out, silence noticed, gaps told."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

import attrs

from hybridbroker.alerts import Notifier
from hybridbroker.clock import Clock, to_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import FeedMode, FeedState, Gap, MarketEvent, MarketStatus, Tick
from hybridbroker.protocols import Overflow
from hybridbroker.silence import Patience, SilenceWatch, Verdict
from hybridbroker.streams import EventBuffer, StreamHealth, only_ticks
from hybridbroker.transport.ws import Endpoint, ReconnectingSocket, Resumed, SocketState, Trouble

__all__ = ["Decoded", "SocketStream", "Watch"]

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Watch:
    """What a stream is watched by, and who is told."""

    calendar: TradingCalendar
    patience: Patience = attrs.field(factory=Patience)
    notifier: Notifier | None = None
    """Told besides the log, when a session is open and nothing comes."""


Decoded = tuple[Sequence[Tick | MarketStatus], Sequence[Instrument]]
"""What one frame held: its events, and the instruments of which it told nothing new (they live all the same)."""


class SocketStream(ABC):
    """Everything of a stream that is not the broker's language; open it with `opened`.

    A slice says where to connect, what to say then, and how a frame is read; what is wanted is
    kept by it across connections, and it calls `_watch_anew` where that changes.

    A socket that lives and brings nothing while a session is open is reported, then replaced
    (`Patience`); such a replacement is a `Gap` like any other.
    """

    def __init__(self, *, name: str, clock: Clock, watch: Watch, overflow: Overflow) -> None:
        self.health = StreamHealth(clock, calendar=watch.calendar)
        self._name = name
        self._clock = clock
        self._watched = watch
        self._silence = SilenceWatch(watch.patience)
        self._silent_since: datetime | None = None
        self._live_at: float | None = None
        self._buffer = EventBuffer(health=self.health, clock=clock, overflow=overflow)
        self._socket = ReconnectingSocket(
            endpoint=self._endpoint,
            hello=self._hello,
            clock=clock,
            name=name,
            on_state=self._on_state,
            on_alive=self.health.frame,
            on_trouble=self._on_trouble,
            on_refused=self._on_refused,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Connect, and read until the block is left; nothing of it is alive afterwards."""
        async with self._socket:
            reader = asyncio.create_task(self._read(), name=f"{self._name}: reader")
            reader.add_done_callback(self._ended)
            watcher = asyncio.create_task(self._watch(), name=f"{self._name}: watcher")
            reader.add_done_callback(lambda _: watcher.cancel())
            try:
                yield self
            finally:
                reader.cancel()
                watcher.cancel()
                await asyncio.wait({reader, watcher})

    @abstractmethod
    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Add instruments, or change the mode of those there are."""

    @abstractmethod
    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        """Remove instruments; those that are not subscribed are passed over."""

    def ticks(self) -> AsyncIterator[Tick]:
        """Iterate over ticks alone."""
        return only_ticks(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MarketEvent:
        return await self._buffer.get()

    @abstractmethod
    async def _endpoint(self) -> Endpoint:
        """Return where to connect this time; an `AuthenticationError` ends the stream."""

    @abstractmethod
    async def _on_refused(self) -> None:
        """Get other credentials where there are any: a handshake was answered 401."""

    @abstractmethod
    def _hello(self) -> Iterable[bytes | str]:
        """Return the frames that say all that is wanted."""

    @abstractmethod
    def _decode(self, frame: bytes | str, received_ms: int) -> Decoded:
        """Read a frame; what this raises ends the stream."""

    @abstractmethod
    def _reset(self) -> None:
        """Forget what was told on a connection that is lost."""

    def _watch_anew(self) -> None:
        self._silence.restart()

    async def _send(self, frames: Iterable[bytes | str]) -> None:
        for frame in frames:
            await self._socket.send(frame)

    async def _read(self) -> None:
        async for item in self._socket:
            if isinstance(item, Resumed):
                self._resumed(item)
                continue
            events, unchanged = self._decode(item, to_epoch_ms(self._clock.now()))
            ticks: list[Tick] = []
            for event in events:
                if isinstance(event, Tick):
                    ticks.append(event)
                else:
                    self.health.told(event)
            if ticks:
                self.health.ticked(ticks)
            if unchanged:
                self.health.heard(unchanged)
            self._buffer.put(events)
            await self._buffer.room()

    def _resumed(self, resumed: Resumed) -> None:
        self._reset()
        self.health.reconnects += 1
        self.health.gaps += 1
        since, self._silent_since = self._silent_since or resumed.lost_at, None
        self._buffer.put([Gap(since=since, until=resumed.back_at, reason=resumed.reason)])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watched.patience.every)
            if self._buffer.is_held_up:
                continue  # it is the consumer that does not let us read
            silence = self.health.silence()
            connected = 0.0 if self._live_at is None else self._clock.monotonic() - self._live_at
            match self._silence.judge(silence, connected=connected, newest_trade_ms=self.health.newest_trade_ms):
                case Verdict.REPORT:
                    await self._report(silence)
                case Verdict.REPLACE:
                    self._silent_since = self.health.last_data
                    self._socket.renew(f"nothing came for {silence:.0f} s although a session is open")
                case Verdict.FINE if self.health.silent and silence <= self._watched.patience.report:
                    self.health.silent = False
                    logger.warning("%s speaks again", self._name)

    async def _report(self, silence: float) -> None:
        self.health.silent = True
        where = "its socket lives" if self.health.trouble is None else self.health.trouble
        message = f"{self._name} has told nothing for {silence:.0f} s although a session is open; {where}"
        logger.warning("%s", message)
        if self._watched.notifier is not None:
            await self._watched.notifier.notify(message)

    def _ended(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        if error is not None:
            logger.warning("%s is over: %s", self._name, error)
        self._buffer.close(error)

    def _on_state(self, state: SocketState) -> None:
        self.health.state = FeedState(state)
        self._live_at = self._clock.monotonic() if state == "live" else None
        if state == "live":
            self.health.trouble = None

    def _on_trouble(self, trouble: Trouble, reason: str) -> None:
        self.health.trouble = reason
        if trouble in {Trouble.REFUSED, Trouble.LIMITED}:
            self.health.refusals += 1
