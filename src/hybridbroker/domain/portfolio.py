"""What the account holds: positions, holdings, funds; every amount is rupees as ``Decimal``."""

from __future__ import annotations

from decimal import Decimal

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Product

__all__ = ["Funds", "Holding", "Margin", "Position"]


@attrs.frozen(kw_only=True)
class Position:
    """What was traded today, or is carried as a derivative, in one instrument and product."""

    instrument: Instrument
    product: Product
    quantity: int
    """Net units: positive long, negative short, 0 closed today."""
    average_price: Decimal
    """Rupees per unit of the open quantity; 0 when closed."""
    bought_quantity: int = 0
    sold_quantity: int = 0
    bought_value: Decimal = Decimal(0)
    sold_value: Decimal = Decimal(0)
    realised_pnl: Decimal | None = None
    """Before charges; None where the broker does not tell."""
    unrealised_pnl: Decimal | None = None
    """At the broker's last price, before charges; None where the broker does not tell."""


@attrs.frozen(kw_only=True)
class Holding:
    """Shares kept in the demat account, or on their way to it."""

    instrument: Instrument
    quantity: int
    """All units, settled or not."""
    available_quantity: int
    """Units that can be sold now."""
    unsettled_quantity: int = 0
    """Units bought yesterday (T+1), not yet in the demat account."""
    average_price: Decimal | None = None
    last_price: Decimal | None = None


@attrs.frozen(kw_only=True)
class Funds:
    """What can be spent."""

    available: Decimal
    """Rupees an order may use now."""
    used: Decimal = Decimal(0)
    """Rupees blocked by orders and positions."""
    opening: Decimal | None = None
    """Balance at the start of the day."""
    collateral: Decimal = Decimal(0)
    """Part of ``available`` that is pledged stock rather than cash."""
    withdrawable: Decimal | None = None


@attrs.frozen(kw_only=True)
class Margin:
    """What an order would block."""

    required: Decimal
    available: Decimal | None = None

    @property
    def shortfall(self) -> Decimal:
        """Return the rupees that are missing; 0 when the order is covered."""
        if self.available is None:
            return Decimal(0)
        return max(Decimal(0), self.required - self.available)
