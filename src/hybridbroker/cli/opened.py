"""A broker by its name, opened for a command that only reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridbroker.protocols import Broker

__all__ = ["opened_broker"]


@asynccontextmanager
async def opened_broker(name: str, instruments: Path | None) -> AsyncIterator[Broker]:
    """Open an installed broker with the settings of the environment; leaving closes it.

    Raises:
        ConfigurationError: No such broker, or one that takes no orders; its settings are incomplete.
    """
    from hybridbroker.plugins import OpenContext, find_broker
    from hybridbroker.session import open_registry

    plugin = find_broker(name)
    if plugin.open_broker is None:
        raise ConfigurationError(f"{plugin.title} takes no orders here; name another with --broker")
    settings = plugin.settings()
    registry = await open_registry(instruments)
    try:
        async with plugin.open_broker(OpenContext(instruments=registry, settings=settings)) as broker:
            yield broker
    finally:
        registry.close()
