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

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

import attrs

from hybridbroker.domain.instrument import SYMBOL_SERIES, Exchange, InstrumentKind, Segment
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.derivatives import group_contracts, usable
from hybridbroker.instruments.evidence import Evidence, Group, Trouble
from hybridbroker.instruments.index_names import canonical_index, normalised
from hybridbroker.instruments.listings import Listing, Listings
from hybridbroker.instruments.merge import Irreconcilable, merge
from hybridbroker.instruments.outcome import Alone, Conflict, ConflictKind, Entry, LeftOut, Outcome, Reason

__all__ = ["join"]


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
    cash, indices = Evidence(_judge_cash), Evidence(_judge_index)
    left_out: list[LeftOut] = []
    distinct: list[Listings] = []
    for master in sorted(masters, key=lambda each: (each.latest or date.min, each.broker), reverse=True):
        sound, doubled = _distinct(master)
        distinct.append(sound)
        for row in doubled:
            trouble = (ConflictKind.DUPLICATE, f"{row.broker} has two rows by one key")
            pieces = _cash_evidence(row) if row.segment is Segment.CASH else []
            cash.place(row, [_key(row), *pieces], trouble)
        for row in sound.rows:
            if row.expiry is not None:
                continue
            if row.kind is InstrumentKind.INDEX:
                _place_index(indices, row)
            elif evidence := _cash_evidence(row):
                cash.place(row, evidence)
            else:
                left_out.append(LeftOut(row.broker, [row.id], [row.key_text], Reason.ANONYMOUS))
    alone, together = group_contracts(list(usable(distinct, left_out)))
    groups = [*cash.groups(), *indices.groups(), *together]
    settled, sound_alone, conflicts = _settle(groups, alone)
    return Outcome(settled=settled, alone=sound_alone, conflicts=conflicts, left_out=left_out)


def _key(row: Listing) -> str:
    return f"{row.broker} {row.segment_name} {row.native_id}"


def _distinct(master: Listings) -> tuple[Listings, Sequence[Listing]]:
    """Return the master without exact repetitions, and apart from it the rows that differ and share a key."""
    by_segment: defaultdict[str, list[str]] = defaultdict(list)
    for row in master.rows:
        by_segment[row.segment_name].append(row.native_id)
    for bulk in master.contracts:
        by_segment[bulk.segment_name] += bulk.native_ids
    if all(len(set(ids)) == len(ids) for ids in by_segment.values()):
        return master, ()
    by_key: defaultdict[str, list[Listing]] = defaultdict(list)
    for row in master:
        if row not in by_key[_key(row)]:
            by_key[_key(row)].append(row)
    sound = [known[0] for known in by_key.values() if len(known) == 1]
    doubled = [row for known in by_key.values() if len(known) > 1 for row in known]
    return attrs.evolve(master, rows=sound, contracts=()), doubled


def _cash_evidence(row: Listing) -> list[str]:
    pieces = []
    if row.isin is not None:
        pieces.append(row.exchange + " ISIN " + row.isin)
    if row.token is not None:
        pieces.append(row.exchange + " token " + row.token)
    return pieces


def _judge_cash(groups: Sequence[Group], row: Listing) -> Trouble | None:
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


def _place_index(evidence: Evidence, row: Listing) -> None:
    names = (row.symbol, *row.also_called)
    canonical = canonical_index(row.exchange, names)
    if canonical is not None:
        names = (canonical,)
        row = row if row.symbol == canonical else attrs.evolve(row, symbol=canonical)
    evidence.place(row, {f"{row.exchange} {normalised(name)}": None for name in names})


def _judge_index(groups: Sequence[Group], _: Listing) -> Trouble | None:
    return (ConflictKind.NAME, "the names of one index are those of two") if len(groups) > 1 else None


_FIELDS: Final = {str(kind): kind for kind in (ConflictKind.LOT, ConflictKind.TICK, ConflictKind.FREEZE)}


def _settle(groups: Iterable[Group], alone: Sequence[Alone]) -> tuple[list[Entry], Sequence[Alone], list[Conflict]]:
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
    alone, doubtful = _apart(alone, contested)
    doubtful += (claims.pop(name) for name in sorted(contested & claims.keys()))
    for entry in doubtful:
        if entry.terms.id not in reported:
            text = f"rows that contradict each other claim {entry.terms.id} too"
            conflicts.append(_conflict(ConflictKind.NAME, text, entry.rows))
    return list(claims.values()), alone, conflicts


def _apart(alone: Sequence[Alone], contested: set[str]) -> tuple[Sequence[Alone], list[Entry]]:
    """Take the contracts whose ids are contested out of those that nobody else lists."""
    doubtful: list[Entry] = []
    kept: list[Alone] = []
    for each in alone:
        hit = [index for index, name in enumerate(each.ids) if name in contested] if contested else []
        doubtful += (Entry(row, (row,)) for row in map(each.contracts.listing, hit))
        rest = each.contracts.without(hit) if hit else each.contracts
        if len(rest):
            kept.append(Alone(rest, rest.ids() if hit else each.ids))
    return kept, doubtful


def _conflict(kind: ConflictKind, text: str, rows: Sequence[Listing]) -> Conflict:
    return Conflict(kind=kind, message=f"{text}: {'; '.join(map(str, rows))}", rows=tuple(rows))
