"""How Dhan spells things, and what its payloads mean: tables and pure functions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Final

import attrs

from hybridbroker.brokers.dhan.data import wire
from hybridbroker.brokers.dhan.data.prices import PriceTable
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.domain.market import Candles, Depth, DepthLevel, FeedMode, Greeks, Interval, Quote
from hybridbroker.domain.options import OptionChain, OptionQuote, Strike
from hybridbroker.errors import InstrumentError, InstrumentNotFound
from hybridbroker.protocols import InstrumentLookup

__all__ = [
    "INTERVALS",
    "MARKETS",
    "REQUEST_CODES",
    "CandleUnit",
    "candles_from_wire",
    "chain_from_wire",
    "chart_kind",
    "is_active",
    "option_segment",
    "quote_from_wire",
    "windows",
]

logger = logging.getLogger(__name__)

_NAME: Final = "dhan"
_LATEST: Final = 4_102_444_800
"""The year 2100, seconds since 1970: a later bar is noise."""

REQUEST_CODES: Final[dict[FeedMode, int]] = {FeedMode.LTP: 15, FeedMode.FULL: 21}
"""What subscribes in each mode: ticker packets and full packets; one more unsubscribes.

Quote packets (17) are full ones without book and open interest, so no mode asks for them.
"""

MARKETS: Final[dict[str, str]] = {
    "NSE_EQ": "NSE:cash",
    "NSE_FNO": "NSE:derivatives",
    "NSE_CURRENCY": "NSE:currency",
    "BSE_EQ": "BSE:cash",
    "BSE_FNO": "BSE:derivatives",
    "BSE_CURRENCY": "BSE:currency",
    "MCX_COMM": "MCX:commodity",
}
"""Dhan's segments by the names that `MarketStatus` uses; ``IDX_I`` is the indices of both exchanges."""


def is_active(plan: str) -> bool:
    """Say whether the profile's word for the Data API plan means that there is one (documented: ``Active``)."""
    return plan.strip().lower() == "active"


@attrs.frozen
class CandleUnit:
    """How Dhan spells an interval, and how much of it one call may span."""

    minutes: str | None
    """None: daily bars, which are a call of their own."""
    span: timedelta | None
    """Longest span of one call in whole days; None: any."""


# Documented and recorded: a span above 90 days is refused (DH-905). Days are sent with their
# hours, 00:00:00 to 23:59:59, since a bare last day is read both ways.
_QUARTER: Final = timedelta(days=90)

INTERVALS: Final[dict[Interval, CandleUnit]] = {
    Interval.MINUTE_1: CandleUnit("1", _QUARTER),
    Interval.MINUTE_5: CandleUnit("5", _QUARTER),
    Interval.MINUTE_15: CandleUnit("15", _QUARTER),
    Interval.HOUR_1: CandleUnit("60", _QUARTER),
    Interval.DAY_1: CandleUnit(None, None),
}
"""Dhan's 25-minute bars have no counterpart among our intervals."""


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


_CHART_KINDS: Final[dict[tuple[Segment, InstrumentKind], str]] = {
    (Segment.COMMODITY, InstrumentKind.FUTURE): "FUTCOM",
    (Segment.COMMODITY, InstrumentKind.OPTION): "OPTFUT",
    (Segment.CURRENCY, InstrumentKind.FUTURE): "FUTCUR",
    (Segment.CURRENCY, InstrumentKind.OPTION): "OPTCUR",
}


def chart_kind(instrument: Instrument, *, lookup: InstrumentLookup) -> str:
    """Return what the chart calls name the kind of an instrument.

    A derivative is on a stock where its exchange (or NSE) lists a share by its underlying's
    name, and on an index where neither does.
    """
    kind = instrument.kind
    if kind is InstrumentKind.INDEX:
        return "INDEX"
    if kind not in {InstrumentKind.FUTURE, InstrumentKind.OPTION}:
        return "EQUITY"
    known = _CHART_KINDS.get((instrument.segment, kind))
    if known is not None:
        return known
    on = "STK" if _is_share(instrument, lookup=lookup) else "IDX"
    return ("FUT" if kind is InstrumentKind.FUTURE else "OPT") + on


def _is_share(derivative: Instrument, *, lookup: InstrumentLookup) -> bool:
    underlying = derivative.underlying or derivative.symbol
    for exchange in dict.fromkeys((derivative.exchange.value, "NSE")):
        try:
            lookup[f"{exchange}:{underlying}"]
        except InstrumentNotFound:
            continue
        except InstrumentError:
            return True
        return True
    return False


_OPTION_SEGMENTS: Final = {Exchange.NSE: "NSE_FNO", Exchange.BSE: "BSE_FNO", Exchange.MCX: "MCX_COMM"}


def option_segment(underlying: Instrument) -> str:
    """Return Dhan's name of the segment where the options on ``underlying`` trade."""
    return _OPTION_SEGMENTS[underlying.exchange]


def candles_from_wire(
    answers: Iterable[wire.Candles],
    *,
    instrument: Instrument,
    interval: Interval,
    first: datetime,
    last: datetime,
) -> Candles:
    """Return the bars that open between ``first`` and ``last``, oldest first; of two for one instant the later counts.

    A bar without a price, or with an impossible time, is left out.
    """
    bars: dict[datetime, tuple[float, float, float, float, int, int]] = {}
    for told in answers:
        interest = told.open_interest or [0] * len(told.timestamp)
        columns = (told.timestamp, told.open, told.high, told.low, told.close, told.volume, interest)
        for second, *prices, volume, open_interest in zip(*columns, strict=True):
            if not (0 < second < _LATEST and min(prices) > 0):
                logger.warning("leaving out a bar of %s without prices or time", instrument.id)
                continue
            start = from_epoch_ms(int(second) * 1000)
            if first <= start <= last:
                opened, high, low, close = prices
                bars[start] = (opened, high, low, close, max(int(volume), 0), max(int(open_interest), 0))
    starts = tuple(sorted(bars))
    rows = [bars[start] for start in starts]
    return Candles(
        instrument=instrument,
        interval=interval,
        start=starts,
        open=tuple(row[0] for row in rows),
        high=tuple(row[1] for row in rows),
        low=tuple(row[2] for row in rows),
        close=tuple(row[3] for row in rows),
        volume=tuple(row[4] for row in rows),
        open_interest=tuple(row[5] for row in rows),
    )


def quote_from_wire(
    told: wire.LtpQuote, *, instrument: Instrument, prices: PriceTable, as_of: datetime
) -> Quote | None:
    """Return what a quote call says of one instrument; None where it has never traded.

    Zeros are Dhan's way of saying nothing here. The previous close is the last price less the
    change against it: the ``close`` inside ``ohlc`` is the previous day's during the session
    and the day's own after it (when it switches is unconfirmed).
    """
    last = prices.settled(told.last_price or 0.0)
    if last <= 0:
        return None
    day = (told.ohlc if isinstance(told, wire.OhlcQuote) else None) or wire.Ohlc()
    full = told if isinstance(told, wire.MarketQuote) else wire.MarketQuote()
    is_index = instrument.kind is InstrumentKind.INDEX
    return Quote(
        instrument=instrument,
        last_price=last,
        as_of=as_of,
        previous_close=None if full.net_change is None else _positive(prices.settled(last - full.net_change)),
        volume=None if is_index else full.volume,
        last_quantity=full.last_quantity or None,
        open=_positive(day.open),
        high=_positive(day.high),
        low=_positive(day.low),
        lower_circuit=_positive(full.lower_circuit_limit),
        upper_circuit=_positive(full.upper_circuit_limit),
        depth=None if full.depth is None or is_index else _depth(full.depth),
    )


def _positive(price: float | None) -> float | None:
    return price if price is not None and price > 0 else None


def _depth(book: wire.Book) -> Depth:
    return Depth(bids=_side(book.buy), asks=_side(book.sell))


def _side(rows: Sequence[wire.DepthRow]) -> tuple[DepthLevel, ...]:
    return tuple(DepthLevel(row.price, row.quantity, row.orders or None) for row in rows if row.price > 0)


def chain_from_wire(
    told: wire.Chain,
    *,
    underlying: Instrument,
    segment: str,
    expiry: date,
    prices: PriceTable,
    lookup: InstrumentLookup,
    read_at: datetime,
) -> OptionChain:
    """Return a chain, lowest strike first; ``segment`` is Dhan's name of where the options trade.

    A contract counts only where the registry knows its id *and* the terms agree, since ids are
    given out again; others are counted in ``unlisted`` and left out.
    """
    strikes: list[Strike] = []
    unlisted = 0
    for strike, row in sorted(told.data.oc.items(), key=itemgetter(0)):
        sides = {}
        for right, side in ((OptionRight.CALL, row.ce), (OptionRight.PUT, row.pe)):
            if side is None:
                continue
            contract = _contract(side, segment, lookup=lookup, terms=(expiry, strike, right))
            if contract is None:
                unlisted += 1
            else:
                sides[right] = _option(side, contract)
        if sides:
            price = float(strike)
            strikes.append(Strike(price=price, call=sides.get(OptionRight.CALL), put=sides.get(OptionRight.PUT)))
    spot = told.data.last_price
    return OptionChain(
        underlying=underlying,
        expiry=expiry,
        underlying_price=_positive(prices.settled(spot or 0.0)),
        strikes=tuple(strikes),
        read_at=read_at,
        unlisted=unlisted,
    )


def _contract(
    side: wire.OptionRow, segment: str, *, lookup: InstrumentLookup, terms: tuple[date, Decimal, OptionRight]
) -> Instrument | None:
    if side.security_id is None:
        return None
    try:
        found = lookup.by_key(_NAME, f"{segment}:{side.security_id}")
    except InstrumentError:
        return None
    return found if (found.expiry, found.strike, found.right) == terms else None


def _option(side: wire.OptionRow, contract: Instrument) -> OptionQuote:
    return OptionQuote(
        instrument=contract,
        last_price=_positive(side.last_price),
        bid_price=_positive(side.top_bid_price),
        bid_quantity=side.top_bid_quantity if side.top_bid_price > 0 else None,
        ask_price=_positive(side.top_ask_price),
        ask_quantity=side.top_ask_quantity if side.top_ask_price > 0 else None,
        volume=side.volume,
        open_interest=side.oi,
        previous_close=_positive(side.previous_close_price),
        previous_open_interest=side.previous_oi,
        greeks=_greeks(side),
    )


def _greeks(side: wire.OptionRow) -> Greeks | None:
    told = side.greeks
    if told is None or not (told.delta or told.theta or told.gamma or told.vega):
        return None
    return Greeks(
        delta=told.delta,
        theta=told.theta,
        gamma=told.gamma,
        vega=told.vega,
        implied_volatility=side.implied_volatility / 100 if side.implied_volatility > 0 else None,
    )
