"""A made-up instrument's day: from trades to feed entries with depth, volume and bars."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from hybridbroker.clock import from_epoch_ms, to_epoch_ms
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.candles import Bar, MinuteBars
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = ["Book"]

_PLACES = 4


class Book:
    """Turns the trades of one instrument into feed entries of mode full.

    The last trade lies on the side of the spread it came from; the spread is one tick. The
    minute bar is the last whole minute, as recorded frames have it, and is absent during
    the first; an index has neither depth nor volume.
    """

    def __init__(
        self, listed: ListedInstrument, *, previous_close: float, last_ms: int, seed: int = 0, levels: int = 5
    ) -> None:
        self._listed = listed
        self._tick = float(listed.instrument.tick_size)
        lots = random.Random(f"{seed}{listed.upstox_key}")  # noqa: S311 - reproducible sizes, no secret
        self._levels = levels
        self._sizes = [listed.instrument.lot_size * lots.randint(40, 900) for _ in range(2 * levels + 7)]
        self._traded = 0
        self._last = self._previous_close = previous_close
        self._last_ms = last_ms
        self._rising = True
        self._day: Bar | None = None
        self._minutes = MinuteBars()
        self._value = 0.0

    def new_day(self) -> None:
        """Start a session: the last price becomes the previous close, everything else is fresh."""
        self._previous_close, self._day, self._minutes, self._value = self._last, None, MinuteBars(), 0.0

    def trade(self, price: float, quantity: int, at_ms: int) -> pb.Feed:
        """Note a trade and return the entry after it; with quantity 0 nothing traded, only the book moved."""
        if price != self._last:
            self._rising = price > self._last
        self._last = price
        self._traded += 1
        self._last_ms = at_ms
        if self._day is None:
            midnight = from_epoch_ms(at_ms).replace(hour=0, minute=0, second=0, microsecond=0)
            self._day = Bar(to_epoch_ms(midnight), price, price, price, price)
        day = self._day
        self._day = Bar(day.start_ms, day.open, max(day.high, price), min(day.low, price), price, day.volume + quantity)
        self._value += price * quantity
        self._minutes.add(price, quantity, at_ms)
        return self.entry(quantity)

    def entry(self, quantity: int = 0) -> pb.Feed:
        """Return the entry of mode full as it stands; ``quantity`` is what traded last."""
        ltpc = pb.LTPC(ltp=self._last, ltt=self._last_ms, ltq=quantity, cp=self._previous_close)
        if self._listed.is_index:
            ltpc.ltq = 0
            full = pb.FullFeed(indexFF=pb.IndexFullFeed(ltpc=ltpc, marketOHLC=self._bars()))
        else:
            full = pb.FullFeed(marketFF=self._market(ltpc))
        return pb.Feed(fullFeed=full, requestMode=pb.full_d5)

    def _market(self, ltpc: pb.LTPC) -> pb.MarketFullFeed:
        levels = self._depth()
        volume = self._day.volume if self._day else 0
        return pb.MarketFullFeed(
            ltpc=ltpc,
            marketLevel=pb.MarketLevel(bidAskQuote=levels),
            optionGreeks=pb.OptionGreeks(),
            marketOHLC=self._bars(),
            atp=round(self._value / volume, 2) if volume else 0.0,
            vtt=volume,
            tbq=float(sum(level.bidQ for level in levels)),
            tsq=float(sum(level.askQ for level in levels)),
        )

    def _depth(self) -> Sequence[pb.Quote]:
        ticks = round(self._last / self._tick, _PLACES)
        best_ask = math.ceil(ticks) if self._rising else math.floor(ticks) + 1
        sizes, turn = self._sizes, self._traded
        return [
            pb.Quote(
                bidP=round((best_ask - 1 - level) * self._tick, _PLACES),
                bidQ=sizes[(turn + 2 * level) % len(sizes)],
                askP=round((best_ask + level) * self._tick, _PLACES),
                askQ=sizes[(turn + 2 * level + 1) % len(sizes)],
            )
            for level in range(min(self._levels, best_ask - 1))
        ]

    def _bars(self) -> pb.MarketOHLC:
        bars = []
        if self._day is not None:
            bars.append(_ohlc("1d", self._day))
        if self._minutes.completed is not None:
            bars.append(_ohlc("I1", self._minutes.completed))
        return pb.MarketOHLC(ohlc=bars)


def _ohlc(interval: str, bar: Bar) -> pb.OHLC:
    return pb.OHLC(
        interval=interval, open=bar.open, high=bar.high, low=bar.low, close=bar.close, vol=bar.volume, ts=bar.start_ms
    )
