"""One socket of the market data feed: what is said on it, and how it is read; all else is `SocketStream`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from hybridbroker.brokers.streaming import Decoded, SocketStream, Watch
from hybridbroker.brokers.upstox.auth import AccessToken, TokenSource
from hybridbroker.brokers.upstox.data.feed import (
    FeedDecoder,
    change_mode_frames,
    hello_frames,
    subscribe_frames,
    unsubscribe_frames,
)
from hybridbroker.brokers.upstox.data.rest import DataRest
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import FeedMode
from hybridbroker.errors import AuthenticationError
from hybridbroker.protocols import InstrumentLookup, Overflow
from hybridbroker.transport.ws import Endpoint

__all__ = ["Modes", "UpstoxStream", "Watch"]

logger = logging.getLogger(__name__)

Modes = Mapping[str, FeedMode]
"""What is wanted: the mode by Upstox's key."""

_NAME: Final = "upstox"


class UpstoxStream(SocketStream):
    """A `MarketStream` on one socket; open it with `opened`.

    Every connection asks for a fresh one-time address, with the token of that moment, and says
    again all that is wanted, in one message a mode. ``admit`` is asked before anything changes
    and refuses what the plan does not allow.
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
        super().__init__(name="the Upstox feed", clock=clock, watch=watch, overflow=overflow)
        self.wanted: Modes = {}
        self._rest = rest
        self._tokens = tokens
        self._token: AccessToken | None = None
        self._instruments = instruments
        self._admit = admit
        self._mode = mode
        self._keys: dict[Instrument, str] = {}
        self._decoder = FeedDecoder(skipped=self.health.skipped)

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Add instruments, or change the mode of those there are; without ``mode`` these keep theirs."""
        named = {self._instruments.key(each, _NAME).id: each for each in instruments}
        change = {key: mode or self.wanted.get(key, self._mode) for key in named}
        before, after = self.wanted, {**self.wanted, **change}
        self._admit(self, after)
        self._keys |= {each: key for key, each in named.items()}
        self._decoder.add(named)
        self.health.expect(named.values())
        self._watch_anew()
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

    def _hello(self) -> Iterable[bytes]:
        return hello_frames(self.wanted)

    def _decode(self, frame: bytes | str, received_ms: int) -> Decoded:
        return self._decoder.feed(frame, received_ms), self._decoder.unchanged

    def _reset(self) -> None:
        self._decoder.reset()
