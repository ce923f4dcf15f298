"""Logging in to Dhan by every documented way, against its login server on the loopback interface."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from login_kit import CLIENT, NOON, Browser, Paster, dhan, files, free_port, in_a_thread, jwt, request

from hybridbroker.brokers.dhan.auth import token_source
from hybridbroker.brokers.dhan.login import login
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    NotSent,
    RateLimited,
    TokenExpired,
    Unsupported,
)
from hybridbroker.plugins import LoginWay


async def test_pin_and_totp_log_in_without_a_person(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        result = await login(request(LoginWay.USUAL, world.settings(), world.clock), vault=world.vault)
        others = world.settings(pin="", totp_secret="")
        token = await token_source(others, clock=world.clock, vault=world.vault).token()

        assert world.accepts(token.secret)
    assert (result.logged_in, result.account, result.expires_at) == (True, CLIENT, NOON + timedelta(hours=24))
    assert result.source.startswith(str(tmp_path))


async def test_two_logins_within_two_minutes_are_one_and_a_wait(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        asked = request(LoginWay.TOTP, world.settings(), world.clock)
        await login(asked, vault=world.vault)
        world.clock.advance(30)
        with pytest.raises(RateLimited, match="wait 91 s") as caught:
            await login(asked, vault=world.vault)
        world.clock.advance(91)
        again = await login(asked, vault=world.vault)

        assert world.emulator.generated == 2
    assert caught.value.retry_after == 91
    assert again.logged_in


async def test_a_wrong_pin_can_be_mended_at_once_by_hand(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        with pytest.raises(AuthenticationError, match="Invalid Pin"):
            await login(request(LoginWay.TOTP, world.settings(pin="999999"), world.clock), vault=world.vault)

        mended = await login(request(LoginWay.TOTP, world.settings(), world.clock), vault=world.vault)

    assert mended.logged_in


async def test_a_token_that_was_certainly_not_asked_for_costs_no_wait(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        nowhere = world.settings(auth_url=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(NotSent):
            await login(request(LoginWay.TOTP, nowhere, world.clock), vault=world.vault)

        result = await login(request(LoginWay.TOTP, world.settings(), world.clock), vault=world.vault)

    assert result.logged_in


@pytest.mark.parametrize("methods", [("POST", "GET"), ("GET",), ("POST",)])
async def test_consent_in_a_browser_comes_back_to_this_machine(tmp_path: Path, methods: tuple[str, ...]) -> None:
    redirect = f"http://127.0.0.1:{free_port()}/dhan"
    async with dhan(tmp_path, redirect_url=redirect, consume_methods=methods) as world:
        browser = Browser()
        settings = world.settings(redirect_uri=redirect)

        result = await login(
            request(LoginWay.BROWSER, settings, world.clock, open_browser=browser.open), vault=world.vault
        )

    assert result.logged_in
    assert "close this" in browser.pages[-1][1]


async def test_consent_works_with_a_pasted_address(tmp_path: Path) -> None:
    redirect = "https://example.test/back"
    async with dhan(tmp_path, redirect_url=redirect) as world:
        person = Paster()
        asked = request(
            LoginWay.PASTE,
            world.settings(redirect_uri=redirect),
            world.clock,
            say=person.say,
            ask_secret=person.answer,
        )

        result = await in_a_thread(lambda: login(asked, vault=world.vault))

    assert result.logged_in
    assert person.ended_at.startswith(f"{redirect}?tokenId=")


async def test_half_an_address_is_refused_with_what_to_paste(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        asked = request(LoginWay.PASTE, world.settings(), world.clock, ask_secret=lambda _: "http://127.0.0.1/back")

        with pytest.raises(AuthenticationError, match="everything behind the question mark"):
            await login(asked, vault=world.vault)


async def test_consent_without_key_and_secret_says_where_they_are(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        asked = request(LoginWay.BROWSER, world.settings(api_key=""), world.clock)

        with pytest.raises(ConfigurationError, match=r"DHAN_API_KEY.*web\.dhan\.co"):
            await login(asked, vault=world.vault)


async def test_a_pasted_token_is_proved_before_it_is_kept(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        good = world.emulator.make_on_the_web()
        settings = world.settings(pin="", api_key="")

        with pytest.raises(AuthenticationError):
            await login(request(LoginWay.TOKEN, settings, world.clock, ask_secret=lambda _: "wrong"), vault=world.vault)
        kept = files(tmp_path)
        result = await login(
            request(LoginWay.USUAL, settings, world.clock, ask_secret=lambda _: f" {good}\n"), vault=world.vault
        )

    assert kept == []
    assert result.logged_in


@pytest.mark.parametrize(
    ("pasted", "error"),
    [
        (jwt(dhanClientId="1100000099"), ConfigurationError),
        (jwt(exp=NOON.timestamp() - 3600), TokenExpired),
        ("two words", ConfigurationError),
        ("", ConfigurationError),
    ],
)
async def test_a_token_that_cannot_be_right_is_refused_unsent(
    tmp_path: Path, pasted: str, error: type[Exception]
) -> None:
    async with dhan(tmp_path) as world:
        asked = request(LoginWay.TOKEN, world.settings(), world.clock, ask_secret=lambda _: pasted)

        with pytest.raises(error):
            await login(asked, vault=world.vault)


async def test_renewing_exchanges_the_living_token(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        settings = world.settings(access_token=world.emulator.make_on_the_web())
        world.clock.advance(3600)

        result = await login(request(LoginWay.RENEW, settings, world.clock), vault=world.vault)
        token = await token_source(settings, clock=world.clock, vault=world.vault).token()

        assert not world.accepts(settings.access_token)
        assert world.accepts(token.secret)
    assert result.expires_at == NOON + timedelta(hours=25)


async def test_status_makes_nothing(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        before = await login(request(LoginWay.STATUS, world.settings(), world.clock), vault=world.vault)
        await login(request(LoginWay.TOTP, world.settings(), world.clock), vault=world.vault)
        after = await login(request(LoginWay.STATUS, world.settings(), world.clock), vault=world.vault)

        assert world.emulator.generated == 1
    assert (before.logged_in, after.logged_in) == (False, True)
    assert "no token is known" in before.notes


async def test_logout_forgets_the_token_and_says_that_it_lives_on(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        await login(request(LoginWay.TOTP, world.settings(), world.clock), vault=world.vault)

        result = await login(request(LoginWay.LOGOUT, world.settings(), world.clock), vault=world.vault)

    assert not result.logged_in
    assert not (tmp_path / f"dhan-{CLIENT}.access.json").exists()
    assert "lives on" in " ".join(result.notes)


async def test_what_dhan_does_not_have_is_refused(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        with pytest.raises(Unsupported, match="--totp"):
            await login(request(LoginWay.REQUEST, world.settings(), world.clock), vault=world.vault)


async def test_a_login_needs_a_client_id(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        with pytest.raises(ConfigurationError, match="DHAN_CLIENT_ID"):
            await login(request(LoginWay.USUAL, world.settings(client_id=""), world.clock), vault=world.vault)


async def test_the_token_of_another_account_is_not_kept(tmp_path: Path) -> None:
    async with dhan(tmp_path, client_id="1100000099") as world:
        world.emulator.client_id = CLIENT  # the account that asks; the token says 1100000099

        with pytest.raises((AuthenticationError, ConfigurationError), match="another"):
            await login(request(LoginWay.TOTP, world.settings(client_id=CLIENT), world.clock), vault=world.vault)

    assert not (tmp_path / f"dhan-{CLIENT}.access.json").exists()
