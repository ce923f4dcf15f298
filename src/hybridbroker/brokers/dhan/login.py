"""Logging in to Dhan: unattended, by consent in a browser, with a pasted token, or by renewing the one there is.

Documented: https://dhanhq.co/docs/v2/authentication/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import SecretStr

from hybridbroker.brokers.browser import ask_for, come_back
from hybridbroker.brokers.dhan.account import DhanAccount
from hybridbroker.brokers.dhan.auth import AccessToken, FixedToken, TokenShelf, token_source
from hybridbroker.brokers.dhan.issuer import Issuer
from hybridbroker.brokers.dhan.minting import Mint, store
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.errors import ConfigurationError, TokenExpired, Unsupported
from hybridbroker.plugins import LoginRequest, LoginResult, LoginWay
from hybridbroker.transport.vault import Vault

__all__ = ["login"]

_KIND: Final = "access"
_KILLED: Final = "an account has one token at a time: the one before is dead, also where others use it"
_ENVIRONMENT: Final = "DHAN_ACCESS_TOKEN"


async def login(request: LoginRequest, *, vault: Vault | None = None) -> LoginResult:
    """Do what ``request`` asks; a new token is stored for every program of this user on this machine.

    Usual is the first of these that the settings allow: PIN and TOTP, the consent page, a pasted token.

    Raises:
        ConfigurationError: A setting is missing.
        AuthenticationError: Dhan refuses.
        RateLimited: Dhan makes one token in two minutes; ``retry_after`` says when.
        NetworkError: Dhan could not be reached, or gave no answer: then a token may have been made.
    """
    settings: DhanSettings = request.settings or DhanSettings.from_environment()
    if not settings.client_id:
        raise ConfigurationError("set DHAN_CLIENT_ID to your Dhan client id, shown under My Profile on web.dhan.co")
    return await _Login(request, settings, vault or Vault()).run()


class _Login:
    def __init__(self, request: LoginRequest, settings: DhanSettings, vault: Vault) -> None:
        self._request = request
        self._settings = settings
        self._vault = vault
        self._clock = request.clock
        self._shelf = TokenShelf(settings, vault)

    async def run(self) -> LoginResult:
        steps = {
            LoginWay.USUAL: self._usual,
            LoginWay.TOTP: self._with_totp,
            LoginWay.BROWSER: self._with_consent,
            LoginWay.PASTE: self._with_consent,
            LoginWay.TOKEN: self._with_token,
            LoginWay.RENEW: self._renew,
            LoginWay.STATUS: self._status,
            LoginWay.LOGOUT: self._logout,
        }
        step = steps.get(self._request.way)
        if step is None:
            raise Unsupported("Dhan does not ask in its app; --totp logs in unattended")
        return await step()

    async def _usual(self) -> LoginResult:
        if self._settings.is_unattended:
            return await self._with_totp()
        if self._settings.api_key.get_secret_value():
            return await self._with_consent()
        return await self._with_token()

    async def _with_totp(self) -> LoginResult:
        mint = Mint(
            self._settings,
            vault=self._vault,
            clock=self._clock,
            shelf=self._shelf,
            none=lambda _: ConfigurationError("there is no Dhan token"),
        )
        return self._told(await mint.by_hand(), _KILLED)

    async def _with_consent(self) -> LoginResult:
        if not (self._settings.api_key.get_secret_value() and self._settings.api_secret.get_secret_value()):
            raise ConfigurationError(
                "set DHAN_API_KEY and DHAN_API_SECRET to those made at web.dhan.co -> My Profile -> Access DhanHQ APIs"
            )
        issuer = Issuer(self._settings, clock=self._clock)
        page = await issuer.consent()
        token_id = await come_back(self._request, page=page, redirect_uri=self._settings.redirect_uri, want="tokenId")
        return self._kept(await issuer.consume(token_id), _KILLED)

    async def _with_token(self) -> LoginResult:
        pasted = ask_for(self._request, "Access token from web.dhan.co (not shown): ")
        if any(character.isspace() or not character.isascii() for character in pasted):
            raise ConfigurationError("a token is one line of plain characters; paste it again")
        token = AccessToken.of(client_id=self._settings.client_id, secret=SecretStr(pasted))
        token.check(self._clock.now())
        tokens = FixedToken(token, clock=self._clock)
        async with DhanAccount(self._settings, clock=self._clock, tokens=tokens) as account:
            profile = await account.profile()
        if profile.client_id != self._settings.client_id:
            raise ConfigurationError("the token belongs to another client id than DHAN_CLIENT_ID; nothing was stored")
        return self._kept(token)

    async def _renew(self) -> LoginResult:
        token = await token_source(self._settings, clock=self._clock, vault=self._vault).token()
        return self._kept(await Issuer(self._settings, clock=self._clock).renew(token), _KILLED)

    async def _status(self) -> LoginResult:
        token = next(iter(self._shelf()), None)
        notes = ["a token is made by itself when one is needed: PIN and TOTP secret are set"]
        if not self._settings.is_unattended:
            notes = []
        if token is None:
            return LoginResult(
                broker="dhan", logged_in=False, account=self._settings.client_id, notes=("no token is known", *notes)
            )
        return self._told(token, *notes)

    async def _logout(self) -> LoginResult:
        forgotten = self._vault.remove(self._settings.vault_name(_KIND))
        notes = ["Dhan has no call to end a token: it lives on until its hour, or until another is made"]
        notes.insert(0, "the stored token is deleted" if forgotten else "no token was stored")
        if self._settings.current().access_token.get_secret_value():
            notes.append(f"{_ENVIRONMENT} is still set")
        return LoginResult(broker="dhan", logged_in=False, account=self._settings.client_id, notes=tuple(notes))

    def _kept(self, token: AccessToken, *notes: str) -> LoginResult:
        return self._told(store(self._vault, self._settings, token, now=self._clock.now()), *notes)

    def _told(self, token: AccessToken, *notes: str) -> LoginResult:
        stored = self._shelf.from_vault()
        is_stored = stored is not None and stored.secret == token.secret
        source = str(self._vault.path(self._settings.vault_name(_KIND))) if is_stored else _ENVIRONMENT
        return LoginResult(
            broker="dhan",
            logged_in=_lives(token, self._clock.now()),
            account=token.client_id,
            kind=_KIND,
            expires_at=token.expires_at,
            source=source,
            notes=notes,
        )


def _lives(token: AccessToken, now: datetime) -> bool:
    try:
        token.check(now)
    except TokenExpired:
        return False
    return True
