"""Upstox and Dhan keep the promises of every broker and every source of prices, against their emulators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from hybridbroker import InstrumentRegistry
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.market_data import DhanMarketData
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.upstox.broker import UpstoxBroker
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.domain.instrument import Instrument
from hybridbroker.testing.conformance import (
    BROKER_CHECKS,
    MARKET_DATA_CHECKS,
    BrokerSubject,
    Check,
    DataSubject,
    Outcome,
    run_check,
)
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, UpstoxEmulator
from hybridbroker.testing.factories import make_instrument

REGISTRY = InstrumentRegistry.builtin()
RELIANCE, TCS = REGISTRY["NSE:RELIANCE"], REGISTRY["NSE:TCS"]
UNLISTED = make_instrument(symbol="NOWHERE")
Opened = Callable[[], AbstractAsyncContextManager[Any]]


def price_of(market: EmulatedMarket, instrument: Instrument) -> float:
    tick = market.tick(market.by_instrument(instrument))
    assert tick is not None
    return tick.last_price


def broker_subject(broker: Any, market: EmulatedMarket) -> BrokerSubject:
    async def move(price: Decimal) -> None:
        await market.move(RELIANCE, float(price))

    return BrokerSubject(
        broker=broker,
        instrument=RELIANCE,
        price=RELIANCE.price(price_of(market, RELIANCE)),
        clock=market.clock,
        move=move,
        unmapped=UNLISTED,
        within=5.0,
    )


def data_subject(data: Any, market: EmulatedMarket, emulator: Any) -> DataSubject:
    async def move(instrument: Instrument, price: float) -> None:
        await market.move(instrument, price)

    async def cut() -> None:
        emulator.drop_connections(reset=True)

    return DataSubject(
        data=data,
        instruments=[RELIANCE, TCS],
        clock=market.clock,
        move=move,
        cut=cut,
        unmapped=UNLISTED,
        within=5.0,
    )


def upstox_settings(emulator: UpstoxEmulator) -> UpstoxSettings:
    return UpstoxSettings(access_token=emulator.access_token, base_url=emulator.rest_url, order_url=emulator.rest_url)


def dhan_settings(emulator: DhanEmulator) -> DhanSettings:
    return DhanSettings(
        client_id=emulator.client_id,
        access_token=emulator.access_token,
        base_url=emulator.rest_url,
        order_updates_url=emulator.order_updates_url,
        feed_url=emulator.feed_url,
        keep_warm_seconds=0,
    )


@asynccontextmanager
async def upstox_broker() -> AsyncIterator[BrokerSubject]:
    market = EmulatedMarket.still()
    async with (
        UpstoxEmulator(market) as emulator,
        UpstoxBroker(upstox_settings(emulator), instruments=REGISTRY, clock=market.clock) as broker,
    ):
        yield broker_subject(broker, market)


@asynccontextmanager
async def dhan_broker() -> AsyncIterator[BrokerSubject]:
    market = EmulatedMarket.still()
    async with (
        DhanEmulator(market) as emulator,
        DhanBroker(dhan_settings(emulator), instruments=REGISTRY, clock=market.clock) as broker,
    ):
        yield broker_subject(broker, market)


@asynccontextmanager
async def upstox_data() -> AsyncIterator[DataSubject]:
    market = EmulatedMarket.random_walk(history_days=12)
    async with (
        UpstoxEmulator(market) as emulator,
        UpstoxMarketData(upstox_settings(emulator), instruments=REGISTRY, clock=market.clock) as data,
    ):
        yield data_subject(data, market, emulator)


@asynccontextmanager
async def dhan_data() -> AsyncIterator[DataSubject]:
    market = EmulatedMarket.random_walk(history_days=12)
    async with (
        DhanEmulator(market) as emulator,
        DhanMarketData(dhan_settings(emulator), instruments=REGISTRY, clock=market.clock) as data,
    ):
        yield data_subject(data, market, emulator)


@pytest.mark.parametrize("check", BROKER_CHECKS, ids=lambda check: check.id)
@pytest.mark.parametrize("opened", [upstox_broker, dhan_broker], ids=["upstox", "dhan"])
async def test_broker_keeps_every_promise(opened: Opened, check: Check[BrokerSubject]) -> None:
    async with opened() as subject:
        result = await run_check(check, subject)

    if result.outcome is Outcome.SKIPPED:
        pytest.skip(result.detail)
    assert result.outcome is Outcome.KEPT, result.detail


@pytest.mark.parametrize("check", MARKET_DATA_CHECKS, ids=lambda check: check.id)
@pytest.mark.parametrize("opened", [upstox_data, dhan_data], ids=["upstox", "dhan"])
async def test_source_of_prices_keeps_every_promise(opened: Opened, check: Check[DataSubject]) -> None:
    async with opened() as subject:
        result = await run_check(check, subject)

    if result.outcome is Outcome.SKIPPED:
        pytest.skip(result.detail)
    assert result.outcome is Outcome.KEPT, result.detail
