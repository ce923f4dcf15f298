"""GTT orders of a simulated exchange: they wait for the last price, and become a day order when it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import LimitOrder, MarketOrder, Order, OrderRequest, OrderStatus, Product, Side
from hybridbroker.domain.standing import Crossing, Gtt, GttOrder, Leg, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import InvalidOrder, OrderNotFound, OrderRejected

__all__ = ["INFINITE", "LIFE", "GttDesk", "Venue", "as_ended", "bounds", "exit_request", "follow", "is_reached"]

LIFE: Final = timedelta(days=365)
"""How long a standing order waits (documented by both brokers as up to one year)."""

INFINITE: Final = Decimal("Infinity")

_ENDED: Final = {
    OrderStatus.FILLED: LegStatus.FILLED,
    OrderStatus.CANCELLED: LegStatus.CANCELLED,
    OrderStatus.REJECTED: LegStatus.REJECTED,
    OrderStatus.EXPIRED: LegStatus.EXPIRED,
}


class Venue(Protocol):
    """Where the orders go; `SimulatedExchange` is the real one."""

    def submit(self, request: OrderRequest, *, at: datetime | None = None) -> Order:
        """Take an order, or return it refused."""
        ...

    def cancel(self, order_id: str, *, at: datetime | None = None) -> Order:
        """Cancel what is open of an order."""
        ...

    def order(self, order_id: str) -> Order:
        """Return any order."""
        ...

    def last_price(self, instrument: Instrument) -> Decimal | None:
        """Return the last price seen, or None before the first tick."""
        ...


def is_reached(crossing: Crossing, trigger: Decimal, last: Decimal) -> bool:
    """Say whether ``last`` is at ``trigger`` or beyond it."""
    return last >= trigger if crossing is Crossing.ABOVE else last <= trigger


def bounds(waits: Iterable[tuple[Crossing | None, Decimal | None]]) -> tuple[Decimal, Decimal]:
    """Return the prices at or below, and at or above which one of these triggers is reached."""
    below, above = -INFINITE, INFINITE
    for crossing, trigger in waits:
        if crossing is None or trigger is None:
            return INFINITE, -INFINITE
        if crossing is Crossing.ABOVE:
            above = min(above, trigger)
        else:
            below = max(below, trigger)
    return below, above


def follow(leg: Leg, order: Order) -> Leg:
    """Return ``leg`` as the order it became says."""
    status = _ENDED.get(order.status, LegStatus.SENT)
    if (leg.status, leg.filled_quantity, leg.quantity) == (status, order.filled_quantity, order.quantity):
        return leg
    return attrs.evolve(
        leg, status=status, filled_quantity=order.filled_quantity, quantity=order.quantity, reason=order.reason
    )


def as_ended(leg: Leg, status: LegStatus, reason: str, *, when: Iterable[LegStatus]) -> Leg:
    """Return ``leg`` ended for ``reason`` if it is in one of the states ``when``, else unchanged."""
    return attrs.evolve(leg, status=status, reason=reason) if leg.status in when else leg


def exit_request(
    instrument: Instrument, side: Side, *, quantity: int, product: Product, price: Decimal | None, name: str | None
) -> OrderRequest:
    """Return the day order that a leg becomes: limit, or market where there is no price."""
    if price is None:
        return MarketOrder(instrument, side, quantity=quantity, product=product, client_order_id=name)
    return LimitOrder(instrument, side, quantity=quantity, price=price, product=product, client_order_id=name)


@attrs.define(eq=False)
class _Waiting:
    """One GTT order: what was asked for, what the account is shown, and from where the market comes."""

    request: GttOrder | OcoOrder
    gtt: Gtt
    crossing: Crossing | None
    """Of a single order; None until a first price tells."""
    below: Decimal = INFINITE
    above: Decimal = -INFINITE
    """Between these two no leg is reached."""
    below_f: float = float("inf")
    above_f: float = float("-inf")

    def note_bounds(self) -> None:
        """Remember between which prices nothing happens, so that most ticks need two comparisons."""
        self.below, self.above = bounds(
            (self.crossing_of(leg), leg.trigger_price) for leg in self.gtt.legs if leg.status is LegStatus.ARMED
        )
        self.below_f, self.above_f = float(self.below), float(self.above)

    def crossing_of(self, leg: Leg) -> Crossing | None:
        if leg.role is LegRole.ENTRY:
            return self.crossing
        rises = (leg.role is LegRole.TARGET) is (leg.side is Side.SELL)
        return Crossing.ABOVE if rises else Crossing.BELOW


class GttDesk:
    """All GTT orders of an account, live and ended; `standing` says what they promise."""

    def __init__(self, venue: Venue, *, changed: Callable[[Gtt], None]) -> None:
        self._venue = venue
        self._changed = changed
        self._all: dict[str, _Waiting] = {}
        self._live: dict[str, list[_Waiting]] = {}

    def __iter__(self) -> Iterator[Gtt]:
        """Iterate over all of them, oldest first."""
        return (each.gtt for each in self._all.values())

    def __getitem__(self, gtt_id: str) -> Gtt:
        """Return one; raise `OrderNotFound`."""
        return self._one(gtt_id).gtt

    def place(self, request: GttOrder | OcoOrder, *, number: str, now: datetime) -> Gtt:
        """Leave one."""
        gtt = Gtt(
            id=number,
            client_order_id=request.client_order_id,
            instrument=request.instrument,
            side=request.side,
            product=request.product,
            quantity=request.quantity,
            legs=_legs(request),
            placed_at=now,
            expires_at=now + LIFE,
        )
        waiting = _Waiting(request, gtt, self._crossing(request))
        waiting.note_bounds()
        self._all[number] = waiting
        self._live.setdefault(request.instrument.id, []).append(waiting)
        self._changed(gtt)
        return gtt

    def modify(self, gtt_id: str, *, quantity: int | None, quantity_of: LegRole | None, **terms: Trigger | None) -> Gtt:
        """Change one; see `standing.StandingOrders.modify_gtt`."""
        waiting = self._one(gtt_id)
        given = {name: trigger for name, trigger in terms.items() if trigger is not None}
        for leg in waiting.gtt.legs:
            if leg.status is not LegStatus.ARMED:
                raise OrderRejected(f"GTT order {gtt_id} is {leg.status} ({leg.role}); nothing of it can change")
        changes: dict[str, Any] = dict(given)
        if quantity is not None:
            changes["quantity"] = quantity
        wrong = set(given) - ({"target", "stop"} if isinstance(waiting.request, OcoOrder) else {"trigger"})
        if wrong:
            raise InvalidOrder(f"GTT order {gtt_id} has no {' or '.join(sorted(wrong))}")
        waiting.request = request = attrs.evolve(waiting.request, **changes)
        if isinstance(request, GttOrder) and given:
            waiting.crossing = self._crossing(request)
            waiting.note_bounds()
        legs = tuple(
            new
            if quantity is not None and quantity_of in {None, new.role}
            else attrs.evolve(new, quantity=old.quantity)
            for new, old in zip(_legs(request), waiting.gtt.legs, strict=True)
        )
        return self._show(waiting, attrs.evolve(waiting.gtt, legs=legs, quantity=max(each.quantity for each in legs)))

    def cancel(self, gtt_id: str) -> Gtt:
        """Cancel the legs that still wait."""
        waiting = self._one(gtt_id)
        return self._end(waiting, LegStatus.CANCELLED, "cancelled by the account")

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
        for waiting in [each for found in self._live.values() for each in found]:
            if waiting.gtt.expires_at is not None and now >= waiting.gtt.expires_at:
                self._end(waiting, LegStatus.EXPIRED, "a year is over")

    def judge(self, instrument: Instrument, last: Decimal, now: datetime) -> list[Order]:
        """Send what ``last`` reaches; return the orders."""
        sent = []
        for waiting in list(self._live.get(instrument.id, ())):
            if waiting.below < last < waiting.above:
                continue
            if waiting.crossing is None and isinstance(waiting.request, GttOrder):
                waiting.crossing = _side_of(waiting.request.trigger.trigger_price, last)
                waiting.note_bounds()
            for leg in waiting.gtt.legs:
                if leg.status is LegStatus.ARMED and _reaches(leg, waiting.crossing_of(leg), last):
                    sent.append(self._send(waiting, leg, now))
                    break
        return sent

    def review(self) -> None:
        """Bring sent legs to where their orders are."""
        for waiting in [each for found in self._live.values() for each in found]:
            if all(leg.status is not LegStatus.SENT for leg in waiting.gtt.legs):
                continue
            legs = tuple(
                follow(leg, self._venue.order(leg.order_id))
                if leg.status is LegStatus.SENT and leg.order_id is not None
                else leg
                for leg in waiting.gtt.legs
            )
            self._show(waiting, attrs.evolve(waiting.gtt, legs=legs))

    def _send(self, waiting: _Waiting, leg: Leg, now: datetime) -> Order:
        legs = tuple(
            attrs.evolve(each, status=LegStatus.SENT)
            if each is leg
            else as_ended(each, LegStatus.CANCELLED, "the other leg came first", when={LegStatus.ARMED})
            for each in waiting.gtt.legs
        )
        self._show(waiting, attrs.evolve(waiting.gtt, legs=legs))
        order = self._venue.submit(
            exit_request(
                waiting.gtt.instrument,
                leg.side,
                quantity=leg.quantity,
                product=waiting.gtt.product,
                price=leg.price,
                name=waiting.gtt.client_order_id,
            ),
            at=now,
        )
        legs = tuple(
            follow(attrs.evolve(each, order_id=order.id), order) if each.role is leg.role else each
            for each in waiting.gtt.legs
        )
        self._show(waiting, attrs.evolve(waiting.gtt, legs=legs))
        return order

    def _end(self, waiting: _Waiting, status: LegStatus, reason: str) -> Gtt:
        legs = tuple(as_ended(each, status, reason, when={LegStatus.ARMED}) for each in waiting.gtt.legs)
        return self._show(waiting, attrs.evolve(waiting.gtt, legs=legs))

    def _show(self, waiting: _Waiting, gtt: Gtt) -> Gtt:
        if gtt != waiting.gtt:
            waiting.gtt = gtt
            waiting.note_bounds()
            self._changed(gtt)
            if not gtt.is_live:
                live = self._live[gtt.instrument.id]
                live.remove(waiting)
                if not live:
                    del self._live[gtt.instrument.id]
        return waiting.gtt

    def _one(self, gtt_id: str) -> _Waiting:
        try:
            return self._all[gtt_id]
        except KeyError:
            raise OrderNotFound(f"no GTT order has the id {gtt_id!r}") from None

    def _crossing(self, request: GttOrder | OcoOrder) -> Crossing | None:
        if isinstance(request, OcoOrder):
            return None
        last = self._venue.last_price(request.instrument)
        if request.crossing is not None or last is None:
            return request.crossing
        return _side_of(request.trigger.trigger_price, last)


def _side_of(trigger: Decimal, last: Decimal) -> Crossing:
    return Crossing.ABOVE if last <= trigger else Crossing.BELOW


def _reaches(leg: Leg, crossing: Crossing | None, last: Decimal) -> bool:
    return crossing is not None and leg.trigger_price is not None and is_reached(crossing, leg.trigger_price, last)


def _legs(request: GttOrder | OcoOrder) -> tuple[Leg, ...]:
    if isinstance(request, GttOrder):
        return (_leg(LegRole.ENTRY, request.trigger, request),)
    return (_leg(LegRole.TARGET, request.target, request), _leg(LegRole.STOP, request.stop, request))


def _leg(role: LegRole, trigger: Trigger, request: GttOrder | OcoOrder) -> Leg:
    return Leg(
        role=role,
        side=request.side,
        quantity=request.quantity,
        filled_quantity=0,
        trigger_price=trigger.trigger_price,
        price=trigger.price,
        status=LegStatus.ARMED,
    )
