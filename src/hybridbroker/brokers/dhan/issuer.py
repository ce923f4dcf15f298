"""Dhan's server that issues tokens: each call sent once, wire in, token out, and no secret in what goes wrong.

PIN, TOTP code and token ids travel in the query of the address, since Dhan wants them there:
addresses are logged nowhere, and the errors raised here were never inside one that holds them.

Documented: https://dhanhq.co/docs/v2/authentication/. Recorded: the words of the two-minute
rule. Not settled: the method of ``consumeApp-consent`` (POST and GET are both documented), and
whether ``RenewToken`` takes tokens that were not made on web.dhan.co.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import attrs
from pydantic import SecretStr

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.faults import fault_in
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.discretion import without_secrets
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import AuthenticationError, NetworkError, RateLimited, WireFormatError
from hybridbroker.transport.http import HttpClient, Response, RetryPolicy
from hybridbroker.transport.redact import SecretHeaders

__all__ = ["BETWEEN_TOKENS", "Issuer"]

BETWEEN_TOKENS: Final = 121.0
"""Seconds between two tokens made with PIN and TOTP: Dhan's two minutes, and one for its rounding."""

_NOT_THIS_WAY: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
_ONCE: Final = RetryPolicy(attempts=1)

Send = Callable[[HttpClient], Awaitable[Response]]


class Issuer:
    """The calls that make tokens of one account; every one opens its own connection.

    All raise `AuthenticationError` where Dhan refuses, `RateLimited` where it is too early,
    `WireFormatError` for an answer without a token, and `NetworkError` where no answer came: then
    a token may have been made, and the old one be dead.
    """

    def __init__(self, settings: DhanSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def generate(self, code: str) -> AccessToken:
        """Make a token with the PIN and a TOTP code; the one before is dead."""
        pin = self._settings.pin.get_secret_value()
        params = {"dhanClientId": self._settings.client_id, "pin": pin, "totp": code}
        return self._token(
            await self._ask(lambda http: http.post("/app/generateAccessToken", params=params), hide=(pin, code)),
            hide=(pin, code),
        )

    async def consent(self) -> str:
        """Open a consent and return the address of the page where the person gives it."""
        params = {"client_id": self._settings.client_id}
        headers = self._app_headers()
        response = await self._ask(
            lambda http: http.post("/app/generate-consent", params=params, headers=headers), hide=self._app_secrets()
        )
        told = self._payload(response, hide=self._app_secrets())
        consent = told.get("consentAppId")
        if not isinstance(consent, str) or not consent:
            raise WireFormatError("POST /app/generate-consent: Dhan answered without a consentAppId")
        base = self._settings.address("auth_url").rstrip("/")
        return f"{base}/login/consentApp-login?{urlencode({'consentAppId': consent})}"

    async def consume(self, token_id: str) -> AccessToken:
        """Exchange what the person came back with for a token; the one before is dead."""
        params, headers = {"tokenId": token_id}, self._app_headers()
        hide = (token_id, *self._app_secrets())
        path = "/app/consumeApp-consent"
        response = await self._ask(lambda http: http.post(path, params=params, headers=headers), hide=hide)
        if response.status in _NOT_THIS_WAY:
            response = await self._ask(lambda http: http.get(path, params=params, headers=headers), hide=hide)
        return self._token(response, hide=hide)

    async def renew(self, token: AccessToken) -> AccessToken:
        """Exchange a living token for a new one; it is dead then."""
        secret = token.secret.get_secret_value()
        headers = SecretHeaders({"access-token": secret, "dhanClientId": token.client_id})
        send: Send = lambda http: http.get("/RenewToken", headers=headers)  # noqa: E731
        return self._token(await self._ask(send, hide=(secret,), base=self._settings.base_url), hide=(secret,))

    def _app_headers(self) -> Mapping[str, str]:
        key, secret = self._app_secrets()
        return SecretHeaders({"app_id": key, "app_secret": secret})

    def _app_secrets(self) -> tuple[str, str]:
        return self._settings.api_key.get_secret_value(), self._settings.api_secret.get_secret_value()

    async def _ask(self, send: Send, *, hide: tuple[str, ...], base: str | None = None) -> Response:
        try:
            async with HttpClient(
                base_url=base or self._settings.address("auth_url"), headers={}, clock=self._clock, retry=_ONCE
            ) as http:
                return await send(http)
        except NetworkError as exc:
            failure = without_secrets(exc, hide)
        # Outside of the handler: an exception keeps the one it was raised in, and that one its request.
        raise failure

    def _token(self, response: Response, *, hide: tuple[str, ...]) -> AccessToken:
        told = self._payload(response, hide=hide)
        secret = told.get("accessToken")
        if not isinstance(secret, str) or not secret:
            raise WireFormatError(f"{response.request}: Dhan answered without an access token")
        owner = told.get("dhanClientId")
        if owner is not None and str(owner) != self._settings.client_id:
            raise AuthenticationError(
                f"Dhan logged in another account than DHAN_CLIENT_ID={self._settings.client_id}; nothing was stored"
            )
        read = AccessToken.of(client_id=self._settings.client_id, secret=SecretStr(secret))
        return attrs.evolve(
            read,
            issued_at=read.issued_at or self._clock.now(),
            expires_at=read.expires_at or _expiry(told.get("expiryTime")),
        )

    def _payload(self, response: Response, *, hide: tuple[str, ...]) -> Mapping[str, Any]:
        try:
            payload = response.json()
        except WireFormatError:
            payload = None
        fault = fault_in(payload)
        if fault is not None and "minutes" in fault.message.lower():
            raise without_secrets(RateLimited(f"Dhan: {fault}", retry_after=BETWEEN_TOKENS), hide)
        if fault is not None or response.status >= HTTPStatus.BAD_REQUEST:
            told = f"Dhan refuses the login ({response.request}): {fault or f'HTTP {response.status}'}"
            raise without_secrets(AuthenticationError(told), hide)
        if not isinstance(payload, Mapping):
            raise WireFormatError(f"{response.request}: Dhan answered something else than an object")
        return payload


def _expiry(told: object) -> datetime | None:
    if not isinstance(told, str):
        return None
    try:
        return datetime.fromisoformat(told).replace(tzinfo=IST)
    except ValueError:
        return None
