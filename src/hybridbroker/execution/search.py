"""Looking for an order whose answer was lost: by asking, never by sending again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.orders import Order
from hybridbroker.errors import HybridBrokerError, OrderNotFound, OrderOutcomeUnknown, RateLimited
from hybridbroker.execution.ledger import Ledger
from hybridbroker.execution.reconcile import Look, Patience, describe_looks
from hybridbroker.protocols import Broker

__all__ = ["Search"]

_T = TypeVar("_T")

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0


class Search:
    """Asks the broker for orders; what it learns goes through ``took`` to the ledger and the listeners.

    The pauses between attempts follow the clock; the broker's own rate limits pace the reads
    themselves. One read takes at most ``patience.deadline`` seconds of real time.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        ledger: Ledger,
        clock: Clock,
        patience: Patience,
        took: Callable[[Sequence[Order], datetime], None],
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._patience = patience
        self._took = took

    async def find(self, client_order_id: str, *, first_absence: bool = False) -> Order | None:
        """Look until the order is found, by call or by update, or the deadline passes: then None.

        ``first_absence`` gives up as soon as one complete book lacks it.
        """
        until = self._clock.monotonic() + self._patience.deadline
        pause = _FIRST_PAUSE
        while True:
            absent = await self._look(client_order_id)
            found = self._found(client_order_id)
            if found is not None or (absent and first_absence):
                return found
            left = until - self._clock.monotonic()
            if left <= 0:
                return None
            await self._wait(client_order_id, min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
            found = self._found(client_order_id)
            if found is not None:
                return found

    async def read_back(self, order_id: str, *, done: Callable[[Order], bool], what: str) -> Order:
        """Read an order until ``done`` says that a change was made, or it is final.

        Raises:
            OrderOutcomeUnknown: It was not, within the deadline; the change may still happen.
        """
        until = self._clock.monotonic() + self._patience.deadline
        pause = _FIRST_PAUSE
        looks: list[Look] = []
        while True:
            at = self._clock.now()
            order, failure = await self._ask(self._broker.order(order_id))
            if order is not None:
                self._took([order], at)
                if done(order) or order.is_final:
                    return order
                failure = f"still {order.status.value}"
            looks.append(Look("order", at, found=False, failure=failure or "not there"))
            left = until - self._clock.monotonic()
            if left <= 0:
                raise OrderOutcomeUnknown(
                    f"whether order {order_id} was {what} is not known: the answer was lost and reading it back did "
                    f"not show it ({describe_looks(looks)}); look again with order(). Asking for the same is safe",
                    client_order_id=order_id,
                    looks=looks,
                )
            await self._clock.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _found(self, client_order_id: str) -> Order | None:
        entry = self._ledger.entry(client_order_id)
        if entry is None or entry.is_unresolved or entry.order_id is None:
            return None
        return self._ledger.latest(client_order_id)

    async def _look(self, client_order_id: str) -> bool:
        """Ask by id, then for the whole book; say whether a complete book lacked it."""
        at = self._clock.now()
        order, failure = await self._ask(self._broker.find_order(client_order_id))
        if order is not None:
            # The broker found it by our id, whether or not its row repeats the id.
            self._took([attrs.evolve(order, client_order_id=client_order_id)], at)
            return False
        self._note(client_order_id, Look("find_order", at, found=False, failure=failure))
        at = self._clock.now()
        book, failure = await self._ask(self._broker.orders())
        if book is None:
            self._note(client_order_id, Look("orders", at, found=False, failure=failure or "no answer"))
            return False
        self._took(book, at)
        entry = self._ledger.entry(client_order_id)
        if entry is None or not entry.is_unresolved:
            return False
        self._ledger.looked(client_order_id, Look("orders", at, found=False), book=book)
        looks = self._ledger.looks(client_order_id)
        return bool(looks) and looks[-1].shows_absence

    def _note(self, client_order_id: str, look: Look) -> None:
        entry = self._ledger.entry(client_order_id)
        if entry is not None and entry.is_unresolved:
            self._ledger.looked(client_order_id, look)

    async def _ask(self, question: Awaitable[_T | None]) -> tuple[_T | None, str]:
        try:
            async with asyncio.timeout(self._patience.deadline):
                return await question, ""
        except OrderNotFound:
            return None, ""
        except TimeoutError:
            return None, "no answer in time"
        except RateLimited as exc:
            await self._clock.sleep(min(exc.retry_after or 0.0, _LONGEST_PAUSE))
            return None, "rate limited"
        except HybridBrokerError as exc:
            return None, f"{type(exc).__name__}: {exc}"

    async def _wait(self, client_order_id: str, seconds: float) -> None:
        """Wait, but no longer than until an update shows the order."""
        news = asyncio.ensure_future(self._ledger.news_of(client_order_id))
        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({news, pause}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            pause.cancel()
