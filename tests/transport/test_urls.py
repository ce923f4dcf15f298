"""Addresses, headers and certificates: what is refused, and that the refusal tells no secret."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from hybridbroker.errors import ConfigurationError
from hybridbroker.transport.urls import check_headers, check_url, tls_context, user_agent


@pytest.mark.parametrize(
    "url",
    [
        "https://api.dhan.co/v2",
        "https://api.dhan.co:8443",
        "http://127.0.0.1:8080/v2",
        "http://127.9.9.9",
        "http://localhost:1",
        "http://[::1]:8080",
    ],
)
def test_addresses_credentials_may_go_to(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("http://api.dhan.co/v2", "use https://"),
        ("http://127.0.0.1.example.com", "use https://"),
        ("http://localhost.example.com", "use https://"),
        ("http://10.0.0.1", "use https://"),
        ("ftp://api.dhan.co", "must begin with https or http://"),
        ("api.dhan.co", "must begin with"),
        ("https://", "must begin with"),
        ("", "must begin with"),
        ("https://user:pass@api.dhan.co", "credentials go in settings"),
        ("https://api.dhan.co:port", "no address"),
        ("https://[::1", "no address"),
    ],
)
def test_addresses_credentials_may_not_go_to(url: str, fix: str) -> None:
    with pytest.raises(ConfigurationError, match=fix) as caught:
        check_url(url + "?token=secret" if url else url)

    assert "secret" not in str(caught.value)
    assert "pass" not in str(caught.value)


def test_the_schemes_are_the_callers_choice() -> None:
    assert check_url("ws://127.0.0.1:1/", schemes=("wss", "ws"))
    with pytest.raises(ConfigurationError, match="wss or ws"):
        check_url("https://api.dhan.co", schemes=("wss", "ws"))


@pytest.mark.parametrize(
    "headers",
    [{"a": "x\ny"}, {"a": " x"}, {"a": "x "}, {"a": "\u20b9"}, {"a b": "x"}, {"": "x"}, {"a": "x\0"}],
)
def test_headers_http_cannot_carry_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        check_headers(headers)


def test_ordinary_headers_pass() -> None:
    check_headers({"access-token": "eyJ.a-b_c", "X-Empty": "", "Accept": "a, b"})


@pytest.fixture
def fresh_context() -> Iterator[None]:
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


@pytest.mark.usefixtures("fresh_context")
def test_certificates_are_verified_and_the_context_is_shared() -> None:
    context = tls_context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert tls_context() is context


@pytest.mark.usefixtures("fresh_context")
def test_a_missing_certificate_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")

    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE=/nowhere/ca\.pem"):
        tls_context()


def test_the_user_agent_is_our_own() -> None:
    assert user_agent().startswith("hybridbroker/")
