"""What `hybridbroker doctor` can learn from Upstox: the token, the data plan, and what of the account it may read.

The token is proved where prices need it, at the feed's authorize call: an analytics token
(read-only, one year) may not read the account's profile from everywhere. Documented:
https://upstox.com/developer/api-documentation/get-profile/ and, for the registered
addresses, GET ``/v2/user/ip``, which does not tell where a request comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from hybridbroker.brokers.upstox.auth import AccessToken, SettingsToken
from hybridbroker.brokers.upstox.data.rest import UpstoxRest
from hybridbroker.brokers.upstox.limits import AS_OF
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import AuthenticationError, HybridBrokerError, WireFormatError
from hybridbroker.plugins import Check, CheckStatus, OpenContext
from hybridbroker.transport.http import HttpClient

__all__ = ["checks"]

_A_DAY: Final = timedelta(days=2)
_SOON: Final = timedelta(hours=1)
_NEW_TOKEN: Final = "make a new one at account.upstox.com/developer/apps and set UPSTOX_ACCESS_TOKEN"  # noqa: S105


async def checks(context: OpenContext) -> Sequence[Check]:
    """Return what Upstox tells of the account; a call that fails is a finding, not an exception."""
    settings: UpstoxSettings = context.settings
    clock = context.clock
    found = [
        Check(subject="limits table", status=CheckStatus.OK, message=f"Upstox's limits as documented in {AS_OF}"),
        Check(subject="data plan", status=CheckStatus.OK, message=f"set to {settings.plan} (UPSTOX_PLAN)"),
        await _token(settings, clock=clock),
    ]
    if found[-1].status is CheckStatus.FAILED:
        return found
    token = AccessToken.of(settings.access_token, seen_at=clock.now())
    async with HttpClient(base_url=settings.base_url, headers=token.headers(), clock=clock) as http:
        profile = await _data(http, "/v2/user/profile")
        addresses = await _data(http, "/v2/user/ip")
    return [*found, _segments(profile), _delivery(profile), _address(addresses)]


async def _token(settings: UpstoxSettings, *, clock: Clock) -> Check:
    now = clock.now()
    token = AccessToken.of(settings.access_token, seen_at=now)
    tokens = SettingsToken(lambda: settings, clock=clock)
    try:
        async with UpstoxRest(base_url=settings.base_url, tokens=tokens, clock=clock) as rest:
            await rest.feed_address()
    except AuthenticationError as exc:
        return Check(subject="token", status=CheckStatus.FAILED, message=str(exc), fix=_NEW_TOKEN)
    except HybridBrokerError as exc:
        unread = f"whether the token opens the feed could not be asked: {exc}"
        return Check(subject="token", status=CheckStatus.UNKNOWN, message=unread)
    return _judge_token(token, now=now)


def _judge_token(token: AccessToken, *, now: datetime) -> Check:
    left = token.expires_at - now
    kind = "long-lived (analytics) token" if left > _A_DAY else "ordinary token"
    dies = f"{token.expires_at.astimezone(IST):%d %b %Y at %H:%M} IST"
    told = f"dies {dies}" if token.is_certain else f"does not say when it dies; an ordinary one does {dies}"
    status = CheckStatus.OK if left > _SOON else CheckStatus.WARNING
    fix = "" if status is CheckStatus.OK else _NEW_TOKEN
    return Check(subject="token", status=status, message=f"{kind}, accepted for prices; {told}", fix=fix)


async def _data(http: HttpClient, path: str) -> Mapping[str, Any]:
    """Return the ``data`` of an answer, or nothing where this token may not ask."""
    try:
        response = await http.get(path)
        told = response.json() if response.status == HTTPStatus.OK else None
    except (HybridBrokerError, WireFormatError):
        return {}
    data = told.get("data") if isinstance(told, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _segments(profile: Mapping[str, Any]) -> Check:
    exchanges = profile.get("exchanges")
    if not isinstance(exchanges, list):
        return Check(subject="segments", status=CheckStatus.UNKNOWN, message="this token may not read the profile")
    return Check(subject="segments", status=CheckStatus.OK, message=f"active: {', '.join(map(str, exchanges))}")


def _delivery(profile: Mapping[str, Any]) -> Check:
    if not isinstance(profile.get("ddpi"), bool):
        message = "the profile, where this token may read it, does not tell of DDPI"
        return Check(subject="delivery sales", status=CheckStatus.UNKNOWN, message=message)
    if profile["ddpi"] or profile.get("poa") is True:
        return Check(subject="delivery sales", status=CheckStatus.OK, message="DDPI is active: shares held can be sold")
    return Check(
        subject="delivery sales",
        status=CheckStatus.WARNING,
        message="no DDPI: selling shares held needs an approval by TPIN and OTP every day",
        fix="sign the DDPI form in the Upstox app once",
    )


def _address(addresses: Mapping[str, Any]) -> Check:
    known = ", ".join(str(addresses[name]) for name in ("primary_ip", "secondary_ip") if addresses.get(name))
    if not known:
        message = "Upstox did not tell a registered address; prices need none, orders do"
        return Check(subject="address", status=CheckStatus.UNKNOWN, message=message)
    message = f"registered: {known}; Upstox does not tell where this machine comes from, compare them yourself"
    return Check(subject="address", status=CheckStatus.UNKNOWN, message=message)
