"""The fixtures that come with the package, as a stranger's tests use them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, UpstoxEmulator


def test_the_clock_moves_by_hand(manual_clock: ManualClock) -> None:
    manual_clock.advance(5)

    assert manual_clock.monotonic() == 5


async def test_both_emulators_share_the_market(
    emulated_market: EmulatedMarket, upstox_emulator: UpstoxEmulator, dhan_emulator: DhanEmulator
) -> None:
    assert upstox_emulator.market is emulated_market
    assert dhan_emulator.market is emulated_market
    assert upstox_emulator.port != dhan_emulator.port


@pytest.mark.parametrize("heavy", ["starlette", "uvicorn", "google.protobuf", "httpx", "websockets", "pydantic"])
def test_loading_the_plugin_loads_nothing_heavy(heavy: str) -> None:
    code = f"import hybridbroker.testing.pytest_plugin, sys; sys.exit({heavy!r} in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0
