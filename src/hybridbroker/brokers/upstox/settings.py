"""Where Upstox is and how to log in to it, from ``UPSTOX_*`` variables, a ``.env`` file or arguments."""

from __future__ import annotations

from typing import Literal

from pydantic import SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hybridbroker.errors import ConfigurationError

__all__ = ["UpstoxSettings", "read_settings"]

_MEND = (
    "set UPSTOX_ACCESS_TOKEN to a token made at account.upstox.com/developer/apps: an analytics token (read-only, "
    "one year) serves for prices, an ordinary one dies at 03:30 IST every night"
)


class UpstoxSettings(BaseSettings):
    """How to reach Upstox; a field is read from the variable of the same name with ``UPSTOX_`` before it.

    An incomplete object can be built (the environment may be empty); `require` says what is missing.
    """

    model_config = SettingsConfigDict(
        env_prefix="UPSTOX_",
        env_file=".env",
        frozen=True,
        extra="ignore",  # the other broker's variables share the file
        hide_input_in_errors=True,
    )

    access_token: SecretStr = SecretStr("")
    base_url: str = "https://api.upstox.com"
    order_url: str = "https://api-hft.upstox.com"
    """Where single orders go; everything else goes to ``base_url``."""
    plan: Literal["normal", "plus"] = "normal"
    """The account's data plan: Upstox Plus may open more feed sockets, and has thirty levels of depth."""

    @field_validator("base_url", "order_url", mode="before")
    @classmethod
    def _trimmed(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @field_validator("access_token")
    @classmethod
    def _one_word(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value().strip()
        if any(character.isspace() or not character.isascii() for character in token):
            raise ValueError("a token is one line of plain characters; paste it again")
        return SecretStr(token)

    def require(self) -> None:
        """Check that nothing needed is missing.

        Raises:
            ConfigurationError: Naming the missing variable and where its value is found.
        """
        if not self.access_token.get_secret_value():
            raise ConfigurationError(f"Upstox is not configured: {_MEND}")


def read_settings() -> UpstoxSettings:
    """Read complete settings from the environment and ``.env``.

    Raises:
        ConfigurationError: Something is missing or malformed; the message names the variable.
    """
    settings = _read()
    if isinstance(settings, ConfigurationError):
        raise settings
    settings.require()
    return settings


def _read() -> UpstoxSettings | ConfigurationError:
    # Returned rather than raised: what pydantic raises holds the input, and an exception holds what it came from.
    try:
        return UpstoxSettings()
    except ValidationError as exc:
        faults = "; ".join(f"UPSTOX_{str(each['loc'][0]).upper()}: {each['msg']}" for each in exc.errors())
        return ConfigurationError(f"Upstox's settings cannot be read: {faults}")
    except (ValueError, OSError) as exc:
        return ConfigurationError(f"Upstox's settings cannot be read, check the file .env: {type(exc).__name__}")
