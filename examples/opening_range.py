"""Trade the breakout of the first half hour, intraday, both ways, one try a day: a second small bot."""

from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

import hybridbroker as hb


@dataclass
class Range:
    """What one share did since the open."""

    day: date
    high: float
    low: float
    entry: hb.Order | None = None
    stop: hb.Order | None = None


class OpeningRange(hb.Strategy):
    """Buys above the opening range or sells below it, protects the fill at its other end, leaves before the close."""

    interval = hb.Interval.MINUTE_5
    range_ends, last_entry, leave = time(9, 45), time(14, 30), time(15, 10)

    def __init__(self, *names: str, budget: Decimal = Decimal(20_000)) -> None:
        self.names, self.budget = names, budget
        self.ranges = dict[str, Range]()

    async def on_start(self, session: hb.TradingSession) -> None:
        self.session, self.broker = session, session.broker
        self.instruments = [session.instruments[name] for name in self.names]

    async def on_candle(self, candle: hb.Candle) -> None:
        share, at, today = candle.instrument, candle.start.time(), candle.start.date()
        known = self.ranges.get(share.id)
        if known is None or known.day != today:
            known = self.ranges[share.id] = Range(today, candle.high, candle.low)
        if at < self.range_ends:
            known.high, known.low = max(known.high, candle.high), min(known.low, candle.low)
        elif at >= self.leave:
            await self.exit(known)
        elif known.entry is None and at < self.last_entry and not known.low <= candle.close <= known.high:
            await self.enter(known, candle)

    async def enter(self, known: Range, candle: hb.Candle) -> None:
        share, side = candle.instrument, hb.Side.BUY if candle.close > known.high else hb.Side.SELL
        units = int(self.budget / share.price(candle.close)) // share.lot_size * share.lot_size
        if units:
            order = hb.MarketOrder(share, side, quantity=units, product=hb.Product.INTRADAY)
            known.entry = await self.ask(self.broker.place_order(order)) or known.entry
            if known.entry:
                await self.on_order(known.entry)  # it may have filled at once

    async def on_order(self, order: hb.Order) -> None:
        known = self.ranges.get(order.instrument.id)
        if known and known.entry and order.id == known.entry.id and order.is_final:
            known.entry = order
            if order.filled_quantity and not known.stop:
                trigger = order.instrument.price(known.low if order.side is hb.Side.BUY else known.high)
                known.stop = await self.ask(
                    self.broker.place_order(
                        hb.StopMarketOrder(
                            order.instrument,
                            order.side.opposite,
                            quantity=order.filled_quantity,
                            trigger_price=trigger,
                            product=hb.Product.INTRADAY,
                        )
                    )
                )
        elif known and known.stop and order.id == known.stop.id:
            known.stop = order

    async def exit(self, known: Range) -> None:
        """Cancel the stop, then close what it no longer protects."""
        stop, known.stop = known.stop, None
        if not stop or stop.status is hb.OrderStatus.FILLED:
            return
        dead = await self.ask(self.broker.cancel_order(stop.id))
        if dead and dead.is_final and dead.remaining:
            order = hb.MarketOrder(dead.instrument, dead.side, quantity=dead.remaining, product=hb.Product.INTRADAY)
            await self.ask(self.broker.place_order(order))

    async def ask(self, call: Any) -> Any:
        try:
            return await call
        except (hb.OrderRejected, hb.OrderNotFound, hb.InvalidOrder, hb.RiskRefused) as refusal:
            await self.session.notifier.notify(f"{type(refusal).__name__}: {refusal}")
