"""How often each order has been changed: Dhan takes 25 changes of one order and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hybridbroker.brokers.dhan.limits import MODIFICATIONS_PER_ORDER
from hybridbroker.errors import InvalidOrder, OrderOutcomeUnknown

__all__ = ["Changes"]


class Changes:
    """Counts the changes that were made, or perhaps made, through one object."""

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()

    def check(self, order_id: str) -> None:
        """Raise `InvalidOrder` where the next change would be one too many."""
        if self._made[order_id] >= MODIFICATIONS_PER_ORDER:
            raise InvalidOrder(
                f"order {order_id} has been changed {MODIFICATIONS_PER_ORDER} times, which is all Dhan allows; "
                "cancel it and place a new one"
            )

    @asynccontextmanager
    async def one(self, order_id: str) -> AsyncIterator[None]:
        """Count what is sent inside, unless it was refused."""
        self.check(order_id)
        try:
            yield
        except OrderOutcomeUnknown:
            self._made[order_id] += 1
            raise
        self._made[order_id] += 1
