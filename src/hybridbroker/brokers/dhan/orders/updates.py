"""Every change of every order of the account, from Dhan's order-update socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack

from hybridbroker.brokers.dhan.auth import TokenSource
from hybridbroker.brokers.dhan.orders import update_feed as feed
from hybridbroker.brokers.dhan.orders.book import Book
from hybridbroker.brokers.updating import UpdateStream
from hybridbroker.clock import Clock
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.errors import NetworkError
from hybridbroker.transport.ws import Endpoint

__all__ = ["OrderUpdates"]


class OrderUpdates(UpdateStream[Order | Gap]):
    """Enter it to connect, iterate it for orders and gaps, leave it to close.

    Nothing is dropped or conflated: orders wait for a slow consumer in a queue without bounds.
    Updates come in the order Dhan sends them; one that says less than what has been shown
    already (fewer fills, or life after death) is counted as stale and not shown. After a
    reconnection comes a `Gap`, then the orders that the re-read book shows changed. A frame
    that cannot be read is counted, and the book read instead.

    Dhan refuses a bad token by cutting the connection without a word (recorded). So before
    a connection on which nothing came is replaced, the token is checked with one REST call;
    a refusal there ends the stream with `FeedAuthenticationError` instead of hammering.
    """

    _book: Book

    def __init__(
        self, *, url: str, tokens: TokenSource, clock: Clock, book: Book, verify: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(name="Dhan order updates", unit="an order update", clock=clock, book=book)
        self._url = url
        self._tokens = tokens
        self._login = ""
        self._verify = verify
        self._silent = False

    async def _connect(self, opening: AsyncExitStack) -> None:
        try:
            await super()._connect(opening)
        except NetworkError:
            if self._silent:
                await self._verify()
            raise

    async def _endpoint(self) -> Endpoint:
        if self._silent:
            await self._verify()
        self._login = feed.login_frame(await self._tokens.token())
        self._silent = True
        return Endpoint(self._url)

    def _hello(self) -> Iterable[str]:
        return [self._login]

    async def _understand(self, frame: bytes | str) -> Order | None:
        self._silent = False
        alert = feed.read_frame(frame)
        if alert is None:
            return None
        known = self._shown.get(alert.order_no) or self._book.known(alert.order_no)
        segment = feed.segment_of(alert)
        instrument = None
        if segment is not None and alert.security_id:
            instrument = self._book.names.instrument(
                segment, alert.security_id, symbol=alert.symbol, expiry=alert.expiry_date
            )
        order = feed.order_from_alert(alert, instrument=instrument, known=known)
        if order is None or order.status is OrderStatus.UNKNOWN:
            return await self._book.order(alert.order_no)
        return order

    def _is_stale(self, order: Order, shown: Order) -> bool:
        if order.filled_quantity != shown.filled_quantity:
            return order.filled_quantity < shown.filled_quantity
        if shown.is_final:
            return not order.is_final
        return bool(shown.updated_at and order.updated_at and order.updated_at < shown.updated_at)
