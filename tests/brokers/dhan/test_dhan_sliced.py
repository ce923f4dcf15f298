"""One request that becomes several orders: all taken, some taken, none taken, nobody knows."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import respx
from dhan_kit import API, OPTION, dhan, order_row, refusal

from hybridbroker.domain.orders import OrderStatus, OrderType, Product, Side
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.errors import InvalidOrder, OrderOutcomeUnknown, OrderRejected

FREEZING = attrs.evolve(OPTION, freeze_quantity=1800)
ORDER = SlicedOrder(FREEZING, Side.BUY, quantity=3575, price="101", product=Product.MARGIN, client_order_id="big-1")


def ack(order_id: str, status: str = "TRANSIT") -> dict[str, Any]:
    return {"orderId": order_id, "orderStatus": status}


def slice_row(order_id: str, quantity: int) -> dict[str, Any]:
    return order_row(
        orderId=order_id,
        quantity=quantity,
        correlationId="big-1",
        exchangeSegment="NSE_FNO",
        securityId="40001",
        productType="MARGIN",
        drvExpiryDate="2026-09-29",
        drvStrikePrice=25000.0,
    )


async def test_slices_are_returned_as_the_book_shows_them() -> None:
    with respx.mock(base_url=API) as server:
        placed = server.post("/orders/slicing").respond(json=[ack("1"), ack("2")])
        server.get("/orders").respond(json=[slice_row("1", 1755), slice_row("2", 1820)])
        async with dhan() as broker:
            sliced = await broker.place_sliced(ORDER)

    body = json.loads(placed.calls.last.request.content)
    assert (body["quantity"], body["correlationId"], body["orderType"]) == (3575, "big-1", "LIMIT")
    assert [(order.id, order.quantity) for order in sliced.orders] == [("1", 1755), ("2", 1820)]
    assert (sliced.placed_quantity, sliced.reason, len(placed.calls)) == (3575, None, 1)


async def test_slices_the_book_does_not_show_are_cut_by_the_registry() -> None:
    with respx.mock(base_url=API) as server:
        server.post("/orders/slicing").respond(json=[ack("1"), ack("2"), ack("3")])
        server.get("/orders").respond(500)
        async with dhan() as broker:
            sliced = await broker.place_sliced(attrs.evolve(ORDER, quantity=3900))

    assert [order.quantity for order in sliced.orders] == [1755, 1755, 390]
    assert {order.status for order in sliced.orders} == {OrderStatus.PENDING}
    assert {order.client_order_id for order in sliced.orders} == {"big-1"}


async def test_part_of_the_slices_may_be_refused() -> None:
    with respx.mock(base_url=API) as server:
        server.post("/orders/slicing").respond(json=[ack("1"), refusal("You have insufficient funds"), ack("3")])
        server.get("/orders").respond(json=[slice_row("1", 1755), slice_row("3", 390)])
        async with dhan() as broker:
            sliced = await broker.place_sliced(attrs.evolve(ORDER, quantity=3900))

    assert [order.id for order in sliced.orders] == ["1", "3"]
    assert sliced.placed_quantity == 2145
    assert "1 of 3 slices were refused" in (sliced.reason or "")
    assert "insufficient funds" in (sliced.reason or "")


async def test_a_single_object_is_a_single_slice() -> None:
    with respx.mock(base_url=API) as server:
        server.post("/orders/slicing").respond(json=ack("1"))
        server.get("/orders").respond(json=[slice_row("1", 130)])
        async with dhan() as broker:
            sliced = await broker.place_sliced(attrs.evolve(ORDER, quantity=130, price=None))

    assert [order.id for order in sliced.orders] == ["1"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, refusal("no")), (200, [refusal("no"), refusal("no")])],
    ids=["whole", "slice by slice"],
)
async def test_no_slice_taken_is_a_rejection(status: int, body: Any) -> None:
    with respx.mock(base_url=API) as server:
        server.post("/orders/slicing").respond(status, json=body)
        async with dhan() as broker:
            with pytest.raises(OrderRejected, match="no"):
                await broker.place_sliced(ORDER)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, [], id="nothing"),
        pytest.param(200, [ack("1"), {"orderId": None}], id="one unreadable"),
        pytest.param(200, [ack("1"), refusal("down", "DH-908")], id="one down"),
        pytest.param(200, [ack("1"), ack("0")], id="one without an id"),
        pytest.param(200, [ack("1")], id="of a size nobody knows"),
        pytest.param(200, [1], id="no object"),
        pytest.param(500, {}, id="5xx"),
    ],
)
async def test_slices_that_may_be_live_are_an_unknown_outcome(status: int, body: Any) -> None:
    with respx.mock(base_url=API, assert_all_called=False) as server:
        placed = server.post("/orders/slicing").respond(status, json=body)
        server.get("/orders").respond(json=[])
        async with dhan() as broker:
            with pytest.raises(OrderOutcomeUnknown, match="big-1") as caught:
                await broker.place_sliced(ORDER)

    assert caught.value.client_order_id == "big-1"
    assert len(placed.calls) == 1


async def test_a_sliced_market_order_is_priced_at_zero_and_delivery_is_for_shares() -> None:
    with respx.mock(base_url=API) as server:
        placed = server.post("/orders/slicing").respond(json=[ack("1")])
        server.get("/orders").respond(json=[slice_row("1", 65)])
        async with dhan() as broker:
            await broker.place_sliced(attrs.evolve(ORDER, price=None, quantity=65))
            with pytest.raises(InvalidOrder, match="shares only"):
                await broker.place_sliced(attrs.evolve(ORDER, product=Product.DELIVERY, client_order_id="x"))

    assert json.loads(placed.calls.last.request.content)["price"] == 0
    assert ORDER.type is OrderType.LIMIT
