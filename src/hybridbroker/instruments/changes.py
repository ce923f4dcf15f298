"""What changed from one build to the next: new, gone, renamed, other terms, tokens given out again."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Final

import attrs

from hybridbroker.instruments import store
from hybridbroker.instruments.rows import Terms, unpack_terms

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
    SELECT new.id, old.id, new.id FROM new.cash new
    JOIN old.cash old ON old.isin = new.isin AND old.exchange = new.exchange WHERE old.id <> new.id
"""
_ONLY: Final = """
    SELECT here.id, NULL, NULL FROM {here}.instrument here LEFT JOIN {there}.instrument there ON there.id = here.id
    WHERE there.id IS NULL
"""
_QUARANTINED: Final = """
    SELECT old.id, NULL, NULL FROM old.instrument old JOIN new.contested new ON new.name = old.id
"""
_TERMS: Final = """
    SELECT new.id, old.terms, new.terms FROM new.instrument new JOIN old.instrument old ON old.id = new.id
    WHERE old.terms <> new.terms
"""
_REUSED: Final = """
    SELECT new.id, old.id, new.{column}, old.terms, new.terms FROM new.instrument new
    JOIN old.instrument old ON old.{column} = new.{column} WHERE old.id <> new.id
"""
_MOVED: Final = """
    SELECT new.id, old.{column}, new.{column} FROM new.instrument new JOIN old.instrument old ON old.id = new.id
    WHERE old.{column} <> new.{column}
"""
_FIELDS: Final = {
    ChangeKind.ISIN: "isin",
    ChangeKind.SERIES: "series",
    ChangeKind.LOT: "lot_size",
    ChangeKind.TICK: "tick_size",
    ChangeKind.FREEZE: "freeze_quantity",
}


def changes_between(old: Path | bytes, new: Path | bytes) -> Changes:
    """Compare two builds, each a file or the contents of one."""
    with closing(sqlite3.connect(":memory:", uri=True, isolation_level=None)) as connection:
        _attach(connection, "old", old)
        _attach(connection, "new", new)
        before, after = store.brokers_of(connection, "old"), store.brokers_of(connection, "new")
        shared = {broker: column for broker, column in after.items() if broker in before}

        def rows(kind: ChangeKind, query: str) -> list[Change]:
            return [Change(kind, *row) for row in connection.execute(query)]

        renamed = rows(ChangeKind.RENAMED, _RENAMED)
        quarantined = rows(ChangeKind.QUARANTINED, _QUARANTINED)
        told = {name for each in renamed for name in (each.id, each.before)} | {each.id for each in quarantined}
        renames = {(each.before, each.id) for each in renamed}
        fresh = rows(ChangeKind.NEW, _ONLY.format(here="new", there="old"))
        gone = rows(ChangeKind.GONE, _ONLY.format(here="old", there="new"))
        found = [each for each in (*fresh, *gone) if each.id not in told] + renamed + quarantined
        for name, *terms in connection.execute(_TERMS):
            found += _other_terms(name, *map(unpack_terms, terms))
        for broker, column in shared.items():
            for name, was, key, *terms in connection.execute(_REUSED.format(column=column)):
                if (was, name) not in renames:
                    kind = ChangeKind.RENAMED if _one_company(*map(unpack_terms, terms)) else ChangeKind.TOKEN
                    found.append(Change(kind, name, was, f"{broker} {key}"))
            for name, *keys in connection.execute(_MOVED.format(column=column)):
                found.append(Change(ChangeKind.KEY, name, *(f"{broker} {key}" for key in keys)))
    kinds = list(ChangeKind)
    return Changes(sorted(found, key=lambda each: (kinds.index(each.kind), each.id)))


def _other_terms(name: str, was: Terms, now: Terms) -> Iterator[Change]:
    for kind, field in _FIELDS.items():
        before, after = getattr(was, field), getattr(now, field)
        if before != after:
            yield Change(kind, name, _text(before), _text(after))


def _one_company(was: Terms, now: Terms) -> bool:
    # The first seven characters of an ISIN name the issuer; the rest changes with a split.
    return was.isin is not None and now.isin is not None and was.isin[:7] == now.isin[:7]


def _attach(connection: sqlite3.Connection, name: str, source: Path | bytes) -> None:
    if isinstance(source, bytes):
        connection.execute(f"ATTACH ':memory:' AS {name}")
        connection.deserialize(source, name=name)
    else:
        connection.execute(f"ATTACH ? AS {name}", (f"{source.resolve().as_uri()}?mode=ro&immutable=1",))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
