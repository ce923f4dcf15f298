"""Upstox's own SDK trades with the emulator: its models read every answer."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from waiting import until

from hybridbroker.domain.portfolio import Holding
from hybridbroker.testing.emulators import LISTED, EmulatedMarket, UpstoxEmulator, option_series

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the vendor's imports are not ours to mend
    sdk = pytest.importorskip("upstox_client", reason="needs pip install 'hybridbroker[vendor]'")
    websocket = pytest.importorskip("websocket")
from upstox_client.rest import ApiException

pytestmark = [pytest.mark.vendor, pytest.mark.filterwarnings("default")]

RELIANCE = "NSE_EQ|INE002A01018"
NIFTY = "NSE_INDEX|Nifty 50"


class Vendor:
    """Calls the vendor's blocking classes in a thread."""

    def __init__(self, upstox: UpstoxEmulator, *, sandbox: bool = False) -> None:
        configuration = sdk.Configuration(sandbox=sandbox)
        configuration.host = configuration.order_host = upstox.rest_url
        configuration.access_token = upstox.access_token
        self.client = sdk.ApiClient(configuration)

    async def __call__(self, api: str, method: str, *args: Any, **named: Any) -> Any:
        answer = await asyncio.to_thread(getattr(getattr(sdk, api)(self.client), method), *args, **named)
        return answer.data

    async def refused(self, api: str, method: str, *args: Any, **named: Any) -> tuple[int, str]:
        with pytest.raises(ApiException) as caught:
            await self(api, method, *args, **named)
        return caught.value.status, json.loads(caught.value.body)["errors"][0]["errorCode"]

    async def place(self, **changes: Any) -> str:
        (order_id,) = (await self("OrderApiV3", "place_order", order(**changes))).order_ids
        return str(order_id)


def order(**changes: Any) -> Any:
    terms = {
        "quantity": 10,
        "product": "D",
        "validity": "DAY",
        "price": 1390.0,
        "tag": "sdk",
        "instrument_token": RELIANCE,
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "disclosed_quantity": 0,
        "trigger_price": 0.0,
        "is_amo": False,
        "slice": False,
    }
    return sdk.PlaceOrderV3Request(**{**terms, **changes})


@pytest.fixture
async def upstox() -> AsyncIterator[UpstoxEmulator]:
    options = option_series(LISTED[-1], expiry=date(2026, 10, 13), strikes=(25_000, 25_100))
    market = EmulatedMarket.still((*LISTED, *options))
    tcs = market.by_instrument("NSE:TCS").instrument
    held = Holding(instrument=tcs, quantity=4, available_quantity=4, average_price=Decimal(3000))
    async with UpstoxEmulator(market, cash=Decimal(10**9), holdings=[held]) as emulator:
        yield emulator


@pytest.fixture
def vendor(upstox: UpstoxEmulator) -> Vendor:
    return Vendor(upstox)


async def test_it_places_changes_and_cancels(vendor: Vendor) -> None:
    order_id = await vendor.place()
    change = sdk.ModifyOrderRequest(
        order_id=order_id, quantity=5, validity="DAY", price=1395.0, order_type="LIMIT", trigger_price=0.0
    )
    changed = await vendor("OrderApiV3", "modify_order", change)
    details = await vendor("OrderApi", "get_order_status", order_id=order_id)
    await vendor("OrderApiV3", "cancel_order", order_id)
    history = await vendor("OrderApi", "get_order_details", "2.0", order_id=order_id)

    assert changed.order_id == order_id
    assert (details.status, details.quantity, details.price) == ("open", 5, 1395.0)
    assert [row.status for row in history][-2:] == ["cancel pending", "cancelled"]


async def test_it_slices_and_places_batches(vendor: Vendor) -> None:
    ids = (await vendor("OrderApiV3", "place_order", order(quantity=150_000, slice=True))).order_ids
    lines = [sdk.MultiOrderRequest(**order(price=1390.0 + n).to_dict() | {"correlation_id": str(n)}) for n in range(2)]
    placed = await vendor("OrderApi", "place_multi_order", lines)
    cancelled = await vendor("OrderApi", "cancel_multi_order")

    assert len(ids) == 2
    assert [each.correlation_id for each in placed] == ["0", "1"]
    assert cancelled.order_ids == [*ids, *(each.order_id for each in placed)]


async def test_it_reads_the_book_and_the_trades(vendor: Vendor) -> None:
    empty = await vendor("OrderApi", "get_order_book", "2.0")
    order_id = await vendor.place(price=1410.0)

    (row,) = await vendor("OrderApi", "get_order_book", "2.0")
    (trade,) = await vendor("OrderApi", "get_trades_by_order", order_id, "2.0")
    day = await vendor("OrderApi", "get_trade_history", "2.0")

    assert empty is None
    assert (row.order_id, row.status, row.average_price) == (order_id, "complete", 1400.0)
    assert (trade.quantity, trade.average_price) == (10, 1400.0)
    assert len(day) == 1


async def test_it_reads_the_account(vendor: Vendor, upstox: UpstoxEmulator) -> None:
    await vendor.place(price=1410.0, product="I")
    await vendor.place(price=1410.0, product="MTF")
    body = sdk.ConvertPositionRequest(
        instrument_token=RELIANCE, new_product="D", old_product="I", transaction_type="BUY", quantity=4
    )
    done = await vendor("PortfolioApi", "convert_positions", body, "2.0")

    positions = await vendor("PortfolioApi", "get_positions", "2.0")
    (holding,) = await vendor("PortfolioApi", "get_holdings", "2.0")
    (financed,) = await vendor("PortfolioApi", "get_mtf_positions")
    old = await vendor("UserApi", "get_user_fund_margin", "2.0")
    new = await vendor("UserApi", "get_user_fund_margin_v3")
    profile = await vendor("UserApi", "get_profile", "2.0")

    assert done.status == "complete"
    assert {row.product: row.quantity for row in positions} == {"I": 6, "D": 4}
    assert (holding.isin, holding.quantity, financed.quantity) == ("INE467B01029", 4, 10)
    assert old["equity"].available_margin == float(upstox.exchange.funds().available)
    assert new.available_to_trade is not None
    assert profile.user_id == upstox.user_id


async def test_it_closes_positions(vendor: Vendor, upstox: UpstoxEmulator) -> None:
    await vendor.place(price=1410.0, product="I")

    await vendor("OrderApi", "exit_positions")

    (position,) = upstox.exchange.positions()
    assert position.quantity == 0


async def test_it_places_changes_reads_and_cancels_gtt_orders(vendor: Vendor) -> None:
    def rule(price: float) -> Any:
        return sdk.GttRule(strategy="ENTRY", trigger_type="BELOW", trigger_price=price)

    body = sdk.GttPlaceOrderRequest(
        type="SINGLE", quantity=5, product="D", rules=[rule(1380.0)], instrument_token=RELIANCE, transaction_type="BUY"
    )
    (gtt_id,) = (await vendor("OrderApiV3", "place_gtt_order", body)).gtt_order_ids
    change = sdk.GttModifyOrderRequest(gtt_order_id=gtt_id, type="SINGLE", quantity=6, rules=[rule(1370.0)])
    await vendor("OrderApiV3", "modify_gtt_order", change)
    (row,) = await vendor("OrderApiV3", "get_gtt_order_details", gtt_order_id=gtt_id)
    await vendor("OrderApiV3", "cancel_gtt_order", sdk.GttCancelOrderRequest(gtt_order_id=gtt_id))
    (after,) = await vendor("OrderApiV3", "get_gtt_order_details")

    assert (row.quantity, row.rules[0].trigger_price, row.rules[0].status) == (6, 1370.0, "SCHEDULED")
    assert after.rules[0].status == "CANCELLED"


async def test_it_reads_options_and_the_calendar(vendor: Vendor) -> None:
    contracts = await vendor("OptionsApi", "get_option_contracts", NIFTY)
    chain = await vendor("OptionsApi", "get_put_call_option_chain", NIFTY, "2026-10-13")
    greeks = await vendor("MarketQuoteV3Api", "get_market_quote_option_greek", instrument_key="NSE_FO|40001")
    status = await vendor("MarketHolidaysAndTimingsApi", "get_market_status", "NSE")
    holidays = await vendor("MarketHolidaysAndTimingsApi", "get_holidays")
    timings = await vendor("MarketHolidaysAndTimingsApi", "get_exchange_timings", "2026-10-06")

    assert (len(contracts), contracts[0].instrument_key) == (4, "NSE_FO|40001")
    assert chain[0].call_options.option_greeks.iv == 12.0
    assert 0 < greeks["NSE_FO:NIFTY26O1325000CE"].delta < 1
    assert status.status == "NORMAL_OPEN"
    assert holidays
    assert {row.exchange for row in timings} == {"NSE", "NFO", "BSE", "BFO"}


async def test_it_reads_quotes_and_candles(vendor: Vendor, upstox: UpstoxEmulator) -> None:
    await upstox.market.move("NSE:RELIANCE", 1400.0)
    ltp = await vendor("MarketQuoteV3Api", "get_ltp", instrument_key=RELIANCE)
    ohlc = await vendor("MarketQuoteV3Api", "get_market_quote_ohlc", "I1", instrument_key=RELIANCE)
    full = await vendor("MarketQuoteV3Api", "get_full_market_quote_v3", instrument_key=RELIANCE)
    candles = await vendor("HistoryV3Api", "get_intra_day_candle_data", RELIANCE, "minutes", "1")

    assert ltp["NSE_EQ:RELIANCE"].last_price == 1400.0
    assert ohlc["NSE_EQ:RELIANCE"].live_ohlc.close == 1400.0
    assert len(full["NSE_EQ:RELIANCE"].depth.buy) == 5
    assert [row[4] for row in candles.candles] == [1400.0]


async def test_it_asks_for_charges_and_margin(vendor: Vendor) -> None:
    line = sdk.Instrument(instrument_key=RELIANCE, quantity=10, product="D", transaction_type="BUY", price=1400.0)
    charges = await vendor("ChargeApi", "get_brokerage", RELIANCE, 10, "D", "BUY", 1400.0, "2.0")
    margin = await vendor("ChargeApi", "post_margin", sdk.MarginRequest(instruments=[line]))

    assert charges.charges.total > 0
    assert margin.required_margin == 14_000.0


async def test_it_flips_the_kill_switch(vendor: Vendor) -> None:
    before = await vendor("UserApi", "get_kill_switch")
    body = [sdk.KillSwitchSegmentUpdateRequest(segment="NSE_FO", action="DISABLE")]
    after = await vendor("UserApi", "update_kill_switch", body)

    assert [row["kill_switch_enabled"] for row in before] == [False] * 8  # it leaves the rows as they are
    assert [row["segment"] for row in after if row["kill_switch_enabled"]] == ["NSE_FO"]


async def test_it_is_told_of_errors_in_the_shape_it_reads(vendor: Vendor, upstox: UpstoxEmulator) -> None:
    assert await vendor.refused("OrderApiV3", "place_order", order(quantity=0)) == (400, "UDAPI1052")
    assert await vendor.refused("OrderApiV3", "cancel_order", "1") == (400, "UDAPI100010")
    upstox.access_token = "another"
    assert await vendor.refused("OrderApi", "get_order_book", "2.0") == (401, "UDAPI100050")


async def test_its_sandbox_mode_places_orders() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), sandbox=True) as upstox:
        vendor = Vendor(upstox, sandbox=True)
        order_id = await vendor.place()

        assert (await vendor("OrderApiV3", "cancel_order", order_id)).order_id == order_id


async def test_its_portfolio_streamer_hears_everything(
    vendor: Vendor, upstox: UpstoxEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, told = websocket.WebSocketApp, []

    def open_here(url: str, **options: Any) -> Any:
        fixed = "wss://api.upstox.com/v2/feed/portfolio-stream-feed"
        assert url.startswith(fixed)
        return original(url.replace(fixed, upstox.portfolio_url), **options)

    monkeypatch.setattr(websocket, "WebSocketApp", open_here)
    streamer = sdk.PortfolioDataStreamer(
        vendor.client, order_update=True, position_update=True, holding_update=True, gtt_update=True
    )
    streamer.auto_reconnect(enable=False)
    streamer.on("message", lambda text: told.append(json.loads(text)))
    streamer.connect()
    await until(lambda: upstox.portfolio_sockets)

    await vendor.place(price=1410.0)
    await vendor.place(price=3000.0, instrument_token="NSE_EQ|INE467B01029", transaction_type="SELL", quantity=4)
    await until(lambda: {"order", "position", "holding"} <= {each["update_type"] for each in told})

    streamer.disconnect()
    assert [each["status"] for each in told if each["update_type"] == "order"][:6] == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
        "open",
        "complete",
    ]
