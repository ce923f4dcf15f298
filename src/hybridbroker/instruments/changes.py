"""What changed from one build to the next: new, gone, renamed, other terms, tokens given out again."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Final

import attrs

__all__ = ["Change", "ChangeKind", "Changes", "changes_between"]


class ChangeKind(StrEnum):
    """What changed."""

    NEW = "new"
    GONE = "gone"
    RENAMED = "renamed"
    """The same paper (ISIN and exchange) under another id."""
    ISIN = "ISIN changed"
    SERIES = "series moved"
    LOT = "lot size"
    TICK = "tick size"
    FREEZE = "freeze quantity"
    TOKEN = "token reused"  # noqa: S105 - the exchange's number, no secret
    """A broker's key names another instrument than it did."""
    KEY = "key changed"
    """A broker calls the instrument something else than it did."""
    QUARANTINED = "quarantined"
    """Its id could be used and now cannot."""


@attrs.frozen
class Change:
    """One difference."""

    kind: ChangeKind
    id: str
    """The instrument's id now; for what is gone, its last."""
    before: str | None = None
    after: str | None = None


@attrs.frozen(slots=False)
class Changes:
    """All differences between two builds."""

    all: Sequence[Change]

    @cached_property
    def counts(self) -> Mapping[ChangeKind, int]:
        """Return how many there are of each kind."""
        return Counter(change.kind for change in self.all)

    def of(self, kind: ChangeKind) -> tuple[Change, ...]:
        """Return those of one kind, in order of id."""
        return tuple(change for change in self.all if change.kind is kind)

    def __len__(self) -> int:
        return len(self.all)


_RENAMED: Final = """
    SELECT new.id, old.id AS was FROM new.instrument new
    JOIN old.instrument old ON old.isin = new.isin AND old.exchange = new.exchange
    WHERE new.isin IS NOT NULL AND old.id <> new.id
"""
_FIELDS: Final = {
    ChangeKind.ISIN: "isin",
    ChangeKind.SERIES: "series",
    ChangeKind.LOT: "lot_size",
    ChangeKind.TICK: "tick_size",
    ChangeKind.FREEZE: "freeze_quantity",
}
_QUERIES: Final = {
    ChangeKind.RENAMED: _RENAMED,
}
