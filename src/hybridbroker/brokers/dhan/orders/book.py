"""The account's orders and trades as Dhan's books show them, and as they were last seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.brokers.dhan.orders.mapping import identifier, order_from_wire, trade_from_wire
from hybridbroker.brokers.dhan.orders.names import Names
from hybridbroker.brokers.dhan.orders.rest import DhanRest
from hybridbroker.clock import IST, Clock
from hybridbroker.domain.orders import Order, Trade
from hybridbroker.errors import OrderNotFound

__all__ = ["Book"]

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


class Book:
    """Reads orders, and remembers the newest sight of each until the trading date changes."""

    def __init__(self, rest: DhanRest, *, names: Names, clock: Clock) -> None:
        self.names = names
        self._rest = rest
        self._clock = clock
        self._day: date | None = None
        self._known: dict[str, Order] = {}

    def known(self, order_id: str) -> Order | None:
        """Return an order as it was last seen today; it may have changed since."""
        return self._known.get(order_id)

    def note(self, order: Order) -> None:
        """Remember how an order was just seen."""
        today = self._clock.now().astimezone(IST).date()
        if today != self._day:
            self._day = today
            self._known.clear()
        self._known[order.id] = order

    async def row(self, order_id: str) -> wire.OrderRow:
        """Return the row of one order: by itself, or out of the whole book where that call does not find it.

        Raises:
            OrderNotFound: Neither call shows it, or it cannot be an order id.
        """
        if not (order_id.isascii() and order_id.isalnum()):
            raise OrderNotFound(f"Dhan's order ids are digits; {order_id[:40]!r} is none")
        row = await self._rest.order(order_id)
        if row is None or str(row.get("orderId")) != order_id:
            row = _newest(each for each in await self._rest.orders() if str(each.get("orderId")) == order_id)
        if row is None:
            raise OrderNotFound(f"Dhan shows no order {order_id} today")
        return _order_row(row)

    async def order(self, order_id: str) -> Order:
        """Return one order; raise `OrderNotFound`."""
        return self.read(await self.row(order_id))

    async def find(self, client_order_id: str) -> Order | None:
        """Return the order that carries this client order id, or None where neither call shows it.

        An order in transit is not found by its client order id yet, but may be in the book.
        """
        if identifier(client_order_id) is None:
            return None
        row = await self._rest.external(client_order_id)
        if row is None or row.get("correlationId") != client_order_id:
            row = _newest(each for each in await self._rest.orders() if each.get("correlationId") == client_order_id)
        return None if row is None else self.read(_order_row(row))

    async def orders(self) -> list[Order]:
        """Return all orders, oldest first; one that cannot be read fails the call rather than be missing."""
        found = [self.read(_order_row(row)) for row in await self._rest.orders()]
        return sorted(found, key=lambda order: order.placed_at or _BEGINNING)

    async def trades(self, order_id: str | None) -> list[Trade]:
        """Return all executions, or one order's, oldest first."""
        found = [self._trade(row) for row in await self._rest.trades(order_id)]
        return sorted(found, key=lambda trade: trade.traded_at)

    def read(self, row: wire.OrderRow) -> Order:
        """Return what a row says, and remember it."""
        instrument = self.names.instrument(
            row.exchange_segment,
            row.security_id,
            symbol=row.trading_symbol,
            expiry=row.drv_expiry_date,
            strike=row.drv_strike_price,
        )
        order = order_from_wire(row, instrument=instrument)
        self.note(order)
        return order

    def _trade(self, row: wire.TradeRow) -> Trade:
        instrument = self.names.instrument(
            row.exchange_segment,
            row.security_id,
            symbol=row.trading_symbol,
            expiry=row.drv_expiry_date,
            strike=row.drv_strike_price,
        )
        return trade_from_wire(row, instrument=instrument)


def _newest(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return max(rows, key=lambda row: str(row.get("createTime")), default=None)


def _order_row(row: Mapping[str, Any]) -> wire.OrderRow:
    return wire.OrderRow.read(row, what=f"order {str(row.get('orderId'))[:40]}")
