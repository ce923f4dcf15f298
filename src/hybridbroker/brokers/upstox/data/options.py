"""What Upstox says of options, read into the domain: chains and greeks; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Final

from hybridbroker.brokers.upstox.data import wire
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Greeks
from hybridbroker.domain.options import OptionChain, OptionQuote, Strike
from hybridbroker.errors import InstrumentError
from hybridbroker.protocols import InstrumentLookup

__all__ = ["chain_from_wire", "greeks_from_wire", "listed"]

_PERCENT: Final = 100.0


def listed(instruments: InstrumentLookup, key: str) -> Instrument | None:
    """Return the instrument that Upstox calls ``key``; None for one the registry does not know or trust."""
    try:
        return instruments.by_key("upstox", key)
    except InstrumentError:
        return None


def chain_from_wire(
    rows: Iterable[wire.ChainRow],
    *,
    underlying: Instrument,
    expiry: date,
    instruments: InstrumentLookup,
    read_at: datetime,
) -> OptionChain:
    """Return a chain, lowest strike first.

    Implied volatility is in percent on this call (documented example), and a fraction in the
    domain. A contract whose registry entry has another expiry or strike is left out as unlisted:
    exchange tokens are given out again.
    """
    strikes: dict[float, Strike] = {}
    price: float | None = None
    unlisted = 0
    for row in rows:
        if row.expiry != expiry:
            continue
        price = row.underlying_spot_price or price
        sides: list[OptionQuote | None] = []
        for side in (row.call_options, row.put_options):
            quote = None if side is None else _contract(side, row, instruments)
            unlisted += side is not None and quote is None
            sides.append(quote)
        strikes[row.strike_price] = Strike(price=row.strike_price, call=sides[0], put=sides[1])
    return OptionChain(
        underlying=underlying,
        expiry=expiry,
        underlying_price=price,
        strikes=tuple(strikes[each] for each in sorted(strikes)),
        read_at=read_at,
        unlisted=unlisted,
    )


def greeks_from_wire(row: wire.GreekQuote, *, instrument: Instrument) -> OptionQuote:
    """Return what the greeks call says of one contract; its implied volatility is a fraction already."""
    return OptionQuote(
        instrument=instrument,
        last_price=row.last_price or None,
        volume=row.volume,
        open_interest=_whole(row.oi),
        previous_close=row.cp or None,
        greeks=_greeks(row, volatility=row.iv),
    )


def _contract(side: wire.ChainSide, row: wire.ChainRow, instruments: InstrumentLookup) -> OptionQuote | None:
    instrument = listed(instruments, side.instrument_key)
    if instrument is None or instrument.expiry != row.expiry or instrument.strike is None:
        return None
    if float(instrument.strike) != row.strike_price:
        return None
    told, greeks = side.market_data, side.option_greeks
    return OptionQuote(
        instrument=instrument,
        last_price=told.ltp or None,
        bid_price=told.bid_price or None,
        bid_quantity=told.bid_qty if told.bid_price else None,
        ask_price=told.ask_price or None,
        ask_quantity=told.ask_qty if told.ask_price else None,
        volume=told.volume,
        open_interest=_whole(told.oi),
        previous_close=told.close_price or None,
        previous_open_interest=_whole(told.prev_oi),
        greeks=_greeks(greeks, volatility=None if greeks.iv is None else greeks.iv / _PERCENT),
    )


def _greeks(told: wire.GreekQuote | wire.ChainGreeks, *, volatility: float | None) -> Greeks | None:
    """Return the sensitivities; all at zero say nothing, Upstox computes none then."""
    if not (told.delta or told.theta or told.gamma or told.vega):
        return None
    return Greeks(
        delta=told.delta or 0.0,
        theta=told.theta or 0.0,
        gamma=told.gamma or 0.0,
        vega=told.vega or 0.0,
        implied_volatility=volatility or None,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
