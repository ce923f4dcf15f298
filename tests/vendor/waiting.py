"""Waiting for what a vendor's thread does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(true: Callable[[], object]) -> None:
    """Return once ``true()`` is."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - the vendor's threads set no event
            await asyncio.sleep(0.01)
