"""A synthetic trading day: minute bars from a seeded random walk with one clear trend."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import date
from typing import Final

from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.testing.emulators.candles import MINUTE_MS, Bar
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.steps import session_bounds

__all__ = ["walk"]

_MINUTES: Final = 375
_SHAPE: Final = (
    (0.16, -0.002, 0.8),
    (0.06, -0.0045, 0.5),
    (0.04, 0.013, 4.0),
    (0.14, 0.005, 1.6),
    (0.22, 0.0, 0.7),
    (0.38, -0.010, 1.1),
)
"""A day with one clear trend: (part of the session, drift over it, volume against the usual).

A fall that dries up, a breakout on heavy volume, a slower rise, a rest, a long fall.
"""


def walk(
    listed: ListedInstrument, *, start_price: float, day: date, seed: int, history_days: int
) -> tuple[list[Bar], list[Bar]]:
    """Return minute bars of ``history_days`` trading days before ``day``, and of ``day`` itself.

    The same arguments give the same bars. Past days drift nowhere; ``day`` falls, breaks
    out on volume, and falls again, so that a moving-average crossover has something to find.
    """
    rng = random.Random(f"{seed}{listed.upstox_key}")  # noqa: S311 - a reproducible market, no secret
    calendar = TradingCalendar()
    days = [day]
    while len(days) <= history_days:
        days.append(calendar.previous_session(days[-1]).date)
    price = start_price
    past: list[Bar] = []
    for each in reversed(days[1:]):
        bars = _walk_day(listed, price, each, rng, shape=((1.0, 0.0, 1.0),))
        past += bars
        price = bars[-1].close
    return past, _walk_day(listed, price, day, rng, shape=_SHAPE)


def _walk_day(
    listed: ListedInstrument,
    price: float,
    day: date,
    rng: random.Random,
    *,
    shape: Sequence[tuple[float, float, float]],
) -> list[Bar]:
    opens, _ = session_bounds(day)
    plan = [(drift / (part * _MINUTES), busy) for part, drift, busy in shape for _ in range(math.ceil(part * _MINUTES))]
    bars: list[Bar] = []
    for minute, (drift, busy) in enumerate(plan[:_MINUTES]):
        pace = 1.0 + 1.5 * math.cos(math.pi * minute / _MINUTES) ** 2
        points = [price := price * math.exp(drift / 3 + rng.gauss(0, 0.00018)) for _ in range(3)]
        path = [_on_tick(listed, point) for point in (bars[-1].close if bars else points[0], *points)]
        volume = 0 if listed.is_index else int(9_000 * busy * pace * rng.lognormvariate(0, 0.25))
        volume -= volume % listed.instrument.lot_size
        bars.append(Bar(opens + minute * MINUTE_MS, path[0], max(path), min(path), path[-1], volume))
    return bars


def _on_tick(listed: ListedInstrument, price: float) -> float:
    return float(listed.instrument.price(round(price, 4)))
