"""Orders of the simulated exchange that change their kind, positions that change their product, and the close."""

from __future__ import annotations

from decimal import Decimal

import pytest
from simulated import ACME, MONDAY, OPTION, tick

from hybridbroker.domain.orders import LimitOrder, OrderStatus, OrderType, Product, Side, StopLimitOrder
from hybridbroker.errors import InvalidOrder, OrderRejected
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.clock import ManualClock


def exchange(*, leverage: int = 1, cash: int = 10_000) -> SimulatedExchange:
    market = SimulatedExchange(cash=Decimal(cash), clock=ManualClock(MONDAY), leverage=Decimal(leverage))
    market.on_tick(tick(100))
    return market


def rows(market: SimulatedExchange) -> dict[str, tuple[int, int, Decimal]]:
    return {str(each.product): (each.quantity, each.bought_quantity, each.average_price) for each in market.positions()}


def test_limit_order_becomes_a_stop_that_waits() -> None:
    market = exchange()
    order = market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="90"))

    changed = market.modify(order.id, kind=OrderType.STOP_LIMIT, price=Decimal(106), trigger_price=Decimal(105))
    market.on_tick(tick(104))
    before = market.order(order.id).status
    market.on_tick(tick(105))

    assert (changed.type, changed.status, changed.trigger_price) == (
        OrderType.STOP_LIMIT,
        OrderStatus.TRIGGER_PENDING,
        Decimal(105),
    )
    assert before is OrderStatus.TRIGGER_PENDING
    assert market.order(order.id).status is OrderStatus.FILLED


def test_stop_becomes_a_protected_market_order() -> None:
    market = exchange()
    order = market.place(StopLimitOrder(ACME, Side.BUY, quantity=10, price="106", trigger_price="105"))

    changed = market.modify(order.id, kind=OrderType.MARKET)

    assert (changed.type, changed.status, changed.average_price) == (
        OrderType.MARKET,
        OrderStatus.FILLED,
        Decimal(100),
    )
    assert changed.price is not None


def test_kind_without_its_prices_is_refused_and_nothing_changes() -> None:
    market = exchange()
    order = market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="90"))

    with pytest.raises(OrderRejected, match="needs trigger_price"):
        market.modify(order.id, kind=OrderType.STOP_LIMIT, price=Decimal(106))

    assert market.order(order.id) == order


def test_partly_filled_order_keeps_its_fills_in_another_kind() -> None:
    market = exchange()
    market.on_tick(tick(100, asks=((100, 4),)))
    order = market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="100"))

    changed = market.modify(order.id, kind=OrderType.STOP_LIMIT, price=Decimal(106), trigger_price=Decimal(105))

    assert (changed.filled_quantity, changed.remaining) == (4, 6)


def test_converted_position_is_held_as_the_other_product() -> None:
    market = exchange()
    market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="100", product=Product.INTRADAY))

    market.convert(ACME, 4, from_product=Product.INTRADAY, to_product=Product.DELIVERY)
    market.next_day()

    assert [each.quantity for each in market.holdings()] == [4]
    assert market.positions() == []


def test_conversion_moves_what_was_bought_at_its_cost() -> None:
    market = exchange()
    market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="100", product=Product.INTRADAY))
    before = (market.funds().available, market.pnl().net)

    market.convert(ACME, 4, from_product=Product.INTRADAY, to_product=Product.DELIVERY)

    assert rows(market) == {"intraday": (6, 6, Decimal(100)), "delivery": (4, 4, Decimal(100))}
    assert (market.funds().available, market.pnl().net) == before


def test_conversion_that_needs_more_money_than_there_is_changes_nothing() -> None:
    market = exchange(leverage=5, cash=1_000)
    market.place(LimitOrder(ACME, Side.BUY, quantity=40, price="100", product=Product.INTRADAY))

    with pytest.raises(OrderRejected, match="rupees more"):
        market.convert(ACME, 40, from_product=Product.INTRADAY, to_product=Product.DELIVERY)

    assert rows(market)["intraday"][0] == 40


@pytest.mark.parametrize(
    ("quantity", "error"), [pytest.param(11, InvalidOrder, id="too many"), pytest.param(-5, OrderRejected, id="short")]
)
def test_conversion_of_what_is_not_there_is_refused(quantity: int, error: type[Exception]) -> None:
    market = exchange()
    market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="100", product=Product.INTRADAY))

    with pytest.raises(error):
        market.convert(ACME, quantity, from_product=Product.INTRADAY, to_product=Product.DELIVERY)


def test_conversion_to_a_product_that_is_not_simulated_is_refused() -> None:
    market = exchange()

    with pytest.raises(OrderRejected, match="is not simulated"):
        market.convert(OPTION, 50, from_product=Product.INTRADAY, to_product=Product.DELIVERY)


def test_close_expires_what_rests_and_leaves_the_day() -> None:
    market = exchange()
    order = market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="90"))
    market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="100"))

    ended = market.expire()

    assert [(each.id, each.status) for each in ended] == [(order.id, OrderStatus.EXPIRED)]
    assert rows(market)["delivery"][0] == 10
    assert len(market.orders()) == 2
