"""A tick that owns its message: the headline is read at delivery, the rest when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from hybridbroker.brokers.upstox.data.mapping import MAX_EPOCH_MS
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Instrument, InstrumentKind
from hybridbroker.domain.market import Auction, Candle, Depth, DepthLevel, Greeks, Tick, TickDetails

__all__ = ["FeedTick", "Part"]

Part: TypeAlias = pb.Feed | pb.FirstLevelWithGreeks | pb.MarketFullFeed | pb.IndexFullFeed
"""The message of one instrument that holds ``ltpc`` and what goes with it; ``Feed`` itself in mode ltpc."""

_Market: Final = pb.MarketFullFeed
_new: Final = object.__new__
_DERIVATIVES: Final = frozenset({InstrumentKind.FUTURE, InstrumentKind.OPTION})


class FeedTick(Tick):
    """A `Tick` whose details are read from its message at each access, the book only once.

    The message was parsed from a copy of one instrument's bytes, so a tick that is kept never
    keeps the frame it came in. Only the decoder makes these; ``attrs.evolve`` and ``pickle``
    make plain ticks that have been read in full.
    """

    __slots__ = ("book", "part")

    part: Part
    book: Depth | None

    def __new__(cls, *args: Any, **values: Any) -> Tick:  # type: ignore[misc]
        """Return a plain tick: what is built from given details has nothing left to read."""
        return Tick(*args, **values)

    @property
    def details(self) -> TickDetails:  # type: ignore[override]
        """All details, read now."""
        return TickDetails(
            average_price=self.average_price,
            open_interest=self.open_interest,
            total_buy_quantity=self.total_buy_quantity,
            total_sell_quantity=self.total_sell_quantity,
            depth=self.depth,
            day=self.day,
            minute=self.minute,
            greeks=self.greeks,
            auction=self.auction,
        )

    @property
    def average_price(self) -> float | None:
        """The day's volume-weighted average, rupees."""
        return (self.part.atp or None) if isinstance(self.part, pb.MarketFullFeed) else None

    @property
    def open_interest(self) -> float | None:
        """Open contracts, in units; None on cash and indices."""
        part = self.part
        if not isinstance(part, pb.MarketFullFeed | pb.FirstLevelWithGreeks):
            return None
        is_zero = _has_book(part) and self.instrument.kind in _DERIVATIVES
        return part.oi if part.oi or is_zero else None

    @property
    def total_buy_quantity(self) -> float | None:
        """Units waiting on the buy side of the whole book."""
        part = self.part
        return part.tbq if isinstance(part, pb.MarketFullFeed) and (part.tbq or _has_book(part)) else None

    @property
    def total_sell_quantity(self) -> float | None:
        """Units waiting on the sell side of the whole book."""
        part = self.part
        return part.tsq if isinstance(part, pb.MarketFullFeed) and (part.tsq or _has_book(part)) else None

    @property
    def depth(self) -> Depth | None:
        """The visible book."""
        if self.book is None:
            self.book = _depth(self.part)
        return self.book

    @property
    def day(self) -> Candle | None:
        """The running bar of the day."""
        return self._bar("1d")

    @property
    def minute(self) -> Candle | None:
        """The newest one-minute bar of the feed; it may still be running."""
        return self._bar("I1")

    @property
    def greeks(self) -> Greeks | None:
        """Option sensitivities; cash carries an empty message, which says nothing."""
        part = self.part
        if not isinstance(part, pb.MarketFullFeed | pb.FirstLevelWithGreeks):
            return None
        told = part.optionGreeks
        if not (told.delta or told.theta or told.gamma or told.vega or told.rho):
            return None
        return Greeks(
            delta=told.delta,
            theta=told.theta,
            gamma=told.gamma,
            vega=told.vega,
            rho=told.rho,
            implied_volatility=part.iv or None,
        )

    @property
    def auction(self) -> Auction | None:
        """The call auction while it has an equilibrium; a reference price alone is none, it holds all day."""
        part = self.part
        told = part.ltpc.iep.value
        if not isinstance(part, pb.MarketFullFeed):
            return Auction(price=told) if told else None
        if not (told or part.iep or part.ieq or part.iiqTotal):
            return None
        return Auction(
            price=part.iep or told or None,
            quantity=part.ieq or None,
            reference_price=part.rp or None,
            imbalance=part.iiqTotal,
            market_imbalance=part.iiqM,
            eligible=part.casEligible,
        )

    def _bar(self, interval: str) -> Candle | None:
        """Return the last bar of ``interval``; one without prices or with an impossible time is none."""
        if not isinstance(self.part, pb.MarketFullFeed | pb.IndexFullFeed):
            return None
        bar = next((each for each in reversed(self.part.marketOHLC.ohlc) if each.interval == interval), None)
        return None if bar is None else _candle(bar, self.instrument)

    def __reduce__(self) -> tuple[Any, ...]:
        headline = (self.instrument, self.last_price, self.last_quantity, self.traded_ms, self.received_ms)
        return Tick, (*headline, self.previous_close, self.volume, self.is_snapshot, self.details)


def _has_book(part: pb.MarketFullFeed | pb.FirstLevelWithGreeks) -> bool:
    """Say whether scalars at zero are zeros: they are left out on the wire, so only beside a book."""
    return part.HasField("marketLevel") if isinstance(part, pb.MarketFullFeed) else part.HasField("firstDepth")


def _depth(part: Part) -> Depth | None:
    """Return both sides without the empty places: a level can be missing on one side or on both.

    Levels are built without ``__init__``, which would take a third of the time.
    """
    quotes: Iterable[pb.Quote]
    if type(part) is _Market:
        quotes = part.marketLevel.bidAskQuote[:]
        if not quotes and not part.HasField("marketLevel"):
            return None
    elif isinstance(part, pb.FirstLevelWithGreeks) and part.HasField("firstDepth"):
        quotes = (part.firstDepth,)
    else:
        return None
    bids: list[DepthLevel] = []
    asks: list[DepthLevel] = []
    for quote in quotes:
        price = quote.bidP
        if price > 0:
            level = _new(DepthLevel)
            level.price, level.quantity, level.orders = price, quote.bidQ, None
            bids.append(level)
        price = quote.askP
        if price > 0:
            level = _new(DepthLevel)
            level.price, level.quantity, level.orders = price, quote.askQ, None
            asks.append(level)
    depth = _new(Depth)
    depth.bids, depth.asks = tuple(bids), tuple(asks)
    return depth


def _candle(bar: pb.OHLC, instrument: Instrument) -> Candle | None:
    if not (bar.open > 0 and bar.high > 0 and bar.low > 0 and bar.close > 0 and 0 < bar.ts < MAX_EPOCH_MS):
        return None
    return Candle(
        instrument=instrument,
        start=from_epoch_ms(bar.ts),
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.vol,
    )
