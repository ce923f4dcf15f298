"""What to believe of an order: pure functions of what is known and what was just seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.orders import Order, OrderStatus, Product
from hybridbroker.domain.portfolio import Position
from hybridbroker.execution.records import Entry, OrderState

__all__ = [
    "Look",
    "Mismatch",
    "Patience",
    "apply",
    "compare_positions",
    "describe_looks",
    "is_absent",
    "is_news",
    "is_over",
    "matches",
    "resembles",
]

CATCH_UP: Final = timedelta(seconds=3)
"""A book read this long after the last update is the truth; a younger one may lag behind the update socket."""

_CLOCK_SKEW: Final = timedelta(seconds=5)
_LONGEST_WEEKEND: Final = timedelta(days=5)
_DERIVATIVE_PARTS: Final = 3
_PROGRESS: Final = {OrderStatus.PENDING: 0, OrderStatus.TRIGGER_PENDING: 1, OrderStatus.OPEN: 2}


@attrs.frozen(kw_only=True)
class Patience:
    """How long to look for an order whose answer was lost."""

    deadline: float = 5.0
    """Seconds a caller waits for the search; then `OrderOutcomeUnknown`, and it goes on behind him."""
    settle: float = 60.0
    """Seconds between the first and the last complete book reading that must all lack the order."""
    reads: int = 3
    """Complete book readings that must lack it, at least."""
    watch: float = 1.0
    """Seconds to the first look in the background; the pauses double, up to ten times this."""
    poll: float = 30.0
    """Seconds between book readings while order updates are down, and for absent orders."""


@attrs.frozen
class Look:
    """One attempt to find an order: where, when it began, and what came of it."""

    source: str
    """``find_order``, ``orders`` (the whole book) or ``order_updates``."""
    at: datetime
    found: bool
    failure: str = ""
    """Why it told nothing; empty when it was answered."""

    @property
    def shows_absence(self) -> bool:
        """Say whether it was a complete reading of the book without the order."""
        return self.source == "orders" and not self.found and not self.failure


def matches(entry: Entry, order: Order) -> bool:
    """Say whether ``order`` is this one: by our id, or by the broker's."""
    return order.client_order_id == entry.client_order_id or (entry.order_id is not None and order.id == entry.order_id)


def resembles(entry: Entry, order: Order) -> bool:
    """Say whether a book row without a known client order id could be this order.

    It proves nothing, but while such a row exists the order is not called absent.
    """
    if order.client_order_id or order.instrument.id != entry.instrument:
        return False
    if order.side is not entry.side or order.quantity != entry.quantity:
        return False
    since = entry.sent_at or entry.created_at
    return order.placed_at is None or order.placed_at >= since - _CLOCK_SKEW


def is_absent(looks: Sequence[Look], patience: Patience) -> bool:
    """Say whether enough complete book readings, over long enough, lack the order.

    Evidence, not proof: the watch goes on, and an order that appears after all is adopted.
    """
    times = [look.at for look in looks if look.shows_absence]
    if any(look.found for look in looks) or len(times) < patience.reads:
        return False
    return times[-1] - times[0] >= timedelta(seconds=patience.settle)


def is_over(entry: Entry, now: datetime) -> bool:
    """Say whether the order's trading day has passed, so that it cannot be live and today's book cannot tell.

    An after-market order belongs to the next session, which may lie behind a long weekend.
    """
    made = entry.sent_at or entry.created_at
    if entry.after_market:
        return now - made > _LONGEST_WEEKEND
    return made.astimezone(IST).date() < now.astimezone(IST).date()


def is_news(entry: Entry, order: Order, *, settled: bool) -> bool:
    """Say whether ``order`` tells more than is known; a report overtaken by a newer one does not.

    Reports arrive in any order, and a broker's times are whole seconds. What cannot go back
    decides: fills only grow and a final status stays; then the broker's time; then how far
    along the status is. Only a book read ``settled`` (begun `CATCH_UP` after the last news)
    is believed against that, since it cannot have been overtaken.
    """
    if order.status is OrderStatus.UNKNOWN:
        return order.filled_quantity > entry.filled_quantity
    if entry.status is None or settled:
        return True
    if order.filled_quantity != entry.filled_quantity:
        return order.filled_quantity > entry.filled_quantity
    if entry.state is OrderState.FINAL or order.is_final:
        return entry.state is not OrderState.FINAL
    return _is_later(entry, order)


def _is_later(entry: Entry, order: Order) -> bool:
    if order.updated_at is not None and entry.updated_at is not None and order.updated_at != entry.updated_at:
        return order.updated_at > entry.updated_at
    return _PROGRESS.get(order.status, 3) >= _PROGRESS.get(entry.status or OrderStatus.PENDING, 3)


def apply(entry: Entry, order: Order, *, at: datetime) -> Entry:
    """Return what is known after believing ``order``; one of status `UNKNOWN` leaves the status as it was."""
    status = entry.status if order.status is OrderStatus.UNKNOWN else order.status
    final = order.is_final or (entry.state is OrderState.FINAL and order.status is OrderStatus.UNKNOWN)
    return attrs.evolve(
        entry,
        state=OrderState.FINAL if final else OrderState.ACCEPTED,
        order_id=order.id,
        status=status or OrderStatus.UNKNOWN,
        quantity=order.quantity,
        price=order.price if order.price is not None else entry.price,
        trigger_price=order.trigger_price if order.trigger_price is not None else entry.trigger_price,
        filled_quantity=order.filled_quantity,
        average_price=order.average_price,
        reason=order.reason,
        changed_at=at,
        updated_at=order.updated_at or entry.updated_at,
    )


def describe_looks(looks: Iterable[Look]) -> str:
    """Return where an order was looked for and when, for a person."""
    told = [
        f"{look.source} at {look.at.astimezone(IST):%H:%M:%S}: "
        + (look.failure or ("there" if look.found else "not there"))
        for look in looks
    ]
    return "; ".join(told) or "nowhere yet"


@attrs.frozen(kw_only=True)
class Mismatch:
    """A position that the journal's fills do not add up to."""

    instrument: str
    product: Product
    expected: int
    """Net units by the journal."""
    actual: int
    """Net units by the broker."""

    def __str__(self) -> str:
        return (
            f"{self.instrument} {self.product.value}: the broker holds {self.actual:+d}, "
            f"the journal accounts for {self.expected:+d}"
        )


def compare_positions(
    expected: Mapping[tuple[str, Product], int], actual: Iterable[Position], *, now: datetime
) -> tuple[Mismatch, ...]:
    """Return where the broker's positions differ from what the journal accounts for.

    Contracts past their expiry are left out: they end without an order of ours.
    """
    held: dict[tuple[str, Product], int] = {}
    for position in actual:
        key = (position.instrument.id, position.product)
        held[key] = held.get(key, 0) + position.quantity
    today = now.astimezone(IST).date().isoformat()
    return tuple(
        Mismatch(instrument=key[0], product=key[1], expected=expected.get(key, 0), actual=held.get(key, 0))
        for key in sorted({*expected, *held})
        if expected.get(key, 0) != held.get(key, 0) and not _expired(key[0], today)
    )


def _expired(instrument: str, today: str) -> bool:
    """Say whether an instrument id names a contract past its expiry: ``NSE:NIFTY:2026-11-24:FUT``."""
    parts = instrument.split(":")
    return len(parts) > _DERIVATIVE_PARTS and parts[2] < today
