"""What super and forever orders share: the names of legs, and how their states and prices are spelled; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from hybridbroker.brokers.dhan.orders.mapping import reason
from hybridbroker.brokers.dhan.orders.terms import plain
from hybridbroker.domain.orders import OrderStatus
from hybridbroker.domain.standing import Leg, LegRole, LegStatus

__all__ = ["ENDED", "LEG", "ROLE", "WHY", "in_order", "price_of", "status_in", "type_of", "why", "word"]

LEG: Final = {LegRole.ENTRY: "ENTRY_LEG", LegRole.TARGET: "TARGET_LEG", LegRole.STOP: "STOP_LOSS_LEG"}
ROLE: Final = {text: role for role, text in LEG.items()}
ENDED: Final = {
    "TRADED": LegStatus.FILLED,
    "CANCELLED": LegStatus.CANCELLED,
    "REJECTED": LegStatus.REJECTED,
    "EXPIRED": LegStatus.EXPIRED,
}
WHY: Final = {
    LegStatus.CANCELLED: OrderStatus.CANCELLED,
    LegStatus.REJECTED: OrderStatus.REJECTED,
    LegStatus.EXPIRED: OrderStatus.EXPIRED,
}
"""States that a leg has ended in without being filled."""
_ORDER: Final = tuple(LegRole)


def word(text: str) -> str:
    """Return a status the way the tables spell it."""
    return text.strip().upper().replace(" ", "_")


def status_in(table: Mapping[str, LegStatus], text: str) -> LegStatus:
    """Return what a status means; what nobody documented is unknown."""
    return table.get(word(text), LegStatus.UNKNOWN)


def why(text: str | None, status: LegStatus) -> str | None:
    """Return why a leg ended unfilled, where Dhan says."""
    ended = WHY.get(status)
    return None if ended is None else reason(text, ended)


def type_of(price: Decimal | None) -> str:
    """Return the type of an order with this limit price."""
    return "MARKET" if price is None else "LIMIT"


def price_of(price: Decimal | None) -> Decimal | int:
    """Return a price as it is written; none is 0."""
    return 0 if price is None else plain(price)


def in_order(legs: Sequence[Leg]) -> tuple[Leg, ...]:
    """Return legs in the order entry, target, stop."""
    return tuple(sorted(legs, key=lambda leg: _ORDER.index(leg.role)))
