"""Every change of every order of the account, from Dhan's order-update socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Self

import attrs

from hybridbroker.brokers.dhan.auth import TokenSource
from hybridbroker.brokers.dhan.orders import update_feed as feed
from hybridbroker.brokers.dhan.orders.book import Book
from hybridbroker.brokers.dhan.orders.wire import OrderAlert
from hybridbroker.clock import Clock
from hybridbroker.domain.market import FeedState, Gap
from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.errors import (
    AuthenticationError,
    FeedAuthenticationError,
    NetworkError,
    OrderNotFound,
    WireFormatError,
)
from hybridbroker.streams import StreamHealth
from hybridbroker.transport.ws import Endpoint, ReconnectingSocket, Resumed

__all__ = ["OrderUpdates"]

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_UNREADABLE: Final = (NetworkError, WireFormatError, OrderNotFound)


class OrderUpdates:
    """Enter it to connect, iterate it for orders and gaps, leave it to close.

    Nothing is dropped or conflated: orders wait for a slow consumer in a queue without bounds.
    Updates come in the order Dhan sends them; one that says less than what has been shown
    already (fewer fills, or life after death) is counted as stale and not shown. After a
    reconnection comes a `Gap`, then the orders that the re-read book shows changed. A frame
    that cannot be read is counted, and the book read instead.

    Dhan refuses a bad token by cutting the connection without a word (recorded). So before
    a connection on which nothing came is replaced, the token is checked with one REST call;
    a refusal there ends the stream with `FeedAuthenticationError` instead of hammering.
    """

    def __init__(
        self, *, url: str, tokens: TokenSource, clock: Clock, book: Book, verify: Callable[[], Awaitable[object]]
    ) -> None:
        self.health = StreamHealth(clock)
        """How the socket is doing; ``skipped`` counts what could not be shown, by reason."""
        self._url = url
        self._tokens = tokens
        self._login = ""
        self._clock = clock
        self._book = book
        self._verify = verify
        self._socket = ReconnectingSocket(
            endpoint=self._endpoint,
            hello=lambda: [self._login],
            clock=clock,
            name="Dhan order updates",
            on_state=self._on_state,
            on_alive=self.health.frame,
        )
        self._silent = False
        self._behind = False
        self._shown: dict[str, Order] = {}
        self._events: asyncio.Queue[Order | Gap | _End] = asyncio.Queue()
        self._pump: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect, log in, and read the book that later gaps are compared with.

        Raises:
            FeedAuthenticationError: The token was refused.
            NetworkError: No connection, or no book.
        """
        try:
            async with AsyncExitStack() as opening:
                await self._connect(opening)
                self._shown = {order.id: order for order in await self._book.orders()}
                self._open = opening.pop_all()
        except AuthenticationError as exc:
            raise FeedAuthenticationError(f"Dhan order updates: {exc}") from exc
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

    async def __anext__(self) -> Order | Gap:
        """Return the next order or gap; raise what ended the stream, or `StopAsyncIteration` once it was left."""
        event = await self._events.get()
        if not isinstance(event, _End):
            return event
        self._events.put_nowait(event)
        if event.error is not None:
            raise event.error
        raise StopAsyncIteration

    async def _connect(self, opening: AsyncExitStack) -> None:
        try:
            await opening.enter_async_context(self._socket)
        except NetworkError:
            if self._silent:
                await self._verify()
            raise

    async def _endpoint(self) -> Endpoint:
        if self._silent:
            await self._verify()
        self._login = feed.login_frame(await self._tokens.token())
        self._silent = True
        return Endpoint(self._url)

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
        self._silent = False
        try:
            alert = feed.read_frame(frame)
            if alert is None:
                self.health.skipped["other"] += 1
                return
            order = await self._order(alert)
        except _UNREADABLE as exc:
            self.health.skipped["unreadable"] += 1
            logger.warning("reading the order book instead of an order update: %s", exc)
            self._catch_up_later()
            return
        if self._is_stale(order):
            self.health.skipped["stale"] += 1
            return
        self._show(order)

    async def _order(self, alert: OrderAlert) -> Order:
        known = self._shown.get(alert.order_no) or self._book.known(alert.order_no)
        segment = feed.segment_of(alert)
        instrument = None
        if segment is not None and alert.security_id:
            instrument = self._book.names.instrument(
                segment, alert.security_id, symbol=alert.symbol, expiry=alert.expiry_date
            )
        order = feed.order_from_alert(alert, instrument=instrument, known=known)
        if order is None or order.status is OrderStatus.UNKNOWN:
            return await self._book.order(alert.order_no)
        return order

    async def _catch_up(self) -> bool:
        """Show what the book knows and this stream does not; say whether the book could be read."""
        try:
            orders = await self._book.orders()
        except _UNREADABLE as exc:
            logger.warning("reading the order book again soon, what changed in a gap is not known yet: %s", exc)
            return False
        for order in orders:
            shown = self._shown.get(order.id)
            if shown is None or (_state(shown) != _state(order) and not self._is_stale(order)):
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

    def _show(self, order: Order) -> None:
        self.health.last_data = self._clock.now()
        self._shown[order.id] = order
        self._book.note(order)
        self._events.put_nowait(order)

    def _is_stale(self, order: Order) -> bool:
        shown = self._shown.get(order.id)
        if shown is None:
            return False
        if order.filled_quantity != shown.filled_quantity:
            return order.filled_quantity < shown.filled_quantity
        if shown.is_final:
            return not order.is_final
        return bool(shown.updated_at and order.updated_at and order.updated_at < shown.updated_at)

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
            error = FeedAuthenticationError(f"Dhan order updates: {error}")
        if error is not None or task is self._pump:
            self._events.put_nowait(_End(error))


@attrs.frozen
class _End:
    error: BaseException | None


def _state(order: Order) -> tuple[object, ...]:
    return (order.status, order.quantity, order.filled_quantity, order.price, order.trigger_price)
