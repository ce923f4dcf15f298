"""Days of one account at a simulated broker, through which runs of the example bot come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from bot_support import BUY, REGISTRY, RELIANCE, EagerBot, ScriptedPrices

from hybridbroker import LimitOrder, Order, Product, Session, Side, connect, run
from hybridbroker.clock import IST, to_epoch_ms
from hybridbroker.domain.market import TickDetails
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.factories import make_tick

MONDAY = datetime(2026, 1, 5, 10, 0, tzinfo=IST)


class Days:
    """Days of one account, at a simulated broker that outlives every run of the bot."""

    def __init__(self) -> None:
        self.clock = ManualClock(MONDAY)
        self.prices = ScriptedPrices(MONDAY)
        self.broker = PaperBroker(self.prices, cash=Decimal(1_000_000), clock=self.clock)  # type: ignore[arg-type]
        self.standing = self.broker.exchange.gtts
        self.product = Product.DELIVERY
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
            self.session, self.bot = session, EagerBot("NSE:RELIANCE", product=self.product)
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

    async def by_hand(self, side: Side, quantity: int, price: float = 1400.0) -> Order:
        """Trade in the broker's own app."""
        name = f"app-{len(self.broker.exchange.all_orders())}"
        return await self.broker.place_order(
            LimitOrder(
                RELIANCE,
                side,
                quantity=quantity,
                price=Decimal(str(price)),
                product=self.product,
                client_order_id=name,
            )
        )

    async def owner_holds(self, quantity: int) -> None:
        """Let the person have shares of his own, from an earlier day."""
        self.trade(1400.0)
        await self.by_hand(Side.BUY, quantity, 1405)
        self.night()

    def order(self, order_id: str) -> Order:
        return self.broker.exchange.order(order_id)

    def night(self) -> None:
        """End the day and begin the next one at the same hour."""
        self.clock.advance(timedelta(days=1).total_seconds())
        self.broker.publish(self.broker.exchange.advance())
        self.broker.publish(self.broker.exchange.next_day())

    def gtts(self) -> list[Any]:
        return [each for each in self.standing() if each.is_live]

    @property
    def sales(self) -> list[int]:
        orders = self.broker.exchange.all_orders()
        return [each.filled_quantity for each in orders if each.side is Side.SELL and each.filled_quantity]

    @property
    def held(self) -> int:
        return sum(each.quantity for each in self.broker.exchange.holdings())


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - a simulated broker sets no event
            await asyncio.sleep(0.005)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)
