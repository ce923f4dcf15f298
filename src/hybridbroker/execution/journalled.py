"""A `Broker` around a `Broker`: each write is on disk before it leaves, and none is ever sent twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Self

from hybridbroker.alerts import Notifier
from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import Order, OrderRequest, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.errors import ConfigurationError, HybridBrokerError, OrderRejected, RateLimited
from hybridbroker.execution.events import tell
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.keeper import Keeper
from hybridbroker.execution.ledger import Ledger
from hybridbroker.execution.metrics import Metrics, MetricsSnapshot, Stage
from hybridbroker.execution.outcomes import REFUSALS, told
from hybridbroker.execution.rate import WriteRate
from hybridbroker.execution.reconcile import Patience, describe_looks
from hybridbroker.execution.records import Entry
from hybridbroker.execution.search import Search
from hybridbroker.execution.standing import StandingDesk
from hybridbroker.execution.stops import Alarm, Stops
from hybridbroker.execution.updates import UpdateHub
from hybridbroker.protocols import Broker, Capability

__all__ = ["JournalledBroker"]

_DONE: Final = {"modify": "modified", "cancel": "cancelled"}


class JournalledBroker:
    """The broker it is built around, with a memory.

    A lost answer is looked for by client order id, in the book and in the update stream, for
    ``patience.deadline`` seconds; then `OrderOutcomeUnknown` tells where and when, and the
    search goes on in the background. An answer that never comes because the caller was
    cancelled is looked for as well. Entering opens the journal and takes up what a former
    process left; the inner broker is entered and left by whoever made it.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        journal: OrderJournal,
        rate: WriteRate | None = None,
        clock: Clock | None = None,
        patience: Patience | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.name: str = broker.name
        self.capabilities: Capability = broker.capabilities
        self._broker = broker
        self._journal = journal
        self._clock = clock = clock or SystemClock()
        self._rate = rate or WriteRate(None, clock=clock)
        patience = patience or Patience()
        self._alarm = Alarm(notifier)
        self.metrics = Metrics()
        self.stops = Stops(journal, clock=clock, alarm=self._alarm)
        self.ledger = Ledger(
            journal,
            clock=clock,
            patience=patience,
            alarm=self._alarm,
            stops=self.stops,
            metrics=self.metrics,
            changed=self._changed,
        )
        self._hub = UpdateHub(self.ledger.delivered)
        self.keeper = Keeper(
            broker,
            journal=journal,
            ledger=self.ledger,
            hub=self._hub,
            stops=self.stops,
            clock=clock,
            patience=patience,
        )
        self.desk = StandingDesk(
            broker,
            journal=journal,
            ledger=self.ledger,
            rate=self._rate,
            clock=clock,
            patience=patience,
            stops=self.stops,
            watch=self.keeper.watch_standing,
        )
        self.keeper.desk = self.desk
        self._search = Search(broker, ledger=self.ledger, clock=clock, patience=patience, took=self.keeper.took)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(self._journal)
            stack.enter_context(self._rate)
            self.stops.load()
            self.ledger.load()
            stack.push_async_callback(self._alarm.drain)
            stack.push_async_callback(self.keeper.close)
            if self._journal.path is not None:
                await self.desk.recover()
                await self.keeper.recover()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def _changed(self, before: Entry, after: Entry) -> None:
        self.keeper.changed(before, after)

    # Writes.

    async def place_order(self, request: OrderRequest) -> Order:
        """Send one order, once; see `OrderExecution.place_order`."""
        return await self.place(request)

    async def place(
        self,
        request: OrderRequest,
        *,
        value: Decimal | None = None,
        urgent: bool = False,
        last_look: Callable[[], None] | None = None,
        stages: Mapping[str, float] | None = None,
    ) -> Order:
        """Send one order, once.

        ``value`` is what it counts for where it has no price of its own; ``urgent`` lets it
        pass others that wait for the write rate; ``last_look`` may still refuse it, by
        raising, after such a wait; ``stages`` are seconds that earlier stages took, for
        the log. Up to the first await nothing else runs.
        """
        times = dict(stages or {})
        started = self._clock.monotonic()
        request = request.named(self._clock.now())
        entry = self.ledger.begin(request, value=request.value if value is None else value)
        name = entry.client_order_id
        journalled = self._clock.monotonic()
        times[Stage.JOURNALLED] = journalled - started
        turn = None
        try:
            turn = await self._rate.acquire(urgent=urgent)
            if turn.waited and last_look is not None:
                last_look()
            self.ledger.sent(name)
        except BaseException as exc:
            if turn is not None:
                turn.unused()
            self.ledger.rejected(name, f"never sent: {told(exc)}")
            raise
        self.keeper.start()
        left = self._clock.monotonic()
        times[Stage.WAITED] = left - journalled
        order = await self._outcome(name, turn.around(self._broker.place_order(request)))
        times[Stage.ACKNOWLEDGED] = self._clock.monotonic() - left
        times[Stage.TOTAL] = sum(each for stage, each in times.items() if stage != Stage.DECIDED)
        for stage, seconds in times.items():
            self.metrics.took(stage, seconds)
        in_ms: dict[str, Any] = {f"{stage}_ms": round(seconds * 1e3, 3) for stage, seconds in times.items()}
        tell("order-acknowledged", client_order_id=name, order_id=order.id, **in_ms)
        return order

    async def _outcome(self, name: str, answer: Awaitable[Order]) -> Order:
        try:
            order = self.ledger.accepted(name, await answer)
        except REFUSALS as exc:
            self.ledger.rejected(name, told(exc))
            raise
        except HybridBrokerError as exc:
            self.ledger.unknown(name, told(exc))
            return await self._find(name, lost=exc)
        except BaseException as exc:
            # A cancelled task, or a slice that broke: the request may have left all the same.
            self.ledger.unknown(name, told(exc))
            raise
        if order.filled_quantity or order.is_final:
            # The broker's own report of it will be no news any more, and nobody would be told.
            self._hub.publish(order)
        return order

    async def _find(self, name: str, *, lost: HybridBrokerError) -> Order:
        refused_unread = isinstance(lost, RateLimited)
        order = await self._search.find(name, first_absence=refused_unread)
        if order is not None:
            return order
        looks = self.ledger.looks(name)
        if refused_unread and any(look.shows_absence for look in looks):
            self.ledger.mark_absent(name, f"refused unread; {describe_looks(looks)}")
            raise lost
        raise self.ledger.unknown_error(name) from lost

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an open order, once; a lost answer is settled by reading the order back."""
        return await self.modify(
            order_id, quantity=quantity, price=price, trigger_price=trigger_price, validity=validity
        )

    async def modify(
        self,
        order_id: str,
        *,
        urgent: bool = False,
        last_look: Callable[[], None] | None = None,
        **terms: Any,
    ) -> Order:
        """Change an open order, once; the keywords of `place` apply."""
        wanted = {name: value for name, value in terms.items() if value is not None}

        def is_done(order: Order) -> bool:
            return all(getattr(order, name) == value for name, value in wanted.items())

        return await self._change(
            "modify",
            order_id,
            wanted=wanted,
            send=lambda: self._broker.modify_order(order_id, **terms),
            done=is_done,
            urgent=urgent,
            last_look=last_look,
        )

    async def cancel_order(self, order_id: str) -> Order:
        """Cancel, once; a lost answer is settled by reading the order back.

        A cancellation passes all others that wait for the write rate, and is sent even when it
        cannot be journalled: it can only ever make less happen.
        """
        return await self._change(
            "cancel",
            order_id,
            wanted={},
            send=lambda: self._broker.cancel_order(order_id),
            done=lambda order: order.is_final,
            urgent=True,
            last_look=None,
        )

    async def _change(
        self,
        kind: str,
        order_id: str,
        *,
        wanted: dict[str, Any],
        send: Callable[[], Awaitable[Order]],
        done: Callable[[Order], bool],
        urgent: bool,
        last_look: Callable[[], None] | None,
    ) -> Order:
        end = self._begin_change(kind, order_id, wanted)
        turn = None
        try:
            turn = await self._rate.acquire(urgent=urgent)
            if turn.waited and last_look is not None:
                last_look()
        except BaseException as exc:
            if turn is not None:
                turn.unused()
            end("rejected", f"never sent: {told(exc)}")
            raise
        self.keeper.start()
        began = self._clock.now()
        try:
            order = await turn.around(send())
        except (*REFUSALS, RateLimited) as exc:
            end("rejected", told(exc))
            raise
        except HybridBrokerError as exc:
            end("unknown", told(exc))
            order = await self._search.read_back(order_id, done=done, what=_DONE[kind])
            if not done(order):
                end("rejected", f"it was {order.status.value} first")
                raise OrderRejected(
                    f"order {order_id} was {order.status.value} before it could be {_DONE[kind]}"
                ) from exc
        except BaseException as exc:
            end("unknown", told(exc))
            raise
        else:
            self.keeper.took([order], began)
        end("accepted", "")
        return order

    def _begin_change(self, kind: str, order_id: str, wanted: dict[str, Any]) -> Callable[[str, str], None]:
        text = json.dumps(wanted, default=str)
        try:
            number = self._journal.begin_change(order_id, kind, text)
        except ConfigurationError as exc:
            if kind != "cancel":
                raise
            self.stops.stop("journal", str(exc), kept=False)
            return lambda _state, _detail: None

        def end(state: str, detail: str) -> None:
            try:
                self._journal.end_change(number, state, order_id=order_id, kind=kind, detail=detail)
            except ConfigurationError as exc:
                self.stops.stop("journal", str(exc), kept=False)

        return end

    # Reads; what they show is taken in on the way.

    async def order(self, order_id: str) -> Order:
        """Return one order of today; see `OrderBook.order`."""
        began = self._clock.now()
        order = await self._broker.order(order_id)
        self.keeper.took([order], began)
        return order

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the order that carries this id; see `OrderBook.find_order`."""
        began = self._clock.now()
        order = await self._broker.find_order(client_order_id)
        if order is not None:
            self.keeper.took([order], began)
        return order

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today; see `OrderBook.orders`."""
        began = self._clock.now()
        orders = await self._broker.orders()
        self.keeper.took_book(orders, began)
        return orders

    async def trades(self) -> Sequence[Trade]:
        """Return all executions of today; see `OrderBook.trades`."""
        return await self._broker.trades()

    def order_updates(self) -> AbstractAsyncContextManager[AsyncIterator[Order | Gap]]:
        """Stream every change of every order, what was missed while away first, each once."""
        if Capability.ORDER_UPDATES not in self._broker.capabilities:
            return self._broker.order_updates()
        return self._updates()

    @asynccontextmanager
    async def _updates(self) -> AsyncIterator[AsyncIterator[Order | Gap]]:
        self.keeper.start()
        async with self._hub.listen() as updates:
            yield updates

    async def positions(self) -> Sequence[Position]:
        """Return today's positions; see `Portfolio.positions`."""
        return await self.keeper.read_positions()

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held; see `Portfolio.holdings`."""
        return await self._broker.holdings()

    async def funds(self) -> Funds:
        """Return what can be spent; see `Portfolio.funds`."""
        return await self._broker.funds()

    # Looking on.

    def unresolved(self) -> Sequence[Entry]:
        """Return the orders that may be live without the broker having shown them."""
        return self.ledger.unresolved()

    def snapshot(self) -> MetricsSnapshot:
        """Return counts, latencies and the state of things at this instant."""
        now: datetime = self._clock.now()
        return MetricsSnapshot(
            at=now,
            orders=dict(self.metrics.counts),
            latency_ms=self.metrics.latencies(),
            unresolved=tuple(each.client_order_id for each in self.ledger.unresolved()),
            stopped=self.stops.reasons,
            updates_live=self.keeper.updates_live,
            book_read_at=self.keeper.book_at,
            positions_read_at=self.keeper.positions_at,
        )
