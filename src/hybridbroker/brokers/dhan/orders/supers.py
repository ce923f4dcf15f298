"""Dhan's super orders: an entry with its target, stop and trailing jump, changed and cancelled leg by leg."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from hybridbroker.brokers.dhan.orders.changes import Changes
from hybridbroker.brokers.dhan.orders.names import Names
from hybridbroker.brokers.dhan.orders.standing import LEG, price_of, type_of
from hybridbroker.brokers.dhan.orders.standing_book import StandingBook, also_done
from hybridbroker.brokers.dhan.orders.standing_rest import StandingRest
from hybridbroker.brokers.dhan.orders.super_mapping import bracket_from_ack, bracket_from_wire, super_to_wire
from hybridbroker.brokers.dhan.orders.terms import plain
from hybridbroker.clock import Clock
from hybridbroker.domain.standing import Bracket, BracketOrder, Leg, LegRole
from hybridbroker.errors import HybridBrokerError, InvalidOrder

__all__ = ["SuperOrders"]


class SuperOrders:
    """Implements `BracketOrders`."""

    def __init__(self, rest: StandingRest, *, names: Names, clock: Clock, client_id: str, changes: Changes) -> None:
        self._rest = rest
        self._names = names
        self._clock = clock
        self._client_id = client_id
        self._changes = changes
        self._book: StandingBook[Bracket] = StandingBook(self._read, noun="super")

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        """Send one super order, once."""
        now = self._clock.now()
        request = request.named(now)
        assert request.client_order_id is not None  # noqa: S101 - named above
        body = super_to_wire(request, key=self._names.key(request.instrument), client_id=self._client_id)
        ack = await self._rest.place_super(body, client_order_id=request.client_order_id)
        bracket = bracket_from_ack(ack, request, at=now)
        self._book.note(bracket)
        return bracket

    async def modify_bracket(
        self,
        bracket_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        target_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail: Decimal | None = None,
    ) -> Bracket:
        """Read it, then send one change for each leg that is to change: entry, target, stop.

        A change of ``quantity`` or ``price`` states the terms of all three legs in one call. A change of
        the stop restates its trailing jump, which Dhan would end otherwise; ``trail`` 0 ends it.
        """
        bracket = await self._book.before_change(bracket_id)
        wanted = _amended(
            bracket, quantity=quantity, price=price, target_price=target_price, stop_price=stop_price, trail=trail
        )
        done: list[str] = []
        for leg, body in _bodies(bracket, wanted, entry=quantity is not None or price is not None):
            try:
                async with self._changes.one(bracket_id):
                    ids = {"dhanClientId": self._client_id, "orderId": bracket_id, "legName": LEG[leg]}
                    await self._rest.modify_super(bracket_id, {**ids, **body})
            except HybridBrokerError as exc:
                raise also_done(exc, done) from exc.__cause__
            done.append(leg.value)
        self._book.note(wanted)
        return wanted

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY) -> Bracket:
        """Cancel one leg for good, the entry with all that is left; one that has ended is returned unchanged."""

        def over(bracket: Bracket) -> bool:
            found = bracket.leg(leg)
            return found is None or not found.is_live if leg is not LegRole.ENTRY else not bracket.is_live

        return await self._book.cancel(bracket_id, lambda: self._rest.cancel_super(bracket_id, LEG[leg]), over=over)

    async def brackets(self) -> list[Bracket]:
        """Return the super orders of today, oldest first."""
        return await self._book.all()

    async def find_bracket(self, client_order_id: str) -> Bracket | None:
        """Return the one that carries this client order id, or None."""
        return await self._book.find(client_order_id)

    async def _read(self) -> list[Bracket]:
        found = []
        for row in await self._rest.supers():
            instrument = self._names.instrument(
                row.exchange_segment,
                row.security_id,
                symbol=row.trading_symbol,
                expiry=row.drv_expiry_date,
                strike=row.drv_strike_price,
            )
            found.append(bracket_from_wire(row, instrument=instrument))
        return found


def _amended(
    bracket: Bracket,
    *,
    quantity: int | None,
    price: Decimal | None,
    target_price: Decimal | None,
    stop_price: Decimal | None,
    trail: Decimal | None,
) -> Bracket:
    """Return the bracket as it is to be, checked like a new one.

    Raises:
        InvalidOrder: It is over, a leg is missing, the entry is filled, or the terms do not fit it.
    """
    entry, target, stop = (bracket.leg(role) for role in (LegRole.ENTRY, LegRole.TARGET, LegRole.STOP))
    if not bracket.is_live:
        raise InvalidOrder(f"super order {bracket.id} is over and cannot be changed; place a new one")
    if entry is None or ((quantity is not None or price is not None) and not entry.is_live):
        raise InvalidOrder(f"the entry of super order {bracket.id} is over: its quantity and price stay as they are")
    target = _exit(bracket, target, "target", price=target_price)
    stop = _exit(bracket, stop, "stop", price=stop_price, trail=trail)
    changed = attrs.evolve(
        entry,
        quantity=entry.quantity if quantity is None else quantity,
        price=entry.price if price is None else price,
    )
    if changed.quantity < (entry.filled_quantity or 0):
        raise InvalidOrder(f"quantity is the new total, and {entry.filled_quantity} have traded")
    if target is not None and stop is not None and target.trigger_price and stop.trigger_price:
        # The stop may have trailed past the entry, so the entry is checked only where it can still trade.
        BracketOrder(
            bracket.instrument,
            bracket.side,
            quantity=changed.quantity,
            price=changed.price if entry.is_live else None,
            target_price=target.trigger_price,
            stop_price=stop.trigger_price,
            trail=stop.trail,
            product=bracket.product,
        )
    legs = tuple(
        attrs.evolve(leg, quantity=changed.quantity) if quantity is not None else leg
        for leg in (changed, target, stop)
        if leg is not None
    )
    return attrs.evolve(bracket, quantity=changed.quantity, legs=legs)


def _exit(
    bracket: Bracket, leg: Leg | None, name: str, *, price: Decimal | None, trail: Decimal | None = None
) -> Leg | None:
    if price is None and trail is None:
        return leg
    if leg is None or not leg.is_live:
        raise InvalidOrder(f"super order {bracket.id} has no living {name}; a cancelled one cannot be added again")
    return attrs.evolve(
        leg,
        trigger_price=leg.trigger_price if price is None else price,
        trail=leg.trail if trail is None else trail or None,
    )


def _bodies(old: Bracket, new: Bracket, *, entry: bool) -> list[tuple[LegRole, Mapping[str, Any]]]:
    """Return what each leg that changes is told, in the order to send it."""
    target, stop = new.leg(LegRole.TARGET), new.leg(LegRole.STOP)
    exits: dict[LegRole, dict[str, Any]] = {}
    if target is not None and target.trigger_price is not None:
        exits[LegRole.TARGET] = {"targetPrice": plain(target.trigger_price)}
    if stop is not None and stop.trigger_price is not None:
        exits[LegRole.STOP] = {"stopLossPrice": plain(stop.trigger_price), "trailingJump": price_of(stop.trail)}
    if not entry:
        return [(role, body) for role, body in exits.items() if new.leg(role) != old.leg(role)]
    opening = new.leg(LegRole.ENTRY)
    assert opening is not None  # noqa: S101 - checked when it was amended
    terms: dict[str, Any] = {
        "orderType": type_of(opening.price),
        "quantity": opening.quantity,
        "price": price_of(opening.price),
    }
    for body in exits.values():
        terms |= body
    return [(LegRole.ENTRY, terms)]
