"""Feed DhanMarketData a million broken answers, without a network: only our own errors may come out.

    python benchmarks/dhan_data_bodies.py --bodies 1000000

As `dhan_bodies.py`, for the calls that ask for prices. Values that come out are looked at too:
a price is above zero, a bar has a time in order, and nothing is made of a contract that the
registry does not know.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from dhan_bodies import broken
from pydantic import SecretStr

from hybridbroker.brokers.dhan.client import _Opened
from hybridbroker.brokers.dhan.limits import LIMITS
from hybridbroker.brokers.dhan.market_data import DhanMarketData
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.domain.market import Candles, Interval, Quote
from hybridbroker.domain.options import OptionChain
from hybridbroker.errors import HybridBrokerError, InstrumentNotFound, RateLimited, ServiceUnavailable
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.limits import RateLimiter
from hybridbroker.transport.reply import Response

_EXPIRY: Final = date(2026, 9, 29)
_DAY: Final = date(2026, 9, 15)
_SHARE: Final = Instrument(
    id="NSE:RELIANCE",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="RELIANCE",
    tick_size=Decimal("0.10"),
)
_CALL: Final = Instrument(
    id="NSE:NIFTY:2026-09-29:25000:CE",
    exchange=Exchange.NSE,
    segment=Segment.DERIVATIVES,
    kind=InstrumentKind.OPTION,
    symbol="NIFTY",
    underlying="NIFTY",
    expiry=_EXPIRY,
    strike=Decimal(25000),
    right=OptionRight.CALL,
)
_KEYS: Final = {"NSE_EQ:2885": _SHARE, "NSE_FNO:40001": _CALL}
_QUOTE: Final = {
    "average_price": 1399.75, "buy_quantity": 52000, "sell_quantity": 45000, "last_price": 1402.5, "last_quantity": 25,
    "last_trade_time": "15/09/2026 10:00:00", "lower_circuit_limit": 1260.0, "upper_circuit_limit": 1540.0,
    "net_change": 12.0, "ohlc": {"open": 1395.0, "close": 1390.5, "high": 1408.0, "low": 1388.25}, "volume": 1234567,
    "oi": 0, "oi_day_high": 0, "oi_day_low": 0,
    "depth": {side: [{"quantity": 10, "orders": 1, "price": 1402.4}] * 2 for side in ("buy", "sell")},
}  # fmt: skip
_SIDE: Final = {
    "greeks": {"delta": 0.5, "theta": -9.1, "gamma": 0.001, "vega": 11.2}, "implied_volatility": 9.8,
    "last_price": 118.35, "oi": 4387500, "previous_close_price": 101.2, "previous_oi": 4000000, "previous_volume": 1,
    "security_id": 40001, "top_ask_price": 118.45, "top_ask_quantity": 300, "top_bid_price": 118.3,
    "top_bid_quantity": 750, "volume": 1000,
}  # fmt: skip
_BARS: Final = {
    "open": [1395.0, 1396.0], "high": [1408.0, 1409.0], "low": [1388.25, 1390.0], "close": [1402.5, 1401.0],
    "volume": [1.7454579e7, 2.0], "timestamp": [1.7894439e9, 1.7894442e9], "open_interest": [0, 0],
}  # fmt: skip
_RIGHT: Final[Mapping[str, Any]] = {
    "/marketfeed/": {"data": {"NSE_EQ": {"2885": _QUOTE}, "NSE_FNO": {"40001": _QUOTE}}, "status": "success"},
    "/charts/": _BARS,
    "/optionchain/expirylist": {"data": ["2026-09-15", "2026-09-22"], "status": "success"},
    "/optionchain": {
        "data": {"last_price": 24990.05, "oc": {"25000.000000": {"ce": _SIDE, "pe": {**_SIDE, "security_id": 1}}}},
        "status": "success",
    },
}
_CALLS: Final[Mapping[str, Callable[[DhanMarketData], Awaitable[Any]]]] = {
    "quotes": lambda d: d.quotes([_SHARE, _CALL]),
    "ohlc": lambda d: d.ohlc([_SHARE]),
    "last prices": lambda d: d.last_prices([_SHARE]),
    "minutes": lambda d: d.candles(_SHARE, Interval.MINUTE_5, start=_DAY),
    "days": lambda d: d.candles(_CALL, Interval.DAY_1, start=_DAY),
    "expiries": lambda d: d.expiries(_SHARE),
    "chain": lambda d: d.option_chain(_SHARE, expiry=_EXPIRY),
}
_STATUSES: Final = (200, 302, 400, 401, 403, 404, 429, 500, 503)


class _Table:
    """A share and an option."""

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the protocol's word
        found = next((each for each in _KEYS.values() if each.id == id), None)
        if found is None:
            raise InstrumentNotFound(id)
        return found

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        key = next(key for key, each in _KEYS.items() if each == instrument)
        segment, _, native = key.partition(":")
        return BrokerKey(broker=broker, segment=segment, id=native)

    def by_key(self, broker: str, key: str) -> Instrument:
        if broker != "dhan" or key not in _KEYS:
            raise InstrumentNotFound(key)
        return _KEYS[key]


class _Http:
    """Stands for `HttpClient`: judges answers as it does, and sends nothing."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.last = b""
        self.bodies = 0

    async def query(self, path: str, **_: Any) -> Response:
        """Answer a question with something broken."""
        right = next(answer for start, answer in _RIGHT.items() if path.startswith(start))
        self.last = broken(right, self._chance)
        self.bodies += 1
        status = self._chance.choice(_STATUSES) if self._chance.random() < 0.1 else 200
        response = Response(status=status, body=self.last, request=f"POST {path}")
        if status == 429:
            raise RateLimited(path)
        if status >= 500 or response.is_html:
            raise ServiceUnavailable(path, response=response)
        return response


def check(value: Any) -> None:
    """Look at what came out: nothing guessed, nothing impossible."""
    if isinstance(value, Candles):
        assert all(a < b for a, b in pairwise(value.start))
        assert all(min(bar.open, bar.high, bar.low, bar.close) > 0 and bar.volume >= 0 for bar in value)
    elif isinstance(value, OptionChain):
        assert all(strike.put is None for strike in value)
        assert all(strike.call is None or strike.call.instrument == _CALL for strike in value)
    elif isinstance(value, Mapping):
        for quote in value.values():
            price = quote.last_price if isinstance(quote, Quote) else quote
            assert 0 < price < float("inf")


def _new(chance: random.Random) -> tuple[DhanMarketData, _Http]:
    clock = ManualClock(datetime(2026, 9, 15, 6, 30, tzinfo=UTC))
    settings = DhanSettings(client_id="1100000001", access_token=SecretStr("t"))
    data = DhanMarketData(settings, instruments=_Table(), clock=clock)
    http = _Http(chance)
    data._client._opened = _Opened(http, RateLimiter(LIMITS, clock=clock))  # type: ignore[arg-type]  # noqa: SLF001
    return data, http


async def run(bodies: int, *, seed: int) -> dict[str, Any]:
    """Make calls until ``bodies`` answers were given; return what came of them."""
    chance = random.Random(seed)  # noqa: S311 - chance, not secrecy
    came: Counter[str] = Counter()
    given, names, began = 0, list(_CALLS), time.monotonic()
    while given < bodies:
        data, http = _new(chance)
        for _ in range(500):
            name = chance.choice(names)
            try:
                check(await _CALLS[name](data))
                came["a value"] += 1
            except HybridBrokerError as exc:
                came[type(exc).__name__] += 1
            except Exception:
                print(f"seed {seed}, {name}: {http.last!r}", file=sys.stderr)
                raise
        given += http.bodies
    return {"bodies": given, "seconds": round(time.monotonic() - began, 1), "came": dict(sorted(came.items()))}


def main() -> None:
    """Run, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    result = asyncio.run(run(chosen.bodies, seed=chosen.seed))
    if chosen.json:
        print(json.dumps(result))
        return
    print(f"{result['bodies']:,} broken answers in {result['seconds']} s, and nothing but our own errors:")
    for name, times in result["came"].items():
        print(f"{times:>10,}  {name}")


if __name__ == "__main__":
    main()
