"""Feed DhanBroker a million broken answers, without a network: only our own errors may come out.

    python benchmarks/dhan_bodies.py --bodies 1000000

Each round makes one call. Every answer to it starts as a right one, of which something is then
changed, left out, doubled, cut or scrambled; one in ten has another status. Anything but a value or
a `HybridBrokerError` ends the run with the body that did it.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import SecretStr

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.client import _Opened
from hybridbroker.brokers.dhan.limits import LIMITS
from hybridbroker.brokers.dhan.orders.postback import read_postback
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.orders import LimitOrder, Product, Side, StopMarketOrder
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import BracketOrder, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import HybridBrokerError, InstrumentNotFound, RateLimited, ServiceUnavailable
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.limits import RateLimiter
from hybridbroker.transport.reply import Response

_ID: Final = "3226091500012"
_DAY: Final = date(2026, 9, 1)
_SHARE: Final = Instrument(
    id="NSE:RELIANCE",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="RELIANCE",
    isin="INE002A01018",
    tick_size=Decimal("0.10"),
)
_IDS: Final = {"orderId": _ID, "correlationId": "x", "securityId": "2885", "exchangeSegment": "NSE_EQ"}
_TIMES: Final = {"createTime": "2026-09-15 09:20:01", "updateTime": "NA", "exchangeTime": "2026-09-15 09:20:05"}
_ORDER: Final = {
    **_IDS, **_TIMES, "orderStatus": "PENDING", "transactionType": "BUY", "productType": "CNC", "orderType": "LIMIT",
    "validity": "DAY", "tradingSymbol": "RELIANCE", "quantity": 10, "price": 1402.5, "triggerPrice": 0.0,
    "filledQty": 4, "averageTradedPrice": 1402.35, "omsErrorDescription": "CONFIRMED", "drvStrikePrice": 0.0,
}  # fmt: skip
_LEG: Final = {"orderId": _ID, "legName": "TARGET_LEG", "totalQuatity": 10, "price": 1430, "orderStatus": "PENDING"}
_FOREVER: Final = {**_ORDER, "orderType": "OCO", "orderStatus": "CONFIRM", "legName": "TARGET_LEG"}
_TRADE: Final = {
    **_ORDER, "exchangeTradeId": "1", "tradedQuantity": 4, "tradedPrice": 1402.35, "stt": 1.0, "sebiTax": 0.1,
    "brokerageCharges": 0, "serviceTax": 0.1, "exchangeTransactionCharges": 0.1, "stampDuty": 1,
}  # fmt: skip
_ACK: Final = {"orderId": _ID, "orderStatus": "TRANSIT"}
_PROFILE: Final = {"dhanClientId": "1100000001", "ddpi": "Deactive"}
_EDIS: Final = {"isin": "INE002A01018", "totalQty": 10, "aprvdQty": "4", "status": "SUCCESS"}
_LINE: Final = {"voucherdate": "Sep 02, 2026", "narration": "BILL", "debit": "1.00", "credit": "0.00", "runbal": "2"}
_HOLDING: Final = {**_IDS, "exchange": "ALL", "isin": "INE002A01018", "totalQty": 12, "t1Qty": 2, "availableQty": 12}
_POSITION: Final = {
    **_IDS, "productType": "CNC", "buyAvg": 1400.0, "sellAvg": 0.0, "buyQty": 3, "sellQty": 0, "netQty": 3,
}  # fmt: skip
_PNL: Final = {"pnlExitStatus": "ACTIVE", "profit": "1", "loss": 2, "productType": ["INTRADAY"]}
_RIGHT: Final[Mapping[str, Any]] = {
    "GET /orders": [_ORDER],
    "GET /super": [{**_ORDER, "legDetails": [_LEG, {**_LEG, "legName": "STOP_LOSS_LEG", "trailingJump": 5}]}],
    "GET /forever": [
        {**_FOREVER, "price": 1449.5, "triggerPrice": 1450},
        {**_FOREVER, "price": 1345, "triggerPrice": 1350, "legName": "STOP_LOSS_LEG"},
    ],
    "GET /trades": [_TRADE],
    "GET /positions": [_POSITION],
    "GET /holdings": [_HOLDING],
    "GET /fundlimit": {"availabelBalance": 98440.0, "sodLimit": 113642, "utilizedAmount": 15202.0},
    "GET /profile": _PROFILE,
    "GET /edis": _EDIS,
    "GET /killswitch": {"killSwitchStatus": "ACTIVATE"},
    "GET /pnlExit": _PNL,
    "GET /ledger": [_LINE],
    "POST /orders/slicing": [_ACK, {**_ACK, "orderId": "2"}],
    "POST /margincalculator": {"totalMargin": 14025.0, "availableBalance": 98440.0},
    "POST /killswitch": {"killSwitchStatus": "Kill Switch has been successfully activated"},
    "POST /pnlExit": _PNL,
}
_BUY: Final = LimitOrder(_SHARE, Side.BUY, quantity=10, price="1402.5")
_CALLS: Final[Mapping[str, Callable[[DhanBroker], Awaitable[Any]]]] = {
    "place": lambda b: b.place_order(_BUY),
    "place sale": lambda b: b.place_order(LimitOrder(_SHARE, Side.SELL, quantity=10, price="1402.5")),
    "place stop": lambda b: b.place_order(StopMarketOrder(_SHARE, Side.BUY, quantity=10, trigger_price=1400)),
    "place sliced": lambda b: b.place_sliced(SlicedOrder(_SHARE, Side.BUY, quantity=10)),
    "modify": lambda b: b.modify_order(_ID, quantity=20),
    "cancel": lambda b: b.cancel_order(_ID),
    "order": lambda b: b.order(_ID),
    "find": lambda b: b.find_order("x"),
    "orders": lambda b: b.orders(),
    "trades": lambda b: b.trades(),
    "place gtt": lambda b: b.place_gtt(GttOrder(_SHARE, Side.SELL, quantity=10, trigger=Trigger(1350))),
    "place oco": lambda b: b.place_gtt(
        OcoOrder(_SHARE, Side.SELL, quantity=10, target=Trigger(1450, price="1449.5"), stop=Trigger(1350, price=1345))
    ),
    "modify gtt": lambda b: b.modify_gtt(_ID, quantity=20),
    "cancel gtt": lambda b: b.cancel_gtt(_ID),
    "find gtt": lambda b: b.find_gtt("x"),
    "place bracket": lambda b: b.place_bracket(
        BracketOrder(_SHARE, Side.BUY, quantity=10, price=1400, target_price=1430, stop_price=1385)
    ),
    "modify bracket": lambda b: b.modify_bracket(_ID, stop_price=Decimal(1390), target_price=Decimal(1440)),
    "cancel bracket": lambda b: b.cancel_bracket(_ID, leg=LegRole.STOP),
    "brackets": lambda b: b.brackets(),
    "positions": lambda b: b.positions(),
    "holdings": lambda b: b.holdings(),
    "funds": lambda b: b.funds(),
    "margin": lambda b: b.margin(_BUY),
    "margins": lambda b: b.margin([_BUY, _BUY]),
    "convert": lambda b: b.convert_position(
        _SHARE, side=Side.BUY, quantity=4, from_product=Product.INTRADAY, to_product=Product.DELIVERY
    ),
    "kill switch": lambda b: b.activate_kill_switch(),
    "kill switch status": lambda b: b.kill_switch_active(),
    "exit all": lambda b: b.exit_all(),
    "set P&L exit": lambda b: b.set_pnl_exit(profit=1500, loss=500),
    "P&L exit": lambda b: b.pnl_exit(),
    "trade history": lambda b: b.trade_history(start=_DAY, end=_DAY),
    "ledger": lambda b: b.ledger(start=_DAY, end=_DAY),
    "eDIS": lambda b: b.edis_approval(_SHARE),
}
_ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 10**18, 10**400, -(10**400), 0.1, 1e308, 5e-324, "", " ", "0", "NA", "null", "1e5",
    "-1", "1.0", "9" * 400, "\x00", "\ud7ff", "Ω", "TRADED", "PENDING", "CONFIRM", "CLOSED", "BUY", "SELL", "CNC",
    "LIMIT", "STOP_LOSS_LEG", "ENTRY_LEG", "NSE_EQ", "MCX_COMM", "0001-01-01", "9999-12-31 23:59:59", "2026-09-15",
    "2026-09-15T09:00:00+14:00", "Jan 01, 1970", "DH-905", "DH-906", "DH-1111", "Invalid Token", "Invalid IP", "805",
    [], {}, [[]], [None], {"": None}, {"errorCode": "DH-906"}, [{"errorCode": 805}], {"status": "failed"},
)  # fmt: skip
_FAULTS: Final = (
    {"errorType": "Order_Error", "errorCode": "DH-906", "errorMessage": "Order is in Transit state"},
    {"errorType": "Order_Error", "errorCode": "DH-906", "errorMessage": "Invalid Token"},
    {"errorType": "HOLDING_ERROR", "errorCode": "DH-1111", "errorMessage": "No holdings"},
    {"errorType": "Input_Exception", "errorCode": "DH-905", "errorMessage": "Invalid IP"},
    {"status": "failed", "data": {"805": "Too many requests"}},
    {"timestamp": "x", "status": 404, "error": "Not Found", "path": "/v2/x"},
)
_STATUSES: Final = (200, 201, 202, 204, 302, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504)


class _Table:
    """One share."""

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the protocol's word
        if id == _SHARE.id:
            return _SHARE
        raise InstrumentNotFound(id)

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        assert instrument == _SHARE
        return BrokerKey(broker=broker, segment="NSE_EQ", id="2885")

    def by_key(self, broker: str, key: str) -> Instrument:
        if (broker, key) == ("dhan", "NSE_EQ:2885"):
            return _SHARE
        raise InstrumentNotFound(key)


class _Http:
    """Stands for `HttpClient`: judges answers as it does, and sends nothing."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.last = b""
        self.bodies = 0

    async def get(self, path: str, **_: Any) -> Response:
        return self._answer("GET", path)

    async def query(self, path: str, **_: Any) -> Response:
        return self._answer("POST", path)

    async def post(self, path: str, **_: Any) -> Response:
        return self._answer("POST", path)

    async def put(self, path: str, **_: Any) -> Response:
        return self._answer("PUT", path)

    async def delete(self, path: str, **_: Any) -> Response:
        return self._answer("DELETE", path)

    def _answer(self, method: str, path: str) -> Response:
        asked = f"{method} {path}"
        page = path.startswith("/trades/") and path[-2:] not in {"/0", "-1"}
        right = [] if page else next((answer for start, answer in _RIGHT.items() if asked.startswith(start)), _ACK)
        self.last, status = broken(right, self._chance), self._status()
        self.bodies += 1
        response = Response(status=status, body=self.last, request=asked)
        if status == 429:
            raise RateLimited(asked)
        if status >= 500 or response.is_html:
            raise ServiceUnavailable(asked, response=response)
        return response

    def _status(self) -> int:
        return self._chance.choice(_STATUSES) if self._chance.random() < 0.1 else 200


def broken(right: Any, chance: random.Random) -> bytes:
    """Return ``right`` as JSON with something wrong about it; now and then as it is."""
    way = chance.random()
    if way < 0.1:
        return json.dumps(right).encode()
    if way < 0.15:
        return json.dumps(chance.choice((*_FAULTS, [chance.choice(_FAULTS)]))).encode()
    if way < 0.2:
        return json.dumps(chance.choice(_ODD)).encode()
    changed = json.loads(json.dumps(right))
    for _ in range(chance.choice((1, 1, 2, 5))):
        changed = _mutated(changed, chance)
    body = bytearray(json.dumps(changed).encode())
    if way < 0.3 and body:
        for _ in range(chance.randint(1, 4)):
            body[chance.randrange(len(body))] = chance.randrange(256)
    elif way < 0.33:
        del body[chance.randrange(len(body)) :]
    return bytes(body)


def _mutated(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.95:
        key = chance.choice(list(value))
        way = chance.random()
        if way < 0.15:
            del value[key]
        elif way < 0.2:
            value[key.upper()] = value.pop(key)
        elif way < 0.25:
            value[chance.choice(("errorCode", "errorType", "status", "data"))] = _odd(chance)
        else:
            value[key] = _mutated(value[key], chance)
        return value
    if isinstance(value, list) and value and chance.random() < 0.95:
        index = chance.randrange(len(value))
        way = chance.random()
        if way < 0.1:
            value.append(value[index])
        elif way < 0.2:
            del value[index]
        else:
            value[index] = _mutated(value[index], chance)
        return value
    return _odd(chance)


def _odd(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(_ODD))


def _new(chance: random.Random) -> tuple[DhanBroker, _Http]:
    clock = ManualClock(datetime(2026, 9, 15, 6, 30, tzinfo=UTC))
    settings = DhanSettings(client_id="1100000001", access_token=SecretStr("t"))
    broker = DhanBroker(settings, instruments=_Table(), clock=clock)
    http = _Http(chance)
    opened = _Opened(http, RateLimiter(LIMITS, clock=clock))  # type: ignore[arg-type]
    broker._client._opened = opened  # noqa: SLF001 - what the network would do
    return broker, http


async def run(bodies: int, *, seed: int) -> dict[str, Any]:
    """Make calls until ``bodies`` answers were given; return what came of them."""
    chance = random.Random(seed)  # noqa: S311 - chance, not secrecy
    came: Counter[str] = Counter()
    given, names, began = 0, list(_CALLS), time.monotonic()
    while given < bodies:
        broker, http = _new(chance)
        for _ in range(500):
            name = chance.choice(names)
            try:
                await _CALLS[name](broker)
                came["a value"] += 1
            except HybridBrokerError as exc:
                came[type(exc).__name__] += 1
            except Exception:
                print(f"seed {seed}, {name}: {http.last!r}", file=sys.stderr)
                raise
            body = broken(_ORDER, chance)
            try:
                read_postback(body, instruments=_Table())
            except HybridBrokerError:
                came["postback refused"] += 1
            except Exception:
                print(f"seed {seed}, postback: {body!r}", file=sys.stderr)
                raise
        given += http.bodies + 500
    return {"bodies": given, "seconds": round(time.monotonic() - began, 1), "came": dict(sorted(came.items()))}


def main() -> None:
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
