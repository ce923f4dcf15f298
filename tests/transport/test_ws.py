"""ReconnectingSocket: every loss is repaired and shown, refused credentials end it, leaving is prompt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from loopback import closed_port, tcp_server
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from hybridbroker.errors import (
    ConfigurationError,
    FeedAuthenticationError,
    HybridBrokerError,
    NotSent,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    TokenExpired,
    Unsupported,
    WireFormatError,
)
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.ws import (
    Backoff,
    Endpoint,
    HandshakeRefused,
    ReconnectingSocket,
    Resumed,
    Trouble,
    _trouble_of,
    _trouble_of_closing,
)

Handler = Callable[[ServerConnection], Awaitable[None]]


class Feed:
    """A WebSocket server: one handler per connection, the last for all further ones; refusals come first."""

    def __init__(self, *handlers: Handler, refuse: Iterable[int] = ()) -> None:
        self.port = 0
        self.requests: list[Request] = []
        self.received: list[list[str | bytes]] = []
        self.refuse = list(refuse)
        self._handlers = list(handlers)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/feed?requestId=1&code=single-use"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Feed]:
        async with serve(
            self._handle, "127.0.0.1", self.port, process_request=self._judge, close_timeout=0.1, ping_interval=None
        ) as server:
            self.port = _port(server)
            yield self

    def _judge(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if self.refuse:
            return connection.respond(HTTPStatus(self.refuse.pop(0)), "no")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        handler = self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0]
        self.received.append([])
        await handler(connection)

    def listening(self, *frames: str | bytes) -> Handler:
        """Return a handler that sends ``frames``, then takes note of what comes."""

        async def handler(connection: ServerConnection) -> None:
            received = self.received[-1]
            for frame in frames:
                await connection.send(frame)
            async for frame in connection:
                received.append(frame)

        return handler


def _port(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


def sending(*frames: str | bytes) -> Handler:
    """Send ``frames``, then wait until the client has had enough."""

    async def handler(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)
        await connection.wait_closed()

    return handler


def closing(*frames: str | bytes, code: int = 1001) -> Handler:
    """Send ``frames``, then close."""

    async def handler(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)
        await connection.close(code)

    return handler


def cutting(*frames: str | bytes) -> Handler:
    """Send ``frames``, then cut the line without a goodbye."""

    async def handler(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)
        await asyncio.sleep(0.02)
        connection.transport.abort()

    return handler


class Patient(ManualClock):
    """A clock on which nobody ever wakes up."""

    sleepers = 0

    async def sleep(self, seconds: float) -> None:
        self.sleepers += 1
        await asyncio.get_running_loop().create_future()


class Noting(ManualClock):
    """A clock that notes for how long it was asked to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)


def socket(feed: Feed | str, clock: ManualClock | None = None, **options: Any) -> ReconnectingSocket:
    async def endpoint() -> Endpoint:
        return Endpoint(feed if isinstance(feed, str) else feed.url)

    options.setdefault("endpoint", endpoint)
    options.setdefault("hello", lambda: ())
    options.setdefault("jitter", lambda: 1.0)
    return ReconnectingSocket(clock=clock or Noting(), name="feed", **options)


async def take(frames: ReconnectingSocket, count: int) -> list[str | bytes | Resumed]:
    async with asyncio.timeout(5):
        return [await anext(frames) for _ in range(count)]


async def test_frames_come_as_they_were_sent() -> None:
    async with Feed(sending(b"one", "two", b"")).serving() as feed, socket(feed) as frames:
        received = await take(frames, 3)

    assert received == [b"one", "two", b""]


async def test_hello_says_what_is_wanted() -> None:
    feed = Feed()
    feed._handlers = [feed.listening(b"ready")]
    async with feed.serving(), socket(feed, hello=lambda: [b"a", "b"]) as frames:
        await take(frames, 1)
        sent = await frames.send("c")
    await asyncio.sleep(0.05)

    assert sent
    assert feed.received == [[b"a", "b", "c"]]


async def test_the_handshake_asks_for_no_compression_and_names_the_library() -> None:
    async def endpoint() -> Endpoint:
        return Endpoint(feed.url, {"Authorization": "Bearer x"})

    async with Feed(sending()).serving() as feed, socket(feed, endpoint=endpoint):
        pass

    headers = feed.requests[0].headers
    assert headers["User-Agent"].startswith("hybridbroker/")
    assert headers["Authorization"] == "Bearer x"
    assert "Sec-WebSocket-Extensions" not in headers


@pytest.mark.parametrize("loss", [closing(b"1"), closing(b"1", code=1011), cutting(b"1")])
async def test_a_lost_connection_shows_between_the_frames(loss: Handler) -> None:
    clock = Noting()
    async with Feed(loss, sending(b"2")).serving() as feed, socket(feed, clock) as frames:
        first, resumed, second = await take(frames, 3)

    assert (first, second) == (b"1", b"2")
    assert isinstance(resumed, Resumed)
    assert (resumed.back_at - resumed.lost_at).total_seconds() == 0.5
    assert clock.slept == [0.5]
    assert frames.generation == 2


async def test_everything_wanted_is_said_again_after_a_loss() -> None:
    wanted = ["RELIANCE"]
    feed = Feed()
    feed._handlers = [cutting(b"1"), feed.listening(b"2")]
    async with feed.serving(), socket(feed, hello=lambda: list(wanted)) as frames:
        await take(frames, 1)
        wanted.append("TCS")
        await take(frames, 2)
    await asyncio.sleep(0.05)

    assert feed.received[1] == ["RELIANCE", "TCS"]


async def test_the_endpoint_is_asked_for_every_attempt() -> None:
    asked = 0

    async def endpoint() -> Endpoint:
        nonlocal asked
        asked += 1
        return Endpoint(f"{feed.url}{asked}")

    async with Feed(cutting(b"1")).serving() as feed, socket(feed, endpoint=endpoint) as frames:
        await take(frames, 5)

    assert [request.path[-1] for request in feed.requests] == ["1", "2", "3"]


async def test_attempts_restart_at_the_first_frame_and_not_at_the_handshake() -> None:
    clock = Noting()
    feed = Feed(cutting(), cutting(), cutting(), cutting(b"1"), sending(b"2"))
    async with feed.serving(), socket(feed, clock) as frames:
        received = await take(frames, 6)

    assert [each for each in received if not isinstance(each, Resumed)] == [b"1", b"2"]
    assert clock.slept == [0.5, 1.0, 2.0, 0.5]


async def test_a_silent_connection_that_lasted_counts_as_a_good_one() -> None:
    clock = Noting()
    async with Feed(cutting(), cutting(), sending(b"1")).serving() as feed, socket(feed, clock) as frames:
        await take(frames, 1)
        clock.advance(61)
        await take(frames, 2)

    assert clock.slept == [0.5, 0.5]


async def test_a_server_that_comes_back_later_is_found() -> None:
    class Reviving(Noting):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if len(self.slept) == 4:
                await stack.enter_async_context(feed.serving())

    clock = Reviving()
    feed = Feed(cutting(b"1"), sending(b"2"))
    async with AsyncExitStack() as stack:
        async with feed.serving():
            frames = await stack.enter_async_context(socket(feed, clock))
            await take(frames, 1)
        resumed, frame = await take(frames, 2)

    assert isinstance(resumed, Resumed)
    assert frame == b"2"
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]


async def test_the_gap_begins_when_the_connection_was_last_heard_of() -> None:
    clock = Noting()
    async with Feed(cutting(b"1"), sending()).serving() as feed, socket(feed, clock) as frames:
        await take(frames, 1)
        heard = clock.now()
        clock.advance(20)
        (resumed,) = await take(frames, 1)

    assert isinstance(resumed, Resumed)
    assert resumed.lost_at == heard


async def test_refused_credentials_raise_on_entry_after_one_fresh_endpoint() -> None:
    feed = Feed(sending(), refuse=[401] * 5)
    async with feed.serving():
        with pytest.raises(FeedAuthenticationError, match="401"):
            await socket(feed).__aenter__()

    assert len(feed.requests) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_an_address_that_was_used_before_is_replaced(status: int) -> None:
    async with Feed(sending(b"1"), refuse=[status]).serving() as feed, socket(feed) as frames:
        received = await take(frames, 1)

    assert received == [b"1"]
    assert len(feed.requests) == 2


@pytest.mark.parametrize(
    ("refuse", "expected"),
    [
        pytest.param([403, 403], HandshakeRefused, id="forbidden"),
        pytest.param([503, 503], HandshakeRefused, id="unavailable"),
        pytest.param([302, 302], HandshakeRefused, id="redirect"),
        pytest.param([429], RateLimited, id="too many"),
    ],
)
async def test_a_refusal_on_entry_is_raised(refuse: list[int], expected: type[Exception]) -> None:
    async with Feed(sending(), refuse=refuse).serving() as feed:
        with pytest.raises(expected, match=str(refuse[0])):
            await socket(feed).__aenter__()


async def test_a_closed_port_on_entry_is_raised() -> None:
    states: list[str] = []

    with pytest.raises(NotSent, match="feed: no connection"):
        await socket(f"ws://127.0.0.1:{closed_port()}/", on_state=states.append).__aenter__()

    assert states == ["connecting", "closed"]


async def test_a_server_that_does_not_speak_websocket_is_raised() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    async with tcp_server(rude) as port:
        with pytest.raises(NotSent, match="no connection"):
            await socket(f"ws://127.0.0.1:{port}/").__aenter__()


@pytest.mark.parametrize(
    ("refuse", "slept"),
    [
        pytest.param([403, 403], [0.5, 30.0, 60.0], id="forbidden"),
        pytest.param([429, 429], [0.5, 120.0, 240.0], id="too many"),
        pytest.param([500, 503], [0.5, 4.0, 8.0], id="unavailable"),
        pytest.param([401], [0.5], id="used address"),
    ],
)
async def test_refusals_after_a_loss_slow_down_and_go_on(
    refuse: list[int], slept: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Noting()
    async with Feed(cutting(b"1"), sending(b"2")).serving() as feed, socket(feed, clock) as frames:
        await take(frames, 1)
        feed.refuse = refuse
        with caplog.at_level(logging.WARNING, "hybridbroker"):
            resumed, second = await take(frames, 2)

    assert isinstance(resumed, Resumed)
    assert second == b"2"
    assert clock.slept == slept
    assert len(caplog.records) == len(slept) - 1


async def test_credentials_refused_after_a_loss_end_the_iteration() -> None:
    states: list[str] = []
    async with Feed(cutting(b"1")).serving() as feed, socket(feed, on_state=states.append) as frames:
        await take(frames, 1)
        feed.refuse = [401] * 9
        with pytest.raises(FeedAuthenticationError):
            await anext(frames)
        rest = [frame async for frame in frames]

    assert rest == []
    assert len(feed.requests) == 3
    assert states == ["connecting", "live", "reconnecting", "closed"]


async def test_a_dead_token_ends_the_iteration_at_once() -> None:
    asked = 0

    async def endpoint() -> Endpoint:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise TokenExpired("log in again")
        return Endpoint(feed.url)

    async with Feed(cutting(b"1")).serving() as feed, socket(feed, endpoint=endpoint) as frames:
        await take(frames, 1)
        with pytest.raises(FeedAuthenticationError, match="log in again") as caught:
            await anext(frames)

    assert isinstance(caught.value.__cause__, TokenExpired)
    assert asked == 2


async def test_an_endpoint_that_fails_for_a_while_is_asked_again() -> None:
    failures: list[HybridBrokerError] = [ReplyLost("x"), WireFormatError("x"), RateLimited("x", retry_after=500)]

    async def endpoint() -> Endpoint:
        if frames.generation == 1 and failures:
            raise failures.pop(0)
        return Endpoint(feed.url)

    clock = Noting()
    async with Feed(cutting(b"1"), sending(b"2")).serving() as feed:
        frames = socket(feed, clock, endpoint=endpoint)
        async with frames:
            await take(frames, 3)

    assert clock.slept == [0.5, 1.0, 8.0, 500]


async def test_what_the_endpoint_cannot_do_is_raised() -> None:
    async def endpoint() -> Endpoint:
        raise Unsupported("no feed here")

    with pytest.raises(Unsupported):
        await socket("", endpoint=endpoint).__aenter__()


async def test_credentials_do_not_go_unencrypted_to_another_machine() -> None:
    with pytest.raises(ConfigurationError, match="wss://"):
        await socket("ws://feed.example.com/?token=secret").__aenter__()


async def test_a_redirect_is_not_followed() -> None:
    async with Feed(sending()).serving() as elsewhere:

        async def moved(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            location = elsewhere.url.encode()
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")

        async with tcp_server(moved) as port:
            with pytest.raises(HandshakeRefused) as caught:
                await socket(f"ws://127.0.0.1:{port}/").__aenter__()

    assert caught.value.status == 302
    assert elsewhere.requests == []


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Shake hands, then never say or hear anything again: a half-open line."""
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        protocol.receive_data(await reader.read(4096))
    request = events[0]
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    writer.write(b"".join(protocol.data_to_send()))
    assert isinstance(writer.transport, asyncio.ReadTransport)
    writer.transport.pause_reading()
    await asyncio.get_running_loop().create_future()


async def test_a_half_open_connection_is_given_up() -> None:
    async with Feed(sending(b"1")).serving() as feed, tcp_server(mute) as port:
        addresses = [f"ws://127.0.0.1:{port}/", feed.url]

        async def endpoint() -> Endpoint:
            return Endpoint(addresses.pop(0))

        async with socket(feed, endpoint=endpoint, ping_interval=0.05, ping_timeout=0.05) as frames:
            resumed, frame = await take(frames, 2)

    assert isinstance(resumed, Resumed)
    assert "ping timeout" in resumed.reason
    assert frame == b"1"


async def test_leaving_does_not_wait_long_for_a_peer_that_is_gone() -> None:
    async with tcp_server(mute) as port, asyncio.timeout(5), socket(f"ws://127.0.0.1:{port}/") as frames:
        pass

    assert frames.state == "closed"


async def test_a_send_that_cannot_get_out_gives_the_connection_up() -> None:
    async with tcp_server(mute) as port, socket(f"ws://127.0.0.1:{port}/", ping_timeout=0.1) as frames:
        sent = [await frames.send(b"x" * 4_000_000) for _ in range(4)]

    assert sent[-1] is False


async def test_a_frame_above_the_bound_breaks_the_connection() -> None:
    async with Feed(sending(b"x" * 101), sending(b"2")).serving() as feed, socket(feed, max_size=100) as frames:
        resumed, frame = await take(frames, 2)

    assert isinstance(resumed, Resumed)
    assert "1009" in resumed.reason
    assert frame == b"2"


async def test_text_that_is_no_text_breaks_the_connection() -> None:
    async def broken(connection: ServerConnection) -> None:
        await connection.send(b"\xff", text=True)
        await connection.wait_closed()

    async with Feed(broken, sending(b"2")).serving() as feed, socket(feed) as frames:
        resumed, frame = await take(frames, 2)

    assert isinstance(resumed, Resumed)
    assert frame == b"2"


async def test_leaving_ends_an_iteration_that_waits_for_a_frame() -> None:
    async with Feed(sending(b"1")).serving() as feed:
        async with socket(feed) as frames:
            reader = asyncio.create_task(_collect(frames))
            await asyncio.sleep(0.05)

        received = await asyncio.wait_for(reader, 1)

    assert received == [b"1"]


async def test_leaving_ends_an_iteration_that_waits_to_reconnect() -> None:
    async with Feed(cutting(b"1")).serving() as feed:
        async with socket(feed, Patient()) as frames:
            reader = asyncio.create_task(_collect(frames))
            await asyncio.sleep(0.1)
            assert frames.state == "reconnecting"

        received = await asyncio.wait_for(reader, 1)

    assert received == [b"1"]


async def _collect(frames: ReconnectingSocket) -> list[str | bytes | Resumed]:
    return [frame async for frame in frames]


async def test_leaving_closes_the_connection() -> None:
    closed: list[int | None] = []

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closed.append(connection.close_code)

    async with Feed(handler).serving() as feed:
        async with socket(feed) as frames:
            pass
        await asyncio.sleep(0.05)

    assert closed == [1000]
    assert frames.state == "closed"


async def test_a_reader_that_is_cancelled_misses_nothing() -> None:
    async with Feed(cutting(b"1"), sending(b"2")).serving() as feed, socket(feed) as frames:
        await take(frames, 1)
        received: list[object] = []
        for _ in range(200):
            try:
                received.append(await asyncio.wait_for(anext(frames), 0.001))
            except TimeoutError:
                continue
            if len(received) == 2:
                break

    assert [type(each) for each in received] == [Resumed, bytes]


async def test_a_reader_that_gives_up_waiting_does_not_begin_the_repair_anew() -> None:
    clock = Patient()
    async with Feed(cutting(b"1")).serving() as feed:
        async with socket(feed, clock) as frames:
            await take(frames, 1)
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(frames), 0.05)
        others = asyncio.all_tasks() - {asyncio.current_task()}

    assert clock.sleepers == 1
    assert not any("reconnect" in task.get_name() for task in others)


async def test_refused_credentials_are_told_to_a_reader_that_comes_back() -> None:
    async with Feed(cutting(b"1")).serving() as feed, socket(feed, ping_interval=5) as frames:
        await take(frames, 1)
        feed.refuse = [401] * 9
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(frames), 0)
        await asyncio.sleep(0.2)
        with pytest.raises(FeedAuthenticationError):
            await take(frames, 1)


async def test_sending_while_disconnected_says_so() -> None:
    async with Feed(cutting(b"1")).serving() as feed, socket(feed, Patient()) as frames:
        await take(frames, 1)
        reader = asyncio.create_task(_collect(frames))
        await asyncio.sleep(0.1)
        sent = await frames.send(b"x")
    await reader

    assert sent is False
    assert await frames.send(b"x") is False


async def test_what_is_sent_during_hello_goes_out_after_it() -> None:
    feed = Feed()
    feed._handlers = [feed.listening(b"1")]
    sends: list[asyncio.Task[bool]] = []

    def hello() -> list[str]:
        sends.append(asyncio.create_task(frames.send("later")))
        return hello_frames(30)

    async with feed.serving():
        frames = socket(feed, hello=hello)
        async with frames:
            await take(frames, 1)
            sent = await sends[0]
        await asyncio.sleep(0.05)

    assert sent
    assert feed.received[0] == [*hello_frames(30), "later"]


def hello_frames(count: int) -> list[str]:
    return [f"hello {number} {'x' * 300_000}" for number in range(count)]


async def test_a_hello_that_fails_closes_the_connection() -> None:
    def hello() -> list[str]:
        raise Unsupported("too many instruments")

    async with Feed(sending()).serving() as feed:
        frames = socket(feed, hello=hello)
        with pytest.raises(Unsupported):
            await frames.__aenter__()

    assert frames.state == "closed"


async def test_pings_of_the_server_are_signs_of_life() -> None:
    alive = 0

    def on_alive() -> None:
        nonlocal alive
        alive += 1

    async def pinging(connection: ServerConnection) -> None:
        for _ in range(3):
            await (await connection.ping())
        await connection.send(b"1")
        await connection.wait_closed()

    async with Feed(pinging).serving() as feed, socket(feed, on_alive=on_alive) as frames:
        await take(frames, 1)

    assert alive >= 4


async def test_no_secret_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def endpoint() -> Endpoint:
        return Endpoint(feed.url, {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.secret"})

    hello = '{"LoginReq":{"MsgCode":42,"ClientId":"1000000001","Token":"eyJhbGciOiJIUzI1NiJ9.secret"}}'
    with caplog.at_level(logging.DEBUG):
        async with (
            Feed(sending(b"1")).serving() as feed,
            socket(feed, endpoint=endpoint, hello=lambda: [hello]) as frames,
        ):
            await take(frames, 1)

    ours = [record.getMessage() for record in caplog.records if record.name.startswith("hybridbroker")]
    assert any("LoginReq" in message for message in ours)
    assert not any("eyJ" in message or "single-use" in message for message in ours)


def test_an_endpoint_shows_neither_query_nor_headers() -> None:
    endpoint = Endpoint("wss://x.example/feed?token=secret", {"Authorization": "Bearer secret"})

    assert repr(endpoint) == "Endpoint(url='wss://x.example/feed', headers=['Authorization'])"


@pytest.mark.parametrize(
    ("trouble", "attempt", "jitter", "expected"),
    [
        pytest.param(Trouble.NETWORK, 1, 0.5, 0.25, id="first"),
        pytest.param(Trouble.NETWORK, 4, 1.0, 4.0, id="doubles"),
        pytest.param(Trouble.NETWORK, 10_000, 1.0, 30.0, id="is capped"),
        pytest.param(Trouble.NETWORK, 10_000, 0.0, 0.0, id="full jitter"),
        pytest.param(Trouble.UNAVAILABLE, 10_000, 1.0, 60.0, id="unavailable is capped at a minute"),
        pytest.param(Trouble.REFUSED, 1, 0.0, 7.5, id="a refusal waits at least half"),
        pytest.param(Trouble.LIMITED, 1, 1.0, 60.0, id="a limit begins at a minute"),
        pytest.param(Trouble.LIMITED, 10_000, 1.0, 300.0, id="a limit is capped at five"),
    ],
)
def test_backoff(trouble: Trouble, attempt: int, jitter: float, expected: float) -> None:
    assert Backoff().delay(trouble, attempt=attempt, jitter=lambda: jitter) == expected


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (NotSent("x"), Trouble.NETWORK),
        (ReplyLost("x"), Trouble.NETWORK),
        (RateLimited("x"), Trouble.LIMITED),
        (ServiceUnavailable("x"), Trouble.UNAVAILABLE),
        (WireFormatError("x"), Trouble.UNAVAILABLE),
        (HandshakeRefused("x", status=403), Trouble.REFUSED),
        (HandshakeRefused("x", status=502), Trouble.UNAVAILABLE),
        (FeedAuthenticationError("x"), None),
        (ConfigurationError("x"), None),
    ],
)
def test_trouble_of_a_failed_attempt(failure: HybridBrokerError, expected: Trouble | None) -> None:
    assert _trouble_of(failure) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, Trouble.NETWORK),
        (1001, Trouble.NETWORK),
        (1006, Trouble.NETWORK),
        (1008, Trouble.REFUSED),
        (1011, Trouble.NETWORK),
        (1012, Trouble.UNAVAILABLE),
        (1013, Trouble.UNAVAILABLE),
        (4000, Trouble.NETWORK),
    ],
)
def test_trouble_of_a_close_code(code: int, expected: Trouble) -> None:
    closed = ConnectionClosedError(Close(code, ""), Close(code, ""), True)

    assert _trouble_of_closing(closed) is expected


def test_a_frame_that_was_too_big_is_not_asked_for_again_at_once() -> None:
    closed = ConnectionClosedError(None, Close(1009, "frame exceeds limit"))

    assert _trouble_of_closing(closed) is Trouble.UNAVAILABLE


async def test_hold_off_keeps_the_next_connection_away() -> None:
    clock = Noting()
    async with Feed(closing(b"goodbye"), sending(b"2")).serving() as feed, socket(feed, clock) as frames:
        await take(frames, 1)
        frames.hold_off(60)
        await take(frames, 2)

    assert clock.slept == [60]


async def test_a_connection_that_lives_can_be_given_up_for_a_new_one() -> None:
    async with Feed(sending(b"1"), sending(b"2")).serving() as feed, socket(feed, Noting()) as frames:
        await take(frames, 1)
        frames.renew("it says nothing")
        resumed, second = await take(frames, 2)

        assert isinstance(resumed, Resumed)
        assert resumed.reason == "it says nothing"
        assert second == b"2"
        assert frames.generation == 2


async def test_every_trouble_is_told_with_its_kind() -> None:
    told: list[tuple[Trouble, str]] = []
    async with (
        Feed(cutting(b"1"), sending(b"2")).serving() as feed,
        socket(feed, Noting(), on_trouble=lambda *each: told.append(each)) as frames,
    ):
        await take(frames, 1)
        feed.refuse = [403, 429, 503]
        await take(frames, 2)

    assert [trouble for trouble, _ in told] == [
        Trouble.NETWORK,
        Trouble.REFUSED,
        Trouble.LIMITED,
        Trouble.UNAVAILABLE,
    ]
    assert "HTTP 403" in told[1][1]


async def test_other_credentials_are_sought_once_after_a_401() -> None:
    sought: list[int] = []

    async def seek() -> None:
        sought.append(1)

    async with (
        Feed(cutting(b"1"), sending(b"2")).serving() as feed,
        socket(feed, Noting(), on_refused=seek) as frames,
    ):
        await take(frames, 1)
        feed.refuse = [401]
        await take(frames, 2)
        feed.refuse = [401, 401]
        frames.renew("again")

        with pytest.raises(FeedAuthenticationError):
            await take(frames, 2)

    assert sought == [1, 1]
