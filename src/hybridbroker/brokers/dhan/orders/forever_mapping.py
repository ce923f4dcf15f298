"""Forever orders between Dhan's words and the domain; pure.

Documented: https://dhanhq.co/docs/v2/forever/ . Its pages contradict each other on which set of
fields of an OCO order is its target: by the page on changes it is the first (``price``,
``triggerPrice``), by the page on creation ``price1`` is described as the target price. Which it
is, is unconfirmed; who places one reads it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import attrs

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
from hybridbroker.brokers.dhan.orders.standing import ENDED, LEG, ROLE, in_order, price_of, status_in, type_of, word
from hybridbroker.brokers.dhan.orders.standing_wire import ForeverRow
from hybridbroker.brokers.dhan.orders.terms import check_product, plain
from hybridbroker.brokers.dhan.orders.wire import OrderAck
from hybridbroker.domain.instrument import BrokerKey, Instrument
from hybridbroker.domain.orders import Product
from hybridbroker.domain.standing import Gtt, GttOrder, Leg, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import InvalidOrder, Unsupported

__all__ = [
    "forever_leg_to_wire",
    "forever_to_wire",
    "gtt_from_ack",
    "gtt_from_wire",
    "role_of",
    "trigger_of",
    "with_terms",
]

_BOOK: Final = {
    "CONFIRM": LegStatus.ARMED,
    "TRANSIT": LegStatus.ARMED,
    "PENDING": LegStatus.SENT,
    "PART_TRADED": LegStatus.SENT,
    "TRIGGERED": LegStatus.SENT,
    **ENDED,
}
# Of one that was taken a moment ago: nothing has reached the exchange yet.
_ACK: Final = {**_BOOK, "PENDING": LegStatus.ARMED, "": LegStatus.ARMED}
_SEGMENTS: Final = frozenset({"NSE_EQ", "NSE_FNO", "BSE_EQ", "BSE_FNO"})


def forever_to_wire(
    request: GttOrder | OcoOrder, *, key: BrokerKey, client_id: str, first: LegRole = LegRole.TARGET
) -> dict[str, Any]:
    """Write a named standing order the way POST ``/forever/orders`` wants it.

    ``first`` says which leg of an OCO order goes into the first set of fields.

    Raises:
        InvalidOrder: Dhan can never take it.
        Unsupported: It names the side that the market comes from, for which Dhan has no field.
    """
    check_product(request.instrument, request.product)
    if request.product is Product.INTRADAY:
        raise InvalidOrder("Dhan's forever orders outlive the day, so they cannot be intraday; use Product.DELIVERY")
    if key.segment not in _SEGMENTS:
        raise InvalidOrder(f"Dhan takes no forever orders in {key.segment}")
    legs = [request.trigger] if isinstance(request, GttOrder) else [request.target, request.stop]
    if isinstance(request, GttOrder) and request.crossing is not None:
        raise Unsupported("Dhan decides by itself from which side a trigger is reached; leave crossing None")
    if len({leg.price is None for leg in legs}) > 1:
        raise InvalidOrder("both legs of an OCO order are limit orders at Dhan, or both market orders")
    if first is not LegRole.TARGET:
        legs.reverse()
    body: dict[str, Any] = {
        "dhanClientId": client_id,
        "correlationId": request.client_order_id,
        "orderFlag": "SINGLE" if isinstance(request, GttOrder) else "OCO",
        "transactionType": SIDE[request.side],
        "exchangeSegment": key.segment,
        "productType": PRODUCT[request.product],
        "orderType": type_of(legs[0].price),
        "validity": "DAY",
        "securityId": key.id,
    }
    for suffix, leg in zip(("", "1"), legs, strict=False):
        body[f"quantity{suffix}"] = request.quantity
        body[f"price{suffix}"] = price_of(leg.price)
        body[f"triggerPrice{suffix}"] = plain(leg.trigger_price)
    return body


def forever_leg_to_wire(row: ForeverRow, *, quantity: int, trigger: Trigger, client_id: str) -> dict[str, Any]:
    """Write the body of PUT ``/forever/orders/{id}``, which replaces one leg; its name is echoed from the book."""
    return {
        "dhanClientId": client_id,
        "orderId": row.order_id,
        "orderFlag": "OCO" if word(row.order_type) == "OCO" else "SINGLE",
        "orderType": type_of(trigger.price),
        "legName": row.leg_name or LEG[LegRole.TARGET],
        "quantity": quantity,
        "price": price_of(trigger.price),
        "triggerPrice": plain(trigger.trigger_price),
        "validity": "DAY",
    }


def gtt_from_ack(ack: OrderAck, request: GttOrder | OcoOrder, *, at: datetime) -> Gtt:
    """Return the standing order that Dhan has just acknowledged."""
    raw = ack.order_status or ""
    wanted = {LegRole.ENTRY: request.trigger} if isinstance(request, GttOrder) else _exits(request)
    return Gtt(
        id=ack.order_id,
        client_order_id=request.client_order_id,
        instrument=request.instrument,
        side=request.side,
        product=request.product,
        quantity=request.quantity,
        legs=tuple(
            Leg(
                role=role,
                side=request.side,
                quantity=request.quantity,
                filled_quantity=0,
                trigger_price=trigger.trigger_price,
                price=trigger.price,
                status=status_in(_ACK, raw),
                raw=raw,
            )
            for role, trigger in wanted.items()
        ),
        placed_at=at,
    )


def _exits(request: OcoOrder) -> dict[LegRole, Trigger]:
    return {LegRole.TARGET: request.target, LegRole.STOP: request.stop}


def gtt_from_wire(rows: Sequence[ForeverRow], *, instrument: Instrument) -> Gtt:
    """Read the rows of one forever order, a row for each leg; whichever name a single one's leg bears, it is the entry.

    Raises:
        WireFormatError: A side, product, leg or time nobody documented.
    """
    first = rows[0]
    what = f"forever order {first.order_id}"
    single = len(rows) == 1 and word(first.order_type) != "OCO"
    side = read_side(first.transaction_type, what=what)
    legs = []
    for row in rows:
        status = status_in(_BOOK, row.order_status)
        role = LegRole.ENTRY if single else look_up(ROLE, row.leg_name or "", what=what)
        legs.append(
            Leg(
                role=role,
                side=read_side(row.transaction_type, what=what),
                quantity=row.quantity,
                filled_quantity={LegStatus.FILLED: row.quantity, LegStatus.ARMED: 0}.get(status),
                trigger_price=money(row.trigger_price),
                price=money(row.price),
                status=status,
                raw=row.order_status,
            )
        )
    return Gtt(
        id=first.order_id,
        client_order_id=next((name for row in rows if (name := identifier(row.correlation_id))), None),
        instrument=instrument,
        side=side,
        product=read_product(first.product_type, what=what),
        quantity=max(row.quantity for row in rows),
        legs=in_order(legs),
        placed_at=instant(first.create_time),
    )


def role_of(row: ForeverRow) -> LegRole | None:
    """Return what a row of an OCO order calls itself; None where it says nothing that is documented."""
    return ROLE.get(row.leg_name or "")


def trigger_of(leg: Leg) -> Trigger:
    """Return the terms of a leg.

    Raises:
        InvalidOrder: The book does not tell them.
    """
    if leg.trigger_price is None:
        raise InvalidOrder(f"the book does not tell the trigger price of the {leg.role.value} leg; state it")
    return Trigger(leg.trigger_price, price=leg.price)


def with_terms(leg: Leg, *, quantity: int, trigger: Trigger) -> Leg:
    """Return a leg as it is after a change."""
    return attrs.evolve(leg, quantity=quantity, trigger_price=trigger.trigger_price, price=trigger.price)
