"""What Dhan's ids stand for: instruments of the registry, or stand-ins where it does not vouch for one."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Protocol, runtime_checkable

from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.brokers.dhan.orders.mapping import instant, same_terms, unlisted
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument
from hybridbroker.errors import InstrumentError
from hybridbroker.protocols import InstrumentLookup

__all__ = ["NAME", "Names"]

NAME: Final = "dhan"
"""What the registry calls Dhan, whose sandbox has the same ids."""


class Names:
    """Translates both ways between instruments and Dhan's (segment, id)."""

    def __init__(self, instruments: InstrumentLookup) -> None:
        self._instruments = instruments

    def key(self, instrument: Instrument) -> BrokerKey:
        """Return what Dhan calls ``instrument``; raise `InstrumentUnmapped` or `InstrumentConflict`."""
        return self._instruments.key(instrument, NAME)

    def instrument(
        self,
        segment: str,
        security_id: str,
        *,
        symbol: str | None,
        expiry: str | None = None,
        strike: Decimal | None = None,
        past: bool = False,
    ) -> Instrument:
        """Return the instrument a row is about; one the registry does not vouch for is a stand-in, not left out.

        Rows of the ``past`` must state the expiry of a derivative, since its id names another one by now.

        Raises:
            WireFormatError: The segment is none of Dhan's.
        """
        try:
            instrument = self._instruments.by_key(NAME, f"{segment}:{security_id}")
        except InstrumentError:
            return unlisted(segment, security_id, symbol=symbol)
        undated = past and instrument.expiry is not None and instant(expiry) is None
        if undated or not same_terms(instrument, expiry=expiry, strike=strike):
            return unlisted(segment, security_id, symbol=symbol)
        return instrument

    def holding(self, row: wire.HoldingRow) -> Instrument:
        """Return the share a holding is of: by its id where the ISIN agrees, else by its ISIN, else a stand-in.

        The exchange of a holding is usually ``ALL``; NSE is preferred then.
        """
        segments = ("BSE_EQ", "NSE_EQ") if row.exchange == "BSE" else ("NSE_EQ", "BSE_EQ")
        for segment in segments:
            instrument = self.instrument(segment, row.security_id, symbol=row.trading_symbol)
            if instrument.tradable and (row.isin is None or instrument.isin == row.isin):
                return instrument
        if row.isin is not None and isinstance(self._instruments, _KnowsIsins):
            for segment in segments:
                try:
                    return self._instruments.isin(row.isin, exchange=Exchange(segment[:3]))
                except InstrumentError:
                    continue
        return unlisted(segments[0], row.security_id, symbol=row.trading_symbol, isin=row.isin)


@runtime_checkable
class _KnowsIsins(Protocol):
    def isin(self, isin: str, *, exchange: Exchange | None = None) -> Instrument: ...
