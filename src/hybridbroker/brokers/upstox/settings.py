"""Where Upstox is and how to log in to it, from ``UPSTOX_*`` variables, a ``.env`` file or arguments."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from hybridbroker.brokers.settings import BrokerSettings
from hybridbroker.errors import ConfigurationError
from hybridbroker.transport.vault import Vault

__all__ = ["SANDBOX_URL", "UpstoxSettings", "read_settings"]

SANDBOX_URL = "https://api-sandbox.upstox.com"

_MEND = (
    "run `hybridbroker login upstox`, or set UPSTOX_ANALYTICS_TOKEN (read-only, one year, for prices) or "
    "UPSTOX_ACCESS_TOKEN (dies at 03:30 IST every night) to a token made at account.upstox.com/developer/apps"
)


class UpstoxSettings(BrokerSettings):
    """How to reach Upstox; a field is read from the variable of the same name with ``UPSTOX_`` before it."""

    model_config = SettingsConfigDict(env_prefix="UPSTOX_")
    broker_title: ClassVar[str] = "Upstox"
    followed: ClassVar[tuple[str, ...]] = ("UPSTOX_ACCESS_TOKEN", "UPSTOX_ANALYTICS_TOKEN")

    access_token: SecretStr = SecretStr("")
    """An ordinary token, or an analytics token where only prices are wanted."""
    analytics_token: SecretStr = SecretStr("")
    """A read-only token of one year, preferred for prices."""
    sandbox_token: SecretStr = SecretStr("")
    """A token of a sandbox app, thirty days; used by `for_sandbox` alone."""
    user_id: str = ""
    """The account's own id (UCC); where given, a login takes no other account's token."""
    api_key: str = Field(default="", repr=False)
    """The app's key (client id)."""
    api_secret: SecretStr = SecretStr("")
    redirect_uri: str = "http://127.0.0.1:8765/callback"
    """As registered with the app, to the letter; an address of this machine is listened on at login."""
    base_url: str = "https://api.upstox.com"
    order_url: str = "https://api-hft.upstox.com"
    """Where single orders go; everything else goes to ``base_url``."""
    plan: Literal["normal", "plus"] = "normal"
    """The account's data plan: Upstox Plus may open more feed sockets, and has thirty levels of depth."""
    algo_name: str = ""
    """The name of an algorithm registered with the exchange; sent with every order."""
    keep_warm_seconds: float = Field(default=15.0, ge=0, allow_inf_nan=False)
    """Pause between small reads that keep an idle order connection open; 0 sends none."""

    def require(self) -> None:
        """Check that there is a token, here or stored by a login.

        Raises:
            ConfigurationError: Naming the missing variable and where its value is found.
        """
        given = (self.access_token, self.analytics_token)
        if any(each.get_secret_value() for each in given):
            return
        if self.is_sandbox or not any(Vault().path(self.vault_name(kind)).exists() for kind in ("access", "analytics")):
            raise ConfigurationError(f"Upstox is not configured: {_MEND}")

    def vault_name(self, kind: str) -> str:
        """Return under which name a login stores a token of ``kind``."""
        return f"upstox{self.port_of_this_machine()}.{kind}"

    def for_sandbox(self) -> Self:
        """Return settings that lead to the sandbox and hold no token but its own.

        Raises:
            ConfigurationError: There is no sandbox token.
        """
        if not self.sandbox_token.get_secret_value():
            raise ConfigurationError(
                "set UPSTOX_SANDBOX_TOKEN to a token of a sandbox app, made at account.upstox.com/developer/apps"
            )
        is_elsewhere = bool(self.port_of_this_machine())
        changed = {
            "access_token": self.sandbox_token,
            "analytics_token": SecretStr(""),
            "base_url": self.base_url if is_elsewhere else SANDBOX_URL,
            "order_url": self.order_url if is_elsewhere else SANDBOX_URL,
        }
        return self._as_sandbox(changed)


def read_settings() -> UpstoxSettings:
    """Read complete settings from the environment and ``.env``.

    Raises:
        ConfigurationError: Something is missing or malformed; the message names the variable.
    """
    return UpstoxSettings.read()
