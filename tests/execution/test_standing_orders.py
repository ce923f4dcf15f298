"""GTT, bracket and sliced orders keep the promises of ordinary ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import pytest
from execution_support import ABC, Alerts, VirtualClock, answers, buy, loses_reply, refuses, sell
from standing_support import ABILITIES, StandingBroker, bracket, dip, protection

from hybridbroker.domain.orders import OrderStatus, Product, Side
from hybridbroker.domain.portfolio import Holding
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import LegRole
from hybridbroker.errors import (
    InvalidOrder,
    NotSent,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
    RiskRefused,
    Unsupported,
)
from hybridbroker.execution import GuardedBroker, RiskLimits, guarded
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.protocols import BracketOrders, Capability, GttOrders, KillSwitchControl, SlicedOrders

Open = Callable[..., AbstractAsyncContextManager[GuardedBroker]]


@pytest.fixture
def broker(clock: VirtualClock) -> StandingBroker:
    return StandingBroker(clock)


@pytest.fixture
def open_guard(tmp_path: Path, clock: VirtualClock, alerts: Alerts) -> Open:
    @asynccontextmanager
    async def opened(broker: StandingBroker, limits: RiskLimits | None = None) -> AsyncIterator[GuardedBroker]:
        guard = guarded(
            broker,
            journal=tmp_path / "orders.db",
            directory=tmp_path,
            limits=limits or RiskLimits(duplicate_window=None),
            clock=clock,
            notifier=alerts,
        )
        async with guard:
            yield guard

    return opened


def holds(broker: StandingBroker, units: int) -> None:
    broker.held.append(Holding(instrument=ABC, quantity=units, available_quantity=units))


def test_the_guard_offers_every_ability(clock: VirtualClock, broker: StandingBroker) -> None:
    guard = guarded(broker, clock=clock)

    assert all(isinstance(guard, each) for each in (GttOrders, BracketOrders, SlicedOrders, KillSwitchControl))


async def test_an_ability_the_broker_lacks_is_unsupported_before_any_io(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.capabilities = ABILITIES & ~(Capability.OCO_ORDERS | Capability.BRACKET_ORDERS)

    async with open_guard(broker) as guard:
        broker.reads.clear()
        with pytest.raises(Unsupported):
            await clock.run(guard.place_gtt(protection()))
        with pytest.raises(Unsupported):
            await clock.run(guard.place_bracket(bracket()))

    assert broker.sent == []
    assert broker.reads == []


async def test_the_intent_of_a_standing_order_is_on_disk_before_it_is_sent(
    tmp_path: Path, clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    holds(broker, 10)
    seen: list[str] = []

    async def look(carry_out: Callable[[], object]) -> object:
        with OrderJournal(tmp_path / "orders.db", read_only=True) as journal:
            seen.extend(f"{each.kind} {each.detail}" for each in journal.history("oco-1"))
        return carry_out()

    broker.script.append(look)  # type: ignore[arg-type]
    async with open_guard(broker) as guard:
        gtt = await clock.run(guard.place_gtt(protection(name="oco-1")))

    assert gtt.id == "G1"
    (line,) = seen
    assert line.startswith("place-gtt-intent ")
    assert json.loads(line.split(" ", 1)[1])["legs"] == {"target": "110", "stop": "95"}


async def test_a_name_is_never_used_twice(clock: VirtualClock, broker: StandingBroker, open_guard: Open) -> None:
    holds(broker, 20)

    async with open_guard(broker) as guard:
        await clock.run(guard.place_gtt(protection(name="oco-1")))
        with pytest.raises(InvalidOrder, match="used before"):
            await clock.run(guard.place_gtt(protection(name="oco-1")))

    assert len(broker.sent) == 1


@pytest.mark.parametrize("keeps_names", [True, False], ids=["found by name", "found by its terms"])
async def test_a_standing_order_whose_answer_was_lost_is_found_and_not_sent_again(
    clock: VirtualClock, open_guard: Open, keeps_names: bool
) -> None:
    broker = StandingBroker(clock, keeps_names=keeps_names)
    holds(broker, 10)
    broker.script.append(loses_reply())

    async with open_guard(broker) as guard:
        gtt = await clock.run(guard.place_gtt(protection()))

        assert gtt.id == "G1"
        assert guard.snapshot().stopped == {}
    assert len(broker.sent) == 1


async def test_an_older_standing_order_of_the_same_terms_is_not_taken_for_the_lost_one(
    clock: VirtualClock, open_guard: Open
) -> None:
    broker = StandingBroker(clock, keeps_names=False)
    await clock.run(broker.place_gtt(dip()))
    broker.script.append(refuses(OrderOutcomeUnknown(client_order_id="lost")))

    async with open_guard(broker) as guard:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_gtt(dip()))


async def test_one_that_cannot_be_found_stops_entries_until_the_list_lacks_it_for_long(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.script.append(loses_reply(carried_out=False))

    async with open_guard(broker) as guard:
        with pytest.raises(OrderOutcomeUnknown, match="do not send it again"):
            await clock.run(guard.place_gtt(dip(name="dip-1")))
        with pytest.raises(RiskRefused, match="dip-1"):
            await clock.run(guard.place_order(buy()))
        await clock.advance(61)
        await clock.run(guard.gtts())
        order = await clock.run(guard.place_order(buy()))

    assert order.status is OrderStatus.OPEN
    assert len(broker.sent) == 1


async def test_one_that_shows_after_all_lifts_the_stop(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.script.append(loses_reply(carried_out=False))

    async with open_guard(broker) as guard:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_gtt(dip(name="dip-1")))
        await clock.run(broker.place_gtt(dip(name="dip-1")))
        await clock.run(guard.gtts())

        assert guard.snapshot().stopped == {}


async def test_a_restart_settles_what_was_left_open(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker) as guard:
        broker.script.append(loses_reply(carried_out=False))
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_gtt(dip(name="dip-1")))
        stopped = guard.snapshot().stopped

    await clock.run(broker.place_gtt(dip(name="dip-1")))
    async with open_guard(broker) as guard:
        assert guard.snapshot().stopped == {}
    assert list(stopped) == ["standing:dip-1"]


@pytest.mark.parametrize("refusal", [OrderRejected("no", code="X"), NotSent("no line")], ids=["rejected", "not sent"])
async def test_a_refusal_is_passed_on_and_nothing_is_looked_for(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open, refusal: Exception
) -> None:
    broker.script.append(refuses(refusal))  # type: ignore[arg-type]

    async with open_guard(broker) as guard:
        with pytest.raises(type(refusal)):
            await clock.run(guard.place_gtt(dip()))

        assert guard.snapshot().stopped == {}


async def test_refused_unread_and_absent_from_the_list_is_not_unknown(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.script.append(refuses(RateLimited("429")))

    async with open_guard(broker) as guard:
        with pytest.raises(RateLimited):
            await clock.run(guard.place_gtt(dip()))

        assert guard.snapshot().stopped == {}


async def test_protection_of_what_is_held_passes_while_entries_are_stopped(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    holds(broker, 10)

    async with open_guard(broker) as guard:
        guard.stop_entries("test", "for a test")
        gtt = await clock.run(guard.place_gtt(protection()))
        with pytest.raises(RiskRefused):
            await clock.run(guard.place_gtt(dip()))

    assert gtt.is_oco


async def test_shares_are_protected_once(clock: VirtualClock, broker: StandingBroker, open_guard: Open) -> None:
    holds(broker, 10)

    async with open_guard(broker, RiskLimits(duplicate_window=None, products=[Product.INTRADAY])) as guard:
        await clock.run(guard.place_gtt(protection()))
        with pytest.raises(RiskRefused):
            await clock.run(guard.place_gtt(protection()))

    assert len(broker.sent) == 1


async def test_a_standing_entry_is_bound_by_the_limits_at_its_trigger(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker, RiskLimits(max_order_value=900)) as guard:
        with pytest.raises(RiskRefused) as caught:
            await clock.run(guard.place_gtt(dip(10)))

    assert caught.value.limit == "order-value"
    assert broker.sent == []


async def test_a_bracket_is_bound_by_the_limits_of_an_entry(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker, RiskLimits(max_order_quantity=5)) as guard:
        with pytest.raises(RiskRefused):
            await clock.run(guard.place_bracket(bracket(10)))
        placed = await clock.run(guard.place_bracket(bracket(5)))

    assert placed.leg(LegRole.STOP) is not None
    assert len(broker.sent) == 1


async def test_a_lost_cancellation_is_settled_by_reading_the_list(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker) as guard:
        gtt = await clock.run(guard.place_gtt(dip()))
        broker.script.append(loses_reply())
        after = await clock.run(guard.cancel_gtt(gtt.id))

    assert not after.is_live
    assert broker.sent[1:] == [("cancel", gtt.id)]


async def test_what_a_standing_order_filled_explains_the_position_after_a_restart(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker) as guard:
        order = await clock.run(guard.place_order(buy()))
        broker.fill(order.id, 10)
        await clock.advance(5)
        gtt = await clock.run(guard.place_gtt(protection(10)))
    broker.spring(gtt.id, LegRole.STOP)

    async with open_guard(broker) as guard:
        assert guard.snapshot().stopped == {}


async def test_a_kill_cancels_standing_entries_and_spares_protection(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    holds(broker, 10)

    async with open_guard(broker) as guard:
        kept = await clock.run(guard.place_gtt(protection()))
        gone = await clock.run(guard.place_gtt(dip()))
        entry = await clock.run(guard.place_bracket(bracket()))
        await clock.run(guard.kill("enough", at_broker=True))

    assert broker.standing[kept.id].is_live
    assert not broker.standing[gone.id].is_live
    assert not broker.standing[entry.id].is_live
    assert broker.switched == [True]


async def test_flattening_cancels_what_would_trade_again_and_keeps_the_protection_of_holdings(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    holds(broker, 10)

    async with open_guard(broker) as guard:
        kept = await clock.run(guard.place_gtt(protection()))
        gone = await clock.run(guard.place_gtt(dip()))
        report = await clock.run(guard.flatten())

    assert report.flat
    assert broker.standing[kept.id].is_live
    assert not broker.standing[gone.id].is_live


async def test_a_large_order_goes_as_slices_each_with_its_own_line(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    share = attrs.evolve(ABC, freeze_quantity=100)

    async with open_guard(broker, RiskLimits()) as guard:
        sliced = await clock.run(guard.place_sliced(SlicedOrder(share, Side.BUY, quantity=250, price="100")))
        lines = [guard.unresolved(), [each.client_order_id for each in broker.posts]]

    assert [each.quantity for each in sliced.orders] == [100, 100, 50]
    assert lines == [[], [f"{sliced.client_order_id}-{mark}" for mark in "012"]]
    assert sliced.placed_quantity == 250
    assert not sliced.is_final


async def test_slicing_is_checked_as_a_whole(clock: VirtualClock, broker: StandingBroker, open_guard: Open) -> None:
    share = attrs.evolve(ABC, freeze_quantity=100)

    async with open_guard(broker, RiskLimits(max_order_value=15_000)) as guard:
        with pytest.raises(RiskRefused):
            await clock.run(guard.place_sliced(SlicedOrder(share, Side.BUY, quantity=250, price="100")))

    assert broker.posts == []


async def test_the_first_refused_slice_ends_it_and_says_why(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    share = attrs.evolve(ABC, freeze_quantity=100)

    async with open_guard(broker) as guard:
        await clock.run(guard.place_order(sell(1)))
        broker.script.extend([answers, refuses(OrderRejected("no margin"))])
        sliced = await clock.run(guard.place_sliced(SlicedOrder(share, Side.BUY, quantity=250, price="100")))

    assert sliced.placed_quantity == 100
    assert sliced.reason == "no margin"
    assert len(broker.posts) == 3


async def test_a_slice_that_may_be_live_is_said(clock: VirtualClock, broker: StandingBroker, open_guard: Open) -> None:
    share = attrs.evolve(ABC, freeze_quantity=100)
    broker.script.append(loses_reply(carried_out=False))

    async with open_guard(broker) as guard:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_sliced(SlicedOrder(share, Side.BUY, quantity=250, price="100")))

    assert len(broker.posts) == 1


async def test_a_conversion_that_was_done_does_not_fail_for_what_is_read_after_it(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker) as guard:
        broker.read_error = NotSent("no line")
        await clock.run(
            guard.convert_position(
                ABC, side=Side.BUY, quantity=5, from_product=Product.INTRADAY, to_product=Product.DELIVERY
            )
        )
        broker.read_error = None

    assert broker.sent == [("convert", "NSE:ABC", 5)]
