"""A client of the emulators that knows nothing but the documentation: httpx, websockets and JSON."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from hybridbroker.testing.emulators import DhanEmulator, UpstoxEmulator
from hybridbroker.testing.emulators import feed_pb2 as pb

RELIANCE = "NSE_EQ|INE002A01018"
TCS = "NSE_EQ|INE467B01029"
NIFTY = "NSE_INDEX|Nifty 50"
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Loopback speaks plain HTTP; without this every client would load the certificates of all the world."""


def rest(emulator: UpstoxEmulator | DhanEmulator, *, token: str | None = None) -> httpx.AsyncClient:
    """Return a client that is logged in, or carries ``token``."""
    token = token or emulator.access_token
    if isinstance(emulator, UpstoxEmulator):
        headers = {"Authorization": f"Bearer {token}"}
    else:
        headers = {"access-token": token, "client-id": emulator.client_id}
    return httpx.AsyncClient(base_url=emulator.rest_url, headers=headers, trust_env=False, verify=_TLS)


async def one_time_url(upstox: UpstoxEmulator) -> str:
    async with rest(upstox) as http:
        reply = await http.get("/v3/feed/market-data-feed/authorize")
    url: str = reply.json()["data"]["authorized_redirect_uri"]
    return url


@asynccontextmanager
async def feed(upstox: UpstoxEmulator) -> AsyncIterator[ClientConnection]:
    async with connect(await one_time_url(upstox), compression=None, proxy=None) as socket:
        yield socket


@asynccontextmanager
async def order_updates(dhan: DhanEmulator, *, token: str | None = None) -> AsyncIterator[ClientConnection]:
    login = {"MsgCode": 42, "ClientId": dhan.client_id, "Token": token or dhan.access_token}
    async with connect(dhan.order_updates_url, compression=None, proxy=None) as socket:
        await socket.send(json.dumps({"LoginReq": login, "UserType": "SELF"}))
        yield socket


def request(method: str, keys: Iterable[str], mode: str | None = None) -> bytes:
    data: dict[str, Any] = {"instrumentKeys": list(keys)}
    if mode is not None:
        data["mode"] = mode
    return json.dumps({"guid": "test", "method": method, "data": data}).encode()


async def receive(socket: ClientConnection) -> pb.FeedResponse:
    frame = await socket.recv()
    assert isinstance(frame, bytes)
    return pb.FeedResponse.FromString(frame)


async def receive_text(socket: ClientConnection) -> Any:
    frame = await socket.recv()
    assert isinstance(frame, str)
    return json.loads(frame)


def limit_order(dhan: DhanEmulator, **changes: Any) -> dict[str, Any]:
    """Return a body that rests in a market at 1400; a change to None leaves the field out."""
    body = {
        "dhanClientId": dhan.client_id,
        "correlationId": "test-1",
        "transactionType": "BUY",
        "exchangeSegment": "NSE_EQ",
        "productType": "CNC",
        "orderType": "LIMIT",
        "validity": "DAY",
        "securityId": "2885",
        "quantity": 10,
        "price": 1390.0,
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not None}
