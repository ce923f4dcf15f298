"""Response: JSON or a clear word about what came instead."""

from __future__ import annotations

import pytest

from hybridbroker.errors import WireFormatError
from hybridbroker.transport.reply import Response


def response(body: bytes, status: int = 200) -> Response:
    return Response(status=status, body=body, headers={"set-cookie": "secret"}, request="GET /orders")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"[]", []),
        (b'\xef\xbb\xbf{"a": 1.5}', {"a": 1.5}),
        (b' \r\n{"a": null}\n', {"a": None}),
    ],
)
def test_json_is_read(body: bytes, expected: object) -> None:
    assert response(body).json() == expected


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(b"", "0 bytes", id="empty"),
        pytest.param(b'{"orderId": "11', '\'{"orderId": "11\'', id="cut short"),
        pytest.param(b"<html><title>Down</title></html>", "'Down'", id="page"),
        pytest.param(b"error code: 1010", "'error code: 1010'", id="text"),
        pytest.param(b'{"a": NaN}', "NaN", id="not a number"),
        pytest.param(b'"\xff"', "not JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "not JSON", id="too deep"),
        pytest.param(b"\x1f\x8b\x08\x00", "4 bytes", id="binary"),
    ],
)
def test_what_is_no_json_is_told(body: bytes, told: str) -> None:
    with pytest.raises(WireFormatError, match=r"GET /orders: HTTP 200") as caught:
        response(body).json()

    assert told in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "secret" not in str(caught.value)


def test_credentials_in_what_came_are_masked() -> None:
    with pytest.raises(WireFormatError) as caught:
        response(b'{"access_token": "abcdef", "user').json()

    assert "abcdef" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<!DOCTYPE html>", True),
        (b"\xef\xbb\xbf \r\n<HTML>", True),
        (b"<?xml version='1.0'?><Error/>", True),
        (b"{}", False),
        (b"", False),
        (b'"<html>"', False),
        (b"SYMBOL,<x>", False),
    ],
)
def test_pages_are_recognised(body: bytes, expected: bool) -> None:
    assert response(body).is_html is expected


def test_the_representation_shows_neither_body_nor_headers() -> None:
    assert repr(response(b"secret")) == "Response(status=200, body=<6 bytes>, request='GET /orders')"
