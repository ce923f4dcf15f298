"""HttpClient: reads are repeated, writes are sent at most once, nothing foreign gets out."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
import respx
from loopback import Answer, Cut, Fault, RawServer, Seen, closed_port, reply, tcp_server

from hybridbroker.errors import (
    ConfigurationError,
    NetworkError,
    NotSent,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
)
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.http import HttpClient, KeepWarm, RetryPolicy, Timeouts
from hybridbroker.transport.limits import RateLimiter, Window

PAGE = b"<!DOCTYPE html><html><head><title>Just a moment &amp; wait</title></head></html>"
TOKEN = "eyJ0b2tlbg.secret"


def client(server: RawServer | str, clock: ManualClock | None = None, **options: Any) -> HttpClient:
    url = server if isinstance(server, str) else server.url
    options.setdefault("headers", {"access-token": TOKEN})
    options.setdefault("jitter", lambda: 1.0)
    return HttpClient(base_url=url, clock=clock or ManualClock(), **options)


def in_turn(*answers: Answer) -> Callable[[Seen], Answer]:
    rest = iter(answers)
    return lambda _: next(rest)


async def test_get_returns_what_came() -> None:
    async with (
        RawServer(in_turn(reply(404, b'{"a": 1}', X_Thing="x"))) as server,
        client(server) as http,
    ):
        response = await http.get("/orders", params={"keys": "NSE_EQ|A,NSE_EQ|B", "n": 2})

    assert (response.status, response.json(), response.headers["x-thing"]) == (404, {"a": 1}, "x")
    assert server.seen[0].target == "/orders?keys=NSE_EQ%7CA,NSE_EQ%7CB&n=2"
    assert response.request == "GET /orders"


async def test_every_request_says_who_asks() -> None:
    async with RawServer() as server, client(server) as http:
        await http.get("/a")

    headers = server.seen[0].headers
    assert headers["access-token"] == TOKEN
    assert headers["user-agent"].startswith("hybridbroker/")
    assert headers["host"] == f"127.0.0.1:{server.port}"


async def test_own_headers_replace_the_common_ones() -> None:
    async with RawServer() as server, client(server) as http:
        await http.get("/a", headers={"accept": "text/csv", "Access-Token": "other"})

    assert server.seen[0].headers["accept"] == "text/csv"
    assert server.seen[0].headers["access-token"] == "other"


async def test_a_fresh_token_counts_at_once() -> None:
    token = {"access-token": "old"}
    async with RawServer() as server, client(server, headers=lambda: token) as http:
        await http.get("/a")
        token["access-token"] = "new"
        await http.get("/a")

    assert [each.headers["access-token"] for each in server.seen] == ["old", "new"]


@pytest.mark.parametrize(
    ("arguments", "content_type", "body"),
    [
        pytest.param({"json": {"price": 1.5}}, "application/json", b'{"price":1.5}', id="json"),
        pytest.param({"json": b'{"a": 1}'}, "application/json", b'{"a": 1}', id="json already written"),
        pytest.param({"form": {"code": "a b"}}, "application/x-www-form-urlencoded", b"code=a+b", id="form"),
        pytest.param({}, None, b"", id="nothing"),
    ],
)
async def test_post_writes_the_body(arguments: Mapping[str, Any], content_type: str | None, body: bytes) -> None:
    async with RawServer() as server, client(server) as http:
        await http.post("/orders", **arguments)

    assert server.seen[0].body == body
    assert server.seen[0].headers.get("content-type") == content_type
    assert server.seen[0].headers["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Fault.HANG_UP, ReplyLost, id="hung up"),
        pytest.param(Fault.RESET, ReplyLost, id="reset"),
        pytest.param(Cut(b"HTTP/1.1 200 OK\r\nContent-Le"), ReplyLost, id="half the headers"),
        pytest.param(Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), ReplyLost, id="half the body"),
        pytest.param(b"\x00\x01garbage\r\n\r\n", ReplyLost, id="not HTTP"),
        pytest.param(reply(200, b"no gzip", Content_Encoding="gzip"), ReplyLost, id="broken gzip"),
        pytest.param(reply(500), ServiceUnavailable, id="server error"),
        pytest.param(reply(502, PAGE), ServiceUnavailable, id="bad gateway"),
        pytest.param(reply(403, PAGE), ServiceUnavailable, id="page with 403"),
        pytest.param(reply(200, PAGE), ServiceUnavailable, id="page with 200"),
        pytest.param(reply(429), RateLimited, id="too many"),
    ],
)
@pytest.mark.parametrize("method", ["post", "put", "delete"])
async def test_a_write_is_sent_once_whatever_comes_back(method: str, answer: Answer, expected: type[Exception]) -> None:
    async with RawServer(lambda _: answer) as server, client(server) as http:
        with pytest.raises(NetworkError) as caught:
            await getattr(http, method)("/orders", json={"quantity": 1})

    assert caught.type is expected
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 401, 404])
async def test_every_other_status_is_for_the_caller_to_judge(status: int) -> None:
    body = b"" if status == 204 else b"{}"
    async with RawServer(in_turn(reply(status, body))) as server, client(server) as http:
        response = await http.post("/orders", json={})

    assert response.status == status


async def test_server_errors_carry_the_answer() -> None:
    async with RawServer(in_turn(reply(503, b'{"errorCode": "DH-908"}'))) as server, client(server) as http:
        with pytest.raises(ServiceUnavailable, match="POST /orders: HTTP 503") as caught:
            await http.post("/orders", json={})

    assert caught.value.response.json() == {"errorCode": "DH-908"}


async def test_a_page_is_told_by_its_title() -> None:
    async with RawServer(in_turn(reply(403, PAGE))) as server, client(server, retry=RetryPolicy(attempts=1)) as http:
        with pytest.raises(ServiceUnavailable, match="GET /a: HTTP 403: Just a moment & wait"):
            await http.get("/a")


async def test_a_redirect_is_not_followed() -> None:
    async with RawServer() as elsewhere:
        moved = reply(302, PAGE, Location=f"{elsewhere.url}/stolen")
        async with RawServer(in_turn(moved)) as server, client(server) as http:
            response = await http.get("/instruments")

    assert response.status == 302
    assert response.headers["location"].endswith("/stolen")
    assert elsewhere.connections == 0


async def test_a_write_to_a_closed_port_was_not_sent() -> None:
    async with client(f"http://127.0.0.1:{closed_port()}") as http:
        with pytest.raises(NotSent, match="POST /orders: ConnectError"):
            await http.post("/orders", json={})


async def test_a_failed_tls_handshake_was_not_sent() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply(400))

    async with tcp_server(plain) as port, client(f"https://127.0.0.1:{port}") as http:
        with pytest.raises(NotSent, match="ConnectError"):
            await http.post("/orders", json={})


async def test_a_request_outside_the_context_was_not_sent() -> None:
    async with RawServer() as server:
        http = client(server)

        with pytest.raises(NotSent, match="async with"):
            await http.post("/orders", json={})


@pytest.mark.parametrize("fault", [Fault.HANG_UP, Fault.RESET, reply(500), reply(429), reply(403, PAGE)])
async def test_a_read_is_repeated(fault: Answer) -> None:
    async with RawServer(in_turn(fault, fault, reply(200, b"[1]"))) as server, client(server) as http:
        response = await http.get("/orders")

    assert response.json() == [1]
    assert len(server.seen) == 3


async def test_a_post_that_only_reads_is_repeated() -> None:
    async with RawServer(in_turn(Fault.HANG_UP, reply())) as server, client(server) as http:
        await http.query("/quotes", json=[1])

    assert [each.body for each in server.seen] == [b"[1]", b"[1]"]


async def test_repeated_reads_back_off() -> None:
    clock = ManualClock()
    async with RawServer(lambda _: Fault.HANG_UP) as server, client(server, clock) as http:
        with pytest.raises(ReplyLost):
            await http.get("/orders")

    assert len(server.seen) == 4
    assert clock.monotonic() == 0.25 + 0.5 + 1.0


async def test_a_read_waits_as_long_as_the_server_asks() -> None:
    clock = ManualClock()
    async with RawServer(in_turn(reply(429, Retry_After="3"), reply())) as server, client(server, clock) as http:
        await http.get("/quote")

    assert clock.monotonic() == 3


async def test_a_429_pauses_the_whole_family() -> None:
    clock = ManualClock()
    limiter = RateLimiter({"order": [], "read": []}, clock=clock)
    answers = in_turn(reply(429, Retry_After="3"), reply(), reply())
    async with RawServer(answers) as server, client(server, clock, limiter=limiter) as http:
        with pytest.raises(RateLimited) as caught:
            await http.post("/orders", json={})
        await http.get("/other")
        before = clock.monotonic()
        await http.delete("/orders/1")

    assert caught.value.retry_after == 3
    assert (before, clock.monotonic()) == (0, 3)


async def test_a_write_whose_turn_is_too_far_off_was_not_sent() -> None:
    clock = ManualClock()
    limiter = RateLimiter({"order": [Window(1, 60)]}, clock=clock)
    async with RawServer() as server, client(server, clock, limiter=limiter) as http:
        await http.post("/orders", json={})
        with pytest.raises(NotSent, match="no place within 60"):
            await http.post("/orders", json={})

    assert len(server.seen) == 1
    assert clock.monotonic() == 0


async def test_connections_are_reused() -> None:
    async with RawServer() as server, client(server) as http:
        for _ in range(5):
            await http.get("/a")
            await http.post("/b", json={})

    assert server.connections == 1


async def test_a_write_after_the_server_closed_the_idle_connection_arrives_once() -> None:
    async with RawServer(idle=0.05) as server, client(server) as http:
        await http.get("/a")
        await asyncio.sleep(0.2)
        response = await http.post("/orders", json={})

    assert response.status == 200
    assert server.methods() == ["GET", "POST"]
    assert server.connections == 2


async def test_a_write_on_a_connection_that_closes_meanwhile_is_not_repeated() -> None:
    async with RawServer(in_turn(reply(), Fault.HANG_UP, reply())) as server, client(server) as http:
        await http.get("/a")
        with pytest.raises(ReplyLost):
            await http.post("/orders", json={})

    assert server.methods() == ["GET", "POST"]
    assert server.connections == 1


async def test_no_write_ever_arrives_twice_while_connections_close_at_random() -> None:
    chance = random.Random(7)
    arrived: Counter[bytes] = Counter()

    async def moody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chance.random() < 0.7:
            head = await reader.readuntil(b"\r\n\r\n")
            arrived[head.split(b" ")[1]] += 1
            await asyncio.sleep(chance.random() * 0.002)
            if chance.random() < 0.8:
                writer.write(reply())
        await asyncio.sleep(chance.random() * 0.002)

    outcomes: dict[bytes, str] = {}
    async with tcp_server(moody) as port, client(f"http://127.0.0.1:{port}") as http:
        http._extensions["timeout"]["read"] = 0.02
        for number in range(150):
            path = f"/orders/{number}"
            try:
                await http.delete(path)
                outcomes[path.encode()] = "done"
            except NetworkError as exc:
                outcomes[path.encode()] = type(exc).__name__

    assert max(arrived.values()) == 1
    assert set(outcomes.values()) == {"done", "ReplyLost"}
    assert all(arrived[path] == 1 for path, outcome in outcomes.items() if outcome == "done")


async def test_a_reply_that_drips_for_ever_is_lost() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.01)

    async with tcp_server(drip) as port, client(f"http://127.0.0.1:{port}", timeouts=Timeouts(total=0.1)) as http:
        with pytest.raises(ReplyLost, match="POST /orders: TimeoutError"):
            await http.post("/orders")


async def test_silence_is_a_lost_reply() -> None:
    async with RawServer(lambda _: Fault.SILENCE) as server, client(server, timeouts=Timeouts(read=0.05)) as http:
        with pytest.raises(ReplyLost, match="ReadTimeout"):
            await http.post("/orders", json={})


async def test_a_full_pool_was_not_sent() -> None:
    async with (
        RawServer(lambda _: Fault.SILENCE) as server,
        client(server, timeouts=Timeouts(pool=0.05, read=0.5)) as http,
    ):
        busy = [asyncio.create_task(http.post("/slow", json={})) for _ in range(20)]
        await asyncio.sleep(0.1)
        with pytest.raises(NotSent, match="PoolTimeout"):
            await http.post("/orders", json={})
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def test_a_cancelled_write_leaves_the_client_usable() -> None:
    async with RawServer(in_turn(Fault.SILENCE, reply())) as server, client(server) as http:
        order = asyncio.create_task(http.post("/orders", json={}))
        await asyncio.sleep(0.05)
        order.cancel()
        with pytest.raises(asyncio.CancelledError):
            await order
        response = await http.get("/orders")

    assert response.status == 200
    assert server.methods() == ["POST", "GET"]


async def test_cancellations_at_bad_moments_leave_no_request_without_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hybridbroker.transport.http._CONNECTIONS", 2)
    chance = random.Random(7)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(chance.random() * 0.003)
            writer.write(reply())

    async with tcp_server(slow) as port, client(f"http://127.0.0.1:{port}", timeouts=Timeouts(pool=1.0)) as http:
        for _ in range(400):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(http.post("/orders"), chance.random() * 0.008)
        response = await http.post("/orders")

    assert response.status == 200


async def test_a_cancelled_request_does_not_disturb_the_others() -> None:
    def answer(seen: Seen) -> Answer:
        return Fault.SILENCE if seen.target == "/stuck" else reply()

    async with RawServer(answer) as server, client(server) as http:
        stuck = [asyncio.create_task(http.post("/stuck")) for _ in range(2)]
        await asyncio.sleep(0.05)
        stuck[0].cancel()
        await asyncio.sleep(0.05)
        response = await http.post("/orders")
        assert not stuck[1].done()
        stuck[1].cancel()
        await asyncio.gather(*stuck, return_exceptions=True)

    assert response.status == 200


async def test_progress_of_a_download_is_told() -> None:
    told: list[tuple[int, int | None]] = []
    body = gzip.compress(random.Random(7).randbytes(300_000))
    async with RawServer(in_turn(reply(200, body))) as server, client(server) as http:
        response = await http.get("/master.gz", progress=lambda came, total: told.append((came, total)))

    assert response.body == body
    assert told[-1] == (len(body), len(body))
    assert len(told) > 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(gzip.compress(b'{"a":1}'), {"Content_Encoding": "gzip"}, id="gzip"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', {}, id="byte order mark"),
    ],
)
async def test_encoded_replies_are_read(body: bytes, headers: Mapping[str, str]) -> None:
    async with RawServer(in_turn(reply(200, body, **headers))) as server, client(server) as http:
        response = await http.get("/a")

    assert response.json() == {"a": 1}


async def test_chunked_replies_are_read() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    async with RawServer(in_turn(chunked, reply())) as server, client(server) as http:
        response = await http.get("/a")
        await http.get("/a")

    assert response.json() == {}
    assert server.connections == 1


class Raising(httpx.AsyncBaseTransport):
    """A network that fails in one chosen way."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.calls = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        pytest.param(httpx.ConnectError("x"), NotSent, id="refused"),
        pytest.param(httpx.ConnectTimeout("x"), NotSent, id="connect timeout"),
        pytest.param(httpx.PoolTimeout("x"), NotSent, id="pool timeout"),
        pytest.param(httpx.UnsupportedProtocol("x"), NotSent, id="scheme"),
        pytest.param(httpx.WriteError("x"), ReplyLost, id="write error"),
        pytest.param(httpx.WriteTimeout("x"), ReplyLost, id="write timeout"),
        pytest.param(httpx.ReadError("x"), ReplyLost, id="read error"),
        pytest.param(httpx.ReadTimeout("x"), ReplyLost, id="read timeout"),
        pytest.param(httpx.CloseError("x"), ReplyLost, id="close error"),
        pytest.param(httpx.RemoteProtocolError("x"), ReplyLost, id="protocol error"),
        pytest.param(httpx.ProxyError("x"), ReplyLost, id="proxy error"),
        pytest.param(httpx.DecodingError("x"), ReplyLost, id="decoding error"),
        pytest.param(ssl.SSLError(1, "bad record"), ReplyLost, id="TLS broke"),
        pytest.param(ConnectionResetError(104, "reset"), ReplyLost, id="reset"),
        pytest.param(TimeoutError(), ReplyLost, id="timeout"),
    ],
)
async def test_every_foreign_failure_is_translated_and_a_write_tried_once(
    failure: Exception, expected: type[Exception]
) -> None:
    network = Raising(failure)
    async with client("https://api.example.com", transport=network) as http:
        with pytest.raises(NetworkError) as caught:
            await http.post("/orders", json={})

    assert caught.type is expected
    assert caught.value.__cause__ is failure
    assert network.calls == 1


async def test_failures_name_method_and_path_but_no_query() -> None:
    async with client("https://api.example.com", transport=Raising(httpx.ReadError("gone"))) as http:
        with pytest.raises(ReplyLost) as caught:
            await http.post("/login?pin=1234", params={"totp": "654321"})

    assert str(caught.value) == "POST /login: ReadError: gone"


@pytest.mark.parametrize("token", ["two\r\nX-Evil: 1", "trailing ", "curly\u2019", "nul\0"])
async def test_a_header_http_cannot_carry_is_refused_without_telling_it(token: str) -> None:
    async with RawServer() as server, client(server, headers={"access-token": token}) as http:
        with pytest.raises(ConfigurationError, match="'access-token'") as caught:
            await http.post("/orders", json={})

    assert token.strip() not in str(caught.value)
    assert server.seen == []


async def test_a_path_no_url_can_hold_is_refused() -> None:
    async with RawServer() as server, client(server) as http:
        with pytest.raises(ConfigurationError, match="no path of a URL"):
            await http.delete("/orders/1\n2")


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{closed_port()}")
    async with RawServer() as server, client(server) as http:
        response = await http.get("/a")

    assert response.status == 200


def test_credentials_do_not_go_unencrypted_to_another_machine() -> None:
    with pytest.raises(ConfigurationError, match="use https://"):
        client("http://api.example.com")


async def test_respx_can_stand_in_for_the_server() -> None:
    with respx.mock(base_url="https://api.example.com/v2") as mocked:
        route = mocked.post("/orders", json={"quantity": 1}).respond(json={"orderId": "1"})
        async with client("https://api.example.com/v2/") as http:
            response = await http.post("/orders", json={"quantity": 1})

    assert response.json() == {"orderId": "1"}
    assert route.call_count == 1


async def test_an_idle_connection_is_kept_warm() -> None:
    async with (
        RawServer(idle=1.0) as server,
        client(server, keep_warm=KeepWarm(path="/profile", every=0.3)) as http,
    ):
        await asyncio.sleep(5)
        await http.post("/orders", json={})

    assert server.connections == 1
    assert server.methods()[-1] == "POST"


async def test_a_busy_connection_is_not_warmed() -> None:
    async with (
        RawServer() as server,
        client(server, keep_warm=KeepWarm(path="/profile", every=0.2)) as http,
    ):
        for _ in range(20):
            await asyncio.sleep(0.02)
            await http.post("/orders", json={})

    assert server.methods() == ["GET"] + ["POST"] * 20


@pytest.mark.parametrize("answer", [Fault.HANG_UP, reply(500), reply(401), reply(429)])
async def test_keeping_warm_never_raises(answer: Answer) -> None:
    async with (
        RawServer(lambda _: answer) as server,
        client(server, keep_warm=KeepWarm(path="/profile", every=0.02)) as http,
    ):
        await asyncio.sleep(0.1)
        assert http._warmer is not None
        assert not http._warmer.done()

    assert len(server.seen) >= 2


async def test_entering_does_not_need_the_server() -> None:
    async with client(f"http://127.0.0.1:{closed_port()}", keep_warm=KeepWarm(path="/")) as http:
        with pytest.raises(NotSent):
            await http.post("/orders", json={})


async def test_a_client_can_be_entered_again() -> None:
    async with RawServer() as server:
        http = client(server, keep_warm=KeepWarm(path="/profile"))
        async with http:
            pass
        async with http:
            response = await http.get("/a")

    assert response.status == 200
    assert server.connections == 2
