"""One account's access token, whoever asks: the newest there is, renewed once at a time, shared by the process."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.errors import HybridBrokerError, TokenExpired

__all__ = ["Token", "TokenPool", "instant", "jwt_claims", "shared_pool"]

logger = logging.getLogger(__name__)

_PARTS: Final = 3
_PAUSE: Final = 60.0
_FRESH: Final = 0.5
"""Seconds for which an answer counts without looking again: orders in a burst do not each read files."""


class Token(Protocol):
    """What a pool needs to know of a token."""

    @property
    def secret(self) -> Hashable:
        """Return what tells one token from another."""
        ...

    def check(self, now: datetime) -> None:
        """Raise `TokenExpired` when it is surely over."""
        ...


T = TypeVar("T", bound=Token)


class TokenPool(Generic[T]):
    """Where all objects of one account take their token from.

    Args:
        clock: What says whether a token is over.
        candidates: The tokens there are, best first; asked at every question, so it must be cheap, and
            what it reads (settings, a file) may have changed: a new token counts within half a second.
        none: The error that says what to do where nothing is left; given the last token that was any good.
        make: Obtain another token, given the secrets of those that were refused. It runs in a task of
            its own, one at a time: a caller that is cancelled does not lose a token that is being
            made, and everybody who asks meanwhile gets that one.
        due: Whether a token that lives is better replaced now. Fails that, the token goes on being used.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        candidates: Callable[[], Sequence[T]],
        none: Callable[[T | None], HybridBrokerError],
        make: Callable[[Collection[Hashable]], Awaitable[T]] | None = None,
        due: Callable[[T, datetime], bool] | None = None,
    ) -> None:
        self._clock = clock
        self._candidates = candidates
        self._none = none
        self._make = make
        self._due = due
        self._refused: set[Hashable] = set()
        self._flights: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}
        self._not_before = float("-inf")
        self._answer: T | None = None
        self._answered = float("-inf")

    async def token(self) -> T:
        """Return the newest token, made anew if need be.

        A refused one is still returned where there is no other: servers err too.

        Raises:
            TokenExpired: The newest there is, is over, and no other can be had; nothing has been sent.
            ConfigurationError: There is none at all; the message says how to log in.
            NetworkError: It is over, and the server that makes tokens cannot be reached now.
        """
        now, at = self._clock.now(), self._clock.monotonic()
        if self._answer is not None and 0 <= at - self._answered < _FRESH and _lives(self._answer, now):
            return self._answer
        self._answer, self._answered = await self._newest(now), at
        return self._answer

    async def _newest(self, now: datetime) -> T:
        living = self._living(now)
        best = next((each for each in living if each.secret not in self._refused), living[0] if living else None)
        if best is None:
            return await self._made(None)
        if self._make is None or self._due is None or not self._due(best, now):
            return best
        if self._clock.monotonic() < self._not_before:
            return best
        try:
            return await self._made(None)
        except HybridBrokerError as exc:
            self._not_before = self._clock.monotonic() + _PAUSE
            logger.warning("going on with the token there is, renewing it failed: %s", exc)
            return best

    async def renewed(self, refused: T) -> T:
        """Return a token other than ``refused``, which the server just turned down.

        Raises:
            AuthenticationError: There is no other one, and none can be made.
            NetworkError: The server that makes tokens cannot be reached, or asks to wait.
        """
        self._refused.add(refused.secret)
        self._answer = None
        for each in self._living(self._clock.now()):
            if each.secret not in self._refused:
                return each
        made = await self._made(refused)
        if made.secret == refused.secret:
            raise self._none(refused)
        return made

    def _living(self, now: datetime) -> list[T]:
        return [each for each in self._candidates() if _lives(each, now)]

    async def _made(self, refused: T | None) -> T:
        if self._make is None:
            raise self._none(refused or next(iter(self._candidates()), None))
        loop = asyncio.get_running_loop()
        flight = self._flights.get(loop)
        if flight is None:
            flight = loop.create_task(_run(self._make(frozenset(self._refused))), name="make a token")
            self._flights[loop] = flight
            flight.add_done_callback(self._landed)
        return await asyncio.shield(flight)

    def _landed(self, flight: asyncio.Task[T]) -> None:
        self._flights.pop(flight.get_loop(), None)
        self._answer = None
        if not flight.cancelled():
            flight.exception()  # looked at here, since all who waited may be gone


async def _run(making: Awaitable[T]) -> T:
    return await making


def _lives(token: Token, now: datetime) -> bool:
    try:
        token.check(now)
    except TokenExpired:
        return False
    return True


_SHARED: Final[WeakValueDictionary[Hashable, TokenPool[Any]]] = WeakValueDictionary()


def shared_pool(account: Hashable, clock: Clock, build: Callable[[], TokenPool[T]]) -> TokenPool[T]:
    """Return the one pool of ``account`` in this process, built at the first question.

    It lives as long as anybody keeps it. Real clocks are all one; others have pools of their own.
    """
    key = (account, SystemClock if isinstance(clock, SystemClock) else id(clock))
    found = _SHARED.get(key)
    if found is None:
        found = _SHARED[key] = build()
    return found


def jwt_claims(token: str) -> Mapping[str, Any]:
    """Return what a web token says of itself, nothing where it is none.

    The signature is not checked: only the server can, and the claims merely decide whether
    asking it is worth while.
    """
    parts = token.split(".")
    if len(parts) != _PARTS:
        return {}
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def instant(epoch: object) -> datetime | None:
    """Return the moment of an ``exp`` or ``iat`` claim (seconds since 1970), None where it is none."""
    if isinstance(epoch, bool) or not isinstance(epoch, int | float):
        return None
    try:
        return datetime.fromtimestamp(epoch, UTC)
    except (OverflowError, ValueError, OSError):
        return None
