"""Upstox's instrument master: gzip JSON per exchange or complete, read into `Listings`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final, Union, cast, get_type_hints

import attrs
import msgspec

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Exchange, InstrumentKind, OptionRight
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.files import read_master, what_it_is
from hybridbroker.instruments.identity import is_isin, kind_from_isin, strike_text
from hybridbroker.instruments.listings import Contracts, Listing, Listings, ListingSource, MasterFile, Progress
from hybridbroker.instruments.numbers import Malformed, paise, positive, refuse_if_mostly_malformed, units

__all__ = ["MASTER_URL", "UpstoxListings", "listings"]

MASTER_URL: Final = "https://assets.upstox.com/market-quote/instruments/exchange/complete.json.gz"
"""Documented: https://upstox.com/developer/api-documentation/instruments (refreshed about 06:00 IST)."""

_NAME: Final = "upstox"
_CASH: Final = {"NSE_EQ": Exchange.NSE, "BSE_EQ": Exchange.BSE}
_DERIVATIVES: Final = {"NSE_FO": Exchange.NSE, "BSE_FO": Exchange.BSE}
_INDEX: Final = {"NSE_INDEX": Exchange.NSE, "BSE_INDEX": Exchange.BSE}
_RIGHTS: Final = {"CE": OptionRight.CALL, "PE": OptionRight.PUT}
_FUND_GROUPS: Final = frozenset({"EQ", "BE", "A", "B", "E"})
"""Series and groups in which fund units trade like shares; the others hold closed-end schemes."""
_IST_MS: Final = 19_800_000
_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1).toordinal()


class _Row(msgspec.Struct, gc=False):
    """One row; a missing or odd field is a matter of that row alone.

    https://upstox.com/developer/api-documentation/instruments
    """

    segment: str | None = None
    instrument_key: str | None = None
    exchange_token: str | int | None = None
    trading_symbol: str | None = None
    name: str | None = None
    instrument_type: str | None = None
    isin: str | None = None
    lot_size: int | float | str | None = None
    tick_size: int | float | str | None = None
    freeze_quantity: int | float | str | None = None
    underlying_symbol: str | None = None
    expiry: int | str | None = None
    strike_price: int | float | str | None = None


_USED: Final = (
    dict.fromkeys(_CASH, "instrument_key exchange_token trading_symbol name instrument_type isin lot_size tick_size")
    | dict.fromkeys(
        _DERIVATIVES,
        "instrument_key exchange_token instrument_type lot_size tick_size freeze_quantity underlying_symbol expiry "
        "strike_price",
    )
    | dict.fromkeys(_INDEX, "instrument_key name trading_symbol")
    | dict.fromkeys(("NCD_FO", "BCD_FO", "MCX_FO", "NSE_COM", "GLOBAL_INDEX", "GLOBAL_INDICATOR", "MCX_INDEX"), "")
)
"""What is read of each documented segment; the rest of a row is skipped over, at half the time and memory."""


@attrs.frozen
class UpstoxListings:
    """The `ListingSource` of Upstox."""

    url: str = MASTER_URL

    async def download(self, folder: Path, *, clock: Clock, progress: Progress | None = None) -> Sequence[MasterFile]:
        """Fetch the complete master; no login is needed for it."""
        from hybridbroker.transport.download import download

        file = await download(self.url, to=folder / "complete.json.gz", clock=clock, progress=progress)
        return [MasterFile(path=file.path, published=file.published)]

    def read(self, files: Sequence[Path], *, published: date | None = None) -> Listings:
        """Read one or more of the JSON files, ``complete`` or per exchange."""
        reader = _Reader()
        for path in files:
            reader.read(path)
        return Listings(
            broker=_NAME,
            rows=reader.rows,
            contracts=list(reader.contracts.values()),
            published=published,
            files=tuple(path.name for path in files),
            read=reader.seen,
            skipped=reader.skipped,
        )


def listings() -> ListingSource:
    """Return where Upstox's instruments come from."""
    return UpstoxListings()


class _Reader:
    """Collects the listings of one or more files."""

    def __init__(self) -> None:
        self.rows: list[Listing] = []
        self.contracts: dict[tuple[object, ...], Contracts] = {}
        self.seen: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def read(self, path: Path) -> None:
        readers = dict.fromkeys(_CASH, self._cash) | dict.fromkeys(_DERIVATIVES, self._derivative)
        readers |= dict.fromkeys(_INDEX, self._index)
        seen: Counter[str] = Counter()
        malformed = 0
        for segment, row in _decode(path):
            seen[segment] += 1
            read = readers.get(segment)
            if read is None:
                continue
            try:
                read(row, segment)
            except Malformed as exc:
                self.skipped[f"malformed: {exc}"] += 1
                malformed += 1
        if not any("_" in segment for segment in seen):
            raise ConfigurationError(f"{path}: JSON, but no row names a segment; is it Upstox's instrument file?")
        for segment in seen.keys() - readers.keys():
            self.skipped[f"segment not carried: {segment}"] += seen[segment]
        carried = sum(seen[segment] for segment in readers)
        refuse_if_mostly_malformed(str(path), malformed=malformed, total=carried)
        self.seen += seen

    def _cash(self, row: _Row, segment: str) -> None:
        self.rows.append(_cash(row, segment))

    def _index(self, row: _Row, segment: str) -> None:
        self.rows.append(_index(row, segment))

    def _derivative(self, row: _Row, segment: str) -> None:
        token = _token(row)
        if row.instrument_key != f"{segment}|{token}":
            raise Malformed("instrument key is not the token's")
        common = (
            segment, row.instrument_type, row.underlying_symbol, row.expiry, row.lot_size, row.tick_size,
            row.freeze_quantity,
        )  # fmt: skip
        bulk = self.contracts.get(common)
        if bulk is None:
            bulk = _contracts(row, segment)
        strike = "" if bulk.right is None else strike_text(positive(row.strike_price or 0, "strike"))
        self.contracts[common] = bulk
        bulk.strikes.append(strike)
        bulk.native_ids.append(row.instrument_key)
        bulk.tokens.append(token)


def _decode(path: Path) -> Iterator[tuple[str, _Row]]:
    """Yield every row with its segment."""
    body = read_master(path)
    if not body[:64].lstrip().startswith(b"["):
        raise ConfigurationError(
            f"{path}: not Upstox's instrument file but {what_it_is(body)}; download it from {MASTER_URL}"
        )
    forms = _forms()
    try:
        try:
            rows = msgspec.json.decode(body, type=list[Union[tuple(forms)]])  # type: ignore[misc]  # noqa: UP007
            return ((forms[type(row)], row) for row in rows)
        except msgspec.ValidationError:
            # A segment nobody has documented yet, or an odd row: slower, but nothing else is lost by it.
            return ((row.segment or "(none)", row) for row in msgspec.json.decode(body, type=list[_Row]))
    except msgspec.DecodeError as exc:
        raise ConfigurationError(
            f"{path}: not readable as Upstox's instrument file ({exc}); download it again"
        ) from exc


@cache
def _forms() -> dict[type[_Row], str]:
    """Return a form of row for each documented segment."""
    types = get_type_hints(_Row)
    forms = {}
    for segment, used in _USED.items():
        fields = [(name, types[name], None) for name in used.split()]
        form = msgspec.defstruct(segment, fields, tag_field="segment", tag=segment, gc=False)
        forms[cast("type[_Row]", form)] = segment
    return forms


def _cash(row: _Row, segment: str) -> Listing:
    exchange = _CASH[segment]
    isin = row.isin or ""
    if row.instrument_key != f"{segment}|{isin}" or not isin:
        raise Malformed("instrument key is not the ISIN's")
    known = is_isin(isin)
    series = _text(row.instrument_type, "instrument type")
    return Listing(
        _NAME,
        segment,
        row.instrument_key,
        _token(row),
        exchange,
        kind_from_isin(isin, traded_fund=series in _FUND_GROUPS) if known else InstrumentKind.OTHER_CASH,
        _text(row.trading_symbol, "trading symbol"),
        row.name or "",
        isin if known else None,
        series,
        units(row.lot_size or 0),
        paise(row.tick_size or 0),
    )


def _contracts(row: _Row, segment: str) -> Contracts:
    """Read what all strikes of one expiry have in common."""
    right = _RIGHTS.get(row.instrument_type or "")
    if right is None and row.instrument_type != "FUT":
        raise Malformed("instrument type")
    return Contracts(
        _NAME,
        segment,
        _DERIVATIVES[segment],
        _text(row.underlying_symbol, "underlying symbol"),
        _expiry(row.expiry),
        right,
        units(row.lot_size or 0),
        paise(row.tick_size or 0),
        units(row.freeze_quantity, "freeze quantity") if row.freeze_quantity else None,
    )


def _index(row: _Row, segment: str) -> Listing:
    key = row.instrument_key or ""
    name = key.removeprefix(f"{segment}|")
    if not name or name == key:
        raise Malformed("instrument key")
    others = tuple(other for other in (row.name, row.trading_symbol) if other)
    where = (_NAME, segment, key, None, _INDEX[segment], InstrumentKind.INDEX)
    return Listing(*where, name.upper(), row.name or name, also_called=others)


def _text(value: str | None, field: str) -> str:
    if not value or value.isspace():
        raise Malformed(field)
    return value


def _token(row: _Row) -> str:
    token = row.exchange_token
    if not isinstance(token, str):
        token = str(token or "")
    if not token.isdigit():
        raise Malformed("exchange token")
    return token


def _expiry(value: int | str | None) -> date:
    # Epoch milliseconds at 23:59:59 IST: the IST day is taken arithmetically, since a machine
    # east of India that used its own zone would read the next one.
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise Malformed("expiry")
    return date.fromordinal(_EPOCH + (value + _IST_MS) // _DAY_MS)
