"""The emulated Dhan's portfolio, switches, statements and eDIS, and how they change over a night."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from emulator_kit import limit_order, rest

from hybridbroker.simulation.statutory import STATUTORY_ONLY
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.factories import make_holding

RELIANCE = "NSE:RELIANCE"
ISIN = "INE002A01018"
NIGHT = 17.75 * 3600


@pytest.fixture
async def dhan() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still(), charges=STATUTORY_ONLY) as dhan:
        yield dhan


@pytest.fixture
async def http(dhan: DhanEmulator) -> AsyncIterator[httpx.AsyncClient]:
    async with rest(dhan) as client:
        yield client


async def buy(http: httpx.AsyncClient, dhan: DhanEmulator, **changes: Any) -> str:
    reply = await http.post("/orders", json=limit_order(dhan, **{"price": 1410.0, **changes}))
    assert reply.status_code == 200, reply.text
    order_id: str = reply.json()["orderId"]
    return order_id


def named(dhan: DhanEmulator, **fields: Any) -> dict[str, Any]:
    return {"dhanClientId": dhan.client_id, **fields}


async def test_a_delivery_purchase_is_an_unsettled_holding_the_next_morning(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    await buy(http, dhan)
    await dhan.market.close_session()

    await dhan.market.enter_phase(pb.NORMAL_OPEN, seconds=NIGHT)

    (held,) = (await http.get("/holdings")).json()
    assert (held["totalQty"], held["t1Qty"], held["dpQty"]) == (10, 10, 0)
    assert (await http.get("/positions")).json() == []
    assert (await http.get("/orders")).json() == []


async def test_converting_moves_a_position_to_the_other_product(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    await buy(http, dhan, productType="INTRADAY")
    body = named(
        dhan,
        fromProductType="INTRADAY",
        exchangeSegment="NSE_EQ",
        positionType="LONG",
        securityId="2885",
        convertQty="4",
        toProductType="CNC",
    )

    done = await http.post("/positions/convert", json=body)
    refused = await http.post("/positions/convert", json=body | {"convertQty": 7})

    assert (done.status_code, done.content) == (202, b"")
    assert refused.json()["errorType"] == "CONVERT_POSITION_ERROR"
    positions = (await http.get("/positions")).json()
    assert {each["productType"]: each["netQty"] for each in positions} == {"INTRADAY": 6, "CNC": 4}


async def test_exit_all_cancels_and_closes(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    await buy(http, dhan)
    resting = await buy(http, dhan, price=1300.0)

    reply = await http.delete("/positions")

    assert reply.json() == {"status": "SUCCESS", "message": "All orders and positions exited successfully"}
    assert {each["netQty"] for each in (await http.get("/positions")).json()} == {0}
    assert (await http.get(f"/orders/{resting}")).json()[0]["orderStatus"] == "CANCELLED"


async def test_the_kill_switch_wants_a_clean_account_and_ends_with_the_day(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    order_id = await buy(http, dhan, price=1300.0)
    early = await http.post("/killswitch", params={"killSwitchStatus": "ACTIVATE"})
    await http.delete(f"/orders/{order_id}")

    done = await http.post("/killswitch", params={"killSwitchStatus": "ACTIVATE"})
    status = await http.get("/killswitch")
    blocked = await http.post("/orders", json=limit_order(dhan))
    await dhan.market.close_session()
    await dhan.market.enter_phase(pb.NORMAL_OPEN, seconds=NIGHT)

    assert early.json()["errorCode"] == "DH-906"
    assert done.json() == named(dhan, killSwitchStatus="Kill Switch has been successfully activated")
    assert status.json() == named(dhan, killSwitchStatus="ACTIVATE")
    assert (blocked.status_code, blocked.json()["errorCode"]) == (400, "DH-906")
    assert (await http.get("/killswitch")).json() == named(dhan, killSwitchStatus="DEACTIVATE")
    await buy(http, dhan, price=1300.0)


async def test_the_pnl_exit_closes_everything_once_its_bound_is_passed(
    http: httpx.AsyncClient, dhan: DhanEmulator
) -> None:
    await buy(http, dhan, productType="INTRADAY")
    body = named(dhan, profitValue=1000, lossValue="50.00", productType=["INTRADAY"], enableKillSwitch=True)

    told = await http.post("/pnlExit", json=body)
    text = (await http.get("/pnlExit")).json()
    dhan.habits.pnl_as_numbers = True
    numbers = (await http.get("/pnlExit")).json()
    await dhan.market.move(RELIANCE, 1390.0)

    assert told.json() == {"pnlExitStatus": "ACTIVE", "message": "P&L based exit configured successfully"}
    assert (text["profit"], text["loss"], text["enable_kill_switch"]) == ("1000.00", "50.00", True)
    assert (numbers["profit"], numbers["enableKillSwitch"]) == (1000.0, True)
    assert {each["netQty"] for each in (await http.get("/positions")).json()} == {0}
    assert (await http.get("/pnlExit")).json() == {"pnlExitStatus": "DISABLED"}
    assert (await http.get("/killswitch")).json()["killSwitchStatus"] == "ACTIVATE"


async def test_the_pnl_exit_can_be_stopped(http: httpx.AsyncClient, dhan: DhanEmulator) -> None:
    await http.post("/pnlExit", json=named(dhan, profitValue=1, lossValue=1, productType=["DELIVERY"]))

    reply = await http.delete("/pnlExit")

    assert reply.json() == {"pnlExitStatus": "DISABLED", "message": "P&L based exit stopped successfully"}
    assert (await http.post("/pnlExit", json={"profitValue": 1})).status_code == 400


async def test_margin_has_the_recorded_fields(http: httpx.AsyncClient, dhan: DhanEmulator, shared_data: Path) -> None:
    cassette = json.loads((shared_data / "samples/dhan_rest/recorded/POST_v2_margincalculator_200.json").read_text())
    recorded = json.loads(cassette["response"]["body_text"])
    order = {
        "exchangeSegment": "NSE_EQ",
        "transactionType": "BUY",
        "quantity": 100,
        "productType": "CNC",
        "securityId": "2885",
        "price": 1400.0,
    }

    one = (await http.post("/margincalculator", json=named(dhan, **order, triggerPrice=0))).json()
    two = (
        await http.post("/margincalculator/multi", json=named(dhan, includeOrder=True, scripList=[order] * 2))
    ).json()
    dhan.habits.margin_style = "snake"
    text = (await http.post("/margincalculator/multi", json={"includeOrders": True, "scripts": [order]})).json()

    assert set(one) == set(recorded)
    assert (one["totalMargin"], one["insufficientBalance"], one["leverage"]) == (140_000.0, 40_000.0, "1X")
    assert (two["totalMargin"], two["clientId"]) == (280_000.0, dhan.client_id)
    assert (text["total_margin"], text["currency"]) == ("140000.00", "INR")


async def test_statements_are_as_documented_and_recorded(
    http: httpx.AsyncClient, dhan: DhanEmulator, shared_data: Path
) -> None:
    pages = json.loads((shared_data / "samples/doc_samples/dhan_docs_json_examples.json").read_text())
    ledger_sample, (trade_sample,) = (each["example"] for each in pages["11-statement.md"])
    for _ in range(3):
        await buy(http, dhan, quantity=1)
    dhan.habits.history_page = 2

    rows = (await http.get("/ledger", params={"from-date": "2026-10-01", "to-date": "2026-10-31"})).json()
    dhan.habits.ledger_as_array = False
    single = (await http.get("/ledger", params={"from-date": "2026-10-01", "to-date": "2026-10-31"})).json()
    trades = [(await http.get(f"/trades/2026-10-01/2026-10-31/{page}")).json() for page in range(3)]

    assert list(rows[0]) == list(ledger_sample)
    assert (rows[0]["voucherdate"], rows[1]["voucherdesc"], single) == ("Jan 01, 1970", "BILL", rows[1])
    assert Decimal(rows[0]["runbal"]) - Decimal(rows[1]["debit"]) == Decimal(rows[1]["runbal"])
    assert [len(each) for each in trades] == [2, 1, 0]
    assert set(trade_sample) <= set(trades[0][0])
    assert trades[0][0]["stt"] > 0
    assert (await http.get("/trades/yesterday/today/0")).status_code == 400


async def test_without_ddpi_a_holding_is_sold_only_after_its_approval(shared_data: Path) -> None:
    pages = json.loads((shared_data / "samples/doc_samples/dhan_docs_json_examples.json").read_text())
    sample = pages["08-edis.md"][-1]["example"]
    async with DhanEmulator(EmulatedMarket.still(), holdings=[make_holding()]) as dhan, rest(dhan) as http:
        dhan.habits.ddpi = False
        sale = limit_order(dhan, transactionType="SELL", price=1390.0, quantity=5)

        await http.post("/orders", json=sale)
        tpin = await http.get("/edis/tpin")
        form = await http.post(
            "/edis/form", json={"isin": ISIN, "qty": 5, "exchange": "NSE", "segment": "EQ", "bulk": False}
        )
        dhan.habits.approved[ISIN] = 5
        status = (await http.get(f"/edis/inquire/{ISIN}")).json()
        await http.post("/orders", json=sale)
        await http.post("/orders", json=sale)

        first, second, third = (await http.get("/orders")).json()
        profile = (await http.get("/profile")).json()

    assert (tpin.status_code, tpin.content) == (202, b"")
    assert html.unescape(form.json()["edisFormHtml"]).startswith("<!DOCTYPE html>")
    assert list(status) == list(sample)
    assert (status["totalQty"], status["aprvdQty"]) == (12, 5)
    assert [each["orderStatus"] for each in (first, second, third)] == ["REJECTED", "TRADED", "REJECTED"]
    assert "eDIS" in first["omsErrorDescription"]
    assert profile["ddpi"] == "Deactive"
