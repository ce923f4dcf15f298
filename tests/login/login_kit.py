"""Login servers on the loopback interface, settings that lead there, and a person who does as told."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Route

from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.plugins import LoginRequest, LoginWay
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators.dhan.login import DhanLogin
from hybridbroker.testing.emulators.server import LoopbackServer
from hybridbroker.testing.emulators.upstox.login import UpstoxLogin
from hybridbroker.transport.vault import Vault

T = TypeVar("T")

NOON = datetime(2026, 9, 15, 12, 0, tzinfo=IST)
CLIENT = "1100000001"
PATIENCE = 60.0
"""Seconds of real time after which a test has failed; none waits that long."""


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJ0eXAi.{payload}.signature"


@asynccontextmanager
async def serving(routes: list[Route]) -> AsyncIterator[str]:
    """Serve routes; yield the base URL."""
    server = LoopbackServer(Starlette(routes=routes), keep_alive=5.0, port=0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


class Dhan:
    """An emulated Dhan login, settings for it, and a vault."""

    def __init__(self, url: str, emulator: DhanLogin, vault: Vault, clock: ManualClock) -> None:
        self.url, self.emulator, self.vault, self.clock = url, emulator, vault, clock

    def settings(self, **changed: Any) -> DhanSettings:
        emulator = self.emulator
        given: dict[str, Any] = {
            "client_id": emulator.client_id,
            "pin": emulator.pin,
            "totp_secret": emulator.totp_secret,
            "api_key": emulator.api_key,
            "api_secret": emulator.api_secret,
            "base_url": f"{self.url}/v2",
            "auth_url": self.url,
        }
        return DhanSettings(**{**given, **changed})

    def accepts(self, secret: SecretStr) -> bool:
        return self.emulator.tokens.is_valid(secret.get_secret_value())


@asynccontextmanager
async def dhan(folder: Path, *, at: datetime = NOON, **options: Any) -> AsyncIterator[Dhan]:
    clock = ManualClock(at)
    emulator = DhanLogin(clock, **options)
    async with serving(emulator.routes()) as url:
        yield Dhan(url, emulator, Vault(folder), clock)


class Upstox:
    """An emulated Upstox login, settings for it, and a vault."""

    def __init__(self, url: str, emulator: UpstoxLogin, vault: Vault, clock: ManualClock) -> None:
        self.url, self.emulator, self.vault, self.clock = url, emulator, vault, clock

    def settings(self, **changed: Any) -> UpstoxSettings:
        given: dict[str, Any] = {
            "api_key": self.emulator.client_id,
            "api_secret": self.emulator.client_secret,
            "base_url": self.url,
            "order_url": self.url,
        }
        return UpstoxSettings(**{**given, **changed})


@asynccontextmanager
async def upstox(folder: Path, *, at: datetime = NOON, **options: Any) -> AsyncIterator[Upstox]:
    clock = ManualClock(at)
    emulator = UpstoxLogin(clock, **options)
    async with serving(emulator.routes()) as url:
        yield Upstox(url, emulator, Vault(folder), clock)


class Browser:
    """Follows an address to where it ends, like the browser of a person who agrees."""

    def __init__(self, *, change: Callable[[str], str] = lambda url: url, come_back: bool = True) -> None:
        self.change = change
        self.come_back = come_back
        self.ended_at = ""
        self.pages: list[tuple[int, str]] = []
        self.visits: list[Future[str]] = []
        """Kept, since nothing else holds a task that waits for a stream."""
        self.loop = asyncio.get_running_loop()

    def open(self, url: str) -> bool:
        self.visits.append(asyncio.run_coroutine_threadsafe(self.visit(url), self.loop))
        return True

    async def visit(self, url: str) -> str:
        status, headers, page = await fetch("GET", url)
        self.pages.append((status, page))
        self.ended_at = self.change(headers.get("location", ""))
        if self.ended_at and self.come_back:
            status, _, page = await fetch("GET", self.ended_at)
            self.pages.append((status, page))
        return self.ended_at


class Paster(Browser):
    """A person at a machine without a browser, who looks the address up elsewhere and pastes it."""

    def __init__(self, *, change: Callable[[str], str] = lambda url: url) -> None:
        super().__init__(change=change, come_back=False)
        self.told: list[str] = []

    def say(self, line: str) -> None:
        self.told.append(line)

    def answer(self, _: str) -> str:
        """Called in another thread than the server's loop, which it needs."""
        page = self.told[0].rpartition("\n")[2]
        return asyncio.run_coroutine_threadsafe(self.visit(page), self.loop).result(PATIENCE)


async def in_a_thread(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a login that blocks while a person is asked, apart from the loop that serves the broker's pages."""
    return await asyncio.to_thread(lambda: asyncio.run(call()))


async def fetch(method: str, url: str, body: bytes = b"", *headers: str) -> tuple[int, dict[str, str], str]:
    """Speak HTTP by hand."""
    rest = url.removeprefix("http://")
    place, _, path = rest.partition("/")
    host, _, port = place.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} /{path} HTTP/1.1", f"Host: {place}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        raw = (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, page = raw.partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return int(status.split(" ")[1]), {k.lower(): v for k, _, v in (f.partition(": ") for f in fields)}, page


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def files(folder: Path) -> list[str]:
    """Return the names of what is stored."""
    return sorted(each.name for each in folder.glob("*.json"))


async def until(happened: Callable[[], object]) -> None:
    """Let the loop run until something has happened."""
    async with asyncio.timeout(PATIENCE):
        while not happened():  # noqa: ASYNC110 - the emulator has no event for it
            await asyncio.sleep(0.01)


def request(way: LoginWay, settings: object, clock: Clock, **changed: Any) -> LoginRequest:
    return LoginRequest(way=way, settings=settings, clock=clock, **{"timeout": PATIENCE, **changed})
