"""An order request that can never be right does not come into being."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker import (
    Exchange,
    Instrument,
    InstrumentKind,
    InvalidOrder,
    LimitOrder,
    MarketOrder,
    OrderRequest,
    OrderStatus,
    Segment,
    Side,
    StopLimitOrder,
    StopMarketOrder,
)
from hybridbroker.domain.orders import CLIENT_ORDER_ID_LENGTH, make_client_order_id

NOW = datetime(2026, 9, 15, 3, 50, 1, tzinfo=UTC)


def instrument(**changes: Any) -> Instrument:
    values: dict[str, Any] = {
        "id": "NSE:RELIANCE",
        "exchange": Exchange.NSE,
        "segment": Segment.CASH,
        "kind": InstrumentKind.EQUITY,
        "symbol": "RELIANCE",
        "tick_size": Decimal("0.10"),
    }
    return Instrument(**(values | changes))


RELIANCE = instrument()
FUTURE = instrument(id="NSE:NIFTY:2026-11-24:FUT", kind=InstrumentKind.FUTURE, lot_size=65, freeze_quantity=1755)
NIFTY = instrument(id="NSE:NIFTY 50:INDEX", kind=InstrumentKind.INDEX)


def refused(
    kind: type[OrderRequest], fix: str, *, of: Instrument = RELIANCE, side: Side = Side.BUY, **terms: Any
) -> Any:
    return pytest.param(kind, of, side, {"quantity": 1} | terms, fix, id=fix)


@pytest.mark.parametrize(
    ("kind", "of", "side", "terms", "fix"),
    [
        refused(LimitOrder, "must be at least 1, was 0", quantity=0, price="1"),
        refused(LimitOrder, "must be at least 1, was -5", quantity=-5, price="1"),
        refused(LimitOrder, "whole number of units, was 1.5", quantity=1.5, price="1"),
        refused(LimitOrder, "whole number of units, was True", quantity=True, price="1"),
        refused(LimitOrder, "not a multiple of the lot size 65", of=FUTURE, quantity=70, price="1"),
        refused(LimitOrder, "above the freeze quantity 1755", of=FUTURE, quantity=1820, price="1"),
        refused(LimitOrder, "a LimitOrder needs price"),
        refused(MarketOrder, "takes no price; use LimitOrder", price="1"),
        refused(LimitOrder, "100.05 is off the 0.10-rupee tick", price="100.05"),
        refused(LimitOrder, "100.03 is off the 0.10-rupee tick", price=100.03),
        refused(LimitOrder, "nearest price is 100.10", price="100.08"),
        refused(LimitOrder, "price must be above zero, was 0", price="0"),
        refused(LimitOrder, "'NaN' is no amount", price="NaN"),
        refused(LimitOrder, "'cheap' is no amount", price="cheap"),
        refused(LimitOrder, "takes no trigger_price; use StopLimitOrder", price="1", trigger_price="1"),
        refused(StopMarketOrder, "a StopMarketOrder needs trigger_price"),
        refused(StopLimitOrder, "trigger at or above its price", side=Side.SELL, price="100", trigger_price="99"),
        refused(StopLimitOrder, "trigger at or below its price", price="100", trigger_price="101"),
        refused(LimitOrder, "must have 1 to 25 characters, has 26", price="1", client_order_id="x" * 26),
        refused(LimitOrder, "may hold letters, digits", price="1", client_order_id="a b"),
        refused(LimitOrder, "disclosed_quantity must be between 0 and 1", price="1", disclosed_quantity=2),
        refused(MarketOrder, "cannot be traded; it is index", of=NIFTY),
        refused(OrderRequest, "build a MarketOrder, LimitOrder"),
    ],
)
def test_impossible_order_is_refused_with_the_fix(
    kind: type[OrderRequest], of: Instrument, side: Side, terms: dict[str, Any], fix: str
) -> None:
    with pytest.raises(InvalidOrder) as refusal:
        kind(of, side, **terms)

    assert fix in str(refusal.value)


@pytest.mark.parametrize("price", ["100.1", 100, Decimal("100.10"), 100.1])
def test_limit_price_is_read_exactly(price: Any) -> None:
    order = LimitOrder(RELIANCE, Side.BUY, quantity=1, price=price)

    assert order.price == Decimal(str(price))


def test_a_request_keeps_the_id_it_was_given() -> None:
    order = LimitOrder(RELIANCE, Side.BUY, quantity=1, price=1, client_order_id="dip-1")

    assert order.named(NOW) is order


def test_a_request_without_an_id_gets_a_fresh_one() -> None:
    order = LimitOrder(RELIANCE, Side.BUY, quantity=1, price=1)

    assert order.named(NOW).client_order_id != order.named(NOW).client_order_id


@given(prefix=st.text("abcXYZ019", min_size=1, max_size=10))
def test_client_order_ids_fit_every_broker(prefix: str) -> None:
    made = make_client_order_id(NOW, prefix=prefix)

    assert len(made) <= CLIENT_ORDER_ID_LENGTH
    assert LimitOrder(RELIANCE, Side.BUY, quantity=1, price=1, client_order_id=made).client_order_id == made


@given(steps=st.integers(1, 5_000_000), tick=st.sampled_from(["0.01", "0.05", "0.10", "0.50", "1", "5"]))
def test_every_published_price_survives_the_bridge_from_float(steps: int, tick: str) -> None:
    price = steps * Decimal(tick)
    listed = instrument(tick_size=Decimal(tick))

    assert listed.price(float(price)) == price
    assert listed.is_on_tick(listed.price(float(price)))


@pytest.mark.parametrize("side", ["hold", None, 1])
def test_a_side_nobody_knows_is_refused_with_those_there_are(side: Any) -> None:
    with pytest.raises(InvalidOrder, match="buy, sell"):
        LimitOrder(RELIANCE, side, quantity=1, price=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "cheap"])
def test_what_is_no_number_is_no_price(value: Any) -> None:
    with pytest.raises(InvalidOrder, match="no price"):
        RELIANCE.price(value)


def test_no_status_is_both_open_and_final() -> None:
    from hybridbroker.testing.factories import make_order

    orders = [make_order(status=status) for status in OrderStatus]

    assert not any(order.is_open and order.is_final for order in orders)
    unknown = next(order for order in orders if order.status is OrderStatus.UNKNOWN)
    assert not unknown.is_open
    assert not unknown.is_final
