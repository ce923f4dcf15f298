"""Orders placed, changed and cancelled, and what became of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.brokers.upstox.client import unknown
from hybridbroker.brokers.upstox.orders.batch import Batch, Refused, batch_from_wire
from hybridbroker.brokers.upstox.orders.book import NAME, Book, check_id
from hybridbroker.brokers.upstox.orders.mapping import CHANGING, REFUSED_CHANGE, order_from_ack, spelled
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.brokers.upstox.orders.terms import (
    amended,
    check_band,
    modification_to_wire,
    order_to_wire,
    sliced_to_wire,
)
from hybridbroker.clock import IST, Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, Validity
from hybridbroker.domain.sliced import Sliced, SlicedOrder
from hybridbroker.errors import (
    HybridBrokerError,
    NotSent,
    OrderError,
    OrderNotFound,
    OrderRejected,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.protocols import InstrumentLookup

__all__ = ["OrderDesk"]

logger = logging.getLogger(__name__)

_PAUSES: Final = (0.0, 0.3, 0.7)
_OPENS: Final = time(5, 30)
_UNREAD: Final = (ReplyLost, ServiceUnavailable, RateLimited, WireFormatError)
_NONE_OPEN: Final = frozenset({"UDAPI1108", "UDAPI1109"})
_TOO_MANY: Final = frozenset({"UDAPI1109", "UDAPI1110"})
"""Pages disagree about which of these codes means what, so the book is asked."""


class OrderDesk:
    """The writes to single orders of one account."""

    def __init__(
        self,
        rest: UpstoxOrderRest,
        *,
        book: Book,
        instruments: InstrumentLookup,
        clock: Clock,
        market_protection: Decimal,
        price_bands: Callable[[Instrument], tuple[Decimal, Decimal] | None],
    ) -> None:
        self._rest = rest
        self._book = book
        self._instruments = instruments
        self._clock = clock
        self._protection = market_protection
        self._price_bands = price_bands

    async def place(self, request: OrderRequest) -> Order:
        """Send one order."""
        now = self._clock.now()
        request = request.named(now)
        assert request.client_order_id is not None  # noqa: S101 - named above
        check_band(request, self._price_bands(request.instrument))
        key = self._instruments.key(request.instrument, NAME)
        body = order_to_wire(request, key=key, market_protection=self._protection)
        _warn_of_the_hours(request.client_order_id, now)
        ids = (await self._rest.place(body, client_order_id=request.client_order_id)).ids
        if len(ids) > 1:
            raise unknown(
                f"order {request.client_order_id}", request.client_order_id, f"it became {len(ids)} orders: {ids}"
            )
        order = order_from_ack(ids[0], request, at=now)
        self._book.note(order)
        return order

    async def place_sliced(self, request: SlicedOrder) -> Sliced:
        """Send one order that Upstox cuts."""
        now = self._clock.now()
        request = request.named(now)
        name = request.client_order_id
        assert name is not None  # noqa: S101 - named above
        check_band(request, self._price_bands(request.instrument))
        key = self._instruments.key(request.instrument, NAME)
        body = sliced_to_wire(request, key=key, market_protection=self._protection)
        _warn_of_the_hours(name, now)
        placed = await self._rest.place(body, client_order_id=name)
        ids = placed.ids
        parts = request.parts()
        if len(ids) == len(parts):
            orders = [order_from_ack(each, part, at=now) for each, part in zip(ids, parts, strict=True)]
            for order in orders:
                self._book.note(order)
        else:
            try:
                orders = await self._book.several(ids)
            except HybridBrokerError as exc:
                raise unknown(f"order {name}", name, f"it became the orders {', '.join(ids)}, unread: {exc}") from exc
        return Sliced(client_order_id=name, quantity=request.quantity, orders=tuple(orders), reason=placed.refused)

    async def modify(
        self,
        order_id: str,
        *,
        quantity: int | None,
        price: Decimal | None,
        trigger_price: Decimal | None,
        validity: Validity | None,
    ) -> Order:
        """Change an open order."""
        try:
            row = await self._book.row(order_id)
        except _UNREAD as exc:
            # Passed on as it is, it would look like the lost answer to a change that was made.
            raise NotSent(f"order {order_id} was not changed, since it could not be read before: {exc}") from exc
        before = self._book.read(row)
        if quantity is None and price is None and trigger_price is None and validity is None:
            return before
        request = amended(
            before,
            quantity=quantity,
            price=price,
            trigger_price=trigger_price,
            validity=validity,
            disclosed_quantity=row.disclosed_quantity,
        )
        check_band(request, self._price_bands(request.instrument))
        await self._rest.modify(order_id, modification_to_wire(order_id, request, market_protection=self._protection))
        wanted = attrs.evolve(
            before,
            type=request.type,
            quantity=request.quantity,
            price=request.price,
            trigger_price=request.trigger_price,
            validity=request.validity,
        )
        return await self._after(order_id, before=before, unseen=wanted)

    async def cancel(self, order_id: str) -> Order:
        """Cancel an order."""
        check_id(order_id)
        before = self._book.known(order_id)
        try:
            await self._rest.cancel(order_id)
        except OrderRejected as refused:
            return await self._over_already(order_id, refused)
        return await self._after(order_id, before=before, unseen=before)

    async def cancel_all(self, *, tag: str | None, segment: str | None) -> Batch:
        """Cancel all open orders."""
        try:
            answer = await self._rest.cancel_all(tag=tag, segment=segment)
        except OrderRejected as refused:
            if refused.code not in _NONE_OPEN | _TOO_MANY:
                raise
            return await self._cancel_each(refused, tag=tag, segment=segment)
        return batch_from_wire(answer)

    async def _cancel_each(self, refused: OrderRejected, *, tag: str | None, segment: str | None) -> Batch:
        """Cancel what the book shows open, one by one; nothing where it shows nothing open."""
        try:
            orders = await self._book.orders()
        except HybridBrokerError as exc:
            raise refused from exc
        left = [each for each in orders if not each.is_final and (tag is None or each.client_order_id == tag)]
        if segment is not None:
            left = [each for each in left if self._segment(each) == segment]
        if left and refused.code not in _TOO_MANY:
            raise refused
        done, not_done = [], []
        for order in left:
            try:
                await self._rest.cancel(order.id)
                done.append(order.id)
            except (OrderError, RateLimited, NotSent) as exc:
                code = exc.code if isinstance(exc, OrderRejected) else None
                not_done.append(Refused(order_id=order.id, key=None, reason=str(exc), code=code))
        return Batch(order_ids=tuple(done), refused=tuple(not_done))

    def _segment(self, order: Order) -> str | None:
        try:
            return self._instruments.key(order.instrument, NAME).segment
        except HybridBrokerError:
            return order.instrument.id.removeprefix("UPSTOX:").partition("|")[0]

    async def _after(self, order_id: str, *, before: Order | None, unseen: Order | None) -> Order:
        """Return the order as it stands after a write that was acknowledged.

        Raises:
            OrderRejected: The exchange has refused the change.
            ReplyLost: It cannot be read, and was never seen.
        """
        try:
            order = await self._settled(order_id)
        except HybridBrokerError as exc:
            return self._unread(order_id, unseen, exc)
        # Where it was not seen before, or said so before, the words may be about an earlier change.
        if spelled(order.raw) in REFUSED_CHANGE and before is not None and before.raw != order.raw:
            raise OrderRejected(f"order {order_id} stands as it was ({order.raw}): {order.reason or 'no reason given'}")
        return order

    async def _settled(self, order_id: str) -> Order:
        for pause in _PAUSES:
            if pause:
                await self._clock.sleep(pause)
            order = await self._book.order(order_id)
            if spelled(order.raw) not in CHANGING:
                break
        return order

    def _unread(self, order_id: str, unseen: Order | None, failure: HybridBrokerError) -> Order:
        if unseen is None:
            raise ReplyLost(
                f"the write to order {order_id} was acknowledged, but the order could not be read back "
                f"to see what had filled: {failure}"
            ) from failure
        logger.warning("order %s was written, but could not be read back: %s", order_id, failure)
        return unseen if unseen.is_final else attrs.evolve(unseen, status=OrderStatus.UNKNOWN, raw="")

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


def _warn_of_the_hours(name: str, now: datetime) -> None:
    # Only told: hours change and clocks are wrong, and an exit must not be held back for either.
    if now.astimezone(IST).time() < _OPENS:
        logger.warning("sending order %s before 05:30 IST, when Upstox is documented to refuse orders", name)
