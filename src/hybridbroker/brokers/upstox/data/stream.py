"""One socket of the market data feed: frames in, events out, what is wanted kept across connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Self

import attrs

from hybridbroker.alerts import Notifier
from hybridbroker.brokers.upstox.auth import AccessToken, TokenSource
from hybridbroker.brokers.upstox.data.feed import (
    FeedDecoder,
    change_mode_frames,
    hello_frames,
    subscribe_frames,
    unsubscribe_frames,
)
from hybridbroker.brokers.upstox.data.rest import DataRest
from hybridbroker.clock import Clock, to_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import FeedMode, FeedState, Gap, MarketEvent, MarketStatus, Tick
from hybridbroker.errors import AuthenticationError
from hybridbroker.protocols import InstrumentLookup, Overflow
from hybridbroker.silence import Patience, SilenceWatch, Verdict
from hybridbroker.streams import EventBuffer, StreamHealth, only_ticks
from hybridbroker.transport.ws import Endpoint, ReconnectingSocket, Resumed, SocketState, Trouble

__all__ = ["Modes", "UpstoxStream", "Watch"]

logger = logging.getLogger(__name__)

Modes = Mapping[str, FeedMode]
"""What is wanted: the mode by Upstox's key."""

_NAME: Final = "upstox"


@attrs.frozen(kw_only=True)
class Watch:
    """What a stream is watched by, and who is told."""

    calendar: TradingCalendar
    patience: Patience = attrs.field(factory=Patience)
    notifier: Notifier | None = None
    """Told besides the log, when a session is open and nothing comes."""


class UpstoxStream:
    """A `MarketStream` on one socket; open it with `opened`.

    Every connection asks for a fresh one-time address, with the token of that moment, and says
    again all that is wanted, in one message a mode. ``admit`` is asked before anything changes
    and refuses what the plan does not allow.

    A socket that lives and brings nothing while a session is open is reported, then replaced
    (`Patience`); such a replacement is a `Gap` like any other.
    """

    def __init__(
        self,
        *,
        rest: DataRest,
        tokens: TokenSource,
        instruments: InstrumentLookup,
        clock: Clock,
        admit: Callable[[UpstoxStream, Modes], None],
        watch: Watch,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> None:
        self.health = StreamHealth(clock, calendar=watch.calendar)
        self.wanted: Modes = {}
        self._rest = rest
        self._tokens = tokens
        self._token: AccessToken | None = None
        self._watched = watch
        self._silence = SilenceWatch(watch.patience)
        self._silent_since: datetime | None = None
        self._live_at: float | None = None
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
            on_trouble=self._on_trouble,
            on_refused=self._on_refused,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Connect, and read until the block is left; nothing of it is alive afterwards."""
        async with self._socket:
            reader = asyncio.create_task(self._read(), name="upstox feed reader")
            reader.add_done_callback(self._ended)
            watcher = asyncio.create_task(self._watch(), name="upstox feed watcher")
            reader.add_done_callback(lambda _: watcher.cancel())
            try:
                yield self
            finally:
                reader.cancel()
                watcher.cancel()
                await asyncio.wait({reader, watcher})

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Add instruments, or change the mode of those there are; without ``mode`` these keep theirs."""
        named = {self._instruments.key(each, _NAME).id: each for each in instruments}
        change = {key: mode or self.wanted.get(key, self._mode) for key in named}
        before, after = self.wanted, {**self.wanted, **change}
        self._admit(self, after)
        self._keys |= {each: key for key, each in named.items()}
        self._decoder.add(named)
        self.health.expect(named.values())
        self._silence.restart()
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
        self._token = await self._tokens.token()
        return Endpoint(await self._rest.feed_address())

    async def _on_refused(self) -> None:
        # Documented for addresses that were used before, too: where there is no other token, a fresh
        # address is tried with the same one, and the socket gives up after that.
        if self._token is None:
            return
        try:
            await self._tokens.renewed(self._token)
        except AuthenticationError as exc:
            logger.info("trying once more with the same token: %s", exc)

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
            if self._decoder.unchanged:
                self.health.heard(self._decoder.unchanged)
            if events and isinstance(events[0], MarketStatus):
                self.health.told(events[0])
            self._buffer.put(events)
            await self._buffer.room()

    def _resumed(self, resumed: Resumed) -> None:
        self._decoder.reset()
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
                    logger.warning("the Upstox feed speaks again")

    async def _report(self, silence: float) -> None:
        self.health.silent = True
        where = "its socket lives" if self.health.trouble is None else self.health.trouble
        message = f"the Upstox feed has told nothing for {silence:.0f} s although a session is open; {where}"
        logger.warning("%s", message)
        if self._watched.notifier is not None:
            await self._watched.notifier.notify(message)

    def _ended(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        if error is not None:
            logger.warning("the feed is over: %s", error)
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
