"""Dhan's order book over a simulated exchange: transit, refusals on the way, after-market orders, expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from hybridbroker.domain.orders import Order, OrderType, Trade, Validity
from hybridbroker.errors import InvalidOrder, OrderRejected, Unsupported
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.dhan_orders import ORDER_TYPES, PRODUCTS, Refusal, Terms, read_modification
from hybridbroker.testing.emulators.dhan_rows import Entry
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.steps import Step

__all__ = ["DhanBook"]

_MOST_MODIFICATIONS: Final = 25
_OFF_TICK: Final = "EXCH:16283: The order price is not multiple of the tick size."
_PRICED: Final = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_TRIGGERED: Final = frozenset({OrderType.STOP_LIMIT, OrderType.STOP_MARKET})
_TYPE_NAMES: Final = {request.type: name for name, request in ORDER_TYPES.items()}
_PRODUCT_NAMES: Final = {product: name for name, product in PRODUCTS.items()}


class DhanBook:
    """Orders by Dhan's ids; ``tell`` is called with each entry whenever it changed."""

    def __init__(self, market: EmulatedMarket, exchange: SimulatedExchange, *, tell: Callable[[Entry], None]) -> None:
        self._market = market
        self._exchange = exchange
        self._tell = tell
        self._entries: dict[str, Entry] = {}
        self._by_exchange: dict[str, Entry] = {}
        self._count = 0

    def today(self) -> list[Entry]:
        """Return the day's orders and those still alive, oldest first."""
        today = self._market.now.date()
        return [each for each in self._entries.values() if each.created.date() == today or not each.is_final]

    def get(self, order_id: str) -> Entry | None:
        """Return one order."""
        return self._entries.get(order_id)

    def find(self, correlation_id: str) -> Entry | None:
        """Return the newest order of that correlation id; one in transit cannot be found yet (measured)."""
        for entry in reversed(self.today()):
            if entry.terms.correlation_id == correlation_id and entry.status != "TRANSIT":
                return entry
        return None

    def trades(self) -> Iterator[tuple[Trade, Entry]]:
        """Iterate over the day's trades with their orders."""
        for trade in self._exchange.trades():
            yield trade, self._by_exchange[trade.order_id]

    def enter(self, terms: Terms) -> Entry:
        """Take an order into the book; it is in transit, or waits for the next session."""
        if not self._market.is_open and not terms.after_market:
            raise Refusal.order("Market is Closed! Want to place an offline order?")
        entry = self._new(terms)
        self._tell(entry)
        return entry

    def arrive(self, entry: Entry) -> None:
        """Let an order reach the exchange, which may refuse it; once there, this does nothing."""
        if entry.order is not None or entry.is_final:
            return
        if not entry.terms.is_on_tick:
            self._reject(entry, _OFF_TICK)
            return
        try:
            order = self._exchange.submit(entry.terms.request(), at=self._market.now)
        except (InvalidOrder, Unsupported) as exc:
            self._reject(entry, f"RMS:{entry.id}:{exc}")
            return
        self._by_exchange[order.id] = entry
        entry.order = order
        if order.reason:
            entry.reason = f"RMS:{entry.id}:{order.reason}"
        self._refresh(entry)

    def modify(self, order_id: str, fields: dict[str, Any], *, client_id: str) -> Entry:
        """Replace an order's terms; allowed in transit (measured)."""
        entry = self._changeable(order_id)
        terms = read_modification(fields, client_id=client_id, order_id=entry.id, old=entry.terms)
        if entry.modifications >= _MOST_MODIFICATIONS:
            raise Refusal.order("Maximum number of modifications of this order reached")
        if entry.order is not None:
            self._amend(entry.order, terms)
        entry.terms = terms
        entry.modifications += 1
        self._refresh(entry)
        return entry

    def cancel(self, order_id: str) -> Entry:
        """Cancel an order; refused in transit (measured)."""
        entry = self._changeable(order_id)
        if entry.status == "TRANSIT":
            raise Refusal.order("Order is in Transit state")
        if entry.order is None:
            entry.ended = "CANCELLED"
        else:
            self._exchange.cancel(entry.order.id, at=self._market.now)
        self._refresh(entry)
        return entry

    def step(self, step: Step) -> None:
        """Let the market move: queued orders go out at the opening, day orders die at the close."""
        if step.status == pb.NORMAL_OPEN:
            for entry in self.today():
                if entry.terms.after_market:
                    self.arrive(entry)
        for listed, _ in step.updates:
            tick = self._market.tick(listed)
            if tick is None:
                continue
            for order in self._exchange.on_tick(tick, at=self._market.now):
                self._refresh(self._by_exchange.get(order.id) or self._adopt(order))
        if step.status == pb.NORMAL_CLOSE:
            self._expire()

    def _new(self, terms: Terms) -> Entry:
        self._count += 1
        now = self._market.now
        entry = Entry(id=f"32{now:%y%m%d}{self._count:05d}", terms=terms, created=now, updated=now)
        self._entries[entry.id] = entry
        return entry

    def _changeable(self, order_id: str) -> Entry:
        entry = self._entries.get(order_id)
        if entry is None:
            raise Refusal.order()
        if not self._market.is_open and not entry.terms.after_market:
            raise Refusal.order("Market is Closed! You cannot modify/cancel an order now.")
        if entry.is_final:
            raise Refusal.order()
        return entry

    def _amend(self, order: Order, terms: Terms) -> None:
        if not terms.is_on_tick:
            raise Refusal.order(_OFF_TICK)
        try:
            self._exchange.modify(
                order.id,
                at=self._market.now,
                quantity=terms.quantity,
                price=terms.price if order.type in _PRICED else None,
                trigger_price=terms.trigger if order.type in _TRIGGERED else None,
                validity=Validity(terms.validity.lower()),
            )
        except OrderRejected as exc:
            raise Refusal.order(exc.reason) from None

    def _reject(self, entry: Entry, reason: str) -> None:
        entry.ended, entry.reason = "REJECTED", reason
        self._refresh(entry)

    def _refresh(self, entry: Entry) -> None:
        if entry.order is not None:
            entry.order = self._exchange.order(entry.order.id)
        entry.updated = self._market.now
        self._tell(entry)

    def _adopt(self, order: Order) -> Entry:
        """Enter an order that the exchange made itself: the closing of an intraday position."""
        entry = self._new(
            Terms(
                listed=self._market.by_instrument(order.instrument),
                side=order.side.value.upper(),
                product=_PRODUCT_NAMES[order.product],
                type=_TYPE_NAMES[order.type],
                validity=order.validity.value.upper(),
                quantity=order.quantity,
            )
        )
        entry.order = order
        self._by_exchange[order.id] = entry
        return entry

    def _expire(self) -> None:
        for entry in self.today():
            if entry.order is not None and entry.order.is_open:
                self._exchange.cancel(entry.order.id, at=self._market.now)
                entry.ended, entry.reason = "EXPIRED", "Order expired at the end of the day"
                self._refresh(entry)
