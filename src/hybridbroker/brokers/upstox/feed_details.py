"""What a full-mode tick carries beyond its headline, kept as bytes and read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Instrument, InstrumentKind
from hybridbroker.domain.market import Auction, Candle, Depth, DepthLevel, Greeks, TickDetails

__all__ = ["MAX_EPOCH_MS", "FeedDetails"]

MAX_EPOCH_MS: Final = 4_102_444_800_000
"""The year 2100: a later instant on the wire is noise, and this is far below where datetimes end."""

_DERIVATIVES: Final = frozenset({InstrumentKind.FUTURE, InstrumentKind.OPTION})


class FeedDetails(TickDetails):
    """`TickDetails` that are parsed at each access, the book only once.

    ``body`` is one ``Feed`` message with what earlier updates told merged in: about 400 bytes
    that nothing else shares, so a tick that is kept never keeps the frame it came in.
    """

    __slots__ = ("_book", "body", "instrument")

    # The base is frozen; this one is built for every tick, and a frozen __init__ costs several times as much.
    __setattr__ = object.__setattr__

    def __init__(self, instrument: Instrument, body: bytes) -> None:
        self.instrument = instrument
        self.body = body
        self._book: Depth | None = None

    @property
    def average_price(self) -> float | None:
        """The day's volume-weighted average, rupees."""
        return self._feed().fullFeed.marketFF.atp or None

    @property
    def open_interest(self) -> float | None:
        """Open contracts, in units; None on cash and indices."""
        feed = self._feed()
        market, greeks = feed.fullFeed.marketFF, feed.firstLevelWithGreeks
        whole = market.HasField("marketLevel") or greeks.HasField("firstDepth")
        told = market.oi or greeks.oi
        return told if told or (whole and self.instrument.kind in _DERIVATIVES) else None

    @property
    def total_buy_quantity(self) -> float | None:
        """Units waiting on the buy side: zero is left out on the wire, so it is known only beside a book."""
        market = self._feed().fullFeed.marketFF
        return market.tbq if market.tbq or market.HasField("marketLevel") else None

    @property
    def total_sell_quantity(self) -> float | None:
        """Units waiting on the sell side, as for the buy side."""
        market = self._feed().fullFeed.marketFF
        return market.tsq if market.tsq or market.HasField("marketLevel") else None

    @property
    def depth(self) -> Depth | None:
        """The visible book."""
        if self._book is None:
            feed = self._feed()
            market = feed.fullFeed.marketFF
            if market.HasField("marketLevel"):
                self._book = _depth(market.marketLevel.bidAskQuote)
            elif feed.firstLevelWithGreeks.HasField("firstDepth"):
                self._book = _depth([feed.firstLevelWithGreeks.firstDepth])
        return self._book

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
        feed = self._feed()
        part = feed.firstLevelWithGreeks if feed.HasField("firstLevelWithGreeks") else feed.fullFeed.marketFF
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
        """The call auction while it has an equilibrium to speak of; a reference price alone is none."""
        feed = self._feed()
        market = feed.fullFeed.marketFF
        price = market.iep or _ltpc(feed).iep.value
        if not (price or market.ieq or market.iiqTotal):
            return None
        whole = feed.HasField("fullFeed")
        return Auction(
            price=price or None,
            quantity=market.ieq or None,
            reference_price=market.rp or None,
            imbalance=market.iiqTotal if whole else None,
            market_imbalance=market.iiqM if whole else None,
            eligible=market.casEligible,
        )

    def _bar(self, interval: str) -> Candle | None:
        """Return the last bar of ``interval``; one without prices or with an impossible time is none."""
        full = self._feed().fullFeed
        bars = full.indexFF.marketOHLC if full.HasField("indexFF") else full.marketFF.marketOHLC
        for bar in reversed(bars.ohlc):
            if bar.interval == interval:
                return _candle(bar, self.instrument)
        return None

    def _feed(self) -> pb.Feed:
        return pb.Feed.FromString(self.body)

    def __reduce__(self) -> tuple[type[FeedDetails], tuple[Instrument, bytes]]:
        return type(self), (self.instrument, self.body)


def _ltpc(feed: pb.Feed) -> pb.LTPC:
    if feed.HasField("ltpc"):
        return feed.ltpc
    return feed.firstLevelWithGreeks.ltpc if feed.HasField("firstLevelWithGreeks") else feed.fullFeed.marketFF.ltpc


def _depth(levels: Iterable[pb.Quote]) -> Depth:
    """Return both sides without the empty places: a level can be missing on one side or on both."""
    bids: list[DepthLevel] = []
    asks: list[DepthLevel] = []
    for level in levels:
        if (price := level.bidP) > 0:
            bids.append(DepthLevel(price, level.bidQ))
        if (price := level.askP) > 0:
            asks.append(DepthLevel(price, level.askQ))
    return Depth(tuple(bids), tuple(asks))


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
