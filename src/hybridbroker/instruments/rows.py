"""Reading a stored row back into an `Instrument`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache
from typing import Final

import attrs

from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment

__all__ = ["Terms", "unpack", "unpack_key", "unpack_terms"]

# Plain dictionaries, because calling an enumeration to find its member costs as much as the query.
_EXCHANGES: Final = {str(each): each for each in Exchange}
_KINDS: Final = {str(each): each for each in InstrumentKind}
_RIGHTS: Final = {str(each): each for each in OptionRight}

_OPTION: Final = InstrumentKind.OPTION
_DERIVATIVES: Final = Segment.DERIVATIVES
_CONTRACTS: Final = (str(InstrumentKind.OPTION), str(InstrumentKind.FUTURE))

_decimal = cache(Decimal)


@attrs.frozen
class Terms:
    """What is stored of an instrument beside its id."""

    kind: InstrumentKind
    lot_size: int
    tick_size: Decimal
    freeze_quantity: int | None
    name: str = ""
    isin: str | None = None
    series: str | None = None


def unpack_terms(text: str) -> Terms:
    """Read the stored text."""
    kind, lot, tick, freeze, *cash = text.split("\t")
    name, isin, series = cash or ("", "", "")
    return Terms(
        _KINDS[kind], int(lot), _decimal(tick), int(freeze) if freeze else None, name, isin or None, series or None
    )


# A frozen class of fifteen fields takes its arguments by name and sets them by name; setting its slots
# halves the time, and a chain has hundreds.
_new: Final = object.__new__
(
    _set_id, _set_exchange, _set_segment, _set_kind, _set_symbol, _set_name, _set_isin, _set_series, _set_lot,
    _set_tick, _set_freeze, _set_underlying, _set_expiry, _set_strike, _set_right,
) = (getattr(Instrument, field.name).__set__ for field in attrs.fields(Instrument))  # fmt: skip


def unpack(id_: str, text: str) -> Instrument:
    """Read a stored instrument: exchange, symbol and contract are in its id, the rest in ``text``."""
    made = _new(Instrument)
    _set_id(made, id_)
    if text.startswith(_CONTRACTS):
        _fill_contract(made, id_, text)
    else:
        _fill_paper(made, id_, text)
    return made


def _fill_contract(made: Instrument, id_: str, text: str) -> None:
    kind, lot, tick, freeze = _contract_terms(text)
    if kind is _OPTION:
        head, strike, side = id_.rsplit(":", 2)
        _set_strike(made, _decimal(strike))
        _set_right(made, _RIGHTS[side])
        end = f"{strike} {side}"
    else:
        head, end = id_.rsplit(":", 1)
        _set_strike(made, None)
        _set_right(made, None)
    exchange, symbol, day, expiry = _series(head)
    _set_exchange(made, exchange)
    _set_segment(made, _DERIVATIVES)
    _set_kind(made, kind)
    _set_symbol(made, symbol)
    _set_name(made, f"{symbol} {day} {end}")
    _set_isin(made, None)
    _set_series(made, None)
    _set_lot(made, lot)
    _set_tick(made, tick)
    _set_freeze(made, freeze)
    _set_underlying(made, symbol)
    _set_expiry(made, expiry)


def _fill_paper(made: Instrument, id_: str, text: str) -> None:
    kind_name, lot, tick, _, name, isin, series = text.split("\t")
    kind = _KINDS[kind_name]
    index = kind is InstrumentKind.INDEX
    exchange, _, rest = id_.partition(":")
    _set_exchange(made, _EXCHANGES[exchange])
    _set_segment(made, Segment.INDEX if index else Segment.CASH)
    _set_kind(made, kind)
    _set_symbol(made, rest.removesuffix(":INDEX" if index else f":{series}"))
    _set_name(made, name)
    _set_isin(made, isin or None)
    _set_series(made, series or None)
    _set_lot(made, int(lot))
    _set_tick(made, _decimal(tick))
    for not_there in (_set_freeze, _set_underlying, _set_expiry, _set_strike, _set_right):
        not_there(made, None)


@cache
def _contract_terms(text: str) -> tuple[InstrumentKind, int, Decimal, int | None]:
    kind, lot, tick, freeze = text.split("\t")
    return _KINDS[kind], int(lot), _decimal(tick), int(freeze) if freeze else None


@cache
def _series(head: str) -> tuple[Exchange, str, str, date]:
    exchange, rest = head.split(":", 1)
    symbol, day = rest.rsplit(":", 1)
    return _EXCHANGES[exchange], symbol, day, date.fromisoformat(day)


def unpack_key(broker: str, text: str) -> BrokerKey:
    """Read what ``str(BrokerKey)`` wrote."""
    segment, bar, _ = text.partition("|")
    if bar and ":" not in segment:
        return BrokerKey(broker=broker, segment=segment, id=text)
    segment, _, native = text.partition(":")
    return BrokerKey(broker=broker, segment=segment, id=native)
