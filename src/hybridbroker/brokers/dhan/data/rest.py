"""Dhan's REST calls for prices: wire in, wire out; a refusal becomes an exception here.

All of them need the account's Data API plan. They are POSTs that change nothing, so they are
repeated like reads. Documented: https://dhanhq.co/docs/v2/market-quote/ , /historical-data/ ,
/option-chain/ .
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, Literal

from hybridbroker.brokers.dhan.client import Answer, DhanClient
from hybridbroker.brokers.dhan.data import wire
from hybridbroker.brokers.dhan.data.goodbye import NO_PLAN
from hybridbroker.brokers.dhan.faults import Fault
from hybridbroker.brokers.dhan.limits import SAME_CHAIN
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import BrokerKey
from hybridbroker.errors import AuthenticationError, ConfigurationError, HybridBrokerError, InstrumentNotFound
from hybridbroker.transport.limits import RateLimiter

__all__ = ["ChartOf", "DataRest", "Detail"]

Detail = Literal["ltp", "ohlc", "quote"]
"""How much a quote call tells, by Dhan's names of the calls."""

_ROWS: Final[Mapping[Detail, Any]] = {
    "ltp": wire.Quotes[wire.LtpQuote],
    "ohlc": wire.Quotes[wire.OhlcQuote],
    "quote": wire.Quotes[wire.MarketQuote],
}
_NO_PLAN_CODES: Final = frozenset({"806", "820", "821", "DH-902"})
_BAD_REQUEST_CODES: Final = frozenset({"804", "811", "812", "814", "DH-905"})
_NO_DATA_CODES: Final = frozenset({"DH-907"})
_NO_CANDLES: Final = wire.Candles(timestamp=[], open=[], high=[], low=[], close=[], volume=[])

ChartOf = tuple[BrokerKey, str]
"""What a chart is drawn of: the instrument's key, and Dhan's name of its kind."""


class DataRest:
    """The data calls of one account, on a client that somebody else opens."""

    def __init__(self, client: DhanClient, *, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._chains: dict[object, RateLimiter] = {}

    async def data_plan(self) -> str | None:
        """Return what the profile says of the Data API plan: ``Active``, ``Deactive``, or None where it does not say.

        Raises `AuthenticationError` where the token is dead.
        """
        profile = await self._client.read("/profile")
        plan = profile.get("dataPlan") if isinstance(profile, Mapping) else None
        return plan if isinstance(plan, str) else None

    async def quotes(self, keys: Sequence[BrokerKey], *, detail: Detail) -> dict[BrokerKey, wire.LtpQuote]:
        """Return rows of at most 1,000 instruments; those that Dhan does not know are missing."""
        ids: dict[str, list[int]] = {}
        for key in keys:
            ids.setdefault(key.segment, []).append(int(key.id))
        path = f"/marketfeed/{detail}"
        payload = await self._ask(path, ids, family="quote")
        rows = _ROWS[detail].read(payload, what=f"POST {path}").data
        return {key: row for key in keys if (row := rows.get(key.segment, {}).get(key.id)) is not None}

    async def daily(self, chart: ChartOf, *, first: date, end: date, interest: bool) -> wire.Candles:
        """Return the daily bars from ``first`` to before ``end``; today's is there only after the session."""
        asked = {"expiryCode": 0, "fromDate": f"{first}", "toDate": f"{end}"}
        return await self._candles("/charts/historical", chart, asked, interest=interest)

    async def intraday(self, chart: ChartOf, *, minutes: str, first: date, last: date, interest: bool) -> wire.Candles:
        """Return the bars of whole days, both included, today's running one perhaps not yet."""
        asked = {"interval": minutes, "fromDate": f"{first} 00:00:00", "toDate": f"{last} 23:59:59"}
        return await self._candles("/charts/intraday", chart, asked, interest=interest)

    async def expiries(self, underlying: BrokerKey) -> list[date]:
        """Return the expiries of an underlying's options."""
        path, body = "/optionchain/expirylist", _underlying(underlying)
        await self._turn(("expiries", underlying))
        return wire.Expiries.read(await self._ask(path, body, family="option-chain"), what=f"POST {path}").data

    async def chain(self, underlying: BrokerKey, *, expiry: date) -> wire.Chain:
        """Return all strikes of one expiry, the same one at most every three seconds."""
        path, body = "/optionchain", {**_underlying(underlying), "Expiry": f"{expiry}"}
        await self._turn((underlying, expiry))
        return wire.Chain.read(await self._ask(path, body, family="option-chain"), what=f"POST {path}")

    async def _candles(self, path: str, chart: ChartOf, asked: Mapping[str, Any], *, interest: bool) -> wire.Candles:
        key, kind = chart
        body = {"securityId": key.id, "exchangeSegment": key.segment, "instrument": kind, "oi": interest, **asked}
        answer = await self._client.ask(path, json=body, family="data")
        fault = answer.fault
        if fault is not None and (fault.code in _NO_DATA_CODES or fault.says("data not available")):
            return _NO_CANDLES
        return wire.Candles.read(_accepted(answer), what=answer.call)

    async def _ask(self, path: str, body: Mapping[str, Any], *, family: str) -> Any:
        return _accepted(await self._client.ask(path, json=body, family=family))

    async def _turn(self, asked: object) -> None:
        """Wait until the same question may be put again."""
        if asked not in self._chains:
            self._chains[asked] = RateLimiter({"same": (SAME_CHAIN,)}, clock=self._clock)
        await self._chains[asked].acquire("same")


def _underlying(key: BrokerKey) -> dict[str, Any]:
    return {"UnderlyingScrip": int(key.id), "UnderlyingSeg": key.segment}


def _accepted(answer: Answer) -> Any:
    known = None if answer.fault is None else _refusal(answer.fault, call=answer.call)
    if known is not None:
        raise known
    return answer.accepted()


def _refusal(fault: Fault, *, call: str) -> HybridBrokerError | None:
    """Return what a fault means in a data call alone, or None where it means the same everywhere."""
    if fault.code in _NO_PLAN_CODES:
        return AuthenticationError(f"{call}: {NO_PLAN}: Dhan says: {fault}")
    if fault.code == "813":
        return InstrumentNotFound(f"{call}: Dhan does not know this security id: {fault}")
    if fault.code in _BAD_REQUEST_CODES and not fault.says("invalid ip"):
        return ConfigurationError(f"{call}: Dhan refused the request, perhaps for an id it does not know: {fault}")
    return None
