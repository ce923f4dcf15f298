"""GTT and OCO orders of the simulated exchange: they wait for the last price, for days, and sell nothing twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from simulated import ACME, MONDAY, OPTION, TUESDAY, tick

from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.orders import LimitOrder, MarketOrder, OrderStatus, Side
from hybridbroker.domain.portfolio import Holding
from hybridbroker.domain.standing import Crossing, Gtt, GttOrder, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import InvalidOrder, OrderNotFound, OrderRejected, Unsupported
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.simulation.statutory import STATUTORY_ONLY
from hybridbroker.testing.clock import ManualClock


def exchange(*, held: int = 10, calendar: TradingCalendar | None = None) -> tuple[SimulatedExchange, ManualClock]:
    clock = ManualClock(MONDAY)
    shares = [Holding(instrument=ACME, quantity=held, available_quantity=held, average_price=Decimal(90))]
    return SimulatedExchange(
        cash=Decimal(100_000), clock=clock, holdings=shares if held else [], calendar=calendar
    ), clock


def oco(*, quantity: int = 10, name: str | None = "oco-1", target: str | None = "110") -> OcoOrder:
    return OcoOrder(
        ACME,
        Side.SELL,
        quantity=quantity,
        target=Trigger("110", price=target),
        stop=Trigger("95"),
        client_order_id=name,
    )


def single(side: Side, trigger: str, *, price: str | None = None, crossing: Crossing | None = None) -> GttOrder:
    return GttOrder(ACME, side, quantity=10, trigger=Trigger(trigger, price=price), crossing=crossing)


def statuses(gtt: Gtt) -> dict[str, str]:
    return {str(each.role): str(each.status) for each in gtt.legs}


def test_gtt_waits_until_the_last_price_reaches_its_trigger() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(single(Side.SELL, "105", price="104"))

    before = market.on_tick(tick(104.95))
    changed = market.on_tick(tick(105))

    assert before == []
    assert [(each.status, each.filled_quantity, each.price) for each in changed] == [
        (OrderStatus.FILLED, 10, Decimal(104))
    ]
    leg = market.gtt(gtt.id).legs[0]
    assert (leg.status, leg.order_id, leg.filled_quantity) == (LegStatus.FILLED, changed[0].id, 10)


@pytest.mark.parametrize(
    ("seen", "reaches"),
    [
        pytest.param(100, 105, id="from below"),
        pytest.param(110, 105, id="from above"),
        pytest.param(None, 105, id="no price seen, already there"),
    ],
)
def test_gtt_takes_its_side_from_the_price_it_saw(seen: float | None, reaches: float) -> None:
    market, _ = exchange()
    if seen is not None:
        market.on_tick(tick(seen))
    gtt = market.place_gtt(single(Side.SELL, "105", price="90"))
    if seen is not None:
        market.on_tick(tick(seen))

    assert market.gtt(gtt.id).is_live

    market.on_tick(tick(reaches))

    assert not market.gtt(gtt.id).is_live


def test_gtt_with_a_crossing_fires_at_once_where_the_price_is_beyond_it() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(single(Side.SELL, "105", price="90", crossing=Crossing.BELOW))

    market.on_tick(tick(100))

    assert market.gtt(gtt.id).legs[0].status is LegStatus.FILLED


def test_oco_target_cancels_the_stop_and_the_order_carries_its_name() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())

    (order,) = market.on_tick(tick(110))

    assert statuses(market.gtt(gtt.id)) == {"target": "filled", "stop": "cancelled"}
    assert market.gtt(gtt.id).legs[1].reason == "the other leg came first"
    assert order.client_order_id == "oco-1"
    assert market.find("oco-1") == order
    assert market.on_tick(tick(90)) == []


def test_oco_stop_sends_a_protected_market_order() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())

    (order,) = market.on_tick(tick(94))

    assert statuses(market.gtt(gtt.id)) == {"target": "cancelled", "stop": "filled"}
    assert order.average_price == Decimal(94)
    assert order.price is not None
    assert order.price < 94


def test_oco_without_shares_is_rejected_with_the_reason_and_cancels_the_other_leg() -> None:
    market, _ = exchange(held=0)
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())

    (order,) = market.on_tick(tick(94))

    assert order.status is OrderStatus.REJECTED
    assert statuses(market.gtt(gtt.id)) == {"target": "cancelled", "stop": "rejected"}
    assert "needs shares" in (market.gtt(gtt.id).legs[1].reason or "")
    assert market.on_tick(tick(120)) == []


def test_oco_leg_that_rests_is_followed_and_the_other_stays_cancelled() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())

    market.on_tick(tick(110, bids=((110, 4),)))
    resting = market.gtt(gtt.id)
    market.on_tick(tick(94))
    market.on_tick(tick(111, bids=((111, 50),)))

    assert (resting.legs[0].status, resting.legs[0].filled_quantity) == (LegStatus.SENT, 4)
    assert statuses(market.gtt(gtt.id)) == {"target": "filled", "stop": "cancelled"}
    assert market.holdings() == []


def test_two_ocos_of_the_same_shares_sell_them_once() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    first = market.place_gtt(oco(name="a"))
    second = market.place_gtt(oco(name="b"))

    market.on_tick(tick(94))

    assert market.gtt(first.id).legs[1].status is LegStatus.FILLED
    assert market.gtt(second.id).legs[1].status is LegStatus.REJECTED
    assert sum(each.quantity for each in market.trades()) == 10


def test_oco_protects_across_the_night_what_day_orders_do_not() -> None:
    market, clock = exchange(held=0)
    market.on_tick(tick(100))
    market.place(LimitOrder(ACME, Side.BUY, quantity=10, price="100"))
    day_order = market.place(LimitOrder(ACME, Side.SELL, quantity=10, price="110"))
    gtt = market.place_gtt(oco())
    clock.advance(86_400)

    ended = market.advance()
    night = market.gtt(gtt.id)
    sold = market.on_tick(tick(93))

    assert [(each.id, each.status) for each in ended] == [(day_order.id, OrderStatus.EXPIRED)]
    assert night.is_live
    assert market.holdings() == []
    assert [(each.status, each.filled_quantity) for each in sold] == [(OrderStatus.FILLED, 10)]


def test_order_of_a_leg_that_rests_until_the_close_dies_with_the_day() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco(target="112"))
    market.on_tick(tick(110))

    market.next_day()

    assert statuses(market.gtt(gtt.id)) == {"target": "expired", "stop": "cancelled"}


def test_triggers_are_judged_in_session_only() -> None:
    market, clock = exchange(calendar=TradingCalendar())
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())
    clock.advance(timedelta(hours=8).total_seconds())

    evening = market.on_tick(tick(90))
    clock.advance((TUESDAY - clock.now()).total_seconds())
    morning = market.on_tick(tick(93))

    assert evening == []
    assert [each.status for each in morning] == [OrderStatus.FILLED]
    assert not market.gtt(gtt.id).is_live


def test_gtt_expires_after_a_year() -> None:
    market, clock = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())
    clock.advance(timedelta(days=364).total_seconds())
    market.advance()
    alive = market.gtt(gtt.id).is_live
    clock.advance(timedelta(days=2).total_seconds())

    market.advance()

    assert gtt.expires_at == MONDAY + timedelta(days=365)
    assert alive
    assert statuses(market.gtt(gtt.id)) == {"target": "expired", "stop": "expired"}


def test_modify_changes_what_waits_and_judges_by_the_new_terms() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())

    changed = market.modify_gtt(gtt.id, quantity=5, stop=Trigger("98", price="97"))
    (order,) = market.on_tick(tick(98))

    assert [(each.quantity, each.trigger_price) for each in changed.legs] == [(5, Decimal(110)), (5, Decimal(98))]
    assert (order.quantity, order.price, order.status) == (5, Decimal(97), OrderStatus.FILLED)


def test_modify_can_change_the_quantity_of_one_leg() -> None:
    market, _ = exchange()
    gtt = market.place_gtt(oco())

    changed = market.modify_gtt(gtt.id, quantity=4, quantity_of=LegRole.STOP)

    assert [each.quantity for each in changed.legs] == [10, 4]


def test_modify_refuses_what_can_never_be_right_and_changes_nothing() -> None:
    market, _ = exchange()
    gtt = market.place_gtt(oco())

    with pytest.raises(InvalidOrder, match="must be above its stop"):
        market.modify_gtt(gtt.id, stop=Trigger("120"))
    with pytest.raises(InvalidOrder, match="has no trigger"):
        market.modify_gtt(gtt.id, trigger=Trigger("120"))

    assert market.gtt(gtt.id) == gtt


def test_sent_gtt_can_neither_be_changed_nor_cancelled() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())
    market.on_tick(tick(94))

    with pytest.raises(OrderRejected, match="nothing of it can change"):
        market.modify_gtt(gtt.id, quantity=5)

    assert market.cancel_gtt(gtt.id) == market.gtt(gtt.id)


def test_cancelled_gtt_never_fires() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())

    cancelled = market.cancel_gtt(gtt.id)

    assert statuses(cancelled) == {"target": "cancelled", "stop": "cancelled"}
    assert market.on_tick(tick(50)) == []
    assert market.cancel_gtt(gtt.id) == cancelled


def test_standing_orders_are_found_by_id_and_by_name() -> None:
    market, _ = exchange()
    first = market.place_gtt(oco(name="x"))
    second = market.place_gtt(oco(name="y"))

    assert [each.id for each in market.gtts()] == [first.id, second.id]
    assert market.find_gtt("y") == second
    assert market.find_gtt("z") is None
    with pytest.raises(OrderNotFound):
        market.gtt("nope")


def test_standing_changes_tell_each_once_and_as_it_stands() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(oco())

    placed = market.standing_changes()
    market.on_tick(tick(94))
    fired = market.standing_changes()

    assert placed == [gtt]
    assert fired == [market.gtt(gtt.id)]
    assert market.standing_changes() == []


def test_the_same_calls_give_the_same_book() -> None:
    def play() -> tuple[list[Gtt], list[str]]:
        market, _ = exchange()
        market.on_tick(tick(100))
        market.place_gtt(oco())
        market.place(MarketOrder(ACME, Side.BUY, quantity=1))
        market.on_tick(tick(94))
        return market.gtts(), [each.id for each in market.orders()]

    assert play() == play()


def test_gtt_of_what_cannot_be_charged_is_unsupported() -> None:
    market = SimulatedExchange(cash=Decimal(1), charges=STATUTORY_ONLY, clock=ManualClock(MONDAY))

    with pytest.raises(Unsupported, match="not tabulated"):
        market.place_gtt(GttOrder(OPTION, Side.BUY, quantity=50, trigger=Trigger("5"), product="margin"))


def test_expiry_is_told_in_indian_days() -> None:
    market, _ = exchange()

    gtt = market.place_gtt(oco(), at=datetime(2026, 9, 21, 9, 30, tzinfo=IST))

    assert gtt.id.startswith("5260921")


def test_gtt_changed_to_its_own_trigger_looks_at_the_market_anew() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    gtt = market.place_gtt(single(Side.BUY, "105", price="106"))
    market.next_day()
    market.mark(tick(110))

    market.modify_gtt(gtt.id, trigger=Trigger("105", price="106"))
    market.on_tick(tick(107))
    before = market.gtt(gtt.id).is_live
    market.on_tick(tick(105))

    assert before
    assert market.gtt(gtt.id).legs[0].status is LegStatus.FILLED


def test_an_exchange_with_a_live_standing_order_is_not_idle() -> None:
    market, _ = exchange()
    market.on_tick(tick(100))
    idle = [market.is_idle]
    gtt = market.place_gtt(oco())
    idle.append(market.is_idle)
    market.cancel_gtt(gtt.id)
    idle.append(market.is_idle)

    assert idle == [True, False, True]
