"""Finding instruments, and what each broker calls them: from a built file, without ever guessing."""

from __future__ import annotations

import json
import re
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from itertools import islice
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight
from hybridbroker.domain.orders import rupees
from hybridbroker.errors import (
    ConfigurationError,
    InstrumentAmbiguous,
    InstrumentConflict,
    InstrumentNotFound,
    InstrumentUnmapped,
)
from hybridbroker.instruments import store
from hybridbroker.instruments.identity import instrument_id, strike_text
from hybridbroker.instruments.rows import unpack, unpack_key
from hybridbroker.instruments.search import SearchText

# What only building and reporting need is imported where it is used: a running bot opens and looks up.
if TYPE_CHECKING:
    from hybridbroker.instruments.changes import Changes
    from hybridbroker.instruments.listings import Listings, Progress
    from hybridbroker.instruments.report import Coverage

__all__ = ["InstrumentRegistry", "KnownConflict", "MasterInfo"]

_REMEMBERED: Final = 8_192
_CHAINS: Final = 32
_CONTRACT: Final = re.compile(
    r"(?P<symbol>[A-Z0-9&-]+) (?:FUT|(?P<strike>\d+(?:\.\d+)?)(?: (?P<right>CE|PE))?)", re.IGNORECASE
)


@attrs.frozen(kw_only=True)
class MasterInfo:
    """One broker's master as it went into a build."""

    broker: str
    files: tuple[str, ...]
    published: date | None
    """The day it is of; None where nobody said, and then ``not_after`` bounds it."""
    not_after: date | None
    """The earliest expiry inside."""

    @property
    def latest(self) -> date | None:
        """Return the day it is of: as published, else the latest it can be."""
        return self.published or self.not_after


@attrs.frozen(kw_only=True)
class KnownConflict:
    """Rows that contradict each other; every id and key of theirs raises `InstrumentConflict`."""

    kind: str
    message: str
    ids: tuple[str, ...]


class InstrumentRegistry:
    """An immutable index of instruments; safe to share between tasks and threads.

    It lives in a file, read page by page: opening costs no parsing, and only instruments that
    were asked for become objects. Names that fit nothing, several things, or something the brokers'
    lists contradict each other about raise; nothing is ever picked.
    """

    def __init__(self, connection: sqlite3.Connection, *, path: Path | None = None) -> None:
        self.path = path
        """The file it was opened from; None in memory."""
        self._connection = connection
        self._columns = store.brokers_of(connection)
        self._lock = Lock()
        self._instrument = lru_cache(maxsize=_REMEMBERED)(self._find)
        self._keys = lru_cache(maxsize=_REMEMBERED)(self._find_keys)
        self._id_of_key = lru_cache(maxsize=_REMEMBERED)(self._find_by_key)
        self._chain = lru_cache(maxsize=_CHAINS)(self._find_chain)
        self._finalizer = weakref.finalize(self, connection.close)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a file that ``hybridbroker instruments build`` wrote.

        Raises:
            ConfigurationError: It is missing, damaged, or something else.
        """
        place = Path(path)
        return cls(store.open_readonly(place), path=place)

    @classmethod
    async def load(
        cls, *, clock: Clock | None = None, folder: Path | None = None, progress: Progress | None = None
    ) -> Self:
        """Open today's build, made from freshly downloaded masters if there is none yet.

        Masters are republished about 06:00 IST; a build made since then is opened as it is. When a
        refresh fails in whatever way, the last good build is opened and the log says why; ask
        `is_of` before trading on it. Builds are kept in the user's cache, or in ``folder``.

        Raises:
            HybridBrokerError: There is no earlier build, and none could be made.
        """
        from hybridbroker.instruments.refresh import cache_folder, installed_sources, todays_build

        place = folder or cache_folder()
        build = await todays_build(place, installed_sources(), clock=clock or SystemClock(), progress=progress)
        return cls.open(build)

    @classmethod
    def from_listings(cls, masters: Sequence[Listings], *, built_at: datetime | None = None) -> Self:
        """Join masters into a registry that lives in memory."""
        from hybridbroker.instruments.join import join
        from hybridbroker.instruments.writer import fill

        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        fill(connection, join(masters), masters, built_at=built_at)
        return cls(connection)

    @classmethod
    def builtin(cls) -> Self:
        """Return six well-known NSE shares and the Nifty 50, for which no file is needed."""
        from hybridbroker.instruments.builtin import builtin_masters

        return cls.from_listings(builtin_masters())

    def close(self) -> None:
        """Close the file; done at the latest when the registry is collected."""
        self._finalizer()

    # One instrument

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the domain's word
        """Return the instrument with this id.

        Raises:
            InstrumentNotFound: There is none; the message names similar ones.
            InstrumentConflict: The brokers' lists contradict each other about it.
        """
        return self._instrument(id)

    def __contains__(self, name: object) -> bool:
        return bool(self._rows("SELECT 1 FROM instrument WHERE id = ?", name))

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM instrument")[0][0])

    def __iter__(self) -> Iterator[str]:
        """Iterate over all ids, in order."""
        return iter([name for (name,) in self._rows("SELECT id FROM instrument ORDER BY id")])

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        """Return what ``broker`` calls ``instrument``.

        Raises:
            InstrumentUnmapped: The broker's list has no counterpart.
            InstrumentConflict: The lists contradict each other about it.
            InstrumentNotFound: This registry does not have the instrument at all.
        """
        keys = self._keys(instrument.id)
        try:
            return keys[broker]
        except KeyError:
            names = " and ".join(keys)
            raise InstrumentUnmapped(f"{broker} does not list {instrument.id}; only {names} does") from None

    def keys_of(self, instrument: Instrument) -> Mapping[str, BrokerKey]:
        """Return what every broker that lists ``instrument`` calls it, by broker."""
        return dict(self._keys(instrument.id))

    def by_key(self, broker: str, key: str) -> Instrument:
        """Return what ``broker`` means by ``key``.

        Keys are written as ``str(BrokerKey)`` writes them: ``NSE_EQ:2885``, ``NSE_EQ|INE002A01018``.

        Raises:
            InstrumentNotFound: The broker's list has no such key, or it is of a segment that is not carried.
            InstrumentConflict: The lists contradict each other about it.
        """
        return self._instrument(self._id_of_key(broker, key))

    def equity(self, symbol: str, *, exchange: Exchange | None = None, series: str | None = None) -> Instrument:
        """Return the cash paper with this ticker; without ``series`` the share is meant where there is one.

        Raises:
            InstrumentAmbiguous: Several fit (both exchanges list it, or several series); they are named.
            InstrumentNotFound: None fits.
            InstrumentConflict: The lists contradict each other about it.
        """
        rows = self._rows("SELECT id, exchange, series FROM cash WHERE symbol = ?", symbol)
        found: list[str] = []
        for where in Exchange:
            if exchange not in {None, where}:
                continue
            share = instrument_id(where, InstrumentKind.EQUITY, symbol)
            here = [name for name, place, each in rows if place == where and series in {None, each}]
            if series is None:
                self._refuse_contested(share)
            found += [share] if share in here else here
        return self._the_one(found, f"{symbol} of series {series}" if series else symbol)

    def isin(self, isin: str, *, exchange: Exchange | None = None) -> Instrument:
        """Return the cash paper with this ISIN; most shares have one on each exchange, so name it.

        Raises:
            InstrumentAmbiguous: It is listed on both exchanges.
            InstrumentNotFound: No paper has it.
            InstrumentConflict: The lists contradict each other about it.
        """
        for where in Exchange:
            if exchange in {None, where}:
                self._refuse_contested(f"{where} ISIN {isin}")
        rows = self._rows("SELECT id, exchange FROM cash WHERE isin = ? ORDER BY exchange DESC", isin)
        return self._the_one([name for name, where in rows if exchange in {None, where}], f"ISIN {isin}")

    def future(self, underlying: str, *, expiry: date, exchange: Exchange | None = None) -> Instrument:
        """Return the future on ``underlying`` (its ticker, such as ``NIFTY``) that expires on ``expiry``.

        Raises:
            InstrumentAmbiguous: Both exchanges list it.
            InstrumentNotFound: There is none.
            InstrumentConflict: The lists contradict each other about it.
        """
        return self._derivative(InstrumentKind.FUTURE, underlying, exchange, expiry=expiry)

    def option(
        self,
        underlying: str,
        *,
        expiry: date,
        strike: Decimal | str | int,
        right: OptionRight | str,
        exchange: Exchange | None = None,
    ) -> Instrument:
        """Return the option with these terms; ``right`` is ``CE`` or ``PE``, ``strike`` is in rupees.

        Errors as `future`.
        """
        terms = {"expiry": expiry, "strike": rupees(strike), "right": OptionRight(right)}
        return self._derivative(InstrumentKind.OPTION, underlying, exchange, **terms)

    # Several

    def expiries(
        self, underlying: str, *, exchange: Exchange | None = None, kind: InstrumentKind = InstrumentKind.OPTION
    ) -> tuple[date, ...]:
        """Return the days on which options (or futures) on ``underlying`` expire, soonest first.

        Raises:
            InstrumentAmbiguous: It has derivatives on both exchanges.
            InstrumentNotFound: It has none.
        """
        rows = self._rows(
            "SELECT day FROM expiry WHERE underlying = ? AND exchange = ? AND kind = ? ORDER BY day",
            underlying,
            self._exchange_of(underlying, exchange).value,
            kind.value,
        )
        return tuple(date.fromisoformat(day) for (day,) in rows)

    def chain(self, underlying: str, *, expiry: date, exchange: Exchange | None = None) -> tuple[Instrument, ...]:
        """Return every option on ``underlying`` that expires on ``expiry``: by strike, the call before the put.

        Quarantined contracts are not in it; `conflicts` has them. Errors as `expiries`.
        """
        where = self._exchange_of(underlying, exchange)
        return self._chain(f"{where}:{underlying}:{expiry.isoformat()}")

    def underlying(self, derivative: Instrument) -> Instrument:
        """Return the share or index that a future or option is on.

        Raises:
            InstrumentNotFound: It is no derivative, or no list names what it is on.
        """
        rows = self._rows(
            "SELECT id FROM underlying WHERE exchange = ? AND symbol = ?",
            derivative.exchange.value,
            derivative.underlying,
        )
        if not rows:
            raise InstrumentNotFound(f"no list says what {derivative} is on")
        return self[rows[0][0]]

    def search(self, query: str, *, limit: int = 10) -> tuple[Instrument, ...]:
        """Return what ``query`` may mean, best first; it may be part of a name, or misspelt.

        A contract is found by its words: ``nifty fut``, ``nifty 25000 ce`` (soonest expiry first).
        """
        found = self._contracts(query, limit=limit) or self._names.find(query, limit=limit)
        return tuple(self[name] for name in found)

    # The build as a whole

    def conflicts(self) -> tuple[KnownConflict, ...]:
        """Return what is quarantined, and why."""
        rows = self._rows("SELECT kind, message, ids FROM conflict ORDER BY number")
        return tuple(
            KnownConflict(kind=kind, message=message, ids=tuple(json.loads(ids))) for kind, message, ids in rows
        )

    def coverage(self) -> Coverage:
        """Return how much of the masters became instruments, and why the rest did not."""
        from hybridbroker.instruments.report import Coverage

        return Coverage.from_json(self._meta("coverage"))

    def changes_since(self, other: InstrumentRegistry) -> Changes:
        """Return what is different here from ``other``, an earlier build."""
        from hybridbroker.instruments.changes import changes_between

        return changes_between(other._image(), self._image())

    @cached_property
    def masters(self) -> tuple[MasterInfo, ...]:
        """The masters it was built from."""
        return tuple(
            MasterInfo(
                broker=each["broker"],
                files=tuple(each["files"]),
                published=_day(each["published"]),
                not_after=_day(each["not_after"]),
            )
            for each in self._meta("masters")
        )

    @property
    def days_apart(self) -> int | None:
        """How many days lie between the oldest and the youngest master, as far as is known."""
        days = [day for each in self.masters if (day := each.latest) is not None]
        return (max(days) - min(days)).days if days else None

    @property
    def as_of(self) -> date | None:
        """The day of its oldest master, or the latest that can be; None where nothing bounds it."""
        days = [each.latest for each in self.masters]
        return min((day for day in days if day is not None), default=None) if all(days) else None

    def is_of(self, day: date) -> bool:
        """Say whether every master is known to be of ``day`` or younger: what live orders on ``day`` need.

        A master whose day nobody told is not known to be.
        """
        return bool(self.masters) and all(each.published is not None and each.published >= day for each in self.masters)

    def age(self, day: date) -> int | None:
        """Return how many days older than ``day`` its oldest master is, at least; None where nothing bounds it."""
        return None if self.as_of is None else max(0, (day - self.as_of).days)

    # Inside

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(query, parameters).fetchall()
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as exc:
            raise ConfigurationError(f"{self.path}: damaged ({exc}); {store.HINT}") from exc

    def _image(self) -> Path | bytes:
        return self.path if self.path is not None else self._connection.serialize()

    def _meta(self, name: str) -> Any:
        rows = self._rows("SELECT value FROM meta WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def _find(self, name: str) -> Instrument:
        rows = self._rows("SELECT terms FROM instrument WHERE id = ?", name)
        if rows:
            return unpack(name, rows[0][0])
        self._refuse_contested(name)
        gone = self._rows("SELECT reason FROM left_out WHERE id = ? LIMIT 1", name)
        if gone:
            raise InstrumentNotFound(f"{name} is not carried: {gone[0][0]}")
        raise InstrumentNotFound(f"no instrument is called {name!r}{self._suggestion(name)}")

    def _find_chain(self, prefix: str) -> tuple[Instrument, ...]:
        rows = self._rows("SELECT id, terms FROM instrument WHERE id > ? AND id < ?", f"{prefix}:", f"{prefix};")
        options = [unpack(name, terms) for name, terms in rows if terms.startswith("option")]
        options.sort(key=attrgetter("strike", "right"))
        return tuple(options)

    def _find_keys(self, name: str) -> dict[str, BrokerKey]:
        columns = ", ".join(self._columns.values())
        rows = self._rows(f"SELECT {columns} FROM instrument WHERE id = ?", name)  # noqa: S608 - our own columns
        if not rows:
            self._find(name)
        keys = zip(self._columns, rows[0], strict=True)
        return {broker: unpack_key(broker, key) for broker, key in keys if key is not None}

    def _find_by_key(self, broker: str, key: str) -> str:
        column = self._columns.get(broker)
        if column is not None:
            rows = self._rows(f"SELECT id FROM instrument WHERE {column} = ?", key)  # noqa: S608 - our own column
            if rows:
                return str(rows[0][0])
        name = f"{broker} {key}"
        self._refuse_contested(name)
        rows = self._rows("SELECT id FROM alias WHERE key = ?", name)
        if rows:
            return str(rows[0][0])
        gone = self._rows("SELECT id, reason FROM left_out WHERE key = ?", name)
        why = f": {gone[0][0]}, {gone[0][1]}" if gone else ""
        raise InstrumentNotFound(f"{broker} key {key!r} is not in the registry{why}")

    def _refuse_contested(self, name: str) -> None:
        rows = self._rows("SELECT message FROM contested JOIN conflict ON number = conflict WHERE name = ?", name)
        if rows:
            raise InstrumentConflict(f"{name} is quarantined: {rows[0][0]}")

    def _exchange_of(self, underlying: str, exchange: Exchange | None) -> Exchange:
        rows = self._rows("SELECT DISTINCT exchange FROM expiry WHERE underlying = ?", underlying)
        found = [Exchange(name) for (name,) in rows if exchange in {None, name}]
        if not found:
            where = "" if exchange is None else f" on {exchange}"
            raise InstrumentNotFound(
                f"no derivatives on {underlying!r}{where}; give the ticker they use, such as NIFTY"
            )
        if len(found) > 1:
            both = " and ".join(found)
            names = [f"{each}:{underlying}" for each in found]
            raise InstrumentAmbiguous(f"{underlying} has derivatives on {both}; name the exchange", candidates=names)
        return found[0]

    def _derivative(self, kind: InstrumentKind, underlying: str, exchange: Exchange | None, **terms: Any) -> Instrument:
        names = [instrument_id(each, kind, underlying, **terms) for each in Exchange if exchange in {None, each}]
        for name in names:
            self._refuse_contested(name)
        return self._the_one([name for name in names if name in self], names[0])

    def _the_one(self, found: Sequence[str], wanted: str) -> Instrument:
        if not found:
            raise InstrumentNotFound(f"no instrument is {wanted}{self._suggestion(wanted)}")
        if len(found) > 1:
            raise InstrumentAmbiguous(f"{wanted} may be {' or '.join(found)}; name one of them", candidates=found)
        return self[found[0]]

    @cached_property
    def _names(self) -> SearchText:
        return SearchText(lambda part: str(self._rows("SELECT text FROM search WHERE part = ?", part)[0][0]))

    def _contracts(self, query: str, *, limit: int) -> list[str]:
        asked = _CONTRACT.fullmatch(query.strip())
        if asked is None:
            return []
        symbol, strike, right = (None if each is None else each.upper() for each in asked.groups())
        kind = InstrumentKind.FUTURE if strike is None else InstrumentKind.OPTION
        ends = ["FUT"] if strike is None else [f"{strike_text(Decimal(strike))}:{each}" for each in ("CE", "PE")]
        rows = self._rows(
            "SELECT exchange, day FROM expiry WHERE underlying = ? AND kind = ? ORDER BY day, exchange DESC",
            symbol,
            kind.value,
        )
        names = (f"{where}:{symbol}:{day}:{end}" for where, day in rows for end in ends if end.endswith(right or end))
        return list(islice((name for name in names if name in self), limit))

    def _suggestion(self, wanted: str) -> str:
        near = self._names.find(wanted.partition(":")[2] or wanted, limit=3)
        return f"; did you mean {', '.join(near)}?" if near else "; try: hybridbroker instruments search"


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
