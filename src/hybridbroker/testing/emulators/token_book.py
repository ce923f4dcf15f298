"""Which access tokens an emulated broker takes now: made, dead by the clock, revoked, killed by a newer one."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import attrs

from hybridbroker.clock import Clock

__all__ = ["IssuedToken", "TokenBook"]


@attrs.define(kw_only=True)
class IssuedToken:
    """One token that was made here."""

    value: str
    kind: str
    made_at: datetime
    expires_at: datetime
    revoked: bool = False


class TokenBook:
    """The tokens of one account, judged by ``clock``.

    Args:
        clock: Decides when a token is over.
        expiry: When a token made at an instant dies.
        claims: What each token says beside ``iat`` and ``exp``.
        newest_only: Whether a new token of a kind kills the older ones of that kind, as at Dhan.
        opaque: Make tokens that say nothing about themselves.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        expiry: Callable[[datetime], datetime],
        claims: Mapping[str, Any] | None = None,
        newest_only: bool = False,
        opaque: bool = False,
    ) -> None:
        self.issued: list[IssuedToken] = []
        self.newest_only = newest_only
        self.opaque = opaque
        self._clock = clock
        self._expiry = expiry
        self._claims = dict(claims or {})

    def issue(self, kind: str = "access", *, expires_at: datetime | None = None, **claims: Any) -> str:
        """Make a token; ``expires_at`` replaces the rule, ``claims`` add to what it says."""
        now = self._clock.now()
        dies = expires_at or self._expiry(now)
        told = {**self._claims, "iat": int(now.timestamp()), "exp": int(dies.timestamp()), **claims}
        return self.add(f"opaque-{secrets.token_hex(12)}" if self.opaque else _jwt(told), kind, expires_at=dies)

    def add(self, value: str, kind: str = "access", *, expires_at: datetime | None = None) -> str:
        """Take ``value`` as a token from now on."""
        now = self._clock.now()
        if self.newest_only:
            self.revoke_all(kind)
        self.issued.append(IssuedToken(value=value, kind=kind, made_at=now, expires_at=expires_at or self._expiry(now)))
        return value

    def is_valid(self, value: str | None) -> bool:
        """Return whether ``value`` opens anything now."""
        return self.find(value) is not None

    def find(self, value: str | None) -> IssuedToken | None:
        """Return the living token ``value``."""
        now = self._clock.now()
        return next(
            (each for each in self.issued if each.value == value and not each.revoked and now < each.expires_at), None
        )

    @property
    def newest(self) -> IssuedToken | None:
        """Return the last one made, living or not."""
        return self.issued[-1] if self.issued else None

    def revoke(self, value: str) -> bool:
        """Kill one token; return whether it lived."""
        found = self.find(value)
        if found is not None:
            found.revoked = True
        return found is not None

    def revoke_all(self, kind: str | None = None) -> None:
        """Kill all tokens, or those of one kind."""
        for each in self.issued:
            if kind in {None, each.kind}:
                each.revoked = True


def _jwt(claims: Mapping[str, Any]) -> str:
    parts = ({"typ": "JWT", "alg": "HS256"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts]
    return ".".join([*encoded, secrets.token_urlsafe(32)])
