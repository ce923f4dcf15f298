"""UpstoxSandboxBroker: orders in Upstox's sandbox, which takes them, matches nothing and tells nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NoReturn, Self

import attrs

from hybridbroker.brokers.upstox import SANDBOX_CAPABILITIES
from hybridbroker.brokers.upstox.auth import Reach, TokenSource, token_source
from hybridbroker.brokers.upstox.client import UpstoxClient, unknown
from hybridbroker.brokers.upstox.orders.book import NAME as KEYS_OF
from hybridbroker.brokers.upstox.orders.mapping import order_from_ack
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.brokers.upstox.orders.terms import amended, modification_to_wire, order_to_wire
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.errors import ConfigurationError, OrderNotFound, Unsupported
from hybridbroker.protocols import InstrumentLookup

__all__ = ["UpstoxSandboxBroker"]


class UpstoxSandboxBroker:
    """A `Broker` that can place, modify and cancel in the sandbox, and nothing else; no money is involved.

    It is opened with `UpstoxSettings.for_sandbox` only, so with a token of its own and never the
    live one. The sandbox has no reads (documented): only orders placed through this object can be
    changed or cancelled, every read raises `Unsupported`, and what was acknowledged is taken for
    done, since nothing trades there.
    """

    name = "upstox-sandbox"
    capabilities = SANDBOX_CAPABILITIES

    def __init__(
        self,
        settings: UpstoxSettings,
        *,
        instruments: InstrumentLookup,
        clock: Clock | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        if not settings.is_sandbox:
            raise ConfigurationError("these settings lead to the live account: use settings.for_sandbox()")
        self._instruments = instruments
        self._clock = clock or SystemClock()
        self._client = UpstoxClient(
            base_url=settings.base_url,
            order_url=settings.address("order_url"),
            tokens=tokens or token_source(settings, clock=self._clock, reach=Reach.ORDERS),
            clock=self._clock,
            account="sandbox",
        )
        self._rest = UpstoxOrderRest(self._client)
        self._placed: dict[str, Order] = {}
        self._disclosed: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)

    async def place_order(self, request: OrderRequest) -> Order:
        """Send one order; one POST at most, whatever happens."""
        now = self._clock.now()
        request = request.named(now)
        assert request.client_order_id is not None  # noqa: S101 - named above
        key = self._instruments.key(request.instrument, KEYS_OF)
        name = request.client_order_id
        ids = (await self._rest.place(order_to_wire(request, key=key), client_order_id=name)).ids
        if len(ids) > 1:
            raise unknown(f"order {name}", name, f"it became {len(ids)} orders: {ids}")
        order = self._placed[ids[0]] = order_from_ack(ids[0], request, at=now)
        self._disclosed[order.id] = request.disclosed_quantity
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
        """Change an order that was placed here; one PUT at most."""
        order = self._known(order_id)
        if quantity is None and price is None and trigger_price is None and validity is None:
            return order
        request = amended(
            order,
            quantity=quantity,
            price=price,
            trigger_price=trigger_price,
            validity=validity,
            disclosed_quantity=self._disclosed[order_id],
        )
        await self._rest.modify(order_id, modification_to_wire(order_id, request))
        changed = self._placed[order_id] = attrs.evolve(
            order,
            type=request.type,
            quantity=request.quantity,
            price=request.price,
            trigger_price=request.trigger_price,
            validity=request.validity,
        )
        return changed

    async def cancel_order(self, order_id: str) -> Order:
        """Cancel an order that was placed here."""
        order = self._known(order_id)
        if order.is_final:
            return order
        await self._rest.cancel(order_id)
        cancelled = self._placed[order_id] = attrs.evolve(order, status=OrderStatus.CANCELLED)
        return cancelled

    def _known(self, order_id: str) -> Order:
        try:
            return self._placed[order_id]
        except KeyError:
            raise OrderNotFound(
                f"{order_id[:40]!r} was not placed through this object, and the sandbox tells of no others"
            ) from None

    async def order(self, order_id: str) -> Order:
        """Refuse: the sandbox has no such call."""
        self._refuse(f"details of {order_id[:40]!r}")

    async def find_order(self, client_order_id: str) -> Order | None:
        """Refuse: the sandbox has no such call."""
        self._refuse(f"history by {client_order_id[:40]!r}")

    async def orders(self) -> Sequence[Order]:
        """Refuse: the sandbox has no such call."""
        self._refuse("order book")

    async def trades(self) -> Sequence[Trade]:
        """Refuse: the sandbox has no such call."""
        self._refuse("trades")

    def order_updates(self) -> NoReturn:
        """Refuse: the sandbox has no such stream."""
        self._refuse("order updates")

    async def positions(self) -> Sequence[Position]:
        """Refuse: the sandbox has no such call."""
        self._refuse("positions")

    async def holdings(self) -> Sequence[Holding]:
        """Refuse: the sandbox has no such call."""
        self._refuse("holdings")

    async def funds(self) -> Funds:
        """Refuse: the sandbox has no such call."""
        self._refuse("funds")

    def _refuse(self, what: str) -> NoReturn:
        raise Unsupported(f"Upstox's sandbox takes orders and tells nothing, so no {what}; read `capabilities` first")
