"""What changes in the account, from Upstox's portfolio stream: orders, and on demand all the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Generic, Self, TypeVar

import attrs

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.book import Book
from hybridbroker.brokers.upstox.orders.gtt import GttDesk
from hybridbroker.brokers.upstox.orders.mapping import holding_from_wire, position_from_wire
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.brokers.upstox.orders.update_feed import EVERYTHING, ORDERS, read_message
from hybridbroker.clock import Clock
from hybridbroker.domain.market import FeedState, Gap
from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.domain.standing import Bracket, Gtt
from hybridbroker.errors import (
    AuthenticationError,
    FeedAuthenticationError,
    NetworkError,
    OrderNotFound,
    WireFormatError,
)
from hybridbroker.streams import StreamHealth
from hybridbroker.transport.ws import Endpoint, ReconnectingSocket, Resumed

__all__ = ["AccountEvent", "AccountUpdates", "OrderUpdates", "PortfolioUpdates"]

logger = logging.getLogger(__name__)

AccountEvent = Order | Gap | Gtt | Bracket | Position | Holding

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_UNREADABLE: Final = (NetworkError, WireFormatError, OrderNotFound)
_NOT_THERE_YET: Final = frozenset({OrderStatus.PENDING})

E_co = TypeVar("E_co", bound=AccountEvent, covariant=True)


class AccountUpdates(Generic[E_co]):
    """Enter it to connect, iterate it for events and gaps, leave it to close.

    Nothing is dropped or conflated: events wait for a slow consumer in a queue without bounds.
    Orders come as Upstox sends them; one that says less than what has been shown already (fewer
    fills, life after death, an earlier time, a step back to "on its way") is counted as stale,
    one that says nothing new as duplicate, and neither is shown. After a reconnection comes a
    `Gap`, then the orders that the re-read book shows changed. A message that cannot be read is
    counted, and the book read instead.

    Every connection asks for an address of its own, which works once.
    """

    kinds: Sequence[str] = ORDERS
    """What Upstox is asked to tell."""

    def __init__(self, *, rest: UpstoxOrderRest, clock: Clock, book: Book, desk: GttDesk) -> None:
        self.health = StreamHealth(clock)
        """How the socket is doing; ``skipped`` counts what was not shown, by reason."""
        self._rest = rest
        self._clock = clock
        self._book = book
        self._desk = desk
        self._socket = ReconnectingSocket(
            endpoint=self._endpoint,
            hello=lambda: (),
            clock=clock,
            name="Upstox portfolio stream",
            on_state=self._on_state,
            on_alive=self.health.frame,
        )
        self._behind = False
        self._shown: dict[str, Order] = {}
        self._events: asyncio.Queue[AccountEvent | _End] = asyncio.Queue()
        self._pump: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect, and read the book that later gaps are compared with.

        Raises:
            FeedAuthenticationError: The token was refused.
            NetworkError: No connection, or no book.
        """
        try:
            async with AsyncExitStack() as opening:
                await opening.enter_async_context(self._socket)
                self._shown = {order.id: order for order in await self._book.orders()}
                self._open = opening.pop_all()
        except AuthenticationError as exc:
            raise FeedAuthenticationError(f"Upstox portfolio stream: {exc}") from exc
        self._pump = self._start(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = {task for task in (self._pump, self._catching_up) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._open.aclose()
        self._events.put_nowait(_End(None))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E_co:
        """Return the next event; raise what ended the stream, or `StopAsyncIteration` once it was left."""
        event = await self._events.get()
        if not isinstance(event, _End):
            return event  # type: ignore[return-value]  # what `kinds` asks for is what comes
        self._events.put_nowait(event)
        if event.error is not None:
            raise event.error
        raise StopAsyncIteration

    async def _endpoint(self) -> Endpoint:
        return Endpoint(await self._rest.updates_address(self.kinds))

    async def _read(self) -> None:
        async for item in self._socket:
            if isinstance(item, Resumed):
                await self._resume(item)
            else:
                await self._receive(item)

    async def _resume(self, resumed: Resumed) -> None:
        self.health.reconnects += 1
        self.health.gaps += 1
        self._events.put_nowait(Gap(since=resumed.lost_at, until=resumed.back_at, reason=resumed.reason))
        if not await self._catch_up():
            self._catch_up_later()

    async def _receive(self, frame: bytes | str) -> None:
        try:
            message = read_message(frame)
            if isinstance(message, wire.OrderRow):
                order = self._book.read(message)
                if order.status is OrderStatus.UNKNOWN:
                    order = await self._book.order(order.id)
                self._judge(order)
            elif message is None:
                self.health.skipped["other"] += 1
            else:
                self._put(self._other(message))
        except _UNREADABLE as exc:
            self.health.skipped["unreadable"] += 1
            logger.warning("reading the order book instead of a message of the portfolio stream: %s", exc)
            self._catch_up_later()

    def _other(self, message: wire.GttRow | wire.PositionRow | wire.HoldingRow) -> AccountEvent:
        if isinstance(message, wire.GttRow):
            return self._desk.read(message)
        isin = message.isin if isinstance(message, wire.HoldingRow) else None
        instrument = self._book.instrument(
            message.instrument_key, exchange=message.exchange, symbol=message.trading_symbol, isin=isin
        )
        if isinstance(message, wire.HoldingRow):
            return holding_from_wire(message, instrument=instrument)
        return position_from_wire(message, instrument=instrument)

    async def _catch_up(self) -> bool:
        """Show what the book knows and this stream does not; say whether the book could be read."""
        try:
            orders = await self._book.orders()
        except _UNREADABLE as exc:
            logger.warning("reading the order book again soon, what changed in a gap is not known yet: %s", exc)
            return False
        for order in orders:
            shown = self._shown.get(order.id)
            if shown is None or (_state(shown) != _state(order) and not is_stale(order, shown)):
                self._show(order)
        return True

    def _catch_up_later(self) -> None:
        self._behind = True
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = self._start(self._keep_catching_up())

    async def _keep_catching_up(self) -> None:
        pause = _FIRST_PAUSE
        while self._behind:
            await self._clock.sleep(pause)
            self._behind = False
            if not await self._catch_up():
                self._behind = True
                pause = min(_LONGEST_PAUSE, 2 * pause)

    def _judge(self, order: Order) -> None:
        shown = self._shown.get(order.id)
        if shown is None:
            self._show(order)
        elif is_stale(order, shown):
            self.health.skipped["stale"] += 1
            self._book.note(shown)
        elif order == shown:
            self.health.skipped["duplicate"] += 1
        else:
            self._show(order)

    def _show(self, order: Order) -> None:
        self._shown[order.id] = order
        self._book.note(order)
        self._put(order)

    def _put(self, event: AccountEvent) -> None:
        self.health.last_data = self._clock.now()
        self._events.put_nowait(event)

    def _on_state(self, state: str) -> None:
        self.health.state = FeedState(state)

    def _start(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Pass what ended a task on to the consumer, who would wait for ever otherwise."""
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, AuthenticationError):
            error = FeedAuthenticationError(f"Upstox portfolio stream: {error}")
        if error is not None or task is self._pump:
            self._events.put_nowait(_End(error))


class OrderUpdates(AccountUpdates[Order | Gap]):
    """Every change of every order of the account, whichever platform it came from."""

    kinds = ORDERS


class PortfolioUpdates(AccountUpdates[AccountEvent]):
    """Orders, GTT and bracket orders, positions and holdings, in the order Upstox tells of them.

    Only orders are read again after a gap: read the others yourself at a `Gap`. A holding or
    position message lacks the market's prices and the profits.
    """

    kinds = EVERYTHING


def is_stale(order: Order, shown: Order) -> bool:
    """Say whether ``order`` tells of a moment before ``shown``, as far as fills, status and times tell.

    What is final stays so, and comes last whatever its time. Times are whole seconds, so within
    one second the status decides: what has left Upstox's own checks does not go back to them.
    """
    if order.filled_quantity != shown.filled_quantity:
        return order.filled_quantity < shown.filled_quantity
    if shown.is_final:
        return order.status is not shown.status
    if order.is_final:
        return False
    if order.updated_at is not None and shown.updated_at is not None and order.updated_at != shown.updated_at:
        return order.updated_at < shown.updated_at
    return order.status in _NOT_THERE_YET and shown.is_open and shown.status not in _NOT_THERE_YET


@attrs.frozen
class _End:
    error: BaseException | None


def _state(order: Order) -> tuple[object, ...]:
    return (order.status, order.quantity, order.filled_quantity, order.price, order.trigger_price)
