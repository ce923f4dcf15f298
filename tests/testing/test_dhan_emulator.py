"""The emulated Dhan answers as documented and recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from emulator_kit import limit_order, order_updates, receive_text, rest
from websockets.exceptions import ConnectionClosedError

from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket
from hybridbroker.testing.factories import make_holding

OFF_TICK = "EXCH:16283: The order price is not multiple of the tick size."


@pytest.fixture
async def http(dhan_emulator: DhanEmulator) -> AsyncIterator[httpx.AsyncClient]:
    async with rest(dhan_emulator) as client:
        yield client


async def place(http: httpx.AsyncClient, dhan: DhanEmulator, **changes: Any) -> str:
    reply = await http.post("/orders", json=limit_order(dhan, **changes))
    assert reply.status_code == 200, reply.text
    order_id: str = reply.json()["orderId"]
    return order_id


async def row(http: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = (await http.get(f"/orders/{order_id}")).json()
    assert len(rows) == 1
    return rows[0]


async def test_an_order_is_acknowledged_in_transit_and_rests(
    http: httpx.AsyncClient, dhan_emulator: DhanEmulator
) -> None:
    reply = await http.post("/orders", json=limit_order(dhan_emulator))

    assert reply.status_code == 200
    assert reply.json()["orderStatus"] == "TRANSIT"
    assert reply.json()["orderId"].isdecimal()
    assert (await row(http, reply.json()["orderId"]))["orderStatus"] == "PENDING"


async def test_an_order_row_has_the_recorded_shape(
    http: httpx.AsyncClient, dhan_emulator: DhanEmulator, shared_data: Path
) -> None:
    order_id = await place(http, dhan_emulator)
    cassette = json.loads((shared_data / "samples/dhan_rest/recorded/GET_v2_orders_200.json").read_text())
    (recorded,) = json.loads(cassette["response"]["body_text"])

    ours = await row(http, order_id)

    assert list(ours) == list(recorded)
    assert {name: type(value) for name, value in ours.items()} == {name: type(each) for name, each in recorded.items()}


async def test_a_trade_row_has_the_recorded_shape(
    http: httpx.AsyncClient, dhan_emulator: DhanEmulator, shared_data: Path
) -> None:
    order_id = await place(http, dhan_emulator, price=1410.0)
    cassette = json.loads((shared_data / "samples/dhan_rest/recorded/GET_v2_trades_200.json").read_text())
    recorded = json.loads(cassette["response"]["body_text"])[0]

    (ours,) = (await http.get(f"/trades/{order_id}")).json()

    assert list(ours) == list(recorded)
    assert {name: type(value) for name, value in ours.items()} == {name: type(each) for name, each in recorded.items()}


async def test_a_marketable_order_trades_at_the_offer(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator, price=1410.0)

    order = await row(http, order_id)

    assert (order["orderStatus"], order["filledQty"], order["remainingQuantity"]) == ("TRADED", 10, 0)
    assert order["averageTradedPrice"] == 1400.0
    (trade,) = (await http.get("/trades")).json()
    assert (trade["orderId"], trade["tradedQuantity"], trade["tradedPrice"]) == (order_id, 10, 1400.0)


async def test_a_resting_order_fills_when_the_market_comes(
    http: httpx.AsyncClient, dhan_emulator: DhanEmulator
) -> None:
    order_id = await place(http, dhan_emulator)

    await dhan_emulator.market.move("NSE:RELIANCE", 1389.0)

    assert (await row(http, order_id))["orderStatus"] == "TRADED"


async def test_a_market_order_shows_as_a_protected_limit(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator, orderType="MARKET", price=0)

    order = await row(http, order_id)

    assert order["orderType"] == "LIMIT"
    assert order["price"] > 1400
    assert order["orderStatus"] == "TRADED"


async def test_a_stop_waits_for_its_trigger(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator, orderType="STOP_LOSS", price=1411, triggerPrice="1410.0")
    before = await row(http, order_id)

    await dhan_emulator.market.move("NSE:RELIANCE", 1410.0)

    assert (before["orderStatus"], before["triggerPrice"]) == ("PENDING", 1410.0)
    assert (await row(http, order_id))["orderStatus"] == "TRADED"


async def test_an_off_tick_price_is_accepted_and_rejected_by_the_exchange(
    http: httpx.AsyncClient, dhan_emulator: DhanEmulator
) -> None:
    order_id = await place(http, dhan_emulator, price=1390.05)

    order = await row(http, order_id)

    assert order["orderStatus"] == "REJECTED"
    assert order["omsErrorDescription"] == OFF_TICK
    assert order["exchangeOrderId"] == "0"


async def test_missing_money_shows_in_the_book(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator, quantity=5000)

    order = await row(http, order_id)

    assert order["orderStatus"] == "REJECTED"
    assert order["omsErrorDescription"].startswith(f"RMS:{order_id}:")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"triggerPrice": ""}, id="empty string"),
        pytest.param({"correlationId": "x" * 26}, id="correlation id of 26"),
        pytest.param({"correlationId": "a^b"}, id="correlation id with a caret"),
        pytest.param({"tradingSymbol": "RELIANCE"}, id="unknown field"),
        pytest.param({"dhanClientId": "1"}, id="other client"),
        pytest.param({"dhanClientId": None}, id="no client"),
        pytest.param({"transactionType": "buy"}, id="lower case"),
        pytest.param({"exchangeSegment": "IDX_I"}, id="index segment"),
        pytest.param({"productType": "DELIVERY"}, id="unknown product"),
        pytest.param({"orderType": "SL"}, id="unknown type"),
        pytest.param({"validity": "GTC"}, id="unknown validity"),
        pytest.param({"quantity": 0}, id="nothing"),
        pytest.param({"quantity": 1.5}, id="half a share"),
        pytest.param({"quantity": "many"}, id="no number"),
        pytest.param({"price": None}, id="limit without price"),
        pytest.param({"price": -1}, id="negative price"),
        pytest.param({"orderType": "STOP_LOSS"}, id="stop without trigger"),
        pytest.param({"disclosedQuantity": 2}, id="disclosed too little"),
        pytest.param({"afterMarketOrder": "no"}, id="flag as text"),
        pytest.param({"afterMarketOrder": True, "amoTime": "NOON"}, id="unknown AMO time"),
    ],
)
async def test_bad_fields_are_dh_905(
    http: httpx.AsyncClient, dhan_emulator: DhanEmulator, changes: dict[str, Any]
) -> None:
    reply = await http.post("/orders", json=limit_order(dhan_emulator) | changes)

    assert reply.status_code == 400
    assert reply.json() == {
        "errorType": "Input_Exception",
        "errorCode": "DH-905",
        "errorMessage": "Missing required fields, bad values for parameters etc.",
    }
    assert dhan_emulator.book() == []


async def test_only_a_missing_quantity_is_named(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    reply = await http.post("/orders", json=limit_order(dhan_emulator, quantity=None))

    assert reply.json()["errorMessage"] == "quantity is required"


async def test_an_unreadable_body_is_dh_905(http: httpx.AsyncClient) -> None:
    reply = await http.post("/orders", content=b"{")

    assert (reply.status_code, reply.json()["errorCode"]) == (400, "DH-905")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"securityId": "999"}, "Transaction has Failed"),
        ({"orderType": "STOP_LOSS", "triggerPrice": 1395.0}, "Trigger Price should be greater than Price"),
    ],
)
async def test_impossible_orders_are_dh_906(
    http: httpx.AsyncClient, dhan_emulator: DhanEmulator, changes: dict[str, Any], message: str
) -> None:
    reply = await http.post("/orders", json=limit_order(dhan_emulator, **changes))

    assert reply.status_code == 400
    assert reply.json() == {"errorType": "Order_Error", "errorCode": "DH-906", "errorMessage": message}


async def test_numbers_may_be_strings(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator, quantity="10", price="1390.00")

    assert (await row(http, order_id))["price"] == 1390.0


async def test_a_bad_token_is_dh_901(dhan_emulator: DhanEmulator) -> None:
    async with rest(dhan_emulator, token="old") as http:
        reply = await http.get("/orders")

    assert reply.status_code == 401
    assert reply.json() == {
        "errorType": "Invalid_Authentication",
        "errorCode": "DH-901",
        "errorMessage": "Client ID or user generated access token is invalid or expired.",
    }


async def test_the_profile_has_its_own_words_for_a_bad_token(dhan_emulator: DhanEmulator) -> None:
    async with rest(dhan_emulator, token="old") as http:
        reply = await http.get("/profile")

    assert (reply.status_code, reply.json()["errorCode"], reply.json()["errorMessage"]) == (
        400,
        "DH-906",
        "Invalid Token",
    )


async def test_a_modification_replaces_the_terms(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator)
    body = {
        "dhanClientId": dhan_emulator.client_id,
        "orderId": order_id,
        "orderType": "LIMIT",
        "quantity": 12,
        "price": "1391.5",
        "validity": "DAY",
    }

    reply = await http.put(f"/orders/{order_id}", json=body)

    assert reply.json() == {"orderId": order_id, "orderStatus": "TRANSIT"}
    order = await row(http, order_id)
    assert (order["quantity"], order["price"], order["orderStatus"]) == (12, 1391.5, "PENDING")


async def test_the_twenty_sixth_modification_is_refused(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator)
    body = {"dhanClientId": dhan_emulator.client_id, "orderType": "LIMIT", "validity": "DAY", "price": 1391}

    replies = [await http.put(f"/orders/{order_id}", json=body) for _ in range(26)]

    assert [reply.status_code for reply in replies] == [200] * 25 + [400]


async def test_a_cancellation_is_final(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator)

    first, second = await http.delete(f"/orders/{order_id}"), await http.delete(f"/orders/{order_id}")

    assert first.json() == {"orderId": order_id, "orderStatus": "CANCELLED"}
    assert (second.status_code, second.json()["errorCode"]) == (400, "DH-906")
    assert (await row(http, order_id))["remainingQuantity"] == 0


async def test_an_unknown_order_is_an_empty_array(http: httpx.AsyncClient) -> None:
    assert (await http.get("/orders/1")).json() == []


async def test_an_unknown_correlation_id_is_404(http: httpx.AsyncClient) -> None:
    reply = await http.get("/orders/external/nobody")

    assert (reply.status_code, reply.json()["errorCode"]) == (404, "DH-906")


async def test_one_order_can_be_a_bare_object() -> None:
    async with DhanEmulator(EmulatedMarket.still(), single_as_array=False) as dhan, rest(dhan) as http:
        order_id = await place(http, dhan)

        reply = await http.get("/orders/external/test-1")

    assert reply.json()["orderId"] == order_id


async def test_an_order_in_transit_is_neither_found_nor_cancelled() -> None:
    async with DhanEmulator(EmulatedMarket.still(), transit=None) as dhan, rest(dhan) as http:
        order_id = await place(http, dhan)
        external = await http.get("/orders/external/test-1")
        cancelled = await http.delete(f"/orders/{order_id}")
        status = (await row(http, order_id))["orderStatus"]

        dhan.release()

        assert (external.status_code, cancelled.json()["errorMessage"]) == (404, "Order is in Transit state")
        assert (status, (await row(http, order_id))["orderStatus"]) == ("TRANSIT", "PENDING")
        assert (await http.get("/orders/external/test-1")).status_code == 200


async def test_transit_takes_as_long_as_told() -> None:
    clock = ManualClock()
    async with DhanEmulator(EmulatedMarket.still(), transit=0.7, clock=clock) as dhan, rest(dhan) as http:
        order_id = await place(http, dhan)

        order = await row(http, order_id)

    assert clock.monotonic() == 0.7
    assert order["orderStatus"] == "PENDING"


async def test_a_purchase_is_a_position(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    await place(http, dhan_emulator, price=1410.0)

    (position,) = (await http.get("/positions")).json()

    assert (position["positionType"], position["netQty"], position["buyAvg"]) == ("LONG", 10, 1400.0)
    assert (position["productType"], position["exchangeSegment"], position["securityId"]) == ("CNC", "NSE_EQ", "2885")


async def test_no_holdings_is_a_500(http: httpx.AsyncClient) -> None:
    reply = await http.get("/holdings")

    assert (reply.status_code, reply.json()["errorCode"]) == (500, "DH-1111")


async def test_holdings_have_the_documented_fields() -> None:
    async with DhanEmulator(EmulatedMarket.still(), holdings=[make_holding()]) as dhan, rest(dhan) as http:
        (holding,) = (await http.get("/holdings")).json()

    assert (holding["isin"], holding["totalQty"], holding["dpQty"], holding["t1Qty"]) == ("INE002A01018", 12, 12, 0)
    assert holding["avgCostPrice"] == 1388.4


async def test_funds_are_misspelt_as_they_are(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    await place(http, dhan_emulator)

    funds = (await http.get("/fundlimit")).json()

    assert funds["availabelBalance"] == 100_000 - 13_900
    assert funds["utilizedAmount"] == 13_900
    assert "availableBalance" not in funds


async def test_cash_is_as_told() -> None:
    async with DhanEmulator(EmulatedMarket.still(), cash=Decimal(5)) as dhan, rest(dhan) as http:
        assert (await http.get("/fundlimit")).json()["availabelBalance"] == 5.0


async def test_the_profile_is_as_documented(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    profile = (await http.get("/profile")).json()

    assert profile["dhanClientId"] == dhan_emulator.client_id
    assert profile["tokenValidity"] == "07/10/2026 10:00"
    assert profile["activeSegment"] == "E, D, C, M, "


async def test_an_unknown_path_is_the_gateways_404(http: httpx.AsyncClient) -> None:
    reply = await http.get("/super/nothing")

    assert reply.status_code == 404
    assert sorted(reply.json()) == ["error", "path", "status", "timestamp"]


async def test_nothing_trades_after_the_close(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    order_id = await place(http, dhan_emulator)

    await dhan_emulator.market.close_session()

    assert (await row(http, order_id))["orderStatus"] == "EXPIRED"
    late = await http.post("/orders", json=limit_order(dhan_emulator))
    assert late.json()["errorMessage"] == "Market is Closed! Want to place an offline order?"
    gone = await http.delete(f"/orders/{order_id}")
    assert gone.json()["errorMessage"] == "Market is Closed! You cannot modify/cancel an order now."


async def test_an_after_market_order_waits(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    await dhan_emulator.market.close_session()

    order_id = await place(http, dhan_emulator, afterMarketOrder=True, amoTime="OPEN")

    order = await row(http, order_id)
    assert (order["orderStatus"], order["exchangeOrderId"], order["afterMarketOrder"]) == ("PENDING", "0", True)


async def test_updates_follow_an_order_through_its_life(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    async with order_updates(dhan_emulator) as socket:
        await logged_in(dhan_emulator, http)
        order_id = await place(http, dhan_emulator)
        await dhan_emulator.market.move("NSE:RELIANCE", 1389.0)
        alerts = [await receive_text(socket) for _ in range(3)]

    assert {alert["Type"] for alert in alerts} == {"order_alert"}
    assert [alert["Data"]["status"] for alert in alerts] == ["Transit", "Pending", "Traded"]
    assert {alert["Data"]["orderNo"] for alert in alerts} == {order_id}
    assert alerts[2]["Data"]["tradedQty"] == 10
    assert alerts[0]["Data"]["correlationId"] == "test-1"


async def test_a_part_filled_order_says_so_by_its_quantities() -> None:
    market = EmulatedMarket.still()
    tick = market.tick(market.listed[0])
    assert tick is not None
    assert tick.depth is not None
    offered = sum(level.quantity for level in tick.depth.asks)
    async with DhanEmulator(market, cash=Decimal(10**8)) as dhan, rest(dhan) as http, order_updates(dhan) as socket:
        await logged_in(dhan, http)
        order_id = await place(http, dhan, quantity=offered + 1, price=1420.0)
        _, part = [await receive_text(socket) for _ in range(2)]

        order = await row(http, order_id)

    assert (order["orderStatus"], order["filledQty"], order["remainingQuantity"]) == ("PART_TRADED", offered, 1)
    assert (part["Data"]["status"], part["Data"]["tradedQty"], part["Data"]["remainingQuantity"]) == (
        "Pending",
        offered,
        1,
    )


async def logged_in(dhan: DhanEmulator, http: httpx.AsyncClient) -> None:
    """Let the login arrive; there is no acknowledgement to wait for."""
    while not dhan.update_sockets:
        await http.get("/profile")


async def test_a_bad_login_is_a_reset(dhan_emulator: DhanEmulator) -> None:
    async with order_updates(dhan_emulator, token="old") as socket:
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()

    assert caught.value.rcvd is None
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_any_update_frame_can_be_sent(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    async with order_updates(dhan_emulator) as socket:
        await logged_in(dhan_emulator, http)

        dhan_emulator.send_update("not json")

        assert await socket.recv() == "not json"


async def test_every_request_is_recorded(http: httpx.AsyncClient, dhan_emulator: DhanEmulator) -> None:
    await place(http, dhan_emulator)
    await http.get("/orders")

    (posted,) = dhan_emulator.received("POST", "/v2/orders")
    assert posted.json()["correlationId"] == "test-1"
    assert posted.headers["access-token"] == dhan_emulator.access_token
    assert len(dhan_emulator.requests) == 2
    assert dhan_emulator.connections == 1


async def test_an_idle_connection_is_closed_after_keep_alive() -> None:
    async with DhanEmulator(EmulatedMarket.still(), keep_alive=0.05) as dhan, rest(dhan) as http:
        await http.get("/profile")
        while dhan.open_connections:
            await ManualClock().sleep(0)
        await http.get("/profile")

    assert dhan.connections == 2
