"""Several brokers' listings -> instruments, conflicts, what is left out: pure, and never by guess.

What makes two rows one instrument:

- Cash: the same exchange and ISIN. A token that differs all the same is believed only where the NSE
  series differs too, since a share gets a new token when it moves between series. The same token
  under another ISIN counts only with the same symbol.
- Derivatives: the same exchange token *and* the same terms (underlying, expiry, strike, right).
  Tokens are given out again within weeks, and terms change under a live token.
- Indices: the same name by the reviewed table, or spelt alike. Never a token.

Rows whose evidence points at one another and does not agree are quarantined, all of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from datetime import date
from enum import StrEnum
from typing import Final

import attrs

from hybridbroker.domain.instrument import SYMBOL_SERIES, Exchange, InstrumentKind
from hybridbroker.instruments.index_names import canonical_index, normalised
from hybridbroker.instruments.listings import Listing, Listings
from hybridbroker.instruments.merge import Irreconcilable, merge

__all__ = ["Conflict", "ConflictKind", "Entry", "LeftOut", "Outcome", "Reason", "join"]


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

    EXPIRED = "expired before the youngest master"
    NO_TOKEN = "no exchange token to check its terms against"  # noqa: S105 - the exchange's number


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
    """A row of a mapped segment that is in no instrument."""

    row: Listing
    reason: Reason


@attrs.frozen(kw_only=True)
class Outcome:
    """What a join made."""

    entries: Sequence[Entry]
    conflicts: Sequence[Conflict]
    left_out: Sequence[LeftOut]


_Trouble = tuple[ConflictKind, str]


class _Group(list[Listing]):
    """Rows that evidence holds together."""

    __slots__ = ("absorbed_by", "trouble")

    def __init__(self, row: Listing) -> None:
        super().__init__((row,))
        self.trouble: _Trouble | None = None
        self.absorbed_by: _Group | None = None


class _Evidence:
    """Which group each piece of evidence (an ISIN, a token, a name) has led to so far."""

    def __init__(self) -> None:
        self._by: dict[Hashable, _Group] = {}
        self._all: list[_Group] = []

    def groups(self) -> list[_Group]:
        """Return every group once."""
        return [group for group in self._all if group.absorbed_by is None]

    def at(self, piece: Hashable) -> _Group | None:
        """Return the group that ``piece`` leads to."""
        group = self._by.get(piece)
        while group is not None and group.absorbed_by is not None:
            group = group.absorbed_by
        return group

    def start(self, row: Listing, pieces: Iterable[Hashable]) -> None:
        """Begin a group with ``row``."""
        group = _Group(row)
        self._all.append(group)
        for piece in pieces:
            self._by[piece] = group

    def extend(
        self, groups: Sequence[_Group], row: Listing, pieces: Iterable[Hashable], trouble: _Trouble | None = None
    ) -> None:
        """Make one group of ``groups`` and ``row``; with trouble of any of them it is one to quarantine."""
        group, *others = groups
        for other in others:
            group += other
            group.trouble = group.trouble or other.trouble
            other.absorbed_by = group
        twins = [known for known in group if known.broker == row.broker]
        if row not in twins:
            if twins:
                trouble = trouble or (ConflictKind.DUPLICATE, f"{row.broker} lists it twice, differently")
            group.append(row)
        group.trouble = group.trouble or trouble
        for piece in pieces:
            self._by[piece] = group


def join(masters: Sequence[Listings]) -> Outcome:
    """Put every broker's rows together; the order of ``masters`` changes nothing.

    Names come from the youngest master. Derivatives that expired before the day it is of are left out.
    """
    youngest_first = sorted(masters, key=lambda each: (each.latest or date.min, each.broker), reverse=True)
    today = youngest_first[0].latest if youngest_first else None
    cash, indices, derivatives = _Evidence(), _Evidence(), _Evidence()
    left_out: list[LeftOut] = []
    for master in youngest_first:
        for row in master.rows:
            if row.expiry is not None:
                if today is not None and row.expiry < today:
                    left_out.append(LeftOut(row, Reason.EXPIRED))
                elif row.token is None:
                    left_out.append(LeftOut(row, Reason.NO_TOKEN))
                else:
                    _place_derivative(derivatives, row)
            elif row.kind is InstrumentKind.INDEX:
                _place_index(indices, row)
            else:
                _place_cash(cash, row)
    entries, conflicts = _settle([*cash.groups(), *indices.groups(), *derivatives.groups()])
    return Outcome(entries=entries, conflicts=conflicts, left_out=left_out)


def _place_derivative(evidence: _Evidence, row: Listing) -> None:
    number = (row.exchange, row.token)
    same_terms, same_token = evidence.at(row.id), evidence.at(number)
    if same_terms is None and same_token is None:
        evidence.start(row, (row.id, number))
    elif same_terms is not None and same_terms is same_token:
        evidence.extend([same_terms], row, ())
    elif same_terms is None and same_token is not None:
        evidence.extend([same_token], row, (row.id,), (ConflictKind.TERMS, "one exchange token, other terms"))
    else:
        involved = [group for group in (same_terms, same_token) if group is not None]
        trouble = (ConflictKind.TOKEN, "the same terms under another exchange token")
        evidence.extend(involved, row, (row.id, number), trouble)


def _place_cash(evidence: _Evidence, row: Listing) -> None:
    paper = None if row.isin is None else (row.exchange, row.isin)
    number = None if row.token is None else (row.exchange, row.token)
    pieces = [piece for piece in (paper, number) if piece is not None]
    same_isin = None if paper is None else evidence.at(paper)
    same_token = None if number is None else evidence.at(number)
    if same_isin is not None and same_token is not None and same_isin is not same_token:
        trouble = (ConflictKind.TOKEN, "the ISIN is one paper's, the exchange token another's")
        evidence.extend([same_isin, same_token], row, pieces, trouble)
    elif (group := same_isin if same_isin is not None else same_token) is not None:
        evidence.extend([group], row, pieces, _cash_trouble(group, row))
    else:
        evidence.start(row, pieces)


def _cash_trouble(group: Iterable[Listing], row: Listing) -> _Trouble | None:
    for known in group:
        if _series_class(known) != _series_class(row):
            return ConflictKind.SERIES, "one paper in two kinds of series"
        if known.isin is not None and known.isin == row.isin:
            moved = row.exchange is Exchange.NSE and known.series != row.series
            if known.token != row.token and not moved and known.token is not None and row.token is not None:
                return ConflictKind.TOKEN, "the same ISIN and series under another exchange token"
        elif known.symbol != row.symbol:
            return ConflictKind.ISIN, "one exchange token, another ISIN and symbol"
    return None


def _series_class(row: Listing) -> str | None:
    # A share moves between these series on NSE, and between all groups on BSE; other NSE series are other papers.
    return "share" if row.exchange is not Exchange.NSE or row.series in SYMBOL_SERIES else row.series


def _place_index(evidence: _Evidence, row: Listing) -> None:
    names = (row.symbol, *row.also_called)
    canonical = canonical_index(row.exchange, names)
    if canonical is not None:
        names = (canonical,)
        row = row if row.symbol == canonical else attrs.evolve(row, symbol=canonical)
    pieces = {(row.exchange, normalised(name)): None for name in names}
    hits = list({id(group): group for piece in pieces if (group := evidence.at(piece)) is not None}.values())
    if not hits:
        evidence.start(row, pieces)
        return
    trouble = (ConflictKind.NAME, "the names of one index are those of two") if len(hits) > 1 else None
    evidence.extend(hits, row, pieces, trouble)


_FIELDS: Final = {str(kind): kind for kind in (ConflictKind.LOT, ConflictKind.TICK, ConflictKind.FREEZE)}


def _settle(groups: Iterable[_Group]) -> tuple[list[Entry], list[Conflict]]:
    """Give every sound group its terms and its id; an id that is claimed twice is nobody's."""
    claims: dict[str, Entry] = {}
    conflicts: list[Conflict] = []
    contested: set[str] = set()
    reported: set[str] = set()
    for group in groups:
        trouble = group.trouble
        terms = group[0]
        if trouble is None and len(group) > 1:
            try:
                terms = merge(group)
            except Irreconcilable as exc:
                field, one, other = exc.args
                trouble = (_FIELDS[field], f"{field} {one} and {other}")
        if trouble is not None:
            conflicts.append(_conflict(*trouble, group))
            contested.update(row.id for row in group)
        elif (rival := claims.get(terms.id)) is not None:
            conflicts.append(_conflict(ConflictKind.NAME, f"two papers are called {terms.id}", [*rival.rows, *group]))
            contested.add(terms.id)
            reported.add(terms.id)
        else:
            claims[terms.id] = Entry(terms, group)
    for name in contested & claims.keys():
        entry = claims.pop(name)
        if name not in reported:
            text = f"rows that contradict each other claim {name} too"
            conflicts.append(_conflict(ConflictKind.NAME, text, entry.rows))
    return list(claims.values()), conflicts


def _conflict(kind: ConflictKind, text: str, rows: Sequence[Listing]) -> Conflict:
    return Conflict(kind=kind, message=f"{text}: {'; '.join(map(str, rows))}", rows=tuple(rows))
