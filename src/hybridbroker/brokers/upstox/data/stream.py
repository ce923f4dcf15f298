"""One socket of the market data feed: frames in, events out, what is wanted kept across connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

from hybridbroker.brokers.upstox.data.feed import (
    FeedDecoder,
    change_mode_frames,
    hello_frames,
    subscribe_frames,
    unsubscribe_frames,
)
from hybridbroker.brokers.upstox.data.rest import UpstoxRest
from hybridbroker.clock import Clock, to_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import FeedMode, FeedState, Gap, MarketEvent, Tick
from hybridbroker.protocols import InstrumentLookup, Overflow
from hybridbroker.streams import EventBuffer, StreamHealth, only_ticks
from hybridbroker.transport.ws import Endpoint, ReconnectingSocket, Resumed, SocketState

__all__ = ["Modes", "UpstoxStream"]

logger = logging.getLogger(__name__)

Modes = Mapping[str, FeedMode]
"""What is wanted: the mode by Upstox's key."""

_NAME: Final = "upstox"


class UpstoxStream:
    """A `MarketStream` on one socket; open it with `opened`.

    Every connection asks for a fresh one-time address, with the token of that moment, and says
    again all that is wanted, in one message a mode. ``admit`` is asked before anything changes
    and refuses what the plan does not allow.
    """

    def __init__(
        self,
        *,
        rest: UpstoxRest,
        instruments: InstrumentLookup,
        clock: Clock,
        admit: Callable[[UpstoxStream, Modes], None],
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> None:
        self.health = StreamHealth(clock)
        self.wanted: Modes = {}
        self._rest = rest
        self._instruments = instruments
        self._clock = clock
        self._admit = admit
        self._mode = mode
        self._keys: dict[Instrument, str] = {}
        self._decoder = FeedDecoder(skipped=self.health.skipped)
        self._buffer = EventBuffer(health=self.health, clock=clock, overflow=overflow)
        self._socket = ReconnectingSocket(
            endpoint=self._endpoint,
            hello=lambda: hello_frames(self.wanted),
            clock=clock,
            name="the Upstox feed",
            on_state=self._on_state,
            on_alive=self.health.frame,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Connect, and read until the block is left; nothing of it is alive afterwards."""
        async with self._socket:
            reader = asyncio.create_task(self._read(), name="upstox feed reader")
            reader.add_done_callback(self._ended)
            try:
                yield self
            finally:
                reader.cancel()
                await asyncio.wait({reader})

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Add instruments, or change the mode of those there are; without ``mode`` these keep theirs."""
        named = {self._instruments.key(each, _NAME).id: each for each in instruments}
        change = {key: mode or self.wanted.get(key, self._mode) for key in named}
        before, after = self.wanted, {**self.wanted, **change}
        self._admit(self, after)
        self._keys |= {each: key for key, each in named.items()}
        self._decoder.add(named)
        self.health.expect(named.values())
        # First what a reconnection would say, then the message itself.
        self.wanted = after
        new = [key for key in change if key not in before]
        moved = [key for key in change if before.get(key, change[key]) is not change[key]]
        await self._send(subscribe_frames(new, mode or self._mode))
        await self._send(change_mode_frames(moved, mode or self._mode))

    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        """Remove instruments; those that are not subscribed are passed over."""
        named = {key: each for each in instruments if (key := self._keys.pop(each, None)) is not None}
        self.wanted = {key: mode for key, mode in self.wanted.items() if key not in named}
        self._decoder.remove(named)
        self.health.forget(named.values())
        await self._send(unsubscribe_frames(named))

    def ticks(self) -> AsyncIterator[Tick]:
        """Iterate over ticks alone."""
        return only_ticks(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MarketEvent:
        return await self._buffer.get()

    async def _endpoint(self) -> Endpoint:
        return Endpoint(await self._rest.feed_address())

    async def _send(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            await self._socket.send(frame)

    async def _read(self) -> None:
        async for item in self._socket:
            if isinstance(item, Resumed):
                self._resumed(item)
                continue
            events = self._decoder.feed(item, to_epoch_ms(self._clock.now()))
            ticks = [event for event in events if isinstance(event, Tick)]
            if ticks:
                self.health.ticked(ticks)
            self._buffer.put(events)
            await self._buffer.room()

    def _resumed(self, resumed: Resumed) -> None:
        self._decoder.reset()
        self.health.reconnects += 1
        self.health.gaps += 1
        self._buffer.put([Gap(since=resumed.lost_at, until=resumed.back_at, reason=resumed.reason)])

    def _ended(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        if error is not None:
            logger.warning("the feed is over: %s", error)
        self._buffer.close(error)

    def _on_state(self, state: SocketState) -> None:
        self.health.state = FeedState(state)
