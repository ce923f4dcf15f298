"""Option chains: every strike of one expiry, calls beside puts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Greeks, is_aware

__all__ = ["OptionChain", "OptionQuote", "Strike"]


@attrs.frozen(kw_only=True)
class OptionQuote:
    """One contract of a chain as the broker shows it; absent is None, never 0. Prices are rupees."""

    instrument: Instrument
    last_price: float | None = None
    bid_price: float | None = None
    bid_quantity: int | None = None
    ask_price: float | None = None
    ask_quantity: int | None = None
    volume: int | None = None
    open_interest: int | None = None
    previous_close: float | None = None
    previous_open_interest: int | None = None
    greeks: Greeks | None = None


@attrs.frozen(kw_only=True)
class Strike:
    """One strike price; a side that the broker or the registry does not list is None."""

    price: float
    call: OptionQuote | None = None
    put: OptionQuote | None = None


@attrs.frozen(kw_only=True)
class OptionChain:
    """All strikes of one expiry, lowest first."""

    underlying: Instrument
    expiry: date
    underlying_price: float | None
    strikes: tuple[Strike, ...]
    read_at: datetime = attrs.field(validator=is_aware)
    """When the answer came: brokers state no time of their own."""
    unlisted: int = 0
    """Contracts the broker shows and the registry does not know; left out."""

    def __iter__(self) -> Iterator[Strike]:
        return iter(self.strikes)

    def __len__(self) -> int:
        return len(self.strikes)
