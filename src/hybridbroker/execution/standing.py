"""Standing orders (GTT and bracket) with the promises of ordinary ones: intent on disk first, sent once, looked for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.orders import Order
from hybridbroker.domain.standing import Bracket, Gtt
from hybridbroker.errors import (
    ConfigurationError,
    HybridBrokerError,
    InvalidOrder,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
)
from hybridbroker.execution.events import tell
from hybridbroker.execution.journal import Change, OrderJournal
from hybridbroker.execution.ledger import Ledger
from hybridbroker.execution.outcomes import REFUSALS, told
from hybridbroker.execution.rate import WriteRate
from hybridbroker.execution.reconcile import Look, Patience, is_absent
from hybridbroker.execution.standing_terms import Standing, StandingOrder, is_same, kind_of, terms_of
from hybridbroker.execution.stops import Stops
from hybridbroker.protocols import BracketOrders, Broker, Capability, GttOrders

__all__ = ["StandingDesk", "is_standing"]

S = TypeVar("S", Gtt, Bracket)

logger = logging.getLogger(__name__)

_READ_LIMIT: Final = 30.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
_NOUNS: Final = ("gtt", "bracket")


def is_standing(kind: str) -> bool:
    """Say whether a journalled change is about a standing order."""
    return kind.endswith(_NOUNS)


@attrs.frozen(eq=False)
class _Shelf(Generic[S]):
    """One kind of standing orders at the broker."""

    noun: str
    flag: Capability
    read: Callable[[], Awaitable[Sequence[S]]]
    find: Callable[[str], Awaitable[S | None]]
    shown: dict[str, tuple[datetime, S]] = attrs.field(factory=dict)
    """Each as it was last seen, and when."""


class StandingDesk:
    """Writes standing orders down, sends them once, and finds those whose answer was lost.

    One that cannot be found stops entries until the broker's list shows it, or several readings
    over the settle window lack it, or a person overrides. Until then it claims what it would
    close, as those in the list do, so that nothing is protected twice.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        journal: OrderJournal,
        ledger: Ledger,
        rate: WriteRate,
        clock: Clock,
        patience: Patience,
        stops: Stops,
        watch: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._journal = journal
        self._ledger = ledger
        self._rate = rate
        self._clock = clock
        self._patience = patience
        self._stops = stops
        self._watch = watch
        self._shelves: list[_Shelf[Any]] = []
        if isinstance(broker, GttOrders):
            flags = Capability.GTT_ORDERS | Capability.OCO_ORDERS
            self._shelves.append(_Shelf("gtt", flags, broker.gtts, broker.find_gtt))
        if isinstance(broker, BracketOrders):
            flags = Capability.BRACKET_ORDERS
            self._shelves.append(_Shelf("bracket", flags, broker.brackets, broker.find_bracket))
        self._shelves = [each for each in self._shelves if each.flag & broker.capabilities]
        self._ids: set[str] = set()
        self._names: set[str] = set()
        self._looks: dict[int, list[Look]] = {}

    def claims(self, order: Order) -> bool:
        """Say whether an order of the book came from a standing order the broker has shown."""
        return order.id in self._ids or order.client_order_id in self._names

    def claimed(self, request: StandingOrder, *, besides: str | None = None) -> int:
        """Return the units that other GTT orders of its kind may trade, those that nobody has seen yet too."""
        kind = kind_of(request)
        shown = [each for _, each in self._shelf("gtt").shown.values() if each.id != besides]
        units = sum(int(each.unfilled) for each in shown if each.may_trade and kind_of(each) == kind)
        for change in self._unsettled("gtt"):
            wanted = json.loads(change.wanted)
            if (wanted["instrument"], wanted["side"], wanted["product"]) == kind:
                units += int(wanted["quantity"])
        return units

    def twin(self, request: StandingOrder, *, within: float) -> str | None:
        """Return the name of one of the last ``within`` seconds that asked for the very same."""
        terms = terms_of(request)
        for change in self._journal.changes(since=self._clock.now() - timedelta(seconds=within)):
            wanted = json.loads(change.wanted)
            is_placed = change.kind.startswith("place") and change.state not in {"rejected", "absent"}
            if is_placed and all(wanted[name] == each for name, each in terms.items()):
                return change.order_id
        return None

    @property
    def is_unsettled(self) -> bool:
        """Say whether any may be live without having been shown."""
        return any(self._unsettled(shelf.noun) for shelf in self._shelves)

    async def recover(self) -> None:
        """Look at the standing orders once, where this journal ever held one; what stays open stops entries."""
        for change in self._journal.changes(since=self._ledger.midnight()):
            value = json.loads(change.wanted).get("value") if change.kind.startswith("place") else None
            if value is not None and change.state not in {"rejected", "absent"}:
                self._ledger.charge(Decimal(value), at=change.at)
        for shelf in self._shelves:
            if self._journal.has_changes(f"place-{shelf.noun}"):
                await self._try_list(shelf)
                for change in self._unsettled(shelf.noun):
                    self._stop(shelf.noun, change.order_id, "the process ended before its answer was read")

    async def settle(self) -> None:
        """Read the lists in which something may still appear."""
        for shelf in self._shelves:
            if self._unsettled(shelf.noun):
                await self._try_list(shelf)

    async def gtts(self) -> Sequence[Gtt]:
        """Read the list, and settle what was open by it."""
        return await self._list(self._shelf("gtt"))

    async def brackets(self) -> Sequence[Bracket]:
        """Read the list, and settle what was open by it."""
        return await self._list(self._shelf("bracket"))

    async def place(
        self,
        noun: str,
        request: StandingOrder,
        send: Callable[[], Awaitable[S]],
        *,
        value: Decimal | None = None,
        urgent: bool = False,
        last_look: Callable[[], None] | None = None,
    ) -> S:
        """Send a named one, once; it cannot be one that the list showed before.

        ``value`` is what an entry counts for, None for an exit; ``last_look`` may still refuse
        it after a wait for the write rate. Up to the first await nothing else runs.
        """
        name = request.client_order_id
        assert name is not None  # noqa: S101 - named before
        if self._journal.history(name):
            raise InvalidOrder(f"client order id {name!r} was used before; an id is never used twice")
        shelf = self._shelf(noun)
        wanted = {**terms_of(request), "before": sorted(shelf.shown)}
        if value is not None:
            wanted["value"] = str(value)
        self._names.add(name)
        return await self._write(
            f"place-{noun}",
            name,
            wanted,
            send,
            urgent=urgent,
            last_look=last_look,
            look=lambda began: self._look(shelf, name, wanted, began=began),
        )

    async def change(
        self,
        kind: str,
        noun: str,
        standing_id: str,
        wanted: Mapping[str, Any],
        send: Callable[[], Awaitable[S]],
        *,
        done: Callable[[S], bool],
        urgent: bool = False,
        last_look: Callable[[], None] | None = None,
    ) -> S:
        """Change or cancel one, once; a lost answer is settled by reading the list until ``done``."""
        shelf = self._shelf(noun)

        async def look(_: datetime) -> tuple[S | None, bool]:
            shown = {each.id: each for each in await self._list(shelf)}.get(standing_id)
            if shown is None or done(shown):
                return shown, shown is None
            if not shown.may_trade:
                raise OrderRejected(f"{noun} order {standing_id} had ended before it could be changed")
            return None, False

        return await self._write(
            f"{kind}-{noun}", standing_id, wanted, send, urgent=urgent, last_look=last_look, look=look
        )

    async def _write(
        self,
        kind: str,
        subject: str,
        wanted: Mapping[str, Any],
        send: Callable[[], Awaitable[S]],
        *,
        urgent: bool,
        last_look: Callable[[], None] | None,
        look: Callable[[datetime], Awaitable[tuple[S | None, bool]]],
    ) -> S:
        number = self._begin(kind, subject, wanted)
        counted = self._ledger.charge(Decimal(wanted["value"])) if "value" in wanted else None
        turn = None
        try:
            turn = await self._rate.acquire(urgent=urgent)
            if turn.waited and last_look is not None:
                last_look()
        except BaseException as exc:
            if turn is not None:
                turn.unused()
            self._refused(number, kind, subject, f"never sent: {told(exc)}", counted)
            raise
        self._watch()
        began = self._clock.now()
        try:
            standing = await turn.around(send())
        except REFUSALS as exc:
            self._refused(number, kind, subject, told(exc), counted)
            raise
        except HybridBrokerError as exc:
            if isinstance(exc, RateLimited) and not kind.startswith("place"):
                self._refused(number, kind, subject, told(exc), counted)
                raise
            self._end(number, subject, kind, "unknown", told(exc))
            try:
                standing = await self._settle(kind, subject, look, began, lost=exc)
            except (OrderRejected, RateLimited) as refusal:
                self._refused(number, kind, subject, told(refusal), counted)
                raise
        except BaseException as exc:
            # A cancelled task, or a slice that broke: the request may have left all the same.
            self._end(number, subject, kind, "unknown", told(exc))
            if kind.startswith("place"):
                self._stop(kind, subject, told(exc))
            raise
        self._note([standing])
        self._end(number, subject, kind, "accepted", standing.id)
        tell(f"{kind}-acknowledged", subject=subject, standing_id=standing.id)
        return standing

    def _begin(self, kind: str, subject: str, wanted: Mapping[str, Any]) -> int | None:
        """Make the intent durable; only a cancellation, which makes less happen, goes on without."""
        try:
            return self._journal.begin_change(subject, kind, json.dumps(wanted, default=str))
        except ConfigurationError as exc:
            if not kind.startswith("cancel"):
                raise
            self._stops.stop("journal", str(exc), kept=False)
            return None

    def _refused(
        self, number: int | None, kind: str, subject: str, why: str, counted: Callable[[], None] | None
    ) -> None:
        if counted is not None:
            counted()
        self._end(number, subject, kind, "rejected", why)

    async def _settle(
        self,
        kind: str,
        subject: str,
        look: Callable[[datetime], Awaitable[tuple[S | None, bool]]],
        began: datetime,
        *,
        lost: HybridBrokerError,
    ) -> S:
        until = self._clock.monotonic() + self._patience.deadline
        pause, why = _FIRST_PAUSE, "the list did not show it"
        while True:
            try:
                async with asyncio.timeout(self._patience.deadline):
                    found, is_absent = await look(began)
            except OrderRejected:
                raise
            except (HybridBrokerError, TimeoutError) as exc:
                found, is_absent, why = None, False, told(exc)
            if found is not None:
                return found
            if is_absent and isinstance(lost, RateLimited):
                raise lost  # refused unread, and the list agrees
            left = until - self._clock.monotonic()
            if left <= 0:
                break
            await self._clock.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
        advice = "look at the list of standing orders; asking for the same change is safe"
        if kind.startswith("place"):
            self._stop(kind, subject, told(lost))
            advice = "look at the list of standing orders, do not send it again"
        raise OrderOutcomeUnknown(
            f"{kind} {subject} may have been done: its answer was lost ({lost}), and {why}; {advice}",
            client_order_id=subject,
        ) from lost

    async def _look(
        self, shelf: _Shelf[S], name: str, wanted: Mapping[str, Any], *, began: datetime
    ) -> tuple[S | None, bool]:
        found = await shelf.find(name)
        if found is None:
            shown = await self._list(shelf)
            found = next((each for each in shown if is_same(each, name, wanted, sent_at=began)), None)
        return found, found is None

    async def _try_list(self, shelf: _Shelf[Any]) -> None:
        try:
            async with asyncio.timeout(_READ_LIMIT):
                await self._list(shelf)
        except (HybridBrokerError, TimeoutError) as exc:
            logger.info("reading the %s orders failed, trying again: %s", shelf.noun, told(exc))

    async def _list(self, shelf: _Shelf[S]) -> Sequence[S]:
        began = self._clock.now()
        shown = await shelf.read()
        # One that was acknowledged a moment ago may be missing from a list that lags.
        young = began - timedelta(seconds=self._patience.settle)
        for standing_id in [each for each, (at, _) in shelf.shown.items() if at < young]:
            del shelf.shown[standing_id]
        self._note(shown)
        for change in self._journal.open_changes():
            if change.kind.endswith(shelf.noun):
                self._compare(change, shown, began)
        return shown

    def _compare(self, change: Change, shown: Sequence[Standing], began: datetime) -> None:
        """Settle what can be settled of an open change by a reading of the list begun at ``began``."""
        name = change.order_id
        if not change.kind.startswith("place"):
            if began - change.at >= timedelta(seconds=self._patience.settle):
                self._end(change.id, name, change.kind, "read-back", "the list says what came of it")
            return
        wanted = json.loads(change.wanted)
        found = next((each for each in shown if is_same(each, name, wanted, sent_at=change.at)), None)
        if found is not None:
            self._end(change.id, name, change.kind, "accepted", found.id)
            return
        looks = self._looks.setdefault(change.id, [])
        looks.append(Look("orders", began, found=False))
        if is_absent(looks, self._patience):
            self._end(change.id, name, change.kind, "absent", "several readings of the standing orders lack it")

    def _end(self, number: int | None, name: str, kind: str, state: str, detail: str) -> None:
        if number is not None:
            try:
                self._journal.end_change(number, state, order_id=name, kind=kind, detail=detail)
            except ConfigurationError as exc:
                # What the broker did is a fact whether or not it can be written down.
                self._stops.stop("journal", str(exc), kept=False)
        if state != "unknown" and kind.startswith("place"):
            self._stops.lift(f"standing:{name}", why=f"{state}: {detail}")

    def _stop(self, what: str, name: str, why: str) -> None:
        self._stops.stop(
            f"standing:{name}",
            f"{what} {name} may be at the broker: {why}; look at its standing orders, then override()",
        )
        self._watch()

    def _note(self, shown: Iterable[Standing]) -> None:
        now = self._clock.now()
        for each in shown:
            self._shelf("gtt" if isinstance(each, Gtt) else "bracket").shown[each.id] = (now, each)
            self._ids.add(each.id)
            self._ids.update(leg.order_id for leg in each.legs if leg.order_id is not None)
            if each.client_order_id is not None:
                self._names.add(each.client_order_id)

    def _unsettled(self, noun: str) -> Sequence[Change]:
        return [each for each in self._journal.open_changes() if each.kind == f"place-{noun}"]

    def _shelf(self, noun: str) -> _Shelf[Any]:
        return next(each for each in self._shelves if each.noun == noun)
