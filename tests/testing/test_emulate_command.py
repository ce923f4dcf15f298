"""``hybridbroker emulate``: addresses first, then both brokers until interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

COMMAND = [sys.executable, "-m", "hybridbroker", "emulate"]


@contextmanager
def emulate(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_its_first_line_says_where_the_brokers_are() -> None:
    with emulate("--json") as process:
        addresses = first_line(process)
        upstox, dhan = addresses["upstox"], addresses["dhan"]
        orders = httpx.get(f"{dhan['rest']}/orders", headers={"access-token": dhan["access_token"]}, trust_env=False)
        headers = {"Authorization": f"Bearer {upstox['access_token']}"}
        redirect = httpx.get(upstox["feed"].replace("ws:", "http:"), headers=headers, trust_env=False)
        with connect(redirect.headers["location"], proxy=None, compression=None) as socket:
            frame = socket.recv()
        with connect(dhan["order_updates"], proxy=None):
            pass

    assert dhan["rest"].endswith("/v2")
    assert orders.json() == []
    assert isinstance(frame, bytes)
    assert upstox["instruments"]["NSE:RELIANCE"] == "NSE_EQ|INE002A01018"
    assert dhan["instruments"]["NSE:RELIANCE"] == "NSE_EQ:2885"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_cleanly(number: signal.Signals) -> None:
    with emulate("--json") as process:
        first_line(process)

        process.send_signal(number)

        assert process.wait(20) == 0


def test_people_get_lines_to_paste() -> None:
    with emulate() as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]

    assert lines[1].startswith("export UPSTOX_BASE_URL=http://127.0.0.1:")
    assert lines[6].startswith("export DHAN_ACCESS_TOKEN=")


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["--candles", "nowhere.json"], "nowhere.json"),
        (["--candles", "RELIANCE.json", "--ticks", "b"], "give one of them"),
        (["--instrument", "NSE:TCS"], "exactly one file"),
        (["--ticks", "nowhere.ndjson"], "check the path"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], fix: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2, done.stderr
    assert fix in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
