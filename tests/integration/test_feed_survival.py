"""The feed survives what happens to feeds, and says so: client and emulator meet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybridbroker import (
    FeedAuthenticationError,
    FeedMode,
    FeedState,
    Gap,
    InstrumentRegistry,
    MarketStream,
    SystemClock,
    Tick,
)
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.testing.emulators import EmulatedMarket, Fault, UpstoxEmulator
from hybridbroker.testing.emulators import feed_pb2 as pb

REGISTRY = InstrumentRegistry.builtin()
RELIANCE = REGISTRY["NSE:RELIANCE"]
AUTHORIZE = "/v3/feed/market-data-feed/authorize"
SCALE = 0.02


class HastyClock(SystemClock):
    """The real clock, but a second of sleep takes twenty milliseconds."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * SCALE)


@asynccontextmanager
async def streaming() -> AsyncIterator[tuple[UpstoxEmulator, MarketStream]]:
    async with UpstoxEmulator(EmulatedMarket.still(), clock=HastyClock()) as emulator:
        settings = UpstoxSettings(access_token=emulator.access_token, base_url=emulator.rest_url)
        async with (
            UpstoxMarketData(settings, instruments=REGISTRY, clock=HastyClock()) as data,
            data.stream([RELIANCE], mode=FeedMode.FULL) as events,
        ):
            await next_tick(events)
            yield emulator, events


async def next_tick(events: MarketStream) -> Tick:
    async with asyncio.timeout(20):
        return await anext(events.ticks())


async def until_gap(events: MarketStream) -> Gap:
    async with asyncio.timeout(20):
        async for event in events:
            if isinstance(event, Gap):
                return event
    raise AssertionError("the stream ended without a gap")


def handshakes(emulator: UpstoxEmulator) -> int:
    return len(emulator.received("WS"))


@pytest.mark.parametrize("outage", [2, 30])
async def test_an_outage_is_a_gap_and_the_subscription_is_whole_again(outage: float) -> None:
    async with streaming() as (emulator, events):
        restart = asyncio.create_task(emulator.restart(after=outage))

        gap = await until_gap(events)
        tick = await next_tick(events)
        await emulator.market.move(RELIANCE, 1410.0)
        moved = await next_tick(events)
        await restart

        assert gap.until >= gap.since
        assert tick.is_snapshot
        assert moved.last_price == 1410.0
        assert events.health.reconnects == events.health.gaps == 1
        assert events.health.state is FeedState.LIVE


async def test_every_connection_has_an_address_of_its_own() -> None:
    async with streaming() as (emulator, events):
        for _ in range(3):
            emulator.drop_connections()
            await until_gap(events)
            await next_tick(events)

        used = [request.query["code"] for request in emulator.received("WS")]

        assert len(used) == len(set(used)) == handshakes(emulator) >= 4
        assert len(emulator.received("GET", AUTHORIZE)) >= len(used)


@pytest.mark.parametrize(
    "refusal", [Fault.forbidden(), Fault.rate_limited(), Fault.server_error(503)], ids=["403", "429", "503"]
)
async def test_a_refused_handshake_slows_down_and_recovers(refusal: Fault) -> None:
    async with streaming() as (emulator, events):
        emulator.faults.add("WS *", refusal, times=2)
        emulator.drop_connections()

        await until_gap(events)

        assert (await next_tick(events)).last_price > 0
        assert emulator.faults.pending == 0
        assert handshakes(emulator) <= 4


async def test_a_token_that_died_stops_the_feed_instead_of_hammering() -> None:
    async with streaming() as (emulator, events):
        emulator.access_token = "another-one"
        emulator.drop_connections()

        with pytest.raises(FeedAuthenticationError):
            await next_tick(events)
        asked = len(emulator.received("GET", AUTHORIZE))
        await asyncio.sleep(0.3)

        assert len(emulator.received("GET", AUTHORIZE)) == asked <= 4
        assert events.health.state is FeedState.CLOSED


async def test_wrong_credentials_are_refused_on_entry_and_not_asked_about_again() -> None:
    async with UpstoxEmulator(EmulatedMarket.still()) as emulator:
        settings = UpstoxSettings(access_token="not-the-token", base_url=emulator.rest_url)
        async with UpstoxMarketData(settings, instruments=REGISTRY, clock=HastyClock()) as data:
            with pytest.raises(FeedAuthenticationError) as told:
                async with data.stream([RELIANCE]):
                    pass

        assert "not-the-token" not in str(told.value)
        assert len(emulator.received("GET", AUTHORIZE)) <= 2


async def test_unreadable_frames_are_counted_and_passed_over() -> None:
    noise = random.Random(7)
    whole = pb.FeedResponse(type=pb.live_feed)
    whole.feeds["NSE_EQ|INE002A01018"].ltpc.ltp = 1420.0
    cut = whole.SerializeToString()[:-3]
    frames: list[bytes | str] = [cut, b"", b"\xff" * 7, *(noise.randbytes(n) for n in range(1, 60)), "not json"]
    async with streaming() as (emulator, events):
        for frame in frames:
            await emulator.send_raw(frame)
        await emulator.market.move(RELIANCE, 1411.0)

        async with asyncio.timeout(20):
            async for tick in events.ticks():
                if tick.last_price == 1411.0:
                    break

        assert sum(events.health.skipped.values()) > 0
        assert events.health.reconnects == 0


async def test_keys_nobody_asked_for_are_counted_and_passed_over() -> None:
    stranger = pb.FeedResponse(type=pb.live_feed)
    stranger.feeds["NSE_EQ|INE000000000"].ltpc.ltp = 1.0
    async with streaming() as (emulator, events):
        await emulator.send_raw(stranger.SerializeToString())
        await emulator.market.move(RELIANCE, 1412.0)

        assert (await next_tick(events)).instrument is RELIANCE
        assert sum(events.health.skipped.values()) == 1


async def test_a_used_address_is_refused() -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async with streaming() as (emulator, _):
        used = emulator.received("WS")[0]
        address = f"ws://{emulator.address}{used.path}?" + "&".join(f"{k}={v}" for k, v in used.query.items())

        with pytest.raises(InvalidStatus):
            async with connect(address):
                pass


async def test_leaving_the_stream_leaves_nothing_behind() -> None:
    async with UpstoxEmulator(EmulatedMarket.still()) as emulator:
        inside = asyncio.all_tasks()
        settings = UpstoxSettings(access_token=emulator.access_token, base_url=emulator.rest_url)
        async with UpstoxMarketData(settings, instruments=REGISTRY, clock=SystemClock()) as data:
            async with data.stream([RELIANCE]) as events:
                await next_tick(events)
            await asyncio.sleep(0.05)

            ours = {task for task in asyncio.all_tasks() - inside if "upstox" in (task.get_name() or "").lower()}
            assert ours == set()
            assert emulator.feed_sockets == 0
