"""How far beyond its trigger a stop order may trade: what makes a stop-market order safe at Dhan.

Dhan's own ``STOP_LOSS_MARKET`` lost its trigger and filled at once, some 5 % through the market,
or was refused with DH-906 (reported on 20 July 2026 for NSE shares and BSE derivatives). What
works is a stop-limit order whose limit leaves room for the market to move. Dhan publishes no
band of its own for market orders; the rows here are the ones another open-source adapter uses
for its Dhan orders, read in August 2026, which took them from another broker's protection.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import attrs

from hybridbroker.domain.instrument import Instrument, InstrumentKind
from hybridbroker.domain.orders import Side, StopLimitOrder, StopMarketOrder
from hybridbroker.errors import InvalidOrder

__all__ = ["STOP_BAND", "BandRow", "StopBand"]


@attrs.frozen
class BandRow:
    """The band of all triggers up to and including a price that no earlier row has."""

    up_to: Decimal | None
    """Rupees; None is the rest."""
    percent: Decimal = attrs.field(validator=attrs.validators.gt(Decimal(0)))
    """Of the trigger price."""


def _ends(_: object, __: object, rows: Sequence[BandRow]) -> None:
    if not rows or rows[-1].up_to is not None or any(each.up_to is None for each in rows[:-1]):
        raise ValueError("the last row of a band, and only that, has no upper end")


@attrs.frozen(kw_only=True)
class StopBand:
    """A table of bands, dated."""

    as_of: str
    source: str
    options: tuple[BandRow, ...] = attrs.field(validator=_ends)
    others: tuple[BandRow, ...] = attrs.field(validator=_ends)
    """Shares and futures."""

    @classmethod
    def of(cls, percent: Decimal | str | int) -> StopBand:
        """Return one band for everything."""
        rows = (BandRow(None, Decimal(percent)),)
        return cls(as_of="", source="chosen by the user", options=rows, others=rows)

    def percent(self, instrument: Instrument, trigger: Decimal) -> Decimal:
        """Return the band at ``trigger``, in percent of it."""
        rows = self.options if instrument.kind is InstrumentKind.OPTION else self.others
        return next(row.percent for row in rows if row.up_to is None or trigger <= row.up_to)

    def limit(self, instrument: Instrument, side: Side, trigger: Decimal) -> Decimal:
        """Return the limit price: on the tick, rounded away from the trigger, at least one tick beyond it.

        Raises:
            InvalidOrder: There is no price beyond the trigger to sell at.
        """
        tick = instrument.tick_size
        far = trigger + side.sign * trigger * self.percent(instrument, trigger) / 100
        steps = (far / tick).to_integral_value(ROUND_CEILING if side is Side.BUY else ROUND_FLOOR)
        nearest = trigger + side.sign * tick
        price = max(steps * tick, nearest) if side is Side.BUY else max(min(steps * tick, nearest), tick)
        if price >= trigger and side is Side.SELL:
            raise InvalidOrder(f"nothing can be sold below a trigger of {trigger}; use a LimitOrder")
        return price

    def limited(self, request: StopMarketOrder) -> StopLimitOrder:
        """Return the stop-limit order that stands for ``request``."""
        trigger = request.trigger_price
        assert trigger is not None  # noqa: S101 - a stop order has one
        return StopLimitOrder(
            request.instrument,
            request.side,
            quantity=request.quantity,
            price=self.limit(request.instrument, request.side, trigger),
            trigger_price=trigger,
            product=request.product,
            validity=request.validity,
            client_order_id=request.client_order_id,
            after_market=request.after_market,
            disclosed_quantity=request.disclosed_quantity,
        )


def _rows(*rows: tuple[int | None, str]) -> tuple[BandRow, ...]:
    return tuple(BandRow(None if up_to is None else Decimal(up_to), Decimal(percent)) for up_to, percent in rows)


STOP_BAND: Final = StopBand(
    as_of="August 2026",
    source="https://github.com/marketcalls/openalgo/pull/1649",
    options=_rows((10, "5"), (100, "3"), (500, "2"), (None, "1")),
    others=_rows((100, "2"), (500, "1"), (None, "0.5")),
)
"""What `DhanBroker` uses unless told otherwise."""
