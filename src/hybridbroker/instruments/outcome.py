"""What a join makes: instruments, quarantined contradictions, and what was left out, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import attrs

from hybridbroker.instruments.listings import Contracts, Listing

__all__ = ["Alone", "Conflict", "ConflictKind", "Entry", "LeftOut", "Outcome", "Reason"]


class ConflictKind(StrEnum):
    """What rows contradict each other in."""

    DUPLICATE = "duplicate"
    """One broker lists it twice, differently."""
    TOKEN = "token"  # noqa: S105 - the exchange's number, no secret
    """ISIN or terms agree, the exchange's token does not."""
    TERMS = "terms"
    """One token, two derivatives."""
    ISIN = "isin"
    """One token, two papers."""
    SERIES = "series"
    """One ISIN in two kinds of series."""
    NAME = "name"
    """Two instruments claim one id."""
    LOT = "lot size"
    TICK = "tick size"
    FREEZE = "freeze quantity"


class Reason(StrEnum):
    """Why a row of a mapped segment is in no instrument."""

    EXPIRED = "expired"
    UNCHECKABLE = "no exchange token to check its terms against"
    ANONYMOUS = "neither ISIN nor exchange token"


@attrs.define
class Entry:
    """One instrument that can be used: its terms, and the row of each broker that lists it."""

    terms: Listing
    rows: Sequence[Listing]


@attrs.frozen(kw_only=True)
class Conflict:
    """Rows that contradict each other; using any of their ids or keys raises `InstrumentConflict`."""

    kind: ConflictKind
    message: str
    rows: Sequence[Listing]


@attrs.frozen
class LeftOut:
    """Rows of a carried segment that are in no instrument."""

    broker: str
    ids: Sequence[str]
    keys: Sequence[str]
    """As ``str(BrokerKey)`` writes them."""
    reason: Reason


@attrs.define
class Alone:
    """Derivatives that share neither terms nor token with any other row, in bulk."""

    contracts: Contracts
    ids: Sequence[str]


@attrs.frozen(kw_only=True)
class Outcome:
    """What a join made."""

    settled: Sequence[Entry]
    """Instruments but for those in ``alone``."""
    alone: Sequence[Alone]
    """Derivatives of one broker, nine tenths of all, usable there."""
    conflicts: Sequence[Conflict]
    left_out: Sequence[LeftOut]

    def __len__(self) -> int:
        return len(self.settled) + sum(len(each.ids) for each in self.alone)

    def entries(self) -> Iterator[Entry]:
        """Iterate over every instrument that can be used."""
        yield from self.settled
        for each in self.alone:
            for index in range(len(each.ids)):
                row = each.contracts.listing(index)
                yield Entry(row, (row,))
