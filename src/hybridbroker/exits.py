"""Exits: the stop and target of what a bot bought, by one live sell order at a time, over nights and restarts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from decimal import Decimal
from typing import TypeVar, cast

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Gap, Tick
from hybridbroker.domain.orders import LimitOrder, Order, OrderStatus, OrderType, Product, Side, StopLimitOrder
from hybridbroker.domain.standing import Gtt, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import InvalidOrder, NetworkError, OrderNotFound, OrderRejected, RiskRefused
from hybridbroker.held import Held, has_failed, is_over
from hybridbroker.protocols import Capability, GttOrders
from hybridbroker.strategy import TradingSession

__all__ = ["Exits", "Held"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REFUSALS = (OrderRejected, OrderNotFound, InvalidOrder, RiskRefused, NetworkError)
"""Told to the person, and tried again at the next bar; anything else may be live, and ends the run."""


class Exits:
    """Sells what is held at its stop or its target, long positions only.

    Delivery shares at a broker with OCO orders get one, which waits there when day orders die
    and this process is not running. Everything else gets a stop-limit order of the day; at the
    target, or when told to leave, it is cancelled first, and the exit is sent once it is dead.
    So two sales of the same shares are never live at a time. Call the hooks from those of the
    strategy. Refusals are told to the session's notifier and tried again at the next bar.

    Sales by others are never touched; after one, what the account still holds says what is
    left to protect. So shares of the person beside the bot's are left alone, as far as a broker
    that keeps them in one heap allows.

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
        self._filled: dict[str, int] = {}
        stands = Capability.OCO_ORDERS in session.broker.capabilities and product is Product.DELIVERY
        self._standing = cast("GttOrders", session.broker) if stands else None

    async def take_up(self, instruments: Iterable[Instrument]) -> dict[Instrument, Order | None]:
        """Adopt the standing orders a former run left; return what was bought today and has none.

        With it comes the purchase of this library that accounts for it, for `protect`; None where
        a person bought it, or where a sale of it is open. A standing order that ended without
        selling, such as a triggered one that died at the close, is placed anew. Shares of
        earlier days that have none are left alone, whoever bought them.
        """
        wanted = {each.id: each for each in instruments}
        # Before the positions: a fill in between is then counted twice, and never missed.
        book = await self._broker.orders()
        self._filled.update({each.id: each.filled_quantity for each in book})
        bought = await self._units(today=True)
        if self._standing is not None:
            units = bought + await self._units(today=False)
            shown = [each for each in await self._standing.gtts() if each.is_oco and each.side is Side.SELL]
            for name in wanted:
                gtts = [each for each in shown if each.instrument.id == name and each.product is self._product]
                if gtts:
                    await self._adopt(gtts, units[name], book)
        bare = [wanted[name] for name in sorted(wanted) if bought[name] > 0 and name not in self.held]
        return {each: self._purchase(each, book, units=bought[each.id]) for each in bare}

    async def protect(self, bought: Order, *, stop: Decimal, target: Decimal) -> None:
        """Protect what an order bought, from now on."""
        held = Held(bought.instrument, bought.filled_quantity, stop, target, bought.average_price)
        self.held[bought.instrument.id] = held
        await self._protect(held)

    async def leave(self, instrument: Instrument, price: float) -> None:
        """Sell now, at about ``price`` rupees: the protection goes first."""
        held = self.held.get(instrument.id)
        if held is None or held.leaving or held.quantity <= 0:
            return
        held.leaving, held.target = True, instrument.price(price)
        if held.gtt is not None and self._standing is not None:
            after = await self._ask(self._standing.cancel_gtt(held.gtt.id))
            held.leaving = after is not None
            if after is not None and (after.may_trade or not after.unfilled):
                logger.info("%s may be being sold by its standing order", instrument.id)
                held.gtt, held.unsure = after, True
            elif after is not None:
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
        if held is not None and held.leg is not None and is_over(held.leg, candle):
            await self._leg_changed(held, attrs.evolve(held.leg, status=OrderStatus.EXPIRED))
            await self._look(held, recount=True)  # it may have been filled before
        elif held is not None and (held.unsure or held.recount):
            recount, held.recount = held.recount, False
            await self._look(held, recount=recount)
        elif held is not None:
            await self._fit(held)
        if held is None or self.held.get(candle.instrument.id) is not held or held.quantity <= 0:
            return
        low = candle.instrument.price(price * self._slip)
        if held.sale is not None:
            await self._ask(self._broker.modify_order(held.sale.id, price=low))
        elif held.gtt is not None:
            return
        elif held.leg is None:
            bare = (self._standing is not None or held.expired) and not held.leaving and price > held.stop
            held.expired = False
            await (self._protect(held) if bare else self._sell(held, price))
        elif held.leg.type is OrderType.LIMIT or price < held.stop:
            await self._ask(self._broker.modify_order(held.leg.id, price=low))

    async def on_order(self, order: Order) -> None:
        """Take in what the broker says of a sale, whoever sent it."""
        held = self.held.get(order.instrument.id)
        if order.side is not Side.SELL or order.product is not self._product:
            return
        if held is None:
            self._new(order)
        elif held.leg is not None and order.id == held.leg.id:
            self._sold(held, self._new(order), order.average_price)
            await self._leg_changed(held, order)
        elif held.made(order):
            self._take(held, order)
            if order.is_final:
                await self._look(held)
        elif order.is_open or order.filled_quantity > self._filled.get(order.id, 0):
            await self._look(held, of=order)
        if held is not None and held.quantity <= 0:
            await self._done(held)

    async def on_gap(self, gap: Gap) -> None:
        """Look at the standing orders, since their sales may have been missed."""
        logger.info("looking at standing orders after %s", gap.reason)
        for held in [each for each in self.held.values() if each.gtt is not None]:
            await self._look(held)

    # Protecting and selling.

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
            try:
                held.gtt = await self._standing.place_gtt(oco)
            except (RiskRefused, NetworkError) as refusal:
                # Another sale of these shares may be waiting, so nothing takes its place: again at the next bar.
                await self._tell(refusal)
                return
            except _REFUSALS as refusal:
                await self._tell(refusal)
            else:
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
        held.expired = order.status is OrderStatus.EXPIRED and self._product is not Product.INTRADAY
        if held.quantity > 0 and not refused and not held.expired:  # else again at the next bar
            await self._sell(held, held.target if held.leaving else held.stop)

    async def _cancel(self, order: Order) -> bool:
        after = await self._ask(self._broker.cancel_order(order.id))
        if after is not None and after.is_final:
            await self.on_order(after)
        return after is not None

    async def _gone(self, held: Held, gtt: Gtt) -> None:
        """Go on without a standing order that has ended: sell, or protect what it left."""
        held.gtt = held.sale = None
        held.quantity = min(held.quantity, gtt.unfilled)
        if held.quantity <= 0:
            await self._done(held)
        elif held.leaving:
            await self._sell(held, held.target)
        elif all(leg.status is not LegStatus.REJECTED for leg in gtt.legs):  # else again at the next bar
            await self._protect(held)

    async def _done(self, held: Held) -> None:
        """Take away whatever still waits to sell what is sold; what cannot be is tried again at the next bar."""
        if self.held.get(held.instrument.id) is not held:
            return
        leg, held.leg = held.leg, None
        if leg is not None and leg.is_open and await self._ask(self._broker.cancel_order(leg.id)) is None:
            held.leg = leg
            return
        if held.gtt is not None and self._standing is not None:
            shown = await self._ask(self._standing.gtts())
            gtt = held.gtt if shown is None else next((each for each in shown if each.id == held.gtt.id), None)
            waits = gtt is not None and any(leg.status in {LegStatus.ARMED, LegStatus.UNKNOWN} for leg in gtt.legs)
            if waits and await self._ask(self._standing.cancel_gtt(held.gtt.id)) is None:
                return
        self.held.pop(held.instrument.id, None)

    # Finding out.

    async def _look(self, held: Held, *, of: Order | None = None, recount: bool = False) -> None:
        """Read the standing order, the book and, where somebody else sold, the account; follow what became of it.

        ``of`` is a sale of which nobody knows yet where it came from.
        """
        held.unsure = False
        if held.gtt is not None and self._standing is not None:
            shown = await self._ask(self._standing.gtts()) or ()
            found = next((each for each in shown if each.id == held.gtt.id), None)
            held.gtt = found or held.gtt
            held.unsure = found is None or any(leg.status is LegStatus.UNKNOWN for leg in found.legs)
        book = [] if of is None else [of]
        for order in [*book, *(await self._ask(self._broker.orders()) or ())]:
            if order.instrument == held.instrument and order.side is Side.SELL and order.product is self._product:
                if held.made(order):
                    self._take(held, order)
                elif (held.leg is None or order.id != held.leg.id) and self._new(order):
                    held.recount = recount = True
        if held.gtt is not None and not held.gtt.may_trade:
            await self._gone(held, held.gtt)
            return
        if recount and (units := await self._ask(self._units())) is not None:
            held.quantity = min(held.quantity, max(0, units[held.instrument.id]))
        await self._fit(held)

    async def _fit(self, held: Held) -> None:
        """Let nothing wait to sell more than is held."""
        gtt, leg = held.gtt, held.leg
        if held.quantity <= 0:
            await self._done(held)
        elif gtt is not None and self._standing is not None:
            waits = all(each.status is LegStatus.ARMED for each in gtt.legs)
            if waits and gtt.quantity > held.quantity:
                changed = await self._ask(self._standing.modify_gtt(gtt.id, quantity=held.quantity))
                held.gtt = changed or gtt
        elif leg is not None and leg.quantity - leg.filled_quantity > held.quantity:
            quantity = leg.filled_quantity + held.quantity
            held.leg = await self._ask(self._broker.modify_order(leg.id, quantity=quantity)) or leg

    async def _adopt(self, gtts: Sequence[Gtt], units: int, book: Iterable[Order]) -> None:
        """Take up the newest of the standing orders on one instrument, oldest first; ``units`` are held in all."""
        live = [each for each in gtts if each.may_trade]
        gtt = (live or gtts)[-1]
        target, stop = gtt.leg(LegRole.TARGET), gtt.leg(LegRole.STOP)
        if target is None or stop is None or target.trigger_price is None or stop.trigger_price is None:
            return
        held = Held(gtt.instrument, gtt.unfilled, stop.trigger_price, target.trigger_price, gtt=gtt)
        if live:
            logger.info("adopting %s: %d of %s", gtt.id, held.quantity, gtt.instrument.id)
            self.held[gtt.instrument.id] = held
            for order in book:
                if order.instrument == gtt.instrument and order.side is Side.SELL and held.made(order):
                    self._take(held, order)
            await self._make_room(live, units)
            # Shares can be missing from both lists in the morning, so nothing at all is believed at the first bar.
            held.recount, held.quantity = units <= 0, min(held.quantity, units if units > 0 else held.quantity)
            await self._fit(held)
        elif has_failed(gtt) and units > 0 and held.quantity > 0:
            held.gtt, held.quantity = None, min(held.quantity, units)
            self.held[gtt.instrument.id] = held
            await self._protect(held)

    async def _make_room(self, live: Sequence[Gtt], units: int) -> None:
        """Cancel older standing orders that together with the newest would sell more than there is."""
        room = units - live[-1].unfilled
        for older in reversed(live[:-1]):
            room -= older.unfilled
            if units > 0 > room and self._standing is not None:
                await self._tell(f"cancelling {older.id}: with {live[-1].id} it would sell more than is held")
                await self._ask(self._standing.cancel_gtt(older.id))

    def _purchase(self, instrument: Instrument, book: Iterable[Order], *, units: int) -> Order | None:
        found = None
        for order in book:
            if order.instrument == instrument and order.product is self._product:
                if order.side is Side.SELL and order.is_open:
                    return None
                is_ours = (order.client_order_id or "").startswith("hb-")
                if order.side is Side.BUY and is_ours and order.filled_quantity:
                    found = order
        return found if found is not None and found.filled_quantity <= units else None

    async def _units(self, *, today: bool | None = None) -> Counter[str]:
        """Return the units in the account: bought or sold today, kept from earlier days, or both."""
        units: Counter[str] = Counter()
        if today is not False:
            for position in await self._broker.positions():
                if position.product is self._product:
                    units[position.instrument.id] += position.quantity
        if today is not True and self._product is Product.DELIVERY:
            for share in await self._broker.holdings():
                units[share.instrument.id] += share.quantity
        return units

    def _take(self, held: Held, order: Order) -> None:
        """Take in a report of a sale that the standing order made."""
        self._sold(held, self._new(order), order.average_price)
        held.sale = order if order.is_open else None

    def _sold(self, held: Held, units: int, price: Decimal | None) -> None:
        held.quantity -= units
        if held.bought_at is not None and price is not None:
            self.realised += (price - held.bought_at) * units

    def _new(self, order: Order) -> int:
        """Return the units of a sale that were not taken in yet."""
        new = order.filled_quantity - self._filled.get(order.id, 0)
        self._filled[order.id] = max(order.filled_quantity, self._filled.get(order.id, 0))
        return max(0, new)

    async def _ask(self, call: Awaitable[T]) -> T | None:
        try:
            return await call
        except _REFUSALS as refusal:
            await self._tell(refusal)
            return None

    async def _tell(self, what: Exception | str) -> None:
        told = what if isinstance(what, str) else f"{type(what).__name__}: {what}"
        await self._session.notifier.notify(told)
