"""A thousand deaths: the process is killed around placing an order, and what it left behind is put right."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs

from hybridbroker.cli.gauntlet_victim import JOURNAL, PATIENCE, Job, bare_broker, wanted_order
from hybridbroker.clock import SystemClock
from hybridbroker.errors import ConfigurationError, HybridBrokerError, InvalidOrder, RiskRefused
from hybridbroker.execution.guard import RiskLimits
from hybridbroker.execution.guarded import GuardedBroker
from hybridbroker.execution.journal import OrderJournal
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.records import Entry, OrderState
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault

__all__ = ["Kills", "run_kills"]

_LANES: Final = 3
_RUNS_PER_EMULATOR: Final = 60
_RICH: Final = Decimal(10_000_000)
_MARKET: Final = Decimal(1400)
_WITHIN: Final = 10.0
_REJECTIONS: Final = (
    Fault.answer(b'{"errorType":"Order_Error","errorCode":"DH-906","errorMessage":"RMS: no funds"}', status=400),
    Fault.unauthorised(),
)
_LOSSES: Final = (
    Fault.lost_reply(),
    Fault.lost_reply(accepted=False),
    Fault.reset(),
    Fault.server_error(),
    Fault.server_error(accepted=False),
    Fault.html(accepted=True),
    Fault.garbage(),
    Fault.truncated(),
    Fault.rate_limited(),
)
_VANISHED: Final = (Fault.lost_reply(accepted=False), Fault.server_error(accepted=False), Fault.html())
_SLOW: Final = (Fault.late_reply(0.05), Fault.delay(0.05), Fault.hang(), Fault.late_reply(0.2))


@attrs.frozen
class _Plan:
    """How to make a process die in one state of its order."""

    spread: float
    """Seconds after that state was written within which it dies."""
    faults: tuple[Fault, ...] = ()
    """What the broker does to the order call, one of them."""
    cancels: bool = False
    fills: bool = False


_PLANS: Final = {
    "begin": _Plan(0.001),
    "intent": _Plan(0.0001),
    "sent": _Plan(0.03, _SLOW),
    "accepted": _Plan(0.01),
    "rejected": _Plan(0.01, _REJECTIONS),
    "unknown": _Plan(0.005, _LOSSES),
    "absent": _Plan(0.05, _VANISHED),
    "final": _Plan(0.02, fills=True),
    "random": _Plan(0.12, (*_LOSSES, *_SLOW), cancels=True),
}
_STATES: Final = tuple(state.value for state in OrderState)


@attrs.frozen(kw_only=True)
class Kills:
    """What a series of deaths came to."""

    runs: int
    duplicates: int
    """Orders at the exchange beyond the one that each run wanted."""
    lost: int
    """Orders at the exchange that the run's journal does not know."""
    unresolved: int
    """Orders whose outcome the journal still did not know although the broker could tell."""
    absent_but_live: int
    """Orders called absent that exist."""
    by_state: dict[str, int]
    """How often the process died in each state; ``none`` is before anything was written."""

    @property
    def ok(self) -> bool:
        """Say whether every promise was kept."""
        return not (self.duplicates or self.lost or self.unresolved or self.absent_but_live)

    def as_json(self) -> dict[str, Any]:
        """Return the part of the gauntlet's report that is called ``kills``."""
        return attrs.asdict(self)


async def run_kills(runs: int, *, seed: int = 1, progress: Callable[[], None] = lambda: None) -> Kills:
    """Kill ``runs`` processes, restart each, and compare journal and exchange.

    Deaths are spread over the states of the journal: a run aims at the state with the fewest
    so far, every tenth at any instant. After each death a new process's worth of code takes
    up the journal and its bot, which wants exactly one order, tries again as far as it may.

    Raises:
        ConfigurationError: This system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("killing processes needs a system that can fork: Linux or macOS")
    tally = _Tally(runs, seed=seed, progress=progress)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(_LANES, runs)):
            group.create_task(_lane(tally))
    return tally.result()


class _Tally:
    """What the lanes share: what to aim at next, and the counts so far."""

    def __init__(self, runs: int, *, seed: int, progress: Callable[[], None]) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - reproducible, no secret
        self.wanted = runs
        self.started = 0
        self.duplicates = self.lost = self.unresolved = self.absent_but_live = self.runs = self.survivors = 0
        self.by_state: Counter[str] = Counter()
        self._aimed: Counter[str] = Counter()
        self._progress = progress

    def next_aim(self) -> tuple[int, str] | None:
        """Return the number of the next run and where it is to die, or None when all were started."""
        if self.started >= self.wanted:
            return None
        self.started += 1
        if self.started % 10 == 0:
            return self.started, "random"
        aim = min(_STATES, key=lambda state: (self.by_state[state] + self._aimed[state], self.chance.random()))
        self._aimed[aim] += 1
        if aim == "intent" and self.chance.random() < 0.1:  # noqa: PLR2004 - now and then before the intent is whole
            return self.started, "begin"
        return self.started, aim

    def died(self, aim: str, state: str, *, killed: bool) -> None:
        """Count a death; a process that outlived its aim is tried again.

        Raises:
            ConfigurationError: Too many did: something else than chance keeps them alive.
        """
        self._aimed["intent" if aim == "begin" else aim] -= 1
        if not killed:
            self.survivors += 1
            self.started -= 1
            if self.survivors > self.wanted + _RUNS_PER_EMULATOR:
                raise ConfigurationError(f"processes that were to die in state {aim!r} go on living")
            return
        self.by_state[state] += 1
        self.runs += 1
        self._progress()

    def result(self) -> Kills:
        """Return the counts."""
        return Kills(
            runs=self.runs,
            duplicates=self.duplicates,
            lost=self.lost,
            unresolved=self.unresolved,
            absent_but_live=self.absent_but_live,
            by_state={state: self.by_state[state] for state in ("none", *_STATES)},
        )


async def _lane(tally: _Tally) -> None:
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hybridbroker.cli.gauntlet_victim",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        while tally.started < tally.wanted:
            async with DhanEmulator(EmulatedMarket.still(), cash=_RICH, transit=0.02) as emulator:
                for _ in range(_RUNS_PER_EMULATOR):
                    aim = tally.next_aim()
                    if aim is None:
                        return
                    await _run(tally, victim, emulator, *aim)
    finally:
        victim.kill()
        await victim.wait()


async def _run(
    tally: _Tally, victim: asyncio.subprocess.Process, emulator: DhanEmulator, number: int, aim: str
) -> None:
    plan, chance = _PLANS[aim], tally.chance
    steps = number % 900 + 1
    price = _MARKET + steps * Decimal("0.1") if plan.fills else _MARKET - steps * Decimal("0.1")
    emulator.transit = chance.choice([0.0, 0.02, 0.1])
    emulator.faults.clear()
    if plan.faults:
        emulator.faults.add("POST /v2/orders", chance.choice(plan.faults))
    if aim == "random" and chance.random() < 0.5:  # noqa: PLR2004 - half of them
        emulator.faults.add("GET /v2/orders*", Fault.server_error(), Fault.lost_reply())
    with tempfile.TemporaryDirectory(prefix="hybridbroker-kill-") as directory:
        job = Job(
            directory=directory,
            base_url=emulator.rest_url,
            order_updates_url=emulator.order_updates_url,
            client_id=emulator.client_id,
            access_token=emulator.access_token,
            price=str(price),
            cancels=plan.cancels,
            state=aim,
            spread=plan.spread,
            seed=chance.getrandbits(32),
        )
        already = {row["orderId"] for row in emulator.book()}
        killed = await _die(victim, job)
        tally.died(aim, _state_at_death(Path(directory)), killed=killed)
        if chance.random() < 0.3:  # noqa: PLR2004 - a broker that is unwell after the restart, too
            emulator.faults.add("GET /v2/orders", chance.choice([Fault.server_error(), Fault.lost_reply()]))
        entries = await _take_up(job)
        emulator.faults.clear()
        _judge(tally, emulator, already, entries)


async def _die(victim: asyncio.subprocess.Process, job: Job) -> bool:
    """Let one process live; say whether it was killed, rather than outlived its aim."""
    assert victim.stdin is not None  # noqa: S101 - a pipe, by construction
    assert victim.stdout is not None  # noqa: S101
    victim.stdin.write(json.dumps(attrs.asdict(job)).encode() + b"\n")
    await victim.stdin.drain()
    told = await victim.stdout.readline()
    if not told:
        raise ConfigurationError("the process that is to be killed died of something else; see its traceback")
    return bool(json.loads(told)["killed"])


def _state_at_death(directory: Path) -> str:
    path = directory / JOURNAL
    if not path.exists():
        return "none"
    with OrderJournal(path) as journal:
        entries = journal.entries()
    return entries[-1].state.value if entries else "none"


async def _take_up(job: Job) -> list[Entry]:
    """Be the restarted bot: take up the journal, then have the one order that is wanted."""
    clock = SystemClock()
    journal = OrderJournal(Path(job.directory) / JOURNAL, clock=clock)
    async with bare_broker(job) as bare:
        core = JournalledBroker(bare, journal=journal, clock=clock, patience=PATIENCE)
        async with GuardedBroker(core, bare=bare, limits=RiskLimits(duplicate_window=None), clock=clock) as broker:
            until = clock.monotonic() + _WITHIN
            while clock.monotonic() < until:
                if any(each.state in {OrderState.ACCEPTED, OrderState.FINAL} for each in core.ledger.entries()):
                    break
                try:
                    await broker.place_order(wanted_order(job))
                except RiskRefused:
                    await clock.sleep(0.1)
                except InvalidOrder:
                    raise
                except HybridBrokerError:
                    continue
            await clock.sleep(emulated_transit())
            return list(core.ledger.entries())


def emulated_transit() -> float:
    """Return seconds after which every order has reached the emulated exchange."""
    return 0.15


def _judge(tally: _Tally, emulator: DhanEmulator, already: set[str], entries: list[Entry]) -> None:
    there = [row for row in emulator.book() if row["orderId"] not in already]
    names = [row["correlationId"] for row in there]
    known = {each.client_order_id: each for each in entries}
    tally.duplicates += max(0, len(there) - 1)
    tally.lost += sum(1 for name in names if name not in known)
    tally.unresolved += sum(1 for each in entries if each.is_unresolved)
    tally.absent_but_live += sum(
        1 for name in names if name in known and known[name].state in {OrderState.ABSENT, OrderState.REJECTED}
    )
