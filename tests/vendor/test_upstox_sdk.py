"""Upstox's own streamer, pointed at the emulator, decodes its frames: the emulator is what that client expects."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from waiting import until

from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the vendor's imports are not ours to mend
    upstox_client = pytest.importorskip("upstox_client", reason="needs pip install 'hybridbroker[vendor]'")
    websocket = pytest.importorskip("websocket")

pytestmark = [pytest.mark.vendor, pytest.mark.filterwarnings("default")]

RELIANCE = "NSE_EQ|INE002A01018"
NIFTY = "NSE_INDEX|Nifty 50"
PATIENCE = 20


def redirect_to(upstox: UpstoxEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrap the class that opens the socket, since the streamer's URL is fixed in its code."""
    original = websocket.WebSocketApp

    def open_here(url: str, **options: Any) -> Any:
        assert url == "wss://api.upstox.com/v3/feed/market-data-feed"
        return original(upstox.feed_url, **options)

    monkeypatch.setattr(websocket, "WebSocketApp", open_here)


@pytest.fixture
def redirected(upstox_emulator: UpstoxEmulator, monkeypatch: pytest.MonkeyPatch) -> UpstoxEmulator:
    redirect_to(upstox_emulator, monkeypatch)
    return upstox_emulator


class Listener:
    """Carries what the streamer's thread hears into the event loop."""

    def __init__(self, streamer: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        streamer.on("message", self._put)
        streamer.on("error", self._put)

    def _put(self, message: Any) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, message)

    async def next(self) -> Any:
        return await asyncio.wait_for(self._queue.get(), PATIENCE)

    async def next_of(self, kind: str) -> dict[str, Any]:
        """Return the next message of a kind; protobuf's JSON drops the name of a snapshot, which is 0."""
        while True:
            message = await self.next()
            assert isinstance(message, dict), message
            if message.get("type", "initial_feed") == kind:
                return message


@contextmanager
def streaming(upstox: UpstoxEmulator, keys: list[str], mode: str) -> Iterator[tuple[Any, Listener]]:
    configuration = upstox_client.Configuration()
    configuration.access_token = upstox.access_token
    streamer = upstox_client.MarketDataStreamerV3(upstox_client.ApiClient(configuration), keys, mode)
    streamer.auto_reconnect(enable=False)
    listener = Listener(streamer)
    streamer.connect()
    try:
        yield streamer, listener
    finally:
        streamer.disconnect()


async def test_it_follows_the_redirect_and_decodes_the_market(redirected: UpstoxEmulator) -> None:
    with streaming(redirected, [RELIANCE, NIFTY], "full") as (_, listener):
        phase = await listener.next_of("market_info")
        snapshot = await listener.next_of("initial_feed")
        await redirected.market.move("NSE:RELIANCE", 1401.0, quantity=7)
        update = await listener.next_of("live_feed")

    assert phase["marketInfo"]["segmentStatus"]["NSE_EQ"] == "NORMAL_OPEN"
    assert sorted(snapshot["feeds"]) == [RELIANCE, NIFTY]
    full = update["feeds"][RELIANCE]["fullFeed"]["marketFF"]
    assert full["ltpc"]["ltp"] == 1401.0
    assert full["ltpc"]["ltq"] == "7"
    assert len(full["marketLevel"]["bidAskQuote"]) == 5
    assert full["marketOHLC"]["ohlc"][0]["interval"] == "1d"


@pytest.mark.parametrize(
    ("mode", "union"),
    [("ltpc", "ltpc"), ("option_greeks", "firstLevelWithGreeks"), ("full_d30", "fullFeed")],
)
async def test_it_decodes_every_mode(redirected: UpstoxEmulator, mode: str, union: str) -> None:
    with streaming(redirected, [RELIANCE], mode) as (_, listener):
        snapshot = await listener.next_of("initial_feed")

    assert union in snapshot["feeds"][RELIANCE]


async def test_it_changes_mode_and_unsubscribes(redirected: UpstoxEmulator) -> None:
    with streaming(redirected, [RELIANCE], "ltpc") as (streamer, listener):
        await listener.next_of("initial_feed")
        streamer.change_mode([RELIANCE], "full")
        changed = await listener.next_of("initial_feed")
        streamer.unsubscribe([RELIANCE])
        await until(lambda: not redirected.subscriptions)

    assert "fullFeed" in changed["feeds"][RELIANCE]


async def test_a_bad_token_stops_it(redirected: UpstoxEmulator) -> None:
    redirected.access_token, old = "another", redirected.access_token
    configuration = upstox_client.Configuration()
    configuration.access_token = old
    streamer = upstox_client.MarketDataStreamerV3(upstox_client.ApiClient(configuration), [RELIANCE], "ltpc")
    listener = Listener(streamer)

    streamer.connect()

    assert "401" in str(await listener.next())


async def test_it_receives_a_whole_day(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = 0
    async with UpstoxEmulator(EmulatedMarket.random_walk()) as upstox:
        redirect_to(upstox, monkeypatch)
        with streaming(upstox, [RELIANCE], "full") as (_, listener):
            phase = ""
            while phase != "NORMAL_CLOSE":
                message = await listener.next()
                updates += "feeds" in message
                phase = message.get("marketInfo", {}).get("segmentStatus", {}).get("NSE_EQ", phase)

    assert updates == 1 + 375 * 4
