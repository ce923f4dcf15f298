"""``hybridbroker record`` against an emulated feed: what streamed is what replays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.cli.record import _record
from hybridbroker.domain.market import Depth, DepthLevel, FeedMode, Tick, TickDetails
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.protocols import Overflow
from hybridbroker.session import connect
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.tape import Tape, TapeWriter
from hybridbroker.strategy import Strategy
from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator, listed_from
from hybridbroker.testing.emulators.taped import market_from_tape


class Counting(Strategy):
    """Counts what it is told."""

    def __init__(self, tape: Tape) -> None:
        self.instruments = tape.instruments
        self.ticks: list[Tick] = []

    async def on_tick(self, tick: Tick) -> None:
        self.ticks.append(tick)


async def test_a_recorded_feed_plays_back_with_its_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = InstrumentRegistry.builtin()
    reliance = registry["NSE:RELIANCE"]
    market = EmulatedMarket.random_walk(listed_from(registry, [reliance]), seed=7)
    async with UpstoxEmulator(market) as upstox:
        monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", upstox.access_token)
        monkeypatch.setenv("UPSTOX_BASE_URL", upstox.rest_url)
        with TapeWriter(tmp_path) as writer:
            await _record(
                ["NSE:RELIANCE"],
                writer,
                data="upstox",
                mode=FeedMode.FULL,
                instruments="builtin",
                flush=0.05,
                events=60,
            )
    tape = Tape.open(tmp_path)
    bot = Counting(tape)

    result = await asyncio.to_thread(simulate, bot, tape)

    assert result.ok
    assert result.events == len(tape) == 60
    assert any(tick.depth is not None and tick.depth.bids for tick in bot.ticks)
    assert [each.id for each in tape.instruments] == ["NSE:RELIANCE"]
    assert json.loads(result.dumps())["interval"] is None


async def test_an_emulator_sends_what_was_recorded(tmp_path: Path) -> None:
    registry = InstrumentRegistry.builtin()
    reliance = registry["NSE:RELIANCE"]
    start = 1_790_000_000_000
    with TapeWriter(tmp_path) as writer:
        for number in range(30):
            depth = Depth(bids=(DepthLevel(1399.95, 10),), asks=(DepthLevel(1400.05, 20),))
            at = start + number * 1000
            writer.add(Tick(reliance, 1400.0 + number, 5, at, at, 1390.0, number, details=TickDetails(depth=depth)))
    market = market_from_tape(Tape.open(tmp_path), listed_from(registry, [reliance]))
    seen: list[Tick] = []
    async with UpstoxEmulator(market) as upstox:
        settings = UpstoxSettings(access_token=upstox.access_token, base_url=upstox.rest_url)
        async with (
            connect(data="upstox", instruments=registry, settings={"upstox": settings}, clock=market.clock) as session,
            session.data.stream([reliance], mode=FeedMode.FULL, overflow=Overflow.BLOCK) as stream,
        ):
            async for tick in stream.ticks():
                seen.append(tick)
                if tick.last_price == 1429.0:
                    break

    assert seen[-1].traded_ms == start + 29_000
    assert seen[-1].depth == Depth(bids=(DepthLevel(1399.95, 10),), asks=(DepthLevel(1400.05, 20),))
