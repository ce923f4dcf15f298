"""What could make a bot sell twice, sell what is not its own, or leave bare what it holds; tried on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from bot_support import BAR, BUY, RELIANCE
from night_support import Days, settle, until

from hybridbroker import Capability, Gap, NotSent, OrderStatus, Product, Side
from hybridbroker.domain.standing import Gtt, Leg, LegRole, LegStatus


@pytest.fixture
def days() -> Days:
    return Days()


def shows(days: Days, change: Callable[[Leg], Leg]) -> None:
    """Have the broker tell its standing orders otherwise than they are."""

    def gtts() -> list[Gtt]:
        return [
            attrs.evolve(each, legs=tuple(map(change, each.legs)), client_order_id=None) for each in days.standing()
        ]

    days.broker.exchange.gtts = gtts  # type: ignore[method-assign]


def silent(days: Days) -> Callable[[], None]:
    """Lose the order updates from here on, until the returned function is called."""
    publish = days.broker.publish
    days.broker.publish = lambda orders: None  # type: ignore[method-assign]

    def again() -> None:
        days.broker.publish = publish  # type: ignore[method-assign]

    return again


def gap(days: Days) -> Gap:
    return Gap(since=days.clock.now(), until=days.clock.now(), reason="a test")


# Shares and orders of the person beside the bot's.


async def test_an_order_of_the_person_is_never_moved(days: Days) -> None:
    await days.owner_holds(100)
    async with days.running() as bot:
        await days.bought()
        own = await days.by_hand(Side.SELL, 50, 1500)
        await settle()
        days.prices.tick(1400.0, meaning=BAR)
        await settle()

        assert days.order(own.id).price == 1500
        assert bot.exits.held[RELIANCE.id].sale is None
        assert len(days.gtts()) == 1


async def test_a_sale_of_the_persons_own_shares_leaves_the_protection(days: Days) -> None:
    await days.owner_holds(100)
    async with days.running() as bot:
        await days.bought()
        units = days.gtts()[0].quantity
        await days.by_hand(Side.SELL, 100, 1399)
        await settle()
        days.prices.tick(1400.0, meaning=BAR)
        await settle()

        assert [each.quantity for each in days.gtts()] == [units]
        assert bot.exits.held[RELIANCE.id].quantity == units


async def test_part_of_the_shares_sold_by_hand_cuts_the_standing_order(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        units = days.gtts()[0].quantity
        await days.by_hand(Side.SELL, 3, 1399)
        await until(lambda: [each.quantity for each in days.gtts()] == [units - 3])

        assert bot.exits.held[RELIANCE.id].quantity == units - 3


async def test_shares_sold_by_hand_take_the_stop_of_the_day_with_them(days: Days) -> None:
    days.product = Product.INTRADAY
    async with days.running() as bot:
        days.prices.tick(1400.0, meaning=BUY)
        await until(lambda: any(each.leg for each in bot.exits.held.values()))
        held = bot.exits.held[RELIANCE.id]
        units, stop = held.quantity, held.leg.id
        await days.by_hand(Side.SELL, units, 1399)
        await until(lambda: not bot.exits.held)
        days.prices.tick(1300.0)
        await settle()

        assert days.order(stop).status is OrderStatus.CANCELLED
        assert days.sales == [units]


async def test_a_standing_order_that_died_is_not_renewed_for_shares_of_the_person(days: Days) -> None:
    await days.owner_holds(100)
    async with days.running():
        await days.bought()
    days.trade(1300.0)
    days.night()  # the triggered sale died unfilled
    days.trade(1398.0)
    async with days.running():
        (again,) = days.gtts()
        days.prices.tick(1394.0)
        await until(lambda: days.sales == [again.quantity])

    async with days.running() as bot:
        assert days.gtts() == []
        assert bot.exits.held == {}


# What the broker shows.


async def test_standing_orders_of_unknown_status_are_not_placed_again(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        shows(days, lambda leg: attrs.evolve(leg, status=LegStatus.UNKNOWN))
        await bot.on_gap(gap(days))
        days.prices.tick(1400.0, meaning=BAR)
        await settle()

        assert len(days.gtts()) == 1
        assert bot.exits.held


async def test_a_sale_nobody_told_of_is_not_protected_again(days: Days) -> None:
    await days.owner_holds(100)
    async with days.running() as bot:
        await days.bought()
        shows(days, lambda leg: attrs.evolve(leg, order_id=None))
        again = silent(days)
        days.trade(1394.0)
        again()
        assert days.gtts() == []
        await bot.on_gap(gap(days))
        await settle()

        assert days.gtts() == []
        assert bot.exits.held == {}


async def test_only_the_newest_of_several_standing_orders_counts(days: Days) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    days.trade(1300.0)
    days.night()
    days.trade(1398.0)
    async with days.running():
        (second,) = days.gtts()

    async with days.running() as bot:
        (still,) = days.gtts()

        assert still.id == second.id == bot.exits.held[RELIANCE.id].gtt.id
        assert bot.exits.held[RELIANCE.id].quantity == units


async def test_a_rejected_triggered_sale_waits_for_the_next_bar(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        units = days.gtts()[0].quantity
        days.prices.tick(1300.0)
        await until(lambda: bot.exits.held[RELIANCE.id].sale)
        shows(days, lambda leg: attrs.evolve(leg, status=LegStatus.REJECTED) if leg.order_id else leg)
        sale = bot.exits.held[RELIANCE.id].sale
        days.broker.exchange.cancel(sale.id)
        rejected = attrs.evolve(days.order(sale.id), status=OrderStatus.REJECTED, reason="RMS: no")
        days.broker.publish([rejected])
        await settle()
        assert len(days.standing()) == 1

        days.prices.tick(1300.0, meaning=BAR)
        await until(lambda: not bot.exits.held)
        assert days.sales == [units]


async def test_a_cancellation_that_cannot_be_seen_is_waited_for(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        held = bot.exits.held[RELIANCE.id]
        cancel = days.broker.cancel_gtt

        async def unseen(gtt_id: str) -> Gtt:
            gtt = days.broker.exchange.gtts()[0]
            return attrs.evolve(gtt, legs=tuple(attrs.evolve(each, status=LegStatus.UNKNOWN) for each in gtt.legs))

        days.broker.cancel_gtt = unseen  # type: ignore[method-assign]
        await bot.exits.leave(RELIANCE, 1400.0)
        await settle()
        assert [each for each in days.broker.exchange.orders() if each.side is Side.SELL] == []

        days.broker.cancel_gtt = cancel  # type: ignore[method-assign]
        await cancel(held.gtt.id)
        days.prices.tick(1400.0, meaning=BAR)
        await until(lambda: not bot.exits.held)
        assert days.sales == [held.gtt.quantity if held.gtt else sum(days.sales)]


async def test_what_waits_for_shares_already_sold_is_cancelled_as_soon_as_the_broker_answers(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        units = days.gtts()[0].quantity
        cancel = days.broker.cancel_gtt

        def unread() -> list[Gtt]:
            raise NotSent("no line")

        async def fails(gtt_id: str) -> Gtt:
            raise NotSent(f"no line for {gtt_id}")

        days.broker.exchange.gtts, days.broker.cancel_gtt = unread, fails  # type: ignore[method-assign]
        await days.by_hand(Side.SELL, units, 1399)
        await settle()
        days.broker.exchange.gtts, days.broker.cancel_gtt = days.standing, cancel  # type: ignore[method-assign]
        days.prices.tick(1400.0, meaning=BAR)
        await settle()

        assert days.gtts() == []
        assert bot.exits.held == {}


@pytest.mark.parametrize("told", [True, False], ids=["told", "silently"])
async def test_a_stop_of_the_day_is_placed_anew_on_the_next(days: Days, told: bool) -> None:
    days.broker.capabilities &= ~(Capability.OCO_ORDERS | Capability.GTT_ORDERS)
    async with days.running() as bot:
        days.prices.tick(1400.0, meaning=BUY)
        await until(lambda: any(each.leg for each in bot.exits.held.values()))
        again = silent(days)
        if told:
            again()
        days.night()
        days.prices.begin(days.clock.now())
        await settle()
        again()
        days.prices.tick(1400.0, meaning=BAR)
        await settle()

        (stop,) = [each for each in days.broker.exchange.orders() if each.side is Side.SELL]
        assert stop.status is OrderStatus.TRIGGER_PENDING
        assert days.sales == []


# Restarts.


async def test_a_sale_under_way_at_the_start_is_followed_and_not_doubled(days: Days) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    days.trade(1300.0)

    async with days.running() as bot:
        assert len(days.standing()) == 1
        days.prices.tick(1300.0, meaning=BAR)
        await until(lambda: not bot.exits.held)
        await settle()

        assert days.sales == [units]
        assert days.gtts() == []


async def test_a_sale_partly_filled_at_the_start_is_not_doubled(days: Days) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    days.trade(1300.0)
    (sale,) = [each for each in days.broker.exchange.orders() if each.side is Side.SELL]
    positions = days.broker.positions
    part = attrs.evolve(sale, filled_quantity=4, average_price=sale.price, status=OrderStatus.PARTIALLY_FILLED)

    async def orders() -> Sequence[Any]:
        return [part if each.id == sale.id else each for each in days.broker.exchange.orders()]

    async def fewer() -> Sequence[Any]:
        return [attrs.evolve(each, quantity=each.quantity - 4) for each in await positions()]

    days.broker.orders, days.broker.positions = orders, fewer  # type: ignore[method-assign]
    async with days.running() as bot:
        days.broker.publish([part])
        await settle()

        assert len(days.standing()) == 1
        assert bot.exits.held[RELIANCE.id].quantity == units - 4


async def test_protection_outlives_a_morning_on_which_the_shares_are_not_listed_yet(days: Days) -> None:
    async with days.running():
        await days.bought()
    days.night()
    holdings = days.broker.holdings

    async def none() -> Sequence[Any]:
        return []

    days.broker.holdings = none  # type: ignore[method-assign]
    async with days.running() as bot:
        assert len(days.gtts()) == 1
        days.broker.holdings = holdings  # type: ignore[method-assign]
        days.prices.tick(1400.0, meaning=BAR)
        await settle()

        assert [each.quantity for each in days.gtts()] == [days.held]
        assert bot.exits.held[RELIANCE.id].quantity == days.held


async def test_a_standing_order_without_shares_ends_at_the_first_bar(days: Days) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    await days.by_hand(Side.SELL, units, 1399)
    days.night()

    async with days.running() as bot:
        days.prices.tick(1400.0, meaning=BAR)
        await until(lambda: not days.gtts())

        assert bot.exits.held == {}


async def test_a_purchase_whose_run_ended_before_it_was_protected_is_protected_by_the_next(days: Days) -> None:
    async with days.running() as bot:
        bot.exits.protect = dies
        days.prices.tick(1400.0, meaning=BUY)
        await until(days.broker.exchange.positions)
        await settle()
    assert days.gtts() == []

    async with days.running() as bot:
        (gtt,) = days.gtts()

        (position,) = days.broker.exchange.positions()
        stop = gtt.leg(LegRole.STOP)
        assert stop is not None
        assert stop.trigger_price is not None
        assert stop.trigger_price < 1400
        assert gtt.quantity == position.quantity == bot.exits.held[RELIANCE.id].quantity


async def test_a_purchase_by_hand_today_is_left_to_the_person(days: Days) -> None:
    days.trade(1400.0)
    await days.by_hand(Side.BUY, 7, 1405)

    async with days.running() as bot:
        assert days.gtts() == []
        assert bot.bare == [RELIANCE]


async def dies(*_: Any, **__: Any) -> None:
    raise NotSent("the process died here")
