"""Where the access token comes from, and when it dies.

An ordinary token dies at the next 03:30 IST, whatever the hour it was made at (documented:
https://upstox.com/developer/api-documentation/authentication/). Tokens are documented as
opaque but are JWTs in practice (recorded September 2026), whose ``exp`` agrees, and which
also tells the year an analytics token has. The signature cannot be checked here and is not:
the claims only decide whether sending a request is worth while.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, Protocol

import attrs
from pydantic import SecretStr

from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import TokenExpired
from hybridbroker.transport.redact import SecretHeaders

__all__ = ["AccessToken", "SettingsToken", "TokenSource", "next_expiry"]

_DIES_AT: Final = time(3, 30)
_CLOCK_SKEW: Final = timedelta(seconds=60)
_PARTS: Final = 3


def next_expiry(now: datetime) -> datetime:
    """Return the first 03:30 IST after ``now``, when every ordinary token dies."""
    local = now.astimezone(IST)
    dies = datetime.combine(local.date(), _DIES_AT, IST)
    return dies if local < dies else dies + timedelta(days=1)


@attrs.frozen(kw_only=True)
class AccessToken:
    """One key to one account."""

    secret: SecretStr
    expires_at: datetime
    is_certain: bool
    """Whether the token says so itself; otherwise it is the next 03:30 IST after it was first seen."""

    @classmethod
    def of(cls, secret: SecretStr, *, seen_at: datetime) -> AccessToken:
        """Read what ``secret`` says about itself; one that says nothing was made before ``seen_at``."""
        told = _expiry(secret.get_secret_value())
        return cls(
            secret=secret,
            expires_at=told or next_expiry(seen_at),
            is_certain=told is not None,
        )

    def check(self, now: datetime) -> None:
        """Raise `TokenExpired` when the token is surely over, a minute of clock error allowed.

        A guess is not enough: a token that does not say when it dies is tried until the server refuses it.
        """
        if self.is_certain and now > self.expires_at + _CLOCK_SKEW:
            raise TokenExpired(
                f"the Upstox access token died at {self.expires_at.astimezone(IST):%Y-%m-%d %H:%M} IST; "
                "log in again and set UPSTOX_ACCESS_TOKEN"
            )

    def headers(self) -> dict[str, str]:
        """Return the header that carries it; it is secret."""
        return SecretHeaders({"Authorization": f"Bearer {self.secret.get_secret_value()}"})


class TokenSource(Protocol):
    """Knows the token of the moment; asked before every connection and every request."""

    async def token(self) -> AccessToken:
        """Return the newest token.

        Raises:
            TokenExpired: The newest there is, is over; nothing has been sent.
        """
        ...


class SettingsToken:
    """The token of the settings, read anew at each question, so that a fresh one is used at once."""

    def __init__(self, read: Callable[[], UpstoxSettings], *, clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._known: AccessToken | None = None

    async def token(self) -> AccessToken:
        """Return the token the settings hold now."""
        secret, now = self._read().access_token, self._clock.now()
        if self._known is None or self._known.secret != secret:
            self._known = AccessToken.of(secret, seen_at=now)
        self._known.check(now)
        return self._known


def _expiry(token: str) -> datetime | None:
    parts = token.split(".")
    if len(parts) != _PARTS:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims: Any = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, RecursionError):
        return None
    told = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    try:
        return datetime.fromtimestamp(told, UTC)
    except (OverflowError, ValueError, OSError):
        return None
