"""PIN, TOTP code, tokens and app secrets reach no log, no message and nothing an exception holds on to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyotp
import pytest
from login_kit import NOON, Browser, dhan, fetch, free_port, request, serving, upstox
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.issuer import Issuer
from hybridbroker.brokers.dhan.login import login as dhan_login
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.upstox.login import login as upstox_login
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.errors import ConfigurationError, HybridBrokerError
from hybridbroker.plugins import LoginWay


def everything_held_by(error: BaseException) -> str:
    """Return the text of an exception, of all it came from, and of what hangs on them."""
    texts = []
    for each in chain(error):
        texts += [str(each), repr(each), repr(each.args), repr(vars(each))]
        texts += [repr(getattr(each, name, "")) for name in ("response", "object", "doc")]
    return "\n".join(texts)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def assert_hidden(text: str, *secrets: str) -> None:
    for each in secrets:
        assert len(each) >= 4
        assert each not in text


async def test_no_secret_of_dhan_is_logged_at_any_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    redirect = f"http://127.0.0.1:{free_port()}/dhan"
    async with dhan(tmp_path, redirect_url=redirect) as world:
        settings = world.settings(redirect_uri=redirect)
        with caplog.at_level(logging.DEBUG):
            await dhan_login(request(LoginWay.TOTP, settings, world.clock), vault=world.vault)
            browser = Browser()
            asked = request(LoginWay.BROWSER, settings, world.clock, open_browser=browser.open)
            result = await dhan_login(asked, vault=world.vault)
            renewed = await dhan_login(request(LoginWay.RENEW, settings, world.clock), vault=world.vault)
        tokens = [each.value for each in world.emulator.tokens.issued]
        code = pyotp.TOTP(world.emulator.totp_secret).at(NOON)
        token_id = browser.ended_at.rpartition("=")[2]

        assert len(tokens) == 3
        assert "httpcore" in caplog.text  # the chattiest of all is among those listened to
        shown = caplog.text + repr(result) + repr(renewed) + repr(settings)
        assert_hidden(
            shown, *tokens, code, f"pin={world.emulator.pin}", world.emulator.totp_secret, token_id,
            world.emulator.api_secret,
        )  # fmt: skip


async def test_no_secret_of_upstox_is_logged_at_any_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    redirect = f"http://127.0.0.1:{free_port()}/cb"
    async with upstox(tmp_path) as world:
        settings = world.settings(redirect_uri=redirect)
        with caplog.at_level(logging.DEBUG):
            browser = Browser()
            asked = request(LoginWay.BROWSER, settings, world.clock, open_browser=browser.open)
            await upstox_login(asked, vault=world.vault)
            await upstox_login(request(LoginWay.LOGOUT, settings, world.clock), vault=world.vault)
        made = world.emulator.tokens.newest

        assert made is not None
        code = browser.ended_at.partition("code=")[2].partition("&")[0]
        assert_hidden(caplog.text + repr(settings), made.value, code, world.emulator.client_secret)


def echo(kind: str) -> Route:
    async def answer(asked: Request) -> Response:
        told = f"you sent {asked.url.query} {dict(asked.headers)} {(await asked.body()).decode()}"
        match kind:
            case "error":
                return JSONResponse({"status": "error", "message": told}, 400)
            case "page":
                return HTMLResponse(f"<title>{told}</title>", 403)
            case "5xx":
                return PlainTextResponse(told, 502)
            case _:
                return JSONResponse({"told": told})

    return Route("/{path:path}", answer, methods=["GET", "POST", "DELETE"])


@pytest.mark.parametrize("kind", ["error", "page", "5xx", "other", "nobody"])
async def test_no_error_of_dhans_login_holds_a_secret(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with dhan(tmp_path) as world:
        secrets = (world.emulator.pin, world.emulator.totp_secret, world.emulator.api_secret, "token-id-4711")
        token = world.emulator.make_on_the_web()
        code = "864209"
        with caplog.at_level(logging.DEBUG):
            async with echoing(kind) as url:
                settings = world.settings(auth_url=url, base_url=f"{url}/v2", access_token=token)
                issuer = Issuer(settings, clock=world.clock)
                living = AccessToken.of(client_id=settings.client_id, secret=settings.access_token)
                calls = [issuer.generate(code), issuer.consent(), issuer.consume("token-id-4711"), issuer.renew(living)]
                errors = [await outcome(each) for each in calls]

    held = "\n".join(everything_held_by(each) for each in errors)
    assert_hidden(held + caplog.text, *secrets, code, token)


@pytest.mark.parametrize("kind", ["error", "page", "5xx", "other", "nobody"])
async def test_no_error_of_upstox_login_holds_a_secret(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    redirect = f"http://127.0.0.1:{free_port()}/cb"
    async with upstox(tmp_path) as world:
        with caplog.at_level(logging.DEBUG):
            async with echoing(kind) as url:
                settings = world.settings(redirect_uri=redirect, base_url=url)
                loop = asyncio.get_running_loop()
                visits: list[Future[Any]] = []

                def agree(page: str) -> bool:
                    state = page.partition("state=")[2]
                    visits.append(
                        asyncio.run_coroutine_threadsafe(fetch("GET", f"{redirect}?code=code-4711&state={state}"), loop)
                    )
                    return True

                by_page = request(LoginWay.BROWSER, settings, world.clock, open_browser=agree)
                pasted = request(LoginWay.TOKEN, settings, world.clock, ask_secret=lambda _: "pasted-token")
                errors = [
                    await outcome(upstox_login(by_page, vault=world.vault)),
                    await outcome(upstox_login(pasted, vault=world.vault)),
                ]

    held = "\n".join(everything_held_by(each) for each in errors)
    assert_hidden(held + caplog.text, "code-4711", world.emulator.client_secret, "pasted-token")


@asynccontextmanager
async def echoing(kind: str) -> AsyncIterator[str]:
    if kind == "nobody":
        yield f"http://127.0.0.1:{free_port()}"
        return
    async with serving([echo(kind)]) as url:
        yield url


async def outcome(call: Awaitable[object]) -> HybridBrokerError:
    with pytest.raises(HybridBrokerError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DhanSettings, {"access_token": "first-line\nsecond-line"}),
        (DhanSettings, {"pin": "12ab34"}),
        (DhanSettings, {"totp_secret": "not-base-32!"}),
        (DhanSettings, {"access_token": "good-token", "keep_warm_seconds": "often"}),
        (UpstoxSettings, {"access_token": "first-line\nsecond-line"}),
        (UpstoxSettings, {"analytics_token": "smärt-token", "plan": "gold"}),
    ],
)
def test_settings_that_cannot_be_do_not_hold_what_they_were_given(
    kind: type[DhanSettings | UpstoxSettings], values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="settings cannot be read") as caught:
        kind(**values)

    assert_hidden(
        everything_held_by(caught.value), *(each for each in values.values() if each not in {"gold", "often"})
    )
    assert list(chain(caught.value)) == [caught.value]


def test_a_dotenv_that_is_no_text_does_not_end_up_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"DHAN_ACCESS_TOKEN=very-secret\xff\xfe")

    with pytest.raises(ConfigurationError, match=r"\.env") as caught:
        DhanSettings()

    assert_hidden(everything_held_by(caught.value), "very-secret")
