"""Dhan's words read into the domain: orders, trades, positions, holdings, funds; pure.

What Dhan says and nobody documented is an error that names the row, never a default, for an
order book with a missing or invented row is worse than none. The one exception is the order
status: it becomes `OrderStatus.UNKNOWN` with Dhan's text kept, and counts as neither open nor
final. Documented: https://dhanhq.co/docs/v2/annexure/ and /orders/.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Final, TypeVar

from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, OrderType, Product, Side, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.errors import WireFormatError

__all__ = [
    "PRODUCT",
    "SEGMENTS",
    "SIDE",
    "TYPE",
    "VALIDITY",
    "funds_from_wire",
    "holding_from_wire",
    "identifier",
    "instant",
    "look_up",
    "money",
    "order_from_ack",
    "order_from_wire",
    "position_from_wire",
    "read_product",
    "read_side",
    "reason",
    "same_terms",
    "status_from_wire",
    "trade_from_wire",
    "unlisted",
]

T = TypeVar("T")

SEGMENTS: Final[Mapping[str, tuple[Exchange, Segment]]] = {
    "IDX_I": (Exchange.NSE, Segment.INDEX),
    "NSE_EQ": (Exchange.NSE, Segment.CASH),
    "NSE_FNO": (Exchange.NSE, Segment.DERIVATIVES),
    "NSE_CURRENCY": (Exchange.NSE, Segment.CURRENCY),
    "NSE_COMM": (Exchange.NSE, Segment.COMMODITY),
    "BSE_EQ": (Exchange.BSE, Segment.CASH),
    "BSE_FNO": (Exchange.BSE, Segment.DERIVATIVES),
    "BSE_CURRENCY": (Exchange.BSE, Segment.CURRENCY),
    "MCX_COMM": (Exchange.MCX, Segment.COMMODITY),
}
"""Dhan's exchange segments."""

SIDE: Final = {Side.BUY: "BUY", Side.SELL: "SELL"}
TYPE: Final = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP_LIMIT: "STOP_LOSS",
    OrderType.STOP_MARKET: "STOP_LOSS_MARKET",
}
PRODUCT: Final = {
    Product.DELIVERY: "CNC",
    Product.INTRADAY: "INTRADAY",
    Product.MARGIN: "MARGIN",
    Product.MTF: "MTF",
}
VALIDITY: Final = {Validity.DAY: "DAY", Validity.IOC: "IOC"}

_SIDE_READ: Final = {text: side for side, text in SIDE.items()}
_TYPE_READ: Final = {text: kind for kind, text in TYPE.items()}
# Cover and bracket orders are legacy and exist within the day only.
_PRODUCT_READ: Final = {
    **{text: product for product, text in PRODUCT.items()},
    "CO": Product.INTRADAY,
    "BO": Product.INTRADAY,
}
_VALIDITY_READ: Final = {text: validity for validity, text in VALIDITY.items()}
_STATUS: Final = {
    "TRANSIT": OrderStatus.PENDING,
    "PENDING": OrderStatus.OPEN,
    "CONFIRM": OrderStatus.TRIGGER_PENDING,
    "PART_TRADED": OrderStatus.PARTIALLY_FILLED,
    "TRADED": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELLED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
}
_EXPLAINED: Final = frozenset({OrderStatus.REJECTED, OrderStatus.CANCELLED, OrderStatus.EXPIRED})
_NO_ID: Final = frozenset({"", "0", "NA"})
_NO_REASON: Final = frozenset({*_NO_ID, "CONFIRMED"})
_YEARS: Final = range(1990, 2200)


def order_from_ack(ack: wire.OrderAck, request: OrderRequest, *, at: datetime) -> Order:
    """Return the order that Dhan has just acknowledged, as far as its short answer tells.

    ``placed_at`` is ours until the book is read.
    """
    raw = ack.order_status or ""
    return Order(
        id=ack.order_id,
        client_order_id=request.client_order_id,
        instrument=request.instrument,
        side=request.side,
        type=request.type,
        product=request.product,
        validity=request.validity,
        quantity=request.quantity,
        price=request.price,
        trigger_price=request.trigger_price,
        status=status_from_wire(raw, quantity=request.quantity, filled=0),
        placed_at=at,
        raw=raw,
    )


def status_from_wire(text: str, *, quantity: int, filled: int) -> OrderStatus:
    """Read an order status in any case; quantities decide what is partly filled.

    Whether ``PENDING`` stop orders have been triggered is not told; they are ``OPEN``.
    ``TRADED`` with nothing traded contradicts itself and is ``UNKNOWN``.
    """
    status = _STATUS.get(text.strip().upper().replace(" ", "_"), OrderStatus.UNKNOWN)
    if status in {OrderStatus.PENDING, OrderStatus.OPEN} and filled > 0:
        return OrderStatus.PARTIALLY_FILLED
    if status is OrderStatus.FILLED and filled < quantity:
        return OrderStatus.PARTIALLY_FILLED if filled > 0 else OrderStatus.UNKNOWN
    return status


def order_from_wire(row: wire.OrderRow, *, instrument: Instrument) -> Order:
    """Read one row of the order book.

    Zero prices, exchange id ``"0"``, correlation id ``"NA"`` and times of the year 1 are Dhan's
    ways of saying "none". A market order shows as ``LIMIT`` once it has been converted.

    Raises:
        WireFormatError: A side, type, product, validity or time nobody documented.
    """
    what = f"order {row.order_id}"
    filled = _filled(row.filled_qty, row.order_status, row.quantity)
    status = status_from_wire(row.order_status, quantity=row.quantity, filled=filled)
    return Order(
        id=row.order_id,
        client_order_id=identifier(row.correlation_id),
        instrument=instrument,
        side=look_up(_SIDE_READ, row.transaction_type, what=what),
        type=look_up(_TYPE_READ, row.order_type, what=what),
        product=look_up(_PRODUCT_READ, row.product_type, what=what),
        validity=look_up(_VALIDITY_READ, row.validity, what=what),
        quantity=row.quantity,
        filled_quantity=filled,
        price=money(row.price),
        trigger_price=money(row.trigger_price),
        average_price=money(row.average_traded_price),
        status=status,
        reason=reason(row.oms_error_description, status),
        placed_at=instant(row.create_time),
        updated_at=instant(row.update_time),
        exchange_order_id=identifier(row.exchange_order_id),
        raw=row.order_status,
    )


def _filled(told: int | None, status: str, quantity: int) -> int:
    if told is None:
        return quantity if _STATUS.get(status.upper()) is OrderStatus.FILLED else 0
    return told


def trade_from_wire(row: wire.TradeRow, *, instrument: Instrument) -> Trade:
    """Read one execution; its time is the exchange's, or Dhan's own where that is missing.

    Raises:
        WireFormatError: It has no time, or a side or product nobody documented.
    """
    what = f"trade {row.exchange_trade_id} of order {row.order_id}"
    traded_at = instant(row.exchange_time) or instant(row.update_time) or instant(row.create_time)
    if traded_at is None:
        raise WireFormatError(f"{what} has no time")
    return Trade(
        id=row.exchange_trade_id,
        order_id=row.order_id,
        instrument=instrument,
        side=look_up(_SIDE_READ, row.transaction_type, what=what),
        product=look_up(_PRODUCT_READ, row.product_type, what=what),
        quantity=row.traded_quantity,
        price=row.traded_price,
        traded_at=traded_at,
    )


def position_from_wire(row: wire.PositionRow, *, instrument: Instrument) -> Position:
    """Read one position; a closed one keeps its row for the day, with quantity 0."""
    side_average = row.buy_avg if row.net_qty > 0 else row.sell_avg
    return Position(
        instrument=instrument,
        product=look_up(_PRODUCT_READ, row.product_type, what=f"position {row.exchange_segment}:{row.security_id}"),
        quantity=row.net_qty,
        average_price=(money(row.cost_price) or side_average) if row.net_qty else Decimal(0),
        bought_quantity=row.buy_qty,
        sold_quantity=row.sell_qty,
        bought_value=row.buy_avg * row.buy_qty,
        sold_value=row.sell_avg * row.sell_qty,
        realised_pnl=row.realized_profit,
        unrealised_pnl=row.unrealized_profit,
    )


def holding_from_wire(row: wire.HoldingRow, *, instrument: Instrument) -> Holding:
    """Read one holding; units bought yesterday are in ``totalQty`` and in ``t1Qty``."""
    return Holding(
        instrument=instrument,
        quantity=row.total_qty,
        available_quantity=row.available_qty,
        unsettled_quantity=row.t1_qty or 0,
        average_price=money(row.avg_cost_price),
        last_price=money(row.last_traded_price),
    )


def funds_from_wire(funds: wire.Funds) -> Funds:
    """Read what can be spent; the misspelt ``availabelBalance`` goes before the correct spelling.

    Raises:
        WireFormatError: Neither is there.
    """
    available = funds.availabel_balance if funds.availabel_balance is not None else funds.available_balance
    if available is None:
        raise WireFormatError("GET /fundlimit: neither availabelBalance nor availableBalance is there")
    return Funds(
        available=available,
        used=funds.utilized_amount or Decimal(0),
        opening=funds.sod_limit,
        collateral=funds.collateral_amount or Decimal(0),
        withdrawable=funds.withdrawable_balance,
    )


def unlisted(segment: str, security_id: str, *, symbol: str | None, isin: str | None = None) -> Instrument:
    """Return a stand-in for something Dhan names and no master knows: shown, never tradable.

    Raises:
        WireFormatError: The segment is none of Dhan's.
    """
    exchange, market = look_up(SEGMENTS, segment, what=f"instrument {security_id}")
    return Instrument(
        id=f"DHAN:{segment}:{security_id}",
        exchange=exchange,
        segment=market,
        kind=InstrumentKind.UNLISTED,
        symbol=symbol or security_id,
        name=symbol or "",
        isin=isin,
    )


def same_terms(instrument: Instrument, *, expiry: str | None, strike: Decimal | None) -> bool:
    """Say whether a row's contract terms, where it states them, are the instrument's.

    Derivative ids are given out again within weeks, so an id found in the registry may name
    another contract than the one that was traded.
    """
    at = instant(expiry)
    if instrument.expiry is not None and at is not None and _day(at) != instrument.expiry:
        return False
    stated = money(strike)
    return instrument.strike is None or stated is None or stated == instrument.strike


def _day(instant: datetime) -> date:
    return instant.astimezone(IST).date()


def read_side(text: str, *, what: str) -> Side:
    """Read ``BUY`` or ``SELL``."""
    return look_up(_SIDE_READ, text, what=what)


def read_product(text: str, *, what: str) -> Product:
    """Read a product type."""
    return look_up(_PRODUCT_READ, text, what=what)


def look_up(table: Mapping[str, T], text: str, *, what: str) -> T:
    """Return what ``text`` means; a spelling nobody documented is a `WireFormatError`."""
    try:
        return table[text]
    except KeyError:
        raise WireFormatError(f"{what}: {text[:40]!r} is none of {', '.join(table)}") from None


def money(value: Decimal | None) -> Decimal | None:
    """Return rupees; 0 is Dhan's way of saying "none"."""
    return value or None


def identifier(text: str | None) -> str | None:
    """Return an id; ``"0"``, ``"NA"`` and nothing are no ids."""
    return None if text is None or text.strip() in _NO_ID else text


def reason(text: str | None, status: OrderStatus) -> str | None:
    """Return why an order died; on a living one the field holds chatter such as ``CONFIRMED``."""
    if text is None or status not in _EXPLAINED or text.strip() in _NO_REASON:
        return None
    return text.strip()


def instant(text: str | None) -> datetime | None:
    """Read a time in IST without zone; a time far from ours (the year 1) is Dhan's way of saying "none".

    Raises:
        WireFormatError: It is no time.
    """
    stated = identifier(text)
    if stated is None:
        return None
    try:
        read = datetime.fromisoformat(stated.strip())
    except ValueError:
        raise WireFormatError(f"{stated[:40]!r} is no time") from None
    if read.year not in _YEARS:
        return None
    return read if read.tzinfo is not None else read.replace(tzinfo=IST)
