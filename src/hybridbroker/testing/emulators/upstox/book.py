"""Upstox's order book over a simulated exchange: every documented status in its order, and the wait between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

from hybridbroker.domain.orders import Order, OrderStatus, OrderType, Product, Trade
from hybridbroker.errors import InvalidOrder, OrderRejected, Unsupported
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.steps import Step
from hybridbroker.testing.emulators.upstox.answers import Refusal
from hybridbroker.testing.emulators.upstox.entries import Entry, State
from hybridbroker.testing.emulators.upstox.orders import ORDER_TYPES, Terms

__all__ = ["UpstoxBook"]

_QUEUED: Final = frozenset({"after market order req received", "modify after market order req received"})
_SENT_OFF: Final = "open pending"
_STOPS: Final = frozenset({OrderType.STOP_LIMIT, OrderType.STOP_MARKET})
_ZERO: Final = Decimal(0)
_SHOWN: Final = {
    OrderStatus.OPEN: "open",
    OrderStatus.PARTIALLY_FILLED: "open",
    OrderStatus.PENDING: "open pending",
    OrderStatus.TRIGGER_PENDING: "trigger pending",
    OrderStatus.FILLED: "complete",
    OrderStatus.CANCELLED: "cancelled",
    OrderStatus.EXPIRED: "cancelled",
    OrderStatus.REJECTED: "rejected",
}
_TYPE_NAMES: Final = {type_: name for name, type_ in ORDER_TYPES.items()}


class UpstoxBook:
    """Orders by Upstox's ids; ``tell`` is called with each entry whenever its state changed.

    A change of state that takes time is a move, queued on its entry; ``moved`` is called with
    an entry that got some, and `move` does the next one.
    """

    def __init__(
        self,
        market: EmulatedMarket,
        exchange: SimulatedExchange,
        mtf: SimulatedExchange,
        *,
        tell: Callable[[Entry], None],
        moved: Callable[[Entry], None],
        blocked: Callable[[str], bool],
    ) -> None:
        self.refusals: deque[str] = deque()
        """Reasons for which the next changes are refused by the exchange, one each."""
        self.keeps_change_status = False
        """Whether ``modified``, ``not modified`` and ``not cancelled`` stay until something else happens."""
        self.price_band: Decimal | None = None
        """Percent around the previous close outside which orders are rejected; None: no band."""
        self._market = market
        self._exchange = exchange
        self._mtf = mtf
        self._tell = tell
        self._moved = moved
        self._blocked = blocked
        self._entries: dict[str, Entry] = {}
        self._by_exchange: dict[tuple[SimulatedExchange, str], Entry] = {}
        self._unseen = {each.upstox_key for each in market.listed}
        self._followed: set[str] = set()
        self._count = 0

    @property
    def venues(self) -> tuple[SimulatedExchange, SimulatedExchange]:
        """Return the account's exchange, and the one that holds what the broker finances."""
        return self._exchange, self._mtf

    def today(self) -> list[Entry]:
        """Return the day's orders, and after-market ones that wait, oldest first."""
        today = self._market.now.date()
        return [each for each in self._entries.values() if each.created.date() == today or not each.is_final]

    def get(self, order_id: str) -> Entry:
        """Return one order; refused where there is none, or its day is over (documented: the book is cleared)."""
        entry = self._entries.get(order_id)
        if entry is None or (entry.is_final and entry.created.date() != self._market.now.date()):
            raise Refusal("UDAPI100010", path="order_id", invalid=order_id)
        return entry

    def say(self, order_id: str, status: str, message: str | None = None) -> None:
        """Show any status of an order, documented or not; the exchange knows nothing of it."""
        self._record(self.get(order_id), status, message)

    def tagged(self, tag: str) -> list[Entry]:
        """Return the day's orders with a tag, oldest first."""
        return [each for each in self.today() if each.terms.tag == tag]

    def trades(self, *, ever: bool = False) -> Iterator[tuple[Trade, Entry]]:
        """Iterate over the day's trades, or all, with their orders."""
        for venue in self.venues:
            for trade in venue.all_trades() if ever else venue.trades():
                yield trade, self._by_exchange[venue, trade.order_id]

    def enter(self, terms: Terms, *, gtt_id: str | None = None) -> Entry:
        """Take an order; out of session it is queued for the next one, whatever ``is_amo`` said (documented)."""
        entry = self._new(terms, gtt_id=gtt_id)
        if self._market.is_open:
            self._record(entry, "put order req received")
            self._send_off(entry)
        else:
            entry.amo = True
            self._record(entry, "after market order req received")
        return entry

    def modify(self, entry: Entry, terms: Terms) -> None:
        """Ask the exchange to change an order; what becomes of that shows in its states."""
        if entry.is_final:
            raise Refusal("UDAPI100041", path="order_id", invalid=entry.id)
        entry.requests += 1
        if entry.status in _QUEUED:
            entry.terms = terms
            self._record(entry, "modify after market order req received")
            return
        self._record(entry, "modify validation pending")
        self._queue(entry, lambda: self._record(entry, "modify pending"), lambda: self._change(entry, terms))

    def cancel(self, entry: Entry) -> None:
        """Ask the exchange to cancel an order; what becomes of that shows in its states."""
        if entry.is_final:
            raise Refusal("UDAPI100040", path="order_id", invalid=entry.id)
        entry.requests += 1
        if entry.status in _QUEUED:
            self._record(entry, "cancelled after market order")
            return
        self._record(entry, "cancel pending")
        self._queue(entry, lambda: self._withdraw(entry))

    def move(self, entry: Entry) -> bool:
        """Do what happens to an entry next; False says that there was nothing."""
        if not entry.moves:
            return False
        entry.moves.popleft()()
        return True

    def advance(self) -> None:
        """Let time pass at the exchange, which may end a day or close intraday positions."""
        for venue in self.venues:
            for order in venue.advance(at=self._market.now):
                self._notice(venue, order)

    def step(self, step: Step) -> None:
        """Let the market move: queued orders go out at the opening, day orders die at the close."""
        if step.status == pb.NORMAL_OPEN:
            for entry in self.today():
                if entry.status in _QUEUED:
                    self._send_off(entry)
        for listed, _ in step.updates:
            self._unseen.add(listed.upstox_key)
            if listed.instrument.id in self._followed:
                self._show(listed)
        self.advance()
        if step.status == pb.NORMAL_CLOSE:
            self._expire()

    def open(self) -> None:
        """Let the exchange see the last prices of what it holds."""
        for held in self._exchange.holdings():
            self._followed.add(held.instrument.id)
            self._show(self._market.by_instrument(held.instrument))

    def _show(self, listed: ListedInstrument) -> None:
        """Let the exchange see the newest tick; of what was never traded it is not troubled with each one."""
        if listed.upstox_key not in self._unseen:
            return
        self._unseen.discard(listed.upstox_key)
        tick = self._market.tick(listed)
        if tick is not None:
            for venue in self.venues:
                for order in venue.on_tick(tick, at=self._market.now):
                    self._notice(venue, order)

    def _follow(self, listed: ListedInstrument) -> None:
        self._followed.add(listed.instrument.id)
        self._show(listed)

    def _new(self, terms: Terms, *, gtt_id: str | None = None) -> Entry:
        self._count += 1
        now = self._market.now
        venue = self._mtf if terms.product == "MTF" else self._exchange
        entry = Entry(id=f"{now:%y%m%d}{self._count:09d}", terms=terms, created=now, venue=venue, gtt_id=gtt_id)
        self._entries[entry.id] = entry
        return entry

    def _send_off(self, entry: Entry) -> None:
        self._queue(
            entry,
            lambda: self._record(entry, "validation pending"),
            lambda: self._record(entry, _SENT_OFF),
            lambda: self._arrive(entry),
        )

    def _queue(self, entry: Entry, *moves: Callable[[], None]) -> None:
        entry.moves.extend(moves)
        self._moved(entry)

    def _arrive(self, entry: Entry) -> None:
        if self._blocked(entry.terms.listed.upstox_segment):
            self._record(entry, "rejected", "Trading in this segment is disabled by the kill switch")
            return
        reason = self._submit(entry)
        if reason is not None:
            self._record(entry, "rejected", reason)
        else:
            self._settle(entry)

    def _submit(self, entry: Entry) -> str | None:
        """Put an order on the exchange; return why it refused."""
        self.advance()
        self._follow(entry.terms.listed)
        last = entry.venue.last_price(entry.terms.listed.instrument)
        self._set_band(entry)
        try:
            order = entry.venue.submit(entry.terms.request(last), at=self._market.now)
        except (InvalidOrder, Unsupported) as exc:
            return str(exc)
        if order.status is OrderStatus.REJECTED:
            return order.reason or "refused by the exchange"
        self._by_exchange[entry.venue, order.id] = entry
        entry.exchange_id = order.id
        return None

    def _set_band(self, entry: Entry) -> None:
        instrument = entry.terms.listed.instrument
        tick = self._market.tick(entry.terms.listed)
        if self.price_band is None or tick is None or tick.previous_close is None:
            return
        close, part = Decimal(str(tick.previous_close)), self.price_band / 100
        lower, upper = (instrument.price(close * (1 + sign * part)) for sign in (-1, 1))
        entry.venue.set_band(instrument, lower=lower, upper=upper)

    def _change(self, entry: Entry, terms: Terms) -> None:
        if entry.is_final:
            return
        reason = self._refused() or self._amend(entry, terms)
        if reason is None:
            entry.terms = terms
            self._record(entry, "modified")
        else:
            self._record(entry, "not modified", reason)
        self._settle(entry, after_change=True)

    def _amend(self, entry: Entry, terms: Terms) -> str | None:
        """Change what the exchange holds; return why it refused."""
        self.advance()
        self._follow(entry.terms.listed)
        order = entry.order
        if order is None or order.is_final:
            return f"the order is {entry.status}"
        try:
            request = terms.request(entry.venue.last_price(terms.listed.instrument))
            entry.venue.modify(
                order.id,
                at=self._market.now,
                kind=request.type,
                quantity=request.quantity,
                price=request.price,
                trigger_price=request.trigger_price,
                validity=request.validity,
            )
        except (OrderRejected, InvalidOrder) as exc:
            return str(exc)
        return None

    def _withdraw(self, entry: Entry) -> None:
        if entry.is_final:
            return
        self.advance()
        order = entry.order
        reason = self._refused()
        if reason is None and order is not None and order.is_final:
            reason = f"the order is {_SHOWN[order.status]}"
        if reason is not None:
            self._record(entry, "not cancelled", reason)
            self._settle(entry, after_change=True)
            return
        entry.moves.clear()
        if order is None:
            self._record(entry, "cancelled")
            return
        entry.venue.cancel(order.id, at=self._market.now)
        self._settle(entry)

    def _refused(self) -> str | None:
        return self.refusals.popleft() if self.refusals else None

    def _notice(self, venue: SimulatedExchange, order: Order) -> None:
        entry = self._by_exchange.get((venue, order.id)) or self._adopt(venue, order)
        self._settle(entry)

    def _settle(self, entry: Entry, *, after_change: bool = False) -> None:
        """Show an entry as the exchange has it, unless that is what is shown."""
        order = entry.order
        if order is None:
            return
        status = _SHOWN[order.status]
        if not entry.states:
            self._record(entry, status, order.reason)
            return
        before = entry.state
        if after_change and not order.is_final:
            if not self.keeps_change_status:
                self._queue(entry, lambda: self._settle(entry))
            return
        if before.status == status and before.filled == order.filled_quantity:
            return
        if before.status == _SENT_OFF and order.is_final:
            waits = "trigger pending" if order.type in _STOPS else "open"
            self._record(entry, waits, filled=0)
        if status == "complete":
            # Documented: all of it is shown as filled, without an average, before it is complete.
            self._record(entry, "open", filled=order.filled_quantity)
        self._record(entry, status, order.reason if order.is_final else None)

    def _record(self, entry: Entry, status: str, message: str | None = None, *, filled: int | None = None) -> None:
        """Remember and tell how an order stands; ``filled`` is a moment on the way, without an average."""
        order = entry.order
        shown = entry.terms.price
        if order is not None and entry.terms.type in {"MARKET", "SL-M"}:
            shown = order.price or shown
        entry.states.append(
            State(
                status=status,
                at=self._market.now,
                message=message,
                price=shown,
                trigger=entry.terms.trigger,
                quantity=entry.terms.quantity,
                filled=filled if filled is not None else order.filled_quantity if order else 0,
                average=order.average_price or _ZERO if order and filled is None else _ZERO,
                exchange_id=order.exchange_order_id if order else None,
                exchanged_at=self._market.now if order else None,
                terms=entry.terms,
            )
        )
        self._tell(entry)

    def _adopt(self, venue: SimulatedExchange, order: Order) -> Entry:
        """Enter an order that the exchange made itself: the closing of an intraday position."""
        product = "I" if order.product is Product.INTRADAY else "D"
        entry = self._new(
            Terms(
                listed=self._market.by_instrument(order.instrument),
                side=order.side.value.upper(),
                product="MTF" if venue is self._mtf else product,
                type=_TYPE_NAMES[order.type],
                validity=order.validity.value.upper(),
                quantity=order.quantity,
            )
        )
        entry.exchange_id = order.id
        self._by_exchange[venue, order.id] = entry
        return entry

    def _expire(self) -> None:
        for entry in self.today():
            if (order := entry.order) is not None and order.is_open:
                entry.venue.cancel(order.id, at=self._market.now)
                self._record(entry, "cancelled", "Order expired at the end of the day")
