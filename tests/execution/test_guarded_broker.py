"""The guard around a broker: no path avoids it, exits pass when entries do not, and a person can stop everything."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from execution_support import ABC, START, XYZ, Alerts, FakeBroker, VirtualClock, buy, loses_reply, sell

from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.market import Quote, Tick
from hybridbroker.domain.orders import MarketOrder, Order, OrderStatus, Product, Side
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.errors import (
    InvalidOrder,
    OrderOutcomeUnknown,
    RiskRefused,
    ServiceUnavailable,
    Unsupported,
)
from hybridbroker.execution import GuardedBroker, RiskLimits, guarded
from hybridbroker.execution.prices import LastPrices
from hybridbroker.execution.records import OrderState
from hybridbroker.protocols import Broker

Open = Callable[..., AbstractAsyncContextManager[GuardedBroker]]


@pytest.fixture
def open_guard(bare: FakeBroker, clock: VirtualClock, tmp_path: Path, alerts: Alerts) -> Open:
    @asynccontextmanager
    async def build(**terms: Any) -> AsyncIterator[GuardedBroker]:
        wiring = {name: terms.pop(name) for name in ("calendar", "prices", "quotes", "kill_signal") if name in terms}
        limits = RiskLimits(**{"duplicate_window": None, **terms})
        guard = guarded(bare, directory=tmp_path, limits=limits, clock=clock, notifier=alerts, **wiring)
        await clock.run(guard.__aenter__())
        try:
            yield guard
        finally:
            await guard.__aexit__(None, None, None)

    return build


async def hold(bare: FakeBroker, guard: GuardedBroker, units: int = 10) -> None:
    order = await guard.place_order(buy(units))
    bare.fill(order.id, units)
    await asyncio.sleep(0)


def test_a_guarded_broker_is_a_broker(bare: FakeBroker, clock: VirtualClock, tmp_path: Path) -> None:
    def fits(broker: Broker) -> Broker:
        return broker

    assert isinstance(fits(guarded(bare, directory=tmp_path, clock=clock)), Broker)


async def test_a_refused_order_is_neither_sent_nor_an_intent(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard(max_order_quantity=5) as guard:
        with pytest.raises(RiskRefused) as caught:
            await guard.place_order(buy(6, name="t-1"))

        assert caught.value.limit == "order-quantity"
        assert guard._broker.ledger.entry("t-1") is None
        assert guard.snapshot().orders == {"refused": 1}
    assert bare.posts == []


async def test_the_day_value_counts_what_was_placed(open_guard: Open) -> None:
    async with open_guard(max_day_value=2500) as guard:
        await guard.place_order(buy())
        await guard.place_order(buy())
        with pytest.raises(RiskRefused, match=r"2,000\.00.*2,500\.00"):
            await guard.place_order(buy())


async def test_the_day_value_survives_a_restart(open_guard: Open) -> None:
    for _ in range(2):
        async with open_guard(max_day_value=2500) as guard:
            await guard.place_order(buy())

    async with open_guard(max_day_value=2500) as guard:
        with pytest.raises(RiskRefused, match="day_value"):
            await guard.place_order(buy())


async def test_orders_placed_at_once_cannot_share_the_room_of_one(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard(max_day_value=1500) as guard:
        answers = await asyncio.gather(*(guard.place_order(buy()) for _ in range(5)), return_exceptions=True)

    assert [type(each) for each in answers].count(RiskRefused) == 4
    assert len(bare.posts) == 1


async def test_the_same_order_twice_within_the_window_is_a_mistake(open_guard: Open, clock: VirtualClock) -> None:
    async with open_guard(duplicate_window=1.0) as guard:
        await guard.place_order(buy())
        with pytest.raises(RiskRefused, match="the same order"):
            await guard.place_order(buy())
        await guard.place_order(buy(11))
        await clock.advance(1.5)
        await guard.place_order(buy())


async def test_orders_of_the_last_minute_are_counted(open_guard: Open, clock: VirtualClock) -> None:
    async with open_guard(max_orders_per_minute=2) as guard:
        await guard.place_order(buy())
        await guard.place_order(buy())
        with pytest.raises(RiskRefused, match="per_minute"):
            await guard.place_order(buy())
        await clock.advance(61)
        await guard.place_order(buy())


async def test_an_open_order_counts_as_a_position(open_guard: Open) -> None:
    async with open_guard(max_open_positions=1) as guard:
        await guard.place_order(buy())
        with pytest.raises(RiskRefused, match="open_positions"):
            await guard.place_order(buy(instrument=XYZ))


async def test_a_closed_session_refuses_entries(open_guard: Open, clock: VirtualClock) -> None:
    async with open_guard(calendar=TradingCalendar()) as guard:
        await guard.place_order(buy())
        await clock.advance(7 * 3600)
        with pytest.raises(RiskRefused, match="NSE is closed"):
            await guard.place_order(buy())


async def test_a_daily_loss_ends_entries_for_the_day(open_guard: Open, bare: FakeBroker, clock: VirtualClock) -> None:
    bare.carried.append(
        Position(
            instrument=XYZ,
            product=Product.INTRADAY,
            quantity=10,
            average_price=Decimal(100),
            realised_pnl=Decimal(0),
            unrealised_pnl=Decimal(-600),
        )
    )
    async with open_guard(max_daily_loss=500) as guard:
        with pytest.raises(RiskRefused, match=r"600\.00.*500\.00"):
            await guard.place_order(buy())
        bare.carried[0] = Position(
            instrument=XYZ, product=Product.INTRADAY, quantity=10, average_price=Decimal(100), realised_pnl=Decimal(0)
        )
        await clock.advance(60)
        with pytest.raises(RiskRefused, match="reached the limit"):
            await guard.place_order(buy())
        exit_ = await guard.place_order(MarketOrder(XYZ, Side.SELL, quantity=10, product=Product.INTRADAY))

    assert exit_.side is Side.SELL


# Exits.


async def test_exits_pass_while_entries_are_stopped(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        await guard.kill("enough")
        with pytest.raises(RiskRefused, match="enough"):
            await guard.place_order(buy())
        order = await guard.place_order(sell(10))

    assert order.side is Side.SELL


async def test_an_exit_cannot_be_placed_twice_over(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        await guard.kill("enough")
        answers = await asyncio.gather(
            *(guard.place_order(sell(10, price=f"10{number}")) for number in range(3)), return_exceptions=True
        )

    assert [type(each) for each in answers].count(RiskRefused) == 2


async def test_an_exit_that_would_turn_the_position_is_an_entry(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        await guard.kill("enough")
        with pytest.raises(RiskRefused):
            await guard.place_order(sell(11))


async def test_shares_in_the_demat_account_may_be_sold_while_entries_are_stopped(
    open_guard: Open, bare: FakeBroker
) -> None:
    bare.held.append(Holding(instrument=ABC, quantity=10, available_quantity=10))
    async with open_guard() as guard:
        await guard.kill("enough")
        order = await guard.place_order(sell(10))

    assert order.quantity == 10


async def test_an_exit_is_no_exit_when_the_positions_cannot_be_read(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        await guard.kill("enough")
        bare.read_error = ServiceUnavailable("down")
        with pytest.raises(RiskRefused):
            await guard.place_order(sell(10))


# Unknown orders.


async def lose(guard: GuardedBroker, bare: FakeBroker, clock: VirtualClock) -> None:
    bare.script.append(loses_reply(carried_out=False))
    with pytest.raises(OrderOutcomeUnknown):
        await clock.run(guard.place_order(buy(name="lost")))


async def test_an_unknown_order_blocks_its_instrument_alone(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await lose(guard, bare, clock)
        with pytest.raises(RiskRefused, match=r"lost.*may be live") as caught:
            await guard.place_order(buy())
        other = await guard.place_order(buy(instrument=XYZ))

    assert (caught.value.limit, other.instrument) == ("unresolved-order", XYZ)


async def test_the_block_ends_when_the_order_counts_as_absent(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await lose(guard, bare, clock)
        await clock.advance(70)
        order = await guard.place_order(buy())

    assert order.instrument == ABC


async def test_an_override_lifts_the_block_and_is_written_down(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await lose(guard, bare, clock)
        lifted = guard.override(ABC, reason="I looked at web.dhan.co: nothing there")
        await guard.place_order(buy())
        history = guard._broker._journal.history("lost")

    assert list(lifted) == ["order lost may be live"]
    assert any("web.dhan.co" in event.detail for event in history)


async def test_an_override_needs_a_reason(open_guard: Open) -> None:
    async with open_guard() as guard:
        with pytest.raises(InvalidOrder, match="reason"):
            guard.override(ABC, reason=" ")


async def test_an_unknown_exit_is_not_placed_again_as_an_exit(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        bare.script.append(loses_reply(carried_out=False))
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_order(sell(10)))
        with pytest.raises(RiskRefused):
            await guard.place_order(sell(10))


async def test_an_override_accepts_the_positions_as_they_are(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await guard.place_order(buy())
    bare.fill(bare.enter(buy(instrument=XYZ)).id, 10)
    async with open_guard() as guard:
        with pytest.raises(RiskRefused, match="do not agree"):
            await guard.place_order(buy())
        lifted = guard.override(reason="bought by hand")
        await guard.place_order(buy())
    async with open_guard() as guard:
        assert guard.snapshot().stopped == {}

    assert "NSE:XYZ" in lifted[0]


async def test_an_override_after_an_exit_leaves_no_new_mismatch(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await guard.place_order(buy())
    bare.fill(bare.enter(buy(instrument=XYZ)).id, 10)
    async with open_guard() as guard:
        order = await guard.place_order(sell(10, instrument=XYZ))
        bare.fill(order.id, 10)
        await clock.advance(0.1)
        guard.override(reason="bought by hand")
    async with open_guard() as guard:
        assert guard.snapshot().stopped == {}


# Changes.


async def test_a_change_is_checked_as_the_order_it_makes(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard(max_order_quantity=10) as guard:
        order = await guard.place_order(buy(10))
        with pytest.raises(RiskRefused, match="order_quantity"):
            await guard.modify_order(order.id, quantity=11)

    assert bare.puts == []


async def test_a_change_that_only_lowers_the_quantity_always_passes(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard() as guard:
        order = await guard.place_order(buy(10))
        await guard.kill("enough")
        bare.script.clear()
        resting = bare.enter(buy(10))
        changed = await guard.modify_order(resting.id, quantity=5)

    assert (order.id, changed.quantity) == ("B1", 5)


async def test_a_change_does_not_count_its_own_value_twice(open_guard: Open) -> None:
    async with open_guard(max_day_value=1500) as guard:
        order = await guard.place_order(buy(10))
        changed = await guard.modify_order(order.id, price=Decimal(110))

    assert changed.price == Decimal(110)


# Prices.


class Quotes:
    def __init__(self, price: float) -> None:
        self.price = price
        self.asked = 0

    async def quotes(self, instruments: Any) -> dict[Any, Quote]:
        self.asked += 1
        at = VirtualClock().now()
        return {each: Quote(instrument=each, last_price=self.price, as_of=at) for each in instruments}


def tick(price: float) -> Tick:
    return Tick(instrument=ABC, last_price=price, last_quantity=1, traded_ms=None, received_ms=to_epoch_ms(START))


async def test_the_collar_asks_for_a_quote_where_no_stream_has_a_price(open_guard: Open) -> None:
    quotes = Quotes(100.0)
    async with open_guard(price_collar="0.03", quotes=quotes) as guard:
        with pytest.raises(RiskRefused, match="above 100"):
            await guard.place_order(buy(price="104"))

    assert quotes.asked == 1


async def test_the_collar_takes_a_fresh_streamed_price(open_guard: Open, clock: VirtualClock) -> None:
    quotes, prices = Quotes(1.0), LastPrices(clock)
    prices.note(tick(100.0))
    async with open_guard(price_collar="0.03", quotes=quotes, prices=prices) as guard:
        await guard.place_order(buy(price="103"))
        await clock.advance(31)
        with pytest.raises(RiskRefused, match=r"above 1\.0"):
            await guard.place_order(buy(price="103"))

    assert quotes.asked == 1


async def test_a_market_order_counts_at_the_market_price(open_guard: Open, clock: VirtualClock) -> None:
    prices = LastPrices(clock)
    prices.note(tick(100.0))
    async with open_guard(max_day_value=1500, prices=prices) as guard:
        await guard.place_order(MarketOrder(ABC, Side.BUY, quantity=10))
        with pytest.raises(RiskRefused, match=r"1,000\.00 on top|1,000\.00 rupees on top"):
            await guard.place_order(MarketOrder(ABC, Side.BUY, quantity=10))


# Stopping everything.


async def test_the_kill_switch_stops_entries_and_spares_protection(open_guard: Open, bare: FakeBroker) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        entry = await guard.place_order(buy(5, instrument=XYZ))
        stop = await guard.place_order(sell(10))
        await guard.kill("enough")

        states = {order.id: order.status for order in bare.truth()}
        assert (states[entry.id], states[stop.id]) == (OrderStatus.CANCELLED, OrderStatus.OPEN)


async def test_the_kill_switch_stays_thrown_across_a_restart_until_released(open_guard: Open, tmp_path: Path) -> None:
    async with open_guard() as guard:
        await guard.kill("enough")
    async with open_guard() as guard:
        with pytest.raises(RiskRefused, match="enough"):
            await guard.place_order(buy())
        guard.kill_switch.release()
        order = await guard.place_order(buy())

    assert order.is_open


async def test_deleting_the_file_releases_the_kill_switch(open_guard: Open, tmp_path: Path) -> None:
    async with open_guard() as guard:
        await guard.kill("enough")
        await asyncio.to_thread((tmp_path / "fake.kill").unlink)
        order = await guard.place_order(buy())

    assert order.is_open


async def test_a_file_throws_the_kill_switch(open_guard: Open, tmp_path: Path) -> None:
    async with open_guard() as guard:
        (tmp_path / "fake.kill").touch()
        with pytest.raises(RiskRefused, match=r"fake\.kill exists"):
            await guard.place_order(buy())


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1 here")
async def test_a_signal_throws_the_kill_switch(open_guard: Open) -> None:
    async with open_guard() as guard:
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)

        assert guard.kill_switch.reason == "signal SIGUSR1"
        guard.kill_switch.release()


async def test_an_entry_that_waits_for_its_turn_is_stopped_by_the_switch(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        for number in range(10):
            await guard.place_order(buy(number + 1))
        waiting = asyncio.ensure_future(guard.place_order(buy(20, name="late")))
        await clock.advance(0.1)
        guard.kill_switch.engage("enough")
        with pytest.raises(RiskRefused):
            await clock.run(waiting)

        entry = guard._broker.ledger.entry("late")
        assert entry is not None
        assert entry.state is OrderState.REJECTED
    assert len(bare.posts) == 10


async def test_a_broker_without_a_switch_of_its_own_says_so(open_guard: Open) -> None:
    async with open_guard() as guard:
        with pytest.raises(Unsupported, match="kill switch"):
            await guard.kill("enough", at_broker=True)

        assert guard.kill_switch.reason == "enough"


async def test_flatten_cancels_exits_and_verifies(open_guard: Open, bare: FakeBroker, clock: VirtualClock) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        resting = await guard.place_order(buy(5, instrument=XYZ))
        fills_at_once(bare)
        report = await clock.run(guard.flatten())

        assert report.flat
        assert list(report.cancelled) == [resting.id]
        assert len(report.exits) == 1
        assert [each.quantity for each in await guard.positions()] == [0]
        with pytest.raises(RiskRefused, match="flattened"):
            await guard.place_order(buy())


async def test_flatten_replaces_an_exit_that_rests_and_never_doubles_it(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        report_task = asyncio.ensure_future(guard.flatten())
        await clock.advance(3)
        working = [order for order in bare.truth() if order.is_open]
        fills_at_once(bare)
        report = await clock.run(report_task)

    assert len(working) == 1
    assert report.flat
    assert sum(order.filled_quantity * order.side.sign for order in bare.truth()) == 0


async def test_flatten_closes_the_rest_although_one_order_is_unknown(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        order = await guard.place_order(buy(10, instrument=XYZ))
        bare.fill(order.id, 10)
        bare.script.append(loses_reply(carried_out=False))
        with pytest.raises(OrderOutcomeUnknown):
            await clock.run(guard.place_order(sell(10, name="lost")))
        fills_at_once(bare)
        report = await clock.run(guard.flatten(within=10))
        held = {each.instrument: each.quantity for each in await guard.positions()}

    assert held == {ABC: 10, XYZ: 0}
    assert "order lost may be live" in report.left
    assert [each.client_order_id for each in bare.posts].count("lost") == 1


async def test_flatten_says_what_is_left(open_guard: Open, bare: FakeBroker, clock: VirtualClock) -> None:
    async with open_guard() as guard:
        await hold(bare, guard)
        report = await clock.run(guard.flatten(within=10))

    assert not report.flat
    assert report.left


async def test_flatten_keeps_shares_sold_out_of_the_holdings_sold(
    open_guard: Open, bare: FakeBroker, clock: VirtualClock
) -> None:
    bare.held.append(Holding(instrument=ABC, quantity=10, available_quantity=10))
    async with open_guard() as guard:
        order = await guard.place_order(sell(10))
        bare.fill(order.id, 10)
        report = await clock.run(guard.flatten())

    assert report.flat
    assert report.exits == []


def fills_at_once(bare: FakeBroker) -> None:
    enter = bare.enter

    def fill(request: Any) -> Order:
        return bare.fill(enter(request).id, request.quantity)

    bare.enter = fill  # type: ignore[method-assign]
