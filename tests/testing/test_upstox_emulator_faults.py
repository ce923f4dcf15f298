"""Faults on every call and socket of the emulated Upstox: what the client sees, and what became of its order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from emulator_kit import RELIANCE, feed, one_time_url, receive, request
from upstox_orders_kit import client, order, portfolio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hybridbroker.testing.emulators import Fault, TcpProxy, UpstoxEmulator

PLACE = "POST /v3/order/place"
FEED = "WS /market-data-feeder/*"


@pytest.mark.parametrize(
    ("fault", "status", "booked"),
    [
        pytest.param(Fault.server_error(), 500, 1, id="500 after acceptance"),
        pytest.param(Fault.server_error(503, accepted=False), 503, 0, id="503 before"),
        pytest.param(Fault.rate_limited(), 429, 0, id="429"),
        pytest.param(Fault.unauthorised(), 401, 0, id="401"),
        pytest.param(Fault.html(403), 403, 0, id="a page of Cloudflare's"),
        pytest.param(Fault.html(accepted=True), 502, 1, id="a page after acceptance"),
        pytest.param(Fault.garbage(), 200, 1, id="half a body"),
        pytest.param(Fault.answer(b"", status=400), 400, 0, id="nothing, as the sandbox"),
        pytest.param(Fault.nulls(), 200, 1, id="nulls"),
        pytest.param(Fault.wrong_types(), 200, 1, id="wrong types"),
        pytest.param(Fault.late_reply(0.01), 200, 1, id="late"),
    ],
)
async def test_a_fault_spoils_the_answer_not_the_book(
    upstox_emulator: UpstoxEmulator, fault: Fault, status: int, booked: int
) -> None:
    upstox_emulator.faults.add(PLACE, fault)
    async with client(upstox_emulator) as call:
        reply = await call.http.post("/v3/order/place", json=order())

    assert reply.status_code == status
    assert len(upstox_emulator.book()) == booked


@pytest.mark.parametrize(
    ("fault", "booked"),
    [
        pytest.param(Fault.lost_reply(), 1, id="reply lost"),
        pytest.param(Fault.dropped(), 0, id="request lost"),
        pytest.param(Fault.reset(), 1, id="reset after acceptance"),
        pytest.param(Fault.truncated(), 1, id="truncated"),
        pytest.param(Fault.hang(), 1, id="hangs after accepting"),
        pytest.param(Fault.hang(accepted=False), 0, id="hangs before"),
    ],
)
async def test_a_broken_connection_leaves_what_was_accepted(
    upstox_emulator: UpstoxEmulator, fault: Fault, booked: int
) -> None:
    upstox_emulator.faults.add(PLACE, fault)
    async with client(upstox_emulator) as call:
        with pytest.raises(httpx.TransportError):
            await call.http.post("/v3/order/place", json=order(), timeout=0.3)

    assert len(upstox_emulator.book()) == booked


async def ending(socket: ClientConnection) -> AsyncIterator[bytes | str]:
    """Yield what comes before the connection ends, however it does."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await socket.recv()


async def test_nulls_and_wrong_types_keep_the_envelope(upstox_emulator: UpstoxEmulator) -> None:
    path = "/v3/market-quote/ltp"
    upstox_emulator.faults.add(f"GET {path}", Fault.nulls(), Fault.wrong_types())
    async with client(upstox_emulator) as call:
        nulls = await call("GET", path, instrument_key=RELIANCE)
        wrong = await call("GET", path, instrument_key=RELIANCE)

    assert set(nulls["NSE_EQ:RELIANCE"].values()) == {None}
    assert wrong["NSE_EQ:RELIANCE"]["last_price"] == "1400.0"
    assert wrong["NSE_EQ:RELIANCE"]["instrument_token"] == 7


async def test_one_fault_can_wait_for_any_call(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.faults.add("*", Fault.server_error(), times=2)
    async with client(upstox_emulator) as call:
        seen = [await call.refused("GET", path) for path in ("/v3/order/gtt", "/v2/user/kill-switch")]
        await call("GET", "/v2/user/kill-switch")

    assert seen == [(500, "UDAPI100500")] * 2


@pytest.mark.parametrize("with_reset", [False, True])
async def test_a_reconnect_storm_drops_each_new_socket(upstox_emulator: UpstoxEmulator, *, with_reset: bool) -> None:
    upstox_emulator.faults.add(FEED, Fault.cut_socket(with_reset=with_reset), times=3)
    for _ in range(3):
        async with connect(await one_time_url(upstox_emulator), proxy=None) as socket:
            heard = [frame async for frame in ending(socket)]
            assert len(heard) <= 1

    async with feed(upstox_emulator) as socket:
        await receive(socket)
        await socket.send(request("sub", [RELIANCE]))
        assert RELIANCE in (await receive(socket)).feeds


async def test_a_portfolio_socket_can_be_cut_too(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.faults.add("WS /upstox-developer-api/*", Fault.cut_socket())
    async with portfolio(upstox_emulator) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_a_stranded_socket_hears_nothing_while_new_ones_work(upstox_emulator: UpstoxEmulator) -> None:
    async with TcpProxy(upstox_emulator.port) as proxy:
        url = (await one_time_url(upstox_emulator)).replace(upstox_emulator.address, proxy.address)
        async with connect(url, proxy=None, ping_interval=None, close_timeout=0.05) as stranded:
            await receive(stranded)
            assert proxy.strand() == 1
            await upstox_emulator.feed.send(b"unheard")
            url = (await one_time_url(upstox_emulator)).replace(upstox_emulator.address, proxy.address)
            async with connect(url, proxy=None) as fresh:
                await receive(fresh)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stranded.recv()
