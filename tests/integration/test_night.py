"""A position held for days stays protected when day orders die, is adopted after a restart, and is sold once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from bot_support import BAR, BUY, REGISTRY, RELIANCE, EagerBot, ScriptedPrices

from hybridbroker import LimitOrder, OrderStatus, Product, Session, Side, connect, run
from hybridbroker.clock import IST, to_epoch_ms
from hybridbroker.domain.market import TickDetails
from hybridbroker.domain.standing import LegRole, LegStatus
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.factories import make_tick

MONDAY = datetime(2026, 1, 5, 10, 0, tzinfo=IST)


class Days:
    """Days of one account, at a simulated broker that outlives every run of the bot."""

    def __init__(self) -> None:
        self.clock = ManualClock(MONDAY)
        self.prices = ScriptedPrices(MONDAY)
        self.broker = PaperBroker(self.prices, clock=self.clock)  # type: ignore[arg-type]
        self.said: list[str] = []
        self.bot: Any = None
        self.session: Session | None = None

    async def notify(self, message: str) -> None:
        self.said.append(message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Any]:
        """Run a new bot, as a process started now would."""
        self.prices = ScriptedPrices(self.clock.now())
        self.trade(self.last if hasattr(self, "last") else 1400.0)
        async with connect(
            data=self.broker.watch(self.prices),  # type: ignore[arg-type]
            broker=self.broker,
            instruments=REGISTRY,
            clock=self.clock,
            notifier=SimpleNamespace(notify=self.notify),
        ) as session:
            self.session, self.bot = session, EagerBot("NSE:RELIANCE", product=Product.DELIVERY)
            task = asyncio.create_task(run(self.bot, session))
            try:
                await until(lambda: hasattr(self.bot, "bare"))
                yield self.bot
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def trade(self, price: float) -> None:
        """Let the market trade at a price, whether or not a bot looks on."""
        self.last = price
        at = to_epoch_ms(self.clock.now())
        self.broker.feed(
            make_tick(instrument=RELIANCE, last_price=price, traded_ms=at, received_ms=at, details=TickDetails())
        )

    async def bought(self) -> None:
        self.prices.tick(1400.0, meaning=BUY)
        await until(self.gtts)

    def night(self) -> None:
        """End the day and begin the next one at the same hour."""
        self.clock.advance(timedelta(days=1).total_seconds())
        self.broker.publish(self.broker.exchange.advance())
        self.broker.publish(self.broker.exchange.next_day())

    def gtts(self) -> list[Any]:
        return [each for each in self.broker.exchange.gtts() if each.is_live]

    @property
    def sales(self) -> list[int]:
        orders = self.broker.exchange.all_orders()
        return [each.filled_quantity for each in orders if each.side is Side.SELL and each.filled_quantity]

    @property
    def held(self) -> int:
        return sum(each.quantity for each in self.broker.exchange.holdings())


@pytest.fixture
def days() -> Days:
    return Days()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - a simulated broker sets no event
            await asyncio.sleep(0.005)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


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
