"""How Upstox spells things, and what its payloads mean: tables and pure functions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Literal

import attrs

from hybridbroker.brokers.upstox.data import wire
from hybridbroker.clock import IST, from_epoch_ms
from hybridbroker.domain.instrument import Instrument, InstrumentKind
from hybridbroker.domain.market import Candle, Candles, Depth, DepthLevel, FeedMode, Interval, MarketPhase, Quote
from hybridbroker.errors import ConfigurationError

__all__ = [
    "FEED_MODES",
    "INTERVALS",
    "MAX_EPOCH_MS",
    "PHASES",
    "SEGMENTS",
    "CandleUnit",
    "OhlcQuote",
    "Unit",
    "bars_from_wire",
    "candle_unit",
    "candles_from_wire",
    "ohlc_from_wire",
    "quote_from_wire",
    "windows",
]

logger = logging.getLogger(__name__)

MAX_EPOCH_MS: Final = 4_102_444_800_000
"""The year 2100: a later instant on the wire is noise, and this is far below where datetimes end."""

FEED_MODES: Final[dict[FeedMode, str]] = {
    FeedMode.LTP: "ltpc",
    FeedMode.FULL: "full",
    FeedMode.OPTION_GREEKS: "option_greeks",
    FeedMode.DEPTH_30: "full_d30",
}

SEGMENTS: Final[dict[str, str]] = {
    "NSE_EQ": "NSE:cash",
    "NSE_FO": "NSE:derivatives",
    "NSE_INDEX": "NSE:index",
    "NCD_FO": "NSE:currency",
    "NSE_COM": "NSE:commodity",
    "BSE_EQ": "BSE:cash",
    "BSE_FO": "BSE:derivatives",
    "BSE_INDEX": "BSE:index",
    "BCD_FO": "BSE:currency",
    "MCX_FO": "MCX:commodity",
    "MCX_INDEX": "MCX:index",
}
"""Upstox's segments by the names that `MarketStatus` uses; others show in its ``raw`` alone."""

PHASES: Final[dict[str, MarketPhase]] = {
    "PRE_OPEN_START": MarketPhase.PRE_OPEN,
    "PRE_OPEN_END": MarketPhase.PRE_OPEN,
    "NORMAL_OPEN": MarketPhase.OPEN,
    "NORMAL_CLOSE": MarketPhase.CLOSED,
    "CLOSING_START": MarketPhase.CLOSING,
    "CLOSING_END": MarketPhase.CLOSED,
}


Unit = Literal["minutes", "hours", "days", "weeks", "months"]


@attrs.frozen
class CandleUnit:
    """How Upstox spells an interval, and how much of it one call may span."""

    unit: Unit
    interval: int
    span: timedelta | None
    """Longest span of one call, kept a little below the documented one; None: any."""
    since: date
    """First day there is data of (documented); nothing is asked of days before."""

    @property
    def has_today(self) -> bool:
        """Whether the intraday call serves it: history holds no bars of the current day."""
        return self.unit in {"minutes", "hours", "days"}


# Documented: a month for minutes up to 15, a quarter above, ten years for days; a wider span
# is refused (UDAPI1148). 31 days of minutes were accepted and 33 refused (reported).
_MONTH: Final = timedelta(days=28)
_QUARTER: Final = timedelta(days=89)
_DECADE: Final = timedelta(days=3650)

_INTRADAY_SINCE: Final = date(2022, 1, 1)
_DAILY_SINCE: Final = date(2000, 1, 1)
_MOST: Final[dict[Unit, int]] = {"minutes": 300, "hours": 5, "days": 1, "weeks": 1, "months": 1}
_SHORT_MINUTES: Final = 15


def candle_unit(unit: Unit, interval: int = 1) -> CandleUnit:
    """Return how bars of ``interval`` units are asked for.

    Raises:
        ConfigurationError: Upstox has no such bars (documented: minutes 1 to 300, hours 1 to 5, one of the others).
    """
    most = _MOST.get(unit)
    if most is None or not 1 <= interval <= most:
        known = ", ".join(f"1 to {count} {name}" if count > 1 else f"1 {name}" for name, count in _MOST.items())
        raise ConfigurationError(f"Upstox has no bars of {interval} {unit}; it has {known}")
    match unit:
        case "minutes" | "hours":
            is_short = unit == "minutes" and interval <= _SHORT_MINUTES
            return CandleUnit(unit, interval, _MONTH if is_short else _QUARTER, _INTRADAY_SINCE)
        case "days":
            return CandleUnit(unit, interval, _DECADE, _DAILY_SINCE)
        case _:
            return CandleUnit(unit, interval, None, _DAILY_SINCE)


INTERVALS: Final[dict[Interval, CandleUnit]] = {
    Interval.MINUTE_1: candle_unit("minutes", 1),
    Interval.MINUTE_3: candle_unit("minutes", 3),
    Interval.MINUTE_5: candle_unit("minutes", 5),
    Interval.MINUTE_15: candle_unit("minutes", 15),
    Interval.MINUTE_30: candle_unit("minutes", 30),
    Interval.HOUR_1: candle_unit("hours", 1),
    Interval.DAY_1: candle_unit("days"),
    Interval.WEEK_1: candle_unit("weeks"),
    Interval.MONTH_1: candle_unit("months"),
}


def windows(first: date, last: date, *, span: timedelta | None) -> list[tuple[date, date]]:
    """Cut the days from ``first`` to ``last``, both included, into calls of at most ``span`` days, oldest first."""
    if span is None:
        return [(first, last)] if first <= last else []
    cut: list[tuple[date, date]] = []
    while first <= last:
        end = min(first + span - timedelta(days=1), last)
        cut.append((first, end))
        first = end + timedelta(days=1)
    return cut


def candles_from_wire(
    rows: Iterable[wire.CandleRow], *, instrument: Instrument, interval: Interval, first: datetime, last: datetime
) -> Candles:
    """Return the bars that open between ``first`` and ``last``, oldest first.

    Of two rows for one instant the later in ``rows`` counts: calls overlap at their seams, and
    before the session the intraday call may repeat the last one. A row without prices is none.
    """
    ordered = _in_order(rows, instrument=instrument, first=first, last=last)

    def column(index: int) -> tuple[float, ...]:
        return tuple(row[index] or 0.0 for _, row in ordered)  # type: ignore[misc]

    return Candles(
        instrument=instrument,
        interval=interval,
        start=tuple(start for start, _ in ordered),
        open=column(1),
        high=column(2),
        low=column(3),
        close=column(4),
        volume=tuple(int(value) for value in column(5)),
        open_interest=tuple(int(value) for value in column(6)),
    )


def bars_from_wire(
    rows: Iterable[wire.CandleRow], *, instrument: Instrument, first: datetime, last: datetime
) -> list[Candle]:
    """As `candles_from_wire`, for bars of a length that `Interval` has no name for."""
    return [
        Candle(
            instrument=instrument,
            start=start,
            open=row[1] or 0.0,
            high=row[2] or 0.0,
            low=row[3] or 0.0,
            close=row[4] or 0.0,
            volume=int(row[5] or 0),
            open_interest=int(row[6] or 0),
        )
        for start, row in _in_order(rows, instrument=instrument, first=first, last=last)
    ]


def _in_order(
    rows: Iterable[wire.CandleRow], *, instrument: Instrument, first: datetime, last: datetime
) -> list[tuple[datetime, wire.CandleRow]]:
    bars: dict[datetime, wire.CandleRow] = {}
    for row in rows:
        if None in row[1:5]:
            logger.warning("leaving out a bar of %s without prices, at %s", instrument.id, row[0])
        elif first <= row[0] <= last:
            bars[row[0].astimezone(IST)] = row
    return sorted(bars.items())


def quote_from_wire(
    ltp: wire.LtpQuote | None, full: wire.FullQuote | None, *, instrument: Instrument, as_of: datetime
) -> Quote | None:
    """Join what the two quote calls say of one instrument; None where it has never traded.

    Zeros are Upstox's way of saying nothing here. The ``close`` inside ``ohlc`` is left alone: it
    is documented both as the last and as the previous one.
    """
    last = (full.last_price if full else None) or (ltp.last_price if ltp else None)
    if not last:
        return None
    day = (full.ohlc if full else None) or wire.Ohlc()
    return Quote(
        instrument=instrument,
        last_price=last,
        as_of=as_of,
        previous_close=(ltp.cp if ltp else None) or (full.prev_close_price if full else None) or None,
        volume=None if instrument.kind is InstrumentKind.INDEX else _volume(full, ltp),
        last_quantity=(ltp.ltq if ltp else None) or None,
        open=day.open or None,
        high=day.high or None,
        low=day.low or None,
        lower_circuit=(full.lower_circuit_limit if full else None) or None,
        upper_circuit=(full.upper_circuit_limit if full else None) or None,
        depth=_depth(full.depth) if full and full.depth else None,
    )


@attrs.frozen(kw_only=True)
class OhlcQuote:
    """The last price of one instrument with its running bar and the one before it."""

    instrument: Instrument
    last_price: float
    running: Candle | None = None
    previous: Candle | None = None
    """None for days: Upstox tells the previous bar of minutes alone."""


def ohlc_from_wire(row: wire.OhlcQuote, *, instrument: Instrument) -> OhlcQuote | None:
    """Return what an OHLC call says of one instrument; None where it has never traded."""
    if not row.last_price:
        return None
    return OhlcQuote(
        instrument=instrument,
        last_price=row.last_price,
        running=_bar(row.live_ohlc, instrument),
        previous=_bar(row.prev_ohlc, instrument),
    )


def _bar(bar: wire.OhlcBar | None, instrument: Instrument) -> Candle | None:
    if bar is None or not bar.ts or not 0 < bar.ts < MAX_EPOCH_MS:
        return None
    if not (bar.open and bar.high and bar.low and bar.close):
        return None
    return Candle(
        instrument=instrument,
        start=from_epoch_ms(bar.ts),
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume or 0,
    )


def _volume(*quotes: wire.FullQuote | wire.LtpQuote | None) -> int | None:
    return next((each.volume for each in quotes if each is not None and each.volume is not None), None)


def _depth(book: wire.Book) -> Depth:
    return Depth(bids=_side(book.buy), asks=_side(book.sell))


def _side(rows: Sequence[wire.DepthRow]) -> tuple[DepthLevel, ...]:
    return tuple(DepthLevel(row.price, row.quantity, row.orders) for row in rows if row.price > 0)
