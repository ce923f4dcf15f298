"""Getting out: cancel what is open, close what is held, and look whether it is so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import LimitOrder, MarketOrder, Order, OrderRequest, Product, Side
from hybridbroker.domain.portfolio import Position
from hybridbroker.errors import HybridBrokerError, OrderOutcomeUnknown
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.protocols import Capability

__all__ = ["FlattenReport", "cancel_all", "flatten"]

logger = logging.getLogger(__name__)

_POLL: Final = 0.5
_REST: Final = 5.0
_BAND: Final = Decimal("0.01")


@attrs.frozen(kw_only=True)
class FlattenReport:
    """What flattening did and what is left; ``flat`` means that a last reading showed nothing open."""

    flat: bool
    cancelled: Sequence[str]
    """Ids of the orders that are cancelled."""
    exits: Sequence[str]
    """Client order ids of the orders that closed positions."""
    left: Sequence[str]
    """What is still open, in words; empty when flat."""
    problems: Sequence[str]
    """What went wrong on the way, in words."""


class _Notes:
    """What a run of flattening did so far."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.exits: list[str] = []
        self.problems: list[str] = []

    def problem(self, what: str, exc: HybridBrokerError) -> None:
        text = f"{what}: {exc}"
        if text not in self.problems:
            logger.warning("flattening: %s", text)
            self.problems.append(text)


def is_exposure(position: Position) -> bool:
    """Say whether a position is one to close: shares sold out of the holdings only look like a short."""
    return position.quantity > 0 or (position.quantity < 0 and position.product is not Product.DELIVERY)


async def flatten(
    broker: JournalledBroker,
    *,
    clock: Clock,
    price: Callable[[Instrument], Decimal | None],
    within: float = 30.0,
) -> FlattenReport:
    """Cancel every open order of the account, close every position of the day, and verify.

    Holdings are kept: what was bought on earlier days is not sold. Exits are market orders
    where the broker has them, else limits 1 % through the last price; one that rests is
    cancelled after five seconds and replaced, never doubled. ``within`` bounds the whole in
    seconds; what is left then is in the report.
    """
    notes = _Notes()
    until = clock.now() + timedelta(seconds=within)
    left = ["nothing was looked at"]
    while True:
        try:
            still_open = await cancel_all(broker, notes=notes)
            unknown = broker.unresolved()
            positions = [each for each in await broker.positions() if is_exposure(each)]
            left = [f"{each.instrument.id} {each.product.value}: {each.quantity:+d}" for each in positions]
            left += [f"order {each.id} is {each.status.value}" for each in still_open]
            left += [f"order {each.client_order_id} may be live" for each in unknown]
            if not left:
                return _report(notes, left=())
            # What may still close a position by itself is not given a second chance to.
            busy = {(each.instrument.id, each.side) for each in still_open}
            busy |= {(each.instrument, each.side) for each in unknown}
            free = [each for each in positions if (each.instrument.id, _exit_side(each)) not in busy]
            await _close(broker, free, price=price, notes=notes)
            await _rest(broker, clock, until=min(until, clock.now() + timedelta(seconds=_REST)))
        except HybridBrokerError as exc:
            notes.problem("reading the account", exc)
        if clock.now() >= until:
            return _report(notes, left=left)
        await clock.sleep(_POLL)


async def cancel_all(
    broker: JournalledBroker, *, notes: _Notes | None = None, spare: Callable[[Order], bool] | None = None
) -> Sequence[Order]:
    """Cancel every open order of the account but those to ``spare``; return those still open."""
    notes = notes or _Notes()
    wanted = [each for each in await broker.orders() if not each.is_final and (spare is None or not spare(each))]
    after = await asyncio.gather(*(_cancel(broker, each, notes) for each in wanted))
    return [each for each in after if not each.is_final]


async def _cancel(broker: JournalledBroker, order: Order, notes: _Notes) -> Order:
    try:
        after = await broker.cancel_order(order.id)
    except HybridBrokerError as exc:
        notes.problem(f"cancelling order {order.id}", exc)
        return order
    if after.is_final:
        notes.cancelled.append(order.id)
    return after


async def _close(
    broker: JournalledBroker,
    positions: Iterable[Position],
    *,
    price: Callable[[Instrument], Decimal | None],
    notes: _Notes,
) -> None:
    for position in positions:
        for quantity in _slices(position):
            try:
                request = _exit(position, quantity, broker=broker, price=price(position.instrument))
                order = await broker.place(request, urgent=True)
                notes.exits.append(order.client_order_id or order.id)
            except OrderOutcomeUnknown as exc:
                notes.exits.append(exc.client_order_id)
                notes.problem(f"closing {position.instrument.id}", exc)
                break
            except HybridBrokerError as exc:
                notes.problem(f"closing {position.instrument.id}", exc)
                break


def _exit_side(position: Position) -> Side:
    return Side.SELL if position.quantity > 0 else Side.BUY


def _slices(position: Position) -> Iterable[int]:
    left, most = abs(position.quantity), position.instrument.freeze_quantity
    lot = position.instrument.lot_size
    step = left if most is None else max(lot, most // lot * lot)
    while left > 0:
        yield min(step, left)
        left -= step


def _exit(position: Position, quantity: int, *, broker: JournalledBroker, price: Decimal | None) -> OrderRequest:
    side = _exit_side(position)
    instrument, product = position.instrument, position.product
    if Capability.MARKET_ORDERS in broker.capabilities or price is None:
        return MarketOrder(instrument, side, quantity=quantity, product=product)
    through = instrument.price(price * (1 + _BAND * side.sign))
    return LimitOrder(instrument, side, quantity=quantity, price=through, product=product)


async def _rest(broker: JournalledBroker, clock: Clock, *, until: datetime) -> None:
    """Give the exits a moment to fill."""
    while clock.now() < until:
        if not any(order.is_open for order in await broker.orders()):
            return
        await clock.sleep(_POLL)


def _report(notes: _Notes, *, left: Sequence[str]) -> FlattenReport:
    return FlattenReport(
        flat=not left, cancelled=notes.cancelled, exits=notes.exits, left=tuple(left), problems=notes.problems
    )
