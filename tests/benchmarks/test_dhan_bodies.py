"""The fuzz of Dhan's answers runs, and a few thousand of them do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dhan_bodies.py"


def test_a_few_broken_answers_raise_nothing_but_our_errors() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--bodies", "3000", "--seed", "2", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["bodies"] >= 3000
    assert {"a value", "WireFormatError", "OrderOutcomeUnknown"} <= set(result["came"])
