"""A TCP proxy that can delay, cut, reset and freeze connections, which an ASGI server cannot."""

from __future__ import annotations

import asyncio
from typing import Final, Self

from hybridbroker.testing.emulators.server import HOST, reset

__all__ = ["TcpProxy"]

_CHUNK: Final = 65_536


class _Pair:
    """One client connection and the connection behind it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)
        self.tasks: list[asyncio.Task[None]] = []
        self.stranded = False

    def end(self, *, with_reset: bool) -> None:
        for writer in self.writers:
            if with_reset:
                reset(writer.transport)
            else:
                writer.close()
        for task in self.tasks:
            task.cancel()


class TcpProxy:
    """Forwards bytes to ``target_port`` on loopback, until told to misbehave.

    Enter it to listen, on a port of the system's choice. An emulator's one-time URLs lead
    back through the proxy, since they follow the request's Host header.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay = 0.0
        """Seconds that every chunk waits, in both directions."""
        self.connections = 0
        """Connections accepted so far."""
        self.port = 0
        self._refusing = False
        self._open = asyncio.Event()
        self._open.set()
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            tasks = [task for pair in self._pairs for task in pair.tasks]
            self.cut()
            if tasks:
                await asyncio.wait(tasks)
            await self._server.wait_closed()

    @property
    def address(self) -> str:
        """Return ``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def open_connections(self) -> int:
        """Return how many client connections are open now."""
        return len(self._pairs)

    def cut(self) -> None:
        """End every connection in an orderly way (FIN)."""
        self._end(with_reset=False)

    def reset(self) -> None:
        """Reset every connection (RST)."""
        self._end(with_reset=True)

    def freeze(self) -> None:
        """Forward nothing more, not even the end of a connection: every socket is half-open."""
        self._open.clear()

    def strand(self) -> int:
        """Freeze the connections there are, for good, while new ones work; return how many there were.

        So does a network that forgot a connection: only a ping that stays unanswered finds out.
        """
        for pair in self._pairs:
            pair.stranded = True
        return len(self._pairs)

    def thaw(self) -> None:
        """Forward again, beginning with what came meanwhile."""
        self._open.set()

    def refuse(self, *, refusing: bool = True) -> None:
        """Reset new connections as soon as they are made; ``refusing=False`` accepts again."""
        self._refusing = refusing

    def _end(self, *, with_reset: bool) -> None:
        for pair in tuple(self._pairs):
            pair.end(with_reset=with_reset)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._refusing:
                raise ConnectionRefusedError
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self.target_port)
        except OSError:
            reset(writer.transport)
            return
        pair = _Pair(writer, upstream_writer)
        loop = asyncio.get_running_loop()
        pair.tasks = [
            loop.create_task(self._pump(pair, reader, upstream_writer)),
            loop.create_task(self._pump(pair, upstream_reader, writer)),
        ]
        self._pairs.add(pair)
        await asyncio.wait(pair.tasks)
        self._pairs.discard(pair)
        pair.end(with_reset=False)

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                if not pair.stranded:
                    writer.write(chunk)
                    await writer.drain()
            await self._open.wait()
            if not pair.stranded:
                writer.write_eof()
        except ConnectionResetError:
            reset(writer.transport)
        except OSError:
            writer.transport.abort()
