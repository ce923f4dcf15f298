"""What `hybridbroker doctor` can learn from Upstox: the tokens, the data plan, and what of the account they may read.

A token for prices is proved where prices need it, at the feed's authorize call: an analytics
token may not read the account's profile from everywhere. Documented:
https://upstox.com/developer/api-documentation/get-profile/ and, for the registered addresses,
GET ``/v2/user/ip``, which does not tell where a request comes from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from hybridbroker.brokers.addresses import own_public_address
from hybridbroker.brokers.countdown import countdown
from hybridbroker.brokers.upstox.account import Addresses, Profile, UpstoxAccount
from hybridbroker.brokers.upstox.auth import AccessToken, Reach, TokenKind, token_source
from hybridbroker.brokers.upstox.client import UpstoxClient
from hybridbroker.brokers.upstox.limits import AS_OF
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import Clock
from hybridbroker.errors import AuthenticationError, ConfigurationError, HybridBrokerError, TokenExpired
from hybridbroker.plugins import Check, CheckStatus, OpenContext
from hybridbroker.transport.tokens import jwt_claims

__all__ = ["checks"]

_SOON: Final = {TokenKind.ACCESS: timedelta(hours=1), TokenKind.ANALYTICS: timedelta(days=14)}
_LOG_IN: Final = "hybridbroker login upstox"
_LOG_IN_ANALYTICS: Final = "hybridbroker login upstox --token --kind analytics"

T = TypeVar("T")


async def checks(context: OpenContext) -> Sequence[Check]:
    """Return what Upstox tells of the account; a call that fails is a finding, not an exception."""
    settings: UpstoxSettings = context.settings
    clock = context.clock
    found = [Check(subject="limits table", status=CheckStatus.OK, message=f"Upstox's limits as documented in {AS_OF}")]
    orders = await _of_orders(settings, clock=clock)
    found += [_plan(settings, orders), await _for_prices(settings, clock=clock), _for_orders(orders, now=clock.now())]
    async with UpstoxAccount(settings, clock=clock) as account:
        profile = await _asked(account.profile())
        addresses = await _asked(account.addresses())
    return [*found, _segments(profile), _delivery(profile), _address(addresses, here=own_public_address())]


async def _of_orders(settings: UpstoxSettings, *, clock: Clock) -> AccessToken | HybridBrokerError:
    try:
        return await token_source(settings, clock=clock, reach=Reach.ORDERS).token()
    except HybridBrokerError as exc:
        return exc


async def _for_prices(settings: UpstoxSettings, *, clock: Clock) -> Check:
    tokens = token_source(settings, clock=clock, reach=Reach.DATA)
    try:
        token = await tokens.token()
        async with UpstoxClient(base_url=settings.base_url, tokens=tokens, clock=clock) as client:
            await client.read("/v3/feed/market-data-feed/authorize", call="feed", family="feed", once=True)
    except (AuthenticationError, ConfigurationError) as exc:
        return Check(subject="token", status=CheckStatus.FAILED, message=f"prices: {exc}", fix=_LOG_IN)
    except HybridBrokerError as exc:
        unread = f"prices: whether the token opens the feed could not be asked: {exc}"
        return Check(subject="token", status=CheckStatus.UNKNOWN, message=unread)
    return _judge_token(token, "prices", now=clock.now())


def _judge_token(token: AccessToken, use: str, *, now: datetime) -> Check:
    soon = _SOON.get(token.kind, _SOON[TokenKind.ACCESS])
    status = CheckStatus.OK if token.expires_at - now > soon else CheckStatus.WARNING
    life = countdown(token.expires_at, now=now)
    told = life if token.is_certain else f"it does not say when it dies; an ordinary one {life}"
    accepted = ", accepted" if use == "prices" else ""
    fix = "" if status is CheckStatus.OK else _LOG_IN_ANALYTICS if token.kind is TokenKind.ANALYTICS else _LOG_IN
    return Check(subject="token", status=status, message=f"{use}: {token.kind} token{accepted}; {told}", fix=fix)


def _for_orders(token: AccessToken | HybridBrokerError, *, now: datetime) -> Check:
    if isinstance(token, AccessToken):
        return _judge_token(token, "orders", now=now)
    if isinstance(token, TokenExpired):
        return Check(subject="token", status=CheckStatus.WARNING, message=f"orders: {token}", fix=_LOG_IN)
    message = f"orders: none; they need an access token, which `{_LOG_IN}` gets"
    return Check(subject="token", status=CheckStatus.OK, message=message)


def _plan(settings: UpstoxSettings, token: AccessToken | HybridBrokerError) -> Check:
    told = jwt_claims(token.secret.get_secret_value()).get("isPlusPlan") if isinstance(token, AccessToken) else None
    message = f"set to {settings.plan} (UPSTOX_PLAN)"
    if not isinstance(told, bool):
        return Check(subject="data plan", status=CheckStatus.OK, message=message)
    plan = "plus" if told else "normal"
    if plan == settings.plan:
        return Check(subject="data plan", status=CheckStatus.OK, message=f"{plan}, as the token says too")
    return Check(
        subject="data plan",
        status=CheckStatus.WARNING,
        message=f"{message}, but the token says {plan}",
        fix=f"set UPSTOX_PLAN={plan}",
    )


async def _asked(call: Awaitable[T]) -> T | None:
    """Return an answer, or nothing where this token may not ask."""
    try:
        return await call
    except HybridBrokerError:
        return None


def _segments(profile: Profile | None) -> Check:
    if profile is None or not profile.exchanges:
        message = "this token may not read the profile; an access token may"
        return Check(subject="segments", status=CheckStatus.UNKNOWN, message=message)
    return Check(subject="segments", status=CheckStatus.OK, message=f"active: {', '.join(profile.exchanges)}")


def _delivery(profile: Profile | None) -> Check:
    can_sell = None if profile is None else profile.can_sell_holdings
    if can_sell is None:
        message = "the profile, where this token may read it, does not tell of DDPI"
        return Check(subject="delivery sales", status=CheckStatus.UNKNOWN, message=message)
    if can_sell:
        return Check(subject="delivery sales", status=CheckStatus.OK, message="DDPI is active: shares held can be sold")
    return Check(
        subject="delivery sales",
        status=CheckStatus.WARNING,
        message="no DDPI: selling shares held needs an approval by TPIN and OTP every day",
        fix="sign the DDPI form in the Upstox app once",
    )


def _address(addresses: Addresses | None, *, here: str) -> Check:
    if addresses is None:
        message = "Upstox did not tell a registered address; prices need none, orders do"
        return Check(subject="address", status=CheckStatus.UNKNOWN, message=message)
    if not addresses.is_registered:
        message = "no address is registered; prices need none, orders will be refused"
        fix = "register this machine's public address at account.upstox.com/developer/apps"
        return Check(subject="address", status=CheckStatus.WARNING, message=message, fix=fix)
    registered = [each for each in (addresses.primary, addresses.secondary) if each]
    message = f"registered: {', '.join(registered)}"
    if not here:
        unknown = f"{message}; this machine is behind another's address, compare that one yourself"
        return Check(subject="address", status=CheckStatus.UNKNOWN, message=unknown)
    if here in registered:
        return Check(subject="address", status=CheckStatus.OK, message=f"{message}; this machine bears {here}")
    return Check(
        subject="address",
        status=CheckStatus.WARNING,
        message=f"{message}; this machine bears {here}, so its orders would be refused",
        fix="register it at account.upstox.com/developer/apps, at most once in a calendar week",
    )
