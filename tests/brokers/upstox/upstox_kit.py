"""Instruments, messages and a small Upstox on the loopback interface that misbehaves on demand."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.errors import InstrumentNotFound, InstrumentUnmapped

TRADED_MS = 1_790_829_901_011
RECEIVED_MS = 1_790_829_901_300
TOKEN = "a-token-of-the-tests"
PATIENCE = 10.0
"""Seconds after which a test that waits for what never comes fails."""
AUTHORIZE = "/v3/feed/market-data-feed/authorize"


def share(symbol: str) -> Instrument:
    return Instrument(
        id=f"NSE:{symbol}",
        exchange=Exchange.NSE,
        segment=Segment.CASH,
        kind=InstrumentKind.EQUITY,
        symbol=symbol,
        tick_size=Decimal("0.10"),
    )


RELIANCE = share("RELIANCE")
TCS = share("TCS")
UNLISTED = share("NOWHERE")
NIFTY = Instrument(
    id="NSE:NIFTY 50:INDEX",
    exchange=Exchange.NSE,
    segment=Segment.INDEX,
    kind=InstrumentKind.INDEX,
    symbol="NIFTY 50",
)
CALL = Instrument(
    id="NSE:NIFTY:2026-11-24:25000:CE",
    exchange=Exchange.NSE,
    segment=Segment.DERIVATIVES,
    kind=InstrumentKind.OPTION,
    symbol="NIFTY",
    lot_size=75,
    underlying="NIFTY",
    expiry=date(2026, 11, 24),
    strike=Decimal(25000),
    right=OptionRight.CALL,
)
KEYS = {
    RELIANCE: "NSE_EQ|INE000A01018",
    TCS: "NSE_EQ|INE000B01029",
    NIFTY: "NSE_INDEX|Nifty 50",
    CALL: "NSE_FO|40001",
}


class Lookup:
    """An `InstrumentLookup` on a dictionary."""

    def __init__(self, keys: dict[Instrument, str] | None = None) -> None:
        self._keys = KEYS if keys is None else keys

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002
        found = next((each for each in self._keys if each.id == id), None)
        if found is None:
            raise InstrumentNotFound(id)
        return found

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        if instrument not in self._keys:
            raise InstrumentUnmapped(f"{broker} does not list {instrument}")
        native = self._keys[instrument]
        return BrokerKey(broker=broker, segment=native.partition("|")[0], id=native)

    def by_key(self, broker: str, key: str) -> Instrument:
        found = next((each for each, native in self._keys.items() if native == key), None)
        if found is None:
            raise InstrumentNotFound(f"{broker}: {key}")
        return found


def trade(**fields: Any) -> pb.LTPC:
    return pb.LTPC(**{"ltp": 1404.9, "ltt": TRADED_MS, "ltq": 12, "cp": 1398.1, **fields})


def book(levels: int = 5, *, price: float = 1404.9) -> pb.MarketLevel:
    quotes = [pb.Quote(bidQ=10 * n, bidP=price - n, askQ=20 * n, askP=price + n) for n in range(1, levels + 1)]
    return pb.MarketLevel(bidAskQuote=quotes)


def bars(close: float = 1404.9) -> pb.MarketOHLC:
    day = pb.OHLC(interval="1d", open=1399.0, high=1409.4, low=1394.2, close=close, vol=6841203, ts=1_790_793_000_000)
    minute = pb.OHLC(interval="I1", open=1404.0, high=1405.2, low=1403.8, close=close, vol=18231, ts=1_790_829_840_000)
    return pb.MarketOHLC(ohlc=[day, minute])


def greeks(delta: float = 0.52) -> pb.OptionGreeks:
    return pb.OptionGreeks(delta=delta, theta=-9.8, gamma=0.0006, vega=11.2, rho=2.1)


def whole(**fields: Any) -> pb.MarketFullFeed:
    """Everything a full-mode message carries; a field given as None is left out."""
    known = {
        "ltpc": trade(),
        "marketLevel": book(),
        "optionGreeks": greeks(),
        "marketOHLC": bars(),
        "atp": 1402.3,
        "vtt": 6841203,
        "oi": 4387500.0,
        "iv": 0.118,
        "tbq": 412300.0,
        "tsq": 389100.0,
    }
    return pb.MarketFullFeed(**{name: value for name, value in {**known, **fields}.items() if value is not None})


def full(market: pb.MarketFullFeed | None = None, **fields: Any) -> pb.Feed:
    return pb.Feed(fullFeed=pb.FullFeed(marketFF=market or whole(**fields)), requestMode=pb.full_d5)


def index_feed(**fields: Any) -> pb.Feed:
    told = {"ltpc": trade(ltq=0), "marketOHLC": bars(), **fields}
    part = pb.IndexFullFeed(**{name: value for name, value in told.items() if value is not None})
    return pb.Feed(fullFeed=pb.FullFeed(indexFF=part), requestMode=pb.full_d5)


def greeks_feed(**fields: Any) -> pb.Feed:
    quote = pb.Quote(bidQ=750, bidP=118.35, askQ=300, askP=118.45)
    told = {
        "ltpc": trade(),
        "firstDepth": quote,
        "optionGreeks": greeks(),
        "vtt": 9120000,
        "oi": 4387500.0,
        "iv": 0.118,
    }
    part = pb.FirstLevelWithGreeks(**{name: each for name, each in {**told, **fields}.items() if each is not None})
    return pb.Feed(firstLevelWithGreeks=part, requestMode=pb.option_greeks)


def ltp_feed(**fields: Any) -> pb.Feed:
    return pb.Feed(ltpc=trade(**fields))


def frame(feeds: dict[Instrument, pb.Feed] | None = None, *, kind: pb.Type = pb.live_feed, **more: Any) -> bytes:
    named = {KEYS[instrument]: feed for instrument, feed in (feeds or {}).items()}
    return pb.FeedResponse(type=kind, feeds=named, currentTs=RECEIVED_MS, **more).SerializeToString()


def market_info(**segments: Any) -> bytes:
    info = pb.MarketInfo(segmentStatus=segments or {"NSE_EQ": pb.NORMAL_OPEN})
    return pb.FeedResponse(type=pb.market_info, currentTs=RECEIVED_MS, marketInfo=info).SerializeToString()


class HastyClock(SystemClock):
    """Real time, whose pauses are cut short."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(min(seconds, 0.005))


class SessionClock(HastyClock):
    """Real time, moved to another day; ``speed`` seconds pass in one, and pauses are cut short."""

    def __init__(self, start: str = "2026-10-01T10:15+05:30", *, speed: float = 1.0) -> None:
        super().__init__()
        self._start = datetime.fromisoformat(start)
        self._speed = speed
        self._began = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic() - self._began)

    def monotonic(self) -> float:
        return self._began + (time.monotonic() - self._began) * self._speed


class UpstoxServer:
    """The authorize call and the feed on one port; a feed address works once.

    ``authorize`` and ``handshake`` hold the statuses (or bodies) that the next requests are
    answered with; a None among them lets one through. Every feed socket is greeted with ``greeting``.
    """

    def __init__(self, *, greeting: Iterable[bytes | str] = ()) -> None:
        self.authorize: list[int | bytes | None] = []
        self.handshake: list[int | None] = []
        self.tokens: list[str | None] = []
        self.addresses: list[str] = []
        self.received: list[list[dict[str, Any]]] = []
        self.sockets: list[ServerConnection] = []
        self.token = TOKEN
        self.greeting = list(greeting)
        self.reuse_addresses = False
        self._codes: set[str] = set()
        self._numbers = itertools.count(1)
        self._port = 0
        self._server: Server | None = None
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def open_sockets(self) -> int:
        return sum(each.state.name == "OPEN" for each in self.sockets)

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, process_request=self._answer, compression=None, close_timeout=0.1
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def cut(self) -> None:
        """Break every feed connection without a close frame."""
        for each in self.sockets:
            each.transport.abort()

    async def send(self, *frames: bytes | str) -> None:
        for each in self.sockets:
            if each.state.name == "OPEN":
                for one in frames:
                    await each.send(one)

    async def heard(self, count: int, *, connection: int = -1) -> list[dict[str, Any]]:
        """Wait until a connection has said ``count`` things, and return them."""
        said: list[list[dict[str, Any]]] = []

        def enough() -> bool:
            said[:] = self.received[connection:][:1]
            return bool(said) and len(said[0]) >= count

        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(enough)
        return said[0]

    async def connected(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.sockets) >= count)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        path, _, query = request.path.partition("?")
        if path == AUTHORIZE:
            return self._authorize(request)
        self.addresses.append(request.path)
        status = self.handshake.pop(0) if self.handshake else None
        code = query.rpartition("code=")[2]
        if status is None and code not in self._codes:
            status = 403
        if status is not None:
            return connection.respond(HTTPStatus(status), "no\n")
        if not self.reuse_addresses:
            self._codes.discard(code)
        return None

    def _authorize(self, request: Request) -> Response:
        self.tokens.append(request.headers.get("Authorization"))
        scripted = self.authorize.pop(0) if self.authorize else None
        if isinstance(scripted, bytes):
            return _response(200, scripted)
        if scripted is None and self.tokens[-1] != f"Bearer {self.token}":
            scripted = 401
        if scripted is not None:
            return _response(scripted, error_body("UDAPI100050" if scripted == 401 else "UDAPI10005"))
        code = f"code-{next(self._numbers)}"
        self._codes.add(code)
        uri = f"ws://127.0.0.1:{self._port}/market-data-feeder/v3/feeds?requestId=1&code={code}"
        body = {"status": "success", "data": {"authorized_redirect_uri": uri, "authorizedRedirectUri": uri}}
        return _response(200, json.dumps(body).encode())

    async def _serve(self, connection: ServerConnection) -> None:
        said: list[dict[str, Any]] = []
        async with self._news:
            self.sockets.append(connection)
            self.received.append(said)
            self._news.notify_all()
        with suppress(ConnectionClosed):
            for one in self.greeting:
                await connection.send(one)
            async for message in connection:
                assert isinstance(message, bytes), "requests go out in binary frames"
                async with self._news:
                    said.append(json.loads(message))
                    self._news.notify_all()


def _response(status: int, body: bytes) -> Response:
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status, HTTPStatus(status).phrase, headers, body)


def error_body(code: str, message: str = "told in the tests") -> bytes:
    entry = {"errorCode": code, "error_code": code, "message": message, "propertyPath": None, "invalidValue": None}
    return json.dumps({"status": "error", "errors": [entry]}).encode()


def settings(url: str = "http://127.0.0.1:1", **fields: Any) -> UpstoxSettings:
    if "127.0.0.1" in url:
        fields = {"order_url": url} | fields
    return UpstoxSettings(_env_file=None, access_token=TOKEN, base_url=url, **fields)


def market_data(url: str, *, clock: Clock | None = None, **fields: Any) -> UpstoxMarketData:
    watched = {name: fields.pop(name, None) for name in ("tokens", "patience", "notifier", "calendar")}
    return UpstoxMarketData(settings(url, **fields), instruments=Lookup(), clock=clock or HastyClock(), **watched)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[UpstoxServer, UpstoxMarketData]]:
    """A server and a client of it, both open."""
    greeting = options.pop("greeting", ())
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(UpstoxServer(greeting=greeting))
        data = await stack.enter_async_context(market_data(server.url, **options))
        yield server, data
