"""Which orders the limits let through: a table of one refusal each, and what counts as an exit."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from execution_support import ABC, START, XYZ, buy, sell

from hybridbroker.domain.orders import LimitOrder, MarketOrder, OrderRequest, Product, Side, StopLimitOrder
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.guard import (
    Facts,
    Limit,
    RiskLimits,
    entry_refusal,
    exit_refusal,
    exitable,
    pnl,
)
from hybridbroker.execution.records import Entry

OPEN = RiskLimits(duplicate_window=None, max_data_age=None)
MARKET = MarketOrder(ABC, Side.BUY, quantity=10)
HUNDRED = Decimal(100)


def limits(**terms: Any) -> RiskLimits:
    return RiskLimits(**{"duplicate_window": None, **terms})


def position(units: int, *, product: Product = Product.INTRADAY, **terms: Any) -> Position:
    return Position(instrument=ABC, product=product, quantity=units, average_price=HUNDRED, **terms)


ENTRY = Entry.of(buy(name="t-0"), at=START, value=None)

REFUSALS = [
    pytest.param(Limit.STOPPED, buy(), OPEN, {"stopped": {"a": "because"}}, "because", id="stopped"),
    pytest.param(Limit.UNRESOLVED, buy(), OPEN, {"unresolved": [ENTRY]}, "t-0.*may be live", id="unresolved"),
    pytest.param(Limit.INSTRUMENT, buy(), limits(instruments=[XYZ]), {}, "NSE:ABC", id="instrument"),
    pytest.param(Limit.PRODUCT, buy(), limits(products=["intraday"]), {}, "delivery.*intraday", id="product"),
    pytest.param(Limit.QUANTITY, buy(11), limits(max_order_quantity=10), {}, "11.*10", id="quantity"),
    pytest.param(Limit.ORDER_VALUE, buy(11), limits(max_order_value=1000), {}, r"1,100\.00.*1,000\.00", id="value"),
    pytest.param(
        Limit.ORDER_VALUE, MARKET, limits(max_order_value=999), {"price": HUNDRED}, r"1,000\.00", id="market value"
    ),
    pytest.param(Limit.STALE, MARKET, limits(max_order_value=999), {}, "no fresh price", id="no price to value at"),
    pytest.param(
        Limit.DAY_VALUE,
        buy(),
        limits(max_day_value=5000),
        {"value_today": Decimal("4000.01")},
        r"1,000\.00.*4,000\.01.*5,000\.00",
        id="day value",
    ),
    pytest.param(Limit.CLOSED, buy(), OPEN, {"is_open": False}, "NSE is closed", id="closed"),
    pytest.param(
        Limit.PER_MINUTE,
        buy(),
        limits(max_orders_per_minute=5),
        {"placed_within_minute": 5},
        "5 orders",
        id="per minute",
    ),
    pytest.param(Limit.DUPLICATE, buy(), RiskLimits(), {"twin": ENTRY}, "t-0", id="duplicate"),
    pytest.param(
        Limit.POSITIONS,
        buy(),
        limits(max_open_positions=2),
        {"instruments_held": frozenset({"a", "b"})},
        "2 positions",
        id="positions",
    ),
    pytest.param(
        Limit.LOSS, buy(), limits(max_daily_loss=500), {"pnl": Decimal(-500)}, r"500\.00.*500\.00", id="daily loss"
    ),
    pytest.param(Limit.LOSS, buy(), limits(max_daily_loss=500), {}, "could not be read", id="loss unknown"),
    pytest.param(Limit.STALE, buy(), RiskLimits(), {"stale_for": 45.0}, "45 s old.*30 s", id="stale"),
    pytest.param(
        Limit.COLLAR,
        buy(price="103.05"),
        limits(price_collar="0.03"),
        {"price": HUNDRED},
        r"103\.05 is more than 3.* above 100",
        id="collar buy",
    ),
    pytest.param(
        Limit.COLLAR,
        sell(price="96.95"),
        limits(price_collar="0.03"),
        {"price": HUNDRED},
        r"96\.95 is more than 3.* below 100",
        id="collar sell",
    ),
    pytest.param(Limit.STALE, buy(), limits(price_collar="0.03"), {}, "no fresh price", id="collar without price"),
]

ALLOWED = [
    pytest.param(buy(), RiskLimits(), {}, id="no facts, default limits"),
    pytest.param(buy(10), limits(max_order_quantity=10, max_order_value=1000), {}, id="exactly at the limit"),
    pytest.param(buy(), limits(max_day_value=5000), {"value_today": Decimal(4000)}, id="fills the day"),
    pytest.param(buy(), limits(instruments=["NSE:ABC"], products=[Product.DELIVERY]), {}, id="listed"),
    pytest.param(
        buy(), limits(max_open_positions=1), {"instruments_held": frozenset({"NSE:ABC"})}, id="adds to a position"
    ),
    pytest.param(buy(price="103.00"), limits(price_collar="0.03"), {"price": HUNDRED}, id="at the collar"),
    pytest.param(buy(price="50.00"), limits(price_collar="0.03"), {"price": HUNDRED}, id="a bid far below rests"),
    pytest.param(MARKET, limits(price_collar="0.03"), {"price": HUNDRED}, id="a market order has no price"),
    pytest.param(
        LimitOrder(ABC, Side.BUY, quantity=10, price="100", after_market=True), OPEN, {"is_open": False}, id="amo"
    ),
    pytest.param(
        StopLimitOrder(ABC, Side.BUY, quantity=10, price="151", trigger_price="150"),
        limits(price_collar="0.03"),
        {"price": HUNDRED},
        id="a stop is held against its trigger",
    ),
    pytest.param(buy(), limits(max_daily_loss=500), {"pnl": Decimal("-499.99")}, id="just above the loss"),
    pytest.param(
        LimitOrder(ABC, Side.BUY, quantity=10, price="100", after_market=True),
        limits(price_collar="0.03"),
        {"stale_for": 9999.0, "is_open": False},
        id="silence outside the session is normal",
    ),
]


@pytest.mark.parametrize(("limit", "request_", "bounds", "facts", "told"), REFUSALS)
def test_a_refusal_names_the_limit_and_the_numbers(
    limit: Limit, request_: OrderRequest, bounds: RiskLimits, facts: dict[str, Any], told: str
) -> None:
    refusal = entry_refusal(request_, bounds, Facts(**facts))

    assert refusal is not None
    assert refusal.limit is limit

    assert re.search(told, refusal.message)


@pytest.mark.parametrize(("request_", "bounds", "facts"), ALLOWED)
def test_what_no_limit_forbids_passes(request_: OrderRequest, bounds: RiskLimits, facts: dict[str, Any]) -> None:
    assert entry_refusal(request_, bounds, Facts(**facts)) is None


def test_an_exit_is_held_up_by_the_collar_alone() -> None:
    strict = limits(price_collar="0.03", max_order_value=1, max_daily_loss=1, instruments=[])

    assert exit_refusal(sell(price="97.00"), strict, Facts(price=HUNDRED, stopped={"a": "b"})) is None
    assert exit_refusal(sell(price="96.95"), strict, Facts(price=HUNDRED)) is not None
    assert exit_refusal(sell(price="1.00"), strict, Facts()) is None


@pytest.mark.parametrize(
    ("side", "product", "positions", "available", "claimed", "expected"),
    [
        pytest.param(Side.SELL, Product.INTRADAY, [10], 0, 0, 10, id="closes a long"),
        pytest.param(Side.BUY, Product.INTRADAY, [-10], 0, 0, 10, id="closes a short"),
        pytest.param(Side.BUY, Product.INTRADAY, [10], 0, 0, 0, id="adds to a long"),
        pytest.param(Side.SELL, Product.INTRADAY, [10], 0, 4, 6, id="part is claimed by another exit"),
        pytest.param(Side.SELL, Product.INTRADAY, [10], 0, 14, 0, id="all is claimed"),
        pytest.param(Side.SELL, Product.DELIVERY, [10], 5, 0, 15, id="bought today and held"),
        pytest.param(Side.SELL, Product.DELIVERY, [], 5, 0, 5, id="held"),
        pytest.param(Side.BUY, Product.DELIVERY, [-5], 5, 0, 0, id="shares sold from holdings are no short"),
        pytest.param(Side.SELL, Product.MARGIN, [], 5, 0, 0, id="another product"),
    ],
)
def test_exitable_is_what_closes_and_never_what_opens(
    side: Side, product: Product, positions: list[int], *, available: int, claimed: int, expected: int
) -> None:
    request = LimitOrder(ABC, side, quantity=1, price="100", product=product)
    held = [position(units, product=product) for units in positions]
    holdings = [Holding(instrument=ABC, quantity=available, available_quantity=available)]

    assert exitable(request, positions=held, holdings=holdings, claimed=claimed) == expected


def test_profit_and_loss_is_the_brokers_where_it_tells() -> None:
    told = position(10, realised_pnl=Decimal(5), unrealised_pnl=Decimal(-7))

    assert pnl([told], lambda _: None) == Decimal(-2)


def test_profit_and_loss_is_reckoned_where_the_broker_does_not_tell() -> None:
    untold = position(
        4,
        bought_quantity=10,
        bought_value=Decimal(1000),
        sold_quantity=6,
        sold_value=Decimal(630),
    )

    assert pnl([untold], lambda _: Decimal(90)) == Decimal(630 - 1000 + 4 * 90)


@pytest.mark.parametrize(
    "terms",
    [{"max_order_value": 0}, {"price_collar": "-1"}, {"max_order_value": 1.5}, {"max_orders_per_minute": 0}],
)
def test_a_limit_that_makes_no_sense_is_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RiskLimits(**terms)
