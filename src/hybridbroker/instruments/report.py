"""What a build did, in numbers: rows read, mapped, not mapped and why, conflicts with examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

import attrs

from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.instruments.listings import Listing, Listings
from hybridbroker.instruments.merge import disagreements
from hybridbroker.instruments.outcome import Alone, Entry, Outcome

__all__ = ["Census", "Coverage", "Tally"]

_EXAMPLES: Final = 3


@attrs.frozen
class Tally:
    """How often, and a few cases in words."""

    count: int
    examples: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Coverage:
    """How much of the masters became instruments; for each broker ``read`` is ``mapped`` plus all of ``unmapped``."""

    read: Mapping[str, Mapping[str, int]]
    """By broker: rows in its files, by the broker's segment."""
    mapped: Mapping[str, Mapping[str, int]]
    """By broker: rows that another broker lists too, by exchange and segment."""
    unmapped: Mapping[str, Mapping[str, int]]
    """By broker: rows without counterpart, by reason."""
    instruments: Mapping[str, int]
    """Usable instruments, by exchange and segment."""
    conflicts: Mapping[str, Tally]
    """Quarantined rows that contradict each other, by kind."""
    disagreements: Mapping[str, Tally]
    """Terms that brokers state differently of one instrument, by field; the stricter is used."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what ``attrs.asdict`` wrote."""
        tallies = {
            name: {each: Tally(found["count"], tuple(found["examples"])) for each, found in value[name].items()}
            for name in ("conflicts", "disagreements")
        }
        return cls(**{**value, **tallies})


class Census:
    """What one walk over a join's entries finds out; they are many, and walking them is what costs."""

    def __init__(self) -> None:
        self.papers: list[Listing] = []
        """Cash papers and indices."""
        self.contracts: dict[tuple[object, ...], Listing] = {}
        """One derivative of each exchange, underlying, expiry and kind."""
        self._examples: dict[tuple[object, ...], Entry] = {}
        self._counts: dict[tuple[object, ...], int] = {}
        self._told: list[tuple[str, str]] = []

    def walk(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield every entry, taking notes on the way."""
        examples, counts, index = self._examples, self._counts, InstrumentKind.INDEX
        for entry in entries:
            terms, rows = entry.terms, entry.rows
            exchange = terms.id[:4]
            if terms.expiry is None:
                self.papers.append(terms)
            else:
                self.contracts[exchange, terms.symbol, terms.expiry, terms.right is None] = terms
            if len(rows) == 1:
                brokers: object = rows[0].broker
            else:
                brokers = tuple(row.broker for row in rows)
                self._told += ((field, f"{terms.id}: {values}") for field, values in disagreements(rows))
            kind = (brokers, exchange, terms.expiry is None, terms.kind is index)
            examples[kind] = entry
            counts[kind] = counts.get(kind, 0) + 1
            yield entry

    def walk_alone(self, alone: Iterable[Alone]) -> Iterator[Alone]:
        """Yield every bulk of derivatives, taking notes on the way."""
        for each in alone:
            bulk = each.contracts
            exchange = f"{bulk.exchange}:"
            kind = (bulk.broker, exchange, False, False)
            example = bulk.listing(0)
            self.contracts[exchange, bulk.symbol, bulk.expiry, bulk.right is None] = example
            self._examples[kind] = Entry(example, (example,))
            self._counts[kind] = self._counts.get(kind, 0) + len(bulk)
            yield each

    def coverage(self, outcome: Outcome, masters: Sequence[Listings]) -> Coverage:
        """Return the account of the walk, and of what was not in it."""
        mapped: defaultdict[str, Counter[str]] = defaultdict(Counter)
        unmapped: defaultdict[str, Counter[str]] = defaultdict(Counter)
        instruments: Counter[str] = Counter()
        others = {master.broker: _others(master.broker, masters) for master in masters}
        for kind, entry in self._examples.items():
            place = f"{entry.terms.exchange} {entry.terms.segment}"
            instruments[place] += self._counts[kind]
            for row in entry.rows:
                if len(entry.rows) == 1:
                    unmapped[row.broker][others[row.broker]] += self._counts[kind]
                else:
                    mapped[row.broker][place] += self._counts[kind]
        for each in outcome.left_out:
            unmapped[each.broker][str(each.reason)] += len(each.keys)
        for conflict in outcome.conflicts:
            for row in conflict.rows:
                unmapped[row.broker][f"quarantined: {conflict.kind}"] += 1
        for master in masters:
            unmapped[master.broker].update(master.skipped)
            known = sum(mapped[master.broker].values()) + sum(unmapped[master.broker].values())
            unmapped[master.broker]["repeated, word for word"] += sum(master.read.values()) - known
        return Coverage(
            read={master.broker: dict(master.read) for master in masters},
            mapped={master.broker: dict(mapped[master.broker]) for master in masters},
            unmapped={master.broker: dict(+unmapped[master.broker]) for master in masters},
            instruments=dict(instruments),
            conflicts=_tally((str(conflict.kind), conflict.message) for conflict in outcome.conflicts),
            disagreements=_tally(self._told),
        )


def _others(broker: str, masters: Sequence[Listings]) -> str:
    names = sorted(master.broker for master in masters if master.broker != broker)
    return f"not listed by {' or '.join(names)}" if names else "no other broker's master was given"


def _tally(cases: Iterable[tuple[str, str]]) -> dict[str, Tally]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for kind, text in cases:
        found[kind].append(text)
    return {kind: Tally(len(texts), tuple(texts[:_EXAMPLES])) for kind, texts in sorted(found.items())}
