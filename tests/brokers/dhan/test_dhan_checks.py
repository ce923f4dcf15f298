"""What doctor reads out of Dhan's answers about an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.checks import _data, _delivery, _judge_address, _segments, _token
from hybridbroker.brokers.dhan.orders.wire import Profile
from hybridbroker.plugins import CheckStatus

NOW = datetime(2026, 9, 15, 6, 30, tzinfo=UTC)


def profile(**fields: Any) -> Profile:
    return Profile.read({"dhanClientId": "1100000001", **fields}, what="a profile")


@pytest.mark.parametrize(
    ("told", "status"),
    [
        pytest.param(
            {"primaryIP": "203.0.113.7", "detectedIP": "203.0.113.7", "ordersAllowed": True}, "ok", id="match"
        ),
        pytest.param(
            {"primaryIP": "203.0.113.7", "detectedIP": "203.0.113.9", "ordersAllowed": False}, "failed", id="elsewhere"
        ),
        pytest.param({"primaryIP": "203.0.113.7", "secondaryIP": ""}, "unknown", id="as documented"),
        pytest.param([{"message": "no IP", "status": "ERROR"}], "failed", id="none set, 200 with an error"),
        pytest.param({"status": 404}, "unknown", id="no such call"),
        pytest.param(None, "unknown", id="null"),
    ],
)
def test_the_registered_address_is_held_against_ours(told: Any, status: str) -> None:
    check = _judge_address(told)

    assert (check.subject, check.status) == ("address", CheckStatus(status))


def test_an_account_without_ddpi_is_warned_of_daily_approvals() -> None:
    assert _delivery(profile(ddpi="Active")).status is CheckStatus.OK
    assert "T-PIN" in _delivery(profile(ddpi="Deactive")).message
    assert _delivery(profile()).status is CheckStatus.UNKNOWN


def test_an_account_without_segments_cannot_trade() -> None:
    assert _segments(profile(activeSegment="E, D, ")).message == "active: E, D"
    assert _segments(profile(activeSegment="")).status is CheckStatus.FAILED


def test_no_data_plan_is_no_fault_of_a_taker_of_orders() -> None:
    assert _data(profile(dataPlan="Deactive")).status is CheckStatus.OK


@pytest.mark.parametrize(("hours", "status"), [(20, CheckStatus.OK), (1, CheckStatus.WARNING)])
def test_a_token_that_dies_soon_is_a_warning(hours: int, status: CheckStatus) -> None:
    token = AccessToken(client_id="1", secret=SecretStr("x"), expires_at=NOW + timedelta(hours=hours))

    check = _token(token, profile(), now=NOW)

    assert (check.status, f"{hours}.0 h" in check.message) == (status, True)
