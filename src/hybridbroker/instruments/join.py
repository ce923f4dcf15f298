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

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from enum import StrEnum
from operator import attrgetter
from typing import Final

import attrs

from hybridbroker.domain.instrument import SYMBOL_SERIES, Exchange, InstrumentKind, Segment
from hybridbroker.errors import ConfigurationError
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

    def __init__(self, judge: Callable[[Sequence[_Group], Listing], _Trouble | None]) -> None:
        self._judge = judge
        self._by: dict[str, _Group] = {}
        self._all: list[_Group] = []

    def groups(self) -> list[_Group]:
        """Return every group once."""
        return [group for group in self._all if group.absorbed_by is None]

    def place(self, row: Listing, pieces: Iterable[str], trouble: _Trouble | None = None) -> None:
        """Put the row into one group with all that its evidence leads to; a conflict where they disagree."""
        hits = self._hits(pieces)
        group = hits[0] if hits else _Group(row)
        if hits:
            trouble = trouble or self._judge(hits, row) or _listed_twice(group, row)
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

    def _hits(self, pieces: Iterable[str]) -> list[_Group]:
        hits: list[_Group] = []
        for piece in pieces:
            group = self._by.get(piece)
            while group is not None and group.absorbed_by is not None:
                group = group.absorbed_by
            if group is not None and not any(group is known for known in hits):
                hits.append(group)
        return hits


def join(masters: Sequence[Listings]) -> Outcome:
    """Put every broker's rows together; the order of ``masters`` changes nothing.

    Names come from the youngest master. Derivatives that expired before any master was published are
    left out; where nobody knows the youngest one's day, those of older masters that expired before
    anything it lists on the same underlying.

    Raises:
        ConfigurationError: Two masters are of one broker.
    """
    if len({master.broker for master in masters}) != len(masters):
        raise ConfigurationError("two masters of one broker; give its files together")
    cash, indices = _Evidence(_judge_cash), _Evidence(_judge_index)
    derivatives: list[Listing] = []
    left_out: list[LeftOut] = []
    for master, expired in _youngest_first(masters):
        rows, twice = _distinct(master)
        for row in rows:
            if twice and _key(row) in twice:
                trouble = (ConflictKind.DUPLICATE, f"{row.broker} has two rows by one key")
                cash.place(row, [_key(row), *_cash_evidence(row)], trouble)
            elif row.expiry is not None:
                if expired(row):
                    left_out.append(LeftOut(row, Reason.EXPIRED))
                elif row.token is None:
                    left_out.append(LeftOut(row, Reason.UNCHECKABLE))
                else:
                    derivatives.append(row)
            elif row.kind is InstrumentKind.INDEX:
                _place_index(indices, row)
            elif evidence := _cash_evidence(row):
                cash.place(row, evidence)
            else:
                left_out.append(LeftOut(row, Reason.ANONYMOUS))
    alone, together = _group_derivatives(derivatives)
    entries, conflicts = _settle([*cash.groups(), *indices.groups(), *together], alone)
    return Outcome(entries=entries, conflicts=conflicts, left_out=left_out)


_native: Final = attrgetter("segment_name", "native_id")


def _key(row: Listing) -> str:
    return f"{row.broker} {row.segment_name} {row.native_id}"


def _youngest_first(masters: Sequence[Listings]) -> Iterator[tuple[Listings, Callable[[Listing], bool]]]:
    """Yield the masters with what says whether a contract of theirs has expired."""
    dated = [(master.latest or date.min, master.broker, master) for master in masters]
    dated.sort(reverse=True)
    today = max((master.published for master in masters if master.published is not None), default=date.min)
    newest, _, youngest = dated[0] if dated else (date.min, "", None)
    first: dict[str, date] = {}
    if youngest is not None and youngest.published is None:
        for row in youngest.rows:
            if row.expiry is not None and row.expiry < first.get(row.exchange + row.symbol, date.max):
                first[row.exchange + row.symbol] = row.expiry
    for day, _, master in dated:
        if day < newest and first:
            yield (
                master,
                lambda row: row.expiry is not None and row.expiry < first.get(row.exchange + row.symbol, today),
            )
        else:
            yield master, lambda row: row.expiry is not None and row.expiry < today


def _distinct(master: Listings) -> tuple[Sequence[Listing], frozenset[str]]:
    """Return the rows without exact repetitions, and the keys that rows which differ share all the same."""
    if len(set(map(_native, master.rows))) == len(master.rows):
        return master.rows, frozenset()
    keys = [_key(row) for row in master.rows]
    by_key: defaultdict[str, list[Listing]] = defaultdict(list)
    for key, row in zip(keys, master.rows, strict=True):
        if row not in by_key[key]:
            by_key[key].append(row)
    rows = [row for known in by_key.values() for row in known]
    return rows, frozenset(key for key, known in by_key.items() if len(known) > 1)


def _listed_twice(group: Iterable[Listing], row: Listing) -> _Trouble | None:
    if any(known.broker == row.broker for known in group):
        return ConflictKind.DUPLICATE, f"{row.broker} lists it twice, differently"
    return None


def _cash_evidence(row: Listing) -> list[str]:
    if row.segment is not Segment.CASH:
        return []
    paper = [] if row.isin is None else [f"{row.exchange} ISIN {row.isin}"]
    return paper if row.token is None else [*paper, f"{row.exchange} token {row.token}"]


def _judge_cash(groups: Sequence[_Group], row: Listing) -> _Trouble | None:
    if len(groups) > 1:
        return ConflictKind.TOKEN, "the ISIN is one paper's, the exchange token another's"
    for known in groups[0]:
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
    evidence.place(row, {f"{row.exchange} {normalised(name)}": None for name in names})


def _judge_index(groups: Sequence[_Group], _: Listing) -> _Trouble | None:
    return (ConflictKind.NAME, "the names of one index are those of two") if len(groups) > 1 else None


def _group_derivatives(rows: Sequence[Listing]) -> tuple[list[Listing], list[_Group]]:
    """Return the rows that share neither terms nor token with any other, and groups of those that do."""
    numbers = [row.exchange + str(row.token) for row in rows]
    by_terms = Counter(row.id for row in rows)
    by_token = Counter(numbers)
    alone: list[Listing] = []
    shared: list[tuple[Listing, str]] = []
    for row, number in zip(rows, numbers, strict=True):
        if by_terms[row.id] == 1 and by_token[number] == 1:
            alone.append(row)
        else:
            shared.append((row, number))
    by_both = Counter((row.id, number) for row, number in shared)
    agreed: dict[str, _Group] = {}
    evidence = _Evidence(_judge_derivative)
    for row, number in shared:
        if not by_terms[row.id] == by_token[number] == by_both[row.id, number]:
            evidence.place(row, (row.id, number))
        elif (group := agreed.get(row.id)) is None:
            agreed[row.id] = _Group(row)
        else:
            group.trouble = group.trouble or _listed_twice(group, row)
            group.append(row)
    return alone, [*agreed.values(), *evidence.groups()]


def _judge_derivative(groups: Sequence[_Group], row: Listing) -> _Trouble | None:
    known = [each for group in groups for each in group]
    if all(each.id == row.id and each.token == row.token for each in known):
        return None
    if any(each.id == row.id for each in known):
        return ConflictKind.TOKEN, "the same terms under another exchange token"
    return ConflictKind.TERMS, "one exchange token, other terms"


_FIELDS: Final = {str(kind): kind for kind in (ConflictKind.LOT, ConflictKind.TICK, ConflictKind.FREEZE)}


def _settle(groups: Iterable[_Group], alone: Iterable[Listing]) -> tuple[list[Entry], list[Conflict]]:
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
    # Derivatives that share nothing with any other row can clash with nothing but a contested id.
    entries = [Entry(row, (row,)) for row in alone]
    doubtful = [entry for entry in entries if entry.terms.id in contested]
    if doubtful:
        entries = [entry for entry in entries if entry.terms.id not in contested]
    doubtful += [claims.pop(name) for name in sorted(contested & claims.keys())]
    for entry in doubtful:
        if entry.terms.id not in reported:
            text = f"rows that contradict each other claim {entry.terms.id} too"
            conflicts.append(_conflict(ConflictKind.NAME, text, entry.rows))
    return [*claims.values(), *entries], conflicts


def _conflict(kind: ConflictKind, text: str, rows: Sequence[Listing]) -> Conflict:
    return Conflict(kind=kind, message=f"{text}: {'; '.join(map(str, rows))}", rows=tuple(rows))
