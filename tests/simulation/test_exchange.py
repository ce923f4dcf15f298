"""One account on a simulated market: orders, fills, money and shares."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import ACME, MONDAY, OPTION, TUESDAY, ZETA, share, tick

from hybridbroker.brokers.dhan import charges as dhan
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange
from hybridbroker.domain.market import MarketPhase, MarketStatus
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    OrderRequest,
    OrderStatus,
    OrderType,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.domain.portfolio import Holding
from hybridbroker.errors import OrderError, OrderNotFound, OrderRejected, Unsupported
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.simulation.statutory import schedule_with
from hybridbroker.testing.clock import ManualClock

BUY, SELL = Side.BUY, Side.SELL
CASH = Decimal(100_000)
DHAN = schedule_with(dhan.ROWS, name="dhan")


def exchange(*, price: float | None = 100.0, at: datetime = MONDAY, **terms: Any) -> SimulatedExchange:
    terms.setdefault("clock", ManualClock(at))
    made = SimulatedExchange(**{"cash": CASH, **terms})
    if price is not None:
        made.on_tick(tick(price))
    return made


def held(quantity: int, average: str = "90", instrument: Any = ACME) -> Holding:
    return Holding(
        instrument=instrument, quantity=quantity, available_quantity=quantity, average_price=Decimal(average)
    )


def limit(side: Side, quantity: int, price: str, **terms: Any) -> LimitOrder:
    return LimitOrder(terms.pop("instrument", ACME), side, quantity=quantity, price=price, **terms)


# Arriving and resting


def test_a_marketable_limit_order_fills_at_once_at_the_better_price() -> None:
    order = exchange().place(limit(BUY, 10, "100.50"))

    assert (order.status, order.average_price) == (OrderStatus.FILLED, Decimal(100))


def test_a_resting_order_fills_at_its_limit_when_the_market_comes_to_it() -> None:
    market = exchange()
    order = market.place(limit(BUY, 10, "99"))

    (filled,) = market.on_tick(tick(98.5))

    assert order.status is OrderStatus.OPEN
    assert (filled.id, filled.status, filled.average_price) == (order.id, OrderStatus.FILLED, Decimal(99))


def test_a_market_order_becomes_a_protected_limit_and_walks_the_depth() -> None:
    market = exchange()
    market.on_tick(tick(100, asks=((100.05, 6), (100.1, 2), (103, 99))))

    order = market.place(MarketOrder(ACME, BUY, quantity=10))

    assert (order.type, order.price) == (OrderType.MARKET, Decimal("101.00"))
    assert (order.status, order.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, 8)
    assert order.average_price == (6 * Decimal("100.05") + 2 * Decimal("100.10")) / 8


def test_what_market_protection_left_over_fills_when_the_price_comes_back() -> None:
    market = exchange()
    market.on_tick(tick(100, asks=((103, 99),)))
    order = market.place(MarketOrder(ACME, BUY, quantity=10))

    (filled,) = market.on_tick(tick(100.5, asks=((100.5, 99),)))

    assert order.status is OrderStatus.OPEN
    assert filled.status is OrderStatus.FILLED


def test_a_market_order_without_a_price_is_rejected() -> None:
    with pytest.raises(OrderRejected, match="no price of NSE:ACME is known today"):
        exchange(price=None).place(MarketOrder(ACME, BUY, quantity=1))


def test_a_price_of_yesterday_fills_nothing_today() -> None:
    market = exchange()

    order = market.place(limit(BUY, 10, "101"), at=TUESDAY)
    with pytest.raises(OrderRejected, match="known today"):
        market.place(MarketOrder(ACME, BUY, quantity=10), at=TUESDAY)
    (filled,) = market.on_tick(tick(100.5), at=TUESDAY)

    assert order.status is OrderStatus.OPEN
    assert filled.average_price == Decimal("100.50")


def test_depth_taken_by_one_order_is_gone_for_the_next() -> None:
    market = exchange()
    first = market.place(limit(BUY, 10, "99"))
    second = market.place(limit(BUY, 10, "99"))

    market.on_tick(tick(99, asks=((98.9, 12),)))

    assert market.order(first.id).filled_quantity == 10
    assert market.order(second.id).filled_quantity == 2


def test_the_first_tick_is_the_first_match_when_arrival_does_not_count() -> None:
    market = exchange(match_on_arrival=False)
    order = market.place(limit(BUY, 10, "101", validity=Validity.IOC))

    (filled,) = market.on_tick(tick(100.2))

    assert order.status is OrderStatus.OPEN
    assert filled.average_price == Decimal("100.20")


@pytest.mark.parametrize(
    ("asks", "status", "filled"),
    [
        pytest.param(((100.0, 99),), OrderStatus.FILLED, 10, id="all of it"),
        pytest.param(((100.0, 4),), OrderStatus.CANCELLED, 4, id="a part"),
        pytest.param(((101.0, 99),), OrderStatus.CANCELLED, 0, id="nothing"),
    ],
)
def test_immediate_or_cancel_leaves_nothing_resting(asks: Any, status: OrderStatus, filled: int) -> None:
    market = exchange()
    market.on_tick(tick(100, asks=asks))

    order = market.place(limit(BUY, 10, "100", validity=Validity.IOC))

    assert (order.status, order.filled_quantity) == (status, filled)


def test_a_stop_limit_sleeps_until_its_trigger_then_arrives() -> None:
    market = exchange(holdings=[held(10)])
    order = market.place(StopLimitOrder(ACME, SELL, quantity=10, price="94", trigger_price="95"))

    asleep = market.on_tick(tick(95.05))
    (woken,) = market.on_tick(tick(94.5))

    assert order.status is OrderStatus.TRIGGER_PENDING
    assert asleep == []
    assert (woken.status, woken.average_price) == (OrderStatus.FILLED, Decimal("94.50"))


def test_a_stop_limit_that_gaps_through_its_limit_rests_unfilled() -> None:
    market = exchange(holdings=[held(10)])
    market.place(StopLimitOrder(ACME, SELL, quantity=10, price="94", trigger_price="95"))

    (woken,) = market.on_tick(tick(90))

    assert (woken.status, woken.filled_quantity) == (OrderStatus.OPEN, 0)


def test_a_stop_market_is_protected_around_its_trigger() -> None:
    market = exchange(holdings=[held(10)])
    market.place(StopMarketOrder(ACME, SELL, quantity=10, trigger_price="95"))

    (woken,) = market.on_tick(tick(90))

    assert (woken.status, woken.price) == (OrderStatus.OPEN, Decimal("93.10"))


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tick_without_a_price_changes_nothing(price: float) -> None:
    market = exchange()
    market.place(limit(BUY, 10, "99"))

    assert market.on_tick(tick(price)) == []
    assert market.last_price(ACME) == Decimal(100)


# What is refused


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(limit(BUY, 2000, "100"), "needs 200000 rupees; 100000 are available", id="not enough cash"),
        pytest.param(limit(SELL, 1, "100"), "needs shares; 0 are free", id="short delivery"),
        pytest.param(limit(BUY, 1, "100", product=Product.MTF), "not simulated", id="margin trading"),
        pytest.param(limit(BUY, 1, "100", product=Product.MARGIN), "not simulated", id="shares carried forward"),
        pytest.param(
            LimitOrder(OPTION, BUY, quantity=50, price="5"), "not simulated", id="a derivative taken into delivery"
        ),
    ],
)
def test_an_order_the_account_may_not_place_is_rejected_and_kept_in_the_book(
    request_: OrderRequest, reason: str
) -> None:
    market = exchange()

    with pytest.raises(OrderRejected, match=reason):
        market.place(request_)

    (order,) = market.orders()
    assert (order.status, order.reason is not None) == (OrderStatus.REJECTED, True)
    assert market.funds().available == CASH


def test_submit_returns_a_refused_order_instead_of_raising() -> None:
    order = exchange().submit(limit(SELL, 1, "100"))

    assert order.status is OrderStatus.REJECTED


def test_derivatives_are_refused_where_charges_are_wanted() -> None:
    market = exchange(charges=DHAN)

    with pytest.raises(Unsupported, match="without charges"):
        market.place(LimitOrder(OPTION, BUY, quantity=50, price="5", product=Product.MARGIN))

    assert market.orders() == []


def test_options_trade_where_charges_are_not_wanted() -> None:
    market = exchange()
    market.on_tick(tick(5, instrument=OPTION))

    order = market.place(LimitOrder(OPTION, BUY, quantity=50, price="5", product=Product.MARGIN))

    assert order.status is OrderStatus.FILLED
    assert market.funds().available == CASH - 250


def test_open_orders_keep_their_rupees() -> None:
    market = exchange()
    market.place(limit(BUY, 600, "99"))

    with pytest.raises(OrderRejected, match="40600 are available"):
        market.place(limit(BUY, 500, "99"))

    assert market.funds().used == Decimal(59400)


def test_open_sales_keep_their_shares_on_either_exchange() -> None:
    market = exchange(holdings=[held(10)])
    market.place(limit(SELL, 6, "120"))

    with pytest.raises(OrderRejected, match="4 are free"):
        market.place(limit(SELL, 5, "120", instrument=share(exchange=Exchange.BSE)))


def test_a_price_outside_the_band_is_rejected() -> None:
    market = exchange()
    market.set_band(ACME, lower=Decimal(90), upper=Decimal(110))

    with pytest.raises(OrderRejected, match="outside the day's band of 90 to 110"):
        market.place(limit(BUY, 1, "110.05"))

    assert market.place(limit(BUY, 1, "110")).status is OrderStatus.FILLED


# Changing and cancelling


def test_modify_reprices_an_order_and_lets_it_arrive_anew() -> None:
    market = exchange()
    order = market.place(limit(BUY, 10, "99"))

    changed = market.modify(order.id, price=Decimal("100.50"), quantity=12)

    assert (changed.id, changed.status, changed.quantity) == (order.id, OrderStatus.FILLED, 12)
    assert changed.average_price == Decimal(100)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"price": Decimal("99.01")}, "off the 0.05-rupee tick", id="off the tick"),
        pytest.param({"quantity": 4}, "4 units are filled already", id="below what is filled"),
        pytest.param({"quantity": 5000}, "needs", id="more than the cash"),
    ],
)
def test_a_change_that_cannot_be_leaves_the_order_as_it_was(change: dict[str, Any], reason: str) -> None:
    market = exchange()
    market.on_tick(tick(100, asks=((99, 4),)))
    order = market.place(limit(BUY, 10, "99"))

    with pytest.raises(OrderRejected, match=reason):
        market.modify(order.id, **change)

    assert market.order(order.id) == order
    assert market.request(order.id) == limit(BUY, 10, "99")


def test_a_change_keeps_what_is_filled() -> None:
    market = exchange()
    market.on_tick(tick(100, asks=((99, 4),)))
    order = market.place(limit(BUY, 10, "99"))

    market.modify(order.id, quantity=6)
    (filled,) = market.on_tick(tick(98))

    assert (filled.status, filled.filled_quantity, filled.average_price) == (OrderStatus.FILLED, 6, Decimal(99))


def test_cancel_frees_the_rupees_and_is_idempotent() -> None:
    market = exchange()
    order = market.place(limit(BUY, 10, "99"))

    first = market.cancel(order.id)
    second = market.cancel(order.id)

    assert first == second
    assert first.status is OrderStatus.CANCELLED
    assert market.funds().available == CASH


def test_a_final_order_cannot_be_changed() -> None:
    market = exchange()
    order = market.place(limit(BUY, 10, "100"))

    with pytest.raises(OrderRejected, match="is filled"):
        market.modify(order.id, price=Decimal(101))


@pytest.mark.parametrize("call", [SimulatedExchange.order, SimulatedExchange.cancel, SimulatedExchange.modify])
def test_an_unknown_order_is_not_found(call: Callable[[SimulatedExchange, str], object]) -> None:
    with pytest.raises(OrderNotFound):
        call(exchange(), "no-such-order")


def test_find_returns_the_newest_order_of_a_client_order_id() -> None:
    market = exchange()
    market.place(limit(BUY, 1, "99", client_order_id="a"))
    newest = market.place(limit(BUY, 2, "99", client_order_id="a"))

    assert market.find("a") == newest
    assert market.find("b") is None


def test_the_same_calls_give_the_same_book() -> None:
    def play() -> list[object]:
        market = exchange(charges=DHAN)
        market.place(limit(BUY, 10, "100"))
        market.place(limit(BUY, 10, "99"))
        market.on_tick(tick(98))
        return [*market.all_orders(), *market.all_trades(), market.pnl()]

    assert play() == play()


# Positions, holdings, money


def test_a_delivery_round_trip_within_a_day() -> None:
    market = exchange()
    market.place(limit(BUY, 10, "100"))
    market.on_tick(tick(103))
    market.place(limit(SELL, 10, "103"))

    (position,) = market.positions()
    assert (position.quantity, position.realised_pnl, position.average_price) == (0, Decimal(30), Decimal(0))
    assert market.funds().available == CASH + 30
    assert market.holdings() == []


def test_a_purchase_is_a_position_then_an_unsettled_and_then_a_settled_holding() -> None:
    market = exchange()
    market.place(limit(BUY, 10, "100"))

    bought = market.positions()
    market.next_day()
    (unsettled,) = market.holdings()
    market.next_day()
    (settled,) = market.holdings()

    assert [each.quantity for each in bought] == [10]
    assert (unsettled.quantity, unsettled.unsettled_quantity, unsettled.available_quantity) == (10, 10, 10)
    assert (settled.quantity, settled.unsettled_quantity, settled.average_price) == (10, 0, Decimal(100))
    assert market.positions() == []


def test_a_sale_from_the_holdings_shows_as_a_short_position_and_realises_against_their_cost() -> None:
    market = exchange(holdings=[held(10, "90")])

    market.place(limit(SELL, 4, "100"))

    (position,) = market.positions()
    assert (position.quantity, position.average_price) == (-4, Decimal(100))
    assert position.realised_pnl == Decimal(40)
    assert [each.quantity for each in market.holdings()] == [6]


def test_an_intraday_short_keeps_its_margin_and_its_proceeds() -> None:
    market = exchange()
    market.place(limit(SELL, 100, "100", product=Product.INTRADAY))

    funds = market.funds()

    assert (funds.available, funds.used) == (CASH - 10_000, Decimal(10_000))
    assert [each.quantity for each in market.positions()] == [-100]


def test_leverage_lets_an_intraday_position_exceed_the_cash() -> None:
    market = exchange(leverage=Decimal(5))

    market.place(limit(BUY, 4000, "100", product=Product.INTRADAY))

    assert market.funds().available == CASH - 80_000


def test_closing_an_intraday_position_needs_no_rupees() -> None:
    market = exchange()
    market.place(limit(SELL, 1000, "100", product=Product.INTRADAY))

    order = market.place(limit(BUY, 1000, "150", product=Product.INTRADAY))

    assert order.status is OrderStatus.FILLED


def test_an_intraday_position_can_be_turned_around() -> None:
    market = exchange()
    market.place(limit(BUY, 10, "100", product=Product.INTRADAY))
    market.on_tick(tick(110))
    market.place(limit(SELL, 15, "110", product=Product.INTRADAY))

    (position,) = market.positions()
    assert (position.quantity, position.average_price, position.realised_pnl) == (-5, Decimal(110), Decimal(100))


def test_profit_is_gross_less_charges_and_marks_what_is_open() -> None:
    market = exchange(charges=DHAN)
    market.place(limit(BUY, 100, "100"))
    market.on_tick(tick(104))

    pnl = market.pnl()

    assert (pnl.realised, pnl.unrealised, pnl.charges) == (Decimal(0), Decimal(400), Decimal("12.38"))
    assert pnl.net == Decimal("387.62")


def test_charges_are_billed_as_contract_notes_of_days() -> None:
    market = exchange(charges=DHAN)
    market.place(limit(BUY, 100, "100"))
    market.on_tick(tick(100), at=TUESDAY)
    market.place(limit(SELL, 100, "100"), at=TUESDAY)

    charges = market.charges()

    assert charges.total == Decimal("37.51")
    assert (charges.percentage, charges.depository) == (Decimal("22.76"), Decimal("14.75"))
    assert market.funds().available == CASH - Decimal("37.51")


# Time


def test_day_orders_die_with_their_day_and_the_book_of_the_next_is_empty() -> None:
    market = exchange()
    order = market.place(limit(BUY, 10, "99"))

    changed = market.on_tick(tick(98), at=TUESDAY)

    assert [(each.id, each.status) for each in changed] == [(order.id, OrderStatus.EXPIRED)]
    assert (market.orders(), market.trades()) == ([], [])
    assert market.all_orders() == changed


def test_intraday_positions_are_squared_off_at_their_time() -> None:
    clock = ManualClock(MONDAY)
    market = exchange(clock=clock, square_off=time(15, 15))
    market.place(limit(BUY, 10, "100", product=Product.INTRADAY))
    resting = market.place(limit(BUY, 10, "99", product=Product.INTRADAY))
    kept = market.place(limit(BUY, 10, "99"))
    clock.advance(timedelta(hours=5, minutes=15).total_seconds())

    changed = market.on_tick(tick(101))

    assert [(each.side, each.status) for each in changed] == [(BUY, OrderStatus.CANCELLED), (SELL, OrderStatus.FILLED)]
    assert changed[0].id == resting.id
    assert changed[1].average_price == Decimal(100)
    assert market.order(kept.id).is_open
    assert [each.quantity for each in market.positions() if each.product is Product.INTRADAY] == [0]
    with pytest.raises(OrderRejected, match="after the square-off time 15:15"):
        market.place(limit(BUY, 1, "101", product=Product.INTRADAY))


def test_intraday_positions_do_not_survive_the_night() -> None:
    market = exchange()
    market.place(limit(BUY, 10, "100", product=Product.INTRADAY))
    market.on_tick(tick(103))

    (closed,) = market.next_day()

    assert (closed.side, closed.status, closed.average_price) == (SELL, OrderStatus.FILLED, Decimal(103))
    assert market.pnl().realised == Decimal(30)
    assert market.positions() == []


def test_a_closed_market_refuses_orders() -> None:
    sunday = MONDAY - timedelta(days=1)
    market = exchange(calendar=TradingCalendar(), at=sunday)

    with pytest.raises(OrderRejected, match="closed; after_market=True queues"):
        market.place(limit(BUY, 1, "100"))


def test_an_after_market_order_waits_for_the_session() -> None:
    evening = MONDAY.replace(hour=20)
    market = exchange(calendar=TradingCalendar(), at=evening)
    order = market.place(limit(BUY, 10, "100", after_market=True))

    asleep = market.on_tick(tick(99), at=TUESDAY.replace(hour=9, minute=0))
    (filled,) = market.on_tick(tick(99), at=TUESDAY)

    assert (order.status, order.exchange_order_id) == (OrderStatus.PENDING, None)
    assert asleep == []
    assert filled.status is OrderStatus.FILLED
    assert filled.exchange_order_id is not None


@pytest.mark.parametrize("phase", [MarketPhase.PRE_OPEN, MarketPhase.CLOSING, MarketPhase.CLOSED])
def test_the_market_status_of_a_feed_closes_the_market_until_the_next_day(phase: MarketPhase) -> None:
    market = exchange()
    order = market.place(limit(BUY, 10, "99"))
    market.on_status(MarketStatus(phases={"NSE:cash": phase}, at=MONDAY))

    unmatched = market.on_tick(tick(98))
    with pytest.raises(OrderRejected, match="closed"):
        market.place(limit(BUY, 1, "100"))
    market.on_tick(tick(98), at=TUESDAY)

    assert unmatched == []
    assert market.order(order.id).status is OrderStatus.EXPIRED
    assert market.place(limit(BUY, 1, "100"), at=TUESDAY).status is OrderStatus.FILLED


# What must hold whatever happens

INSTRUMENTS = (ACME, ZETA)
PRICES = st.integers(1600, 2400)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.sampled_from(INSTRUMENTS), PRICES, st.integers(0, 40) | st.none()),
        st.tuples(
            st.just("place"),
            st.sampled_from(["limit", "market", "stop"]),
            st.sampled_from(INSTRUMENTS),
            st.sampled_from(Side),
            st.integers(1, 400),
            PRICES,
            st.sampled_from([Product.DELIVERY, Product.INTRADAY]),
            st.sampled_from(Validity),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("modify"), st.integers(0, 5), st.integers(1, 400), PRICES),
        st.tuples(st.just("night")),
    ),
    max_size=40,
)


def _request(kind: str, instrument: Any, side: Side, quantity: int, ticks: int, **terms: Any) -> OrderRequest:
    price = ticks * instrument.tick_size
    match kind:
        case "limit":
            return LimitOrder(instrument, side, quantity=quantity, price=price, **terms)
        case "market":
            return MarketOrder(instrument, side, quantity=quantity, **terms)
        case _:
            return StopMarketOrder(instrument, side, quantity=quantity, trigger_price=price, **terms)


def _step(market: SimulatedExchange, step: tuple[Any, ...], day: int) -> None:
    at = MONDAY + timedelta(days=day)
    match step:
        case ("tick", instrument, ticks, size):
            price = float(ticks * instrument.tick_size)
            sides = {} if size is None else {"bids": ((price, size),), "asks": ((price, size),)}
            market.on_tick(tick(price, instrument=instrument, **sides), at=at)
        case ("place", kind, instrument, side, quantity, ticks, product, validity):
            market.submit(_request(kind, instrument, side, quantity, ticks, product=product, validity=validity), at=at)
        case ("cancel", index) | ("modify", index, *_):
            orders = market.orders()
            if index < len(orders) and step[0] == "cancel":
                market.cancel(orders[index].id, at=at)
            elif index < len(orders):
                terms = {"quantity": step[2], "price": step[3] * orders[index].instrument.tick_size}
                with pytest.raises(OrderError) if orders[index].is_final else _may_be_refused():
                    market.modify(orders[index].id, at=at, **terms)


class _may_be_refused:  # noqa: N801 - reads as a context
    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OrderError)


@settings(deadline=None, max_examples=100)
@given(steps=STEPS, shares=st.integers(0, 300))
def test_money_and_shares_are_conserved_by_any_interleaving(steps: list[tuple[Any, ...]], shares: int) -> None:
    market = SimulatedExchange(
        cash=CASH, charges=DHAN, clock=ManualClock(MONDAY), holdings=[held(shares)] if shares else []
    )
    day = 0
    for step in steps:
        day += step[0] == "night"
        if step[0] == "night":
            market.on_tick(tick(100, instrument=ZETA), at=MONDAY + timedelta(days=day))
        _step(market, step, day)

        trades, orders = market.all_trades(), market.all_orders()
        flow = sum((-each.side.sign * each.value for each in trades), Decimal(0))
        last = {each: market.last_price(each) or Decimal(0) for each in INSTRUMENTS}
        net = {each: sum(one.side.sign * one.quantity for one in trades if one.instrument is each) for each in last}
        worth = sum((last[each] * quantity for each, quantity in net.items()), Decimal(0))
        if shares and market.last_price(ACME) is not None:
            worth += (last[ACME] - 90) * shares
        assert abs(market.pnl().gross - (flow + worth)) < Decimal("1e-12")
        assert market.pnl().charges == market.charges().total == sum(each.amount for each in market.charges().lines)

        account = market._account
        for each in INSTRUMENTS:
            owned = account.deliverable(each) + account.net(each, Product.INTRADAY)
            assert owned == net[each] + (shares if each is ACME else 0)
        assert account.cash + account.at_cost() - account.realised - CASH == 90 * shares

        for order in orders:
            filled = sum(each.quantity for each in trades if each.order_id == order.id)
            assert order.filled_quantity == filled <= order.quantity
            assert order.is_final is not order.is_open


@settings(deadline=None, max_examples=100)
@given(steps=STEPS)
def test_a_delivery_account_never_sells_what_it_does_not_have(steps: list[tuple[Any, ...]]) -> None:
    market = SimulatedExchange(cash=CASH, clock=ManualClock(MONDAY), holdings=[held(50)])
    day = 0
    for step in steps:
        day += step[0] == "night"
        if step[0] == "night":
            market.next_day(at=MONDAY + timedelta(days=day - 1))
        _step(market, step, day)

    owned = {ACME: 50, ZETA: 0}
    for trade in market.all_trades():
        if trade.product is Product.DELIVERY:
            owned[trade.instrument] += trade.side.sign * trade.quantity
            assert owned[trade.instrument] >= 0
