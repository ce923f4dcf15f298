"""Logging in to Upstox by every documented way, against its login server on the loopback interface."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from login_kit import NOON, Browser, Paster, Upstox, fetch, files, free_port, in_a_thread, jwt, request, until, upstox

from hybridbroker.brokers.upstox.auth import Reach, token_source
from hybridbroker.brokers.upstox.login import login
from hybridbroker.clock import IST
from hybridbroker.errors import AuthenticationError, ConfigurationError, TokenExpired, Unsupported
from hybridbroker.plugins import LoginResult, LoginWay
from hybridbroker.testing.emulators.upstox.login import UpstoxLogin

HALF_PAST_THREE = datetime(2026, 9, 16, 3, 30, tzinfo=IST)


async def by_browser(world: Upstox, browser: Browser, *, port: int, **changed: object) -> LoginResult:
    settings = world.settings(redirect_uri=f"http://127.0.0.1:{port}/callback")
    asked = request(LoginWay.USUAL, settings, world.clock, open_browser=browser.open, **changed)
    return await login(asked, vault=world.vault)


async def test_the_browser_comes_back_with_a_code_that_becomes_a_token(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        browser = Browser()

        result = await by_browser(world, browser, port=free_port())
        token = await token_source(world.settings(), clock=world.clock, reach=Reach.ORDERS, vault=world.vault).token()

        assert world.emulator.tokens.is_valid(token.secret.get_secret_value())
    assert (result.logged_in, result.account, result.kind) == (True, "AB1234", "access")
    assert result.expires_at == HALF_PAST_THREE
    assert "close this" in browser.pages[-1][1]


async def test_an_opaque_token_dies_at_half_past_three_too(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        world.emulator.tokens.opaque = True
        result = await by_browser(world, Browser(), port=free_port())
        tokens = token_source(world.settings(), clock=world.clock, reach=Reach.ORDERS, vault=world.vault)
        alive = await tokens.token()
        world.clock.advance(16 * 3600)

        with pytest.raises(TokenExpired, match=r"2026-09-16 03:30 IST.*login upstox"):
            await tokens.token()

    assert alive.user_id == "AB1234"
    assert result.expires_at == HALF_PAST_THREE


async def test_a_redirect_of_somebody_else_is_turned_away_and_ours_still_counts(tmp_path: Path) -> None:
    port = free_port()
    async with upstox(tmp_path) as world:
        browser = Browser(come_back=False)
        task = asyncio.create_task(by_browser(world, browser, port=port))
        await until(lambda: browser.ended_at)

        forged = await fetch("GET", f"http://127.0.0.1:{port}/callback?code=evil&state=guess")
        unasked = await fetch("GET", f"http://127.0.0.1:{port}/favicon.ico")
        posted = await fetch("POST", browser.ended_at)
        ours = await fetch("GET", browser.ended_at)
        result = await task

    assert [forged[0], unasked[0], posted[0], ours[0]] == [403, 404, 405, 200]
    assert result.logged_in


async def test_a_person_who_does_not_agree_ends_the_login(tmp_path: Path) -> None:
    async with upstox(tmp_path, agrees=False) as world:
        with pytest.raises(AuthenticationError, match="not agreed"):
            await by_browser(world, Browser(), port=free_port())


async def test_a_person_who_does_not_come_back_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        with pytest.raises(AuthenticationError, match="nobody came back"):
            await by_browser(world, Browser(come_back=False), port=free_port(), timeout=0.2)


async def test_an_address_elsewhere_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        settings = world.settings(redirect_uri="https://example.test/cb")

        with pytest.raises(ConfigurationError, match="--paste"):
            await login(request(LoginWay.BROWSER, settings, world.clock), vault=world.vault)


async def test_a_pasted_address_logs_in(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        person = Paster()
        settings = world.settings(redirect_uri="https://example.test/cb")
        asked = request(LoginWay.PASTE, settings, world.clock, say=person.say, ask_secret=person.answer)

        result = await in_a_thread(lambda: login(asked, vault=world.vault))

    assert result.logged_in
    assert parse_qs(urlsplit(person.ended_at).query).keys() == {"code", "state"}


async def test_a_pasted_address_of_another_login_is_refused(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        person = Paster(change=lambda url: url.replace("state=", "state=x"))
        settings = world.settings(redirect_uri="https://example.test/cb")
        asked = request(LoginWay.PASTE, settings, world.clock, say=person.say, ask_secret=person.answer)

        with pytest.raises(AuthenticationError, match="not the answer"):
            await in_a_thread(lambda: login(asked, vault=world.vault))


@pytest.mark.parametrize(
    ("changed", "match"), [({"api_secret": "wrong"}, "UDAPI100069"), ({"api_secret": ""}, "UPSTOX_API_SECRET")]
)
async def test_a_wrong_app_is_named(tmp_path: Path, changed: dict[str, str], match: str) -> None:
    redirect = f"http://127.0.0.1:{free_port()}/callback"
    async with upstox(tmp_path) as world:
        settings = world.settings(redirect_uri=redirect, **changed)
        asked = request(LoginWay.BROWSER, settings, world.clock, open_browser=Browser().open)

        with pytest.raises((ConfigurationError, AuthenticationError), match=match):
            await login(asked, vault=world.vault)


async def test_a_request_alone_says_where_the_token_will_go(tmp_path: Path) -> None:
    async with upstox(tmp_path, notifier_url="https://hooks.example.test/upstox?key=secret") as world:
        result = await login(request(LoginWay.REQUEST, world.settings(), world.clock), vault=world.vault)

    assert not result.logged_in
    assert "https://hooks.example.test/upstox" in result.notes[0]
    assert "secret" not in result.notes[0]


async def test_an_app_without_notifier_is_told(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        with pytest.raises(ConfigurationError, match="Notifier"):
            await login(request(LoginWay.REQUEST, world.settings(), world.clock), vault=world.vault)


async def test_a_request_that_listens_takes_only_a_token_that_opens_the_account(tmp_path: Path) -> None:
    port = free_port()
    hook = f"http://127.0.0.1:{port}/upstox"
    async with upstox(tmp_path, notifier_url=hook) as world:
        emulator = world.emulator
        asked = request(
            LoginWay.REQUEST, world.settings(), world.clock, listen=("127.0.0.1", port), listen_path="/upstox"
        )
        task = asyncio.create_task(login(asked, vault=world.vault))
        await until(lambda: emulator.requested)

        refused = [
            await emulator.approve(client_id="another-app"),
            await emulator.approve(access_token="made-up"),
            await emulator.approve(access_token=jwt(sub="AB1234", exp=NOON.timestamp() + 60)),
            await emulator.approve(access_token=None),
            await emulator.approve(message_type="order"),
            await emulator.approve(url=f"http://127.0.0.1:{port}/elsewhere"),
            (await fetch("POST", hook, b"not json"))[0],
            (await fetch("POST", hook, b"[" * 60_000))[0],
            (await fetch("POST", hook, b"", f"Content-Length: {10**9}"))[0],
            (await fetch("GET", hook))[0],
        ]
        waiting = not task.done()
        taken = await emulator.approve()
        result = await task

    assert refused == [403, 403, 403, 403, 403, 404, 403, 403, 413, 405]
    assert waiting
    assert (taken, result.logged_in, result.account) == (200, True, "AB1234")


async def by_webhook(world: Upstox, **settings: str) -> tuple[int, LoginResult | None]:
    port = free_port()
    world.emulator.notifier_url = hook = f"http://127.0.0.1:{port}/"
    asked = request(LoginWay.REQUEST, world.settings(**settings), world.clock, listen=("127.0.0.1", port))
    task = asyncio.create_task(login(asked, vault=world.vault))
    await until(lambda: world.emulator.requested)
    status = await world.emulator.approve(url=hook)
    if status == 200:
        return status, await task
    task.cancel()
    await asyncio.wait([task])
    return status, None


async def test_a_stranger_cannot_send_the_token_of_his_own_account(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        first = await by_webhook(world)
        again = await by_webhook(world)
        world.emulator.user_id, world.emulator.tokens = "ZZ9999", UpstoxLogin(world.clock, user_id="ZZ9999").tokens
        stranger = await by_webhook(world)
        named = await by_webhook(world, user_id="ZZ9999")

    assert first[0] == again[0] == 200
    assert first[1] is not None
    assert "UPSTOX_USER_ID" in first[1].notes[0]
    assert again[1] is not None
    assert again[1].notes == ()
    assert stranger == (403, None)
    assert named[0] == 200


async def test_a_login_as_somebody_else_is_not_kept(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        settings = world.settings(user_id="ZZ9999")
        pasted = world.emulator.tokens.issue()

        with pytest.raises(AuthenticationError, match="AB1234, not of UPSTOX_USER_ID=ZZ9999"):
            await login(request(LoginWay.TOKEN, settings, world.clock, ask_secret=lambda _: pasted), vault=world.vault)

    assert files(tmp_path) == []


async def test_a_pasted_token_is_proved_and_its_owner_known(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        world.emulator.tokens.opaque = True
        good = world.emulator.tokens.issue()
        with pytest.raises(AuthenticationError):
            await login(
                request(LoginWay.TOKEN, world.settings(), world.clock, ask_secret=lambda _: "wrong"), vault=world.vault
            )
        kept = files(tmp_path)

        result = await login(
            request(LoginWay.TOKEN, world.settings(), world.clock, ask_secret=lambda _: good), vault=world.vault
        )

    assert kept == []
    assert (result.account, result.expires_at) == ("AB1234", HALF_PAST_THREE)


@pytest.mark.parametrize(("kind", "match"), [("sandbox", "UPSTOX_SANDBOX_TOKEN"), ("golden", "access, analytics")])
async def test_kinds_a_login_does_not_keep_are_named(tmp_path: Path, kind: str, match: str) -> None:
    async with upstox(tmp_path) as world:
        with pytest.raises(ConfigurationError, match=match):
            await login(request(LoginWay.TOKEN, world.settings(), world.clock, kind=kind), vault=world.vault)


async def test_logout_ends_the_token_at_upstox_and_here(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        await by_browser(world, Browser(), port=free_port())
        made = world.emulator.tokens.newest

        result = await login(request(LoginWay.LOGOUT, world.settings(), world.clock), vault=world.vault)

        assert made is not None
        assert made.revoked
    assert not result.logged_in
    assert files(tmp_path) == []


async def test_status_tells_both_kinds(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        await by_browser(world, Browser(), port=free_port())
        year = jwt(sub="AB1234", exp=(NOON + timedelta(days=300)).timestamp())
        settings = world.settings(analytics_token=year)

        result = await login(request(LoginWay.STATUS, settings, world.clock), vault=world.vault)
        none = await login(
            request(LoginWay.STATUS, world.settings(base_url="http://127.0.0.1:1"), world.clock), vault=world.vault
        )

    assert (result.logged_in, result.kind) == (True, "access")
    assert "living analytics token" in result.notes[0]
    assert not none.logged_in


@pytest.mark.parametrize("way", [LoginWay.TOTP, LoginWay.RENEW])
async def test_what_upstox_does_not_have_is_refused(tmp_path: Path, way: LoginWay) -> None:
    async with upstox(tmp_path) as world:
        with pytest.raises(Unsupported, match="--request"):
            await login(request(way, world.settings(), world.clock), vault=world.vault)


async def test_messages_and_results_hold_no_secret(tmp_path: Path) -> None:
    said: list[str] = []
    async with upstox(tmp_path) as world:
        result = await by_browser(world, Browser(), port=free_port(), say=said.append)
        made = world.emulator.tokens.newest

        assert made is not None
        shown = json.dumps([repr(result), *said])
        assert made.value not in shown
        assert world.emulator.client_secret not in shown
