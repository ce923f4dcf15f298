"""Dhan's instrument master: CSV, detailed or compact, whole or per segment, read into `Listings`."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Final, cast

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import BrokerKey, Exchange, InstrumentKind, OptionRight
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.files import read_master, what_it_is
from hybridbroker.instruments.identity import is_isin, kind_from_isin, strike_text
from hybridbroker.instruments.listings import Contracts, Listing, Listings, ListingSource, MasterFile, Progress
from hybridbroker.instruments.numbers import Malformed, day, paise, positive, refuse, refuse_if_mostly_malformed, units

__all__ = ["COMPACT_URL", "DETAILED_URL", "DhanListings", "listings"]

DETAILED_URL: Final = "https://images.dhan.co/api-data/api-scrip-master-detailed.csv"
COMPACT_URL: Final = "https://images.dhan.co/api-data/api-scrip-master.csv"
"""Documented: https://dhanhq.co/docs/v2/instruments/ (rewritten daily, at no documented hour)."""

_DETAILED: Final = (
    "EXCH_ID", "SEGMENT", "SECURITY_ID", "INSTRUMENT", "INSTRUMENT_TYPE", "SERIES", "LOT_SIZE", "SM_EXPIRY_DATE",
    "STRIKE_PRICE", "OPTION_TYPE", "TICK_SIZE", "SYMBOL_NAME", "DISPLAY_NAME", "UNDERLYING_SYMBOL",
    "UNDERLYING_SECURITY_ID", "ISIN",
)  # fmt: skip
_COMPACT: Final = (
    "SEM_EXM_EXCH_ID", "SEM_SEGMENT", "SEM_SMST_SECURITY_ID", "SEM_INSTRUMENT_NAME", "SEM_EXCH_INSTRUMENT_TYPE",
    "SEM_SERIES", "SEM_LOT_UNITS", "SEM_EXPIRY_DATE", "SEM_STRIKE_PRICE", "SEM_OPTION_TYPE", "SEM_TICK_SIZE",
    "SM_SYMBOL_NAME", "SEM_CUSTOM_SYMBOL", "SEM_TRADING_SYMBOL",
)  # fmt: skip
"""The same in the compact layout, in the same order; it has no ISIN and no underlying."""
_FREEZE: Final = "SM_FREEZE_QTY"
"""Newer and undocumented; used where it is there."""
_COMMON: Final = (
    "UNDERLYING_SYMBOL", "INSTRUMENT", "UNDERLYING_SECURITY_ID", "LOT_SIZE", "TICK_SIZE", _FREEZE, "SM_EXPIRY_DATE",
    "OPTION_TYPE",
)  # fmt: skip

_NAME: Final = "dhan"
_CASH: Final = {("NSE", "E"): ("NSE_EQ", Exchange.NSE), ("BSE", "E"): ("BSE_EQ", Exchange.BSE)}
_DERIVATIVES: Final = {("NSE", "D"): ("NSE_FNO", Exchange.NSE), ("BSE", "D"): ("BSE_FNO", Exchange.BSE)}
_INDICES: Final = {("NSE", "I"): ("IDX_I", Exchange.NSE), ("BSE", "I"): ("IDX_I", Exchange.BSE)}
_RIGHTS: Final = {"CE": OptionRight.CALL, "PE": OptionRight.PUT}
_KINDS: Final = {"ES": InstrumentKind.EQUITY, "ETF": InstrumentKind.ETF} | dict.fromkeys(
    ("CB", "DBT", "DEB", "GB", "PTC", "TB"), InstrumentKind.DEBT
)
_MISSHAPEN: Final = ("(unreadable)", "row")
_TEST: Final = "NSETEST"
_NO_TICK: Final = Decimal("0.05")
_NOTHING: Final = frozenset({"", "NA", "0"})
_CONTRACT: Final = re.compile(r"(?P<underlying>.+)-[A-Z][a-z]{2}\d{4}-(?:FUT|[\d.]+-(?:CE|PE))")


@attrs.frozen
class DhanListings:
    """The `ListingSource` of Dhan."""

    url: str = DETAILED_URL

    async def download(self, folder: Path, *, clock: Clock, progress: Progress | None = None) -> Sequence[MasterFile]:
        """Fetch the detailed master; no login is needed for it."""
        from hybridbroker.transport.download import download

        file = await download(self.url, to=folder / "detailed.csv", clock=clock, progress=progress)
        return [MasterFile(path=file.path, published=file.published)]

    def read(self, files: Sequence[Path], *, published: date | None = None) -> Listings:
        """Read CSV masters; a compact file beside a detailed one only lends it missing tickers."""
        tables = [_open(path) for path in files]
        detailed = [table for table in tables if not table.compact]
        lent: dict[tuple[str, ...], str] = {}
        if detailed:
            for table in tables:
                if table.compact:
                    lent.update(_tickers(table))
        reader = _Reader(tickers=lent)
        for table in detailed or tables:
            reader.read(table)
        names = tuple(path.name for path in files)
        return Listings(
            broker="dhan",
            rows=reader.rows,
            contracts=list(reader.contracts.values()),
            published=published,
            files=names,
            read=reader.seen,
            skipped=reader.skipped,
            underlying_ids=reader.underlying_ids,
        )


def listings() -> ListingSource:
    """Return where Dhan's instruments come from."""
    return DhanListings()


@attrs.frozen
class _Table:
    path: Path
    compact: bool
    pick: Callable[[list[str]], tuple[str, ...]]
    """All columns of the layout."""
    contract: Callable[[list[str]], tuple[str, ...]]
    """Id and strike of a derivative: what tells it from its neighbours."""
    common: Callable[[list[str]], tuple[str, ...]]
    """What it has in common with them."""
    rows: Callable[[_Places], _Rows]


def _open(path: Path) -> _Table:
    body = read_master(path)
    text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", errors="replace")
    first = text.readline()
    delimiter = "\t" if first.count("\t") > first.count(",") else ","
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    compact = "SEM_SMST_SECURITY_ID" in header
    layout = _COMPACT if compact else _DETAILED
    missing = [name for name in layout if name not in header]
    if len(missing) == len(layout):
        raise ConfigurationError(f"{path}: not Dhan's instrument file but {what_it_is(body)}; get {DETAILED_URL}")
    if missing:
        raise ConfigurationError(f"{path}: the columns {', '.join(missing)} are missing; download it again")
    at = dict(zip(_DETAILED, map(header.index, layout), strict=False))
    if _FREEZE in header:
        at[_FREEZE] = header.index(_FREEZE)
    form = _Form(delimiter, columns=len(header), used=max(at.values()) + 1, place=(at["EXCH_ID"], at["SEGMENT"]))

    def columns(*names: str) -> Callable[[list[str]], tuple[str, ...]]:
        # What a layout lacks is read from the empty column that stands after the last one used.
        return itemgetter(*(at.get(name, form.used) for name in names))

    return _Table(
        path=path,
        compact=compact,
        pick=columns(*_DETAILED, _FREEZE),
        contract=columns("SECURITY_ID", "STRIKE_PRICE"),
        common=columns(*_COMMON),
        rows=partial(_parsed if b'"' in body else _split, text, form),
    )


@attrs.frozen
class _Form:
    delimiter: str
    columns: int
    used: int
    """How many columns from the left hold all that is read."""
    place: tuple[int, int]
    """Where exchange and segment stand."""


@attrs.define(eq=False)
class _Place:
    """One exchange and segment: how many rows it has, and what reads them where it is carried."""

    read: Callable[[list[str]], None] | None = None
    count: int = 0


class _Places(dict[tuple[str, str], _Place]):
    """The places of a table; one that nobody named is not carried."""

    def __missing__(self, where: tuple[str, str]) -> _Place:
        place = self[where] = _Place()
        return place


_Rows = Iterator[tuple[_Place, list[str]]]
"""Every row of a carried place, with its columns: none where they are too few or too many."""


def _split(lines: Iterable[str], form: _Form, places: _Places) -> _Rows:
    """Do what csv.reader does where nothing is quoted, and no more of it than is needed, in a third of the time."""
    delimiter, used, separators = form.delimiter, form.used, form.columns - 1
    exchange, segment = form.place
    last = max(form.place)
    for ended in lines:
        line = ended.rstrip("\n")
        head = line.split(delimiter, last + 1)
        if len(head) > last:
            place = places[head[exchange], head[segment]]
            place.count += 1
            if place.read is not None:
                row: list[str] = []
                if line.count(delimiter) == separators:
                    row = line.split(delimiter, used)
                    row[used:] = [""]
                yield place, row
        elif line:
            places[_MISSHAPEN].count += 1


def _parsed(lines: Iterable[str], form: _Form, places: _Places) -> _Rows:
    exchange, segment = form.place
    for row in csv.reader(lines, delimiter=form.delimiter):
        if len(row) > max(form.place):
            place = places[row[exchange], row[segment]]
            place.count += 1
            if place.read is not None:
                whole = len(row) == form.columns
                row[form.used :] = [""]
                yield place, row if whole else []
        elif row:
            places[_MISSHAPEN].count += 1


def _tickers(table: _Table) -> Mapping[tuple[str, ...], str]:
    """Return the tickers of a compact table's cash rows, by exchange, segment and id."""
    found: dict[tuple[str, ...], str] = {}

    def note(row: list[str]) -> None:
        fields = table.pick(row)
        found[fields[:3]] = fields[13]

    for place, row in table.rows(_Places({where: _Place(note) for where in _CASH})):
        if row and place.read is not None:
            place.read(row)
    return found


class _Reader:
    """Collects the listings of one or more tables."""

    def __init__(self, *, tickers: Mapping[tuple[str, ...], str]) -> None:
        self.rows: list[Listing] = []
        self.seen: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.underlying_ids: dict[tuple[Exchange, str], BrokerKey] = {}
        self._tickers = tickers
        self.contracts: dict[tuple[str, ...], Contracts] = {}

    def read(self, table: _Table) -> None:
        places = _Places()
        for kinds, read in ((_CASH, self._cash), (_DERIVATIVES, self._derivative), (_INDICES, self._index)):
            places.update({where: _Place(partial(read, table, *names)) for where, names in kinds.items()})
        malformed = 0
        try:
            for place, row in table.rows(places):
                try:
                    if not row or place.read is None:
                        refuse("number of columns")
                    place.read(row)
                except Malformed as exc:
                    self.skipped[f"malformed: {exc}"] += 1
                    malformed += 1
        except csv.Error as exc:
            raise ConfigurationError(f"{table.path}: not readable as CSV ({exc}); download it again") from exc
        total = sum(place.count for place in places.values())
        if not total:
            raise ConfigurationError(f"{table.path}: a header and no rows; download it again")
        malformed += self._count(places)
        refuse_if_mostly_malformed(str(table.path), malformed=malformed, total=total)

    def _count(self, places: _Places) -> int:
        """Note how many rows each place has; return how many rows name none."""
        nowhere = 0
        for where, place in places.items():
            if place.count:
                self.seen[" ".join(where)] += place.count
            if place.read is not None:
                continue
            if _is_place(where):
                self.skipped[f"segment not carried: {' '.join(where)}"] += place.count
            else:
                self.skipped["malformed: segment"] += place.count
                nowhere += place.count
        return nowhere

    def _derivative(self, table: _Table, segment: str, exchange: Exchange, row: list[str]) -> None:
        native, price = table.contract(row)
        common = table.common(row)
        if table.compact:
            # Only the contract's name says what it is on, and that may hold a hyphen itself (BAJAJ-AUTO).
            named = _CONTRACT.fullmatch(common[0])
            if named is None:
                self.skipped["contract does not name its underlying"] += 1
                return
            common = (named["underlying"], *common[1:])
        if not native.isdigit():
            raise Malformed("security id")
        key = (segment, *common)
        bulk = self.contracts.get(key)
        if bulk is None:
            if _TEST in common[0]:
                self.skipped["test symbol"] += 1
                return
            bulk = _contracts(segment, exchange, common)
        strike = "" if bulk.right is None else strike_text(positive(price, "strike"))
        if not bulk.native_ids:
            self.contracts[key] = bulk
            self._note_underlying(segment, exchange, common)
        bulk.strikes.append(strike)
        bulk.native_ids.append(native)

    def _note_underlying(self, segment: str, exchange: Exchange, common: tuple[str, ...]) -> None:
        symbol, instrument, underlying_id = common[:3]
        if instrument.endswith("IDX") and underlying_id not in _NOTHING:
            key = BrokerKey(broker=_NAME, segment=f"{segment}/underlying", id=underlying_id)
            self.underlying_ids.setdefault((exchange, symbol), key)

    def _cash(self, table: _Table, segment: str, exchange: Exchange, row: list[str]) -> None:
        fields = table.pick(row)
        _, _, native, _, kind, series, lot, _, _, _, tick, name, _, ticker, _, isin, _ = fields
        if _TEST in ticker or isin.startswith("DUMMY"):
            self.skipped["test symbol"] += 1
            return
        if not native.isdigit():
            raise Malformed("security id")
        if ticker in _NOTHING:
            ticker = self._tickers.get(fields[:3], "")
        if ticker in _NOTHING:
            raise Malformed("ticker")
        if not series:
            raise Malformed("series")
        known = is_isin(isin)
        stated = _KINDS.get(kind, InstrumentKind.OTHER_CASH)
        self.rows.append(
            Listing(
                _NAME,
                segment,
                native,
                native,
                exchange,
                kind_from_isin(isin, traded_fund=stated is InstrumentKind.ETF) if known else stated,
                ticker,
                name,
                isin if known else None,
                series,
                units(lot),
                paise(tick),
            )
        )

    def _index(self, table: _Table, segment: str, exchange: Exchange, row: list[str]) -> None:
        _, _, native, _, _, _, _, _, _, _, tick, name, display, symbol, _, _, _ = table.pick(row)
        names = tuple(dict.fromkeys(each for each in (display, name, symbol) if each not in _NOTHING))
        if not names or not native.isdigit():
            raise Malformed("index")
        # Index ticks are in rupees, unlike every other tick of the file, and zero where there is none.
        step = _NO_TICK if tick in _NOTHING or not tick.strip("0.") else positive(tick, "tick size")
        ticker = symbol if symbol not in _NOTHING else names[-1]
        self.rows.append(
            Listing(
                _NAME, segment, native, None, exchange, InstrumentKind.INDEX, ticker.upper(), names[0],
                tick_size=step, also_called=names,
            )
        )  # fmt: skip


def _contracts(segment: str, exchange: Exchange, common: tuple[str, ...]) -> Contracts:
    """Read what all strikes of one expiry have in common."""
    symbol, instrument, _, lot, tick, freeze, expiry, side = common
    if symbol in _NOTHING:
        raise Malformed("underlying symbol")
    right = _RIGHTS.get(side)
    if not instrument.startswith("FUT" if right is None else "OPT"):
        raise Malformed("option type")
    ids: list[str] = []
    return Contracts(
        _NAME,
        segment,
        exchange,
        symbol,
        day(expiry),
        right,
        units(lot),
        paise(tick),
        None if freeze in _NOTHING else units(freeze, "freeze quantity"),
        native_ids=ids,
        tokens=cast("list[str | None]", ids),  # Dhan's ids are the exchange's numbers
    )


def _is_place(where: tuple[str, str]) -> bool:
    exchange, segment = where
    return exchange.isalpha() and len(segment) == 1
