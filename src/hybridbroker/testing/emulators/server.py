"""An ASGI application on the loopback interface, served from the caller's own event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp

__all__ = ["HOST", "LoopbackServer", "Peer", "reset"]

HOST: Final = "127.0.0.1"
_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_GRACE: Final = 2.0

Peer = tuple[str, int]
"""The client's end of a connection."""


class LoopbackServer:
    """uvicorn without its own loop, thread or signal handlers: it starts and stops at once.

    uvicorn's ``serve()`` installs signal handlers and needs tenths of a second to stop, so
    its parts are started here one by one.
    """

    def __init__(self, app: ASGIApp, *, keep_alive: float = 5.0, port: int = 0) -> None:
        self.port = port
        """0 until the server has been started once; then the port it keeps."""
        self._config = uvicorn.Config(
            app,
            http="auto",
            # The class named "websockets" is the deprecated one.
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=keep_alive,  # type: ignore[arg-type]  # a timer's argument: fractions are fine
        )
        self._server: uvicorn.Server | None = None

    async def start(self) -> None:
        """Listen; the second time on the same port as the first."""
        # The protocol is named since asyncio turns Nagle's algorithm off only where it says TCP: 40 ms an order.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, self.port))
        self.port = listener.getsockname()[1]
        if not self._config.loaded:
            self._config.load()
        self._server = uvicorn.Server(self._config)
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[listener])

    async def stop(self) -> None:
        """Stop listening and drop every connection, as a dying process does."""
        server, self._server = self._server, None
        if server is None:
            return
        for each in server.servers:
            each.close()
        for connection in tuple(server.server_state.connections):
            connection.transport.abort()
        if server.server_state.tasks:
            await asyncio.wait(tuple(server.server_state.tasks), timeout=_GRACE)
        for each in server.servers:
            await each.wait_closed()

    @property
    def open_connections(self) -> int:
        """Return how many connections are open now."""
        return len(self._server.server_state.connections) if self._server else 0

    def drop(self, peer: Peer | None = None, *, with_reset: bool = False) -> int:
        """End the connection of ``peer``, or all of them; return how many there were.

        With ``with_reset`` the client gets a TCP reset, otherwise an orderly end.
        """
        dropped = 0
        connections: tuple[Any, ...] = tuple(self._server.server_state.connections) if self._server else ()
        for connection in connections:
            if peer is not None and connection.client != peer:
                continue
            dropped += 1
            if with_reset:
                reset(connection.transport)
            else:
                connection.transport.close()
        return dropped


def reset(transport: asyncio.BaseTransport) -> None:
    """End a connection with a TCP reset instead of an orderly end."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    cast("asyncio.WriteTransport", transport).abort()
