"""Where Upstox objects get their token: analytics for prices, an ordinary one for orders, never a stranger's."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from login_kit import NOON, jwt
from pydantic import SecretStr

from hybridbroker.brokers.upstox.auth import AccessToken, Reach, TokenKind, TokenSource, token_source
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST
from hybridbroker.errors import AuthenticationError, ConfigurationError, TokenExpired
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.vault import Vault

DAY = timedelta(days=1)


def token(name: str, *, dies: datetime, made: datetime = NOON, user: str = "AB1234") -> str:
    return jwt(sub=user, iat=int(made.timestamp()), exp=int(dies.timestamp()), name=name)


TODAY = token("today", dies=datetime(2026, 9, 16, 3, 30, tzinfo=IST))
YESTERDAY = token("yesterday", dies=datetime(2026, 9, 15, 3, 30, tzinfo=IST), made=NOON - DAY)
TOMORROW = token("tomorrow", dies=datetime(2026, 9, 17, 3, 30, tzinfo=IST), made=NOON + 16 * timedelta(hours=1))
YEAR = token("year", dies=NOON + 365 * DAY)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock, self.vault, self.folder = ManualClock(NOON), Vault(folder), folder

    def source(self, reach: Reach = Reach.DATA, **settings: Any) -> TokenSource:
        return token_source(UpstoxSettings(**settings), clock=self.clock, reach=reach, vault=self.vault)

    def store(self, secret: str, *, kind: str = "access", user: str = "AB1234") -> None:
        read = AccessToken.of(SecretStr(secret), seen_at=NOON)
        record = {
            "secret": secret,
            "kind": kind,
            "user_id": user,
            "made_at": (read.issued_at or NOON).isoformat(),
            "expires_at": read.expires_at.isoformat(),
        }
        Vault(self.folder).write(f"upstox.{kind}", record)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def held(source: TokenSource) -> str:
    return (await source.token()).secret.get_secret_value()


async def test_prices_take_the_analytics_token_and_orders_an_ordinary_one(world: World) -> None:
    both = {"analytics_token": YEAR, "access_token": TODAY}

    assert await held(world.source(Reach.DATA, **both)) == YEAR
    assert await held(world.source(Reach.ORDERS, **both)) == TODAY
    assert await held(world.source(Reach.ACCOUNT, **both)) == TODAY


async def test_prices_go_on_with_an_ordinary_token_when_the_year_is_over(world: World) -> None:
    over = token("over", dies=NOON - DAY, made=NOON - 366 * DAY)

    assert await held(world.source(analytics_token=over, access_token=TODAY)) == TODAY


async def test_an_order_with_an_analytics_token_is_refused_before_anything_is_sent(world: World) -> None:
    with pytest.raises(AuthenticationError, match=r"orders cannot be had with an Upstox analytics token.*access"):
        await world.source(Reach.ORDERS, access_token=YEAR).token()


async def test_a_token_of_the_login_is_found(world: World) -> None:
    world.store(TODAY)

    assert await held(world.source(Reach.ORDERS)) == TODAY
    assert await held(world.source(Reach.DATA)) == TODAY


async def test_the_login_stands_in_for_a_dead_token_of_the_same_user(world: World) -> None:
    world.store(TODAY)

    assert await held(world.source(Reach.ORDERS, access_token=YESTERDAY)) == TODAY


@pytest.mark.parametrize("given", [token("other", dies=NOON - DAY, user="ZZ9999"), "opaque-token"])
async def test_an_order_never_goes_to_another_account_than_the_one_given(world: World, given: str) -> None:
    world.store(TODAY)
    source = world.source(Reach.ORDERS, access_token=given)

    with pytest.raises(TokenExpired):
        await source.renewed(await source.token())


async def test_a_stream_survives_the_night_when_somebody_logs_in(world: World) -> None:
    world.store(TODAY)
    source = world.source()
    evening = await source.token()
    world.clock.advance(15.6 * 3600)  # 03:36
    with pytest.raises(TokenExpired, match=r"2026-09-16 03:30 IST.*login upstox"):
        await source.token()

    world.store(TOMORROW)
    morning = await source.token()

    assert evening.secret.get_secret_value() == TODAY
    assert morning.secret.get_secret_value() == TOMORROW


async def test_a_refused_token_is_replaced_by_the_one_of_a_new_login(world: World) -> None:
    world.store(TODAY)
    source = world.source(Reach.ORDERS)
    refused = await source.token()
    with pytest.raises(TokenExpired, match="there is no other"):
        await source.renewed(refused)

    newer = token("newer", dies=datetime(2026, 9, 16, 3, 30, tzinfo=IST), made=NOON + timedelta(hours=1))
    world.store(newer)

    assert (await source.renewed(refused)).secret.get_secret_value() == newer
    assert await held(source) == newer


async def test_a_new_token_in_dotenv_reaches_a_running_program(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UPSTOX_ACCESS_TOKEN", raising=False)
    write = (tmp_path / ".env").write_text
    write(f"UPSTOX_ACCESS_TOKEN={TODAY}\n")
    source = token_source(UpstoxSettings.read(), clock=world.clock, reach=Reach.ORDERS, vault=world.vault)
    first = await held(source)

    write(f"UPSTOX_ACCESS_TOKEN={TOMORROW}\n")
    world.clock.advance(1)
    second = await held(source)
    write("UPSTOX_ACCESS_TOKEN=two words\n")
    world.clock.advance(1)

    assert (first, second) == (TODAY, TOMORROW)
    assert await held(source) == TOMORROW


async def test_nothing_at_all_says_how_to_log_in(world: World) -> None:
    with pytest.raises(ConfigurationError, match="login upstox"):
        await world.source().token()


async def test_the_sandbox_takes_its_own_token_alone(world: World) -> None:
    world.store(TODAY)
    settings = UpstoxSettings(access_token=TODAY, analytics_token=YEAR, sandbox_token="sandbox-token").for_sandbox()
    source = token_source(settings, clock=world.clock, reach=Reach.ORDERS, vault=world.vault)
    found = await source.token()

    with pytest.raises(TokenExpired):
        await source.renewed(found)
    assert (found.secret.get_secret_value(), found.kind) == ("sandbox-token", TokenKind.SANDBOX)
    assert (settings.base_url, settings.order_url) == ("https://api-sandbox.upstox.com",) * 2
    with pytest.raises(AuthenticationError, match="prices cannot be had"):
        found.require(Reach.DATA)


def test_a_sandbox_without_token_says_where_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match="UPSTOX_SANDBOX_TOKEN"):
        UpstoxSettings(access_token=TODAY).for_sandbox()


@pytest.mark.parametrize(
    ("life", "kind"),
    [
        (timedelta(hours=15), TokenKind.ACCESS),
        (30 * DAY, TokenKind.SANDBOX),
        (365 * DAY, TokenKind.ANALYTICS),
    ],
)
def test_the_kind_shows_in_the_length_of_life(life: timedelta, kind: TokenKind) -> None:
    read = AccessToken.of(SecretStr(token("x", dies=NOON + life)), seen_at=NOON + timedelta(hours=1))

    assert read.kind is kind


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("reach", Reach)
def test_every_kind_reaches_or_says_what_it_takes(kind: TokenKind, reach: Reach) -> None:
    key = AccessToken(secret=SecretStr("x"), expires_at=NOON, is_certain=True, kind=kind)

    if key.reaches(reach):
        key.require(reach)
    else:
        with pytest.raises(AuthenticationError, match=f"{reach} cannot be had with an Upstox {kind} token"):
            key.require(reach)
