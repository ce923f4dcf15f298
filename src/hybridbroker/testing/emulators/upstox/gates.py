"""What every Upstox request must pass before it is looked at: token, reach, address, algo name, rate."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import attrs
from starlette.responses import Response

from hybridbroker.clock import Clock
from hybridbroker.testing.emulators.token_book import TokenBook
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal

__all__ = ["RATE_LIMITS", "SANDBOX_PATHS", "Gates", "Need", "Rule", "TokenKind", "Tokens", "bearer"]

_STANDARD: Final = ((50, 1.0), (500, 60.0), (2000, 1800.0))
RATE_LIMITS: Final[Mapping[str, Sequence[tuple[int, float]]]] = {
    "order": ((10, 1.0), (500, 60.0), (2000, 1800.0)),
    "read": _STANDARD,
}
"""Calls allowed in so many seconds, by family, each path counted on its own (documented; no registered algo)."""

_NEVER: Final = datetime.max.replace(tzinfo=UTC)

SANDBOX_PATHS: Final = frozenset(
    {
        "/v2/order/place",
        "/v2/order/modify",
        "/v2/order/cancel",
        "/v2/order/multi/place",
        "/v3/order/place",
        "/v3/order/modify",
        "/v3/order/cancel",
    }
)
"""All that the sandbox serves (documented by the vendor's SDK)."""


class TokenKind(StrEnum):
    """What a bearer token may do."""

    ACCESS = "access"
    """Everything, until 3:30 IST."""
    EXTENDED = "extended"
    """Positions, holdings and order reads, for a year."""
    ANALYTICS = "analytics"
    """Market data, and account reads from a registered address, for a year."""


class Need(StrEnum):
    """What a call wants of its token."""

    NOTHING = "nothing"
    """No token at all."""
    DATA = "data"
    """Any token but an extended one."""
    READ = "read"
    """Access, extended, or analytics from a registered address."""
    ACCOUNT = "account"
    """Access, or analytics from a registered address."""
    CONTROL = "control"
    """Access only."""
    ORDER = "order"
    """Access only, from a registered address, under a known algo name."""


@attrs.frozen
class Rule:
    """One call: where it is, who answers it, and what it needs."""

    method: str
    path: str
    answer: Callable[[Call], Response]
    need: Need


class Tokens:
    """Which bearer tokens are good now: those of a `TokenBook`, and the three that this emulator starts with."""

    def __init__(self, book: TokenBook, clock: Clock, access_token: str) -> None:
        self.book = book
        self.extended = book.add(f"extended-{secrets.token_hex(12)}", TokenKind.EXTENDED, expires_at=_NEVER)
        self.analytics = book.add(f"analytics-{secrets.token_hex(12)}", TokenKind.ANALYTICS, expires_at=_NEVER)
        self._clock = clock
        self._access = book.add(access_token, TokenKind.ACCESS, expires_at=_NEVER)
        self._next: tuple[datetime, str] | None = None

    @property
    def access(self) -> str:
        """The access token; assigning another one refuses the old from then on."""
        self.settle()
        return self._access

    @access.setter
    def access(self, token: str) -> None:
        self.book.revoke(self._access)
        self._access = self.book.add(token, TokenKind.ACCESS, expires_at=_NEVER)

    def replace(self, token: str, at: datetime) -> None:
        """Have ``token`` take the access token's place at an instant."""
        self._next = (at, token)

    @property
    def is_due(self) -> bool:
        """Say whether the access token ought to have been replaced by now."""
        return self._next is not None and self._clock.now() >= self._next[0]

    def settle(self) -> None:
        """Let what is due happen."""
        if self._next is not None and self.is_due:
            token, self._next = self._next[1], None
            self.access = token

    def kind(self, token: str) -> TokenKind | None:
        """Return what a token is, or None where it is no good."""
        self.settle()
        found = self.book.find(token)
        return None if found is None else TokenKind(found.kind)


_REACH: Final[Mapping[TokenKind, frozenset[Need]]] = {
    TokenKind.ACCESS: frozenset(Need),
    TokenKind.EXTENDED: frozenset({Need.NOTHING, Need.READ}),
    TokenKind.ANALYTICS: frozenset({Need.NOTHING, Need.DATA, Need.READ, Need.ACCOUNT}),
}


class Gates:
    """Refuses what Upstox refuses of any call; all but the token is off until it is switched on."""

    def __init__(self, tokens: Tokens, clock: Clock, *, sandbox: bool) -> None:
        self.tokens = tokens
        self.sandbox = sandbox
        self.static_ips: tuple[str, ...] | None = None
        """Addresses that order writes (and account reads with an analytics token) may come from; None: any."""
        self.origin: str | None = None
        """The address requests seem to come from; None is the true one."""
        self.algo_names: frozenset[str] | None = None
        """What ``X-Algo-Name`` may say; None: anything."""
        self.rate_limits: Mapping[str, Sequence[tuple[int, float]]] | None = None
        """Calls allowed in so many seconds, by family ``order`` and ``read``; None: any number."""
        self.banned_agents: tuple[str, ...] = ()
        """Beginnings of ``User-Agent`` that Cloudflare answers with its own page, as users reported of default ones."""
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}

    def check(self, rule: Rule, headers: Mapping[str, str], *, peer: str) -> None:
        """Let a call through, or refuse it."""
        if self.sandbox and rule.path not in SANDBOX_PATHS:
            raise Refusal("UDAPI100060", status=404)
        self._check_token(rule, headers, peer)
        if rule.need is Need.ORDER:
            self._check_address(peer)
            name = headers.get("x-algo-name")
            if name is not None and self.algo_names is not None and name not in self.algo_names:
                raise Refusal("UDAPI1156", path="X-Algo-Name", invalid=name)
        self._check_rate(rule)

    def bans(self, headers: Mapping[str, str]) -> bool:
        """Say whether the network in front of the broker keeps a client out."""
        return bool(self.banned_agents) and headers.get("user-agent", "").startswith(self.banned_agents)

    def may_stream(self, token: str) -> bool:
        """Say whether a token opens the market feed."""
        kind = self.tokens.kind(token)
        return kind is not None and Need.DATA in _REACH[kind]

    def _check_token(self, rule: Rule, headers: Mapping[str, str], peer: str) -> None:
        if rule.need is Need.NOTHING:
            return
        kind = self.tokens.kind(bearer(headers))
        if kind is None:
            raise Refusal("UDAPI100050", status=401)
        if rule.need not in _REACH[kind]:
            raise Refusal("UDAPI100067", status=401)
        if kind is TokenKind.ANALYTICS and rule.need in {Need.READ, Need.ACCOUNT}:
            self._check_address(peer)

    def _check_address(self, peer: str) -> None:
        origin = self.origin or peer
        if self.static_ips is not None and origin not in self.static_ips:
            configured = ", ".join(self.static_ips) or "none"
            raise Refusal(
                "UDAPI1154",
                f"Access is blocked due to static IP restrictions. Configured IP: {configured}, origin IP: {origin}",
                status=403,
            )

    def _check_rate(self, rule: Rule) -> None:
        if self.rate_limits is None:
            return
        now = self._clock.monotonic()
        windows = self.rate_limits["order" if rule.need is Need.ORDER else "read"]
        calls = self._calls.setdefault(f"{rule.method} {rule.path}", deque())
        while calls and now - calls[0] >= max(seconds for _, seconds in windows):
            calls.popleft()
        for most, seconds in windows:
            if sum(now - each < seconds for each in calls) >= most:
                raise Refusal("UDAPI10005", status=429)
        calls.append(now)


def bearer(headers: Mapping[str, str]) -> str:
    """Return the token a request carries, or nothing."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""
