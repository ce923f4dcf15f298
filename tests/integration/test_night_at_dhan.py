"""The protection of a delivery purchase at the emulated Dhan, through real sockets that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bot_support import BUY, RELIANCE, EagerBot
from test_red_team import Day, bot_day, settle, until

from hybridbroker import Product, Side, run
from hybridbroker.domain.standing import Gtt
from hybridbroker.testing.emulators import Fault

PLACE = "POST /v2/forever/orders"


@asynccontextmanager
async def delivery_day(state: Path) -> AsyncIterator[Day]:
    async with bot_day(state) as day:
        await restart(day)
        yield day


async def restart(day: Day) -> None:
    await day.stop()
    day.bot = EagerBot("NSE:RELIANCE", product=Product.DELIVERY)
    day.running = asyncio.create_task(run(day.bot, day.session))
    await until(lambda: hasattr(day.bot, "bare"))


def live(day: Day) -> list[Gtt]:
    return [each for each in day.emulator.exchange.gtts() if each.is_live]


def sold(day: Day) -> list[int]:
    orders = day.emulator.exchange.orders()
    return [each.filled_quantity for each in orders if each.side is Side.SELL and each.filled_quantity]


def posts(day: Day) -> int:
    return sum(each.path.endswith("/forever/orders") for each in day.emulator.received("POST"))


async def bought(day: Day) -> int:
    day.prices.tick(1401.0, meaning=BUY)
    await until(lambda: any(each.gtt for each in day.bot.exits.held.values()))
    return day.held


@pytest.mark.parametrize("price", [1394.0, 1450.0], ids=["stop", "target"])
@pytest.mark.parametrize("heard", [True, False], ids=["updates", "gap"])
async def test_a_forever_pair_sells_once(tmp_path: Path, price: float, heard: bool) -> None:
    async with delivery_day(tmp_path) as day:
        units = await bought(day)
        if not heard:
            day.emulator.drop_connections()
        await day.emulator.market.move(RELIANCE, price)
        await until(lambda: sold(day) == [units])
        await until(lambda: day.is_out)
        await settle()

        assert live(day) == []
        assert posts(day) == 1
        assert sold(day) == [units]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault.lost_reply(), id="reply lost"),
        pytest.param(Fault.reset(), id="reset"),
        pytest.param(Fault.server_error(), id="500"),
        pytest.param(Fault.html(accepted=True), id="html"),
        pytest.param(Fault.truncated(), id="cut short"),
        pytest.param(Fault.garbage(), id="garbage"),
    ],
)
async def test_a_forever_pair_whose_reply_is_lost_is_sent_once_and_found(tmp_path: Path, fault: Fault) -> None:
    async with delivery_day(tmp_path) as day:
        day.emulator.faults.add(PLACE, fault)
        units = await bought(day)

        (gtt,) = live(day)
        assert gtt.quantity == units
        assert posts(day) == 1


async def test_a_forever_pair_that_never_arrived_leaves_its_shares_to_no_second_sale(tmp_path: Path) -> None:
    async with delivery_day(tmp_path) as day:
        day.emulator.faults.add(PLACE, Fault.server_error(accepted=False))
        day.prices.tick(1401.0, meaning=BUY)
        await until(day.running.done)
        await restart(day)
        await settle()

        assert live(day) == []
        assert posts(day) == 1
        assert day.book("SELL") == []
        assert any("standing:" in each or "place-gtt" in each for each in day.said)


async def test_the_next_run_adopts_the_pair(tmp_path: Path) -> None:
    async with delivery_day(tmp_path) as day:
        units = await bought(day)
        await restart(day)

        assert day.bot.exits.held[RELIANCE.id].quantity == units
        assert posts(day) == 1
        await day.emulator.market.move(RELIANCE, 1394.0)
        await until(lambda: day.is_out)
        assert sold(day) == [units]
