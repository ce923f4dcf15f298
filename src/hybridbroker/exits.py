"""Exits: the stop and target of what a bot bought, by one live sell order at a time, over nights and restarts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable
from decimal import Decimal
from typing import TypeVar, cast

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Gap, Tick
from hybridbroker.domain.orders import LimitOrder, Order, OrderStatus, OrderType, Product, Side, StopLimitOrder
from hybridbroker.domain.standing import Gtt, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import InvalidOrder, NetworkError, OrderNotFound, OrderRejected, RiskRefused
from hybridbroker.protocols import Capability, GttOrders
from hybridbroker.strategy import TradingSession

__all__ = ["Exits", "Held"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REFUSALS = (OrderRejected, OrderNotFound, InvalidOrder, RiskRefused, NetworkError)
"""Told to the person, and tried again at the next bar; anything else may be live, and ends the run."""


@attrs.define
class Held:
    """Units of one instrument, and how they are to be left."""

    instrument: Instrument
    quantity: int
    """Units still held."""
    stop: Decimal
    target: Decimal
    bought_at: Decimal | None = None
    """Average price of the purchase; None for what a former run bought."""
    gtt: Gtt | None = None
    """The standing order that protects it at the broker."""
    leg: Order | None = None
    """Else its one live sell order of the day: first the stop, then the exit."""
    sale: Order | None = None
    """The open order that the standing one became, or somebody else's sale."""
    leaving: bool = False
    _filled: dict[str, int] = attrs.field(factory=dict)

    def sold(self, order: Order) -> int:
        """Take in a report of a sale; return the units that are new."""
        new = order.filled_quantity - self._filled.get(order.id, 0)
        if new > 0:
            self._filled[order.id] = order.filled_quantity
            self.quantity -= new
        return max(0, new)


class Exits:
    """Sells what is held at its stop or its target, long positions only.

    Delivery shares at a broker with OCO orders get one, which waits there when day orders die
    and this process is not running. Everything else gets a stop-limit order of the day; at the
    target, or when told to leave, it is cancelled first, and the exit is sent once it is dead.
    So two sales of the same shares are never live at a time. Call the hooks from those of the
    strategy. Refusals are told to the session's notifier and tried again at the next bar.

    Args:
        session: Where orders go.
        product: How the positions are held.
        slip: How far below the price that is meant a sell limit lies, as a fraction.
    """

    def __init__(self, session: TradingSession, *, product: Product, slip: Decimal = Decimal("0.002")) -> None:
        self.held: dict[str, Held] = {}
        """By instrument id."""
        self.realised = Decimal(0)
        """Rupees of the sales so far against their purchases, before charges."""
        self._session = session
        self._broker = session.broker
        self._product = product
        self._slip = 1 - slip
        stands = Capability.OCO_ORDERS in session.broker.capabilities and product is Product.DELIVERY
        self._standing = cast("GttOrders", session.broker) if stands else None

    async def take_up(self, instruments: Iterable[Instrument]) -> list[Instrument]:
        """Adopt the standing orders a former run left; return what was bought today and has none.

        One that ended without selling, such as a triggered order that died at the close, is
        placed anew. Shares that never had one are left alone, whoever bought them.
        """
        wanted = {each.id: each for each in instruments}
        positions = await self._broker.positions()
        units = {each.instrument.id: each.quantity for each in positions if each.product is self._product}
        if self._standing is not None:
            today, kept = dict(units), await self._broker.holdings()
            for share in kept:
                units[share.instrument.id] = units.get(share.instrument.id, 0) + share.quantity
            for gtt in await self._standing.gtts():
                if gtt.instrument.id in wanted and gtt.is_oco and gtt.side is Side.SELL:
                    await self._adopt(gtt, units.get(gtt.instrument.id, 0))
            units = today
        return [wanted[name] for name in sorted(wanted) if units.get(name, 0) > 0 and name not in self.held]

    async def protect(self, bought: Order, *, stop: Decimal, target: Decimal) -> None:
        """Protect what an order bought, from now on."""
        held = Held(bought.instrument, bought.filled_quantity, stop, target, bought.average_price)
        self.held[bought.instrument.id] = held
        await self._protect(held)

    async def leave(self, instrument: Instrument, price: float) -> None:
        """Sell now, at about ``price`` rupees: the protection goes first."""
        held = self.held.get(instrument.id)
        if held is None or held.leaving:
            return
        held.leaving, held.target = True, instrument.price(price)
        if held.gtt is not None and self._standing is not None:
            after = await self._ask(self._standing.cancel_gtt(held.gtt.id))
            held.leaving = after is not None
            if after is not None and not after.is_live:
                await self._gone(held, after)
        elif held.leg is not None:
            held.leaving = await self._cancel(held.leg)
        else:
            await self._sell(held, held.target)

    async def on_tick(self, tick: Tick) -> None:
        """Leave at the target, where no standing order does."""
        held = self.held.get(tick.instrument.id)
        if held is not None and held.leg is not None and tick.last_price >= held.target:
            await self.leave(tick.instrument, tick.last_price)

    async def on_candle(self, candle: Candle) -> None:
        """Follow a market that ran away from a sell order, and try again what was refused."""
        held, price = self.held.get(candle.instrument.id), candle.instrument.price(candle.close)
        if held is None:
            return
        low = candle.instrument.price(price * self._slip)
        if held.sale is not None:
            await self._ask(self._broker.modify_order(held.sale.id, price=low))
        elif held.gtt is not None:
            return
        elif held.leg is None:
            bare = self._standing is not None and not held.leaving and price > held.stop
            await (self._protect(held) if bare else self._sell(held, price))
        elif held.leg.type is OrderType.LIMIT or price < held.stop:
            await self._ask(self._broker.modify_order(held.leg.id, price=low))

    async def on_order(self, order: Order) -> None:
        """Take in what the broker says of a sale, whoever sent it."""
        held = self.held.get(order.instrument.id)
        if held is None or order.side is not Side.SELL or order.product is not self._product:
            return
        new = held.sold(order)
        if held.bought_at is not None and order.average_price is not None:
            self.realised += (order.average_price - held.bought_at) * new
        if held.leg is not None and order.id == held.leg.id:
            await self._leg_changed(held, order)
        else:
            held.sale = order if order.is_open else None
            if order.is_final and held.quantity > 0 and held.gtt is not None:
                await self._look(held)
        if held.quantity <= 0:
            await self._done(held)

    async def on_gap(self, gap: Gap) -> None:
        """Look at the standing orders, since their sales may have been missed."""
        logger.info("looking at standing orders after %s", gap.reason)
        for held in [each for each in self.held.values() if each.gtt is not None]:
            await self._look(held)

    # How it is done.

    async def _protect(self, held: Held) -> None:
        share, low = held.instrument, held.instrument.price(held.stop * self._slip)
        if self._standing is not None:
            oco = OcoOrder(
                share,
                Side.SELL,
                quantity=held.quantity,
                target=Trigger(held.target, price=share.price(held.target * self._slip)),
                stop=Trigger(held.stop, price=low),
                product=self._product,
            )
            held.gtt = await self._ask(self._standing.place_gtt(oco))
            if held.gtt is not None:
                return
        stop = StopLimitOrder(
            share, Side.SELL, quantity=held.quantity, price=low, trigger_price=held.stop, product=self._product
        )
        await self._place(held, stop)

    async def _sell(self, held: Held, last: Decimal) -> None:
        price = held.instrument.price(last * self._slip)
        exit_ = LimitOrder(held.instrument, Side.SELL, quantity=held.quantity, price=price, product=self._product)
        await self._place(held, exit_)

    async def _place(self, held: Held, request: LimitOrder | StopLimitOrder) -> None:
        held.leg = await self._ask(self._broker.place_order(request))
        if held.leg is not None and held.leg.is_final:
            await self.on_order(held.leg)

    async def _leg_changed(self, held: Held, order: Order) -> None:
        if not order.is_final:
            held.leg = order
            return
        held.leg = None
        refused = order.status is OrderStatus.REJECTED and order.type is OrderType.LIMIT
        over = order.status is OrderStatus.EXPIRED and self._standing is not None
        if held.quantity > 0 and not refused and not over:  # else again at the next bar
            await self._sell(held, held.target if held.leaving else held.stop)

    async def _cancel(self, order: Order) -> bool:
        after = await self._ask(self._broker.cancel_order(order.id))
        if after is not None and after.is_final:
            await self.on_order(after)
        return after is not None

    async def _look(self, held: Held) -> None:
        """Read the standing order anew, and follow what became of it."""
        if self._standing is None or held.gtt is None:
            return
        shown = {each.id: each for each in await self._ask(self._standing.gtts()) or ()}
        gtt = shown.get(held.gtt.id)
        if gtt is None:
            return
        held.gtt = gtt
        for leg in gtt.legs:
            if leg.order_id is not None:
                order = await self._ask(self._broker.order(leg.order_id))
                if order is not None and held.sold(order) and held.quantity <= 0:
                    await self._done(held)
                    return
                if order is not None and not order.is_final:
                    return  # its sale is under way
        if not _works(gtt):
            await self._gone(held, gtt)

    async def _gone(self, held: Held, gtt: Gtt) -> None:
        """Go on without a standing order that has ended: sell, or protect what it left."""
        held.gtt = None
        sent = [leg for leg in gtt.legs if leg.status in {LegStatus.SENT, LegStatus.FILLED}]
        if sent and held.leaving:
            logger.info("%s is being sold by its standing order", held.instrument.id)
            held.gtt = gtt
            return
        await (self._sell(held, held.target) if held.leaving else self._protect(held))

    async def _done(self, held: Held) -> None:
        self.held.pop(held.instrument.id, None)
        if held.gtt is not None and self._standing is not None and _works(held.gtt):
            shown = {each.id: each for each in await self._ask(self._standing.gtts()) or ()}
            gtt = shown.get(held.gtt.id)
            if gtt is not None and any(leg.status is LegStatus.ARMED for leg in gtt.legs):
                # Sold by somebody else: what still waits would sell again.
                await self._ask(self._standing.cancel_gtt(gtt.id))

    async def _adopt(self, gtt: Gtt, units: int) -> None:
        target, stop = gtt.leg(LegRole.TARGET), gtt.leg(LegRole.STOP)
        if target is None or stop is None or target.trigger_price is None or stop.trigger_price is None:
            return
        held = Held(gtt.instrument, min(units, gtt.quantity), stop.trigger_price, target.trigger_price, gtt=gtt)
        if gtt.is_live and units >= gtt.quantity:
            self.held[gtt.instrument.id] = held
            logger.info("adopting %s: %d of %s", gtt.id, held.quantity, gtt.instrument.id)
        elif gtt.is_live and self._standing is not None:
            # It would sell more than there is.
            await self._ask(self._standing.cancel_gtt(gtt.id))
            await self._renew(held)
        elif _failed(gtt):
            await self._renew(held)

    async def _renew(self, held: Held) -> None:
        if held.quantity > 0 and held.instrument.id not in self.held:
            held.gtt = None
            self.held[held.instrument.id] = held
            await self._protect(held)

    async def _ask(self, call: Awaitable[T]) -> T | None:
        try:
            return await call
        except _REFUSALS as refusal:
            await self._session.notifier.notify(f"{type(refusal).__name__}: {refusal}")
            return None


def _works(gtt: Gtt) -> bool:
    return any(leg.status in {LegStatus.ARMED, LegStatus.SENT} for leg in gtt.legs)


def _failed(gtt: Gtt) -> bool:
    """Say whether it ended without selling and without anybody cancelling it."""
    statuses = {leg.status for leg in gtt.legs}
    return not statuses.isdisjoint({LegStatus.REJECTED, LegStatus.EXPIRED}) and LegStatus.FILLED not in statuses
