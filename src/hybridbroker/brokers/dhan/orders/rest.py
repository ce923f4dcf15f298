"""Dhan's REST calls for orders and portfolio: wire in, wire out, on `DhanClient`.

Documented: https://dhanhq.co/docs/v2/orders/ , /portfolio/ , /funds/.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from hybridbroker.brokers.dhan.client import Answer, DhanClient, fault_behind, outcome_unknown, rows_of
from hybridbroker.brokers.dhan.faults import Fault, fault_in
from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.errors import ServiceUnavailable, WireFormatError

__all__ = ["DhanRest", "acknowledged"]


class DhanRest:
    """The calls of one account."""

    def __init__(self, client: DhanClient) -> None:
        self._client = client

    async def place(self, body: Mapping[str, Any], *, client_order_id: str) -> wire.OrderAck:
        """POST ``/orders``."""
        what = f"order {client_order_id}"
        payload = await self._client.write("POST", "/orders", body, what=what, subject=client_order_id)
        return acknowledged(payload, what=what, subject=client_order_id)

    async def place_sliced(self, body: Mapping[str, Any], *, client_order_id: str) -> list[wire.OrderAck | Fault]:
        """POST ``/orders/slicing``: one answer for each slice, in Dhan's order; some may be refused (unconfirmed)."""
        what = f"sliced order {client_order_id}"
        payload = await self._client.write(
            "POST", "/orders/slicing", body, what=what, subject=client_order_id, in_parts=True
        )
        try:
            rows = rows_of(payload, what="the acknowledgement")
        except WireFormatError as exc:
            raise outcome_unknown(what, client_order_id, f"it was acknowledged unreadably ({exc})") from exc
        if not rows:
            raise outcome_unknown(what, client_order_id, "no slice was acknowledged")
        return [fault_in(row) or acknowledged(row, what=what, subject=client_order_id) for row in rows]

    async def modify(self, order_id: str, body: Mapping[str, Any]) -> wire.OrderAck:
        """PUT ``/orders/{id}``."""
        what = f"the change of order {order_id}"
        payload = await self._client.write(
            "PUT", f"/orders/{quote(order_id, safe='')}", body, what=what, subject=order_id
        )
        return acknowledged(payload, what=what, subject=order_id)

    async def cancel(self, order_id: str) -> wire.OrderAck:
        """DELETE ``/orders/{id}``; documented with 202, recorded with 200, a body is not required."""
        what = f"the cancellation of order {order_id}"
        path = f"/orders/{quote(order_id, safe='')}"
        payload = await self._client.write("DELETE", path, what=what, subject=order_id, urgent=True)
        if payload is None:
            return wire.OrderAck(orderId=order_id)
        return acknowledged(payload, what=what, subject=order_id)

    async def order(self, order_id: str) -> Mapping[str, Any] | None:
        """GET ``/orders/{id}``: an object by the documentation, an array in practice, empty where unknown."""
        return await self._one(f"/orders/{quote(order_id, safe='')}")

    async def external(self, client_order_id: str) -> Mapping[str, Any] | None:
        """GET ``/orders/external/{id}``; an order in transit is not found yet (recorded: 404 DH-906)."""
        return await self._one(f"/orders/external/{quote(client_order_id, safe='')}")

    async def orders(self) -> list[Mapping[str, Any]]:
        """GET ``/orders``: the day's rows, as they are."""
        return await self._rows("/orders")

    async def trades(self, order_id: str | None = None) -> list[wire.TradeRow]:
        """GET ``/trades``, or ``/trades/{id}``, which may answer one object."""
        path = "/trades" if order_id is None else f"/trades/{quote(order_id, safe='')}"
        return [wire.TradeRow.read(row, what="a trade") for row in await self._rows(path)]

    async def positions(self) -> list[wire.PositionRow]:
        """GET ``/positions``."""
        return [wire.PositionRow.read(row, what="a position") for row in await self._rows("/positions")]

    async def holdings(self) -> list[wire.HoldingRow]:
        """GET ``/holdings``; nothing held is HTTP 500 with DH-1111 in production, ``[]`` in the sandbox."""
        answer = await self._client.ask("/holdings")
        if answer.fault is not None and answer.fault.empty_portfolio:
            return []
        rows = rows_of(answer.accepted(), what=answer.call)
        return [wire.HoldingRow.read(row, what="a holding") for row in rows]

    async def funds(self) -> wire.Funds:
        """GET ``/fundlimit``."""
        return wire.Funds.read(await self._client.read("/fundlimit"), what="GET /fundlimit")

    async def profile(self) -> wire.Profile:
        """GET ``/profile``: raises `AuthenticationError` where the token is dead."""
        return wire.Profile.read(await self._client.read("/profile"), what="GET /profile")

    async def _rows(self, path: str) -> list[Mapping[str, Any]]:
        return rows_of(await self._client.read(path), what=f"GET {path}")

    async def _one(self, path: str) -> Mapping[str, Any] | None:
        try:
            answer = await self._client.ask(path)
        except ServiceUnavailable as exc:
            # The sandbox says 500 where production says 404 or [].
            fault = fault_behind(exc)
            if fault is None or not fault.no_such_order:
                raise
            return None
        if answer.fault is not None and (answer.fault.no_such_order or _not_found(answer)):
            return None
        rows = rows_of(answer.accepted(), what=answer.call)
        return max(rows, key=lambda row: str(row.get("createTime")), default=None)


def _not_found(answer: Answer) -> bool:
    """Say whether Dhan, not its gateway, says 404, whatever the words."""
    fault = answer.fault
    return answer.status == HTTPStatus.NOT_FOUND and fault is not None and not fault.gateway and fault.code == "DH-906"


def acknowledged(payload: Any, *, what: str, subject: str) -> wire.OrderAck:
    """Read the acknowledgement of a write.

    Raises:
        OrderOutcomeUnknown: It says nothing that can be relied on.
    """
    try:
        (row,) = rows_of(payload, what="the acknowledgement")
        ack = wire.OrderAck.read(row, what="the acknowledgement")
    except (ValueError, WireFormatError) as exc:
        raise outcome_unknown(what, subject, f"it was acknowledged unreadably ({exc})") from exc
    if not ack.order_id.isalnum() or ack.order_id == "0":
        raise outcome_unknown(what, subject, "it was acknowledged without an order id")
    return ack
