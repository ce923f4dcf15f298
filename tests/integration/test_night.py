"""A position held for days stays protected when day orders die, is adopted after a restart, and is sold once."""

from __future__ import annotations

from decimal import Decimal

import pytest
from bot_support import BAR, BUY, RELIANCE
from night_support import Days, settle, until

from hybridbroker import LimitOrder, OrderStatus, Side
from hybridbroker.domain.standing import LegRole, LegStatus


@pytest.fixture
def days() -> Days:
    return Days()


async def test_a_delivery_purchase_is_protected_by_one_standing_order(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        (gtt,) = days.gtts()

        target, stop = gtt.leg(LegRole.TARGET), gtt.leg(LegRole.STOP)
        assert gtt.quantity == bot.exits.held[RELIANCE.id].quantity > 0
        assert stop.trigger_price < 1400 < target.trigger_price
        assert [each for each in days.broker.exchange.orders() if each.side is Side.SELL and each.is_open] == []


async def test_it_outlives_the_day_and_is_adopted_by_the_next_run(days: Days) -> None:
    async with days.running():
        await days.bought()
        (before,) = days.gtts()
    days.night()

    async with days.running() as bot:
        (after,) = days.gtts()

        assert after.id == before.id
        assert bot.exits.held[RELIANCE.id].gtt.id == before.id
        assert bot.exits.held[RELIANCE.id].quantity == days.held == before.quantity
        assert bot.bare == []


@pytest.mark.parametrize("price", [1300.0, 1500.0], ids=["stop", "target"])
async def test_a_sale_while_no_bot_runs_is_made_once(days: Days, price: float) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    days.night()
    days.trade(price)
    days.trade(2800.0 - price)

    async with days.running() as bot:
        await settle()

        assert days.sales == [units]
        assert days.held == 0
        assert bot.exits.held == {}


@pytest.mark.parametrize("price", [1394.0, 1500.0], ids=["stop", "target"])
async def test_a_sale_while_the_bot_looks_on_frees_its_slot(days: Days, price: float) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    days.night()

    async with days.running() as bot:
        days.prices.tick(price)
        await until(lambda: not bot.exits.held)
        days.prices.tick(2800.0 - price)
        await settle()

        assert days.sales == [units]
        assert bot.free


async def test_a_stop_whose_limit_the_market_jumped_over_is_followed_down(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        units = days.gtts()[0].quantity
        days.prices.tick(1300.0)
        await until(lambda: bot.exits.held[RELIANCE.id].sale)
        days.prices.tick(1300.0, meaning=BAR)
        await until(lambda: not bot.exits.held)

        assert days.sales == [units]


async def test_a_triggered_sale_that_dies_at_the_close_is_protected_anew(days: Days) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    days.trade(1300.0)  # far through the stop's limit: the order rests
    assert days.sales == []
    days.night()
    dead = days.broker.exchange.gtts()[0].leg(LegRole.STOP)
    assert dead is not None
    assert dead.status in {LegStatus.EXPIRED, LegStatus.REJECTED}

    days.last = 1398.0
    async with days.running() as bot:
        (gtt,) = days.gtts()
        days.prices.tick(1394.0)
        await until(lambda: not bot.exits.held)

        assert gtt.quantity == units
        assert days.sales == [units]


async def test_shares_sold_by_hand_take_the_standing_order_with_them(days: Days) -> None:
    async with days.running() as bot:
        await days.bought()
        units = days.gtts()[0].quantity
        await days.broker.place_order(LimitOrder(RELIANCE, Side.SELL, quantity=units, price=Decimal(1399)))
        await until(lambda: not bot.exits.held)
        await until(lambda: not days.gtts())
        days.prices.tick(1300.0)
        await settle()

        assert days.sales == [units]


async def test_a_standing_order_for_more_than_is_held_is_cut_at_the_next_start(days: Days) -> None:
    async with days.running():
        await days.bought()
        units = days.gtts()[0].quantity
    await days.broker.place_order(LimitOrder(RELIANCE, Side.SELL, quantity=1, price=Decimal(1399)))

    async with days.running() as bot:
        (gtt,) = days.gtts()

        assert gtt.quantity == units - 1
        assert bot.exits.held[RELIANCE.id].quantity == units - 1


async def test_shares_the_bot_never_bought_are_left_alone(days: Days) -> None:
    days.trade(1400.0)
    await days.broker.place_order(LimitOrder(RELIANCE, Side.BUY, quantity=7, price=Decimal(1405)))
    days.night()

    async with days.running() as bot:
        days.prices.tick(1000.0)
        await settle()

        assert bot.exits.held == {}
        assert bot.bare == []
        assert days.sales == []


async def test_without_oco_orders_a_delivery_gets_a_day_stop(days: Days) -> None:
    from hybridbroker import Capability

    days.broker.capabilities &= ~(Capability.OCO_ORDERS | Capability.GTT_ORDERS)

    async with days.running() as bot:
        days.prices.tick(1400.0, meaning=BUY)
        await until(lambda: any(each.leg for each in bot.exits.held.values()))
        (stop,) = [each for each in days.broker.exchange.orders() if each.side is Side.SELL]

        assert stop.status is OrderStatus.TRIGGER_PENDING
