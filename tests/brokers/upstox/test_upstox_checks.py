"""What doctor reads out of Upstox's answers about an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from hybridbroker.brokers.upstox.auth import AccessToken
from hybridbroker.brokers.upstox.checks import _address, _delivery, _judge_token, _segments
from hybridbroker.plugins import CheckStatus

NOW = datetime(2026, 9, 15, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "kind", "status"),
    [
        (timedelta(days=200), "analytics", CheckStatus.OK),
        (timedelta(hours=15), "ordinary", CheckStatus.OK),
        (timedelta(minutes=20), "ordinary", CheckStatus.WARNING),
    ],
)
def test_the_kind_of_token_shows_in_its_life(left: timedelta, kind: str, status: CheckStatus) -> None:
    token = AccessToken(secret=SecretStr("x"), expires_at=NOW + left, is_certain=True)

    check = _judge_token(token, now=NOW)

    assert (check.status, kind in check.message) == (status, True)


@pytest.mark.parametrize(
    ("profile", "status"),
    [
        ({"ddpi": True}, CheckStatus.OK),
        ({"ddpi": False}, CheckStatus.WARNING),
        ({"ddpi": False, "poa": True}, CheckStatus.OK),
        ({}, CheckStatus.UNKNOWN),
    ],
)
def test_delivery_sales_need_ddpi_or_a_power_of_attorney(profile: dict[str, Any], status: CheckStatus) -> None:
    assert _delivery(profile).status is status


def test_what_a_token_may_not_read_is_said() -> None:
    assert (_segments({}).status, _address({}).status) == (CheckStatus.UNKNOWN, CheckStatus.UNKNOWN)
    assert _segments({"exchanges": ["NSE", "BSE"]}).message == "active: NSE, BSE"
