"""What a bot holds of one instrument, and what the broker's reports say of its way out; no I/O."""

from __future__ import annotations

from decimal import Decimal

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle
from hybridbroker.domain.orders import Order
from hybridbroker.domain.standing import Gtt, LegStatus

__all__ = ["Held", "has_failed", "is_over"]


@attrs.define(eq=False)
class Held:
    """Units of one instrument, and how they are to be left."""

    instrument: Instrument
    quantity: int
    """Units still held."""
    stop: Decimal
    target: Decimal
    bought_at: Decimal | None = None
    """Average price of the purchase; None for what a former run bought."""
    gtt: Gtt | None = None
    """The standing order that protects it at the broker."""
    leg: Order | None = None
    """Else its one live sell order of the day: first the stop, then the exit."""
    sale: Order | None = None
    """The open order that the standing one became."""
    leaving: bool = False
    unsure: bool = False
    """Whether what became of the standing order has to be looked at again at the next bar."""
    expired: bool = False
    """Whether its stop died with the day."""
    recount: bool = False
    """Whether somebody else may have sold of it, so that the account is counted at the next bar."""
    _sales: set[str] = attrs.field(factory=set)

    def made(self, order: Order) -> bool:
        """Say whether a sale came from the standing order: by ids, else by the terms of a leg that was sent."""
        gtt = self.gtt
        if order.id in self._sales or gtt is None:
            return order.id in self._sales
        ids = {gtt.id, *(leg.order_id for leg in gtt.legs)}
        is_named = order.client_order_id is not None and order.client_order_id == gtt.client_order_id
        terms = [
            (leg.quantity, leg.price)
            for leg in gtt.legs
            if leg.order_id is None and leg.status in {LegStatus.SENT, LegStatus.FILLED}
        ]
        is_alike = order.client_order_id is None and (order.quantity, order.price) in terms
        if order.id in ids or is_named or is_alike:
            self._sales.add(order.id)
        return order.id in self._sales


def is_over(order: Order, candle: Candle) -> bool:
    """Say whether a day order is of an earlier day: not every broker tells that it died."""
    return order.placed_at is not None and order.placed_at.astimezone(IST).date() < candle.start.astimezone(IST).date()


def has_failed(gtt: Gtt) -> bool:
    """Say whether it ended without selling and without anybody cancelling it."""
    return gtt.unfilled > 0 and any(leg.status in {LegStatus.REJECTED, LegStatus.EXPIRED} for leg in gtt.legs)
