"""The one request a login waits for: taken once, bounded, and nobody else's."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest

from hybridbroker.errors import AuthenticationError, ConfigurationError
from hybridbroker.transport.callback import Arrival, Listener, Turned, check_redirect, loopback_listener

Accept = Callable[[Arrival], Awaitable[str]]


async def accept(arrival: Arrival) -> str:
    if arrival.query.get("code") == "wrong":
        raise Turned("Not <you>.")
    return arrival.query.get("code", "") + arrival.body.decode()


def listener(*, method: str = "GET", path: str = "/cb", accept: Accept = accept) -> Listener[str]:
    return Listener(hosts=["127.0.0.1"], port=0, path=path, method=method, accept=accept)


async def send(port: int, request: bytes, *, end: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_the_first_right_request_is_taken_and_the_next_is_told_so() -> None:
    async with listener() as server:
        first = await send(server.port, get("/cb?code=one"))
        second = await send(server.port, get("/cb?code=two"))

        assert await server.wait(60) == "one"
    assert first.startswith(b"HTTP/1.1 200 ")
    assert b"close this" in first
    assert second.startswith(b"HTTP/1.1 410 ")


async def test_the_page_tells_no_one_where_it_was_and_keeps_nothing() -> None:
    async with listener() as server:
        page = await send(server.port, get("/cb?code=one"))

    for header in (b"Referrer-Policy: no-referrer", b"Cache-Control: no-store", b"default-src 'none'"):
        assert header in page
    assert b"one" not in page.partition(b"\r\n\r\n")[2]


async def test_a_wrong_request_is_turned_away_and_the_right_one_still_taken() -> None:
    async with listener() as server:
        wrong = await send(server.port, get("/cb?code=wrong"))
        await send(server.port, get("/cb?code=right"))

        assert await server.wait(60) == "right"
    assert wrong.startswith(b"HTTP/1.1 403 ")
    assert b"Not &lt;you&gt;." in wrong


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(get("/"), b"404", id="another path"),
        pytest.param(get("/cb/"), b"404", id="a slash more"),
        pytest.param(get("//cb?code=x"), b"404", id="an authority"),
        pytest.param(b"POST /cb HTTP/1.1\r\n\r\n", b"405", id="another method"),
        pytest.param(b"GET\r\n\r\n", b"400", id="no request"),
        pytest.param(b"\x16\x03\x01 \x00 x\r\n\r\n", b"404", id="tls"),
        pytest.param(b"GET /cb HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411", id="negative length"),
        pytest.param(b"GET /cb HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413", id="too long"),
        pytest.param(b"GET /cb HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411", id="chunked"),
        pytest.param(b"GET http://[ HTTP/1.1\r\n\r\n", b"404", id="no address"),
    ],
)
async def test_what_is_not_asked_for_is_refused(request_: bytes, status: bytes) -> None:
    async with listener() as server:
        answer = await send(server.port, request_)

        with pytest.raises(AuthenticationError, match="nobody came back"):
            await server.wait(0.01)
    assert answer.split(b" ")[1] == status


@pytest.mark.parametrize(
    "request_", [b"", b"GET /cb", b"G" * 20_000, b"POST /cb HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_half_a_request_is_forgotten(request_: bytes) -> None:
    async with listener(method="POST") as server:
        assert await send(server.port, request_, end=True) == b""


async def test_a_body_is_read_whole() -> None:
    async with listener(method="POST") as server:
        await send(server.port, b"POST /cb HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")

        assert await server.wait(60) == "body"


async def test_requests_are_judged_one_after_the_other() -> None:
    seen: list[str] = []

    async def slowly(arrival: Arrival) -> str:
        seen.append(arrival.query["code"])
        await asyncio.sleep(0.02)
        return arrival.query["code"]

    async with listener(accept=slowly) as server:
        answers = await asyncio.gather(*(send(server.port, get(f"/cb?code={each}")) for each in "ab"))
        await server.wait(60)

    assert len(seen) == 1
    assert sorted(each.split(b" ")[1] for each in answers) == [b"200", b"410"]


async def test_nothing_that_came_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with listener() as server:
            await send(server.port, get("/cb?code=very-secret"))
            await send(server.port, b"very-secret", end=True)

    assert "very-secret" not in caplog.text
    assert "very-secret" not in repr(Arrival({"code": "very-secret"}, b""))


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ConfigurationError, match=f"cannot listen on port {port}"):
            async with loopback_listener(f"http://127.0.0.1:{port}/cb", accept=accept):
                pass


@pytest.mark.parametrize(
    "uri",
    ["https://127.0.0.1:8765/cb", "http://example.test:80/cb", "http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", ""],
)
def test_an_address_that_does_not_lead_here_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="--paste"):
        loopback_listener(uri, accept=accept)


async def test_localhost_is_heard_whatever_it_means_to_the_browser() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async with loopback_listener(f"http://localhost:{port}/cb", accept=accept) as server:
        await send(server.port, get("/cb?code=x"))

        assert await server.wait(60) == "x"


@pytest.mark.parametrize(
    ("query", "state", "found"),
    [
        ({"code": "c", "state": "s"}, "s", "c"),
        ({"error": "denied", "state": "s"}, "s", ""),
        ({"code": "c"}, None, "c"),
    ],
)
def test_the_answer_to_this_login_is_read(query: dict[str, str], state: str | None, found: str) -> None:
    assert check_redirect(query, want="code", state=state) == found


@pytest.mark.parametrize(
    ("query", "state"),
    [({"code": "c", "state": "x"}, "s"), ({"code": "c"}, "s"), ({"code": "c", "state": "é"}, "s"), ({}, None)],
)
def test_the_answer_to_another_login_is_turned_away(query: dict[str, str], state: str | None) -> None:
    with pytest.raises(Turned):
        check_redirect(query, want="code", state=state)
