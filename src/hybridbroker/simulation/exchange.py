"""A market of one participant: orders in, fills out, money and shares accounted for; no I/O and no waiting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

import attrs

from hybridbroker.clock import IST, Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument, Segment
from hybridbroker.domain.market import Candle, MarketPhase, MarketStatus, Tick
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
from hybridbroker.domain.unchecked import Unchecked
from hybridbroker.errors import InvalidOrder, OrderRejected, Unsupported
from hybridbroker.simulation.account import Account
from hybridbroker.simulation.book import OrderLog, TradeLog
from hybridbroker.simulation.charges import Charges, ChargeSchedule
from hybridbroker.simulation.checks import can_hold, refusal, required
from hybridbroker.simulation.fills import BarFill, FillModel
from hybridbroker.simulation.matching import (
    Fill,
    Offer,
    is_triggered,
    offers,
    share_of,
    take,
    worst_price,
)
from hybridbroker.simulation.standing import StandingOrders
from hybridbroker.simulation.working import Working

__all__ = ["PnL", "SimulatedExchange"]

_ZERO: Final = Decimal(0)
_LAST_MOMENT: Final = timedelta(seconds=1)
"""Before midnight, when a day ends that nobody ended."""
_SATURDAY: Final = 5
_TRADES: Final = Unchecked(Trade)
_NOT_OPEN: Final = frozenset({MarketPhase.PRE_OPEN, MarketPhase.CLOSING, MarketPhase.CLOSED})


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


class SimulatedExchange(StandingOrders):
    """One account at one exchange, driven by ticks.

    Orders are checked (session, price band, funds, shares to deliver), matched against the last
    tick when they arrive and against every tick after that, by the rules of `matching`. Market
    orders become limits under price protection, and may rest. Delivery purchases can be sold
    the same day, are an unsettled holding on the next, and a delivery sale without shares is
    refused. Day orders die with their day; intraday positions are closed at ``square_off``, or
    with the day, at the last price. Charges accrue by whole contract notes, one a day. Ids are
    counted, so the same calls always give the same book. Standing orders are `StandingOrders`.

    A day is over when a call with a later date comes, or when `next_day` is called. ``at`` is
    when a call happens, by default ``clock.now()``. Nothing here knows of queues, auctions,
    interest, corporate actions, expiries, MTF, or margins other than value by ``leverage``.

    Args:
        cash: Rupees at the start.
        charges: What trades cost; None trades for free. With it, only the cash segment is taken.
        clock: Says when ticks come and calls happen.
        calendar: Outside its sessions orders are refused or queued (``after_market``), and
            nothing matches; None never closes.
        holdings: Settled shares at the start.
        leverage: Value of an intraday position by the margin it needs.
        square_off: When intraday positions are closed and their orders cancelled, IST.
        match_on_arrival: Whether an order can trade on the tick that was last when it came; if
            not, the next tick is its first.
        fill: What is assumed where the market shows no book. `BarFill.WORST` trades on whole bars
            only (`on_bar`); ticks then only tell the price.
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
        fill: FillModel | None = None,
    ) -> None:
        super().__init__()
        self._charged = charges is not None
        self._clock = clock or SystemClock()
        self._calendar = calendar
        self._leverage = leverage
        self._square_off = square_off
        self._fill = fill or FillModel()
        self._by_bars = self._fill.bars is BarFill.WORST
        self.match_on_arrival = match_on_arrival and not self._by_bars
        """Whether an order can trade on the last tick when it comes; a replay ends by setting it to False."""
        self._account = Account(cash=cash, leverage=leverage)
        for each in holdings:
            self._account.give(each.instrument, each.quantity, each.average_price or _ZERO)
        self._orders = OrderLog()
        self._trades = TradeLog(charges)
        self._ticks: dict[str, Tick] = {}
        self._priced: tuple[Tick | None, Decimal] = (None, _ZERO)
        self._ticked: set[str] = set()
        self._books: dict[str, dict[Side, tuple[Offer, ...]]] = {}
        self._bands: dict[str, tuple[Decimal, Decimal]] = {}
        self._phases: dict[str, MarketPhase] = {}
        self._opening = cash
        self._day: date | None = None
        self._day_ends: datetime | None = None
        self._squares_off_at: datetime | None = None
        self._count = 0

    def place(self, request: OrderRequest, *, at: datetime | None = None) -> Order:
        """Take an order and return it as it stands after its first match.

        Raises:
            OrderRejected: The exchange refused it; it stays in the book as `REJECTED`.
            Unsupported: Charges are wanted, and those of its segment are not tabulated.
        """
        order = self.submit(request, at=at)
        if order.status is OrderStatus.REJECTED:
            raise OrderRejected(order.reason or "rejected")
        return order

    def submit(self, request: OrderRequest, *, at: datetime | None = None) -> Order:
        """As `place`, but return a refused order instead of raising."""
        now = self._now(at)
        self.advance(at=now)
        self._require_priced(request.instrument)
        working = self._accept(request, now)
        reason = self._prepare(working, now) or self._refusal(working)
        if reason is not None:
            working.end(OrderStatus.REJECTED, reason, at=now)
        self._orders.enter(working)
        if reason is None:
            self._arrive(working, now)
        working.shown()
        if reason is None:
            self._review_standing()
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
        kind: OrderType | None = None,
    ) -> Order:
        """Change an open order, which loses its place and arrives anew; ``quantity`` is the new total.

        With another ``kind`` it becomes an order of that kind, of which all prices must be given.

        Raises:
            OrderRejected: It is final, or the new terms are wrong or not covered; nothing changed.
            OrderNotFound: No such order.
        """
        now = at or self._clock.now()
        self.advance(at=now)
        old = self._orders.open_one(order_id)
        try:
            terms = old
            if kind is not None and kind is not old.order.type:
                terms = old.retyped(kind, quantity=quantity, price=price, trigger_price=trigger_price)
            new = terms.amended(quantity=quantity, price=price, trigger_price=trigger_price, validity=validity, at=now)
        except InvalidOrder as exc:
            raise OrderRejected(str(exc)) from exc
        if isinstance(new.request, MarketOrder) and new.limit is None:
            new.protect(self._reference(new.order.instrument))
        reason = self._refusal(new)
        if reason is not None:
            raise OrderRejected(reason)
        self._orders.replace(old, new)
        self._arrive(new, now)
        self._review_standing()
        return new.order

    def cancel(self, order_id: str, *, at: datetime | None = None) -> Order:
        """Cancel what is open of an order; a final one is returned unchanged.

        Raises:
            OrderNotFound: No such order.
        """
        now = at or self._clock.now()
        self.advance(at=now)
        order = self._orders[order_id]
        if order.is_final:
            return order
        order = self._end(self._orders.open_one(order_id), OrderStatus.CANCELLED, now, "cancelled by the account")
        self._review_standing()
        return order

    def convert(
        self,
        instrument: Instrument,
        quantity: int,
        *,
        from_product: Product,
        to_product: Product,
        at: datetime | None = None,
    ) -> None:
        """Hold ``quantity`` units of today's position, negative where short, as another product.

        Raises:
            InvalidOrder: So many are not open.
            OrderRejected: The other product is not simulated, or needs more rupees than there are.
        """
        self.advance(at=self._now(at))
        if not can_hold(instrument, to_product) or (to_product is Product.DELIVERY and quantity < 0):
            raise OrderRejected(f"{quantity} {instrument.id} as {to_product} is not simulated")
        self._account.convert(instrument, quantity, from_product=from_product, to_product=to_product)
        if (short := self.funds().available) < 0:
            self._account.convert(instrument, quantity, from_product=to_product, to_product=from_product)
            raise OrderRejected(f"the conversion needs {-short} rupees more than there are")

    def request(self, order_id: str) -> OrderRequest:
        """Return what an open order asks for, its changes included.

        Raises:
            OrderRejected: It is final.
            OrderNotFound: No such order.
        """
        return self._orders.open_one(order_id).request

    def on_status(self, status: MarketStatus) -> None:
        """Note what the feed says of the market: outside its open phase orders are refused and nothing matches.

        Forgotten with the day, so that an evening's word does not close the next morning.
        """
        self._phases.update(status.phases)

    def on_tick(self, tick: Tick, *, at: datetime | None = None) -> list[Order]:
        """Let the market move; return the orders that changed, as they stand now.

        A tick without a positive price changes nothing.
        """
        if not 0 < tick.last_price < float("inf"):
            return []
        now = at or self._clock.now()
        changed = self.advance(at=now)
        self._ticks[tick.instrument.id] = tick
        self._ticked.add(tick.instrument.id)
        self._books.pop(tick.instrument.id, None)
        resting = self._orders.resting(tick.instrument)
        if resting and not self._by_bars and self._is_open(tick.instrument, now):
            changed += self._match(resting, tick, now)
            self._review_standing()
        if self._is_near(tick.instrument, tick.last_price) and self._is_open(tick.instrument, now):
            changed += self._judge_standing(tick.instrument, now)
        return changed

    def mark(self, tick: Tick) -> None:
        """Note a price at which nothing trades, because nothing waits for one; see `is_waited_for` and `is_due`."""
        name = tick.instrument.id
        self._ticks[name] = tick
        self._ticked.add(name)
        if self._books:
            self._books.pop(name, None)

    @property
    def is_idle(self) -> bool:
        """Say whether no order waits for any price."""
        return not (self._orders.has_open or self._has_standing)

    def is_idle_until(self, at: datetime) -> bool:
        """Say whether no order waits for any price, and the passing of time does nothing until ``at``."""
        ends, squares_off = self._day_ends, self._squares_off_at
        due = ends is None or at >= ends or (squares_off is not None and at >= squares_off)
        return not (due or self._orders.has_open or self._gtts.has_live or self._brackets.has_live)

    def is_due(self, at: datetime) -> bool:
        """Say whether the passing of time does anything until ``at``; see `advance`."""
        ends, squares_off = self._day_ends, self._squares_off_at
        return ends is None or at >= ends or (squares_off is not None and at >= squares_off)

    def is_waited_for(self, instrument: Instrument) -> bool:
        """Say whether any order, resting or standing, waits for a price of ``instrument``."""
        return self._orders.is_resting(instrument) or self._waits(instrument)

    def on_bar(self, bar: Candle, *, at: datetime | None = None) -> list[Order]:
        """Let a whole bar pass that has just ended; with `BarFill.WORST` orders trade on it."""
        now = self._now(at)
        changed = self.advance(at=now)
        resting = self._orders.resting(bar.instrument)
        if resting and self._by_bars and self._is_open(bar.instrument, now):
            changed += self._match_worst(resting, bar, now)
            self._review_standing()
        return changed

    def advance(self, *, at: datetime | None = None) -> list[Order]:
        """Let time pass: end a day that is over, square off when it is time; return the orders that changed.

        Every other call does this first; call it to be told what changed.
        """
        now = at or self._clock.now()
        return self._pass(now) if self.is_due(now) else []

    def _pass(self, now: datetime) -> list[Order]:
        if self._day_ends is None:
            self._begin_day(now.astimezone(IST).date())
        changed = self._square_off_by(now)
        if self._day_ends is not None and now >= self._day_ends:
            changed += self._end_day(self._day_ends - _LAST_MOMENT)
            today = now.astimezone(IST).date()
            if self._traded_between(self._day_ends.date(), today):
                self._account.next_day()
            self._begin_day(today)
            changed += self._square_off_by(now)
        return changed

    def _traded_between(self, first: date, until: date) -> bool:
        """Say whether a day of trading passed unseen; without a calendar every weekday is one."""
        days = (first + timedelta(days=count) for count in range((until - first).days))
        if self._calendar is None:
            return any(each.weekday() < _SATURDAY for each in days)
        return any(map(self._calendar.is_trading_day, days))

    def _square_off_by(self, now: datetime) -> list[Order]:
        """Square off if it is time; what a late call finds undone happened when it was due."""
        due = self._squares_off_at
        if due is None or now < due:
            return []
        self._squares_off_at = None
        changed = self._cancel_intraday(due) + self._close_intraday(due)
        self._square_off_standing()
        return changed

    def expire(self, *, at: datetime | None = None) -> list[Order]:
        """End the day's orders as the close does, before the day is over; return those that changed."""
        now = self._now(at)
        changed = [*self.advance(at=now), *self._expire_orders(now, "the session is over")]
        self._review_standing()
        return changed

    def next_day(self, *, at: datetime | None = None) -> list[Order]:
        """End the trading day now, whatever the clock says; return the orders that this changed."""
        now = at or self._clock.now()
        changed = self.advance(at=now) + self._end_day(now)
        assert self._day is not None  # noqa: S101 - advance began one
        self._begin_day(self._day + timedelta(days=1))
        return changed

    def set_band(self, instrument: Instrument, *, lower: Decimal, upper: Decimal) -> None:
        """Refuse, from now on, orders of ``instrument`` priced outside these rupees (both included)."""
        self._bands[instrument.id] = (lower, upper)

    def last_price(self, instrument: Instrument) -> Decimal | None:
        """Return the last price seen, or None before the first tick."""
        tick = self._ticks.get(instrument.id)
        if tick is None:
            return None
        if self._priced[0] is not tick:
            self._priced = (tick, instrument.price(tick.last_price))
        return self._priced[1]

    def has_ticked(self, instrument: Instrument) -> bool:
        """Say whether a tick came today: a price of another day prices nothing that arrives."""
        return instrument.id in self._ticked

    @property
    def day(self) -> date | None:
        """Return the trading day in IST that the last call fell in; None before the first."""
        return self._day

    def distrust_prices(self) -> None:
        """Let no order trade on what the market said so far, as after a time in which nobody listened."""
        self._ticked.clear()
        self._books.clear()
        self._phases.clear()

    def order(self, order_id: str) -> Order:
        """Return any order; raise `OrderNotFound`."""
        return self._orders[order_id]

    def find(self, client_order_id: str) -> Order | None:
        """Return the newest order with this client order id, or None."""
        return self._orders.find(client_order_id)

    def orders(self) -> list[Order]:
        """Return the day's orders, refused ones included, oldest first."""
        return [self._orders[each] for each in self._orders.today]

    def trades(self) -> list[Trade]:
        """Return the day's trades, oldest first."""
        return self._trades.today()

    def all_orders(self) -> list[Order]:
        """Return the orders of every day, oldest first."""
        return list(self._orders)

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
        """Return what can be spent: cash after charges, less what open orders and positions keep.

        What a sale brings can be spent at once. Charges are not blocked beforehand, so they
        can take the balance a little below zero.
        """
        blocked = required(self._orders.open(), self._account, leverage=self._leverage)
        available = self._available() - blocked
        return Funds(
            available=available,
            used=blocked + self._account.margin(),
            opening=self._opening,
            withdrawable=max(_ZERO, available),
        )

    def charges(self) -> Charges:
        """Return everything charged so far, today's contract note as it stands included."""
        return self._trades.charges()

    def pnl(self) -> PnL:
        """Return the result so far, open positions and holdings at their last prices."""
        unrealised = self._account.unrealised(self._last_prices())
        return PnL(realised=self._account.realised, unrealised=unrealised, charges=self.charges().total)

    def _accept(self, request: OrderRequest, now: datetime) -> Working:
        self._count += 1
        return Working.accept(request, number=self._count, day=_code(now.astimezone(IST).date()), now=now)

    def _prepare(self, working: Working, now: datetime) -> str | None:
        """Queue it or protect it as needed; say why it cannot be taken now."""
        request = working.request
        if not self._is_open(request.instrument, now):
            if not request.after_market:
                return f"the market of {request.instrument.id} is closed; after_market=True queues an order"
            working.queue()
        if request.product is Product.INTRADAY and self._square_off is not None and self._squares_off_at is None:
            return f"intraday orders are not taken after the square-off time {self._square_off:%H:%M}"
        if isinstance(request, MarketOrder):
            reference = self.last_price(request.instrument)
            if reference is None or not (working.queued or self.has_ticked(request.instrument)):
                return f"no price of {request.instrument.id} is known today to protect a market order by"
            working.protect(reference)
        return None

    def _refusal(self, working: Working) -> str | None:
        price = working.worst_price
        band = self._bands.get(working.order.instrument.id)
        if band is not None and not band[0] <= price <= band[1]:
            return f"price {price} is outside the day's band of {band[0]} to {band[1]}"
        others = [each for each in self._orders.open() if each.order.id != working.order.id]
        cash = self._account.cash - self._account.held_back()
        # The day's note is added up only where its ceiling would refuse the order.
        pessimistic = cash - self._trades.charged_at_most()
        if refusal(working, others, self._account, available=pessimistic, leverage=self._leverage) is None:
            return None
        return refusal(working, others, self._account, available=self._available(), leverage=self._leverage)

    def _available(self) -> Decimal:
        return self._account.cash - self.charges().total - self._account.held_back()

    def _arrive(self, working: Working, now: datetime) -> None:
        instrument = working.order.instrument
        if self.match_on_arrival and self.has_ticked(instrument) and not working.queued:
            self._match([working], self._ticks[instrument.id], now)

    def _match(self, orders: Sequence[Working], tick: Tick, now: datetime) -> list[Order]:
        books = self._books.setdefault(tick.instrument.id, {})
        changed = []
        for working in orders:
            before, side = working.order, working.order.side
            if side not in books:
                books[side] = offers(tick, side, participation=self._fill.participation)
            books[side] = self._work(working, tick, books[side], now)
            if working.order is not before:
                changed.append(working.order)
        return changed

    def _work(self, working: Working, tick: Tick, book: tuple[Offer, ...], now: datetime) -> tuple[Offer, ...]:
        order = working.order
        price = self.last_price(order.instrument)
        assert price is not None  # noqa: S101 - it is this tick's
        limit = self._awake(working, price, now)
        if limit is None:
            return book
        fills, left = take(
            book, side=order.side, limit=limit, quantity=working.order.remaining, resting=not working.arriving
        )
        # What a thin tape could not give is still wanted at the market's price, not at the limit.
        working.arriving = working.arriving and tick.depth is None and (price - limit) * order.side.sign <= 0
        self._settle(working, fills, now)
        return left

    def _match_worst(self, orders: Sequence[Working], bar: Candle, now: datetime) -> list[Order]:
        instrument = bar.instrument
        low, high = instrument.price(bar.low), instrument.price(bar.high)
        pool = {side: share_of(bar.volume, instrument, self._fill.participation) for side in Side}
        changed = []
        for working in orders:
            before, side = working.order, working.order.side
            limit = self._awake(working, high if side is Side.BUY else low, now)
            price = None if limit is None else worst_price(side, limit=limit, low=low, high=high)
            left = pool[side]
            quantity = working.order.remaining if left is None else min(left, working.order.remaining)
            working.arriving = False
            if left is not None and price is not None:
                pool[side] = left - quantity
            self._settle(working, [Fill(price, quantity)] if price is not None and quantity else [], now)
            if working.order is not before:
                changed.append(working.order)
        return changed

    def _awake(self, working: Working, reached: Decimal, now: datetime) -> Decimal | None:
        """Send a queued order, wake a stop whose trigger ``reached`` meets; return the limit, None while it sleeps."""
        order = working.order
        if working.queued:
            working.release(at=now)
            self._orders.store(working)
        if working.limit is None:
            assert order.trigger_price is not None  # noqa: S101 - only stops sleep
            if not is_triggered(order.side, order.trigger_price, reached):
                return None
            working.wake(at=now)
            self._orders.store(working)
        return working.limit

    def _settle(self, working: Working, fills: Sequence[Fill], now: datetime) -> None:
        for fill in fills:
            self._trade(working, fill, now)
        # A stop that still sleeps has not been immediate yet.
        if working.order.is_open and working.limit is not None and working.order.validity is Validity.IOC:
            self._end(working, OrderStatus.CANCELLED, now, "immediate or cancel: nobody took the rest")

    def _trade(self, working: Working, fill: Fill, now: datetime) -> None:
        order = working.order
        number = f"{len(self._trades) + 1:08d}"
        trade = _TRADES(number, order.id, order.instrument, order.side, order.product, fill.quantity, fill.price, now)
        self._trades.add(trade)
        self._account.book(trade)
        working.fill(fill, at=now)
        self._orders.store(working)

    def _end(self, working: Working, status: OrderStatus, now: datetime, reason: str) -> Order:
        working.end(status, reason, at=now)
        return self._orders.store(working)

    def _is_open(self, instrument: Instrument, now: datetime) -> bool:
        if self._phases and self._phases.get(f"{instrument.exchange}:{instrument.segment}") in _NOT_OPEN:
            return False
        return self._calendar is None or self._calendar.is_open(
            now, segment=instrument.segment, exchange=instrument.exchange
        )

    def _now(self, at: datetime | None) -> datetime:
        return at or self._clock.now()

    def _require_priced(self, instrument: Instrument) -> None:
        if self._charged and instrument.segment is not Segment.CASH:
            raise Unsupported(
                f"charges of {instrument.segment} trades are not tabulated; simulate {instrument.id} without charges"
            )

    def _reference(self, instrument: Instrument) -> Decimal:
        reference = self.last_price(instrument)
        if reference is None or not self.has_ticked(instrument):
            raise OrderRejected(f"no price of {instrument.id} is known today to protect a market order by")
        return reference

    def _last_prices(self) -> dict[str, Decimal]:
        return {name: tick.instrument.price(tick.last_price) for name, tick in self._ticks.items()}

    def _begin_day(self, day: date) -> None:
        self._day = day
        self._day_ends = datetime.combine(day + timedelta(days=1), time(), IST)
        if self._square_off is not None:
            self._squares_off_at = datetime.combine(day, self._square_off, IST)
        self._expire_standing(datetime.combine(day, time(), IST))

    def _end_day(self, now: datetime) -> list[Order]:
        changed = self._close_intraday(now)
        changed += self._expire_orders(now, "the day is over")
        self._square_off_standing()
        self._orders.end_day()
        self._bands.clear()
        self._phases.clear()
        self._ticked.clear()
        self._account.next_day()
        self._opening = self._account.cash - self._trades.end_day().total
        return changed

    def _expire_orders(self, now: datetime, reason: str) -> list[Order]:
        return [self._end(each, OrderStatus.EXPIRED, now, reason) for each in self._orders.open() if not each.queued]

    def _cancel_intraday(self, now: datetime) -> list[Order]:
        return [
            self._end(each, OrderStatus.CANCELLED, now, "cancelled at the square-off time")
            for each in self._orders.open()
            if each.order.product is Product.INTRADAY
        ]

    def _close_intraday(self, now: datetime) -> list[Order]:
        closed = []
        for instrument, quantity in self._account.open_intraday():
            side = Side.SELL if quantity > 0 else Side.BUY
            working = self._accept(MarketOrder(instrument, side, quantity=abs(quantity), product=Product.INTRADAY), now)
            price = self.last_price(instrument)
            assert price is not None  # noqa: S101 - what was traded has ticked
            self._orders.enter(working)
            self._trade(working, Fill(price, abs(quantity)), now)
            closed.append(working.shown())
        return closed


@lru_cache(maxsize=4)
def _code(day: date) -> str:
    """Return what the ids of a day's orders begin with."""
    return f"{day:%y%m%d}"
