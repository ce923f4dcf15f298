"""Dhan's own `MarketFeed`, pointed at the emulated feed, reads what our client reads."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from pydantic import SecretStr

from hybridbroker.brokers.dhan.market_data import DhanMarketData
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.domain.market import FeedMode
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the vendor's imports are not ours to mend
    marketfeed = pytest.importorskip("dhanhq.marketfeed", reason="needs pip install 'hybridbroker[vendor]'")
    from dhanhq import DhanContext

pytestmark = [pytest.mark.vendor, pytest.mark.filterwarnings("default")]


class Feed:
    """The vendor's feed; its address and its private event loop are the only things changed."""

    def __init__(self, dhan: DhanEmulator, request: int) -> None:
        self._feed = marketfeed.MarketFeed.__new__(marketfeed.MarketFeed)
        self._feed.client_id, self._feed.access_token = (
            dhan.client_id,
            DhanContext(dhan.client_id, dhan.access_token).get_access_token(),
        )
        self._feed.instruments = [(marketfeed.MarketFeed.NSE, "2885", request)]
        self._feed.version, self._feed.ws = "v2", None
        self._feed.on_connect = self._feed.on_message = self._feed.on_close = self._feed.on_error = None

    async def first(self) -> dict[str, Any]:
        await self._feed.connect()
        async with asyncio.timeout(10):
            told: dict[str, Any] = await self._feed.get_instrument_data()
        await self._feed.disconnect()
        return told


@pytest.mark.parametrize("request_code", [15, 17, 21])
async def test_the_vendors_feed_and_ours_read_the_same(request_code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    market = EmulatedMarket.still()
    async with DhanEmulator(market) as dhan:
        await market.move("NSE:RELIANCE", 1402.3, quantity=40)
        monkeypatch.setattr(marketfeed.MarketFeed, "market_feed_wss", dhan.feed_url)
        settings = DhanSettings(
            _env_file=None,
            client_id=dhan.client_id,
            access_token=SecretStr(dhan.access_token),
            base_url=dhan.rest_url,
            feed_url=dhan.feed_url,
        )
        registry = InstrumentRegistry.builtin()
        reliance = registry["NSE:RELIANCE"]
        async with (
            DhanMarketData(settings, instruments=registry, clock=market.clock) as data,
            data.stream([reliance], mode=FeedMode.FULL) as events,
        ):
            ours = await anext(events.ticks())
        theirs = await Feed(dhan, request_code).first()

    assert theirs["security_id"] == 2885
    assert theirs["LTP"] == f"{ours.last_price:.2f}" == "1402.30"
    assert ours.traded_at is not None
    assert theirs["LTT"] == f"{ours.traded_at:%H:%M:%S}"
    if request_code != 15:
        assert theirs["volume"] == ours.volume
        assert theirs["LTQ"] == ours.last_quantity
        assert theirs["close"] == f"{ours.previous_close:.2f}"
        assert theirs["total_buy_quantity"] == ours.total_buy_quantity
        assert theirs["total_sell_quantity"] == ours.total_sell_quantity
    if request_code == 21:
        assert ours.depth is not None
        told = [(float(row["bid_price"]), row["bid_quantity"]) for row in theirs["depth"]]
        assert told == [(level.price, level.quantity) for level in ours.depth.bids]
