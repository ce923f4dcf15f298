"""HTTP: a pool kept warm, reads repeated, writes sent once; the only module that knows httpx.

It speaks to httpx's transport rather than to its client: cookies, redirects, proxies from the
environment, hooks and URL logging are then not there to be switched off, and an order does not
pay for them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from json import JSONEncoder
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import attrs
import httpx

from hybridbroker.clock import Clock
from hybridbroker.errors import (
    ConfigurationError,
    HybridBrokerError,
    NetworkError,
    NotSent,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
)
from hybridbroker.transport.limits import RateLimiter, retry_after
from hybridbroker.transport.policy import KeepWarm, RetryPolicy, Timeouts
from hybridbroker.transport.reply import Response
from hybridbroker.transport.urls import check_headers, check_url, tls_context, user_agent

__all__ = ["HttpClient", "KeepWarm", "Progress", "Response", "RetryPolicy", "Timeouts"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]

_CONNECTIONS: Final = 20
_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 60.0
_JSON: Final = JSONEncoder(separators=(",", ":"), allow_nan=False)

# httpcore swallows a failed write and reads on, since a server may answer and hang up before it
# has taken everything. So of all that httpx raises only these prove that nothing left.
_NEVER_LEFT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_MAY_HAVE_LEFT: Final = (httpx.RequestError, httpx.StreamError, ssl.SSLError, OSError)


class HttpClient:
    """Send requests to one server; raise `NetworkError` and nothing of httpx's own.

    Constructing is free. While entered, one pool of HTTP/1.1 connections is open, each kept
    until the server closes it. Requests go to ``base_url`` directly: no proxy from the
    environment, no cookies, no redirect followed (credentials travel in headers, which a
    redirect could carry to another host). With ``keep_warm``, entering makes the first
    connection; that it fails is only logged.

    ``headers`` go with every request; a callable is asked each time, so that a fresh token
    counts at once. ``limiter`` must know the families that requests name. ``transport``
    replaces the network, for tests.

    Reads are repeated as ``retry`` says. Writes are sent at most once, by whatever happens;
    one that is cancelled may have been carried out. Paths are given percent-encoded.
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        clock: Clock,
        limiter: RateLimiter | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        keep_warm: KeepWarm | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._base = check_url(base_url).rstrip("/")
        self._headers = headers if callable(headers) else lambda: headers
        self._clock = clock
        self._limiter = limiter
        self._retry = retry or RetryPolicy()
        self._timeouts = timeouts or Timeouts()
        self._keep_warm = keep_warm
        self._given = transport
        self._jitter = jitter
        self._pool: _Pool | None = None
        self._warmer: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self._url = functools.lru_cache(maxsize=256)(httpx.URL)
        try:
            self._host = httpx.URL(self._base).netloc
        except httpx.InvalidURL as exc:
            raise ConfigurationError(f"this is no address: {self._base.partition('?')[0]!r} ({exc})") from None
        self._encoded: tuple[Mapping[str, str], list[tuple[bytes, bytes]]] = ({}, [])
        limits = {name: getattr(self._timeouts, name) for name in ("connect", "read", "write", "pool")}
        self._extensions = {"timeout": limits}

    async def __aenter__(self) -> Self:
        self._pool = _Pool(self._given or _new_transport())
        if self._keep_warm is not None:
            try:
                await self._touch(self._keep_warm.path)
            except asyncio.CancelledError:
                await self.__aexit__()
                raise
            self._warmer = asyncio.create_task(self._stay_warm(self._keep_warm), name=f"keep {self._base} warm")
        return self

    async def __aexit__(self, *exc: object) -> None:
        pool, self._pool = self._pool, None
        if self._warmer is not None:
            self._warmer.cancel()
            await asyncio.wait([self._warmer])
            self._warmer = None
        if pool is not None:
            await pool.transport.aclose()

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        family: str = "read",
        headers: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Response:
        """Read; return every answer below 500 but 429, for the caller to judge.

        ``progress`` is told, as they come, how many bytes came and how many were announced;
        long downloads need a client with `Timeouts` to match.

        Raises:
            NotSent: The server could not be reached.
            ReplyLost: It was, but did not answer.
            RateLimited: It asked to wait.
            ServiceUnavailable: It answered 5xx or with an HTML page; ``response`` holds it.
        """
        return await self._read(_Call("GET", path, _query(params), family=family, headers=headers, progress=progress))

    async def query(
        self, path: str, *, json: Any, family: str = "read", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Read by POST, repeated like `get`; for calls that are documented to change nothing."""
        return await self._read(_Call("POST", path, body=_json(json), family=family, headers=headers))

    async def post(
        self,
        path: str,
        *,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        family: str = "order",
        headers: Mapping[str, str] | None = None,
        urgent: bool = False,
    ) -> Response:
        """Write, sent at most once; return every answer below 500 but 429, for the caller to judge.

        ``json`` may be bytes, taken as JSON already written. Urgent writes go first where the
        rate limits make several wait.

        Raises:
            NotSent: It certainly never left; also where its turn under the rate limits was too far off.
            ReplyLost: It may have been carried out; no answer came.
            RateLimited: The server answered 429.
            ServiceUnavailable: 5xx or an HTML page; it may have been carried out. ``response`` holds it.
        """
        body = _json(json) if form is None else _form(form)
        return await self._write(_Call("POST", path, _query(params), body, family, headers), urgent=urgent)

    async def put(
        self,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        family: str = "order",
        headers: Mapping[str, str] | None = None,
        urgent: bool = False,
    ) -> Response:
        """Write by PUT; all else as `post`."""
        return await self._write(_Call("PUT", path, _query(params), _json(json), family, headers), urgent=urgent)

    async def delete(
        self,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        family: str = "order",
        headers: Mapping[str, str] | None = None,
        urgent: bool = False,
    ) -> Response:
        """Write by DELETE; all else as `post`."""
        return await self._write(_Call("DELETE", path, _query(params), _json(json), family, headers), urgent=urgent)

    async def _read(self, call: _Call) -> Response:
        attempt = 1
        while True:
            if self._limiter is not None:
                await self._limiter.acquire(call.family)
            try:
                return await self._judged(call)
            except NetworkError as failure:
                pause = self._retry.delay(failure, attempt=attempt, jitter=self._jitter)
                if pause is None or self._pool is None:
                    raise
                logger.info("retrying in %.2f s: %s", pause, failure)
            await self._clock.sleep(pause)
            attempt += 1

    async def _write(self, call: _Call, *, urgent: bool) -> Response:
        if self._limiter is not None:
            try:
                await self._limiter.acquire(call.family, urgent=urgent, patience=self._timeouts.turn)
            except RateLimited as exc:
                raise NotSent(f"{call}: {exc}") from exc
        return await self._judged(call)

    async def _judged(self, call: _Call) -> Response:
        response = await self._send(call)
        status = response.status
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = retry_after(response.headers.get("retry-after"))
            if self._limiter is not None:
                self._limiter.pause(call.family, _PAUSE if seconds is None else min(seconds, _MAX_PAUSE))
            raise RateLimited(f"{call}: HTTP 429: {response.excerpt}", retry_after=seconds)
        moved = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or (response.is_html and not moved):
            raise ServiceUnavailable(f"{call}: HTTP {status}: {response.excerpt}", response=response)
        return response

    async def _send(self, call: _Call) -> Response:
        pool = self._pool
        if pool is None:
            raise NotSent(f"{call}: the client is not open; use it inside `async with`")
        request = self._request(call)
        loop = asyncio.get_running_loop()
        self._used_at = loop.time()
        pool.users += 1
        try:
            async with asyncio.timeout(self._timeouts.total):
                try:
                    reply = await pool.transport.handle_async_request(request)
                    body = await _body(reply, call.progress)
                except asyncio.CancelledError:
                    self._retire(pool)
                    raise
        except _NEVER_LEFT as exc:
            raise NotSent(f"{call}: {_told(exc)}") from exc
        except _MAY_HAVE_LEFT as exc:
            raise ReplyLost(f"{call}: {_told(exc)}") from exc
        finally:
            self._used_at = loop.time()
            pool.users -= 1
            if pool.retired and not pool.users:
                await pool.transport.aclose()
        return Response(status=reply.status_code, body=body, headers=reply.headers, request=str(call))

    def _retire(self, pool: _Pool) -> None:
        # httpcore 1.0 keeps the place of a request that is cancelled at a bad moment, for ever.
        # Twenty of those, and no order finds a connection: so such a pool takes no more requests.
        if pool is self._pool and self._given is None:
            pool.retired = True
            self._pool = _Pool(_new_transport())

    def _request(self, call: _Call) -> httpx.Request:
        headers = self._common_headers()
        if call.headers:
            own = {name.lower() for name in call.headers}
            headers = [each for each in headers if each[0].decode().lower() not in own] + _encode(call.headers)
        content = b""
        if call.body is not None:
            content = call.body.content
            headers = [*headers, (b"Content-Type", call.body.type), (b"Content-Length", b"%d" % len(content))]
        elif call.method != "GET":
            headers = [*headers, (b"Content-Length", b"0")]
        try:
            url = self._url(self._base + call.path + call.query)
        except httpx.InvalidURL as exc:
            raise ConfigurationError(f"{call.method}: no path of a URL: {call.path!r} ({exc})") from None
        stream = httpx.ByteStream(content)
        return httpx.Request(call.method, url, headers=headers, stream=stream, extensions=self._extensions)

    def _common_headers(self) -> list[tuple[bytes, bytes]]:
        given = self._headers()
        if not self._encoded[1] or self._encoded[0] != given:
            ours = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": user_agent()}
            own = {name.lower() for name in given}
            kept = {name: value for name, value in ours.items() if name.lower() not in own}
            self._encoded = (dict(given), [(b"Host", self._host), *_encode(kept), *_encode(given)])
        return self._encoded[1]

    async def _touch(self, path: str) -> None:
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._send(_Call("GET", path))
        except (HybridBrokerError, TimeoutError) as exc:
            logger.info("keeping the connection warm failed: %s", _told(exc))

    async def _stay_warm(self, warm: KeepWarm) -> None:
        # Real time, not the injected clock: what must not run out is the server's own timer.
        loop = asyncio.get_running_loop()
        while True:
            idle = loop.time() - self._used_at
            if idle >= warm.every:
                await self._touch(warm.path)
            else:
                await asyncio.sleep(warm.every - idle)


@attrs.define(eq=False)
class _Pool:
    transport: httpx.AsyncBaseTransport
    users: int = 0
    retired: bool = False


@attrs.frozen
class _Body:
    content: bytes
    type: bytes


@attrs.frozen
class _Call:
    method: str
    path: str
    query: str = ""
    body: _Body | None = None
    family: str = ""
    headers: Mapping[str, str] | None = None
    progress: Progress | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]}"


async def _body(reply: httpx.Response, progress: Progress | None) -> bytes:
    if progress is None:
        return await reply.aread()
    length = reply.headers.get("content-length", "")
    total = int(length) if length.isdecimal() else None
    chunks = []
    try:
        async for chunk in reply.aiter_bytes():
            chunks.append(chunk)
            progress(reply.num_bytes_downloaded, total)
    finally:
        await reply.aclose()
    return b"".join(chunks)


def _json(value: Any) -> _Body | None:
    if value is None:
        return None
    return _Body(value if isinstance(value, bytes) else _JSON.encode(value).encode(), b"application/json")


def _form(fields: Mapping[str, str]) -> _Body:
    return _Body(urlencode(fields).encode(), b"application/x-www-form-urlencoded")


def _query(params: Mapping[str, Any] | None) -> str:
    return f"?{urlencode(params, doseq=True, quote_via=quote, safe=',')}" if params else ""


def _encode(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    check_headers(headers)
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _told(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _new_transport() -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=None)
    return httpx.AsyncHTTPTransport(verify=tls_context(), trust_env=False, limits=limits)
