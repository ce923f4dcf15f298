"""Upstox's REST calls for prices: wire in, wire out; a refusal becomes an exception here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Final
from urllib.parse import quote

from hybridbroker.brokers.upstox.client import UpstoxClient
from hybridbroker.brokers.upstox.data import wire
from hybridbroker.brokers.upstox.data.mapping import CandleUnit
from hybridbroker.errors import Unsupported
from hybridbroker.transport.http import Response

__all__ = ["DataRest"]

_QUOTES_V3: Final = "/v3/market-quote/quotes"
_QUOTES_V2: Final = "/v2/market-quote/quotes"


class DataRest:
    """The calls for prices on one account; its `UpstoxClient` is entered and left by the caller."""

    def __init__(self, client: UpstoxClient) -> None:
        self._client = client
        self._quotes_path = _QUOTES_V3

    async def feed_address(self) -> str:
        """Return a WebSocket address that works once; connect to it at once."""
        path = "/v3/feed/market-data-feed/authorize"
        response = await self._client.read(path, call="feed", family="feed", once=True)
        return wire.FeedAddress.read(response).data.uri

    async def candles(self, key: str, unit: CandleUnit, *, first: date, last: date) -> list[wire.CandleRow]:
        """Return the bars of whole past days, both included, newest first."""
        path = f"/v3/historical-candle/{quote(key, safe='')}/{unit.unit}/{unit.interval}/{last}/{first}"
        return wire.Candles.read(await self._client.read(path, call="candles", family="candles")).data.candles

    async def candles_today(self, key: str, unit: CandleUnit) -> list[wire.CandleRow]:
        """Return the bars of the current session, newest first; before it opens perhaps those of the last one."""
        path = f"/v3/historical-candle/intraday/{quote(key, safe='')}/{unit.unit}/{unit.interval}"
        return wire.Candles.read(await self._client.read(path, call="candles", family="candles")).data.candles

    async def ohlc(self, keys: Iterable[str], *, interval: str) -> list[wire.OhlcQuote]:
        """Return the running and the previous bar of at most 500 keys."""
        response = await self._quotes("/v3/market-quote/ohlc", {**_keys(keys), "interval": interval})
        return list(wire.Quotes[wire.OhlcQuote].read(response).data.values())

    async def greeks(self, keys: Iterable[str]) -> list[wire.GreekQuote]:
        """Return the greeks of at most 50 keys."""
        response = await self._quotes("/v3/market-quote/option-greek", _keys(keys))
        return list(wire.Quotes[wire.GreekQuote].read(response).data.values())

    async def option_contracts(self, key: str, *, expiry: date | None = None) -> list[wire.OptionContract]:
        """Return the options on an underlying, of one expiry or of all."""
        params = {"instrument_key": key} | ({} if expiry is None else {"expiry_date": expiry.isoformat()})
        response = await self._client.read("/v2/option/contract", call="quotes", params=params, family="options")
        return wire.OptionContracts.read(response).data

    async def option_chain(self, key: str, *, expiry: date) -> list[wire.ChainRow]:
        """Return the strikes of one expiry."""
        params = {"instrument_key": key, "expiry_date": expiry.isoformat()}
        response = await self._client.read("/v2/option/chain", call="quotes", params=params, family="options")
        return wire.OptionChain.read(response).data

    async def market_status(self, exchange: str) -> wire.Status:
        """Return what an exchange, by Upstox's name, is doing."""
        return wire.Status.read(await self._client.read(f"/v2/market/status/{exchange}", call="read"))

    async def holidays(self) -> list[wire.Holiday]:
        """Return the special days of the current year, holidays and others."""
        return wire.Holidays.read(await self._client.read("/v2/market/holidays", call="read")).data

    async def timings(self, on: date) -> list[wire.OpenExchange]:
        """Return when each exchange trades on a day; nothing on a full holiday."""
        return wire.Timings.read(await self._client.read(f"/v2/market/timings/{on}", call="read")).data

    async def ltp(self, keys: Iterable[str]) -> list[wire.LtpQuote]:
        """Return last prices of at most 500 keys; those that never traded are missing."""
        response = await self._quotes("/v3/market-quote/ltp", _keys(keys))
        return list(wire.Quotes[wire.LtpQuote].read(response).data.values())

    async def full_quotes(self, keys: Iterable[str]) -> list[wire.FullQuote]:
        """Return full quotes of at most 500 keys; by the v2 call where v3 is not there (it came in September 2026)."""
        params = _keys(keys)
        try:
            response = await self._quotes(self._quotes_path, params)
        except Unsupported:
            if self._quotes_path == _QUOTES_V2:
                raise
            self._quotes_path = _QUOTES_V2
            response = await self._quotes(_QUOTES_V2, params)
        return list(wire.Quotes[wire.FullQuote].read(response).data.values())

    async def _quotes(self, path: str, params: Mapping[str, Any]) -> Response:
        return await self._client.read(path, call="quotes", params=params, family="quotes")


def _keys(keys: Iterable[str]) -> dict[str, str]:
    return {"instrument_key": ",".join(keys)}
