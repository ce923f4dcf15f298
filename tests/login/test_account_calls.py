"""Profile and registered addresses, as both brokers tell them; and what doctor makes of it."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from login_kit import CLIENT, NOON, Dhan, dhan, serving, upstox
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybridbroker.brokers.addresses import own_public_address, public_address
from hybridbroker.brokers.countdown import countdown
from hybridbroker.brokers.dhan.account import AddressSlot, DhanAccount
from hybridbroker.brokers.dhan.auth import AccessToken as DhanToken
from hybridbroker.brokers.dhan.auth import FixedToken as FixedDhanToken
from hybridbroker.brokers.dhan.checks import checks as dhan_checks
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.upstox.account import UpstoxAccount
from hybridbroker.brokers.upstox.checks import checks as upstox_checks
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST
from hybridbroker.errors import ConfigurationError, HybridBrokerError, ReplyLost, TokenExpired, WireFormatError
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.plugins import CHECKED_BY_BROKERS, Check, CheckStatus, OpenContext
from hybridbroker.testing.clock import ManualClock


def account(world: Dhan) -> DhanAccount:
    settings = world.settings(access_token=world.emulator.make_on_the_web())
    token = DhanToken.of(client_id=CLIENT, secret=settings.access_token)
    return DhanAccount(settings, clock=world.clock, tokens=FixedDhanToken(token, clock=world.clock))


async def test_dhan_tells_who_it_is_and_what_it_pays_for(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world, account(world) as ours:
        profile = await ours.profile()

    assert (profile.client_id, profile.segments) == (CLIENT, ("E", "D", "C", "M"))
    assert (profile.can_sell_holdings, profile.has_data) == (True, True)
    assert profile.token_valid_until == NOON + timedelta(hours=24)


async def test_dhans_addresses_are_set_once_and_changed_after_a_week(tmp_path: Path) -> None:
    async with dhan(tmp_path) as world, account(world) as ours:
        none = await ours.addresses()
        await ours.set_address("203.0.113.9")
        elsewhere = await ours.addresses()
        with pytest.raises(ConfigurationError, match="already set"):
            await ours.set_address("203.0.113.7")
        with pytest.raises(ConfigurationError, match="7 days"):
            await ours.modify_address("203.0.113.7")
        await ours.set_address("203.0.113.7", slot=AddressSlot.SECONDARY)
        here = await ours.addresses()

    assert (none.is_registered, none.orders_allowed) == (False, None)
    assert (elsewhere.match, elsewhere.orders_allowed) == ("NO_MATCH", False)
    assert (here.match, here.orders_allowed, here.primary_changed) == ("SECONDARY_MATCH", True, date(2026, 9, 15))


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0.7", "192.168.1.1", "127.0.0.1", "::1", "fe80::1", "1.2.3"])
def test_what_the_world_cannot_see_is_not_registered(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no public IP address"):
        public_address(text)


@pytest.mark.parametrize("text", ["203.0.113.7", " 203.0.113.7 ", "2001:db8::1"])
def test_a_public_address_is_taken(text: str) -> None:
    assert public_address(text) == text.strip()


def test_looking_for_the_own_address_needs_no_network() -> None:
    assert own_public_address() == "" or public_address(own_public_address())


async def test_upstox_tells_who_it_is(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        settings = world.settings(access_token=world.emulator.tokens.issue())
        async with UpstoxAccount(settings, clock=world.clock) as ours:
            profile = await ours.profile()

    assert (profile.user_id, profile.exchanges[0], profile.can_sell_holdings) == ("AB1234", "NSE", True)
    assert "A USER" not in repr(profile)


async def test_upstox_addresses_are_set_and_kill_the_token(tmp_path: Path) -> None:
    async with upstox(tmp_path) as world:
        settings = world.settings(access_token=world.emulator.tokens.issue())
        async with UpstoxAccount(settings, clock=world.clock) as ours:
            before = await ours.addresses()
            changed = await ours.set_addresses("203.0.113.7")
            with pytest.raises(TokenExpired):
                await ours.addresses()

    assert (before.is_registered, changed.primary, changed.secondary) == (False, "203.0.113.7", "")
    assert changed.tokens_invalidated
    assert changed.primary_changed == NOON


@pytest.mark.parametrize(
    "told", [None, [], "x", {"status": "success"}, {"status": "success", "data": [1]}, {"a": None}]
)
async def test_answers_of_another_shape_are_named_as_such(told: Any) -> None:
    clock = ManualClock(NOON)

    async def answer(_: Request) -> Response:
        return JSONResponse(told)

    async with serving([Route("/{path:path}", answer, methods=["GET", "PUT", "POST"])]) as url:
        live = DhanSettings(client_id=CLIENT, access_token="token", base_url=url)
        other = UpstoxSettings(access_token="token", base_url=url)
        async with DhanAccount(live, clock=clock) as theirs, UpstoxAccount(other, clock=clock) as ours:
            for call in (ours.profile(), ours.addresses(), ours.set_addresses("203.0.113.7")):
                with pytest.raises((WireFormatError, ReplyLost)):
                    await call
            outcomes = await asyncio.gather(
                theirs.profile(), theirs.addresses(), theirs.set_address("203.0.113.7"), return_exceptions=True
            )

    raised = [each for each in outcomes if isinstance(each, BaseException)]
    assert all(isinstance(each, HybridBrokerError) for each in raised)


def by_subject(found: Any) -> dict[str, Check]:
    return {each.subject: each for each in found}


async def test_doctor_answers_every_question_about_dhan_and_makes_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path))
    async with dhan(tmp_path) as world:
        world.emulator.addresses = {"PRIMARY": ("203.0.113.7", world.clock.now())}
        context = OpenContext(
            instruments=InstrumentRegistry.builtin(),
            clock=world.clock,
            settings=world.settings(access_token=world.emulator.make_on_the_web()),
        )
        world.clock.advance(3600)

        found = by_subject(await dhan_checks(context))

        assert world.emulator.generated == 0
    assert set(found) == set(CHECKED_BY_BROKERS)
    assert {each.status for each in found.values()} == {CheckStatus.OK}
    assert "in 23 h 0 min; renewed unattended" in found["token"].message
    assert "PRIMARY_MATCH" in found["address"].message


@pytest.mark.parametrize(("pin", "status"), [("111222", CheckStatus.OK), ("", CheckStatus.FAILED)])
async def test_doctor_says_whether_somebody_must_log_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pin: str, status: CheckStatus
) -> None:
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path))
    async with dhan(tmp_path) as world:
        settings = world.settings(access_token=world.emulator.make_on_the_web(), pin=pin)
        world.clock.advance(25 * 3600)
        context = OpenContext(instruments=InstrumentRegistry.builtin(), clock=world.clock, settings=settings)

        found = by_subject(await dhan_checks(context))

        assert world.emulator.generated == 0
    assert found["token"].status is status
    assert set(found) == set(CHECKED_BY_BROKERS)


async def test_doctor_answers_every_question_about_upstox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDBROKER_STATE_DIR", str(tmp_path))
    async with upstox(tmp_path) as world:
        settings = world.settings(access_token=world.emulator.tokens.issue(), plan="plus")
        context = OpenContext(instruments=InstrumentRegistry.builtin(), clock=world.clock, settings=settings)

        found = await upstox_checks(context)

    tokens = [each.message for each in found if each.subject == "token"]
    assert {each.subject for each in found} == set(CHECKED_BY_BROKERS)
    assert any("orders: access token; dies 16 Sep 2026 at 03:30 IST, in 15 h 30 min" in each for each in tokens)
    assert by_subject(found)["data plan"].fix == "set UPSTOX_PLAN=normal"


@pytest.mark.parametrize(
    ("dies", "told"),
    [
        ("2026-09-15T12:01", "dies 15 Sep 2026 at 12:01 IST, in 0 h 1 min"),
        ("2026-09-16T12:30", "dies 16 Sep 2026 at 12:30 IST, in 24 h 30 min"),
        ("2027-09-15T12:00", "dies 15 Sep 2027 at 12:00 IST, in 365 days"),
        ("2026-09-15T11:59", "died 15 Sep 2026 at 11:59 IST"),
    ],
)
def test_the_countdown_is_in_words(dies: str, told: str) -> None:
    assert countdown(datetime.fromisoformat(dies).replace(tzinfo=IST), now=NOON) == told
