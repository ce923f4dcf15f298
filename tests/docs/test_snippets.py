"""Every Python snippet of the README and the documentation runs, as a user would run it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPETS = [
    pytest.param(snippet, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, snippet in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.fixture(scope="module")
def emulated() -> Iterator[dict[str, str]]:
    """Environment that points a bot at freshly started emulators."""
    command = [sys.executable, "-m", "hybridbroker", "emulate", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        upstox, dhan = addresses["upstox"], addresses["dhan"]
        yield os.environ | {
            "UPSTOX_BASE_URL": upstox["rest"],
            "UPSTOX_ORDER_URL": upstox["rest"],
            "UPSTOX_ACCESS_TOKEN": upstox["access_token"],
            "DHAN_BASE_URL": dhan["rest"],
            "DHAN_ORDER_UPDATES_URL": dhan["order_updates"],
            "DHAN_FEED_URL": dhan["feed"],
            "DHAN_AUTH_URL": dhan["auth"],
            "DHAN_CLIENT_ID": dhan["client_id"],
            "DHAN_ACCESS_TOKEN": dhan["access_token"],
        }
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_runs(snippet: str, emulated: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(snippet)

    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env=emulated,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_there_are_snippets_to_run() -> None:
    assert len(SNIPPETS) >= 8
