"""Many runs of one bot: every combination, in one order, on any number of cores."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from backtest_kit import bars
from sweeping import make

from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.sweep import combinations, parse_grid, sweep

RISING = bars((100, 101, 99, 100.5), (102, 103, 101, 102.5), (104, 105, 103, 104.5), (107, 108, 105, 106.5))


def test_a_grid_is_read_as_it_is_written() -> None:
    assert parse_grid("ema=5:20,risk=300:1000") == {"ema": [5, 20], "risk": [300, 1000]}
    assert parse_grid("n=5..20..5,x=0.5:true:fast") == {"n": [5, 10, 15, 20], "x": [Decimal("0.5"), True, "fast"]}


@pytest.mark.parametrize("text", ["", "ema", "ema=", "5=1", "ema=9..2", "ema=a..b", "ema=1..2..0"])
def test_what_is_no_grid_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_grid(text)


def test_every_combination_comes_once_the_last_name_fastest() -> None:
    assert [tuple(each.values()) for each in combinations({"a": [1, 2], "b": [3, 4]})] == [
        (1, 3), (1, 4), (2, 3), (2, 4),
    ]  # fmt: skip


def test_two_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    grid = {"units": [1, 10], "at": [0, 1]}
    done: list[tuple[int, int]] = []

    alone = sweep(make, RISING, grid, workers=1, charges=None)
    together = sweep(make, RISING, grid, workers=2, charges=None, progress=lambda *each: done.append(each))

    assert alone == together
    assert [row.net for row in alone] == [2, 3, 20, 30]
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
