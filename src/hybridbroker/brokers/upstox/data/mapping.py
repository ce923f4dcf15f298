"""How Upstox spells things, and what its payloads mean: tables and pure functions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Literal

import attrs

from hybridbroker.brokers.upstox.data import wire
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument, InstrumentKind
from hybridbroker.domain.market import Candles, Depth, DepthLevel, FeedMode, Interval, MarketPhase, Quote

__all__ = [
    "FEED_MODES",
    "INTERVALS",
    "PHASES",
    "SEGMENTS",
    "CandleUnit",
    "candles_from_wire",
    "quote_from_wire",
    "windows",
]

logger = logging.getLogger(__name__)

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


@attrs.frozen
class CandleUnit:
    """How Upstox spells an interval, and how much of it one call may span."""

    unit: Literal["minutes", "hours", "days", "weeks", "months"]
    interval: int
    span: timedelta | None
    """Longest span of one call, kept a little below the documented one; None: any."""

    @property
    def has_today(self) -> bool:
        """Whether the intraday call serves it: history holds no bars of the current day."""
        return self.unit in {"minutes", "hours", "days"}


# Documented: a month for minutes up to 15, a quarter above, ten years for days; a wider span
# is refused (UDAPI1148). 31 days of minutes were accepted and 33 refused (reported).
_MONTH: Final = timedelta(days=28)
_QUARTER: Final = timedelta(days=89)
_DECADE: Final = timedelta(days=3650)

INTERVALS: Final[dict[Interval, CandleUnit]] = {
    Interval.MINUTE_1: CandleUnit("minutes", 1, _MONTH),
    Interval.MINUTE_3: CandleUnit("minutes", 3, _MONTH),
    Interval.MINUTE_5: CandleUnit("minutes", 5, _MONTH),
    Interval.MINUTE_15: CandleUnit("minutes", 15, _MONTH),
    Interval.MINUTE_30: CandleUnit("minutes", 30, _QUARTER),
    Interval.HOUR_1: CandleUnit("hours", 1, _QUARTER),
    Interval.DAY_1: CandleUnit("days", 1, _DECADE),
    Interval.WEEK_1: CandleUnit("weeks", 1, None),
    Interval.MONTH_1: CandleUnit("months", 1, None),
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
    bars: dict[datetime, wire.CandleRow] = {}
    for row in rows:
        if None in row[1:5]:
            logger.warning("leaving out a bar of %s without prices, at %s", instrument.id, row[0])
        elif first <= row[0] <= last:
            bars[row[0].astimezone(IST)] = row
    ordered = sorted(bars.items())

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


def _volume(*quotes: wire.FullQuote | wire.LtpQuote | None) -> int | None:
    return next((each.volume for each in quotes if each is not None and each.volume is not None), None)


def _depth(book: wire.Book) -> Depth:
    return Depth(bids=_side(book.buy), asks=_side(book.sell))


def _side(rows: Sequence[wire.DepthRow]) -> tuple[DepthLevel, ...]:
    return tuple(DepthLevel(row.price, row.quantity, row.orders) for row in rows if row.price > 0)
