"""What could place a standing order twice, past a limit, or take one that may be live for dead; tried on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from execution_support import ABC, Alerts, VirtualClock, answers, buy, hangs, loses_reply, refuses, sell
from standing_support import StandingBroker, bracket, dip, protection

from hybridbroker.domain.orders import Order, OrderStatus, Product, Side
from hybridbroker.domain.portfolio import Holding
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import LegRole, LegStatus
from hybridbroker.errors import ConfigurationError, OrderOutcomeUnknown, OrderRejected, RateLimited, RiskRefused
from hybridbroker.execution import GuardedBroker, RiskLimits, guarded

Open = Callable[..., AbstractAsyncContextManager[GuardedBroker]]
EXITS_ONLY = RiskLimits(duplicate_window=None, products=[Product.INTRADAY])
"""Under these a delivery order passes only as an exit."""


@pytest.fixture
def broker(clock: VirtualClock) -> StandingBroker:
    broker = StandingBroker(clock, keeps_names=False)
    broker.held.append(Holding(instrument=ABC, quantity=10, available_quantity=10))
    return broker


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


# Shares are protected once.


async def test_protection_that_may_be_live_is_not_placed_again(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.script.append(loses_reply(carried_out=False))

    async with open_guard(broker, EXITS_ONLY) as guard:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_gtt(protection()))
        with pytest.raises(RiskRefused):
            await clock.run(guard.place_gtt(protection()))

    assert len(broker.sent) == 1


async def test_protection_placed_twice_at_once_is_sent_once(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    holdings = broker.holdings

    async def slow() -> Sequence[Holding]:
        await clock.sleep(0.1)
        return await holdings()

    broker.holdings = slow  # type: ignore[method-assign]
    async with open_guard(broker, EXITS_ONLY) as guard:
        both = asyncio.gather(guard.place_gtt(protection()), guard.place_gtt(protection()), return_exceptions=True)
        results = await clock.run(both)

    assert [type(each).__name__ for each in results] == ["Gtt", "RiskRefused"]
    assert len(broker.sent) == 1


@pytest.mark.parametrize("how", ["unknown", "not listed yet"])
async def test_protection_that_the_list_does_not_show_as_live_still_claims_its_shares(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open, how: str
) -> None:
    async with open_guard(broker, EXITS_ONLY) as guard:
        gtt = await clock.run(guard.place_gtt(protection()))
        if how == "unknown":
            broker.end(gtt.id, LegStatus.UNKNOWN)
        else:
            broker.standing.clear()
        with pytest.raises(RiskRefused):
            await clock.run(guard.place_gtt(protection()))

    assert len(broker.sent) == 1


async def test_protection_that_ended_claims_nothing(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker, EXITS_ONLY) as guard:
        gtt = await clock.run(guard.place_gtt(protection()))
        await clock.run(guard.cancel_gtt(gtt.id))
        again = await clock.run(guard.place_gtt(protection()))

    assert again.is_live


async def test_protection_refused_unread_claims_nothing(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.script.append(refuses(RateLimited("429")))

    async with open_guard(broker, EXITS_ONLY) as guard:
        with pytest.raises(RateLimited):
            await clock.run(guard.place_gtt(protection()))
        again = await clock.run(guard.place_gtt(protection()))

    assert again.is_live


@pytest.mark.parametrize("available", [0, 10], ids=["not free yet", "free"])
async def test_shares_of_yesterday_can_be_protected_and_sold_while_entries_are_stopped(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open, available: int
) -> None:
    broker.held[:] = [Holding(instrument=ABC, quantity=10, available_quantity=available, unsettled_quantity=10)]

    async with open_guard(broker) as guard:
        guard.stop_entries("test", "for a test")
        with pytest.raises(RiskRefused):
            await clock.run(guard.place_order(sell(11)))
        gtt = await clock.run(guard.place_gtt(protection()))
        order = await clock.run(guard.place_order(sell(10)))

    assert gtt.is_live
    assert order.is_open


# What may be live stays in doubt until it is seen, or not seen often enough.


async def test_one_reading_however_late_does_not_make_it_absent(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.script.append(hangs(carried_out=False))
    async with open_guard(broker) as guard:
        placing = asyncio.ensure_future(guard.place_gtt(dip(name="dip-1")))
        await clock.advance(0.1)
        placing.cancel()
        await asyncio.gather(placing, return_exceptions=True)

    await clock.advance(3600)
    async with open_guard(broker) as guard:
        with pytest.raises(RiskRefused, match="dip-1"):
            await clock.run(guard.place_order(buy()))


async def test_the_list_is_watched_until_it_tells(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    broker.script.append(loses_reply(carried_out=False))

    async with open_guard(broker) as guard:
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_gtt(dip(name="dip-1")))
        before = dict(guard.snapshot().stopped)
        await clock.advance(90)

        assert list(before) == ["standing:dip-1"]
        assert guard.snapshot().stopped == {}


async def test_a_process_killed_while_placing_leaves_entries_stopped(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open, tmp_path: Path
) -> None:
    async with open_guard(broker) as guard:
        guard._broker._journal.begin_change(
            "dip-1",
            "place-gtt",
            '{"instrument": "NSE:ABC", "side": "buy", "product": "delivery", "quantity": 10,'
            ' "legs": {"entry": "90"}, "limits": ["90.5"], "before": []}',
        )

    async with open_guard(broker) as guard:
        assert list(guard.snapshot().stopped) == ["standing:dip-1"]
        await clock.run(broker.place_gtt(dip()))
        await clock.advance(30)
        assert guard.snapshot().stopped == {}


async def test_a_cancellation_refused_unread_is_said_at_once(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker) as guard:
        gtt = await clock.run(guard.place_gtt(dip()))
        broker.script.append(refuses(RateLimited("429")))
        began = clock.monotonic()
        with pytest.raises(RateLimited):
            await clock.run(guard.cancel_gtt(gtt.id))

        assert clock.monotonic() - began < 1


async def test_a_lost_cancellation_of_one_that_may_be_live_is_not_called_done(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker) as guard:
        gtt = await clock.run(guard.place_gtt(dip()))
        broker.script.append(loses_reply(carried_out=False))
        broker.end(gtt.id, LegStatus.UNKNOWN)
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.cancel_gtt(gtt.id))


async def test_a_kill_cancels_standing_entries_of_unknown_status(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker) as guard:
        gtt = await clock.run(guard.place_gtt(dip()))
        entry = await clock.run(guard.place_bracket(bracket()))
        broker.end(gtt.id, LegStatus.UNKNOWN)
        broker.end(entry.id, LegStatus.UNKNOWN)
        await clock.run(guard.kill("enough"))

    assert {("cancel", gtt.id), ("cancel", entry.id)} <= set(broker.sent[2:])


async def test_what_was_placed_is_returned_though_it_cannot_be_written_down(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise ConfigurationError("the disk is full")

    async with open_guard(broker) as guard:
        monkeypatch.setattr(guard._broker._journal, "end_change", full)
        gtt = await clock.run(guard.place_gtt(dip()))

        assert gtt.id in broker.standing
        assert "journal" in guard.snapshot().stopped


# Limits.


async def test_entries_that_wait_count_for_the_day(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    limits = RiskLimits(max_day_value=2500, duplicate_window=None)
    broker.script.extend([refuses(OrderRejected("no")), None, None])  # type: ignore[list-item]

    async with open_guard(broker, limits) as guard:
        with pytest.raises(OrderRejected):
            await clock.run(guard.place_bracket(bracket()))
        await clock.run(guard.place_bracket(bracket()))
        await clock.run(guard.place_gtt(dip()))
        with pytest.raises(RiskRefused) as refused:
            await clock.run(guard.place_bracket(bracket()))
    async with open_guard(broker, limits) as guard:
        with pytest.raises(RiskRefused) as after_restart:
            await clock.run(guard.place_order(buy(10)))

    assert [refused.value.limit, after_restart.value.limit] == ["day-value", "day-value"]


async def test_a_runaway_of_brackets_ends_at_the_limit_of_the_minute(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker, RiskLimits(max_orders_per_minute=2, duplicate_window=None)) as guard:
        await clock.run(guard.place_bracket(bracket()))
        await clock.run(guard.place_bracket(bracket()))
        with pytest.raises(RiskRefused) as refused:
            await clock.run(guard.place_bracket(bracket()))

    assert refused.value.limit == "orders-per-minute"


async def test_the_very_same_standing_entry_within_a_second_is_taken_for_a_mistake(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker, RiskLimits()) as guard:
        await clock.run(guard.place_bracket(bracket()))
        with pytest.raises(RiskRefused) as refused:
            await clock.run(guard.place_bracket(bracket()))
        await clock.advance(2)
        await clock.run(guard.place_bracket(bracket()))

    assert refused.value.limit == "duplicate"
    assert len(broker.sent) == 2


async def test_a_bracket_that_waits_while_the_switch_is_thrown_is_not_sent(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    async with open_guard(broker, RiskLimits(writes_per_second=1, duplicate_window=None)) as guard:
        await clock.run(guard.place_order(sell(1)))
        waiting = asyncio.ensure_future(guard.place_bracket(bracket()))
        await clock.advance(0.1)
        guard.kill_switch.engage("enough")
        with pytest.raises(RiskRefused, match="enough"):
            await clock.run(waiting)

    assert broker.sent == []


async def test_a_switch_thrown_between_slices_ends_them(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    share = attrs.evolve(ABC, freeze_quantity=100)

    async with open_guard(broker) as guard:

        async def thrown_meanwhile(carry_out: Callable[[], Order]) -> Order:
            guard.kill_switch.engage("enough")
            return carry_out()

        broker.script.extend([answers, thrown_meanwhile])
        sliced = await clock.run(guard.place_sliced(SlicedOrder(share, Side.BUY, quantity=250, price="100")))

    assert sliced.placed_quantity == 200
    assert "enough" in (sliced.reason or "")
    assert len(broker.posts) == 2


# The orders they become.


async def test_a_sale_heard_before_its_standing_order_was_acknowledged_is_told_once(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    told: list[tuple[str, OrderStatus]] = []

    async with open_guard(broker) as guard, guard.order_updates() as updates:

        async def listen() -> None:
            async for update in updates:
                assert isinstance(update, Order)
                told.append((update.id, update.status))

        async def springs(carry_out: Callable[[], object]) -> object:
            carry_out()
            broker.spring("G1", LegRole.STOP)
            await clock.sleep(1)
            return broker.standing["G1"]

        listening = asyncio.ensure_future(listen())
        broker.script.append(springs)  # type: ignore[arg-type]
        await clock.run(guard.place_gtt(protection()))
        await clock.advance(5)
        await clock.run(guard.orders())
        await clock.advance(1)
        listening.cancel()

    assert told == [("B1", OrderStatus.OPEN), ("B1", OrderStatus.FILLED)]


async def test_a_sale_of_yesterday_explains_nothing_of_today(
    clock: VirtualClock, broker: StandingBroker, open_guard: Open
) -> None:
    gtt = await clock.run(broker.place_gtt(protection()))
    order_id = broker.spring(gtt.id, LegRole.STOP)
    broker._trades.clear()
    await clock.advance(timedelta(days=1).total_seconds())

    for _ in range(2):  # also taken in twice
        async with open_guard(broker) as guard:
            await clock.run(guard.gtts())
            await clock.run(guard.order(order_id))
            core = guard._broker

            assert core.ledger.by_order_id(order_id) is not None
            assert core._journal.net_fills(since=core.ledger.midnight()) == {}
