"""GTT and bracket orders in Upstox's words and in ours; pure.

Upstox has one kind of standing order, the GTT: an entry alone (SINGLE, our `Gtt`), or an entry
with a target, a stop or both (MULTIPLE, our `Bracket`). One that has no entry (OCO on shares
already held) does not exist.

Documented: https://upstox.com/developer/api-documentation/place-gtt-order and the pages of the
other three calls. The stream's page knows four statuses of a rule, the details' page nine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.mapping import PRODUCT, SIDE, look_up, money, product_from_wire
from hybridbroker.brokers.upstox.orders.terms import check_instrument, check_product, plain
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import BrokerKey, Instrument
from hybridbroker.domain.orders import Side
from hybridbroker.domain.standing import (
    Bracket,
    BracketOrder,
    Crossing,
    Gtt,
    GttOrder,
    Leg,
    LegRole,
    LegStatus,
    Trigger,
)
from hybridbroker.errors import InvalidOrder, Unsupported

__all__ = [
    "bracket_from_request",
    "bracket_to_wire",
    "changed_rules",
    "gtt_from_request",
    "gtt_to_wire",
    "is_bracket",
    "modification_to_wire",
    "standing_from_wire",
]

_ROLE: Final = {"ENTRY": LegRole.ENTRY, "TARGET": LegRole.TARGET, "STOPLOSS": LegRole.STOP}
_STRATEGY: Final = {role: text for text, role in _ROLE.items()}
_CROSSING: Final = {Crossing.ABOVE: "ABOVE", Crossing.BELOW: "BELOW"}
_AT_ONCE: Final = "IMMEDIATE"
_STATUS: Final[Mapping[str, LegStatus]] = {
    "SCHEDULED": LegStatus.ARMED,
    "INACTIVE": LegStatus.INACTIVE,
    "TRIGGERED": LegStatus.SENT,
    "OPEN": LegStatus.SENT,
    "COMPLETED": LegStatus.FILLED,
    "CANCELLED": LegStatus.CANCELLED,
    "EXPIRED": LegStatus.EXPIRED,
    "FAILED": LegStatus.REJECTED,
}
_ORDER: Final = tuple(LegRole)
_SIDE_READ: Final = {text: side for side, text in SIDE.items()}
_LAST_YEAR: Final = 2200


def gtt_to_wire(request: GttOrder, *, key: BrokerKey, crossing: Crossing, market_protection: Decimal) -> dict[str, Any]:
    """Write a single GTT order the way POST ``/v3/order/gtt/place`` wants it.

    Raises:
        InvalidOrder: Upstox can never take it.
        Unsupported: It states a limit of its own, or trades at MCX.
    """
    _check_limit(request.trigger)
    rule = _rule(LegRole.ENTRY, request.trigger.trigger_price, _CROSSING[crossing], market_protection)
    return _body("SINGLE", request, key=key, rules=[rule])


def bracket_to_wire(request: BracketOrder, *, key: BrokerKey, market_protection: Decimal) -> dict[str, Any]:
    """Write a GTT order with entry, target and stop; the entry is sent at once, as a limit.

    Raises:
        InvalidOrder: Upstox can never take it.
        Unsupported: Its entry is at the market, or it trades at MCX.
    """
    if request.price is None:
        raise Unsupported("Upstox sends the entry of a bracket as a limit order: give the BracketOrder a price")
    stop = _rule(LegRole.STOP, request.stop_price, _AT_ONCE, market_protection)
    if request.trail is not None:
        stop["trailing_gap"] = plain(request.trail)
    rules = [
        _rule(LegRole.ENTRY, request.price, _AT_ONCE, market_protection),
        _rule(LegRole.TARGET, request.target_price, _AT_ONCE, market_protection),
        stop,
    ]
    return _body("MULTIPLE", request, key=key, rules=rules)


def _body(
    kind: str, request: GttOrder | BracketOrder, *, key: BrokerKey, rules: list[dict[str, Any]]
) -> dict[str, Any]:
    check_instrument(request.instrument)
    check_product(request.product, request.instrument)
    return {
        "type": kind,
        "quantity": request.quantity,
        "product": PRODUCT[request.product],
        "instrument_token": key.id,
        "transaction_type": SIDE[request.side],
        "rules": rules,
    }


def _rule(role: LegRole, price: Decimal, trigger_type: str, market_protection: Decimal) -> dict[str, Any]:
    return {
        "strategy": _STRATEGY[role],
        "trigger_type": trigger_type,
        "trigger_price": plain(price),
        "market_protection": plain(market_protection),
    }


def _check_limit(trigger: Trigger) -> None:
    if trigger.price is not None:
        raise Unsupported(
            "Upstox derives the limit of a GTT order from its trigger and the market protection; "
            "leave Trigger.price out"
        )


def changed_rules(
    row: wire.GttRow,
    *,
    instrument: Instrument,
    prices: Mapping[LegRole, Decimal | None],
    trail: Decimal | None,
) -> tuple[wire.GttRule, ...]:
    """Return the rules of ``row`` with other prices where they are given; ``trail`` 0 ends the trailing.

    Raises:
        InvalidOrder: A leg that is not there or over, or a price off the tick.
    """
    rules = {_ROLE[rule.strategy]: rule for rule in row.rules}
    for role, price in prices.items():
        if price is None:
            continue
        rules[role] = _changeable(rules, role, row).model_copy(
            update={"trigger_price": _checked(price, instrument, name=role.value)}
        )
    if trail is not None:
        gap = _checked(trail, instrument, name="trail") if trail else None
        rules[LegRole.STOP] = _changeable(rules, LegRole.STOP, row).model_copy(update={"trailing_gap": gap})
    return tuple(rules.values())


def _changeable(rules: Mapping[LegRole, wire.GttRule], role: LegRole, row: wire.GttRow) -> wire.GttRule:
    rule = rules.get(role)
    if rule is None:
        raise InvalidOrder(f"GTT order {row.gtt_order_id} has no {role.value}")
    status = _leg_status(rule, role, entered=True)
    if status not in {LegStatus.ARMED, LegStatus.INACTIVE, LegStatus.SENT}:
        raise InvalidOrder(f"the {role.value} of GTT order {row.gtt_order_id} is {status.value} and cannot be changed")
    return rule


def _checked(price: Decimal, instrument: Instrument, *, name: str) -> Decimal:
    if price <= 0 or not instrument.is_on_tick(price):
        raise InvalidOrder(
            f"{name} must be above zero and a multiple of the {instrument.tick_size}-rupee tick of "
            f"{instrument.id}, was {price}"
        )
    return price


def modification_to_wire(
    row: wire.GttRow, *, quantity: int | None, rules: tuple[wire.GttRule, ...], market_protection: Decimal
) -> dict[str, Any]:
    """Write the body of PUT ``/v3/order/gtt/modify``, which replaces all rules: every one is stated.

    Raises:
        InvalidOrder: The quantity of one whose entry was sent already.
    """
    entry = next((rule for rule in row.rules if rule.strategy == "ENTRY"), None)
    waiting = entry is not None and _leg_status(entry, LegRole.ENTRY, entered=False) is LegStatus.ARMED
    if quantity is not None and quantity != row.quantity and not waiting:
        raise InvalidOrder(f"the entry of GTT order {row.gtt_order_id} was sent, so its quantity cannot be changed")
    written = []
    for rule in rules:
        price = rule.trigger_price or Decimal(0)
        wired = _rule(_ROLE[rule.strategy], price, rule.trigger_type or _AT_ONCE, market_protection)
        if rule.trailing_gap:
            wired["trailing_gap"] = plain(rule.trailing_gap)
        written.append(wired)
    return {
        "gtt_order_id": row.gtt_order_id,
        "type": row.type,
        "quantity": row.quantity if quantity is None else quantity,
        "rules": written,
    }


def gtt_from_request(gtt_id: str, request: GttOrder, *, at: datetime) -> Gtt:
    """Return the GTT order that Upstox has just acknowledged with nothing but its id."""
    trigger = request.trigger
    leg = Leg(
        role=LegRole.ENTRY,
        side=request.side,
        quantity=request.quantity,
        trigger_price=trigger.trigger_price,
        status=LegStatus.ARMED,
    )
    return Gtt(
        id=gtt_id,
        client_order_id=request.client_order_id,
        instrument=request.instrument,
        side=request.side,
        product=request.product,
        quantity=request.quantity,
        legs=(leg,),
        placed_at=at,
    )


def bracket_from_request(gtt_id: str, request: BracketOrder, *, at: datetime) -> Bracket:
    """Return the bracket order that Upstox has just acknowledged with nothing but its id."""
    entry = Leg(
        role=LegRole.ENTRY,
        side=request.side,
        quantity=request.quantity,
        price=request.price,
        status=LegStatus.SENT,
    )
    return Bracket(
        id=gtt_id,
        client_order_id=request.client_order_id,
        instrument=request.instrument,
        side=request.side,
        product=request.product,
        quantity=request.quantity,
        legs=(
            entry,
            _waiting(request, LegRole.TARGET, request.target_price),
            _waiting(request, LegRole.STOP, request.stop_price, trail=request.trail),
        ),
        placed_at=at,
    )


def _waiting(request: BracketOrder, role: LegRole, price: Decimal, *, trail: Decimal | None = None) -> Leg:
    return Leg(
        role=role,
        side=request.side.opposite,
        quantity=request.quantity,
        trigger_price=price,
        trail=trail,
        status=LegStatus.INACTIVE,
    )


def is_bracket(row: wire.GttRow) -> bool:
    """Say whether a row has exits of its own, whatever it calls itself."""
    return row.type == "MULTIPLE" or len(row.rules) > 1


def standing_from_wire(row: wire.GttRow, *, instrument: Instrument, client_order_id: str | None) -> Gtt | Bracket:
    """Read one GTT order, from the call or from the portfolio stream.

    A leg's limit is not told. A status nobody documented is `LegStatus.UNKNOWN`; ``PENDING``, which
    the stream says where the call says more, is an armed leg, or an inactive exit while the entry
    has not been filled.

    Raises:
        WireFormatError: A strategy, side or product nobody documented.
    """
    what = f"GTT order {row.gtt_order_id}"
    side = _side(row, what=what)
    entry = next((rule for rule in row.rules if rule.strategy == "ENTRY"), None)
    entered = entry is None or entry.status == "COMPLETED"
    legs = [_leg(rule, row, side=side, entered=entered, what=what) for rule in row.rules]
    kind: type[Gtt | Bracket] = Bracket if is_bracket(row) else Gtt
    return kind(
        id=row.gtt_order_id,
        client_order_id=client_order_id,
        instrument=instrument,
        side=side,
        product=product_from_wire(row.product, instrument, what=what),
        quantity=row.quantity,
        legs=tuple(sorted(legs, key=lambda leg: _ORDER.index(leg.role))),
        placed_at=_instant(row.created_at),
        expires_at=_instant(row.expires_at),
    )


def _side(row: wire.GttRow, *, what: str) -> Side:
    for rule in row.rules:
        if rule.transaction_type is not None:
            side = look_up(_SIDE_READ, rule.transaction_type, what=what)
            return side if rule.strategy == "ENTRY" else side.opposite
    return look_up(_SIDE_READ, "", what=what)


def _leg(rule: wire.GttRule, row: wire.GttRow, *, side: Side, entered: bool, what: str) -> Leg:
    role = look_up(_ROLE, rule.strategy, what=what)
    status = _leg_status(rule, role, entered=entered)
    at_once = role is LegRole.ENTRY and rule.trigger_type == _AT_ONCE
    return Leg(
        role=role,
        side=side if role is LegRole.ENTRY else side.opposite,
        quantity=row.quantity,
        filled_quantity=row.quantity if status is LegStatus.FILLED else None,
        trigger_price=None if at_once else money(rule.trigger_price),
        price=money(rule.trigger_price) if at_once else None,
        trail=money(rule.trailing_gap),
        status=status,
        order_id=rule.order_id or None,
        reason=rule.message or None,
        raw=rule.status,
    )


def _leg_status(rule: wire.GttRule, role: LegRole, *, entered: bool) -> LegStatus:
    if rule.status == "PENDING":
        if rule.order_id:
            return LegStatus.SENT
        return LegStatus.ARMED if role is LegRole.ENTRY or entered else LegStatus.INACTIVE
    return _STATUS.get(rule.status, LegStatus.UNKNOWN)


def _instant(microseconds: int | None) -> datetime | None:
    if not microseconds:
        return None
    try:
        read = from_epoch_ms(microseconds // 1000)
    except (OverflowError, ValueError, OSError):
        return None
    return read if read.year < _LAST_YEAR else None
