"""Every shape of Dhan's errors is recognised, and means what the caller should do next."""

from __future__ import annotations

from typing import Any

import pytest
from dhan_kit import order_row, refusal

from hybridbroker.brokers.dhan.faults import Fault, fault_in, read_error, write_error
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    OrderRejected,
    RateLimited,
    ServiceUnavailable,
    StaticIpRequired,
    TokenExpired,
    WireFormatError,
)

GATEWAY = {"timestamp": 1_737_794_954_634, "status": 404, "error": "Not Found", "path": "/v2/nowhere"}


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        pytest.param(refusal("Invalid IP", "DH-905"), "DH-905", "Invalid IP", id="trading"),
        pytest.param([refusal("no", "DH-905")], "DH-905", "no", id="inside an array"),
        pytest.param(
            {"status": "failed", "data": {"813": "Invalid SecurityId"}}, "813", "Invalid SecurityId", id="key"
        ),
        pytest.param({"errorCode": 806, "errorMessage": "not subscribed"}, "806", "not subscribed", id="number"),
        pytest.param({"errorType": "HOLDING_ERROR"}, None, "HOLDING_ERROR", id="type alone"),
        pytest.param(
            {
                "errorCode": "INTERNAL_SERVER_ERROR",
                "httpStatus": "BAD_REQUEST",
                "internalErrorCode": "RS-9005",
                "internalErrorMessage": "bad",
            },
            "INTERNAL_SERVER_ERROR",
            "bad",
            id="older backend",
        ),
        pytest.param([{"message": "none set", "status": "ERROR"}], None, "none set", id="status in an array"),
        pytest.param({"status": "error", "message": "wait"}, None, "wait", id="login host"),
        pytest.param(GATEWAY, None, "Not Found", id="gateway"),
        pytest.param({"status": "failed", "data": {}}, None, "no reason given", id="without a reason"),
    ],
)
def test_every_error_shape_is_recognised(payload: Any, code: str | None, message: str) -> None:
    fault = fault_in(payload)

    assert fault is not None
    assert (fault.code, fault.message) == (code, message)


@pytest.mark.parametrize(
    "payload",
    [
        [],
        {},
        None,
        5,
        "text",
        [order_row()],
        {"status": "success", "data": {}},
        {"status": "SUCCESS", "message": "done"},
        {"orderId": "1", "orderStatus": "TRANSIT", "errorCode": None, "errorType": ""},
        [1, "two", None],
    ],
)
def test_what_is_no_error_is_not_taken_for_one(payload: Any) -> None:
    assert fault_in(payload) is None


def test_dhans_words_become_one_short_printable_line() -> None:
    fault = fault_in(refusal("one\ntwo\x1b[31m" + "x" * 1000))

    assert fault is not None
    assert fault.message.startswith("one two [31mxxx")
    assert len(fault.message) <= 300


_CASES = [
    pytest.param(401, "DH-901", "Client ID or token is invalid or expired.", TokenExpired, id="901"),
    pytest.param(400, "DH-906", "Invalid Token", TokenExpired, id="dead token under an order code"),
    pytest.param(401, "807", "expired", TokenExpired, id="807"),
    pytest.param(401, "808", "wrong", AuthenticationError, id="808"),
    pytest.param(401, "809", "invalid", AuthenticationError, id="809"),
    pytest.param(401, "DH-999", "new", AuthenticationError, id="unknown code with 401"),
    pytest.param(401, "INTERNAL_SERVER_ERROR", "bad JWT", TokenExpired, id="older backend with 401"),
    pytest.param(403, "DH-902", "no access", AuthenticationError, id="902"),
    pytest.param(200, "806", "Data APIs not subscribed", AuthenticationError, id="806 with 200"),
    pytest.param(400, "DH-905", "Invalid IP", StaticIpRequired, id="address by text"),
    pytest.param(403, "DH-911", "not allowed", StaticIpRequired, id="address by code"),
    pytest.param(400, "805", "Too many requests.", RateLimited, id="805 without 429"),
    pytest.param(400, "DH-904", "Too many requests", RateLimited, id="904 without 429"),
]


@pytest.mark.parametrize(("status", "code", "message", "expected"), _CASES)
def test_reads_and_writes_agree_on_what_is_clear(
    status: int, code: str, message: str, expected: type[HybridBrokerError]
) -> None:
    fault = Fault(code=code, message=message)

    assert type(write_error(fault, status=status)) is expected
    assert type(read_error(fault, status=status, call="GET /x")) is expected
    assert code in str(write_error(fault, status=status))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("DH-905", "Missing required fields, bad values for parameters etc."),
        ("DH-906", "You have insufficient funds. Please add Rs.137370.62 to trade."),
        ("DH-906", "Market is Closed! Want to place an offline order?"),
        ("DH-906", "Trigger Price should be greater than Price"),
        ("DH-906", "Transaction has Failed"),
        ("DH-903", "segment not enabled"),
        ("DH-999", "something new"),
        (None, "something without a code"),
    ],
)
def test_a_refused_order_keeps_dhans_words_and_code(code: str | None, message: str) -> None:
    error = write_error(Fault(code=code, message=message), status=400)

    assert isinstance(error, OrderRejected)
    assert (error.code, error.reason) == (code, message)


@pytest.mark.parametrize("code", ["DH-908", "DH-909", "DH-910", "800", "INTERNAL_SERVER_ERROR"])
def test_a_failure_of_dhans_own_tells_nothing_about_the_order(code: str) -> None:
    assert isinstance(write_error(Fault(code=code, message="oops"), status=400), ServiceUnavailable)


def test_an_unknown_path_is_a_wrong_setting() -> None:
    fault = fault_in(GATEWAY)

    assert fault is not None
    assert isinstance(write_error(fault, status=404), ConfigurationError)
    assert isinstance(read_error(fault, status=404, call="GET /x"), ConfigurationError)


def test_a_refused_read_names_the_call() -> None:
    error = read_error(Fault(code="DH-905", message="bad"), status=400, call="GET /orders")

    assert isinstance(error, ServiceUnavailable)
    assert "GET /orders" in str(error)


@pytest.mark.parametrize(("status", "expected"), [(401, AuthenticationError), (418, WireFormatError)])
def test_a_read_refused_without_a_reason_is_judged_by_its_status(status: int, expected: type[Exception]) -> None:
    assert type(read_error(None, status=status, call="GET /x")) is expected
