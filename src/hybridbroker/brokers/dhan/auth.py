"""When Dhan's access token dies, read from the token itself, and the headers that carry it.

Dhan's tokens are JWTs that live 24 hours from the minute they were minted, so one dies in
the middle of a session. The signature cannot be checked here and is not: the claims only
decide whether sending a request is worth while. A token can also be dead before its time
(a newer one replaced it); only the server knows that.

Documented: https://dhanhq.co/docs/v2/authentication/ ; the lifetime of exactly 86,400 s
was recorded in September 2026.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from pydantic import SecretStr

from hybridbroker.clock import IST
from hybridbroker.errors import ConfigurationError, TokenExpired
from hybridbroker.transport.redact import SecretHeaders

__all__ = ["AccessToken"]

_CLOCK_SKEW: Final = timedelta(seconds=60)
_PARTS: Final = 3


@attrs.frozen(kw_only=True)
class AccessToken:
    """One day's key to one account."""

    client_id: str
    secret: SecretStr
    expires_at: datetime | None = None
    """From the token; None where it does not say (it is then tried until the server refuses)."""

    @classmethod
    def of(cls, *, client_id: str, secret: SecretStr) -> AccessToken:
        """Read what ``secret`` says about itself.

        Raises:
            ConfigurationError: The token belongs to another client id.
        """
        claims = _claims(secret.get_secret_value())
        owner = claims.get("dhanClientId")
        if isinstance(owner, str) and owner and owner != client_id:
            raise ConfigurationError(
                f"DHAN_ACCESS_TOKEN belongs to another client id than DHAN_CLIENT_ID={client_id}; "
                "make the token in the account that is to trade"
            )
        return cls(client_id=client_id, secret=secret, expires_at=_instant(claims.get("exp")))

    def check(self, now: datetime) -> None:
        """Raise `TokenExpired` when the token is surely over, a minute of clock error allowed."""
        if self.expires_at is not None and now > self.expires_at + _CLOCK_SKEW:
            died = self.expires_at.astimezone(IST)
            raise TokenExpired(
                f"the Dhan access token died at {died:%Y-%m-%d %H:%M} IST; "
                "make a new one at web.dhan.co and set DHAN_ACCESS_TOKEN"
            )

    def headers(self) -> Mapping[str, str]:
        """Return the headers every call carries; they are secret.

        ``client-id`` is documented for market data only, but Dhan's own client sends it always.
        """
        return SecretHeaders(
            {
                "access-token": self.secret.get_secret_value(),
                "client-id": self.client_id,
                "Accept": "application/json",
            }
        )


def _claims(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(parts) != _PARTS:
        return {}
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _instant(epoch: object) -> datetime | None:
    if isinstance(epoch, bool) or not isinstance(epoch, int | float):
        return None
    try:
        return datetime.fromtimestamp(epoch, UTC)
    except (OverflowError, ValueError, OSError):
        return None
