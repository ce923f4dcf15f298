"""Three answers to a write, whatever happens to the reply, and never a second POST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from execution_support import (
    Alerts,
    FakeBroker,
    VirtualClock,
    buy,
    hangs,
    loses_reply,
    refuses,
    sell,
)

from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    InvalidOrder,
    NotSent,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.records import OrderState

Build = Callable[[], JournalledBroker]

LOST = [
    pytest.param(OrderOutcomeUnknown(client_order_id="x"), id="unknown"),
    pytest.param(ReplyLost("cut"), id="reply lost"),
    pytest.param(ServiceUnavailable("502"), id="server error"),
    pytest.param(WireFormatError("garbage"), id="unreadable"),
]
REFUSED = [
    pytest.param(OrderRejected("no"), id="rejected"),
    pytest.param(NotSent("refused"), id="not sent"),
    pytest.param(InvalidOrder("bad"), id="invalid"),
    pytest.param(AuthenticationError("401"), id="unauthorised"),
]


def state(broker: JournalledBroker, name: str) -> OrderState:
    entry = broker.ledger.entry(name)
    assert entry is not None
    return entry.state


async def test_an_accepted_order_is_returned_and_journalled(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:
        order = await broker.place_order(buy(name="t-1"))

        assert (order.id, state(broker, "t-1")) == ("B1", OrderState.ACCEPTED)


async def test_the_intent_is_on_disk_before_the_broker_is_asked(build: Build, bare: FakeBroker, tmp_path: Path) -> None:
    seen: list[OrderState] = []

    def look() -> None:
        with OrderJournal(tmp_path / "orders.db", read_only=True) as reader:
            seen.extend(each.state for each in reader.entries())

    bare.before_send = look
    async with build() as broker:
        await broker.place_order(buy())

    assert seen == [OrderState.SENT]


@pytest.mark.parametrize("error", REFUSED)
async def test_a_refusal_is_a_rejection(build: Build, bare: FakeBroker, error: HybridBrokerError) -> None:
    bare.script.append(refuses(error))

    async with build() as broker:
        with pytest.raises(type(error)):
            await broker.place_order(buy(name="t-1"))

        assert state(broker, "t-1") is OrderState.REJECTED
        assert broker.unresolved() == []


@pytest.mark.parametrize("error", LOST)
async def test_a_lost_reply_is_found_at_the_broker(build: Build, bare: FakeBroker, error: HybridBrokerError) -> None:
    bare.script.append(loses_reply(error=error))
    bare.tells = False

    async with build() as broker:
        order = await broker.place_order(buy(name="t-1"))

    assert order.id == "B1"
    assert len(bare.posts) == 1


async def test_a_lost_reply_is_found_in_the_update_stream(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    bare.script.append(loses_reply(carried_out=False))
    async with build() as broker:
        call = asyncio.ensure_future(broker.place_order(buy(name="t-1")))
        await clock.advance(0.1)
        bare.read_error = ReplyLost("the book is down as well")
        bare.enter(buy(name="t-1"))
        order = await clock.run(call)

    assert order.id == "B1"


async def test_an_order_that_shows_late_is_found_within_the_deadline(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    bare.script.append(loses_reply())
    bare.tells = False
    bare.hidden_until["t-1"] = clock.now().replace(second=3)

    async with build() as broker:
        order = await clock.run(broker.place_order(buy(name="t-1")))

    assert (order.id, clock.monotonic() < 5) == ("B1", True)


@pytest.mark.parametrize("error", LOST)
async def test_an_order_that_is_not_found_is_unknown_with_what_was_looked_at(
    build: Build, bare: FakeBroker, clock: VirtualClock, error: HybridBrokerError
) -> None:
    bare.script.append(loses_reply(carried_out=False, error=error))

    async with build() as broker:
        with pytest.raises(
            OrderOutcomeUnknown, match=r"find_order at 09:30:00: not there.*orders at 09:30:00"
        ) as caught:
            await clock.run(broker.place_order(buy(name="t-1")))

        assert caught.value.client_order_id == "t-1"
        assert {look.source for look in caught.value.looks} == {"find_order", "orders"}
        assert [each.client_order_id for each in broker.unresolved()] == ["t-1"]
        assert len(bare.posts) == 1


async def test_an_unknown_order_counts_as_absent_after_the_settle_window(
    build: Build, bare: FakeBroker, clock: VirtualClock, alerts: Alerts
) -> None:
    bare.script.append(loses_reply(carried_out=False))
    async with build() as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(broker.place_order(buy(name="t-1")))
        await clock.advance(50)
        before = state(broker, "t-1")
        await clock.advance(15)

        assert (before, state(broker, "t-1")) == (OrderState.UNKNOWN, OrderState.ABSENT)
        assert any("counts as not placed" in each for each in alerts.messages)


async def test_an_order_is_not_absent_while_the_book_cannot_be_read(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    bare.script.append(loses_reply(carried_out=False))
    async with build() as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(broker.place_order(buy(name="t-1")))
        bare.read_error = ServiceUnavailable("down")
        await clock.advance(600)

        assert state(broker, "t-1") is OrderState.UNKNOWN


async def test_an_order_is_not_absent_while_a_row_without_id_looks_like_it(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    bare.script.append(loses_reply(carried_out=False))
    bare.enter(buy())
    async with build() as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(broker.place_order(buy(name="t-1")))
        await clock.advance(600)

        assert state(broker, "t-1") is OrderState.UNKNOWN


async def test_an_absent_order_that_appears_is_adopted_and_stops_entries(
    build: Build, bare: FakeBroker, clock: VirtualClock, alerts: Alerts
) -> None:
    bare.script.append(loses_reply(carried_out=False))
    async with build() as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(broker.place_order(buy(name="t-1")))
        await clock.advance(90)
        bare.tells = False
        bare.enter(buy(name="t-1"))
        await clock.advance(40)

        assert state(broker, "t-1") is OrderState.ACCEPTED
        assert list(broker.stops.reasons) == ["adopted:t-1"]
        assert any("t-1" in each and "after all" in each for each in alerts.messages)


async def test_what_was_over_yesterday_is_forgotten_with_the_first_order_of_today(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with build() as broker:
        over = await broker.place_order(buy(name="over"))
        bare.fill(over.id, 10)
        await broker.place_order(buy(name="open"))
        await clock.advance(1)

        await clock.advance(24 * 3600)
        await broker.place_order(buy(name="today"))

        assert [each.client_order_id for each in broker.ledger.entries()] == ["open", "today"]
        assert [each.client_order_id for each in broker.ledger.of("NSE:ABC")] == ["open", "today"]
        assert broker.ledger.by_order_id(over.id) is None


async def test_an_absent_id_is_retired(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    bare.script.append(loses_reply(carried_out=False))
    async with build() as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(broker.place_order(buy(name="t-1")))
        await clock.advance(90)

        with pytest.raises(InvalidOrder, match="used before"):
            await broker.place_order(buy(name="t-1"))

        assert len(bare.posts) == 1


async def test_an_order_refused_unread_is_absent_after_one_book(build: Build, bare: FakeBroker) -> None:
    bare.script.append(refuses(RateLimited("429")))

    async with build() as broker:
        with pytest.raises(RateLimited):
            await broker.place_order(buy(name="t-1"))

        assert state(broker, "t-1") is OrderState.ABSENT


async def test_an_order_refused_unread_that_is_there_is_returned(build: Build, bare: FakeBroker) -> None:
    bare.script.append(loses_reply(error=RateLimited("429")))
    bare.tells = False

    async with build() as broker:
        order = await broker.place_order(buy(name="t-1"))

    assert order.id == "B1"


async def test_a_cancelled_call_is_resolved_behind_its_callers_back(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    bare.script.append(hangs())
    bare.tells = False
    async with build() as broker:
        call = asyncio.ensure_future(broker.place_order(buy(name="t-1")))
        await clock.advance(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        unknown = state(broker, "t-1")
        await clock.advance(5)

        assert (unknown, state(broker, "t-1")) == (OrderState.UNKNOWN, OrderState.ACCEPTED)


async def test_a_call_cancelled_while_it_waits_for_its_turn_was_never_sent(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with build() as broker:
        for _ in range(10):
            await broker.place_order(buy())
        call = asyncio.ensure_future(broker.place_order(buy(name="t-1")))
        await clock.advance(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        assert (state(broker, "t-1"), len(bare.posts)) == (OrderState.REJECTED, 10)


async def test_a_broken_slice_leaves_the_outcome_unknown(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    async def breaks(carry_out: Callable[[], Order]) -> Order:
        carry_out()
        raise KeyError("a bug")

    bare.script.append(breaks)
    bare.tells = False
    async with build() as broker:
        with pytest.raises(KeyError):
            await broker.place_order(buy(name="t-1"))
        await clock.advance(5)

        assert state(broker, "t-1") is OrderState.ACCEPTED


async def test_nothing_is_sent_when_the_intent_cannot_be_written(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:
        broker._journal._db.execute("PRAGMA max_page_count=1")
        broker._journal._db.execute("PRAGMA query_only=1")

        with pytest.raises(ConfigurationError, match="order journal"):
            await broker.place_order(buy(name="t-1"))

        broker._journal._db.execute("PRAGMA query_only=0")
    assert bare.posts == []


async def test_an_answer_that_cannot_be_written_is_returned_and_stops_entries(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:

        def lock() -> None:
            broker._journal._db.execute("PRAGMA query_only=1")

        bare.before_send = lock
        order = await broker.place_order(buy(name="t-1"))
        stopped = list(broker.stops.reasons)
        broker._journal._db.execute("PRAGMA query_only=0")

    assert (order.id, stopped) == ("B1", ["journal"])


# Cancel and modify.


async def test_a_lost_cancel_is_read_back(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:
        order = await broker.place_order(buy())
        bare.script.append(loses_reply())
        cancelled = await broker.cancel_order(order.id)

    assert (cancelled.status, len(bare.deletes)) == (OrderStatus.CANCELLED, 1)


async def test_a_cancel_that_nobody_saw_is_unknown(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    async with build() as broker:
        order = await broker.place_order(buy())
        bare.script.append(loses_reply(carried_out=False))
        with pytest.raises(OrderOutcomeUnknown, match=r"cancelled is not known.*still open") as caught:
            await clock.run(broker.cancel_order(order.id))

    assert (caught.value.client_order_id, len(bare.deletes)) == (order.id, 1)


async def test_a_lost_modification_is_read_back(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:
        order = await broker.place_order(buy(10))
        bare.script.append(loses_reply())
        changed = await broker.modify_order(order.id, quantity=20)

    assert (changed.quantity, len(bare.puts)) == (20, 1)


async def test_a_modification_overtaken_by_a_fill_is_rejected(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:
        order = await broker.place_order(buy(10))
        bare.fill(order.id, 10)
        bare.script.append(loses_reply(carried_out=False))
        with pytest.raises(OrderRejected, match="filled before it could be modified"):
            await broker.modify_order(order.id, quantity=20)


async def test_a_cancel_is_sent_even_when_it_cannot_be_journalled(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:
        order = await broker.place_order(buy())
        broker._journal._db.execute("PRAGMA query_only=1")
        cancelled = await broker.cancel_order(order.id)
        broker._journal._db.execute("PRAGMA query_only=0")

    assert cancelled.status is OrderStatus.CANCELLED


async def test_a_cancel_passes_entries_that_wait_for_their_turn(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with build() as broker:
        order = await broker.place_order(buy())
        for _ in range(9):
            await broker.place_order(buy())
        entry = asyncio.ensure_future(broker.place_order(sell(name="later")))
        await clock.advance(0.1)
        cancel = asyncio.ensure_future(broker.cancel_order(order.id))
        await clock.run(cancel)

        assert state(broker, "later") in {OrderState.INTENT, OrderState.ACCEPTED}
        assert bare.deletes == [order.id]
        await clock.run(entry)


# Updates.


async def test_updates_reach_every_listener_once(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    async with build() as broker, broker.order_updates() as updates:
        await clock.advance(0.1)
        order = await broker.place_order(buy(10))
        bare.tell(bare.truth()[0])
        bare.fill(order.id, 4)
        bare.fill(order.id, 6)
        heard = [await anext(updates) for _ in range(3)]

    assert [each.status for each in heard if isinstance(each, Order)] == [
        OrderStatus.OPEN,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.FILLED,
    ]


async def test_an_update_overtaken_by_a_newer_one_is_not_told(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with build() as broker, broker.order_updates() as updates:
        await clock.advance(0.1)
        order = await broker.place_order(buy(10))
        bare.tells = False
        early, late = bare.fill(order.id, 4), bare.fill(order.id, 6)
        bare.tell(late)
        bare.tell(early)
        bare.tells = True
        await clock.advance(0.1)
        other = await broker.place_order(sell())
        heard = [await anext(updates) for _ in range(3)]

    assert [(each.id, each.filled_quantity) for each in heard if isinstance(each, Order)] == [
        (order.id, 0),
        (order.id, 10),
        (other.id, 0),
    ]


async def test_the_book_is_polled_while_updates_are_down(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    async with build() as broker, broker.order_updates() as updates:
        await clock.advance(0.1)
        order = await broker.place_order(buy(10))
        await anext(updates)
        await clock.advance(10)
        bare.end_updates(ReplyLost("cut"))
        await clock.advance(0.1)
        bare.fill(order.id, 10)
        bare.reads.clear()
        await clock.advance(70)
        heard = await anext(updates)

    assert isinstance(heard, Order)
    assert heard.status is OrderStatus.FILLED
    assert bare.reads.count("positions") >= 2


async def test_a_younger_book_that_lags_behind_an_update_is_not_believed(
    build: Build, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with build() as broker:
        order = await broker.place_order(buy(10, name="t-1"))
        await clock.advance(0.1)
        filled = bare.fill(order.id, 10)
        await clock.advance(0.1)
        bare._orders[order.id] = order
        await broker.orders()

        entry = broker.ledger.entry("t-1")
        assert entry is not None
        assert (entry.state, entry.filled_quantity) == (OrderState.FINAL, filled.filled_quantity)


async def test_the_fills_of_an_order_are_kept(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    async with build() as broker:
        order = await broker.place_order(buy(10))
        await clock.advance(0.1)
        bare.fill(order.id, 4)
        bare.fill(order.id, 6)
        await clock.advance(2)

        assert [units for _, units, _ in broker._journal.fills(order.id)] == [4, 6]


async def test_a_watch_that_breaks_stops_entries(build: Build, bare: FakeBroker, clock: VirtualClock) -> None:
    broker = await build().__aenter__()
    broker.keeper.start()
    bare.tell("no order at all")  # type: ignore[arg-type]
    await clock.advance(0.1)
    bare.tell("no order at all")  # type: ignore[arg-type]
    await clock.advance(0.1)

    assert list(broker.stops.reasons) == ["watch"]
    with pytest.raises(AttributeError):
        await broker.__aexit__(None, None, None)


async def test_the_stages_of_an_order_are_logged_as_data(
    build: Build, bare: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="hybridbroker.orders")
    async with build() as broker:
        await broker.place_order(buy(name="t-1"))

    (record,) = [each for each in caplog.records if getattr(each, "event", "") == "order-acknowledged"]
    fields = record.fields  # type: ignore[attr-defined]
    assert (fields["client_order_id"], fields["order_id"]) == ("t-1", "B1")
    assert {"journal_ms", "rate_ms", "broker_ms", "total_ms"} <= set(fields)


async def test_metrics_count_and_time_the_way_of_an_order(build: Build, bare: FakeBroker) -> None:
    async with build() as broker:
        await broker.place_order(buy())
        snapshot = broker.snapshot()

    assert snapshot.orders == {"placed": 1, "accepted": 1}
    assert set(snapshot.latency_ms) == {"journal", "rate", "broker", "total"}
    assert snapshot.unresolved == ()
