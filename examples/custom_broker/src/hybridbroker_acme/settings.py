"""Where Acme is and how to log in to it, from ``ACME_*`` variables or a ``.env`` file."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from hybridbroker import ConfigurationError

__all__ = ["AcmeSettings", "read_settings"]


class AcmeSettings(BaseSettings):
    """A field is read from the variable of the same name with ``ACME_`` before it."""

    model_config = SettingsConfigDict(
        env_prefix="ACME_", env_file=".env", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    token: SecretStr = SecretStr("")
    base_url: str = "https://api.acme.example"


def read_settings() -> AcmeSettings:
    """Read complete settings; raise `ConfigurationError` that says what is missing."""
    settings = AcmeSettings()
    if not settings.token.get_secret_value():
        raise ConfigurationError("Acme is not configured: set ACME_TOKEN to a token from acme.example/api")
    return settings
