"""What an account holds, told by commands, for any broker."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hybridbroker import InstrumentRegistry, LimitOrder, Side
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket

RELIANCE = InstrumentRegistry.builtin()["NSE:RELIANCE"]


@pytest.fixture
async def dhan() -> AsyncIterator[DhanEmulator]:
    async with DhanEmulator(EmulatedMarket.still()) as emulator:
        yield emulator


async def command(emulator: DhanEmulator, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DHAN_", "UPSTOX_"))}
    env = clean | {
        "DHAN_CLIENT_ID": emulator.client_id,
        "DHAN_ACCESS_TOKEN": emulator.access_token,
        "DHAN_BASE_URL": emulator.rest_url,
        "DHAN_ORDER_UPDATES_URL": emulator.order_updates_url,
        "HYBRIDBROKER_STATE_DIR": str(directory),
        "COLUMNS": "200",
    }
    line = [sys.executable, "-m", "hybridbroker", *arguments, "--instruments", "builtin"]
    return await asyncio.to_thread(
        subprocess.run, line, capture_output=True, text=True, env=env, cwd=directory, timeout=60, check=False
    )


async def as_json(emulator: DhanEmulator, directory: Path, name: str) -> Any:
    done = await command(emulator, directory, name, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_an_account_with_nothing_is_told_as_such(dhan: DhanEmulator, tmp_path: Path) -> None:
    positions = await command(dhan, tmp_path, "positions")
    holdings = await as_json(dhan, tmp_path, "holdings")

    assert positions.stdout.strip() == "no positions today"
    assert holdings == []


async def test_what_was_bought_is_a_position(dhan: DhanEmulator, tmp_path: Path) -> None:
    dhan.exchange.place(LimitOrder(RELIANCE, Side.BUY, quantity=3, price=Decimal(1405)))

    (row,) = await as_json(dhan, tmp_path, "positions")
    table = await command(dhan, tmp_path, "positions")

    assert (row["instrument"], row["quantity"], row["product"]) == ("NSE:RELIANCE", 3, "delivery")
    assert "NSE:RELIANCE" in table.stdout
    assert "+3" in table.stdout


async def test_funds_are_rupees_and_never_floats(dhan: DhanEmulator, tmp_path: Path) -> None:
    found = await as_json(dhan, tmp_path, "funds")
    table = await command(dhan, tmp_path, "funds")

    assert Decimal(found["available"]) == dhan.exchange.funds().available
    assert isinstance(found["available"], str)
    assert "available" in table.stdout


async def test_a_broker_nobody_installed_is_named(dhan: DhanEmulator, tmp_path: Path) -> None:
    done = await command(dhan, tmp_path, "funds", "--broker", "nobody")

    assert done.returncode == 2
    assert "no broker is called 'nobody'" in done.stderr
    assert "Traceback" not in done.stderr
