"""Real answers of Dhan's servers, and the documentation's examples, become the right values."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
import respx
from dhan_kit import API, dhan, limit_order
from pydantic import SecretStr

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.orders import mapping, wire
from hybridbroker.brokers.dhan.orders import update_feed as feed
from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.domain.orders import OrderStatus, OrderType, Side
from hybridbroker.errors import ConfigurationError, OrderNotFound, OrderRejected, TokenExpired

T = TypeVar("T")


@pytest.fixture
def samples(shared_data: Path) -> Path:
    return shared_data / "samples" / "dhan_rest"


def recording(path: Path) -> dict[str, Any]:
    response: dict[str, Any] = json.loads(path.read_text())["response"]
    return response


async def replay(path: Path, call: Callable[[DhanBroker], Awaitable[T]]) -> T:
    """Answer every request with one recording, and make ``call``."""
    answer = recording(path)
    with respx.mock(base_url=API) as server:
        server.route().respond(answer["status"], content=answer["body_text"].encode())
        async with dhan() as broker:
            return await call(broker)


def profile(broker: DhanBroker) -> Awaitable[wire.Profile]:
    return broker._rest.profile()


@pytest.mark.parametrize("name", ["GET_v2_orders_200", "GET_v2_orders_952502167319_200"])
async def test_a_recorded_order_is_read(samples: Path, name: str) -> None:
    order = await replay(samples / "recorded" / f"{name}.json", lambda broker: broker.order("952502167319"))

    assert (order.instrument.id, order.instrument.kind) == ("DHAN:BSE_EQ:539310", InstrumentKind.UNLISTED)
    assert order.instrument.symbol == "THINKINK"
    assert (order.status, order.quantity, order.price) == (OrderStatus.OPEN, 20, Decimal("0.36"))
    assert (order.client_order_id, order.exchange_order_id, order.average_price, order.reason) == (None,) * 4
    assert str(order.placed_at) == "2025-02-16 16:04:37+05:30"


async def test_a_recorded_book_is_read(samples: Path) -> None:
    orders = await replay(samples / "recorded" / "GET_v2_orders_200.json", lambda broker: broker.orders())

    assert [order.id for order in orders] == ["952502167319"]


@pytest.mark.parametrize("name", ["GET_orders_200", "GET_v2_positions_200"])
async def test_a_recorded_empty_answer_is_empty(samples: Path, name: str) -> None:
    path = samples / "recorded" / f"{name}.json"

    assert list(await replay(path, lambda broker: broker.orders())) == []
    assert list(await replay(path, lambda broker: broker.positions())) == []


async def test_recorded_trades_are_read(samples: Path) -> None:
    path = samples / "recorded" / "GET_v2_trades_200.json"
    rows = json.loads(recording(path)["body_text"])

    trades = await replay(path, lambda broker: broker.trades())

    assert len(trades) == 35
    assert [trade.traded_at for trade in trades] == sorted(trade.traded_at for trade in trades)
    assert {(trade.id, trade.order_id, trade.quantity, trade.price) for trade in trades} == {
        (row["exchangeTradeId"], row["orderId"], row["tradedQuantity"], Decimal(str(row["tradedPrice"])))
        for row in rows
    }
    bought = sum(trade.quantity for trade in trades if trade.side is Side.BUY)
    assert bought == sum(row["tradedQuantity"] for row in rows if row["transactionType"] == "BUY")


@pytest.mark.parametrize(
    ("name", "available", "opening"),
    [("GET_v2_fundlimit_200", "1000000", "0"), ("GET_v2_fundlimit_200_2", "115.64", "115.64")],
)
async def test_recorded_funds_are_read(samples: Path, name: str, available: str, opening: str) -> None:
    funds = await replay(samples / "recorded" / f"{name}.json", lambda broker: broker.funds())

    assert (funds.available, funds.opening) == (Decimal(available), Decimal(opening))


@pytest.mark.parametrize("name", ["recorded/GET_v2_profile_200", "edited_or_doc_sample/GET_v2_profile_200_2"])
async def test_a_recorded_profile_is_read(samples: Path, name: str) -> None:
    read = await replay(samples / f"{name}.json", profile)

    assert read.dhan_client_id == "1000000001"


@pytest.mark.parametrize(
    ("name", "order_id"),
    [("recorded/POST_v2_orders_200", "752502167405"), ("edited_or_doc_sample/POST_v2_orders_200_2", "112111182198")],
)
async def test_a_recorded_acknowledgement_is_read(samples: Path, name: str, order_id: str) -> None:
    order = await replay(samples / f"{name}.json", lambda broker: broker.place_order(limit_order()))

    assert order.id == order_id
    assert order.is_open


async def test_a_recorded_refusal_is_a_rejection(samples: Path) -> None:
    with pytest.raises(OrderRejected, match="Missing required fields") as caught:
        await replay(samples / "recorded" / "POST_v2_orders_400.json", lambda broker: broker.place_order(limit_order()))

    assert caught.value.code == "DH-905"


async def test_a_recorded_401_is_a_dead_token(samples: Path) -> None:
    with pytest.raises(TokenExpired, match="DH-901"):
        await replay(samples / "recorded" / "GET_v2_orders_401.json", lambda broker: broker.orders())


@pytest.mark.parametrize("name", ["GET_v2_server_error_endpoint_404", "GET_v2_unknown_error_endpoint_404"])
async def test_a_recorded_unknown_path_is_a_wrong_setting(samples: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="DHAN_BASE_URL"):
        await replay(samples / "recorded" / f"{name}.json", lambda broker: broker.orders())


async def test_the_documented_cancellation_and_change_are_acknowledged(samples: Path) -> None:
    edited = samples / "edited_or_doc_sample"

    cancelled = await replay(edited / "DELETE_v2_orders_112111182198_200.json", _cancel)
    changed = await replay(edited / "PUT_v2_orders_112111182198_201.json", _change)

    assert (cancelled.order_status, changed.order_status) == ("CANCELLED", "PENDING")


def _cancel(broker: DhanBroker) -> Awaitable[wire.OrderAck]:
    return broker._rest.cancel("112111182198")


def _change(broker: DhanBroker) -> Awaitable[wire.OrderAck]:
    return broker._rest.modify("112111182198", {})


async def test_the_documented_order_is_read_and_the_empty_array_is_no_order(samples: Path) -> None:
    edited = samples / "edited_or_doc_sample"

    order = await replay(edited / "GET_v2_orders_112111182198_200.json", lambda broker: broker.order("112111182198"))
    with pytest.raises(OrderNotFound):
        await replay(edited / "GET_v2_orders_112111182198_200_2.json", lambda broker: broker.order("112111182198"))

    assert (order.type, order.price, order.client_order_id) == (OrderType.MARKET, None, "123abc678")


def documented(shared_data: Path, page: str, under: str) -> list[Any]:
    examples = json.loads((shared_data / "samples" / "doc_samples" / "dhan_docs_json_examples.json").read_text())
    return [each["example"] for each in examples[page] if each["under"] == under]


async def test_documented_trades_holdings_and_funds_are_read(shared_data: Path) -> None:
    (trades,) = documented(shared_data, "03-orders.md", "Trade Book > Trades of an Order")
    (holdings,) = documented(shared_data, "07-portfolio-and-positions.md", "Portfolio and Positions > Holdings")
    (funds,) = documented(shared_data, "10-funds-and-margin.md", "Multi Order > Fund Limit")
    with respx.mock(base_url=API) as server:
        server.get("/trades/112111182045").respond(json=trades)
        server.get("/holdings").respond(json=holdings)
        server.get("/fundlimit").respond(json=funds)
        async with dhan() as broker:
            (trade,) = await broker.trades("112111182045")
            (holding,) = await broker.holdings()
            money = await broker.funds()

    assert (trade.id, trade.quantity, trade.price) == ("15112111182045", 40, Decimal("3345.8"))
    assert (holding.instrument.isin, holding.quantity, holding.last_price) == ("INE001A01036", 1000, None)
    assert (money.available, money.used) == (Decimal(98440), Decimal(15202))


async def test_the_documented_postback_has_the_shape_of_the_book(shared_data: Path) -> None:
    (payload,) = documented(shared_data, "12-postback.md", "Postback > Postback Payload")

    order = mapping.order_from_wire(
        wire.OrderRow.read(payload, what="a postback"), instrument=mapping.unlisted("NSE_EQ", "11536", symbol=None)
    )

    assert (order.filled_quantity, order.status) == (1, OrderStatus.PARTIALLY_FILLED)


async def test_the_documented_login_is_what_we_send(shared_data: Path) -> None:
    (login,) = documented(shared_data, "13-live-order-update.md", "Establishing Connection > For Individual")
    token = AccessToken.of(client_id="1000000001", secret=SecretStr("REDACTED_JWT"))

    assert json.loads(feed.login_frame(token)) == login
