"""What `TickSource` and `MarketStream` promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import FeedMode, FeedState, Gap, MarketEvent, Tick
from hybridbroker.errors import FeedError, InstrumentError, Unsupported
from hybridbroker.protocols import Capability, MarketStream
from hybridbroker.testing.conformance.kit import Check, DataSubject, Skipped, broken, expect

__all__ = ["STREAM_CHECKS"]

_MODES: Final = {
    FeedMode.FULL: Capability.FULL_MODE,
    FeedMode.OPTION_GREEKS: Capability.OPTION_GREEKS,
    FeedMode.DEPTH_30: Capability.DEPTH_30,
}
_QUIET: Final = 0.3


async def ticks_of_what_was_asked(subject: DataSubject) -> None:
    """A stream gives ticks of the instruments it was opened with, and of no others."""
    share, other = subject.instruments[0], subject.instruments[1]
    async with subject.data.stream([share]) as events:
        await subject.moved(other, _up(await _price(subject, other)))
        await subject.moved(share, _up(await _price(subject, share)))

        tick = await _tick(subject, events, lambda _: True)

        expect(tick.instrument == share, f"a tick of {tick.instrument} came")
        expect(tick.last_price > 0, f"its last price is {tick.last_price}")
        expect(tick.received_at is not None, "it does not say when it came")
        expect(events.health.state is FeedState.LIVE, f"the stream says it is {events.health.state.value}")
        expect(events.health.last_data is not None, "its health does not know of the tick")


async def prices_come_through_exactly(subject: DataSubject) -> None:
    """A tick carries the price that was traded, on the tick size."""
    share = subject.instruments[0]
    async with subject.data.stream([share]) as events:
        price = _up(await _price(subject, share))
        await subject.moved(share, price)

        tick = await _tick(subject, events, lambda each: abs(each.last_price - price) < float(share.tick_size))

        expect(share.is_on_tick(share.price(tick.last_price)), f"{tick.last_price} is off the tick")
        expect(tick.last_price == price, f"{price!r} was traded, {tick.last_price!r} came")


async def subscriptions_can_be_changed(subject: DataSubject) -> None:
    """What is added while a stream runs is streamed, and what is removed is not."""
    share, other = subject.instruments[0], subject.instruments[1]
    async with subject.data.stream([share]) as events:
        await events.subscribe([other])
        await subject.moved(other, _up(await _price(subject, other)))
        await _tick(subject, events, lambda each: each.instrument == other)

        await events.unsubscribe([other])
        await asyncio.sleep(_QUIET)
        await _drain(events)
        await subject.moved(other, _up(await _price(subject, other)))
        await subject.moved(share, _up(await _price(subject, share)))
        tick = await _tick(subject, events, lambda _: True)

        expect(tick.instrument == share, f"a tick of {tick.instrument} came after it was removed")


async def full_mode_has_depth(subject: DataSubject) -> None:
    """Full mode shows the book, best prices first, bids below asks."""
    share = subject.instruments[0]
    async with subject.data.stream([share], mode=FeedMode.FULL) as events:
        await subject.moved(share, _up(await _price(subject, share)))

        tick = await _tick(subject, events, lambda each: each.depth is not None)

        depth = tick.depth
        assert depth is not None  # noqa: S101 - that is what was waited for
        bids, asks = [each.price for each in depth.bids], [each.price for each in depth.asks]
        expect(bids == sorted(bids, reverse=True), f"bids are {bids}")
        expect(asks == sorted(asks), f"asks are {asks}")
        expect(
            not bids or not asks or bids[0] < asks[0], f"the best bid {bids[:1]} is not below the best ask {asks[:1]}"
        )


async def modes_it_lacks_are_refused(subject: DataSubject) -> None:
    """A mode whose flag is missing is `Unsupported`, or `SubscriptionLimit` where the plan lacks it."""
    missing = [mode for mode, flag in _MODES.items() if flag not in subject.data.capabilities]
    if not missing:
        raise Skipped("it has every mode")
    for mode in missing:
        try:
            async with subject.data.stream([subject.instruments[0]], mode=mode):
                raise broken(f"a stream in mode {mode.value} was opened")
        except (Unsupported, FeedError):
            continue


async def unlisted_instruments_are_refused(subject: DataSubject) -> None:
    """Subscribing what the source does not list is an `InstrumentError`, and leaves the stream as it was."""
    if subject.unmapped is None:
        raise Skipped("no instrument is known that this source lacks")
    share = subject.instruments[0]
    async with subject.data.stream([share]) as events:
        try:
            await events.subscribe([subject.unmapped])
        except InstrumentError:
            pass
        else:
            raise broken("it was subscribed")
        await subject.moved(share, _up(await _price(subject, share)))
        await _tick(subject, events, lambda each: each.instrument == share)


async def a_cut_is_a_gap_and_nothing_is_forgotten(subject: DataSubject) -> None:
    """After a lost connection a `Gap` comes before the first tick, and everything subscribed is subscribed again."""
    if subject.cut is None:
        raise Skipped("the connections of this subject cannot be cut")
    share, other = subject.instruments[0], subject.instruments[1]
    async with subject.data.stream([share]) as events:
        await events.subscribe([other])
        await subject.moved(share, _up(await _price(subject, share)))
        await _tick(subject, events, lambda each: each.instrument == share)
        await asyncio.sleep(_QUIET)
        await _drain(events)

        await subject.cut()
        gap = await _next(subject, events, lambda each: isinstance(each, Gap), "gap")
        assert isinstance(gap, Gap)  # noqa: S101 - that is what was waited for
        expect(gap.until >= gap.since, f"the gap ends before it begins: {gap}")
        for instrument in (share, other):
            await subject.moved(instrument, _up(await _price(subject, instrument)))
            wanted: Instrument = instrument
            await _tick(subject, events, lambda each, wanted=wanted: each.instrument == wanted)  # type: ignore[misc]
        expect(events.health.reconnects >= 1, "its health counts no reconnection")


async def leaving_ends_the_stream(subject: DataSubject) -> None:
    """Once the block is left the stream is closed, and iterating it ends."""
    async with subject.data.stream([subject.instruments[0]]) as events:
        pass

    async def rest() -> None:
        async for _ in events:
            pass

    try:
        async with asyncio.timeout(subject.within):
            await rest()
    except TimeoutError:
        raise broken("iterating a closed stream goes on") from None


async def _price(subject: DataSubject, instrument: Instrument) -> float:
    quotes = await subject.data.quotes([instrument])
    return quotes[instrument].last_price


def _up(price: float) -> float:
    """Return another price nearby, on any tick of whole rupees."""
    return float(int(price) + 1)


async def _next(
    subject: DataSubject, events: AsyncIterator[MarketEvent], wanted: Callable[[MarketEvent], bool], what: str
) -> MarketEvent:
    try:
        async with asyncio.timeout(subject.within):
            async for event in events:
                if wanted(event):
                    return event
    except TimeoutError:
        raise broken(f"within {subject.within:.0f} s there was no {what}") from None
    raise broken(f"the stream ended before there was a {what}")


async def _tick(subject: DataSubject, events: AsyncIterator[MarketEvent], wanted: Callable[[Tick], bool]) -> Tick:
    found = await _next(subject, events, lambda each: isinstance(each, Tick) and wanted(each), "tick")
    assert isinstance(found, Tick)  # noqa: S101 - that is what was waited for
    return found


async def _drain(events: MarketStream) -> None:
    try:
        async with asyncio.timeout(_QUIET):
            async for _ in events:
                pass
    except TimeoutError:
        return


_LIVE: Final = Capability.TICKS | Capability.QUOTES

STREAM_CHECKS: Final[tuple[Check[DataSubject], ...]] = (
    Check(id="STR-010", needs=_LIVE, body=ticks_of_what_was_asked),
    Check(id="STR-020", needs=_LIVE, body=prices_come_through_exactly),
    Check(id="STR-030", needs=_LIVE, body=subscriptions_can_be_changed),
    Check(id="STR-040", needs=_LIVE | Capability.FULL_MODE, body=full_mode_has_depth),
    Check(id="STR-050", needs=Capability.TICKS, body=modes_it_lacks_are_refused),
    Check(id="STR-060", needs=_LIVE, body=unlisted_instruments_are_refused),
    Check(id="STR-070", needs=_LIVE, body=a_cut_is_a_gap_and_nothing_is_forgotten),
    Check(id="STR-080", needs=Capability.TICKS, body=leaving_ends_the_stream),
)
