"""The benchmark of the journal's cost runs; what it measures is for a quiet machine, not for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "journal.py"


def test_the_cost_is_measured_beside_the_bare_call(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, BENCHMARK, "--pairs", "3", "--directory", tmp_path, "--json"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["pairs"] == 3
    assert result["ratio_p50_without_sync"] <= result["ratio_p50_with_sync"]
