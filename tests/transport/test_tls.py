"""TLS over real sockets: an unknown certificate is never talked to, a trusted one is."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from loopback import RawServer
from websockets.asyncio.server import ServerConnection, serve

from hybridbroker.errors import NotSent
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.http import HttpClient
from hybridbroker.transport.urls import tls_context
from hybridbroker.transport.ws import Endpoint, ReconnectingSocket


@attrs.frozen
class Certificate:
    file: Path
    server: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1 that nobody but its owner trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("making a certificate needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    file, key = folder / "server.pem", folder / "server.key"
    terms = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run([openssl, "req", *terms, *names], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file, key)
    return Certificate(file, server)


@pytest.fixture(autouse=True)
def fresh_context(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


def client(server: RawServer) -> HttpClient:
    return HttpClient(base_url=server.url, headers={"access-token": "secret"}, clock=ManualClock())


async def test_an_unknown_certificate_is_never_talked_to(certificate: Certificate) -> None:
    async with RawServer(tls=certificate.server) as server, client(server) as http:
        with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
            await http.post("/orders", json={})

    assert server.seen == []


async def test_a_trusted_certificate_is(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    async with RawServer(tls=certificate.server) as server, client(server) as http:
        await http.post("/orders", json={})
        await http.get("/orders")

    assert server.methods() == ["POST", "GET"]
    assert server.connections == 1


async def test_a_feed_behind_tls_is_read(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(b"1")
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0, ssl=certificate.server) as server:
        port = next(iter(server.sockets)).getsockname()[1]

        async def endpoint() -> Endpoint:
            return Endpoint(f"wss://127.0.0.1:{port}/")

        def frames() -> ReconnectingSocket:
            return ReconnectingSocket(endpoint=endpoint, hello=lambda: (), clock=ManualClock(), name="feed")

        with pytest.raises(NotSent, match="certificate verify failed"):
            await frames().__aenter__()
        tls_context.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
        async with frames() as trusted:
            frame = await anext(trusted)

    assert frame == b"1"
