"""What the tests of the Dhan slice share: instruments, rows as Dhan writes them, a scripted server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar

import attrs
from pydantic import SecretStr

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import (
    BrokerKey,
    Exchange,
    Instrument,
    InstrumentKind,
    OptionRight,
    Segment,
)
from hybridbroker.domain.orders import LimitOrder, Side
from hybridbroker.errors import InstrumentNotFound, InstrumentUnmapped
from hybridbroker.protocols import Broker
from hybridbroker.testing.clock import ManualClock

CLIENT = "1100000001"
TOKEN = "test-token-not-a-jwt"
NOON = datetime(2026, 9, 15, 6, 30, tzinfo=UTC)
API = "https://api.dhan.co/v2"

RELIANCE = Instrument(
    id="NSE:RELIANCE",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="RELIANCE",
    isin="INE002A01018",
    tick_size=Decimal("0.10"),
)
OPTION = Instrument(
    id="NSE:NIFTY:2026-09-29:25000:CE",
    exchange=Exchange.NSE,
    segment=Segment.DERIVATIVES,
    kind=InstrumentKind.OPTION,
    symbol="NIFTY",
    lot_size=65,
    tick_size=Decimal("0.05"),
    underlying="NIFTY",
    expiry=date(2026, 9, 29),
    strike=Decimal(25000),
    right=OptionRight.CALL,
)


class Table:
    """An `InstrumentLookup` of two instruments."""

    keys: ClassVar = {"NSE_EQ:2885": RELIANCE, "NSE_FNO:40001": OPTION}

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the protocol's word
        for instrument in self.keys.values():
            if instrument.id == id:
                return instrument
        raise InstrumentNotFound(id)

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        for key, known in self.keys.items():
            if known == instrument and broker == "dhan":
                segment, _, native = key.partition(":")
                return BrokerKey(broker="dhan", segment=segment, id=native)
        raise InstrumentUnmapped(instrument.id)

    def by_key(self, broker: str, key: str) -> Instrument:
        if broker != "dhan" or key not in self.keys:
            raise InstrumentNotFound(key)
        return self.keys[key]


def settings(**changes: Any) -> DhanSettings:
    terms: dict[str, Any] = {"client_id": CLIENT, "access_token": SecretStr(TOKEN), "keep_warm_seconds": 0.0}
    return DhanSettings(_env_file=None, **{**terms, **changes})


def dhan(*, clock: Clock | None = None, **changes: Any) -> DhanBroker:
    return DhanBroker(settings(**changes), instruments=Table(), clock=clock or ManualClock(NOON))


def proves_the_fit(broker: DhanBroker) -> Broker:
    return broker


def limit_order(**changes: Any) -> LimitOrder:
    terms: dict[str, Any] = {"quantity": 10, "price": "1402.5", "client_order_id": "st1-42"}
    return LimitOrder(RELIANCE, Side.BUY, **{**terms, **changes})


def jwt(**claims: Any) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS512'})}.{part(claims)}.c2lnbmF0dXJl"


def order_row(**changes: Any) -> dict[str, Any]:
    """A row of the order book as Dhan writes it."""
    return {
        "dhanClientId": CLIENT,
        "orderId": "3226091500012",
        "exchangeOrderId": "1100000012345678",
        "correlationId": "st1-42",
        "orderStatus": "PENDING",
        "transactionType": "BUY",
        "exchangeSegment": "NSE_EQ",
        "productType": "CNC",
        "orderType": "LIMIT",
        "validity": "DAY",
        "tradingSymbol": "RELIANCE",
        "securityId": "2885",
        "quantity": 10,
        "disclosedQuantity": 0,
        "price": 1402.5,
        "triggerPrice": 0.0,
        "afterMarketOrder": False,
        "boProfitValue": 0.0,
        "boStopLossValue": 0.0,
        "legName": "NA",
        "createTime": "2026-09-15 09:20:01",
        "updateTime": "2026-09-15 09:20:02",
        "exchangeTime": "2026-09-15 09:20:01",
        "drvExpiryDate": "0001-01-01",
        "drvOptionType": "NA",
        "drvStrikePrice": 0.0,
        "omsErrorCode": "0",
        "omsErrorDescription": "CONFIRMED",
        "algoId": "0",
        "remainingQuantity": 10,
        "averageTradedPrice": 0.0,
        "filledQty": 0,
        **changes,
    }


def refusal(message: str, code: str = "DH-906", kind: str = "Order_Error") -> dict[str, str]:
    return {"errorType": kind, "errorCode": code, "errorMessage": message}


@attrs.frozen
class Asked:
    """One request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen(kw_only=True)
class Answer:
    """What the server does with one request; ``status=None`` hangs up without a word."""

    status: int | None = 200
    body: bytes = b"[]"
    promised: int | None = None
    """Content-Length, where it is to differ from the truth."""

    @classmethod
    def of(cls, payload: object, status: int = 200) -> Answer:
        return cls(status=status, body=json.dumps(payload).encode())


@attrs.define
class Server:
    """A keep-alive HTTP/1.1 server on loopback that answers what a function says."""

    answer: Callable[[Asked], Answer]
    asked: list[Asked] = attrs.field(factory=list)
    port: int = 0
    connections: int = 0
    open: set[asyncio.Task[None]] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2"

    def count(self, method: str) -> int:
        return sum(each.method == method for each in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        task.add_done_callback(self.open.discard)
        try:
            while asked := await _read(reader):
                self.asked.append(asked)
                answer = self.answer(asked)
                if answer.status is None:
                    break
                length = len(answer.body) if answer.promised is None else answer.promised
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (answer.status, length, answer.body))
                await writer.drain()
                if answer.promised is not None:
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body)


@asynccontextmanager
async def serving(answer: Callable[[Asked], Answer]) -> AsyncIterator[Server]:
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()
        if server.open:
            await asyncio.wait(server.open)


def alert(**changes: Any) -> str:
    """A frame of the order-update socket as production writes it."""
    data = {
        "exchange": "NSE",
        "segment": "E",
        "source": "P",
        "securityId": "2885",
        "clientId": CLIENT,
        "exchOrderNo": "1100000012345678",
        "orderNo": "3226091500012",
        "product": "C",
        "txnType": "B",
        "orderType": "LMT",
        "validity": "DAY",
        "quantity": 10,
        "tradedQty": 4,
        "remainingQuantity": 6,
        "price": 1402.5,
        "triggerPrice": 0,
        "tradedPrice": 1402.35,
        "avgTradedPrice": 1402.35,
        "offMktFlag": "0",
        "orderDateTime": "2026-09-15 09:20:01",
        "exchOrderTime": "2026-09-15 09:20:01",
        "lastUpdatedTime": "2026-09-15 09:20:02",
        "reasonDescription": "CONFIRMED",
        "legNo": 1,
        "symbol": "RELIANCE",
        "productName": "CNC",
        "status": "Pending",
        "isin": "INE002A01018",
        "series": "EQ",
        "correlationId": "st1-42",
        **changes,
    }
    return json.dumps({"Data": data, "Type": "order_alert"})
