"""Market events as rows of a tape and back: pure, and every field of a tick survives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import attrs

from hybridbroker.clock import from_epoch_ms, to_epoch_ms
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.domain.market import (
    Auction,
    Candle,
    Depth,
    DepthLevel,
    Gap,
    Greeks,
    MarketEvent,
    MarketPhase,
    MarketStatus,
    Tick,
    TickDetails,
)

__all__ = ["COLUMNS", "from_columns", "instrument_from", "instrument_to", "to_row"]

COLUMNS: Final[Mapping[str, str]] = {
    "at_ms": "int",
    "kind": "name",
    "instrument": "name",
    "last_price": "float",
    "last_quantity": "int",
    "traded_ms": "int",
    "previous_close": "float",
    "volume": "int",
    "is_snapshot": "bool",
    "average_price": "float",
    "open_interest": "float",
    "total_buy_quantity": "float",
    "total_sell_quantity": "float",
    "bids": "levels",
    "asks": "levels",
    "day": "bar",
    "minute": "bar",
    "greeks": "greeks",
    "auction": "auction",
    "told": "name",
}
"""Names of the columns, and what they hold; ``at_ms`` is when it was received, ``told`` JSON of what is no tick."""

_TICK: Final = "tick"
_GAP: Final = "gap"
_STATUS: Final = "status"


def to_row(event: MarketEvent) -> dict[str, Any]:
    """Return an event as a row; what is absent is absent."""
    match event:
        case Tick():
            depth = event.depth
            return {
                "at_ms": event.received_ms,
                "kind": _TICK,
                "instrument": event.instrument.id,
                "last_price": event.last_price,
                "last_quantity": event.last_quantity,
                "traded_ms": event.traded_ms,
                "previous_close": event.previous_close,
                "volume": event.volume,
                "is_snapshot": event.is_snapshot,
                "average_price": event.average_price,
                "open_interest": event.open_interest,
                "total_buy_quantity": event.total_buy_quantity,
                "total_sell_quantity": event.total_sell_quantity,
                "bids": None if depth is None else [_level(each) for each in depth.bids],
                "asks": None if depth is None else [_level(each) for each in depth.asks],
                "day": _bar(event.day),
                "minute": _bar(event.minute),
                "greeks": None if event.greeks is None else attrs.asdict(event.greeks),
                "auction": None if event.auction is None else attrs.asdict(event.auction),
            }
        case Gap():
            told: dict[str, Any] = {
                "since": event.since.isoformat(), "until": event.until.isoformat(), "reason": event.reason,
            }  # fmt: skip
            return {"at_ms": to_epoch_ms(event.until), "kind": _GAP, "told": json.dumps(told)}
        case MarketStatus():
            told = {"phases": event.phases, "at": event.at.isoformat(), "raw": event.raw}
            return {"at_ms": to_epoch_ms(event.at), "kind": _STATUS, "told": json.dumps(told)}


def from_columns(
    columns: Mapping[str, Sequence[Any]], known: Mapping[str, Instrument]
) -> Iterator[tuple[int, MarketEvent]]:
    """Read events with their times from columns of equal length."""
    names = tuple(COLUMNS)
    for values in zip(*(columns[name] for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        yield row["at_ms"], _event(row, known)


def _event(row: Mapping[str, Any], known: Mapping[str, Instrument]) -> MarketEvent:
    if row["kind"] == _TICK:
        return _tick(row, known[row["instrument"]])
    told = json.loads(row["told"])
    if row["kind"] == _GAP:
        return Gap(
            since=datetime.fromisoformat(told["since"]),
            until=datetime.fromisoformat(told["until"]),
            reason=told["reason"],
        )
    return MarketStatus(
        phases={name: MarketPhase(phase) for name, phase in told["phases"].items()},
        at=datetime.fromisoformat(told["at"]),
        raw=told["raw"],
    )


def _tick(row: Mapping[str, Any], instrument: Instrument) -> Tick:
    depth = None
    if row["bids"] is not None:
        depth = Depth(bids=_levels(row["bids"]), asks=_levels(row["asks"]))
    return Tick(
        instrument,
        row["last_price"],
        row["last_quantity"],
        row["traded_ms"],
        row["at_ms"],
        row["previous_close"],
        row["volume"],
        row["is_snapshot"],
        TickDetails(
            average_price=row["average_price"],
            open_interest=row["open_interest"],
            total_buy_quantity=row["total_buy_quantity"],
            total_sell_quantity=row["total_sell_quantity"],
            depth=depth,
            day=_candle(row["day"], instrument),
            minute=_candle(row["minute"], instrument),
            greeks=None if row["greeks"] is None else Greeks(**row["greeks"]),
            auction=None if row["auction"] is None else Auction(**row["auction"]),
        ),
    )


def _level(level: DepthLevel) -> dict[str, Any]:
    return {"price": level.price, "quantity": level.quantity, "orders": level.orders}


def _levels(rows: Sequence[Mapping[str, Any]]) -> tuple[DepthLevel, ...]:
    return tuple(DepthLevel(row["price"], row["quantity"], row["orders"]) for row in rows)


def _bar(candle: Candle | None) -> dict[str, Any] | None:
    if candle is None:
        return None
    return {
        "start_ms": to_epoch_ms(candle.start),
        "open": candle.open,
        "high": candle.high,
        "low": candle.low,
        "close": candle.close,
        "volume": candle.volume,
        "open_interest": candle.open_interest,
    }


def _candle(row: Mapping[str, Any] | None, instrument: Instrument) -> Candle | None:
    if row is None:
        return None
    values = dict(row)
    return Candle(instrument=instrument, start=from_epoch_ms(values.pop("start_ms")), **values)


def instrument_to(instrument: Instrument) -> dict[str, Any]:
    """Return an instrument as JSON can hold it."""
    values = attrs.asdict(instrument)
    return {name: str(value) if isinstance(value, Decimal | date) else value for name, value in values.items()}


def instrument_from(row: Mapping[str, Any]) -> Instrument:
    """Read what `instrument_to` wrote."""
    return Instrument(
        **{
            **row,
            "exchange": Exchange(row["exchange"]),
            "segment": Segment(row["segment"]),
            "kind": InstrumentKind(row["kind"]),
            "tick_size": Decimal(row["tick_size"]),
            "expiry": None if row["expiry"] is None else date.fromisoformat(row["expiry"]),
            "strike": None if row["strike"] is None else Decimal(row["strike"]),
            "right": None if row["right"] is None else OptionRight(row["right"]),
        }
    )
