"""Ten writes a second and no more, over all processes of an account, the urgent ones first."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from execution_support import VirtualClock
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.rate import Places, WriteRate
from hybridbroker.files import lock


def most_within_a_second(times: list[float]) -> int:
    return max(sum(1 for other in times if at <= other < at + 1.0) for at in times)


async def nothing(_: object = None) -> None:
    """A write that is answered at once."""


async def write_all(
    rate: WriteRate, clock: VirtualClock, *, count: int, arrives_after: float = 0.0, answered_after: float = 0.0
) -> list[float]:
    """Write ``count`` times at once; return when the writes arrived at the broker."""
    arrived: list[float] = []

    async def send() -> None:
        await clock.sleep(arrives_after)
        arrived.append(clock.monotonic())
        await clock.sleep(answered_after)

    async def one() -> None:
        turn = await rate.acquire()
        await turn.around(send())

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    return arrived


async def test_no_second_ever_holds_more_than_ten() -> None:
    clock = VirtualClock()
    with WriteRate(None, clock=clock) as rate:
        times = await clock.run(write_all(rate, clock, count=55))

    assert len(times) == 55
    assert most_within_a_second(times) == 10


@given(delays=st.lists(st.tuples(st.floats(0, 1.5), st.floats(0, 0.5)), min_size=11, max_size=40))
def test_no_second_holds_more_than_ten_arrivals_however_the_way_delays_them(delays: list[tuple[float, float]]) -> None:
    clock = VirtualClock()
    arrived: list[float] = []

    async def send(there: float, back: float) -> None:
        await clock.sleep(there)
        arrived.append(clock.monotonic())
        await clock.sleep(back)

    async def one(there: float, back: float) -> None:
        turn = await rate.acquire()
        await turn.around(send(there, back))

    async def all_of_them() -> None:
        await clock.run(asyncio.gather(*(one(*each) for each in delays)))

    with WriteRate(None, clock=clock) as rate:
        asyncio.run(all_of_them())

    assert most_within_a_second(arrived) <= 10


async def test_the_limit_can_be_lowered() -> None:
    clock = VirtualClock()
    with WriteRate(None, clock=clock, limit=3) as rate:
        times = await clock.run(write_all(rate, clock, count=12))

    assert most_within_a_second(times) == 3


@pytest.mark.parametrize("limit", [0, 11])
def test_the_limit_cannot_be_raised_above_the_legal_line(limit: int) -> None:
    with pytest.raises(ConfigurationError, match="1 to 10"):
        WriteRate(None, clock=VirtualClock(), limit=limit)


async def test_an_urgent_write_passes_those_that_wait() -> None:
    clock = VirtualClock()
    done: list[str] = []

    async def one(name: str, *, urgent: bool) -> None:
        turn = await rate.acquire(urgent=urgent)
        await turn.around(nothing())
        done.append(name)

    with WriteRate(None, clock=clock) as rate:
        await clock.run(write_all(rate, clock, count=10))
        waiting = [asyncio.ensure_future(one(f"entry-{number}", urgent=False)) for number in range(3)]
        await clock.advance(0.1)
        waiting.append(asyncio.ensure_future(one("cancel", urgent=True)))
        await clock.run(asyncio.gather(*waiting))

    assert done == ["cancel", "entry-0", "entry-1", "entry-2"]


async def test_two_counts_on_one_file_share_the_ten(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "rate"
    with WriteRate(path, clock=clock) as one, WriteRate(path, clock=clock) as other:
        both = await clock.run(asyncio.gather(write_all(one, clock, count=20), write_all(other, clock, count=20)))

    assert most_within_a_second([*both[0], *both[1]]) == 10


async def test_processes_share_the_ten(tmp_path: Path) -> None:
    script = f"""
import asyncio, time
from pathlib import Path
from hybridbroker.clock import SystemClock
from hybridbroker.execution.rate import WriteRate
async def send():
    print(time.monotonic(), flush=True)
async def main():
    with WriteRate(Path({str(tmp_path / "rate")!r}), clock=SystemClock()) as rate:
        for _ in range(8):
            turn = await rate.acquire()
            await turn.around(send())
asyncio.run(main())
"""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    printed = await asyncio.gather(*(each.communicate() for each in processes))

    times = [float(line) for output, _ in printed for line in output.splitlines()]

    assert len(times) == 24
    assert most_within_a_second(sorted(times)) == 10


async def test_a_write_whose_process_died_holds_its_place_for_three_seconds(tmp_path: Path) -> None:
    clock, path = VirtualClock(), tmp_path / "rate"
    with WriteRate(path, clock=clock) as dead:
        for _ in range(10):
            await dead.acquire()
    with WriteRate(path, clock=clock) as rate:
        times = await clock.run(write_all(rate, clock, count=1))

    assert 3.0 <= times[0] < 3.1


async def test_times_of_before_a_reboot_do_not_count(tmp_path: Path) -> None:
    late, early = VirtualClock(), VirtualClock()
    await late.advance(1_000_000)
    with WriteRate(tmp_path / "rate", clock=late) as rate:
        await late.run(write_all(rate, late, count=10))

    with WriteRate(tmp_path / "rate", clock=early) as rate:
        times = await early.run(write_all(rate, early, count=10))

    assert times == [0.0] * 10


async def test_a_cancelled_waiter_takes_no_place() -> None:
    clock = VirtualClock()
    with WriteRate(None, clock=clock) as rate:
        await clock.run(write_all(rate, clock, count=10))
        given_up = asyncio.ensure_future(rate.acquire())
        await clock.advance(0.1)
        given_up.cancel()
        times = await clock.run(write_all(rate, clock, count=10))

    assert times == pytest.approx([1.005] * 10)


async def test_a_count_that_stays_locked_is_told(tmp_path: Path) -> None:
    clock, path = VirtualClock(), tmp_path / "rate"
    with WriteRate(path, clock=clock) as rate, path.open("r+b") as other:
        assert lock(other.fileno())
        with pytest.raises(ConfigurationError, match="stays locked"):
            await clock.run(rate.acquire())


async def test_a_damaged_count_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "rate"
    path.write_bytes(b"?")
    with WriteRate(path, clock=VirtualClock()) as rate:
        turn = await rate.acquire()

    assert not turn.waited


def test_a_cancel_that_waits_holds_back_the_entries_of_other_processes() -> None:
    full = Places(until=tuple(1.0 + number for number in range(10)))

    _, wait, told = full.take(0.95, limit=10, urgent=True, process=1)
    others, _, _ = told.take(1.01, limit=10, urgent=False, process=2)
    mine, _, after = told.take(1.01, limit=10, urgent=True, process=1)
    later, _, _ = after.set(1, 0.0).take(1.02, limit=10, urgent=False, process=2)

    assert (round(wait, 9), others, mine, later) == (0.05, None, 0, 1)


def test_a_count_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="rate"):
        WriteRate(tmp_path / "file" / "rate", clock=VirtualClock()).__enter__()
