"""Settings and the access token: what is missing is named, what is over is known, nothing is shown."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dhan_kit import CLIENT, NOON, TOKEN, jwt, settings
from pydantic import SecretStr

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.settings import read_sandbox_settings, read_settings
from hybridbroker.errors import ConfigurationError, TokenExpired
from hybridbroker.transport.vault import Vault


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [each for each in os.environ if each.startswith("DHAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", f" {CLIENT} ")
    monkeypatch.setenv("DHAN_ACCESS_TOKEN", f"{TOKEN}\n")

    read = read_settings()

    assert (read.client_id, read.access_token.get_secret_value()) == (CLIENT, TOKEN)
    assert read.base_url == "https://api.dhan.co/v2"
    assert read.keep_warm_seconds == 15.0


def test_settings_come_from_a_dotenv_file_shared_with_the_other_broker(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DHAN_CLIENT_ID={CLIENT}\nDHAN_ACCESS_TOKEN={TOKEN}\nUPSTOX_ACCESS_TOKEN=other\n")

    assert read_settings().client_id == CLIENT


def test_missing_settings_are_all_named_with_where_to_find_them() -> None:
    with pytest.raises(ConfigurationError, match=r"DHAN_CLIENT_ID.*DHAN_ACCESS_TOKEN.*web\.dhan\.co"):
        read_settings()


def test_pin_and_totp_secret_are_as_good_as_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", CLIENT)
    monkeypatch.setenv("DHAN_PIN", "111222")
    monkeypatch.setenv("DHAN_TOTP_SECRET", "jbsw y3dp ehpk 3pxp")

    read = read_settings()

    assert read.is_unattended
    assert read.totp_secret.get_secret_value() == "JBSWY3DPEHPK3PXP"


def test_a_stored_login_is_as_good_as_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", CLIENT)
    Vault().write(f"dhan-{CLIENT}.access", {"secret": "x"})

    assert read_settings().client_id == CLIENT


def test_the_sandbox_needs_its_own_id_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", CLIENT)
    monkeypatch.setenv("DHAN_ACCESS_TOKEN", TOKEN)
    with pytest.raises(ConfigurationError, match="DHAN_SANDBOX_CLIENT_ID and DHAN_SANDBOX_TOKEN"):
        read_sandbox_settings()
    monkeypatch.setenv("DHAN_SANDBOX_CLIENT_ID", "2200000001")
    monkeypatch.setenv("DHAN_SANDBOX_TOKEN", "sandbox-token")

    sandbox = read_sandbox_settings()

    assert (sandbox.client_id, sandbox.access_token.get_secret_value()) == ("2200000001", "sandbox-token")
    assert (sandbox.base_url, sandbox.is_sandbox) == ("https://sandbox.dhan.co/v2", True)
    assert TOKEN not in str([each.get_secret_value() for each in (sandbox.access_token, sandbox.pin)])


def test_a_malformed_setting_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", CLIENT)
    monkeypatch.setenv("DHAN_ACCESS_TOKEN", "half a-token")

    with pytest.raises(ConfigurationError, match="DHAN_ACCESS_TOKEN") as caught:
        read_settings()

    assert "half" not in str(caught.value)


def test_an_unreadable_dotenv_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"DHAN_CLIENT_ID=\xff\xfe")

    with pytest.raises(ConfigurationError, match=r"\.env"):
        read_settings()


def test_settings_do_not_show_the_token() -> None:
    assert TOKEN not in repr(settings())
    assert TOKEN not in repr(AccessToken.of(client_id=CLIENT, secret=SecretStr(TOKEN)))


def test_a_token_knows_when_it_dies() -> None:
    token = AccessToken.of(client_id=CLIENT, secret=SecretStr(jwt(exp=1_789_446_600, dhanClientId=CLIENT)))

    assert token.expires_at == datetime(2026, 9, 15, 4, 30, tzinfo=UTC)
    with pytest.raises(TokenExpired, match="2026-09-15 10:00 IST"):
        token.check(NOON)


def test_a_token_is_tried_while_the_clocks_may_differ() -> None:
    token = AccessToken.of(client_id=CLIENT, secret=SecretStr(jwt(exp=NOON.timestamp())))

    token.check(NOON + timedelta(seconds=59))

    with pytest.raises(TokenExpired):
        token.check(NOON + timedelta(seconds=61))


@pytest.mark.parametrize(
    "text",
    [TOKEN, "a.b.c", "a.b", "..", jwt(), jwt(exp="soon"), jwt(exp=True), jwt(exp=10**30), "e.W10.s", "é.é.é"],
)
def test_a_token_that_tells_nothing_is_left_to_the_server(text: str) -> None:
    token = AccessToken.of(client_id=CLIENT, secret=SecretStr(text))

    assert token.expires_at is None
    token.check(NOON)


def test_a_token_of_another_account_is_refused_without_showing_it() -> None:
    foreign = jwt(dhanClientId="1100000099")

    with pytest.raises(ConfigurationError, match=f"another client id than DHAN_CLIENT_ID={CLIENT}") as caught:
        AccessToken.of(client_id=CLIENT, secret=SecretStr(foreign))

    assert foreign not in str(caught.value)
