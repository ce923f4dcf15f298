"""What the reading calls of DhanBroker send, and what they make of every answer Dhan is known to give."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx
from dhan_kit import API, CLIENT, OPTION, RELIANCE, TOKEN, dhan, jwt, order_row, refusal
from pydantic import SecretStr

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.domain.orders import OrderStatus
from hybridbroker.errors import (
    AuthenticationError,
    HybridBrokerError,
    OrderNotFound,
    ServiceUnavailable,
    TokenExpired,
    WireFormatError,
)

UNKNOWN_EXTERNAL = httpx.Response(404, json=refusal("Incorrect request for order and cannot be processed"))


@pytest.fixture
async def broker() -> AsyncIterator[DhanBroker]:
    async with dhan() as opened:
        yield opened


@pytest.fixture
def server() -> Any:
    with respx.mock(base_url=API, assert_all_called=False) as mock:
        yield mock


async def test_every_call_carries_token_and_client_id(server: respx.MockRouter, broker: DhanBroker) -> None:
    route = server.get("/orders").respond(json=[])

    await broker.orders()

    sent = route.calls.last.request.headers
    assert (sent["access-token"], sent["client-id"], sent["accept"]) == (TOKEN, CLIENT, "application/json")
    assert "authorization" not in sent


async def test_orders_come_oldest_first(server: respx.MockRouter, broker: DhanBroker) -> None:
    rows = [order_row(orderId=str(number), createTime=f"2026-09-15 09:2{number}:00") for number in (3, 1, 2)]
    server.get("/orders").respond(json=rows)

    assert [order.id for order in await broker.orders()] == ["1", "2", "3"]


async def test_an_order_of_an_unmapped_instrument_is_shown(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/orders").respond(json=[order_row(exchangeSegment="NSE_FNO", securityId="45548", tradingSymbol="X")])

    (order,) = await broker.orders()

    assert (order.instrument.id, order.instrument.kind) == ("DHAN:NSE_FNO:45548", InstrumentKind.UNLISTED)


async def test_an_order_of_a_reused_derivative_id_is_not_shown_as_the_wrong_contract(
    server: respx.MockRouter, broker: DhanBroker
) -> None:
    terms = {"exchangeSegment": "NSE_FNO", "securityId": "40001", "productType": "MARGIN"}
    server.get("/orders").respond(
        json=[
            order_row(**terms, orderId="1", drvExpiryDate="2026-09-29", drvStrikePrice=25000.0),
            order_row(**terms, orderId="2", drvExpiryDate="2026-10-06", drvStrikePrice=25000.0),
        ]
    )

    right, other = await broker.orders()

    assert right.instrument == OPTION
    assert other.instrument.id == "DHAN:NSE_FNO:40001"


async def test_a_book_with_an_unknown_status_is_read(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/orders").respond(json=[order_row(orderStatus="HIBERNATING")])

    (order,) = await broker.orders()

    assert (order.status, order.raw) == (OrderStatus.UNKNOWN, "HIBERNATING")


async def test_a_book_with_an_unreadable_row_is_refused_rather_than_shortened(
    server: respx.MockRouter, broker: DhanBroker
) -> None:
    server.get("/orders").respond(json=[order_row(), order_row(orderId="7", productType="FUTURISTIC")])

    with pytest.raises(WireFormatError, match=r"order 7.*FUTURISTIC"):
        await broker.orders()


async def test_one_order_is_found_beside_an_unreadable_one(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/orders/3226091500012").respond(json=[])
    server.get("/orders").respond(json=[order_row(orderId="7", productType="FUTURISTIC"), order_row()])

    assert (await broker.order("3226091500012")).instrument == RELIANCE


@pytest.mark.parametrize("payload", [order_row(), [order_row()]], ids=["object", "array"])
async def test_order_by_id_may_come_as_object_or_array(
    server: respx.MockRouter, broker: DhanBroker, payload: Any
) -> None:
    server.get("/orders/3226091500012").respond(json=payload)

    assert (await broker.order("3226091500012")).client_order_id == "st1-42"


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, json=[]), UNKNOWN_EXTERNAL, httpx.Response(500, json=refusal("Incorrect request for order"))],
    ids=["empty array", "404", "sandbox 500"],
)
async def test_an_unknown_order_is_looked_up_in_the_book_before_it_is_called_unknown(
    server: respx.MockRouter, broker: DhanBroker, answer: httpx.Response
) -> None:
    server.get("/orders/77").mock(return_value=answer)
    book = server.get("/orders").respond(json=[order_row()])

    with pytest.raises(OrderNotFound, match="77"):
        await broker.order("77")

    assert book.call_count == 1


@pytest.mark.parametrize("order_id", ["../positions", "", "1 2", "١٢", "1/2"])
async def test_what_is_no_order_id_is_not_asked_for(
    server: respx.MockRouter, broker: DhanBroker, order_id: str
) -> None:
    with pytest.raises(OrderNotFound):
        await broker.order(order_id)

    assert not server.calls


@pytest.mark.parametrize("payload", [order_row(), [order_row()]], ids=["object", "array"])
async def test_an_order_is_found_by_its_client_order_id(
    server: respx.MockRouter, broker: DhanBroker, payload: Any
) -> None:
    server.get("/orders/external/st1-42").respond(json=payload)

    found = await broker.find_order("st1-42")

    assert found is not None
    assert found.id == "3226091500012"


async def test_an_order_in_transit_is_found_in_the_book(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/orders/external/st1-42").mock(return_value=UNKNOWN_EXTERNAL)
    server.get("/orders").respond(json=[order_row(orderStatus="TRANSIT"), order_row(orderId="8", correlationId="NA")])

    found = await broker.find_order("st1-42")

    assert found is not None
    assert found.status is OrderStatus.PENDING


async def test_of_two_orders_with_one_client_order_id_the_newer_is_found(
    server: respx.MockRouter, broker: DhanBroker
) -> None:
    rows = [order_row(orderId=str(number), createTime=f"2026-09-15 09:2{number}:00") for number in (1, 3, 2)]
    server.get("/orders/external/st1-42").mock(return_value=UNKNOWN_EXTERNAL)
    server.get("/orders").respond(json=rows)

    found = await broker.find_order("st1-42")

    assert found is not None
    assert found.id == "3"


async def test_an_order_nobody_shows_is_none(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/orders/external/st1-42").mock(return_value=UNKNOWN_EXTERNAL)
    server.get("/orders").respond(json=[order_row(correlationId="st1-41")])

    assert await broker.find_order("st1-42") is None


async def test_an_answer_for_another_client_order_id_is_not_believed(
    server: respx.MockRouter, broker: DhanBroker
) -> None:
    server.get("/orders/external/st1-42").respond(json=order_row(correlationId="st1-4"))
    server.get("/orders").respond(json=[])

    assert await broker.find_order("st1-42") is None


@pytest.mark.parametrize("name", ["", "NA", "0"])
async def test_what_dhan_writes_for_no_id_is_not_searched(
    server: respx.MockRouter, broker: DhanBroker, name: str
) -> None:
    assert await broker.find_order(name) is None
    assert not server.calls


async def test_a_client_order_id_of_another_platform_is_escaped(server: respx.MockRouter, broker: DhanBroker) -> None:
    route = server.get(url__regex=r".*/orders/external/.*").mock(return_value=UNKNOWN_EXTERNAL)
    server.get("/orders").respond(json=[])

    await broker.find_order("my id/7?x=1")

    assert route.calls.last.request.url.raw_path == b"/v2/orders/external/my%20id%2F7%3Fx%3D1"


async def test_a_dead_token_is_not_taken_for_an_unknown_order(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/orders/external/st1-42").respond(400, json=refusal("Invalid Token"))

    with pytest.raises(TokenExpired):
        await broker.find_order("st1-42")


TRADE = {
    "orderId": "3226091500012",
    "exchangeOrderId": "1100000012345678",
    "exchangeTradeId": "50123456",
    "transactionType": "BUY",
    "exchangeSegment": "NSE_EQ",
    "productType": "CNC",
    "orderType": "LIMIT",
    "tradingSymbol": "RELIANCE",
    "customSymbol": None,
    "securityId": "2885",
    "tradedQuantity": 4,
    "tradedPrice": 1402.35,
    "exchangeTime": "2026-09-15 09:20:02",
}


async def test_trades_come_oldest_first(server: respx.MockRouter, broker: DhanBroker) -> None:
    earlier = {**TRADE, "exchangeTradeId": "50123455", "exchangeTime": "2026-09-15 09:19:00"}
    server.get("/trades").respond(json=[TRADE, earlier])

    assert [trade.id for trade in await broker.trades()] == ["50123455", "50123456"]


@pytest.mark.parametrize("payload", [TRADE, [TRADE]], ids=["object", "array"])
async def test_trades_of_one_order_may_come_as_object_or_array(
    server: respx.MockRouter, broker: DhanBroker, payload: Any
) -> None:
    server.get("/trades/3226091500012").respond(json=payload)

    (trade,) = await broker.trades("3226091500012")

    assert (trade.price, trade.instrument) == (Decimal("1402.35"), RELIANCE)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json=[]),
        httpx.Response(500, json=refusal("No holdings available", "DH-1111", "HOLDING_ERROR")),
        httpx.Response(400, json=refusal("No holdings available", "DH-1111", "DHOLDING_ERROR")),
    ],
)
async def test_an_empty_portfolio_is_empty_and_asked_for_once(
    server: respx.MockRouter, broker: DhanBroker, answer: httpx.Response
) -> None:
    route = server.get("/holdings").mock(return_value=answer)

    assert list(await broker.holdings()) == []
    assert route.call_count == 1


async def test_a_server_error_on_holdings_is_no_empty_portfolio(server: respx.MockRouter, broker: DhanBroker) -> None:
    route = server.get("/holdings").respond(500, json=refusal("oops", "DH-908"))

    with pytest.raises(ServiceUnavailable):
        await broker.holdings()

    assert route.call_count > 1


def holding(**changes: Any) -> dict[str, Any]:
    return {
        "exchange": "ALL",
        "tradingSymbol": "RELIANCE",
        "securityId": "2885",
        "isin": "INE002A01018",
        "totalQty": 12,
        "dpQty": 10,
        "t1Qty": 2,
        "mtf_t1_qty": 0,
        "mtf_qty": 0,
        "availableQty": 10,
        "collateralQty": 0,
        "avgCostPrice": 1388.4,
        "lastTradedPrice": 1402.5,
        **changes,
    }


async def test_holdings_are_read(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/holdings").respond(json=[holding()])

    (held,) = await broker.holdings()

    assert held.instrument == RELIANCE
    assert (held.quantity, held.available_quantity, held.unsettled_quantity) == (12, 10, 2)
    assert (held.average_price, held.last_price) == (Decimal("1388.4"), Decimal("1402.5"))


@pytest.mark.parametrize("change", [{"isin": "INE467B01029"}, {"securityId": "99999"}])
async def test_a_holding_whose_isin_disagrees_is_shown_as_unlisted(
    server: respx.MockRouter, broker: DhanBroker, change: dict[str, str]
) -> None:
    server.get("/holdings").respond(json=[holding(**change)])

    (held,) = await broker.holdings()

    assert held.instrument.kind is InstrumentKind.UNLISTED
    assert held.instrument.isin == change.get("isin", "INE002A01018")


async def test_a_holding_without_a_last_price_has_none(server: respx.MockRouter, broker: DhanBroker) -> None:
    row = holding()
    del row["lastTradedPrice"]
    server.get("/holdings").respond(json=[row])

    (held,) = await broker.holdings()

    assert held.last_price is None


async def test_positions_of_unmapped_instruments_are_shown(server: respx.MockRouter, broker: DhanBroker) -> None:
    row = {
        "tradingSymbol": "NIFTY-Sep2026-25000-PE",
        "securityId": "45548",
        "exchangeSegment": "NSE_FNO",
        "productType": "MARGIN",
        "buyAvg": 100.0,
        "sellAvg": 0.0,
        "costPrice": 100.0,
        "buyQty": 65,
        "sellQty": 0,
        "netQty": 65,
        "drvExpiryDate": "2026-09-29",
        "drvStrikePrice": 25000.0,
    }
    server.get("/positions").respond(json=[row])

    (position,) = await broker.positions()

    assert position.instrument.id == "DHAN:NSE_FNO:45548"
    assert (position.quantity, position.realised_pnl) == (65, None)


async def test_funds_are_read(server: respx.MockRouter, broker: DhanBroker) -> None:
    server.get("/fundlimit").respond(json={"availabelBalance": 98440.0, "utilizedAmount": 15202.5})

    read = await broker.funds()

    assert (read.available, read.used) == (Decimal(98440), Decimal("15202.5"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(httpx.Response(401, json=refusal("bad", "DH-901")), TokenExpired, id="401"),
        pytest.param(httpx.Response(401, content=b""), AuthenticationError, id="401 empty"),
        pytest.param(httpx.Response(400, json=refusal("Invalid Token")), TokenExpired, id="token under 906"),
        pytest.param(httpx.Response(200, content=b"{"), WireFormatError, id="cut short"),
        pytest.param(httpx.Response(200, content=b""), WireFormatError, id="empty"),
        pytest.param(httpx.Response(200, json=["text"]), WireFormatError, id="not rows"),
        pytest.param(httpx.Response(200, json={"status": "failed", "data": {"807": "x"}}), TokenExpired, id="in 200"),
        pytest.param(httpx.Response(503, content=b"<html><title>Down</title>"), ServiceUnavailable, id="page"),
        pytest.param(httpx.Response(302, headers={"location": "https://evil.test"}), WireFormatError, id="redirect"),
    ],
)
@pytest.mark.parametrize("call", ["orders", "trades", "positions", "holdings", "funds"])
async def test_no_read_mistakes_an_error_for_an_answer(
    server: respx.MockRouter, broker: DhanBroker, call: str, answer: httpx.Response, expected: type[HybridBrokerError]
) -> None:
    server.get("/fundlimit" if call == "funds" else f"/{call}").mock(return_value=answer)

    with pytest.raises(expected):
        await getattr(broker, call)()


async def test_a_token_over_by_its_own_date_is_not_even_sent(server: respx.MockRouter) -> None:
    async with dhan(access_token=SecretStr(jwt(iat=1_789_360_200, exp=1_789_446_600))) as broker:
        with pytest.raises(TokenExpired):
            await broker.funds()

    assert not server.calls
