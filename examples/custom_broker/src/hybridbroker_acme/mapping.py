"""Acme's words and ours: pure functions and tables; a word nobody documented is an error, or `UNKNOWN`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from hybridbroker import (
    Funds,
    Holding,
    Instrument,
    InstrumentKind,
    InstrumentLookup,
    InstrumentUnmapped,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Side,
    Trade,
    Unsupported,
    Validity,
    WireFormatError,
)
from hybridbroker_acme import wire

__all__ = ["funds", "holding", "order", "order_body", "position", "symbol_of", "trade"]

_SIDE: Final = {Side.BUY: "B", Side.SELL: "S"}
_KIND: Final = {OrderType.LIMIT: "limit", OrderType.MARKET: "market"}
_PRODUCT: Final = {Product.DELIVERY: "carry", Product.INTRADAY: "day"}
_STATE: Final = {
    "new": OrderStatus.PENDING,
    "live": OrderStatus.OPEN,
    "part": OrderStatus.PARTIALLY_FILLED,
    "done": OrderStatus.FILLED,
    "gone": OrderStatus.CANCELLED,
    "no": OrderStatus.REJECTED,
}


def symbol_of(instrument: Instrument) -> str:
    """Return what Acme calls a share; it lists shares of NSE and BSE, and nothing else."""
    if instrument.kind is not InstrumentKind.EQUITY:
        raise InstrumentUnmapped(f"Acme lists shares only, not {instrument.id}")
    return f"{instrument.symbol}.{instrument.exchange}"


def order_body(request: OrderRequest) -> dict[str, Any]:
    """Write a named order the way POST /orders wants it."""
    if request.type not in _KIND or request.validity is not Validity.DAY or request.after_market:
        raise Unsupported(f"Acme takes limit and market orders for the day, not {type(request).__name__}")
    if request.product not in _PRODUCT:
        raise Unsupported(f"Acme has no product {request.product}")
    return {
        "tag": request.client_order_id,
        "symbol": symbol_of(request.instrument),
        "side": _SIDE[request.side],
        "kind": _KIND[request.type],
        "product": _PRODUCT[request.product],
        "units": request.quantity,
        "limit": None if request.price is None else str(request.price),
    }


def order(row: wire.OrderRow, instruments: InstrumentLookup) -> Order:
    """Read an order; a state Acme never documented is `UNKNOWN`, never open."""
    return Order(
        id=row.id,
        client_order_id=row.tag,
        instrument=_instrument(row.symbol, instruments),
        side=_word(_SIDE, row.side),
        type=_word(_KIND, row.kind),
        product=_word(_PRODUCT, row.product),
        validity=Validity.DAY,
        quantity=row.units,
        filled_quantity=row.filled,
        price=row.limit,
        average_price=row.average,
        status=_STATE.get(row.state, OrderStatus.UNKNOWN),
        reason=row.note,
        placed_at=row.placed,
        updated_at=row.changed,
        raw=row.state,
    )


def trade(row: wire.TradeRow, instruments: InstrumentLookup) -> Trade:
    """Read an execution."""
    return Trade(
        id=row.id,
        order_id=row.order,
        instrument=_instrument(row.symbol, instruments),
        side=_word(_SIDE, row.side),
        product=_word(_PRODUCT, row.product),
        quantity=row.units,
        price=row.price,
        traded_at=row.at,
    )


def position(row: wire.PositionRow, instruments: InstrumentLookup) -> Position:
    """Read a position."""
    return Position(
        instrument=_instrument(row.symbol, instruments),
        product=_word(_PRODUCT, row.product),
        quantity=row.net,
        average_price=row.average if row.net else Decimal(0),
        bought_quantity=row.bought,
        sold_quantity=row.sold,
        bought_value=row.bought_for,
        sold_value=row.sold_for,
    )


def holding(row: wire.HoldingRow, instruments: InstrumentLookup) -> Holding:
    """Read a holding."""
    return Holding(instrument=_instrument(row.symbol, instruments), quantity=row.units, available_quantity=row.free)


def funds(row: wire.FundsRow) -> Funds:
    """Read what can be spent."""
    return Funds(available=row.free, used=row.blocked)


def _instrument(symbol: str, instruments: InstrumentLookup) -> Instrument:
    name, _, exchange = symbol.rpartition(".")
    return instruments[f"{exchange}:{name}"]


def _word(table: dict[Any, str], spelling: str) -> Any:
    for member, word in table.items():
        if word == spelling:
            return member
    raise WireFormatError(f"Acme said {spelling!r}, which its documentation does not hold")
