"""What a caller is told about an order, what the broker received, and what is true: client and emulator meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from hybridbroker import (
    AuthenticationError,
    InstrumentRegistry,
    LimitOrder,
    NotSent,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderStatus,
    RateLimited,
    Side,
    StaticIpRequired,
    SystemClock,
)
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault

REGISTRY = InstrumentRegistry.builtin()
RELIANCE = REGISTRY["NSE:RELIANCE"]
ORDER = LimitOrder(RELIANCE, Side.BUY, quantity=1, price=1300, client_order_id="outcome-1")


def refusal(code: str, message: str) -> Fault:
    body = f'{{"errorType":"Order_Error","errorCode":"{code}","errorMessage":"{message}"}}'
    return Fault.answer(body.encode(), status=400)


def broker_at(emulator: DhanEmulator, *, keep_warm_seconds: float = 0) -> DhanBroker:
    settings = DhanSettings(
        client_id=emulator.client_id,
        access_token=emulator.access_token,
        base_url=emulator.rest_url,
        order_updates_url=emulator.order_updates_url,
        keep_warm_seconds=keep_warm_seconds,
    )
    return DhanBroker(settings, instruments=REGISTRY, clock=SystemClock())


@asynccontextmanager
async def running(**options: object) -> AsyncIterator[tuple[DhanEmulator, DhanBroker]]:
    async with (
        DhanEmulator(EmulatedMarket.still(), **options) as emulator,  # type: ignore[arg-type]
        broker_at(emulator) as broker,
    ):
        yield emulator, broker


async def test_an_accepted_order_returns_and_is_in_the_book() -> None:
    async with running() as (emulator, broker):
        order = await broker.place_order(ORDER)

        assert order.status is OrderStatus.PENDING
        assert (await broker.find_order("outcome-1")) == await broker.order(order.id)
        assert len(emulator.received("POST", "/v2/orders")) == 1


@pytest.mark.parametrize(
    ("fault", "error", "orders"),
    [
        pytest.param(refusal("DH-906", "RMS: margin shortfall"), OrderRejected, 0, id="rejected"),
        pytest.param(refusal("DH-905", "Invalid IP"), StaticIpRequired, 0, id="wrong address"),
        pytest.param(Fault.unauthorised(), AuthenticationError, 0, id="wrong token"),
        pytest.param(Fault.rate_limited(), RateLimited, 0, id="429"),
        pytest.param(Fault.lost_reply(), OrderOutcomeUnknown, 1, id="reply lost after acceptance"),
        pytest.param(Fault.lost_reply(accepted=False), OrderOutcomeUnknown, 0, id="reply lost, never accepted"),
        pytest.param(Fault.reset(), OrderOutcomeUnknown, 1, id="reset after acceptance"),
        pytest.param(Fault.truncated(), OrderOutcomeUnknown, 1, id="half a reply"),
        pytest.param(Fault.server_error(), OrderOutcomeUnknown, 1, id="500 after acceptance"),
        pytest.param(Fault.server_error(accepted=False), OrderOutcomeUnknown, 0, id="500, never accepted"),
        pytest.param(Fault.garbage(), OrderOutcomeUnknown, 1, id="200 with garbage"),
        pytest.param(Fault.garbage(b"[]"), OrderOutcomeUnknown, 1, id="200 with an empty list"),
        pytest.param(Fault.garbage(b"null"), OrderOutcomeUnknown, 1, id="200 with null"),
        pytest.param(Fault.garbage(b'{"orderId":null,"orderStatus":"TRANSIT"}'), OrderOutcomeUnknown, 1, id="no id"),
        pytest.param(Fault.html(), OrderOutcomeUnknown, 0, id="gateway page"),
        pytest.param(Fault.html(403, accepted=True), OrderOutcomeUnknown, 1, id="page of the front, 403"),
        pytest.param(Fault.html(200, accepted=True), OrderOutcomeUnknown, 1, id="page with 200"),
    ],
)
async def test_the_caller_is_told_what_is_known_and_nothing_is_sent_twice(
    fault: Fault, error: type[Exception], orders: int
) -> None:
    async with running() as (emulator, broker):
        emulator.faults.add("POST /v2/orders", fault)

        with pytest.raises(error) as told:
            await broker.place_order(ORDER)

        assert len(emulator.received("POST", "/v2/orders")) == 1
        assert len(emulator.book()) == orders
        if isinstance(told.value, OrderOutcomeUnknown):
            assert told.value.client_order_id == "outcome-1"
            assert ((await broker.find_order("outcome-1")) is not None) is bool(orders)
        assert emulator.access_token not in str(told.value)


async def test_without_a_connection_the_order_was_certainly_not_sent() -> None:
    async with running() as (emulator, broker):
        await emulator.stop()

        with pytest.raises(NotSent):
            await broker.place_order(ORDER)

        assert emulator.received("POST") == []


async def test_a_connection_that_the_server_closed_meanwhile_does_not_send_an_order_twice() -> None:
    async with running() as (emulator, broker):
        await broker.orders()
        emulator.drop_connections()
        await asyncio.sleep(0.05)

        with suppress(NotSent, OrderOutcomeUnknown):
            await broker.place_order(ORDER)

        assert len(emulator.received("POST", "/v2/orders")) == len(emulator.book()) <= 1


async def test_an_idle_connection_is_kept_warm() -> None:
    async with (
        DhanEmulator(EmulatedMarket.still(), keep_alive=1.0) as emulator,
        broker_at(emulator, keep_warm_seconds=0.3) as broker,
    ):
        await broker.place_order(ORDER)

        await asyncio.sleep(5)
        await broker.cancel_order((await broker.orders())[0].id)

        assert emulator.connections == 1
