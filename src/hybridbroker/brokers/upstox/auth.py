"""Where the access token comes from, how far it reaches, and when it dies.

An ordinary token dies at the next 03:30 IST, whatever the hour it was made at; an analytics
token lives a year and reads only; a sandbox token lives thirty days (documented:
https://upstox.com/developer/api-documentation/authentication/). Tokens are documented as
opaque but are JWTs in practice (recorded September 2026), whose ``exp`` agrees. The signature
cannot be checked here and is not: the claims only decide whether sending a request is worth
while. Whether a new token kills the one before is not documented; both are tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Final, Protocol

import attrs
from pydantic import SecretStr

from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import AuthenticationError, ConfigurationError, TokenExpired
from hybridbroker.transport.redact import SecretHeaders
from hybridbroker.transport.tokens import TokenPool, instant, jwt_claims, shared_pool
from hybridbroker.transport.vault import Vault

__all__ = [
    "AccessToken",
    "FixedToken",
    "Reach",
    "TokenKind",
    "TokenSource",
    "next_expiry",
    "stored_token",
    "token_source",
]

_DIES_AT: Final = time(3, 30)
_CLOCK_SKEW: Final = timedelta(seconds=60)
_DAYS: Final = timedelta(days=2)
_MONTHS: Final = timedelta(days=40)
_LOG_IN: Final = "run `hybridbroker login upstox`, or set UPSTOX_ACCESS_TOKEN"


class TokenKind(StrEnum):
    """What Upstox calls the kinds of token."""

    ACCESS = "access"
    """Everything, until 03:30 IST."""
    ANALYTICS = "analytics"
    """Prices for a year; the account is read only from a registered address."""
    EXTENDED = "extended"
    """Reads of orders and positions for a year, for apps with several clients."""
    SANDBOX = "sandbox"
    """The sandbox's order calls, for thirty days."""


class Reach(StrEnum):
    """What a call needs a token for."""

    DATA = "prices"
    ACCOUNT = "reading the account"
    ORDERS = "orders"
    UPDATES = "order updates"


_REACH: Final[Mapping[TokenKind, frozenset[Reach]]] = {
    TokenKind.ACCESS: frozenset(Reach),
    # Whether the portfolio stream takes it is not settled, so it is tried.
    TokenKind.ANALYTICS: frozenset({Reach.DATA, Reach.ACCOUNT, Reach.UPDATES}),
    TokenKind.EXTENDED: frozenset({Reach.ACCOUNT}),
    TokenKind.SANDBOX: frozenset({Reach.ORDERS}),
}


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
    """Whether that is known; otherwise it is the next 03:30 IST after it was first seen."""
    kind: TokenKind = TokenKind.ACCESS
    issued_at: datetime | None = None
    user_id: str = ""
    """Whose it is, where it says so."""

    @classmethod
    def of(cls, secret: SecretStr, *, seen_at: datetime, kind: TokenKind | None = None) -> AccessToken:
        """Read what ``secret`` says about itself; one that says nothing was made before ``seen_at``.

        Where ``kind`` is not given, its length of life tells it.
        """
        claims = jwt_claims(secret.get_secret_value())
        told, issued = instant(claims.get("exp")), instant(claims.get("iat"))
        owner = claims.get("sub")
        return cls(
            secret=secret,
            expires_at=told or next_expiry(seen_at),
            is_certain=told is not None,
            kind=kind or _kind(told, since=issued, seen_at=seen_at),
            issued_at=issued,
            user_id=owner if isinstance(owner, str) else "",
        )

    def check(self, now: datetime) -> None:
        """Raise `TokenExpired` when the token is surely over, a minute of clock error allowed.

        A guess is not enough: a token that does not say when it dies is tried until the server refuses it.
        """
        if self.is_certain and now > self.expires_at + _CLOCK_SKEW:
            raise TokenExpired(
                f"the Upstox {self.kind} token died at {self.expires_at.astimezone(IST):%Y-%m-%d %H:%M} IST; {_LOG_IN}"
            )

    def reaches(self, reach: Reach) -> bool:
        """Return whether a token of this kind may do that at all."""
        return reach in _REACH[self.kind]

    def require(self, reach: Reach) -> None:
        """Refuse a call that this kind of token cannot make, before anything is sent.

        Raises:
            AuthenticationError: With the kind that is needed.
        """
        if not self.reaches(reach):
            kinds = " or ".join(sorted(kind for kind, all_of_it in _REACH.items() if reach in all_of_it))
            raise AuthenticationError(
                f"{reach} cannot be had with an Upstox {self.kind} token; it takes an {kinds} token: {_LOG_IN}"
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

    async def renewed(self, refused: AccessToken) -> AccessToken:
        """Return a token other than ``refused``, which the server just turned down; ask once for each refusal.

        Raises:
            AuthenticationError: There is no other one.
        """
        ...


class FixedToken:
    """One token for as long as the process lives."""

    def __init__(self, token: AccessToken, *, clock: Clock) -> None:
        self._token = token
        self._clock = clock

    async def token(self) -> AccessToken:
        """Return it while it lives."""
        self._token.check(self._clock.now())
        return self._token

    async def renewed(self, refused: AccessToken) -> AccessToken:
        """Return it if it is not the refused one."""
        if self._token.secret == refused.secret:
            raise _refusal(refused)
        return await self.token()


def token_source(
    settings: UpstoxSettings, *, clock: Clock, reach: Reach = Reach.DATA, vault: Vault | None = None
) -> TokenSource:
    """Return where objects built from ``settings`` take their tokens from; nothing is read before it is asked.

    These may serve: the settings' own tokens, read anew where they came from the environment, and
    those a login has stored in ``vault``. For prices the analytics token comes first, and the newest
    before older ones otherwise; one that does not reach is not used. A stored token stands in for
    one of the settings only where both say that they are the same user's: an order never goes to
    another account because a token was over.

    All sources of a process with the same settings and reach are one.
    """
    held = vault or Vault()
    who = "environment" if settings.is_from_environment else settings
    account = ("upstox", who, settings.base_url, reach, held.directory)
    return shared_pool(account, clock, lambda: _pool(_Shelf(settings, held, clock, reach), clock))


def stored_token(record: Mapping[str, str]) -> AccessToken | None:
    """Return the token of a vault's record, None where the record holds none."""
    try:
        return AccessToken(
            secret=SecretStr(record["secret"]),
            expires_at=datetime.fromisoformat(record["expires_at"]),
            is_certain=True,
            kind=TokenKind(record["kind"]),
            issued_at=datetime.fromisoformat(record["made_at"]),
            user_id=record["user_id"],
        )
    except (KeyError, ValueError):
        return None


class _Shelf:
    """The tokens that can be had without asking anybody, best first."""

    def __init__(self, settings: UpstoxSettings, vault: Vault, clock: Clock, reach: Reach) -> None:
        self._settings = settings
        self._vault = vault
        self._clock = clock
        self._reach = reach
        self._names = [settings.vault_name(kind) for kind in (TokenKind.ANALYTICS, TokenKind.ACCESS)]
        self._given: dict[SecretStr, AccessToken] = {}
        self._stored: dict[str, tuple[Mapping[str, str], AccessToken | None]] = {}

    def __call__(self) -> list[AccessToken]:
        given = [each for each in self.given() if each.reaches(self._reach)]
        owners = {each.user_id for each in given}
        stored = [] if self._settings.is_sandbox else [each for each in self.stored() if each.reaches(self._reach)]
        usable = [each for each in stored if not given or (each.user_id and each.user_id in owners)]
        return sorted([*given, *usable], key=self._rank)

    def given(self) -> list[AccessToken]:
        settings = self._settings.current()
        kind = TokenKind.SANDBOX if settings.is_sandbox else None
        pairs = ((settings.analytics_token, TokenKind.ANALYTICS), (settings.access_token, kind))
        return [self._read(secret, as_kind) for secret, as_kind in pairs if secret.get_secret_value()]

    def stored(self) -> list[AccessToken]:
        found = (self._look(name) for name in self._names)
        return [each for each in found if each is not None]

    def out_of_reach(self, token: AccessToken) -> AuthenticationError:
        """Return why ``token`` cannot serve here."""
        try:
            token.require(self._reach)
        except AuthenticationError as exc:
            return exc
        return _refusal(token)

    def _look(self, name: str) -> AccessToken | None:
        record = self._vault.read(name)
        if record is None:
            return None
        known = self._stored.get(name)
        if known is None or known[0] is not record:
            known = self._stored[name] = (record, stored_token(record))
        return known[1]

    def _read(self, secret: SecretStr, kind: TokenKind | None) -> AccessToken:
        known = self._given.get(secret)
        if known is None:
            known = self._given[secret] = AccessToken.of(secret, seen_at=self._clock.now(), kind=kind)
        return known

    def _rank(self, token: AccessToken) -> tuple[bool, float]:
        is_second = (token.kind is TokenKind.ACCESS) is (self._reach is Reach.DATA)
        # One that does not say when it was made was put into the settings by hand: it counts as new.
        return is_second, -token.issued_at.timestamp() if token.issued_at else float("-inf")


def _pool(shelf: _Shelf, clock: Clock) -> TokenPool[AccessToken]:
    def none(last: AccessToken | None) -> AuthenticationError | ConfigurationError:
        if last is not None:
            try:
                last.check(clock.now())
            except TokenExpired as exc:
                return exc
            return _refusal(last)
        beyond = next(iter([*shelf.given(), *shelf.stored()]), None)
        if beyond is None:
            return ConfigurationError(f"there is no Upstox token: {_LOG_IN}")
        return shelf.out_of_reach(beyond)

    return TokenPool(clock=clock, candidates=shelf, none=none)


def _refusal(refused: AccessToken) -> TokenExpired:
    return TokenExpired(
        f"Upstox refuses the {refused.kind} token and there is no other: {_LOG_IN} (a stored one stands in for one in "
        "the settings only where both say whose they are)"
    )


def _kind(dies: datetime | None, *, since: datetime | None, seen_at: datetime) -> TokenKind:
    life = dies - (since or seen_at) if dies else timedelta(0)
    if life <= _DAYS:
        return TokenKind.ACCESS
    if since is not None and life <= _MONTHS:
        return TokenKind.SANDBOX
    return TokenKind.ANALYTICS
