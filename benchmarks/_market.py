"""The loopback market of ``tick_to_order.py``: one feed frame out, one order in, both stamped by one clock.

Raw asyncio, so that little of what is measured is the server's: it speaks as much WebSocket and
HTTP/1.1 as the clients need. Its own wake-up is in every client's figures, which pulls ratios
a little towards 1; a loop that spins instead starves the clients as soon as a machine is busy.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import attrs

from hybridbroker.brokers.upstox.proto import feed_pb2 as pb

HOST = "127.0.0.1"
KEY = "NSE_EQ|INE002A01018"
SECURITY_ID = "2885"
CLIENT_ID = "1100000001"
TICK = Decimal("0.05")

_PATIENCE = 10.0
_PAUSE = 0.002
"""Seconds between an acknowledgement and the next frame, for the client to come to rest."""
_DIFFERENT_FRAMES = 200
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Fault(Exception):
    """What a client did was wrong; timing it would mean nothing."""


@attrs.frozen
class Round:
    """``loops`` frames of ``instruments`` entries each for one client, an order awaited after each."""

    client: str
    instruments: int
    loops: int


def serve(control: Connection) -> None:
    """Run the market of this process: send the port, then a list of nanoseconds, or a fault's words, per `Round`."""
    gc.disable()
    try:
        asyncio.run(_serve(control))
    except (EOFError, OSError, KeyboardInterrupt):
        return


async def _serve(control: Connection) -> None:
    market = Market()
    server = await asyncio.get_running_loop().create_server(lambda: _Line(market), HOST, 0)
    market.port = server.sockets[0].getsockname()[1]
    control.send(market.port)
    while True:
        task = await asyncio.to_thread(control.recv)
        try:
            control.send(await market.run(task))
        except Fault as exc:
            control.send(str(exc))
        gc.collect()


class Market:
    """The feeds by client, and the order that is being waited for."""

    def __init__(self) -> None:
        self.port = 0
        self._feeds: dict[str, asyncio.Transport] = {}
        self._subscribed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._order: asyncio.Future[tuple[int, bytes]] | None = None
        self._trades = 0

    async def run(self, task: Round) -> list[int]:
        """Return nanoseconds from each frame's sending to its order's last byte, once the client listens."""
        feed = await self._feed(task.client)
        messages = _messages(task.instruments)
        return [await self._loop(feed, *messages[each % len(messages)]) for each in range(task.loops)]

    def listens(self, client: str, feed: asyncio.Transport) -> None:
        """Note that ``client`` has subscribed."""
        self._feeds[client] = feed
        self._subscribed[client].set()

    def ordered(self, body: bytes, arrived: int) -> None:
        """Note an order; one that nobody waits for fails the next loop."""
        waiting = self._order
        if waiting is None or waiting.done():
            self._order = asyncio.get_running_loop().create_future()
            self._order.set_exception(Fault(f"an order came that no frame asked for: {body!r}"))
        else:
            waiting.set_result((arrived, body))

    async def _feed(self, client: str) -> asyncio.Transport:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._subscribed[client].wait()
        except TimeoutError:
            raise Fault(f"{client} did not subscribe within {_PATIENCE:.0f} s") from None
        return self._feeds[client]

    async def _loop(self, feed: asyncio.Transport, message: pb.FeedResponse, price: Decimal) -> int:
        self._trades += 1
        frame = ws_frame(_stamped(message, self._trades).SerializeToString())
        await asyncio.sleep(_PAUSE)
        if self._order is not None:
            await self._order
        waiting: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._order = waiting
        sent = time.perf_counter_ns()
        feed.write(frame)
        try:
            async with asyncio.timeout(_PATIENCE):
                arrived, body = await waiting
        except TimeoutError:
            raise Fault(f"no order came within {_PATIENCE:.0f} s of a frame") from None
        if self._order is waiting:
            self._order = None
        _check(body, price)
        return arrived - sent


def _check(body: bytes, price: Decimal) -> None:
    try:
        order = json.loads(body, parse_float=Decimal)
        told = {name: order[name] for name in ("securityId", "transactionType", "orderType", "quantity", "price")}
    except (ValueError, KeyError, TypeError) as exc:
        raise Fault(f"no readable order: {body!r} ({exc!r})") from None
    wanted = {"securityId": SECURITY_ID, "transactionType": "BUY", "orderType": "LIMIT", "quantity": 1, "price": price}
    if told != wanted:
        raise Fault(f"the order does not follow from the tick: wanted {wanted}, got {told}")


@cache
def _messages(instruments: int) -> list[tuple[pb.FeedResponse, Decimal]]:
    """Return messages in mode full, each with the price of `KEY` in it; no two neighbours alike."""
    messages = []
    for number in range(_DIFFERENT_FRAMES):
        price = Decimal(1400) + TICK * (number * 7 % 997)
        message = pb.FeedResponse(type=pb.live_feed)
        message.feeds[KEY].CopyFrom(_entry(float(price), number))
        for other in range(1, instruments):
            message.feeds[f"NSE_EQ|INE{other:03}Z01017"].CopyFrom(_entry(100.0 + other + number % 40 / 20, number))
        messages.append((message, price))
    return messages


def _stamped(message: pb.FeedResponse, trades: int) -> pb.FeedResponse:
    """Return the message as one of new trades: time and volume only ever grow."""
    message.currentTs = 1_790_829_901_250 + trades
    for key in message.feeds:
        market = message.feeds[key].fullFeed.marketFF
        market.ltpc.ltt, market.vtt = 1_790_829_901_011 + trades, 240_000 + trades
    return message


def _entry(price: float, number: int) -> pb.Feed:
    """Return an entry of the usual size: five levels, two bars, about 400 bytes."""
    levels = [pb.Quote(bidQ=75 * n, bidP=price - n / 20, askQ=150 * n, askP=price + n / 20) for n in range(1, 6)]
    bars = [
        pb.OHLC(interval=name, open=99.5, high=1500.0, low=98.0, close=price, vol=9000 + number, ts=1_790_829_840_000)
        for name in ("1d", "I1")
    ]
    market = pb.MarketFullFeed(
        ltpc=pb.LTPC(ltp=price, ltt=1_790_829_901_011 + number, ltq=75, cp=1396.4),
        marketLevel=pb.MarketLevel(bidAskQuote=levels),
        optionGreeks=pb.OptionGreeks(),
        marketOHLC=pb.MarketOHLC(ohlc=bars),
        atp=1403.2,
        vtt=240_000 + number,
        tbq=25_375.0,
        tsq=35_770.0,
    )
    return pb.Feed(fullFeed=pb.FullFeed(marketFF=market), requestMode=pb.full_d5)


def ws_frame(payload: bytes, opcode: int = 2) -> bytes:
    """Return one unmasked, unfragmented WebSocket frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


class _Line(asyncio.Protocol):
    """One connection: HTTP/1.1 until it is upgraded to a WebSocket."""

    _transport: asyncio.Transport

    def __init__(self, market: Market) -> None:
        self._market = market
        self._unread = b""
        self._client: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        arrived = time.perf_counter_ns()
        self._unread += data
        while self._take(arrived):
            pass

    def _take(self, arrived: int) -> bool:
        return self._request(arrived) if self._client is None else self._ws_frame()

    def _request(self, arrived: int) -> bool:
        head, blank, rest = self._unread.partition(b"\r\n\r\n")
        if not blank:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return False
        body, self._unread = rest[:size], rest[size:]
        method, path, _ = first.split(" ")
        if (method, path) == ("POST", "/v2/orders"):
            self._market.ordered(body, arrived)
            self._answer({"orderId": "3226091500012", "orderStatus": "TRANSIT"})
        elif path.startswith("/feed/"):
            self._upgrade(path.removeprefix("/feed/"), headers["sec-websocket-key"])
        else:
            self._read(path)
        return True

    def _read(self, path: str) -> None:
        known: dict[str, Callable[[], dict[str, Any]]] = {
            "/v2/profile": lambda: {"dhanClientId": CLIENT_ID, "tokenValidity": "31/12/2099 23:59"},
            "/v3/feed/market-data-feed/authorize": lambda: {
                "status": "success",
                "data": {"authorized_redirect_uri": f"ws://{HOST}:{self._market.port}/feed/ours"},
            },
        }
        if path in known:
            self._answer(known[path]())
        else:
            self._answer({"errorCode": "DH-905", "errorMessage": f"this market has no {path}"}, status="404 Not Found")

    def _answer(self, payload: dict[str, Any], *, status: str = "200 OK") -> None:
        body = json.dumps(payload).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _upgrade(self, client: str, key: str) -> None:
        accept = base64.b64encode(hashlib.sha1(key.encode() + _WEBSOCKET_GUID, usedforsecurity=False).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._transport.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        self._client = client

    def _ws_frame(self) -> bool:
        """Take one masked frame; only its opcode matters, since whatever a client sends is its one subscription."""
        data, at = self._unread, 6
        if len(data) < 2:
            return False
        size = data[1] & 0x7F
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 8
        if len(data) < at + size:
            return False
        mask, payload, self._unread = data[at - 4 : at], data[at : at + size], data[at + size :]
        match data[0] & 0x0F:
            case 1 | 2:
                assert self._client is not None
                self._market.listens(self._client, self._transport)
            case 8:
                self._transport.close()
                return False
            case 9:
                plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
                self._transport.write(ws_frame(plain, opcode=10))
        return True
