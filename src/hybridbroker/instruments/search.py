"""Finding instruments by part of a name, misspelt or not: one block of text, scanned.

Scanned rather than indexed: 24,000 names are under a megabyte, and looking through that takes less
time than SQLite's full-text index needs to rank its hits, finds any part of a word, and asks nothing
of how SQLite was compiled. The block's order is the ranking, so that well-known names come first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from itertools import islice, product
from typing import TYPE_CHECKING, Final

from hybridbroker.domain.instrument import Exchange, InstrumentKind

if TYPE_CHECKING:
    from hybridbroker.instruments.listings import Listing

__all__ = ["SearchText", "search_text"]

_ORDER: Final = {
    InstrumentKind.INDEX: 0,
    InstrumentKind.EQUITY: 1,
    InstrumentKind.ETF: 2,
    InstrumentKind.OTHER_CASH: 3,
    InstrumentKind.DEBT: 4,
}
_WORD: Final = re.compile(r"[A-Z0-9&]+")
_SPELLINGS: Final = 8
_CLOSE: Final = 0.72
"""Share of letters in common from which a word counts as a misspelling of another."""


def search_text(instruments: Iterable[Listing], *, derived_on: frozenset[str]) -> dict[str, str]:
    """Return the texts that `SearchText` reads, by name.

    ``derived_on`` holds the ids that futures or options are on: the most traded, hence ranked first.
    """
    ranked = sorted(
        instruments,
        key=lambda each: (
            each.id not in derived_on,
            _ORDER[each.kind],
            each.exchange is not Exchange.NSE,
            len(each.symbol),
            each.id,
        ),
    )
    debt = InstrumentKind.DEBT
    words = {
        word for each in ranked if each.kind is not debt for word in _WORD.findall(f"{each.symbol} {each.name}".upper())
    }
    return {
        "names": _lines(_line(each) for each in ranked if each.kind is not debt),
        "debt": _lines(_line(each) for each in ranked if each.kind is debt),
        "vocabulary": _lines(sorted(words)),
    }


def _line(listing: Listing) -> str:
    return "\t".join((listing.symbol.upper(), " ".join(listing.name.upper().split()), listing.id))


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(("", *lines, ""))


class SearchText:
    """The names of every cash paper and index; ``text`` brings a part of them when it is needed."""

    def __init__(self, text: Callable[[str], str]) -> None:
        self._text = cache(text)

    def find(self, query: str, *, limit: int) -> list[str]:
        """Return ids, best first: that very symbol, what begins so, what contains it, what resembles it.

        Bonds come last, whatever they are called.
        """
        words = _WORD.findall(query.upper())
        if not words:
            return []
        found = self._containing(words, "names")
        if len(found) < limit:
            found += self._containing(words, "debt")
        if not found:
            found = sorted(hit for spelt in self._respelt(words) for hit in self._containing(spelt, "names"))
        return list(dict.fromkeys(name for _, _, name in found))[:limit]

    def _containing(self, words: list[str], part: str) -> list[tuple[int, int, str]]:
        rarest = max(words, key=len)
        phrase = " ".join(words)
        hits: list[tuple[int, int, str]] = []
        block = self._text(part)
        at = block.find(rarest)
        while at >= 0:
            start, end = block.rfind("\n", 0, at) + 1, block.index("\n", at)
            line = block[start:end]
            if all(word in line for word in words):
                symbol, name, id_ = line.split("\t")
                hits.append((_closeness(phrase, words, symbol, name), start, id_))
            at = block.find(rarest, end)
        hits.sort()
        return hits

    def _respelt(self, words: list[str]) -> Iterator[list[str]]:
        for spelt in islice(product(*map(self._like, words)), _SPELLINGS):
            yield list(spelt)

    def _like(self, word: str) -> list[str]:
        # Typing errors rarely hit the first letter, and looking at one letter's words is quick.
        vocabulary = self._text("vocabulary")
        start = vocabulary.find(f"\n{word[0]}")
        if start < 0:
            return []
        end = vocabulary.find(f"\n{chr(ord(word[0]) + 1)}", start)
        near = [each for each in vocabulary[start:end].split() if abs(len(each) - len(word)) <= 2]  # noqa: PLR2004
        close = get_close_matches(word, near, n=3, cutoff=_CLOSE)
        return [word, *close] if f"\n{word}" in vocabulary else close


def _closeness(phrase: str, words: list[str], symbol: str, name: str) -> int:
    if symbol in {phrase, "".join(words)}:
        return 0
    if symbol.startswith(phrase):
        return 1
    if name.startswith(phrase):
        return 2
    if all(f" {word}" in f" {symbol} {name}" for word in words):
        return 3
    return 4
