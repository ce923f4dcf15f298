"""The account's orders and trades as Upstox's books show them, and as they were last seen."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import attrs

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.mapping import contradicts, order_from_wire, trade_from_wire, unlisted
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.clock import IST, Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, Trade
from hybridbroker.errors import ConfigurationError, InstrumentError, OrderNotFound, Unsupported, WireFormatError
from hybridbroker.protocols import InstrumentLookup

__all__ = ["NAME", "Book", "check_id"]

logger = logging.getLogger(__name__)

NAME: Final = "upstox"
_LONGEST: Final = 64
_NOT_ASKED: Final = (ConfigurationError, Unsupported, WireFormatError)


class Book:
    """Reads orders, and remembers the newest sight of each until the trading date changes."""

    def __init__(self, rest: UpstoxOrderRest, *, instruments: InstrumentLookup, clock: Clock) -> None:
        self._rest = rest
        self._instruments = instruments
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
        check_id(order_id)
        row = await self._rest.order(order_id)
        if row is None or str(row.get("order_id")) != order_id:
            row = _newest(each for each in await self._rest.orders() if str(each.get("order_id")) == order_id)
        if row is None:
            raise OrderNotFound(f"Upstox shows no order {order_id} today")
        return _order_row(row)

    async def order(self, order_id: str) -> Order:
        """Return one order; raise `OrderNotFound`."""
        return self.read(await self.row(order_id))

    async def find(self, client_order_id: str) -> Order | None:
        """Return the newest order that carries this tag, or None where neither call shows one.

        Asked are the history by tag and, where that shows nothing, the book. What is returned
        is the order as it is now, not a row of its past.
        """
        try:
            history = await self._rest.history(tag=client_order_id)
        except _NOT_ASKED as exc:
            logger.info("looking for %s in the book, the history refused it: %s", client_order_id, exc)
            history = []
        found = _newest(each for each in history if each.get("tag") == client_order_id)
        if found is not None:
            try:
                return await self.order(str(found.get("order_id")))
            except OrderNotFound:
                return self.read(_order_row(found))
        row = _newest(each for each in await self._rest.orders() if each.get("tag") == client_order_id)
        return None if row is None else self.read(_order_row(row))

    async def history(self, order_id: str) -> list[Order]:
        """Return the states of one order in the order Upstox lists them, the first one first."""
        check_id(order_id)
        rows = await self._rest.history(order_id=order_id)
        if not rows:
            raise OrderNotFound(f"Upstox shows no history of order {order_id}")
        return [self._as_order(_order_row(row)) for row in rows]

    async def several(self, order_ids: Sequence[str]) -> list[Order]:
        """Return these orders, in their order; raise `OrderNotFound` where the book does not show them all."""
        rows = {str(row.get("order_id")): row for row in await self._rest.orders()}
        missing = [each for each in order_ids if each not in rows]
        if missing:
            raise OrderNotFound(f"the book does not show {', '.join(missing)} yet")
        return [self.read(_order_row(rows[each])) for each in order_ids]

    async def orders(self) -> list[Order]:
        """Return all orders, oldest first; one that cannot be read fails the call rather than be missing.

        Ids begin with the date and count up, times are those of the newest state, so ids decide.
        """
        found = [self.read(_order_row(row)) for row in await self._rest.orders()]
        return sorted(found, key=lambda order: _age(order.id))

    async def trades(self, order_id: str | None) -> list[Trade]:
        """Return all executions, or one order's, oldest first."""
        if order_id is not None:
            check_id(order_id)
        found = [self._trade(row) for row in await self._rest.trades(order_id)]
        return sorted(found, key=lambda trade: trade.traded_at)

    def read(self, row: wire.OrderRow) -> Order:
        """Return what a row says, and remember it."""
        order = self._as_order(row)
        known = self._known.get(order.id)
        if known is not None and known.placed_at is not None and order.placed_at is not None:
            order = attrs.evolve(order, placed_at=min(known.placed_at, order.placed_at))
        self.note(order)
        return order

    def instrument(self, key: str, *, exchange: str | None, symbol: str | None, isin: str | None = None) -> Instrument:
        """Return the instrument a row is about; one the registry does not vouch for is a stand-in, not left out."""
        try:
            instrument = self._instruments.by_key(NAME, key)
        except InstrumentError:
            return unlisted(key, exchange=exchange, symbol=symbol, isin=isin)
        if contradicts(instrument, symbol):
            return unlisted(key, exchange=exchange, symbol=symbol, isin=isin)
        return instrument

    def _as_order(self, row: wire.OrderRow) -> Order:
        instrument = self.instrument(row.instrument_key, exchange=row.exchange, symbol=row.trading_symbol)
        return order_from_wire(row, instrument=instrument)

    def _trade(self, row: wire.TradeRow) -> Trade:
        instrument = self.instrument(row.instrument_key, exchange=row.exchange, symbol=row.trading_symbol)
        return trade_from_wire(row, instrument=instrument)


def check_id(order_id: str) -> None:
    """Raise `OrderNotFound` for what cannot be an id of Upstox's, which are put into URLs."""
    plain = order_id.replace("-", "").replace("_", "")
    if not (plain.isascii() and plain.isalnum() and len(order_id) <= _LONGEST):
        raise OrderNotFound(f"Upstox's ids are digits and letters; {order_id[:40]!r} is none")


def _age(order_id: str) -> tuple[int, str]:
    """Return what sorts ids by age; slices (``<id>_1``) follow one another."""
    return len(order_id.partition("_")[0]), order_id


def _newest(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the last row of the newest order."""
    newest: Mapping[str, Any] | None = None
    for row in rows:
        if newest is None or _age(str(row.get("order_id"))) >= _age(str(newest.get("order_id"))):
            newest = row
    return newest


def _order_row(row: Mapping[str, Any]) -> wire.OrderRow:
    return wire.OrderRow.read(row, what=f"order {str(row.get('order_id'))[:40]}")
