"""Where Dhan objects get their token: newest first, made unattended, never two where one will do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from login_kit import CLIENT, NOON, Dhan, dhan, free_port, jwt
from pydantic import SecretStr

from hybridbroker.brokers.dhan.auth import AccessToken, TokenSource, token_source
from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.minting import Past, is_due
from hybridbroker.clock import IST
from hybridbroker.errors import AuthenticationError, ConfigurationError, NotSent, RateLimited, TokenExpired
from hybridbroker.transport.vault import Vault

HOUR = 3600


def source(world: Dhan, **changed: object) -> TokenSource:
    return token_source(world.settings(**changed), clock=world.clock, vault=world.vault)


async def test_one_token_serves_all_objects_of_the_process(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        sources = [source(world) for _ in range(3)]
        tokens = await asyncio.gather(*(each.token() for each in sources for _ in range(10)))

        assert world.emulator.generated == 1
    assert len({each.secret for each in tokens}) == 1
    assert sources[0] is sources[1]


async def test_a_token_that_is_over_is_replaced_without_a_person(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        tokens = source(world)
        first = await tokens.token()
        world.clock.advance(24 * HOUR + 120)

        second = await tokens.token()

        assert world.accepts(second.secret)
    assert first.secret != second.secret


async def test_a_token_killed_by_another_program_is_renewed_once_for_rest_and_sockets(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        tokens = source(world)
        old = await tokens.token()
        world.clock.advance(HOUR)
        world.emulator.make_on_the_web()  # kills ours

        renewed = await asyncio.gather(*(tokens.renewed(old) for _ in range(8)))

        assert world.emulator.generated == 2
        assert world.accepts(renewed[0].secret)
    assert len({each.secret for each in renewed}) == 1


async def test_reads_survive_the_death_of_their_token(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        settings = world.settings()
        tokens = token_source(settings, clock=world.clock, vault=world.vault)
        async with DhanClient(base_url=settings.base_url, tokens=tokens, clock=world.clock, account=CLIENT) as client:
            await client.read("/profile")
            world.clock.advance(HOUR)
            world.emulator.tokens.revoke_all()

            profiles = await asyncio.gather(*(client.read("/profile") for _ in range(5)))

        assert world.emulator.generated == 2
    assert {each["dhanClientId"] for each in profiles} == {CLIENT}


async def test_a_token_another_process_made_is_found_before_one_is_made(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        ours = token_source(world.settings(keep_warm_seconds=1), clock=world.clock, vault=world.vault)
        theirs = token_source(world.settings(keep_warm_seconds=2), clock=world.clock, vault=Vault(tmp_path))
        old = await ours.token()
        world.clock.advance(HOUR)
        world.emulator.tokens.revoke_all()
        made = await theirs.renewed(await theirs.token())

        found = await ours.renewed(old)

        assert world.emulator.generated == 2
    assert ours is not theirs
    assert found.secret == made.secret


async def test_two_processes_at_once_make_one_token(tmp_path: Path) -> None:
    script = """
import asyncio, json, os, sys
from pathlib import Path
from hybridbroker.brokers.dhan.auth import token_source
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import SystemClock
from hybridbroker.transport.vault import Vault
async def main():
    tokens = token_source(DhanSettings(), clock=SystemClock(), vault=Vault(Path(sys.argv[1])))
    print(hash((await tokens.token()).secret.get_secret_value()))
asyncio.run(main())
"""
    async with dhan(tmp_path, at=datetime.now(IST)) as world:
        settings = world.settings()
        environment = {
            "PATH": "",
            "PYTHONHASHSEED": "0",
            "DHAN_CLIENT_ID": CLIENT,
            "DHAN_PIN": settings.pin.get_secret_value(),
            "DHAN_TOTP_SECRET": settings.totp_secret.get_secret_value(),
            "DHAN_BASE_URL": settings.base_url,
            "DHAN_AUTH_URL": settings.auth_url,
        }
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, str(tmp_path), env=environment, stdout=subprocess.PIPE, cwd=tmp_path
            )
            for _ in range(2)
        ]
        told = [(await each.communicate())[0] for each in processes]

        assert world.emulator.generated == 1
    assert told[0] == told[1] != b""


async def test_no_second_token_is_asked_for_within_two_minutes(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        tokens = source(world)
        first = await tokens.token()
        world.emulator.tokens.revoke_all()
        world.clock.advance(60)

        with pytest.raises(RateLimited, match="wait 61 s"):
            await tokens.renewed(first)
        world.clock.advance(61)

        assert world.accepts((await tokens.renewed(first)).secret)
        assert world.emulator.generated == 2


async def test_a_lost_answer_counts_as_a_token_that_was_made(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        world.vault.write(
            f"{world.settings().vault_name('made')}", Past(asked_at=NOON - timedelta(seconds=20)).record()
        )

        with pytest.raises(RateLimited, match="wait 101 s"):
            await source(world).token()

        assert world.emulator.generated == 0


async def test_a_new_token_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with dhan(tmp_path) as world:
        tokens = source(world)
        write, calls = Vault.write, []

        def full(self: Vault, name: str, record: Mapping[str, str]) -> Path:
            calls.append(name)
            if len(calls) > 1:
                raise ConfigurationError("no space left")
            return write(self, name, record)

        monkeypatch.setattr(Vault, "write", full)
        first = await tokens.token()
        again = await tokens.token()

        assert world.emulator.generated == 1
        assert world.accepts(first.secret)
    assert first is again
    assert "in memory alone" in caplog.text


async def test_a_wrong_pin_is_not_tried_until_the_account_is_locked(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        tokens = source(world, pin="999999")
        outcomes = []
        for _ in range(8):
            with pytest.raises((AuthenticationError, RateLimited)) as caught:
                await tokens.token()
            outcomes.append(str(caught.value))
            world.clock.advance(130)

    assert sum("Invalid Pin" in each for each in outcomes) == 3
    assert "login dhan --totp" in outcomes[-1]


async def test_two_programs_that_kill_each_others_tokens_are_told(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        tokens = source(world)
        for _ in range(5):
            token = await tokens.token()
            world.emulator.make_on_the_web()
            world.clock.advance(130)
            if world.emulator.generated < 5:
                await tokens.renewed(token)

        with pytest.raises(AuthenticationError, match="another program makes tokens"):
            await tokens.renewed(token)
        assert world.emulator.generated == 5


async def test_the_newer_of_settings_and_store_is_used(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        stored = await source(world).token()
        world.clock.advance(HOUR)
        pasted = world.emulator.make_on_the_web()

        newer = await source(world, access_token=pasted).token()
        older = await source(world, access_token=jwt(exp=NOON.timestamp() + 60, iat=NOON.timestamp() - HOUR)).token()

    assert newer.secret.get_secret_value() == pasted
    assert older.secret == stored.secret


async def test_a_web_token_is_renewed_just_before_it_dies_where_there_is_no_pin(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        pasted = world.emulator.make_on_the_web()
        tokens = source(world, access_token=pasted, pin="")
        world.clock.advance(23 * HOUR)
        before = await tokens.token()
        world.clock.advance(HOUR - 200)

        after = await tokens.token()

        assert world.accepts(after.secret)
    assert before.secret.get_secret_value() == pasted
    assert after.secret != before.secret
    assert after.expires_at == NOON + timedelta(hours=48, seconds=-200)


async def test_a_token_without_successor_says_what_to_do(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        tokens = source(world, pin="", access_token=jwt(exp=NOON.timestamp() - HOUR))
        with pytest.raises(TokenExpired, match=r"died at 2026-09-15 11:00 IST.*login dhan.*DHAN_TOTP_SECRET"):
            await tokens.token()

        with pytest.raises(ConfigurationError, match="no Dhan token"):
            await source(world, pin="").token()


async def test_an_unreachable_login_server_says_that_nothing_was_sent(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        with pytest.raises(NotSent):
            await source(world, auth_url=f"http://127.0.0.1:{free_port()}").token()


async def test_the_sandbox_has_nothing_of_the_live_account(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world:
        await source(world).token()
        sandbox = world.settings(sandbox_client_id="2200000001", sandbox_token="sandbox-token").for_sandbox()
        tokens = token_source(sandbox, clock=world.clock, vault=world.vault)
        token = await tokens.token()

        with pytest.raises(TokenExpired):
            await tokens.renewed(token)
        assert world.emulator.generated == 1
    assert (token.client_id, token.secret.get_secret_value()) == ("2200000001", "sandbox-token")
    assert not sandbox.is_unattended


@pytest.mark.parametrize(
    ("now", "dies", "unattended", "due"),
    [
        pytest.param("15T11:00", "16T11:00", True, False, id="fresh"),
        pytest.param("15T10:56", "15T11:00", True, True, id="about to die"),
        pytest.param("15T06:00", "15T11:00", True, True, id="would die in the session"),
        pytest.param("15T06:00", "16T05:59", True, False, id="lives through the session"),
        pytest.param("15T09:10", "15T11:00", True, False, id="not while the market trades"),
        pytest.param("15T06:00", "15T11:00", False, False, id="nobody renews early by exchange"),
        pytest.param("15T10:56", "15T11:00", False, True, id="exchanged at the end"),
    ],
)
def test_when_a_living_token_is_replaced(now: str, dies: str, unattended: bool, due: bool) -> None:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(f"2026-09-{text}:00").replace(tzinfo=IST)

    token = AccessToken(client_id=CLIENT, secret=SecretStr("x"), expires_at=moment(dies), is_from_web=True)

    assert is_due(token, moment(now), unattended=unattended) is due


def test_a_damaged_memory_of_the_past_counts_as_none() -> None:
    assert Past.read({"asked_at": "yesterday"}) == Past()
    assert Past.read(Past(asked_at=NOON, refusals=2, made_at=(NOON,)).record()) == Past(
        asked_at=NOON, refusals=2, made_at=(NOON,)
    )
