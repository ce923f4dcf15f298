"""What the guard has to know before it decides, from ledger, prices, calendar and, where needed, the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from hybridbroker.clock import Clock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Product, Side
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.errors import ConfigurationError, HybridBrokerError, Unsupported
from hybridbroker.execution.flatten import is_exposure
from hybridbroker.execution.guard import Facts, RiskLimits, Terms, exitable, needs_price, pnl
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.killswitch import KillSwitch
from hybridbroker.execution.prices import LastPrices
from hybridbroker.protocols import QuoteSource

__all__ = ["FactFinder"]

logger = logging.getLogger(__name__)

_PNL_AGE: Final = 45.0
"""Seconds after which a profit-and-loss reading is too old to rely on; it is polled more often."""


class FactFinder:
    """Asks as little as the limits need: without a collar or a value limit, nobody is asked for a price."""

    def __init__(
        self,
        broker: JournalledBroker,
        *,
        limits: RiskLimits,
        clock: Clock,
        calendar: TradingCalendar | None,
        prices: LastPrices,
        quotes: QuoteSource | None,
        kill_switch: KillSwitch,
    ) -> None:
        self._broker = broker
        self._limits = limits
        self._clock = clock
        self._calendar = calendar
        self._prices = prices
        self._quotes = quotes
        self._kill_switch = kill_switch

    async def prepare(self, request: Terms) -> Decimal | None:
        """Return a fresh price, if there is one, and freshen the positions where a limit needs them."""
        price = await self._price(request)
        await self._freshen_positions()
        return price

    def of(self, request: Terms, price: Decimal | None) -> Facts:
        """Return the facts as they are at this instant."""
        ledger, limits, instrument = self._broker.ledger, self._limits, request.instrument
        stale_for = None
        if limits.max_data_age is not None and price is None:
            stale_for = self._prices.stale_for(instrument, after=limits.max_data_age)
        window = limits.duplicate_window
        return Facts(
            stopped=self.stopped(),
            unresolved=[e for e in ledger.unresolved() if e.instrument == instrument.id and not e.overridden],
            price=price,
            stale_for=stale_for,
            is_open=self._is_open(instrument),
            placed_within_minute=ledger.placed_within_minute(),
            value_today=Decimal(0) if limits.max_day_value is None else ledger.value_today(),
            instruments_held=frozenset() if limits.max_open_positions is None else self._held(),
            pnl=None if limits.max_daily_loss is None else self._pnl(limits.max_daily_loss),
            twin=None if window is None else ledger.twin(request, within=window),
        )

    def stopped(self) -> Mapping[str, str]:
        """Return why entries are stopped, by kind."""
        thrown = self._kill_switch.reason
        reasons = self._broker.stops.reasons
        return reasons if thrown is None else {**reasons, "kill-switch": f"the kill switch is thrown: {thrown}"}

    async def is_exit(
        self, request: Terms, *, besides: str | None = None, also_claimed: Callable[[], int] | None = None
    ) -> bool:
        """Say whether the order can only reduce what is held, by positions read for the purpose.

        ``besides`` names an order that does not count, since this one takes its place;
        ``also_claimed`` tells the units that other standing orders may close, once all is read.
        """
        before = {each.client_order_id: each.filled_quantity for each in self._broker.ledger.of(request.instrument.id)}
        try:
            positions = await self._broker.positions()
            sells_shares = request.product is Product.DELIVERY and request.side is Side.SELL
            holdings = await self._broker.holdings() if sells_shares else ()
        except HybridBrokerError as exc:
            logger.warning("whether an order is an exit could not be read: %s", exc)
            return False
        room = self._exitable(request, positions, holdings, before=before, besides=besides)
        return room - (also_claimed() if also_claimed is not None else 0) >= request.quantity

    def looks_like_exit(self, request: Terms) -> bool:
        """Say whether it is an exit by the positions last read: good enough for its place in the queue."""
        return self._exitable(request, self._broker.keeper.positions, ()) >= request.quantity

    def _exitable(
        self,
        request: Terms,
        positions: Sequence[Position],
        holdings: Sequence[Holding],
        *,
        before: Mapping[str, int] | None = None,
        besides: str | None = None,
    ) -> int:
        if not positions and not holdings:
            return 0
        claimed = 0
        for each in self._broker.ledger.of(request.instrument.id):
            if (each.side, each.product) != (request.side, request.product) or each.client_order_id == besides:
                continue
            claimed += each.remaining
            if before is not None:
                claimed += each.filled_quantity - before.get(each.client_order_id, 0)
        return exitable(request, positions=positions, holdings=holdings, claimed=claimed)

    def _is_open(self, instrument: Instrument) -> bool | None:
        if self._calendar is None:
            return None
        try:
            return self._calendar.is_open(self._clock.now(), segment=instrument.segment, exchange=instrument.exchange)
        except (ConfigurationError, Unsupported) as exc:
            logger.warning("whether %s trades now is not known: %s", instrument.id, exc)
            return None

    async def _price(self, request: Terms) -> Decimal | None:
        known = self._prices.price(request.instrument, max_age=self._limits.max_data_age)
        if known is not None or self._quotes is None or not needs_price(request, self._limits):
            return known
        try:
            quotes = await self._quotes.quotes([request.instrument])
        except HybridBrokerError as exc:
            logger.warning("no quote of %s: %s", request.instrument.id, exc)
            return None
        quote = quotes.get(request.instrument)
        return None if quote is None else request.instrument.price(quote.last_price)

    def _held(self) -> frozenset[str]:
        keeper, ledger = self._broker.keeper, self._broker.ledger
        since = keeper.positions_at
        held = {each.instrument.id for each in keeper.positions if is_exposure(each)}
        for entry in ledger.entries():
            if entry.may_trade or (entry.filled_quantity and (since is None or entry.changed_at >= since)):
                held.add(entry.instrument)
        return frozenset(held)

    async def _freshen_positions(self) -> None:
        at = self._broker.keeper.positions_at
        counted = self._limits.max_open_positions is not None and at is None
        priced = self._limits.max_daily_loss is not None and not self._is_recent()
        if counted or priced:
            try:
                await self._broker.positions()
            except HybridBrokerError as exc:
                logger.warning("the positions could not be read: %s", exc)

    def _is_recent(self) -> bool:
        at = self._broker.keeper.positions_at
        return at is not None and (self._clock.now() - at).total_seconds() <= _PNL_AGE

    def _pnl(self, most: Decimal) -> Decimal | None:
        if not self._is_recent():
            return None
        today = pnl(self._broker.keeper.positions, lambda each: self._prices.price(each, max_age=None))
        if -today >= most:
            self._broker.stops.stop(
                "daily-loss", f"today's loss of {-today:,.2f} rupees reached the limit of {most:,.2f}", day_only=True
            )
        return today
