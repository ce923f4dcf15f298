"""What one broker's instrument master says, in the library's words and units: what the join is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.instruments.identity import instrument_id

__all__ = ["Listing", "ListingSource", "Listings", "MasterFile", "Progress"]

Progress = Callable[[str, int, int | None], None]
"""Told a file's name, the bytes received so far, and the bytes expected, where known."""


@attrs.define
class Listing:
    """One row of one broker's master.

    Slotted and treated as immutable; not frozen, since a build makes 240,000 of them.
    """

    broker: str
    segment_name: str
    """The broker's own spelling of the segment, such as ``NSE_EQ``."""
    native_id: str
    """The broker's own id, unique within ``segment_name``."""
    token: str | None
    """The exchange's own number for it; None where the broker does not publish it."""
    exchange: Exchange
    kind: InstrumentKind
    symbol: str
    """The exchange's ticker; for a derivative, its underlying's; for an index, its name."""
    name: str = ""
    isin: str | None = None
    series: str | None = None
    """NSE series or BSE group, cash only."""
    lot_size: int = 1
    """Units."""
    tick_size: Decimal = Decimal("0.05")
    """Rupees."""
    freeze_quantity: int | None = None
    """Units; None where the broker publishes none, or only a placeholder."""
    expiry: date | None = None
    strike: Decimal | None = None
    """Rupees."""
    right: OptionRight | None = None
    also_called: tuple[str, ...] = ()
    """Indices: other names by which another broker may know it."""
    id: str = attrs.field(init=False)
    """The canonical id these terms make."""

    def __attrs_post_init__(self) -> None:
        self.id = instrument_id(
            self.exchange, self.kind, self.symbol, self.series, self.expiry, self.strike, self.right
        )

    @property
    def segment(self) -> Segment:
        """Return the market it belongs to."""
        if self.expiry is not None:
            return Segment.DERIVATIVES
        return Segment.INDEX if self.kind is InstrumentKind.INDEX else Segment.CASH

    @property
    def key(self) -> BrokerKey:
        """Return the broker's name for it."""
        return BrokerKey(broker=self.broker, segment=self.segment_name, id=self.native_id)

    def __str__(self) -> str:
        about = (self.id, self.isin, self.series, f"token {self.token}" if self.token else None)
        return f"{self.broker} {self.native_id} ({', '.join(filter(None, about))})"

    def instrument(self) -> Instrument:
        """Return the instrument these terms describe."""
        return Instrument(
            id=self.id,
            exchange=self.exchange,
            segment=self.segment,
            kind=self.kind,
            symbol=self.symbol,
            name=self.name,
            isin=self.isin,
            series=self.series,
            lot_size=self.lot_size,
            tick_size=self.tick_size,
            freeze_quantity=self.freeze_quantity,
            underlying=self.symbol if self.expiry is not None else None,
            expiry=self.expiry,
            strike=self.strike,
            right=self.right,
        )


@attrs.frozen(kw_only=True)
class Listings:
    """All that was read of one broker's master."""

    broker: str
    rows: Sequence[Listing]
    """Cash, indices and equity derivatives of NSE and BSE; other segments are only counted."""
    published: date | None = None
    """The trading day the master is of, in IST, as its server or the caller said; None when nobody did."""
    files: tuple[str, ...] = ()
    """Where it came from, for reports."""
    read: Mapping[str, int] = attrs.field(factory=dict)
    """Rows in the files, kept or not, by the broker's segment."""
    skipped: Mapping[str, int] = attrs.field(factory=dict)
    """Rows of mapped segments that were not kept, by reason."""
    underlying_ids: Mapping[tuple[Exchange, str], BrokerKey] = attrs.field(factory=dict)
    """The id by which derivative rows name an index, where it is not the one quotes use: by exchange and symbol."""

    @cached_property
    def not_after(self) -> date | None:
        """Return the earliest expiry inside: the master cannot be younger, since expired contracts leave it."""
        return min((row.expiry for row in self.rows if row.expiry is not None), default=None)

    @property
    def latest(self) -> date | None:
        """Return the day it is of: as published, else the latest it can be."""
        return self.published or self.not_after


@attrs.frozen(kw_only=True)
class MasterFile:
    """A master on this disk."""

    path: Path
    published: date | None = None
    """Day (IST) its server said it was last modified; None where nobody said."""


@runtime_checkable
class ListingSource(Protocol):
    """What a broker plugin's ``listings()`` returns: where its master comes from, and how it is read."""

    async def download(self, folder: Path, *, clock: Clock, progress: Progress | None = None) -> Sequence[MasterFile]:
        """Bring the broker's current master into ``folder`` and return its files, the main one first.

        ``folder`` is this broker's alone and kept between calls, so unchanged files need not come again.

        Raises:
            NetworkError: It could not be had; nothing in ``folder`` was damaged.
        """
        ...

    def read(self, files: Sequence[Path], *, published: date | None = None) -> Listings:
        """Read a master from files, of any layout this broker ever published.

        Raises:
            ConfigurationError: A file is not what it should be; the message says what it is.
        """
        ...
