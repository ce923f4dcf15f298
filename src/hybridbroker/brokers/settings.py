"""What all brokers' settings share: where they are read from, how they are read anew, and errors without secrets."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit

import attrs
from pydantic import PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hybridbroker.errors import ConfigurationError

__all__ = ["DOTENV", "BrokerSettings"]

logger = logging.getLogger(__name__)

_THIS_MACHINE: Final = frozenset({"127.0.0.1", "localhost", "::1"})

DOTENV: Final = Path(".env")
"""The file of settings, in the folder a program is started in; all brokers share it."""

_DOTENV_NAME: Final = str(DOTENV)


class BrokerSettings(BaseSettings):
    """Settings of one broker: arguments, then variables with the broker's prefix, then ``.env``.

    An incomplete object can be built (the environment may be empty); `require` says what is
    missing. Building one raises `ConfigurationError` and nothing else: what pydantic raises
    holds the value it refused, which may be a token.
    """

    model_config = SettingsConfigDict(
        env_file=DOTENV,
        frozen=True,
        extra="ignore",  # the other brokers' variables share the file
        hide_input_in_errors=True,
    )

    broker_title: ClassVar[str] = "the broker"

    followed: ClassVar[tuple[str, ...]] = ()
    """Variables that a running program may set anew."""

    _source: _Source | None = PrivateAttr(default=None)
    _is_sandbox: bool = PrivateAttr(default=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as exc:
            told = _told(exc, prefix=str(self.model_config.get("env_prefix", "")))
        except (ValueError, OSError) as exc:
            told = f"check the file {DOTENV}: {type(exc).__name__}"
        else:
            return
        # Outside of the handlers: an exception keeps the one it was raised in, and that one the input.
        raise ConfigurationError(f"{self.broker_title}'s settings cannot be read: {told}")

    @field_validator("*", mode="before")
    @classmethod
    def _trimmed(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @field_validator("*")
    @classmethod
    def _one_word(cls, value: object) -> object:
        if not isinstance(value, SecretStr):
            return value
        secret = value.get_secret_value().strip()
        if any(character.isspace() or not character.isascii() for character in secret):
            raise ValueError("a token is one line of plain characters; paste it again")
        return SecretStr(secret)

    @classmethod
    def read(cls) -> Self:
        """Read complete settings from the environment and ``.env``.

        Raises:
            ConfigurationError: Something is missing or malformed; the message names the variable.
        """
        settings = cls.from_environment()
        settings.require()
        return settings

    @classmethod
    def from_environment(cls) -> Self:
        """Read what settings there are, complete or not; `current` reads them again.

        Raises:
            ConfigurationError: Something is malformed; the message names the variable.
        """
        settings = cls()
        settings._source = _Source(stamp=cls._environment(), newest=settings)
        return settings

    def require(self) -> None:
        """Check that nothing needed is missing; raise `ConfigurationError` that names it otherwise."""

    @property
    def is_from_environment(self) -> bool:
        """Whether they were read from the environment and follow it."""
        return self._source is not None

    @property
    def is_sandbox(self) -> bool:
        """Whether they lead to the broker's sandbox and hold nothing of the live account."""
        return self._is_sandbox

    def _as_sandbox(self, changes: Mapping[str, Any]) -> Self:
        copy = self.model_copy(update=changes)
        copy._is_sandbox, copy._source = True, None  # noqa: SLF001 - still this class
        return copy

    def port_of_this_machine(self) -> str:
        """Return ``-port8000`` where the broker is an emulator on this machine, else nothing.

        It is part of the names under which things are kept, so that play never meets the real thing.
        """
        try:
            address = urlsplit(str(getattr(self, "base_url", "")))
            host, port = address.hostname, address.port
        except ValueError:  # no address at all, which the first call will say
            return ""
        return f"-port{port}" if host in _THIS_MACHINE else ""

    def address(self, name: str) -> str:
        """Return the setting ``name``, an address beside ``base_url``.

        Raises:
            ConfigurationError: One of the two is on this machine and the other is not: play and real
                money would mix.
        """
        address = str(getattr(self, name))
        if _is_here(address) == _is_here(str(getattr(self, "base_url", ""))):
            return address
        prefix = str(self.model_config.get("env_prefix", ""))
        raise ConfigurationError(
            f"{prefix}BASE_URL and {prefix}{name.upper()} must both lead to {self.broker_title} or both to an emulator "
            f"on this machine; one of them does not: set {prefix}{name.upper()} as well"
        )

    def current(self) -> Self:
        """Return what the environment says now, where these settings came from it; else these settings.

        What is noticed is any change of ``.env``, and of the variables in `followed`; asked before
        every request, it costs next to nothing while nothing changes. A change that cannot be read
        (an editor is at work on the file) is logged, and what was known last goes on counting.
        """
        source = self._source
        if source is None:
            return self
        stamp = self._environment()
        if stamp != source.stamp:
            source.stamp = stamp
            try:
                source.newest = type(self)()
            except ConfigurationError as exc:
                logger.warning("going on with the settings known before: %s", exc)
        newest: Self = source.newest
        return newest

    @classmethod
    def _environment(cls) -> object:
        try:
            file = os.stat(_DOTENV_NAME)  # noqa: PTH116 - a third of the time, before every request
            seen = (file.st_mtime_ns, file.st_size, file.st_ino)
        except OSError:
            seen = None
        return seen, [os.environ.get(name) for name in cls.followed]


def _is_here(address: str) -> bool:
    try:
        return urlsplit(address).hostname in _THIS_MACHINE
    except ValueError:  # no address at all, which the first call will say
        return False


@attrs.define
class _Source:
    """The environment as it was last seen, and what was read from it."""

    stamp: object
    newest: Any


def _told(error: ValidationError, *, prefix: str) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{prefix}{each['loc'][0] if each['loc'] else ''}".upper() + f": {each['msg']}" for each in faults)
