"""Buy EMA crossovers that volume confirms, risk a fixed sum, protect every fill: a small bot on public names only."""

from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

import hybridbroker as hb


@dataclass
class Trade:
    entry: hb.Order
    stop: Decimal
    target: Decimal
    left: int = 0
    leg: hb.Order | None = None  # its one live sell order: first the stop, then the exit
    leaving: bool = False


class SwingBot(hb.Strategy):
    """Long only: fast EMA above slow EMA on a busy minute buys; stop, target or square-off time sells."""

    interval, product, square_off = hb.Interval.MINUTE_1, hb.Product.INTRADAY, time(15, 15)
    lengths, busy, reward, slots = (9, 21, 20), 1.5, 2, 2  # of the fast EMA, the slow EMA, the volume's EMA, in bars

    def __init__(self, *names: str, risk: Decimal = Decimal(500), day_loss: Decimal = Decimal(1500)) -> None:
        self.names, self.risk, self.day_loss = names, risk, day_loss
        self.averages, self.trades = dict[str, list[float]](), dict[str, Trade]()
        self.realised, self.signals, self.halted = Decimal(0), 0, False

    async def on_start(self, session: hb.TradingSession) -> None:
        self.session, self.broker, since = session, session.broker, session.clock.now() - timedelta(days=5)
        self.instruments = [session.instruments[name] for name in self.names]
        for share in self.instruments:
            for candle in await session.data.candles(share, self.interval, start=since):
                self.learn(candle)
        await self.on_stop()  # a restart: entries of a former run go, what is held keeps its stop, nothing is added
        self.halted = any(x.quantity and x.instrument in self.instruments for x in await self.broker.positions())

    def learn(self, candle: hb.Candle) -> bool:
        """Add a finished bar; say whether the fast average has just crossed above the slow one on a busy bar."""
        share, new = candle.instrument.id, (candle.close, candle.close, candle.volume)
        was = self.averages.get(share, list(new))
        now = self.averages[share] = [a + 2 / (n + 1) * (v - a) for a, v, n in zip(was, new, self.lengths, strict=True)]
        return was[0] <= was[1] and now[0] > now[1] and candle.volume > self.busy * was[2]

    async def on_candle(self, candle: hb.Candle) -> None:
        share, signal, trade = candle.instrument, self.learn(candle), self.trades.get(candle.instrument.id)
        if signal and not trade:
            await self.enter(candle)
        elif trade and not trade.left:
            await self.cancel(trade.entry)  # the entry had its minute
        elif trade and not trade.leg:
            await self.sell(trade, share.price(candle.close))  # it was refused: do not hold on unprotected
        elif trade and trade.leg and (trade.leg.type is hb.OrderType.LIMIT or candle.close < trade.stop):
            await self.ask(self.broker.modify_order(trade.leg.id, price=share.price(candle.close * 0.998)))

    async def enter(self, candle: hb.Candle) -> None:
        """Buy so many that a fall from the price to the stop loses ``risk`` rupees, as far as the funds go."""
        share, price, self.signals = candle.instrument, candle.instrument.price(candle.close), self.signals + 1
        free = not self.halted and len(self.trades) < self.slots and candle.start.time() < self.square_off
        stop = share.price(min(candle.low, candle.close * 0.997)) - share.tick_size
        funds = await self.ask(self.broker.funds()) if free else None
        affordable = funds.available * Decimal("0.95") / price if funds else 0
        quantity = int(min(self.risk / (price - stop), affordable)) // share.lot_size * share.lot_size
        if quantity > 0:
            buy = hb.LimitOrder(share, hb.Side.BUY, quantity=quantity, price=price, product=self.product)
            if order := await self.ask(self.broker.place_order(buy)):
                self.trades[share.id] = Trade(order, stop, share.price(price + self.reward * (price - stop)))
                await self.on_order(order)  # it may have filled at once

    async def on_tick(self, tick: hb.Tick) -> None:
        trade, at = self.trades.get(tick.instrument.id), tick.traded_at
        late = self.product is hb.Product.INTRADAY and at is not None and at.time() >= self.square_off
        if trade and trade.leg and not trade.leaving and (late or tick.last_price >= trade.target):
            trade.leaving, trade.target = True, tick.instrument.price(tick.last_price)
            trade.leaving = await self.cancel(trade.leg)  # the exit is sent once the stop is dead: never two at a time

    async def on_order(self, order: hb.Order) -> None:
        trade = self.trades.get(order.instrument.id)
        if trade and order.id == trade.entry.id and not trade.left:
            if order.status is hb.OrderStatus.PARTIALLY_FILLED:
                await self.cancel(order)  # protect what is bought rather than wait for the rest
            elif order.is_final:
                trade.entry, trade.left = order, order.filled_quantity
                if trade.left:
                    await self.sell(trade, trade.stop, trigger=trade.stop)
        elif trade and trade.leg and order.id == trade.leg.id and order.is_final:
            trade.left, trade.leg = trade.left - order.filled_quantity, None
            self.realised += ((order.average_price or 0) - (trade.entry.average_price or 0)) * order.filled_quantity
            self.halted = self.halted or self.realised <= -self.day_loss
            if trade.left and (order.status, order.type) != (hb.OrderStatus.REJECTED, hb.OrderType.LIMIT):
                await self.sell(trade, trade.target if trade.leaving else trade.stop)  # else again at the next bar
        if trade and trade.entry.is_final and not trade.left:
            self.trades.pop(order.instrument.id, None)

    async def on_stop(self) -> None:
        for order in await self.ask(self.broker.orders()) or ():
            if order.side is hb.Side.BUY and order.instrument in self.instruments:  # what it has bought gets its stop
                await (self.cancel(order) if order.is_open else self.on_order(order))

    async def sell(self, trade: Trade, last: Decimal, *, trigger: Decimal | None = None) -> None:  # or at once
        share, kind = trade.entry.instrument, hb.StopLimitOrder if trigger else hb.LimitOrder
        price, units = share.price(last * Decimal("0.998")), trade.left
        order = kind(share, hb.Side.SELL, quantity=units, price=price, trigger_price=trigger, product=self.product)
        trade.leg = await self.ask(self.broker.place_order(order))
        if trade.leg and trade.leg.is_final:
            await self.on_order(trade.leg)

    async def cancel(self, order: hb.Order) -> bool:
        if (done := await self.ask(self.broker.cancel_order(order.id))) and done.is_final:
            await self.on_order(done)
        return done is not None

    async def ask(self, call: Any) -> Any:
        try:
            return await call  # what is not caught below may be live, or cannot be helped: it ends the run
        except (hb.OrderRejected, hb.OrderNotFound, hb.InvalidOrder, hb.RiskRefused, hb.NetworkError) as refusal:
            await self.session.notifier.notify(f"{type(refusal).__name__}: {refusal}")
