"""Rate limits: exact sliding windows, several per endpoint family, first come first served.

Written here rather than taken from a library: the kept ones (aiolimiter, pyrate-limiter,
limits) have one window or no fair queue, none can be paused by a 429, none takes a clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from math import inf, isfinite
from typing import Final
from weakref import WeakValueDictionary

import attrs

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.errors import ConfigurationError, RateLimited

__all__ = ["RateLimiter", "Window", "retry_after", "shared"]

logger = logging.getLogger(__name__)

_INSTANT: Final = 1e-6
_WORTH_TELLING: Final = 1.0


@attrs.frozen
class Window:
    """At most ``limit`` requests in any ``seconds`` in a row."""

    limit: int = attrs.field(validator=attrs.validators.ge(1))
    seconds: float = attrs.field(validator=attrs.validators.gt(0))


class RateLimiter:
    """Let requests of each family through as fast as all of its windows allow, in order of arrival.

    Counts what this process sends; the broker counts what arrives, from everyone who uses the
    account. Where the way there may bunch requests up, state windows a little longer than
    the documented ones. A family without windows is only ever held up by `pause`.
    """

    def __init__(self, families: Mapping[str, Sequence[Window]], *, clock: Clock | None = None) -> None:
        self.families = dict(families)
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._gates = {family: _Gate(family, windows, self._clock) for family, windows in families.items()}

    async def acquire(self, family: str, *, urgent: bool = False, patience: float | None = None) -> None:
        """Wait for this family's next free place and take it.

        Urgent requests go before all others that wait, in order of arrival among themselves.

        Raises:
            RateLimited: The wait would be longer than ``patience`` seconds; no place was taken.
            ConfigurationError: Nobody stated limits for ``family``.
        """
        try:
            gate = self._gates[family]
        except KeyError:
            raise self._unknown(family) from None
        if gate.leader is None and gate.take(self._monotonic()):
            return
        await gate.wait(urgent=urgent, patience=patience)

    def pause(self, family: str, seconds: float) -> None:
        """Let nobody of this family through for ``seconds`` from now; a longer pause stays."""
        if family not in self._gates:
            raise self._unknown(family)
        self._gates[family].close_until(self._monotonic() + seconds)

    def _unknown(self, family: str) -> ConfigurationError:
        return ConfigurationError(f"no rate limits are stated for {family!r}; known: {', '.join(sorted(self._gates))}")


_SHARED: Final[WeakValueDictionary[Hashable, RateLimiter]] = WeakValueDictionary()


def shared(account: Hashable, families: Mapping[str, Sequence[Window]], clock: Clock) -> RateLimiter:
    """Return the one limiter of ``account`` in this process, made at the first question.

    A broker counts what an account sends, whichever object sent it. ``account`` holds all that
    tells one count from another: broker, server, user. It lives as long as anybody keeps it.
    Real clocks are all one; others, and event loops, have limiters of their own: ask inside
    the loop that will use it.

    Raises:
        ConfigurationError: Two owners state different limits for one account.
    """
    try:
        loop: object = id(asyncio.get_running_loop())
    except RuntimeError:
        loop = None
    key = (account, SystemClock if isinstance(clock, SystemClock) else id(clock), loop)
    found = _SHARED.get(key)
    if found is None:
        found = _SHARED[key] = RateLimiter(families, clock=clock)
    elif found.families != families:
        raise ConfigurationError(f"the rate limits of {account!r} are in use and cannot be changed")
    return found


def retry_after(header: str | None) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for; None where it is absent, or a date."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return max(0.0, seconds) if isfinite(seconds) else None


class _Gate:
    """The windows of one family and those who wait at them.

    The first to wait leads: it sleeps, lets the others through in their turn and, when its own
    turn comes or it is cancelled, hands the lead on. So nothing runs while nobody waits.
    """

    def __init__(self, family: str, windows: Sequence[Window], clock: Clock) -> None:
        self.leader: asyncio.Future[bool] | None = None
        self._family = family
        self._clock = clock
        self._free_at = -inf
        self._rings = tuple((deque([-inf] * each.limit, each.limit), each.seconds) for each in windows)
        self._urgent: deque[asyncio.Future[bool]] = deque()
        self._normal: deque[asyncio.Future[bool]] = deque()

    def take(self, now: float) -> bool:
        """Take a place if one is free at this instant."""
        if now < self._free_at - _INSTANT:
            return False
        free_at = -inf
        for passed, seconds in self._rings:
            passed.append(now)
            leaves = passed[0] + seconds
            if leaves > free_at:  # noqa: PLR1730 - max() is slower, and every order passes here
                free_at = leaves
        self._free_at = free_at
        return True

    def close_until(self, instant: float) -> None:
        """Leave no place free before ``instant``."""
        self._free_at = max(self._free_at, instant)

    def delay(self, now: float, *, ahead: int) -> float:
        """Return the seconds until a place is free for whoever has ``ahead`` others before it."""
        return max(0.0, self._free_at - now, *(_delay(*ring, now=now, ahead=ahead) for ring in self._rings))

    async def wait(self, *, urgent: bool, patience: float | None) -> None:
        """Queue up; return when let through."""
        ahead = len(self._urgent) + (0 if urgent else len(self._normal))
        expected = self.delay(self._clock.monotonic(), ahead=ahead)
        if patience is not None and expected > patience:
            raise RateLimited(f"{self._family!r} has no place within {expected:.1f} s", retry_after=expected)
        if expected > _WORTH_TELLING:
            logger.info("waiting %.1f s for the rate limits of %r", expected, self._family)
        ticket: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        queue = self._urgent if urgent else self._normal
        queue.append(ticket)
        try:
            if self.leader is None:
                self.leader = ticket
            elif not await ticket:
                return
            await self._lead(ticket)
        finally:
            if ticket in queue:
                queue.remove(ticket)
            if self.leader is ticket:
                self._hand_on()

    async def _lead(self, ticket: asyncio.Future[bool]) -> None:
        while True:
            now = self._clock.monotonic()
            if not self.take(now):
                await self._clock.sleep(self._free_at - now)
                continue
            first = self._first()
            if first is ticket or first is None:
                return
            first.set_result(False)

    def _first(self) -> asyncio.Future[bool] | None:
        for queue in (self._urgent, self._normal):
            while queue:
                ticket = queue.popleft()
                if ticket is self.leader or not ticket.done():
                    return ticket
        return None

    def _hand_on(self) -> None:
        waiting = (ticket for queue in (self._urgent, self._normal) for ticket in queue if not ticket.done())
        self.leader = next(waiting, None)
        if self.leader is not None:
            self.leader.set_result(True)


def _delay(passed: deque[float], seconds: float, *, now: float, ahead: int) -> float:
    rounds, index = divmod(ahead, len(passed))
    return max(passed[index] + seconds, now) + seconds * rounds - now
