"""Orders above the exchange's freeze quantity, which a broker cuts into several."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Self

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Side,
    make_client_order_id,
    optional_rupees,
    to_product,
    to_side,
)

__all__ = ["Sliced", "SlicedOrder"]


@attrs.frozen
class SlicedOrder:
    """A limit or market day order of any size; each slice is charged brokerage of its own.

    Raises:
        InvalidOrder: The order can never be right; the message says what to change.
    """

    instrument: Instrument
    side: Side = attrs.field(converter=to_side)
    quantity: int = attrs.field(kw_only=True)
    """Units in all, a multiple of the lot size; may be above the freeze quantity."""
    price: Decimal | None = attrs.field(kw_only=True, default=None, converter=optional_rupees)
    """Limit price, rupees per unit; None trades at the market."""
    product: Product = attrs.field(kw_only=True, default=Product.DELIVERY, converter=to_product)
    client_order_id: str | None = attrs.field(kw_only=True, default=None)
    """The caller's name for all slices together; made before sending where it is None."""

    def __attrs_post_init__(self) -> None:
        self.parts()

    def named(self, now: datetime) -> Self:
        """Return the request with a client order id: its own, or a fresh one."""
        if self.client_order_id is not None:
            return self
        return attrs.evolve(self, client_order_id=make_client_order_id(now))

    @property
    def type(self) -> OrderType:
        """Return how each slice is priced."""
        return OrderType.MARKET if self.price is None else OrderType.LIMIT

    @property
    def trigger_price(self) -> None:
        """Return None: slices wait for nothing."""
        return None

    @property
    def after_market(self) -> bool:
        """Return False: slices are sent at once."""
        return False

    @property
    def value(self) -> Decimal | None:
        """Return rupees at the limit price; None at the market."""
        return None if self.price is None else self.price * self.quantity

    def parts(self) -> Sequence[LimitOrder | MarketOrder]:
        """Return the orders it comes to, by the freeze quantity of the registry; the broker's cut may differ."""
        lot, freeze = self.instrument.lot_size, self.instrument.freeze_quantity
        most = self.quantity if freeze is None or freeze < lot else freeze - freeze % lot
        whole, rest = divmod(self.quantity, most) if isinstance(self.quantity, int) and self.quantity > 0 else (0, 0)
        return [self._part(each) for each in ([most] * whole + [rest] * (rest > 0) or [self.quantity])]

    def _part(self, quantity: int) -> LimitOrder | MarketOrder:
        if self.price is None:
            return MarketOrder(
                self.instrument,
                self.side,
                quantity=quantity,
                product=self.product,
                client_order_id=self.client_order_id,
            )
        return LimitOrder(
            self.instrument,
            self.side,
            quantity=quantity,
            price=self.price,
            product=self.product,
            client_order_id=self.client_order_id,
        )


@attrs.frozen(kw_only=True)
class Sliced:
    """One handle on the orders a sliced order became."""

    client_order_id: str
    """Every slice carries it."""
    quantity: int
    """Units asked for."""
    orders: tuple[Order, ...]
    """The slices that were taken, in the broker's order, each as it was acknowledged or last read."""
    reason: str | None = None
    """Why the rest was refused; None when all was taken."""

    @property
    def placed_quantity(self) -> int:
        """Return units of the slices that were taken and not rejected; fewer than asked for if some were refused."""
        return sum(each.quantity for each in self.orders if each.status is not OrderStatus.REJECTED)

    @property
    def filled_quantity(self) -> int:
        """Return units traded so far."""
        return sum(each.filled_quantity for each in self.orders)

    @property
    def average_price(self) -> Decimal | None:
        """Return rupees per unit over all fills; None before the first, or where a slice does not tell."""
        filled = [each for each in self.orders if each.filled_quantity]
        if not filled or any(each.average_price is None for each in filled):
            return None
        value = sum(((each.average_price or Decimal(0)) * each.filled_quantity for each in filled), Decimal(0))
        return value / self.filled_quantity

    @property
    def is_final(self) -> bool:
        """Say whether nothing about any slice can change any more."""
        return all(each.is_final for each in self.orders)
