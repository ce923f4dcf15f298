"""Order bodies as Upstox documents them, and one client that asserts what came of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from emulator_kit import RELIANCE, rest
from websockets.asyncio.client import ClientConnection, connect

from hybridbroker.testing.emulators import UpstoxEmulator


def order(**changes: Any) -> dict[str, Any]:
    """Return a body that rests in a market at 1400; a change to None leaves the field out."""
    body = {
        "quantity": 10,
        "product": "D",
        "validity": "DAY",
        "price": 1390.0,
        "tag": "test-1",
        "instrument_token": RELIANCE,
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "disclosed_quantity": 0,
        "trigger_price": 0,
        "is_amo": False,
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


class Client:
    """Calls the emulator, and returns ``data`` of what it answers."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def __call__(self, method: str, path: str, json: Any = None, **query: Any) -> Any:
        reply = await self.http.request(method, path, json=json, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    async def refused(self, method: str, path: str, json: Any = None, **query: Any) -> tuple[int, str]:
        """Return the status and the first code of a refusal."""
        reply = await self.http.request(method, path, json=json, params=query)
        body = reply.json()
        assert body["status"] == "error", body
        return reply.status_code, body["errors"][0]["errorCode"]

    async def place(self, **changes: Any) -> str:
        """Place one order and return its id."""
        (order_id,) = (await self("POST", "/v3/order/place", order(**changes)))["order_ids"]
        return str(order_id)

    async def details(self, order_id: str) -> dict[str, Any]:
        row: dict[str, Any] = await self("GET", "/v2/order/details", order_id=order_id)
        return row

    async def statuses(self, order_id: str) -> list[str]:
        return [row["status"] for row in await self("GET", "/v2/order/history", order_id=order_id)]


@asynccontextmanager
async def client(upstox: UpstoxEmulator, *, token: str | None = None) -> AsyncIterator[Client]:
    async with rest(upstox, token=token) as http:
        yield Client(http)


@asynccontextmanager
async def portfolio(upstox: UpstoxEmulator, types: str = "order") -> AsyncIterator[ClientConnection]:
    async with client(upstox) as call:
        url = (await call("GET", "/v2/feed/portfolio-stream-feed/authorize", update_types=types))[
            "authorized_redirect_uri"
        ]
    async with connect(url, compression=None, proxy=None) as socket:
        yield socket


async def message(socket: ClientConnection) -> dict[str, Any]:
    frame = await socket.recv()
    assert isinstance(frame, str)
    read: dict[str, Any] = json.loads(frame)
    return read
