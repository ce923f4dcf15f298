"""The same strategy with many sets of parameters, over all cores; the order of the answers is the order of the grid."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal, InvalidOperation
from multiprocessing import get_context
from typing import Any, Final

import attrs

from hybridbroker.domain.market import Candles
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.report import failure_text
from hybridbroker.simulation.tape import Tape
from hybridbroker.strategy import Strategy

__all__ = ["Make", "SweepRow", "combinations", "parse_grid", "read_value", "sweep"]

Make = Callable[[Mapping[str, Any]], Strategy]
"""Builds a strategy from parameters; it goes to other processes, so it must be a function of a module."""

_MOST: Final = 100_000
_WORDS: Final = {"true": True, "false": False, "none": None}
_RANGE: Final = ".."


@attrs.frozen(kw_only=True)
class SweepRow:
    """One run of a sweep."""

    parameters: Mapping[str, Any]
    net: Decimal
    """Rupees after charges."""
    gross: Decimal
    charges: Decimal
    total_return: float
    max_drawdown: float
    sharpe: float | None
    trades: int
    """Round trips that were closed."""
    win_rate: float | None
    failure: str | None
    """What ended it early."""


def parse_grid(text: str) -> dict[str, list[Any]]:
    """Read ``ema=5:20,risk=300:1000``: names with the values to try, parted by colons.

    ``5..20`` is every whole number from 5 to 20, ``5..20..5`` every fifth.

    Raises:
        ConfigurationError: It is no grid.
    """
    grid: dict[str, list[Any]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, values = part.partition("=")
        if not equals or not name.isidentifier() or not values:
            raise ConfigurationError(f"{part!r} is no part of a grid; write name=value:value or name=first..last")
        grid[name] = [each for value in values.split(":") for each in _expand(value)]
    if not grid:
        raise ConfigurationError("the grid is empty; write ema=5:20,risk=300:1000")
    return grid


def read_value(text: str) -> Any:
    """Read a parameter: a whole number, a decimal, true, false, none, or the text itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _expand(text: str) -> list[Any]:
    if _RANGE not in text:
        return [read_value(text)]
    bounds = [read_value(each) for each in text.split(_RANGE)]
    if not 2 <= len(bounds) <= 3 or not all(isinstance(each, int) for each in bounds):  # noqa: PLR2004 - and a step
        raise ConfigurationError(f"{text!r} is no range of whole numbers; write first..last or first..last..step")
    first, last, step = (*bounds, 1)[:3]
    if step <= 0 or last < first:
        raise ConfigurationError(f"the range {text!r} is empty")
    return list(range(first, last + 1, step))


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Iterate over every combination, the last name changing fastest."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def sweep(
    make: Make,
    data: Candles | Sequence[Candles] | Tape,
    grid: Mapping[str, Sequence[Any]],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[SweepRow]:
    """Backtest every combination of ``grid`` and return one row each, in the order of the grid.

    Args:
        make: Builds the strategy of one combination.
        data: As of `simulate`; sent once to each process.
        grid: Names with the values to try.
        workers: Processes; as many as there are cores, unless given. 1 runs everything here.
        progress: Told how many are done, of how many.
        options: As of `simulate`.

    Raises:
        ConfigurationError: The data, an option or a parameter is wrong, or the grid too large.
    """
    runs = list(combinations(grid))
    if len(runs) > _MOST:
        raise ConfigurationError(f"the grid has {len(runs):,} combinations; {_MOST:,} is the most")
    rows: list[SweepRow] = []
    for row in _rows(make, data, runs, workers=min(workers or os.cpu_count() or 1, len(runs)), options=options):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(runs))
    return rows


def _rows(
    make: Make,
    data: Candles | Sequence[Candles] | Tape,
    runs: Sequence[Mapping[str, Any]],
    *,
    workers: int,
    options: Mapping[str, Any],
) -> Iterator[SweepRow]:
    if workers == 1:
        for parameters in runs:
            yield _run(make, data, parameters, options)
        return
    # Spawned, not forked: a fork copies locks that other threads hold.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_prepare, initargs=(make, data, dict(options))
    ) as pool:
        try:
            yield from pool.map(_run_here, runs)
        finally:
            pool.shutdown(cancel_futures=True)


class _Job:
    """What one worker process was given at its start."""

    given: tuple[Make, Any, Mapping[str, Any]]


def _prepare(make: Make, data: Any, options: Mapping[str, Any]) -> None:
    _Job.given = (make, data, options)


def _run_here(parameters: Mapping[str, Any]) -> SweepRow:
    make, data, options = _Job.given
    return _run(make, data, parameters, options)


def _run(make: Make, data: Any, parameters: Mapping[str, Any], options: Mapping[str, Any]) -> SweepRow:
    result = simulate(make(parameters), data, **options)
    told = result.statistics()
    return SweepRow(
        parameters=dict(parameters),
        net=result.pnl.net,
        gross=result.pnl.gross,
        charges=result.pnl.charges,
        total_return=told.total_return,
        max_drawdown=told.max_drawdown,
        sharpe=told.sharpe,
        trades=told.trades,
        win_rate=told.win_rate,
        failure=None if result.ok else failure_text(result),
    )
