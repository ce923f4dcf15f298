"""How long to wait and how often to try: values that decide, told of failures and chance."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from hybridbroker.errors import NetworkError, RateLimited

__all__ = ["KeepWarm", "RetryPolicy", "Timeouts"]


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long each phase of a request may take, in seconds."""

    connect: float = 5.0
    """To reach the server and agree on TLS."""
    write: float = 5.0
    """For the server to take each piece of the request."""
    read: float = 10.0
    """Of silence while waiting for the reply."""
    pool: float = 5.0
    """For a free connection."""
    total: float | None = 30.0
    """For all of it together, since a reply that drips never falls silent; None: no end."""
    turn: float = 5.0
    """How long a write may wait for its turn under the rate limits; reads wait as long as it takes."""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, for requests that are safe to repeat."""

    attempts: int = 4
    """How often a request is sent at most."""
    base: float = 0.25
    """The first ceiling, in seconds; it doubles with every attempt."""
    cap: float = 8.0
    """The last ceiling, in seconds."""
    patience: float = 60.0
    """The longest ``Retry-After`` that is obeyed; beyond it the caller gets the `RateLimited`."""

    def delay(self, failure: Exception, *, attempt: int, jitter: Callable[[], float]) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        ``attempt`` counts from 1; ``jitter`` returns a number in [0, 1).
        """
        if attempt >= self.attempts or not isinstance(failure, NetworkError):
            return None
        if isinstance(failure, RateLimited) and failure.retry_after is not None:
            return failure.retry_after if failure.retry_after <= self.patience else None
        return float(min(self.cap, self.base * 2.0 ** min(attempt - 1, 64))) * jitter()


@attrs.frozen(kw_only=True)
class KeepWarm:
    """A cheap GET now and then, so that neither side lets the idle connection go.

    Any answer will do. Rate limits do not count it.
    """

    path: str
    every: float = attrs.field(default=15.0, validator=attrs.validators.gt(0))
    """Seconds without any request before the GET is sent; less than the server's keep-alive."""
