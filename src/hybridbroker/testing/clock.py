"""A clock that tests move: its sleeps return at once and carry its time forward."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["ManualClock"]

_START: Final = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)


class ManualClock:
    """A `Clock` whose time passes only in its sleeps and in `advance`.

    ``start`` must be aware; without it the clock starts on Monday 5 January 2026, 9:30 IST.
    """

    def __init__(self, start: datetime = _START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"a clock starts at an aware datetime, was {start!r}")
        self._start = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        """Return the start plus what has elapsed, in the start's zone."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the seconds that have elapsed since the start."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Let what is ready run now, then let ``seconds`` pass at once."""
        await asyncio.sleep(0)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass; sleeping tasks are not woken, since none ever sleeps."""
        if seconds < 0:
            raise ValueError(f"time does not go back, was {seconds}")
        self._elapsed += seconds
