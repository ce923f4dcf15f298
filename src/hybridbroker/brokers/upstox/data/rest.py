"""Upstox's REST calls for prices: wire in, wire out; a refusal becomes an exception here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import date
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import quote

from hybridbroker.brokers.upstox.auth import TokenSource
from hybridbroker.brokers.upstox.data import wire
from hybridbroker.brokers.upstox.data.mapping import CandleUnit
from hybridbroker.brokers.upstox.faults import Call, fault
from hybridbroker.brokers.upstox.limits import LIMITS
from hybridbroker.clock import Clock
from hybridbroker.errors import Unsupported
from hybridbroker.transport.http import HttpClient, Response, RetryPolicy
from hybridbroker.transport.limits import RateLimiter

__all__ = ["UpstoxRest"]

_QUOTES_V3: Final = "/v3/market-quote/quotes"
_QUOTES_V2: Final = "/v2/market-quote/quotes"


class UpstoxRest:
    """The calls of one account; entered and left like the `HttpClient` inside.

    The token source is asked before each request, and once more after a 401: a token that was
    renewed meanwhile is tried, the refused one is not tried twice.
    """

    def __init__(self, *, base_url: str, tokens: TokenSource, clock: Clock) -> None:
        self._tokens = tokens
        limiter = RateLimiter(LIMITS, clock=clock)
        self._http = HttpClient(base_url=base_url, headers={}, clock=clock, limiter=limiter)
        # Sent once: the socket that asks repeats it, and has more patience with a refusal.
        self._feed_http = HttpClient(
            base_url=base_url, headers={}, clock=clock, limiter=limiter, retry=RetryPolicy(attempts=1)
        )
        self._open = AsyncExitStack()
        self._quotes_path = _QUOTES_V3

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._http)
        await self._open.enter_async_context(self._feed_http)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    async def feed_address(self) -> str:
        """Return a WebSocket address that works once; connect to it at once."""
        path = "/v3/feed/market-data-feed/authorize"
        response = await self._ask(self._feed_http, path, call="feed", family="feed")
        return wire.FeedAddress.read(response).data.uri

    async def candles(self, key: str, unit: CandleUnit, *, first: date, last: date) -> list[wire.CandleRow]:
        """Return the bars of whole past days, both included, newest first."""
        path = f"/v3/historical-candle/{quote(key, safe='')}/{unit.unit}/{unit.interval}/{last}/{first}"
        return wire.Candles.read(await self._get(path, call="candles")).data.candles

    async def candles_today(self, key: str, unit: CandleUnit) -> list[wire.CandleRow]:
        """Return the bars of the current session, newest first; before it opens perhaps those of the last one."""
        path = f"/v3/historical-candle/intraday/{quote(key, safe='')}/{unit.unit}/{unit.interval}"
        return wire.Candles.read(await self._get(path, call="candles")).data.candles

    async def ltp(self, keys: Iterable[str]) -> list[wire.LtpQuote]:
        """Return last prices of at most 500 keys; those that never traded are missing."""
        response = await self._get("/v3/market-quote/ltp", call="quotes", params=_keys(keys))
        return list(wire.Quotes[wire.LtpQuote].read(response).data.values())

    async def full_quotes(self, keys: Iterable[str]) -> list[wire.FullQuote]:
        """Return full quotes of at most 500 keys; by the v2 call where v3 is not there (it came in September 2026)."""
        params = _keys(keys)
        try:
            response = await self._get(self._quotes_path, call="quotes", params=params)
        except Unsupported:
            if self._quotes_path == _QUOTES_V2:
                raise
            self._quotes_path = _QUOTES_V2
            response = await self._get(_QUOTES_V2, call="quotes", params=params)
        return list(wire.Quotes[wire.FullQuote].read(response).data.values())

    async def _get(self, path: str, *, call: Call, params: Mapping[str, Any] | None = None) -> Response:
        return await self._ask(self._http, path, call=call, params=params)

    async def _ask(
        self,
        http: HttpClient,
        path: str,
        *,
        call: Call,
        params: Mapping[str, Any] | None = None,
        family: str = "read",
    ) -> Response:
        token = await self._tokens.token()
        response = await http.get(path, params=params, family=family, headers=token.headers())
        if response.status == HTTPStatus.UNAUTHORIZED:
            refused, token = token, await self._tokens.token()
            if token.secret != refused.secret:
                response = await http.get(path, params=params, family=family, headers=token.headers())
        if response.status != HTTPStatus.OK:
            raise fault(response, call=call)
        return response


def _keys(keys: Iterable[str]) -> dict[str, str]:
    return {"instrument_key": ",".join(keys)}
