"""Forever orders: what is sent, what the book's rows mean, and that no pair is left standing the wrong way round."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx
from dhan_kit import API, OPTION, RELIANCE, dhan, refusal

from hybridbroker.domain.orders import Product, Side
from hybridbroker.domain.standing import Crossing, GttOrder, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import (
    HybridBrokerError,
    InvalidOrder,
    NotSent,
    OrderNotFound,
    OrderOutcomeUnknown,
    OrderRejected,
    ReplyLost,
    Unsupported,
)

ID = "5226091500007"
ACK = {"orderId": ID, "orderStatus": "PENDING"}
SINGLE = GttOrder(RELIANCE, Side.SELL, quantity=10, trigger=Trigger("1350", price="1349"), client_order_id="gtt-7")
PAIR = OcoOrder(
    RELIANCE,
    Side.SELL,
    quantity=10,
    target=Trigger("1450", price="1449.5"),
    stop=Trigger("1350", price="1345"),
    client_order_id="oco-7",
)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "dhanClientId": "1100000001",
        "orderId": ID,
        "orderStatus": "CONFIRM",
        "transactionType": "SELL",
        "exchangeSegment": "NSE_EQ",
        "productType": "CNC",
        "orderType": "SINGLE",
        "tradingSymbol": "RELIANCE",
        "securityId": "2885",
        "quantity": 10,
        "price": 1349,
        "triggerPrice": 1350,
        "legName": "ENTRY_LEG",
        "createTime": "2026-09-15 12:00:00",
        "updateTime": None,
        "exchangeTime": None,
        "drvExpiryDate": None,
        "drvOptionType": None,
        "drvStrikePrice": 0,
        **changes,
    }


def pair(*, target: str = "TARGET_LEG", stop: str = "STOP_LOSS_LEG", **changes: Any) -> list[dict[str, Any]]:
    return [
        row(orderType="OCO", legName=target, triggerPrice=1450, price=1449.5, **changes),
        row(orderType="OCO", legName=stop, triggerPrice=1350, price=1345, **changes),
    ]


SWAPPED = pair(target="STOP_LOSS_LEG", stop="TARGET_LEG")


async def test_a_single_order_is_sent_and_armed() -> None:
    with respx.mock(base_url=API) as server:
        placed = server.post("/forever/orders").respond(json=ACK)
        async with dhan() as broker:
            gtt = await broker.place_gtt(SINGLE)

    assert json.loads(placed.calls.last.request.content) == {
        "dhanClientId": "1100000001",
        "correlationId": "gtt-7",
        "orderFlag": "SINGLE",
        "transactionType": "SELL",
        "exchangeSegment": "NSE_EQ",
        "productType": "CNC",
        "orderType": "LIMIT",
        "validity": "DAY",
        "securityId": "2885",
        "quantity": 10,
        "price": 1349,
        "triggerPrice": 1350,
    }
    (leg,) = gtt.legs
    assert (gtt.id, leg.role, leg.status, leg.price) == (ID, LegRole.ENTRY, LegStatus.ARMED, Decimal(1349))


async def test_a_pair_is_sent_target_first_and_returned_as_the_book_shows_it() -> None:
    with respx.mock(base_url=API) as server:
        placed = server.post("/forever/orders").respond(json=ACK)
        listed = server.get("/forever/orders")
        listed.side_effect = [httpx.Response(200, json=answer) for answer in ([], pair()[:1], pair())]
        async with dhan() as broker:
            gtt = await broker.place_gtt(PAIR)

    body = json.loads(placed.calls.last.request.content)
    assert (body["orderFlag"], body["triggerPrice"], body["price"]) == ("OCO", 1450, 1449.5)
    assert (body["triggerPrice1"], body["price1"], body["quantity1"]) == (1350, 1345, 10)
    assert [(leg.role, leg.trigger_price, leg.status) for leg in gtt.legs] == [
        (LegRole.TARGET, Decimal(1450), LegStatus.ARMED),
        (LegRole.STOP, Decimal(1350), LegStatus.ARMED),
    ]
    assert gtt.client_order_id == "oco-7"
    assert gtt.is_oco


async def test_a_swapped_pair_is_cancelled_and_the_next_is_written_the_other_way() -> None:
    with respx.mock(base_url=API) as server:
        placed = server.post("/forever/orders").respond(json=ACK)
        deleted = server.delete(f"/forever/orders/{ID}").respond(json={**ACK, "orderStatus": "CANCELLED"})
        listed = server.get("/forever/orders")
        gone = pair(target="STOP_LOSS_LEG", stop="TARGET_LEG", orderStatus="CANCELLED")
        listed.side_effect = [httpx.Response(200, json=answer) for answer in (SWAPPED, gone, pair())]
        async with dhan() as broker:
            with pytest.raises(OrderRejected, match="swapped, so it was cancelled"):
                await broker.place_gtt(PAIR)
            gtt = await broker.place_gtt(PAIR)

    first, second = (json.loads(call.request.content) for call in placed.calls)
    assert (first["triggerPrice"], second["triggerPrice"], second["triggerPrice1"]) == (1450, 1350, 1450)
    assert len(deleted.calls) == 1
    assert gtt.is_live


@pytest.mark.parametrize(
    ("cancellation", "after"),
    [
        pytest.param(httpx.Response(500), pair(), id="cancellation unknown"),
        pytest.param(httpx.Response(400, json=refusal("no")), SWAPPED, id="cancellation refused"),
        pytest.param(httpx.Response(202), pair(orderStatus="TRADED"), id="a leg was faster"),
        pytest.param(httpx.Response(202), [], id="not shown afterwards"),
    ],
)
async def test_a_swapped_pair_that_is_not_surely_gone_is_an_unknown_outcome(
    cancellation: httpx.Response, after: list[Any]
) -> None:
    with respx.mock(base_url=API) as server:
        server.post("/forever/orders").respond(json=ACK)
        deleted = server.delete(f"/forever/orders/{ID}").mock(return_value=cancellation)
        answers = iter([SWAPPED])
        server.get("/forever/orders").mock(side_effect=lambda _: httpx.Response(200, json=next(answers, after)))
        async with dhan() as broker:
            with pytest.raises(OrderOutcomeUnknown, match="swapped") as caught:
                await broker.place_gtt(PAIR)

    assert caught.value.client_order_id == "oco-7"
    assert len(deleted.calls) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, json=[]), id="never shown"),
        pytest.param(httpx.Response(500), id="unreadable"),
        pytest.param(httpx.Response(200, json=pair(target="ENTRY_LEG", stop="ENTRY_LEG")), id="legs without roles"),
        pytest.param(httpx.Response(200, json=pair(target="FIRST", stop="SECOND")), id="legs nobody documented"),
        pytest.param(httpx.Response(200, json=[pair()[0], row(orderType="OCO", legName="STOP_LOSS_LEG")]), id="others"),
        pytest.param(httpx.Response(400, json=refusal("Invalid Token")), id="no token any more"),
    ],
)
async def test_a_pair_whose_legs_cannot_be_told_is_an_unknown_outcome_with_its_id(answer: httpx.Response) -> None:
    if answer.status_code == 200 and len(answer.json()) == 2:
        changed = answer.json()
        changed[1]["triggerPrice"] = changed[1]["triggerPrice"] if changed[1]["legName"] != "STOP_LOSS_LEG" else 1340
        answer = httpx.Response(200, json=changed)
    with respx.mock(base_url=API) as server:
        server.post("/forever/orders").respond(json=ACK)
        server.get("/forever/orders").mock(return_value=answer)
        async with dhan() as broker:
            with pytest.raises(OrderOutcomeUnknown, match=ID):
                await broker.place_gtt(PAIR)


async def test_a_market_pair_has_no_prices() -> None:
    market = OcoOrder(RELIANCE, Side.SELL, quantity=1, target=Trigger("1450"), stop=Trigger("1350"))
    rows = [{**each, "price": 0, "quantity": 1} for each in pair()]
    with respx.mock(base_url=API) as server:
        placed = server.post("/forever/orders").respond(json=ACK)
        server.get("/forever/orders").respond(json=rows)
        async with dhan() as broker:
            gtt = await broker.place_gtt(market)

    body = json.loads(placed.calls.last.request.content)
    assert (body["orderType"], body["price"], body["price1"]) == ("MARKET", 0, 0)
    assert [leg.price for leg in gtt.legs] == [None, None]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(
            GttOrder(RELIANCE, Side.SELL, quantity=1, trigger=Trigger("1350"), product=Product.INTRADAY),
            InvalidOrder,
            id="intraday",
        ),
        pytest.param(
            GttOrder(RELIANCE, Side.SELL, quantity=1, trigger=Trigger("1350"), crossing=Crossing.BELOW),
            Unsupported,
            id="crossing",
        ),
        pytest.param(GttOrder(OPTION, Side.SELL, quantity=65, trigger=Trigger("10")), InvalidOrder, id="delivery"),
        pytest.param(
            OcoOrder(RELIANCE, Side.SELL, quantity=1, target=Trigger("1450"), stop=Trigger("1350", price="1345")),
            InvalidOrder,
            id="mixed",
        ),
    ],
)
async def test_what_dhan_can_never_take_is_not_sent(
    request_: GttOrder | OcoOrder, expected: type[HybridBrokerError]
) -> None:
    with respx.mock(base_url=API) as server:
        async with dhan() as broker:
            with pytest.raises(expected):
                await broker.place_gtt(request_)
        assert not server.calls


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("CONFIRM", LegStatus.ARMED),
        ("TRANSIT", LegStatus.ARMED),
        ("PENDING", LegStatus.SENT),
        ("PART_TRADED", LegStatus.SENT),
        ("TRADED", LegStatus.FILLED),
        ("CANCELLED", LegStatus.CANCELLED),
        ("REJECTED", LegStatus.REJECTED),
        ("EXPIRED", LegStatus.EXPIRED),
        ("MODIFIED", LegStatus.UNKNOWN),
    ],
)
@pytest.mark.parametrize("leg_name", ["ENTRY_LEG", "TARGET_LEG", None])
async def test_a_single_row_is_an_entry_in_the_state_it_says(
    status: str, expected: LegStatus, leg_name: str | None
) -> None:
    with respx.mock(base_url=API) as server:
        server.get("/forever/orders").respond(json=[row(orderStatus=status, legName=leg_name)])
        async with dhan() as broker:
            (gtt,) = await broker.gtts()

    (leg,) = gtt.legs
    assert (leg.role, leg.status, leg.raw, gtt.is_oco) == (LegRole.ENTRY, expected, status, False)


async def test_the_list_is_grouped_by_order_oldest_first() -> None:
    rows = [row(orderId="9", createTime="2026-09-15 13:00:00"), *pair()[::-1], row(orderId="1", securityId="99")]
    with respx.mock(base_url=API) as server:
        server.get("/forever/orders").respond(json=[rows[1], rows[0], rows[2], rows[3]])
        async with dhan() as broker:
            found = await broker.gtts()

    assert [(gtt.id, len(gtt.legs)) for gtt in found] == [("1", 1), (ID, 2), ("9", 1)]
    assert found[0].instrument.id == "DHAN:NSE_EQ:99"


async def test_a_change_echoes_the_name_the_book_uses_and_restates_the_rest() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/forever/orders").respond(json=[row()])
        put = server.put(f"/forever/orders/{ID}").respond(json=ACK)
        async with dhan() as broker:
            gtt = await broker.modify_gtt(ID, trigger=Trigger("1345", price="1344"))

    assert json.loads(put.calls.last.request.content) == {
        "dhanClientId": "1100000001",
        "orderId": ID,
        "orderFlag": "SINGLE",
        "orderType": "LIMIT",
        "legName": "ENTRY_LEG",
        "quantity": 10,
        "price": 1344,
        "triggerPrice": 1345,
        "validity": "DAY",
    }
    assert gtt.legs[0].trigger_price == Decimal(1345)


async def test_a_new_quantity_of_a_pair_is_two_changes_target_first() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/forever/orders").respond(json=pair()[::-1])
        put = server.put(f"/forever/orders/{ID}").respond(json=ACK)
        async with dhan() as broker:
            gtt = await broker.modify_gtt(ID, quantity=5, stop=Trigger("1360", price="1355"))

    bodies = [json.loads(call.request.content) for call in put.calls]
    assert [(each["legName"], each["quantity"], each["triggerPrice"]) for each in bodies] == [
        ("TARGET_LEG", 5, 1450),
        ("STOP_LOSS_LEG", 5, 1360),
    ]
    assert gtt.quantity == 5


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (httpx.Response(400, json=refusal("no")), OrderRejected),
        (httpx.Response(500), OrderOutcomeUnknown),
    ],
)
async def test_a_later_change_that_fails_says_what_was_done_before(
    second: httpx.Response, expected: type[HybridBrokerError]
) -> None:
    with respx.mock(base_url=API) as server:
        server.get("/forever/orders").respond(json=pair())
        put = server.put(f"/forever/orders/{ID}")
        put.side_effect = [httpx.Response(200, json=ACK), second]
        async with dhan() as broker:
            with pytest.raises(expected, match="changed before that: target"):
                await broker.modify_gtt(ID, quantity=5)


@pytest.mark.parametrize(
    ("rows", "change"),
    [
        pytest.param([row()], {"target": Trigger("1400")}, id="target of a single one"),
        pytest.param(pair(), {"trigger": Trigger("1400")}, id="trigger of a pair"),
        pytest.param(pair(), {"stop": Trigger("1500")}, id="stop above the target"),
        pytest.param([row()], {"trigger": Trigger("1345.03")}, id="off the tick"),
        pytest.param([row()], {"quantity": 0}, id="nothing"),
        pytest.param([row(orderStatus="TRADED")], {"quantity": 5}, id="over"),
    ],
)
async def test_a_change_that_does_not_fit_is_not_sent(rows: list[Any], change: dict[str, Any]) -> None:
    with respx.mock(base_url=API) as server:
        server.get("/forever/orders").respond(json=rows)
        async with dhan() as broker:
            with pytest.raises(InvalidOrder):
                await broker.modify_gtt(ID, **change)


async def test_a_change_that_cannot_be_read_before_is_not_sent() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/forever/orders").respond(500)
        async with dhan() as broker:
            with pytest.raises(NotSent):
                await broker.modify_gtt(ID, quantity=5)


async def test_a_cancelled_order_is_read_back() -> None:
    with respx.mock(base_url=API) as server:
        server.delete(f"/forever/orders/{ID}").respond(202)
        server.get("/forever/orders").respond(json=pair(orderStatus="CANCELLED"))
        async with dhan() as broker:
            gtt = await broker.cancel_gtt(ID)

    assert not gtt.is_live


async def test_cancelling_what_is_over_returns_it_and_what_is_not_raises() -> None:
    with respx.mock(base_url=API) as server:
        server.delete(f"/forever/orders/{ID}").respond(400, json=refusal("no"))
        listed = server.get("/forever/orders")
        listed.side_effect = [httpx.Response(200, json=rows) for rows in ([row(orderStatus="TRADED")], [row()], [])]
        async with dhan() as broker:
            assert (await broker.cancel_gtt(ID)).legs[0].status is LegStatus.FILLED
            with pytest.raises(OrderRejected):
                await broker.cancel_gtt(ID)
            with pytest.raises(OrderNotFound):
                await broker.cancel_gtt(ID)


async def test_a_cancelled_order_that_cannot_be_read_back_is_unsure() -> None:
    with respx.mock(base_url=API) as server:
        server.post("/forever/orders").respond(json=ACK)
        server.delete(url__regex=".*/forever/orders/.*").respond(200, json=ACK)
        server.get("/forever/orders").respond(500)
        async with dhan() as broker:
            await broker.place_gtt(SINGLE)
            gtt = await broker.cancel_gtt(ID)
            with pytest.raises(ReplyLost):
                await broker.cancel_gtt("1")

    assert gtt.legs[0].status is LegStatus.UNKNOWN


async def test_an_order_is_found_by_its_name_also_where_the_list_does_not_tell_it() -> None:
    with respx.mock(base_url=API) as server:
        server.post("/forever/orders").respond(json=ACK)
        server.get("/forever/orders").respond(json=[row(), row(orderId="8", correlationId="told")])
        async with dhan() as broker:
            await broker.place_gtt(SINGLE)

            ours, told, nobody = [await broker.find_gtt(name) for name in ("gtt-7", "told", "else")]

    assert ours is not None
    assert told is not None
    assert (ours.id, told.id, nobody) == (ID, "8", None)
