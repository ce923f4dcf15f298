"""Upstox's words read into the domain: orders, trades, positions, holdings, funds; pure.

What Upstox says and nobody documented is an error that names the row, never a default, for an
order book with a missing or invented row is worse than none. The one exception is the order
status: it becomes `OrderStatus.UNKNOWN` with Upstox's text kept, and counts as neither open nor
final. Documented: https://upstox.com/developer/api-documentation/appendix/order-status and the
pages of the single calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeVar

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, OrderType, Product, Side, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.errors import WireFormatError

__all__ = [
    "CHANGING",
    "PRODUCT",
    "REFUSED_CHANGE",
    "SEGMENTS",
    "SIDE",
    "STATUS",
    "TYPE",
    "VALIDITY",
    "contradicts",
    "funds_from_v2",
    "funds_from_v3",
    "holding_from_wire",
    "identifier",
    "instant",
    "look_up",
    "money",
    "order_from_ack",
    "order_from_wire",
    "position_from_wire",
    "product_from_wire",
    "spelled",
    "status_from_wire",
    "trade_from_wire",
    "unlisted",
]

T = TypeVar("T")

SEGMENTS: Final[Mapping[str, tuple[Exchange, Segment]]] = {
    "NSE_EQ": (Exchange.NSE, Segment.CASH),
    "BSE_EQ": (Exchange.BSE, Segment.CASH),
    "NSE_INDEX": (Exchange.NSE, Segment.INDEX),
    "BSE_INDEX": (Exchange.BSE, Segment.INDEX),
    "NSE_FO": (Exchange.NSE, Segment.DERIVATIVES),
    "BSE_FO": (Exchange.BSE, Segment.DERIVATIVES),
    "NCD_FO": (Exchange.NSE, Segment.CURRENCY),
    "BCD_FO": (Exchange.BSE, Segment.CURRENCY),
    "MCX_FO": (Exchange.MCX, Segment.COMMODITY),
    "NSE_COM": (Exchange.NSE, Segment.COMMODITY),
}
"""Segments, as they begin instrument keys."""

_CODES: Final[Mapping[str, str]] = {
    "NSE": "NSE_EQ",
    "BSE": "BSE_EQ",
    "NFO": "NSE_FO",
    "BFO": "BSE_FO",
    "CDS": "NCD_FO",
    "BCD": "BCD_FO",
    "MCX": "MCX_FO",
    "NSCOM": "NSE_COM",
}

SIDE: Final = {Side.BUY: "BUY", Side.SELL: "SELL"}
TYPE: Final = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP_LIMIT: "SL",
    OrderType.STOP_MARKET: "SL-M",
}
PRODUCT: Final = {Product.DELIVERY: "D", Product.MARGIN: "D", Product.INTRADAY: "I", Product.MTF: "MTF"}
"""``D`` is delivery for shares and carrying forward for derivatives."""
VALIDITY: Final = {Validity.DAY: "DAY", Validity.IOC: "IOC"}

STATUS: Final[Mapping[str, OrderStatus]] = {
    "put order req received": OrderStatus.PENDING,
    "validation pending": OrderStatus.PENDING,
    "open pending": OrderStatus.PENDING,
    "after market order req received": OrderStatus.PENDING,
    "modify after market order req received": OrderStatus.PENDING,
    "open": OrderStatus.OPEN,
    "trigger pending": OrderStatus.TRIGGER_PENDING,
    "modify pending": OrderStatus.OPEN,
    "modify validation pending": OrderStatus.OPEN,
    "modified": OrderStatus.OPEN,
    "not modified": OrderStatus.OPEN,
    "cancel pending": OrderStatus.OPEN,
    "not cancelled": OrderStatus.OPEN,
    "complete": OrderStatus.FILLED,
    "cancelled": OrderStatus.CANCELLED,
    "cancelled after market order": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
}
"""All seventeen statuses that are documented."""

CHANGING: Final = frozenset({"modify pending", "modify validation pending", "cancel pending"})
"""Statuses of an order while a change or a cancellation is on its way."""
REFUSED_CHANGE: Final = frozenset({"not modified", "not cancelled"})
"""Statuses of an order that stands as it was, since a change or a cancellation was refused."""

_SIDE_READ: Final = {text: side for side, text in SIDE.items()}
_TYPE_READ: Final = {text: kind for kind, text in TYPE.items()}
_VALIDITY_READ: Final = {text: validity for validity, text in VALIDITY.items()}
_WORKING: Final = frozenset({OrderStatus.PENDING, OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING})
_EXPLAINED: Final = frozenset({OrderStatus.REJECTED, OrderStatus.CANCELLED})
_NO_ID: Final = frozenset({"", "0", "NA", "null"})
_YEARS: Final = range(1990, 2200)
_OPTION: Final = re.compile(r"(\d+(?:\.\d+)?)(CE|PE)")


def order_from_ack(order_id: str, request: OrderRequest, *, at: datetime) -> Order:
    """Return the order that Upstox has just acknowledged with nothing but its id.

    ``placed_at`` is ours until the book is read.
    """
    return Order(
        id=order_id,
        client_order_id=request.client_order_id,
        instrument=request.instrument,
        side=request.side,
        type=request.type,
        product=request.product,
        validity=request.validity,
        quantity=request.quantity,
        price=request.price,
        trigger_price=request.trigger_price,
        status=OrderStatus.PENDING,
        placed_at=at,
    )


def status_from_wire(text: str, *, quantity: int, filled: int) -> OrderStatus:
    """Read an order status in any case; quantities decide what is partly filled, for which Upstox has no word.

    ``complete`` with less than all traded contradicts itself: it is partly filled, or with
    nothing traded ``UNKNOWN``.
    """
    status = STATUS.get(spelled(text), OrderStatus.UNKNOWN)
    if status in _WORKING and filled > 0:
        return OrderStatus.PARTIALLY_FILLED
    if status is OrderStatus.FILLED and filled < quantity:
        return OrderStatus.PARTIALLY_FILLED if filled > 0 else OrderStatus.UNKNOWN
    return status


def spelled(text: str) -> str:
    """Return a status text as the tables spell it."""
    return " ".join(text.lower().split())


def order_from_wire(row: wire.OrderRow, *, instrument: Instrument) -> Order:
    """Read one row of the order book, of a history, or one message of the portfolio stream.

    Zero prices, empty exchange ids and ``NA`` are Upstox's ways of saying "none". The order's time
    is that of its newest state (a documented sample shows a cancellation's beside an exchange id
    of the morning), so ``placed_at`` is no later than it, and ``updated_at`` the later of the two
    times there are.

    Raises:
        WireFormatError: A side, type, product, validity or time nobody documented.
    """
    what = f"order {row.order_id}"
    status = status_from_wire(row.status, quantity=row.quantity, filled=row.filled_quantity)
    stated = (instant(row.order_timestamp), instant(row.exchange_timestamp))
    times = [each for each in stated if each is not None]
    return Order(
        id=row.order_id,
        client_order_id=identifier(row.tag),
        instrument=instrument,
        side=look_up(_SIDE_READ, row.transaction_type, what=what),
        type=look_up(_TYPE_READ, row.order_type, what=what),
        product=product_from_wire(row.product, instrument, what=what),
        validity=look_up(_VALIDITY_READ, row.validity, what=what),
        quantity=row.quantity,
        filled_quantity=row.filled_quantity,
        price=money(row.price),
        trigger_price=money(row.trigger_price),
        average_price=money(row.average_price),
        status=status,
        reason=_reason(row, status),
        placed_at=min(times, default=None),
        updated_at=max(times, default=None),
        exchange_order_id=identifier(row.exchange_order_id),
        raw=row.status,
    )


def _reason(row: wire.OrderRow, status: OrderStatus) -> str | None:
    """Return why an order died, or why a change of it was refused; on others the field holds chatter."""
    if status not in _EXPLAINED and spelled(row.status) not in REFUSED_CHANGE:
        return None
    said = (text.strip() for text in (row.status_message, row.status_message_raw) if text)
    return next((text for text in said if text and text not in _NO_ID), None)


def trade_from_wire(row: wire.TradeRow, *, instrument: Instrument) -> Trade:
    """Read one execution; its time is the exchange's, or Upstox's own where that is missing.

    Raises:
        WireFormatError: It has no time, or a side or product nobody documented.
    """
    what = f"trade {row.trade_id} of order {row.order_id}"
    traded_at = instant(row.exchange_timestamp) or instant(row.order_timestamp)
    if traded_at is None:
        raise WireFormatError(f"{what} has no time")
    return Trade(
        id=row.trade_id,
        order_id=row.order_id,
        instrument=instrument,
        side=look_up(_SIDE_READ, row.transaction_type, what=what),
        product=product_from_wire(row.product, instrument, what=what),
        quantity=row.quantity,
        price=row.average_price,
        traded_at=traded_at,
    )


def position_from_wire(row: wire.PositionRow, *, instrument: Instrument) -> Position:
    """Read one position; a closed one keeps its row for the day, with quantity 0.

    A missing or zero average is the buying price of a long position, the selling price of a
    short one. Bought and sold are the day's and what was carried into it; values are rupees,
    for currencies times ``multiplier`` units a contract.
    """
    side_price = row.buy_price if row.quantity > 0 else row.sell_price
    units = row.multiplier or Decimal(1)
    return Position(
        instrument=instrument,
        product=product_from_wire(row.product, instrument, what=f"position {row.instrument_key}"),
        quantity=row.quantity,
        average_price=(money(row.average_price) or side_price or Decimal(0)) if row.quantity else Decimal(0),
        bought_quantity=row.day_buy_quantity + row.overnight_buy_quantity,
        sold_quantity=row.day_sell_quantity + row.overnight_sell_quantity,
        bought_value=(row.day_buy_value + row.overnight_buy_amount) * units,
        sold_value=(row.day_sell_value + row.overnight_sell_amount) * units,
        realised_pnl=row.realised,
        unrealised_pnl=row.unrealised,
    )


def holding_from_wire(row: wire.HoldingRow, *, instrument: Instrument) -> Holding:
    """Read one holding.

    Whether ``quantity`` holds the units bought yesterday is documented nowhere. It is taken to
    hold them, unless they are more than it: so never more shares are shown than there are by
    either reading. What can be sold is counted without them, without those sold already today
    and without pledged ones: never too much by either reading.
    """
    unsettled = row.t1_quantity
    quantity = max(row.quantity, unsettled)
    available = quantity - unsettled - row.cnc_used_quantity - row.collateral_quantity
    return Holding(
        instrument=instrument,
        quantity=quantity,
        available_quantity=max(0, available),
        unsettled_quantity=unsettled,
        average_price=money(row.average_price),
        last_price=money(row.last_price),
    )


def funds_from_v3(funds: wire.FundsV3) -> Funds:
    """Read what can be spent, cash and pledge together."""
    trade = funds.available_to_trade
    cash, pledge = trade.cash_available_to_trade, trade.pledge_available_to_trade
    used = [each.margin_used.total for each in (cash, pledge) if each is not None and each.margin_used is not None]
    pledged = pledge.margin_from_pledge.total if pledge is not None and pledge.margin_from_pledge is not None else None
    spent = pledge.margin_used.total if pledge is not None and pledge.margin_used is not None else None
    return Funds(
        available=trade.total,
        used=sum((each for each in used if each is not None), Decimal(0)),
        opening=cash.cash.opening_balance if cash is not None and cash.cash is not None else None,
        collateral=max(Decimal(0), (pledged or Decimal(0)) - (spent or Decimal(0))),
    )


def funds_from_v2(funds: wire.FundsV2) -> Funds:
    """Read what can be spent by the older call, which does not tell pledge from cash."""
    return Funds(available=funds.equity.available_margin, used=funds.equity.used_margin or Decimal(0))


def product_from_wire(text: str, instrument: Instrument, *, what: str) -> Product:
    """Read a product: ``D`` is delivery for shares and carried forward for all else."""
    if text == "D":
        return Product.DELIVERY if instrument.segment is Segment.CASH else Product.MARGIN
    # Cover orders exist within the day only; OCO is in old lists only.
    known = {"I": Product.INTRADAY, "MTF": Product.MTF, "CO": Product.INTRADAY, "OCO": Product.INTRADAY}
    return look_up(known, text, what=what)


def unlisted(key: str, *, exchange: str | None, symbol: str | None, isin: str | None = None) -> Instrument:
    """Return a stand-in for something Upstox names and no master knows: shown, never tradable.

    The segment is the key's; a key without one (old answers have bare numbers) is of the
    exchange code beside it.

    Raises:
        WireFormatError: Neither says a segment that is documented.
    """
    prefix, bar, _ = key.partition("|")
    code = exchange or ""
    segment = prefix if bar else _CODES.get(code, code)
    place, market = look_up(SEGMENTS, segment, what=f"instrument {key[:40]}")
    return Instrument(
        id=f"UPSTOX:{key}",
        exchange=place,
        segment=market,
        kind=InstrumentKind.UNLISTED,
        symbol=symbol or key,
        name=symbol or "",
        isin=isin,
    )


def contradicts(instrument: Instrument, symbol: str | None) -> bool:
    """Say whether a row's symbol names another option than ``instrument``.

    Derivative tokens are given out again within weeks, so a key found in the registry may name
    another contract than the one that was traded. Symbols that are not understood contradict nothing.
    """
    if instrument.right is None or instrument.strike is None or symbol is None:
        return False
    told = _OPTION.search(symbol.upper().replace(" ", ""))
    if told is None:
        return False
    return told[2] != instrument.right.value or not told[1].endswith(f"{instrument.strike.normalize():f}")


def look_up(table: Mapping[str, T], text: str, *, what: str) -> T:
    """Return what ``text`` means; a spelling nobody documented is a `WireFormatError`."""
    try:
        return table[text]
    except KeyError:
        raise WireFormatError(f"{what}: {text[:40]!r} is none of {', '.join(table)}") from None


def money(value: Decimal | None) -> Decimal | None:
    """Return rupees; 0 is Upstox's way of saying "none"."""
    return value or None


def identifier(text: str | None) -> str | None:
    """Return an id; an empty text and ``NA`` are no ids."""
    return None if text is None or text.strip() in _NO_ID else text


def instant(text: str | None) -> datetime | None:
    """Read a time in IST without zone: ``2026-10-01 09:20:11``, or ``01-Oct-2026 09:20:11`` (some trades).

    Raises:
        WireFormatError: It is no time.
    """
    stated = identifier(text)
    if stated is None:
        return None
    stated = stated.strip()
    for read in (datetime.fromisoformat, _with_month_name):
        try:
            found = read(stated)
        except ValueError:
            continue
        if found.year not in _YEARS:
            return None
        return found if found.tzinfo is not None else found.replace(tzinfo=IST)
    raise WireFormatError(f"{stated[:40]!r} is no time")


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED: Final = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d{2}:\d{2}:\d{2})")


def _with_month_name(text: str) -> datetime:
    # Not strptime, whose month names are the locale's.
    parts = _NAMED.fullmatch(text)
    if parts is None or parts[2].lower() not in _MONTHS:
        raise ValueError(text)
    month = _MONTHS.index(parts[2].lower()) + 1
    return datetime.fromisoformat(f"{parts[3]}-{month:02}-{int(parts[1]):02} {parts[4]}")
