"""Acme's endpoints: what is sent, and what each answer means."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, Self

from hybridbroker import (
    AuthenticationError,
    Clock,
    OrderNotFound,
    OrderOutcomeUnknown,
    OrderRejected,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.transport.http import HttpClient, Response
from hybridbroker.transport.limits import RateLimiter, Window
from hybridbroker_acme import wire
from hybridbroker_acme.settings import AcmeSettings

__all__ = ["AcmeRest"]

_LIMITS = {"read": [Window(limit=20, seconds=1)], "order": [Window(limit=10, seconds=1)]}


class AcmeRest:
    """The calls of one account; entered and left like the `HttpClient` inside."""

    def __init__(self, settings: AcmeSettings, *, clock: Clock) -> None:
        self._http = HttpClient(
            base_url=settings.base_url,
            headers=lambda: {"Authorization": f"Bearer {settings.token.get_secret_value()}"},
            clock=clock,
            limiter=RateLimiter(_LIMITS, clock=clock),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.__aexit__(*exc)

    async def read(self, path: str, *, params: Mapping[str, str] | None = None) -> Any:
        """Ask, as often as it takes; 404 is `OrderNotFound`."""
        return _payload(await self._http.get(path, params=params))

    async def place(self, body: dict[str, Any]) -> wire.OrderRow:
        """POST an order, once."""
        return await _written(self._http.post("/orders", json=body), subject=str(body["tag"]))

    async def change(self, order_id: str, body: dict[str, Any]) -> wire.OrderRow:
        """PUT an order, once."""
        return await _written(self._http.put(f"/orders/{order_id}", json=body), subject=order_id)

    async def cancel(self, order_id: str) -> wire.OrderRow:
        """DELETE an order, once."""
        return await _written(self._http.delete(f"/orders/{order_id}"), subject=order_id)


async def _written(answer: Awaitable[Response], *, subject: str) -> wire.OrderRow:
    """Return the order; a lost, failed or unreadable answer is unknown, and is not sent again."""
    try:
        return wire.OrderRow.read(_payload(await answer))
    except (ReplyLost, ServiceUnavailable, WireFormatError) as exc:
        raise OrderOutcomeUnknown(client_order_id=subject) from exc


def _payload(response: Response) -> Any:
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise AuthenticationError("Acme refused the token; make a new one and set ACME_TOKEN")
    payload = response.json()
    if response.status >= HTTPStatus.BAD_REQUEST:
        refusal = wire.Refusal.read(payload)
        if response.status == HTTPStatus.NOT_FOUND:
            raise OrderNotFound(refusal.text)
        raise OrderRejected(refusal.text, code=refusal.code)
    return payload
