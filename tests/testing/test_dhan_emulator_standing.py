"""The emulated Dhan's super, forever and sliced orders, across nights too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from emulator_kit import limit_order, rest

from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.factories import make_holding

RELIANCE = "NSE:RELIANCE"
NIGHT = 17.75 * 3600


@pytest.fixture
async def dhan() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still(), cash=Decimal(10**9), holdings=[make_holding(quantity=10)]) as dhan:
        yield dhan


@pytest.fixture
async def http(dhan: DhanEmulator) -> AsyncIterator[httpx.AsyncClient]:
    async with rest(dhan) as client:
        yield client


def super_order(dhan: DhanEmulator, **changes: Any) -> dict[str, Any]:
    body = limit_order(dhan, validity=None) | {
        "productType": "INTRADAY",
        "price": 1400.0,
        "targetPrice": 1430.0,
        "stopLossPrice": 1385.0,
        "trailingJump": 5,
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


def forever(dhan: DhanEmulator, **changes: Any) -> dict[str, Any]:
    body = limit_order(dhan) | {
        "transactionType": "SELL",
        "orderFlag": "OCO",
        "price": 1430.0,
        "triggerPrice": 1430.0,
        "price1": 1379.0,
        "triggerPrice1": 1380.0,
        "quantity1": 10,
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


async def new_super(http: httpx.AsyncClient, dhan: DhanEmulator, **changes: Any) -> str:
    reply = await http.post("/super/orders", json=super_order(dhan, **changes))
    assert reply.status_code == 200, reply.text
    order_id: str = reply.json()["orderId"]
    await http.get("/super/orders")
    return order_id


async def new_forever(http: httpx.AsyncClient, dhan: DhanEmulator, **changes: Any) -> str:
    reply = await http.post("/forever/orders", json=forever(dhan, **changes))
    assert reply.status_code == 200, reply.text
    assert reply.json()["orderStatus"] == "PENDING"
    order_id: str = reply.json()["orderId"]
    return order_id


async def super_row(http: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    rows = (await http.get("/super/orders")).json()
    (row,) = [each for each in rows if each["orderId"] == order_id]
    return dict(row)


def legs(row: dict[str, Any]) -> dict[str, str]:
    return {each["legName"]: each["orderStatus"] for each in row["legDetails"]}


async def forever_legs(http: httpx.AsyncClient, order_id: str) -> dict[str, str]:
    rows = (await http.get("/forever/orders")).json()
    return {each["legName"]: each["orderStatus"] for each in rows if each["orderId"] == order_id}


async def next_morning(dhan: DhanEmulator) -> None:
    await dhan.market.close_session()
    await dhan.market.enter_phase(pb.NORMAL_OPEN, seconds=NIGHT)


def documented(shared_data: Path, page: str, under: str) -> Any:
    pages = json.loads((shared_data / "samples/doc_samples/dhan_docs_json_examples.json").read_text())
    return [each["example"] for each in pages[page] if each["under"].endswith(under)][-1]


async def test_a_super_row_has_the_documented_fields(
    http: httpx.AsyncClient, dhan: DhanEmulator, shared_data: Path
) -> None:
    (sample,) = documented(shared_data, "04-super-order.md", "Super Order List")
    order_id = await new_super(http, dhan)

    ours = await super_row(http, order_id)

    assert set(sample) <= set(ours)
    assert set(sample["legDetails"][0]) == set(ours["legDetails"][0])


async def test_a_forever_row_has_the_documented_fields(
    http: httpx.AsyncClient, dhan: DhanEmulator, shared_data: Path
) -> None:
    (sample,) = documented(shared_data, "05-forever-order.md", "All Forever Order Detail")
    await new_forever(http, dhan, orderFlag="SINGLE", price1=None, triggerPrice1=None, quantity1=None)

    (ours,) = (await http.get("/forever/orders")).json()

    assert list(ours) == list(sample)
    assert (ours["orderType"], ours["legName"], ours["orderStatus"]) == ("SINGLE", "ENTRY_LEG", "CONFIRM")


async def test_a_super_order_enters_and_its_target_closes_it(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await new_super(http, dhan)
    entered = await super_row(http, order_id)

    await dhan.market.move(RELIANCE, 1432.0)

    closed = await super_row(http, order_id)
    assert (entered["orderStatus"], legs(entered)) == ("TRADED", {"STOP_LOSS_LEG": "PENDING", "TARGET_LEG": "PENDING"})
    assert (closed["orderStatus"], legs(closed)) == ("CLOSED", {"STOP_LOSS_LEG": "CANCELLED", "TARGET_LEG": "TRADED"})
    (position,) = (await http.get("/positions")).json()
    assert position["positionType"] == "CLOSED"


async def test_the_exits_of_a_super_order_are_in_the_book_by_leg(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await new_super(http, dhan)

    await dhan.market.move(RELIANCE, 1380.0)

    entry, stop = (await http.get("/orders")).json()
    assert (entry["orderId"], entry["legName"]) == (order_id, "ENTRY_LEG")
    assert (stop["legName"], stop["orderStatus"], stop["correlationId"]) == ("STOP_LOSS_LEG", "TRADED", "test-1")


async def test_legs_of_a_super_order_are_modified_one_by_one(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await new_super(http, dhan, price=1390.0)
    head = {"dhanClientId": dhan.client_id, "orderId": order_id}

    entry = await http.put(
        f"/super/orders/{order_id}",
        json=head
        | {
            "legName": "ENTRY_LEG",
            "orderType": "LIMIT",
            "quantity": "12",
            "price": "1391",
            "targetPrice": 1431,
            "stopLossPrice": 1386,
            "trailingJump": 4,
        },
    )
    await http.put(f"/super/orders/{order_id}", json=head | {"legName": "TARGET_LEG", "targetPrice": 1440})
    await http.put(f"/super/orders/{order_id}", json=head | {"legName": "STOP_LOSS_LEG", "stopLossPrice": 1387})

    row = await super_row(http, order_id)
    stop, target = row["legDetails"]
    assert entry.json() == {"orderId": order_id, "orderStatus": "TRANSIT"}
    assert (row["quantity"], row["price"]) == (12, 1391.0)
    assert (target["price"], stop["price"], stop["trailingJump"]) == (1440.0, 1387.0, 0.0)


async def test_a_leg_of_a_super_order_is_cancelled_for_good(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await new_super(http, dhan)

    one = await http.delete(f"/super/orders/{order_id}/TARGET_LEG")
    again = await http.delete(f"/super/orders/{order_id}/TARGET_LEG")
    dhan.habits.super_cancel_body = False
    whole = await http.delete(f"/super/orders/{order_id}/ENTRY_LEG")

    assert one.json() == {"orderId": order_id, "orderStatus": "CANCELLED"}
    assert (again.status_code, again.json()["errorCode"]) == (400, "DH-906")
    assert (whole.status_code, whole.content) == (202, b"")
    assert legs(await super_row(http, order_id)) == {"STOP_LOSS_LEG": "CANCELLED", "TARGET_LEG": "CANCELLED"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"targetPrice": 1390.0}, id="target on the loss side"),
        pytest.param({"stopLossPrice": None}, id="no stop"),
        pytest.param({"price": 0}, id="no price"),
        pytest.param({"validity": "DAY"}, id="a field it does not have"),
        pytest.param({"quantity": None}, id="no quantity"),
    ],
)
async def test_impossible_super_orders_are_refused(
    http: httpx.AsyncClient, dhan: DhanEmulator, changes: dict[str, Any]
) -> None:
    reply = await http.post("/super/orders", json=super_order(dhan, **changes))

    assert reply.status_code == 400
    assert dhan.super_orders() == []


async def test_a_super_order_in_transit_is_modified_but_not_cancelled(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    dhan.transit = None
    order_id = await new_super(http, dhan)

    early = await http.delete(f"/super/orders/{order_id}/ENTRY_LEG")
    body = {"dhanClientId": dhan.client_id, "legName": "TARGET_LEG", "targetPrice": 1450}
    await http.put(f"/super/orders/{order_id}", json=body)
    dhan.release()

    assert early.json()["errorMessage"] == "Order is in Transit state"
    assert (await super_row(http, order_id))["legDetails"][1]["price"] == 1450.0


async def test_a_forever_oco_sells_once_and_survives_the_night(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await new_forever(http, dhan)
    day_order = (await http.post("/orders", json=limit_order(dhan))).json()["orderId"]

    await next_morning(dhan)
    armed = await forever_legs(http, order_id)
    await dhan.market.move(RELIANCE, 1380.0)
    await dhan.market.move(RELIANCE, 1440.0)

    assert [
        each["orderId"] for each in (await http.get(f"/orders/{day_order}")).json() if each["orderStatus"] == "EXPIRED"
    ]
    assert armed == {"TARGET_LEG": "CONFIRM", "STOP_LOSS_LEG": "CONFIRM"}
    assert await forever_legs(http, order_id) == {"TARGET_LEG": "CANCELLED", "STOP_LOSS_LEG": "TRADED"}
    (sold,) = (await http.get("/trades")).json()
    assert (sold["transactionType"], sold["tradedQuantity"]) == ("SELL", 10)
    assert (await http.get("/holdings")).status_code == 500


async def test_a_forever_order_without_shares_is_rejected_in_the_book(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    order_id = await new_forever(http, dhan, quantity=50, quantity1=50)

    await dhan.market.move(RELIANCE, 1380.0)

    assert await forever_legs(http, order_id) == {"TARGET_LEG": "CANCELLED", "STOP_LOSS_LEG": "REJECTED"}
    (rejected,) = (await http.get("/orders")).json()
    assert rejected["orderStatus"] == "REJECTED"
    assert "sell more than the quantity you currently hold" in rejected["omsErrorDescription"]
    assert rejected["correlationId"] == "test-1"


async def test_a_forever_order_is_not_triggered_after_the_close(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await new_forever(http, dhan)
    await dhan.market.close_session()

    await dhan.market.move(RELIANCE, 1370.0)

    assert await forever_legs(http, order_id) == {"TARGET_LEG": "CONFIRM", "STOP_LOSS_LEG": "CONFIRM"}


@pytest.mark.parametrize("first", ["TARGET_LEG", "STOP_LOSS_LEG"])
async def test_an_oco_leg_is_changed_by_the_name_the_book_gives_it(
    http: httpx.AsyncClient, dhan: DhanEmulator, first: str
) -> None:
    dhan.habits.oco_first_leg = "TARGET_LEG" if first == "TARGET_LEG" else "STOP_LOSS_LEG"
    order_id = await new_forever(http, dhan)
    (name,) = [each["legName"] for each in dhan.forever_orders() if each["triggerPrice"] == 1430.0]

    reply = await http.put(
        f"/forever/orders/{order_id}",
        json={
            "dhanClientId": dhan.client_id,
            "orderId": order_id,
            "orderFlag": "OCO",
            "orderType": "LIMIT",
            "legName": name,
            "quantity": 6,
            "price": 1440,
            "triggerPrice": 1441,
            "validity": "DAY",
        },
    )

    assert name == first
    assert reply.json() == {"orderId": order_id, "orderStatus": "PENDING"}
    assert [(each["triggerPrice"], each["price"], each["quantity"]) for each in dhan.forever_orders()] == [
        (1441.0, 1440.0, 6),
        (1380.0, 1379.0, 10),
    ]


async def test_a_forever_order_is_cancelled_once(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await new_forever(http, dhan)

    gone = await http.delete(f"/forever/orders/{order_id}")
    again = await http.delete(f"/forever/orders/{order_id}")

    assert gone.json() == {"orderId": order_id, "orderStatus": "CANCELLED"}
    assert (again.status_code, again.json()["errorCode"]) == (400, "DH-906")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"price": 0}, id="limit without price"),
        pytest.param({"price1": 0}, id="second limit without price"),
        pytest.param({"orderFlag": "BOTH"}, id="unknown flag"),
        pytest.param({"productType": "INTRADAY"}, id="intraday"),
        pytest.param({"triggerPrice1": 1430.0}, id="both triggers alike"),
        pytest.param({"orderType": "STOP_LOSS"}, id="a stop"),
    ],
)
async def test_impossible_forever_orders_are_dh_905(
    http: httpx.AsyncClient, dhan: DhanEmulator, changes: dict[str, Any]
) -> None:
    reply = await http.post("/forever/orders", json=forever(dhan, **changes))

    assert (reply.status_code, reply.json()["errorCode"]) == (400, "DH-905")
    assert dhan.forever_orders() == []


async def test_the_documented_wrong_path_of_forever_orders_does_not_exist(http: httpx.AsyncClient) -> None:
    assert (await http.get("/forever/all")).status_code == 404


async def test_a_sliced_order_is_several_orders_of_one_name(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    reply = await http.post("/orders/slicing", json=limit_order(dhan, quantity=250_000))

    rows = reply.json()
    assert [each["orderStatus"] for each in rows] == ["TRANSIT"] * 3
    book = (await http.get("/orders")).json()
    assert [each["quantity"] for each in book] == [100_000, 100_000, 50_000]
    assert {each["correlationId"] for each in book} == {"test-1"}


async def test_above_the_freeze_quantity_an_unsliced_order_is_rejected(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    await http.post("/orders", json=limit_order(dhan, quantity=100_001))

    (row,) = (await http.get("/orders")).json()
    assert row["orderStatus"] == "REJECTED"
    assert "freeze quantity" in row["omsErrorDescription"]
