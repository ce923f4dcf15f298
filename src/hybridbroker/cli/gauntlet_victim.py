"""The process that is killed: it places one order through journal and guard, and dies where it is told to.

Started by `gauntlet_kills`; reads jobs as JSON lines and forks once for each, so that a
thousand deaths do not cost a thousand imports. Tells on stdout who was born and who died.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import SystemClock
from hybridbroker.domain.orders import LimitOrder, Side
from hybridbroker.errors import HybridBrokerError
from hybridbroker.execution.guard import RiskLimits
from hybridbroker.execution.guarded import GuardedBroker
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.reconcile import Patience
from hybridbroker.execution.records import Entry
from hybridbroker.instruments.registry import InstrumentRegistry

__all__ = ["JOURNAL", "PATIENCE", "Job", "bare_broker", "main", "wanted_order"]

JOURNAL: Final = "orders.db"
PATIENCE: Final = Patience(deadline=0.4, settle=0.4, reads=3, watch=0.1, poll=0.3)
"""The order of things is that of real life, the seconds are not."""
_REGISTRY: Final = InstrumentRegistry.builtin()
_RELIANCE: Final = _REGISTRY["NSE:RELIANCE"]
_LIFE: Final = 1.5
_SWITCH: Final = 1e-5


@attrs.frozen(kw_only=True)
class Job:
    """One life."""

    directory: str
    base_url: str
    order_updates_url: str
    client_id: str
    access_token: str
    price: str
    """Rupees; also tells the runs apart in the exchange's book."""
    cancels: bool
    """Whether the order is cancelled again after it was placed."""
    state: str
    """State after whose writing to die; ``random`` dies at any time, empty never."""
    spread: float
    """Seconds within which to die after that."""
    seed: int


def bare_broker(job: Job) -> DhanBroker:
    """Return the Dhan slice that the job is to use."""
    settings = DhanSettings(
        client_id=job.client_id,
        access_token=job.access_token,
        base_url=job.base_url,
        order_updates_url=job.order_updates_url,
        keep_warm_seconds=0,
    )
    return DhanBroker(settings, instruments=_REGISTRY, clock=SystemClock())


def wanted_order(job: Job) -> LimitOrder:
    """Return the one order that the job's bot wants to have."""
    return LimitOrder(_RELIANCE, Side.BUY, quantity=1, price=Decimal(job.price))


class _Fatal(OrderJournal):
    """A journal that ends its process some time after it wrote the state it was told."""

    def __init__(self, path: Path, job: Job) -> None:
        super().__init__(path)
        self._job = job
        self._chance = random.Random(job.seed)  # noqa: S311 - where to die is no secret

    def begin(self, entry: Entry, detail: str) -> None:
        self._reached("begin")
        super().begin(entry, detail)
        self._reached("intent")

    def mark_sent(self, entry: Entry) -> None:
        super().mark_sent(entry)
        self._reached(entry.state.value)

    def save(self, entry: Entry, kind: str, detail: str = "") -> None:
        super().save(entry, kind, detail)
        self._reached(entry.state.value)

    def _reached(self, state: str) -> None:
        if state == self._job.state:
            die_within(self._chance.uniform(0, self._job.spread))


def die_within(seconds: float) -> None:
    """Have the process killed after ``seconds``, wherever it is then."""

    def kill() -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            time.sleep(0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()


async def _live(job: Job) -> None:
    journal = _Fatal(Path(job.directory) / JOURNAL, job)
    if job.state == "random":
        die_within(random.Random(job.seed).uniform(0, job.spread))  # noqa: S311
    clock = SystemClock()
    async with bare_broker(job) as bare:
        broker = GuardedBroker(
            JournalledBroker(bare, journal=journal, clock=clock, patience=PATIENCE),
            bare=bare,
            limits=RiskLimits(),
            clock=clock,
        )
        async with broker:
            try:
                order = await broker.place_order(wanted_order(job))
                if job.cancels:
                    await broker.cancel_order(order.id)
            except HybridBrokerError:
                pass  # what the bot is told is not what this is about
            await asyncio.sleep(_LIFE)


def main() -> None:
    """Serve jobs until stdin ends."""
    sys.setswitchinterval(_SWITCH)
    for line in sys.stdin:
        job = Job(**json.loads(line))
        child = os.fork()
        if child == 0:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the rest of a short life
            asyncio.run(_live(job))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        _say({"killed": os.WIFSIGNALED(status), "status": status})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
