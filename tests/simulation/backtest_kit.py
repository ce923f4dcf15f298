"""Small makers of history: bars of invented shares, and bots that note what they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from simulated import ACME

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Candles, Gap, Interval, Tick
from hybridbroker.domain.orders import Order, OrderRequest
from hybridbroker.errors import HybridBrokerError
from hybridbroker.strategy import Strategy, TradingSession

MORNING = datetime(2026, 9, 21, 9, 15, tzinfo=IST)
"""When the market opens on a regular Monday."""

Bar = tuple[float, float, float, float] | tuple[float, float, float, float, int]


def bars(
    *rows: Bar,
    instrument: Instrument = ACME,
    interval: Interval = Interval.MINUTE_1,
    start: datetime = MORNING,
    step: timedelta | None = None,
) -> Candles:
    """Bars of open, high, low, close and volume (1,000 unless given), one after the other."""
    length = step or interval.duration or timedelta(days=1)
    return Candles.from_rows(
        [
            Candle(
                instrument=instrument,
                start=start + number * length,
                open=row[0],
                high=row[1],
                low=row[2],
                close=row[3],
                volume=row[4] if len(row) > 4 else 1_000,
            )
            for number, row in enumerate(rows)
        ],
        instrument=instrument,
        interval=interval,
    )


def flat(price: float, count: int, **changes: Any) -> Candles:
    return bars(*[(price, price, price, price)] * count, **changes)


class Bot(Strategy):
    """Streams what it is given, and notes the bars it gets with the time it got them."""

    interval = Interval.MINUTE_1

    def __init__(self, *instruments: Instrument) -> None:
        self.instruments = instruments or (ACME,)
        self.seen: list[tuple[datetime, Candle]] = []
        self.orders: list[Order] = []
        self.errors: list[HybridBrokerError] = []

    async def on_start(self, session: TradingSession) -> None:
        self.session, self.broker, self.clock = session, session.broker, session.clock

    async def on_candle(self, candle: Candle) -> None:
        self.seen.append((self.clock.now(), candle))

    async def on_order(self, order: Order) -> None:
        self.orders.append(order)


class Scripted(Bot):
    """Places orders when the bar of that number has finished, counted from 0."""

    def __init__(self, plan: Mapping[int, Sequence[OrderRequest]], *instruments: Instrument) -> None:
        super().__init__(*instruments)
        self.plan = plan
        self.placed: list[Order] = []

    async def on_candle(self, candle: Candle) -> None:
        await super().on_candle(candle)
        for request in self.plan.get(len(self.seen) - 1, ()):
            try:
                self.placed.append(await self.broker.place_order(request))
            except HybridBrokerError as exc:
                self.errors.append(exc)


class Ticking(Bot):
    """As `Bot`, with every tick and gap noted too."""

    def __init__(self, *instruments: Instrument) -> None:
        super().__init__(*instruments)
        self.ticks: list[Tick] = []
        self.gaps: list[Gap] = []

    async def on_tick(self, tick: Tick) -> None:
        self.ticks.append(tick)

    async def on_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
