"""What the tests of order execution share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from execution_support import Alerts, FakeBroker, VirtualClock

from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.journalled import JournalledBroker

Build = Callable[[], JournalledBroker]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def bare(clock: VirtualClock) -> FakeBroker:
    return FakeBroker(clock)


@pytest.fixture
def alerts() -> Alerts:
    return Alerts()


@pytest.fixture
def build(tmp_path: Path, bare: FakeBroker, clock: VirtualClock, alerts: Alerts) -> Build:
    """Build a journalled broker; called again, one that finds the journal of the one before."""
    return lambda: JournalledBroker(
        bare, journal=OrderJournal(tmp_path / "orders.db", clock=clock), clock=clock, notifier=alerts
    )
