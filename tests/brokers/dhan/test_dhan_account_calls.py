"""Margin, conversion, trader's control and statements: what is sent, and what every answer means."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx
from dhan_kit import API, OPTION, RELIANCE, dhan, limit_order, refusal

from hybridbroker.brokers.dhan.orders.control import PnlExit
from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.domain.orders import LimitOrder, MarketOrder, Product, Side, StopMarketOrder
from hybridbroker.errors import (
    ConfigurationError,
    InvalidOrder,
    OrderOutcomeUnknown,
    OrderRejected,
    ServiceUnavailable,
    WireFormatError,
)

DAY = {"start": date(2026, 9, 1), "end": date(2026, 9, 15)}
OPTION_ORDER = LimitOrder(OPTION, Side.SELL, quantity=65, price="101.05", product=Product.MARGIN)


async def test_the_margin_of_one_order_is_asked_with_its_terms() -> None:
    with respx.mock(base_url=API) as server:
        route = server.post("/margincalculator").respond(
            json={"totalMargin": 14025.0, "availableBalance": 98440.0, "leverage": "1X"}
        )
        async with dhan() as broker:
            margin = await broker.margin(limit_order())
            await broker.margin(MarketOrder(RELIANCE, Side.BUY, quantity=1))
            await broker.margin(StopMarketOrder(RELIANCE, Side.BUY, quantity=1, trigger_price="1400"))

    bodies = [json.loads(call.request.content) for call in route.calls]
    assert bodies[0] == {
        "dhanClientId": "1100000001",
        "exchangeSegment": "NSE_EQ",
        "transactionType": "BUY",
        "quantity": 10,
        "productType": "CNC",
        "securityId": "2885",
        "price": 1402.5,
        "triggerPrice": 0,
    }
    assert (bodies[1]["price"], bodies[2]["price"], bodies[2]["triggerPrice"]) == (0, 1400, 1400)
    assert (margin.required, margin.available) == (Decimal(14025), Decimal(98440))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"totalMargin": 150000.0, "spanMargin": 1.0, "clientId": "1"}, id="numbers in camelCase"),
        pytest.param({"total_margin": "150000.00", "currency": "INR", "hedge_benefit": ""}, id="text in snake_case"),
    ],
)
async def test_the_margin_of_several_orders_is_read_in_both_versions(answer: dict[str, Any]) -> None:
    with respx.mock(base_url=API) as server:
        route = server.post("/margincalculator/multi").respond(json=answer)
        server.get("/fundlimit").respond(json={"availabelBalance": 100000.0})
        async with dhan() as broker:
            margin = await broker.margin([limit_order(), OPTION_ORDER])

    body = json.loads(route.calls.last.request.content)
    assert (body["includePosition"], body["includeOrder"], len(body["scripList"])) == (True, True, 2)
    assert "dhanClientId" not in body["scripList"][0]
    assert (margin.required, margin.shortfall) == (Decimal(150000), Decimal(50000))


async def test_a_margin_error_under_200_is_an_error_and_nothing_is_no_question() -> None:
    with respx.mock(base_url=API) as server:
        server.post("/margincalculator").respond(200, json=refusal("bad", "DH-905"))
        async with dhan() as broker:
            with pytest.raises(ServiceUnavailable, match="bad"):
                await broker.margin(limit_order())
            with pytest.raises(InvalidOrder):
                await broker.margin([])


@pytest.mark.parametrize(
    "answer", [httpx.Response(202), httpx.Response(200, json={"status": "success"})], ids=["empty", "said"]
)
async def test_a_position_is_converted(answer: httpx.Response) -> None:
    with respx.mock(base_url=API) as server:
        route = server.post("/positions/convert").mock(return_value=answer)
        async with dhan() as broker:
            await broker.convert_position(
                RELIANCE, side=Side.BUY, quantity=4, from_product=Product.INTRADAY, to_product=Product.DELIVERY
            )

    assert json.loads(route.calls.last.request.content) == {
        "dhanClientId": "1100000001",
        "fromProductType": "INTRADAY",
        "exchangeSegment": "NSE_EQ",
        "positionType": "LONG",
        "securityId": "2885",
        "convertQty": 4,
        "toProductType": "CNC",
    }


async def test_a_conversion_is_refused_lost_or_never_sent() -> None:
    terms: dict[str, Any] = {"side": Side.SELL, "from_product": Product.INTRADAY}
    with respx.mock(base_url=API) as server:
        route = server.post("/positions/convert")
        route.side_effect = [httpx.Response(400, json=refusal("no", "DH-905")), httpx.Response(502)]
        async with dhan() as broker:
            with pytest.raises(OrderRejected):
                await broker.convert_position(RELIANCE, quantity=4, to_product=Product.DELIVERY, **terms)
            with pytest.raises(OrderOutcomeUnknown):
                await broker.convert_position(RELIANCE, quantity=4, to_product=Product.DELIVERY, **terms)
            for quantity, product in ((0, Product.DELIVERY), (4, Product.INTRADAY), (4, Product.MARGIN)):
                with pytest.raises(InvalidOrder):
                    await broker.convert_position(RELIANCE, quantity=quantity, to_product=product, **terms)

    assert len(route.calls) == 2


async def test_the_kill_switch_is_a_query_parameter_and_its_answer_a_sentence() -> None:
    with respx.mock(base_url=API) as server:
        route = server.post("/killswitch").respond(
            json={"dhanClientId": "1", "killSwitchStatus": "Kill Switch has been successfully activated"}
        )
        async with dhan() as broker:
            await broker.activate_kill_switch()
            await broker.deactivate_kill_switch()

    assert [str(call.request.url.query, "ascii") for call in route.calls] == [
        "killSwitchStatus=ACTIVATE",
        "killSwitchStatus=DEACTIVATE",
    ]
    assert route.calls.last.request.content == b""


@pytest.mark.parametrize(("status", "refused"), [("DEACTIVATE", True), ("ACTIVATE", False)])
async def test_an_unclear_sentence_of_the_kill_switch_is_settled_by_its_status(status: str, refused: bool) -> None:
    with respx.mock(base_url=API) as server:
        server.post("/killswitch").respond(json={"killSwitchStatus": "please close your positions"})
        server.get("/killswitch").respond(json={"killSwitchStatus": status})
        async with dhan() as broker:
            if refused:
                with pytest.raises(OrderRejected, match="close your positions"):
                    await broker.activate_kill_switch()
            else:
                await broker.activate_kill_switch()
            assert await broker.kill_switch_active() is not refused


async def test_an_unknown_status_of_the_kill_switch_is_an_error() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/killswitch").respond(json={"killSwitchStatus": "MAYBE"})
        async with dhan() as broker:
            with pytest.raises(WireFormatError):
                await broker.kill_switch_active()


async def test_a_kill_switch_that_is_refused_or_lost_says_so() -> None:
    with respx.mock(base_url=API) as server:
        route = server.post("/killswitch")
        route.side_effect = [httpx.Response(400, json=refusal("open positions")), httpx.ReadTimeout("")]
        async with dhan() as broker:
            with pytest.raises(OrderRejected, match="open positions"):
                await broker.activate_kill_switch()
            with pytest.raises(OrderOutcomeUnknown):
                await broker.activate_kill_switch()


async def test_exit_all_is_one_delete() -> None:
    said = {"status": "SUCCESS", "message": "All orders and positions exited successfully"}
    with respx.mock(base_url=API) as server:
        route = server.delete("/positions")
        route.side_effect = [
            httpx.Response(200, json=said),
            httpx.Response(200, json={"status": "ERROR", "message": "x"}),
        ]
        async with dhan() as broker:
            await broker.exit_all()
            with pytest.raises(OrderOutcomeUnknown):
                await broker.exit_all()

    assert len(route.calls) == 2


async def test_a_pnl_exit_is_set_and_ended() -> None:
    with respx.mock(base_url=API) as server:
        posted = server.post("/pnlExit").respond(json={"pnlExitStatus": "ACTIVE", "message": "ok"})
        deleted = server.delete("/pnlExit").respond(json={"pnlExitStatus": "DISABLED", "message": "ok"})
        async with dhan() as broker:
            await broker.set_pnl_exit(profit=1500, loss="500.50", kill_switch=True)
            await broker.cancel_pnl_exit()
            for terms in ({"profit": 0, "loss": 1}, {"profit": 1, "loss": 1, "products": [Product.MTF]}):
                with pytest.raises(InvalidOrder):
                    await broker.set_pnl_exit(**terms)

    assert json.loads(posted.calls.last.request.content) == {
        "dhanClientId": "1100000001",
        "profitValue": 1500,
        "lossValue": 500.5,
        "productType": ["DELIVERY", "INTRADAY"],
        "enableKillSwitch": True,
    }
    assert (len(posted.calls), len(deleted.calls)) == (1, 1)


@pytest.mark.parametrize("spelling", ["enable_kill_switch", "enableKillSwitch"])
@pytest.mark.parametrize("amounts", [("1500.00", "500.00"), (1500.0, 500)])
async def test_a_pnl_exit_is_read_in_both_versions(spelling: str, amounts: tuple[Any, Any]) -> None:
    row = {"pnlExitStatus": "ACTIVE", "profit": amounts[0], "loss": amounts[1], "productType": ["INTRADAY"]}
    with respx.mock(base_url=API) as server:
        server.get("/pnlExit").respond(json={**row, spelling: True})
        async with dhan() as broker:
            found = await broker.pnl_exit()

    products = frozenset({Product.INTRADAY})
    assert found == PnlExit(profit=Decimal(1500), loss=Decimal(500), products=products, kill_switch=True)


async def test_a_pnl_exit_that_is_off_is_none_and_another_status_an_error() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/pnlExit").side_effect = [
            httpx.Response(200, json={"pnlExitStatus": "DISABLED"}),
            httpx.Response(200, json={"pnlExitStatus": "PERHAPS"}),
        ]
        async with dhan() as broker:
            assert await broker.pnl_exit() is None
            with pytest.raises(WireFormatError):
                await broker.pnl_exit()


def past_trade(**changes: Any) -> dict[str, Any]:
    return {
        "dhanClientId": "1100000001",
        "orderId": "1022",
        "exchangeOrderId": "1100",
        "exchangeTradeId": "0",
        "transactionType": "BUY",
        "exchangeSegment": "NSE_EQ",
        "productType": "CNC",
        "orderType": "LIMIT",
        "tradingSymbol": None,
        "customSymbol": "Reliance Industries",
        "securityId": "2885",
        "tradedQuantity": 4,
        "tradedPrice": 1402.35,
        "isin": "INE002A01018",
        "instrument": "EQUITY",
        "sebiTax": 0.0056,
        "stt": 6.0,
        "brokerageCharges": 0,
        "serviceTax": 0.03,
        "exchangeTransactionCharges": 0.1722,
        "stampDuty": 1,
        "createTime": "NA",
        "updateTime": "NA",
        "exchangeTime": "2026-09-02 10:00:46",
        "drvExpiryDate": "NA",
        "drvOptionType": "NA",
        "drvStrikePrice": 0,
        **changes,
    }


async def test_the_trade_history_is_read_page_by_page_until_an_empty_one() -> None:
    later = past_trade(orderId="1023", exchangeTime="2026-09-01 10:00:46")
    with respx.mock(base_url=API) as server:
        server.get("/trades/2026-09-01/2026-09-15/0").respond(json=[past_trade()])
        server.get("/trades/2026-09-01/2026-09-15/1").respond(json=[later])
        server.get("/trades/2026-09-01/2026-09-15/2").respond(json=[])
        async with dhan() as broker:
            found = await broker.trade_history(**DAY)

    assert [each.trade.order_id for each in found] == ["1023", "1022"]
    assert (found[0].trade.instrument, found[0].trade.id) == (RELIANCE, "0")
    assert (found[0].stt, found[0].charges) == (Decimal(6), Decimal("7.2078"))


async def test_a_derivative_of_the_past_is_not_taken_for_the_one_that_bears_its_id_now() -> None:
    terms = {"exchangeSegment": "NSE_FNO", "securityId": "40001", "productType": "MARGIN", "drvStrikePrice": 25000}
    rows = [past_trade(**terms), past_trade(**terms, orderId="9", drvExpiryDate="2026-09-29 00:00:00")]
    with respx.mock(base_url=API) as server:
        server.get(url__regex=".*/0$").respond(json=rows)
        server.get(url__regex=".*/1$").respond(json=[])
        async with dhan() as broker:
            unsaid, said = await broker.trade_history(**DAY)

    assert unsaid.trade.instrument.kind is InstrumentKind.UNLISTED
    assert said.trade.instrument == OPTION


async def test_a_page_that_comes_again_is_an_error_and_days_have_an_order() -> None:
    with respx.mock(base_url=API) as server:
        server.get(url__regex=".*/trades/.*").respond(json=[past_trade()])
        async with dhan() as broker:
            with pytest.raises(WireFormatError, match="page 0"):
                await broker.trade_history(**DAY)
            with pytest.raises(ConfigurationError):
                await broker.ledger(start=date(2026, 9, 2), end=date(2026, 9, 1))


LINE = {
    "dhanClientId": "1100000001",
    "narration": "TRADE BILL",
    "voucherdate": "Sep 02, 2026",
    "exchange": "NSE-CAPITAL",
    "voucherdesc": "BILL",
    "vouchernumber": "2026000012345",
    "debit": "14030.10",
    "credit": "0.00",
    "runbal": "84409.90",
}


@pytest.mark.parametrize("payload", [LINE, [LINE], [LINE, {**LINE, "voucherdate": "Jan 01, 1970", "runbal": "0"}]])
async def test_the_ledger_is_one_object_or_many(payload: Any) -> None:
    with respx.mock(base_url=API) as server:
        route = server.get("/ledger").respond(json=payload)
        async with dhan() as broker:
            lines = await broker.ledger(**DAY)

    assert str(route.calls.last.request.url.query, "ascii") == "from-date=2026-09-01&to-date=2026-09-15"
    assert (lines[0].on, lines[0].debit, lines[0].balance) == (
        date(2026, 9, 2),
        Decimal("14030.10"),
        Decimal("84409.90"),
    )
    assert [line.on for line in lines[1:]] == [None] * (len(lines) - 1)


async def test_a_line_of_the_ledger_without_a_date_is_an_error() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/ledger").respond(json=[{**LINE, "voucherdate": "yesterday"}])
        async with dhan() as broker:
            with pytest.raises(WireFormatError, match="no date"):
                await broker.ledger(**DAY)
