"""The outage gauntlet runs, and every promise is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "outages.py"


def test_every_promise_of_the_outage_gauntlet_is_kept() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARK), "--smoke", "--json"], capture_output=True, check=False)

    rows = json.loads(done.stdout)
    assert [row["what"] for row in rows if not row["kept"]] == []
    assert done.returncode == 0
    assert {row["what"] for row in rows} >= {
        "outage of 1 s",
        "03:30, a new token is there",
        "03:30, no new token",
        "two hours of closed market",
        "socket alive, silent in the session",
    }
