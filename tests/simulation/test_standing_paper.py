"""Standing and sliced orders at the paper broker: the optional protocols on simulated money."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import cast

import attrs
import pytest
from simulated import ACME, MONDAY, tick

from hybridbroker.domain.market import Quote
from hybridbroker.domain.orders import Order, OrderStatus, Side
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import BracketOrder, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import NotSent, OrderRejected
from hybridbroker.protocols import BracketOrders, Capability, GttOrders, MarketData, SlicedOrders
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.testing.clock import ManualClock

FROZEN = attrs.evolve(ACME, freeze_quantity=100)


class Quotes:
    """A source of one quote, or of nothing."""

    def __init__(self, price: float | None = None) -> None:
        self.price = price

    async def quotes(self, instruments: object) -> dict[object, Quote]:
        if self.price is None:
            raise NotSent("offline")
        return {ACME: Quote(instrument=ACME, last_price=self.price, as_of=MONDAY)}


def paper(*, price: float | None = None, cash: int = 100_000) -> PaperBroker:
    data = cast("MarketData", Quotes(price))
    return PaperBroker(data, clock=ManualClock(MONDAY), charges=None, cash=Decimal(cash))


def bracket() -> BracketOrder:
    return BracketOrder(ACME, Side.BUY, quantity=10, price="100", target_price="110", stop_price="95")


def as_protocols(broker: PaperBroker) -> tuple[GttOrders, BracketOrders, SlicedOrders]:
    return broker, broker, broker


def test_paper_says_that_it_keeps_standing_orders() -> None:
    wanted = Capability.GTT_ORDERS | Capability.OCO_ORDERS | Capability.BRACKET_ORDERS | Capability.SLICED_ORDERS

    assert wanted in paper().capabilities


async def test_paper_gtt_asks_for_a_price_to_take_its_side_from() -> None:
    broker = paper(price=120.0)
    gtt = await broker.place_gtt(GttOrder(ACME, Side.BUY, quantity=1, trigger=Trigger("105", price="106")))

    broker.feed(tick(119))
    waiting = await broker.gtts()
    broker.feed(tick(105))

    assert gtt.client_order_id is not None
    assert [each.is_live for each in waiting] == [True]
    assert [each.is_live for each in await broker.gtts()] == [False]
    assert await broker.find_gtt(gtt.client_order_id) == (await broker.gtts())[0]


async def test_paper_oco_sells_what_was_bought_and_tells_the_listeners() -> None:
    broker = paper()
    broker.feed(tick(100))
    await broker.place_bracket(attrs.evolve(bracket(), target_price=Decimal(200), stop_price=Decimal(1)))
    oco = await broker.place_gtt(OcoOrder(ACME, Side.SELL, quantity=10, target=Trigger("110"), stop=Trigger("95")))
    changed = await broker.modify_gtt(oco.id, stop=Trigger("96"))

    async with broker.order_updates() as updates:
        broker.feed(tick(96))
        sold = await asyncio.wait_for(anext(updates), 1)

    assert changed.legs[1].trigger_price == Decimal(96)
    assert isinstance(sold, Order)
    assert (sold.side, sold.status, sold.filled_quantity) == (Side.SELL, OrderStatus.FILLED, 10)
    assert (await broker.cancel_gtt(oco.id)).legs[0].reason == "the other leg came first"


async def test_paper_bracket_tells_of_every_order_it_moves() -> None:
    broker = paper()
    broker.feed(tick(101))

    async with broker.order_updates() as updates:
        placed = await broker.place_bracket(bracket())
        await broker.modify_bracket(placed.id, price=Decimal(99))
        await broker.cancel_bracket(placed.id)
        told = [await asyncio.wait_for(anext(updates), 1) for _ in range(3)]

    statuses = [(each.id, each.price, each.status) for each in told if isinstance(each, Order)]
    assert statuses == [
        (placed.id, Decimal(100), OrderStatus.OPEN),
        (placed.id, Decimal(99), OrderStatus.OPEN),
        (placed.id, Decimal(99), OrderStatus.CANCELLED),
    ]
    assert await broker.find_bracket(placed.client_order_id or "") == (await broker.brackets())[0]


async def test_paper_cancels_one_exit() -> None:
    broker = paper()
    broker.feed(tick(100))
    placed = await broker.place_bracket(bracket())

    left = await broker.cancel_bracket(placed.id, leg=LegRole.TARGET)

    assert [str(each.status) for each in left.legs] == ["filled", "cancelled", "armed"]


async def test_paper_slices_a_large_order() -> None:
    broker = paper()
    broker.feed(tick(100))

    sliced = await broker.place_sliced(SlicedOrder(FROZEN, Side.BUY, quantity=250, price="100", client_order_id="big"))

    assert [each.quantity for each in sliced.orders] == [100, 100, 50]
    assert (sliced.filled_quantity, sliced.average_price) == (250, Decimal(100))
    assert {each.client_order_id for each in await broker.orders()} == {"big"}


async def test_paper_slices_that_find_no_money_are_refused_and_the_others_stand() -> None:
    broker = paper(cash=15_000)
    broker.feed(tick(100))

    sliced = await broker.place_sliced(SlicedOrder(FROZEN, Side.BUY, quantity=250, price="100"))

    assert [each.status for each in sliced.orders] == [OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.FILLED]
    assert sliced.placed_quantity == 150


async def test_paper_raises_where_no_slice_is_taken() -> None:
    broker = paper(cash=15)
    broker.feed(tick(100))

    with pytest.raises(OrderRejected, match="rupees"):
        await broker.place_sliced(SlicedOrder(FROZEN, Side.BUY, quantity=250, price="100"))
