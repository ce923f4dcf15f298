"""What Upstox itself takes from a share trade: brokerage and depository charge, dated."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final

from hybridbroker.domain.orders import Product, Side
from hybridbroker.simulation.charges import ChargeRow, Part, Per

__all__ = ["ROWS"]

_SINCE: Final = date(2024, 10, 1)
_TABLE: Final = "upstox.com/help-center/...-257195 and a copy of its price page (October 2024)"

ROWS: Final = (
    ChargeRow(
        name="Brokerage",
        per=Per.ORDER,
        flat=Decimal(20),
        products=frozenset({Product.DELIVERY, Product.MTF}),
        taxed=True,
        valid_from=_SINCE,
        source=f"{_TABLE}: up to 20 rupees per executed order; older pages capped it at 2.5 % (unconfirmed)",
    ),
    ChargeRow(
        name="Brokerage",
        per=Per.ORDER,
        flat=Decimal(20),
        rate=Decimal("0.001"),
        products=frozenset({Product.INTRADAY}),
        taxed=True,
        valid_from=_SINCE,
        source=f"{_TABLE}; older pages say 0.05 %",
    ),
    ChargeRow(
        name="Depository charge",
        per=Per.SALE,
        flat=Decimal(20),
        sides=frozenset({Side.SELL}),
        products=frozenset({Product.DELIVERY, Product.MTF}),
        part=Part.DEPOSITORY,
        taxed=True,
        valid_from=_SINCE,
        source="once per share and day by upstox.com/help-center/...-257195; 18.50 to 20 rupees are quoted, "
        "the higher is used (unconfirmed)",
    ),
)
"""Upstox's own rows; join them with the statutory ones by `simulation.statutory.schedule_with`.

Not included: the promotion of 10 rupees per API order (its end date is disputed), pledging, MTF interest.
"""
