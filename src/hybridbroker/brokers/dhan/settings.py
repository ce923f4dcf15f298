"""Where Dhan is and how to log in to it, from ``DHAN_*`` variables, a ``.env`` file or arguments."""

from __future__ import annotations

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hybridbroker.errors import ConfigurationError

__all__ = ["DhanSettings", "read_settings"]

_MEND = {
    "client_id": "set DHAN_CLIENT_ID to your Dhan client id, the number shown under My Profile on web.dhan.co",
    "access_token": (
        "set DHAN_ACCESS_TOKEN to a token made at web.dhan.co -> My Profile -> Access DhanHQ APIs; it lives 24 hours"
    ),
}


class DhanSettings(BaseSettings):
    """How to reach Dhan; a field is read from the variable of the same name with ``DHAN_`` before it.

    An incomplete object can be built (the environment may be empty); `require` says what is missing.
    """

    model_config = SettingsConfigDict(
        env_prefix="DHAN_",
        env_file=".env",
        frozen=True,
        extra="ignore",  # the other broker's variables share the file
        hide_input_in_errors=True,
    )

    client_id: str = ""
    access_token: SecretStr = SecretStr("")
    base_url: str = "https://api.dhan.co/v2"
    """REST, the version included; the sandbox is ``https://sandbox.dhan.co/v2``."""
    order_updates_url: str = "wss://api-order-update.dhan.co"
    keep_warm_seconds: float = Field(default=15.0, ge=0, allow_inf_nan=False)
    """Pause between small reads that keep an idle order connection open; 0 sends none."""

    @field_validator("client_id", "base_url", "order_updates_url", mode="before")
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
            ConfigurationError: Naming every missing variable and where its value is found.
        """
        missing = [mend for name, mend in _MEND.items() if not self._has(name)]
        if missing:
            raise ConfigurationError("Dhan is not configured: " + "; ".join(missing))

    def _has(self, name: str) -> bool:
        value = self.client_id if name == "client_id" else self.access_token.get_secret_value()
        return bool(value)


def read_settings() -> DhanSettings:
    """Read complete settings from the environment and ``.env``.

    Raises:
        ConfigurationError: Something is missing or malformed; the message names the variable.
    """
    settings = _read()
    if isinstance(settings, ConfigurationError):
        raise settings
    settings.require()
    return settings


def _read() -> DhanSettings | ConfigurationError:
    # Returned rather than raised: what pydantic raises holds the input, and an exception holds what it came from.
    try:
        return DhanSettings()
    except ValidationError as exc:
        faults = "; ".join(f"DHAN_{str(each['loc'][0]).upper()}: {each['msg']}" for each in exc.errors())
        return ConfigurationError(f"Dhan's settings cannot be read: {faults}")
    except (ValueError, OSError) as exc:
        return ConfigurationError(f"Dhan's settings cannot be read, check the file .env: {type(exc).__name__}")
