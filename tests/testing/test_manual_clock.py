"""ManualClock: time passes only when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hybridbroker.clock import IST, Clock
from hybridbroker.testing.clock import ManualClock


async def test_sleeping_returns_at_once_and_lets_time_pass() -> None:
    clock: Clock = ManualClock(datetime(2026, 1, 5, 9, 15, tzinfo=IST))

    await clock.sleep(90)
    await clock.sleep(-1)

    assert clock.now() == datetime(2026, 1, 5, 9, 16, 30, tzinfo=IST)
    assert clock.monotonic() == 90


def test_time_passes_when_told() -> None:
    clock = ManualClock()
    start = clock.now()

    clock.advance(1.5)

    assert clock.now() - start == timedelta(seconds=1.5)


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        ManualClock().advance(-1)


def test_a_start_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 5, tzinfo=UTC).replace(tzinfo=None))
