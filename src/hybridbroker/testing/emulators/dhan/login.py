"""Dhan's login server, token renewal, profile and address calls on the loopback interface.

Documented: https://dhanhq.co/docs/v2/authentication/ . Recorded: the words of the two-minute
rule, and that an account without an address answers 200 with an error inside. The user who
logs in on the consent page is played as one who agrees.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import pyotp
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hybridbroker.clock import IST, Clock
from hybridbroker.testing.emulators.token_book import TokenBook

__all__ = ["DhanLogin"]

_LIFE: Final = timedelta(hours=24)
_BETWEEN: Final = timedelta(minutes=2)
_CONSENTS: Final = 25
_LOCKED: Final = timedelta(days=7)


class DhanLogin:
    """The login of one emulated account; `routes` are mounted on a starlette application.

    Args:
        clock: Decides when tokens die, which TOTP code counts and when the next token may be made.
        redirect_url: Where the consent page sends the user; the app has registered it.
        consume_methods: Methods that ``consumeApp-consent`` takes: the documentation names both.
        detected: The address requests seem to come from.
        agrees: Whether the user logs in on the consent page.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        client_id: str = "1100000001",
        pin: str = "111222",
        totp_secret: str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",  # noqa: S107 - opens nothing
        api_key: str = "emulated-key",
        api_secret: str = "emulated-secret",  # noqa: S107 - opens nothing
        redirect_url: str = "",
        consume_methods: tuple[str, ...] = ("POST", "GET"),
        detected: str = "203.0.113.7",
        agrees: bool = True,
    ) -> None:
        self.client_id = client_id
        self.pin = pin
        self.totp_secret = totp_secret
        self.api_key = api_key
        self.api_secret = api_secret
        self.redirect_url = redirect_url
        self.consume_methods = consume_methods
        self.detected = detected
        self.agrees = agrees
        self.generated = 0
        """Tokens made with PIN and TOTP."""
        self.consents = 0
        self.ddpi, self.data_plan, self.segments = "Active", "Active", "E, D, C, M, "
        self.addresses: dict[str, tuple[str, datetime]] = {}
        self.tokens = TokenBook(
            clock,
            expiry=lambda at: at + _LIFE,
            claims={"iss": "dhan", "dhanClientId": client_id, "tokenConsumerType": "APP"},
            newest_only=True,
        )
        self._clock = clock
        self._made_at: datetime | None = None
        self._open: dict[str, str] = {}

    def routes(self, *, account: bool = True) -> list[Route]:
        """Return the routes of both hosts; ``account=False`` leaves out the profile."""
        calls = [
            Route("/app/generateAccessToken", self._generate, methods=["POST"]),
            Route("/app/generate-consent", self._app(self._generate_consent), methods=["POST"]),
            Route("/login/consentApp-login", self._consent_page),
            Route("/app/consumeApp-consent", self._app(self._consume), methods=["GET", "POST"]),
            Route("/v2/RenewToken", self._renew, methods=["GET", "POST"]),
            Route("/v2/ip/getIP", self._signed(self._get_address)),
            Route("/v2/ip/setIP", self._signed(self._set_address), methods=["POST"]),
            Route("/v2/ip/modifyIP", self._signed(self._set_address), methods=["PUT"]),
        ]
        return [*calls, Route("/v2/profile", self._signed(self._profile))] if account else calls

    def accepts(self, request: Request) -> bool:
        """Return whether a request carries a token that lives, and no other account's id."""
        headers = request.headers
        named = {headers.get("client-id", self.client_id), headers.get("dhanclientid", self.client_id)}
        return named == {self.client_id} and self.tokens.is_valid(headers.get("access-token"))

    def make_on_the_web(self) -> str:
        """Make a token as a person does on web.dhan.co; the one before is dead."""
        return self.tokens.issue(tokenConsumerType="SELF")

    async def _generate(self, request: Request) -> Response:
        asked, now = request.query_params, self._clock.now()
        if (asked.get("dhanClientId"), asked.get("pin")) != (self.client_id, self.pin):
            return _refuse(400, "DH-906", "Invalid Pin")
        if not pyotp.TOTP(self.totp_secret).verify(asked.get("totp", ""), for_time=now, valid_window=1):
            return _refuse(400, "DH-906", "Invalid TOTP")
        if self._made_at is not None and now - self._made_at < _BETWEEN:
            return JSONResponse({"status": "error", "message": "Token can be generated once every 2 minutes."})
        self._made_at = now
        self.generated += 1
        return self._told(self.tokens.issue())

    async def _generate_consent(self, request: Request) -> Response:
        if request.query_params.get("client_id") != self.client_id:
            return JSONResponse({"status": "error", "message": "Invalid client id"}, 400)
        if self.consents >= _CONSENTS:
            return JSONResponse({"status": "error", "message": "Consent limit exceeded"}, 400)
        self.consents += 1
        consent = str(uuid.uuid4())
        self._open[consent] = ""
        return JSONResponse({"consentAppId": consent, "consentAppStatus": "GENERATED", "status": "success"})

    async def _consent_page(self, request: Request) -> Response:
        consent = request.query_params.get("consentAppId", "")
        if consent not in self._open or not self.agrees:
            return JSONResponse({"status": "error", "message": "Invalid consent"}, 400)
        del self._open[consent]
        pass_on = str(uuid.uuid4())
        self._open[f"token {pass_on}"] = ""
        place = self.redirect_url if urlsplit(self.redirect_url).path else f"{self.redirect_url}/"
        return RedirectResponse(f"{place}?{urlencode({'tokenId': pass_on})}", 302)

    async def _consume(self, request: Request) -> Response:
        if request.method not in self.consume_methods:
            return JSONResponse({"status": 405, "error": "Method Not Allowed", "path": request.url.path}, 405)
        if self._open.pop(f"token {request.query_params.get('tokenId')}", None) is None:
            return JSONResponse({"status": "error", "message": "Invalid token id"}, 400)
        return self._told(self.tokens.issue())

    async def _renew(self, request: Request) -> Response:
        if request.method != "GET":
            return _refuse(400, "DH-905", "Missing required fields, bad values for parameters etc.")
        named = request.headers.get("dhanclientid")
        if named != self.client_id or not self.tokens.is_valid(request.headers.get("access-token")):
            return _refuse(401, "DH-901", "Client ID or user generated access token is invalid or expired.")
        return self._told(self.tokens.issue(tokenConsumerType="SELF"))

    async def _profile(self, _: Request) -> Response:
        made = self.tokens.newest
        dies = made.expires_at if made else self._clock.now()
        return JSONResponse(
            {
                "dhanClientId": self.client_id,
                "tokenValidity": f"{dies.astimezone(IST):%d/%m/%Y %H:%M}",
                "activeSegment": self.segments,
                "ddpi": self.ddpi,
                "mtf": "Deactive",
                "dataPlan": self.data_plan,
                "dataValidity": f"{dies.astimezone(IST) + timedelta(days=30):%Y-%m-%d %H:%M:%S}.0",
            }
        )

    async def _get_address(self, _: Request) -> Response:
        if not self.addresses:
            return JSONResponse([{"message": "No IP found for the user", "status": "ERROR"}])
        known = {flag: value for flag, (value, _) in self.addresses.items()}
        match = next((f"{flag}_MATCH" for flag, value in known.items() if value == self.detected), "NO_MATCH")
        dates = {flag: f"{at.astimezone(IST):%Y-%m-%d}" for flag, (_, at) in self.addresses.items()}
        return JSONResponse(
            {
                "primaryIP": known.get("PRIMARY", ""),
                "secondaryIP": known.get("SECONDARY", ""),
                "modifyDatePrimary": dates.get("PRIMARY", ""),
                "modifyDateSecondary": dates.get("SECONDARY", ""),
                "detectedIP": self.detected,
                "ipMatchStatus": match,
                "ordersAllowed": match != "NO_MATCH",
            }
        )

    async def _set_address(self, request: Request) -> Response:
        body, now = _json(await request.body()), self._clock.now()
        flag, address = body.get("ipFlag"), body.get("ip")
        if body.get("dhanClientId") != self.client_id or flag not in {"PRIMARY", "SECONDARY"} or not address:
            return _refuse(400, "DH-905", "Missing required fields, bad values for parameters etc.")
        held = self.addresses.get(flag)
        if request.method == "POST" and held is not None:
            return JSONResponse({"message": f"{flag} IP is already set", "status": "ERROR"})
        if request.method == "PUT" and (held is None or now - held[1] < _LOCKED):
            return JSONResponse({"message": "IP can be modified once in 7 days", "status": "ERROR"})
        self.addresses[flag] = (str(address), now)
        return JSONResponse({"message": "IP saved successfully", "status": "SUCCESS"})

    def _told(self, token: str) -> Response:
        made = self.tokens.find(token)
        dies = made.expires_at.astimezone(IST) if made else None
        return JSONResponse(
            {
                "dhanClientId": self.client_id,
                "dhanClientName": "A USER",
                "dhanClientUcc": "ABCDE12345",
                "givenPowerOfAttorney": True,
                "accessToken": token,
                "expiryTime": f"{dies:%Y-%m-%dT%H:%M:%S}.000",
            }
        )

    def _app(self, endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def checked(request: Request) -> Response:
            named = (request.headers.get("app_id"), request.headers.get("app_secret"))
            if named != (self.api_key, self.api_secret):
                return JSONResponse({"status": "error", "message": "Invalid app credentials"}, 401)
            answer: Response = await endpoint(request)
            return answer

        return checked

    def _signed(self, endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def checked(request: Request) -> Response:
            if not self.accepts(request):
                return _refuse(400, "DH-906", "Invalid Token", kind="Order_Error")
            answer: Response = await endpoint(request)
            return answer

        return checked


def _json(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _refuse(status: int, code: str, message: str, *, kind: str = "Input_Exception") -> Response:
    return JSONResponse({"errorType": kind, "errorCode": code, "errorMessage": message}, status)
