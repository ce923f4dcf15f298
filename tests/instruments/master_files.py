"""Small masters in both brokers' formats, with invented instruments, for tests to write and to damage."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from hybridbroker.brokers.dhan.instruments import DhanListings
from hybridbroker.brokers.upstox.instruments import UpstoxListings
from hybridbroker.clock import IST
from hybridbroker.instruments.listings import Listings
from hybridbroker.instruments.registry import InstrumentRegistry

Row = dict[str, Any]

DHAN_COLUMNS = [
    "EXCH_ID", "SEGMENT", "SECURITY_ID", "ISIN", "INSTRUMENT", "UNDERLYING_SECURITY_ID", "UNDERLYING_SYMBOL",
    "SYMBOL_NAME", "DISPLAY_NAME", "INSTRUMENT_TYPE", "SERIES", "LOT_SIZE", "SM_EXPIRY_DATE", "STRIKE_PRICE",
    "OPTION_TYPE", "TICK_SIZE", "EXPIRY_FLAG", "MTF_LEVERAGE", "",
]  # fmt: skip
COMPACT_COLUMNS = [
    "SEM_EXM_EXCH_ID", "SEM_SEGMENT", "SEM_SMST_SECURITY_ID", "SEM_INSTRUMENT_NAME", "SEM_EXPIRY_CODE",
    "SEM_TRADING_SYMBOL", "SEM_LOT_UNITS", "SEM_CUSTOM_SYMBOL", "SEM_EXPIRY_DATE", "SEM_STRIKE_PRICE",
    "SEM_OPTION_TYPE", "SEM_TICK_SIZE", "SEM_EXPIRY_FLAG", "SEM_EXCH_INSTRUMENT_TYPE", "SEM_SERIES", "SM_SYMBOL_NAME",
]  # fmt: skip
EXPIRY = date(2026, 11, 24)


def upstox_share(symbol: str, isin: str, token: str, **changes: Any) -> Row:
    exchange = changes.pop("exchange", "NSE")
    row = {
        "segment": f"{exchange}_EQ", "exchange": exchange, "name": f"{symbol} LIMITED", "isin": isin,
        "instrument_type": "EQ", "instrument_key": f"{exchange}_EQ|{isin}", "lot_size": 1,
        "freeze_quantity": 100000.0, "exchange_token": token, "tick_size": 5.0, "trading_symbol": symbol,
    }  # fmt: skip
    return row | changes


def upstox_contract(symbol: str, token: str, kind: str, strike: float = 0.0, **changes: Any) -> Row:
    expiry = changes.pop("expiry", EXPIRY)
    last_second = datetime.combine(expiry, time(23, 59, 59), IST)
    row = {
        "segment": "NSE_FO", "exchange": "NSE", "name": symbol, "instrument_type": kind, "underlying_symbol": symbol,
        "instrument_key": f"NSE_FO|{token}", "lot_size": 50, "freeze_quantity": 1000.0, "exchange_token": token,
        "tick_size": 5.0, "expiry": int(last_second.astimezone(UTC).timestamp() * 1000), "strike_price": strike,
        "trading_symbol": f"{symbol} {kind}",
    }  # fmt: skip
    return row | changes


def upstox_index(name: str, number: str = "26000", *, ticker: str | None = None, exchange: str = "NSE") -> Row:
    return {
        "segment": f"{exchange}_INDEX", "exchange": exchange, "name": name, "instrument_type": "INDEX",
        "instrument_key": f"{exchange}_INDEX|{name}", "exchange_token": number,
        "trading_symbol": ticker or name.upper(),
    }  # fmt: skip


def dhan_share(symbol: str, isin: str, token: str, **changes: Any) -> Row:
    row = {
        "EXCH_ID": "NSE", "SEGMENT": "E", "SECURITY_ID": token, "ISIN": isin, "INSTRUMENT": "EQUITY",
        "UNDERLYING_SYMBOL": symbol, "SYMBOL_NAME": f"{symbol} LTD", "DISPLAY_NAME": symbol.title(),
        "INSTRUMENT_TYPE": "ES", "SERIES": "EQ", "LOT_SIZE": "1.0", "TICK_SIZE": "5.0000", "EXPIRY_FLAG": "NA",
    }  # fmt: skip
    return row | changes


def dhan_contract(symbol: str, token: str, kind: str, strike: float = -0.01, **changes: Any) -> Row:
    expiry = changes.pop("expiry", EXPIRY)
    future = kind == "FUT"
    row = {
        "EXCH_ID": "NSE", "SEGMENT": "D", "SECURITY_ID": token, "ISIN": "NA",
        "INSTRUMENT": "FUTSTK" if future else "OPTSTK", "UNDERLYING_SYMBOL": symbol, "SYMBOL_NAME": f"{symbol}-{kind}",
        "DISPLAY_NAME": f"{symbol} {kind}", "INSTRUMENT_TYPE": "FUT" if future else "OP", "SERIES": "NA",
        "LOT_SIZE": "50.0", "SM_EXPIRY_DATE": expiry.isoformat(), "STRIKE_PRICE": f"{strike:.5f}",
        "OPTION_TYPE": "XX" if future else kind, "TICK_SIZE": "5.0000", "EXPIRY_FLAG": "M",
    }  # fmt: skip
    return row | changes


def dhan_index(native: str, ticker: str, display: str, *, exchange: str = "NSE") -> Row:
    return {
        "EXCH_ID": exchange, "SEGMENT": "I", "SECURITY_ID": native, "ISIN": "NA", "INSTRUMENT": "INDEX",
        "UNDERLYING_SECURITY_ID": native, "UNDERLYING_SYMBOL": ticker, "SYMBOL_NAME": ticker, "DISPLAY_NAME": display,
        "INSTRUMENT_TYPE": "INDEX", "SERIES": "NA", "LOT_SIZE": "1.0", "SM_EXPIRY_DATE": "0001-01-01",
        "OPTION_TYPE": "XX", "TICK_SIZE": "0.0500",
    }  # fmt: skip


def write_upstox(path: Path, rows: Iterable[Row]) -> Path:
    path.write_bytes(gzip.compress(json.dumps(list(rows)).encode()))
    return path


def write_csv(path: Path, rows: Iterable[Row], *, columns: Sequence[str] = DHAN_COLUMNS, by: str = ",") -> Path:
    lines = [by.join(columns), *(by.join(str(row.get(name, "")) for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read_upstox(folder: Path, *rows: Row, published: date | None = None) -> Listings:
    return UpstoxListings().read([write_upstox(folder / "upstox.json.gz", rows)], published=published)


def read_dhan(folder: Path, *rows: Row, published: date | None = None) -> Listings:
    return DhanListings().read([write_csv(folder / "dhan.csv", rows)], published=published)


def registry(folder: Path, *, upstox: Iterable[Row] = (), dhan: Iterable[Row] = ()) -> InstrumentRegistry:
    return InstrumentRegistry.from_listings([read_upstox(folder, *upstox), read_dhan(folder, *dhan)])
