"""The emulated Dhan misbehaves on demand: what was reported of the real one, and its sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from emulator_kit import limit_order, order_updates, receive_text, rest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault

RELIANCE = "NSE:RELIANCE"


@pytest.fixture
async def dhan() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still()) as dhan:
        yield dhan


@pytest.fixture
async def http(dhan: DhanEmulator) -> AsyncIterator[httpx.AsyncClient]:
    async with rest(dhan) as client:
        yield client


async def place(http: httpx.AsyncClient, dhan: DhanEmulator, **changes: Any) -> str:
    reply = await http.post("/orders", json=limit_order(dhan, **changes))
    assert reply.is_success, reply.text
    order_id: str = reply.json()["orderId"]
    return order_id


async def row(http: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    (found,) = (await http.get(f"/orders/{order_id}")).json()
    return dict(found)


async def logged_in(dhan: DhanEmulator, http: httpx.AsyncClient) -> None:
    while not dhan.update_sockets:
        await http.get("/profile")


async def test_a_market_order_under_protection_may_rest(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.market_orders_rest = True
    order_id = await place(http, dhan, orderType="MARKET", price=0)
    resting = await row(http, order_id)

    await dhan.market.move(RELIANCE, 1399.0)

    assert (resting["orderType"], resting["orderStatus"]) == ("LIMIT", "PENDING")
    assert 0 < resting["price"] < 1400
    assert (await row(http, order_id))["orderStatus"] == "TRADED"


async def test_a_thin_market_fills_in_parts(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.liquidity = 4
    order_id = await place(http, dhan, price=1410.0)
    seen = [(await row(http, order_id))["filledQty"]]

    for _ in range(2):
        await dhan.market.move(RELIANCE, 1400.0)
        seen.append((await row(http, order_id))["filledQty"])

    assert seen == [4, 8, 10]
    assert [each["tradedQuantity"] for each in (await http.get("/trades")).json()] == [4, 4, 2]


async def test_a_rejection_comes_only_in_the_book_and_the_update(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.rejections.append("RMS:1:Margin Shortfall")
    async with order_updates(dhan) as socket:
        await logged_in(dhan, http)

        order_id = await place(http, dhan)
        told = [(await receive_text(socket))["Data"] for _ in range(2)]

    assert (await row(http, order_id))["omsErrorDescription"] == "RMS:1:Margin Shortfall"
    assert [(each["status"], each["reasonDescription"]) for each in told] == [
        ("Transit", "CONFIRMED"),
        ("Rejected", "RMS:1:Margin Shortfall"),
    ]


@pytest.mark.parametrize(("code", "status"), [("DH-905", 400), ("DH-911", 403)])
async def test_order_writes_from_a_foreign_address_are_refused_and_reads_are_not(
    http: httpx.AsyncClient, dhan: DhanEmulator, code: Literal["DH-905", "DH-911"], status: int
) -> None:
    order_id = await place(http, dhan)
    dhan.habits.refuse_address = code

    replies = [
        await http.post("/orders", json=limit_order(dhan, securityId="999")),
        await http.post("/orders/slicing", json=limit_order(dhan)),
        await http.put(f"/orders/{order_id}", json={"dhanClientId": dhan.client_id}),
        await http.delete(f"/orders/{order_id}"),
        await http.post("/super/orders", json={"quantity": 1}),
        await http.post("/forever/orders", json={"orderFlag": "SINGLE", "quantity": 1}),
    ]

    assert {(each.status_code, each.json()["errorCode"], each.json()["errorMessage"]) for each in replies} == {
        (status, code, "Invalid IP")
    }
    incomplete = await http.post("/orders", json=limit_order(dhan, quantity=None))
    assert incomplete.json()["errorMessage"] == "quantity is required"
    assert (await http.get("/orders")).status_code == 200


async def test_a_stop_market_order_may_fire_at_once(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.stop_market = "fires"

    order_id = await place(http, dhan, orderType="STOP_LOSS_MARKET", price=0, triggerPrice=1450.0)

    fired = await row(http, order_id)
    assert (fired["orderStatus"], fired["averageTradedPrice"]) == ("TRADED", 1400.0)


async def test_a_stop_market_order_may_be_refused(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.stop_market = "refused"

    reply = await http.post(
        "/orders", json=limit_order(dhan, orderType="STOP_LOSS_MARKET", price=0, triggerPrice=1450.0)
    )

    assert reply.json()["errorMessage"] == "Trigger Price should be greater than Price"


async def test_an_order_changes_its_type(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    order_id = await place(http, dhan)
    body = {"dhanClientId": dhan.client_id, "orderId": order_id, "quantity": 10, "validity": "DAY"}

    stop = await http.put(
        f"/orders/{order_id}", json=body | {"orderType": "STOP_LOSS", "price": 1421, "triggerPrice": 1420}
    )
    waiting = await row(http, order_id)
    await http.put(f"/orders/{order_id}", json=body | {"orderType": "MARKET", "price": 0})

    assert stop.status_code == 200
    assert (waiting["orderType"], waiting["triggerPrice"], waiting["orderStatus"]) == ("STOP_LOSS", 1420.0, "PENDING")
    assert (await row(http, order_id))["orderStatus"] == "TRADED"


async def test_a_type_that_lacks_its_price_is_refused_and_nothing_changes(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    order_id = await place(http, dhan)
    body = {"dhanClientId": dhan.client_id, "orderType": "STOP_LOSS", "price": 1421, "validity": "DAY"}

    reply = await http.put(f"/orders/{order_id}", json=body)

    assert (reply.status_code, reply.json()["errorCode"]) == (400, "DH-905")
    assert (await row(http, order_id))["orderType"] == "LIMIT"


async def test_limits_are_enforced_by_family() -> None:
    clock = ManualClock()
    async with DhanEmulator(EmulatedMarket.still(), clock=clock) as dhan, rest(dhan) as http:
        dhan.habits.enforce_limits = True
        placed = [await http.post("/orders", json=limit_order(dhan)) for _ in range(11)]
        reads = await http.get("/orders")
        clock.advance(1.0)
        after = await http.post("/orders", json=limit_order(dhan))
        quotes = [await http.post("/marketfeed/ltp", json={"NSE_EQ": [2885]}) for _ in range(2)]

    assert [each.status_code for each in placed] == [200] * 10 + [429]
    assert (placed[-1].json()["errorType"], placed[-1].json()["errorCode"]) == ("Rate_Limit", "DH-904")
    assert "retry-after" not in placed[-1].headers
    assert (reads.status_code, after.status_code) == (200, 200)
    assert quotes[0].json()["data"]["NSE_EQ"]["2885"] == {"last_price": 1400.0}
    assert (quotes[1].status_code, list(quotes[1].json()["data"])) == (429, ["805"])


async def test_a_new_token_kills_the_old_one_and_its_sockets(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    old = dhan.access_token
    async with order_updates(dhan) as socket:
        await logged_in(dhan, http)

        new = dhan.new_token()

        with pytest.raises(ConnectionClosed):
            await socket.recv()
    dead = await http.get("/orders")
    async with rest(dhan) as fresh:
        alive = await fresh.get("/orders")

    assert old != new == dhan.access_token
    assert (dead.status_code, dead.json()["errorCode"], alive.status_code) == (401, "DH-901", 200)


async def test_the_login_server_is_there(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    headers = {"access-token": dhan.access_token, "dhanClientId": dhan.client_id}

    renewed = await http.get("/RenewToken", headers=headers)
    dead = await http.get("/fundlimit")

    assert renewed.json()["accessToken"] == dhan.access_token
    assert dead.status_code == 401
    async with rest(dhan) as fresh:
        assert (await fresh.get("/ip/getIP")).json()[0]["status"] == "ERROR"


async def test_the_feed_is_there(dhan: DhanEmulator) -> None:
    url = f"{dhan.feed_url}?version=2&token={dhan.access_token}&clientId={dhan.client_id}&authType=2"
    wanted = {
        "RequestCode": 15,
        "InstrumentCount": 1,
        "InstrumentList": [{"ExchangeSegment": "NSE_EQ", "SecurityId": "2885"}],
    }
    async with connect(url, compression=None, proxy=None) as socket:
        await socket.send(json.dumps(wanted))
        packet = await socket.recv()

    assert packet[0] == 2
    assert dhan.feed.subscriptions == {}


@pytest.mark.parametrize(("keys", "name"), [("pascal", "OrderNo"), ("camel", "orderNo"), ("mixed", "OrderNo")])
async def test_updates_are_spelt_as_told(
    http: httpx.AsyncClient, dhan: DhanEmulator, keys: Literal["pascal", "camel", "mixed"], name: str
) -> None:
    dhan.habits.update_keys, dhan.habits.update_statuses = keys, "upper"
    dhan.habits.part_traded_as, dhan.habits.liquidity = "PART_TRADED", 4
    async with order_updates(dhan) as socket:
        await logged_in(dhan, http)
        await place(http, dhan, price=1410.0)
        frames = [(await receive_text(socket))["Data"] for _ in range(2)]

    assert all(name in each for each in frames)
    assert [each.get("status") or each.get("Status") for each in frames] == ["TRANSIT", "PART_TRADED"]


async def test_postbacks_are_posted_with_the_documented_fields(
    http: httpx.AsyncClient, dhan: DhanEmulator, shared_data: Path
) -> None:
    pages = json.loads((shared_data / "samples/doc_samples/dhan_docs_json_examples.json").read_text())
    sample = pages["12-postback.md"][0]["example"]
    posted: list[dict[str, Any]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        posted.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    dhan.habits.postback_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"

    await place(http, dhan, price=1410.0)
    await http.get("/orders")
    await dhan.postman.delivered()

    server.close()
    assert [(each["orderStatus"], each["filled_qty"]) for each in posted] == [("TRANSIT", 0), ("TRADED", 10)]
    assert set(sample) <= set(posted[0])
    assert "filledQty" not in posted[0]
    assert posted[0]["drvExpiryDate"] is None


async def test_postbacks_go_to_this_machine_only(dhan: DhanEmulator) -> None:
    with pytest.raises(ValueError, match="this machine only"):
        dhan.postman.post("http://example.com/hook", {})


async def test_a_failed_postback_is_counted(dhan: DhanEmulator) -> None:
    dhan.postman.post("http://127.0.0.1:9/hook", {})
    await dhan.postman.delivered()

    assert (dhan.postman.sent, dhan.postman.failed) == (0, 1)


async def test_other_statuses_of_the_same_answer_can_be_chosen(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.accepted_status, dhan.habits.cancelled_status, dhan.habits.missing_status = 201, 202, 500
    dhan.habits.single_as_array = False

    placed = await http.post("/orders", json=limit_order(dhan))
    single = await http.get(f"/orders/{placed.json()['orderId']}")
    cancelled = await http.delete(f"/orders/{placed.json()['orderId']}")
    missing = await http.get("/orders/external/nobody")

    assert (placed.status_code, cancelled.status_code, missing.status_code) == (201, 202, 500)
    assert isinstance(single.json(), dict)


async def test_the_only_trade_of_an_order_can_be_a_bare_object(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.trade_as_object = True

    order_id = await place(http, dhan, price=1410.0)

    assert (await http.get(f"/trades/{order_id}")).json()["tradedQuantity"] == 10
    assert len((await http.get("/trades")).json()) == 1


async def test_sockets_that_die_after_the_handshake_make_a_reconnect_storm(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    dhan.faults.add("WS /", Fault.cut_socket(with_reset=True), times=2)

    for _ in range(2):
        async with order_updates(dhan) as socket:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
    async with order_updates(dhan):
        await logged_in(dhan, http)

    assert len(dhan.received("WS", "/")) == 3


@pytest.mark.parametrize("fault", [Fault.nulls(), Fault.wrong_types()], ids=["nulls", "wrong types"])
async def test_answers_can_be_of_the_wrong_kind_while_the_order_exists(
    http: httpx.AsyncClient, dhan: DhanEmulator, fault: Fault
) -> None:
    dhan.faults.add("POST /v2/orders", fault)

    reply = await http.post("/orders", json=limit_order(dhan))

    assert not isinstance(reply.json()["orderStatus"], str)
    assert len(dhan.book()) == 1


@pytest.fixture
async def sandbox() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still(), sandbox=True) as dhan:
        yield dhan


async def test_the_sandbox_never_matches(sandbox: DhanEmulator) -> None:
    async with rest(sandbox) as http:
        order_id = await place(http, sandbox, orderType="MARKET", price=0)
        await sandbox.market.move(RELIANCE, 1200.0)
        resting = await row(http, order_id)
        await sandbox.market.close_session()
        still = await row(http, order_id)
        cancelled = await http.delete(f"/orders/{order_id}")

    assert (resting["orderStatus"], resting["filledQty"], still["orderStatus"]) == ("PENDING", 0, "PENDING")
    assert cancelled.json()["orderStatus"] == "CANCELLED"


async def test_the_sandbox_enforces_circuit_limits(sandbox: DhanEmulator) -> None:
    async with rest(sandbox) as http:
        order_id = await place(http, sandbox, price=500.0)
        rejected = await row(http, order_id)

    assert rejected["orderStatus"] == "REJECTED"
    assert "Order Price needs to be Circuit Limits of" in rejected["omsErrorDescription"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/super/orders"),
        ("POST", "/marketfeed/ltp"),
        ("POST", "/optionchain"),
        ("GET", "/killswitch"),
        ("GET", "/pnlExit"),
        ("GET", "/ip/getIP"),
        ("DELETE", "/positions"),
    ],
)
async def test_the_sandbox_lacks_calls(sandbox: DhanEmulator, method: str, path: str) -> None:
    async with rest(sandbox) as http:
        reply = await http.request(method, path)

    assert reply.status_code == 404
    assert sorted(reply.json()) == ["error", "path", "status", "timestamp"]


async def test_the_sandbox_answers_in_its_own_shapes(sandbox: DhanEmulator) -> None:
    async with rest(sandbox) as http:
        profile = (await http.get("/profile")).json()
        funds = (await http.get("/fundlimit")).json()
        holdings = await http.get("/holdings")
        unknown = await http.get("/orders/1")
        forever = await http.get("/forever/orders")
    async with order_updates(sandbox) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    assert profile["activeSegment"] == "Equity, Derivative, Currency, Commodity"
    assert "mtf" not in profile
    assert (funds["availabelBalance"], funds["sodLimit"]) == (1_000_000.0, 0.0)
    assert (holdings.status_code, holdings.json()) == (200, [])
    assert (unknown.status_code, unknown.json(), forever.json()) == (200, [], [])


async def test_the_sandbox_is_flaky_when_told(sandbox: DhanEmulator) -> None:
    sandbox.habits.sandbox_stubs = True
    async with rest(sandbox) as http:
        order_id = await place(http, sandbox)
        sandbox.unsettle(3)
        replies = [
            await http.get("/orders"),
            await http.delete(f"/orders/{order_id}"),
            await http.get("/orders/external/test-1"),
        ]
        stubs = [(await http.get(path)) for path in ("/fundlimit", "/positions", "/trades")]
        after = await row(http, order_id)

    assert {(each.status_code, each.json()["errorCode"]) for each in replies} == {(500, "DH-906")}
    assert [each.json()["errorType"] for each in stubs] == [
        "FUND_LIMIT_ERROR",
        "CONVERT_POSITION_ERROR",
        "TRADE_RESOURCE_ERROR",
    ]
    assert after["orderStatus"] == "PENDING"


async def test_the_sandbox_takes_no_delivery_orders_after_hours(sandbox: DhanEmulator) -> None:
    await sandbox.market.close_session()
    async with rest(sandbox) as http:
        refused = await http.post("/orders", json=limit_order(sandbox, afterMarketOrder=True, amoTime="OPEN"))
        taken = await http.post(
            "/orders", json=limit_order(sandbox, afterMarketOrder=True, amoTime="OPEN", productType="INTRADAY")
        )

    assert refused.json()["errorMessage"] == "Markets are Offline or Blocked"
    assert taken.status_code == 200


async def test_missing_money_can_be_told_at_once(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    dhan.habits.refuse_poor_at_once = True

    reply = await http.post("/orders", json=limit_order(dhan, quantity=100))

    assert reply.json()["errorMessage"] == "You have insufficient funds. Please add Rs.39000.00 to trade."
    assert dhan.book() == []


async def test_cash_of_the_sandbox_is_not_that_of_the_exchange(sandbox: DhanEmulator) -> None:
    assert sandbox.exchange.funds().available == Decimal(100_000)
