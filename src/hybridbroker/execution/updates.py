"""One stream of order updates from the broker, any number of listeners, and nothing told twice or lost in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import Order

__all__ = ["UpdateHub"]


class UpdateHub:
    """Hands each change to every listener; while there is none, keeps the newest of each order.

    ``delivered`` is called when a listener comes back for more, so that a change counts as
    told only after it was dealt with. After a crash in between it is told once more.
    """

    def __init__(self, delivered: Callable[[Order], None]) -> None:
        self._delivered = delivered
        self._listeners: list[_Listener] = []
        self._missed: dict[str, Order] = {}
        self._closed = False

    def publish(self, item: Order | Gap) -> None:
        """Tell everybody; never waits."""
        if self._listeners:
            for listener in self._listeners:
                listener.queue.put_nowait(item)
        elif isinstance(item, Order):
            self._missed.pop(item.id, None)
            self._missed[item.id] = item

    def close(self) -> None:
        """End the iteration of every listener, after what they have not taken yet."""
        self._closed = True
        for listener in self._listeners:
            listener.queue.put_nowait(None)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Order | Gap]]:
        """Listen, beginning with what happened while nobody did."""
        listener = _Listener(self._delivered)
        for order in self._missed.values():
            listener.queue.put_nowait(order)
        self._missed.clear()
        if self._closed:
            listener.queue.put_nowait(None)
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)
            while not self._listeners and not listener.queue.empty():
                item = listener.queue.get_nowait()
                if isinstance(item, Order):
                    self.publish(item)


class _Listener:
    """What one listener has not taken yet."""

    def __init__(self, delivered: Callable[[Order], None]) -> None:
        self.queue: asyncio.Queue[Order | Gap | None] = asyncio.Queue()
        self._delivered = delivered
        self._last: Order | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Order | Gap:
        if self._last is not None:
            self._delivered(self._last)
            self._last = None
        item = await self.queue.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Order):
            self._last = item
        return item
