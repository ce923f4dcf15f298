"""Upstox's login server, profile and address calls on the loopback interface, written from the documentation.

Documented: https://upstox.com/developer/api-documentation/authentication/ , /access-token-request/ ,
/logout/ , /get-profile/ . The user who types a password into the dialog is played as one who agrees.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from datetime import datetime, time, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hybridbroker.clock import IST, Clock, to_epoch_ms
from hybridbroker.testing.emulators.token_book import TokenBook

__all__ = ["UpstoxLogin"]

_DIES_AT: Final = time(3, 30)


class UpstoxLogin:
    """The app and the user of one emulated account; `routes` are mounted on a starlette application.

    Args:
        clock: Decides when tokens die.
        client_id: The app's API key.
        client_secret: The app's secret.
        redirect_uris: The redirect addresses the app has registered; None takes any.
        notifier_url: The webhook the app has registered; "" has none, so token requests are refused.
        agrees: Whether the user approves in the dialog; otherwise it sends back no code.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        client_id: str = "emulated-app",
        client_secret: str = "emulated-app-secret",  # noqa: S107 - opens nothing
        user_id: str = "AB1234",
        redirect_uris: frozenset[str] | None = None,
        notifier_url: str = "",
        agrees: bool = True,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.user_id = user_id
        self.redirect_uris = redirect_uris
        self.notifier_url = notifier_url
        self.agrees = agrees
        self.requested = 0
        """Access-token requests that wait for the user's approval."""
        self.addresses = {"primary_ip": "", "secondary_ip": ""}
        self.tokens = TokenBook(clock, expiry=_next_half_past_three, claims={"sub": user_id, "isPlusPlan": False})
        self._clock = clock
        self._codes: dict[str, str] = {}

    def routes(self, *, account: bool = True) -> list[Route]:
        """Return the routes; ``account=False`` leaves out profile and addresses."""
        login = [
            Route("/v2/login/authorization/dialog", self._dialog),
            Route("/v2/login/authorization/token", self._exchange, methods=["POST"]),
            Route("/v3/login/auth/token/request/{client_id}", self._request, methods=["POST"]),
            Route("/v2/logout", self._bearer(self._logout), methods=["DELETE"]),
        ]
        calls = [
            Route("/v2/user/profile", self._bearer(self._profile)),
            Route("/v2/user/ip", self._bearer(self._read_addresses)),
            Route("/v2/user/ip", self._bearer(self._set_addresses), methods=["PUT"]),
        ]
        return [*login, *calls] if account else login

    def accepts(self, request: Request) -> bool:
        """Return whether a request carries a token that lives."""
        return self.tokens.is_valid(_token(request))

    async def approve(self, *, url: str | None = None, **changed: Any) -> int:
        """Let the user approve a token request: tell the webhook; return the status it answered with.

        ``changed`` replaces fields of the message.
        """
        self.requested = max(0, self.requested - 1)
        issued = self.tokens.issue()
        made = self.tokens.newest
        assert made is not None  # noqa: S101 - just issued
        message = {
            "client_id": self.client_id,
            "user_id": self.user_id,
            "access_token": issued,
            "token_type": "Bearer",
            "issued_at": str(to_epoch_ms(made.made_at)),
            "expires_at": str(to_epoch_ms(made.expires_at)),
            "message_type": "access_token",
        }
        return await _post(url or self.notifier_url, json.dumps({**message, **changed}).encode())

    async def _dialog(self, request: Request) -> Response:
        asked = request.query_params
        redirect = asked.get("redirect_uri", "")
        known = self.redirect_uris is None or redirect in self.redirect_uris
        if asked.get("client_id") != self.client_id or not redirect or not known:
            return _refuse(400, "UDAPI100068", "Check your 'client_id' and 'redirect_uri'; one or both are incorrect.")
        if asked.get("response_type") != "code":
            return _refuse(400, "UDAPI10000", "This request is not supported by Upstox API")
        answer = {"state": asked["state"]} if "state" in asked else {}
        if self.agrees:
            code = secrets.token_urlsafe(6)
            self._codes[code] = redirect
            answer = {"code": code, **answer}
        else:
            answer = {"error": "access_denied", **answer}
        joint = "&" if urlsplit(redirect).query else "?"
        return RedirectResponse(redirect + joint + urlencode(answer), 302)

    async def _exchange(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("latin-1")))
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            return _refuse(401, "UDAPI100069", "Check your 'client_id' and 'client_secret'; one or both are incorrect.")
        redirect = self._codes.pop(form.get("code", ""), None)
        if redirect is None or form.get("grant_type") != "authorization_code":
            return _refuse(401, "UDAPI100057", "Invalid Auth code")
        if form.get("redirect_uri") != redirect:
            return _refuse(401, "UDAPI100070", "The 'redirect_uri' is invalid")
        return JSONResponse({**self._person(), "access_token": self.tokens.issue(), "extended_token": None})

    async def _request(self, request: Request) -> Response:
        body = await _json(request)
        named = (request.path_params["client_id"], body.get("client_secret"))
        if named != (self.client_id, self.client_secret):
            return _refuse(401, "UDAPI100069", "Check your 'client_id' and 'client_secret'; one or both are incorrect.")
        if not self.notifier_url:
            return _refuse(400, "UDAPI1123", "Notifier URL is not configured for the app")
        self.requested += 1
        lapses = str(to_epoch_ms(_next_half_past_three(self._clock.now())))
        return _success({"authorization_expiry": lapses, "notifier_url": self.notifier_url})

    async def _logout(self, request: Request) -> Response:
        self.tokens.revoke(_token(request))
        return _success(data=True)

    async def _profile(self, _: Request) -> Response:
        return _success({**self._person(), "ddpi": True})

    async def _read_addresses(self, _: Request) -> Response:
        return _success(self._address_row())

    async def _set_addresses(self, request: Request) -> Response:
        body = await _json(request)
        self.addresses = {name: str(body.get(name) or "") for name in self.addresses}
        self.tokens.revoke_all("access")
        return _success({**self._address_row(), "access_tokens_invalidated": True})

    def _address_row(self) -> dict[str, Any]:
        told = {name: value or None for name, value in self.addresses.items()}
        at = f"{self._clock.now().astimezone(IST):%Y-%m-%d %H:%M:%S}"
        times = {f"{name}_updated_at": at if value else None for name, value in told.items()}
        return {"user_id": self.user_id, **told, **times}

    def _person(self) -> dict[str, Any]:
        return {
            "email": "a@example.test",
            "exchanges": ["NSE", "NFO", "BSE", "BFO", "MCX"],
            "products": ["I", "D", "MTF"],
            "broker": "UPSTOX",
            "user_id": self.user_id,
            "user_name": "A USER",
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
            "user_type": "individual",
            "poa": False,
            "is_active": True,
        }

    def _bearer(self, endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def checked(request: Request) -> Response:
            if not self.accepts(request):
                return _refuse(401, "UDAPI100050", "Invalid token used to access API")
            answer: Response = await endpoint(request)
            return answer

        return checked


def _next_half_past_three(now: datetime) -> datetime:
    local = now.astimezone(IST)
    today = datetime.combine(local.date(), _DIES_AT, IST)
    return today if local < today else today + timedelta(days=1)


def _token(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _success(data: object) -> Response:
    return JSONResponse({"status": "success", "data": data})


def _refuse(status: int, code: str, message: str) -> Response:
    spelled = {"errorCode": code, "message": message, "propertyPath": None, "invalidValue": None}
    twice = {**spelled, "error_code": code, "property_path": None, "invalid_value": None}
    return JSONResponse({"status": "error", "errors": [twice]}, status)


async def _post(url: str, body: bytes) -> int:
    """Send a webhook the plainest way there is; return the status it was answered with."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port or 80)
    head = [
        f"POST {place.path or '/'} HTTP/1.1",
        f"Host: {place.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    try:
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()
        line = await reader.readline()
        await reader.read()
    finally:
        writer.close()
    words = line.split(b" ")
    return int(words[1]) if len(words) > 1 else HTTPStatus.BAD_GATEWAY
