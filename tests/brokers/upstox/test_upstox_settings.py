"""UpstoxSettings: read from the environment, complete or refused, silent about the token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridbroker.brokers.upstox.settings import UpstoxSettings, read_settings
from hybridbroker.errors import ConfigurationError
from hybridbroker.transport.vault import Vault


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [each for each in os.environ if each.startswith("UPSTOX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_a_missing_token_names_the_variable_and_where_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match=r"UPSTOX_ACCESS_TOKEN.*account\.upstox\.com"):
        assert read_settings().base_url == "https://api.upstox.com"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", "  secret-token\n")
    monkeypatch.setenv("UPSTOX_PLAN", "plus")

    settings = read_settings()

    assert settings.access_token.get_secret_value() == "secret-token"
    assert settings.plan == "plus"
    assert settings.base_url == "https://api.upstox.com"
    assert settings.order_url == "https://api-hft.upstox.com"


def test_settings_come_from_a_dotenv_file_that_the_other_broker_shares(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UPSTOX_ACCESS_TOKEN=from-file\nDHAN_CLIENT_ID=1\n")

    assert read_settings().access_token.get_secret_value() == "from-file"


@pytest.mark.parametrize("token", ["two words", "sm\u00e4rt"])
def test_a_token_that_was_pasted_wrongly_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", token)

    with pytest.raises(ConfigurationError, match=r"UPSTOX_ACCESS_TOKEN: .*paste it again") as caught:
        read_settings()

    assert token not in str(caught.value)


def test_an_unknown_plan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", "t")
    monkeypatch.setenv("UPSTOX_PLAN", "gold")

    with pytest.raises(ConfigurationError, match="UPSTOX_PLAN"):
        read_settings()


def test_the_token_shows_nowhere() -> None:
    settings = UpstoxSettings(access_token="very-secret")

    with pytest.raises(ConfigurationError) as caught:
        UpstoxSettings(access_token="very-secret", plan="gold")

    assert "very-secret" not in repr(settings)
    assert "very-secret" not in str(settings.model_dump())
    assert "very-secret" not in str(caught.value)


def test_a_stored_login_is_as_good_as_a_token() -> None:
    with pytest.raises(ConfigurationError):
        read_settings()
    Vault().write("upstox.access", {"secret": "x"})

    assert read_settings().access_token.get_secret_value() == ""


def test_settings_from_the_environment_follow_it_and_given_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", "one")
    followed, given = read_settings(), UpstoxSettings(access_token="one")
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", "two")

    assert followed.current().access_token.get_secret_value() == "two"
    assert followed.current() is followed.current()
    assert given.current() is given


def test_settings_that_cannot_be_read_again_go_on_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", "one")
    settings = read_settings()
    (tmp_path / ".env").write_text("UPSTOX_PLAN=gold\n")

    assert settings.current().access_token.get_secret_value() == "one"
    assert "UPSTOX_PLAN" in caplog.text


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.upstox.com", "upstox.access"),
        ("http://127.0.0.1:8000", "upstox-port8000.access"),
        ("http://localhost:x", "upstox.access"),
    ],
)
def test_play_never_meets_the_real_account(url: str, name: str) -> None:
    assert UpstoxSettings(base_url=url).vault_name("access") == name
