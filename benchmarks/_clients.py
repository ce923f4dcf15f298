"""The clients that ``tick_to_order.py`` compares: each buys one share at the price of every tick it gets.

Every client is a process of its own, goes on until it is terminated, and does what its user
would write: the work between tick and order is one limit price.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from _market import CLIENT_ID, HOST, KEY, SECURITY_ID, TICK

from hybridbroker.clock import SystemClock
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import FeedMode
from hybridbroker.domain.orders import LimitOrder, Side

RELIANCE = Instrument(
    id="NSE:RELIANCE",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="RELIANCE",
    isin="INE002A01018",
    series="EQ",
    tick_size=TICK,
)
_KEYS = {
    "upstox": BrokerKey(broker="upstox", segment="NSE_EQ", id=KEY),
    "dhan": BrokerKey(broker="dhan", segment="NSE_EQ", id=SECURITY_ID),
}
_ENOUGH = 100_000
"""Orders in each window, more than any run places; memory is set aside for as many."""


class OneInstrument:
    """An `InstrumentLookup` that knows `RELIANCE`."""

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the domain's word
        return {RELIANCE.id: RELIANCE}[id]

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        assert instrument == RELIANCE
        return _KEYS[broker]

    def by_key(self, broker: str, key: str) -> Instrument:
        return {str(_KEYS[broker]): RELIANCE}[key]


def ours(port: int) -> None:
    """Stream from `UpstoxMarketData`, trade with `DhanBroker`; its order limits raised, no journal in between."""
    asyncio.run(_ours(port))


async def _ours(port: int) -> None:
    from hybridbroker.brokers.dhan import broker as trading
    from hybridbroker.brokers.dhan import limits
    from hybridbroker.brokers.dhan.client import DhanClient
    from hybridbroker.brokers.dhan.settings import DhanSettings
    from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
    from hybridbroker.brokers.upstox.settings import UpstoxSettings
    from hybridbroker.transport.limits import Window

    url = f"http://{HOST}:{port}"
    known, clock = OneInstrument(), SystemClock()
    raised = {
        family: [Window(limit=_ENOUGH, seconds=window.seconds) for window in windows]
        for family, windows in limits.LIMITS.items()
    }
    upstox = UpstoxSettings.model_validate({"access_token": "token", "base_url": url})
    dhan = DhanSettings.model_validate({"client_id": CLIENT_ID, "access_token": "token", "base_url": f"{url}/v2"})
    with patch.object(trading, "DhanClient", partial(DhanClient, limits=raised)):
        broker = trading.DhanBroker(dhan, instruments=known, clock=clock)
    async with (
        UpstoxMarketData(upstox, instruments=known, clock=clock) as data,
        broker,
        data.stream([RELIANCE], mode=FeedMode.FULL) as events,
    ):
        async for tick in events.ticks():
            price = RELIANCE.price(tick.last_price)
            await broker.place_order(LimitOrder(RELIANCE, Side.BUY, quantity=1, price=price))


def vendors_are_installed() -> bool:
    """Say whether both vendors' own clients can be imported."""
    return find_spec("upstox_client") is not None and find_spec("dhanhq") is not None


def vendors(port: int) -> None:
    """Stream with Upstox's own client, trade with Dhan's; only their addresses are replaced."""
    import upstox_client
    import websocket
    from dhanhq import DhanContext, dhanhq

    class Redirected(websocket.WebSocketApp):  # type: ignore[misc]
        def __init__(self, url: str, **options: Any) -> None:
            assert url.startswith("wss://api.upstox.com/")
            super().__init__(f"ws://{HOST}:{port}/feed/vendors", **options)

    websocket.WebSocketApp = Redirected
    configuration = upstox_client.Configuration()
    configuration.access_token = "token"  # noqa: S105 - the market takes any
    streamer = upstox_client.MarketDataStreamerV3(upstox_client.ApiClient(configuration), [KEY], "full")
    broker = dhanhq(DhanContext(CLIENT_ID, "token"))
    broker.dhan_http.base_url = f"http://{HOST}:{port}/v2"

    def on_message(message: dict[str, Any]) -> None:
        price = message["feeds"][KEY]["fullFeed"]["marketFF"]["ltpc"]["ltp"]
        answer = broker.place_order(
            security_id=SECURITY_ID,
            exchange_segment="NSE_EQ",
            transaction_type="BUY",
            quantity=1,
            order_type="LIMIT",
            product_type="CNC",
            price=price,
        )
        assert answer["status"] == "success", answer

    streamer.on("message", on_message)
    streamer.connect()


def floor(port: int) -> None:
    """Read the frame and write a prebuilt order on raw asyncio streams: what no library can do without."""
    asyncio.run(_floor(port))


async def _floor(port: int) -> None:
    from hybridbroker.brokers.upstox.proto import feed_pb2 as pb

    feed_in, feed_out = await asyncio.open_connection(HOST, port)
    orders_in, orders_out = await asyncio.open_connection(HOST, port)
    feed_out.write(
        b"GET /feed/floor HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await feed_in.readuntil(b"\r\n\r\n")
    feed_out.write(b"\x82\x82\0\0\0\0{}")
    order = json.dumps(
        {
            "dhanClientId": CLIENT_ID,
            "correlationId": "hb-0915-092001-7f3k9q2m",
            "transactionType": "BUY",
            "exchangeSegment": "NSE_EQ",
            "productType": "CNC",
            "orderType": "LIMIT",
            "validity": "DAY",
            "securityId": SECURITY_ID,
            "quantity": 1,
            "price": 1111.11,
        }
    ).encode()
    request = (
        b"POST /v2/orders HTTP/1.1\r\nHost: localhost\r\naccess-token: token\r\nclient-id: %b\r\n"
        b"Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: %d\r\n\r\n%b"
    ) % (CLIENT_ID.encode(), len(order), order)
    before, _, after = request.partition(b"1111.11")
    while True:
        header = await feed_in.readexactly(2)
        size = header[1]
        if size == 126:
            size = int.from_bytes(await feed_in.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await feed_in.readexactly(8), "big")
        frame = pb.FeedResponse.FromString(await feed_in.readexactly(size))
        price = frame.feeds[KEY].fullFeed.marketFF.ltpc.ltp
        orders_out.write(b"%b%07.2f%b" % (before, price, after))
        head = await orders_in.readuntil(b"\r\n\r\n")
        await orders_in.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
