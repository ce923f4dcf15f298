"""What doctor reads out of Dhan's answers about an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from pydantic import SecretStr

from hybridbroker.brokers.dhan.account import Addresses, Profile
from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.checks import _data, _delivery, _judge_address, _segments, _token
from hybridbroker.plugins import CheckStatus
from hybridbroker.testing.clock import ManualClock

NOW = datetime(2026, 9, 15, 6, 30, tzinfo=UTC)
PROFILE = Profile(
    client_id="1100000001",
    segments=("E", "D"),
    ddpi=None,
    data_plan=None,
    token_valid_until=None,
    data_valid_until=None,
)
NOWHERE = Addresses(
    primary="",
    secondary="",
    detected="",
    match="",
    orders_allowed=None,
    primary_changed=None,
    secondary_changed=None,
)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        pytest.param({"primary": "203.0.113.7", "detected": "203.0.113.7", "orders_allowed": True}, "ok", id="match"),
        pytest.param(
            {"primary": "203.0.113.7", "detected": "203.0.113.9", "orders_allowed": False}, "failed", id="elsewhere"
        ),
        pytest.param({"primary": "203.0.113.7"}, "unknown", id="as documented"),
        pytest.param({}, "failed", id="none set"),
    ],
)
def test_the_registered_address_is_held_against_ours(told: Any, status: str) -> None:
    check = _judge_address(attrs.evolve(NOWHERE, **told))

    assert (check.subject, check.status) == ("address", CheckStatus(status))


def test_an_account_without_ddpi_is_warned_of_daily_approvals() -> None:
    assert _delivery(attrs.evolve(PROFILE, ddpi="Active")).status is CheckStatus.OK
    assert "T-PIN" in _delivery(attrs.evolve(PROFILE, ddpi="Deactive")).message
    assert _delivery(PROFILE).status is CheckStatus.UNKNOWN


def test_an_account_without_segments_cannot_trade() -> None:
    assert _segments(PROFILE).message == "active: E, D"
    assert _segments(attrs.evolve(PROFILE, segments=())).status is CheckStatus.FAILED


@pytest.mark.parametrize(
    ("plan", "days", "status"),
    [("Deactive", None, "ok"), ("Active", 30, "ok"), ("Active", 2, "warning"), (None, None, "unknown")],
)
def test_the_data_plan_is_told_and_its_end(plan: str | None, days: int | None, status: str) -> None:
    ends = None if days is None else NOW + timedelta(days=days)

    check = _data(attrs.evolve(PROFILE, data_plan=plan, data_valid_until=ends), clock=ManualClock(NOW))

    assert check.status is CheckStatus(status)


@pytest.mark.parametrize(("hours", "unattended", "status"), [(20, False, "ok"), (1, False, "warning"), (1, True, "ok")])
def test_a_token_that_dies_soon_is_a_warning_unless_it_is_renewed(hours: int, unattended: bool, status: str) -> None:
    token = AccessToken(client_id="1", secret=SecretStr("x"), expires_at=NOW + timedelta(hours=hours))

    check = _token(token, PROFILE, now=NOW, unattended=unattended)

    assert (check.status, f"in {hours} h 0 min" in check.message) == (CheckStatus(status), True)
