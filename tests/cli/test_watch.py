"""``hybridbroker watch``: live ticks of the configured source, here the emulated one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator


@pytest.fixture
async def emulator() -> AsyncIterator[UpstoxEmulator]:
    async with UpstoxEmulator(EmulatedMarket.still()) as running:
        yield running


async def watch(
    emulator: UpstoxEmulator, folder: Path, *arguments: str, **variables: str
) -> asyncio.subprocess.Process:
    settings = {"UPSTOX_BASE_URL": emulator.rest_url, "UPSTOX_ACCESS_TOKEN": emulator.access_token}
    command = [sys.executable, "-m", "hybridbroker", "watch", "NSE:RELIANCE", "--instruments", "builtin", *arguments]
    return await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | settings | variables,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_watch_shows_price_feed_state_and_delay(emulator: UpstoxEmulator, tmp_path: Path) -> None:
    process = await watch(emulator, tmp_path, "--json", "--ticks", "1")

    async with asyncio.timeout(30):
        out, err = await process.communicate()

    tick = next(row for row in map(json.loads, out.splitlines()) if "last_price" in row)
    assert process.returncode == 0, err
    assert tick["instrument"] == "NSE:RELIANCE"
    assert tick["last_price"] == 1400.0
    assert tick["feed"] == "live"
    assert isinstance(tick["delay_ms"], int)


async def test_watch_shows_a_gap_and_goes_on(emulator: UpstoxEmulator, tmp_path: Path) -> None:
    process = await watch(emulator, tmp_path, "--json", "--ticks", "2")
    assert process.stdout is not None
    rows: list[dict[str, object]] = []

    async with asyncio.timeout(30):
        async for line in process.stdout:
            rows.append(json.loads(line))
            if "last_price" in rows[-1] and not any("gap" in row for row in rows):
                emulator.drop_connections()
        await process.wait()

    kinds = ["gap" if "gap" in row else "tick" for row in rows if "market" not in row]
    assert kinds == ["tick", "gap", "tick"]
    assert process.returncode == 0


async def test_wrong_credentials_end_watch_with_one_line(emulator: UpstoxEmulator, tmp_path: Path) -> None:
    process = await watch(emulator, tmp_path, UPSTOX_ACCESS_TOKEN="not-the-token")

    async with asyncio.timeout(30):
        _, err = await process.communicate()

    assert process.returncode == 1
    assert len(err.decode().strip().splitlines()) == 1
    assert b"not-the-token" not in err
