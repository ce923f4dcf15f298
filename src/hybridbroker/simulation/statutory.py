"""What the state, the regulator and the exchanges take from a share trade, since when, and who says so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Final

from hybridbroker.domain.instrument import Exchange
from hybridbroker.domain.orders import Product, Side
from hybridbroker.simulation.charges import ChargeRow, ChargeSchedule, Part, Per

__all__ = ["STATUTORY", "STATUTORY_ONLY", "schedule_with"]

_RUPEE: Final = Decimal(1)
_BUY: Final = frozenset({Side.BUY})
_SELL: Final = frozenset({Side.SELL})
_KEPT: Final = frozenset({Product.DELIVERY, Product.MTF})
_INTRADAY: Final = frozenset({Product.INTRADAY})
_NSE: Final = frozenset({Exchange.NSE})
_BSE: Final = frozenset({Exchange.BSE})

_STT: Final = "Securities transaction tax"
_EXCHANGE: Final = "Exchange transaction charge"
_STT_SOURCE: Final = "rates by year at tradingqna.com/t/185139; unchanged by Budget 2026"
_STAMP_SOURCE: Final = "Finance Act 2019; nseindia.com/invest/first-time-investor-sebi-turnover-fees-stt-other-levies"
_BSE_SOURCE: Final = "Dhan's price table (October 2024), copied at stockandcommodity.com/?p=1714"

STATUTORY: Final = (
    ChargeRow(
        name=_STT,
        rate=Decimal("0.001"),
        products=_KEPT,
        unit=_RUPEE,
        valid_from=date(2013, 6, 1),
        source=_STT_SOURCE,
    ),
    ChargeRow(
        name=_STT,
        rate=Decimal("0.00025"),
        products=_INTRADAY,
        sides=_SELL,
        unit=_RUPEE,
        valid_from=date(2006, 6, 1),
        source=_STT_SOURCE,
    ),
    ChargeRow(
        name=_EXCHANGE,
        rate=Decimal("0.0000297"),
        exchanges=_NSE,
        taxed=True,
        valid_from=date(2024, 10, 1),
        source="NSE circular FA64323 (27 September 2024): 2.97 rupees per lakh, each side",
    ),
    ChargeRow(
        name=_EXCHANGE,
        rate=Decimal("0.0000307"),
        exchanges=_NSE,
        taxed=True,
        valid_from=date(2026, 3, 1),
        source="NSE circular FA73061 (27 February 2026): 306.99 rupees per crore, and 0.01 of investor protection fund",
    ),
    ChargeRow(
        name=_EXCHANGE,
        rate=Decimal("0.0000375"),
        exchanges=_BSE,
        taxed=True,
        valid_from=date(2024, 10, 1),
        source=_BSE_SOURCE,
    ),
    ChargeRow(
        name=_EXCHANGE,
        rate=Decimal("0.001"),
        exchanges=_BSE,
        series=frozenset({"X", "XT", "Z"}),
        taxed=True,
        valid_from=date(2024, 10, 1),
        source=_BSE_SOURCE,
    ),
    ChargeRow(
        name=_EXCHANGE,
        rate=Decimal("0.01"),
        exchanges=_BSE,
        series=frozenset({"P", "ZP"}),
        taxed=True,
        valid_from=date(2024, 10, 1),
        source=_BSE_SOURCE,
    ),
    ChargeRow(
        name=_EXCHANGE,
        rate=Decimal("0.0000275"),
        exchanges=_BSE,
        series=frozenset({"IF", "M", "MS", "MT", "R", "TS"}),
        taxed=True,
        valid_from=date(2024, 10, 1),
        source=_BSE_SOURCE,
    ),
    ChargeRow(
        name="Investor protection fund",
        rate=Decimal("0.000001"),
        exchanges=_NSE,
        taxed=True,
        valid_from=date(2023, 4, 1),
        source="NSE circular FA56129 (24 March 2023): 10 rupees per crore",
    ),
    ChargeRow(
        name="Investor protection fund",
        rate=Decimal(0),
        exchanges=_NSE,
        taxed=True,
        valid_from=date(2026, 3, 1),
        source="NSE circular FA73061: 0.01 rupees per crore, counted in the transaction charge",
    ),
    ChargeRow(
        name="SEBI fee",
        rate=Decimal("0.000001"),
        taxed=True,
        valid_from=date(2021, 4, 1),
        source="nseindia.com: 10 rupees per crore; halved from June 2020 to March 2021 (SEBI/LAD-NRO/GN/2020/011)",
    ),
    ChargeRow(
        name="Stamp duty",
        rate=Decimal("0.00015"),
        products=_KEPT,
        sides=_BUY,
        unit=_RUPEE,
        valid_from=date(2020, 7, 1),
        source=_STAMP_SOURCE,
    ),
    ChargeRow(
        name="Stamp duty",
        rate=Decimal("0.00003"),
        products=_INTRADAY,
        sides=_BUY,
        unit=_RUPEE,
        valid_from=date(2020, 7, 1),
        source=_STAMP_SOURCE,
    ),
    ChargeRow(
        name="GST",
        per=Per.TAX,
        rate=Decimal("0.18"),
        valid_from=date(2017, 7, 1),
        source="18 % of brokerage, transaction charge, SEBI fee and investor protection fund, since GST began",
    ),
    ChargeRow(
        name="GST on depository charge",
        per=Per.TAX,
        rate=Decimal("0.18"),
        part=Part.DEPOSITORY,
        valid_from=date(2017, 7, 1),
        source="18 % of the depository charge, since GST began",
    ),
)
"""Rows for shares on NSE and BSE; a day before the first row of a name is priced by that row, with a note."""


def schedule_with(rows: Iterable[ChargeRow] = (), *, name: str = "statutory") -> ChargeSchedule:
    """Return the statutory rows joined with a broker's own; without any, what everybody pays everywhere."""
    return ChargeSchedule((*rows, *STATUTORY), name=name)


STATUTORY_ONLY: Final = schedule_with()
"""What a share trade costs at a broker who takes nothing."""
