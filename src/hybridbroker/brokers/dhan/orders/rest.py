"""Dhan's REST calls for orders and portfolio: wire in, wire out, and what counts as an answer.

Reads are repeated by the transport. A write is sent once, and is *accepted* only by a
readable 2xx with an order id, *refused* only by a 4xx that says why in one of Dhan's error
shapes; everything else (a lost reply, 5xx, a page of HTML, a 2xx with an error in it) leaves
its outcome unknown.

Documented: https://dhanhq.co/docs/v2/orders/ , /portfolio/ , /funds/.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import quote

import attrs
import msgspec

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.faults import Fault, fault_in, read_error, write_error
from hybridbroker.brokers.dhan.limits import LIMITS
from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.clock import Clock
from hybridbroker.errors import (
    OrderOutcomeUnknown,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.transport.http import HttpClient, KeepWarm, Response, RetryPolicy
from hybridbroker.transport.limits import RateLimiter

__all__ = ["DhanRest"]

logger = logging.getLogger(__name__)

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class DhanRest:
    """The calls of one account; entered and left like the `HttpClient` inside."""

    def __init__(
        self,
        *,
        base_url: str,
        token: AccessToken,
        clock: Clock,
        keep_warm_seconds: float = 0.0,
    ) -> None:
        self._token = token
        self._clock = clock
        self._http = HttpClient(
            base_url=base_url,
            headers=token.headers(),
            clock=clock,
            limiter=RateLimiter(LIMITS, clock=clock),
            retry=_Retry(),
            keep_warm=KeepWarm(path="/profile", every=keep_warm_seconds) if keep_warm_seconds else None,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.__aexit__(*exc)

    async def place(self, body: Mapping[str, Any], *, client_order_id: str) -> wire.OrderAck:
        """POST ``/orders``."""
        what = f"order {client_order_id}"
        return await self._write(self._http.post, "/orders", body, what=what, subject=client_order_id)

    async def modify(self, order_id: str, body: Mapping[str, Any]) -> wire.OrderAck:
        """PUT ``/orders/{id}``."""
        what = f"the change of order {order_id}"
        return await self._write(
            self._http.put, f"/orders/{quote(order_id, safe='')}", body, what=what, subject=order_id
        )

    async def cancel(self, order_id: str) -> wire.OrderAck:
        """DELETE ``/orders/{id}``; documented with 202, recorded with 200, a body is not required."""
        what = f"the cancellation of order {order_id}"
        path = f"/orders/{quote(order_id, safe='')}"
        return await self._write(self._http.delete, path, None, what=what, subject=order_id, urgent=True)

    async def order(self, order_id: str) -> Mapping[str, Any] | None:
        """GET ``/orders/{id}``: an object by the documentation, an array in practice, empty where unknown."""
        return await self._one(f"/orders/{quote(order_id, safe='')}")

    async def external(self, client_order_id: str) -> Mapping[str, Any] | None:
        """GET ``/orders/external/{id}``; an order in transit is not found yet (recorded: 404 DH-906)."""
        return await self._one(f"/orders/external/{quote(client_order_id, safe='')}")

    async def orders(self) -> list[Mapping[str, Any]]:
        """GET ``/orders``: the day's rows, as they are."""
        return _rows(await self._read("/orders"), what="GET /orders")

    async def trades(self, order_id: str | None = None) -> list[wire.TradeRow]:
        """GET ``/trades``, or ``/trades/{id}``, which may answer one object."""
        path = "/trades" if order_id is None else f"/trades/{quote(order_id, safe='')}"
        return [wire.TradeRow.read(row, what="a trade") for row in _rows(await self._read(path), what=f"GET {path}")]

    async def positions(self) -> list[wire.PositionRow]:
        """GET ``/positions``."""
        rows = _rows(await self._read("/positions"), what="GET /positions")
        return [wire.PositionRow.read(row, what="a position") for row in rows]

    async def holdings(self) -> list[wire.HoldingRow]:
        """GET ``/holdings``; nothing held is HTTP 500 with DH-1111 in production, ``[]`` in the sandbox."""
        try:
            payload, fault, status = await self._ask("/holdings")
        except ServiceUnavailable as exc:
            if not _is_empty_portfolio(exc):
                raise
            return []
        if fault is not None and fault.empty_portfolio:
            return []
        rows = _rows(_accepted(payload, fault, status, call="GET /holdings"), what="GET /holdings")
        return [wire.HoldingRow.read(row, what="a holding") for row in rows]

    async def funds(self) -> wire.Funds:
        """GET ``/fundlimit``."""
        return wire.Funds.read(await self._read("/fundlimit"), what="GET /fundlimit")

    async def profile(self) -> wire.Profile:
        """GET ``/profile``: raises `AuthenticationError` where the token is dead."""
        return wire.Profile.read(await self._read("/profile"), what="GET /profile")

    async def _read(self, path: str) -> Any:
        payload, fault, status = await self._ask(path)
        return _accepted(payload, fault, status, call=f"GET {path}")

    async def _one(self, path: str) -> Mapping[str, Any] | None:
        try:
            payload, fault, status = await self._ask(path)
        except ServiceUnavailable as exc:
            # The sandbox says 500 where production says 404 or [].
            fault = _fault_of(exc)
            if fault is None or not fault.no_such_order:
                raise
            return None
        if fault is not None and fault.no_such_order:
            return None
        rows = _rows(_accepted(payload, fault, status, call=f"GET {path}"), what=f"GET {path}")
        return max(rows, key=lambda row: str(row.get("createTime")), default=None)

    async def _ask(self, path: str) -> tuple[Any, Fault | None, int]:
        self._token.check(self._clock.now())
        response = await self._http.get(path)
        try:
            payload = response.json()
        except WireFormatError:
            if response.status < HTTPStatus.BAD_REQUEST:
                raise
            raise read_error(None, status=response.status, call=f"GET {path}") from None
        return payload, fault_in(payload), response.status

    async def _write(
        self,
        send: Callable[..., Awaitable[Response]],
        path: str,
        body: Mapping[str, Any] | None,
        *,
        what: str,
        subject: str,
        urgent: bool = False,
    ) -> wire.OrderAck:
        self._token.check(self._clock.now())
        content = None if body is None else _encode(body)
        try:
            response = await send(path, json=content, urgent=urgent)
        except (ReplyLost, ServiceUnavailable) as exc:
            raise _unknown(what, subject, str(exc)) from exc
        except asyncio.CancelledError:
            logger.warning("abandoning %s: the task was cancelled while sending, so it may be live; look it up", what)
            raise
        return _settle(response, what=what, subject=subject)


@attrs.frozen(kw_only=True)
class _Retry(RetryPolicy):
    """Repeat reads, but not the one whose 500 is an answer."""

    def delay(self, failure: Exception, *, attempt: int, jitter: Callable[[], float]) -> float | None:
        if isinstance(failure, ServiceUnavailable) and _is_empty_portfolio(failure):
            return None
        return super().delay(failure, attempt=attempt, jitter=jitter)


def _settle(response: Response, *, what: str, subject: str) -> wire.OrderAck:
    """Return the acknowledgement, or raise what the answer to a write means."""
    status = response.status
    if (
        HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        and not response.body
        and response.request.startswith("DELETE")
    ):
        return wire.OrderAck(orderId=subject)
    try:
        payload = response.json()
    except WireFormatError as exc:
        raise _unknown(what, subject, str(exc)) from exc
    fault = fault_in(payload)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and fault is None:
        return _acknowledged(payload, what=what, subject=subject)
    if fault is None or not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _unknown(what, subject, f"{response.request}: HTTP {status} {fault or response.excerpt}")
    error = write_error(fault, status=status)
    if isinstance(error, ServiceUnavailable):
        raise _unknown(what, subject, str(error)) from error
    raise error


def _acknowledged(payload: Any, *, what: str, subject: str) -> wire.OrderAck:
    try:
        (row,) = _rows(payload, what="the acknowledgement")
        ack = wire.OrderAck.read(row, what="the acknowledgement")
    except (ValueError, WireFormatError) as exc:
        raise _unknown(what, subject, f"it was acknowledged unreadably ({exc})") from exc
    if not ack.order_id.isalnum() or ack.order_id == "0":
        raise _unknown(what, subject, "it was acknowledged without an order id")
    return ack


def _unknown(what: str, subject: str, why: str) -> OrderOutcomeUnknown:
    return OrderOutcomeUnknown(
        f"{what} may or may not be live; look it up, do not send it again: {why}", client_order_id=subject
    )


def _accepted(payload: Any, fault: Fault | None, status: int, *, call: str) -> Any:
    if fault is None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return payload
    raise read_error(fault, status=status, call=call)


def _rows(payload: Any, *, what: str) -> list[Mapping[str, Any]]:
    """Return objects, however they came: one alone, an array, or an empty array."""
    rows = payload if isinstance(payload, list) else [payload]
    if not all(isinstance(row, Mapping) for row in rows):
        raise WireFormatError(f"{what} holds something that is no object")
    return rows


def _fault_of(failure: ServiceUnavailable) -> Fault | None:
    if failure.response is None:
        return None
    try:
        return fault_in(failure.response.json())
    except WireFormatError:
        return None


def _is_empty_portfolio(failure: ServiceUnavailable) -> bool:
    fault = _fault_of(failure)
    return fault is not None and fault.empty_portfolio
