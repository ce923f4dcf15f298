"""``hybridbroker login``: one line per mistake, no secret in sight, JSON for scripts."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import webbrowser
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from login_kit import CLIENT, Browser, Dhan, dhan, free_port, upstox

from hybridbroker import cli
from hybridbroker.clock import IST


class Done(NamedTuple):
    code: object
    out: str
    err: str


Command = Callable[..., Awaitable[Done]]


@pytest.fixture
def hybridbroker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command, in a thread with a loop of its own, in an empty environment."""
    for name in [each for each in os.environ if each.startswith(("UPSTOX_", "DHAN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def run() -> object:
        try:
            cli.main()
        except SystemExit as end:
            return end.code or 0
        return 0

    async def command(*arguments: str, stdin: str = "", **settings: str) -> Done:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["hybridbroker", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = await asyncio.to_thread(run)
        told = capsys.readouterr()
        return Done(code, told.out, told.err)

    return command


def variables(world: Dhan) -> dict[str, str]:
    return {
        "DHAN_CLIENT_ID": CLIENT,
        "DHAN_PIN": world.emulator.pin,
        "DHAN_TOTP_SECRET": world.emulator.totp_secret,
        "DHAN_BASE_URL": f"{world.url}/v2",
        "DHAN_AUTH_URL": world.url,
    }


async def test_an_unattended_login_is_reported_without_its_secrets(hybridbroker: Command, tmp_path: Path) -> None:
    async with dhan(tmp_path, at=datetime.now(IST)) as world:
        done = await hybridbroker("login", "dhan", "--json", **variables(world))
        status = await hybridbroker("login", "dhan", "--status")
        gone = await hybridbroker("login", "dhan", "--logout")
        after = await hybridbroker("login", "dhan", "--status", "--json")
        again = await hybridbroker("login", "dhan", "--totp")
        secrets = [*(each.value for each in world.emulator.tokens.issued), world.emulator.totp_secret]

    row = json.loads(done.out)
    assert (row["broker"], row["logged_in"], row["account"], row["kind"]) == ("dhan", True, CLIENT, "access")
    assert 86_000 < row["seconds_left"] <= 86_400
    assert (done.code, status.code, gone.code, after.code) == (0, 0, 0, 1)
    assert f"dhan: logged in as {CLIENT}" in status.out
    assert "in 23 h 59 min" in status.out
    assert not json.loads(after.out)["logged_in"]
    assert (again.code, "wait 1" in again.err) == (1, True)
    assert not any(each in "".join(map(str, (done, status, gone, after, again))) for each in secrets)


async def test_a_token_can_be_piped_in(hybridbroker: Command, tmp_path: Path) -> None:
    async with dhan(tmp_path, at=datetime.now(IST)) as world:
        token = world.emulator.make_on_the_web()
        settings = {**variables(world), "DHAN_PIN": ""}

        done = await hybridbroker("login", "dhan", "--token", stdin=f"{token}\n", **settings)

    assert (done.code, "logged in" in done.out) == (0, True)
    assert token not in done.out + done.err


async def test_the_browser_is_opened_and_comes_back(
    hybridbroker: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser()
    monkeypatch.setattr(webbrowser, "open", browser.open)
    async with upstox(tmp_path, at=datetime.now(IST)) as world:
        done = await hybridbroker(
            "login",
            "upstox",
            UPSTOX_API_KEY=world.emulator.client_id,
            UPSTOX_API_SECRET=world.emulator.client_secret,
            UPSTOX_REDIRECT_URI=f"http://127.0.0.1:{free_port()}/cb",
            UPSTOX_BASE_URL=world.url,
        )

    assert (done.code, "upstox: logged in as AB1234" in done.out) == (0, True)
    assert "If no browser opens" in done.err


@pytest.mark.parametrize(
    ("line", "fix", "code"),
    [
        ("login nobody", "installed", 2),
        ("login dhan", "DHAN_CLIENT_ID", 2),
        ("login upstox --paste --token", "give one of them", 2),
        ("login upstox --totp", "--request", 2),
        ("login upstox --browser", "UPSTOX_API_KEY", 2),
        ("login upstox --listen 127.0.0.1:80", "--request", 2),
        ("login upstox --request --listen 80", "HOST:PORT", 2),
        ("login upstox --request --listen a:b", "HOST:PORT", 2),
        ("login upstox --token --kind sandbox", "UPSTOX_SANDBOX_TOKEN", 2),
        ("login upstox --token", "nothing was pasted", 2),
    ],
)
async def test_a_mistake_is_one_line_with_the_fix(hybridbroker: Command, line: str, fix: str, code: int) -> None:
    done = await hybridbroker(*line.split())

    assert done.code == code
    assert fix in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""


async def test_help_has_examples(hybridbroker: Command) -> None:
    done = await hybridbroker("login", "--help")

    assert done.code == 0
    assert "hybridbroker login dhan --totp" in done.out


async def test_doctor_warns_of_a_dotenv_that_others_can_read(hybridbroker: Command, tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("")
    dotenv.chmod(0o644)

    done = await hybridbroker("doctor", "--json")

    found = [each for each in json.loads(done.out)["checks"] if each["subject"] == "secrets"]
    assert (found[0]["status"], found[0]["fix"]) == ("warning", "chmod 600 .env")
