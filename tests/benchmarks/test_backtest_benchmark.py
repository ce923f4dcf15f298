"""The backtest's benchmark runs, so that it can be believed when it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "backtest.py"


def test_the_smoke_run_tells_bars_per_second_of_every_way_to_run() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", "--json"], capture_output=True, text=True, timeout=120, check=True
    )

    told = json.loads(done.stdout)
    assert told["bars"] == 4_500
    assert {"hybridbroker, bare", "hybridbroker, as live"} <= set(told["runs"])
    assert all(each["bars_per_second"] > 0 for each in told["runs"].values())
