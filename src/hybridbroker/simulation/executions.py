"""What charges are counted on: trades as they settle, summed by order, day and product."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, Self

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Exchange, InstrumentKind, Segment
from hybridbroker.domain.orders import Product, Side, Trade
from hybridbroker.domain.unchecked import Unchecked
from hybridbroker.errors import Unsupported

__all__ = ["Execution", "squared_off"]

_TRADE_FOR_TRADE: Final = frozenset({"BE", "BZ"})
_TRADES: Final = Unchecked(Trade)


@attrs.frozen(kw_only=True)
class Execution:
    """What one order traded on one day: all that charges depend on."""

    side: Side = attrs.field(converter=Side)
    value: Decimal
    """Rupees."""
    product: Product = attrs.field(converter=Product)
    on: date
    """Trading day, in IST."""
    exchange: Exchange = attrs.field(default=Exchange.NSE, converter=Exchange)
    series: str | None = None
    share: str = ""
    """ISIN (or id): depository charges are counted per share and day."""
    kind: InstrumentKind = InstrumentKind.EQUITY

    @property
    def traits(self) -> tuple[object, ...]:
        """Return what decides which rates apply."""
        return self.side, self.product, self.exchange, self.series, self.kind

    @classmethod
    def of(cls, trades: Iterable[Trade]) -> list[Self]:
        """Sum trades by order, day and product.

        Raises:
            Unsupported: One of them is not in the cash segment.
        """
        groups: dict[tuple[str, date, Product], list[Trade]] = defaultdict(list)
        for trade in trades:
            if trade.instrument.segment is not Segment.CASH:
                raise Unsupported(
                    f"charges of {trade.instrument.segment} trades are not tabulated ({trade.instrument.id}); "
                    "only those of the cash segment are"
                )
            groups[trade.order_id, _day(trade), trade.product].append(trade)
        return [cls._sum(group) for group in groups.values()]

    @classmethod
    def _sum(cls, group: Sequence[Trade]) -> Self:
        first = group[0]
        return cls(
            side=first.side,
            value=first.value if len(group) == 1 else sum((each.value for each in group), Decimal(0)),
            product=first.product,
            on=_day(first),
            exchange=first.instrument.exchange,
            series=first.instrument.series,
            share=first.instrument.isin or first.instrument.id,
            kind=first.instrument.kind,
        )


def squared_off(trades: Iterable[Trade]) -> list[Trade]:
    """Return the trades as they settle: delivery bought and sold on one day becomes intraday.

    No share moves for that quantity, so it is taxed as intraday, brokers charge intraday
    brokerage on it, and no depository charge is due. A trade that is only partly met is
    split. First trades are met first; NSE and BSE do not meet; shares in trade-for-trade
    series never do.
    """
    given = [(each, _key(each) if _can_square_off(each) else None) for each in trades]
    total: Counter[tuple[date, str, Side]] = Counter()
    for trade, key in given:
        if key is not None:
            total[key] += trade.quantity
    met = {
        (day, share, side): min(quantity, total[day, share, side.opposite])
        for (day, share, side), quantity in total.items()
    }
    settled: list[Trade] = []
    for trade, key in given:
        same_day = 0 if key is None else min(met[key], trade.quantity)
        if key is not None and same_day:
            met[key] -= same_day
            settled.append(_TRADES.changed(trade, quantity=same_day, product=Product.INTRADAY))
        if same_day < trade.quantity:
            settled.append(_TRADES.changed(trade, quantity=trade.quantity - same_day) if same_day else trade)
    return settled


def _can_square_off(trade: Trade) -> bool:
    return trade.product is Product.DELIVERY and trade.instrument.series not in _TRADE_FOR_TRADE


def _key(trade: Trade) -> tuple[date, str, Side]:
    return _day(trade), trade.instrument.id, trade.side


def _day(trade: Trade) -> date:
    return trade.traded_at.astimezone(IST).date()
