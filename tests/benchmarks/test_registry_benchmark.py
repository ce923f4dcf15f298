"""The registry's benchmark runs, and its figures are of what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "registry.py"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_smoke_builds_opens_and_finds() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", "--json"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["cold"]["rows"] == 322
    assert figures["cold"]["instruments"] == 161
    assert figures["warm"]["found_first"]
    assert 0 < figures["bare_mb"] < figures["warm"]["peak_mb"]


def test_without_masters_it_says_what_to_give() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "--smoke" in done.stderr
