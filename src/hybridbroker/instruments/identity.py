"""What an instrument is called here, and what its ISIN says it is: pure functions."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from functools import cache

from hybridbroker.domain.instrument import SYMBOL_SERIES, Exchange, InstrumentKind, OptionRight

__all__ = ["instrument_id", "is_isin", "kind_from_isin", "strike_text"]

_ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")
_OPTION = InstrumentKind.OPTION
_FUTURE = InstrumentKind.FUTURE
_INDEX = InstrumentKind.INDEX
_SHARE = "01"
_DEBT = frozenset({"07", "08", "09", "14", "15", "16", "24", "A7"})


def is_isin(text: str) -> bool:
    """Say whether ``text`` has the form of an ISIN.

    The check digit is left alone: two government papers on the exchanges' own lists break it.
    """
    return _ISIN.fullmatch(text) is not None


def kind_from_isin(isin: str, *, traded_fund: bool = False) -> InstrumentKind:
    """Say what kind of cash paper an Indian ISIN names.

    ``INE`` and ``IN9`` (partly paid) are companies, whose eighth and ninth characters are the type of
    the issue; ``INF`` is a fund, traded like a share where ``traded_fund``; ``IN0`` to ``IN8`` and ``INY`` are
    governments' papers.
    """
    issuer, issue = isin[:3], isin[7:9]
    if issuer in {"INE", "IN9"}:
        if issue == _SHARE:
            return InstrumentKind.EQUITY
        return InstrumentKind.DEBT if issue in _DEBT else InstrumentKind.OTHER_CASH
    if issuer == "INF":
        return InstrumentKind.ETF if traded_fund else InstrumentKind.OTHER_CASH
    if isin[:2] == "IN" and (issuer[2].isdigit() or issuer == "INY"):
        return InstrumentKind.DEBT
    return InstrumentKind.OTHER_CASH


@cache
def strike_text(strike: Decimal) -> str:
    """Write a strike without exponent and without trailing zeros: ``25000``, ``62.25``."""
    text = f"{strike:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@cache
def _day(day: date) -> str:
    return day.isoformat()


def instrument_id(  # noqa: PLR0917 - by position, because it runs once for each of 240,000 rows
    exchange: Exchange,
    kind: InstrumentKind,
    symbol: str,
    series: str | None = None,
    expiry: date | None = None,
    strike: Decimal | None = None,
    right: OptionRight | None = None,
) -> str:
    """Return the canonical id, such as ``NSE:RELIANCE`` or ``NSE:NIFTY:2026-11-24:25000:CE``.

    Raises:
        ValueError: A derivative without the terms that name it.
    """
    if expiry is not None:
        if strike is not None and right is not None:
            return ":".join((exchange, symbol, _day(expiry), strike_text(strike), right))
        if kind is not _OPTION:
            return ":".join((exchange, symbol, _day(expiry), "FUT"))
    if kind is _OPTION or kind is _FUTURE:
        raise ValueError(f"a {kind} on {symbol} needs its expiry, and an option its strike and right")
    if kind is _INDEX:
        return ":".join((exchange, symbol, "INDEX"))
    if exchange is Exchange.NSE and series is not None and series not in SYMBOL_SERIES:
        return ":".join((exchange, symbol, series))
    return ":".join((exchange, symbol))
