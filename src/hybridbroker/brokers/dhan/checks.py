"""What `hybridbroker doctor` can learn from Dhan: the token, the registered address, the data plan, DDPI, segments.

Documented: https://dhanhq.co/docs/v2/authentication/ (profile, static IP). The fields
``ipMatchStatus`` and ``ordersAllowed`` of the address call are recorded, not documented; an
account without any address answered 200 with an error inside (recorded September 2026).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.limits import AS_OF
from hybridbroker.brokers.dhan.orders.rest import DhanRest
from hybridbroker.brokers.dhan.orders.wire import Profile
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import AuthenticationError, HybridBrokerError, WireFormatError
from hybridbroker.plugins import Check, CheckStatus, OpenContext
from hybridbroker.transport.http import HttpClient

__all__ = ["checks"]

_SOON: Final = 2.0
_NEW_TOKEN: Final = "make a new one at web.dhan.co -> My Profile -> Access DhanHQ APIs and set DHAN_ACCESS_TOKEN"  # noqa: S105
_SET_ADDRESS: Final = "register this machine's public address at web.dhan.co -> My Profile -> Access DhanHQ APIs"


async def checks(context: OpenContext) -> Sequence[Check]:
    """Return what Dhan tells of the account; a call that fails is a finding, not an exception."""
    settings: DhanSettings = context.settings
    token = AccessToken.of(client_id=settings.client_id, secret=settings.access_token)
    found = [_limits_table()]
    async with DhanRest(base_url=settings.base_url, token=token, clock=context.clock) as rest:
        try:
            profile = await rest.profile()
        except AuthenticationError as exc:
            return [*found, Check(subject="token", status=CheckStatus.FAILED, message=str(exc), fix=_NEW_TOKEN)]
        except HybridBrokerError as exc:
            unread = f"the profile could not be read: {exc}"
            return [*found, Check(subject="token", status=CheckStatus.UNKNOWN, message=unread)]
    found += [_token(token, profile, now=context.clock.now()), _segments(profile), _delivery(profile), _data(profile)]
    found.append(await _address(settings, token, clock=context.clock))
    return found


def _limits_table() -> Check:
    return Check(subject="limits table", status=CheckStatus.OK, message=f"Dhan's limits as documented in {AS_OF}")


def _token(token: AccessToken, profile: Profile, *, now: datetime) -> Check:
    if token.expires_at is None:
        told = profile.token_validity or "it does not say"
        return Check(subject="token", status=CheckStatus.OK, message=f"access token, accepted; valid until {told}")
    hours = (token.expires_at - now).total_seconds() / 3600
    status = CheckStatus.OK if hours > _SOON else CheckStatus.WARNING
    message = (
        f"24-hour access token, accepted; dies {token.expires_at.astimezone(IST):%d %b at %H:%M} IST ({hours:.1f} h)"
    )
    return Check(subject="token", status=status, message=message, fix="" if status is CheckStatus.OK else _NEW_TOKEN)


def _segments(profile: Profile) -> Check:
    active = [each.strip() for each in (profile.active_segment or "").split(",") if each.strip()]
    if not active:
        return Check(
            subject="segments",
            status=CheckStatus.FAILED,
            message="no segment is active, so no order would be taken",
            fix="activate one at web.dhan.co -> My Profile",
        )
    return Check(subject="segments", status=CheckStatus.OK, message=f"active: {', '.join(active)}")


def _delivery(profile: Profile) -> Check:
    if profile.ddpi is None:
        return Check(subject="delivery sales", status=CheckStatus.UNKNOWN, message="the profile does not tell of DDPI")
    if profile.ddpi.lower() == "active":
        return Check(subject="delivery sales", status=CheckStatus.OK, message="DDPI is active: shares held can be sold")
    return Check(
        subject="delivery sales",
        status=CheckStatus.WARNING,
        message=f"DDPI is {profile.ddpi}: selling shares held needs an eDIS approval by T-PIN every day",
        fix="sign the DDPI form at web.dhan.co once",
    )


def _data(profile: Profile) -> Check:
    if profile.data_plan is None:
        return Check(
            subject="data plan", status=CheckStatus.UNKNOWN, message="the profile does not tell of a data plan"
        )
    active = profile.data_plan.lower() == "active"
    message = f"Data API plan: {profile.data_plan}" + ("" if active else "; orders do not need it, Dhan's prices do")
    return Check(subject="data plan", status=CheckStatus.OK, message=message)


async def _address(settings: DhanSettings, token: AccessToken, *, clock: Clock) -> Check:
    async with HttpClient(base_url=settings.base_url, headers=token.headers(), clock=clock) as http:
        try:
            response = await http.get("/ip/getIP")
            told = response.json()
        except (HybridBrokerError, WireFormatError) as exc:
            return Check(subject="address", status=CheckStatus.UNKNOWN, message=f"Dhan did not tell: {exc}")
    return _judge_address(told)


def _judge_address(told: Any) -> Check:
    if isinstance(told, list):
        return Check(
            subject="address",
            status=CheckStatus.FAILED,
            message="no address is registered, so orders will be refused",
            fix=_SET_ADDRESS,
        )
    if not isinstance(told, Mapping) or "primaryIP" not in told:
        return Check(subject="address", status=CheckStatus.UNKNOWN, message="Dhan did not tell which address it knows")
    known = ", ".join(str(told[name]) for name in ("primaryIP", "secondaryIP") if told.get(name)) or "none"
    here = told.get("detectedIP") or "an address Dhan does not tell"
    allowed = told.get("ordersAllowed")
    message = f"registered: {known}; this machine comes from {here}"
    if allowed is None:
        return Check(subject="address", status=CheckStatus.UNKNOWN, message=f"{message}; compare them yourself")
    status = CheckStatus.OK if allowed is True else CheckStatus.FAILED
    return Check(subject="address", status=status, message=message, fix="" if allowed is True else _SET_ADDRESS)
