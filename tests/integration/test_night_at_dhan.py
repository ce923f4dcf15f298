"""The night again, at an emulated Dhan: its forever orders, its journal on disk, a new process each morning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bot_support import BUY, REGISTRY, RELIANCE, EagerBot, ScriptedPrices

from hybridbroker import Product, connect, run
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault
from hybridbroker.testing.emulators.feed_pb2 import NORMAL_OPEN

NIGHT = 17.75 * 3600


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not true():  # noqa: ASYNC110 - what the emulator sees sets no event
            await asyncio.sleep(0.01)


class Account:
    """One account at the emulator, and the bots that run on it one after the other."""

    def __init__(self, emulator: DhanEmulator, state: Path) -> None:
        self.emulator = emulator
        self.state = state
        self.said: list[str] = []
        self.prices: Any = None

    async def notify(self, message: str) -> None:
        self.said.append(message)

    @asynccontextmanager
    async def bot(self) -> AsyncIterator[Any]:
        """Run a new bot, as a process started now would."""
        market, emulator = self.emulator.market, self.emulator
        self.prices = ScriptedPrices(market.now)
        settings = DhanSettings(
            client_id=emulator.client_id,
            access_token=emulator.access_token,
            base_url=emulator.rest_url,
            order_updates_url=emulator.order_updates_url,
            keep_warm_seconds=0,
        )
        async with connect(
            data=self.prices,
            broker="dhan",
            instruments=REGISTRY,
            allow_old_instruments=True,
            settings={"dhan": settings},
            state=self.state,
            clock=market.clock,
            notifier=SimpleNamespace(notify=self.notify),
        ) as session:
            bot = EagerBot("NSE:RELIANCE", product=Product.DELIVERY)
            running = asyncio.create_task(run(bot, session))
            try:
                await until(lambda: running.done() or hasattr(bot, "bare"))
                self.prices.tick(1400.0)
                yield bot
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    def armed(self) -> list[dict[str, Any]]:
        return [row for row in self.emulator.forever_orders() if row["orderStatus"] == "CONFIRM"]

    def sold(self) -> list[int]:
        rows = self.emulator.book()
        return [row["filledQty"] for row in rows if row["transactionType"] == "SELL" and row["filledQty"]]

    @property
    def shares(self) -> int:
        return sum(each.available_quantity for each in self.emulator.exchange.holdings())

    async def night(self) -> None:
        await self.emulator.market.close_session()
        await self.emulator.market.enter_phase(NORMAL_OPEN, seconds=NIGHT)


@pytest.fixture
async def account(tmp_path: Path) -> AsyncIterator[Account]:
    async with DhanEmulator(EmulatedMarket.still(), cash=Decimal(100_000)) as emulator:
        emulator.habits.ddpi = True
        yield Account(emulator, tmp_path)


async def test_protection_outlives_the_night_and_sells_once(account: Account) -> None:
    async with account.bot() as bot:
        account.prices.tick(1400.0, meaning=BUY)
        await account.emulator.market.move(RELIANCE, 1400.0)
        await until(lambda: len(account.armed()) == 2)
        units = account.armed()[0]["quantity"]
        await until(lambda: bot.exits.held[RELIANCE.id].gtt)

    await account.night()
    assert len(account.armed()) == 2

    async with account.bot() as bot:
        assert bot.bare == []
        assert bot.exits.held[RELIANCE.id].quantity == units
        await account.emulator.market.move(RELIANCE, 1394.0)
        await until(lambda: not bot.exits.held)
        await account.emulator.market.move(RELIANCE, 1500.0)
        await asyncio.sleep(0.2)

    assert account.sold() == [units]
    assert account.shares == 0
    assert account.armed() == []


async def test_a_protection_whose_answer_was_lost_is_found_and_not_placed_twice(account: Account) -> None:
    async with account.bot() as bot:
        account.emulator.faults.add("POST /v2/forever/orders", Fault.html(502, accepted=True))
        account.prices.tick(1400.0, meaning=BUY)
        await account.emulator.market.move(RELIANCE, 1400.0)
        await until(lambda: bot.exits.held and bot.exits.held[RELIANCE.id].gtt)

        assert len(account.emulator.received("POST", "/v2/forever/orders")) == 1
        assert len(account.armed()) == 2


async def test_a_sale_in_the_night_between_two_runs_is_not_repeated(account: Account) -> None:
    async with account.bot():
        account.prices.tick(1400.0, meaning=BUY)
        await account.emulator.market.move(RELIANCE, 1400.0)
        await until(lambda: len(account.armed()) == 2)
        units = account.armed()[0]["quantity"]
    await account.night()
    await account.emulator.market.move(RELIANCE, 1500.0)
    await until(lambda: account.sold() == [units])

    async with account.bot() as bot:
        await account.emulator.market.move(RELIANCE, 1300.0)
        await asyncio.sleep(0.2)

        assert bot.exits.held == {}
        assert account.sold() == [units]
        assert account.shares == 0
