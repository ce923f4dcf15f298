"""Prices from either broker, orders to either: the same lines, with a name changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hybridbroker import InstrumentRegistry, LimitOrder, OrderStatus, Product, RiskLimits, Side, connect
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, UpstoxEmulator

REGISTRY = InstrumentRegistry.builtin()
RELIANCE = REGISTRY["NSE:RELIANCE"]


@pytest.fixture
async def emulated() -> AsyncIterator[dict[str, Any]]:
    market = EmulatedMarket.still()
    async with UpstoxEmulator(market) as upstox, DhanEmulator(market) as dhan:
        yield {
            "market": market,
            "upstox": upstox,
            "dhan": dhan,
            "settings": {
                "upstox": UpstoxSettings(
                    access_token=upstox.access_token, base_url=upstox.rest_url, order_url=upstox.rest_url
                ),
                "dhan": DhanSettings(
                    client_id=dhan.client_id,
                    access_token=dhan.access_token,
                    base_url=dhan.rest_url,
                    order_updates_url=dhan.order_updates_url,
                    feed_url=dhan.feed_url,
                ),
            },
        }


@pytest.mark.parametrize("broker", ["upstox", "dhan"])
@pytest.mark.parametrize("data", ["upstox", "dhan"])
async def test_a_price_of_one_becomes_an_order_at_the_other(
    data: str, broker: str, emulated: dict[str, Any], tmp_path: Path
) -> None:
    market = emulated["market"]
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            connect(
                data=data,
                broker=broker,
                instruments=REGISTRY,
                allow_old_instruments=True,
                settings=emulated["settings"],
                state=tmp_path,
                limits=RiskLimits(max_order_value=10_000, price_collar="0.02"),
                clock=market.clock,
            )
        )
        events = await stack.enter_async_context(session.data.stream([RELIANCE]))
        updates = await stack.enter_async_context(session.broker.order_updates())
        await market.move(RELIANCE, 1402.0)
        async for tick in events.ticks():
            if tick.last_price == 1402.0:
                break

        order = await session.broker.place_order(
            LimitOrder(RELIANCE, Side.BUY, quantity=2, price=RELIANCE.price(1403), product=Product.INTRADAY)
        )
        async for update in updates:
            if getattr(update, "status", None) is OrderStatus.FILLED:
                break
        (position,) = await session.broker.positions()

        assert order.client_order_id
        assert (position.instrument, position.quantity) == (RELIANCE, 2)
        assert session.broker.unresolved() == []
    assert [each.quantity for each in emulated[broker].exchange.positions()] == [2]
    other = {"upstox": "dhan", "dhan": "upstox"}[broker]
    assert emulated[other].exchange.positions() == []
