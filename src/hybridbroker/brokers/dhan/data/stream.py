"""One socket of Dhan's live feed: frames in, events out, what is wanted kept across connections."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final
from urllib.parse import urlencode

from hybridbroker.brokers.dhan.auth import AccessToken, TokenSource
from hybridbroker.brokers.dhan.data.feed import (
    FeedDecoder,
    feed_key_of,
    hello_frames,
    subscribe_frames,
    unsubscribe_frames,
)
from hybridbroker.brokers.dhan.data.goodbye import NO_PLAN, TOKEN_REASONS, TOO_MANY, Goodbye
from hybridbroker.brokers.dhan.data.mapping import is_active
from hybridbroker.brokers.streaming import Decoded, SocketStream, Watch
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import BrokerKey, Instrument
from hybridbroker.domain.market import FeedMode
from hybridbroker.errors import AuthenticationError, SubscriptionLimit
from hybridbroker.protocols import InstrumentLookup, Overflow
from hybridbroker.transport.ws import Endpoint

__all__ = ["DhanStream", "Modes"]

logger = logging.getLogger(__name__)

Modes = Mapping[BrokerKey, FeedMode]
"""What is wanted: the mode by Dhan's key."""

_NAME: Final = "dhan"
_PAUSE: Final = 60.0
_FIRST_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 300.0
_SOON: Final = 600.0


class DhanStream(SocketStream):
    """A `MarketStream` on one socket; open it with `opened`.

    Every connection asks for the token of that moment, and says again all that is wanted.
    ``admit`` is asked before anything changes and refuses what Dhan does not allow.

    Dhan lets a bad token connect and then hangs up, with a reason or without a word. Where it
    gives the token as its reason, another one is asked for, once. Where it says nothing,
    ``data_plan`` asks the profile before the next connection: a refusal, or the lack of the
    plan, ends the stream. A socket hung up on because there were too many is
    replaced after a minute; where that happens twice within ten, the stream ends with
    `SubscriptionLimit`, since two programs would hang up on each other for ever.
    """

    def __init__(
        self,
        *,
        url: str,
        tokens: TokenSource,
        data_plan: Callable[[], Awaitable[str | None]],
        instruments: InstrumentLookup,
        clock: Clock,
        admit: Callable[[DhanStream, Modes], None],
        watch: Watch,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> None:
        super().__init__(name="the Dhan feed", clock=clock, watch=watch, overflow=overflow)
        self.wanted: Modes = {}
        self._url = url
        self._tokens = tokens
        self._data_plan = data_plan
        self._instruments = instruments
        self._admit = admit
        self._mode = mode
        self._keys: dict[Instrument, BrokerKey] = {}
        self._decoder = FeedDecoder(skipped=self.health.skipped)
        self._token: AccessToken | None = None
        self._refused: AccessToken | None = None
        self._renewed = False
        self._goodbyes = 0
        self._silent = False
        self._crowded_at: float | None = None

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Add instruments, or change the mode of those there are; without ``mode`` these keep theirs."""
        named = {self._instruments.key(each, _NAME): each for each in instruments}
        numbered = {feed_key_of(key): each for key, each in named.items()}
        change = {key: mode or self.wanted.get(key, self._mode) for key in named}
        before, after = self.wanted, {**self.wanted, **change}
        self._admit(self, after)
        self._keys |= {each: key for key, each in named.items()}
        self._decoder.add(numbered)
        self.health.expect(named.values())
        self._watch_anew()
        # First what a reconnection would say, then the message itself.
        self.wanted = after
        moved = {key: before[key] for key in change if before.get(key, change[key]) is not change[key]}
        for old in FeedMode:
            gone = [key for key, each in moved.items() if each is old]
            if gone:
                await self._send(unsubscribe_frames(gone, old))
        for new in FeedMode:
            asked = [key for key, each in change.items() if each is new and before.get(key) is not new]
            if asked:
                await self._send(subscribe_frames(asked, new))

    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        """Remove instruments; those that are not subscribed are passed over."""
        named = {key: each for each in instruments if (key := self._keys.pop(each, None)) is not None}
        gone = {key: mode for key, mode in self.wanted.items() if key in named}
        self.wanted = {key: mode for key, mode in self.wanted.items() if key not in named}
        self._decoder.remove(feed_key_of(key) for key in named)
        self.health.forget(named.values())
        for mode in set(gone.values()):
            await self._send(unsubscribe_frames([key for key, each in gone.items() if each is mode], mode))

    async def _endpoint(self) -> Endpoint:
        if self._refused is not None:
            refused, self._refused = self._refused, None
            await self._tokens.renewed(refused)
        elif self._silent:
            plan = await self._data_plan()
            if plan is not None and not is_active(plan):
                raise AuthenticationError(NO_PLAN)
        self._silent = True
        self._token = token = await self._tokens.token()
        secret = token.secret.get_secret_value()
        query = urlencode({"version": 2, "token": secret, "clientId": token.client_id, "authType": 2})
        return Endpoint(f"{self._url}?{query}")

    async def _on_refused(self) -> None:
        if self._token is None:
            return
        try:
            await self._tokens.renewed(self._token)
        except AuthenticationError as exc:
            logger.info("trying once more with the same token: %s", exc)

    def _hello(self) -> Iterable[str]:
        return hello_frames(self.wanted)

    def _decode(self, frame: bytes | str, received_ms: int) -> Decoded:
        events = self._decoder.feed(frame, received_ms)
        if events:
            self._silent, self._renewed, self._goodbyes = False, False, 0
        goodbye, self._decoder.goodbye = self._decoder.goodbye, None
        if goodbye is not None:
            self._hung_up(goodbye)
        return events, self._decoder.unchanged

    def _reset(self) -> None:
        self._decoder.reset()

    def _hung_up(self, goodbye: Goodbye) -> None:
        """Decide what a disconnect packet calls for: an end, another token, or patience."""
        logger.warning("the feed hangs up: %s [%d]", goodbye.reason, goodbye.code)
        if goodbye.code == TOO_MANY:
            now, before = self._clock.monotonic(), self._crowded_at
            if before is not None and now - before < _SOON:
                raise SubscriptionLimit(
                    "Dhan hung up on the feed twice because the account has too many sockets [805]: five are allowed, "
                    "those of other programs included; end one of them"
                )
            self._crowded_at = now
            self._socket.hold_off(_PAUSE)
        elif goodbye.code in TOKEN_REASONS and not self._renewed:
            self._refused, self._renewed = self._token, True
        elif goodbye.error is not None:
            raise goodbye.error
        else:
            # For the socket a goodbye is a frame like any other, after which it would be back at once.
            self._socket.hold_off(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self._goodbyes))
            self._goodbyes += 1
        self._socket.renew(f"Dhan hung up: {goodbye.reason} [{goodbye.code}]")
