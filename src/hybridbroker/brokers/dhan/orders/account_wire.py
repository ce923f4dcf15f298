"""Dhan's payloads about the account: margin, trader's control, statements, eDIS; shapes only.

Documented: https://dhanhq.co/docs/v2/funds/ , /traders-control/ , /statements/ , /edis/ . The two
versions of the multi-order margin and of the P&L exit differ in spelling; both are read.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field

from hybridbroker.brokers.dhan.orders.wire import Rupees, TradeRow, Units, WireModel

__all__ = ["EdisRow", "KillSwitchRow", "LedgerRow", "MarginRow", "PastTradeRow", "PnlExitRow"]


class MarginRow(WireModel):
    """POST ``/margincalculator`` and ``/margincalculator/multi``."""

    total_margin: Rupees = Field(validation_alias=AliasChoices("totalMargin", "total_margin"))
    available_balance: Rupees | None = None
    """Only in the answer for one order."""


class KillSwitchRow(WireModel):
    """GET and POST ``/killswitch``."""

    kill_switch_status: str


class PnlExitRow(WireModel):
    """GET ``/pnlExit``."""

    pnl_exit_status: str
    profit: Rupees | None = None
    loss: Rupees | None = None
    product_type: tuple[str, ...] | None = None
    enable_kill_switch: bool | None = Field(
        default=None, validation_alias=AliasChoices("enableKillSwitch", "enable_kill_switch")
    )


class EdisRow(WireModel):
    """GET ``/edis/inquire/{isin}``; quantities are text in the tables and numbers in the samples."""

    isin: Annotated[str, Field(max_length=20)]
    total_qty: Units
    aprvd_qty: Units


class LedgerRow(WireModel):
    """One element of GET ``/ledger``; every field is text, amounts too."""

    narration: str = ""
    voucherdate: str = ""
    """``Sep 01, 2026``; the opening and closing rows say ``Jan 01, 1970``."""
    exchange: str = ""
    voucherdesc: str = ""
    vouchernumber: str = ""
    debit: Rupees
    credit: Rupees
    runbal: Rupees


class PastTradeRow(TradeRow):
    """One element of GET ``/trades/{from}/{to}/{page}``."""

    exchange_trade_id: Annotated[str, Field(min_length=1, max_length=64)] = "0"
    """``"0"`` in practice."""
    custom_symbol: str | None = None
    sebi_tax: Rupees | None = None
    stt: Rupees | None = None
    brokerage_charges: Rupees | None = None
    service_tax: Rupees | None = None
    exchange_transaction_charges: Rupees | None = None
    stamp_duty: Rupees | None = None
