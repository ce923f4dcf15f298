"""Postbacks: a real HTTP POST of JSON at every change of an order, to an address on this machine."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Postman"]

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Postman:
    """Sends payloads in order, one at a time; failures are counted, nothing is repeated (none documented)."""

    def __init__(self) -> None:
        self.sent = 0
        self.failed = 0
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def post(self, url: str, payload: dict[str, Any]) -> None:
        """Send ``payload`` in the background.

        Raises:
            ValueError: ``url`` is not http:// on this machine.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
            raise ValueError(f"postbacks of the emulator go to http:// on this machine only, not to {url}")
        self._queue.put_nowait((url, json.dumps(payload).encode()))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def delivered(self) -> None:
        """Wait until everything was sent."""
        await self._queue.join()

    async def stop(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        while True:
            url, body = await self._queue.get()
            try:
                await _send(url, body)
                self.sent += 1
            except OSError:
                self.failed += 1
            finally:
                self._queue.task_done()


async def _send(url: str, body: bytes) -> None:
    parts = urlsplit(url)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        await reader.read()
    finally:
        writer.close()
