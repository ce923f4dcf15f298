"""Rows held together by evidence: an ISIN, a token, a name; whatever leads to two groups makes them one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hybridbroker.instruments.listings import Listing
from hybridbroker.instruments.outcome import ConflictKind

__all__ = ["Evidence", "Group", "Trouble", "listed_twice"]

Trouble = tuple[ConflictKind, str]


class Group(list[Listing]):
    """Rows that evidence holds together."""

    __slots__ = ("absorbed_by", "trouble")

    def __init__(self, row: Listing) -> None:
        super().__init__((row,))
        self.trouble: Trouble | None = None
        self.absorbed_by: Group | None = None


class Evidence:
    """Which group each piece of evidence (an ISIN, a token, a name) has led to so far."""

    def __init__(self, judge: Callable[[Sequence[Group], Listing], Trouble | None]) -> None:
        self._judge = judge
        self._by: dict[str, Group] = {}
        self._all: list[Group] = []

    def groups(self) -> list[Group]:
        """Return every group once."""
        return [group for group in self._all if group.absorbed_by is None]

    def place(self, row: Listing, pieces: Iterable[str], trouble: Trouble | None = None) -> None:
        """Put the row into one group with all that its evidence leads to; a conflict where they disagree."""
        hits = self._hits(pieces)
        group = hits[0] if hits else Group(row)
        if hits:
            trouble = trouble or self._judge(hits, row) or listed_twice(group, row)
            group.append(row)
        else:
            self._all.append(group)
        for other in hits[1:]:
            group += other
            group.trouble = group.trouble or other.trouble
            other.absorbed_by = group
        group.trouble = group.trouble or trouble
        for piece in pieces:
            self._by[piece] = group

    def _hits(self, pieces: Iterable[str]) -> list[Group]:
        hits: list[Group] = []
        for piece in pieces:
            group = self._by.get(piece)
            if group is None:
                continue
            while group.absorbed_by is not None:
                group = group.absorbed_by
            if not (hits and any(group is known for known in hits)):
                hits.append(group)
        return hits


def listed_twice(group: Iterable[Listing], row: Listing) -> Trouble | None:
    """Return the trouble of a group that already holds a row of the same broker."""
    if any(known.broker == row.broker for known in group):
        return ConflictKind.DUPLICATE, f"{row.broker} lists it twice, differently"
    return None
