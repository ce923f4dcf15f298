"""A `Broker` that asks your limits first: the only way from a session to a real order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from decimal import Decimal
from typing import Any, Final, NoReturn, Self

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderType,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Trade,
    Validity,
)
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.domain.standing import Bracket, Gtt, LegRole
from hybridbroker.errors import HybridBrokerError, InvalidOrder, RiskRefused, Unsupported
from hybridbroker.execution.abilities import GuardedAbilities
from hybridbroker.execution.events import tell
from hybridbroker.execution.facts import FactFinder
from hybridbroker.execution.flatten import FlattenReport, cancel_all, flatten, is_exposure
from hybridbroker.execution.guard import (
    Facts,
    Limit,
    Refusal,
    RiskLimits,
    Terms,
    entry_refusal,
    exit_refusal,
    order_value,
)
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.killswitch import KillSwitch
from hybridbroker.execution.metrics import MetricsSnapshot, Stage
from hybridbroker.execution.prices import LastPrices
from hybridbroker.execution.records import Entry
from hybridbroker.execution.standing_terms import Standing
from hybridbroker.protocols import Broker, Capability, QuoteSource

__all__ = ["GuardedBroker"]

logger = logging.getLogger(__name__)

_KINDS: Final[dict[OrderType, type[OrderRequest]]] = {
    OrderType.MARKET: MarketOrder,
    OrderType.LIMIT: LimitOrder,
    OrderType.STOP_LIMIT: StopLimitOrder,
    OrderType.STOP_MARKET: StopMarketOrder,
}
_KILL_POLL: Final = 1.0
_LASTING: Final = ("daily-loss", "recovery")
"""Reasons that no override lifts: they go when what they say is no longer so."""


class GuardedBroker(GuardedAbilities):
    """The journalled broker behind a `RiskLimits`.

    An order that a limit refuses may still pass as an exit, when fresh positions (and, for
    delivery, holdings) show that it can only reduce what is held, whatever else is open.
    Between the last check and the journalled intent nothing else runs, so that two orders
    placed at once cannot both use the same room.
    """

    def __init__(
        self,
        broker: JournalledBroker,
        *,
        bare: Broker,
        limits: RiskLimits,
        clock: Clock,
        calendar: TradingCalendar | None = None,
        prices: LastPrices | None = None,
        quotes: QuoteSource | None = None,
        kill: KillSwitch | None = None,
        kill_signal: signal.Signals | None = None,
    ) -> None:
        self.limits = limits
        self.kill_switch = kill or KillSwitch()
        self.name: str = broker.name
        self.capabilities: Capability = broker.capabilities
        self._broker = broker
        self._bare = bare
        self._clock = clock
        self._prices = prices or LastPrices(clock)
        self._facts = FactFinder(
            broker,
            limits=limits,
            clock=clock,
            calendar=calendar,
            prices=self._prices,
            quotes=quotes,
            kill_switch=self.kill_switch,
        )
        self._kill_signal = kill_signal
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._broker)
            self._broker.keeper.polls_positions = self.limits.max_daily_loss is not None
            stack.enter_context(self.kill_switch.on_signal(self._kill_signal))
            if self.kill_switch.path is not None:
                watch = asyncio.create_task(self._watch_kill(), name="hybridbroker-kill-switch")
                stack.push_async_callback(_ended, watch)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    # Writes.

    async def place_order(self, request: OrderRequest) -> Order:
        """Check an order against the limits, then journal and send it, once.

        Raises:
            RiskRefused: A limit says no; its name is in ``limit``, the numbers are in the
                message. Nothing was sent, nor written as an intent.
        """
        started = self._clock.monotonic()
        since_read = self._prices.since_read()
        stages = {} if since_read is None else {Stage.DECIDED: since_read}
        price = await self._facts.prepare(request)
        is_exit = False
        refusal = entry_refusal(request, self.limits, self._facts.of(request, price))
        if refusal is not None:
            is_exit = await self._facts.is_exit(request)
            refusal = exit_refusal(request, self.limits, Facts(price=price)) if is_exit else refusal
        if refusal is not None:
            self._refuse(refusal, request)
        stages[Stage.CHECKED] = self._clock.monotonic() - started
        return await self._broker.place(
            request,
            value=order_value(request, price),
            urgent=is_exit or self._facts.looks_like_exit(request),
            last_look=None if is_exit else self._last_look,
            stages=stages,
        )

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Check the order as it would be against the limits, then change it, once.

        A change that only lowers the quantity is never refused.
        """
        entry = self._broker.ledger.by_order_id(order_id)
        order = None if entry is None else self._broker.ledger.latest(entry.client_order_id)
        order = order or await self._broker.order(order_id)
        only_less = price is None and trigger_price is None and (quantity is None or quantity <= order.quantity)
        is_exit = only_less
        if not only_less:
            amended = _amended(order, quantity=quantity, price=price, trigger_price=trigger_price)
            is_exit = await self._check_change(amended, order)
        return await self._broker.modify(
            order_id,
            quantity=quantity,
            price=price,
            trigger_price=trigger_price,
            validity=validity,
            urgent=is_exit,
            last_look=None if is_exit else self._last_look,
        )

    async def _check_change(self, amended: OrderRequest, order: Order) -> bool:
        """Refuse a change that the limits do not allow; say whether the order is an exit."""
        market = await self._facts.prepare(amended)
        entry = self._broker.ledger.by_order_id(order.id)
        facts = self._facts.of(amended, market)
        counted = entry.value if entry is not None and entry.value is not None else Decimal(0)
        facts = attrs.evolve(
            facts, twin=None, placed_within_minute=0, unresolved=(), value_today=facts.value_today - counted
        )
        refusal = entry_refusal(amended, self.limits, facts)
        if refusal is None:
            return False
        is_exit = await self._facts.is_exit(amended, besides=None if entry is None else entry.client_order_id)
        refusal = exit_refusal(amended, self.limits, Facts(price=market)) if is_exit else refusal
        if refusal is not None:
            self._refuse(refusal, amended)
        return is_exit

    async def cancel_order(self, order_id: str) -> Order:
        """Cancel; no limit stands in the way."""
        return await self._broker.cancel_order(order_id)

    # Reads.

    async def order(self, order_id: str) -> Order:
        """Return one order of today; see `OrderBook.order`."""
        return await self._broker.order(order_id)

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the order that carries this id; see `OrderBook.find_order`."""
        return await self._broker.find_order(client_order_id)

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today; see `OrderBook.orders`."""
        return await self._broker.orders()

    async def trades(self) -> Sequence[Trade]:
        """Return all executions of today; see `OrderBook.trades`."""
        return await self._broker.trades()

    def order_updates(self) -> AbstractAsyncContextManager[AsyncIterator[Order | Gap]]:
        """Stream every change of every order; see `JournalledBroker.order_updates`."""
        return self._broker.order_updates()

    async def positions(self) -> Sequence[Position]:
        """Return today's positions; see `Portfolio.positions`."""
        return await self._broker.positions()

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held; see `Portfolio.holdings`."""
        return await self._broker.holdings()

    async def funds(self) -> Funds:
        """Return what can be spent; see `Portfolio.funds`."""
        return await self._broker.funds()

    # The person in charge.

    def unresolved(self) -> Sequence[Entry]:
        """Return the orders that may be live without the broker having shown them."""
        return self._broker.unresolved()

    def snapshot(self) -> MetricsSnapshot:
        """Return counts, latencies and the state of things at this instant."""
        snapshot = self._broker.snapshot()
        return attrs.evolve(snapshot, stopped=self._facts.stopped())

    def override(self, instrument: Instrument | str | None = None, *, reason: str) -> Sequence[str]:
        """Let entries go on upon your own responsibility, and return what was lifted, in words.

        With an instrument: although orders on it may be live. Without: although entries were
        stopped after a check of the positions, an adopted or a missing order, or `flatten`;
        the broker's positions count as right from then on. ``reason`` goes into the journal.
        A daily loss limit and the kill switch are not lifted by this.
        """
        if not reason.strip():
            raise InvalidOrder("say why in reason=; it goes into the journal")
        if instrument is not None:
            ledger, lifted = self._broker.ledger, []
            for entry in ledger.unresolved():
                if entry.instrument == str(instrument) and not entry.overridden:
                    ledger.override(entry, reason)
                    lifted.append(f"order {entry.client_order_id} may be live")
            return lifted
        stops = self._broker.stops
        reasons = {key: why for key, why in stops.reasons.items() if key not in _LASTING}
        if "positions" in reasons:
            self._broker.keeper.accept_positions(why=reason)
        for key in reasons:
            stops.lift(key, why=reason)
        return list(reasons.values())

    def stop_entries(self, kind: str, why: str) -> None:
        """Refuse entries from now on, exits excepted, until `override`; ``why`` is told with each refusal."""
        self._broker.stops.stop(kind, why, kept=False)

    async def flatten(self, *, within: float = 30.0) -> FlattenReport:
        """Cancel every open order, close every position of the day, verify; entries stay stopped until `override`."""
        self._broker.stops.stop("flatten", "the account was flattened; override() lets entries go on", kept=False)
        problems = await self._cancel_standing_for_flat()
        report = await flatten(
            self._broker, clock=self._clock, price=lambda each: self._prices.price(each, max_age=None), within=within
        )
        if not problems:
            return report
        return attrs.evolve(report, flat=False, left=[*report.left, *problems], problems=[*report.problems, *problems])

    async def kill(self, reason: str, *, at_broker: bool = False) -> Sequence[Order]:
        """Throw the kill switch and cancel the open entries; return the orders that are still open.

        Orders that protect a position (exits) are left alone; `flatten` ends those too.
        ``at_broker`` throws the broker's own switch as well, after that.

        Raises:
            NetworkError: What is open could not be read; the switch is thrown all the same.
            Unsupported: The broker has no switch of its own; ours is thrown all the same.
        """
        self.kill_switch.engage(reason)
        still_open = await self._cancel_entries()
        if at_broker:
            if Capability.KILL_SWITCH not in self.capabilities:
                raise Unsupported(f"{self.name} has no kill switch here; ours is thrown")
            await self.activate_kill_switch()
        return still_open

    def _last_look(self) -> None:
        """Refuse what became forbidden while it waited for the write rate."""
        stopped = self._facts.stopped()
        if stopped:
            raise RiskRefused(f"entries are stopped: {'; '.join(stopped.values())}", limit=Limit.STOPPED)

    # Stopping.

    async def _watch_kill(self) -> None:
        """Cancel the open entries when the switch is thrown from outside; real time, whatever the clock."""
        was_thrown = self.kill_switch.reason is not None
        while True:
            await asyncio.sleep(_KILL_POLL)
            reason = self.kill_switch.reason
            if reason is not None and not was_thrown:
                tell("kill-switch-seen", level=logging.WARNING, reason=reason)
                try:
                    await self._cancel_entries()
                except HybridBrokerError as exc:
                    logger.warning("cancelling the open entries failed: %s", exc)
            was_thrown = reason is not None

    async def _cancel_standing_for_flat(self) -> list[str]:
        """Cancel every standing order but those that protect holdings, which flattening keeps."""
        try:
            closed = {each.instrument.id for each in await self._broker.positions() if is_exposure(each)}
        except HybridBrokerError as exc:
            return [f"the standing orders were left alone, since the positions could not be read: {exc}"]

        def protects_holdings(standing: Standing) -> bool:
            sells_shares = standing.side is Side.SELL and standing.product is Product.DELIVERY
            return isinstance(standing, Gtt) and sells_shares and standing.instrument.id not in closed

        return await self._cancel_standing(protects_holdings)

    async def _cancel_entries(self) -> Sequence[Order]:
        held = {(p.instrument.id, p.product): p.quantity for p in await self._broker.positions() if is_exposure(p)}
        still_open = await cancel_all(self._broker, spare=lambda order: _protects(order, held))
        for problem in await self._cancel_standing(lambda standing: _closes(standing, held)):
            logger.warning("%s", problem)
        return still_open

    def _refuse(self, refusal: Refusal, request: Terms) -> NoReturn:
        self._broker.metrics.count("refused")
        tell("order-refused", instrument=request.instrument.id, limit=refusal.limit.value, reason=refusal.message)
        raise RiskRefused(refusal.message, limit=refusal.limit.value)


def _protects(order: Order, held: Mapping[tuple[str, Product], int]) -> bool:
    """Say whether an open order reduces a position."""
    return held.get((order.instrument.id, order.product), 0) * order.side.sign < 0


def _closes(standing: Standing, held: Mapping[tuple[str, Product], int]) -> bool:
    """Say whether a standing order can only reduce what is held; a bracket does once its entry is over."""
    if isinstance(standing, Bracket):
        entry = standing.leg(LegRole.ENTRY)
        return entry is not None and not entry.may_trade
    if standing.side is Side.SELL and standing.product is Product.DELIVERY:
        return True
    return held.get((standing.instrument.id, standing.product), 0) * standing.side.sign < 0


def _amended(
    order: Order, *, quantity: int | None, price: Decimal | None, trigger_price: Decimal | None
) -> OrderRequest:
    terms: dict[str, Any] = {"price": price or order.price, "trigger_price": trigger_price or order.trigger_price}
    kind = _KINDS[order.type]
    if kind in {MarketOrder, StopMarketOrder}:
        terms.pop("price")
    if kind in {MarketOrder, LimitOrder}:
        terms.pop("trigger_price")
    return kind(order.instrument, order.side, quantity=quantity or order.quantity, product=order.product, **terms)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
