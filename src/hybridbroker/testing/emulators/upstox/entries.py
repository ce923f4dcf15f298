"""One order of Upstox's book: what it asks for, how it stands, and every state it passed through."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.domain.orders import Order
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.upstox.orders import Terms

__all__ = ["FINAL", "Entry", "State"]

FINAL: Final = frozenset({"complete", "cancelled", "rejected", "cancelled after market order"})
"""Statuses after which nothing changes (documented)."""


@attrs.frozen(kw_only=True)
class State:
    """How an order stood at one instant."""

    status: str
    at: datetime
    message: str | None
    price: Decimal
    trigger: Decimal
    quantity: int
    filled: int
    average: Decimal
    exchange_id: str | None
    exchanged_at: datetime | None
    terms: Terms


@attrs.define(eq=False, kw_only=True)
class Entry:
    """One order of the book."""

    id: str
    terms: Terms
    created: datetime
    venue: SimulatedExchange
    amo: bool = False
    gtt_id: str | None = None
    exchange_id: str | None = None
    """The simulated exchange's id, once it is there."""
    states: list[State] = attrs.field(factory=list)
    moves: deque[Callable[[], None]] = attrs.field(factory=deque)
    """What happens to it next, each after a pause."""
    requests: int = 1

    @property
    def state(self) -> State:
        """Return how it stands."""
        return self.states[-1]

    @property
    def status(self) -> str:
        """Return its status text."""
        return self.state.status

    @property
    def is_final(self) -> bool:
        """Say whether nothing about it can change."""
        return self.status in FINAL

    @property
    def order(self) -> Order | None:
        """Return what the exchange holds of it."""
        return None if self.exchange_id is None else self.venue.order(self.exchange_id)
