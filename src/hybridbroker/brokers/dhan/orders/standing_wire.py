"""Dhan's super and forever orders exactly as documented; shapes only, nothing is interpreted here.

Documented: https://dhanhq.co/docs/v2/super-order/ , /forever/. No real row of a super order has
been published, so both spellings of the quantity of a leg are accepted (unconfirmed).
"""

from __future__ import annotations

from pydantic import AliasChoices, Field

from hybridbroker.brokers.dhan.orders.wire import Id, Rupees, Units, WireModel

__all__ = ["ForeverRow", "SuperLeg", "SuperRow"]


class SuperLeg(WireModel):
    """One element of ``legDetails``."""

    order_id: str | None = None
    leg_name: str
    total_quantity: Units | None = Field(default=None, validation_alias=AliasChoices("totalQuatity", "totalQuantity"))
    remaining_quantity: Units | None = None
    price: Rupees | None = None
    order_status: str
    trailing_jump: Rupees | None = None


class SuperRow(WireModel):
    """One element of GET ``/super/orders``: the entry, its exits inside."""

    order_id: Id
    correlation_id: str | None = None
    order_status: str
    transaction_type: str
    exchange_segment: str
    product_type: str
    order_type: str
    trading_symbol: str | None = None
    security_id: Id
    quantity: Units
    price: Rupees | None = None
    create_time: str | None = None
    drv_expiry_date: str | None = None
    drv_strike_price: Rupees | None = None
    oms_error_description: str | None = None
    filled_qty: Units | None = None
    leg_details: tuple[SuperLeg, ...] | None = None


class ForeverRow(WireModel):
    """One element of GET ``/forever/orders``: one leg; those of one order share its id."""

    order_id: Id
    correlation_id: str | None = None
    order_status: str
    transaction_type: str
    exchange_segment: str
    product_type: str
    order_type: str
    """``SINGLE`` or ``OCO``; whether a leg is a limit or a market order is not told, but the price is 0 then."""
    trading_symbol: str | None = None
    security_id: Id
    quantity: Units
    price: Rupees | None = None
    trigger_price: Rupees
    leg_name: str | None = None
    create_time: str | None = None
    drv_expiry_date: str | None = None
    drv_strike_price: Rupees | None = None
