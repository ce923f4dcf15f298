"""The state of an order under reports in any order: what is believed, and where it must end."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from execution_support import (
    ABC,
    START,
    XYZ,
    Alerts,
    Behaviour,
    FakeBroker,
    VirtualClock,
    answers,
    buy,
    hangs,
    loses_reply,
    refuses,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import Order, OrderStatus, Product
from hybridbroker.domain.portfolio import Position
from hybridbroker.errors import HybridBrokerError, NotSent, OrderRejected, RateLimited
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.reconcile import (
    Look,
    Patience,
    apply,
    compare_positions,
    is_absent,
    is_news,
    is_over,
    resembles,
)
from hybridbroker.execution.records import Entry, OrderState


def order(status: OrderStatus = OrderStatus.OPEN, *, filled: int = 0, at: int = 0, **terms: Any) -> Order:
    request = buy(name="t-1")
    plain = Order(
        id="B1",
        client_order_id="t-1",
        instrument=ABC,
        side=request.side,
        type=request.type,
        product=request.product,
        validity=request.validity,
        quantity=10,
        price=request.price,
        status=status,
        filled_quantity=filled,
        updated_at=START + timedelta(seconds=at),
    )
    return attrs.evolve(plain, **terms)


def known(report: Order | None = None) -> Entry:
    entry = Entry.of(buy(name="t-1"), at=START, value=None)
    return entry if report is None else apply(entry, report, at=START)


@pytest.mark.parametrize(
    ("before", "after", "believed"),
    [
        pytest.param(None, order(), True, id="the first report"),
        pytest.param(order(), order(OrderStatus.FILLED, filled=10), True, id="fills grow"),
        pytest.param(order(filled=5), order(filled=4, at=9), False, id="fills never shrink"),
        pytest.param(order(OrderStatus.CANCELLED), order(at=9), False, id="final stays final"),
        pytest.param(order(OrderStatus.CANCELLED), order(OrderStatus.CANCELLED, filled=3), True, id="a late fill"),
        pytest.param(order(at=5), order(OrderStatus.CANCELLED, at=4), True, id="final wins over the time"),
        pytest.param(order(at=5), order(at=4, quantity=20), False, id="older by the broker's time"),
        pytest.param(order(at=5), order(at=6, quantity=20), True, id="newer by the broker's time"),
        pytest.param(order(), order(OrderStatus.PENDING), False, id="back to pending within a second"),
        pytest.param(order(), order(OrderStatus.UNKNOWN, at=9), False, id="a status nobody documented"),
        pytest.param(order(), order(OrderStatus.UNKNOWN, filled=1), True, id="unknown status, but fills"),
    ],
)
def test_a_report_is_believed_by_what_cannot_go_back(before: Order | None, after: Order, *, believed: bool) -> None:
    assert is_news(known(before), after, settled=False) is believed


def test_a_settled_book_is_believed_against_everything() -> None:
    assert is_news(known(order(OrderStatus.CANCELLED, filled=5)), order(), settled=True)


def test_an_undocumented_status_keeps_the_one_that_was_known() -> None:
    entry = apply(known(order()), order(OrderStatus.UNKNOWN, filled=2), at=START)

    assert (entry.status, entry.filled_quantity) == (OrderStatus.OPEN, 2)


@given(data=st.data())
def test_reports_of_one_order_end_the_same_in_any_order(data: st.DataObject) -> None:
    fills = sorted(data.draw(st.lists(st.integers(0, 10), min_size=1, max_size=6)))
    story = [order(OrderStatus.PENDING)]
    for number, filled in enumerate(fills):
        status = OrderStatus.FILLED if filled == 10 else OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN
        story.append(order(status, filled=filled, at=number + 1))
    if story[-1].status is not OrderStatus.FILLED:
        story.append(order(OrderStatus.CANCELLED, filled=story[-1].filled_quantity, at=9))
    shuffled = data.draw(st.permutations(story + data.draw(st.lists(st.sampled_from(story), max_size=4))))

    entry = known()
    for report in shuffled:
        if is_news(entry, report, settled=False):
            entry = apply(entry, report, at=START)

    assert (entry.status, entry.filled_quantity) == (story[-1].status, story[-1].filled_quantity)


@given(
    times=st.lists(st.floats(0, 200), max_size=12),
    settle=st.floats(1, 100),
    reads=st.integers(1, 6),
)
def test_absence_takes_enough_readings_over_long_enough(times: list[float], settle: float, reads: int) -> None:
    looks = [Look("orders", START + timedelta(seconds=at), found=False) for at in sorted(times)]

    absent = is_absent(looks, Patience(settle=settle, reads=reads))

    span = (looks[-1].at - looks[0].at).total_seconds() if looks else 0.0
    assert absent == (len(looks) >= reads and span >= timedelta(seconds=settle).total_seconds())


def test_a_reading_that_failed_is_no_evidence() -> None:
    looks = [Look("orders", START + timedelta(seconds=at), found=False, failure="down") for at in range(0, 100, 10)]

    assert not is_absent(looks, Patience())


@pytest.mark.parametrize(
    ("row", "could_be"),
    [
        pytest.param(order(client_order_id=None), True, id="no id, same terms"),
        pytest.param(order(client_order_id="other"), False, id="another id"),
        pytest.param(order(client_order_id=None, quantity=11), False, id="another quantity"),
        pytest.param(order(client_order_id=None, instrument=XYZ), False, id="another instrument"),
        pytest.param(
            order(client_order_id=None, placed_at=START - timedelta(seconds=60)), False, id="placed before we sent"
        ),
        pytest.param(order(client_order_id=None, placed_at=START), True, id="placed when we sent"),
    ],
)
def test_a_row_without_id_may_be_ours(row: Order, *, could_be: bool) -> None:
    assert resembles(known(), row) is could_be


def test_an_order_is_over_when_its_day_is() -> None:
    entry = known()
    queued = attrs.evolve(entry, after_market=True)

    assert not is_over(entry, START + timedelta(hours=14))
    assert is_over(entry, START + timedelta(hours=15))
    assert not is_over(queued, START + timedelta(days=3))
    assert is_over(queued, START + timedelta(days=6))


def test_positions_are_compared_by_instrument_and_product() -> None:
    def held(units: int, product: Product = Product.DELIVERY) -> Position:
        return Position(instrument=ABC, product=product, quantity=units, average_price=Decimal(1))

    expected = {
        (ABC.id, Product.DELIVERY): 10,
        (XYZ.id, Product.INTRADAY): 5,
        ("NSE:N:2026-01-02:FUT", Product.MARGIN): 1,
    }

    differences = compare_positions(expected, [held(10), held(3, Product.INTRADAY)], now=START)

    assert [str(each) for each in differences] == [
        "NSE:ABC intraday: the broker holds +3, the journal accounts for +0",
        "NSE:XYZ intraday: the broker holds +0, the journal accounts for +5",
    ]


# Whole runs.

WRITES: dict[str, Behaviour] = {
    "answered": answers,
    "lost after": loses_reply(),
    "lost before": loses_reply(carried_out=False),
    "rejected": refuses(OrderRejected("no")),
    "not sent": refuses(NotSent("no")),
    "rate limited": refuses(RateLimited("429")),
    "hangs after": hangs(),
    "hangs before": hangs(carried_out=False),
}
PLACE = st.tuples(st.just("place"), st.sampled_from(sorted(WRITES)), st.sampled_from([0, 0, 2, 8]))
STEP = st.one_of(
    PLACE,
    st.tuples(st.just("modify"), st.integers(0, 3), st.sampled_from(sorted(WRITES)), st.integers(1, 4)),
    st.tuples(st.just("cancel"), st.integers(0, 3), st.sampled_from(sorted(WRITES))),
    st.tuples(st.just("fill"), st.integers(0, 3), st.integers(1, 10)),
    st.tuples(st.just("exchange ends it"), st.integers(0, 3)),
    st.tuples(st.just("deliver"), st.integers(0, 12)),
    st.tuples(st.just("gap")),
    st.tuples(st.just("read")),
    st.tuples(st.just("pass"), st.sampled_from([0.1, 1.0, 4.0, 20.0])),
    st.tuples(st.just("restart")),
)


class World:
    """One broker, one client with a journal on disk, and updates that wait to be delivered."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.bare = FakeBroker(self.clock)
        self.pool: list[Order | Gap] = []
        self.directory = directory
        self.count = 0
        self.bare_tell, self.bare.tell = self.bare.tell, self.pool.append  # type: ignore[method-assign, assignment]
        self.client = self.build()

    def build(self) -> JournalledBroker:
        journal = OrderJournal(self.directory / "orders.db", clock=self.clock)
        return JournalledBroker(self.bare, journal=journal, clock=self.clock, notifier=Alerts())

    async def play(self, steps: list[tuple[object, ...]]) -> None:
        await self.clock.run(self.client.__aenter__())
        for step in steps:
            await self.take(step)
        await self.restart()
        await self.clock.advance(120)
        await self.client.orders()
        await self.clock.advance(1)

    async def take(self, step: tuple[object, ...]) -> None:  # noqa: C901 - one case a step
        orders = self.bare.truth()
        match step:
            case ("place", str(behaviour), int(hidden)):
                self.count += 1
                name = f"t-{self.count}"
                self.bare.script.append(WRITES[behaviour])
                self.bare.hidden_until[name] = self.clock.now() + timedelta(seconds=hidden)
                await self.attempt(self.client.place_order(buy(10, name=name)), hangs="hangs" in behaviour)
                self.bare.script.clear()
            case ("modify", int(index), str(behaviour), int(quantity)) if index < len(orders):
                self.bare.script.append(WRITES[behaviour])
                work = self.client.modify_order(orders[index].id, quantity=10 * quantity)
                await self.attempt(work, hangs="hangs" in behaviour)
                self.bare.script.clear()
            case ("cancel", int(index), str(behaviour)) if index < len(orders):
                self.bare.script.append(WRITES[behaviour])
                await self.attempt(self.client.cancel_order(orders[index].id), hangs="hangs" in behaviour)
                self.bare.script.clear()
            case ("fill", int(index), int(units)) if index < len(orders) and not orders[index].is_final:
                self.bare.fill(orders[index].id, min(units, orders[index].remaining))
            case ("exchange ends it", int(index)) if index < len(orders) and not orders[index].is_final:
                self.bare.change(orders[index].id, status=OrderStatus.EXPIRED)
            case ("deliver", int(index)) if index < len(self.pool):
                self.bare_tell(self.pool[index])
                await self.clock.advance(0)
            case ("gap",):
                self.bare_tell(Gap(since=self.clock.now(), until=self.clock.now(), reason="cut"))
            case ("read",):
                await self.client.orders()
            case ("pass", float(seconds)):
                await self.clock.advance(seconds)
            case ("restart",):
                await self.restart()

    async def attempt(self, work: object, *, hangs: bool) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        if hangs:
            await self.clock.advance(0.1)
            task.cancel()
        with suppress(HybridBrokerError, asyncio.CancelledError):
            await self.clock.run(task)

    async def restart(self) -> None:
        await self.clock.run(self.client.__aexit__(None, None, None))
        self.client = self.build()
        await self.clock.run(self.client.__aenter__())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=st.lists(PLACE, min_size=1, max_size=3), then=st.lists(STEP, max_size=20))
def test_any_interleaving_ends_in_the_exchanges_state(
    first: list[tuple[object, ...]], then: list[tuple[object, ...]]
) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            world = World(Path(directory))
            await world.play([*first, *then])
            ledger, truth = world.client.ledger, {each.client_order_id: each for each in world.bare.truth()}

            for name, there in truth.items():
                entry = ledger.entry(name or "")
                assert entry is not None, "an order that the journal does not know"
                assert entry.state is (OrderState.FINAL if there.is_final else OrderState.ACCEPTED)
                assert (entry.order_id, entry.status, entry.filled_quantity) == (
                    there.id,
                    there.status,
                    there.filled_quantity,
                )
                assert (entry.quantity, entry.price) == (there.quantity, there.price)
                history = world.client._journal.history(entry.client_order_id)
                assert "absent" not in {event.kind for event in history}, "called absent while it was there"
            for entry in ledger.entries():
                assert not entry.is_unresolved
                if entry.state in {OrderState.ABSENT, OrderState.REJECTED}:
                    assert entry.client_order_id not in truth
            assert len(world.bare.posts) == len({each.client_order_id for each in world.bare.posts})
            await world.clock.run(world.client.__aexit__(None, None, None))

    asyncio.run(run())
