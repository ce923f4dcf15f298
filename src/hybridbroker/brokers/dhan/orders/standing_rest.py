"""Dhan's REST calls for super and forever orders: wire in, wire out, on `DhanClient`.

Documented: https://dhanhq.co/docs/v2/super-order/ , /forever/. One documentation sample says
``/forever/all``, which answers 404 (recorded September 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

from hybridbroker.brokers.dhan.client import DhanClient, rows_of
from hybridbroker.brokers.dhan.orders.rest import acknowledged
from hybridbroker.brokers.dhan.orders.standing_wire import ForeverRow, SuperRow
from hybridbroker.brokers.dhan.orders.wire import OrderAck

__all__ = ["StandingRest"]

_SUPER: Final = "/super/orders"
_FOREVER: Final = "/forever/orders"


class StandingRest:
    """The calls of one account."""

    def __init__(self, client: DhanClient) -> None:
        self._client = client

    async def place_super(self, body: Mapping[str, Any], *, client_order_id: str) -> OrderAck:
        """POST ``/super/orders``."""
        return await self._write("POST", _SUPER, body, what=f"super order {client_order_id}", subject=client_order_id)

    async def modify_super(self, order_id: str, body: Mapping[str, Any]) -> OrderAck:
        """PUT ``/super/orders/{id}``: one leg."""
        what = f"the change of {body['legName']} of super order {order_id}"
        return await self._write("PUT", _one(_SUPER, order_id), body, what=what, subject=order_id)

    async def cancel_super(self, order_id: str, leg: str) -> OrderAck:
        """DELETE ``/super/orders/{id}/{leg}``: 202 without a body by one page, an acknowledgement by another."""
        what = f"the cancellation of {leg} of super order {order_id}"
        return await self._write("DELETE", f"{_one(_SUPER, order_id)}/{leg}", None, what=what, subject=order_id)

    async def supers(self) -> list[SuperRow]:
        """GET ``/super/orders``."""
        rows = rows_of(await self._client.read(_SUPER), what=f"GET {_SUPER}")
        return [SuperRow.read(row, what=f"super order {str(row.get('orderId'))[:40]}") for row in rows]

    async def place_forever(self, body: Mapping[str, Any], *, client_order_id: str) -> OrderAck:
        """POST ``/forever/orders``."""
        what = f"forever order {client_order_id}"
        return await self._write("POST", _FOREVER, body, what=what, subject=client_order_id)

    async def modify_forever(self, order_id: str, body: Mapping[str, Any]) -> OrderAck:
        """PUT ``/forever/orders/{id}``: one leg."""
        what = f"the change of {body['legName']} of forever order {order_id}"
        return await self._write("PUT", _one(_FOREVER, order_id), body, what=what, subject=order_id)

    async def cancel_forever(self, order_id: str) -> OrderAck:
        """DELETE ``/forever/orders/{id}``: all legs."""
        what = f"the cancellation of forever order {order_id}"
        return await self._write("DELETE", _one(_FOREVER, order_id), None, what=what, subject=order_id)

    async def forevers(self) -> list[ForeverRow]:
        """GET ``/forever/orders``: a row for each leg."""
        rows = rows_of(await self._client.read(_FOREVER), what=f"GET {_FOREVER}")
        return [ForeverRow.read(row, what=f"forever order {str(row.get('orderId'))[:40]}") for row in rows]

    async def _write(
        self,
        method: Literal["POST", "PUT", "DELETE"],
        path: str,
        body: Mapping[str, Any] | None,
        *,
        what: str,
        subject: str,
    ) -> OrderAck:
        urgent = method == "DELETE"
        payload = await self._client.write(method, path, body, what=what, subject=subject, urgent=urgent)
        if payload is None and method == "DELETE":
            return OrderAck(orderId=subject)
        return acknowledged(payload, what=what, subject=subject)


def _one(path: str, order_id: str) -> str:
    return f"{path}/{quote(order_id, safe='')}"
