"""What the market says: ticks, depth, quotes, candles, and the gaps between them.

Market data is ``float`` (what indicators, numpy and pandas take, and what the wire
carries); money is ``Decimal`` and lives in `orders` and `portfolio`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs

from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = [
    "Auction",
    "Candle",
    "Candles",
    "Depth",
    "DepthLevel",
    "FeedMode",
    "FeedState",
    "Gap",
    "Greeks",
    "Interval",
    "MarketEvent",
    "MarketPhase",
    "MarketStatus",
    "Quote",
    "Tick",
    "TickDetails",
    "is_aware",
]


def is_aware(_: object, attribute: attrs.Attribute[Any], value: datetime | None) -> None:
    """Reject naive datetimes: a trading time without a zone is a guess."""
    if value is not None and value.tzinfo is None:
        raise ValueError(f"{attribute.name} must be timezone-aware, was {value!r}")


class FeedMode(StrEnum):
    """How much of each instrument a stream carries."""

    LTP = "ltp"
    """Last price, quantity and time, previous close."""
    FULL = "full"
    """Five levels of depth, volume, open interest, day and minute bars."""
    OPTION_GREEKS = "option-greeks"
    """Best bid and ask, greeks, open interest."""
    DEPTH_30 = "depth-30"
    """As ``FULL`` with thirty levels, where the data plan allows it."""


class FeedState(StrEnum):
    """What a stream's socket is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class MarketPhase(StrEnum):
    """What the exchange is doing in one segment."""

    PRE_OPEN = "pre-open"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@attrs.define(unsafe_hash=True)
class DepthLevel:
    """One price of one side of the book; not ``frozen`` for the same reason as `Tick`, so treat it as immutable."""

    price: float
    quantity: int
    orders: int | None = None
    """Number of orders behind it, where the broker tells."""


@attrs.define(unsafe_hash=True)
class Depth:
    """The visible book, best price first; a side may be shorter than the other, or empty. Treat it as immutable."""

    bids: tuple[DepthLevel, ...]
    asks: tuple[DepthLevel, ...]

    @property
    def best_bid(self) -> DepthLevel | None:
        """Return the highest bid, or None where nobody bids."""
        return self.bids[0] if self.bids else None

    @property
    def best_ask(self) -> DepthLevel | None:
        """Return the lowest ask, or None where nobody asks."""
        return self.asks[0] if self.asks else None


@attrs.frozen(kw_only=True)
class Greeks:
    """Option sensitivities as the broker computes them."""

    delta: float
    theta: float
    gamma: float
    vega: float
    rho: float | None = None
    implied_volatility: float | None = None
    """A fraction: 0.118 is 11.8 %."""


@attrs.frozen(kw_only=True)
class Auction:
    """The call auction (pre-open or closing), while one runs."""

    price: float | None = None
    """Indicative equilibrium price, rupees."""
    quantity: int | None = None
    """Indicative equilibrium quantity."""
    reference_price: float | None = None
    imbalance: int | None = None
    """Unmatched quantity at ``price``: positive for buyers, negative for sellers."""
    market_imbalance: int | None = None
    """The part of ``imbalance`` that stems from market orders."""
    eligible: bool = False
    """Whether the instrument takes part in the closing auction."""


@attrs.frozen(kw_only=True)
class Candle:
    """One bar: prices in rupees, volume in units."""

    instrument: Instrument
    start: datetime = attrs.field(validator=is_aware)
    """When the bar opened, in IST."""
    open: float
    high: float
    low: float
    close: float
    volume: int = 0
    open_interest: int = 0


@attrs.frozen(kw_only=True)
class TickDetails:
    """The parts of a tick that few strategies look at; absent is None, never 0."""

    average_price: float | None = None
    """Volume-weighted average of the day, rupees."""
    open_interest: float | None = None
    total_buy_quantity: float | None = None
    total_sell_quantity: float | None = None
    depth: Depth | None = None
    day: Candle | None = None
    minute: Candle | None = None
    greeks: Greeks | None = None
    auction: Auction | None = None


_NO_DETAILS = TickDetails()


@attrs.define(eq=False, repr=False)
class Tick:
    """The newest known state of one instrument; absent is None, never 0.

    Treat it as immutable. It is not ``frozen`` because it is built hundreds of thousands
    of times a second and a frozen attrs class costs about three times as much to build.
    Slices may subclass it to read the details on first access.
    """

    instrument: Instrument
    last_price: float
    """Rupees."""
    last_quantity: int | None
    """Units of the last trade."""
    traded_ms: int | None
    """When the exchange traded it last, milliseconds since 1970 UTC."""
    received_ms: int
    """When this process read it, milliseconds since 1970 UTC."""
    previous_close: float | None = None
    """Close of the previous session, rupees."""
    volume: int | None = None
    """Units traded today, cumulative."""
    is_snapshot: bool = False
    """Whether it came with a fresh subscription rather than with a trade."""
    details: TickDetails = _NO_DETAILS
    """Read through the properties below."""

    @property
    def traded_at(self) -> datetime | None:
        """Return when the exchange traded it last, in IST."""
        return None if self.traded_ms is None else from_epoch_ms(self.traded_ms)

    @property
    def received_at(self) -> datetime:
        """Return when this process read it, in IST."""
        return from_epoch_ms(self.received_ms)

    @property
    def average_price(self) -> float | None:
        """Return the day's volume-weighted average, rupees."""
        return self.details.average_price

    @property
    def open_interest(self) -> float | None:
        """Return open contracts, in units; None on cash and indices."""
        return self.details.open_interest

    @property
    def total_buy_quantity(self) -> float | None:
        """Return units waiting on the buy side of the whole book."""
        return self.details.total_buy_quantity

    @property
    def total_sell_quantity(self) -> float | None:
        """Return units waiting on the sell side of the whole book."""
        return self.details.total_sell_quantity

    @property
    def depth(self) -> Depth | None:
        """Return the visible book."""
        return self.details.depth

    @property
    def day(self) -> Candle | None:
        """Return the running bar of the day."""
        return self.details.day

    @property
    def minute(self) -> Candle | None:
        """Return the bar of the minute as the broker builds it; may be the running or the last one."""
        return self.details.minute

    @property
    def greeks(self) -> Greeks | None:
        """Return option sensitivities."""
        return self.details.greeks

    @property
    def auction(self) -> Auction | None:
        """Return the running call auction, or None outside one."""
        return self.details.auction

    def __repr__(self) -> str:
        return f"<Tick {self.instrument.id} {self.last_price} at {self.traded_at}>"


@attrs.frozen(kw_only=True)
class Gap:
    """A stretch in which events may have been missed; the stream goes on after it."""

    since: datetime = attrs.field(validator=is_aware)
    """When the last frame came before the loss."""
    until: datetime = attrs.field(validator=is_aware)
    """When the connection was whole again."""
    reason: str
    """What broke, in words for a log; holds no secret."""


@attrs.frozen(kw_only=True)
class MarketStatus:
    """The exchange changed phase in some segments."""

    phases: dict[str, MarketPhase]
    """By broker-neutral segment name, such as ``NSE:cash``."""
    at: datetime = attrs.field(validator=is_aware)
    raw: dict[str, str] = attrs.field(factory=dict)
    """The broker's own words by its own segment names, for logs and for auction phases."""


MarketEvent = Tick | Gap | MarketStatus
"""What a market stream yields."""


@attrs.frozen(kw_only=True)
class Quote:
    """The state of one instrument as asked for, not streamed."""

    instrument: Instrument
    last_price: float
    as_of: datetime = attrs.field(validator=is_aware)
    """When the broker answered."""
    previous_close: float | None = None
    volume: int | None = None
    last_quantity: int | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    lower_circuit: float | None = None
    upper_circuit: float | None = None
    depth: Depth | None = None


class Interval(StrEnum):
    """How long one bar is."""

    MINUTE_1 = "1m"
    MINUTE_3 = "3m"
    MINUTE_5 = "5m"
    MINUTE_15 = "15m"
    MINUTE_30 = "30m"
    HOUR_1 = "1h"
    DAY_1 = "1d"
    WEEK_1 = "1w"
    MONTH_1 = "1mo"

    @property
    def duration(self) -> timedelta | None:
        """Return the length of an intraday bar; None from a day upwards, where the calendar decides."""
        return _DURATIONS.get(self)


_DURATIONS = {
    Interval.MINUTE_1: timedelta(minutes=1),
    Interval.MINUTE_3: timedelta(minutes=3),
    Interval.MINUTE_5: timedelta(minutes=5),
    Interval.MINUTE_15: timedelta(minutes=15),
    Interval.MINUTE_30: timedelta(minutes=30),
    Interval.HOUR_1: timedelta(hours=1),
}


@attrs.frozen(kw_only=True, eq=False)
class Candles(Sequence[Candle]):
    """Bars of one instrument, oldest first: columns for arithmetic, rows for reading."""

    instrument: Instrument
    interval: Interval
    start: Sequence[datetime]
    """When each bar opened, in IST, strictly rising."""
    open: Sequence[float]
    high: Sequence[float]
    low: Sequence[float]
    close: Sequence[float]
    volume: Sequence[int]
    open_interest: Sequence[int]

    @classmethod
    def from_rows(cls, rows: Sequence[Candle], *, instrument: Instrument, interval: Interval) -> Candles:
        """Build columns from ``rows``, which must be oldest first."""
        return cls(
            instrument=instrument,
            interval=interval,
            start=tuple(row.start for row in rows),
            open=tuple(row.open for row in rows),
            high=tuple(row.high for row in rows),
            low=tuple(row.low for row in rows),
            close=tuple(row.close for row in rows),
            volume=tuple(row.volume for row in rows),
            open_interest=tuple(row.open_interest for row in rows),
        )

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[Candle]:
        return (self._row(index) for index in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """Return one `Candle`, or the `Candles` of a slice."""
        if isinstance(index, slice):
            return attrs.evolve(self, **{name: getattr(self, name)[index] for name in _COLUMNS})
        return self._row(index)

    def _row(self, index: int) -> Candle:
        return Candle(instrument=self.instrument, **{name: getattr(self, name)[index] for name in _COLUMNS})

    def __repr__(self) -> str:
        span = f" {self.start[0]:%Y-%m-%d %H:%M} to {self.start[-1]:%Y-%m-%d %H:%M}" if len(self) else ""
        return f"<Candles {self.instrument.id} {self.interval} x{len(self)}{span}>"

    def to_pandas(self) -> pd.DataFrame:
        """Return a frame indexed by ``start``; needs the ``pandas`` extra."""
        try:
            import pandas as pd
        except ImportError as exc:
            raise ConfigurationError("pandas is missing: pip install 'hybridbroker[pandas]'") from exc
        return pd.DataFrame({name: list(getattr(self, name)) for name in _COLUMNS}).set_index("start")

    def to_polars(self) -> pl.DataFrame:
        """Return a frame with a ``start`` column; needs the ``polars`` extra."""
        try:
            import polars as pl
        except ImportError as exc:
            raise ConfigurationError("polars is missing: pip install 'hybridbroker[polars]'") from exc
        return pl.DataFrame({name: list(getattr(self, name)) for name in _COLUMNS})


_COLUMNS = ("start", "open", "high", "low", "close", "volume", "open_interest")
