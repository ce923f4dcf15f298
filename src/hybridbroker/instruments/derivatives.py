"""Which derivatives are one contract: the same token and the same terms, or nothing. Pure.

A derivative's canonical id is its terms, so ids and tokens are all that has to be compared: a
hundred and fifty thousand rows that nobody else lists are told apart as sets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import chain

from hybridbroker.instruments.evidence import Evidence, Group, Trouble, listed_twice
from hybridbroker.instruments.listings import Contracts, Listing, Listings
from hybridbroker.instruments.outcome import Alone, ConflictKind, LeftOut, Reason

__all__ = ["group_contracts", "usable"]


def usable(masters: Sequence[Listings], left_out: list[LeftOut]) -> Iterator[Contracts]:
    """Yield what may be used, noting the rest: what has expired, and what no token confirms."""
    for master, today, first in _youngest_first(masters):
        for bulk in chain(master.contracts, (Contracts.of(row) for row in master.rows if row.expiry is not None)):
            if bulk.expiry < first.get(bulk.exchange + bulk.symbol, today):
                left_out.append(LeftOut(bulk.broker, bulk.ids(), bulk.keys(), Reason.EXPIRED))
            elif None in bulk.tokens:
                left_out.append(LeftOut(bulk.broker, bulk.ids(), bulk.keys(), Reason.UNCHECKABLE))
            else:
                yield bulk


def group_contracts(contracts: Sequence[Contracts]) -> tuple[list[Alone], list[Group]]:
    """Return the contracts that share neither terms nor token with any other, and groups of those that do."""
    ids = [bulk.ids() for bulk in contracts]
    numbers = [[bulk.exchange + str(token) for token in bulk.tokens] for bulk in contracts]
    by_terms, by_token = _repeated(contracts, ids), _repeated(contracts, numbers)
    alone: list[Alone] = []
    shared: list[tuple[Listing, str]] = []
    for bulk, names, tokens in zip(contracts, ids, numbers, strict=True):
        if by_terms.isdisjoint(names) and by_token.isdisjoint(tokens):
            alone.append(Alone(bulk, names))
            continue
        pairs = enumerate(zip(names, tokens, strict=True))
        meeting = [index for index, (name, number) in pairs if name in by_terms or number in by_token]
        shared += ((bulk.listing(index), tokens[index]) for index in meeting)
        rest = bulk.without(meeting)
        if len(rest):
            alone.append(Alone(rest, rest.ids()))
    return alone, _group(shared)


def _repeated(contracts: Sequence[Contracts], names: Sequence[Sequence[str]]) -> set[str]:
    """Return what occurs more than once, at one broker or at several."""
    by_broker: defaultdict[str, list[str]] = defaultdict(list)
    for bulk, each in zip(contracts, names, strict=True):
        by_broker[bulk.broker] += each
    seen: set[str] = set()
    repeated: set[str] = set()
    for each in by_broker.values():
        here = set(each)
        if len(here) < len(each):
            repeated |= {name for name, count in Counter(each).items() if count > 1}
        repeated |= seen & here
        seen |= here
    return repeated


def _group(shared: Sequence[tuple[Listing, str]]) -> list[Group]:
    by_terms = Counter(row.id for row, _ in shared)
    by_token = Counter(number for _, number in shared)
    by_both = Counter((row.id, number) for row, number in shared)
    agreed: dict[str, Group] = {}
    evidence = Evidence(_judge)
    for row, number in shared:
        if not by_terms[row.id] == by_token[number] == by_both[row.id, number]:
            evidence.place(row, (row.id, number))
        elif (group := agreed.get(row.id)) is None:
            agreed[row.id] = Group(row)
        else:
            group.trouble = group.trouble or listed_twice(group, row)
            group.append(row)
    return [*agreed.values(), *evidence.groups()]


def _judge(groups: Sequence[Group], row: Listing) -> Trouble | None:
    known = [each for group in groups for each in group]
    if all(each.id == row.id and each.token == row.token for each in known):
        return None
    if any(each.id == row.id for each in known):
        return ConflictKind.TOKEN, "the same terms under another exchange token"
    return ConflictKind.TERMS, "one exchange token, other terms"


def _youngest_first(masters: Sequence[Listings]) -> Iterator[tuple[Listings, date, dict[str, date]]]:
    """Yield every master with the day before which its contracts have expired: of all, and by underlying."""
    youngest_first = sorted(masters, key=lambda each: each.latest or date.min, reverse=True)
    today = max((master.published for master in masters if master.published is not None), default=date.min)
    first: dict[str, date] = {}
    if youngest_first and youngest_first[0].published is None:
        # Nobody knows the youngest master's day. But no master lists what has expired, so where it has later
        # contracts only, earlier ones of an older master are over.
        youngest = youngest_first[0]
        rows = (Contracts.of(row) for row in youngest.rows if row.expiry is not None)
        for bulk in chain(youngest.contracts, rows):
            underlying = bulk.exchange + bulk.symbol
            first[underlying] = min(bulk.expiry, first.get(underlying, date.max))
    for master in youngest_first:
        older = master.latest != youngest_first[0].latest
        yield master, today, first if older else {}
