"""Bracket orders of a simulated exchange: an entry whose target and stop are armed as it fills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final, Protocol

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, OrderRequest, Product, Side
from hybridbroker.domain.standing import Bracket, BracketOrder, Crossing, Leg, LegRole, LegStatus
from hybridbroker.errors import OrderNotFound, OrderRejected
from hybridbroker.simulation.gtt import INFINITE, LIFE, Venue, as_ended, bounds, exit_request, follow, is_reached

__all__ = ["BracketDesk"]

_WAITS: Final = frozenset({LegStatus.INACTIVE, LegStatus.ARMED})


class _Venue(Venue, Protocol):
    def modify(
        self, order_id: str, *, at: datetime | None = None, quantity: int | None = None, price: Decimal | None = None
    ) -> Order: ...


@attrs.define(eq=False)
class _Held:
    """One bracket: what was asked for, what the account is shown, and from which price the stop trails."""

    request: BracketOrder
    bracket: Bracket
    reference: Decimal | None = None
    below: Decimal = INFINITE
    above: Decimal = -INFINITE
    """Between these two neither exit is reached, nor does the stop move."""
    below_f: float = float("inf")
    above_f: float = float("-inf")

    def note_bounds(self) -> None:
        """Remember between which prices nothing happens."""
        rises = self.bracket.side is Side.BUY
        waits: list[tuple[Crossing | None, Decimal | None]] = []
        _, target, stop = self.bracket.legs
        ahead, behind = (Crossing.ABOVE, Crossing.BELOW) if rises else (Crossing.BELOW, Crossing.ABOVE)
        if target.status is LegStatus.ARMED:
            waits.append((ahead, target.trigger_price))
        if stop.status is LegStatus.ARMED:
            waits.append((behind, stop.trigger_price))
            if stop.trail is not None:
                next_step = None if self.reference is None else self.reference + self.bracket.side.sign * stop.trail
                waits.append((ahead, next_step))
        self.below, self.above = bounds(waits)
        self.below_f, self.above_f = float(self.below), float(self.above)

    def __getitem__(self, role: LegRole) -> Leg:
        return next(each for each in self.bracket.legs if each.role is role)

    @property
    def open_quantity(self) -> int:
        """Return units that the entry bought (or sold) and no exit closed yet."""
        entry, target, stop = (each.filled_quantity or 0 for each in self.bracket.legs)
        return entry - target - stop


class BracketDesk:
    """All bracket orders of an account, live and ended; `standing` says what they promise."""

    def __init__(self, venue: _Venue, *, changed: Callable[[Bracket], None]) -> None:
        self._venue = venue
        self._changed = changed
        self._all: dict[str, _Held] = {}
        self._live: dict[str, list[_Held]] = {}

    def __iter__(self) -> Iterator[Bracket]:
        """Iterate over all of them, oldest first."""
        return (each.bracket for each in self._all.values())

    def __getitem__(self, bracket_id: str) -> Bracket:
        """Return one; raise `OrderNotFound`."""
        return self._one(bracket_id).bracket

    def place(self, request: BracketOrder, *, now: datetime) -> Bracket:
        """Send the entry; a refused one leaves an ended bracket."""
        order = self._venue.submit(_entry(request), at=now)
        bracket = Bracket(
            id=order.id,
            client_order_id=request.client_order_id,
            instrument=request.instrument,
            side=request.side,
            product=request.product,
            quantity=request.quantity,
            legs=_legs(request, order),
            placed_at=now,
            expires_at=now + LIFE,
        )
        held = _Held(request, bracket)
        self._all[bracket.id] = held
        self._live.setdefault(request.instrument.id, []).append(held)
        self._changed(bracket)
        self._follow(held)
        return held.bracket

    def modify(
        self,
        bracket_id: str,
        *,
        now: datetime,
        quantity: int | None,
        price: Decimal | None,
        target_price: Decimal | None,
        stop_price: Decimal | None,
        trail: Decimal | None,
    ) -> Bracket:
        """Change one; see `standing.StandingOrders.modify_bracket`."""
        held = self._one(bracket_id)
        entry, target, stop = held.bracket.legs
        if (quantity, price) != (None, None) and entry.status is not LegStatus.SENT:
            raise OrderRejected(f"the entry of bracket {bracket_id} is {entry.status}; its terms cannot change")
        for leg, terms in ((target, (target_price,)), (stop, (stop_price, trail))):
            if any(each is not None for each in terms) and leg.status not in _WAITS:
                raise OrderRejected(f"the {leg.role} of bracket {bracket_id} is {leg.status}; it can no longer change")
        new_stop = stop.trigger_price if stop_price is None else stop_price
        given = {"quantity": quantity, "price": price, "target_price": target_price, "stop_price": new_stop}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if trail is not None:
            changes["trail"] = trail or None
        if entry.filled_quantity and price is None:
            # A stop may be drawn beyond the price of an entry that is filled.
            changes["price"] = None
        request = attrs.evolve(held.request, **changes)
        if (quantity, price) != (None, None):
            self._venue.modify(bracket_id, at=now, quantity=quantity, price=price)
        held.request = request
        if trail is not None:
            held.reference = self._venue.last_price(request.instrument) if entry.filled_quantity else None
            held.note_bounds()
        if price is not None:
            self._put(held, attrs.evolve(held[LegRole.ENTRY], price=price))
        self._redraw(held)
        return self._follow(held)

    def cancel(self, bracket_id: str, role: LegRole, *, now: datetime) -> Bracket:
        """Cancel a leg for good, and with the entry everything."""
        held = self._one(bracket_id)
        for each in LegRole if role is LegRole.ENTRY else (role,):
            self._cancel(held, each, "cancelled by the account", now)
        return held.bracket

    def waits(self, instrument: Instrument) -> bool:
        """Say whether any of this instrument is live."""
        return instrument.id in self._live

    def is_near(self, instrument: Instrument, price: float) -> bool:
        """Say whether a tick at ``price`` has to be judged, to a tick size."""
        room = float(instrument.tick_size)
        return any(not each.below_f + room < price < each.above_f - room for each in self._live.get(instrument.id, ()))

    @property
    def has_live(self) -> bool:
        """Say whether any is live."""
        return bool(self._live)

    def expire(self, now: datetime) -> None:
        """End the ones whose year is over."""
        for held in self._every():
            if held.bracket.expires_at is not None and now >= held.bracket.expires_at:
                for role in (LegRole.TARGET, LegRole.STOP):
                    self._end(held, role, LegStatus.EXPIRED, "a year is over")

    def close_intraday(self) -> None:
        """Disarm the exits of intraday brackets, whose positions were squared off."""
        for held in self._every():
            if held.bracket.product is Product.INTRADAY:
                for role in (LegRole.TARGET, LegRole.STOP):
                    self._end(held, role, LegStatus.CANCELLED, "the position was squared off")

    def judge(self, instrument: Instrument, last: Decimal, now: datetime) -> list[Order]:
        """Trail stops, send the exits that ``last`` reaches; return the orders that changed."""
        changed: list[Order] = []
        for held in list(self._live.get(instrument.id, ())):
            if not held.below < last < held.above and held.open_quantity > 0:
                self._trail(held, last)
                changed += self._exit(held, last, now)
        return changed

    def review(self) -> None:
        """Bring every live bracket to where its orders are."""
        for held in self._every():
            self._follow(held)

    def _redraw(self, held: _Held) -> None:
        """Bring the exits that wait to the terms of the request."""
        request = held.request
        quantity = None if held[LegRole.ENTRY].filled_quantity else request.quantity
        target, stop = held[LegRole.TARGET], held[LegRole.STOP]
        if target.status in _WAITS:
            price = request.target_price
            units = quantity or target.quantity
            self._put(held, attrs.evolve(target, trigger_price=price, price=price, quantity=units))
        if stop.status in _WAITS:
            units = quantity or stop.quantity
            price = request.stop_price
            self._put(held, attrs.evolve(stop, trigger_price=price, trail=request.trail, quantity=units))
        self._show(held, attrs.evolve(held.bracket, quantity=request.quantity))

    def _exit(self, held: _Held, last: Decimal, now: datetime) -> list[Order]:
        rises = held.bracket.side is Side.BUY
        for role, crossing in (
            (LegRole.STOP, Crossing.BELOW if rises else Crossing.ABOVE),
            (LegRole.TARGET, Crossing.ABOVE if rises else Crossing.BELOW),
        ):
            leg = held[role]
            if (
                leg.status is LegStatus.ARMED
                and leg.trigger_price is not None
                and is_reached(crossing, leg.trigger_price, last)
            ):
                return self._send(held, role, now)
        return []

    def _send(self, held: _Held, role: LegRole, now: datetime) -> list[Order]:
        ended = [LegRole.ENTRY, LegRole.TARGET] if role is LegRole.STOP else [LegRole.ENTRY]
        changed = [order for each in ended for order in self._cancel(held, each, f"the {role} came first", now)]
        quantity = held.open_quantity
        leg = self._put(held, attrs.evolve(held[role], status=LegStatus.SENT, quantity=quantity))
        order = self._venue.submit(
            exit_request(
                held.bracket.instrument,
                leg.side,
                quantity=quantity,
                product=held.bracket.product,
                price=leg.price,
                name=None,
            ),
            at=now,
        )
        self._put(held, attrs.evolve(held[role], order_id=order.id))
        self._follow(held)
        return [*changed, order]

    def _trail(self, held: _Held, last: Decimal) -> None:
        stop = held[LegRole.STOP]
        if stop.trail is None or stop.status is not LegStatus.ARMED or stop.trigger_price is None:
            return
        if held.reference is None:
            held.reference = self._venue.order(held.bracket.id).average_price or last
            held.note_bounds()
        sign = held.bracket.side.sign
        steps = ((last - held.reference) * sign / stop.trail).to_integral_value(ROUND_FLOOR)
        if steps > 0:
            held.reference += sign * steps * stop.trail
            held.note_bounds()
            self._put(held, attrs.evolve(stop, trigger_price=stop.trigger_price + sign * steps * stop.trail))

    def _follow(self, held: _Held) -> Bracket:
        legs = tuple(
            follow(leg, self._venue.order(leg.order_id))
            if leg.status is LegStatus.SENT and leg.order_id is not None
            else leg
            for leg in held.bracket.legs
        )
        entry, target, stop = legs
        filled = entry.filled_quantity or 0
        if filled:
            waits = filled - (target.filled_quantity or 0) - (stop.filled_quantity or 0)
            target, stop = _armed(target, waits), _armed(stop, waits)
        if not entry.is_live and filled <= (target.filled_quantity or 0) + (stop.filled_quantity or 0):
            reason = "the position is closed" if filled else "the entry was not filled"
            target, stop = (as_ended(each, LegStatus.CANCELLED, reason, when=_WAITS) for each in (target, stop))
        return self._show(held, attrs.evolve(held.bracket, legs=(entry, target, stop)))

    def _cancel(self, held: _Held, role: LegRole, reason: str, now: datetime) -> list[Order]:
        """Cancel one leg with its order; return the order if it had one that was live."""
        leg = held[role]
        if leg.status is not LegStatus.SENT or leg.order_id is None:
            self._end(held, role, LegStatus.CANCELLED, reason)
            return []
        order = self._venue.cancel(leg.order_id, at=now)
        self._put(held, attrs.evolve(follow(held[role], order), reason=reason))
        return [order]

    def _end(self, held: _Held, role: LegRole, status: LegStatus, reason: str) -> None:
        self._put(held, as_ended(held[role], status, reason, when=_WAITS))

    def _put(self, held: _Held, leg: Leg) -> Leg:
        legs = tuple(leg if each.role is leg.role else each for each in held.bracket.legs)
        self._show(held, attrs.evolve(held.bracket, legs=legs))
        return leg

    def _show(self, held: _Held, bracket: Bracket) -> Bracket:
        if bracket != held.bracket:
            held.bracket = bracket
            held.note_bounds()
            self._changed(bracket)
        live = self._live.get(bracket.instrument.id, [])
        if not bracket.is_live and held in live:
            live.remove(held)
            if not live:
                del self._live[bracket.instrument.id]
        return bracket

    def _every(self) -> list[_Held]:
        return [each for found in self._live.values() for each in found]

    def _one(self, bracket_id: str) -> _Held:
        try:
            return self._all[bracket_id]
        except KeyError:
            raise OrderNotFound(f"no bracket order has the id {bracket_id!r}") from None


def _armed(leg: Leg, quantity: int) -> Leg:
    """Return an exit that waits for its price for as many units as are open."""
    if leg.status not in _WAITS or (leg.status, leg.quantity) == (LegStatus.ARMED, quantity) or not quantity:
        return leg
    return attrs.evolve(leg, status=LegStatus.ARMED, quantity=quantity)


def _entry(request: BracketOrder) -> OrderRequest:
    return exit_request(
        request.instrument,
        request.side,
        quantity=request.quantity,
        product=request.product,
        price=request.price,
        name=request.client_order_id,
    )


def _legs(request: BracketOrder, entry: Order) -> tuple[Leg, Leg, Leg]:
    first = Leg(
        role=LegRole.ENTRY,
        side=request.side,
        quantity=request.quantity,
        filled_quantity=0,
        price=request.price,
        status=LegStatus.SENT,
        order_id=entry.id,
    )
    target = Leg(
        role=LegRole.TARGET,
        side=request.side.opposite,
        quantity=request.quantity,
        filled_quantity=0,
        trigger_price=request.target_price,
        price=request.target_price,
        status=LegStatus.INACTIVE,
    )
    stop = attrs.evolve(target, role=LegRole.STOP, trigger_price=request.stop_price, price=None, trail=request.trail)
    return first, target, stop
