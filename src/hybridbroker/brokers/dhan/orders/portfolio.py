"""What the account holds, what orders would block, and how a position is held."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.orders.account_wire import MarginRow
from hybridbroker.brokers.dhan.orders.mapping import (
    PRODUCT,
    SIDE,
    funds_from_wire,
    holding_from_wire,
    position_from_wire,
)
from hybridbroker.brokers.dhan.orders.names import Names
from hybridbroker.brokers.dhan.orders.rest import DhanRest
from hybridbroker.brokers.dhan.orders.terms import check_product, plain
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import OrderRequest, Product, Side
from hybridbroker.domain.portfolio import Funds, Holding, Margin, Position
from hybridbroker.errors import InvalidOrder

__all__ = ["DhanPortfolio"]


class DhanPortfolio:
    """Implements `Portfolio`, `Margins` and `PositionConversion`."""

    def __init__(self, client: DhanClient, rest: DhanRest, *, names: Names, client_id: str) -> None:
        self._client = client
        self._rest = rest
        self._names = names
        self._client_id = client_id

    async def positions(self) -> list[Position]:
        """Return today's positions."""
        found = []
        for row in await self._rest.positions():
            instrument = self._names.instrument(
                row.exchange_segment,
                row.security_id,
                symbol=row.trading_symbol,
                expiry=row.drv_expiry_date,
                strike=row.drv_strike_price,
            )
            found.append(position_from_wire(row, instrument=instrument))
        return found

    async def holdings(self) -> list[Holding]:
        """Return shares held; Dhan's HTTP 500 for an empty portfolio is an empty list."""
        return [holding_from_wire(row, instrument=self._names.holding(row)) for row in await self._rest.holdings()]

    async def funds(self) -> Funds:
        """Return what can be spent."""
        return funds_from_wire(await self._rest.funds())

    async def margin(self, requests: Sequence[OrderRequest]) -> Margin:
        """Return what the orders would block together; the answer for several does not tell the balance, which is read.

        Documented in two spellings for several orders; the one of Dhan's own client is sent, both are
        read (unconfirmed).
        """
        if not requests:
            raise InvalidOrder("margin of no orders was asked for")
        scripts = [self._script(each) for each in requests]
        if len(scripts) == 1:
            body = {"dhanClientId": self._client_id, **scripts[0]}
            row = MarginRow.read(await self._client.query("/margincalculator", json=body, family="read"), what="margin")
            return Margin(required=row.total_margin, available=row.available_balance)
        body = {
            "dhanClientId": self._client_id,
            "includePosition": True,
            "includeOrder": True,
            "scripList": scripts,
        }
        payload = await self._client.query("/margincalculator/multi", json=body, family="read")
        row = MarginRow.read(payload, what="margin of several orders")
        return Margin(required=row.total_margin, available=(await self.funds()).available)

    def _script(self, request: OrderRequest) -> dict[str, Any]:
        check_product(request.instrument, request.product)
        key = self._names.key(request.instrument)
        price = request.price if request.price is not None else request.trigger_price
        return {
            "exchangeSegment": key.segment,
            "transactionType": SIDE[request.side],
            "quantity": request.quantity,
            "productType": PRODUCT[request.product],
            "securityId": key.id,
            "price": 0 if price is None else plain(price),
            "triggerPrice": Decimal(0) if request.trigger_price is None else plain(request.trigger_price),
        }

    async def convert(
        self, instrument: Instrument, *, side: Side, quantity: int, from_product: Product, to_product: Product
    ) -> None:
        """Convert part of a position; Dhan answers 202 without a body."""
        if quantity <= 0 or quantity % instrument.lot_size:
            raise InvalidOrder(f"quantity must be a positive multiple of {instrument.lot_size}, was {quantity}")
        if from_product is to_product:
            raise InvalidOrder(f"the position is {to_product.value} already")
        check_product(instrument, to_product)
        key = self._names.key(instrument)
        body = {
            "dhanClientId": self._client_id,
            "fromProductType": PRODUCT[from_product],
            "exchangeSegment": key.segment,
            "positionType": "LONG" if side is Side.BUY else "SHORT",
            "securityId": key.id,
            "convertQty": quantity,
            "toProductType": PRODUCT[to_product],
        }
        what = f"the conversion of {quantity} {instrument.id} to {to_product.value}"
        await self._client.write("POST", "/positions/convert", body, what=what, subject=instrument.id)
