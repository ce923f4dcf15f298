"""Shares that cannot leave the demat account are not offered for sale; what cannot be told is no obstacle."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx
from dhan_kit import API, NOON, OPTION, RELIANCE, dhan

from hybridbroker.domain.orders import LimitOrder, Product, Side
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.errors import InvalidOrder, Unsupported
from hybridbroker.testing.clock import ManualClock

ACK = {"orderId": "3226091500012", "orderStatus": "TRANSIT"}
PROFILE = {"dhanClientId": "1100000001", "ddpi": "Deactive"}
HOLDING = {
    "exchange": "ALL",
    "tradingSymbol": "RELIANCE",
    "securityId": "2885",
    "isin": "INE002A01018",
    "totalQty": 12,
    "t1Qty": 2,
    "availableQty": 12,
}
POSITION = {
    "securityId": "2885",
    "exchangeSegment": "NSE_EQ",
    "productType": "CNC",
    "buyAvg": 1400.0,
    "sellAvg": 0.0,
    "buyQty": 3,
    "sellQty": 0,
    "netQty": 3,
}


def sell(quantity: int = 10, **changes: Any) -> LimitOrder:
    return LimitOrder(RELIANCE, Side.SELL, quantity=quantity, price="1402.5", **changes)


def account(
    server: respx.MockRouter,
    *,
    approved: Any = 4,
    profile: Any = PROFILE,
    positions: Any = (),
    holdings: Any = (HOLDING,),
) -> respx.Route:
    server.get("/profile").respond(json=profile)
    row = {"clientId": "1100000001", "isin": "INE002A01018", "totalQty": 10, "aprvdQty": approved, "status": "SUCCESS"}
    server.get("/edis/inquire/INE002A01018").respond(json=row)
    server.get("/positions").respond(json=list(positions))
    server.get("/holdings").respond(json=list(holdings))
    return server.post("/orders").respond(json=ACK)


@pytest.mark.parametrize("approved", [4, "4"])
async def test_more_than_is_approved_is_refused_with_the_reason(approved: Any) -> None:
    with respx.mock(base_url=API, assert_all_called=False) as server:
        placed = account(server, approved=approved)
        async with dhan() as broker:
            with pytest.raises(InvalidOrder, match=r"approval of 8, and 4 are approved .*DDPI: Deactive.*T-PIN"):
                await broker.place_order(sell(10))
            with pytest.raises(InvalidOrder):
                await broker.place_sliced(SlicedOrder(RELIANCE, Side.SELL, quantity=10))

    assert not placed.calls


@pytest.mark.parametrize(
    ("quantity", "world"),
    [
        pytest.param(4, {"holdings": ()}, id="approved"),
        pytest.param(6, {}, id="approved and coming"),
        pytest.param(9, {"positions": [POSITION]}, id="approved, coming and bought today"),
        pytest.param(5, {"positions": [POSITION], "approved": 0}, id="nothing from the demat account"),
        pytest.param(10, {"profile": {**PROFILE, "ddpi": "Active"}}, id="DDPI"),
        pytest.param(10, {"profile": {"dhanClientId": "1"}}, id="nobody can tell"),
    ],
)
async def test_what_may_leave_is_sent(quantity: int, world: dict[str, Any]) -> None:
    with respx.mock(base_url=API, assert_all_called=False) as server:
        placed = account(server, **world)
        async with dhan() as broker:
            await broker.place_order(sell(quantity))

    assert len(placed.calls) == 1


@pytest.mark.parametrize(
    "broken", ["/profile", "/edis/inquire/INE002A01018", "/positions", "/holdings"], ids=lambda path: path.split("/")[1]
)
@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(404, json={"status": 404, "path": "/x"})])
async def test_what_cannot_be_read_does_not_hold_an_order_back(broken: str, answer: httpx.Response) -> None:
    with respx.mock(base_url=API, assert_all_called=False) as server:
        placed = account(server, approved=0)
        reads = server.get(broken).mock(return_value=answer)
        async with dhan() as broker:
            await broker.place_order(sell())
            before = len(reads.calls)
            await broker.place_order(sell())

    assert len(placed.calls) == 2
    assert len(reads.calls) == before


async def test_the_profile_is_asked_for_once_a_day() -> None:
    clock = ManualClock(NOON)
    with respx.mock(base_url=API, assert_all_called=False) as server:
        account(server, profile={**PROFILE, "ddpi": "Active"})
        profile = server.get("/profile")
        async with dhan(clock=clock) as broker:
            for _ in range(3):
                await broker.place_order(sell())
            clock.advance(86_400)
            await broker.place_order(sell())

    assert len(profile.calls) == 2


@pytest.mark.parametrize(
    "order",
    [
        LimitOrder(RELIANCE, Side.BUY, quantity=1, price="1400"),
        sell(product=Product.INTRADAY),
        LimitOrder(OPTION, Side.SELL, quantity=65, price="10", product=Product.MARGIN),
    ],
)
async def test_other_orders_ask_nothing(order: LimitOrder) -> None:
    with respx.mock(base_url=API) as server:
        server.post("/orders").respond(json=ACK)
        async with dhan() as broker:
            await broker.place_order(order)
        assert len(server.calls) == 1


async def test_the_approval_can_be_asked_for() -> None:
    with respx.mock(base_url=API, assert_all_called=False) as server:
        account(server, approved="4")
        async with dhan() as broker:
            approval = await broker.edis_approval(RELIANCE)
            with pytest.raises(Unsupported):
                await broker.edis_approval(OPTION)

    assert (approval.isin, approval.total, approval.approved) == ("INE002A01018", 10, 4)
