"""The TCP proxy forwards bytes, and breaks connections in each of its ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from emulator_kit import request
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import TcpProxy, UpstoxEmulator


@pytest.fixture
async def proxy(upstox_emulator: UpstoxEmulator) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(upstox_emulator.port) as proxy:
        yield proxy


async def url_through(proxy: TcpProxy, upstox: UpstoxEmulator) -> str:
    headers = {"Authorization": f"Bearer {upstox.access_token}"}
    async with httpx.AsyncClient(base_url=f"http://{proxy.address}", headers=headers, trust_env=False) as http:
        reply = await http.get("/v3/feed/market-data-feed/authorize")
    url: str = reply.json()["data"]["authorized_redirect_uri"]
    return url


async def test_one_time_urls_lead_back_through_the_proxy(proxy: TcpProxy, upstox_emulator: UpstoxEmulator) -> None:
    url = await url_through(proxy, upstox_emulator)

    async with connect(url, proxy=None) as socket:
        await socket.recv()

    assert url.startswith(f"ws://{proxy.address}/")
    assert proxy.connections == 2


async def test_a_cut_is_an_end_without_a_close_frame(proxy: TcpProxy, upstox_emulator: UpstoxEmulator) -> None:
    async with connect(await url_through(proxy, upstox_emulator), proxy=None) as socket:
        await socket.recv()

        proxy.cut()

        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
    assert caught.value.rcvd is None


async def test_a_reset_is_a_reset(proxy: TcpProxy, upstox_emulator: UpstoxEmulator) -> None:
    async with connect(await url_through(proxy, upstox_emulator), proxy=None) as socket:
        await socket.recv()

        proxy.reset()

        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_frozen_socket_is_half_open_until_thawed(proxy: TcpProxy, upstox_emulator: UpstoxEmulator) -> None:
    async with connect(await url_through(proxy, upstox_emulator), proxy=None) as socket:
        await socket.recv()
        proxy.freeze()
        await socket.send(request("sub", ["NSE_EQ|INE002A01018"]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.05)

        proxy.thaw()

        assert await socket.recv()


async def test_refused_connections_are_reset(proxy: TcpProxy) -> None:
    proxy.refuse()

    async with httpx.AsyncClient(base_url=f"http://{proxy.address}", trust_env=False) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/")
        proxy.refuse(refusing=False)
        assert (await http.get("/")).status_code == 404


async def test_a_dead_target_is_a_reset(proxy: TcpProxy, upstox_emulator: UpstoxEmulator) -> None:
    await upstox_emulator.stop()

    async with httpx.AsyncClient(base_url=f"http://{proxy.address}", trust_env=False) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/")


async def test_a_delay_holds_bytes_back_in_order(proxy: TcpProxy, upstox_emulator: UpstoxEmulator) -> None:
    proxy.delay = 0.01
    async with connect(await url_through(proxy, upstox_emulator), proxy=None) as socket:
        await socket.recv()
        await upstox_emulator.send_raw("first")
        await upstox_emulator.send_raw("second")

        assert [await socket.recv(), await socket.recv()] == ["first", "second"]


async def test_closed_connections_are_forgotten(proxy: TcpProxy, upstox_emulator: UpstoxEmulator) -> None:
    await url_through(proxy, upstox_emulator)
    while proxy.open_connections:
        await ManualClock().sleep(0)

    assert proxy.connections == 1
