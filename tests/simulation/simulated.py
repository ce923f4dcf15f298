"""Small makers of what the simulated market eats: invented shares and ticks."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from hybridbroker.clock import IST, to_epoch_ms
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, Segment
from hybridbroker.domain.market import Depth, DepthLevel, Tick, TickDetails
from hybridbroker.domain.orders import Product, Side, Trade

MONDAY = datetime(2026, 9, 21, 10, 0, tzinfo=IST)
"""A regular trading day, mid-session."""
TUESDAY = MONDAY + timedelta(days=1)
WEDNESDAY = MONDAY + timedelta(days=2)


def share(
    symbol: str = "ACME", *, exchange: Exchange = Exchange.NSE, series: str = "EQ", tick: str = "0.05"
) -> Instrument:
    return Instrument(
        id=f"{exchange}:{symbol}",
        exchange=exchange,
        segment=Segment.CASH,
        kind=InstrumentKind.EQUITY,
        symbol=symbol,
        isin=f"INE{symbol:0>9}",
        series=series,
        tick_size=Decimal(tick),
    )


ACME = share()
ZETA = share("ZETA")
OPTION = Instrument(
    id="NSE:ACME:2026-09-29:100:CE",
    exchange=Exchange.NSE,
    segment=Segment.DERIVATIVES,
    kind=InstrumentKind.OPTION,
    symbol="ACME",
    lot_size=50,
)


def tick(
    price: float,
    *,
    instrument: Instrument = ACME,
    bids: tuple[tuple[float, int], ...] | None = None,
    asks: tuple[tuple[float, int], ...] | None = None,
) -> Tick:
    """A tick at ``price``; with bids or asks it carries depth."""
    depth = None
    if bids is not None or asks is not None:
        depth = Depth(
            bids=tuple(DepthLevel(each, quantity) for each, quantity in bids or ()),
            asks=tuple(DepthLevel(each, quantity) for each, quantity in asks or ()),
        )
    return Tick(
        instrument=instrument,
        last_price=price,
        last_quantity=1,
        traded_ms=to_epoch_ms(MONDAY),
        received_ms=to_epoch_ms(MONDAY),
        details=TickDetails(depth=depth),
    )


def trade(
    side: Side,
    *,
    price: str = "100",
    quantity: int = 100,
    at: datetime = MONDAY,
    product: Product = Product.DELIVERY,
    order_id: str = "",
    instrument: Instrument = ACME,
) -> Trade:
    return Trade(
        id="1",
        order_id=order_id or f"{side}-{at}",
        instrument=instrument,
        side=side,
        product=product,
        quantity=quantity,
        price=Decimal(price),
        traded_at=at,
    )
