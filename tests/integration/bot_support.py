"""The example bot with bars and signals that a test decides, and prices that say what they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Self

from hybridbroker import (
    Candle,
    Capability,
    FeedMode,
    Instrument,
    InstrumentRegistry,
    MarketEvent,
    Overflow,
    Tick,
)
from hybridbroker.cli.demo_day import load_bot
from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.market import Interval, TickDetails
from hybridbroker.testing.factories import make_tick

REGISTRY = InstrumentRegistry.builtin()
RELIANCE = REGISTRY["NSE:RELIANCE"]
BUY, BAR, PLAIN = 777, 666, 5
"""Last quantities by which a scripted tick says what it stands for."""


class ScriptedPrices:
    """A source of prices whose one stream says what it is told to."""

    name = "scripted"
    capabilities = Capability.NONE

    def __init__(self, start: datetime) -> None:
        self.health = SimpleNamespace(stale=lambda *_, **__: False, read_at=0.0)
        self._now = start
        self._events: asyncio.Queue[MarketEvent] = asyncio.Queue()

    def begin(self, day: datetime) -> None:
        """Let the next ticks be of another day."""
        self._now = day

    def tick(self, price: float, *, meaning: int = PLAIN) -> None:
        self._now += timedelta(seconds=1)
        at = to_epoch_ms(self._now)
        self._events.put_nowait(
            make_tick(
                instrument=RELIANCE,
                last_price=price,
                last_quantity=meaning,
                traded_ms=at,
                received_ms=at,
                details=TickDetails(),
            )
        )

    async def quotes(self, _: Iterable[Instrument]) -> Mapping[Instrument, Any]:
        return {}

    async def candles(self, *_: object, **__: object) -> list[Candle]:
        return []

    @asynccontextmanager
    async def stream(
        self, _: Iterable[Instrument] = (), *, mode: FeedMode = FeedMode.LTP, overflow: Overflow = Overflow.CONFLATE
    ) -> AsyncIterator[Any]:
        yield self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MarketEvent:
        return await self._events.get()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class EagerBot(load_bot().SwingBot):  # type: ignore[misc]
    """The example bot, whose bars and signals a scripted tick decides."""

    interval: Interval | None = None
    _signal = False

    def learn(self, candle: Candle) -> bool:
        return self._signal

    async def on_tick(self, tick: Tick) -> None:
        if tick.last_quantity == PLAIN:
            await super().on_tick(tick)
            return
        self._signal = tick.last_quantity == BUY
        price, at = tick.last_price, tick.traded_at
        assert at is not None
        await self.on_candle(
            Candle(
                instrument=RELIANCE,
                start=at.replace(second=0, microsecond=0),
                open=price,
                high=price,
                low=price * 0.998,
                close=price,
                volume=1000,
            )
        )
