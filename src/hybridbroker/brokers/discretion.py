"""Errors of a login, freed of what was sent: a server may repeat it, and an exception keeps what it came from."""

from __future__ import annotations

from collections.abc import Iterable

from hybridbroker.errors import HybridBrokerError, RateLimited
from hybridbroker.transport.redact import scrub

__all__ = ["without_secrets"]


def without_secrets(error: HybridBrokerError, secrets: Iterable[str]) -> HybridBrokerError:
    """Return an error of the same type and meaning that holds none of ``secrets`` and no response.

    Raise it outside of the handler that caught ``error``, or it keeps that one as its context.
    """
    text = scrub(str(error), sorted((each for each in secrets if each), key=len, reverse=True))
    if isinstance(error, RateLimited):
        return RateLimited(text, retry_after=error.retry_after)
    return type(error)(text)
