"""When a token dies, and that the newest one is used."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from hybridbroker.brokers.upstox.auth import AccessToken, FixedToken, next_expiry, token_source
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST
from hybridbroker.errors import TokenExpired
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.vault import Vault

NOON = datetime(2026, 9, 12, 14, 0, tzinfo=IST)


def jwt(**claims: object) -> SecretStr:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return SecretStr(f"eyJ0eXAi.{payload}.signature")


@pytest.mark.parametrize(
    ("now", "dies"),
    [
        pytest.param("2026-09-12T02:00+05:30", "2026-09-12T03:30+05:30", id="lives ninety minutes"),
        pytest.param("2026-09-12T03:30+05:30", "2026-09-13T03:30+05:30", id="on the dot"),
        pytest.param("2026-09-12T20:00+05:30", "2026-09-13T03:30+05:30", id="next day"),
        pytest.param("2026-09-11T21:59+00:00", "2026-09-12T03:30+05:30", id="asked in another zone"),
    ],
)
def test_an_ordinary_token_dies_at_half_past_three(now: str, dies: str) -> None:
    assert next_expiry(datetime.fromisoformat(now)) == datetime.fromisoformat(dies)


def test_a_token_that_tells_its_expiry_is_believed() -> None:
    token = AccessToken.of(jwt(sub="AB1234", exp=1_789_164_000), seen_at=NOON)

    assert token.expires_at == datetime.fromtimestamp(1_789_164_000, UTC)
    assert token.is_certain


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(SecretStr("opaque"), id="opaque"),
        pytest.param(SecretStr("a.b.c"), id="no claims"),
        pytest.param(jwt(exp="tomorrow"), id="text"),
        pytest.param(jwt(exp=True), id="bool"),
        pytest.param(jwt(exp=1e300), id="beyond the calendar"),
        pytest.param(SecretStr("a." + base64.urlsafe_b64encode(b"[1]").decode() + ".c"), id="no object"),
    ],
)
def test_a_token_that_does_not_tell_is_tried_until_the_server_refuses(secret: SecretStr) -> None:
    token = AccessToken.of(secret, seen_at=NOON)

    token.check(NOON + timedelta(days=3))

    assert token.expires_at == next_expiry(NOON)
    assert not token.is_certain


async def test_an_expired_token_is_refused_here_with_the_remedy(tmp_path: Path) -> None:
    settings = UpstoxSettings(access_token=jwt(exp=NOON.timestamp() - 120))
    source = token_source(settings, clock=ManualClock(NOON), vault=Vault(tmp_path))

    with pytest.raises(TokenExpired, match=r"died at 2026-09-12 13:58 IST.*UPSTOX_ACCESS_TOKEN"):
        await source.token()


async def test_a_minute_of_clock_error_is_allowed(tmp_path: Path) -> None:
    settings = UpstoxSettings(access_token=jwt(exp=NOON.timestamp() - 30))

    token = await token_source(settings, clock=ManualClock(NOON), vault=Vault(tmp_path)).token()

    assert token.secret == settings.access_token


async def test_a_fixed_token_is_used_until_it_is_refused() -> None:
    token = AccessToken.of(SecretStr("only-one"), seen_at=NOON)
    source = FixedToken(token, clock=ManualClock(NOON))

    assert await source.token() is token
    assert await source.renewed(AccessToken.of(SecretStr("another"), seen_at=NOON)) is token
    with pytest.raises(TokenExpired, match="login upstox"):
        await source.renewed(token)


def test_the_header_shows_no_token() -> None:
    token = AccessToken.of(SecretStr("very-secret"), seen_at=NOON)

    assert token.headers() == {"Authorization": "Bearer very-secret"}
    assert "very-secret" not in repr(token) + repr(token.headers())
