"""A market of one participant: orders in, fills out, money and shares accounted for; no I/O and no waiting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.clock import IST, Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument, Segment
from hybridbroker.domain.market import Tick
from hybridbroker.domain.orders import (
    MarketOrder,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    Product,
    Side,
    Trade,
    Validity,
)
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.errors import InvalidOrder, OrderNotFound, OrderRejected, Unsupported
from hybridbroker.simulation.account import Account
from hybridbroker.simulation.charges import Charges, ChargeSchedule
from hybridbroker.simulation.matching import Offer, is_triggered, offers, protected_price, take

__all__ = ["PnL", "SimulatedExchange"]

_ZERO: Final = Decimal(0)


@attrs.frozen(kw_only=True)
class PnL:
    """What trading has brought so far, in rupees."""

    realised: Decimal
    unrealised: Decimal
    charges: Decimal

    @property
    def gross(self) -> Decimal:
        """Return the result before charges."""
        return self.realised + self.unrealised

    @property
    def net(self) -> Decimal:
        """Return the result after charges."""
        return self.gross - self.charges


@attrs.define
class _Working:
    """An open order, and what only the exchange knows of it."""

    order: Order
    request: OrderRequest
    limit: Decimal | None
    """None while a stop has not woken."""
    arriving: bool = True
    queued: bool = False
    """An after-market order that waits for the session."""
    value: Decimal = _ZERO
    """Rupees of its fills."""

    @property
    def worst_price(self) -> Decimal:
        """Return the dearest (or cheapest) price it could trade at, which is what it blocks funds by."""
        order = self.order
        known = self.limit if self.limit is not None else order.price
        if known is not None:
            return known
        assert order.trigger_price is not None  # noqa: S101 - only a sleeping stop-market order has no limit
        return protected_price(order.instrument, order.side, order.trigger_price)


class SimulatedExchange:
    """One account at one exchange, driven by ticks.

    Orders are checked (session, price known, funds, shares to deliver), matched against the
    last tick when they arrive and against every tick after that, by the rules of `matching`.
    Market orders become limits under price protection, and may rest. Delivery purchases can be sold
    the same day, are an unsettled holding on the next, and a delivery sale without shares is
    refused. Day orders die with their day; intraday positions are closed at ``square_off``,
    or with the day at the last price. Charges accrue by whole contract notes. Ids are
    counted, so one sequence of calls always gives the same book.

    A day is over when the first call with a later date comes, or when `next_day` is called.
    What it does not know: queues, price bands, auctions, interest, corporate actions, margins
    other than ``leverage`` (which intraday positions get), MTF.

    ``at`` is when a call happens, by default ``clock.now()``.
    """

    def __init__(
        self,
        *,
        cash: Decimal,
        charges: ChargeSchedule | None = None,
        clock: Clock | None = None,
        calendar: TradingCalendar | None = None,
        holdings: Iterable[Holding] = (),
        leverage: Decimal = Decimal(1),
        square_off: time | None = None,
        match_on_arrival: bool = True,
    ) -> None:
        self._schedule = charges
        self._clock = clock or SystemClock()
        self._calendar = calendar
        self._leverage = leverage
        self._square_off = square_off
        self._match_on_arrival = match_on_arrival
        self._account = Account(cash=cash, leverage=leverage)
        for each in holdings:
            self._account.give(each.instrument, each.quantity, each.average_price or _ZERO)
        self._orders: dict[str, Order] = {}
        self._today: list[str] = []
        self._working: dict[str, _Working] = {}
        self._resting: dict[str, list[_Working]] = defaultdict(list)
        self._ticks: dict[str, Tick] = {}
        self._trades: list[Trade] = []
        self._first_of_today = 0
        self._billed = Charges()
        self._note: Charges | None = Charges()
        self._opening = cash
        self._day: date | None = None
        self._squared = False
        self._count = 0

    # -- orders

    def place(self, request: OrderRequest, *, at: datetime | None = None) -> Order:
        """Take an order and return it as it stands after its first match.

        Raises:
            OrderRejected: The exchange refused it; it stays in the book as `REJECTED`.
            Unsupported: Charges are wanted, and nobody tabulated those of its segment.
        """
        order = self.submit(request, at=at)
        if order.status is OrderStatus.REJECTED:
            raise OrderRejected(order.reason or "rejected")
        return order

    def submit(self, request: OrderRequest, *, at: datetime | None = None) -> Order:
        """As `place`, but return a refused order instead of raising."""
        now = at or self._clock.now()
        self._roll(now)
        instrument = request.instrument
        if self._schedule is not None and instrument.segment is not Segment.CASH:
            raise Unsupported(
                f"charges of {instrument.segment} trades are not tabulated; simulate {instrument.id} without"
            )
        working, reason = self._accept(request, now)
        if reason is None:
            reason = self._refusal(working)
        if reason is not None:
            working.order = attrs.evolve(working.order, status=OrderStatus.REJECTED, reason=reason)
        self._orders[working.order.id] = working.order
        self._today.append(working.order.id)
        if reason is None:
            self._working[working.order.id] = working
            self._resting[instrument.id].append(working)
            if self._match_on_arrival:
                self._arrive(working, now)
        return working.order

    def modify(
        self,
        order_id: str,
        *,
        at: datetime | None = None,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an open order, which loses its place and arrives anew; ``quantity`` is the new total.

        Raises:
            OrderRejected: It is final, the new terms can never be right, or are not covered; nothing changed.
            OrderNotFound: No such order.
        """
        now = at or self._clock.now()
        self._roll(now)
        working = self._open_order(order_id)
        old = (working.request, working.order, working.limit)
        try:
            self._amend(working, quantity, price, trigger_price, validity)
        except InvalidOrder as exc:
            raise OrderRejected(str(exc)) from exc
        reason = self._refusal(working)
        if reason is not None:
            working.request, working.order, working.limit = old
            raise OrderRejected(reason)
        working.arriving = True
        self._store(working, now)
        if self._match_on_arrival:
            self._arrive(working, now)
        return working.order

    def cancel(self, order_id: str, *, at: datetime | None = None) -> Order:
        """Cancel what is open of an order; a final one is returned unchanged.

        Raises:
            OrderNotFound: No such order.
        """
        now = at or self._clock.now()
        self._roll(now)
        order = self.order(order_id)
        if order.is_final:
            return order
        return self._finish(self._working[order_id], OrderStatus.CANCELLED, now, "cancelled by the account")

    # -- the market

    def on_tick(self, tick: Tick, *, at: datetime | None = None) -> list[Order]:
        """Let the market move; return the orders that changed, oldest first.

        A tick without a positive price changes nothing.
        """
        if not 0 < tick.last_price < float("inf"):
            return []
        now = at or self._clock.now()
        changed = self._roll(now)
        self._ticks[tick.instrument.id] = tick
        changed += self._square(now)
        resting = self._resting.get(tick.instrument.id)
        if resting and self._is_open(tick.instrument, now):
            changed += self._match(list(resting), tick, now)
        return changed

    def next_day(self, *, at: datetime | None = None) -> list[Order]:
        """End the trading day now, whatever the clock says; return the orders that this changed."""
        now = at or self._clock.now()
        self._roll(now)
        changed = self._end_day(now)
        assert self._day is not None  # noqa: S101 - rolled above
        self._day = date.fromordinal(self._day.toordinal() + 1)
        return changed

    def last_price(self, instrument: Instrument) -> Decimal | None:
        """Return the last price seen, or None before the first tick."""
        tick = self._ticks.get(instrument.id)
        return None if tick is None else instrument.price(tick.last_price)

    # -- reads

    def order(self, order_id: str) -> Order:
        """Return any order; raise `OrderNotFound`."""
        try:
            return self._orders[order_id]
        except KeyError:
            raise OrderNotFound(f"no order has the id {order_id!r}") from None

    def find(self, client_order_id: str) -> Order | None:
        """Return the newest order with this client order id, or None."""
        named = (each for each in reversed(self._orders.values()) if each.client_order_id == client_order_id)
        return next(named, None)

    def orders(self) -> list[Order]:
        """Return the day's orders, refused ones included, oldest first."""
        return [self._orders[each] for each in self._today]

    def trades(self) -> list[Trade]:
        """Return the day's trades, oldest first."""
        return self._trades[self._first_of_today :]

    def all_orders(self) -> list[Order]:
        """Return the orders of every day, oldest first."""
        return list(self._orders.values())

    def all_trades(self) -> list[Trade]:
        """Return the trades of every day, oldest first."""
        return list(self._trades)

    def positions(self) -> list[Position]:
        """Return the day's positions, closed ones included."""
        return self._account.positions(self._last_prices())

    def holdings(self) -> list[Holding]:
        """Return shares held overnight; today's purchases are positions."""
        return self._account.holdings(self._last_prices())

    def funds(self) -> Funds:
        """Return what can be spent: cash after charges, less what open orders and positions keep."""
        charges = self.charges().total
        kept = self._account.margin() + self._required(self._working.values())
        available = self._account.cash - charges - kept
        return Funds(available=available, used=kept, opening=self._opening, withdrawable=max(_ZERO, available))

    def charges(self) -> Charges:
        """Return everything charged so far, today's contract note as it stands included."""
        if self._schedule is None:
            return self._billed
        if self._note is None:
            self._note = self._schedule.charges_for(self.trades())
        return self._billed + self._note

    def pnl(self) -> PnL:
        """Return the result so far, open positions and holdings at their last prices."""
        unrealised = self._account.unrealised(self._last_prices())
        return PnL(realised=self._account.realised, unrealised=unrealised, charges=self.charges().total)

    # -- inside

    def _accept(self, request: OrderRequest, now: datetime) -> tuple[_Working, str | None]:
        self._count += 1
        waits = request.type in {OrderType.STOP_LIMIT, OrderType.STOP_MARKET}
        order = Order(
            id=f"{now.astimezone(IST):%y%m%d}{self._count:06d}",
            client_order_id=request.client_order_id,
            instrument=request.instrument,
            side=request.side,
            type=request.type,
            product=request.product,
            validity=request.validity,
            quantity=request.quantity,
            price=request.price,
            trigger_price=request.trigger_price,
            status=OrderStatus.TRIGGER_PENDING if waits else OrderStatus.OPEN,
            placed_at=now,
            updated_at=now,
            exchange_order_id=f"1{self._count:015d}",
        )
        working = _Working(order, request, None if waits else request.price)
        if not self._is_open(request.instrument, now):
            if not request.after_market:
                return working, f"the market of {request.instrument.id} is closed; ask for after_market"
            working.queued = True
            working.order = attrs.evolve(order, status=OrderStatus.PENDING, exchange_order_id=None)
        if isinstance(request, MarketOrder):
            reference = self.last_price(request.instrument)
            if reference is None:
                return working, f"no price of {request.instrument.id} is known yet to protect a market order by"
            working.limit = protected_price(request.instrument, request.side, reference)
            working.order = attrs.evolve(working.order, price=working.limit)
        return working, None

    def _refusal(self, working: _Working) -> str | None:
        order = working.order
        if order.product is Product.MTF:
            return "margin trading (MTF) is not simulated"
        if (order.instrument.segment is Segment.CASH) is (order.product is Product.MARGIN):
            return f"{order.instrument.id} cannot be held as {order.product}"
        others = [each for each in self._working.values() if each is not working]
        if order.product is Product.DELIVERY and order.side is Side.SELL:
            free = self._account.deliverable(order.instrument) - _offered(others, order.instrument)
            if order.remaining > free:
                return (
                    f"a delivery sale of {order.remaining} {order.instrument.id} needs shares; {max(0, free)} are free"
                )
            return None
        before = self._required(others)
        needed = self._required([*others, working]) - before
        available = self._account.cash - self.charges().total - self._account.margin() - before
        if needed > max(_ZERO, available):
            return f"the order needs {needed} rupees; {available} are available"
        return None

    def _required(self, orders: Iterable[_Working]) -> Decimal:
        """Return rupees that open orders block: purchases their value, intraday openings their margin."""
        total = _ZERO
        closable: dict[tuple[str, Product, Side], int] = {}
        for working in orders:
            order = working.order
            if order.product is Product.DELIVERY:
                if order.side is Side.BUY:
                    total += working.worst_price * order.remaining
                continue
            key = (order.instrument.id, order.product, order.side)
            if key not in closable:
                closable[key] = max(0, -order.side.sign * self._account.net(order.instrument, order.product))
            closing = min(closable[key], order.remaining)
            closable[key] -= closing
            total += working.worst_price * (order.remaining - closing) / self._leverage
        return total

    def _amend(
        self,
        working: _Working,
        quantity: int | None,
        price: Decimal | None,
        trigger_price: Decimal | None,
        validity: Validity | None,
    ) -> None:
        given = {"quantity": quantity, "price": price, "trigger_price": trigger_price, "validity": validity}
        request = attrs.evolve(working.request, **{name: value for name, value in given.items() if value is not None})
        if request.quantity <= working.order.filled_quantity:
            raise InvalidOrder(f"{working.order.filled_quantity} units are filled; quantity must be above that")
        working.request = request
        working.order = attrs.evolve(
            working.order,
            quantity=request.quantity,
            price=request.price if request.price is not None else working.order.price,
            trigger_price=request.trigger_price,
            validity=request.validity,
        )
        if working.limit is not None and request.price is not None:
            working.limit = request.price

    def _arrive(self, working: _Working, now: datetime) -> None:
        tick = self._ticks.get(working.order.instrument.id)
        if tick is not None and not working.queued:
            self._match([working], tick, now)

    def _match(self, orders: Sequence[_Working], tick: Tick, now: datetime) -> list[Order]:
        books: dict[Side, tuple[Offer, ...]] = {}
        changed = []
        for working in orders:
            before = working.order
            side = before.side
            if side not in books:
                books[side] = offers(tick, side)
            books[side] = self._work(working, tick, books[side], now)
            if working.order is not before:
                changed.append(working.order)
        return changed

    def _work(self, working: _Working, tick: Tick, book: tuple[Offer, ...], now: datetime) -> tuple[Offer, ...]:
        order = working.order
        if working.queued:
            working.queued = False
            status = OrderStatus.OPEN if working.limit is not None else OrderStatus.TRIGGER_PENDING
            working.order = attrs.evolve(order, status=status, exchange_order_id=f"1{int(order.id[6:]):015d}")
            self._store(working, now)
        if working.limit is None and not self._wake(working, tick, now):
            return book
        assert working.limit is not None  # noqa: S101 - awake now
        fills, left = take(
            book,
            side=order.side,
            limit=working.limit,
            quantity=working.order.remaining,
            resting=not working.arriving,
        )
        working.arriving = False
        for fill in fills:
            self._trade(working, fill.price, fill.quantity, now)
        if working.order.is_open and order.validity is Validity.IOC:
            self._finish(working, OrderStatus.CANCELLED, now, "immediate or cancel: the rest found no other side")
        return left

    def _wake(self, working: _Working, tick: Tick, now: datetime) -> bool:
        order = working.order
        trigger = order.trigger_price
        assert trigger is not None  # noqa: S101 - only stops sleep
        if not is_triggered(order.side, trigger, order.instrument.price(tick.last_price)):
            return False
        working.limit = working.worst_price
        working.arriving = True
        working.order = attrs.evolve(order, status=OrderStatus.OPEN, price=working.limit)
        self._store(working, now)
        return True

    def _trade(self, working: _Working, price: Decimal, quantity: int, now: datetime) -> None:
        order = working.order
        trade = Trade(
            id=f"{len(self._trades) + 1:08d}",
            order_id=order.id,
            instrument=order.instrument,
            side=order.side,
            product=order.product,
            quantity=quantity,
            price=price,
            traded_at=now,
        )
        self._trades.append(trade)
        self._account.book(trade)
        self._note = None
        working.value += trade.value
        filled = order.filled_quantity + quantity
        done = filled == order.quantity
        working.order = attrs.evolve(
            order,
            filled_quantity=filled,
            average_price=working.value / filled,
            status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
        )
        self._store(working, now)
        if done:
            self._drop(working)

    def _finish(self, working: _Working, status: OrderStatus, now: datetime, reason: str) -> Order:
        working.order = attrs.evolve(working.order, status=status, reason=reason)
        self._store(working, now)
        self._drop(working)
        return working.order

    def _store(self, working: _Working, now: datetime) -> None:
        working.order = attrs.evolve(working.order, updated_at=now)
        self._orders[working.order.id] = working.order

    def _drop(self, working: _Working) -> None:
        self._working.pop(working.order.id, None)
        resting = self._resting[working.order.instrument.id]
        if working in resting:
            resting.remove(working)

    def _open_order(self, order_id: str) -> _Working:
        order = self.order(order_id)
        if order.is_final:
            raise OrderRejected(f"order {order_id} is {order.status}; nothing of it can change")
        return self._working[order_id]

    def _is_open(self, instrument: Instrument, now: datetime) -> bool:
        return self._calendar is None or self._calendar.is_open(
            now, segment=instrument.segment, exchange=instrument.exchange
        )

    def _last_prices(self) -> dict[str, Decimal]:
        return {name: tick.instrument.price(tick.last_price) for name, tick in self._ticks.items()}

    def _roll(self, now: datetime) -> list[Order]:
        day = now.astimezone(IST).date()
        if self._day is None:
            self._day = day
        changed: list[Order] = []
        if day > self._day:
            changed = self._end_day(now)
            self._day = day
        return changed

    def _end_day(self, now: datetime) -> list[Order]:
        changed = self._close_intraday(now)
        for working in list(self._working.values()):
            if not working.queued:
                changed.append(self._finish(working, OrderStatus.EXPIRED, now, "the day is over"))
        self._billed, self._note = self.charges(), Charges()
        self._first_of_today = len(self._trades)
        self._today = [each for each in self._today if each in self._working]
        self._account.next_day()
        self._opening = self._account.cash - self._billed.total
        self._squared = False
        return changed

    def _square(self, now: datetime) -> list[Order]:
        if self._square_off is None or self._squared or now.astimezone(IST).time() < self._square_off:
            return []
        self._squared = True
        changed = [
            self._finish(each, OrderStatus.CANCELLED, now, "cancelled at the square-off time")
            for each in list(self._working.values())
            if each.order.product is Product.INTRADAY
        ]
        return changed + self._close_intraday(now)

    def _close_intraday(self, now: datetime) -> list[Order]:
        closed = []
        for instrument, product, quantity in self._account.open_intraday():
            side = Side.SELL if quantity > 0 else Side.BUY
            request = MarketOrder(instrument, side, quantity=abs(quantity), product=product)
            price = self.last_price(instrument)
            assert price is not None  # noqa: S101 - it traded, so it ticked
            self._count += 1
            order = Order(
                id=f"{now.astimezone(IST):%y%m%d}{self._count:06d}",
                client_order_id=None,
                instrument=instrument,
                side=side,
                type=OrderType.MARKET,
                product=product,
                validity=Validity.DAY,
                quantity=abs(quantity),
                price=price,
                status=OrderStatus.OPEN,
                reason="squared off: intraday positions are not kept overnight",
                placed_at=now,
                updated_at=now,
                exchange_order_id=f"1{self._count:015d}",
            )
            working = _Working(order, request, price)
            self._today.append(order.id)
            self._trade(working, price, abs(quantity), now)
            closed.append(working.order)
        return closed


def _offered(orders: Iterable[_Working], instrument: Instrument) -> int:
    """Return units of ``instrument``'s share that open delivery sales already claim."""
    share = instrument.isin or instrument.id
    return sum(
        each.order.remaining
        for each in orders
        if each.order.product is Product.DELIVERY
        and each.order.side is Side.SELL
        and (each.order.instrument.isin or each.order.instrument.id) == share
    )
