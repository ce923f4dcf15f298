"""Super orders: one request, three legs; changed and cancelled leg by leg."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx
from dhan_kit import API, OPTION, RELIANCE, dhan, refusal

from hybridbroker.brokers.dhan.orders import changes
from hybridbroker.domain.orders import Product, Side
from hybridbroker.domain.standing import Bracket, BracketOrder, Leg, LegRole, LegStatus
from hybridbroker.errors import (
    HybridBrokerError,
    InvalidOrder,
    NotSent,
    OrderOutcomeUnknown,
    OrderRejected,
)

ID = "3226091500050"
ACK = {"orderId": ID, "orderStatus": "PENDING"}
ORDER = BracketOrder(
    RELIANCE,
    Side.BUY,
    quantity=10,
    price="1400",
    target_price="1430",
    stop_price="1385",
    trail="5",
    product=Product.INTRADAY,
    client_order_id="br-1",
)


def leg(name: str, price: float, status: str = "PENDING", **changed: Any) -> dict[str, Any]:
    return {
        "orderId": ID,
        "legName": name,
        "transactionType": "SELL",
        "totalQuatity": 0,
        "remainingQuantity": 0,
        "triggeredQuantity": 0,
        "price": price,
        "orderStatus": status,
        "trailingJump": 5 if name == "STOP_LOSS_LEG" else 0,
        **changed,
    }


def row(status: str = "PENDING", *, legs: Any = None, **changed: Any) -> dict[str, Any]:
    return {
        "dhanClientId": "1100000001",
        "orderId": ID,
        "correlationId": "br-1",
        "orderStatus": status,
        "transactionType": "BUY",
        "exchangeSegment": "NSE_EQ",
        "productType": "INTRADAY",
        "orderType": "LIMIT",
        "validity": "DAY",
        "tradingSymbol": "RELIANCE",
        "securityId": "2885",
        "quantity": 10,
        "remainingQuantity": 10,
        "ltp": 1401.0,
        "price": 1400,
        "afterMarketOrder": False,
        "legName": "ENTRY_LEG",
        "exchangeOrderId": "1100000012345678",
        "createTime": "2026-09-15 12:00:00",
        "updateTime": "2026-09-15 12:00:00",
        "exchangeTime": "2026-09-15 12:00:00",
        "omsErrorDescription": "",
        "averageTradedPrice": 0,
        "filledQty": 0,
        "legDetails": [leg("STOP_LOSS_LEG", 1385), leg("TARGET_LEG", 1430)] if legs is None else legs,
        **changed,
    }


async def listed(*rows: dict[str, Any]) -> list[Bracket]:
    with respx.mock(base_url=API) as server:
        server.get("/super/orders").respond(json=list(rows))
        async with dhan() as broker:
            return list(await broker.brackets())


def the(bracket: Bracket, role: LegRole) -> Leg:
    found = bracket.leg(role)
    assert found is not None
    return found


async def test_a_super_order_is_one_request_with_three_legs() -> None:
    with respx.mock(base_url=API) as server:
        placed = server.post("/super/orders").respond(json=ACK)
        async with dhan() as broker:
            bracket = await broker.place_bracket(ORDER)

    assert json.loads(placed.calls.last.request.content) == {
        "dhanClientId": "1100000001",
        "correlationId": "br-1",
        "transactionType": "BUY",
        "exchangeSegment": "NSE_EQ",
        "productType": "INTRADAY",
        "orderType": "LIMIT",
        "securityId": "2885",
        "quantity": 10,
        "price": 1400,
        "targetPrice": 1430,
        "stopLossPrice": 1385,
        "trailingJump": 5,
    }
    assert [(each.role, each.status) for each in bracket.legs] == [
        (LegRole.ENTRY, LegStatus.SENT),
        (LegRole.TARGET, LegStatus.INACTIVE),
        (LegRole.STOP, LegStatus.INACTIVE),
    ]
    assert (bracket.id, bracket.client_order_id, the(bracket, LegRole.STOP).trail) == (ID, "br-1", Decimal(5))


async def test_an_entry_at_the_market_has_price_zero_and_no_trail_is_zero() -> None:
    order = BracketOrder(
        RELIANCE, Side.SELL, quantity=1, target_price="1370", stop_price="1415", product=Product.INTRADAY
    )
    with respx.mock(base_url=API) as server:
        placed = server.post("/super/orders").respond(json=ACK)
        async with dhan() as broker:
            await broker.place_bracket(order)

    body = json.loads(placed.calls.last.request.content)
    assert (body["orderType"], body["price"], body["trailingJump"]) == ("MARKET", 0, 0)


async def test_delivery_of_an_option_is_not_sent() -> None:
    order = BracketOrder(OPTION, Side.BUY, quantity=65, price="100", target_price="120", stop_price="90")
    with respx.mock(base_url=API) as server:
        async with dhan() as broker:
            with pytest.raises(InvalidOrder):
                await broker.place_bracket(order)
        assert not server.calls


@pytest.mark.parametrize(
    ("status", "filled", "entry", "exits"),
    [
        ("TRANSIT", 0, LegStatus.SENT, LegStatus.INACTIVE),
        ("PENDING", 0, LegStatus.SENT, LegStatus.INACTIVE),
        ("PART_TRADED", 4, LegStatus.SENT, LegStatus.ARMED),
        ("TRADED", 10, LegStatus.FILLED, LegStatus.ARMED),
        ("CLOSED", 10, LegStatus.FILLED, LegStatus.ARMED),
        ("TRIGGERED", 10, LegStatus.FILLED, LegStatus.ARMED),
        ("CLOSED", None, LegStatus.FILLED, LegStatus.ARMED),
        ("CLOSED", 4, LegStatus.UNKNOWN, LegStatus.ARMED),
        ("TRADED", 0, LegStatus.UNKNOWN, LegStatus.INACTIVE),
        ("REJECTED", 0, LegStatus.REJECTED, LegStatus.CANCELLED),
        ("CANCELLED", 0, LegStatus.CANCELLED, LegStatus.CANCELLED),
        ("CANCELLED", 4, LegStatus.CANCELLED, LegStatus.ARMED),
        ("EXPIRED", 0, LegStatus.EXPIRED, LegStatus.CANCELLED),
        ("INACTIVE", 0, LegStatus.UNKNOWN, LegStatus.INACTIVE),
    ],
)
async def test_exits_wait_for_what_their_entry_has_done(
    status: str, filled: int | None, entry: LegStatus, exits: LegStatus
) -> None:
    (bracket,) = await listed(row(status, filledQty=filled))

    assert [each.status for each in bracket.legs] == [entry, exits, exits]
    assert [each.role for each in bracket.legs] == list(LegRole)


@pytest.mark.parametrize(
    ("status", "expected", "filled"),
    [
        ("TRIGGERED", LegStatus.SENT, 0),
        ("PART_TRADED", LegStatus.SENT, 3),
        ("TRADED", LegStatus.FILLED, 10),
        ("CANCELLED", LegStatus.CANCELLED, 0),
        ("EXPIRED", LegStatus.EXPIRED, 0),
        ("CLOSED", LegStatus.UNKNOWN, 0),
    ],
)
@pytest.mark.parametrize("spelling", ["totalQuatity", "totalQuantity"])
async def test_a_leg_is_in_the_state_it_says_with_either_spelling_of_its_quantity(
    status: str, expected: LegStatus, filled: int, spelling: str
) -> None:
    stop = leg("STOP_LOSS_LEG", 1385, status, remainingQuantity=10 - filled, orderId="77")
    del stop["totalQuatity"]
    (bracket,) = await listed(row("TRADED", filledQty=10, legs=[{**stop, spelling: 10}]))

    found = the(bracket, LegRole.STOP)
    assert (found.status, found.filled_quantity, found.order_id) == (expected, filled, "77")
    assert (found.trigger_price, found.trail, found.side) == (Decimal(1385), Decimal(5), Side.SELL)


async def test_a_rejected_entry_says_why() -> None:
    (bracket,) = await listed(row("REJECTED", omsErrorDescription="RMS:1:no margin", legs=[]))

    assert the(bracket, LegRole.ENTRY).reason == "RMS:1:no margin"
    assert len(bracket.legs) == 1


async def change(rows: Any, **terms: Any) -> tuple[list[dict[str, Any]], Bracket]:
    with respx.mock(base_url=API, assert_all_called=False) as server:
        server.get("/super/orders").respond(json=rows)
        put = server.put(f"/super/orders/{ID}").respond(json=ACK)
        async with dhan() as broker:
            bracket = await broker.modify_bracket(ID, **terms)
    return [json.loads(call.request.content) for call in put.calls], bracket


async def test_a_change_of_the_entry_states_all_terms_in_one_call() -> None:
    sent, bracket = await change([row()], quantity=20, price=Decimal(1401), stop_price=Decimal(1390))

    assert sent == [
        {
            "dhanClientId": "1100000001",
            "orderId": ID,
            "legName": "ENTRY_LEG",
            "orderType": "LIMIT",
            "quantity": 20,
            "price": 1401,
            "targetPrice": 1430,
            "stopLossPrice": 1390,
            "trailingJump": 5,
        }
    ]
    assert [each.quantity for each in bracket.legs] == [20, 20, 20]


async def test_changes_of_the_exits_are_one_call_each_and_keep_the_trail() -> None:
    filled = row("TRADED", filledQty=10)

    sent, _ = await change([filled], target_price=Decimal(1440), stop_price=Decimal(1395))

    assert [{key: each[key] for key in each if key not in {"dhanClientId", "orderId"}} for each in sent] == [
        {"legName": "TARGET_LEG", "targetPrice": 1440},
        {"legName": "STOP_LOSS_LEG", "stopLossPrice": 1395, "trailingJump": 5},
    ]


async def test_a_trail_of_zero_ends_it_and_no_change_sends_nothing() -> None:
    filled = row("TRADED", filledQty=10)

    ended, bracket = await change([filled], trail=Decimal(0))
    nothing, _ = await change([filled])

    assert (ended[0]["stopLossPrice"], ended[0]["trailingJump"]) == (1385, 0)
    assert the(bracket, LegRole.STOP).trail is None
    assert nothing == []


async def test_a_stop_that_has_trailed_past_the_entry_can_be_changed() -> None:
    trailed = row("TRADED", filledQty=10, legs=[leg("STOP_LOSS_LEG", 1410), leg("TARGET_LEG", 1430)])

    sent, _ = await change([trailed], stop_price=Decimal(1412))

    assert sent[0]["stopLossPrice"] == 1412


@pytest.mark.parametrize(
    ("rows", "terms"),
    [
        pytest.param([row("TRADED", filledQty=10)], {"quantity": 20}, id="quantity after the fill"),
        pytest.param([row("TRADED", filledQty=10)], {"price": Decimal(1401)}, id="price after the fill"),
        pytest.param([row()], {"stop_price": Decimal(1500)}, id="stop above the price"),
        pytest.param([row()], {"price": Decimal("1400.03")}, id="off the tick"),
        pytest.param([row("PART_TRADED", filledQty=4)], {"quantity": 3}, id="less than has traded"),
        pytest.param([row("CANCELLED")], {"target_price": Decimal(1440)}, id="over"),
        pytest.param(
            [row("TRADED", filledQty=10, legs=[leg("TARGET_LEG", 1430)])], {"stop_price": Decimal(1390)}, id="no stop"
        ),
        pytest.param(
            [row("TRADED", filledQty=10, legs=[leg("STOP_LOSS_LEG", 1385, "CANCELLED"), leg("TARGET_LEG", 1430)])],
            {"stop_price": Decimal(1390)},
            id="cancelled stop",
        ),
    ],
)
async def test_a_change_that_does_not_fit_is_not_sent(rows: Any, terms: dict[str, Any]) -> None:
    with respx.mock(base_url=API) as server:
        server.get("/super/orders").respond(json=rows)
        async with dhan() as broker:
            with pytest.raises(InvalidOrder):
                await broker.modify_bracket(ID, **terms)


@pytest.mark.parametrize(
    ("second", "expected"),
    [(httpx.Response(400, json=refusal("no")), OrderRejected), (httpx.Response(500), OrderOutcomeUnknown)],
)
async def test_a_later_change_that_fails_says_what_was_done_before(
    second: httpx.Response, expected: type[HybridBrokerError]
) -> None:
    with respx.mock(base_url=API) as server:
        server.get("/super/orders").respond(json=[row("TRADED", filledQty=10)])
        server.put(f"/super/orders/{ID}").side_effect = [httpx.Response(200, json=ACK), second]
        async with dhan() as broker:
            with pytest.raises(expected, match="changed before that: target"):
                await broker.modify_bracket(ID, target_price=Decimal(1440), trail=Decimal(0))


async def test_one_change_too_many_is_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MODIFICATIONS_PER_ORDER", 1)
    with respx.mock(base_url=API) as server:
        server.get("/super/orders").respond(json=[row()])
        put = server.put(f"/super/orders/{ID}").respond(json=ACK)
        async with dhan() as broker:
            await broker.modify_bracket(ID, quantity=20)
            with pytest.raises(InvalidOrder, match="all Dhan allows"):
                await broker.modify_bracket(ID, quantity=30)

    assert len(put.calls) == 1


async def test_a_change_that_cannot_be_read_before_is_not_sent() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/super/orders").respond(json=[{"orderId": ID}])
        async with dhan() as broker:
            with pytest.raises(NotSent):
                await broker.modify_bracket(ID, quantity=20)


@pytest.mark.parametrize(
    ("role", "path"),
    [(LegRole.ENTRY, "ENTRY_LEG"), (LegRole.TARGET, "TARGET_LEG"), (LegRole.STOP, "STOP_LOSS_LEG")],
)
@pytest.mark.parametrize("answer", [httpx.Response(202), httpx.Response(200, json={**ACK, "orderStatus": "CANCELLED"})])
async def test_a_leg_is_cancelled_by_its_name_and_read_back(role: LegRole, path: str, answer: httpx.Response) -> None:
    with respx.mock(base_url=API) as server:
        deleted = server.delete(f"/super/orders/{ID}/{path}").mock(return_value=answer)
        server.get("/super/orders").respond(json=[row("CANCELLED")])
        async with dhan() as broker:
            bracket = await broker.cancel_bracket(ID, leg=role)

    assert len(deleted.calls) == 1
    assert not bracket.is_live


async def test_cancelling_a_leg_that_has_ended_returns_it() -> None:
    ended = row("TRADED", filledQty=10, legs=[leg("STOP_LOSS_LEG", 1385, "CANCELLED"), leg("TARGET_LEG", 1430)])
    with respx.mock(base_url=API) as server:
        server.delete(url__regex=".*").respond(400, json=refusal("no"))
        server.get("/super/orders").respond(json=[ended])
        async with dhan() as broker:
            assert (await broker.cancel_bracket(ID, leg=LegRole.STOP)).is_live
            for role in (LegRole.ENTRY, LegRole.TARGET):
                with pytest.raises(OrderRejected):
                    await broker.cancel_bracket(ID, leg=role)


async def test_a_super_order_is_found_by_its_name() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/super/orders").respond(json=[row()])
        async with dhan() as broker:
            found = await broker.find_bracket("br-1")

            assert found is not None
            assert found.id == ID
            assert await broker.find_bracket("else") is None
