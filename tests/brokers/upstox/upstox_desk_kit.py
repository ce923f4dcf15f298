"""A broker of Upstox's against a server on the loopback interface that answers what a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import attrs
from pydantic import SecretStr
from upstox_kit import RELIANCE, TOKEN, Lookup

from hybridbroker.brokers.upstox.broker import UpstoxBroker
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST
from hybridbroker.domain.orders import LimitOrder, Side
from hybridbroker.testing.clock import ManualClock

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=IST)
ID = "261001025000001"


@attrs.frozen
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.target.partition("?")[2])

    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Answer:
    """What the server does with one request; ``status=None`` hangs up without a word."""

    status: int | None = 200
    body: bytes = b""
    promised: int | None = None
    """Content-Length, where it is to differ from the truth."""

    @classmethod
    def of(cls, payload: object, status: int = 200) -> Answer:
        return cls(status=status, body=json.dumps(payload).encode())

    @classmethod
    def data(cls, data: object, status: int = 200) -> Answer:
        return cls.of({"status": "success", "data": data, "metadata": {"latency": 3}}, status)

    @classmethod
    def refusal(cls, *codes: str, status: int = 400, message: str = "told in the tests") -> Answer:
        errors = [{"errorCode": code, "error_code": code, "message": f"{message} {code}"} for code in codes]
        return cls.of({"status": "error", "errors": errors}, status)


ACK = Answer.data({"order_ids": [ID]})
CHANGE_ACK = Answer.data({"order_id": ID})


def order_row(**changes: Any) -> dict[str, Any]:
    return {
        "exchange": "NSE",
        "product": "D",
        "price": 1402.5,
        "quantity": 10,
        "status": "open",
        "guid": None,
        "tag": "st1-42",
        "instrument_token": "NSE_EQ|INE000A01018",
        "placed_by": "AB1234",
        "trading_symbol": "RELIANCE-EQ",
        "order_type": "LIMIT",
        "validity": "DAY",
        "trigger_price": 0,
        "disclosed_quantity": 0,
        "transaction_type": "BUY",
        "average_price": 0,
        "filled_quantity": 0,
        "pending_quantity": 10,
        "status_message": None,
        "status_message_raw": None,
        "exchange_order_id": "1100000012345678",
        "parent_order_id": None,
        "order_id": ID,
        "variety": "SIMPLE",
        "order_timestamp": "2026-10-01 11:59:58",
        "exchange_timestamp": "2026-10-01 11:59:58",
        "is_amo": False,
        "order_request_id": "1",
        "order_ref_id": "5774480",
        **changes,
    }


def message(**changes: Any) -> str:
    """An ``order`` message of the portfolio stream."""
    row = order_row(**changes)
    return json.dumps({"update_type": "order", "user_id": "AB1234", "instrument_key": row["instrument_token"], **row})


def limit_order(**changes: Any) -> LimitOrder:
    terms: dict[str, Any] = {"quantity": 10, "price": "1402.5", "client_order_id": "st1-42", **changes}
    return LimitOrder(RELIANCE, Side.BUY, **terms)


@attrs.define
class Server:
    answer: Callable[[Asked], Answer]
    asked: list[Asked] = attrs.field(factory=list)
    port: int = 0
    connections: int = 0
    open: set[asyncio.Task[None]] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body)


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


def always(answer: Answer) -> Callable[[Asked], Answer]:
    return lambda _: answer


def script(*answers: tuple[str, Answer]) -> Callable[[Asked], Answer]:
    """Answer each method's (or path's) requests in turn, the last answer for ever."""
    by_key: dict[str, list[Answer]] = {}
    for key, answer in answers:
        by_key.setdefault(key, []).append(answer)

    def answer_one(asked: Asked) -> Answer:
        left = by_key.get(asked.path) or by_key[asked.method]
        return left.pop(0) if len(left) > 1 else left[0]

    return answer_one


def upstox(url: str, **options: Any) -> UpstoxBroker:
    """A broker whose every call goes to ``url``; what is no setting goes to the broker itself."""
    own = {
        name: options.pop(name)
        for name in ("clock", "tokens", "market_protection", "price_bands", "instruments")
        if name in options
    }
    fields = {
        "access_token": SecretStr(TOKEN),
        "base_url": url,
        "order_url": url,
        "keep_warm_seconds": 0,
        **options,
    }
    own.setdefault("clock", ManualClock(NOON))
    return UpstoxBroker(UpstoxSettings(_env_file=None, **fields), instruments=own.pop("instruments", Lookup()), **own)
