"""Ordinary orders: placed, sliced, changed and cancelled, each write sent once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from http import HTTPStatus
from typing import Final

import attrs

from hybridbroker.brokers.dhan.client import outcome_unknown
from hybridbroker.brokers.dhan.faults import Fault, write_error
from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.brokers.dhan.orders.book import Book
from hybridbroker.brokers.dhan.orders.changes import Changes
from hybridbroker.brokers.dhan.orders.mapping import order_from_ack, status_from_wire
from hybridbroker.brokers.dhan.orders.rest import DhanRest
from hybridbroker.brokers.dhan.orders.stop_band import StopBand
from hybridbroker.brokers.dhan.orders.terms import amended, modification_to_wire, order_to_wire, sliced_to_wire
from hybridbroker.clock import IST, Clock
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, StopMarketOrder, Validity
from hybridbroker.domain.sliced import Sliced, SlicedOrder
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

__all__ = ["OrderDesk"]

logger = logging.getLogger(__name__)

_TRANSIT_PAUSES: Final = (0.5, 1.0)


class OrderDesk:
    """Writes orders; what `DhanBroker` promises of them is kept here.

    ``stop_band`` None sends stop-market orders as they are.
    """

    def __init__(
        self,
        rest: DhanRest,
        *,
        book: Book,
        clock: Clock,
        client_id: str,
        changes: Changes,
        stop_band: StopBand | None,
    ) -> None:
        self._rest = rest
        self._book = book
        self._clock = clock
        self._client_id = client_id
        self._changes = changes
        self._stop_band = stop_band
        self._used: set[str] = set()
        self._day: date | None = None

    async def place(self, request: OrderRequest) -> Order:
        """Send one order, once."""
        now = self._clock.now()
        request = request.named(now)
        limited = request
        if self._stop_band is not None and isinstance(request, StopMarketOrder):
            limited = self._stop_band.limited(request)
        name = self._unused(limited.client_order_id)
        key = self._book.names.key(limited.instrument)
        body = order_to_wire(limited, key=key, client_id=self._client_id, raw_stop_market=self._stop_band is None)
        with self._using(name):
            ack = await self._rest.place(body, client_order_id=name)
        order = order_from_ack(ack, limited, at=now)
        if limited is not request:
            order = attrs.evolve(order, reason=f"a stop-market order, sent as stop-limit at {limited.price}")
        self._book.note(order)
        return order

    async def place_sliced(self, request: SlicedOrder) -> Sliced:
        """Send one request that becomes several orders, and read them back for how they were cut.

        Raises:
            OrderRejected: No slice was taken.
            OrderOutcomeUnknown: Which slices are live is not known; all of them carry the client order id.
        """
        request = request.named(self._clock.now())
        name = self._unused(request.client_order_id)
        body = sliced_to_wire(request, key=self._book.names.key(request.instrument), client_id=self._client_id)
        with self._using(name):
            answers = await self._rest.place_sliced(body, client_order_id=name)
            refused = [each for each in answers if isinstance(each, Fault)]
            taken = [each for each in answers if not isinstance(each, Fault)]
            _check_refusals(refused, taken, name=name)
        orders = await self._slices(request, answers, taken)
        why = f"{len(refused)} of {len(answers)} slices were refused: {refused[0]}" if refused else None
        return Sliced(client_order_id=name, quantity=request.quantity, orders=tuple(orders), reason=why)

    async def _slices(
        self, request: SlicedOrder, answers: Sequence[wire.OrderAck | Fault], taken: Sequence[wire.OrderAck]
    ) -> list[Order]:
        """Return the slices as the book shows them, or as the registry's freeze quantity cuts them."""
        try:
            shown = {order.id: order for order in await self._book.orders()}
        except HybridBrokerError as exc:
            logger.warning("the slices of %s could not be read back: %s", request.client_order_id, exc)
            shown = {}
        if all(ack.order_id in shown for ack in taken):
            return [shown[ack.order_id] for ack in taken]
        parts = request.parts()
        if len(parts) != len(answers):
            ids = ", ".join(ack.order_id for ack in taken)
            name = request.client_order_id or ""
            raise outcome_unknown(f"sliced order {name}", name, f"orders {ids} were taken, of sizes not known yet")
        now = self._clock.now()
        orders = [
            shown.get(answer.order_id) or order_from_ack(answer, part, at=now)
            for answer, part in zip(answers, parts, strict=True)
            if not isinstance(answer, Fault)
        ]
        for order in orders:
            self._book.note(order)
        return orders

    def _unused(self, name: str | None) -> str:
        """Return a name that no order of today was sent under from here; at Dhan it is no idempotency key."""
        today = self._clock.now().astimezone(IST).date()
        if today != self._day:
            self._day = today
            self._used.clear()
        assert name is not None  # noqa: S101 - named before
        if name in self._used:
            raise InvalidOrder(f"client order id {name!r} was used today; Dhan would place a second order under it")
        return name

    @contextmanager
    def _using(self, name: str) -> Iterator[None]:
        """Keep a name from being used again, unless what is sent inside is refused."""
        self._used.add(name)
        try:
            yield
        except OrderOutcomeUnknown:
            raise
        except HybridBrokerError:
            self._used.discard(name)
            raise

    async def modify(
        self,
        order_id: str,
        *,
        quantity: int | None,
        price: Decimal | None,
        trigger_price: Decimal | None,
        validity: Validity | None,
    ) -> Order:
        """Change an open order: one read, then one PUT at most."""
        self._changes.check(order_id)
        try:
            row = await self._book.row(order_id)
        except (ReplyLost, ServiceUnavailable, WireFormatError) as exc:
            # Passed on as it is, it would look like the lost answer to a change that was made.
            raise NotSent(f"order {order_id} was not changed, since it could not be read before: {exc}") from exc
        order = self._book.read(row)
        if quantity is None and price is None and trigger_price is None and validity is None:
            return order
        raw = self._stop_band is None
        request = amended(
            order,
            quantity=quantity,
            price=price,
            trigger_price=trigger_price,
            validity=validity,
            disclosed_quantity=row.disclosed_quantity or 0,
            raw_stop_market=raw,
        )
        body = modification_to_wire(order_id, request, client_id=self._client_id, raw_stop_market=raw)
        async with self._changes.one(order_id):
            ack = await self._rest.modify(order_id, body)
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

    async def cancel(self, order_id: str) -> Order:
        """Ask for cancellation, and return the order as the book shows it afterwards."""
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


def _check_refusals(refused: Sequence[Fault], taken: Sequence[wire.OrderAck], *, name: str) -> None:
    """Raise where no slice was taken, or where one may be live that was not acknowledged."""
    errors = [write_error(each, status=HTTPStatus.BAD_REQUEST) for each in refused]
    down = next((each for each in errors if isinstance(each, ServiceUnavailable)), None)
    if down is not None:
        ids = ", ".join(ack.order_id for ack in taken) or "none"
        raise outcome_unknown(f"sliced order {name}", name, f"orders taken: {ids}; another slice: {down}")
    if not taken:
        raise errors[0]
