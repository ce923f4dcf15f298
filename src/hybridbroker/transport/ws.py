"""WebSocket: the frames of one feed, reconnected for ever; the only module that knows websockets.

Written on ``recv`` rather than on the library's own reconnecting iterator, which cannot ask
for a new address per attempt, cannot tell a refusal from a fault, and resets its backoff at
the handshake.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from http import HTTPStatus
from typing import Final, Literal, Self, cast

import attrs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.frames import CloseCode

from hybridbroker.clock import Clock
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    FeedAuthenticationError,
    HybridBrokerError,
    NetworkError,
    NotSent,
    RateLimited,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.transport.limits import retry_after
from hybridbroker.transport.redact import Redact
from hybridbroker.transport.urls import check_headers, check_url, tls_context, user_agent

__all__ = ["Backoff", "Endpoint", "HandshakeRefused", "ReconnectingSocket", "Resumed", "SocketState", "Trouble"]

logger = logging.getLogger(__name__)

SocketState = Literal["connecting", "live", "reconnecting", "closed"]

_OPEN_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 1.0
_STABLE: Final = 60.0
_MAX_SIZE: Final = 16 * 1024 * 1024
_MAX_QUEUE: Final = 256


class HandshakeRefused(ServiceUnavailable):
    """The server answered the handshake with an HTTP status instead of a socket."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status."""


class Trouble(Enum):
    """Why there is no connection, as far as it decides how soon to try again."""

    NETWORK = "network"
    """The line broke, or the server hung up."""
    UNAVAILABLE = "unavailable"
    """The server says that it cannot, at present."""
    REFUSED = "refused"
    """The server does not want to."""
    LIMITED = "limited"
    """The server has been asked too often."""


@attrs.frozen(kw_only=True)
class Backoff:
    """How long to wait before the next connection: a first ceiling that doubles up to a last one, in seconds.

    Faults get full jitter. Refusals wait at least half the ceiling, so that no two tries follow
    closely. There is no last attempt.
    """

    network: tuple[float, float] = (0.5, 30.0)
    unavailable: tuple[float, float] = (2.0, 60.0)
    refused: tuple[float, float] = (15.0, 300.0)
    limited: tuple[float, float] = (60.0, 300.0)

    def delay(self, trouble: Trouble, *, attempt: int, jitter: Callable[[], float]) -> float:
        """Return the seconds to wait; ``attempt`` counts from 1, ``jitter`` returns a number in [0, 1)."""
        first, last = getattr(self, trouble.value)
        ceiling = float(min(last, first * 2.0 ** min(attempt - 1, 64)))
        return ceiling * jitter() if trouble is Trouble.NETWORK else ceiling * (0.5 + 0.5 * jitter())


@attrs.frozen
class Endpoint:
    """Where to connect, for one attempt; the query and the headers may be credentials and are not shown."""

    url: str = attrs.field(repr=lambda url: repr(url.partition("?")[0]))
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=lambda headers: repr(sorted(headers)))


@attrs.frozen(kw_only=True)
class Resumed:
    """Comes between the frames where the connection was lost: what was sent meanwhile is missing."""

    lost_at: datetime
    """When the lost connection was last heard of; nothing after it can be relied on."""
    back_at: datetime
    """When the new one was ready, everything asked for again."""
    reason: str


class ReconnectingSocket:
    """Iterate over the frames of a WebSocket, across connections, until ``async with`` is left.

    Entering connects once, and raises where that fails. Afterwards only refused credentials end
    the iteration; every other loss is repaired and shows as a `Resumed` before the first frame
    of the new connection. Frames come from one connection at a time, each in order, and no
    frame of a lost connection follows its `Resumed`.

    ``endpoint`` is asked for every attempt: addresses may be single-use. ``hello`` is asked on
    every connection for the frames that say everything that is wanted (``bytes`` go out as binary
    frames, ``str`` as text); ``on_state`` hears of every change of `SocketState`, ``on_alive`` of
    every arrival of bytes, pings and pongs included, ``on_trouble`` of every reason why there is no
    connection. These callbacks must neither block nor raise. ``on_refused`` is awaited after a
    handshake answered 401, before the endpoint is asked for the second and last time: the place to
    get other credentials.

    A connection from which no answer to a ping comes within ``ping_timeout`` is given up. Frames
    above ``max_size`` bytes break the connection. No proxy, no compression, no redirect
    (credentials travel in headers, which a redirect could carry to another host).
    """

    def __init__(
        self,
        *,
        endpoint: Callable[[], Awaitable[Endpoint]],
        hello: Callable[[], Iterable[bytes | str]],
        clock: Clock,
        name: str,
        backoff: Backoff | None = None,
        ping_interval: float = 20.0,
        ping_timeout: float = 10.0,
        max_size: int = _MAX_SIZE,
        jitter: Callable[[], float] = random.random,
        on_state: Callable[[SocketState], None] | None = None,
        on_alive: Callable[[], None] | None = None,
        on_trouble: Callable[[Trouble, str], None] | None = None,
        on_refused: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.generation = 0
        """How many connections there have been; frames belong to the newest."""
        self._endpoint = endpoint
        self._hello = hello
        self._clock = clock
        self._name = name
        self._backoff = backoff or Backoff()
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._max_size = max_size
        self._jitter = jitter
        self._on_state = on_state
        self._on_alive = on_alive
        self._on_trouble = on_trouble
        self._on_refused = on_refused
        self._renewing: str | None = None
        self._line: _Line | None = None
        self._state: SocketState = "closed"
        self._repair: asyncio.Task[None] | None = None
        self._loss = _Loss(Trouble.NETWORK, "never connected", clock.now())
        self._resumed: Resumed | None = None
        self._attempt = 0
        self._heard_at = 0.0
        self._opened_at = 0.0
        self._not_before = 0.0

    @property
    def state(self) -> SocketState:
        """What the socket is doing."""
        return self._state

    async def __aenter__(self) -> Self:
        """Connect once; a refusal is tried once more with a fresh endpoint.

        Raises:
            FeedAuthenticationError: The credentials were refused.
            NetworkError: No connection came about.
            ConfigurationError: The endpoint is no address that credentials may go to.
        """
        self._enter("connecting")
        try:
            try:
                await self._connect()
            except HandshakeRefused:
                await self._connect()
        except BaseException:
            self._enter("closed")
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._enter("closed")
        repair, self._repair = self._repair, None
        if repair is not None:
            repair.cancel()
            await asyncio.gather(repair, return_exceptions=True)
        self._resumed = None
        line, self._line = self._line, None
        if line is not None:
            await line.connection.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes | str | Resumed:
        """Return the next frame; see the class.

        Raises:
            FeedAuthenticationError: The credentials are refused by now; the iteration is over.
        """
        if self._resumed is not None:
            resumed, self._resumed = self._resumed, None
            return resumed
        line = self._line
        if line is not None:
            try:
                frame = await line.connection.recv()
            except ConnectionClosed as exc:
                self._lost(exc)
            else:
                self._attempt = 0
                return frame
        await self._repaired()
        return await anext(self)

    async def send(self, frame: bytes | str) -> bool:
        """Send a frame and say whether it went out; never raises for a lost connection.

        Where it did not, the next connection's ``hello`` must say it: change what ``hello``
        reads first, then call this. Frames go out in order, none among those of ``hello``.
        """
        line = self._line
        if line is None:
            return False
        try:
            async with asyncio.timeout(self._ping_timeout), line.sending:
                await line.connection.send(frame)
        except ConnectionClosed:
            return False
        except TimeoutError:
            line.connection.transport.abort()
            return False
        return True

    def renew(self, reason: str) -> None:
        """Give the connection up for a new one, although it lives; the `Resumed` tells ``reason``.

        Does nothing while there is no connection: a new one is on its way.
        """
        if self._line is not None:
            self._renewing = reason
            self._line.connection.transport.abort()

    def hold_off(self, seconds: float) -> None:
        """Connect again no sooner than ``seconds`` from now; for servers that say goodbye in a frame of their own."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def _enter(self, state: SocketState) -> None:
        if state != self._state:
            self._state = state
            if self._on_state is not None:
                self._on_state(state)

    def _heard(self) -> None:
        self._heard_at = self._clock.monotonic()
        if self._on_alive is not None:
            self._on_alive()

    def _lost(self, exc: ConnectionClosed) -> None:
        self._line = self._repair = None
        now = self._clock.monotonic()
        lost_at = self._clock.now() - timedelta(seconds=max(0.0, now - self._heard_at))
        reason, self._renewing = self._renewing or _told(exc), None
        self._loss = _Loss(_trouble_of_closing(exc), reason, lost_at)
        if now - self._opened_at > _STABLE:
            self._attempt = 0
        if self._state == "live":
            self._enter("reconnecting")

    async def _repaired(self) -> None:
        # The repair is a task of its own, so that a reader that gives up waiting (and comes back)
        # does not begin it anew, and so that leaving can end it.
        if self._repair is None:
            if self._state != "reconnecting":
                raise StopAsyncIteration
            self._repair = asyncio.create_task(self._reconnect(), name=f"reconnect {self._name}")
        repair = self._repair
        await asyncio.wait({repair})
        self._repair = None
        if repair.cancelled():
            raise StopAsyncIteration
        repair.result()

    async def _reconnect(self) -> None:
        try:
            await self._attempts()
        except BaseException:
            self._enter("closed")
            raise
        self._resumed = Resumed(lost_at=self._loss.at, back_at=self._clock.now(), reason=self._loss.reason)

    async def _attempts(self) -> None:
        trouble, reason, at_least = self._loss.trouble, self._loss.reason, 0.0
        while True:
            self._attempt += 1
            pause = self._backoff.delay(trouble, attempt=self._attempt, jitter=self._jitter)
            pause = max(pause, at_least, self._not_before - self._clock.monotonic())
            level = logging.INFO if trouble is Trouble.NETWORK else logging.WARNING
            logger.log(level, "reconnecting %s in %.1f s (attempt %d): %s", self._name, pause, self._attempt, reason)
            if self._on_trouble is not None:
                self._on_trouble(trouble, reason)
            await self._clock.sleep(pause)
            try:
                await self._connect()
            except HybridBrokerError as exc:
                failed = _trouble_of(exc)
                if failed is None:
                    raise
                trouble, reason, at_least = failed, str(exc), getattr(exc, "retry_after", None) or 0.0
            else:
                return

    async def _connect(self) -> None:
        endpoint = await self._ask()
        try:
            connection = await self._dial(endpoint)
        except FeedAuthenticationError as exc:
            logger.info("asking for a fresh endpoint: %s", exc)
            if self._on_refused is not None:
                await self._on_refused()
            connection = await self._dial(await self._ask())
        await self._greet(connection)
        self._enter("live")

    async def _ask(self) -> Endpoint:
        try:
            endpoint = await self._endpoint()
        except AuthenticationError as exc:
            raise FeedAuthenticationError(f"{self._name}: {exc}") from exc
        check_url(endpoint.url, schemes=("wss", "ws"))
        check_headers(endpoint.headers)
        return endpoint

    async def _dial(self, endpoint: Endpoint) -> _Connection:
        try:
            connection = await _Connect(
                endpoint.url,
                additional_headers=endpoint.headers,
                user_agent_header=user_agent(),
                ssl=tls_context() if endpoint.url.startswith("wss:") else None,
                proxy=None,
                compression=None,
                open_timeout=_OPEN_TIMEOUT,
                close_timeout=_CLOSE_TIMEOUT,
                ping_interval=self._ping_interval,
                ping_timeout=self._ping_timeout,
                max_size=self._max_size,
                max_queue=_MAX_QUEUE,
                logger=_frames,
                create_connection=_Connection,
            )
        except InvalidURI:
            raise ConfigurationError(f"{self._name}: {endpoint!r} is no address of a WebSocket") from None
        except InvalidStatus as exc:
            raise self._refusal(exc) from exc
        except (OSError, WebSocketException) as exc:
            raise NotSent(f"{self._name}: no connection: {_told(exc)}") from exc
        return cast("_Connection", connection)

    def _refusal(self, exc: InvalidStatus) -> HybridBrokerError:
        status = exc.response.status_code
        message = f"{self._name}: the handshake was answered HTTP {status}"
        match status:
            case 401:
                return FeedAuthenticationError(f"{message}; log in again")
            case 429:
                return RateLimited(message, retry_after=retry_after(exc.response.headers.get("Retry-After")))
            case _:
                return HandshakeRefused(message, status=status)

    async def _greet(self, connection: _Connection) -> None:
        line = _Line(connection)
        connection.heard = self._heard
        self._heard()
        self._opened_at = self._clock.monotonic()
        self.generation += 1
        # From here to the lock nothing is awaited: whoever changes what hello() reads and then
        # calls send() is either in this hello, or queues behind it on this very connection.
        self._line = line
        try:
            frames = list(self._hello())
            async with asyncio.timeout(_OPEN_TIMEOUT), line.sending:
                for frame in frames:
                    await connection.send(frame)
        except BaseException as exc:
            self._line = None
            connection.transport.abort()
            if isinstance(exc, ConnectionClosed | TimeoutError):
                raise NotSent(f"{self._name}: lost while subscribing: {_told(exc)}") from exc
            raise


class _Connection(ClientConnection):
    heard: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.heard is not None:
            self.heard()
        super().data_received(data)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc


@attrs.frozen(eq=False)
class _Line:
    connection: _Connection
    sending: asyncio.Lock = attrs.field(factory=asyncio.Lock)


@attrs.frozen
class _Loss:
    trouble: Trouble
    reason: str
    at: datetime


def _trouble_of(failure: HybridBrokerError) -> Trouble | None:
    """Say how soon to try again after a failed attempt; None: not at all."""
    match failure:
        case RateLimited():
            return Trouble.LIMITED
        case HandshakeRefused(status=status) if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Trouble.REFUSED
        case ServiceUnavailable() | WireFormatError():
            return Trouble.UNAVAILABLE
        case NetworkError():
            return Trouble.NETWORK
        case _:
            return None


def _trouble_of_closing(closed: ConnectionClosed) -> Trouble:
    """Say how soon to try again after a connection ended this way."""
    if closed.sent is not None and not closed.rcvd_then_sent and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
        return Trouble.UNAVAILABLE
    match closed.rcvd.code if closed.rcvd is not None else None:
        case CloseCode.POLICY_VIOLATION:
            return Trouble.REFUSED
        case CloseCode.SERVICE_RESTART | CloseCode.TRY_AGAIN_LATER:
            return Trouble.UNAVAILABLE
        case _:
            return Trouble.NETWORK


def _told(exc: Exception) -> str:
    text = str(exc) or type(exc).__name__
    return f"{text} ({exc.__cause__})" if isinstance(exc, ConnectionClosed) and exc.__cause__ else text


_frames: Final = logging.getLogger(f"{__name__}.frames")
_frames.addFilter(Redact())
