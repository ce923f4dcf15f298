"""What Dhan itself takes from a share trade: brokerage and depository charge, dated."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final

from hybridbroker.domain.orders import Product, Side
from hybridbroker.simulation.charges import ChargeRow, Part, Per

__all__ = ["ROWS"]

_SINCE: Final = date(2024, 10, 1)
_TABLE: Final = (
    "Dhan's price table (October 2024), copied at stockandcommodity.com/?p=1714; dhan.co/pricing was not readable"
)

ROWS: Final = (
    ChargeRow(
        name="Brokerage",
        per=Per.ORDER,
        flat=Decimal(0),
        products=frozenset({Product.DELIVERY}),
        taxed=True,
        valid_from=_SINCE,
        source=_TABLE,
    ),
    ChargeRow(
        name="Brokerage",
        per=Per.ORDER,
        flat=Decimal(20),
        rate=Decimal("0.0003"),
        products=frozenset({Product.INTRADAY, Product.MTF}),
        taxed=True,
        valid_from=_SINCE,
        source=_TABLE,
    ),
    ChargeRow(
        name="Depository charge",
        per=Per.SALE,
        flat=Decimal("12.50"),
        sides=frozenset({Side.SELL}),
        products=frozenset({Product.DELIVERY, Product.MTF}),
        part=Part.DEPOSITORY,
        taxed=True,
        valid_from=_SINCE,
        source=f"{_TABLE}; once per share and day: madefortrade.in/t/50575",
    ),
)
"""Dhan's own rows; join them with the statutory ones by `simulation.statutory.schedule_with`.

Not included: 20 rupees and tax per order that Dhan squares off itself, pledging, MTF interest.
"""
