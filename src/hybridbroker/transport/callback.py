"""One request from a browser or a webhook, received on a socket of this machine and nothing more."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from http import HTTPStatus
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Generic, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import attrs

from hybridbroker.errors import AuthenticationError, ConfigurationError

__all__ = ["Arrival", "Listener", "Turned", "check_redirect", "loopback_listener"]

logger = logging.getLogger(__name__)

R = TypeVar("R")

_LONGEST_HEAD: Final = 16 * 1024
_LARGEST_BODY: Final = 64 * 1024
_PATIENCE: Final = 10.0
_CONNECTIONS: Final = 16
_LOCAL_NAMES: Final = {"localhost": ["127.0.0.1", "::1"]}
_REQUEST_WORDS: Final = 3


@attrs.frozen(repr=False)
class Arrival:
    """A request that came to the registered path; its content is secret."""

    query: Mapping[str, str]
    body: bytes


class Turned(Exception):
    """Raised by ``accept``: this request is not the one; the text is shown to whoever sent it."""


class Listener(Generic[R]):
    """A small HTTP server that takes one request, for as long as it is entered.

    Only ``method`` on exactly ``path`` reaches ``accept``, which returns what `wait` then
    returns, or raises `Turned`; then the next request has its chance. After one was accepted
    all others are turned away. Requests are bounded (16 KiB of head, 64 KiB of body, ten
    seconds), a few at a time, and nothing of what they carry is logged.
    """

    def __init__(
        self, *, hosts: list[str], port: int, path: str, method: str, accept: Callable[[Arrival], Awaitable[R]]
    ) -> None:
        self._hosts = hosts
        self._port = port
        self._path = path or "/"
        self._method = method
        self._accept = accept
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._found: asyncio.Future[R] | None = None

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return self._port

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: The port is taken or not allowed.
        """
        self._found = asyncio.get_running_loop().create_future()
        try:
            self._server = await self._listen()
        except OSError as exc:
            raise ConfigurationError(
                f"cannot listen on port {self._port} ({exc.strerror or exc}); end what uses it, or register another"
            ) from exc
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        if self._tasks:
            # Whoever was accepted is still being told so.
            await asyncio.wait(tuple(self._tasks), timeout=1.0)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._found is not None and not self._found.done():
            self._found.cancel()

    async def wait(self, seconds: float) -> R:
        """Return what ``accept`` made of the request.

        Raises:
            AuthenticationError: None came in time.
        """
        if self._found is None:
            raise ConfigurationError("a listener is entered with `async with` before it is waited for")
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._found)
        except TimeoutError:
            raise AuthenticationError(f"nobody came back within {seconds:.0f} s; try again") from None

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._connected, self._hosts, self._port, limit=_LONGEST_HEAD)
        except OSError:
            if len(self._hosts) == 1:
                raise
            # A machine without IPv6 has no ::1.
            return await asyncio.start_server(self._connected, self._hosts[0], self._port, limit=_LONGEST_HEAD)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= _CONNECTIONS:
            writer.close()
            return
        self._tasks.add(task)
        try:
            async with asyncio.timeout(_PATIENCE):
                arrival = await self._read(reader)
            status, text = await self._judge(arrival)
            async with asyncio.timeout(_PATIENCE):
                writer.write(_page(status, text))
                await writer.drain()
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            logger.debug("ignoring a connection that said nothing of use")
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Arrival | tuple[HTTPStatus, str]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        words = head[0].split(" ")
        if len(words) != _REQUEST_WORDS:
            return HTTPStatus.BAD_REQUEST, "This is no request."
        path, _, query = words[1].partition("?")
        if path != self._path:
            return HTTPStatus.NOT_FOUND, "There is nothing here."
        if words[0] != self._method:
            return HTTPStatus.METHOD_NOT_ALLOWED, "This is not how to ask."
        fields = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
            return HTTPStatus.LENGTH_REQUIRED, "Say how long the body is."
        if int(length) > _LARGEST_BODY:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This is too much."
        body = await reader.readexactly(int(length))
        return Arrival(dict(parse_qsl(query, keep_blank_values=True)), body)

    async def _judge(self, arrival: Arrival | tuple[HTTPStatus, str]) -> tuple[HTTPStatus, str]:
        if not isinstance(arrival, Arrival):
            return arrival
        async with self._one_at_a_time:
            if self._found is None or self._found.done():
                return HTTPStatus.GONE, "This was answered already."
            try:
                result = await self._accept(arrival)
            except Turned as refusal:
                return HTTPStatus.FORBIDDEN, str(refusal)
            if not self._found.done():
                self._found.set_result(result)
        return HTTPStatus.OK, "You can close this and go back to where you came from."


def loopback_listener(redirect_uri: str, *, accept: Callable[[Arrival], Awaitable[R]]) -> Listener[R]:
    """Return a listener for the browser that comes back to ``redirect_uri``.

    Raises:
        ConfigurationError: The address does not lead to a port of this very machine.
    """
    place = urlsplit(redirect_uri)
    try:
        host, port = place.hostname or "", place.port
    except ValueError:
        host, port = "", None
    if place.scheme != "http" or port is None or not (host == "localhost" or _is_loopback(host)):
        raise ConfigurationError(
            f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path} does not lead to a port of this machine; "
            "register an address such as http://127.0.0.1:8765/callback with the app, or use --paste"
        )
    return Listener(hosts=_LOCAL_NAMES.get(host, [host]), port=port, path=place.path, method="GET", accept=accept)


def check_redirect(query: Mapping[str, str], *, want: str, state: str | None) -> str:
    """Return the parameter ``want`` of a redirect; "" where the broker answers this very login without it.

    With a ``state``, only a redirect that brings it back is an answer; a broker that has none
    (None) is recognised by the parameter alone.

    Raises:
        Turned: It is no answer to this login.
    """
    if state is not None and not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
        raise Turned("This is not the answer to the login that is waiting here.")
    value = query.get(want, "")
    if state is None and not value:
        raise Turned("There is nothing to log in with.")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _page(status: HTTPStatus, text: str) -> bytes:
    body = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>hybridbroker</title><p>{escape(text)}</p></html>\n"
    ).encode()
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'",
        "Connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
