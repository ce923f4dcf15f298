"""The handful of instruments that are there without any file: for first steps, the demo and tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from hybridbroker.domain.instrument import Exchange, InstrumentKind
from hybridbroker.instruments.listings import Listing, Listings

__all__ = ["builtin_masters"]

_SHARES: Final = (
    ("RELIANCE", "RELIANCE INDUSTRIES LTD", "INE002A01018", "2885", "0.10"),
    ("TCS", "TATA CONSULTANCY SERV LT", "INE467B01029", "11536", "0.10"),
    ("INFY", "INFOSYS LIMITED", "INE009A01021", "1594", "0.10"),
    ("HDFCBANK", "HDFC BANK LTD", "INE040A01034", "1333", "0.05"),
    ("SBIN", "STATE BANK OF INDIA", "INE062A01020", "3045", "0.10"),
    ("ICICIBANK", "ICICI BANK LTD.", "INE090A01021", "4963", "0.10"),
)
"""Symbol, name, ISIN, exchange token and tick in rupees of well-known NSE shares, as published in 2026."""


def builtin_masters() -> tuple[Listings, Listings]:
    """Return both brokers' rows for six shares and the Nifty 50."""
    nifty = ("NIFTY 50", "Nifty 50")
    upstox = [_share("upstox", f"NSE_EQ|{row[2]}", row) for row in _SHARES]
    upstox.append(
        Listing("upstox", "NSE_INDEX", "NSE_INDEX|Nifty 50", None, Exchange.NSE, InstrumentKind.INDEX, *nifty)
    )
    dhan = [_share("dhan", row[3], row) for row in _SHARES]
    dhan.append(Listing("dhan", "IDX_I", "13", None, Exchange.NSE, InstrumentKind.INDEX, *nifty))
    return Listings(broker="upstox", rows=upstox, files=("built in",)), Listings(
        broker="dhan", rows=dhan, files=("built in",)
    )


def _share(broker: str, native: str, row: tuple[str, str, str, str, str]) -> Listing:
    symbol, name, isin, token, tick = row
    return Listing(
        broker, "NSE_EQ", native, token, Exchange.NSE, InstrumentKind.EQUITY, symbol, name, isin, "EQ", 1, Decimal(tick)
    )
