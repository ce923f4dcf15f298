"""The emulated market as the simulation sees it: its present as a clock, its entries as ticks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from hybridbroker.clock import Clock
from hybridbroker.domain.market import Depth, DepthLevel, Tick, TickDetails
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = ["MarketClock", "tick_of"]


class MarketClock:
    """Simulated ``now``, real sleeping."""

    def __init__(self, present: Callable[[], datetime], real: Clock) -> None:
        self._present = present
        self._real = real

    def now(self) -> datetime:
        """Return the market's present."""
        return self._present()

    def monotonic(self) -> float:
        """Return real seconds."""
        return self._real.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait real seconds."""
        await self._real.sleep(seconds)


def tick_of(listed: ListedInstrument, feed: pb.Feed, now_ms: int) -> Tick:
    """Return an entry of mode full as a tick received at ``now_ms``."""
    if feed.fullFeed.HasField("indexFF"):
        ltpc = feed.fullFeed.indexFF.ltpc
        return Tick(listed.instrument, ltpc.ltp, None, ltpc.ltt, now_ms, ltpc.cp)
    market = feed.fullFeed.marketFF
    ltpc = market.ltpc
    quotes = market.marketLevel.bidAskQuote
    depth = Depth(
        bids=tuple(DepthLevel(quote.bidP, quote.bidQ) for quote in quotes if quote.bidQ),
        asks=tuple(DepthLevel(quote.askP, quote.askQ) for quote in quotes if quote.askQ),
    )
    return Tick(
        listed.instrument, ltpc.ltp, ltpc.ltq, ltpc.ltt, now_ms, ltpc.cp, market.vtt, details=TickDetails(depth=depth)
    )
