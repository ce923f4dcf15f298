"""Time: the one place that reads the real clock, and the protocol by which it is injected."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Protocol

__all__ = ["IST", "Clock", "SystemClock", "from_epoch_ms", "to_epoch_ms"]

IST: Final = timezone(timedelta(hours=5, minutes=30), "IST")
"""Indian Standard Time. India has had no daylight saving since 1945, so a fixed offset is exact."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What the library needs to know of time; tests and backtests bring their own."""

    def now(self) -> datetime:
        """Return the present as an aware datetime."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of this clock's time; zero or less only yields."""
        ...


class SystemClock:
    """The real clock."""

    def now(self) -> datetime:
        """Return the present, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the event loop's own notion of seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of real time."""
        await asyncio.sleep(max(0.0, seconds))


def from_epoch_ms(milliseconds: int) -> datetime:
    """Return the instant, as an aware datetime in IST, of ``milliseconds`` since 1970 UTC."""
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, IST).replace(microsecond=rest * 1000)


def to_epoch_ms(instant: datetime) -> int:
    """Return whole milliseconds since 1970 UTC; ``instant`` must be aware."""
    if instant.tzinfo is None:
        raise ValueError(f"an instant must be timezone-aware, was {instant!r}")
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
