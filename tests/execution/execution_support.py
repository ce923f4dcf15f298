"""A clock whose time stands still until it is moved, and a broker that does what a test scripts."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Self, TypeVar

import attrs

from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import LimitOrder, Order, OrderRequest, OrderStatus, Side, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.errors import (
    HybridBrokerError,
    OrderNotFound,
    OrderOutcomeUnknown,
    OrderRejected,
)
from hybridbroker.protocols import Capability

T = TypeVar("T")

START = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)
"""Monday, 9:30 IST."""


def share(symbol: str) -> Instrument:
    return Instrument(
        id=f"NSE:{symbol}",
        exchange=Exchange.NSE,
        segment=Segment.CASH,
        kind=InstrumentKind.EQUITY,
        symbol=symbol,
        tick_size=Decimal("0.05"),
    )


ABC, XYZ = share("ABC"), share("XYZ")


def buy(quantity: int = 10, *, instrument: Instrument = ABC, price: str = "100", name: str | None = None) -> LimitOrder:
    return LimitOrder(instrument, Side.BUY, quantity=quantity, price=Decimal(price), client_order_id=name)


def sell(
    quantity: int = 10, *, instrument: Instrument = ABC, price: str = "100", name: str | None = None
) -> LimitOrder:
    return LimitOrder(instrument, Side.SELL, quantity=quantity, price=Decimal(price), client_order_id=name)


class VirtualClock:
    """A `Clock` whose sleepers wake only when `advance` or `run` reaches their time."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._count), waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        until = self._elapsed + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            await self._step()
        self._elapsed = until
        await self._settle()

    async def run(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        while True:
            await self._settle()
            if task.done():
                return task.result()
            assert self._sleepers, "nothing would ever happen again"
            await self._step()

    async def _step(self) -> None:
        at, _, waiter = heapq.heappop(self._sleepers)
        if not waiter.done():
            self._elapsed = max(self._elapsed, at)
            waiter.set_result(None)
            await self._settle()

    async def _settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)


Behaviour = Callable[[Callable[[], Order]], Awaitable[Order]]


async def answers(carry_out: Callable[[], Order]) -> Order:
    return carry_out()


def loses_reply(*, carried_out: bool = True, error: HybridBrokerError | None = None) -> Behaviour:
    async def behave(carry_out: Callable[[], Order]) -> Order:
        if carried_out:
            carry_out()
        raise error or OrderOutcomeUnknown(client_order_id="lost")

    return behave


def refuses(error: HybridBrokerError) -> Behaviour:
    return loses_reply(carried_out=False, error=error)


def hangs(*, carried_out: bool = True) -> Behaviour:
    async def behave(carry_out: Callable[[], Order]) -> Order:
        if carried_out:
            carry_out()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return behave


class FakeBroker:
    """A `Broker` with a book in memory; ``script`` holds how the next writes behave."""

    name = "fake"

    def __init__(self, clock: VirtualClock, *, capabilities: Capability | None = None) -> None:
        self.capabilities = (
            Capability.MARKET_ORDERS | Capability.LIMIT_ORDERS | Capability.ORDER_UPDATES | Capability.LIVE_MONEY
            if capabilities is None
            else capabilities
        )
        self.clock = clock
        self.script: deque[Behaviour] = deque()
        self.posts: list[OrderRequest] = []
        self.puts: list[str] = []
        self.deletes: list[str] = []
        self.reads: list[str] = []
        self.hidden_until: dict[str, datetime] = {}
        self.read_error: HybridBrokerError | None = None
        self.updates_error: HybridBrokerError | None = None
        self.held: list[Holding] = []
        self.carried: list[Position] = []
        self.tells = True
        self.before_send: Callable[[], None] = lambda: None
        self._orders: dict[str, Order] = {}
        self._trades: list[Trade] = []
        self._listeners: list[asyncio.Queue[Order | Gap | None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    # What the exchange does.

    def truth(self) -> list[Order]:
        return list(self._orders.values())

    def enter(self, request: OrderRequest) -> Order:
        """Put an order into the book, whoever sent it."""
        now = self.clock.now().replace(microsecond=0)
        order = Order(
            id=f"B{len(self._orders) + 1}",
            client_order_id=request.client_order_id,
            instrument=request.instrument,
            side=request.side,
            type=request.type,
            product=request.product,
            validity=request.validity,
            quantity=request.quantity,
            price=request.price,
            trigger_price=request.trigger_price,
            status=OrderStatus.OPEN,
            placed_at=now,
            updated_at=now,
        )
        return self._set(order)

    def change(self, order_id: str, **changes: Any) -> Order:
        now = self.clock.now().replace(microsecond=0)
        return self._set(attrs.evolve(self._orders[order_id], updated_at=now, **changes))

    def fill(self, order_id: str, quantity: int) -> Order:
        order = self._orders[order_id]
        filled = order.filled_quantity + quantity
        self._trades.append(
            Trade(
                id=f"T{len(self._trades) + 1}",
                order_id=order_id,
                instrument=order.instrument,
                side=order.side,
                product=order.product,
                quantity=quantity,
                price=order.price or Decimal(100),
                traded_at=self.clock.now(),
            )
        )
        status = OrderStatus.FILLED if filled == order.quantity else OrderStatus.PARTIALLY_FILLED
        return self.change(order_id, filled_quantity=filled, status=status, average_price=order.price or Decimal(100))

    def tell(self, item: Order | Gap) -> None:
        for listener in self._listeners:
            listener.put_nowait(item)

    def _set(self, order: Order) -> Order:
        self._orders[order.id] = order
        if self.tells:
            self.tell(order)
        return order

    def _visible(self) -> list[Order]:
        now = self.clock.now()
        return [each for each in self._orders.values() if self.hidden_until.get(each.client_order_id or "", now) <= now]

    # What the broker answers.

    async def place_order(self, request: OrderRequest) -> Order:
        self.before_send()
        self.posts.append(request)
        return await self._behave(lambda: self.enter(request))

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        self.before_send()
        self.puts.append(order_id)

        def carry_out() -> Order:
            if self._orders[order_id].is_final:
                raise OrderRejected("it is over")
            terms = {"quantity": quantity, "price": price, "trigger_price": trigger_price, "validity": validity}
            return self.change(order_id, **{name: value for name, value in terms.items() if value is not None})

        return await self._behave(carry_out)

    async def cancel_order(self, order_id: str) -> Order:
        self.before_send()
        self.deletes.append(order_id)

        def carry_out() -> Order:
            order = self._orders[order_id]
            return order if order.is_final else self.change(order_id, status=OrderStatus.CANCELLED)

        return await self._behave(carry_out)

    async def _behave(self, carry_out: Callable[[], Order]) -> Order:
        behave = self.script.popleft() if self.script else answers
        return await behave(carry_out)

    async def order(self, order_id: str) -> Order:
        self._read("order")
        for order in self._visible():
            if order.id == order_id:
                return order
        raise OrderNotFound(order_id)

    async def find_order(self, client_order_id: str) -> Order | None:
        self._read("find_order")
        for order in self._visible():
            if order.client_order_id == client_order_id:
                return order
        return None

    async def orders(self) -> Sequence[Order]:
        self._read("orders")
        return self._visible()

    async def trades(self) -> Sequence[Trade]:
        self._read("trades")
        return list(self._trades)

    @asynccontextmanager
    async def _updates(self) -> AsyncIterator[AsyncIterator[Order | Gap]]:
        if self.updates_error is not None:
            raise self.updates_error
        queue: asyncio.Queue[Order | Gap | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            yield self._iterate(queue)
        finally:
            self._listeners.remove(queue)

    async def _iterate(self, queue: asyncio.Queue[Order | Gap | None]) -> AsyncIterator[Order | Gap]:
        while (item := await queue.get()) is not None:
            yield item
        if self.updates_error is not None:
            raise self.updates_error

    def order_updates(self) -> AbstractAsyncContextManager[AsyncIterator[Order | Gap]]:
        return self._updates()

    def end_updates(self, error: HybridBrokerError) -> None:
        self.updates_error = error
        for listener in self._listeners:
            listener.put_nowait(None)

    async def positions(self) -> Sequence[Position]:
        self._read("positions")
        net: dict[tuple[Instrument, object], int] = {}
        for trade in self._trades:
            key = (trade.instrument, trade.product)
            net[key] = net.get(key, 0) + trade.quantity * trade.side.sign
        traded = [
            Position(instrument=instrument, product=product, quantity=units, average_price=Decimal(100))  # type: ignore[arg-type]
            for (instrument, product), units in net.items()
        ]
        return [*self.carried, *traded]

    async def holdings(self) -> Sequence[Holding]:
        self._read("holdings")
        return list(self.held)

    async def funds(self) -> Funds:
        self._read("funds")
        return Funds(available=Decimal(100_000))

    def _read(self, what: str) -> None:
        self.reads.append(what)
        if self.read_error is not None:
            raise self.read_error


class Alerts:
    """A `Notifier` that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    async def notify(self, message: str) -> None:
        self.messages.append(message)
