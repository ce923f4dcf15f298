"""Domain values for tests: valid unless told otherwise."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import Candle, Depth, DepthLevel, Gap, Quote, Tick, TickDetails
from hybridbroker.domain.orders import LimitOrder, Order, OrderStatus, OrderType, Product, Side, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position

__all__ = [
    "make_candle",
    "make_funds",
    "make_gap",
    "make_holding",
    "make_instrument",
    "make_limit_order",
    "make_order",
    "make_position",
    "make_quote",
    "make_tick",
    "make_trade",
]

_NOW: Final = datetime(2026, 10, 6, 10, 0, tzinfo=IST)
_NOW_MS: Final = 1_791_261_000_000
_RELIANCE: Final = Instrument(
    id="NSE:RELIANCE",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="RELIANCE",
    name="Reliance Industries",
    isin="INE002A01018",
    series="EQ",
    tick_size=Decimal("0.10"),
    freeze_quantity=100_000,
)
_DEPTH: Final = Depth(
    bids=tuple(DepthLevel(round(1399.9 - level / 10, 1), 100 + level) for level in range(5)),
    asks=tuple(DepthLevel(round(1400.0 + level / 10, 1), 120 + level) for level in range(5)),
)


def make_instrument(**changes: Any) -> Instrument:
    """Return NSE:RELIANCE; ``changes`` are fields of `Instrument`, and a new symbol makes a new id."""
    if "symbol" in changes:
        changes = {"id": f"{changes.get('exchange', Exchange.NSE)}:{changes['symbol']}"} | changes
    return attrs.evolve(_RELIANCE, **changes)


def make_tick(**changes: Any) -> Tick:
    """Return a trade at 1400.00 at 10:00 IST with five levels of depth; ``changes`` are fields of `Tick`."""
    tick = Tick(
        instrument=_RELIANCE,
        last_price=1400.0,
        last_quantity=5,
        traded_ms=_NOW_MS,
        received_ms=_NOW_MS + 40,
        previous_close=1390.0,
        volume=100_000,
        details=TickDetails(average_price=1398.2, depth=_DEPTH),
    )
    return attrs.evolve(tick, **changes)


def make_candle(**changes: Any) -> Candle:
    """Return the minute bar of 10:00 IST; ``changes`` are fields of `Candle`."""
    bar = Candle(instrument=_RELIANCE, start=_NOW, open=1399.0, high=1401.5, low=1398.4, close=1400.0, volume=9_000)
    return attrs.evolve(bar, **changes)


def make_quote(**changes: Any) -> Quote:
    """Return a quote at 1400.00; ``changes`` are fields of `Quote`."""
    quote = Quote(instrument=_RELIANCE, last_price=1400.0, as_of=_NOW, previous_close=1390.0, volume=100_000)
    return attrs.evolve(quote, **changes)


def make_gap(**changes: Any) -> Gap:
    """Return a gap of two seconds; ``changes`` are fields of `Gap`."""
    gap = Gap(since=_NOW, until=_NOW.replace(second=2), reason="connection reset")
    return attrs.evolve(gap, **changes)


def make_limit_order(**changes: Any) -> LimitOrder:
    """Return a request to buy 10 at 1400.00; ``changes`` are fields of `LimitOrder`."""
    request = LimitOrder(_RELIANCE, Side.BUY, quantity=10, price=Decimal("1400.00"), client_order_id="test-1")
    return attrs.evolve(request, **changes)


def make_order(**changes: Any) -> Order:
    """Return an open order to buy 10 at 1400.00; ``changes`` are fields of `Order`."""
    order = Order(
        id="3226100600001",
        client_order_id="test-1",
        instrument=_RELIANCE,
        side=Side.BUY,
        type=OrderType.LIMIT,
        product=Product.DELIVERY,
        validity=Validity.DAY,
        quantity=10,
        price=Decimal("1400.00"),
        status=OrderStatus.OPEN,
        placed_at=_NOW,
        updated_at=_NOW,
        exchange_order_id="1100000012345678",
    )
    return attrs.evolve(order, **changes)


def make_trade(**changes: Any) -> Trade:
    """Return the purchase of 10 at 1400.00; ``changes`` are fields of `Trade`."""
    trade = Trade(
        id="50123456",
        order_id="3226100600001",
        instrument=_RELIANCE,
        side=Side.BUY,
        product=Product.DELIVERY,
        quantity=10,
        price=Decimal("1400.00"),
        traded_at=_NOW,
    )
    return attrs.evolve(trade, **changes)


def make_position(**changes: Any) -> Position:
    """Return a position of 10 bought today at 1400.00; ``changes`` are fields of `Position`."""
    position = Position(
        instrument=_RELIANCE,
        product=Product.DELIVERY,
        quantity=10,
        average_price=Decimal("1400.00"),
        bought_quantity=10,
        bought_value=Decimal("14000.00"),
    )
    return attrs.evolve(position, **changes)


def make_holding(**changes: Any) -> Holding:
    """Return 12 settled shares; ``changes`` are fields of `Holding`."""
    holding = Holding(instrument=_RELIANCE, quantity=12, available_quantity=12, average_price=Decimal("1388.40"))
    return attrs.evolve(holding, **changes)


def make_funds(**changes: Any) -> Funds:
    """Return 100,000 rupees, none of them used; ``changes`` are fields of `Funds`."""
    return attrs.evolve(Funds(available=Decimal(100_000), opening=Decimal(100_000)), **changes)
