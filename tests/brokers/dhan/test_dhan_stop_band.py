"""A stop-market order becomes a stop-limit order that leaves room for the market to move."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import respx
from dhan_kit import API, NOON, OPTION, RELIANCE, Table, dhan, settings
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.orders.stop_band import STOP_BAND, BandRow, StopBand
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import OrderType, Product, Side, StopMarketOrder, Validity
from hybridbroker.errors import InvalidOrder
from hybridbroker.testing.clock import ManualClock

ACK = {"orderId": "3226091500012", "orderStatus": "TRANSIT"}


def stop(side: Side = Side.SELL, trigger: str = "1390", **changes: Any) -> StopMarketOrder:
    terms: dict[str, Any] = {"quantity": 10, "trigger_price": trigger, "product": Product.INTRADAY}
    return StopMarketOrder(RELIANCE, side, **{**terms, **changes})


@pytest.mark.parametrize(
    ("instrument", "side", "trigger", "limit"),
    [
        (RELIANCE, Side.SELL, "1390", "1383.00"),
        (RELIANCE, Side.BUY, "1390", "1397.00"),
        (RELIANCE, Side.SELL, "1390.10", "1383.10"),
        (RELIANCE, Side.BUY, "1390.10", "1397.10"),
        (RELIANCE, Side.SELL, "500", "495.00"),
        (RELIANCE, Side.SELL, "100", "98.00"),
        (RELIANCE, Side.SELL, "0.50", "0.40"),
        (RELIANCE, Side.BUY, "0.50", "0.60"),
        (RELIANCE, Side.SELL, "0.20", "0.10"),
        (OPTION, Side.SELL, "10", "9.50"),
        (OPTION, Side.SELL, "100", "97.00"),
        (OPTION, Side.BUY, "500", "510.00"),
        (OPTION, Side.BUY, "1000", "1010.00"),
    ],
)
def test_the_limit_lies_a_band_beyond_the_trigger(instrument: Instrument, side: Side, trigger: str, limit: str) -> None:
    assert STOP_BAND.limit(instrument, side, Decimal(trigger)) == Decimal(limit)


@given(steps=st.integers(2, 10**6), side=st.sampled_from(Side), option=st.booleans())
def test_every_limit_is_on_the_tick_at_least_one_beyond_and_no_more_than_a_band_and_a_tick(
    steps: int, side: Side, option: bool
) -> None:
    instrument = OPTION if option else RELIANCE
    trigger = steps * instrument.tick_size

    limit = STOP_BAND.limit(instrument, side, trigger)

    beyond = (limit - trigger) * side.sign
    band = trigger * STOP_BAND.percent(instrument, trigger) / 100
    assert instrument.is_on_tick(limit)
    assert instrument.tick_size <= beyond <= band + instrument.tick_size
    assert limit > 0


def test_the_lowest_price_cannot_be_a_selling_trigger() -> None:
    with pytest.raises(InvalidOrder, match="LimitOrder"):
        STOP_BAND.limit(RELIANCE, Side.SELL, RELIANCE.tick_size)


def test_the_table_is_dated_and_a_table_without_an_end_is_none() -> None:
    assert STOP_BAND.as_of
    assert STOP_BAND.source.startswith("https://")
    with pytest.raises(ValueError, match="last row"):
        StopBand(as_of="", source="", options=(BandRow(Decimal(10), Decimal(1)),), others=())


@respx.mock(base_url=API)
async def test_a_stop_market_order_is_sent_as_stop_limit_and_says_so(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("/orders").respond(json=ACK)

    async with dhan() as broker:
        order = await broker.place_order(stop(validity=Validity.DAY, disclosed_quantity=4, client_order_id="s-1"))

    sent = route.calls.last.request.content
    assert b'"orderType":"STOP_LOSS",' in sent
    assert b'"price":1383.00,"triggerPrice":1390,"disclosedQuantity":4' in sent
    assert (order.type, order.price, order.trigger_price) == (OrderType.STOP_LIMIT, Decimal(1383), Decimal(1390))
    assert (order.client_order_id, order.reason) == ("s-1", "a stop-market order, sent as stop-limit at 1383.00")


@respx.mock(base_url=API)
async def test_the_band_is_the_users_to_choose(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("/orders").respond(json=ACK)
    terms: dict[str, Any] = {"instruments": Table(), "clock": ManualClock(NOON)}

    async with DhanBroker(settings(), stop_band=StopBand.of(2), **terms) as broker:
        order = await broker.place_order(stop())

    assert order.price == Decimal("1362.20")
    assert b'"STOP_LOSS"' in route.calls.last.request.content


@respx.mock(base_url=API)
async def test_the_raw_form_is_sent_and_changed_as_it_is(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("/orders").respond(json=ACK)

    async with DhanBroker(settings(), instruments=Table(), clock=ManualClock(NOON), raw_stop_market=True) as broker:
        order = await broker.place_order(stop())

    assert b'"orderType":"STOP_LOSS_MARKET"' in route.calls.last.request.content
    assert (order.type, order.price, order.reason) == (OrderType.STOP_MARKET, None, None)
