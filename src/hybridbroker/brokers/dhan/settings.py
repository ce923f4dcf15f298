"""Where Dhan is and how to log in to it, from ``DHAN_*`` variables, a ``.env`` file or arguments."""

from __future__ import annotations

import base64
import binascii
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from hybridbroker.brokers.settings import BrokerSettings
from hybridbroker.errors import ConfigurationError
from hybridbroker.transport.vault import Vault

__all__ = ["SANDBOX_URL", "DhanSettings", "read_sandbox_settings", "read_settings"]

SANDBOX_URL = "https://sandbox.dhan.co/v2"

_MEND_CLIENT = "set DHAN_CLIENT_ID to your Dhan client id, the number shown under My Profile on web.dhan.co"
_MEND_LOGIN = (
    "set DHAN_PIN and DHAN_TOTP_SECRET to log in unattended, or run `hybridbroker login dhan`, or set "
    "DHAN_ACCESS_TOKEN to a token made at web.dhan.co -> My Profile -> Access DhanHQ APIs; it lives 24 hours"
)
_MEND_SANDBOX = (
    "set DHAN_SANDBOX_CLIENT_ID and DHAN_SANDBOX_TOKEN to what developer.dhanhq.co shows; the token lives about 30 days"
)


class DhanSettings(BrokerSettings):
    """How to reach Dhan; a field is read from the variable of the same name with ``DHAN_`` before it."""

    model_config = SettingsConfigDict(env_prefix="DHAN_")
    broker_title: ClassVar[str] = "Dhan"
    followed: ClassVar[tuple[str, ...]] = ("DHAN_ACCESS_TOKEN", "DHAN_PIN", "DHAN_TOTP_SECRET")

    client_id: str = ""
    access_token: SecretStr = SecretStr("")
    pin: SecretStr = SecretStr("")
    """The numeric PIN of the Dhan login."""
    totp_secret: SecretStr = SecretStr("")
    """The base32 secret shown when TOTP was set up at web.dhan.co."""
    api_key: SecretStr = SecretStr("")
    api_secret: SecretStr = SecretStr("")
    redirect_uri: str = "http://127.0.0.1:8765/callback"
    """As registered with the API key; an address of this machine is listened on at login."""
    sandbox_client_id: str = ""
    sandbox_token: SecretStr = SecretStr("")
    """Client id and token of developer.dhanhq.co; used by `for_sandbox` alone."""
    base_url: str = "https://api.dhan.co/v2"
    """REST, the version included; the sandbox is ``https://sandbox.dhan.co/v2``."""
    auth_url: str = "https://auth.dhan.co"
    """Where tokens are made."""
    feed_url: str = "wss://api-feed.dhan.co"
    order_updates_url: str = "wss://api-order-update.dhan.co"
    keep_warm_seconds: float = Field(default=15.0, ge=0, allow_inf_nan=False)
    """Pause between small reads that keep an idle order connection open; 0 sends none."""

    @field_validator("totp_secret", mode="before")
    @classmethod
    def _ungrouped(cls, value: object) -> object:
        # The page shows the secret in groups of four.
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        return "".join(text.split()).upper() if isinstance(text, str) else value

    @field_validator("totp_secret")
    @classmethod
    def _base32(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        try:
            base64.b32decode(secret + "=" * (-len(secret) % 8))
        except (binascii.Error, ValueError):
            raise ValueError("this is no base32 secret; copy the one shown when TOTP is set up, not a code") from None
        return value

    @field_validator("pin")
    @classmethod
    def _digits(cls, value: SecretStr) -> SecretStr:
        pin = value.get_secret_value()
        if pin and not pin.isdecimal():
            raise ValueError("the PIN is digits only")
        return value

    def require(self) -> None:
        """Check that there is a client id and a token: here, stored by a login, or to be made unattended.

        Raises:
            ConfigurationError: Naming every missing variable and where its value is found.
        """
        missing = [] if self.client_id else [_MEND_CLIENT]
        if not self.access_token.get_secret_value() and not self._is_obtainable():
            missing.append(_MEND_LOGIN)
        if missing:
            raise ConfigurationError("Dhan is not configured: " + "; ".join(missing))

    @property
    def is_unattended(self) -> bool:
        """Whether a token can be made without a person."""
        return bool(self.pin.get_secret_value() and self.totp_secret.get_secret_value())

    def vault_name(self, kind: str) -> str:
        """Return under which name a login stores a token of ``kind``."""
        return f"dhan-{self.client_id}{self.port_of_this_machine()}.{kind}"

    def for_sandbox(self) -> Self:
        """Return settings that lead to the sandbox and hold nothing of the live account.

        Raises:
            ConfigurationError: There is no sandbox token or client id.
        """
        if not self.sandbox_client_id or not self.sandbox_token.get_secret_value():
            raise ConfigurationError(f"Dhan's sandbox is not configured: {_MEND_SANDBOX}")
        none = SecretStr("")
        changed = {
            "client_id": self.sandbox_client_id,
            "access_token": self.sandbox_token,
            "base_url": self.base_url if self.port_of_this_machine() else SANDBOX_URL,
            "pin": none,
            "totp_secret": none,
            "api_key": none,
            "api_secret": none,
        }
        return self._as_sandbox(changed)

    def _is_obtainable(self) -> bool:
        if self.is_sandbox or not self.client_id:
            return False
        return self.is_unattended or Vault().path(self.vault_name("access")).exists()


def read_settings() -> DhanSettings:
    """Read complete settings from the environment and ``.env``.

    Raises:
        ConfigurationError: Something is missing or malformed; the message names the variable.
    """
    return DhanSettings.read()


def read_sandbox_settings() -> DhanSettings:
    """Read the sandbox's settings, ``DHAN_SANDBOX_CLIENT_ID`` and ``DHAN_SANDBOX_TOKEN``, from where the others are.

    Raises:
        ConfigurationError: One of them is missing.
    """
    return DhanSettings.from_environment().for_sandbox()
