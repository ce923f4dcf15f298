"""Whatever is left standing, and however the market goes: never more is sold than is held, nor an exit sent twice."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import ACME, MONDAY, tick

from hybridbroker.domain.orders import LimitOrder, Product, Side
from hybridbroker.domain.portfolio import Holding
from hybridbroker.domain.standing import BracketOrder, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import InvalidOrder, OrderRejected
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.clock import ManualClock

PRICES = st.integers(90, 110)
UNITS = st.integers(1, 12)
BRACKETS = st.one_of(
    st.tuples(st.just("tick"), PRICES, st.one_of(st.none(), st.integers(0, 8))),
    st.tuples(st.just("bracket"), PRICES, UNITS),
    st.tuples(st.just("modify"), PRICES, UNITS),
    st.tuples(st.just("cancel"), st.sampled_from(list(LegRole)), UNITS),
    st.tuples(st.just("night"), st.none(), st.none()),
)
ANYTHING = st.one_of(BRACKETS, st.tuples(st.sampled_from(["gtt", "oco", "sell", "buy"]), PRICES, UNITS))


class Play:
    """A market in which everything happens; what is refused is refused."""

    def __init__(self, product: Product) -> None:
        shares = Holding(instrument=ACME, quantity=10, available_quantity=10, average_price=Decimal(90))
        self.product = product
        self.market = SimulatedExchange(
            cash=Decimal(20_000),
            clock=ManualClock(MONDAY),
            holdings=[shares] if product is Product.DELIVERY else [],
        )

    def do(self, name: str, price: Any, units: Any) -> None:
        with suppress(OrderRejected, InvalidOrder):
            getattr(self, name)(price, units)

    def tick(self, price: int, depth: int | None) -> None:
        levels = None if depth is None else ((float(price), depth),)
        self.market.on_tick(tick(price, bids=levels, asks=levels))

    def gtt(self, price: int, units: int) -> None:
        trigger = Trigger(price, price=max(1, price - 1))
        self.market.place_gtt(GttOrder(ACME, Side.SELL, quantity=units, trigger=trigger))

    def oco(self, price: int, units: int) -> None:
        self.market.place_gtt(
            OcoOrder(ACME, Side.SELL, quantity=units, target=Trigger(price + 3, price=price + 3), stop=Trigger(price))
        )

    def bracket(self, price: int, units: int) -> None:
        self.market.place_bracket(
            BracketOrder(
                ACME,
                Side.BUY,
                quantity=units,
                price=price,
                target_price=price + 3,
                stop_price=price - 3,
                trail=1,
                product=self.product,
            )
        )

    def sell(self, price: int, units: int) -> None:
        self.market.place(LimitOrder(ACME, Side.SELL, quantity=units, price=price))

    def buy(self, price: int, units: int) -> None:
        self.market.place(LimitOrder(ACME, Side.BUY, quantity=units, price=price, product=self.product))

    def modify(self, price: int, units: int) -> None:
        for each in self.market.brackets()[-2:]:
            self.market.modify_bracket(each.id, quantity=units, price=Decimal(price))
        for gtt in self.market.gtts()[-1:]:
            self.market.modify_gtt(gtt.id, quantity=units)

    def cancel(self, leg: LegRole, units: int) -> None:
        for each in self.market.brackets()[:units][-1:]:
            self.market.cancel_bracket(each.id, leg=leg)
        for gtt in self.market.gtts()[:units][-1:]:
            self.market.cancel_gtt(gtt.id)

    def night(self, _price: None, _units: None) -> None:
        self.market.next_day()


@settings(max_examples=150, deadline=None)
@given(st.lists(ANYTHING, max_size=40))
def test_delivery_never_sells_more_than_is_held(steps: list[tuple[str, Any, Any]]) -> None:
    play = Play(Product.DELIVERY)

    for name, price, units in steps:
        play.do(name, price, units)

        sold = sum(each.quantity for each in play.market.all_trades() if each.side is Side.SELL)
        bought = sum(each.quantity for each in play.market.all_trades() if each.side is Side.BUY)
        assert sold <= 10 + bought


@settings(max_examples=150, deadline=None)
@given(st.lists(BRACKETS, max_size=40))
def test_bracket_exits_never_close_more_than_the_entry_opened(steps: list[tuple[str, Any, Any]]) -> None:
    play = Play(Product.INTRADAY)

    for name, price, units in steps:
        play.do(name, price, units)

        for bracket in play.market.brackets():
            entry, target, stop = (each.filled_quantity or 0 for each in bracket.legs)
            assert target + stop <= entry
        assert all(each.quantity >= 0 for each in play.market.positions())
        assert all(each.is_live for each in _protecting(play.market))


def _protecting(market: SimulatedExchange) -> list[Any]:
    """The brackets that hold something, but for those whose exits were cancelled by hand, refused, or died."""
    return [
        each
        for each in market.brackets()
        if (each.legs[0].filled_quantity or 0) > sum(leg.filled_quantity or 0 for leg in each.legs[1:])
        and all(leg.reason is None for leg in each.legs[1:])
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(180, 220), max_size=25))
def test_oco_fires_on_the_first_price_that_reaches_a_leg(halves: list[int]) -> None:
    play = Play(Product.DELIVERY)
    play.market.on_tick(tick(100))
    gtt = play.market.place_gtt(OcoOrder(ACME, Side.SELL, quantity=1, target=Trigger("105"), stop=Trigger("95.5")))
    expected = next((each / 2 for each in halves if each / 2 >= 105 or each / 2 <= 95.5), None)

    for each in halves:
        play.market.on_tick(tick(each / 2))

    sold = [each.price for each in play.market.trades()]
    assert sold == ([] if expected is None else [Decimal(str(expected))])
    assert play.market.gtt(gtt.id).is_live is (expected is None)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(180, 240), max_size=25))
def test_trailing_stop_is_where_whole_steps_of_the_best_price_put_it(halves: list[int]) -> None:
    play = Play(Product.INTRADAY)
    play.market.on_tick(tick(100))
    placed = play.market.place_bracket(
        BracketOrder(
            ACME,
            Side.BUY,
            quantity=1,
            price=100,
            target_price=1000,
            stop_price=92,
            trail=3,
            product=Product.INTRADAY,
        )
    )
    stop, best, sold = 92.0, 100.0, None
    for each in halves:
        best = max(best, each / 2)
        stop = 92 + (best - 100) // 3 * 3
        if sold is None and each / 2 <= stop:
            sold = each / 2
            break

    for each in halves:
        play.market.on_tick(tick(each / 2))

    leg = play.market.bracket(placed.id).legs[2]
    assert leg.trigger_price == Decimal(stop)
    assert [float(each.price) for each in play.market.trades()][1:] == ([] if sold is None else [sold])
