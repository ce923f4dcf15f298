"""Orders are written the way Dhan wants them, or refused here with what to change."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import attrs
import pytest
from dhan_kit import CLIENT, OPTION, RELIANCE, Table, limit_order, order_row
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.brokers.dhan import client
from hybridbroker.brokers.dhan.orders import terms
from hybridbroker.brokers.dhan.orders.mapping import order_from_wire
from hybridbroker.brokers.dhan.orders.wire import OrderRow
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderStatus,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.errors import InvalidOrder, Unsupported


def written(request: OrderRequest) -> dict[str, Any]:
    key = Table().key(request.instrument, "dhan")
    return terms.order_to_wire(request, key=key, client_id=CLIENT)


def resting(**changes: Any) -> Order:
    row = OrderRow.read(order_row(**changes), what="a row")
    return order_from_wire(row, instrument=RELIANCE)


def amend(order: Order, *, disclosed_quantity: int = 0, **changes: Any) -> OrderRequest:
    every: dict[str, Any] = {"quantity": None, "price": None, "trigger_price": None, "validity": None}
    return terms.amended(order, disclosed_quantity=disclosed_quantity, **{**every, **changes})


def test_limit_order_is_written_without_fields_that_do_not_apply() -> None:
    assert written(limit_order()) == {
        "dhanClientId": CLIENT,
        "correlationId": "st1-42",
        "transactionType": "BUY",
        "exchangeSegment": "NSE_EQ",
        "productType": "CNC",
        "orderType": "LIMIT",
        "validity": "DAY",
        "securityId": "2885",
        "quantity": 10,
        "price": Decimal("1402.5"),
        "afterMarketOrder": False,
    }


def test_market_order_is_written_with_price_zero() -> None:
    body = written(MarketOrder(RELIANCE, Side.SELL, quantity=1, product=Product.INTRADAY, validity=Validity.IOC))

    assert (body["orderType"], body["price"], body["transactionType"]) == ("MARKET", 0, "SELL")
    assert (body["productType"], body["validity"]) == ("INTRADAY", "IOC")
    assert "triggerPrice" not in body


def test_stop_limit_order_is_written_with_its_trigger() -> None:
    body = written(StopLimitOrder(RELIANCE, Side.BUY, quantity=1, price="1410", trigger_price="1409.5"))

    assert (body["orderType"], body["price"], body["triggerPrice"]) == ("STOP_LOSS", Decimal(1410), Decimal("1409.5"))


def test_stop_market_order_is_written_as_it_is_only_when_asked_for() -> None:
    request = StopMarketOrder(RELIANCE, Side.SELL, quantity=1, trigger_price="1390")

    with pytest.raises(Unsupported, match="raw_stop_market"):
        written(request)
    body = terms.order_to_wire(request, key=Table().key(RELIANCE, "dhan"), client_id=CLIENT, raw_stop_market=True)

    assert (body["orderType"], body["price"], body["triggerPrice"]) == ("STOP_LOSS_MARKET", 0, Decimal(1390))


def test_after_market_order_names_when_it_goes_out() -> None:
    body = written(limit_order(after_market=True))

    assert (body["afterMarketOrder"], body["amoTime"]) == (True, "OPEN")


def test_derivatives_are_written_in_units() -> None:
    body = written(LimitOrder(OPTION, Side.BUY, quantity=130, price="101.05", product=Product.MARGIN))

    assert (body["exchangeSegment"], body["securityId"], body["quantity"]) == ("NSE_FNO", "40001", 130)
    assert body["productType"] == "MARGIN"


@pytest.mark.parametrize("product", [Product.DELIVERY, Product.MTF])
def test_cash_products_are_refused_for_derivatives(product: Product) -> None:
    with pytest.raises(InvalidOrder, match=r"Product\.MARGIN"):
        written(LimitOrder(OPTION, Side.BUY, quantity=65, price="101.05", product=product))


def test_margin_product_is_refused_for_shares() -> None:
    with pytest.raises(InvalidOrder, match=r"Product\.DELIVERY"):
        written(limit_order(product=Product.MARGIN))


@pytest.mark.parametrize(("disclosed", "taken"), [(0, True), (3, False), (4, True), (10, True)])
def test_disclosed_quantity_must_be_more_than_thirty_percent(disclosed: int, *, taken: bool) -> None:
    request = limit_order(disclosed_quantity=disclosed)

    if taken:
        assert written(request).get("disclosedQuantity", 0) == disclosed
    else:
        with pytest.raises(InvalidOrder, match="at least 4"):
            written(request)


@given(steps=st.integers(min_value=1, max_value=10**9))
def test_every_price_reaches_the_wire_digit_by_digit(steps: int) -> None:
    request = LimitOrder(RELIANCE, Side.BUY, quantity=1, price=steps * Decimal("0.10"))

    sent = client._encode(written(request))

    assert json.loads(sent, parse_float=Decimal, parse_int=Decimal)["price"] == request.price


def test_a_price_in_exponent_form_is_written_plainly() -> None:
    assert b'"price":2000' in client._encode(written(limit_order(price=Decimal("2E+3"))))


def test_modification_states_every_term() -> None:
    order = resting(orderType="STOP_LOSS", price=1410, triggerPrice=1409.5, filledQty=4, orderStatus="PART_TRADED")

    request = amend(order, quantity=20, disclosed_quantity=10)

    assert terms.modification_to_wire(order.id, request, client_id=CLIENT) == {
        "dhanClientId": CLIENT,
        "orderId": order.id,
        "orderType": "STOP_LOSS",
        "validity": "DAY",
        "quantity": 20,
        "price": Decimal(1410),
        "triggerPrice": Decimal("1409.5"),
        "disclosedQuantity": 10,
    }


def test_modification_of_a_converted_market_order_treats_it_as_the_limit_it_became() -> None:
    converted = resting(orderType="LIMIT", price=1409.5, triggerPrice=1400.0)

    request = amend(converted, price=Decimal(1415))

    assert terms.modification_to_wire("1", request, client_id=CLIENT)["orderType"] == "LIMIT"
    assert request.trigger_price is None


def test_modification_of_a_resting_market_order_keeps_price_zero() -> None:
    request = amend(resting(orderType="MARKET", price=0.0), quantity=5)

    assert terms.modification_to_wire("1", request, client_id=CLIENT)["price"] == 0


@pytest.mark.parametrize(
    ("order", "changes", "told"),
    [
        pytest.param({}, {"price": Decimal("1402.55")}, "nearest price", id="off tick"),
        pytest.param({}, {"trigger_price": Decimal(1400)}, "StopLimitOrder", id="trigger of a limit order"),
        pytest.param({"orderType": "MARKET", "price": 0}, {"price": Decimal(1400)}, "LimitOrder", id="market price"),
        pytest.param({}, {"quantity": 0}, "at least 1", id="nothing"),
        pytest.param({"filledQty": 4}, {"quantity": 4}, "new total", id="no more than traded"),
        pytest.param({"orderStatus": "CANCELLED"}, {"quantity": 4}, "cannot be changed", id="over"),
        pytest.param(
            {"orderType": "STOP_LOSS", "price": 1410, "triggerPrice": 1409},
            {"price": Decimal(1408)},
            "trigger at or below",
            id="stop the wrong way round",
        ),
    ],
)
def test_a_modification_that_can_never_be_right_is_refused_here(
    order: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidOrder, match=told):
        amend(resting(**order), **changes)


def test_modification_that_would_disclose_too_little_is_refused() -> None:
    request = amend(resting(), quantity=20, disclosed_quantity=4)

    with pytest.raises(InvalidOrder, match="at least 7"):
        terms.modification_to_wire("1", request, client_id=CLIENT)


def test_stop_market_order_of_another_platform_is_not_changed() -> None:
    order = resting(orderType="STOP_LOSS_MARKET", price=0, triggerPrice=1390)

    with pytest.raises(Unsupported, match="cancel it first"):
        amend(order, quantity=5)


def test_order_whose_status_is_unknown_may_still_be_changed() -> None:
    order = attrs.evolve(resting(), status=OrderStatus.UNKNOWN)

    assert amend(order, price=Decimal(1400)).price == Decimal(1400)
