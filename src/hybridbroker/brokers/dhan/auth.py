"""Dhan's access token: where it comes from, when it dies, and the headers that carry it.

Dhan's tokens are JWTs that live 24 hours from the minute they were minted, so one dies in
the middle of a session. The signature cannot be checked here and is not: the claims only
decide whether sending a request is worth while. A token can also be dead before its time:
an account has one at a time, and making another kills it. Only the server knows that.

Documented: https://dhanhq.co/docs/v2/authentication/ ; the lifetime of exactly 86,400 s
was recorded in September 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol

import attrs
from pydantic import SecretStr

from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import AuthenticationError, ConfigurationError, TokenExpired
from hybridbroker.transport.redact import SecretHeaders
from hybridbroker.transport.tokens import TokenPool, instant, jwt_claims, shared_pool
from hybridbroker.transport.vault import Vault

__all__ = ["AccessToken", "FixedToken", "TokenShelf", "TokenSource", "stored_token", "token_source"]

_CLOCK_SKEW: Final = timedelta(seconds=60)
_LIFE: Final = timedelta(hours=24)
_LOG_IN: Final = (
    "run `hybridbroker login dhan`, or make one at web.dhan.co and set DHAN_ACCESS_TOKEN; with DHAN_PIN and "
    "DHAN_TOTP_SECRET tokens are made unattended"
)
_SANDBOX: Final = "Dhan's sandbox refuses the token: make a new one at developer.dhanhq.co and set DHAN_SANDBOX_TOKEN"


@attrs.frozen(kw_only=True)
class AccessToken:
    """One day's key to one account."""

    client_id: str
    secret: SecretStr
    expires_at: datetime | None = None
    """None where nobody can tell (it is then tried until the server refuses)."""
    issued_at: datetime | None = None
    is_from_web: bool = False
    """Whether it says that it was made on web.dhan.co; only such a token is documented to be renewable."""

    @classmethod
    def of(cls, *, client_id: str, secret: SecretStr) -> AccessToken:
        """Read what ``secret`` says about itself.

        Raises:
            ConfigurationError: The token belongs to another client id.
        """
        claims = jwt_claims(secret.get_secret_value())
        owner = claims.get("dhanClientId")
        if isinstance(owner, str) and owner and owner != client_id:
            raise ConfigurationError(
                f"DHAN_ACCESS_TOKEN belongs to another client id than DHAN_CLIENT_ID={client_id}; "
                "make the token in the account that is to trade"
            )
        return cls(
            client_id=client_id,
            secret=secret,
            expires_at=instant(claims.get("exp")),
            issued_at=instant(claims.get("iat")),
            is_from_web=claims.get("tokenConsumerType") == "SELF",
        )

    def check(self, now: datetime) -> None:
        """Raise `TokenExpired` when the token is surely over, a minute of clock error allowed."""
        if self.expires_at is not None and now > self.expires_at + _CLOCK_SKEW:
            died = self.expires_at.astimezone(IST)
            raise TokenExpired(f"the Dhan access token died at {died:%Y-%m-%d %H:%M} IST; {_LOG_IN}")

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
            NetworkError: One could be made, but not now.
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
            raise _refusal()
        return await self.token()


def token_source(settings: DhanSettings, *, clock: Clock, vault: Vault | None = None) -> TokenSource:
    """Return where objects built from ``settings`` take their token from; nothing is done before it is asked.

    Of the settings' own token (read anew where it came from the environment) and the one a login or
    another process has stored in ``vault`` the newer one is used, since it has killed the other. Where
    neither is good, and the settings hold PIN and TOTP secret, one is made; it also is made shortly
    before the old one dies, and in the morning where it would die during the day. A token made on
    web.dhan.co is renewed just before it dies where nothing else can be done.

    All sources of a process on one account are one, and they renew once for all of them.
    """
    held = vault or Vault()
    who = settings.client_id if settings.is_from_environment else settings
    account = ("dhan", who, settings.base_url, settings.is_sandbox, held.directory)
    return shared_pool(account, clock, lambda: _pool(settings, held, clock))


class TokenShelf:
    """The tokens that can be had without asking anybody, newest first."""

    def __init__(self, settings: DhanSettings, vault: Vault) -> None:
        self._settings = settings
        self._vault = vault
        self._name = settings.vault_name("access")
        self._given: AccessToken | None = None
        self._made: AccessToken | None = None
        self._stored: tuple[Mapping[str, str], AccessToken | None] | None = None

    def __call__(self) -> list[AccessToken]:
        """Return them as they are now."""
        tokens = (self._from_settings(), self.from_vault(), self._made)
        return sorted((each for each in tokens if each is not None), key=_age)

    def keep(self, token: AccessToken) -> None:
        """Hold a token that could not be stored: it has killed the one before, and is all there is."""
        self._made = token

    def _from_settings(self) -> AccessToken | None:
        secret = self._settings.current().access_token
        if not secret.get_secret_value():
            return None
        if self._given is None or self._given.secret != secret:
            self._given = AccessToken.of(client_id=self._settings.client_id, secret=secret)
        return self._given

    def from_vault(self) -> AccessToken | None:
        """Return the one a login has stored."""
        if self._settings.is_sandbox:
            return None
        record = self._vault.read(self._name)
        if record is None:
            return None
        if self._stored is None or self._stored[0] is not record:
            self._stored = (record, stored_token(record, client_id=self._settings.client_id))
        return self._stored[1]


def stored_token(record: Mapping[str, str], *, client_id: str) -> AccessToken | None:
    """Return the token of a vault's record, None where the record holds none of this account."""
    try:
        if record["client_id"] != client_id:
            return None
        read = AccessToken.of(client_id=client_id, secret=SecretStr(record["secret"]))
        return attrs.evolve(
            read,
            expires_at=read.expires_at or _moment(record["expires_at"]),
            issued_at=read.issued_at or datetime.fromisoformat(record["made_at"]),
        )
    except (KeyError, ValueError, ConfigurationError):
        return None


def _pool(settings: DhanSettings, vault: Vault, clock: Clock) -> TokenPool[AccessToken]:
    # Here and not above: making a token needs this module's AccessToken.
    from hybridbroker.brokers.dhan.minting import Mint

    shelf = TokenShelf(settings, vault)

    def none(last: AccessToken | None) -> AuthenticationError | ConfigurationError:
        if last is None:
            return ConfigurationError(f"there is no Dhan token: {_LOG_IN}")
        try:
            last.check(clock.now())
        except TokenExpired as exc:
            return exc
        return _refusal()

    if settings.is_sandbox:
        return TokenPool(clock=clock, candidates=shelf, none=lambda _: TokenExpired(_SANDBOX))
    mint = Mint(settings, vault=vault, clock=clock, shelf=shelf, none=none)
    return TokenPool(clock=clock, candidates=shelf, none=none, make=mint.another, due=mint.is_due)


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _refusal() -> TokenExpired:
    return TokenExpired(f"Dhan refuses the access token and there is no other: {_LOG_IN}")


def _age(token: AccessToken) -> float:
    made = token.issued_at or (token.expires_at - _LIFE if token.expires_at else None)
    # One that says nothing of itself was put into the settings by hand: it counts as new.
    return -made.timestamp() if made else float("-inf")
