"""What changes in the account, from Upstox's portfolio stream: orders, and on demand all the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hybridbroker.brokers.updating import AccountEvent, E_co, UpdateStream
from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.book import Book
from hybridbroker.brokers.upstox.orders.gtt import GttDesk
from hybridbroker.brokers.upstox.orders.mapping import holding_from_wire, position_from_wire
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.brokers.upstox.orders.update_feed import EVERYTHING, ORDERS, read_message
from hybridbroker.clock import Clock
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.transport.ws import Endpoint

__all__ = ["AccountEvent", "AccountUpdates", "OrderUpdates", "PortfolioUpdates"]

_NOT_THERE_YET: Final = frozenset({OrderStatus.PENDING})


class AccountUpdates(UpdateStream[E_co]):
    """Enter it to connect, iterate it for events and gaps, leave it to close.

    Nothing is dropped or conflated: events wait for a slow consumer in a queue without bounds.
    Orders come as Upstox sends them; one that says less than what has been shown already (fewer
    fills, life after death, an earlier time, a step back to "on its way") is counted as stale,
    one that says nothing new as duplicate, and neither is shown. After a reconnection comes a
    `Gap`, then the orders that the re-read book shows changed. A message that cannot be read is
    counted, and the book read instead.

    Every connection asks for an address of its own, which works once.
    """

    kinds: Sequence[str] = ORDERS
    """What Upstox is asked to tell."""

    _book: Book

    def __init__(self, *, rest: UpstoxOrderRest, clock: Clock, book: Book, desk: GttDesk) -> None:
        super().__init__(
            name="Upstox portfolio stream", unit="a message of the portfolio stream", clock=clock, book=book
        )
        self._rest = rest
        self._desk = desk

    async def _endpoint(self) -> Endpoint:
        return Endpoint(await self._rest.updates_address(self.kinds))

    async def _understand(self, frame: bytes | str) -> AccountEvent | None:
        message = read_message(frame)
        if isinstance(message, wire.OrderRow):
            order = self._book.read(message)
            return await self._book.order(order.id) if order.status is OrderStatus.UNKNOWN else order
        return None if message is None else self._other(message)

    def _other(self, message: wire.GttRow | wire.PositionRow | wire.HoldingRow) -> AccountEvent:
        if isinstance(message, wire.GttRow):
            return self._desk.read(message)
        isin = message.isin if isinstance(message, wire.HoldingRow) else None
        instrument = self._book.instrument(
            message.instrument_key, exchange=message.exchange, symbol=message.trading_symbol, isin=isin
        )
        if isinstance(message, wire.HoldingRow):
            return holding_from_wire(message, instrument=instrument)
        return position_from_wire(message, instrument=instrument)

    def _is_stale(self, order: Order, shown: Order) -> bool:
        return is_stale(order, shown)

    def _needless(self, order: Order, shown: Order) -> str | None:
        if is_stale(order, shown):
            self._book.note(shown)  # reading the message has noted what it says
            return "stale"
        return "duplicate" if order == shown else None


class OrderUpdates(AccountUpdates[Order | Gap]):
    """Every change of every order of the account, whichever platform it came from."""

    kinds = ORDERS


class PortfolioUpdates(AccountUpdates[AccountEvent]):
    """Orders, GTT and bracket orders, positions and holdings, in the order Upstox tells of them.

    Only orders are read again after a gap: read the others yourself at a `Gap`. A holding or
    position message lacks the market's prices and the profits.
    """

    kinds = EVERYTHING


def is_stale(order: Order, shown: Order) -> bool:
    """Say whether ``order`` tells of a moment before ``shown``, as far as fills, status and times tell.

    What is final stays so, and comes last whatever its time. Times are whole seconds, so within
    one second the status decides: what has left Upstox's own checks does not go back to them.
    """
    if order.filled_quantity != shown.filled_quantity:
        return order.filled_quantity < shown.filled_quantity
    if shown.is_final:
        return order.status is not shown.status
    if order.is_final:
        return False
    if order.updated_at is not None and shown.updated_at is not None and order.updated_at != shown.updated_at:
        return order.updated_at < shown.updated_at
    return order.status in _NOT_THERE_YET and shown.is_open and shown.status not in _NOT_THERE_YET
