"""What a simulated exchange remembers: orders by id, day and instrument, and trades with their bills."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, Trade
from hybridbroker.errors import OrderNotFound, OrderRejected
from hybridbroker.simulation.charges import Charges, ChargeSchedule
from hybridbroker.simulation.working import Working

__all__ = ["OrderLog", "TradeLog"]


class OrderLog:
    """Every order ever placed, the day's among them, and the open ones in the order they came."""

    def __init__(self) -> None:
        self.today: list[str] = []
        self._orders: dict[str, Order] = {}
        self._working: dict[str, Working] = {}
        self._resting: dict[str, list[Working]] = defaultdict(list)

    def __getitem__(self, order_id: str) -> Order:
        """Return any order; raise `OrderNotFound`."""
        try:
            return self._orders[order_id]
        except KeyError:
            raise OrderNotFound(f"no order has the id {order_id!r}") from None

    def __iter__(self) -> Iterator[Order]:
        """Iterate over the orders of every day, oldest first."""
        return iter(self._orders.values())

    def find(self, client_order_id: str) -> Order | None:
        """Return the newest order with this client order id, or None."""
        named = (each for each in reversed(self._orders.values()) if each.client_order_id == client_order_id)
        return next(named, None)

    def enter(self, working: Working) -> None:
        """Enter a new order; a final one is only remembered."""
        order = working.order
        self._orders[order.id] = order
        self.today.append(order.id)
        if not order.is_final:
            self._working[order.id] = working
            self._resting[order.instrument.id].append(working)

    def store(self, working: Working) -> Order:
        """Remember how an order stands now, and take it from the open ones when it is final."""
        order = working.order
        self._orders[order.id] = order
        if order.is_final and self._working.pop(order.id, None) is not None:
            self._resting[order.instrument.id].remove(working)
        return order

    def replace(self, old: Working, new: Working) -> None:
        """Put changed terms in the place of the old ones, behind the other orders."""
        self._working[new.order.id] = new
        resting = self._resting[new.order.instrument.id]
        resting.remove(old)
        resting.append(new)
        self.store(new)

    def open(self) -> list[Working]:
        """Return the open orders, oldest first."""
        return list(self._working.values())

    def open_one(self, order_id: str) -> Working:
        """Return an open order; raise `OrderNotFound`, or `OrderRejected` where it is final."""
        order = self[order_id]
        if order.is_final:
            raise OrderRejected(f"order {order_id} is {order.status}; nothing of it can change")
        return self._working[order_id]

    @property
    def has_open(self) -> bool:
        """Say whether any order is open."""
        return bool(self._working)

    def is_resting(self, instrument: Instrument) -> bool:
        """Say whether any order of one instrument is open."""
        return bool(self._resting.get(instrument.id))

    def resting(self, instrument: Instrument) -> list[Working]:
        """Return the open orders of one instrument, first come first."""
        resting = self._resting.get(instrument.id)
        return list(resting) if resting else []

    def end_day(self) -> None:
        """Forget which orders were the day's, but for those still open."""
        self.today = [each for each in self.today if each in self._working]


class TradeLog:
    """Every trade, and what the trades of each day cost, one contract note a day."""

    def __init__(self, schedule: ChargeSchedule | None) -> None:
        self._schedule = schedule
        self._trades: list[Trade] = []
        self._first_of_today = 0
        self._billed = Charges()
        self._note: Charges | None = Charges()
        self._turnover = Decimal(0)

    def __len__(self) -> int:
        return len(self._trades)

    def __iter__(self) -> Iterator[Trade]:
        """Iterate over the trades of every day, oldest first."""
        return iter(self._trades)

    def add(self, trade: Trade) -> None:
        """Remember one more."""
        self._trades.append(trade)
        self._turnover += trade.value
        self._note = None

    def today(self) -> list[Trade]:
        """Return the day's trades, oldest first."""
        return self._trades[self._first_of_today :]

    def charges(self) -> Charges:
        """Return what all trades cost, the day's note as it stands included."""
        if self._note is None:
            self._note = Charges() if self._schedule is None else self._schedule.charges_for(self.today())
        return self._billed + self._note

    def charged_at_most(self) -> Decimal:
        """Return rupees that `charges` cannot exceed, without adding up the day's note."""
        if self._schedule is None:
            return self._billed.total
        if self._note is not None:
            return self.charges().total
        orders = len(self._trades) - self._first_of_today
        return self._billed.total + self._schedule.at_most(self._turnover, orders=orders)

    def end_day(self) -> Charges:
        """Bill the day's note, and return everything billed so far."""
        self._billed, self._note = self.charges(), Charges()
        self._first_of_today = len(self._trades)
        self._turnover = Decimal(0)
        return self._billed
