"""A day at the emulated Dhan: what the client and the exchange believe is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from dhan_kit import settings
from pydantic import SecretStr

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import LimitOrder, MarketOrder, Order, OrderStatus, Side, StopLimitOrder
from hybridbroker.errors import FeedAuthenticationError, OrderOutcomeUnknown, TokenExpired
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault


@pytest.fixture
def registry() -> InstrumentRegistry:
    return InstrumentRegistry.builtin()


@pytest.fixture
def share(registry: InstrumentRegistry) -> Instrument:
    return registry["NSE:RELIANCE"]


@pytest.fixture
async def exchange() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still(prices={"NSE:RELIANCE": 1400.0})) as emulator:
        yield emulator


def client(
    exchange: DhanEmulator, registry: InstrumentRegistry, *, token: str | None = None, clock: Clock | None = None
) -> DhanBroker:
    at_home = settings(
        client_id=exchange.client_id,
        access_token=SecretStr(token or exchange.access_token),
        base_url=exchange.rest_url,
        order_updates_url=exchange.order_updates_url,
    )
    return DhanBroker(at_home, instruments=registry, clock=clock or ManualClock())


async def following(updates: AsyncIterator[Order | Gap], status: OrderStatus) -> Order:
    async with asyncio.timeout(20):
        async for event in updates:
            if isinstance(event, Order) and event.status is status:
                return event
    raise AssertionError(f"the stream ended before anything was {status}")


async def test_an_order_lives_its_life(exchange: DhanEmulator, registry: InstrumentRegistry, share: Instrument) -> None:
    async with client(exchange, registry) as broker, broker.order_updates() as updates:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=10, price="1390", client_order_id="d-1"))
        resting = await following(updates, OrderStatus.OPEN)
        changed = await broker.modify_order(placed.id, quantity=6, price=Decimal(1395))
        await exchange.market.move(share, 1394.0)
        filled = await following(updates, OrderStatus.FILLED)
        found = await broker.find_order("d-1")
        (trade,) = await broker.trades()
        (position,) = await broker.positions()
        funds = await broker.funds()

    assert placed.id == resting.id == changed.id == filled.id == trade.order_id
    assert (resting.client_order_id, resting.instrument) == ("d-1", share)
    assert (changed.quantity, changed.price) == (6, Decimal(1395))
    assert found is not None
    assert (found.status, found.filled_quantity, found.instrument) == (OrderStatus.FILLED, 6, share)
    assert (position.instrument, position.quantity) == (share, 6)
    assert funds.available == Decimal(100_000) - trade.value


async def test_a_cancelled_order_is_gone_and_cancelling_again_is_harmless(
    exchange: DhanEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=10, price="1390"))
        cancelled = await broker.cancel_order(placed.id)
        again = await broker.cancel_order(placed.id)

    assert cancelled.status is OrderStatus.CANCELLED
    assert again == cancelled


async def test_a_market_order_fills_and_a_stop_waits(
    exchange: DhanEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        bought = await broker.place_order(MarketOrder(share, Side.BUY, quantity=5))
        stop = await broker.place_order(
            StopLimitOrder(share, Side.SELL, quantity=5, price="1379", trigger_price="1380")
        )
        book = {order.id: order for order in await broker.orders()}

    assert book[bought.id].status is OrderStatus.FILLED
    assert book[stop.id].is_open
    assert (book[stop.id].price, book[stop.id].trigger_price) == (Decimal(1379), Decimal(1380))


class Arriving(ManualClock):
    """A clock during whose sleeps orders in transit reach the exchange."""

    def __init__(self, exchange: DhanEmulator) -> None:
        super().__init__()
        self._exchange = exchange

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self._exchange.release()


async def test_an_order_in_transit_is_found_in_the_book_and_cancelled_when_it_arrives(
    registry: InstrumentRegistry, share: Instrument
) -> None:
    async with (
        DhanEmulator(EmulatedMarket.still(), transit=None) as exchange,
        client(exchange, registry, clock=Arriving(exchange)) as broker,
    ):
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1000", client_order_id="t-1"))
        found = await broker.find_order("t-1")
        cancelled = await broker.cancel_order(placed.id)

    assert found is not None
    assert found.status is OrderStatus.PENDING
    assert cancelled.status is OrderStatus.CANCELLED


async def test_an_order_whose_reply_was_lost_is_found_by_its_name(
    exchange: DhanEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker:
        exchange.faults.add("POST /v2/orders", Fault.lost_reply())
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
        found = await broker.find_order(caught.value.client_order_id)

    assert found is not None
    assert len(exchange.book()) == 1


async def test_what_filled_during_a_gap_is_told_after_it(
    exchange: DhanEmulator, registry: InstrumentRegistry, share: Instrument
) -> None:
    async with client(exchange, registry) as broker, broker.order_updates() as updates:
        placed = await broker.place_order(LimitOrder(share, Side.BUY, quantity=1, price="1390"))
        await following(updates, OrderStatus.OPEN)
        exchange.drop_connections(reset=True)
        await exchange.market.move(share, 1389.0)
        async with asyncio.timeout(20):
            event = await anext(updates)
            while not isinstance(event, Gap):
                event = await anext(updates)
        filled = await following(updates, OrderStatus.FILLED)

    assert filled.id == placed.id


async def test_a_wrong_token_is_told_from_a_broken_line(exchange: DhanEmulator, registry: InstrumentRegistry) -> None:
    async with client(exchange, registry, token="wrong") as broker:
        with pytest.raises(TokenExpired):
            await broker.funds()
        with pytest.raises(FeedAuthenticationError):
            async with broker.order_updates():
                pytest.fail("the stream was entered")
