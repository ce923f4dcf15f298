"""What the journal knows of an order: its state, its terms, and how both are written down."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.market import is_aware
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, OrderType, Product, Side, Validity

__all__ = ["Entry", "OrderState", "describe_order", "describe_request", "scrubbed", "signature"]

_TOKEN: Final = re.compile(r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?")


class OrderState(StrEnum):
    """How far an order got, as far as this machine knows."""

    INTENT = "intent"
    """On disk, not yet handed to the broker."""
    SENT = "sent"
    """Handed to the broker; no answer was read yet."""
    ACCEPTED = "accepted"
    """The broker has it."""
    REJECTED = "rejected"
    """It certainly was not placed: refused, or never sent."""
    UNKNOWN = "unknown"
    """It may be live: the answer was lost, and the broker has not shown it yet."""
    ABSENT = "absent"
    """Several complete readings of the book over the settle window did not show it; the watch goes on."""
    FINAL = "final"
    """Filled, cancelled, rejected by the exchange or expired; nothing can change."""


@attrs.frozen(kw_only=True)
class Entry:
    """One order of ours: what was asked, and the newest that is known of it."""

    client_order_id: str
    instrument: str
    """Instrument id."""
    side: Side
    type: OrderType
    product: Product
    validity: Validity
    quantity: int
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    after_market: bool = False
    value: Decimal | None = None
    """Rupees it counted for when it was checked; None where no price was known."""
    state: OrderState = OrderState.INTENT
    order_id: str | None = None
    status: OrderStatus | None = None
    filled_quantity: int = 0
    average_price: Decimal | None = None
    reason: str | None = None
    created_at: datetime = attrs.field(validator=is_aware)
    sent_at: datetime | None = attrs.field(default=None, validator=is_aware)
    changed_at: datetime = attrs.field(validator=is_aware)
    """When this process last learnt something about it."""
    updated_at: datetime | None = attrs.field(default=None, validator=is_aware)
    """The broker's own time of the newest change."""
    delivered: str = ""
    """Signature of the newest change that the strategy was told of."""
    overridden: bool = False
    """Whether the user took it upon himself to trade on while it is unknown."""

    @classmethod
    def of(cls, request: OrderRequest, *, at: datetime, value: Decimal | None) -> Entry:
        """Write down the intent to send ``request``, which must be named."""
        assert request.client_order_id is not None  # noqa: S101 - named() came before
        return cls(
            client_order_id=request.client_order_id,
            instrument=request.instrument.id,
            side=request.side,
            type=request.type,
            product=request.product,
            validity=request.validity,
            quantity=request.quantity,
            price=request.price,
            trigger_price=request.trigger_price,
            after_market=request.after_market,
            value=value,
            created_at=at,
            changed_at=at,
        )

    @classmethod
    def adopted(cls, order: Order, *, at: datetime) -> Entry:
        """Write down an order that the broker made, by its own id: nothing of it has been believed yet."""
        return cls(
            client_order_id=f"of-standing-{order.id}",
            instrument=order.instrument.id,
            side=order.side,
            type=order.type,
            product=order.product,
            validity=order.validity,
            quantity=order.quantity,
            price=order.price,
            trigger_price=order.trigger_price,
            state=OrderState.ACCEPTED,
            order_id=order.id,
            created_at=order.placed_at or at,
            changed_at=at,
        )

    @property
    def is_unresolved(self) -> bool:
        """Say whether it may be live without the broker having shown it."""
        return self.state in {OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN}

    @property
    def may_trade(self) -> bool:
        """Say whether it can still fill, as far as is known."""
        return self.is_unresolved or self.state is OrderState.ACCEPTED

    @property
    def remaining(self) -> int:
        """Return units that may still fill; 0 once it is over."""
        return self.quantity - self.filled_quantity if self.may_trade else 0

    @property
    def counts_for(self) -> Decimal:
        """Return the rupees it counts for: nothing, once it is known not to have been placed."""
        if self.value is None or self.state in {OrderState.REJECTED, OrderState.ABSENT}:
            return Decimal(0)
        return self.value

    @property
    def substance(self) -> tuple[object, ...]:
        """Return what a report can change, without the times of learning it."""
        return (
            self.state,
            self.order_id,
            self.status,
            self.quantity,
            self.price,
            self.trigger_price,
            self.filled_quantity,
            self.average_price,
            self.reason,
            self.updated_at,
        )

    @property
    def day(self) -> str:
        """Return the day it was made, in IST, as YYYY-MM-DD."""
        return f"{self.created_at.astimezone(IST):%Y-%m-%d}"


def signature(order: Order) -> str:
    """Return what makes one report of an order differ from the next."""
    terms = (order.status.value, order.filled_quantity, order.quantity, order.price, order.trigger_price)
    return "|".join("" if each is None else str(each) for each in terms)


def describe_request(request: OrderRequest) -> str:
    """Return the request as JSON, for the record."""
    return _json(
        {
            "instrument": request.instrument.id,
            "side": request.side.value,
            "type": request.type.value,
            "quantity": request.quantity,
            "price": request.price,
            "trigger_price": request.trigger_price,
            "product": request.product.value,
            "validity": request.validity.value,
            "after_market": request.after_market,
            "disclosed_quantity": request.disclosed_quantity,
            "client_order_id": request.client_order_id,
        }
    )


def describe_order(order: Order) -> str:
    """Return a report of the broker as JSON, for the record."""
    return _json(
        {
            "id": order.id,
            "client_order_id": order.client_order_id,
            "instrument": order.instrument.id,
            "side": order.side.value,
            "status": order.status.value,
            "raw": order.raw,
            "quantity": order.quantity,
            "filled_quantity": order.filled_quantity,
            "price": order.price,
            "trigger_price": order.trigger_price,
            "average_price": order.average_price,
            "reason": order.reason,
            "exchange_order_id": order.exchange_order_id,
            "updated_at": None if order.updated_at is None else order.updated_at.isoformat(),
        }
    )


def scrubbed(text: str) -> str:
    """Return ``text`` without anything that looks like an access token.

    The texts kept come from typed values and error messages, which hold no secrets; this is
    the second lock on that door, for a broker that echoes a header in its error text.
    """
    return _TOKEN.sub("***", text)


def _json(fields: Mapping[str, Any]) -> str:
    return scrubbed(json.dumps({name: value for name, value in fields.items() if value is not None}, default=str))
