"""What one broker's instrument master says, in the library's words and units: what the join is fed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.instruments.identity import instrument_id, strike_text

__all__ = ["Contracts", "Listing", "ListingSource", "Listings", "MasterFile", "Progress"]

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

    @property
    def key_text(self) -> str:
        """Return ``str(key)``, without making a key first."""
        return _key_text(self.segment_name, self.native_id)

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


def _key_text(segment: str, native: str) -> str:
    return native if native.startswith(segment) and native[len(segment)] == "|" else f"{segment}:{native}"


@attrs.define
class Contracts:
    """Futures, or one side of a chain, in bulk: what they share is said once.

    Derivatives are nine tenths of a master; as a `Listing` each they would take three times as long
    to read and to join. A plugin may as well give single listings.
    """

    broker: str
    segment_name: str
    exchange: Exchange
    symbol: str
    """The underlying's ticker."""
    expiry: date
    right: OptionRight | None
    """None for futures."""
    lot_size: int
    tick_size: Decimal
    freeze_quantity: int | None = None
    strikes: list[str] = attrs.field(factory=list)
    """Rupees, as ids write them (`strike_text`); empty for a future."""
    native_ids: list[str] = attrs.field(factory=list)
    tokens: list[str | None] = attrs.field(factory=list)
    """The exchange's own numbers."""

    def __len__(self) -> int:
        return len(self.native_ids)

    def ids(self) -> list[str]:
        """Return the canonical id of every contract."""
        head = ":".join((self.exchange, self.symbol, self.expiry.isoformat()))
        if self.right is None:
            return [f"{head}:FUT"] * len(self)
        tail = str(self.right)
        return [f"{head}:{strike}:{tail}" for strike in self.strikes]

    def keys(self) -> list[str]:
        """Return what the broker calls each, as ``str(BrokerKey)`` writes it."""
        return [_key_text(self.segment_name, native) for native in self.native_ids]

    def listing(self, index: int) -> Listing:
        """Return one contract by itself."""
        return Listing(
            self.broker,
            self.segment_name,
            self.native_ids[index],
            self.tokens[index],
            self.exchange,
            InstrumentKind.FUTURE if self.right is None else InstrumentKind.OPTION,
            self.symbol,
            "",
            None,
            None,
            self.lot_size,
            self.tick_size,
            self.freeze_quantity,
            self.expiry,
            None if self.right is None else Decimal(self.strikes[index]),
            self.right,
        )

    def without(self, indices: Collection[int]) -> Contracts:
        """Return all but some of the contracts."""
        gone = set(indices)
        kept = [index for index in range(len(self)) if index not in gone]
        return attrs.evolve(
            self,
            strikes=[self.strikes[index] for index in kept],
            native_ids=[self.native_ids[index] for index in kept],
            tokens=[self.tokens[index] for index in kept],
        )

    @classmethod
    def of(cls, row: Listing) -> Self:
        """Return a single listing of a derivative in this form."""
        if row.expiry is None:
            raise ValueError(f"{row} is no derivative")
        return cls(
            row.broker,
            row.segment_name,
            row.exchange,
            row.symbol,
            row.expiry,
            row.right,
            row.lot_size,
            row.tick_size,
            row.freeze_quantity,
            ["" if row.strike is None else strike_text(row.strike)],
            [row.native_id],
            [row.token],
        )


@attrs.frozen(kw_only=True)
class Listings:
    """All that was read of one broker's master: cash, indices and equity derivatives of NSE and BSE."""

    broker: str
    rows: Sequence[Listing] = ()
    contracts: Sequence[Contracts] = ()
    """Derivatives in bulk, besides those in ``rows``."""
    published: date | None = None
    """The trading day the master is of, in IST, as its server or the caller said; None when nobody did."""
    files: tuple[str, ...] = ()
    """Where it came from, for reports."""
    read: Mapping[str, int] = attrs.field(factory=dict)
    """Rows in the files, kept or not, by the broker's segment."""
    skipped: Mapping[str, int] = attrs.field(factory=dict)
    """Rows that were not kept, by reason."""
    underlying_ids: Mapping[tuple[Exchange, str], BrokerKey] = attrs.field(factory=dict)
    """The id by which derivative rows name an index, where it is not the one quotes use: by exchange and symbol."""

    def __len__(self) -> int:
        return len(self.rows) + sum(map(len, self.contracts))

    def __iter__(self) -> Iterator[Listing]:
        """Iterate over everything, one by one."""
        yield from self.rows
        for bulk in self.contracts:
            yield from map(bulk.listing, range(len(bulk)))

    @cached_property
    def not_after(self) -> date | None:
        """Return the earliest expiry inside: the master cannot be younger, since expired contracts leave it."""
        days = [row.expiry for row in self.rows if row.expiry is not None]
        return min([*days, *(bulk.expiry for bulk in self.contracts)], default=None)

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
