"""One set of terms out of several brokers' rows for the same instrument: the stricter value, or none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Final

import attrs

from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.instruments.listings import Listing

__all__ = ["Irreconcilable", "disagreements", "merge"]

_FARTHEST: Final = 100
"""Ticks move a step or two with the price, lots with a split; further apart than a hundredfold, a row is damaged."""


class Irreconcilable(ValueError):
    """No value satisfies both rows; ``args`` are the field and the values."""


def merge(rows: Sequence[Listing]) -> Listing:
    """Return the terms every broker can take, names from the first row, whose master is the youngest.

    - tick size: the smallest one that is a multiple of each, so that a price on it is good at every broker;
    - lot size: equal for derivatives; for cash the smallest common multiple;
    - freeze quantity: the smallest published, rounded down to whole lots;
    - ISIN, series, symbol: the first row's.

    Raises:
        Irreconcilable: Lots of a derivative differ, or lots or ticks are worlds apart.
    """
    first = rows[0]
    lot = first.lot_size
    tick = first.tick_size
    freeze = first.freeze_quantity
    for row in rows[1:]:
        if row.lot_size != lot:
            lot = _common_lot(row, lot)
        if row.tick_size != tick and first.kind is not InstrumentKind.INDEX:
            tick = _common_tick(tick, row.tick_size)
        if row.freeze_quantity is not None:
            freeze = row.freeze_quantity if freeze is None else min(freeze, row.freeze_quantity)
    if freeze is not None and freeze % lot:
        if freeze < lot:
            raise Irreconcilable("freeze quantity", freeze, f"lot {lot}")
        freeze -= freeze % lot
    kind = first.kind
    if any(row.kind is InstrumentKind.ETF for row in rows):
        kind = InstrumentKind.ETF
    isin = first.isin or next((row.isin for row in rows if row.isin is not None), None)
    if (lot, tick, freeze, kind, isin) == (
        first.lot_size,
        first.tick_size,
        first.freeze_quantity,
        first.kind,
        first.isin,
    ):
        return first
    return attrs.evolve(first, lot_size=lot, tick_size=tick, freeze_quantity=freeze, kind=kind, isin=isin)


def disagreements(rows: Sequence[Listing]) -> Iterator[tuple[str, str]]:
    """Yield field and values of what the rows say differently, without being another instrument for it."""
    first = rows[0]
    fields = _NAMED if first.kind is InstrumentKind.INDEX else _STATED
    stated = fields(first)
    for row in rows[1:]:
        other = fields(row)
        if other == stated:
            continue
        for name, one, its in zip(_FIELD_NAMES, stated, other, strict=False):
            if one != its:
                yield name, f"{first.broker} {one}, {row.broker} {its}"


_FIELD_NAMES: Final = ("lot size", "series", "tick size", "symbol", "ISIN", "token")
_STATED: Final = attrgetter("lot_size", "series", "tick_size", "symbol", "isin", "token")
_NAMED: Final = attrgetter("lot_size", "series")


def _common_lot(row: Listing, lot: int) -> int:
    common = math.lcm(lot, row.lot_size)
    if row.expiry is not None or common > max(lot, row.lot_size) * _FARTHEST:
        raise Irreconcilable("lot size", row.lot_size, lot)
    return common


def _common_tick(one: Decimal, other: Decimal) -> Decimal:
    scale = 10 ** max(0, -_exponent(one), -_exponent(other))
    common = Decimal(math.lcm(int(one * scale), int(other * scale))) / scale
    if common > min(one, other) * _FARTHEST:
        raise Irreconcilable("tick size", other, one)
    written: Decimal = common.quantize(Decimal(1).scaleb(min(-2, _exponent(one), _exponent(other))))
    return written


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
