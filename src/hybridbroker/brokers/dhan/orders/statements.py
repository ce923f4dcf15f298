"""What has been: trades of past days with what they cost, and the ledger.

Documented: https://dhanhq.co/docs/v2/statements/ . Recorded: trade ids of ``"0"``, no expiry on
derivatives, the ledger as an array where the documentation shows one object.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.brokers.dhan.client import DhanClient, rows_of
from hybridbroker.brokers.dhan.orders.account_wire import LedgerRow, PastTradeRow
from hybridbroker.brokers.dhan.orders.mapping import trade_from_wire
from hybridbroker.brokers.dhan.orders.names import Names
from hybridbroker.domain.orders import Trade
from hybridbroker.errors import ConfigurationError, WireFormatError

__all__ = ["LedgerEntry", "PastTrade", "Statements"]

_PAGES: Final = 1_000
_NO_DATE: Final = date(1970, 1, 1)


@attrs.frozen(kw_only=True)
class PastTrade:
    """One execution of a past day and what Dhan billed for it, in rupees."""

    trade: Trade
    """Its id is ``"0"`` where Dhan does not tell it."""
    brokerage: Decimal
    stt: Decimal
    exchange_charges: Decimal
    sebi_fee: Decimal
    stamp_duty: Decimal
    gst: Decimal

    @property
    def charges(self) -> Decimal:
        """Return all of them together; the depository's share of a sale is not among them."""
        return self.brokerage + self.stt + self.exchange_charges + self.sebi_fee + self.stamp_duty + self.gst


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One line of the account's ledger; amounts are rupees."""

    on: date | None
    """None on the lines of the opening and the closing balance."""
    narration: str
    voucher: str
    kind: str
    """Dhan's own word, such as ``PAYBNK``."""
    exchange: str
    debit: Decimal
    credit: Decimal
    balance: Decimal


class Statements:
    """Reads statements of one account."""

    def __init__(self, client: DhanClient, *, names: Names) -> None:
        self._client = client
        self._names = names

    async def trade_history(self, *, start: date, end: date) -> list[PastTrade]:
        """Return all executions of these days, oldest first; page after page until an empty one."""
        _check(start, end)
        found: list[PastTrade] = []
        before: object = None
        for page in range(_PAGES):
            path = f"/trades/{start:%Y-%m-%d}/{end:%Y-%m-%d}/{page}"
            payload = await self._client.read(path)
            rows = rows_of(payload, what=f"GET {path}")
            if not rows:
                break
            if payload == before:
                raise WireFormatError(f"GET {path} answers what page {page - 1} answered")
            before = payload
            found += [self._trade(PastTradeRow.read(row, what=f"a trade of {path}")) for row in rows]
        return sorted(found, key=lambda each: each.trade.traded_at)

    def _trade(self, row: PastTradeRow) -> PastTrade:
        instrument = self._names.instrument(
            row.exchange_segment,
            row.security_id,
            symbol=row.trading_symbol or row.custom_symbol,
            expiry=row.drv_expiry_date,
            strike=row.drv_strike_price,
            past=True,
        )
        nothing = Decimal(0)
        return PastTrade(
            trade=trade_from_wire(row, instrument=instrument),
            brokerage=row.brokerage_charges or nothing,
            stt=row.stt or nothing,
            exchange_charges=row.exchange_transaction_charges or nothing,
            sebi_fee=row.sebi_tax or nothing,
            stamp_duty=row.stamp_duty or nothing,
            gst=row.service_tax or nothing,
        )

    async def ledger(self, *, start: date, end: date) -> list[LedgerEntry]:
        """Return the ledger's lines of these days, in Dhan's order."""
        _check(start, end)
        params = {"from-date": f"{start:%Y-%m-%d}", "to-date": f"{end:%Y-%m-%d}"}
        rows = rows_of(await self._client.read("/ledger", params=params), what="GET /ledger")
        return [_entry(LedgerRow.read(row, what="a line of the ledger")) for row in rows]


def _entry(row: LedgerRow) -> LedgerEntry:
    return LedgerEntry(
        on=_date(row.voucherdate),
        narration=row.narration,
        voucher=row.vouchernumber,
        kind=row.voucherdesc,
        exchange=row.exchange,
        debit=row.debit,
        credit=row.credit,
        balance=row.runbal,
    )


def _date(text: str) -> date | None:
    try:
        read = datetime.strptime(text.strip(), "%b %d, %Y").date()  # noqa: DTZ007 - a date has no zone
    except ValueError:
        raise WireFormatError(f"a line of the ledger: {text[:40]!r} is no date") from None
    return None if read == _NO_DATE else read


def _check(start: date, end: date) -> None:
    if end < start:
        raise ConfigurationError(f"a statement ends where it starts or later: {start} to {end}")
