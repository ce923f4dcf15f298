"""The one place where an order's state changes: on disk first, then in memory, then told to whoever listens."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import attrs

from hybridbroker.clock import IST, Clock
from hybridbroker.domain.orders import Order, OrderRequest
from hybridbroker.errors import ConfigurationError, OrderOutcomeUnknown
from hybridbroker.execution.events import tell
from hybridbroker.execution.guard import Terms
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.metrics import Metrics
from hybridbroker.execution.reconcile import (
    CATCH_UP,
    Look,
    Patience,
    apply,
    describe_looks,
    is_absent,
    is_news,
    is_over,
    resembles,
)
from hybridbroker.execution.records import Entry, OrderState, describe_order, describe_request, signature
from hybridbroker.execution.stops import Alarm, Stops

__all__ = ["Ledger"]

_MINUTE: Final = timedelta(minutes=1)
_LOOKS_KEPT: Final = 64


class Ledger:
    """The orders of today and all that are not over, in memory as in the journal.

    Methods are synchronous: between two awaits the state is whole. ``changed`` is called with
    an order as it was and as it is.
    """

    def __init__(
        self,
        journal: OrderJournal,
        *,
        clock: Clock,
        patience: Patience,
        alarm: Alarm,
        stops: Stops,
        metrics: Metrics,
        changed: Callable[[Entry, Entry], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._patience = patience
        self._alarm = alarm
        self._stops = stops
        self._metrics = metrics
        self._changed = changed
        self._entries: dict[str, Entry] = {}
        self._open: dict[str, Entry] = {}
        self._of: dict[str, dict[str, Entry]] = {}
        self._spent: dict[str, Decimal] = {}
        self._names: dict[str, str] = {}
        self._latest: dict[str, Order] = {}
        self._published: dict[str, str] = {}
        self._strangers: dict[str, str] = {}
        self._looks: dict[str, list[Look]] = {}
        self._in_flight: set[str] = set()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._placed: deque[datetime] = deque()
        self._day = ""

    def load(self) -> None:
        """Read what a former process left."""
        found = {each.client_order_id: each for each in self._journal.unfinished()}
        found |= {each.client_order_id: each for each in self._journal.entries(since=self.midnight())}
        for entry in sorted(found.values(), key=lambda each: each.created_at):
            self._put(entry)
        recent = self._clock.now() - _MINUTE
        self._placed.extend(sorted(each.created_at for each in self._entries.values() if each.created_at > recent))

    def midnight(self) -> datetime:
        """Return when today began, in IST."""
        return self._clock.now().astimezone(IST).replace(hour=0, minute=0, second=0, microsecond=0)

    # What is known.

    def entry(self, client_order_id: str) -> Entry | None:
        """Return one order of today, or one that is not over."""
        return self._entries.get(client_order_id)

    def by_order_id(self, order_id: str) -> Entry | None:
        """Return the order that the broker calls so."""
        return self._entries.get(self._names.get(order_id, ""))

    def knows(self, order: Order) -> bool:
        """Say whether an order the broker shows is one of these."""
        return order.client_order_id in self._entries or order.id in self._names

    def latest(self, client_order_id: str) -> Order | None:
        """Return the newest report of an order that was believed."""
        return self._latest.get(client_order_id)

    def entries(self) -> Sequence[Entry]:
        """Return the orders of today and those that are not over."""
        return tuple(self._entries.values())

    def of(self, instrument: str) -> Sequence[Entry]:
        """Return the orders on one instrument, of today and those that are not over, oldest first."""
        return tuple(self._of.get(instrument, {}).values())

    def unresolved(self) -> Sequence[Entry]:
        """Return the orders that may be live and that nobody is waiting for an answer to."""
        return [each for each in self._open.values() if each.is_unresolved and not self.is_in_flight(each)]

    def absent(self) -> Sequence[Entry]:
        """Return the orders that are watched although the book lacks them."""
        now = self._clock.now()
        return [each for each in self._open.values() if each.state is OrderState.ABSENT and not is_over(each, now)]

    def live(self) -> Sequence[Entry]:
        """Return the orders that the broker has and that can still change."""
        return [each for each in self._open.values() if each.state is OrderState.ACCEPTED]

    def is_in_flight(self, entry: Entry) -> bool:
        """Say whether a call of this process is still waiting for its answer."""
        return entry.client_order_id in self._in_flight

    def placed_within_minute(self) -> int:
        """Return how many orders were meant to be sent in the last sixty seconds."""
        oldest = self._clock.now() - _MINUTE
        while self._placed and self._placed[0] <= oldest:
            self._placed.popleft()
        return len(self._placed)

    def value_today(self) -> Decimal:
        """Return the rupees of today's orders that were, or may have been, placed."""
        return self._spent.get(f"{self._clock.now().astimezone(IST):%Y-%m-%d}", Decimal(0))

    def twin(self, request: Terms, *, within: float) -> Entry | None:
        """Return an order of the last ``within`` seconds that asked for the very same."""
        oldest = self._clock.now() - timedelta(seconds=within)
        for entry in reversed(self.of(request.instrument.id)):
            if entry.created_at <= oldest:
                break
            same = (entry.side, entry.type, entry.product) == (request.side, request.type, request.product) and (
                entry.quantity,
                entry.price,
                entry.trigger_price,
            ) == (request.quantity, request.price, request.trigger_price)
            if same and entry.state is not OrderState.REJECTED:
                return entry
        return None

    async def news_of(self, client_order_id: str) -> None:
        """Wait until something is learnt about an order."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(client_order_id, []).append(waiter)
        await waiter

    def looks(self, client_order_id: str) -> Sequence[Look]:
        """Return where an unresolved order was looked for."""
        return tuple(self._looks.get(client_order_id, ()))

    def settles_in(self) -> float | None:
        """Return the seconds until the settle window of an unresolved order ends, or None where none is running."""
        now, window = self._clock.now(), timedelta(seconds=self._patience.settle)
        firsts = [
            next((look.at for look in self._looks.get(each.client_order_id, ()) if look.shows_absence), None)
            for each in self.unresolved()
        ]
        ends = [(first + window - now).total_seconds() for first in firsts if first is not None]
        return min((end for end in ends if end > 0), default=None)

    def unknown_error(self, client_order_id: str) -> OrderOutcomeUnknown:
        """Return the exception that tells what was looked at and when."""
        looks = self.looks(client_order_id)
        return OrderOutcomeUnknown(
            f"order {client_order_id} may be live: its answer was lost and it was not found "
            f"({describe_looks(looks)}). The search goes on; do not send it again",
            client_order_id=client_order_id,
            looks=looks,
        )

    # What happens.

    def begin(self, request: OrderRequest, *, value: Decimal | None) -> Entry:
        """Make the intent durable; `InvalidOrder` and `ConfigurationError` mean: nothing may be sent."""
        entry = Entry.of(request, at=self._clock.now(), value=value)
        if entry.day != self._day:
            self._day = entry.day
            self._forget()
        self._journal.begin(entry, describe_request(request))
        self._put(entry)
        self._in_flight.add(entry.client_order_id)
        self._placed.append(entry.created_at)
        self._metrics.count("placed")
        return entry

    def charge(self, value: Decimal, *, at: datetime | None = None) -> Callable[[], None]:
        """Count a standing entry against today's limits; call what is returned once it is known not to be placed."""
        made = at or self._clock.now()
        day = f"{made.astimezone(IST):%Y-%m-%d}"
        self._placed.append(made)
        self._spent[day] = self._spent.get(day, Decimal(0)) + value

        def undo() -> None:
            self._spent[day] -= value

        return undo

    def adopt(self, order: Order) -> None:
        """Take in an order that became of a standing one: it was asked for then, and counts for nothing today.

        It belongs to the day on which the broker made it; one taken in on an earlier day is only remembered.
        """
        now = self._clock.now()
        entry = Entry.adopted(order, at=now)
        known = self._journal.entry(entry.client_order_id)
        if known is not None:
            self._put(known)
            return
        self._journal.begin(entry, describe_order(order))
        self._put(entry)
        self._published[entry.client_order_id] = self._strangers.pop(order.id, "")
        self._metrics.count("adopted")
        tell("order-of-standing-order", client_order_id=entry.client_order_id, order_id=order.id)

    def sent(self, client_order_id: str) -> None:
        """Note that the request is handed over next."""
        now = self._clock.now()
        entry = attrs.evolve(self._entries[client_order_id], state=OrderState.SENT, sent_at=now, changed_at=now)
        self._journal.mark_sent(entry)
        self._put(entry)
        tell("order-sent", client_order_id=client_order_id, instrument=entry.instrument)

    def accepted(self, client_order_id: str, order: Order) -> Order:
        """Note the broker's acknowledgement, and return the newest report of the order."""
        self._in_flight.discard(client_order_id)
        entry = self._entries[client_order_id]
        if is_news(entry, order, settled=False):
            self._believe(entry, order)
        return self._latest.get(client_order_id, order)

    def rejected(self, client_order_id: str, why: str) -> None:
        """Note that it certainly was not placed; a report that shows it after all is believed over this."""
        self._in_flight.discard(client_order_id)
        entry = self._entries[client_order_id]
        if entry.order_id is None:
            self._save(self._moved(entry, state=OrderState.REJECTED, reason=why), "rejected", detail=why)
            self._metrics.count("rejected")
            tell("order-rejected", client_order_id=client_order_id, reason=why)

    def unknown(self, client_order_id: str, why: str) -> None:
        """Note that the answer was lost; returns at once, the search is somebody else's work."""
        self._in_flight.discard(client_order_id)
        entry = self._entries[client_order_id]
        if entry.is_unresolved and entry.state is not OrderState.UNKNOWN:
            self._save(self._moved(entry, state=OrderState.UNKNOWN, reason=why), "unknown", detail=why)
            self._metrics.count("unknown")
            tell("order-unknown", level=logging.WARNING, client_order_id=client_order_id, reason=why)

    def looked(self, client_order_id: str, look: Look, *, book: Iterable[Order] = ()) -> None:
        """Note an attempt to find an unresolved order; with enough of them it is marked absent."""
        entry = self._entries[client_order_id]
        if any(resembles(entry, order) and order.id not in self._names for order in book):
            look = attrs.evolve(look, failure="the book holds an order without id that may be this one")
        looks = self._looks.setdefault(client_order_id, [])
        looks.append(look)
        if len(looks) > _LOOKS_KEPT:
            del looks[1 : _LOOKS_KEPT // 2]
        if entry.state is OrderState.UNKNOWN and is_absent(looks, self._patience):
            self.mark_absent(client_order_id, describe_looks(looks))

    def mark_absent(self, client_order_id: str, why: str) -> None:
        """Call an unknown order absent: entries on its instrument go on, its id is used up, the watch stays."""
        entry = self._entries[client_order_id]
        self._save(self._moved(entry, state=OrderState.ABSENT, reason="not in the book"), "absent", detail=why)
        self._metrics.count("absent")
        tell("order-absent", level=logging.WARNING, client_order_id=client_order_id, looks=why)
        self._alarm(
            f"order {client_order_id} ({entry.instrument}) is in no reading of the book and counts as not placed"
        )

    def over(self, client_order_id: str, why: str) -> None:
        """Close an order whose trading day passed before the broker could be asked."""
        entry = self._entries[client_order_id]
        self._save(self._moved(entry, state=OrderState.FINAL, reason=why), "over", detail=why)

    def observe(self, order: Order, *, read_from: datetime | None = None) -> bool:
        """Take in a report of any order of the account; say whether a strategy should hear of it.

        ``read_from`` is when the book reading that holds it began; None for the update stream.
        Orders of others are always news.
        """
        entry = self._entries.get(order.client_order_id or "") or self.by_order_id(order.id)
        if entry is None:
            if read_from is None:
                self._strangers[order.id] = signature(order)
            return read_from is None
        settled = read_from is not None and read_from - entry.changed_at >= CATCH_UP
        if not is_news(entry, order, settled=settled):
            return False
        self._believe(entry, order)
        told = self._published.get(entry.client_order_id, entry.delivered)
        self._published[entry.client_order_id] = signature(order)
        return signature(order) != told

    def delivered(self, order: Order) -> None:
        """Remember that the strategy was told of this report."""
        entry = self._entries.get(order.client_order_id or "") or self.by_order_id(order.id)
        told = signature(order)
        if entry is not None and entry.delivered != told:
            try:
                self._journal.mark_delivered(entry.client_order_id, told)
            except ConfigurationError as exc:
                self._stops.stop("journal", str(exc), kept=False)
            self._put(attrs.evolve(entry, delivered=told))

    def override(self, entry: Entry, why: str) -> None:
        """Stop an unresolved order from blocking its instrument."""
        self._save(self._moved(entry, overridden=True), "overridden", detail=why)

    def _forget(self) -> None:
        """Drop what was over before today began, as a new process would not load it; the journal keeps it."""
        midnight = self.midnight()
        for name, entry in list(self._entries.items()):
            if name in self._open or entry.created_at >= midnight or entry.changed_at >= midnight:
                continue
            for kept in (self._entries, self._of[entry.instrument], self._latest, self._published, self._looks):
                kept.pop(name, None)
            if entry.order_id is not None:
                self._names.pop(entry.order_id, None)

    def _believe(self, entry: Entry, order: Order) -> None:
        newer = apply(entry, order, at=self._clock.now())
        self._latest[entry.client_order_id] = order
        if newer.substance != entry.substance:
            self._save(newer, newer.state.value, detail=describe_order(order))
            self._looks.pop(entry.client_order_id, None)
            self._tell(entry, newer)

    def _tell(self, before: Entry, after: Entry) -> None:
        facts: dict[str, Any] = {
            "client_order_id": after.client_order_id,
            "order_id": after.order_id,
            "status": after.status,
            "filled": after.filled_quantity,
        }
        if before.state in {OrderState.ABSENT, OrderState.REJECTED}:
            self._metrics.count("adopted")
            tell("order-adopted", level=logging.WARNING, **facts)
            if not (after.may_trade or after.filled_quantity):
                return
            self._stops.stop(
                f"adopted:{after.client_order_id}",
                f"order {after.client_order_id} ({after.instrument}) was held to be {before.state.value} and is at the "
                f"broker after all as {after.order_id} ({after.status}); check the position, then override()",
            )
        elif before.is_unresolved:
            self._metrics.count("accepted")
            tell("order-accepted", **facts)
        else:
            tell("order-changed", **facts)

    def _moved(self, entry: Entry, **changes: Any) -> Entry:
        return attrs.evolve(entry, changed_at=self._clock.now(), **changes)

    def _save(self, entry: Entry, kind: str, *, detail: str = "") -> None:
        before = self._entries.get(entry.client_order_id, entry)
        self._put(entry)
        try:
            self._journal.save(entry, kind, detail)
        except ConfigurationError as exc:
            # The order is a fact whether or not it can be written down: the caller must hear of it.
            self._stops.stop("journal", str(exc), kept=False)
        for waiter in self._waiters.pop(entry.client_order_id, ()):
            if not waiter.done():
                waiter.set_result(None)
        self._changed(before, entry)

    def _put(self, entry: Entry) -> None:
        name = entry.client_order_id
        before = self._entries.get(name)
        self._entries[name] = entry
        self._of.setdefault(entry.instrument, {})[name] = entry
        if entry.state in {OrderState.REJECTED, OrderState.FINAL}:
            self._open.pop(name, None)
        else:
            self._open[name] = entry
        if entry.order_id is not None:
            self._names[entry.order_id] = name
        change = entry.counts_for - (before.counts_for if before is not None else 0)
        if change:
            self._spent[entry.day] = self._spent.get(entry.day, Decimal(0)) + change
