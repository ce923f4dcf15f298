"""The account itself: who it is, what it may do, and from which addresses its orders may come.

Documented: https://upstox.com/developer/api-documentation/get-profile/ and GET and PUT
``/v2/user/ip`` (April 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import attrs

from hybridbroker.brokers.addresses import public_address
from hybridbroker.brokers.upstox.auth import Reach, TokenSource, token_source
from hybridbroker.brokers.upstox.client import UpstoxClient
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import OrderOutcomeUnknown, ReplyLost, WireFormatError
from hybridbroker.transport.http import Response

__all__ = ["Addresses", "Profile", "UpstoxAccount"]


@attrs.frozen(kw_only=True)
class Profile:
    """What Upstox says of the account."""

    user_id: str
    name: str = attrs.field(repr=False)
    exchanges: tuple[str, ...]
    """Active ones, in Upstox's own words: ``NSE``, ``NFO`` and so on."""
    products: tuple[str, ...]
    is_active: bool | None
    ddpi: bool | None
    """Whether shares held can be sold without an approval every day; None where it does not say."""
    power_of_attorney: bool | None

    @property
    def can_sell_holdings(self) -> bool | None:
        """Whether delivery shares can be sold without an approval; None where nobody can tell."""
        if self.ddpi or self.power_of_attorney:
            return True
        return self.ddpi


@attrs.frozen(kw_only=True)
class Addresses:
    """The addresses orders may come from; Upstox does not say where this machine comes from."""

    primary: str
    """"" where none is registered."""
    secondary: str
    primary_changed: datetime | None
    """An address can be changed once in a calendar week."""
    secondary_changed: datetime | None
    tokens_invalidated: bool = False
    """Whether the change killed the access tokens; log in again."""

    @property
    def is_registered(self) -> bool:
        """Whether there is any."""
        return bool(self.primary or self.secondary)


class UpstoxAccount:
    """Profile and address calls of one account; entered before use."""

    def __init__(self, settings: UpstoxSettings, *, clock: Clock, tokens: TokenSource | None = None) -> None:
        self._client = UpstoxClient(
            base_url=settings.base_url,
            tokens=tokens or token_source(settings, clock=clock, reach=Reach.ACCOUNT),
            clock=clock,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)

    async def profile(self) -> Profile:
        """Return what Upstox says of the account; the cheapest proof that an ordinary token lives."""
        told = _data(await self._client.read("/v2/user/profile", call="account"))
        return Profile(
            user_id=_text(told, "user_id"),
            name=_text(told, "user_name"),
            exchanges=_words(told, "exchanges"),
            products=_words(told, "products"),
            is_active=_flag(told, "is_active"),
            ddpi=_flag(told, "ddpi"),
            power_of_attorney=_flag(told, "poa"),
        )

    async def addresses(self) -> Addresses:
        """Return the registered addresses; empty ones where none is."""
        return _addresses(_data(await self._client.read("/v2/user/ip", call="account")))

    async def set_addresses(self, primary: str, secondary: str = "") -> Addresses:
        """Register the addresses orders may come from, for all apps of the user, once in a calendar week.

        A success makes the access tokens worthless: log in again. Sent once.

        Raises:
            ConfigurationError: They are no addresses, or Upstox does not take them.
            ReplyLost: No readable answer came; `addresses` tells what became of it.
        """
        body = {"primary_ip": public_address(primary)}
        if secondary:
            body["secondary_ip"] = public_address(secondary)
        what = "the change of the registered addresses"
        try:
            response = await self._client.write("PUT", "/v2/user/ip", what=what, subject="", call="account", json=body)
        except OrderOutcomeUnknown as exc:
            raise ReplyLost(f"{what} may or may not have been carried out; read them again: {exc}") from exc
        return _addresses(_data(response))


def _data(response: Response) -> Mapping[str, Any]:
    told = response.json()
    data = told.get("data") if isinstance(told, Mapping) else None
    if not isinstance(data, Mapping):
        raise WireFormatError(f"{response.request}: data: not an object")
    return data


def _addresses(told: Mapping[str, Any]) -> Addresses:
    return Addresses(
        primary=_text(told, "primary_ip"),
        secondary=_text(told, "secondary_ip"),
        primary_changed=_moment(_text(told, "primary_ip_updated_at")),
        secondary_changed=_moment(_text(told, "secondary_ip_updated_at")),
        tokens_invalidated=told.get("access_tokens_invalidated") is True,
    )


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return value.strip() if isinstance(value, str) else ""


def _words(told: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = told.get(name)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _flag(told: Mapping[str, Any], name: str) -> bool | None:
    value = told.get(name)
    return value if isinstance(value, bool) else None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=IST)
    except ValueError:
        return None
