"""Bracket orders of the simulated exchange: exits armed as the entry fills, which never close more than was opened."""

from __future__ import annotations

from datetime import time, timedelta
from decimal import Decimal

import pytest
from simulated import ACME, MONDAY, TUESDAY, tick

from hybridbroker.domain.orders import MarketOrder, OrderStatus, Product, Side
from hybridbroker.domain.standing import Bracket, BracketOrder, LegRole, LegStatus
from hybridbroker.errors import InvalidOrder, OrderNotFound, OrderRejected
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.clock import ManualClock


def exchange(*, cash: int = 100_000, square_off: time | None = None) -> tuple[SimulatedExchange, ManualClock]:
    clock = ManualClock(MONDAY)
    market = SimulatedExchange(cash=Decimal(cash), clock=clock, square_off=square_off)
    market.on_tick(tick(100))
    return market, clock


def bracket(
    *, price: str | None = "100", trail: str | None = None, product: Product = Product.INTRADAY, side: Side = Side.BUY
) -> BracketOrder:
    up, down = ("110", "95") if side is Side.BUY else ("90", "105")
    return BracketOrder(
        ACME,
        side,
        quantity=10,
        price=price,
        target_price=up,
        stop_price=down,
        trail=trail,
        product=product,
        client_order_id="br-1",
    )


def statuses(standing: Bracket) -> dict[str, str]:
    return {str(each.role): str(each.status) for each in standing.legs}


def net(market: SimulatedExchange) -> int:
    return sum(each.quantity for each in market.positions())


def test_exits_sleep_until_the_entry_fills() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket(price="99"))

    market.on_tick(tick(99.5))
    before = market.bracket(placed.id)
    market.on_tick(tick(99))

    assert statuses(before) == {"entry": "sent", "target": "inactive", "stop": "inactive"}
    assert statuses(market.bracket(placed.id)) == {"entry": "filled", "target": "armed", "stop": "armed"}
    assert market.find("br-1") == market.order(placed.id)
    assert market.find_bracket("br-1") == market.bracket(placed.id)


@pytest.mark.parametrize(
    ("side", "to", "ended"),
    [
        pytest.param(Side.BUY, 110, {"entry": "filled", "target": "filled", "stop": "cancelled"}, id="long target"),
        pytest.param(Side.BUY, 94, {"entry": "filled", "target": "cancelled", "stop": "filled"}, id="long stop"),
        pytest.param(Side.SELL, 90, {"entry": "filled", "target": "filled", "stop": "cancelled"}, id="short target"),
        pytest.param(Side.SELL, 106, {"entry": "filled", "target": "cancelled", "stop": "filled"}, id="short stop"),
    ],
)
def test_one_exit_closes_the_position_and_cancels_the_other(side: Side, to: float, ended: dict[str, str]) -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket(side=side))

    market.on_tick(tick(to))
    again = market.on_tick(tick(100)) + market.on_tick(tick(80)) + market.on_tick(tick(120))

    assert statuses(market.bracket(placed.id)) == ended
    assert net(market) == 0
    assert again == []


def test_partly_filled_entry_is_protected_for_what_it_holds_and_its_rest_cancelled_by_the_stop() -> None:
    market, _ = exchange()
    market.on_tick(tick(100, asks=((100, 4),)))
    placed = market.place_bracket(bracket())
    held = market.bracket(placed.id)

    changed = market.on_tick(tick(94, bids=((94, 50),), asks=((101, 5),)))

    assert [(each.role, each.quantity) for each in held.legs[1:]] == [(LegRole.TARGET, 4), (LegRole.STOP, 4)]
    assert {each.id: each.status for each in changed}[placed.id] is OrderStatus.CANCELLED
    assert statuses(market.bracket(placed.id)) == {"entry": "cancelled", "target": "cancelled", "stop": "filled"}
    assert net(market) == 0


def test_stop_takes_over_what_a_resting_target_did_not_sell() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket())
    market.on_tick(tick(110, bids=((110, 3),)))
    resting = market.bracket(placed.id)

    market.on_tick(tick(94, bids=((94, 50),)))

    target, stop = market.bracket(placed.id).legs[1:]
    assert (resting.legs[1].status, resting.legs[1].filled_quantity, resting.legs[2].quantity) == (
        LegStatus.SENT,
        3,
        7,
    )
    assert (target.status, target.filled_quantity) == (LegStatus.CANCELLED, 3)
    assert (stop.status, stop.filled_quantity) == (LegStatus.FILLED, 7)
    assert net(market) == 0


def test_trailing_stop_follows_by_whole_steps_and_never_back() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket(trail="2"))

    def stop_after(price: float) -> Decimal | None:
        market.on_tick(tick(price))
        return market.bracket(placed.id).legs[2].trigger_price

    assert [stop_after(each) for each in (101.95, 102, 105, 103, 106)] == [
        Decimal(95),
        Decimal(97),
        Decimal(99),
        Decimal(99),
        Decimal(101),
    ]
    market.on_tick(tick(101))
    assert statuses(market.bracket(placed.id))["stop"] == "filled"


def test_trail_of_zero_ends_the_trailing() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket(trail="2"))
    market.on_tick(tick(104))

    market.modify_bracket(placed.id, trail=Decimal(0))
    market.on_tick(tick(108))

    stop = market.bracket(placed.id).legs[2]
    assert (stop.trail, stop.trigger_price) == (None, Decimal(99))


def test_refused_entry_raises_and_leaves_an_ended_bracket() -> None:
    market, _ = exchange(cash=10)

    with pytest.raises(OrderRejected, match="rupees"):
        market.place_bracket(bracket())

    (left,) = market.brackets()
    assert statuses(left) == {"entry": "rejected", "target": "cancelled", "stop": "cancelled"}
    assert not left.is_live


def test_unfilled_entry_dies_at_the_close_with_its_exits() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket(price="99"))

    market.next_day()

    assert statuses(market.bracket(placed.id)) == {"entry": "expired", "target": "cancelled", "stop": "cancelled"}


def test_delivery_bracket_protects_across_the_night() -> None:
    market, clock = exchange()
    placed = market.place_bracket(bracket(product=Product.DELIVERY))
    clock.advance((TUESDAY - MONDAY).total_seconds())

    market.advance()
    night = market.bracket(placed.id)
    market.on_tick(tick(94))

    assert statuses(night) == {"entry": "filled", "target": "armed", "stop": "armed"}
    assert statuses(market.bracket(placed.id))["stop"] == "filled"
    assert market.holdings() == []


def test_squared_off_position_disarms_its_exits() -> None:
    market, clock = exchange(square_off=time(15, 15))
    placed = market.place_bracket(bracket())
    clock.advance(timedelta(hours=5, minutes=30).total_seconds())

    market.advance()

    assert statuses(market.bracket(placed.id)) == {"entry": "filled", "target": "cancelled", "stop": "cancelled"}
    assert net(market) == 0
    assert market.on_tick(tick(94)) == []


def test_cancelling_the_entry_takes_everything_that_is_left() -> None:
    market, _ = exchange()
    market.on_tick(tick(100, asks=((100, 4),)))
    placed = market.place_bracket(bracket())

    cancelled = market.cancel_bracket(placed.id)

    assert statuses(cancelled) == {"entry": "cancelled", "target": "cancelled", "stop": "cancelled"}
    assert net(market) == 4


def test_cancelled_exit_is_gone_for_good_and_the_other_stays() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket())

    market.cancel_bracket(placed.id, leg=LegRole.TARGET)
    market.on_tick(tick(115))
    kept = market.bracket(placed.id)
    market.on_tick(tick(94))

    assert statuses(kept) == {"entry": "filled", "target": "cancelled", "stop": "armed"}
    assert statuses(market.bracket(placed.id))["stop"] == "filled"


def test_entry_and_exits_change_until_they_are_sent() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket(price="98"))

    market.modify_bracket(placed.id, quantity=20, price=Decimal(100), target_price=Decimal(112), stop_price=Decimal(97))
    filled = market.bracket(placed.id)
    market.modify_bracket(placed.id, stop_price=Decimal(101))

    assert [(str(each.status), each.quantity) for each in filled.legs] == [("filled", 20), ("armed", 20), ("armed", 20)]
    assert (filled.legs[1].trigger_price, filled.legs[2].trigger_price) == (Decimal(112), Decimal(97))
    assert market.bracket(placed.id).legs[2].trigger_price == Decimal(101)


def test_changes_that_come_too_late_or_are_wrong_change_nothing() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket())
    before = market.bracket(placed.id)

    with pytest.raises(OrderRejected, match="its terms cannot change"):
        market.modify_bracket(placed.id, quantity=20)
    with pytest.raises(InvalidOrder):
        market.modify_bracket(placed.id, stop_price=Decimal(111))
    with pytest.raises(OrderNotFound):
        market.modify_bracket("nope", quantity=20)

    assert market.bracket(placed.id) == before


def test_stop_of_shares_sold_elsewhere_is_rejected_and_sells_nothing() -> None:
    market, _ = exchange()
    placed = market.place_bracket(bracket(product=Product.DELIVERY))
    market.place(MarketOrder(ACME, Side.SELL, quantity=6))

    market.on_tick(tick(94))

    stop = market.bracket(placed.id).legs[2]
    assert stop.status is LegStatus.REJECTED
    assert "4 are free" in (stop.reason or "")
    assert net(market) == 4
