"""What `hybridbroker doctor` can learn from Dhan: the token, the registered address, the data plan, DDPI, segments.

It looks and makes nothing: a new token would kill the one that a running bot uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from hybridbroker.brokers.countdown import countdown
from hybridbroker.brokers.dhan.account import Addresses, DhanAccount, Profile
from hybridbroker.brokers.dhan.auth import AccessToken, FixedToken, TokenShelf
from hybridbroker.brokers.dhan.limits import AS_OF
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import Clock
from hybridbroker.errors import AuthenticationError, HybridBrokerError, TokenExpired
from hybridbroker.plugins import Check, CheckStatus, OpenContext
from hybridbroker.transport.vault import Vault

__all__ = ["checks"]

_SOON: Final = timedelta(hours=2)
_NEW_TOKEN: Final = "hybridbroker login dhan"  # noqa: S105
_NEW_SANDBOX_TOKEN: Final = "make a new one at developer.dhanhq.co and set DHAN_SANDBOX_TOKEN"  # noqa: S105
_SET_ADDRESS: Final = "register this machine's public address at web.dhan.co -> My Profile -> Access DhanHQ APIs"


async def checks(context: OpenContext) -> Sequence[Check]:
    """Return what Dhan tells of the account; a call that fails is a finding, not an exception."""
    settings: DhanSettings = context.settings
    clock, now = context.clock, context.clock.now()
    found = [Check(subject="limits table", status=CheckStatus.OK, message=f"Dhan's limits as documented in {AS_OF}")]
    tokens = TokenShelf(settings, Vault())()
    living = [each for each in tokens if _lives(each, now)]
    if not living:
        return [*found, _no_token(tokens, settings, now=now), *_unasked("there is no living token to ask with")]
    token = living[0]
    async with DhanAccount(settings, clock=clock, tokens=FixedToken(token, clock=clock)) as account:
        try:
            profile = await account.profile()
        except AuthenticationError as exc:
            fix = _NEW_SANDBOX_TOKEN if settings.is_sandbox else _NEW_TOKEN
            refused = Check(subject="token", status=CheckStatus.FAILED, message=str(exc), fix=fix)
            return [*found, refused, *_unasked("Dhan refused the token")]
        except HybridBrokerError as exc:
            unread = f"the profile could not be read: {exc}"
            return [*found, Check(subject="token", status=CheckStatus.UNKNOWN, message=unread), *_unasked(unread)]
        found += [_token(token, profile, now=now, unattended=settings.is_unattended)]
        found += [_segments(profile), _delivery(profile), _data(profile, clock=clock)]
        found.append(await _address(account, settings))
    return found


def _no_token(tokens: Sequence[AccessToken], settings: DhanSettings, *, now: datetime) -> Check:
    last = tokens[0].expires_at if tokens else None
    told = f"the access token {countdown(last, now=now)}" if last else "there is no access token"
    if settings.is_unattended:
        message = f"{told}; a bot makes one by itself when it starts (PIN and TOTP secret are set)"
        return Check(subject="token", status=CheckStatus.OK, message=message)
    fix = _NEW_SANDBOX_TOKEN if settings.is_sandbox else _NEW_TOKEN
    return Check(subject="token", status=CheckStatus.FAILED, message=told, fix=fix)


def _token(token: AccessToken, profile: Profile, *, now: datetime, unattended: bool) -> Check:
    dies = token.expires_at or profile.token_valid_until
    how = "renewed unattended" if unattended else "nobody renews it: set DHAN_PIN and DHAN_TOTP_SECRET for that"
    if dies is None:
        return Check(subject="token", status=CheckStatus.OK, message=f"access token, accepted; {how}")
    status = CheckStatus.OK if unattended or dies - now > _SOON else CheckStatus.WARNING
    message = f"24-hour access token, accepted; {countdown(dies, now=now)}; {how}"
    return Check(subject="token", status=status, message=message, fix="" if status is CheckStatus.OK else _NEW_TOKEN)


def _segments(profile: Profile) -> Check:
    if not profile.segments:
        return Check(
            subject="segments",
            status=CheckStatus.FAILED,
            message="no segment is active, so no order would be taken",
            fix="activate one at web.dhan.co -> My Profile",
        )
    return Check(subject="segments", status=CheckStatus.OK, message=f"active: {', '.join(profile.segments)}")


def _delivery(profile: Profile) -> Check:
    can_sell = profile.can_sell_holdings
    if can_sell is None:
        return Check(subject="delivery sales", status=CheckStatus.UNKNOWN, message="the profile does not tell of DDPI")
    if can_sell:
        return Check(subject="delivery sales", status=CheckStatus.OK, message="DDPI is active: shares held can be sold")
    return Check(
        subject="delivery sales",
        status=CheckStatus.WARNING,
        message=f"DDPI is {profile.ddpi}: selling shares held needs an eDIS approval by T-PIN every day",
        fix="sign the DDPI form at web.dhan.co once",
    )


def _data(profile: Profile, *, clock: Clock) -> Check:
    if profile.has_data is None:
        message = "the profile does not tell of a data plan"
        return Check(subject="data plan", status=CheckStatus.UNKNOWN, message=message)
    if not profile.has_data:
        message = f"Data API plan: {profile.data_plan}; orders do not need it, Dhan's prices do"
        return Check(subject="data plan", status=CheckStatus.OK, message=message)
    ends = profile.data_valid_until
    until = "" if ends is None else f", paid until {ends:%d %b %Y}"
    is_soon = ends is not None and ends - clock.now() < timedelta(days=3)
    return Check(
        subject="data plan",
        status=CheckStatus.WARNING if is_soon else CheckStatus.OK,
        message=f"Data API plan: {profile.data_plan}{until}",
        fix="renew it at web.dhan.co -> My Profile -> Access DhanHQ APIs" if is_soon else "",
    )


async def _address(account: DhanAccount, settings: DhanSettings) -> Check:
    if settings.is_sandbox:
        return Check(subject="address", status=CheckStatus.OK, message="the sandbox takes orders from anywhere")
    try:
        return _judge_address(await account.addresses())
    except HybridBrokerError as exc:
        return Check(subject="address", status=CheckStatus.UNKNOWN, message=f"Dhan did not tell: {exc}")


def _judge_address(told: Addresses) -> Check:
    if not told.is_registered:
        message = "no address is registered, so orders will be refused"
        return Check(subject="address", status=CheckStatus.FAILED, message=message, fix=_SET_ADDRESS)
    known = ", ".join(each for each in (told.primary, told.secondary) if each)
    here = told.detected or "an address Dhan does not tell"
    word = f" ({told.match})" if told.match else ""
    message = f"registered: {known}; this machine comes from {here}{word}"
    if told.orders_allowed is None:
        return Check(subject="address", status=CheckStatus.UNKNOWN, message=f"{message}; compare them yourself")
    if told.orders_allowed:
        return Check(subject="address", status=CheckStatus.OK, message=message)
    return Check(subject="address", status=CheckStatus.FAILED, message=message, fix=_SET_ADDRESS)


def _unasked(why: str) -> list[Check]:
    subjects = ("address", "data plan", "delivery sales", "segments")
    return [Check(subject=each, status=CheckStatus.UNKNOWN, message=f"not asked: {why}") for each in subjects]


def _lives(token: AccessToken, now: datetime) -> bool:
    try:
        token.check(now)
    except TokenExpired:
        return False
    return True
