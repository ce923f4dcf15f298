"""How the way of an order is doing: counts, and how long each stage took."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import attrs

__all__ = ["Metrics", "MetricsSnapshot", "Quantiles", "Stage"]

_KEPT: Final = 4096


class Stage:
    """Names of the stages an order passes, each timed in milliseconds."""

    DECIDED: Final = "tick_to_decision"
    """From reading the newest tick of the instrument to the call of place_order."""
    CHECKED: Final = "guard"
    """Risk checks, a fresh quote included where one was needed."""
    JOURNALLED: Final = "journal"
    """Writing the intent, the sync included."""
    WAITED: Final = "rate"
    """Waiting for a place in the write rate."""
    ACKNOWLEDGED: Final = "broker"
    """From handing the request to the broker's slice to its answer."""
    TOTAL: Final = "total"
    """All of it but the first: from the call of place_order to its answer."""


@attrs.frozen(kw_only=True)
class Quantiles:
    """A distribution, in milliseconds."""

    n: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Quantiles:
        """Summarise durations given in seconds; there must be at least one."""
        ordered = sorted(seconds)
        last = len(ordered) - 1
        p50, p99 = ordered[round(last * 0.5)], ordered[round(last * 0.99)]
        return cls(
            n=len(ordered), p50=round(p50 * 1e3, 3), p99=round(p99 * 1e3, 3), longest=round(ordered[-1] * 1e3, 3)
        )


@attrs.frozen(kw_only=True)
class MetricsSnapshot:
    """The state of order execution at one instant."""

    at: datetime
    orders: Mapping[str, int]
    """Counts since the session began: placed, accepted, rejected, unknown, absent, adopted, refused, …"""
    latency_ms: Mapping[str, Quantiles]
    """By `Stage`, over the newest 4,096 orders."""
    unresolved: Sequence[str]
    """Client order ids that may be live without the broker having shown them."""
    stopped: Mapping[str, str]
    """Why entries are stopped, by kind; empty while they are allowed."""
    updates_live: bool
    """Whether the broker's order updates are coming in; else the book is polled."""
    book_read_at: datetime | None
    positions_read_at: datetime | None


class Metrics:
    """Counts and durations; one writer, the event loop."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._stages: dict[str, deque[float]] = {}

    def count(self, what: str) -> None:
        """Count one."""
        self.counts[what] += 1

    def took(self, stage: str, seconds: float) -> None:
        """Note how long a stage took."""
        self._stages.setdefault(stage, deque(maxlen=_KEPT)).append(seconds)

    def latencies(self) -> dict[str, Quantiles]:
        """Return the distribution of each stage that was passed."""
        return {stage: Quantiles.of(tuple(times)) for stage, times in self._stages.items() if times}
