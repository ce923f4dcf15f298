"""How one call to Upstox is made: which host, with which token, within which limits, and what a refusal means.

Reads are repeated by the transport, and once more with a renewed token after a 401. A write is
sent once, and is *refused* only by a 4xx whose body says why; a lost reply, 5xx, a page of HTML
and anything unreadable leave its outcome unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, Final, Literal, Self

import msgspec

from hybridbroker.brokers.upstox.auth import AccessToken, Reach, TokenSource
from hybridbroker.brokers.upstox.faults import Call, fault, is_refusal
from hybridbroker.brokers.upstox.limits import LIMITS
from hybridbroker.clock import Clock
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    NotSent,
    OrderOutcomeUnknown,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    TokenExpired,
)
from hybridbroker.transport.http import HttpClient, KeepWarm, Response, RetryPolicy
from hybridbroker.transport.limits import RateLimiter, shared
from hybridbroker.transport.redact import SecretHeaders
from hybridbroker.transport.urls import check_url

__all__ = ["Method", "UpstoxClient", "unknown"]

logger = logging.getLogger(__name__)

Method = Literal["POST", "PUT", "DELETE"]

_OK: Final = frozenset({HTTPStatus.OK, HTTPStatus.MULTI_STATUS})
_PAUSE: Final = 1.0
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class UpstoxClient:
    """The calls of one account; entered and left like the `HttpClient` inside.

    The token source is asked before each request. After a 401 a read asks it once for a renewed
    token and is repeated; a write is not, but the next call starts with a renewed token.

    All clients of a process on one account and host share their rate limits. An ``account`` of ""
    means that it is not known, and such clients share as if they were one. ``algo_name`` is the
    name of an algorithm that is registered with the exchange: it goes with every write, and
    allows more of them a second.
    """

    def __init__(
        self,
        *,
        base_url: str,
        order_url: str | None = None,
        tokens: TokenSource,
        clock: Clock,
        account: str = "",
        algo_name: str = "",
        keep_warm_seconds: float = 0.0,
    ) -> None:
        self._base_url = check_url(base_url)
        self._order_url = check_url(order_url or base_url)
        self._tokens = tokens
        self._clock = clock
        self._account = account
        self._order_headers = {"X-Algo-Name": algo_name} if algo_name else {}
        self._order_family = "order-registered" if algo_name else "order"
        self._keep_warm = KeepWarm(path="/", every=keep_warm_seconds) if keep_warm_seconds else None
        self._refused: AccessToken | None = None
        self._open = AsyncExitStack()
        self._limiter: RateLimiter | None = None
        self._http: HttpClient | None = None
        self._once: HttpClient | None = None
        self._orders: HttpClient | None = None

    async def __aenter__(self) -> Self:
        self._limiter = limiter = shared(("upstox", self._base_url, self._account), LIMITS, self._clock)
        self._http = HttpClient(base_url=self._base_url, headers={}, clock=self._clock, limiter=limiter)
        # Sent once: the socket that asks repeats it, and has more patience with a refusal.
        self._once = HttpClient(
            base_url=self._base_url, headers={}, clock=self._clock, limiter=limiter, retry=RetryPolicy(attempts=1)
        )
        self._orders = HttpClient(
            base_url=self._order_url, headers={}, clock=self._clock, limiter=limiter, keep_warm=self._keep_warm
        )
        async with AsyncExitStack() as opening:
            for each in (self._http, self._once, self._orders):
                await opening.enter_async_context(each)
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    async def read(
        self,
        path: str,
        *,
        call: Call,
        params: Mapping[str, Any] | None = None,
        family: str = "read",
        once: bool = False,
    ) -> Response:
        """Return the answer to a GET that succeeded; ``once`` leaves repeating it to the caller.

        Raises:
            HybridBrokerError: What the refusal means (see `fault`); `NetworkError` where no answer came.
        """
        http = self._opened(self._once if once else self._http, f"GET {path}")
        token = await self._token()
        response = await http.get(path, params=params, family=family, headers=token.headers())
        if _refuses_token(response, call=call):
            token = await self._renewed(token, response, call=call)
            response = await http.get(path, params=params, family=family, headers=token.headers())
        return self._accepted(response, call=call, family=family)

    async def query(self, path: str, *, json: Any, call: Call, family: str = "read") -> Response:
        """Return the answer to a POST that only reads; all else as `read`."""
        http = self._opened(self._http, f"POST {path}")
        body, token = _encode(json), await self._token()
        response = await http.query(path, json=body, family=family, headers=token.headers())
        if _refuses_token(response, call=call):
            token = await self._renewed(token, response, call=call)
            response = await http.query(path, json=body, family=family, headers=token.headers())
        return self._accepted(response, call=call, family=family)

    async def write(
        self,
        method: Method,
        path: str,
        *,
        what: str,
        subject: str,
        call: Call = "order",
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        fast: bool = False,
        urgent: bool = False,
    ) -> Response:
        """Send one write, once, and return its 2xx answer, unread.

        ``fast`` takes the host for single orders, ``urgent`` goes before the writes that wait for
        the rate limits. ``what`` names it in messages, ``subject`` is the id to look it up by.

        Raises:
            AuthenticationError: The token is over, or of a kind that cannot do this; nothing was sent.
            OrderOutcomeUnknown: No answer, 5xx, a page, or a refusal that says no reason.
            HybridBrokerError: What a documented refusal means; nothing was done.
        """
        http = self._opened(self._orders if fast else self._http, f"{method} {path}")
        token = await self._token()
        token.require(Reach.ORDERS)
        headers = SecretHeaders({**token.headers(), **self._order_headers})
        send = {"POST": http.post, "PUT": http.put, "DELETE": http.delete}[method]
        content = None if json is None else _encode(json)
        try:
            response = await send(
                path, json=content, params=params, family=self._order_family, headers=headers, urgent=urgent
            )
        except (ReplyLost, ServiceUnavailable) as exc:
            raise unknown(what, subject, str(exc)) from exc
        except asyncio.CancelledError:
            logger.warning("abandoning %s: the task was cancelled while sending, so it may be live; look it up", what)
            raise
        if _refuses_token(response, call=call):
            self._refused = token
        return self._settled(response, what=what, subject=subject, call=call)

    def _settled(self, response: Response, *, what: str, subject: str, call: Call) -> Response:
        if response.status in _OK:
            return response
        if not HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR or not is_refusal(response):
            raise unknown(what, subject, f"{response.request}: HTTP {response.status} {response.excerpt}")
        error = self._noted(fault(response, call=call), family=self._order_family)
        if isinstance(error, ServiceUnavailable):
            raise unknown(what, subject, str(error)) from error
        raise error

    def _accepted(self, response: Response, *, call: Call, family: str) -> Response:
        if response.status in _OK:
            return response
        raise self._noted(fault(response, call=call), family=family)

    def _noted(self, error: HybridBrokerError, *, family: str) -> HybridBrokerError:
        """Pause a family that Upstox calls too fast, under whatever status it says so."""
        if isinstance(error, RateLimited) and self._limiter is not None:
            self._limiter.pause(family, _PAUSE)
        return error

    async def _token(self) -> AccessToken:
        token, refused = await self._tokens.token(), self._refused
        if refused is None:
            return token
        self._refused = None
        if token.secret == refused.secret:
            try:
                return await self._tokens.renewed(token)
            except HybridBrokerError as exc:
                logger.info("using a token again that was refused, since there is no other: %s", exc)
        return token

    async def _renewed(self, refused: AccessToken, response: Response, *, call: Call) -> AccessToken:
        try:
            return await self._tokens.renewed(refused)
        except (AuthenticationError, ConfigurationError) as exc:
            raise fault(response, call=call) from exc

    def _opened(self, http: HttpClient | None, asked: str) -> HttpClient:
        if http is None:
            raise NotSent(f"{asked}: the client is not open; use it inside `async with`")
        return http


def _refuses_token(response: Response, *, call: Call) -> bool:
    """Say whether another token could help: not where this kind of token is refused, or this app."""
    if response.status != HTTPStatus.UNAUTHORIZED:
        return False
    return not is_refusal(response) or isinstance(fault(response, call=call), TokenExpired)


def unknown(what: str, subject: str, why: str) -> OrderOutcomeUnknown:
    """Return the error of a write whose outcome nobody can tell."""
    return OrderOutcomeUnknown(
        f"{what} may or may not have been carried out; look it up, do not send it again: {why}",
        client_order_id=subject,
    )
