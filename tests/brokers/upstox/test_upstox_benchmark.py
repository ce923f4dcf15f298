"""The decode benchmark runs, and a kept tick stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "feed_decode.py"


def test_the_decode_benchmark_runs_and_a_kept_tick_is_at_most_three_kilobytes() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARK), "--smoke", "--json"], capture_output=True, check=True)

    told = json.loads(done.stdout)
    assert {row["case"] for row in told["rows"]} >= {"1, headline", "50, headline", "1, with depth", "50, with depth"}
    assert max(told["cache_bytes"].values()) <= 3 * 1024
