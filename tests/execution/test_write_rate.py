"""Ten writes a second and no more, over all processes of an account, the urgent ones first."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from execution_support import VirtualClock

from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.account import lock
from hybridbroker.execution.rate import WriteRate, _Count


def most_within_a_second(times: Sequence[float]) -> int:
    return max(sum(1 for other in times if at <= other < at + 1.0) for at in times)


async def acquire_all(rate: WriteRate, clock: VirtualClock, *, count: int, urgent: bool = False) -> list[float]:
    times: list[float] = []

    async def one() -> None:
        await rate.acquire(urgent=urgent)
        times.append(clock.monotonic())

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    return times


async def test_no_second_ever_holds_more_than_ten() -> None:
    clock = VirtualClock()
    with WriteRate(None, clock=clock) as rate:
        times = await clock.run(acquire_all(rate, clock, count=55))

    assert len(times) == 55
    assert most_within_a_second(times) == 10


async def test_the_limit_can_be_lowered() -> None:
    clock = VirtualClock()
    with WriteRate(None, clock=clock, limit=3) as rate:
        times = await clock.run(acquire_all(rate, clock, count=12))

    assert most_within_a_second(times) == 3


@pytest.mark.parametrize("limit", [0, 11])
def test_the_limit_cannot_be_raised_above_the_legal_line(limit: int) -> None:
    with pytest.raises(ConfigurationError, match="1 to 10"):
        WriteRate(None, clock=VirtualClock(), limit=limit)


async def test_an_urgent_write_passes_those_that_wait() -> None:
    clock = VirtualClock()
    done: list[str] = []

    async def one(name: str, *, urgent: bool) -> None:
        await rate.acquire(urgent=urgent)
        done.append(name)

    with WriteRate(None, clock=clock) as rate:
        await clock.run(acquire_all(rate, clock, count=10))
        waiting = [asyncio.ensure_future(one(f"entry-{number}", urgent=False)) for number in range(3)]
        await clock.advance(0.1)
        waiting.append(asyncio.ensure_future(one("cancel", urgent=True)))
        await clock.run(asyncio.gather(*waiting))

    assert done == ["cancel", "entry-0", "entry-1", "entry-2"]


async def test_two_ledgers_on_one_file_share_the_ten(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "rate"
    with WriteRate(path, clock=clock) as one, WriteRate(path, clock=clock) as other:
        both = await clock.run(asyncio.gather(acquire_all(one, clock, count=20), acquire_all(other, clock, count=20)))

    assert most_within_a_second([*both[0], *both[1]]) == 10


async def test_processes_share_the_ten(tmp_path: Path) -> None:
    script = f"""
import asyncio, time
from pathlib import Path
from hybridbroker.clock import SystemClock
from hybridbroker.execution.account import lock
from hybridbroker.execution.rate import WriteRate, _Count
async def main():
    with WriteRate(Path({str(tmp_path / "rate")!r}), clock=SystemClock()) as rate:
        for _ in range(8):
            await rate.acquire()
            print(time.monotonic(), flush=True)
asyncio.run(main())
"""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    printed = await asyncio.gather(*(each.communicate() for each in processes))

    times = [float(line) for output, _ in printed for line in output.splitlines()]

    assert len(times) == 24
    # Printed just after the place was taken: the slack of the window covers that.
    assert most_within_a_second(sorted(times)) == 10


async def test_times_of_before_a_reboot_do_not_count(tmp_path: Path) -> None:
    late, early = VirtualClock(), VirtualClock()
    await late.advance(1_000_000)
    with WriteRate(tmp_path / "rate", clock=late) as rate:
        await late.run(acquire_all(rate, late, count=10))

    with WriteRate(tmp_path / "rate", clock=early) as rate:
        times = await early.run(acquire_all(rate, early, count=10))

    assert times == [0.0] * 10


async def test_a_cancelled_waiter_takes_no_place() -> None:
    clock = VirtualClock()
    with WriteRate(None, clock=clock) as rate:
        await clock.run(acquire_all(rate, clock, count=10))
        given_up = asyncio.ensure_future(rate.acquire())
        await clock.advance(0.1)
        given_up.cancel()
        times = await clock.run(acquire_all(rate, clock, count=10))

    assert times == pytest.approx([1.05] * 10)


async def test_a_count_that_stays_locked_is_told(tmp_path: Path) -> None:
    clock, path = VirtualClock(), tmp_path / "rate"
    with WriteRate(path, clock=clock) as rate, path.open("r+b") as other:
        assert lock(other.fileno())
        with pytest.raises(ConfigurationError, match="stays locked"):
            await clock.run(rate.acquire())


def test_a_damaged_count_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "rate"
    path.write_bytes(b"?")
    with WriteRate(path, clock=VirtualClock()) as rate:
        assert rate._take(urgent=False) == 0.0


async def test_a_cancel_that_waits_holds_back_the_entries_of_other_processes(tmp_path: Path) -> None:
    path, clock = tmp_path / "rate", VirtualClock()
    with WriteRate(path, clock=clock) as rate:
        await clock.run(acquire_all(rate, clock, count=10))
        count = _Count.read(path.read_bytes(), now=clock.monotonic())
        wait, told = count.take(0.5, limit=10, urgent=True, process=1)
        others, _ = told.take(1.06, limit=10, urgent=False, process=2)
        mine, after = told.take(1.06, limit=10, urgent=True, process=1)
        later, _ = after.take(1.07, limit=10, urgent=False, process=2)

    assert (round(wait, 9), others > 0, mine, later) == (0.55, True, 0.0, 0.0)


def test_a_count_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=r"rate"):
        WriteRate(tmp_path / "file" / "rate", clock=VirtualClock()).__enter__()
