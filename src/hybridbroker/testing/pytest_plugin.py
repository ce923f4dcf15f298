"""Fixtures for tests of bots and plugins; pytest loads this file by itself, so it imports nothing heavy.

``manual_clock`` needs nothing. ``emulated_market``, ``upstox_emulator`` and ``dhan_emulator``
need the ``emulators`` extra, and the last two pytest-asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hybridbroker.testing.clock import ManualClock
    from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, UpstoxEmulator


@pytest.fixture
def manual_clock() -> ManualClock:
    """Return a clock that the test moves."""
    from hybridbroker.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def emulated_market() -> EmulatedMarket:
    """Return a market that stands still until the test moves it; override it to play a day."""
    from hybridbroker.testing.emulators import EmulatedMarket

    return EmulatedMarket.still()


if find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    @pytest_asyncio.fixture
    async def upstox_emulator(emulated_market: EmulatedMarket) -> AsyncIterator[UpstoxEmulator]:
        """Return a running Upstox on ``emulated_market``."""
        from hybridbroker.testing.emulators import UpstoxEmulator

        async with UpstoxEmulator(emulated_market) as emulator:
            yield emulator

    @pytest_asyncio.fixture
    async def dhan_emulator(emulated_market: EmulatedMarket) -> AsyncIterator[DhanEmulator]:
        """Return a running Dhan on ``emulated_market``."""
        from hybridbroker.testing.emulators import DhanEmulator

        async with DhanEmulator(emulated_market) as emulator:
            yield emulator
