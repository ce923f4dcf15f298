"""What a new process makes of what the old one left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import attrs
import pytest
from execution_support import ABC, XYZ, Alerts, FakeBroker, VirtualClock, buy, hangs, loses_reply, sell

from hybridbroker.domain.orders import LimitOrder, Order, OrderStatus, Product, Side
from hybridbroker.domain.portfolio import Position
from hybridbroker.errors import AuthenticationError, OrderOutcomeUnknown, ServiceUnavailable
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.records import Entry, OrderState

Build = Callable[[], JournalledBroker]


@pytest.fixture
def build(tmp_path: Path, bare: FakeBroker, clock: VirtualClock, alerts: Alerts) -> Build:
    class Entered(JournalledBroker):
        """Entered with the clock running: taking up may have to wait."""

        async def __aenter__(self) -> Self:
            return await clock.run(super().__aenter__())

    return lambda: Entered(
        bare, journal=OrderJournal(tmp_path / "orders.db", clock=clock), clock=clock, notifier=alerts
    )


def left_behind(path: Path, clock: VirtualClock, name: str, state: OrderState, **terms: Any) -> None:
    """Write the journal that a process killed in ``state`` leaves."""
    with OrderJournal(path / "orders.db", clock=clock) as journal:
        entry = Entry.of(buy(name=name), at=clock.now(), value=None)
        journal.begin(entry, "")
        if state is not OrderState.INTENT:
            journal.save(attrs.evolve(entry, state=state, sent_at=clock.now(), **terms), state.value)


def state(broker: JournalledBroker, name: str) -> OrderState:
    entry = broker.ledger.entry(name)
    assert entry is not None
    return entry.state


@pytest.mark.parametrize("old", [OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN])
async def test_an_open_intent_that_reached_the_broker_is_taken_up(
    build: Build, bare: FakeBroker, clock: VirtualClock, tmp_path: Path, old: OrderState
) -> None:
    left_behind(tmp_path, clock, "t-1", old)
    bare.enter(buy(name="t-1"))

    async with build() as broker:
        assert state(broker, "t-1") is OrderState.ACCEPTED
    assert bare.posts == []


@pytest.mark.parametrize("old", [OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN])
async def test_an_open_intent_that_never_arrived_is_unknown_then_absent(
    build: Build, bare: FakeBroker, clock: VirtualClock, tmp_path: Path, old: OrderState
) -> None:
    left_behind(tmp_path, clock, "t-1", old)

    async with build() as broker:
        at_first = state(broker, "t-1")
        await clock.advance(75)

        assert (at_first, state(broker, "t-1")) == (OrderState.UNKNOWN, OrderState.ABSENT)
    assert bare.posts == []


async def test_fills_missed_while_away_are_told_once(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    async with build() as broker, broker.order_updates() as updates:
        await clock.advance(0.1)
        order = await broker.place_order(buy(10))
        await anext(updates)
        asyncio.get_running_loop().call_soon(bare.enter, buy(name="somebody-elses"))
        await anext(updates)
    bare.fill(order.id, 10)

    heard: list[list[str]] = []
    for _ in range(2):
        async with build() as broker, broker.order_updates() as updates:
            await clock.advance(0.1)
            bare.enter(buy(name=f"marker-{len(heard)}"))
            told: list[str] = []
            while True:
                item = await anext(updates)
                assert isinstance(item, Order)
                told.append(f"{item.client_order_id} {item.status}")
                if str(item.client_order_id).startswith("marker"):
                    break
            heard.append(told)

    assert heard == [[f"{order.client_order_id} filled", "marker-0 open"], ["marker-1 open"]]


async def test_fills_missed_while_away_are_in_the_journal(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    async with build() as broker:
        order = await broker.place_order(buy(10))
    bare.fill(order.id, 10)

    async with build() as broker:
        assert [units for _, units, _ in broker._journal.fills(order.id)] == [10]
        assert broker.stops.reasons == {}


async def test_positions_that_do_not_add_up_stop_entries_and_are_explained(
    build: Build, bare: FakeBroker, clock: VirtualClock, alerts: Alerts
) -> None:
    async with build() as broker:
        await broker.place_order(buy(10))
    bare.fill(bare.enter(sell(3, instrument=XYZ)).id, 3)

    async with build() as broker:
        reasons = broker.stops.reasons

    assert list(reasons) == ["positions"]
    assert "NSE:XYZ delivery: the broker holds -3, the journal accounts for +0" in reasons["positions"]
    assert any("NSE:XYZ" in each for each in alerts.messages)


async def test_positions_held_before_the_first_use_are_taken_as_they_are(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    bare.carried.append(Position(instrument=XYZ, product=Product.INTRADAY, quantity=7, average_price=Decimal(100)))

    for _ in range(2):
        async with build() as broker:
            assert broker.stops.reasons == {}


async def test_a_fill_between_reading_book_and_positions_is_no_mismatch(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with build() as broker:
        order = await broker.place_order(buy(10))
    read, bare.positions = bare.positions, None  # type: ignore[method-assign, assignment]

    async def positions() -> object:
        bare.positions = read  # type: ignore[method-assign]
        bare.fill(order.id, 10)
        return await read()

    bare.positions = positions  # type: ignore[method-assign, assignment]
    async with build() as broker:
        assert broker.stops.reasons == {}


async def test_a_broker_that_cannot_be_read_stops_entries_until_it_can(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    bare.read_error = ServiceUnavailable("down")
    async with build() as broker:
        before = list(broker.stops.reasons)
        bare.read_error = None
        await clock.advance(30)

        assert (before, list(broker.stops.reasons)) == (["recovery"], [])


async def test_a_dead_token_is_told_at_once(build: Build, bare: FakeBroker) -> None:
    bare.read_error = AuthenticationError("log in")

    with pytest.raises(AuthenticationError):
        await build().__aenter__()


async def test_yesterdays_unknown_order_is_over_since_no_book_can_tell(
    build: Build, bare: FakeBroker, clock: VirtualClock, tmp_path: Path
) -> None:
    left_behind(tmp_path, clock, "t-1", OrderState.UNKNOWN)
    await clock.advance(86_400)

    async with build() as broker:
        entry = broker.ledger.entry("t-1")

        assert entry is not None
        assert entry.state is OrderState.FINAL
        assert "its outcome was never learnt" in (entry.reason or "")


async def test_an_acknowledged_order_that_the_book_lacks_stops_entries(
    build: Build, bare: FakeBroker, clock: VirtualClock, tmp_path: Path
) -> None:
    left_behind(tmp_path, clock, "t-1", OrderState.ACCEPTED, order_id="B99", status=OrderStatus.OPEN)

    async with build() as broker:
        assert list(broker.stops.reasons) == ["missing:t-1"]


async def test_an_absent_order_is_watched_after_a_restart(
    build: Build, bare: FakeBroker, clock: VirtualClock, tmp_path: Path
) -> None:
    left_behind(tmp_path, clock, "t-1", OrderState.ABSENT)
    async with build() as broker:
        bare.tells = False
        bare.enter(buy(name="t-1"))
        await clock.advance(40)

        assert list(broker.stops.reasons) == ["adopted:t-1"]
    async with build() as broker:
        assert list(broker.stops.reasons) == ["adopted:t-1"]


async def test_a_cancellation_in_flight_is_settled_by_the_book(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with build() as broker:
        order = await broker.place_order(buy())
        bare.script.append(hangs())
        call = asyncio.ensure_future(broker.cancel_order(order.id))
        await clock.advance(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        open_before = len(broker._journal.open_changes())

    async with build() as broker:
        assert (open_before, broker._journal.open_changes()) == (1, [])
    assert len(bare.deletes) == 1


async def test_an_after_market_order_of_last_night_is_still_looked_for(
    bare: FakeBroker, tmp_path: Path, alerts: Alerts
) -> None:
    evening = VirtualClock(datetime(2026, 1, 5, 14, 0, tzinfo=UTC))
    request = LimitOrder(ABC, Side.BUY, quantity=10, price="100", client_order_id="amo-1", after_market=True)
    bare.clock = evening
    bare.script.append(loses_reply(carried_out=False))

    def build() -> JournalledBroker:
        journal = OrderJournal(tmp_path / "orders.db", clock=evening)
        return JournalledBroker(bare, journal=journal, clock=evening, notifier=alerts)

    async with build() as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await evening.run(broker.place_order(request))
    await evening.advance(14 * 3600)

    bare.enter(request)
    async with build() as broker:
        assert state(broker, "amo-1") is OrderState.ACCEPTED
