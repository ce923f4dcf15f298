"""What connect() puts together, and what it refuses to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from hybridbroker import (
    Capability,
    ConfigurationError,
    Exchange,
    InstrumentRegistry,
    LimitOrder,
    MarketSchedule,
    OptionChains,
    OrderOutcomeUnknown,
    Product,
    RiskLimits,
    RiskRefused,
    Side,
    Unsupported,
    connect,
)
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import to_epoch_ms
from hybridbroker.execution.prices import LastPrices
from hybridbroker.plugins import find_broker
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault, UpstoxEmulator
from hybridbroker.testing.factories import make_tick
from hybridbroker.watching import WatchedData

REGISTRY = InstrumentRegistry.builtin()
RELIANCE = REGISTRY["NSE:RELIANCE"]


def buy(**changes: Any) -> LimitOrder:
    terms: dict[str, Any] = {"quantity": 1, "price": 1300, "product": Product.INTRADAY}
    return LimitOrder(RELIANCE, Side.BUY, **(terms | changes))


def written(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


@pytest.fixture
async def emulators() -> AsyncIterator[tuple[UpstoxEmulator, DhanEmulator]]:
    market = EmulatedMarket.still()
    async with UpstoxEmulator(market) as upstox, DhanEmulator(market) as dhan:
        yield upstox, dhan


@pytest.fixture
def options(emulators: tuple[UpstoxEmulator, DhanEmulator], tmp_path: Path) -> dict[str, Any]:
    """What makes connect() meet the emulators, at the hour of their market."""
    upstox, dhan = emulators
    settings = {
        "upstox": UpstoxSettings(access_token=upstox.access_token, base_url=upstox.rest_url),
        "dhan": DhanSettings(
            client_id=dhan.client_id,
            access_token=dhan.access_token,
            base_url=dhan.rest_url,
            order_updates_url=dhan.order_updates_url,
        ),
    }
    return {"settings": settings, "instruments": REGISTRY, "state": tmp_path, "clock": upstox.market.clock}


async def test_paper_is_what_nobody_has_to_ask_for(options: dict[str, Any]) -> None:
    async with connect(**options) as session:
        order = await session.broker.place_order(buy())

        assert session.broker.name == "paper"
        assert order.is_open


async def test_real_orders_pass_the_limits_and_the_journal(
    options: dict[str, Any], emulators: tuple[UpstoxEmulator, DhanEmulator], tmp_path: Path
) -> None:
    limits = RiskLimits(max_order_value=2000)
    async with connect(broker="dhan", allow_old_instruments=True, limits=limits, **options) as session:
        await session.broker.place_order(buy())
        with pytest.raises(RiskRefused, match="above max_order_value") as refused:
            await session.broker.place_order(buy(quantity=2))

    assert refused.value.limit == "order-value"
    assert len(emulators[1].received("POST", "/v2/orders")) == 1
    assert written(tmp_path, "*.journal.db")


async def test_an_old_registry_stops_real_entries_until_somebody_takes_responsibility(
    options: dict[str, Any], emulators: tuple[UpstoxEmulator, DhanEmulator]
) -> None:
    async with connect(broker="dhan", **options) as session:
        with pytest.raises(RiskRefused, match="registry"):
            await session.broker.place_order(buy())
        refused = len(emulators[1].received("POST", "/v2/orders"))

        session.override(reason="the built-in shares do not change")
        await session.broker.place_order(buy())

    assert refused == 0
    assert len(emulators[1].received("POST", "/v2/orders")) == 1


async def test_ready_objects_are_guarded_too_and_left_open(
    options: dict[str, Any], emulators: tuple[UpstoxEmulator, DhanEmulator]
) -> None:
    async with DhanBroker(options["settings"]["dhan"], instruments=REGISTRY, clock=options["clock"]) as ready:
        async with connect(broker=ready, limits=RiskLimits(max_order_quantity=1), **options) as session:
            with pytest.raises(RiskRefused):
                await session.broker.place_order(buy(quantity=2))

        assert (await ready.funds()).available > 0


async def test_without_a_path_or_a_name_the_handful_is_not_assumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such instrument registry"):
        async with connect(instruments=tmp_path / "missing.db"):
            pass


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({"data": "nobody"}, "no broker is called 'nobody'"),
        ({"broker": "nobody"}, "no broker is called 'nobody'"),
        ({"data": "dhan-sandbox"}, "no source of market data"),
    ],
)
async def test_what_a_broker_cannot_do_is_said_on_entry(
    options: dict[str, Any], wrong: dict[str, str], fix: str
) -> None:
    with pytest.raises(ConfigurationError, match=fix):
        async with connect(**(options | wrong)):
            pass


async def test_a_source_that_takes_no_orders_is_no_broker(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_prices = attrs.evolve(find_broker("upstox"), open_broker=None, settings=object)
    monkeypatch.setattr("hybridbroker.session.find_broker", lambda _: only_prices)

    with pytest.raises(ConfigurationError, match="takes no orders"):
        async with connect(**(options | {"broker": "upstox"})):
            pass


async def test_flattening_cancels_and_exits_and_lets_nothing_in_again(options: dict[str, Any]) -> None:
    async with connect(**options) as session:
        await session.broker.place_order(buy(price=1500))
        resting = await session.broker.place_order(buy(price=1300))

        await session.flatten()

        assert (await session.broker.order(resting.id)).is_final
        assert [position.quantity for position in await session.broker.positions()] == [0]
        with pytest.raises(RiskRefused):
            await session.broker.place_order(buy(quantity=3))


async def test_the_kill_switch_stops_entries_at_once(options: dict[str, Any]) -> None:
    async with connect(**options) as session:
        await session.kill("test")

        with pytest.raises(RiskRefused, match="kill switch"):
            await session.broker.place_order(buy())
        assert "kill-switch" in session.metrics.stopped


async def test_a_fill_that_comes_with_the_reply_reaches_the_update_stream_once(options: dict[str, Any]) -> None:
    async with connect(**options) as session, session.broker.order_updates() as updates:
        order = await session.broker.place_order(buy(price=1410))

        heard = await anext(updates)

        assert order.is_final
        assert heard == order
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(updates), 0.2)


async def test_a_price_that_was_read_long_ago_is_not_fresh_because_it_is_taken_now(options: dict[str, Any]) -> None:
    prices = LastPrices(options["clock"])
    now_ms = to_epoch_ms(options["clock"].now())

    prices.note(make_tick(received_ms=now_ms - 600_000))

    assert prices.price(RELIANCE, max_age=30) is None
    assert prices.price(RELIANCE, max_age=None) is not None


async def test_looking_for_a_lost_order_ends_although_the_wall_clock_stands_still(
    options: dict[str, Any], emulators: tuple[UpstoxEmulator, DhanEmulator]
) -> None:
    emulators[1].faults.add("POST /v2/orders", Fault.lost_reply(accepted=False))
    async with connect(broker="dhan", allow_old_instruments=True, **options) as session:
        async with asyncio.timeout(30):
            with pytest.raises(OrderOutcomeUnknown):
                await session.broker.place_order(buy())


async def test_a_session_offers_what_its_source_can_do_besides(options: dict[str, Any]) -> None:
    async with connect(**options) as session:
        status = await session.data.market_status(Exchange.NSE)  # type: ignore[attr-defined]

        assert isinstance(session.data, OptionChains)
        assert isinstance(session.data, MarketSchedule)
        assert status.phases


async def test_what_the_source_of_a_session_lacks_is_unsupported() -> None:
    bare = WatchedData(SimpleNamespace(name="bare", capabilities=Capability.NONE))

    with pytest.raises(Unsupported, match="bare has no option chains"):
        await bare.expiries(RELIANCE)
