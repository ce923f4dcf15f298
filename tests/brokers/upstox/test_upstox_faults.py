"""Refusals: code and call decide which exception it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstox_kit import error_body

from hybridbroker.brokers.upstox.faults import Call, fault, is_refusal
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
        ("UDAPI100072", "funds", ServiceUnavailable),
        ("UDAPI100072", "place", OrderRejected),
        ("UDAPI100074", "place", OrderRejected),
        ("UDAPI100057", "place", OrderRejected),
        ("UDAPI100500", "place", ServiceUnavailable),
        ("UDAPI100039", "place", OrderRejected),
        ("UDAPI100040", "cancel", OrderRejected),
        ("UDAPI100041", "modify", OrderRejected),
        ("UDAPI100010", "modify", OrderNotFound),
        ("UDAPI100010", "cancel", OrderNotFound),
        ("UDAPI100010", "book", OrderNotFound),
        ("UDAPI1010", "book", OrderNotFound),
        ("UDAPI1010", "cancel", OrderNotFound),
        ("UDAPI1010", "place", OrderRejected),
        ("UDAPI1023", "book", OrderNotFound),
        ("UDAPI1023", "login", ConfigurationError),
        ("UDAPI1023", "candles", ConfigurationError),
        ("UDAPI1026", "place", InvalidOrder),
        ("UDAPI1034", "convert", OrderRejected),
        ("UDAPI1109", "cancel-all", OrderRejected),
        ("UDAPI1111", "exit-all", OrderRejected),
        ("UDAPI1135", "gtt", OrderNotFound),
        ("UDAPI1135", "gtt-book", OrderNotFound),
        ("UDAPI1151", "gtt", OrderRejected),
        ("UDAPI1158", "place", OrderRejected),
        ("UDAPI1161", "place", OrderRejected),
        ("UDAPI1184", "kill-switch", OrderRejected),
        ("UDAPI1102", "margin", ConfigurationError),
        ("UDAPI1059", "brokerage", ConfigurationError),
        ("UDAPI100058", "account", AuthenticationError),
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


def test_a_blocked_address_is_told_with_both_addresses_and_what_to_do() -> None:
    told = "Access is blocked due to static IP restrictions. Configured IP: 203.0.113.7, origin IP: 203.0.113.9"

    error = fault(refusal(error_body("UDAPI1154", told), 403), call="place")

    assert isinstance(error, StaticIpRequired)
    assert "203.0.113.7" in str(error)
    assert "203.0.113.9" in str(error)
    assert "account.upstox.com/developer/apps" in str(error)


@pytest.mark.parametrize("codes", [("UDAPI1052", "UDAPI100500"), ("UDAPI100010", "UDAPI100500")])
def test_a_failure_of_theirs_among_the_errors_of_a_write_leaves_open_what_was_done(codes: tuple[str, str]) -> None:
    errors = [{"error_code": code, "message": f"about {code}"} for code in codes]
    body = json.dumps({"status": "error", "errors": errors}).encode()

    assert isinstance(fault(refusal(body), call="place"), ServiceUnavailable)
    assert not is_refusal(refusal(b"<html></html>"))
    assert is_refusal(refusal(body))


def test_a_rejection_for_several_reasons_tells_them_all() -> None:
    errors = [{"error_code": code, "message": f"about {code}"} for code in ("UDAPI1054", "UDAPI1040")]
    body = json.dumps({"status": "error", "errors": errors}).encode()

    error = fault(refusal(body), call="place")

    assert isinstance(error, OrderRejected)
    assert (error.reason, error.code) == ("about UDAPI1054; about UDAPI1040", "UDAPI1054")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=12,
    ),
    st.sampled_from(["place", "book", "login", "gtt"]),
    st.integers(min_value=400, max_value=499),
)
def test_any_body_is_one_of_our_errors(payload: Any, call: Call, status: int) -> None:
    body = json.dumps({"status": "error", "errors": payload}).encode()

    assert isinstance(fault(refusal(body, status), call=call), HybridBrokerError)
