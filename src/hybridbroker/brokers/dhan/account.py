"""The account itself: who it is, what it may do, and from which addresses its orders may come.

Documented: https://dhanhq.co/docs/v2/authentication/ (profile, static IP). The fields
``detectedIP``, ``ipMatchStatus`` and ``ordersAllowed`` are recorded, not documented; an account
without any address answered 200 with an error inside (recorded September 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import date, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Self

import attrs

from hybridbroker.brokers.addresses import public_address
from hybridbroker.brokers.dhan.auth import TokenSource, token_source
from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.faults import fault_in, read_error
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import ConfigurationError, WireFormatError
from hybridbroker.transport.http import HttpClient

__all__ = ["AddressSlot", "Addresses", "DhanAccount", "Profile"]

_ACTIVE: Final = "active"


class AddressSlot(StrEnum):
    """An account has two registered addresses."""

    PRIMARY = "PRIMARY"
    SECONDARY = "SECONDARY"


@attrs.frozen(kw_only=True)
class Profile:
    """What Dhan says of the account."""

    client_id: str
    segments: tuple[str, ...]
    """Active segments in Dhan's own letters or words: ``E`` or ``Equity`` and so on."""
    ddpi: str | None
    """``Active`` where shares held can be sold without an approval every day; None where it does not say."""
    data_plan: str | None
    """``Active`` where Dhan's prices are paid for."""
    token_valid_until: datetime | None
    data_valid_until: datetime | None

    @property
    def can_sell_holdings(self) -> bool | None:
        """Whether delivery shares can be sold without an eDIS approval; None where nobody can tell."""
        return None if self.ddpi is None else self.ddpi.lower() == _ACTIVE

    @property
    def has_data(self) -> bool | None:
        """Whether Dhan's prices may be read; None where nobody can tell."""
        return None if self.data_plan is None else self.data_plan.lower() == _ACTIVE


@attrs.frozen(kw_only=True)
class Addresses:
    """The addresses orders may come from, and the one this machine comes from."""

    primary: str
    """"" where none is registered."""
    secondary: str
    detected: str
    """Where Dhan sees this machine; "" where it does not say."""
    match: str
    """Dhan's own word: ``PRIMARY_MATCH`` and so on; "" where it does not say."""
    orders_allowed: bool | None
    """Whether orders from here would be taken; None where nobody can tell."""
    primary_changed: date | None
    """An address can be changed seven days after it was set."""
    secondary_changed: date | None

    @property
    def is_registered(self) -> bool:
        """Whether there is any."""
        return bool(self.primary or self.secondary)


class DhanAccount:
    """Profile and address calls of one account; entered before use."""

    def __init__(self, settings: DhanSettings, *, clock: Clock, tokens: TokenSource | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._tokens = tokens or token_source(settings, clock=clock)
        self._client = DhanClient(
            base_url=settings.base_url, tokens=self._tokens, clock=clock, account=settings.client_id
        )
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._client)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    async def profile(self) -> Profile:
        """Return what Dhan says of the account; the cheapest proof that a token lives."""
        told = await self._client.read("/profile")
        if not isinstance(told, Mapping):
            raise WireFormatError("GET /profile: Dhan answered something else than an object")
        return Profile(
            client_id=_text(told, "dhanClientId"),
            segments=tuple(each.strip() for each in _text(told, "activeSegment").split(",") if each.strip()),
            ddpi=_text(told, "ddpi") or None,
            data_plan=_text(told, "dataPlan") or None,
            token_valid_until=_moment(_text(told, "tokenValidity"), "%d/%m/%Y %H:%M"),
            data_valid_until=_moment(_text(told, "dataValidity").partition(".")[0], "%Y-%m-%d %H:%M:%S"),
        )

    async def addresses(self) -> Addresses:
        """Return the registered addresses; empty ones where none is."""
        answer = await self._client.ask("/ip/getIP")
        if isinstance(answer.payload, list):
            return _addresses({})
        told = answer.accepted()
        if not isinstance(told, Mapping) or "primaryIP" not in told:
            raise WireFormatError("GET /ip/getIP: Dhan did not tell which addresses it knows")
        return _addresses(told)

    async def set_address(self, address: str, *, slot: AddressSlot = AddressSlot.PRIMARY) -> str:
        """Register an address where there was none; return Dhan's own words.

        Sent once. Where no answer comes (`NetworkError`), `addresses` tells what became of it.

        Raises:
            ConfigurationError: It is no address, or Dhan does not take it.
        """
        return await self._put(address, slot, is_first=True)

    async def modify_address(self, address: str, *, slot: AddressSlot = AddressSlot.PRIMARY) -> str:
        """Replace a registered address, seven days after it was set at the earliest; all else as `set_address`."""
        return await self._put(address, slot, is_first=False)

    async def _put(self, address: str, slot: AddressSlot, *, is_first: bool) -> str:
        body = {"dhanClientId": self._settings.client_id, "ip": public_address(address), "ipFlag": slot.value}
        token = await self._tokens.token()
        async with HttpClient(base_url=self._settings.base_url, headers=token.headers(), clock=self._clock) as http:
            send, path = (http.post, "/ip/setIP") if is_first else (http.put, "/ip/modifyIP")
            response = await send(path, json=body)
        payload = response.json()
        fault = fault_in(payload)
        if fault is not None and fault.code is None:
            raise ConfigurationError(f"Dhan does not register {body['ip']}: {fault.message}")
        if fault is not None or response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise read_error(fault, status=response.status, call=response.request)
        return _text(payload, "message") if isinstance(payload, Mapping) else ""


def _addresses(told: Mapping[str, Any]) -> Addresses:
    allowed = told.get("ordersAllowed")
    return Addresses(
        primary=_text(told, "primaryIP"),
        secondary=_text(told, "secondaryIP"),
        detected=_text(told, "detectedIP"),
        match=_text(told, "ipMatchStatus"),
        orders_allowed=allowed if isinstance(allowed, bool) else None,
        primary_changed=_day(_text(told, "modifyDatePrimary")),
        secondary_changed=_day(_text(told, "modifyDateSecondary")),
    )


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _moment(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=IST)
    except ValueError:
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None
