"""Between a reader that must not wait and a consumer that may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from hybridbroker import FeedError, Gap, MarketEvent, Overflow, Tick
from hybridbroker.streams import EventBuffer, StreamHealth, only_ticks
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.factories import make_instrument, make_tick

START = datetime(2026, 9, 15, 4, 0, tzinfo=UTC)
A, B = make_instrument(symbol="AAA"), make_instrument(symbol="BBB")
GAP = Gap(since=START, until=START, reason="test")


def buffer(overflow: Overflow = Overflow.CONFLATE) -> tuple[EventBuffer, StreamHealth, ManualClock]:
    clock = ManualClock(START)
    health = StreamHealth(clock)
    return EventBuffer(health=health, clock=clock, overflow=overflow), health, clock


def a(price: float) -> Tick:
    return make_tick(instrument=A, last_price=price)


def b(price: float) -> Tick:
    return make_tick(instrument=B, last_price=price)


async def drain(events: EventBuffer) -> list[object]:
    taken: list[object] = []
    while True:
        try:
            event = await events.get()
        except StopAsyncIteration:
            return taken
        taken.append(event.last_price if isinstance(event, Tick) else event)


async def test_a_consumer_that_keeps_up_sees_every_tick() -> None:
    events, health, _ = buffer()

    events.put([a(1), a(2)])
    events.put([b(3), a(4)])
    events.close()

    assert await drain(events) == [1, 2, 3, 4]
    assert health.conflated == 0


async def test_a_late_consumer_gets_the_newest_price_of_each_instrument() -> None:
    events, health, clock = buffer()
    events.put([a(1), b(2), a(3)])

    await clock.sleep(5)
    events.put([a(4)])
    events.close()

    assert await drain(events) == [2, 4]
    assert health.conflated == 2


async def test_gaps_survive_conflation_and_come_first() -> None:
    events, _, clock = buffer()
    events.put([a(1)])
    events.put([GAP])
    events.put([a(2)])

    await clock.sleep(5)
    events.close()

    assert await drain(events) == [GAP, 2]


async def test_a_price_from_before_a_gap_is_not_shown_after_it() -> None:
    events, health, clock = buffer()
    events.put([a(1), b(2)])
    events.put([GAP])
    events.put([b(3)])

    await clock.sleep(5)
    events.close()

    assert await drain(events) == [GAP, 3]
    assert health.conflated == 2


async def test_the_consumer_is_told_when_the_event_it_took_was_read() -> None:
    events, health, clock = buffer()
    events.put([a(1)])
    read_at = clock.monotonic()

    await clock.sleep(0.1)
    await events.get()

    assert health.read_at == read_at


async def test_a_reader_waits_for_room_when_told_to_block() -> None:
    events, health, clock = buffer(Overflow.BLOCK)
    events.put([a(1), a(2)])
    await clock.sleep(60)
    reader = asyncio.create_task(events.room())
    await asyncio.sleep(0)

    assert not reader.done()
    assert [(await events.get()), (await events.get())]
    await asyncio.wait_for(reader, 1)
    assert health.conflated == 0


async def test_overflow_error_ends_the_stream_loudly() -> None:
    events, _, clock = buffer(Overflow.ERROR)
    events.put([a(1)])
    await clock.sleep(5)

    events.put([a(2)])

    with pytest.raises(FeedError, match="behind"):
        await asyncio.wait_for(_to_the_end(events), 1)


async def _to_the_end(events: EventBuffer) -> None:
    while True:
        await events.get()


async def test_an_error_comes_after_what_was_read_before_it() -> None:
    events, _, _ = buffer()
    events.put([a(1)])
    events.close(FeedError("broken"))

    assert isinstance(await events.get(), Tick)
    with pytest.raises(FeedError, match="broken"):
        await events.get()


async def test_a_waiting_consumer_is_woken_by_a_frame_and_by_the_end() -> None:
    events, _, _ = buffer()
    consumer = asyncio.create_task(drain(events))
    await asyncio.sleep(0)

    events.put([a(1)])
    await asyncio.sleep(0)
    events.close()

    assert await asyncio.wait_for(consumer, 1) == [1]


async def test_ticks_passes_over_everything_else() -> None:
    events: list[MarketEvent] = [GAP, a(1), GAP, b(2)]

    async def source() -> AsyncIterator[MarketEvent]:
        for event in events:
            yield event

    assert [tick.last_price async for tick in only_ticks(source())] == [1, 2]


async def test_an_instrument_that_never_ticked_becomes_stale() -> None:
    _, health, clock = buffer()
    health.expect([A, B])
    await clock.sleep(20)
    health.ticked([a(1)])
    await clock.sleep(20)

    assert not health.stale()
    assert not health.stale(A)
    assert health.stale(B)


async def test_an_instrument_nobody_subscribed_is_stale() -> None:
    _, health, _ = buffer()

    assert health.stale(A)
