"""What simulated trades do to cash, positions and holdings: exact bookkeeping, no market and no orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Product, Side, Trade
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.errors import InvalidOrder

__all__ = ["Account"]

_ZERO: Final = Decimal(0)


@attrs.define
class _Lot:
    """A quantity, long or short, and what it cost; short quantities cost less than nothing."""

    quantity: int = 0
    cost: Decimal = _ZERO

    @property
    def average(self) -> Decimal:
        return self.cost / self.quantity if self.quantity else _ZERO

    def add(self, quantity: int, cost: Decimal) -> None:
        self.quantity += quantity
        self.cost += cost

    def remove(self, quantity: int) -> Decimal:
        """Take ``quantity`` (of the lot's own sign) out at average cost and return that cost."""
        released = self.cost if quantity == self.quantity else self.cost * quantity / self.quantity
        self.quantity -= quantity
        self.cost -= released
        return released


@attrs.define
class _Line:
    """One row of today's positions."""

    instrument: Instrument
    product: Product
    open: _Lot = attrs.field(factory=_Lot)
    """Intraday: the open position, signed. Delivery: what is left of today's purchases."""
    bought: _Lot = attrs.field(factory=_Lot)
    sold: _Lot = attrs.field(factory=_Lot)
    realised: Decimal = _ZERO


@attrs.define
class _Shares:
    """One row of the holdings."""

    instrument: Instrument
    lot: _Lot = attrs.field(factory=_Lot)
    unsettled: int = 0
    """Units bought on the previous trading day."""


class Account:
    """Cash, today's positions and the shares held overnight.

    Delivery sales take today's purchases first, then the holdings. A delivery purchase is a
    position today, an unsettled holding after one `next_day`, a settled one after two.
    Holdings go by ISIN, so that what was bought on one exchange can be sold on the other.
    """

    def __init__(self, *, cash: Decimal, leverage: Decimal = Decimal(1)) -> None:
        self.cash = cash
        """Rupees after every trade so far, before charges."""
        self.realised = _ZERO
        """Rupees won or lost on what was closed, since the beginning, before charges."""
        self._leverage = leverage
        self._lines: dict[tuple[str, Product], _Line] = {}
        self._shares: dict[str, _Shares] = {}

    def book(self, trade: Trade) -> None:
        """Apply one trade."""
        line = self._line(trade.instrument, trade.product)
        side = line.bought if trade.side is Side.BUY else line.sold
        side.add(trade.quantity, trade.value)
        self.cash -= trade.side.sign * trade.value
        won = self._deliver(line, trade) if trade.product is Product.DELIVERY else self._net(line, trade)
        line.realised += won
        self.realised += won

    def convert(self, instrument: Instrument, quantity: int, *, from_product: Product, to_product: Product) -> None:
        """Hold ``quantity`` units (signed) of today's position as another product, at their average cost.

        Raises:
            InvalidOrder: So many are not open.
        """
        line = self._line(instrument, from_product)
        if quantity == 0 or abs(quantity) > abs(line.open.quantity) or quantity * line.open.quantity < 0:
            raise InvalidOrder(f"{line.open.quantity} {instrument.id} are open as {from_product}, not {quantity}")
        cost = line.open.remove(quantity)
        other = self._line(instrument, to_product)
        self._turnover(line, quantity).add(-abs(quantity), -abs(cost))
        self._turnover(other, quantity).add(abs(quantity), abs(cost))
        other.open.add(quantity, cost)

    def give(self, instrument: Instrument, quantity: int, average_price: Decimal) -> None:
        """Put settled shares into the holdings without a trade, as an account may have at its start."""
        self._share(instrument).lot.add(quantity, average_price * quantity)

    def net(self, instrument: Instrument, product: Product) -> int:
        """Return the open quantity of today's position, signed; for delivery, what today's purchases left."""
        line = self._lines.get((instrument.id, product))
        return line.open.quantity if line else 0

    def deliverable(self, instrument: Instrument) -> int:
        """Return units that a delivery sale can take: holdings, settled or not, and today's purchases."""
        shares = self._shares.get(_isin(instrument))
        held = shares.lot.quantity if shares else 0
        return held + self.net(instrument, Product.DELIVERY)

    def margin(self) -> Decimal:
        """Return rupees that open intraday and carried positions need: their value by the leverage."""
        return sum((abs(line.open.cost) for line in self._not_delivered()), _ZERO) / self._leverage

    def held_back(self) -> Decimal:
        """Return rupees of ``cash`` that those positions keep from being spent.

        That is their margin and what short sales brought in, less what was paid for long
        positions, which the leverage lends.
        """
        costs = [line.open.cost for line in self._not_delivered()]
        return sum(map(abs, costs), _ZERO) / self._leverage - sum(costs, _ZERO) if costs else _ZERO

    def open_intraday(self) -> list[tuple[Instrument, int]]:
        """Return positions that may not be kept overnight: instrument and signed quantity."""
        return [
            (line.instrument, line.open.quantity)
            for line in self._lines.values()
            if line.product is Product.INTRADAY and line.open.quantity
        ]

    def next_day(self) -> None:
        """End the trading day: purchases become holdings, closed rows go, carried positions stay."""
        for shares in self._shares.values():
            shares.unsettled = 0
        lines, self._lines = self._lines, {}
        for key, line in lines.items():
            if line.product is Product.DELIVERY:
                if line.open.quantity:
                    shares = self._share(line.instrument)
                    shares.lot.add(line.open.quantity, line.open.cost)
                    shares.unsettled += line.open.quantity
            elif line.open.quantity:
                self._lines[key] = _Line(line.instrument, line.product, open=line.open)
        self._shares = {key: each for key, each in self._shares.items() if each.lot.quantity}

    def positions(self, last: Mapping[str, Decimal]) -> list[Position]:
        """Return today's rows; ``last`` are last prices by instrument id."""
        return [self._position(line, last.get(line.instrument.id)) for line in self._lines.values()]

    def holdings(self, last: Mapping[str, Decimal]) -> list[Holding]:
        """Return the shares held, without today's purchases; ``last`` are last prices by instrument id."""
        return [
            Holding(
                instrument=each.instrument,
                quantity=each.lot.quantity,
                available_quantity=each.lot.quantity,
                unsettled_quantity=min(each.unsettled, each.lot.quantity),
                average_price=each.lot.average,
                last_price=last.get(each.instrument.id),
            )
            for each in self._shares.values()
            if each.lot.quantity
        ]

    def unrealised(self, last: Mapping[str, Decimal]) -> Decimal:
        """Return what closing everything at ``last`` would add; an unknown price counts as the cost."""
        total = _ZERO
        for instrument, lot in self._open():
            price = last.get(instrument.id)
            if price is not None:
                total += price * lot.quantity - lot.cost
        return total

    def at_cost(self) -> Decimal:
        """Return what everything open has cost; ``cash`` plus this less ``realised`` never changes by trading."""
        return sum((lot.cost for _, lot in self._open()), _ZERO)

    def _not_delivered(self) -> Iterator[_Line]:
        return (line for line in self._lines.values() if line.product is not Product.DELIVERY)

    def _open(self) -> Iterator[tuple[Instrument, _Lot]]:
        for line in self._lines.values():
            yield line.instrument, line.open
        for shares in self._shares.values():
            yield shares.instrument, shares.lot

    def _net(self, line: _Line, trade: Trade) -> Decimal:
        signed = trade.quantity * trade.side.sign
        lot = line.open
        if lot.quantity * signed >= 0:
            lot.add(signed, signed * trade.price)
            return _ZERO
        closing = min(abs(lot.quantity), trade.quantity) * trade.side.sign
        released = lot.remove(-closing)
        if signed != closing:
            lot.add(signed - closing, (signed - closing) * trade.price)
        return -closing * trade.price - released

    def _deliver(self, line: _Line, trade: Trade) -> Decimal:
        if trade.side is Side.BUY:
            line.open.add(trade.quantity, trade.value)
            return _ZERO
        from_today = min(line.open.quantity, trade.quantity)
        released = line.open.remove(from_today) if from_today else _ZERO
        from_held = trade.quantity - from_today
        if from_held:
            shares = self._share(trade.instrument)
            released += shares.lot.remove(from_held)
        return trade.value - released

    def _position(self, line: _Line, last: Decimal | None) -> Position:
        delivery = line.product is Product.DELIVERY
        net = line.bought.quantity - line.sold.quantity if delivery else line.open.quantity
        if net == 0:
            average = _ZERO
        elif line.open.quantity:
            average = line.open.average
        else:
            average = line.sold.average
        return Position(
            instrument=line.instrument,
            product=line.product,
            quantity=net,
            average_price=average,
            bought_quantity=line.bought.quantity,
            sold_quantity=line.sold.quantity,
            bought_value=line.bought.cost,
            sold_value=line.sold.cost,
            realised_pnl=line.realised,
            unrealised_pnl=None if last is None else last * line.open.quantity - line.open.cost,
        )

    @staticmethod
    def _turnover(line: _Line, quantity: int) -> _Lot:
        return line.bought if quantity > 0 else line.sold

    def _line(self, instrument: Instrument, product: Product) -> _Line:
        key = (instrument.id, product)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(instrument, product)
        return line

    def _share(self, instrument: Instrument) -> _Shares:
        return self._shares.setdefault(_isin(instrument), _Shares(instrument))


def _isin(instrument: Instrument) -> str:
    return instrument.isin or instrument.id
