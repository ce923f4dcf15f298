"""Dhan's order book over a simulated exchange: transit, refusals on the way, after-market orders, expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import attrs

from hybridbroker.domain.market import Depth, DepthLevel, Tick
from hybridbroker.domain.orders import (
    LimitOrder,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    Product,
    Side,
    Trade,
    Validity,
)
from hybridbroker.domain.standing import BracketOrder
from hybridbroker.errors import InvalidOrder, OrderRejected, Unsupported
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.orders import ORDER_TYPES, PRODUCTS, Refusal, Terms, read_modification
from hybridbroker.testing.emulators.dhan.rows import Entry
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.steps import Step

__all__ = ["OFF_TICK", "DhanBook", "Origin"]

OFF_TICK: Final = "EXCH:16283: The order price is not multiple of the tick size."
"""How the exchange rejects such a price (recorded)."""

_MOST_MODIFICATIONS: Final = 25
_PRICED: Final = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_TRIGGERED: Final = frozenset({OrderType.STOP_LIMIT, OrderType.STOP_MARKET})
_TYPE_NAMES: Final = {request.type: name for name, request in ORDER_TYPES.items()}
_PRODUCT_NAMES: Final = {product: name for name, product in PRODUCTS.items()}
_RMS: Final = {
    "selling ": "You are trying to sell more than the quantity you currently hold.",
    "intraday orders are not taken": "Intraday orders cannot be placed at this time.",
}
_THROUGH: Final = Decimal("0.05")


@attrs.frozen
class Origin:
    """Where an order that the exchange made itself comes from."""

    correlation_id: str = "NA"
    parent: str = ""
    leg: str = "NA"


class DhanBook:
    """Orders by Dhan's ids; ``tell`` is called with each entry whenever it changed.

    In the ``sandbox`` nothing ever reaches an exchange: what is accepted rests (measured).
    """

    def __init__(
        self,
        market: EmulatedMarket,
        exchange: SimulatedExchange,
        *,
        habits: DhanHabits,
        tell: Callable[[Entry], None],
        sandbox: bool = False,
    ) -> None:
        self.origins: list[Callable[[Order], Origin | None]] = []
        """Who may know where an order comes from that the exchange made itself."""
        self._market = market
        self._exchange = exchange
        self._habits = habits
        self._tell = tell
        self._sandbox = sandbox
        self._entries: dict[str, Entry] = {}
        self._by_exchange: dict[str, Entry] = {}
        self._shown: dict[str, int | None] = {}
        self._count = 0

    def today(self) -> list[Entry]:
        """Return the day's orders and those still alive, oldest first."""
        today = self._market.now.date()
        return [each for each in self._entries.values() if each.created.date() == today or not each.is_final]

    def all(self) -> list[Entry]:
        """Return the orders of every day, oldest first."""
        return list(self._entries.values())

    def get(self, order_id: str) -> Entry | None:
        """Return one order."""
        return self._entries.get(order_id)

    def find(self, correlation_id: str) -> Entry | None:
        """Return the newest order of that correlation id; one in transit cannot be found yet (measured)."""
        for entry in reversed(self.today()):
            if entry.terms.correlation_id == correlation_id and entry.status != "TRANSIT":
                return entry
        return None

    def of(self, order: Order) -> Entry:
        """Return the entry of an order of the exchange, made where it has none yet."""
        return self._by_exchange.get(order.id) or self._adopt(order)

    def trades(self) -> Iterator[tuple[Trade, Entry]]:
        """Iterate over the day's trades with their orders."""
        for trade in self._exchange.trades():
            yield trade, self._by_exchange[trade.order_id]

    def all_trades(self) -> Iterator[tuple[Trade, Entry]]:
        """Iterate over the trades of every day with their orders."""
        for trade in self._exchange.all_trades():
            yield trade, self._by_exchange[trade.order_id]

    def enter(self, terms: Terms, *, bracket: BracketOrder | None = None) -> Entry:
        """Take an order into the book; it is in transit, or waits for the next session."""
        if not self._market.is_open and not terms.after_market and not self._sandbox:
            raise Refusal.order("Market is Closed! Want to place an offline order?")
        if self._sandbox and terms.after_market and terms.product == "CNC" and not self._market.is_open:
            raise Refusal.order("Markets are Offline or Blocked")
        if terms.type == "STOP_LOSS_MARKET" and self._habits.stop_market == "refused":
            raise Refusal.order("Trigger Price should be greater than Price")
        entry = self._new(terms)
        entry.bracket = bracket
        if bracket is not None:
            entry.leg = "ENTRY_LEG"
        self._tell(entry)
        return entry

    def arrive(self, entry: Entry) -> None:
        """Let an order reach the exchange, which may refuse it; once there, this does nothing."""
        if entry.order is not None or entry.is_final or entry.parked:
            return
        reason = self._refusal(entry)
        if reason is not None:
            self._reject(entry, reason)
        elif self._sandbox:
            entry.parked = True
            self.refresh(entry)
        else:
            self._submit(entry)

    def modify(self, order_id: str, fields: dict[str, Any], *, client_id: str) -> Entry:
        """Replace an order's terms; allowed in transit (measured)."""
        entry = self._changeable(order_id)
        terms = read_modification(fields, client_id=client_id, order_id=entry.id, old=entry.terms)
        self.count_modification(entry)
        if entry.order is not None:
            self._amend(entry.order, terms)
        entry.terms = terms
        self.refresh(entry)
        return entry

    def count_modification(self, entry: Entry) -> None:
        """Count one more; an order is refused its 26th (documented)."""
        if entry.modifications >= _MOST_MODIFICATIONS:
            raise Refusal.order("Maximum number of modifications of this order reached")
        entry.modifications += 1

    def cancel(self, order_id: str) -> Entry:
        """Cancel an order; refused in transit (measured)."""
        entry = self._changeable(order_id)
        if entry.status == "TRANSIT":
            raise Refusal.order("Order is in Transit state")
        if entry.order is None:
            entry.ended = "CANCELLED"
        else:
            self._exchange.cancel(entry.order.id, at=self._market.now)
        self.refresh(entry)
        return entry

    def step(self, step: Step) -> None:
        """Let the market move: queued orders go out at the opening, day orders die at the close."""
        if self._sandbox:
            return
        self.follow(self._exchange.advance(at=self._market.now))
        if step.status == pb.NORMAL_OPEN:
            for entry in self.today():
                if entry.terms.after_market:
                    self.arrive(entry)
        for listed, _ in step.updates:
            self.show(listed)
        if step.status == pb.NORMAL_CLOSE:
            self._expire()

    def show(self, listed: ListedInstrument) -> None:
        """Let the exchange see the present price; outside the session nothing trades at it."""
        tick = self._market.tick(listed)
        if tick is None or self._sandbox:
            return
        self._shown[listed.upstox_key] = self._habits.liquidity
        if self._market.is_open:
            self.follow(self._exchange.on_tick(self._thinned(tick), at=self._market.now))
        else:
            self._exchange.mark(tick)

    def follow(self, orders: Iterable[Order]) -> None:
        """Tell of orders that the exchange changed by itself."""
        for order in orders:
            self.refresh(self.of(order))

    def refresh(self, entry: Entry) -> None:
        """Bring an entry to where its order is, and tell of it."""
        if entry.order is not None:
            entry.order = self._exchange.order(entry.order.id)
        entry.updated = self._market.now
        self._tell(entry)

    def _new(self, terms: Terms) -> Entry:
        self._count += 1
        now = self._market.now
        entry = Entry(id=f"32{now:%y%m%d}{self._count:05d}", terms=terms, created=now, updated=now)
        self._entries[entry.id] = entry
        return entry

    def _refusal(self, entry: Entry) -> str | None:
        """Say why an order ends on its way, or None."""
        if self._habits.rejections:
            return self._habits.rejections.popleft()
        if not entry.terms.is_on_tick:
            return OFF_TICK
        if self._sandbox:
            return self._outside_circuit(entry)
        return None if self._may_deliver(entry.terms) else f"RMS:{entry.id}:Holdings are not authorised through eDIS"

    def _may_deliver(self, terms: Terms) -> bool:
        """Say whether shares of earlier days may leave the demat account; an approval is used up."""
        if self._habits.ddpi or terms.product != "CNC" or terms.side != "SELL":
            return True
        instrument = terms.listed.instrument
        today = sum(
            each.quantity
            for each in self._exchange.positions()
            if each.product is Product.DELIVERY and each.instrument.isin == instrument.isin
        )
        needed = terms.quantity - max(0, today)
        approved = self._habits.approved.get(instrument.isin or "", 0)
        if needed > approved:
            return False
        if needed > 0 and instrument.isin:
            self._habits.approved[instrument.isin] = approved - needed
        return True

    def _outside_circuit(self, entry: Entry) -> str | None:
        tick = self._market.tick(entry.terms.listed)
        close = tick.previous_close if tick else None
        if close is None or not entry.terms.price:
            return None
        middle, room = entry.terms.listed.instrument.price(close), self._habits.circuit
        lower, upper = (entry.terms.listed.instrument.price(middle * (1 + part)) for part in (-room, room))
        if lower <= entry.terms.price <= upper:
            return None
        return f"RMS:{entry.id}:Order Price needs to be Circuit Limits of {lower} to {upper}"

    def _submit(self, entry: Entry) -> None:
        listed = entry.terms.listed
        if self._shown.get(listed.upstox_key) != self._habits.liquidity:
            self.show(listed)
        try:
            if entry.bracket is None:
                order = self._exchange.submit(self._request(entry.terms), at=self._market.now)
            else:
                bracket = self._exchange.submit_bracket(entry.bracket, at=self._market.now)
                order = self._exchange.order(bracket.id)
        except (InvalidOrder, Unsupported) as exc:
            self._reject(entry, f"RMS:{entry.id}:{exc}")
            return
        self._by_exchange[order.id] = entry
        entry.order = order
        if order.reason:
            entry.reason = _in_rms_words(entry.id, order.reason)
        self.refresh(entry)

    def _request(self, terms: Terms) -> OrderRequest:
        """Return what the exchange is given: not always what was asked for, see `DhanHabits`."""
        tick = self._market.tick(terms.listed)
        side = Side(terms.side.lower())
        if tick is None:
            return terms.request()
        if terms.type == "MARKET" and self._habits.market_orders_rest:
            return self._as_limit(terms, side, _unmet(tick, side))
        if terms.type == "STOP_LOSS_MARKET" and self._habits.stop_market == "fires":
            last = terms.listed.instrument.price(tick.last_price)
            return self._as_limit(terms, side, terms.listed.instrument.price(last * (1 + side.sign * _THROUGH)))
        return terms.request()

    def _as_limit(self, terms: Terms, side: Side, price: Decimal) -> OrderRequest:
        return LimitOrder(
            terms.listed.instrument,
            side,
            quantity=terms.quantity,
            price=price,
            product=PRODUCTS[terms.product],
            validity=Validity(terms.validity.lower()),
        )

    def _changeable(self, order_id: str) -> Entry:
        entry = self._entries.get(order_id)
        if entry is None:
            raise Refusal.order()
        if not self._market.is_open and not entry.terms.after_market and not self._sandbox:
            raise Refusal.order("Market is Closed! You cannot modify/cancel an order now.")
        if entry.is_final:
            raise Refusal.order()
        return entry

    def _amend(self, order: Order, terms: Terms) -> None:
        if not terms.is_on_tick:
            raise Refusal.order(OFF_TICK)
        kind = ORDER_TYPES[terms.type].type
        try:
            self._exchange.modify(
                order.id,
                at=self._market.now,
                quantity=terms.quantity,
                price=terms.price if kind in _PRICED else None,
                trigger_price=terms.trigger if kind in _TRIGGERED else None,
                validity=Validity(terms.validity.lower()),
                kind=kind,
            )
        except OrderRejected as exc:
            raise Refusal.order(exc.reason) from None

    def _reject(self, entry: Entry, reason: str) -> None:
        entry.ended, entry.reason = "REJECTED", reason
        self.refresh(entry)

    def _adopt(self, order: Order) -> Entry:
        """Enter an order that the exchange made itself: an intraday position closed, a standing order's leg."""
        origin = next((found for each in self.origins if (found := each(order)) is not None), Origin())
        entry = self._new(
            Terms(
                listed=self._market.by_instrument(order.instrument),
                side=order.side.value.upper(),
                product=_PRODUCT_NAMES[order.product],
                type=_TYPE_NAMES[order.type],
                validity=order.validity.value.upper(),
                quantity=order.quantity,
                correlation_id=origin.correlation_id,
            )
        )
        entry.order, entry.parent, entry.leg = order, origin.parent, origin.leg
        if order.reason:
            entry.reason = _in_rms_words(entry.id, order.reason)
        self._by_exchange[order.id] = entry
        return entry

    def _expire(self) -> None:
        for order in self._exchange.expire(at=self._market.now):
            entry = self.of(order)
            if order.status is OrderStatus.EXPIRED:
                entry.reason = "Order expired at the end of the day"
            self.refresh(entry)

    def _thinned(self, tick: Tick) -> Tick:
        quantity = self._habits.liquidity
        if quantity is None:
            return tick
        depth = tick.depth
        bid = depth.bids[0].price if depth and depth.bids else tick.last_price
        ask = depth.asks[0].price if depth and depth.asks else tick.last_price
        thin = Depth(bids=(DepthLevel(bid, quantity),), asks=(DepthLevel(ask, quantity),))
        return attrs.evolve(tick, details=attrs.evolve(tick.details, depth=thin))


def _in_rms_words(order_id: str, reason: str) -> str:
    """Say why an order was refused in the recorded words, where there are any for it."""
    words = next((told for begins, told in _RMS.items() if reason.startswith(begins)), reason)
    return f"RMS:{order_id}:{words}"


def _unmet(tick: Tick, side: Side) -> Decimal:
    """Return the nearest price at which nobody trades with an order on ``side`` now."""
    instrument, depth = tick.instrument, tick.depth
    levels = () if depth is None else (depth.asks if side is Side.BUY else depth.bids)
    met = instrument.price(levels[0].price if levels else tick.last_price)
    return met - side.sign * instrument.tick_size
