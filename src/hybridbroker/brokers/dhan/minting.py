"""Making Dhan tokens without a person: when, how often, and never behind the back of another process.

Each token kills the one before, and Dhan makes one in two minutes. So whoever wants one takes a
lock that all processes of this machine share, looks whether another has put a newer token into
the store meanwhile, and writes down that it asks before it asks.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Collection, Hashable, Mapping
from datetime import datetime, time, timedelta
from typing import Final

import attrs
import pyotp

from hybridbroker.brokers.dhan.auth import AccessToken, TokenShelf
from hybridbroker.brokers.dhan.issuer import BETWEEN_TOKENS, Issuer
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    NotSent,
    RateLimited,
    TokenExpired,
)
from hybridbroker.transport.vault import Vault

__all__ = ["Mint", "Past", "is_due", "store"]

logger = logging.getLogger(__name__)

_SOON: Final = timedelta(minutes=5)
_MORNING: Final = (time(5), time(9))
_HOUR: Final = timedelta(hours=1)
_MOST_AN_HOUR: Final = 5
_MOST_REFUSALS: Final = 3


def is_due(token: AccessToken, now: datetime, *, unattended: bool) -> bool:
    """Return whether a living token is better replaced now.

    In its last five minutes; and where that takes no person, between five and nine in the morning
    (IST) if it would die that day: then it does not die in the middle of the session.
    """
    if token.expires_at is None:
        return False
    if token.expires_at - now <= _SOON:
        return unattended or token.is_from_web
    local = now.astimezone(IST)
    is_morning = _MORNING[0] <= local.time() < _MORNING[1]
    return unattended and is_morning and token.expires_at.astimezone(IST).date() == local.date()


@attrs.frozen(kw_only=True)
class Past:
    """What was tried before, by whatever process of this machine."""

    asked_at: datetime | None = None
    was_refused: bool = False
    """Whether the last attempt certainly made no token."""
    refusals: int = 0
    """Attempts in a row that Dhan turned down: a wrong PIN, or a wrong secret, or a wrong clock."""
    made_at: tuple[datetime, ...] = ()

    @classmethod
    def read(cls, record: Mapping[str, str] | None) -> Past:
        """Read the store's record; a damaged one counts as none."""
        if not record:
            return cls()
        try:
            return cls(
                asked_at=datetime.fromisoformat(record["asked_at"]) if record["asked_at"] else None,
                was_refused=record["was_refused"] == "yes",
                refusals=int(record["refusals"]),
                made_at=tuple(datetime.fromisoformat(each) for each in record["made_at"].split()),
            )
        except (KeyError, ValueError):
            return cls()

    def record(self) -> Mapping[str, str]:
        """Return it as the store keeps it."""
        return {
            "asked_at": self.asked_at.isoformat() if self.asked_at else "",
            "was_refused": "yes" if self.was_refused else "no",
            "refusals": str(self.refusals),
            "made_at": " ".join(each.isoformat() for each in self.made_at[-_MOST_AN_HOUR:]),
        }

    def objection(self, now: datetime, *, by_hand: bool) -> HybridBrokerError | None:
        """Return why no token may be asked for now; a person may try again what was refused."""
        if not by_hand and self.refusals >= _MOST_REFUSALS:
            return AuthenticationError(
                f"Dhan refused PIN and TOTP {self.refusals} times, so they are not tried again: mend DHAN_PIN, "
                "DHAN_TOTP_SECRET or this machine's clock, then run `hybridbroker login dhan --totp`"
            )
        if self.asked_at is not None and not (by_hand and self.was_refused):
            left = BETWEEN_TOKENS - (now - self.asked_at).total_seconds()
            if 0 < left <= BETWEEN_TOKENS:
                return RateLimited(
                    f"Dhan makes one token in two minutes, and one was asked for at "
                    f"{self.asked_at.astimezone(IST):%H:%M:%S} IST; wait {left:.0f} s",
                    retry_after=left,
                )
        lately = sum(1 for each in self.made_at if timedelta(0) <= now - each < _HOUR)
        if not by_hand and lately >= _MOST_AN_HOUR:
            return AuthenticationError(
                f"{lately} Dhan tokens were made within an hour and each was dead soon, so another program makes "
                "tokens for this account too: stop it, or let both run as one user of one machine, where they share one"
            )
        return None


class _Totp(pyotp.TOTP):
    """pyotp (2.10) refuses secrets of less than 112 bits; how long Dhan's are is not ours to choose."""

    def byte_secret(self) -> bytes:
        return base64.b32decode(self.secret + "=" * (-len(self.secret) % 8), casefold=True)


class Mint:
    """Makes the tokens of one account, for `TokenPool` and for the login command."""

    def __init__(
        self,
        settings: DhanSettings,
        *,
        vault: Vault,
        clock: Clock,
        shelf: TokenShelf,
        none: Callable[[AccessToken | None], HybridBrokerError],
    ) -> None:
        self._settings = settings
        self._vault = vault
        self._clock = clock
        self._shelf = shelf
        self._none = none
        self._memo = settings.vault_name("made")

    def is_due(self, token: AccessToken, now: datetime) -> bool:
        """Return whether a living token is better replaced now, by what these settings can do."""
        if not is_due(token, now, unattended=True):  # by far the most frequent answer
            return False
        return is_due(token, now, unattended=self._settings.current().is_unattended)

    async def another(self, refused: Collection[Hashable]) -> AccessToken:
        """Return a token whose secret is not among ``refused``: another process's, or a new one.

        Raises:
            AuthenticationError: None can be made without a person.
            NetworkError: One can be made, but not now.
        """
        settings = self._settings.current()
        last = next(iter(self._shelf()), None)
        if not settings.is_unattended and not (last and last.is_from_web and last.secret not in refused):
            raise self._none(last)
        async with self._vault.locked(self._memo):
            now = self._clock.now()
            theirs = self._shelf.from_vault()
            if theirs is not None and theirs.secret not in refused and self._is_fresh(theirs, now):
                return theirs
            if settings.is_unattended:
                return await self._generate(settings, now, by_hand=False)
            if last is None or not _lives(last, now):
                raise self._none(last)
            return self._kept(settings, await Issuer(settings, clock=self._clock).renew(last), now)

    async def by_hand(self) -> AccessToken:
        """Make a token with PIN and TOTP because a person says so; the one before is dead.

        Raises:
            ConfigurationError: The secrets are missing.
            AuthenticationError: Dhan refuses them.
            NetworkError: Not now.
        """
        settings = self._settings.current()
        if not settings.is_unattended:
            raise ConfigurationError("set DHAN_PIN and DHAN_TOTP_SECRET to log in unattended")
        async with self._vault.locked(self._memo):
            return await self._generate(settings, self._clock.now(), by_hand=True)

    async def _generate(self, settings: DhanSettings, now: datetime, *, by_hand: bool) -> AccessToken:
        past = Past.read(self._vault.read(self._memo))
        objection = past.objection(now, by_hand=by_hand)
        if objection is not None:
            raise objection
        self._note(attrs.evolve(past, asked_at=now, was_refused=False))
        code = _Totp(settings.totp_secret.get_secret_value()).at(now)
        try:
            token = await Issuer(settings, clock=self._clock).generate(code)
        except AuthenticationError:
            self._note_if_possible(attrs.evolve(past, asked_at=now, was_refused=True, refusals=past.refusals + 1))
            raise
        except NotSent:
            self._note_if_possible(past)
            raise
        kept = self._kept(settings, token, now)
        self._note_if_possible(Past(asked_at=now, made_at=(*past.made_at, now)))
        return kept

    def _kept(self, settings: DhanSettings, token: AccessToken, now: datetime) -> AccessToken:
        try:
            return store(self._vault, settings, token, now=now)
        except ConfigurationError as exc:
            logger.warning("keeping the new Dhan token in memory alone, so no other program has it: %s", exc)
            self._shelf.keep(token)
            return token

    def _is_fresh(self, token: AccessToken, now: datetime) -> bool:
        return _lives(token, now) and not self.is_due(token, now)

    def _note(self, past: Past) -> None:
        self._vault.write(self._memo, past.record())

    def _note_if_possible(self, past: Past) -> None:
        try:
            self._note(past)
        except ConfigurationError as exc:
            logger.warning("not writing down how the last Dhan login went: %s", exc)


def store(vault: Vault, settings: DhanSettings, token: AccessToken, *, now: datetime) -> AccessToken:
    """Put a token where every process of this account finds it; return it."""
    vault.write(
        settings.vault_name("access"),
        {
            "secret": token.secret.get_secret_value(),
            "client_id": token.client_id,
            "kind": "access",
            "made_at": (token.issued_at or now).isoformat(),
            "expires_at": token.expires_at.isoformat() if token.expires_at else "",
        },
    )
    return token


def _lives(token: AccessToken, now: datetime) -> bool:
    try:
        token.check(now)
    except TokenExpired:
        return False
    return True
