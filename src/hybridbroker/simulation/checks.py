"""Whether an account may place an order: product, shares to deliver, rupees to pay with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from hybridbroker.domain.instrument import Instrument, Segment
from hybridbroker.domain.orders import Product, Side
from hybridbroker.simulation.account import Account
from hybridbroker.simulation.working import Working

__all__ = ["can_hold", "refusal", "required"]

_ZERO: Final = Decimal(0)


def refusal(
    working: Working, others: Sequence[Working], account: Account, *, available: Decimal, leverage: Decimal
) -> str | None:
    """Say why ``working`` cannot be taken, or return None.

    ``others`` are the other open orders, ``available`` the rupees that can be spent before
    those of them are counted. An order that needs no rupees is never refused for want of them.
    """
    order = working.order
    if not can_hold(order.instrument, order.product):
        return f"{order.instrument.id} as {order.product} is not simulated"
    if order.product is Product.DELIVERY and order.side is Side.SELL:
        free = max(0, account.deliverable(order.instrument) - _claimed(others, order.instrument))
        if order.remaining > free:
            return f"selling {order.remaining} {order.instrument.id} for delivery needs shares; {free} are free"
        return None
    before = required(others, account, leverage=leverage) if others else _ZERO
    needed = required([*others, working], account, leverage=leverage) - before
    left = max(_ZERO, available - before)
    return f"the order needs {needed} rupees; {left} are available" if needed > left else None


def required(orders: Iterable[Working], account: Account, *, leverage: Decimal) -> Decimal:
    """Return rupees that open orders block.

    A delivery purchase blocks its value; an intraday or carried order the margin of what it
    opens, and nothing for what it closes; a delivery sale nothing.
    """
    total = _ZERO
    closable: dict[tuple[str, Product, Side], int] = {}
    for working in orders:
        order = working.order
        if order.product is Product.DELIVERY:
            if order.side is Side.BUY:
                total += working.worst_price * order.remaining
            continue
        key = (order.instrument.id, order.product, order.side)
        if key not in closable:
            closable[key] = max(0, -order.side.sign * account.net(order.instrument, order.product))
        closing = min(closable[key], order.remaining)
        closable[key] -= closing
        total += working.worst_price * (order.remaining - closing) / leverage
    return total


def _claimed(orders: Iterable[Working], instrument: Instrument) -> int:
    """Return units of ``instrument``'s share that open delivery sales already claim, on either exchange."""
    return sum(
        each.order.remaining
        for each in orders
        if each.order.product is Product.DELIVERY
        and each.order.side is Side.SELL
        and (each.order.instrument.isin or each.order.instrument.id) == (instrument.isin or instrument.id)
    )


def can_hold(instrument: Instrument, product: Product) -> bool:
    """Say whether positions of ``instrument`` are simulated as ``product``."""
    if product is Product.INTRADAY:
        return True
    return product is (Product.DELIVERY if instrument.segment is Segment.CASH else Product.MARGIN)
