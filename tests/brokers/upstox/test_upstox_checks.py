"""What doctor reads out of Upstox's answers about an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from pydantic import SecretStr

from hybridbroker.brokers.upstox.account import Addresses, Profile
from hybridbroker.brokers.upstox.auth import AccessToken, TokenKind
from hybridbroker.brokers.upstox.checks import _address, _delivery, _for_orders, _judge_token, _segments
from hybridbroker.errors import ConfigurationError, TokenExpired
from hybridbroker.plugins import CheckStatus

NOW = datetime(2026, 9, 15, 6, 30, tzinfo=UTC)
PROFILE = Profile(
    user_id="AB1234",
    name="A USER",
    exchanges=("NSE", "BSE"),
    products=("I", "D"),
    is_active=True,
    ddpi=None,
    power_of_attorney=None,
)


@pytest.mark.parametrize(
    ("left", "kind", "status"),
    [
        (timedelta(days=200), TokenKind.ANALYTICS, "ok"),
        (timedelta(days=10), TokenKind.ANALYTICS, "warning"),
        (timedelta(hours=15), TokenKind.ACCESS, "ok"),
        (timedelta(minutes=20), TokenKind.ACCESS, "warning"),
    ],
)
def test_a_token_is_named_with_its_kind_and_what_is_left(left: timedelta, kind: TokenKind, status: str) -> None:
    token = AccessToken(secret=SecretStr("x"), expires_at=NOW + left, is_certain=True, kind=kind)

    check = _judge_token(token, "prices", now=NOW)

    assert (check.status, f"{kind} token" in check.message) == (CheckStatus(status), True)
    assert bool(check.fix) is (status == "warning")


def test_orders_need_a_login_and_prices_do_not() -> None:
    assert _for_orders(TokenExpired("over"), now=NOW).status is CheckStatus.WARNING
    assert _for_orders(ConfigurationError("none"), now=NOW).status is CheckStatus.OK


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"ddpi": True}, CheckStatus.OK),
        ({"ddpi": False}, CheckStatus.WARNING),
        ({"ddpi": False, "power_of_attorney": True}, CheckStatus.OK),
        ({}, CheckStatus.UNKNOWN),
    ],
)
def test_delivery_sales_need_ddpi_or_a_power_of_attorney(told: dict[str, Any], status: CheckStatus) -> None:
    assert _delivery(attrs.evolve(PROFILE, **told)).status is status


def test_what_a_token_may_not_read_is_said() -> None:
    assert (_segments(None).status, _address(None, here="").status) == (CheckStatus.UNKNOWN, CheckStatus.UNKNOWN)
    assert _segments(PROFILE).message == "active: NSE, BSE"


@pytest.mark.parametrize(
    ("primary", "here", "status"),
    [
        ("", "", "warning"),
        ("203.0.113.7", "", "unknown"),
        ("203.0.113.7", "203.0.113.7", "ok"),
        ("203.0.113.7", "203.0.113.9", "warning"),
    ],
)
def test_the_registered_address_is_held_against_the_machines_own(primary: str, here: str, status: str) -> None:
    told = Addresses(primary=primary, secondary="", primary_changed=None, secondary_changed=None)

    assert _address(told, here=here).status is CheckStatus(status)
