"""Standing orders (GTT and bracket) with the promises of ordinary ones: intent on disk first, sent once, looked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.orders import Order
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import HybridBrokerError, InvalidOrder, OrderOutcomeUnknown, OrderRejected, RateLimited
from hybridbroker.execution.events import tell
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.outcomes import REFUSALS, told
from hybridbroker.execution.rate import WriteRate
from hybridbroker.execution.reconcile import Patience
from hybridbroker.execution.stops import Stops
from hybridbroker.protocols import BracketOrders, Broker, Capability, GttOrders

__all__ = ["Standing", "StandingDesk", "StandingOrder", "is_standing"]

Standing = Gtt | Bracket
StandingOrder = GttOrder | OcoOrder | BracketOrder
S = TypeVar("S", Gtt, Bracket)

_SKEW: Final = timedelta(seconds=5)
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
_NOUNS: Final = ("gtt", "bracket")


def is_standing(kind: str) -> bool:
    """Say whether a journalled change is about a standing order."""
    return kind.endswith(_NOUNS)


@attrs.frozen
class _Shelf(Generic[S]):
    """One kind of standing orders at the broker."""

    noun: str
    flag: Capability
    read: Callable[[], Awaitable[Sequence[S]]]
    find: Callable[[str], Awaitable[S | None]]


class StandingDesk:
    """Writes standing orders down, sends them once, and finds those whose answer was lost.

    One that cannot be found stops entries until the broker's list shows it, or lacks it after
    the settle window, or a person overrides: the next reading of the list settles it.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        journal: OrderJournal,
        rate: WriteRate,
        clock: Clock,
        patience: Patience,
        stops: Stops,
    ) -> None:
        self._broker = broker
        self._journal = journal
        self._rate = rate
        self._clock = clock
        self._patience = patience
        self._stops = stops
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

    def claims(self, order: Order) -> bool:
        """Say whether an order of the book came from a standing order the broker has shown."""
        return order.id in self._ids or order.client_order_id in self._names

    async def recover(self) -> None:
        """Look at the standing orders once, where this journal ever held one; what stays open stops entries."""
        for shelf in self._shelves:
            if self._journal.has_changes(f"place-{shelf.noun}"):
                try:
                    await self._list(shelf)
                except HybridBrokerError as exc:
                    for change in self._journal.open_changes():
                        if change.kind == f"place-{shelf.noun}":
                            self._stop(shelf.noun, change.order_id, told(exc))

    async def gtts(self) -> Sequence[Gtt]:
        """Read the list, and settle what was open by it."""
        return await self._list(self._shelf("gtt"))

    async def brackets(self) -> Sequence[Bracket]:
        """Read the list, and settle what was open by it."""
        return await self._list(self._shelf("bracket"))

    async def find(self, noun: str, client_order_id: str) -> Any:
        """Return the standing order that carries this id, or None."""
        return await self._shelf(noun).find(client_order_id)

    async def place(
        self,
        noun: str,
        request: StandingOrder,
        send: Callable[[], Awaitable[S]],
        *,
        urgent: bool = False,
        before: Collection[str] = (),
    ) -> S:
        """Send a named one, once. ``before`` are ids that the list held already, which it cannot be."""
        name = request.client_order_id
        assert name is not None  # noqa: S101 - named before
        if self._journal.history(name):
            raise InvalidOrder(f"client order id {name!r} was used before; an id is never used twice")
        shelf, wanted = self._shelf(noun), _terms(request)
        self._names.add(name)
        return await self._write(
            f"place-{noun}",
            name,
            wanted,
            send,
            urgent=urgent,
            look=lambda began: self._look(shelf, name, wanted, began=began, before=before),
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
    ) -> S:
        """Change or cancel one, once; a lost answer is settled by reading the list until ``done``."""
        shelf = self._shelf(noun)

        async def look(_: datetime) -> tuple[S | None, bool]:
            shown = {each.id: each for each in await self._list(shelf)}.get(standing_id)
            if shown is None or done(shown):
                return shown, shown is None
            if not shown.is_live:
                raise OrderRejected(f"{noun} order {standing_id} had ended before it could be changed")
            return None, False

        return await self._write(f"{kind}-{noun}", standing_id, wanted, send, urgent=urgent, look=look)

    async def _write(
        self,
        kind: str,
        subject: str,
        wanted: Mapping[str, Any],
        send: Callable[[], Awaitable[S]],
        *,
        urgent: bool,
        look: Callable[[datetime], Awaitable[tuple[S | None, bool]]],
    ) -> S:
        number = self._journal.begin_change(subject, kind, json.dumps(wanted, default=str))

        def end(state: str, detail: str = "") -> None:
            self._journal.end_change(number, state, order_id=subject, kind=kind, detail=detail)

        try:
            turn = await self._rate.acquire(urgent=urgent)
        except BaseException as exc:
            end("rejected", f"never sent: {told(exc)}")
            raise
        began = self._clock.now()
        try:
            standing = await turn.around(send())
        except REFUSALS as exc:
            end("rejected", told(exc))
            raise
        except HybridBrokerError as exc:
            end("unknown", told(exc))
            standing = await self._settle(kind, subject, look, began, lost=exc)
        except BaseException as exc:
            # A cancelled task, or a slice that broke: the request may have left all the same.
            end("unknown", told(exc))
            if kind.startswith("place"):
                self._stop(kind, subject, told(exc))
            raise
        end("accepted", standing.id)
        self._note([standing])
        tell(f"{kind}-acknowledged", subject=subject, standing_id=standing.id)
        return standing

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
                found, is_absent = await look(began)
            except OrderRejected:
                raise
            except HybridBrokerError as exc:
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
        if kind.startswith("place"):
            self._stop(kind, subject, told(lost))
        raise OrderOutcomeUnknown(
            f"{kind} {subject} may have been done: its answer was lost ({lost}), and {why}; look at the list of "
            "standing orders, do not send it again",
            client_order_id=subject,
        ) from lost

    async def _look(
        self, shelf: _Shelf[S], name: str, wanted: Mapping[str, Any], *, began: datetime, before: Collection[str]
    ) -> tuple[S | None, bool]:
        found = await shelf.find(name)
        if found is None:
            shown = [each for each in await self._list(shelf) if each.id not in before]
            found = next((each for each in shown if _is_same(each, wanted, sent_at=began)), None)
        return found, found is None

    async def _list(self, shelf: _Shelf[S]) -> Sequence[S]:
        began = self._clock.now()
        shown = await shelf.read()
        self._note(shown)
        for change in self._journal.open_changes():
            if not change.kind.endswith(shelf.noun):
                continue
            is_old = began - change.at >= timedelta(seconds=self._patience.settle)
            if not change.kind.startswith("place"):
                if is_old:
                    self._end(change.id, change.order_id, change.kind, "read-back", "the list says what came of it")
                continue
            name, wanted = change.order_id, json.loads(change.wanted)
            same = (each for each in shown if each.client_order_id == name or _is_same(each, wanted, sent_at=change.at))
            found = next(same, None)
            if found is not None:
                self._end(change.id, name, change.kind, "accepted", found.id)
            elif is_old:
                self._end(change.id, name, change.kind, "absent", "the list of standing orders lacks it")
        return shown

    def _end(self, number: int, name: str, kind: str, state: str, detail: str) -> None:
        self._journal.end_change(number, state, order_id=name, kind=kind, detail=detail)
        self._stops.lift(f"standing:{name}", why=f"{state}: {detail}")

    def _stop(self, what: str, name: str, why: str) -> None:
        self._stops.stop(
            f"standing:{name}",
            f"{what} {name} may be at the broker: {why}; look at its standing orders, then override()",
        )

    def _note(self, shown: Iterable[Standing]) -> None:
        for each in shown:
            self._ids.add(each.id)
            self._ids.update(leg.order_id for leg in each.legs if leg.order_id is not None)
            if each.client_order_id is not None:
                self._names.add(each.client_order_id)

    def _shelf(self, noun: str) -> _Shelf[Any]:
        return next(each for each in self._shelves if each.noun == noun)


def _terms(request: StandingOrder) -> dict[str, Any]:
    legs: dict[LegRole, Decimal | None]
    match request:
        case GttOrder():
            legs = {LegRole.ENTRY: request.trigger.trigger_price}
        case OcoOrder():
            legs = {LegRole.TARGET: request.target.trigger_price, LegRole.STOP: request.stop.trigger_price}
        case BracketOrder():
            legs = {LegRole.TARGET: request.target_price, LegRole.STOP: request.stop_price}
    return {
        "instrument": request.instrument.id,
        "side": request.side.value,
        "product": request.product.value,
        "quantity": request.quantity,
        "legs": {role.value: str(price) for role, price in legs.items()},
        "limits": [str(each.price) for each in _triggers(request)],
    }


def _triggers(request: StandingOrder) -> Sequence[Trigger]:
    match request:
        case GttOrder():
            return [request.trigger]
        case OcoOrder():
            return [request.target, request.stop]
        case BracketOrder():
            return [Trigger(request.price)] if request.price is not None else []


def _is_same(shown: Standing, wanted: Mapping[str, Any], *, sent_at: datetime) -> bool:
    """Say whether what the broker shows is what was sent then; without ids, its terms are all there is."""
    if shown.placed_at is not None and shown.placed_at < sent_at - _SKEW:
        return False
    terms = (shown.instrument.id, shown.side.value, shown.product.value, shown.quantity)
    if terms != tuple(wanted[name] for name in ("instrument", "side", "product", "quantity")):
        return False
    prices = {each.role.value: each.trigger_price for each in shown.legs}
    return all(prices.get(role) == Decimal(price) for role, price in wanted["legs"].items())
