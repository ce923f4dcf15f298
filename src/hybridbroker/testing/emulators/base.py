"""What both emulators are: a server that records what it is sent and misbehaves when told to."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Self
from urllib.parse import parse_qsl

import attrs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.testing.emulators.faults import Ending, Fault, Faults
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.server import HOST, LoopbackServer, Peer

__all__ = ["Emulator", "ReceivedRequest"]


@attrs.frozen(kw_only=True)
class ReceivedRequest:
    """One request as it came in; a WebSocket handshake has the method ``WS``."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    at: datetime
    """By the emulator's real clock."""
    peer: Peer
    """The client's end of the connection: requests with the same peer shared one."""

    def json(self) -> Any:
        """Return the body read as JSON."""
        return json.loads(self.body)


class Emulator(ABC):
    """A broker on the loopback interface; enter it to start it, leave it to stop it.

    It lives in the caller's event loop, on a port of the system's choice. ``requests`` holds
    what it was sent, ``faults`` what it will do wrong.
    """

    def __init__(
        self, market: EmulatedMarket, *, keep_alive: float = 5.0, port: int = 0, clock: Clock | None = None
    ) -> None:
        self.market = market
        self.requests: list[ReceivedRequest] = []
        self.faults = Faults()
        self._clock = clock or SystemClock()
        self._peers: set[Peer] = set()
        self._server = LoopbackServer(self._gate, keep_alive=keep_alive, port=port)
        self._app = self._build()

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    @property
    def port(self) -> int:
        """Return the port it listens on; 0 before it was entered."""
        return self._server.port

    @property
    def address(self) -> str:
        """Return ``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """Return how many connections have carried a request so far."""
        return len(self._peers)

    @property
    def open_connections(self) -> int:
        """Return how many connections are open now."""
        return self._server.open_connections

    def received(self, method: str, path: str | None = None) -> list[ReceivedRequest]:
        """Return the recorded requests of one method, and of one path where it is given."""
        return [each for each in self.requests if each.method == method and path in {None, each.path}]

    def drop_connections(self, *, reset: bool = False) -> int:
        """End every open connection, with a TCP reset if asked; return how many there were."""
        return self._server.drop(with_reset=reset)

    async def stop(self) -> None:
        """Stop listening and drop every connection; what was traded and subscribed stays known."""
        await self._server.stop()

    async def start(self) -> None:
        """Listen again, on the same port."""
        await self._server.start()

    async def restart(self, *, after: float = 0.0) -> None:
        """Go away for ``after`` seconds and come back on the same port."""
        await self.stop()
        await self._clock.sleep(after)
        await self.start()

    @abstractmethod
    def _build(self) -> ASGIApp:
        """Return the application behind the gate."""

    @abstractmethod
    def _error_body(self, status: int) -> bytes:
        """Return this broker's own error body for an HTTP status."""

    async def _gate(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer: Peer = scope["client"]
        self._peers.add(peer)
        is_socket = scope["type"] == "websocket"
        body = b"" if is_socket else await _body(receive)
        request = ReceivedRequest(
            method="WS" if is_socket else scope["method"],
            path=scope["path"],
            query=dict(parse_qsl(scope["query_string"].decode())) if scope["query_string"] else {},
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
            at=self._clock.now(),
            peer=peer,
        )
        self.requests.append(request)
        fault = self.faults.take(request.method, request.path)
        if is_socket:
            if fault is None or not await self._spoil_handshake(fault, peer, receive, send):
                await self._app(scope, receive, self._cutting(fault, peer, _refusing(send)))
            # uvicorn complains of a refused handshake unless its connection is gone by now.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return
        if fault is None:
            await self._serve(scope, _replay(body, receive), send)
        else:
            await self._spoil(fault, scope, body, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.market.answering():
            await self._app(scope, receive, send)

    async def _spoil(self, fault: Fault, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        await self._pause(fault.before)
        answer: list[Message] = []
        if fault.accepted:

            async def keep(message: Message) -> None:
                answer.append(message)

            await self._serve(scope, _replay(body, receive), keep)
        await self._pause(fault.after)
        if fault.status is not None:
            answer = self._answer(fault)
        elif fault.rewrite is not None:
            answer = _rewritten(answer, fault.rewrite)
        await self._end(fault.ending, scope["client"], answer, receive, send)

    async def _end(self, ending: Ending, peer: Peer, answer: list[Message], receive: Receive, send: Send) -> None:
        match ending:
            case Ending.ANSWER:
                for message in answer:
                    await send(message)
                return
            case Ending.TRUNCATE:
                whole = b"".join(message.get("body", b"") for message in answer)
                await send(answer[0])
                await send({"type": "http.response.body", "body": whole[: len(whole) // 2], "more_body": True})
                self._server.drop(peer)
            case Ending.CLOSE | Ending.RESET:
                self._server.drop(peer, with_reset=ending is Ending.RESET)
            case Ending.HANG | Ending.CUT | Ending.CUT_RESET:
                pass
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _spoil_handshake(self, fault: Fault, peer: Peer, receive: Receive, send: Send) -> bool:
        """Do ``fault`` to a handshake; False lets the handshake go on."""
        await self._pause(fault.before)
        if fault.ending in {Ending.CUT, Ending.CUT_RESET}:
            return False
        if fault.ending in {Ending.CLOSE, Ending.RESET}:
            self._server.drop(peer, with_reset=fault.ending is Ending.RESET)
        elif fault.ending is Ending.ANSWER:
            if fault.status is None:
                return False
            for message in self._answer(fault):
                await _refusing(send)({**message, "type": f"websocket.{message['type']}"})
            return True
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return True

    def _cutting(self, fault: Fault | None, peer: Peer, send: Send) -> Send:
        """Return ``send``; under a fault that cuts sockets, one that ends the connection after the handshake."""
        if fault is None or fault.ending not in {Ending.CUT, Ending.CUT_RESET}:
            return send
        cut = partial(self._server.drop, peer, with_reset=fault.ending is Ending.CUT_RESET)

        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "websocket.accept":
                asyncio.get_running_loop().call_later(fault.after, cut)

        return watched

    def _answer(self, fault: Fault) -> list[Message]:
        status = fault.status or 200
        body = self._error_body(status) if fault.body is None else fault.body
        headers = [(b"content-type", fault.content_type.encode()), (b"content-length", str(len(body)).encode())]
        return [
            {"type": "http.response.start", "status": status, "headers": headers},
            {"type": "http.response.body", "body": body},
        ]

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await self._clock.sleep(seconds)


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _rewritten(answer: list[Message], rewrite: Callable[[Any], Any]) -> list[Message]:
    """Change an answer's JSON; one without JSON stays as it is."""
    body = b"".join(message.get("body", b"") for message in answer)
    try:
        changed = json.dumps(rewrite(json.loads(body))).encode()
    except ValueError:
        return answer
    headers = [pair for pair in answer[0]["headers"] if pair[0].lower() != b"content-length"]
    start = {**answer[0], "headers": [*headers, (b"content-length", str(len(changed)).encode())]}
    return [start, {"type": "http.response.body", "body": changed}]


def _refusing(send: Send) -> Send:
    """Leave the length of a refusal's body to uvicorn, of which old releases would state it twice."""

    async def shortened(message: Message) -> None:
        if message["type"] == "websocket.http.response.start":
            headers = [pair for pair in message["headers"] if pair[0].lower() != b"content-length"]
            message = {**message, "headers": headers}
        await send(message)

    return shortened


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application the body that the gate has read already."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
