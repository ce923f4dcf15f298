"""A postback is read by the mapping of the order book."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dhan_kit import RELIANCE, Table, order_row
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.brokers.dhan.orders.postback import read_postback
from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.errors import WireFormatError


def postback(**changes: Any) -> bytes:
    row = order_row(
        **{"orderStatus": "TRADED", "legName": None, "drvExpiryDate": None, "omsErrorCode": None, **changes}
    )
    for absent in ("remainingQuantity", "averageTradedPrice", "exchangeOrderId", "filledQty"):
        del row[absent]
    return json.dumps({**row, "omsErrorDescription": None, "filled_qty": changes.get("filled_qty", 10)}).encode()


def test_a_postback_is_an_order() -> None:
    order = read_postback(postback(), instruments=Table())

    assert (order.instrument, order.client_order_id) == (RELIANCE, "st1-42")
    assert (order.status, order.filled_quantity, order.average_price) == (OrderStatus.FILLED, 10, None)


def test_a_partial_fill_is_told_by_the_quantities() -> None:
    order = read_postback(postback(orderStatus="PENDING", filled_qty=4), instruments=Table())

    assert (order.status, order.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, 4)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"orderId": "1"}', b"\xff", "nonsense"])
def test_what_is_no_postback_is_an_error(body: bytes | str) -> None:
    with pytest.raises(WireFormatError):
        read_postback(body, instruments=Table())


@given(body=st.binary(max_size=80) | st.text(max_size=80))
def test_any_body_is_an_order_or_unreadable(body: bytes | str) -> None:
    try:
        order = read_postback(body, instruments=Table())
    except WireFormatError:
        return
    assert isinstance(order, Order)
