"""Upstox's portfolio stream: orders, GTT orders, positions and holdings, pushed as JSON text from the start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.websockets import WebSocket

from hybridbroker.testing.emulators.outbox import Outbox
from hybridbroker.testing.emulators.upstox.answers import Refusal

__all__ = ["STREAM_PATH", "PortfolioStream", "read_update_types"]

STREAM_PATH: Final = "/upstox-developer-api/order-updates/feed"
_TYPES: Final = frozenset({"order", "gtt_order", "position", "holding"})


class PortfolioStream:
    """The sockets of the portfolio stream, each with what it asked to be told; nothing is replayed to a new one."""

    def __init__(self) -> None:
        self.sockets: dict[Outbox, WebSocket] = {}
        self._types: dict[Outbox, frozenset[str]] = {}

    async def serve(self, websocket: WebSocket, types: frozenset[str]) -> None:
        """Serve one client until it is gone; what it says means nothing."""
        await websocket.accept()
        socket = Outbox(websocket)
        self.sockets[socket], self._types[socket] = websocket, types
        try:
            await socket.serve()
        finally:
            del self.sockets[socket], self._types[socket]

    def tell(self, message: Mapping[str, Any]) -> None:
        """Push a message to every socket that asked for its kind."""
        for each, types in self._types.items():
            if message["update_type"] in types:
                each.put(json.dumps(message))

    def send(self, frame: bytes | str) -> None:
        """Push any frame to every socket."""
        for each in self.sockets:
            each.put(frame)

    async def drained(self) -> None:
        """Wait until everything queued was handed to the operating system."""
        for each in tuple(self.sockets):
            await each.drained()

    async def close(self, code: int) -> None:
        """Close every socket with a close frame."""
        for each in tuple(self.sockets):
            await each.close(code)


def read_update_types(text: str) -> frozenset[str]:
    """Read ``update_types``; nothing is orders only, an unknown one is refused (our reading)."""
    types = frozenset(each for each in text.split(",") if each) or frozenset({"order"})
    if unknown := types - _TYPES:
        raise Refusal("UDAPI100036", path="update_types", invalid=",".join(sorted(unknown)))
    return types
