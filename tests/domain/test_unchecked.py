"""Values made without their checks are the same values."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from hybridbroker import Candle, LimitOrder, MarketOrder, Order, OrderRequest, OrderStatus, Side
from hybridbroker.domain.unchecked import Unchecked
from hybridbroker.testing.factories import make_instrument, make_order

SHARE = make_instrument(symbol="AAA")


def test_a_value_made_unchecked_is_that_of_the_class_frozen_and_all() -> None:
    order = make_order(instrument=SHARE)

    made = Unchecked(Order)(*(getattr(order, each.name) for each in attrs.fields(Order)))

    assert type(made) is Order
    assert (made, hash(made)) == (order, hash(order))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.quantity = 1  # type: ignore[misc]


def test_a_change_leaves_the_rest_and_the_original_as_they_were() -> None:
    order = make_order(instrument=SHARE)

    changed = Unchecked(Order).changed(order, status=OrderStatus.CANCELLED, reason="enough")

    assert changed == attrs.evolve(order, status=OrderStatus.CANCELLED, reason="enough")
    assert order == make_order(instrument=SHARE)


@pytest.mark.parametrize(
    "request_",
    [
        MarketOrder(SHARE, Side.BUY, quantity=1),
        LimitOrder(SHARE, Side.SELL, quantity=2, price=Decimal(100)),
    ],
)
def test_a_changed_request_stays_of_its_kind(request_: OrderRequest) -> None:
    named = Unchecked(OrderRequest).changed(request_, client_order_id="a-name")

    assert type(named) is type(request_)
    assert named == attrs.evolve(request_, client_order_id="a-name")


def test_every_field_has_to_be_given() -> None:
    with pytest.raises(TypeError):
        Unchecked(Candle)(SHARE)


def test_a_draft_can_be_set_until_it_is_frozen() -> None:
    orders, order = Unchecked(Order), make_order(instrument=SHARE)
    draft = orders.draft(*(getattr(order, each.name) for each in attrs.fields(Order)))

    draft.reason = "late"  # type: ignore[misc]
    made = orders.frozen(draft)

    assert made is draft
    assert made == attrs.evolve(order, reason="late")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.reason = "later"  # type: ignore[misc]


def test_rows_need_columns_of_one_length() -> None:
    columns = [[getattr(make_order(instrument=SHARE), each.name)] * 2 for each in attrs.fields(Order)]

    assert list(Unchecked(Order).rows(*columns)) == [make_order(instrument=SHARE)] * 2
    with pytest.raises(ValueError, match="shorter"):
        list(Unchecked(Order).rows(*columns[:-1], [""]))
