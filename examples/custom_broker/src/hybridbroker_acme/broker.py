"""AcmeBroker: the `Broker` on Acme's interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Self

from hybridbroker import (
    Clock,
    Funds,
    Gap,
    Holding,
    InstrumentLookup,
    Order,
    OrderRequest,
    Position,
    Trade,
    Unsupported,
    Validity,
)
from hybridbroker_acme import CAPABILITIES, mapping, wire
from hybridbroker_acme.rest import AcmeRest
from hybridbroker_acme.settings import AcmeSettings

__all__ = ["AcmeBroker"]


class AcmeBroker:
    """A `Broker` on one Acme account. Constructing it sends nothing; ``async with`` opens it."""

    name = "acme"
    capabilities = CAPABILITIES

    def __init__(self, settings: AcmeSettings, *, instruments: InstrumentLookup, clock: Clock) -> None:
        self._rest = AcmeRest(settings, clock=clock)
        self._instruments = instruments
        self._clock = clock

    async def __aenter__(self) -> Self:
        await self._rest.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._rest.__aexit__(*exc)

    async def place_order(self, request: OrderRequest) -> Order:
        """Send one order, once."""
        body = mapping.order_body(request.named(self._clock.now()))
        return self._read(await self._rest.place(body))

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an order, once."""
        if trigger_price is not None or validity not in {None, Validity.DAY}:
            raise Unsupported("Acme changes quantity and price only")
        changes = {"units": quantity, "limit": None if price is None else str(price)}
        wanted = {name: value for name, value in changes.items() if value is not None}
        return self._read(await self._rest.change(order_id, wanted))

    async def cancel_order(self, order_id: str) -> Order:
        """Cancel an order; one that is final is returned unchanged."""
        order = await self.order(order_id)
        return order if order.is_final else self._read(await self._rest.cancel(order_id))

    async def order(self, order_id: str) -> Order:
        """Return one order of today."""
        return self._read(wire.OrderRow.read(await self._rest.read(f"/orders/{order_id}")))

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the order with this tag, or None."""
        rows = wire.OrderRow.read_all(await self._rest.read("/orders", params={"tag": client_order_id}))
        return self._read(rows[-1]) if rows else None

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today, oldest first."""
        rows = wire.OrderRow.read_all(await self._rest.read("/orders"))
        return [self._read(row) for row in sorted(rows, key=lambda row: row.placed)]

    async def trades(self) -> Sequence[Trade]:
        """Return all executions of today, oldest first."""
        rows = wire.TradeRow.read_all(await self._rest.read("/trades"))
        return [mapping.trade(row, self._instruments) for row in sorted(rows, key=lambda row: row.at)]

    def order_updates(self) -> AbstractAsyncContextManager[AsyncIterator[Order | Gap]]:
        """Refuse: Acme has no update stream."""
        raise Unsupported("Acme has no stream of order updates")

    async def positions(self) -> Sequence[Position]:
        """Return today's positions."""
        rows = wire.PositionRow.read_all(await self._rest.read("/positions"))
        return [mapping.position(row, self._instruments) for row in rows]

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held."""
        rows = wire.HoldingRow.read_all(await self._rest.read("/holdings"))
        return [mapping.holding(row, self._instruments) for row in rows]

    async def funds(self) -> Funds:
        """Return what can be spent."""
        return mapping.funds(wire.FundsRow.read(await self._rest.read("/funds")))

    def _read(self, row: wire.OrderRow) -> Order:
        return mapping.order(row, self._instruments)
