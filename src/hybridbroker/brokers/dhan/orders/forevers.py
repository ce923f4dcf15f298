"""Dhan's forever orders: single triggers and OCO pairs, which wait for up to a year.

The documentation contradicts itself on which fields of an OCO order are its target (see
`forever_mapping`). A pair the wrong way round could sell at once, so after placing one the book is
read back until it shows which leg is which:

- as asked: the order is returned, as the book shows it;
- swapped: it is cancelled at once, and `OrderRejected` says so. The next one of this object
  is written the other way round. Where the cancellation is not certain, or a leg was faster,
  the outcome is unknown;
- not to be told within some seconds: `OrderOutcomeUnknown` with the order's id, so that nobody
  places a second pair before having looked.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from itertools import groupby
from typing import Final

import attrs

from hybridbroker.brokers.dhan.client import outcome_unknown
from hybridbroker.brokers.dhan.orders.changes import Changes
from hybridbroker.brokers.dhan.orders.forever_mapping import (
    forever_leg_to_wire,
    forever_to_wire,
    gtt_from_ack,
    gtt_from_wire,
    role_of,
    trigger_of,
    with_terms,
)
from hybridbroker.brokers.dhan.orders.names import Names
from hybridbroker.brokers.dhan.orders.standing_book import StandingBook, also_done
from hybridbroker.brokers.dhan.orders.standing_rest import StandingRest
from hybridbroker.brokers.dhan.orders.standing_wire import ForeverRow
from hybridbroker.clock import Clock
from hybridbroker.domain.standing import Gtt, GttOrder, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import (
    AuthenticationError,
    HybridBrokerError,
    InvalidOrder,
    OrderOutcomeUnknown,
    OrderRejected,
)

__all__ = ["ForeverOrders"]

logger = logging.getLogger(__name__)

_LOOKS: Final = (0.0, 0.5, 1.0, 2.0)
_UNTOUCHED: Final = frozenset({LegStatus.CANCELLED, LegStatus.REJECTED, LegStatus.EXPIRED})


class ForeverOrders:
    """Implements `GttOrders`."""

    def __init__(self, rest: StandingRest, *, names: Names, clock: Clock, client_id: str, changes: Changes) -> None:
        self._rest = rest
        self._names = names
        self._clock = clock
        self._client_id = client_id
        self._changes = changes
        self._book: StandingBook[Gtt] = StandingBook(self._read, noun="forever")
        self._rows: dict[str, list[ForeverRow]] = {}
        self._first = LegRole.TARGET

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        """Leave one standing order with Dhan; an OCO pair is read back, see the module."""
        now = self._clock.now()
        request = request.named(now)
        assert request.client_order_id is not None  # noqa: S101 - named above
        key = self._names.key(request.instrument)
        body = forever_to_wire(request, key=key, client_id=self._client_id, first=self._first)
        ack = await self._rest.place_forever(body, client_order_id=request.client_order_id)
        gtt = gtt_from_ack(ack, request, at=now)
        self._book.note(gtt)
        return gtt if isinstance(request, GttOrder) else await self._verified(gtt, request)

    async def _verified(self, placed: Gtt, request: OcoOrder) -> Gtt:
        seen = "the book does not show it"
        for pause in _LOOKS:
            await self._clock.sleep(pause)
            try:
                gtt = await self._book.one(placed.id)
            except AuthenticationError as exc:
                seen = str(exc)
                break
            except HybridBrokerError as exc:
                seen = str(exc)
                continue
            shown = (_trigger(gtt, LegRole.TARGET), _trigger(gtt, LegRole.STOP))
            wanted = (request.target.trigger_price, request.stop.trigger_price)
            if shown == wanted:
                return gtt
            if shown == wanted[::-1]:
                raise await self._undone(gtt)
            seen = f"the book shows the triggers target {shown[0]}, stop {shown[1]}"
        raise outcome_unknown(
            f"forever order {placed.id}", placed.client_order_id or placed.id, f"it was taken, but {seen}"
        )

    async def _undone(self, gtt: Gtt) -> HybridBrokerError:
        """Cancel a pair that stands the wrong way round, and return what is to be raised."""
        self._first = LegRole.STOP if self._first is LegRole.TARGET else LegRole.TARGET
        logger.warning("cancelling forever order %s: Dhan's book shows its target and its stop swapped", gtt.id)
        swapped = f"Dhan's book showed target and stop of forever order {gtt.id} swapped"
        name = gtt.client_order_id or gtt.id
        try:
            left = await self.cancel_gtt(gtt.id)
        except OrderOutcomeUnknown as exc:
            return outcome_unknown(f"forever order {gtt.id}", name, f"{swapped}, and {exc}")
        except HybridBrokerError as exc:
            return outcome_unknown(f"forever order {gtt.id}", name, f"{swapped}, and it was not cancelled: {exc}")
        if all(leg.status in _UNTOUCHED for leg in left.legs):
            return OrderRejected(f"{swapped}, so it was cancelled; place it again, it is then written the other way")
        return outcome_unknown(f"forever order {gtt.id}", name, f"{swapped}, and it is not seen cancelled")

    async def modify_gtt(
        self,
        gtt_id: str,
        *,
        quantity: int | None = None,
        trigger: Trigger | None = None,
        target: Trigger | None = None,
        stop: Trigger | None = None,
    ) -> Gtt:
        """Read it, then send one change for each leg that is to change, target first, under the names the book uses."""
        gtt = await self._book.before_change(gtt_id)
        wanted = _amended(gtt, quantity=quantity, changes=_by_role(gtt, trigger=trigger, target=target, stop=stop))
        done: list[str] = []
        for old, new in zip(gtt.legs, wanted.legs, strict=True):
            if new == old:
                continue
            row = self._row(gtt, new.role)
            terms = forever_leg_to_wire(row, quantity=new.quantity, trigger=trigger_of(new), client_id=self._client_id)
            try:
                async with self._changes.one(gtt_id):
                    await self._rest.modify_forever(gtt_id, terms)
            except HybridBrokerError as exc:
                raise also_done(exc, done) from exc.__cause__
            done.append(new.role.value)
        self._book.note(wanted)
        return wanted

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        """Cancel every leg that is not sent yet; one that has ended is returned unchanged."""
        return await self._book.cancel(
            gtt_id, lambda: self._rest.cancel_forever(gtt_id), over=lambda gtt: not gtt.is_live
        )

    async def gtts(self) -> list[Gtt]:
        """Return the forever orders Dhan shows, oldest first."""
        return await self._book.all()

    async def find_gtt(self, client_order_id: str) -> Gtt | None:
        """Return the one that carries this client order id, as far as Dhan tells or this object remembers; or None."""
        return await self._book.find(client_order_id)

    async def _read(self) -> list[Gtt]:
        rows = sorted(await self._rest.forevers(), key=lambda row: row.order_id)
        self._rows = {order_id: list(legs) for order_id, legs in groupby(rows, key=lambda row: row.order_id)}
        found = []
        for legs in self._rows.values():
            first = legs[0]
            instrument = self._names.instrument(
                first.exchange_segment,
                first.security_id,
                symbol=first.trading_symbol,
                expiry=first.drv_expiry_date,
                strike=first.drv_strike_price,
            )
            found.append(gtt_from_wire(legs, instrument=instrument))
        return found

    def _row(self, gtt: Gtt, role: LegRole) -> ForeverRow:
        rows = self._rows[gtt.id]
        if len(rows) == 1:
            return rows[0]
        return next(row for row in rows if role_of(row) is role)


def _trigger(gtt: Gtt, role: LegRole) -> Decimal | None:
    leg = gtt.leg(role)
    return None if leg is None else leg.trigger_price


def _by_role(
    gtt: Gtt, *, trigger: Trigger | None, target: Trigger | None, stop: Trigger | None
) -> dict[LegRole, Trigger]:
    given = {LegRole.ENTRY: trigger, LegRole.TARGET: target, LegRole.STOP: stop}
    changes = {role: terms for role, terms in given.items() if terms is not None}
    for role in changes:
        if gtt.leg(role) is None:
            has = ", ".join(leg.role.value for leg in gtt.legs)
            raise InvalidOrder(
                f"forever order {gtt.id} has no {role.value} leg to change, it has {has} "
                "(trigger= is for a single one, target= and stop= for a pair)"
            )
    return changes


def _amended(gtt: Gtt, *, quantity: int | None, changes: dict[LegRole, Trigger]) -> Gtt:
    """Return the order as it is to be, checked like a new one.

    Raises:
        InvalidOrder: It is over, or the terms do not fit it.
    """
    if not gtt.is_live:
        raise InvalidOrder(f"forever order {gtt.id} is over and cannot be changed; place a new one")
    units = gtt.quantity if quantity is None else quantity
    legs = tuple(
        with_terms(
            leg,
            quantity=leg.quantity if quantity is None else quantity,
            trigger=changes[leg.role] if leg.role in changes else trigger_of(leg),
        )
        for leg in gtt.legs
    )
    changed = attrs.evolve(gtt, quantity=units, legs=legs)
    _check(changed)
    return changed


def _check(gtt: Gtt) -> None:
    target, stop = gtt.leg(LegRole.TARGET), gtt.leg(LegRole.STOP)
    if target is not None and stop is not None:
        pair = (trigger_of(target), trigger_of(stop))
        OcoOrder(gtt.instrument, gtt.side, quantity=gtt.quantity, product=gtt.product, target=pair[0], stop=pair[1])
        return
    for leg in gtt.legs:
        GttOrder(gtt.instrument, gtt.side, quantity=gtt.quantity, product=gtt.product, trigger=trigger_of(leg))
