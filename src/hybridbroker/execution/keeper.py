"""What goes on behind the orders: update stream, watch for lost ones, polling, taking up after a restart."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum, auto
from typing import Final

from hybridbroker.clock import Clock
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import Order, Product
from hybridbroker.domain.portfolio import Position
from hybridbroker.errors import AuthenticationError, ConfigurationError, HybridBrokerError
from hybridbroker.execution.events import tell
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.ledger import Ledger
from hybridbroker.execution.reconcile import CATCH_UP, Look, Mismatch, Patience, compare_positions, is_over
from hybridbroker.execution.records import Entry, OrderState
from hybridbroker.execution.standing import StandingDesk, is_standing
from hybridbroker.execution.stops import Stops
from hybridbroker.execution.updates import UpdateHub
from hybridbroker.protocols import Broker, Capability

__all__ = ["Keeper"]

logger = logging.getLogger(__name__)

_READ_LIMIT: Final = 30.0
_SOON: Final = 1.0
_SLOWER: Final = 10
_SETTLED: Final = CATCH_UP.total_seconds() + 0.5
_REOPEN: Final = 30.0
_COMPARISONS: Final = 3
_MISSING: Final = "missing:"
_OFFSETS: Final = "position-offsets"


class _Job(Enum):
    """What there is to do, each at most once at a time."""

    BOOK = auto()
    FILLS = auto()
    POSITIONS = auto()
    STANDING = auto()
    TIDY = auto()


class Keeper:
    """Keeps the ledger true to the broker; runs nothing while there is nothing to watch."""

    def __init__(
        self,
        broker: Broker,
        *,
        journal: OrderJournal,
        ledger: Ledger,
        hub: UpdateHub,
        stops: Stops,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self.positions: Sequence[Position] = ()
        self.positions_at: datetime | None = None
        self.book_at: datetime | None = None
        self.updates_live = False
        self.polls_positions = False
        """Whether somebody needs fresh positions all the time (a daily loss limit)."""
        self.desk: StandingDesk | None = None
        """Knows which orders came from standing ones of the account, and which of those are still looked for."""
        self._broker = broker
        self._journal = journal
        self._ledger = ledger
        self._hub = hub
        self._stops = stops
        self._clock = clock
        self._patience = patience
        self._accounted: Mapping[tuple[str, Product], int] = {}
        self._ended = False
        self._due: dict[_Job, float] = {}
        self._pause = patience.watch
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # Starting and stopping.

    def start(self) -> None:
        """Open the broker's update stream and begin to watch; repeated calls do nothing."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._listen(), name="hybridbroker-order-updates"),
                asyncio.create_task(self._work(), name="hybridbroker-order-watch"),
            ]
            for task in self._tasks:
                task.add_done_callback(self._broke)

    def watch_standing(self) -> None:
        """Begin to watch, and look later for standing orders whose answer may be lost."""
        self._want(_Job.STANDING, after=self._patience.settle / self._patience.reads)
        self.start()

    async def close(self) -> None:
        """Stop watching; orders that are still unresolved are resolved at the next start."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._ledger.unresolved():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.deadline):
                    await self._read_book()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _broke(self, task: asyncio.Task[None]) -> None:
        """Stop entries when a defect ends the watch: nobody would find a lost order any more."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("%s broke", task.get_name(), exc_info=error)
            self._stops.stop("watch", f"{task.get_name()} broke ({error!r}); restart the process", kept=False)

    def changed(self, before: Entry, after: Entry) -> None:
        """Take note that the ledger changed, and plan what follows from it."""
        if after.state is OrderState.UNKNOWN:
            self._pause = self._patience.watch
            self._want(_Job.BOOK, after=self._pause)
        if after.filled_quantity != before.filled_quantity:
            self._want(_Job.FILLS, after=_SOON)
            self._want(_Job.POSITIONS, after=_SOON)
        if after.state is OrderState.ACCEPTED:
            # A younger book may lag behind the update stream, so what it says is settled later.
            self._want(_Job.BOOK, after=_SETTLED)
        # Put off with each change, so that it never falls between two orders of a busy minute.
        self._due[_Job.TIDY] = self._clock.monotonic() + self._patience.poll
        self._wake.set()

    # Reading.

    def took(self, orders: Sequence[Order], began: datetime) -> None:
        """Take in what a reading begun at ``began`` showed of some orders."""
        for order in orders:
            self._adopt(order)
            if self._ledger.observe(order, read_from=began):
                self._hub.publish(order)
            self._stops.lift(f"{_MISSING}{order.client_order_id}", why="the broker shows it again")

    def took_book(self, orders: Sequence[Order], began: datetime) -> None:
        """Take in a complete book; what it lacks counts as a look for the unresolved."""
        self.book_at = began
        self.took(orders, began)
        for entry in self._ledger.unresolved():
            if (entry.sent_at or entry.created_at) <= began:
                self._ledger.looked(entry.client_order_id, Look("orders", began, found=False), book=orders)

    async def read_positions(self) -> Sequence[Position]:
        """Read the positions and keep them."""
        began = self._clock.now()
        self.positions = await self._broker.positions()
        self.positions_at = began
        self._accounted = self._journal.net_fills(since=self._ledger.midnight())
        return self.positions

    # After a restart.

    async def recover(self) -> None:
        """Resolve what a former process left open, adopt what is live, and compare positions.

        Raises:
            AuthenticationError: The broker does not let us read; log in again.
        """
        for entry in self._ledger.unresolved():
            self._ledger.unknown(entry.client_order_id, "the process ended before the answer was read")
        try:
            await self._take_up()
        except AuthenticationError:
            raise
        except (HybridBrokerError, TimeoutError) as exc:
            self._stops.stop(
                "recovery", f"the broker's book and positions could not be read after the start: {exc}", kept=False
            )
            self._want(_Job.BOOK, after=self._patience.watch)
        if self._ledger.unresolved() or self._ledger.live() or self._ledger.absent() or self._due:
            self._plan()
            self.start()

    async def _take_up(self) -> None:
        async with asyncio.timeout(_READ_LIMIT):
            began = self._clock.now()
            book = await self._broker.orders()
            self.took_book(book, began)
            self._close_yesterday()
            self._close_changes({order.id: order for order in book})
            if self._ledger.entries():
                self._journal.add_fills(await self._broker.trades())
            await self._compare_positions()
        missing = [each for each in self._ledger.live() if each.order_id not in {order.id for order in book}]
        for entry in self._ledger.live():
            if entry not in missing:
                tell("order-taken-up", client_order_id=entry.client_order_id, order_id=entry.order_id)
        for entry in missing:
            self._stops.stop(
                f"{_MISSING}{entry.client_order_id}",
                f"order {entry.client_order_id} ({entry.instrument}) was acknowledged as {entry.order_id} and is not "
                "in the broker's book; ask the broker, then override()",
            )
        self._stops.lift("recovery", why="book and positions were read")

    def _close_yesterday(self) -> None:
        now = self._clock.now()
        for entry in (*self._ledger.unresolved(), *self._ledger.live()):
            if is_over(entry, now):
                what = "its outcome was never learnt; " if entry.is_unresolved else ""
                self._ledger.over(entry.client_order_id, f"{what}its trading day is over, so it cannot be live")

    def _close_changes(self, book: Mapping[str, Order]) -> None:
        for change in self._journal.open_changes():
            if is_standing(change.kind):
                continue  # the order book does not show those
            order = book.get(change.order_id)
            told = (
                "not in today's book" if order is None else f"{order.status.value}, {order.quantity} at {order.price}"
            )
            self._journal.end_change(
                change.id, "read-back", order_id=change.order_id, kind=change.kind, detail=f"after a restart: {told}"
            )

    async def _compare_positions(self) -> None:
        differences: Sequence[Mismatch] = ()
        for _ in range(_COMPARISONS):
            differences = self._differences(await self.read_positions())
            if not differences:
                break
            # A fill between reading the book and reading the positions looks like a difference.
            await self._clock.sleep(_SOON)
            began = self._clock.now()
            self.took_book(await self._broker.orders(), began)
        if self._journal.note(_OFFSETS) is None:
            self.accept_positions(why="first use of this journal")
        elif not differences:
            self._stops.lift("positions", why="the positions agree again")
        else:
            told = "; ".join(map(str, differences))
            self._stops.stop(
                "positions",
                f"positions do not agree with the journal: {told}. Orders placed elsewhere or a lost fill explain it; "
                "check with the broker, then override()",
                kept=False,
            )

    def accept_positions(self, *, why: str) -> None:
        """Take the positions last read as right from here on."""
        fills = self._accounted
        held: dict[tuple[str, Product], int] = {}
        for position in self.positions:
            key = (position.instrument.id, position.product)
            held[key] = held.get(key, 0) + position.quantity
        offsets = {f"{name}|{product.value}": held.get((name, product), 0) - fills.get((name, product), 0)
                   for name, product in {*held, *fills}}  # fmt: skip
        kept = {"day": self._ledger.midnight().date().isoformat(), "units": {k: v for k, v in offsets.items() if v}}
        self._journal.keep(_OFFSETS, json.dumps(kept), why=why)

    def _differences(self, positions: Sequence[Position]) -> Sequence[Mismatch]:
        midnight = self._ledger.midnight()
        expected = dict(self._journal.net_fills(since=midnight))
        kept = json.loads(self._journal.note(_OFFSETS) or '{"day": "", "units": {}}')
        for key, units in kept["units"].items():
            name, product = key.rsplit("|", 1)
            # Only derivatives are carried in the positions; shares bought yesterday are holdings today.
            if Product(product) is Product.MARGIN or kept["day"] == midnight.date().isoformat():
                expected[name, Product(product)] = expected.get((name, Product(product)), 0) + int(units)
        return compare_positions(expected, positions, now=self._clock.now())

    # In the background.

    async def _listen(self) -> None:
        while Capability.ORDER_UPDATES in self._broker.capabilities:
            try:
                await self._follow()
            except HybridBrokerError as exc:
                logger.warning("order updates are down (%s: %s); polling until they are back", type(exc).__name__, exc)
                self._want(_Job.BOOK, after=_SOON)
                self._want(_Job.POSITIONS, after=_SOON)
                await self._clock.sleep(_REOPEN)
            else:
                self._ended = True
                self._hub.close()
                return
        self._want(_Job.BOOK, after=self._patience.poll)

    async def _follow(self) -> None:
        try:
            async with self._broker.order_updates() as updates:
                self.updates_live = True
                async for update in updates:
                    self._heard(update)
        finally:
            self.updates_live = False

    def _heard(self, update: Order | Gap) -> None:
        if isinstance(update, Gap):
            self._want(_Job.BOOK, after=0)
            self._want(_Job.FILLS, after=_SOON)
            self._want(_Job.POSITIONS, after=_SOON)
            self._hub.publish(update)
        else:
            self._adopt(update)
            if self._ledger.observe(update):
                self._hub.publish(update)

    def _adopt(self, order: Order) -> None:
        """Take an order that a standing one became for ours, so that what it fills is accounted for."""
        if self.desk is not None and not self._ledger.knows(order) and self.desk.claims(order):
            self._ledger.adopt(order)

    def _want(self, job: _Job, *, after: float) -> None:
        at = self._clock.monotonic() + after
        if at < self._due.get(job, float("inf")):
            self._due[job] = at
            self._wake.set()

    async def _work(self) -> None:
        while True:
            await self._until_due()
            now = self._clock.monotonic()
            for job in [job for job, at in self._due.items() if at <= now]:
                del self._due[job]
                try:
                    await self._do(job)
                except ConfigurationError as exc:
                    self._stops.stop("journal", str(exc), kept=False)
            self._plan()

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            if not self._due:
                await self._wake.wait()
                continue
            delay = min(self._due.values()) - self._clock.monotonic()
            if delay <= 0:
                return
            woken = asyncio.ensure_future(self._wake.wait())
            pause = asyncio.ensure_future(self._clock.sleep(delay))
            try:
                await asyncio.wait({woken, pause}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
                pause.cancel()

    async def _do(self, job: _Job) -> None:
        match job:
            case _Job.BOOK:
                await (self._retake() if "recovery" in self._stops.reasons else self._read_book())
            case _Job.FILLS:
                await self._read_fills()
            case _Job.POSITIONS:
                await self._poll_positions()
            case _Job.STANDING:
                if self.desk is not None:
                    await self.desk.settle()
            case _Job.TIDY:
                self._journal.checkpoint()

    def _plan(self) -> None:
        """Plan the next look at whatever still needs one."""
        polling = not self.updates_live and not self._ended
        if self._ledger.unresolved() or "recovery" in self._stops.reasons:
            self._want(_Job.BOOK, after=min(self._pause, self._ledger.settles_in() or self._pause))
            self._pause = min(self._pause * 2, _SLOWER * self._patience.watch)
        elif self._ledger.absent() or (polling and self._ledger.live()):
            self._want(_Job.BOOK, after=self._patience.poll)
        if self.desk is not None and self.desk.is_unsettled:
            self.watch_standing()
        if self.polls_positions or polling:
            self._want(_Job.POSITIONS, after=self._patience.poll)

    async def _retake(self) -> None:
        try:
            await self._take_up()
        except (HybridBrokerError, TimeoutError) as exc:
            logger.info("taking up after the start failed again, trying on: %s", exc)

    async def _read_book(self) -> None:
        began = self._clock.now()
        try:
            async with asyncio.timeout(_READ_LIMIT):
                self.took_book(await self._broker.orders(), began)
            self._close_yesterday()
        except (HybridBrokerError, TimeoutError) as exc:
            told = f"{type(exc).__name__}: {exc}"
            logger.info("reading the order book failed, trying again: %s", told)
            for entry in self._ledger.unresolved():
                self._ledger.looked(entry.client_order_id, Look("orders", began, found=False, failure=told))

    async def _read_fills(self) -> None:
        try:
            async with asyncio.timeout(_READ_LIMIT):
                self._journal.add_fills(await self._broker.trades())
        except (HybridBrokerError, TimeoutError) as exc:
            logger.info("reading the trades failed, trying again: %s", exc)
            self._want(_Job.FILLS, after=self._patience.poll)

    async def _poll_positions(self) -> None:
        try:
            async with asyncio.timeout(_READ_LIMIT):
                await self.read_positions()
        except (HybridBrokerError, TimeoutError) as exc:
            logger.info("reading the positions failed, trying again: %s", exc)
            self._want(_Job.POSITIONS, after=self._patience.poll)
