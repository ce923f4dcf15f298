"""The benchmarks of Dhan's prices run: decoding shows prices right, and neither fuzz finds anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def run(name: str, *options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *options]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def test_the_decode_benchmark_runs_and_shows_prices_right() -> None:
    told = json.loads(run("dhan_feed_decode", "--smoke", "--json"))

    assert {row["packet"] for row in told["rows"]} == {"ticker", "quote", "full"}
    assert all(row["right"] for row in told["prices"])


def test_a_few_thousand_mutated_frames_are_survived() -> None:
    assert "skipped: truncated packet" in run("dhan_feed_decode", "--fuzz", "5000")


def test_a_few_broken_answers_raise_nothing_but_our_errors() -> None:
    told = json.loads(run("dhan_data_bodies", "--bodies", "1000", "--json"))

    assert {"a value", "WireFormatError", "ServiceUnavailable"} <= set(told["came"])
