"""What the account holds and what it would cost: positions, holdings, funds, margin, charges, past trades."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.book import NAME, Book
from hybridbroker.brokers.upstox.orders.mapping import (
    PRODUCT,
    SIDE,
    funds_from_v2,
    funds_from_v3,
    holding_from_wire,
    position_from_wire,
)
from hybridbroker.brokers.upstox.orders.reports import PastTrade, charges_from_wire, past_trade_from_wire
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.brokers.upstox.orders.terms import plain
from hybridbroker.domain.orders import OrderRequest
from hybridbroker.domain.portfolio import Funds, Holding, Margin, Position
from hybridbroker.errors import ConfigurationError, InvalidOrder
from hybridbroker.protocols import InstrumentLookup
from hybridbroker.simulation.charges import Charges

__all__ = ["AccountReads"]

_PER_MARGIN: Final = 20
_PAGE: Final = 500


class AccountReads:
    """Reads that change nothing."""

    def __init__(self, rest: UpstoxOrderRest, *, book: Book, instruments: InstrumentLookup) -> None:
        self._rest = rest
        self._book = book
        self._instruments = instruments

    async def positions(self) -> list[Position]:
        """Return today's positions."""
        return [self._position(row) for row in await self._rest.positions()]

    async def mtf_positions(self) -> list[Position]:
        """Return financed positions."""
        return [self._position(row) for row in await self._rest.mtf_positions()]

    async def holdings(self) -> list[Holding]:
        """Return shares held; an instrument by its ISIN, so that the exchange named beside it does not matter."""
        found = []
        for row in await self._rest.holdings():
            symbol = row.trading_symbol or row.company_name
            instrument = self._book.instrument(row.instrument_key, exchange=row.exchange, symbol=symbol, isin=row.isin)
            found.append(holding_from_wire(row, instrument=instrument))
        return found

    async def funds(self) -> Funds:
        """Return what can be spent."""
        funds = await self._rest.funds()
        return funds_from_v3(funds) if isinstance(funds, wire.FundsV3) else funds_from_v2(funds)

    async def margin(self, requests: OrderRequest | Sequence[OrderRequest]) -> Margin:
        """Return what orders would block together."""
        orders = [requests] if isinstance(requests, OrderRequest) else list(requests)
        if not 1 <= len(orders) <= _PER_MARGIN:
            raise InvalidOrder(f"Upstox calculates the margin of 1 to {_PER_MARGIN} orders together, not {len(orders)}")
        answer = await self._rest.margin([self._margin_line(each) for each in orders])
        return Margin(required=answer.required_margin if answer.final_margin is None else answer.final_margin)

    async def brokerage(self, request: OrderRequest, *, price: Decimal) -> Charges:
        """Return what an order would cost."""
        params = {
            "instrument_token": self._instruments.key(request.instrument, NAME).id,
            "quantity": request.quantity,
            "product": PRODUCT[request.product],
            "transaction_type": SIDE[request.side],
            "price": plain(price),
        }
        return charges_from_wire(await self._rest.brokerage(params))

    async def past_trades(self, *, start: date, end: date, segment: str | None) -> list[PastTrade]:
        """Return executions of past days, oldest first."""
        if start > end:
            raise ConfigurationError(f"past trades from {start} to {end}: start is after end")
        asked: dict[str, Any] = {"start_date": start.isoformat(), "end_date": end.isoformat(), "page_size": _PAGE}
        if segment is not None:
            asked["segment"] = segment
        found: list[PastTrade] = []
        page, pages = 1, 1
        while page <= pages:
            rows, pages = await self._rest.past_trades({**asked, "page_number": page})
            found += [self._past_trade(row) for row in rows]
            page += 1
            if not rows:
                break
        return sorted(found, key=lambda trade: trade.traded_on)

    def _position(self, row: wire.PositionRow) -> Position:
        instrument = self._book.instrument(row.instrument_key, exchange=row.exchange, symbol=row.trading_symbol)
        return position_from_wire(row, instrument=instrument)

    def _past_trade(self, row: wire.PastTradeRow) -> PastTrade:
        key = row.instrument_key or f"{row.exchange}_{row.segment}|{row.isin or row.symbol or row.trade_id}"
        symbol = row.symbol or row.scrip_name
        instrument = self._book.instrument(key, exchange=row.exchange, symbol=symbol, isin=row.isin)
        return past_trade_from_wire(row, instrument=instrument)

    def _margin_line(self, request: OrderRequest) -> dict[str, Any]:
        line = {
            "instrument_key": self._instruments.key(request.instrument, NAME).id,
            "quantity": request.quantity,
            "transaction_type": SIDE[request.side],
            "product": PRODUCT[request.product],
        }
        price = request.price if request.price is not None else request.trigger_price
        return line if price is None else {**line, "price": plain(price)}
