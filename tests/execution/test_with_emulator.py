"""Journal, guard and Dhan slice together against the emulated Dhan, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import pytest

from hybridbroker import (
    Gap,
    HybridBrokerError,
    InstrumentRegistry,
    LimitOrder,
    MarketOrder,
    Order,
    OrderOutcomeUnknown,
    OrderStatus,
    RiskRefused,
    Side,
)
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.cli.gauntlet_kills import run_kills
from hybridbroker.cli.gauntlet_rows import CALLS, FAULTS, at_emulator, run_rows
from hybridbroker.execution import GuardedBroker, Patience, RiskLimits, guarded
from hybridbroker.execution.events import rotating_log
from hybridbroker.execution.records import OrderState
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault

REGISTRY = InstrumentRegistry.builtin()
RELIANCE, TCS = REGISTRY["NSE:RELIANCE"], REGISTRY["NSE:TCS"]
QUICK = Patience(deadline=0.5, settle=3.0, watch=0.1, poll=0.3)
PLACE = "POST /v2/orders"


@pytest.fixture
async def emulator() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still()) as emulator:
        yield emulator


def guard(emulator: DhanEmulator, directory: Path) -> tuple[DhanBroker, GuardedBroker]:
    bare = at_emulator(emulator)
    return bare, guarded(bare, directory=directory, limits=RiskLimits(duplicate_window=None), patience=QUICK)


@pytest.fixture
async def broker(emulator: DhanEmulator, tmp_path: Path) -> AsyncIterator[GuardedBroker]:
    bare, guarded_broker = guard(emulator, tmp_path)
    async with bare, guarded_broker:
        yield guarded_broker


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what the emulator sees sets no event
            await asyncio.sleep(0.02)


def bid(price: int = 1300, *, name: str | None = None) -> LimitOrder:
    return LimitOrder(RELIANCE, Side.BUY, quantity=1, price=price, client_order_id=name)


async def test_an_order_hidden_in_transit_is_found_after_a_lost_reply(
    emulator: DhanEmulator, broker: GuardedBroker
) -> None:
    emulator.transit = None
    emulator.faults.add(PLACE, Fault.lost_reply())

    order = await broker.place_order(bid(name="t-1"))

    assert order.status is OrderStatus.PENDING
    assert len(emulator.received("POST", "/v2/orders")) == 1


async def test_an_order_that_arrives_after_the_search_is_adopted_in_the_background(
    emulator: DhanEmulator, broker: GuardedBroker
) -> None:
    emulator.faults.add(PLACE, Fault.delay(0.9))
    call = asyncio.ensure_future(broker.place_order(bid(name="t-1")))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    blocked = [each.client_order_id for each in broker.unresolved()]
    await until(lambda: emulator.book() and not broker.unresolved())

    assert blocked == ["t-1"]
    assert [each.client_order_id for each in await broker.orders()] == ["t-1"]


async def test_an_unknown_order_blocks_until_it_counts_as_absent(emulator: DhanEmulator, broker: GuardedBroker) -> None:
    emulator.faults.add(PLACE, Fault.server_error(accepted=False))
    with pytest.raises(OrderOutcomeUnknown):
        await broker.place_order(bid(name="t-1"))
    with pytest.raises(RiskRefused):
        await broker.place_order(bid())

    await broker.place_order(LimitOrder(TCS, Side.BUY, quantity=1, price=3000))
    await until(lambda: not broker.unresolved())
    order = await broker.place_order(bid())

    assert order.instrument == RELIANCE


async def test_a_fill_while_away_reaches_the_strategy_after_the_restart(emulator: DhanEmulator, tmp_path: Path) -> None:
    bare, first = guard(emulator, tmp_path)
    async with bare, first:
        resting = await first.place_order(bid(1399))
    await emulator.market.move(REGISTRY["NSE:RELIANCE"], 1390.0)

    bare, second = guard(emulator, tmp_path)
    async with bare, second, second.order_updates() as updates:
        heard = await asyncio.wait_for(anext(updates), 5)

        assert isinstance(heard, Order)
        assert (heard.id, heard.status) == (resting.id, OrderStatus.FILLED)
        assert second.snapshot().stopped == {}


async def test_a_dropped_update_socket_is_a_gap_and_nothing_is_missed(
    emulator: DhanEmulator, broker: GuardedBroker
) -> None:
    async with broker.order_updates() as updates:
        order = await broker.place_order(bid(1399))
        await until(lambda: emulator.update_sockets)
        emulator.drop_connections()
        await emulator.market.move(RELIANCE, 1390.0)
        heard: list[Order | Gap] = []
        async with asyncio.timeout(20):
            async for item in updates:
                heard.append(item)
                if isinstance(item, Order) and item.is_final:
                    break

    assert heard[-1].id == order.id  # type: ignore[union-attr]


async def test_flatten_leaves_an_empty_account(emulator: DhanEmulator, broker: GuardedBroker) -> None:
    await broker.place_order(MarketOrder(RELIANCE, Side.BUY, quantity=5))
    resting = await broker.place_order(bid(1200))

    report = await broker.flatten(within=10)

    assert report.flat, report
    assert list(report.cancelled) == [resting.id]
    assert [each.quantity for each in await broker.positions()] == [0]


async def test_no_credential_reaches_a_log_a_repr_an_exception_or_the_disk(
    emulator: DhanEmulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    handler = rotating_log(tmp_path / "bot.log")
    logging.getLogger().addHandler(handler)
    texts: list[str] = []
    bare, broker = guard(emulator, tmp_path)
    async with bare, broker, broker.order_updates():
        for fault in FAULTS.values():
            if fault is None or "hang" in fault.ending:
                continue
            for place in (PLACE, "GET /v2/orders", "GET /v2/positions"):
                emulator.faults.add(place, fault)
            try:
                await broker.place_order(bid())
                await broker.positions()
            except HybridBrokerError as exc:
                texts += [repr(exc), *traceback.format_exception(exc)]
        texts += [repr(each) for each in (bare, broker, broker._broker, broker.snapshot(), broker._broker._journal)]
        texts += [repr(attrs.asdict(each)) for each in broker._broker.ledger.entries()]
    logging.getLogger().removeHandler(handler)
    handler.close()
    texts += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    kept = await asyncio.to_thread(contents, tmp_path)

    assert texts
    assert kept["bot.log"]
    assert not [text for text in texts if emulator.access_token in text]
    assert not [name for name, content in kept.items() if emulator.access_token.encode() in content]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fault", ["reply lost", "request lost", "500 after accepting", "429", "no connection"])
async def test_the_gauntlet_finds_nothing_sent_twice_and_nothing_untrue(fault: str) -> None:
    rows = await run_rows(faults=[fault], progress=lambda _: None)

    ours = [row for row in rows if row.client == "hybridbroker"]
    assert [row.call for row in ours] == list(CALLS)
    assert [row for row in ours if not row.ok] == []


async def test_killed_processes_leave_nothing_that_a_restart_does_not_put_right() -> None:
    kills = await run_kills(50)

    assert kills.ok, kills
    assert sum(kills.by_state.values()) == kills.runs == 50
    assert set(kills.by_state) == {"none", *(state.value for state in OrderState)}
    # Deaths are spread; a single one may still slip into the neighbouring state.
    assert sum(1 for count in kills.by_state.values() if count) >= 5
