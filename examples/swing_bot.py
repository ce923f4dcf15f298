"""Buy EMA crossovers that volume confirms, risk a fixed sum, protect every fill: a small bot on public names only."""

from datetime import time, timedelta
from decimal import Decimal
from typing import Any

import hybridbroker as hb


class SwingBot(hb.Strategy):
    """Long only: fast EMA above slow EMA on a busy bar buys; stop, target or (intraday) square-off time sells.

    Delivery shares are protected by an OCO order that waits at the broker, also at night and while no bot runs.
    """

    interval, square_off = hb.Interval.MINUTE_1, time(15, 15)
    lengths, busy, reward, slots = (9, 21, 20), 1.5, 2, 2  # of the fast EMA, the slow EMA, the volume's EMA, in bars

    def __init__(
        self,
        *names: str,
        risk: Decimal = Decimal(500),
        day_loss: Decimal = Decimal(1500),
        product: hb.Product = hb.Product.INTRADAY,
    ) -> None:
        self.names, self.risk, self.day_loss, self.product = names, risk, day_loss, hb.Product(product)
        self.averages, self.signals = dict[str, list[float]](), 0
        self.entries = dict[str, tuple[hb.Order, dict[str, Decimal]]]()  # open purchases, with their stop and target

    async def on_start(self, session: hb.TradingSession) -> None:
        self.session, self.broker, since = session, session.broker, session.clock.now() - timedelta(days=5)
        self.instruments = [session.instruments[name] for name in self.names]
        self.exits = hb.Exits(session, product=self.product)
        for share in self.instruments:
            for candle in await session.data.candles(share, self.interval, start=since):
                self.learn(candle)
        await self.on_stop()  # a restart: entries of a former run go, what is held keeps its protection
        bought = await self.exits.take_up(self.instruments)  # today, unprotected; no order: by a person
        for share, order in bought.items():
            if order and (price := order.average_price):
                await self.exits.protect(order, **self.plan(share, price, price))
        self.bare = [share for share in bought if share.id not in self.exits.held]  # add nothing
        if self.bare:
            await session.notifier.notify(f"not entering: {', '.join(map(str, self.bare))} held from a former run")

    def learn(self, candle: hb.Candle) -> bool:
        """Add a finished bar; say whether the fast average has just crossed above the slow one on a busy bar."""
        share, new = candle.instrument.id, (candle.close, candle.close, candle.volume)
        was = self.averages.get(share, list(new))
        now = self.averages[share] = [a + 2 / (n + 1) * (v - a) for a, v, n in zip(was, new, self.lengths, strict=True)]
        return was[0] <= was[1] and now[0] > now[1] and candle.volume > self.busy * was[2]

    @property
    def free(self) -> bool:
        """Whether another position may be opened."""
        taken = {*self.entries, *self.exits.held}
        return not self.bare and len(taken) < self.slots and self.exits.realised > -self.day_loss

    async def on_candle(self, candle: hb.Candle) -> None:
        share, signal = candle.instrument, self.learn(candle)
        if share.id in self.entries:
            await self.cancel(self.entries[share.id][0])  # the entry had its bar
        elif share.id in self.exits.held:
            await self.exits.on_candle(candle)
        elif signal and self.free and candle.start.time() < self.square_off:
            await self.enter(candle)

    def plan(self, share: hb.Instrument, price: Decimal, low: Decimal) -> dict[str, Decimal]:
        """Return the stop and the target of a purchase at ``price``."""
        stop = share.price(min(low, price * Decimal("0.997"))) - share.tick_size
        return {"stop": stop, "target": share.price(price + self.reward * (price - stop))}

    async def enter(self, candle: hb.Candle) -> None:
        """Buy so many that a fall from the price to the stop loses ``risk`` rupees, as far as the funds go."""
        share, price, self.signals = candle.instrument, candle.instrument.price(candle.close), self.signals + 1
        plan = self.plan(share, price, share.price(candle.low))
        funds = await self.ask(self.broker.funds())
        affordable = funds.available * Decimal("0.95") / price if funds else 0
        quantity = int(min(self.risk / (price - plan["stop"]), affordable)) // share.lot_size * share.lot_size
        if quantity > 0:
            buy = hb.LimitOrder(share, hb.Side.BUY, quantity=quantity, price=price, product=self.product)
            if order := await self.ask(self.broker.place_order(buy)):
                self.entries[share.id] = order, plan
                await self.on_order(order)  # it may have filled at once

    async def on_tick(self, tick: hb.Tick) -> None:
        at = tick.traded_at
        if self.product is hb.Product.INTRADAY and at is not None and at.time() >= self.square_off:
            await self.exits.leave(tick.instrument, tick.last_price)
        await self.exits.on_tick(tick)

    async def on_order(self, order: hb.Order) -> None:
        entry, plan = self.entries.get(order.instrument.id, (None, {}))
        if entry and order.id == entry.id:
            if order.status is hb.OrderStatus.PARTIALLY_FILLED:
                await self.cancel(order)  # protect what is bought rather than wait for the rest
            elif order.is_final:
                del self.entries[order.instrument.id]
                if order.filled_quantity:
                    await self.exits.protect(order, **plan)
        else:
            await self.exits.on_order(order)

    async def on_gap(self, gap: hb.Gap) -> None:
        await self.exits.on_gap(gap)

    async def on_stop(self) -> None:
        for order in await self.ask(self.broker.orders()) or ():
            if order.side is hb.Side.BUY and order.instrument in self.instruments:  # what it has bought gets its stop
                await (self.cancel(order) if order.is_open else self.on_order(order))

    async def cancel(self, order: hb.Order) -> None:
        if (done := await self.ask(self.broker.cancel_order(order.id))) and done.is_final:
            await self.on_order(done)

    async def ask(self, call: Any) -> Any:
        try:
            return await call  # what is not caught below may be live, or cannot be helped: it ends the run
        except (hb.OrderRejected, hb.OrderNotFound, hb.InvalidOrder, hb.RiskRefused, hb.NetworkError) as refusal:
            await self.session.notifier.notify(f"{type(refusal).__name__}: {refusal}")
