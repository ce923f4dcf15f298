"""What changes in an account, as brokers' slices share it: frames in, orders out, gaps told and read again."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Generic, Protocol, Self, TypeVar

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.market import FeedState, Gap
from hybridbroker.domain.orders import Order
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

__all__ = ["AccountEvent", "E_co", "OrderBook", "UpdateStream"]

logger = logging.getLogger(__name__)

AccountEvent = Order | Gap | Gtt | Bracket | Position | Holding

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_UNREADABLE: Final = (NetworkError, WireFormatError, OrderNotFound)

E_co = TypeVar("E_co", bound=AccountEvent, covariant=True)


class OrderBook(Protocol):
    """The slice's book, which is read at the start and after gaps, and told what came since."""

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today; one that cannot be read fails the call rather than be missing."""

    def note(self, order: Order) -> None:
        """Remember how an order was just seen."""


class UpdateStream(ABC, Generic[E_co]):
    """Everything of a stream of updates that is not the broker's language.

    Enter it to connect, iterate it for events and gaps, leave it to close. A slice says where to
    connect, what to say then, how a frame is read, and which update comes too late to be shown.

    Nothing is dropped or conflated: events wait for a slow consumer in a queue without bounds.
    After a reconnection comes a `Gap`, then the orders that the re-read book shows changed. A
    frame that cannot be read is counted, and the book read instead.
    """

    def __init__(self, *, name: str, unit: str, clock: Clock, book: OrderBook) -> None:
        self.health = StreamHealth(clock)
        """How the socket is doing; ``skipped`` counts what was not shown, by reason."""
        self._name = name
        self._unit = unit
        self._clock = clock
        self._book = book
        self._socket = ReconnectingSocket(
            endpoint=self._endpoint,
            hello=self._hello,
            clock=clock,
            name=name,
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
                await self._connect(opening)
                self._shown = {order.id: order for order in await self._book.orders()}
                self._open = opening.pop_all()
        except AuthenticationError as exc:
            raise FeedAuthenticationError(f"{self._name}: {exc}") from exc
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
            return event  # type: ignore[return-value]  # what the slice asks for is what comes
        self._events.put_nowait(event)
        if event.error is not None:
            raise event.error
        raise StopAsyncIteration

    @abstractmethod
    async def _endpoint(self) -> Endpoint:
        """Return where to connect this time; an `AuthenticationError` ends the stream."""

    def _hello(self) -> Iterable[bytes | str]:
        """Return the frames that open a connection; none, where its address says all."""
        return ()

    @abstractmethod
    async def _understand(self, frame: bytes | str) -> AccountEvent | None:
        """Return what a frame tells; None where it is of a kind that is not known.

        Raises:
            WireFormatError: It cannot be read; like a failure to ask for the rest, it has the book read instead.
        """

    @abstractmethod
    def _is_stale(self, order: Order, shown: Order) -> bool:
        """Say whether ``order`` tells of a moment before ``shown``."""

    def _needless(self, order: Order, shown: Order) -> str | None:
        """Return what an update is counted as instead of being shown after ``shown``; None where it is shown."""
        return "stale" if self._is_stale(order, shown) else None

    async def _connect(self, opening: AsyncExitStack) -> None:
        """Open the first connection."""
        await opening.enter_async_context(self._socket)

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
            event = await self._understand(frame)
        except _UNREADABLE as exc:
            self.health.skipped["unreadable"] += 1
            logger.warning("reading the order book instead of %s: %s", self._unit, exc)
            self._catch_up_later()
            return
        if event is None:
            self.health.skipped["other"] += 1
        elif isinstance(event, Order):
            self._judge(event)
        else:
            self._put(event)

    async def _catch_up(self) -> bool:
        """Show what the book knows and this stream does not; say whether the book could be read."""
        try:
            orders = await self._book.orders()
        except _UNREADABLE as exc:
            logger.warning("reading the order book again soon, what changed in a gap is not known yet: %s", exc)
            return False
        for order in orders:
            shown = self._shown.get(order.id)
            if shown is None or (_state(shown) != _state(order) and not self._is_stale(order, shown)):
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
        reason = None if shown is None else self._needless(order, shown)
        if reason is None:
            self._show(order)
        else:
            self.health.skipped[reason] += 1

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
            error = FeedAuthenticationError(f"{self._name}: {error}")
        if error is not None or task is self._pump:
            self._events.put_nowait(_End(error))


@attrs.frozen
class _End:
    error: BaseException | None


def _state(order: Order) -> tuple[object, ...]:
    return (order.status, order.quantity, order.filled_quantity, order.price, order.trigger_price)
