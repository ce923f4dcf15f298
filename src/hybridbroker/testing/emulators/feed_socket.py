"""One client's feed socket: requests in, frames out in order, never waiting for a slow client."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from hybridbroker.testing.emulators.messages import MODES

__all__ = ["FeedSocket"]

_MOST_QUEUED: Final = 10_000
_METHODS: Final = frozenset({"sub", "unsub", "change_mode"})


class FeedSocket:
    """Queues frames for one client; beyond 10,000 the oldest are dropped, as a conflating feed would."""

    def __init__(self, websocket: WebSocket, *, on_request: Callable[[FeedSocket, str, list[str], str], None]) -> None:
        self.modes: dict[str, str] = {}
        """Subscribed keys and their modes."""
        self.dropped = 0
        self._websocket = websocket
        self._on_request = on_request
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
        """Send what is queued, then a close frame."""
        await self.drained()
        await self._websocket.close(code)

    async def serve(self) -> None:
        """Answer the client until it is gone."""
        sender = asyncio.get_running_loop().create_task(self._send())
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                self._read(message.get("bytes"), message.get("text"))
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
        except WebSocketDisconnect:
            self._idle.set()

    def _read(self, data: bytes | None, text: str | None) -> None:
        if data is None:
            self._refuse(None, "requests are binary frames of JSON")
            return
        try:
            request = json.loads(data)
            method, wanted = request["method"], request["data"]
            keys, mode = list(wanted["instrumentKeys"]), wanted.get("mode")
        except (ValueError, TypeError, KeyError, AttributeError):
            self._refuse(None, "the request is no JSON object with method and data.instrumentKeys")
            return
        if method not in _METHODS:
            self._refuse(method, "unknown method")
        elif mode is not None and mode not in MODES:
            self._refuse(method, f"unknown mode {mode}")
        elif method == "change_mode" and mode is None:
            self._refuse(method, "mode is required")
        else:
            self._on_request(self, method, [str(key) for key in keys], mode or "ltpc")

    def _refuse(self, method: Any, reason: str) -> None:
        self.put(json.dumps({"status": "failed", "method": method, "error": reason}))
