"""How Upstox spells an instrument: exchange codes, symbols in orders and in quotes, rows of the contract list."""

from __future__ import annotations

from typing import Any, Final

from hybridbroker.domain.instrument import Instrument, InstrumentKind
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = ["EXCHANGES", "SEGMENTS", "contract_row", "exchange_code", "order_symbol", "quote_symbol"]

EXCHANGES: Final = {
    "NSE_EQ": "NSE",
    "NSE_FO": "NFO",
    "NSE_INDEX": "NSE",
    "BSE_EQ": "BSE",
    "BSE_FO": "BFO",
    "BSE_INDEX": "BSE",
    "NCD_FO": "CDS",
    "BCD_FO": "BCD",
    "MCX_FO": "MCX",
    "NSE_COM": "NSCOM",
}
"""Exchange code in order and position rows, by segment (documented)."""

SEGMENTS: Final = ("NSE_EQ", "BSE_EQ", "NSE_FO", "BSE_FO", "MCX_FO", "NCD_FO", "BCD_FO", "NSE_COM")
"""Segments that batches and the kill switch know (documented)."""

_MONTHS: Final = "123456789OND"


def exchange_code(listed: ListedInstrument) -> str:
    """Return the exchange as order and position rows name it."""
    return EXCHANGES.get(listed.upstox_segment, listed.upstox_segment)


def quote_symbol(instrument: Instrument) -> str:
    """Return the compact symbol that keys a quote: ``RELIANCE``, ``NIFTY26O0625000CE``."""
    if instrument.expiry is None:
        return instrument.symbol
    day = f"{instrument.expiry:%y}{_MONTHS[instrument.expiry.month - 1]}{instrument.expiry:%d}"
    if instrument.kind is InstrumentKind.OPTION and instrument.strike is not None and instrument.right is not None:
        return f"{instrument.symbol}{day}{instrument.strike.normalize():f}{instrument.right.value}"
    return f"{instrument.symbol}{instrument.expiry:%y%b}FUT".upper()


def order_symbol(instrument: Instrument) -> str:
    """Return the symbol of order and trade rows: NSE shares carry their series (documented in samples)."""
    if instrument.expiry is None and instrument.series is not None and instrument.exchange == "NSE":
        return f"{instrument.symbol}-{instrument.series}"
    return quote_symbol(instrument)


def contract_row(listed: ListedInstrument, underlying: ListedInstrument) -> dict[str, Any]:
    """Return one option as the contract list shows it; its tick is in paise, as in the instrument files."""
    option = listed.instrument
    assert option.expiry is not None  # noqa: S101 - an option has all three
    assert option.strike is not None  # noqa: S101
    assert option.right is not None  # noqa: S101
    strike = float(option.strike)
    return {
        "name": option.symbol,
        "segment": listed.upstox_segment,
        "exchange": option.exchange.value,
        "expiry": option.expiry.isoformat(),
        "weekly": True,
        "instrument_key": listed.upstox_key,
        "exchange_token": listed.upstox_key.partition("|")[2],
        "trading_symbol": f"{option.symbol} {strike:g} {option.right.value} {option.expiry:%d %b %y}".upper(),
        "tick_size": float(option.tick_size * 100),
        "lot_size": option.lot_size,
        "instrument_type": option.right.value,
        "freeze_quantity": float(option.freeze_quantity or option.lot_size * 24),
        "underlying_key": underlying.upstox_key,
        "underlying_type": "INDEX" if underlying.is_index else "EQUITY",
        "underlying_symbol": option.symbol,
        "strike_price": strike,
        "minimum_lot": option.lot_size,
    }
