"""Refusals: code and call decide which exception it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from upstox_kit import error_body

from hybridbroker.brokers.upstox.faults import Call, fault
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    InstrumentNotFound,
    InvalidOrder,
    OrderNotFound,
    OrderRejected,
    RateLimited,
    ServiceUnavailable,
    StaticIpRequired,
    TokenExpired,
    Unsupported,
)
from hybridbroker.transport.http import Response


def refusal(body: bytes, status: int = 400) -> Response:
    return Response(status=status, body=body, headers={}, request="GET /v3/something")


@pytest.mark.parametrize(
    ("code", "call", "expected"),
    [
        ("UDAPI100050", "quotes", TokenExpired),
        ("UDAPI100067", "read", AuthenticationError),
        ("UDAPI100011", "candles", InstrumentNotFound),
        ("UDAPI100011", "order", InvalidOrder),
        ("UDAPI1087", "quotes", InstrumentNotFound),
        ("UDAPI1021", "candles", InstrumentNotFound),
        ("UDAPI1148", "candles", ConfigurationError),
        ("UDAPI1149", "candles", Unsupported),
        ("UDAPI100060", "quotes", Unsupported),
        ("UDAPI10005", "quotes", RateLimited),
        ("UDAPI100072", "read", ServiceUnavailable),
        ("UDAPI100500", "quotes", ServiceUnavailable),
        ("UDAPI100010", "read", OrderNotFound),
        ("UDAPI100010", "order", OrderNotFound),
        ("UDAPI1154", "order", StaticIpRequired),
        ("UDAPI1052", "order", OrderRejected),
        ("UDAPI1156", "order", ConfigurationError),
        ("UDAPI100057", "login", AuthenticationError),
        ("UDAPI100069", "login", ConfigurationError),
        ("UDAPI9999", "order", OrderRejected),
        ("UDAPI9999", "read", ConfigurationError),
    ],
)
def test_a_code_is_an_exception_of_its_call(code: str, call: Call, expected: type[HybridBrokerError]) -> None:
    error = fault(refusal(error_body(code, "what they said")), call=call)

    assert type(error) is expected
    assert "what they said" in str(error)
    assert code in str(error)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AuthenticationError),
        (403, ServiceUnavailable),
        (404, Unsupported),
        (423, ServiceUnavailable),
        (429, RateLimited),
        (400, ConfigurationError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b'{"status":"error"}', b'{"errors":[]}', b"[]"])
def test_a_refusal_without_a_code_is_what_its_status_says(
    status: int, expected: type[HybridBrokerError], body: bytes
) -> None:
    assert type(fault(refusal(body, status), call="read")) is expected


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"error_code": "UDAPI1087", "message": "m", "property_path": None}, id="snake case alone"),
        pytest.param({"errorCode": "UDAPI1087", "message": "m", "propertyPath": "x"}, id="camel case alone"),
        pytest.param({"errorCode": "UDAPI1087", "error_code": "UDAPI1087", "message": "m"}, id="both"),
    ],
)
def test_either_spelling_is_read(entry: dict[str, Any]) -> None:
    body = json.dumps({"status": "error", "errors": [entry]}).encode()

    assert isinstance(fault(refusal(body), call="quotes"), InstrumentNotFound)


def test_of_several_errors_the_first_known_decides_and_all_are_told() -> None:
    errors = [{"error_code": code, "message": f"about {code}"} for code in ("UDAPI9999", "UDAPI100050", "UDAPI1087")]
    body = json.dumps({"status": "error", "errors": errors}).encode()

    error = fault(refusal(body, 401), call="quotes")

    assert isinstance(error, TokenExpired)
    assert all(f"about {each['error_code']}" in str(error) for each in errors)


def test_a_rejection_keeps_reason_and_code() -> None:
    error = fault(refusal(error_body("UDAPI1052", "quantity cannot be zero")), call="order")

    assert isinstance(error, OrderRejected)
    assert (error.reason, error.code) == ("quantity cannot be zero", "UDAPI1052")
