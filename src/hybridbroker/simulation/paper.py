"""`PaperBroker`: a `Broker` whose exchange is simulated on the prices that the strategy streams anyway.

It opens no socket of its own (Upstox allows two per user): `PaperBroker.watch` wraps the source
of prices, and every tick that the strategy takes is fed to the simulated exchange first. So
the fills are those of the very prices the strategy saw, conflated ones included, and one tape
gives one result.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Self

import attrs

from hybridbroker.clock import Clock, SystemClock, to_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import (
    Gap,
    MarketEvent,
    MarketStatus,
    Quote,
    Tick,
    TickDetails,
)
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.domain.sliced import Sliced, SlicedOrder
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import ConfigurationError, NetworkError, OrderRejected, Unsupported, WireFormatError
from hybridbroker.protocols import Capability, InstrumentLookup, MarketData
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.exchange import PnL, SimulatedExchange
from hybridbroker.simulation.fills import FillModel
from hybridbroker.simulation.paper_file import PaperFile
from hybridbroker.simulation.statutory import STATUTORY_ONLY
from hybridbroker.watching import WatchedData

__all__ = ["PaperBroker"]

logger = logging.getLogger(__name__)

_CASH: Final = Decimal(100_000)


class PaperBroker:
    """Simulated money on real prices; nothing leaves this process.

    Orders fill as `simulation.exchange` says: against the depth where the stream carries it, else
    at the last price. An order of an instrument that has not ticked today asks ``data`` for one
    quote; to fill after that it needs a stream, opened through `watch`. The market status of
    the stream opens and closes the simulated market too.

    A refused order raises and stays in ``orders()`` as rejected; it is not in the updates.
    Standing orders are judged on the prices it is fed.

    Without ``state`` the account ends with this object. With it the account is taken up on
    entering where the file left it, and written down before anybody is told of an order or a
    fill, so that nothing told is lost by a crash. A night between two runs passes: the day's
    orders expire, intraday positions are closed at the last price this broker saw, purchases
    become holdings, GTT orders wait on. Prices of before count for what things are worth, and no
    order trades on them.

    Args:
        data: Where the one quote comes from; entered by the caller.
        cash: Rupees at the start; an account taken up from ``state`` has its own.
        charges: What trades cost. By default what the state and the exchanges take, without
            any broker's brokerage; None trades for free, and admits derivatives.
        clock: What time it is.
        calendar: As of `SimulatedExchange`; without it only the stream's market status closes.
        leverage: Value of an intraday position by the margin it needs.
        square_off: When intraday positions are closed, IST; None leaves it to the end of the day.
        fill: What is assumed where the stream carries no depth.
        state: File in which the account lives on, made where there is none; one process at a
            time. `simulation.state` says what is in it; the other arguments here are not.
        instruments: Where its instruments are looked up; needed with ``state``.

    Raises:
        ConfigurationError: ``state`` without ``instruments``. On entering: another process has
            the file, or it cannot be read (and stays as it is). Later: it cannot be written.
    """

    name: str = "paper"
    capabilities: Capability = (
        Capability.MARKET_ORDERS
        | Capability.LIMIT_ORDERS
        | Capability.STOP_LIMIT_ORDERS
        | Capability.STOP_MARKET_ORDERS
        | Capability.AFTER_MARKET_ORDERS
        | Capability.IOC
        | Capability.ORDER_UPDATES
        | Capability.ORDER_BOOK
        | Capability.PORTFOLIO
        | Capability.FILLS
        | Capability.GTT_ORDERS
        | Capability.OCO_ORDERS
        | Capability.BRACKET_ORDERS
        | Capability.SLICED_ORDERS
    )

    def __init__(
        self,
        data: MarketData,
        *,
        cash: Decimal = _CASH,
        charges: ChargeSchedule | None = STATUTORY_ONLY,
        clock: Clock | None = None,
        calendar: TradingCalendar | None = None,
        leverage: Decimal = Decimal(1),
        square_off: time | None = None,
        fill: FillModel | None = None,
        state: Path | None = None,
        instruments: InstrumentLookup | None = None,
    ) -> None:
        self._data = data
        self._clock = clock or SystemClock()
        self._listeners: set[_Updates] = set()
        self.exchange = SimulatedExchange(
            cash=cash,
            charges=charges,
            clock=self._clock,
            calendar=calendar,
            leverage=leverage,
            square_off=square_off,
            fill=fill,
        )
        """The market behind it: charges line by line, and the orders and trades of every day."""
        self._file: PaperFile | None = None
        if state is not None:
            if instruments is None:
                raise ConfigurationError("a paper account kept in a file (state=) needs instruments= to be read by")
            self._file = PaperFile(state, instruments=instruments, clock=self._clock)

    async def __aenter__(self) -> Self:
        if self._file is not None:
            self._file.open(self.exchange)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._file is not None:
            try:
                self._file.save(self.exchange)
            finally:
                self._file.close()
        for listener in self._listeners:
            listener.close()

    def watch(self, data: MarketData) -> MarketData:
        """Return ``data`` such that every event taken from its streams reaches this broker first."""
        return WatchedData(data, hear=self.feed)

    def feed(self, event: MarketEvent) -> None:
        """Let the simulated market move; the orders that change go to the listeners."""
        match event:
            case Tick():
                day = self.exchange.day
                self._tell(self.exchange.on_tick(event), since=day)
            case MarketStatus():
                self.exchange.on_status(event)
            case Gap():
                pass

    def pnl(self) -> PnL:
        """Return the result so far: gross, charges, net."""
        return self.exchange.pnl()

    async def place_order(self, request: OrderRequest) -> Order:
        """Place an order; it may come back filled."""
        await self._price(request.instrument)
        with self._saved():
            order = self.exchange.place(request.named(self._clock.now()))
        self.publish([order])
        return order

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an order, which then arrives anew and may come back filled."""
        terms = {"quantity": quantity, "price": price, "trigger_price": trigger_price, "validity": validity}
        changes: dict[str, Any] = {name: value for name, value in terms.items() if value is not None}
        self._advance()
        attrs.evolve(self.exchange.request(order_id), **changes)
        with self._saved():
            order = self.exchange.modify(order_id, **changes)
        self.publish([order])
        return order

    async def cancel_order(self, order_id: str) -> Order:
        """Cancel an order at once; a final one is returned unchanged."""
        self._advance()
        before = self.exchange.order(order_id)
        order = self.exchange.cancel(order_id)
        if order is not before:
            self._save()
            self.publish([order])
        return order

    async def order(self, order_id: str) -> Order:
        """Return any order, of any day."""
        return self.exchange.order(order_id)

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the newest order with this client order id, of any day."""
        return self.exchange.find(client_order_id)

    async def orders(self) -> Sequence[Order]:
        """Return the day's orders."""
        return self.exchange.orders()

    async def trades(self) -> Sequence[Trade]:
        """Return the day's trades."""
        return self.exchange.trades()

    async def positions(self) -> Sequence[Position]:
        """Return the day's positions."""
        return self.exchange.positions()

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held overnight."""
        return self.exchange.holdings()

    async def funds(self) -> Funds:
        """Return what can be spent."""
        return self.exchange.funds()

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        """Leave a standing order; a single one takes its side from the last price, asked for where none came today."""
        await self._price(request.instrument)
        with self._saved():
            return self.exchange.place_gtt(request.named(self._clock.now()))

    async def modify_gtt(
        self,
        gtt_id: str,
        *,
        quantity: int | None = None,
        trigger: Trigger | None = None,
        target: Trigger | None = None,
        stop: Trigger | None = None,
    ) -> Gtt:
        """Change one of which nothing was sent yet."""
        self._advance()
        with self._saved():
            return self.exchange.modify_gtt(gtt_id, quantity=quantity, trigger=trigger, target=target, stop=stop)

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        """Cancel what still waits of one."""
        self._advance()
        with self._saved():
            return self.exchange.cancel_gtt(gtt_id)

    async def gtts(self) -> Sequence[Gtt]:
        """Return every GTT order, ended ones included."""
        return self.exchange.gtts()

    async def find_gtt(self, client_order_id: str) -> Gtt | None:
        """Return the newest GTT order with this client order id."""
        return self.exchange.find_gtt(client_order_id)

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        """Send an entry with its exits; it may come back filled and its exits armed."""
        await self._price(request.instrument)
        with self._saved():
            bracket = self.exchange.place_bracket(request.named(self._clock.now()))
        self.publish([self.exchange.order(bracket.id)])
        return bracket

    async def modify_bracket(
        self,
        bracket_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        target_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail: Decimal | None = None,
    ) -> Bracket:
        """Change what still waits of one; a changed entry arrives anew and may come back filled."""
        self._advance()
        before = self._orders_of(self.exchange.bracket(bracket_id))
        with self._saved():
            bracket = self.exchange.modify_bracket(
                bracket_id,
                quantity=quantity,
                price=price,
                target_price=target_price,
                stop_price=stop_price,
                trail=trail,
            )
        self.publish(each for each in self._orders_of(bracket) if each not in before)
        return bracket

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY) -> Bracket:
        """Cancel one leg with its order, and with the entry all of them."""
        self._advance()
        before = self._orders_of(self.exchange.bracket(bracket_id))
        with self._saved():
            bracket = self.exchange.cancel_bracket(bracket_id, leg=leg)
        self.publish(each for each in self._orders_of(bracket) if each not in before)
        return bracket

    async def brackets(self) -> Sequence[Bracket]:
        """Return every bracket order, ended ones included."""
        return self.exchange.brackets()

    async def find_bracket(self, client_order_id: str) -> Bracket | None:
        """Return the newest bracket order with this client order id."""
        return self.exchange.find_bracket(client_order_id)

    async def place_sliced(self, request: SlicedOrder) -> Sliced:
        """Place each part as an order; those that are refused stay in ``orders()``, and only if all are it raises."""
        named = request.named(self._clock.now())
        await self._price(request.instrument)
        with self._saved():
            orders = [self.exchange.submit(each) for each in named.parts()]
        taken = [each for each in orders if each.status is not OrderStatus.REJECTED]
        self.publish(taken)
        if not taken:
            raise OrderRejected(orders[0].reason or "rejected")
        assert named.client_order_id is not None  # noqa: S101 - named
        return Sliced(client_order_id=named.client_order_id, quantity=named.quantity, orders=tuple(orders))

    @asynccontextmanager
    async def order_updates(self) -> AsyncIterator[AsyncIterator[Order | Gap]]:
        """Stream every change from entry on; any number of listeners, none of which loses one."""
        listener = _Updates()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def publish(self, orders: Iterable[Order]) -> None:
        """Tell the listeners of orders that changed at the exchange."""
        for order in orders:
            for listener in self._listeners:
                listener.put(order)

    def _advance(self) -> None:
        day = self.exchange.day
        self._tell(self.exchange.advance(), since=day)

    def _tell(self, changed: Sequence[Order], *, since: date | None) -> None:
        """Publish what changed, once it is written down; ``since`` is the day before it did."""
        if self._file is not None and (changed or self.exchange.standing_changes() or self.exchange.day != since):
            self._save()
        self.publish(changed)

    def _saved(self) -> AbstractContextManager[None]:
        """Write down what a call changed, be it that it was refused, before anybody is told."""
        return nullcontext() if self._file is None else self._saving()

    @contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._save()

    def _save(self) -> None:
        if self._file is not None:
            self._file.save(self.exchange)

    def _orders_of(self, bracket: Bracket) -> list[Order]:
        return [self.exchange.order(each.order_id) for each in bracket.legs if each.order_id is not None]

    async def _price(self, instrument: Instrument) -> None:
        if self.exchange.is_due(self._clock.now()):
            self._advance()
        if not self.exchange.has_ticked(instrument):
            await self._ask(instrument)

    async def _ask(self, instrument: Instrument) -> None:
        try:
            quote = (await self._data.quotes([instrument])).get(instrument)
        except (NetworkError, Unsupported, WireFormatError) as failure:
            logger.warning("pricing %s failed, its orders wait for a tick: %s", instrument.id, failure)
            return
        # While the quote was on its way a stream may have brought something newer.
        if quote is None or self.exchange.has_ticked(instrument):
            return
        if quote.lower_circuit is not None and quote.upper_circuit is not None:
            lower, upper = instrument.price(quote.lower_circuit), instrument.price(quote.upper_circuit)
            self.exchange.set_band(instrument, lower=lower, upper=upper)
        self.feed(_tick(quote, received_ms=to_epoch_ms(self._clock.now())))


class _Updates:
    """Orders on their way to one listener; ends when the broker is closed."""

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._held = self._closed = False

    def put(self, order: Order) -> None:
        """Hand an order over, and wake whoever waits for it."""
        self._orders.append(order)
        if not self._held:
            self._wake()

    def close(self) -> None:
        """End the iteration after what is left."""
        self._closed = True
        self._wake()

    @contextmanager
    def held(self) -> Iterator[deque[Order]]:
        """Give what is at hand now and comes meanwhile, to be taken from; who waits for an order is not woken for it.

        A loop that runs one hook at a time takes orders like this, in a tenth of the time that
        the turn of another task takes.
        """
        self._held = True
        try:
            yield self._orders
        finally:
            self._held = False
            if self._orders:
                self._wake()

    def __aiter__(self) -> AsyncIterator[Order | Gap]:
        return self

    async def __anext__(self) -> Order | Gap:
        while not self._orders:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._orders.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _tick(quote: Quote, *, received_ms: int) -> Tick:
    return Tick(
        instrument=quote.instrument,
        last_price=quote.last_price,
        last_quantity=quote.last_quantity,
        traded_ms=None,
        received_ms=received_ms,
        previous_close=quote.previous_close,
        volume=quote.volume,
        is_snapshot=True,
        details=TickDetails(depth=quote.depth),
    )
