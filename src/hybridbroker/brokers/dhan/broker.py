"""DhanBroker: the `Broker` on Dhan's order API."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Self

import attrs

from hybridbroker.brokers.dhan import CAPABILITIES
from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.faults import Fault
from hybridbroker.brokers.dhan.limits import MODIFICATIONS_PER_ORDER
from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.brokers.dhan.orders.book import NAME, Book
from hybridbroker.brokers.dhan.orders.mapping import (
    funds_from_wire,
    holding_from_wire,
    order_from_ack,
    position_from_wire,
    status_from_wire,
)
from hybridbroker.brokers.dhan.orders.rest import DhanRest
from hybridbroker.brokers.dhan.orders.terms import amended, modification_to_wire, order_to_wire
from hybridbroker.brokers.dhan.orders.updates import OrderUpdates
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import Clock
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.errors import (
    HybridBrokerError,
    InvalidOrder,
    NotSent,
    OrderNotFound,
    OrderOutcomeUnknown,
    OrderRejected,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.protocols import InstrumentLookup

__all__ = ["DhanBroker"]

logger = logging.getLogger(__name__)

_TRANSIT_PAUSES: Final = (0.5, 1.0)


class DhanBroker:
    """A `Broker` on one Dhan account. Constructing it sends nothing; ``async with`` opens it.

    Where it differs from the protocol or adds to it:

    - An accepted order is mostly ``PENDING`` at first (Dhan: TRANSIT); a rejection by Dhan's risk
      checks or the exchange shows only in the book or in an update.
    - Market orders become limits with a band that Dhan does not publish, and may rest.
    - Client order ids are no idempotency keys at Dhan: two orders may carry one id.
    - Orders are taken only from the account's registered address (`StaticIpRequired`); reads
      from anywhere. Do not go on sending after that.
    - A token found expired by its own date is refused here with `TokenExpired`, unsent.
    - What an instrument registry does not know shows as an `Instrument` of kind ``UNLISTED``.
    """

    name = NAME
    capabilities = CAPABILITIES

    def __init__(
        self,
        settings: DhanSettings,
        *,
        instruments: InstrumentLookup,
        clock: Clock,
    ) -> None:
        settings.require()
        self._settings = settings
        self._token = AccessToken.of(client_id=settings.client_id, secret=settings.access_token)
        self._instruments = instruments
        self._clock = clock
        self._rest = DhanRest(
            base_url=settings.base_url,
            token=self._token,
            clock=clock,
            keep_warm_seconds=settings.keep_warm_seconds,
        )
        self._book = Book(self._rest, instruments=instruments, clock=clock)
        self._changes: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        await self._rest.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._rest.__aexit__(*exc)

    async def place_order(self, request: OrderRequest) -> Order:
        """Send one order; one POST at most, whatever happens."""
        now = self._clock.now()
        request = request.named(now)
        assert request.client_order_id is not None  # noqa: S101 - named above
        key = self._instruments.key(request.instrument, NAME)
        body = order_to_wire(request, key=key, client_id=self._token.client_id)
        ack = await self._rest.place(body, client_order_id=request.client_order_id)
        order = order_from_ack(ack, request, at=now)
        self._book.note(order)
        return order

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an open order: one read, then one PUT at most, which states every term anew.

        The answer holds the new terms and the fills read just before. Without anything to
        change nothing is written. Dhan allows 25 changes of an order; those made (or perhaps
        made) through this object are counted, and the next is `InvalidOrder`. Where the read
        fails, the answer is `NotSent`.
        """
        if self._changes[order_id] >= MODIFICATIONS_PER_ORDER:
            raise InvalidOrder(
                f"order {order_id} has been changed {MODIFICATIONS_PER_ORDER} times, which is all Dhan allows; "
                "cancel it and place a new one"
            )
        try:
            row = await self._book.row(order_id)
        except (ReplyLost, ServiceUnavailable, WireFormatError) as exc:
            # Passed on as it is, it would look like the lost answer to a change that was made.
            raise NotSent(f"order {order_id} was not changed, since it could not be read before: {exc}") from exc
        order = self._book.read(row)
        if quantity is None and price is None and trigger_price is None and validity is None:
            return order
        request = amended(
            order,
            quantity=quantity,
            price=price,
            trigger_price=trigger_price,
            validity=validity,
            disclosed_quantity=row.disclosed_quantity or 0,
        )
        body = modification_to_wire(order_id, request, client_id=self._token.client_id)
        try:
            ack = await self._rest.modify(order_id, body)
        except OrderOutcomeUnknown:
            self._changes[order_id] += 1
            raise
        self._changes[order_id] += 1
        return self._changed(order, request, ack)

    def _changed(self, order: Order, request: OrderRequest, ack: wire.OrderAck) -> Order:
        raw = ack.order_status or order.raw
        changed = attrs.evolve(
            order,
            quantity=request.quantity,
            price=request.price,
            trigger_price=request.trigger_price,
            validity=request.validity,
            status=status_from_wire(raw, quantity=request.quantity, filled=order.filled_quantity),
            raw=raw,
        )
        self._book.note(changed)
        return changed

    async def cancel_order(self, order_id: str) -> Order:
        """Ask for cancellation, and return the order as the book shows it afterwards.

        A cancellation that Dhan refuses because the order is still on its way to the exchange
        is asked again, twice at most and within two seconds: it was refused unread, and asking
        twice cannot cancel more. An order that is over already is returned as it is.

        Where the cancellation was acknowledged but the order could not be read back, the
        answer is the order as last seen with status ``UNKNOWN`` (how much of it filled is not
        known), or `ReplyLost` where this object has never seen it. Only a cancellation that
        was not acknowledged raises `OrderOutcomeUnknown`.
        """
        try:
            ack = await self._ask_to_cancel(order_id)
        except OrderRejected as refused:
            return await self._over_already(order_id, refused)
        try:
            return await self._book.order(order_id)
        except HybridBrokerError as exc:
            return self._cancelled_unseen(order_id, ack, exc)

    async def _ask_to_cancel(self, order_id: str) -> wire.OrderAck:
        if not (order_id.isascii() and order_id.isalnum()):
            raise OrderNotFound(f"Dhan's order ids are digits; {order_id[:40]!r} is none")
        for pause in _TRANSIT_PAUSES:
            try:
                return await self._rest.cancel(order_id)
            except OrderRejected as exc:
                if not Fault(code=exc.code, message=exc.reason).in_transit:
                    raise
                logger.info("cancelling order %s again in %.1f s: %s", order_id, pause, exc)
            await self._clock.sleep(pause)
        return await self._rest.cancel(order_id)

    async def _over_already(self, order_id: str, refused: OrderRejected) -> Order:
        try:
            order = await self._book.order(order_id)
        except OrderNotFound as exc:
            raise exc from refused
        except HybridBrokerError as exc:
            raise refused from exc
        if not order.is_final:
            raise refused
        return order

    def _cancelled_unseen(self, order_id: str, ack: wire.OrderAck, failure: HybridBrokerError) -> Order:
        known = self._book.known(order_id)
        if known is None:
            raise ReplyLost(
                f"the cancellation of order {order_id} was acknowledged, but the order could not be read back "
                f"to see what had filled: {failure}"
            ) from failure
        logger.warning("order %s was cancelled, but could not be read back: %s", order_id, failure)
        return known if known.is_final else attrs.evolve(known, status=OrderStatus.UNKNOWN, raw=ack.order_status or "")

    async def order(self, order_id: str) -> Order:
        """Return one order of today; raise `OrderNotFound`."""
        return await self._book.order(order_id)

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the order that carries this client order id; where two do, the newer one.

        None where Dhan shows it neither by that id (it does not while the order is in transit)
        nor in the book. Right after a lost reply that is no proof that it does not exist.
        """
        return await self._book.find(client_order_id)

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today, oldest first; a row that cannot be read fails the call."""
        return await self._book.orders()

    async def trades(self, order_id: str | None = None) -> Sequence[Trade]:
        """Return all executions of today, or those of one order, oldest first."""
        return await self._book.trades(order_id)

    def order_updates(self) -> OrderUpdates:
        """Stream every change of every order of the account, whichever platform it came from.

        What happened before it was entered is not repeated: enter it, then read `orders`.
        """
        return OrderUpdates(
            url=self._settings.order_updates_url,
            token=self._token,
            clock=self._clock,
            book=self._book,
            verify=self._rest.profile,
        )

    async def positions(self) -> Sequence[Position]:
        """Return today's positions; shares bought for delivery are here today and in `holdings` tomorrow."""
        found = []
        for row in await self._rest.positions():
            instrument = self._book.instrument(
                row.exchange_segment,
                row.security_id,
                symbol=row.trading_symbol,
                expiry=row.drv_expiry_date,
                strike=row.drv_strike_price,
            )
            found.append(position_from_wire(row, instrument=instrument))
        return found

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held; Dhan's HTTP 500 for an empty portfolio is an empty sequence."""
        return [holding_from_wire(row, instrument=self._book.holding(row)) for row in await self._rest.holdings()]

    async def funds(self) -> Funds:
        """Return what can be spent; ``available`` includes collateral (unconfirmed)."""
        return funds_from_wire(await self._rest.funds())
