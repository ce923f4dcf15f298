"""Super orders between Dhan's words and the domain; pure.

Documented: https://dhanhq.co/docs/v2/super-order/ .
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from hybridbroker.brokers.dhan.orders.mapping import (
    PRODUCT,
    SIDE,
    identifier,
    instant,
    look_up,
    money,
    read_product,
    read_side,
)
from hybridbroker.brokers.dhan.orders.standing import (
    ENDED,
    ROLE,
    WHY,
    in_order,
    price_of,
    status_in,
    type_of,
    why,
    word,
)
from hybridbroker.brokers.dhan.orders.standing_wire import SuperLeg, SuperRow
from hybridbroker.brokers.dhan.orders.terms import check_product, plain
from hybridbroker.brokers.dhan.orders.wire import OrderAck
from hybridbroker.domain.instrument import BrokerKey, Instrument
from hybridbroker.domain.standing import Bracket, BracketOrder, Leg, LegRole, LegStatus

__all__ = ["bracket_from_ack", "bracket_from_wire", "super_to_wire"]

_ENTRY: Final = {"TRANSIT": LegStatus.SENT, "PENDING": LegStatus.SENT, "PART_TRADED": LegStatus.SENT, **ENDED}
_EXIT: Final = {"TRANSIT": LegStatus.SENT, "PART_TRADED": LegStatus.SENT, "TRIGGERED": LegStatus.SENT, **ENDED}


def super_to_wire(request: BracketOrder, *, key: BrokerKey, client_id: str) -> dict[str, Any]:
    """Write a named bracket order the way POST ``/super/orders`` wants it.

    It is documented with a price even where the entry is a market order; 0 is sent then, as in
    ordinary orders (unconfirmed).

    Raises:
        InvalidOrder: Dhan can never take it.
    """
    check_product(request.instrument, request.product)
    return {
        "dhanClientId": client_id,
        "correlationId": request.client_order_id,
        "transactionType": SIDE[request.side],
        "exchangeSegment": key.segment,
        "productType": PRODUCT[request.product],
        "orderType": type_of(request.price),
        "securityId": key.id,
        "quantity": request.quantity,
        "price": price_of(request.price),
        "targetPrice": plain(request.target_price),
        "stopLossPrice": plain(request.stop_price),
        "trailingJump": price_of(request.trail),
    }


def bracket_from_ack(ack: OrderAck, request: BracketOrder, *, at: datetime) -> Bracket:
    """Return the bracket that Dhan has just acknowledged; its exits wait for the entry."""
    raw = ack.order_status or ""
    side, quantity = request.side.opposite, request.quantity
    legs = (
        Leg(
            role=LegRole.ENTRY,
            side=request.side,
            quantity=quantity,
            price=request.price,
            status=status_in(_ENTRY, raw),
            order_id=ack.order_id,
            raw=raw,
        ),
        Leg(
            role=LegRole.TARGET,
            side=side,
            quantity=quantity,
            trigger_price=request.target_price,
            status=LegStatus.INACTIVE,
        ),
        Leg(
            role=LegRole.STOP,
            side=side,
            quantity=quantity,
            trigger_price=request.stop_price,
            trail=request.trail,
            status=LegStatus.INACTIVE,
        ),
    )
    return Bracket(
        id=ack.order_id,
        client_order_id=request.client_order_id,
        instrument=request.instrument,
        side=request.side,
        product=request.product,
        quantity=quantity,
        legs=legs,
        placed_at=at,
    )


def bracket_from_wire(row: SuperRow, *, instrument: Instrument) -> Bracket:
    """Read one super order. ``CLOSED`` and ``TRIGGERED`` entries have filled, which the quantity must confirm.

    Raises:
        WireFormatError: A side, product, leg or time nobody documented.
    """
    what = f"super order {row.order_id}"
    entry = _entry(row)
    exits = [_exit(leg, row, entry) for leg in row.leg_details or ()]
    return Bracket(
        id=row.order_id,
        client_order_id=identifier(row.correlation_id),
        instrument=instrument,
        side=entry.side,
        product=read_product(row.product_type, what=what),
        quantity=row.quantity,
        legs=in_order([entry, *exits]),
        placed_at=instant(row.create_time),
    )


def _entry(row: SuperRow) -> Leg:
    text, filled = word(row.order_status), row.filled_qty
    status = status_in(_ENTRY, text)
    if text in {"CLOSED", "TRIGGERED"} and (filled is None or filled >= row.quantity):
        status = LegStatus.FILLED
    if filled is None:
        filled = row.quantity if status is LegStatus.FILLED else 0
    if status is LegStatus.FILLED and filled < row.quantity:
        status = LegStatus.SENT if filled > 0 else LegStatus.UNKNOWN
    return Leg(
        role=LegRole.ENTRY,
        side=read_side(row.transaction_type, what=f"super order {row.order_id}"),
        quantity=row.quantity,
        filled_quantity=filled,
        price=money(row.price),
        status=status,
        order_id=row.order_id,
        reason=why(row.oms_error_description, status),
        raw=row.order_status,
    )


def _exit(leg: SuperLeg, row: SuperRow, entry: Leg) -> Leg:
    role = look_up(ROLE, leg.leg_name, what=f"a leg of super order {row.order_id}")
    quantity = leg.total_quantity or row.quantity
    status = _waiting(entry) if word(leg.order_status) == "PENDING" else status_in(_EXIT, leg.order_status)
    own = identifier(leg.order_id)
    return Leg(
        role=role,
        side=entry.side.opposite,
        quantity=quantity,
        filled_quantity=_filled(leg, status, quantity),
        trigger_price=money(leg.price),
        trail=money(leg.trailing_jump) if role is LegRole.STOP else None,
        status=status,
        order_id=None if own == row.order_id else own,
        raw=leg.order_status,
    )


def _waiting(entry: Leg) -> LegStatus:
    """Return what an exit that nothing has happened to yet is: for its price, its entry, or nothing any more."""
    if entry.filled_quantity:
        return LegStatus.ARMED
    return LegStatus.CANCELLED if entry.status in WHY else LegStatus.INACTIVE


def _filled(leg: SuperLeg, status: LegStatus, quantity: int) -> int | None:
    if status is LegStatus.FILLED:
        return quantity
    if status is not LegStatus.SENT:
        return 0
    if leg.remaining_quantity is None or not leg.total_quantity:
        return None
    return leg.total_quantity - leg.remaining_quantity
