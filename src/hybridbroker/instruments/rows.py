"""Reading a stored row back into an `Instrument`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Final

import attrs

from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment

__all__ = ["Terms", "unpack", "unpack_key", "unpack_terms"]

# Plain dictionaries, because calling an enumeration to find its member costs as much as the query.
_EXCHANGES: Final = {str(each): each for each in Exchange}
_KINDS: Final = {str(each): each for each in InstrumentKind}
_RIGHTS: Final = {str(each): each for each in OptionRight}

_day = lru_cache(maxsize=1_024)(date.fromisoformat)
_decimal = lru_cache(maxsize=8_192)(Decimal)


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


def unpack(id_: str, text: str) -> Instrument:
    """Read a stored instrument: exchange, symbol and contract are in its id, the rest in ``text``."""
    kind_name, lot, tick, freeze, *cash = text.split("\t")
    kind = _KINDS[kind_name]
    exchange, _, rest = id_.partition(":")
    if cash:
        name, isin, series = cash
        if kind is InstrumentKind.INDEX:
            symbol, segment = rest.removesuffix(":INDEX"), Segment.INDEX
        else:
            symbol, segment = rest.removesuffix(f":{series}"), Segment.CASH
        return Instrument(
            id=id_,
            exchange=_EXCHANGES[exchange],
            segment=segment,
            kind=kind,
            symbol=symbol,
            name=name,
            isin=isin or None,
            series=series or None,
            lot_size=int(lot),
            tick_size=_decimal(tick),
        )
    if kind is InstrumentKind.OPTION:
        symbol, day, strike, side = rest.rsplit(":", 3)
    else:
        symbol, day, side = rest.rsplit(":", 2)
        strike = ""
    return Instrument(
        id=id_,
        exchange=_EXCHANGES[exchange],
        segment=Segment.DERIVATIVES,
        kind=kind,
        symbol=symbol,
        name=f"{symbol} {day} {strike} {side}" if strike else f"{symbol} {day} {side}",
        lot_size=int(lot),
        tick_size=_decimal(tick),
        freeze_quantity=int(freeze) if freeze else None,
        underlying=symbol,
        expiry=_day(day),
        strike=_decimal(strike) if strike else None,
        right=_RIGHTS.get(side),
    )


def unpack_key(broker: str, text: str) -> BrokerKey:
    """Read what ``str(BrokerKey)`` wrote."""
    segment, bar, _ = text.partition("|")
    if bar and ":" not in segment:
        return BrokerKey(broker=broker, segment=segment, id=text)
    segment, _, native = text.partition(":")
    return BrokerKey(broker=broker, segment=segment, id=native)
