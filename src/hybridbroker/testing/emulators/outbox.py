"""One client's WebSocket: frames out in order, without ever waiting for a slow client."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ["Outbox"]

_MOST_QUEUED: Final = 10_000
_GONE: Final = (WebSocketDisconnect, RuntimeError)
"""How starlette says that a socket is closed: at its far end, or at this one."""


class Outbox:
    """Queues frames for one client; beyond 10,000 the oldest are dropped, as a conflating feed would."""

    def __init__(self, websocket: WebSocket) -> None:
        self.dropped = 0
        self._websocket = websocket
        self._queue: deque[bytes | str] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, frame: bytes | str) -> None:
        """Queue a frame; text stays text."""
        if len(self._queue) >= _MOST_QUEUED:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(frame)
        self._idle.clear()
        self._work.set()

    async def drained(self) -> None:
        """Wait until everything queued was handed to the operating system, or the client is gone."""
        await self._idle.wait()

    async def close(self, code: int) -> None:
        """Send what is queued, then a close frame, unless the client was first."""
        await self.drained()
        with suppress(*_GONE):
            await self._websocket.close(code)

    def hang_up(self, code: int = 1008) -> None:
        """Close in the background, once what is queued is sent."""
        self._closing = asyncio.get_running_loop().create_task(self.close(code))

    def read(self, message: bytes | str) -> None:
        """Take a message of the client; ignored unless a subclass knows better."""

    async def serve(self) -> None:
        """Serve the client until it is gone."""
        sender = asyncio.get_running_loop().create_task(self._send())
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                data = message.get("bytes")
                self.read(message["text"] if data is None else data)
        finally:
            sender.cancel()
            await asyncio.wait([sender])
            self._queue.clear()
            self._idle.set()

    async def _send(self) -> None:
        try:
            while True:
                await self._work.wait()
                while self._queue:
                    frame = self._queue.popleft()
                    if isinstance(frame, str):
                        await self._websocket.send_text(frame)
                    else:
                        await self._websocket.send_bytes(frame)
                self._work.clear()
                self._idle.set()
        except _GONE:
            self._idle.set()
