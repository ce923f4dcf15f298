"""Upstox's instrument master: gzip JSON per exchange or complete, read into `Listings`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

import attrs
import msgspec

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Exchange, InstrumentKind, OptionRight
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.files import read_master, what_it_is
from hybridbroker.instruments.identity import is_isin, kind_from_isin
from hybridbroker.instruments.listings import Listing, Listings, ListingSource, MasterFile, Progress
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


_Number = int | float | str | None


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
        rows: list[Listing] = []
        seen: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        for path in files:
            _read(path, rows=rows, seen=seen, skipped=skipped)
        names = tuple(path.name for path in files)
        return Listings(broker=_NAME, rows=rows, published=published, files=names, read=seen, skipped=skipped)


def listings() -> ListingSource:
    """Return where Upstox's instruments come from."""
    return UpstoxListings()


def _read(path: Path, *, rows: list[Listing], seen: Counter[str], skipped: Counter[str]) -> None:
    raw = _decode(path)
    before = len(rows)
    malformed = 0
    for row in raw:
        segment = row.segment or "(none)"
        seen[segment] += 1
        try:
            if segment in _DERIVATIVES:
                rows.append(_derivative(row, segment))
            elif segment in _CASH:
                rows.append(_cash(row, segment))
            elif segment in _INDEX:
                rows.append(_index(row, segment))
            else:
                skipped[f"segment not carried: {segment}"] += 1
        except Malformed as exc:
            skipped[f"malformed: {exc}"] += 1
            malformed += 1
    if not seen.keys() & (_CASH.keys() | _DERIVATIVES.keys() | _INDEX.keys()) and not any("_" in s for s in seen):
        raise ConfigurationError(f"{path}: JSON, but no row names a segment; is it Upstox's instrument file?")
    refuse_if_mostly_malformed(str(path), malformed=malformed, total=len(rows) - before + malformed)


def _decode(path: Path) -> list[_Row]:
    body = read_master(path)
    if not body.lstrip()[:1] == b"[":
        raise ConfigurationError(
            f"{path}: not Upstox's instrument file but {what_it_is(body)}; download it from {MASTER_URL}"
        )
    try:
        return msgspec.json.decode(body, type=list[_Row])
    except msgspec.DecodeError as exc:
        raise ConfigurationError(
            f"{path}: not readable as Upstox's instrument file ({exc}); download it again"
        ) from exc


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


def _derivative(row: _Row, segment: str) -> Listing:
    token = _token(row)
    if row.instrument_key != f"{segment}|{token}":
        raise Malformed("instrument key is not the token's")
    kind, symbol, lot, tick, freeze, expiry, right = _shape(
        row.instrument_type, row.underlying_symbol, row.lot_size, row.tick_size, row.freeze_quantity, row.expiry
    )
    return Listing(
        _NAME,
        segment,
        row.instrument_key,
        token,
        _DERIVATIVES[segment],
        kind,
        symbol,
        "",
        None,
        None,
        lot,
        tick,
        freeze,
        expiry,
        None if right is None else positive(row.strike_price or 0, "strike"),
        right,
    )


@lru_cache(maxsize=20_000)
def _shape(  # noqa: PLR0917 - a key of the cache
    type_: str | None, symbol: str | None, lot: _Number, tick: _Number, freeze: _Number, expiry: int | str | None
) -> tuple[InstrumentKind, str, int, Decimal, int | None, date, OptionRight | None]:
    """Read what all strikes of one expiry have in common."""
    right = _RIGHTS.get(type_ or "")
    if right is None and type_ != "FUT":
        raise Malformed("instrument type")
    return (
        InstrumentKind.FUTURE if right is None else InstrumentKind.OPTION,
        _text(symbol, "underlying symbol"),
        units(lot or 0),
        paise(tick or 0),
        units(freeze, "freeze quantity") if freeze else None,
        _expiry(expiry),
        right,
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
