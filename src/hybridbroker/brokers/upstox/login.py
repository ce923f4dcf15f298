"""Logging in to Upstox: its own page in a browser, a question in its app, or a pasted token.

Documented: https://upstox.com/developer/api-documentation/authentication/ , /access-token-request/
and /logout/. There is no refresh token, and no documented call that takes a TOTP.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import attrs
from pydantic import SecretStr

from hybridbroker.brokers.browser import ask_for, come_back
from hybridbroker.brokers.discretion import without_secrets
from hybridbroker.brokers.upstox.account import UpstoxAccount
from hybridbroker.brokers.upstox.auth import (
    AccessToken,
    FixedToken,
    Reach,
    TokenKind,
    next_expiry,
    stored_token,
    token_source,
)
from hybridbroker.brokers.upstox.client import UpstoxClient
from hybridbroker.brokers.upstox.faults import fault
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    NetworkError,
    TokenExpired,
    Unsupported,
    WireFormatError,
)
from hybridbroker.plugins import LoginRequest, LoginResult, LoginWay
from hybridbroker.transport.callback import Arrival, Listener, Turned
from hybridbroker.transport.http import HttpClient, Response, RetryPolicy
from hybridbroker.transport.vault import Vault

__all__ = ["login"]

_ONCE: Final = RetryPolicy(attempts=1)
_APP: Final = "set UPSTOX_API_KEY and UPSTOX_API_SECRET to those of your app at account.upstox.com/developer/apps"
_PASTED_KINDS: Final = (TokenKind.ACCESS, TokenKind.ANALYTICS)


async def login(request: LoginRequest, *, vault: Vault | None = None) -> LoginResult:
    """Do what ``request`` asks; a new token is stored for every program of this user on this machine.

    Usual is the browser where the app's key and secret are set, else a pasted token.

    Raises:
        ConfigurationError: A setting is missing, or is not the app's.
        AuthenticationError: Upstox refuses, or the person did not come back in time.
        NetworkError: Upstox could not be reached, or gave no answer.
    """
    settings: UpstoxSettings = request.settings or UpstoxSettings.from_environment()
    return await _Login(request, settings, vault or Vault()).run()


class _Login:
    def __init__(self, request: LoginRequest, settings: UpstoxSettings, vault: Vault) -> None:
        self._request = request
        self._settings = settings
        self._vault = vault
        self._clock = request.clock

    async def run(self) -> LoginResult:
        steps = {
            LoginWay.USUAL: self._on_the_page if self._settings.api_key else self._with_token,
            LoginWay.BROWSER: self._on_the_page,
            LoginWay.PASTE: self._on_the_page,
            LoginWay.REQUEST: self._by_request,
            LoginWay.TOKEN: self._with_token,
            LoginWay.STATUS: self._status,
            LoginWay.LOGOUT: self._logout,
        }
        step = steps.get(self._request.way)
        if step is None:
            raise Unsupported(
                f"Upstox documents no login by {self._request.way}; --request asks you in its app instead"
            )
        return await step()

    async def _on_the_page(self) -> LoginResult:
        self._require_app()
        state = secrets.token_urlsafe(24)
        query = {
            "response_type": "code",
            "client_id": self._settings.api_key,
            "redirect_uri": self._settings.redirect_uri,
            "state": state,
        }
        page = f"{self._settings.base_url}/v2/login/authorization/dialog?{urlencode(query)}"
        code = await come_back(
            self._request, page=page, redirect_uri=self._settings.redirect_uri, want="code", state=state
        )
        return self._kept(await self._exchange(code))

    async def _exchange(self, code: str) -> AccessToken:
        form = {
            "code": code,
            "client_id": self._settings.api_key,
            "client_secret": self._settings.api_secret.get_secret_value(),
            "redirect_uri": self._settings.redirect_uri,
            "grant_type": "authorization_code",
        }
        response = await self._ask("/v2/login/authorization/token", form=form)
        told = _object(response)
        return self._minted(told.get("access_token"), user_id=told.get("user_id"), call=response.request)

    async def _by_request(self) -> LoginResult:
        self._require_app()
        if self._request.listen is None:
            told = await self._send_request()
            where = told.get("notifier_url")
            note = f"approve it in the Upstox app; the token then goes to the app's notifier, {_shown(where)}"
            return LoginResult(broker="upstox", logged_in=False, kind=TokenKind.ACCESS, notes=(note,))
        host, port = self._request.listen
        async with Listener(
            hosts=[host], port=port, path=self._request.listen_path, method="POST", accept=self._take
        ) as listener:
            await self._send_request()
            self._request.say("Approve the request in the Upstox app; waiting for the token.")
            token = await listener.wait(self._request.timeout)
        notes = () if self._owner() else (f"nobody vouches that {token.user_id} is you but UPSTOX_USER_ID; set it",)
        return self._kept(token, *notes)

    async def _send_request(self) -> Mapping[str, Any]:
        path = f"/v3/login/auth/token/request/{quote(self._settings.api_key, safe='')}"
        response = await self._ask(path, body={"client_secret": self._settings.api_secret.get_secret_value()})
        data = _object(response).get("data")
        return data if isinstance(data, Mapping) else {}

    async def _take(self, arrival: Arrival) -> AccessToken:
        """Judge what came to the webhook, which anybody can send to, their own token included.

        Only a token that opens the account counts: the one in the settings, or the one of the last
        login. Where neither is known, the first account that comes is taken, and the person told.
        """
        message = _message(arrival.body)
        sender = str(message.get("client_id", ""))
        if not hmac.compare_digest(sender.encode(), self._settings.api_key.encode()):
            raise Turned("This is not for the app that waits here.")
        try:
            token = self._minted(
                message.get("access_token"),
                user_id=message.get("user_id"),
                call="the webhook",
                dies=_milliseconds(message.get("expires_at")),
            )
            proven = await self._proven(token)
        except HybridBrokerError:
            proven = None
        if proven is None or self._owner() not in {"", proven.user_id}:
            raise Turned("The token does not open the account.")
        return proven

    def _owner(self) -> str:
        """Return whose tokens are expected, "" where nobody has said."""
        if self._settings.user_id:
            return self._settings.user_id
        record = self._vault.read(self._settings.vault_name(TokenKind.ACCESS))
        stored = stored_token(record) if record else None
        return stored.user_id if stored else ""

    async def _with_token(self) -> LoginResult:
        kind = TokenKind(self._request.kind) if self._request.kind in list(TokenKind) else None
        if self._request.kind and kind not in _PASTED_KINDS:
            hint = "; a sandbox token goes into UPSTOX_SANDBOX_TOKEN" if kind is TokenKind.SANDBOX else ""
            raise ConfigurationError(f"a login takes tokens of the kinds {', '.join(_PASTED_KINDS)}{hint}")
        pasted = ask_for(self._request, "Token from account.upstox.com/developer/apps (not shown): ")
        if any(character.isspace() or not character.isascii() for character in pasted):
            raise ConfigurationError("a token is one line of plain characters; paste it again")
        token = AccessToken.of(SecretStr(pasted), seen_at=self._clock.now(), kind=kind)
        token.check(self._clock.now())
        if token.kind not in _PASTED_KINDS:
            raise ConfigurationError(f"this is a token of the kind {token.kind}; put it into UPSTOX_SANDBOX_TOKEN")
        return self._kept(await self._proven(token))

    async def _proven(self, token: AccessToken) -> AccessToken:
        """Return ``token`` with its owner, once Upstox has taken it for what it is for."""
        tokens = FixedToken(token, clock=self._clock)
        if token.kind is TokenKind.ANALYTICS:
            async with UpstoxClient(base_url=self._settings.base_url, tokens=tokens, clock=self._clock) as client:
                await client.read("/v3/feed/market-data-feed/authorize", call="feed", family="feed", once=True)
            return token
        async with UpstoxAccount(self._settings, clock=self._clock, tokens=tokens) as account:
            user = (await account.profile()).user_id
        if token.user_id and user != token.user_id:
            raise AuthenticationError("the token belongs to another user than it says; nothing was stored")
        return attrs.evolve(token, user_id=user)

    def _check_owner(self, token: AccessToken) -> None:
        if self._settings.user_id and token.user_id and token.user_id != self._settings.user_id:
            raise AuthenticationError(
                f"this is the token of {token.user_id}, not of UPSTOX_USER_ID={self._settings.user_id}; "
                "nothing was stored"
            )

    async def _status(self) -> LoginResult:
        known = {each: self._known(each) for each in _PASTED_KINDS}
        found = [(each, source) for each, source in known.values() if each is not None]
        if not found:
            return LoginResult(broker="upstox", logged_in=False, notes=("no token is known",))
        now = self._clock.now()
        token, source = found[0]
        others = tuple(
            f"there is {'a living' if _lives(each, now) else 'a dead'} {each.kind} token too ({where}), "
            f"until {each.expires_at:%Y-%m-%d}"
            for each, where in found[1:]
        )
        return self._told(token, source, *others)

    def _known(self, kind: TokenKind) -> tuple[AccessToken | None, str]:
        settings = self._settings.current()
        is_access = kind is TokenKind.ACCESS
        secret = settings.access_token if is_access else settings.analytics_token
        given = None
        if secret.get_secret_value():
            as_kind = None if is_access else kind
            given = AccessToken.of(secret, seen_at=self._clock.now(), kind=as_kind)
        record = self._vault.read(settings.vault_name(kind))
        stored = stored_token(record) if record else None
        if stored is not None and (given is None or not _lives(given, self._clock.now())):
            return stored, str(self._vault.path(settings.vault_name(kind)))
        return given, f"UPSTOX_{'ACCESS' if is_access else 'ANALYTICS'}_TOKEN"

    async def _logout(self) -> LoginResult:
        notes = []
        try:
            tokens = token_source(self._settings, clock=self._clock, reach=Reach.ORDERS, vault=self._vault)
            token = await tokens.token()
            await self._end(token)
            notes.append("Upstox has made the token worthless")
        except (AuthenticationError, ConfigurationError):
            notes.append("there was no living access token to end")
        except NetworkError as exc:
            notes.append(f"Upstox did not confirm that the token has ended, so it may live until 03:30 IST: {exc}")
        forgotten = [self._vault.remove(self._settings.vault_name(kind)) for kind in _PASTED_KINDS]
        notes.append("the stored tokens are deleted" if any(forgotten) else "no token was stored")
        current = self._settings.current()
        if current.access_token.get_secret_value() or current.analytics_token.get_secret_value():
            notes.append("UPSTOX_ACCESS_TOKEN or UPSTOX_ANALYTICS_TOKEN is still set; an analytics token lives on")
        return LoginResult(broker="upstox", logged_in=False, notes=tuple(notes))

    async def _end(self, token: AccessToken) -> None:
        async with HttpClient(base_url=self._settings.base_url, headers=token.headers(), clock=self._clock) as http:
            response = await http.delete("/v2/logout")
        if response.status != HTTPStatus.OK:
            raise fault(response, call="login")

    async def _ask(
        self, path: str, *, form: Mapping[str, str] | None = None, body: Mapping[str, str] | None = None
    ) -> Response:
        sent = form or body or {}
        hide = [sent.get("code", ""), sent.get("client_secret", "")]
        try:
            async with HttpClient(base_url=self._settings.base_url, headers={}, clock=self._clock, retry=_ONCE) as http:
                response = await http.post(path, form=form, json=body)
        except NetworkError as exc:
            failure = without_secrets(exc, hide)
        else:
            if response.status == HTTPStatus.OK:
                return response
            failure = without_secrets(fault(response, call="login"), hide)
        # Outside of the handler: an exception keeps the one it was raised in, and that one its response.
        raise failure

    def _require_app(self) -> None:
        if not (self._settings.api_key and self._settings.api_secret.get_secret_value()):
            raise ConfigurationError(_APP)

    def _minted(self, secret: object, *, user_id: object, call: str, dies: datetime | None = None) -> AccessToken:
        if not isinstance(secret, str) or not secret or not secret.isascii() or not secret.isprintable():
            raise WireFormatError(f"{call}: Upstox answered without an access token")
        now = self._clock.now()
        read = AccessToken.of(SecretStr(secret), seen_at=now, kind=TokenKind.ACCESS)
        return attrs.evolve(
            read,
            expires_at=read.expires_at if read.is_certain else dies or next_expiry(now),
            is_certain=True,
            issued_at=read.issued_at or now,
            user_id=read.user_id or (user_id if isinstance(user_id, str) else ""),
        )

    def _kept(self, token: AccessToken, *notes: str) -> LoginResult:
        self._check_owner(token)
        record = {
            "secret": token.secret.get_secret_value(),
            "kind": token.kind.value,
            "user_id": token.user_id,
            "made_at": (token.issued_at or self._clock.now()).isoformat(),
            "expires_at": token.expires_at.isoformat(),
        }
        path = self._vault.write(self._settings.vault_name(token.kind), record)
        return self._told(token, str(path), *notes)

    def _told(self, token: AccessToken, source: str, *notes: str) -> LoginResult:
        return LoginResult(
            broker="upstox",
            logged_in=_lives(token, self._clock.now()),
            account=token.user_id,
            kind=token.kind.value,
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


def _object(response: Response) -> Mapping[str, Any]:
    told = response.json()
    if not isinstance(told, Mapping):
        raise WireFormatError(f"{response.request}: Upstox answered something else than an object")
    return told


def _message(body: bytes) -> Mapping[str, Any]:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or read.get("message_type", "access_token") != "access_token":
        raise Turned("This is no message of Upstox.")
    return read


def _milliseconds(told: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(str(told)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _shown(url: object) -> str:
    try:
        place = urlsplit(str(url))
    except ValueError:
        return "which it did not name"
    return f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}"
