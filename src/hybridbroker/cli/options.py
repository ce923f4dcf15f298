"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridbroker.instruments.registry import InstrumentRegistry

__all__ = ["open_registry"]


async def open_registry(path: Path | None) -> InstrumentRegistry:
    """Return the registry at ``path``, the built-in handful for the word ``builtin``, or today's."""
    from hybridbroker.instruments.registry import InstrumentRegistry

    if path is None:
        return await InstrumentRegistry.load()
    if str(path) == "builtin":
        return InstrumentRegistry.builtin()
    return InstrumentRegistry.open(path)
