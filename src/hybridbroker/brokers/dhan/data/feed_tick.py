"""A tick that owns its packet: the headline is read at delivery, the rest when somebody asks."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from hybridbroker.brokers.dhan.data import packets
from hybridbroker.brokers.dhan.data.prices import PriceTable
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.domain.market import Auction, Candle, Depth, DepthLevel, Greeks, Tick, TickDetails

__all__ = ["DAY_MS", "IST_MS", "FeedTick", "midnight_ms"]

IST_MS: Final = 19_800_000
DAY_MS: Final = 86_400_000
_FULL: Final = packets.FULL
_DAY_AT: Final = packets.DAY_AT
_AVERAGE_AT: Final = packets.AVERAGE_AT
_TOTALS_AT: Final = packets.TOTALS_AT
_BOOK_AT: Final = packets.BOOK_AT
_INDEX: Final = InstrumentKind.INDEX
_price: Final = packets.PRICE
_totals: Final = packets.TOTALS
_day: Final = packets.DAY
_rows: Final = packets.BOOK_ROWS
_new: Final = object.__new__
_set: Final = object.__setattr__


def midnight_ms(instant_ms: int) -> int:
    """Return when the day of ``instant_ms`` began in IST, both milliseconds since 1970 UTC."""
    return instant_ms - (instant_ms + IST_MS) % DAY_MS


@lru_cache(maxsize=16)
def _day_start(day: int) -> datetime:
    """Return when the ``day``-th day since 1970 began in IST."""
    return from_epoch_ms(day * DAY_MS - IST_MS)


class FeedTick(Tick):
    """A `Tick` on one quote or full packet, whose details are read at each access, the book only once.

    The packet is a copy of its own bytes, so a tick that is kept never keeps the frame it came
    in. Only the decoder makes these; ``attrs.evolve`` and ``pickle`` make plain ticks that have
    been read in full.
    """

    __slots__ = ("book", "interest", "packet", "prices")

    packet: bytes
    prices: PriceTable
    interest: int | None
    """Open interest from a packet of its own; full packets bring theirs along."""
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
        )

    @property
    def average_price(self) -> float | None:
        """The day's volume-weighted average, rupees."""
        return self.prices[_price(self.packet, _AVERAGE_AT)[0]] or None

    @property
    def open_interest(self) -> float | None:
        """Open contracts, in units; None on cash and indices."""
        packet = self.packet
        if packet[0] != _FULL:
            return self.interest
        (told,) = packets.OPEN_INTEREST_OF(packet, packets.OPEN_INTEREST_AT[_FULL])
        return told if told or self.instrument.expiry is not None else None

    @property
    def total_buy_quantity(self) -> float | None:
        """Units waiting on the buy side of the whole book."""
        return None if self.instrument.kind is _INDEX else _totals(self.packet, _TOTALS_AT)[1]

    @property
    def total_sell_quantity(self) -> float | None:
        """Units waiting on the sell side of the whole book."""
        return None if self.instrument.kind is _INDEX else _totals(self.packet, _TOTALS_AT)[0]

    @property
    def depth(self) -> Depth | None:
        """The visible book; only full packets of what is traded have one."""
        if self.book is None and self.packet[0] == _FULL and self.instrument.kind is not _INDEX:
            self.book = _depth(self.packet, self.prices)
        return self.book

    @property
    def day(self) -> Candle | None:
        """The running bar of the day; None before the first trade."""
        packet, prices, traded_ms = self.packet, self.prices, self.traded_ms
        opened, _, high, low = _day(packet, _DAY_AT[packet[0]])
        opened, high, low = prices[opened], prices[high], prices[low]
        if not (opened and high and low and traded_ms):
            return None
        # Without __init__, which would take twice the time; frozen, hence around its __setattr__.
        bar = _new(Candle)
        _set(bar, "instrument", self.instrument)
        _set(bar, "start", _day_start((traded_ms + IST_MS) // DAY_MS))
        _set(bar, "open", opened)
        _set(bar, "high", high)
        _set(bar, "low", low)
        _set(bar, "close", self.last_price)
        _set(bar, "volume", self.volume or 0)
        _set(bar, "open_interest", 0)
        return bar

    @property
    def minute(self) -> Candle | None:
        """None: this feed has no minute bars."""
        return None

    @property
    def greeks(self) -> Greeks | None:
        """None: this feed has no sensitivities."""
        return None

    @property
    def auction(self) -> Auction | None:
        """None: this feed says nothing of auctions."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        headline = (self.instrument, self.last_price, self.last_quantity, self.traded_ms, self.received_ms)
        return Tick, (*headline, self.previous_close, self.volume, self.is_snapshot, self.details)


def _depth(packet: bytes, prices: PriceTable) -> Depth:
    """Return both sides without the empty places.

    Levels are built without ``__init__``, which would take a third of the time.
    """
    bids: list[DepthLevel] = []
    asks: list[DepthLevel] = []
    for bid_quantity, ask_quantity, bid_orders, ask_orders, bid, ask in _rows(packet[_BOOK_AT:]):
        price = prices[bid]
        if price:
            level = _new(DepthLevel)
            level.price, level.quantity, level.orders = price, bid_quantity, bid_orders or None
            bids.append(level)
        price = prices[ask]
        if price:
            level = _new(DepthLevel)
            level.price, level.quantity, level.orders = price, ask_quantity, ask_orders or None
            asks.append(level)
    depth = _new(Depth)
    depth.bids, depth.asks = tuple(bids), tuple(asks)
    return depth
