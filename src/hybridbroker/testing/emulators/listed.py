"""What the emulated brokers call an instrument, and the handful they know without being told."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.protocols import InstrumentLookup

__all__ = ["LISTED", "ListedInstrument", "invent", "listed_from"]


@attrs.frozen
class ListedInstrument:
    """One instrument with both vendors' names for it."""

    instrument: Instrument
    upstox_key: str
    """Such as ``NSE_EQ|INE002A01018``."""
    dhan_segment: str
    """Such as ``NSE_EQ``."""
    dhan_id: str
    """Such as ``2885``; unique only inside ``dhan_segment``."""

    @property
    def upstox_segment(self) -> str:
        """Return the part of the Upstox key before the pipe."""
        return self.upstox_key.partition("|")[0]

    @property
    def is_index(self) -> bool:
        """Say whether it is quoted without depth and volume."""
        return self.instrument.kind is InstrumentKind.INDEX


def listed_from(lookup: InstrumentLookup, instruments: Iterable[Instrument]) -> tuple[ListedInstrument, ...]:
    """Return ``instruments`` with the names that a registry has for them at both brokers.

    Raises:
        InstrumentUnmapped: One of the brokers does not list one of them.
    """
    return tuple(_one(lookup, each) for each in instruments)


def _one(lookup: InstrumentLookup, instrument: Instrument) -> ListedInstrument:
    dhan = lookup.key(instrument, "dhan")
    return ListedInstrument(instrument, lookup.key(instrument, "upstox").id, dhan.segment, dhan.id)


def invent(count: int) -> tuple[ListedInstrument, ...]:
    """Return ``count`` shares that do not exist, for tests of breadth."""
    return tuple(
        _share(f"TEST{n:04d}", f"Invented {n}", f"INE{n:04d}Z01010", str(900_000 + n), tick="0.05")
        for n in range(1, count + 1)
    )


def _share(symbol: str, name: str, isin: str, token: str, tick: str = "0.10") -> ListedInstrument:
    instrument = Instrument(
        id=f"NSE:{symbol}",
        exchange=Exchange.NSE,
        segment=Segment.CASH,
        kind=InstrumentKind.EQUITY,
        symbol=symbol,
        name=name,
        isin=isin,
        series="EQ",
        tick_size=Decimal(tick),
        freeze_quantity=100_000,
    )
    return ListedInstrument(instrument, f"NSE_EQ|{isin}", "NSE_EQ", token)


LISTED: Final = (
    _share("RELIANCE", "Reliance Industries", "INE002A01018", "2885"),
    _share("TCS", "Tata Consultancy Services", "INE467B01029", "11536"),
    _share("INFY", "Infosys", "INE009A01021", "1594"),
    _share("HDFCBANK", "HDFC Bank", "INE040A01034", "1333", tick="0.05"),
    _share("SBIN", "State Bank of India", "INE062A01020", "3045"),
    _share("ICICIBANK", "ICICI Bank", "INE090A01021", "4963"),
    ListedInstrument(
        Instrument(
            id="NSE:NIFTY 50:INDEX",
            exchange=Exchange.NSE,
            segment=Segment.INDEX,
            kind=InstrumentKind.INDEX,
            symbol="NIFTY 50",
            name="Nifty 50",
        ),
        "NSE_INDEX|Nifty 50",
        "IDX_I",
        "13",
    ),
)
"""Public ids as both instrument masters carried them in February and March 2026."""
