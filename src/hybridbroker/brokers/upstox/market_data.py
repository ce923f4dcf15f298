"""UpstoxMarketData: the `MarketData` on Upstox's feed V3, candles V3, quotes, option chains and market hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, time, timedelta
from typing import Final, Literal, Self, TypeVar

import attrs

from hybridbroker.alerts import Notifier
from hybridbroker.brokers.upstox import CAPABILITIES
from hybridbroker.brokers.upstox.auth import TokenSource, token_source
from hybridbroker.brokers.upstox.client import UpstoxClient
from hybridbroker.brokers.upstox.data import wire
from hybridbroker.brokers.upstox.data.mapping import (
    INTERVALS,
    CandleUnit,
    OhlcQuote,
    Unit,
    bars_from_wire,
    candle_unit,
    candles_from_wire,
    ohlc_from_wire,
    quote_from_wire,
    windows,
)
from hybridbroker.brokers.upstox.data.options import chain_from_wire, greeks_from_wire, listed
from hybridbroker.brokers.upstox.data.rest import DataRest
from hybridbroker.brokers.upstox.data.schedule import (
    EXCHANGES,
    calendar_from_wire,
    hours_from_wire,
    status_from_wire,
    with_hours,
)
from hybridbroker.brokers.upstox.data.stream import Modes, UpstoxStream, Watch
from hybridbroker.brokers.upstox.limits import FEED_LIMITS, check_subscription
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Instrument
from hybridbroker.domain.market import Candle, Candles, FeedMode, Interval, MarketStatus, Quote
from hybridbroker.domain.options import OptionChain, OptionQuote
from hybridbroker.errors import ConfigurationError, InstrumentNotFound, SubscriptionLimit, Unsupported
from hybridbroker.protocols import Capability, InstrumentLookup, MarketStream, Overflow
from hybridbroker.silence import Patience

__all__ = ["Progress", "UpstoxMarketData"]

_NAME: Final = "upstox"
_KEYS_PER_QUOTE: Final = 500
"""Documented for all quote calls but option greeks."""
_KEYS_PER_GREEKS: Final = 50

Progress = Callable[[int, int], None]
"""Hears how many calls of a download are done, and how many it takes."""

Row = TypeVar("Row", wire.LtpQuote, wire.FullQuote, wire.OhlcQuote, wire.GreekQuote)


@attrs.frozen
class _Span:
    """Which bars are asked for: ends included, in IST."""

    first: datetime
    last: datetime


class UpstoxMarketData:
    """A `MarketData` on one Upstox account. Constructing it sends nothing; ``async with`` opens it.

    Where it differs from the protocol or adds to it:

    - The feed sends conflated snapshots of what changed, not every trade.
    - Each stream is a socket of its own; the plan allows two (Upstox Plus: five), and limits
      instruments by mode over all of them. More is `SubscriptionLimit`, before anything is sent.
    - Depth of thirty levels needs Upstox Plus; without it, `Unsupported`.
    - Minute and hour bars exist since January 2022, daily bars since 2000. Weekly and monthly
      bars are stamped with the first day of their week or month.
    - ``tokens`` is asked before every connection and request, so a token renewed at night is
      used from the next one on; without it those of ``settings`` and of a login (`token_source`).
    - A token found expired by its own date is refused here with `TokenExpired`, unsent.
    - A stream that brings nothing while a session is open (by ``calendar``, beyond it by what the
      feed says of its markets) is reported to the log and to ``notifier``, then its socket is
      replaced; ``patience`` says after how many seconds.
    - It is also an `OptionChains` and a `MarketSchedule`.
    """

    name = _NAME

    def __init__(
        self,
        settings: UpstoxSettings,
        *,
        instruments: InstrumentLookup,
        clock: Clock | None = None,
        tokens: TokenSource | None = None,
        calendar: TradingCalendar | None = None,
        patience: Patience | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        if settings.is_sandbox:
            raise ConfigurationError("Upstox's sandbox has no prices; leave UPSTOX_SANDBOX_TOKEN to the broker")
        if tokens is None:
            settings.require()
        has_depth_30 = settings.plan == "plus"
        self.capabilities = CAPABILITIES | (Capability.DEPTH_30 if has_depth_30 else Capability.NONE)
        self._plan = settings.plan
        self._instruments = instruments
        self._clock = clock or SystemClock()
        self._tokens = tokens or token_source(settings, clock=self._clock)
        self._client = UpstoxClient(base_url=settings.base_url, tokens=self._tokens, clock=self._clock)
        self._rest = DataRest(self._client)
        self._watch = Watch(calendar=calendar or TradingCalendar(), patience=patience or Patience(), notifier=notifier)
        self._streams: set[UpstoxStream] = set()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)

    @asynccontextmanager
    async def stream(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> AsyncIterator[MarketStream]:
        """Open a socket on entry and close it on exit."""
        sockets = FEED_LIMITS[self._plan].sockets
        if len(self._streams) >= sockets:
            raise SubscriptionLimit(
                f"Upstox's {self._plan} plan allows {sockets} feed sockets, and all are open; "
                "subscribe on an open stream instead of opening another"
            )
        stream = UpstoxStream(
            rest=self._rest,
            tokens=self._tokens,
            instruments=self._instruments,
            clock=self._clock,
            admit=self._admit,
            watch=self._watch,
            mode=mode,
            overflow=overflow,
        )
        self._streams.add(stream)
        try:
            await stream.subscribe(instruments, mode=mode)  # noted; the first connection says it
            async with stream.opened():
                yield stream
        finally:
            self._streams.discard(stream)

    async def candles(
        self,
        instrument: Instrument,
        interval: Interval,
        *,
        start: date | datetime,
        end: date | datetime | None = None,
        progress: Progress | None = None,
    ) -> Candles:
        """Return the bars that open from ``start`` to ``end``, in as many calls as their span needs."""
        span = self._span(start, end)
        rows = await self._rows(instrument, INTERVALS[interval], span, progress)
        return candles_from_wire(rows, instrument=instrument, interval=interval, first=span.first, last=span.last)

    async def bars(
        self,
        instrument: Instrument,
        *,
        unit: Unit,
        interval: int = 1,
        start: date | datetime,
        end: date | datetime | None = None,
        progress: Progress | None = None,
    ) -> Sequence[Candle]:
        """Return bars of any length Upstox has, such as 7 minutes or 2 hours, oldest first; else as `candles`.

        Raises:
            ConfigurationError: Upstox has no bars of that length.
        """
        span, asked = self._span(start, end), candle_unit(unit, interval)
        rows = await self._rows(instrument, asked, span, progress)
        return bars_from_wire(rows, instrument=instrument, first=span.first, last=span.last)

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        """Return a quote per instrument, two calls for every 500 of them."""
        quotes = dict[Instrument, Quote]()
        for named in self._chunks(instruments, _KEYS_PER_QUOTE):
            ltp = await _known(self._rest.ltp, list(named))
            full = await _known(self._rest.full_quotes, list(named))
            as_of = self._clock.now()
            for key, instrument in named.items():
                quote = quote_from_wire(ltp.get(key), full.get(key), instrument=instrument, as_of=as_of)
                if quote is not None:
                    quotes[instrument] = quote
        return quotes

    async def last_prices(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, float]:
        """Return last prices in rupees, one call for every 500; those that never traded are missing."""
        prices = dict[Instrument, float]()
        for named in self._chunks(instruments, _KEYS_PER_QUOTE):
            rows = await _known(self._rest.ltp, list(named))
            prices |= {named[key]: row.last_price for key, row in rows.items() if key in named and row.last_price}
        return prices

    async def ohlc(
        self, instruments: Iterable[Instrument], *, interval: Literal["1d", "I1", "I30"] = "1d"
    ) -> Mapping[Instrument, OhlcQuote]:
        """Return last prices with the running bar and the previous one, of a day, a minute or half an hour."""
        quotes = dict[Instrument, OhlcQuote]()
        for named in self._chunks(instruments, _KEYS_PER_QUOTE):

            async def ask(keys: Sequence[str]) -> list[wire.OhlcQuote]:
                return await self._rest.ohlc(keys, interval=interval)

            for key, row in (await _known(ask, list(named))).items():
                quote = ohlc_from_wire(row, instrument=named[key]) if key in named else None
                if quote is not None:
                    quotes[named[key]] = quote
        return quotes

    async def greeks(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, OptionQuote]:
        """Return greeks, prices and open interest of options, one call for every 50."""
        quotes = dict[Instrument, OptionQuote]()
        for named in self._chunks(instruments, _KEYS_PER_GREEKS):
            rows = await _known(self._rest.greeks, list(named))
            quotes |= {
                named[key]: greeks_from_wire(row, instrument=named[key]) for key, row in rows.items() if key in named
            }
        return quotes

    async def expiries(self, underlying: Instrument) -> Sequence[date]:
        """Return the expiries of an underlying's options, nearest first."""
        return tuple(sorted({row.expiry for row in await self._rest.option_contracts(self._key(underlying))}))

    async def option_contracts(self, underlying: Instrument, *, expiry: date | None = None) -> Sequence[Instrument]:
        """Return the options on an underlying that the registry knows, by expiry, strike and right."""
        rows = await self._rest.option_contracts(self._key(underlying), expiry=expiry)
        known = (listed(self._instruments, row.instrument_key) for row in rows)
        return sorted(
            (each for each in known if each is not None),
            key=lambda each: (each.expiry or date.min, each.strike or 0, each.right or ""),
        )

    async def option_chain(self, underlying: Instrument, *, expiry: date) -> OptionChain:
        """Return every strike of one expiry; Upstox has no chains of MCX."""
        rows = await self._rest.option_chain(self._key(underlying), expiry=expiry)
        return chain_from_wire(
            rows, underlying=underlying, expiry=expiry, instruments=self._instruments, read_at=self._clock.now()
        )

    async def market_status(self, exchange: Exchange) -> MarketStatus:
        """Return what an exchange's segments are doing now, one call for each."""
        answers = [await self._rest.market_status(name) for name in EXCHANGES[exchange]]
        return status_from_wire(answers, read_at=self._clock.now())

    async def market_hours(self, on: date) -> Mapping[str, tuple[datetime, datetime]]:
        """Return opening and closing on one day, in IST, by Upstox's names (``NSE``, ``NFO``); empty on a holiday."""
        return hours_from_wire(await self._rest.timings(on))

    async def extend_calendar(self, calendar: TradingCalendar) -> TradingCalendar:
        """Return ``calendar`` with what Upstox knows beyond it.

        The list is of the current year (documented). Special sessions whose hours the calendar
        lacks are asked for one by one.
        """
        extended = calendar_from_wire(await self._rest.holidays(), calendar)
        for day, session in sorted(extended.special.items()):
            if not session.stretches:
                extended = with_hours(extended, day, await self._rest.timings(day))
        return extended

    def _span(self, start: date | datetime, end: date | datetime | None) -> _Span:
        first = _instant(start, time.min, "start")
        last = self._clock.now().astimezone(IST) if end is None else _instant(end, time.max, "end")
        if first > last:
            raise ConfigurationError(
                f"candles from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}: start is after end"
            )
        return _Span(first, last)

    async def _rows(
        self, instrument: Instrument, unit: CandleUnit, span: _Span, progress: Progress | None
    ) -> list[wire.CandleRow]:
        key, today = self._key(instrument), self._clock.now().astimezone(IST).date()
        newest_past = today - timedelta(days=1) if unit.has_today else today
        first, last = max(span.first.date(), unit.since), span.last.date()
        calls = windows(first, min(last, newest_past), span=unit.span)
        is_today = unit.has_today and first <= today <= last
        total, rows = len(calls) + is_today, list[wire.CandleRow]()
        for done, (since, until) in enumerate(calls, 1):
            rows += await self._rest.candles(key, unit, first=since, last=until)
            if progress is not None:
                progress(done, total)
        if is_today:
            rows += await self._rest.candles_today(key, unit)
            if progress is not None:
                progress(total, total)
        return rows

    def _chunks(self, instruments: Iterable[Instrument], size: int) -> Iterator[dict[str, Instrument]]:
        """Yield instruments by key, ``size`` at a time."""
        named = [(self._key(each), each) for each in instruments]
        for first in range(0, len(named), size):
            yield dict(named[first : first + size])

    def _admit(self, stream: UpstoxStream, modes: Modes) -> None:
        if FeedMode.DEPTH_30 in modes.values() and Capability.DEPTH_30 not in self.capabilities:
            raise Unsupported("thirty levels of depth need Upstox Plus; with it, set UPSTOX_PLAN=plus")
        others = (each.wanted for each in self._streams if each is not stream)
        check_subscription(Counter(mode for each in (modes, *others) for mode in each.values()), plan=self._plan)

    def _key(self, instrument: Instrument) -> str:
        return self._instruments.key(instrument, _NAME).id


async def _known(ask: Callable[[Sequence[str]], Awaitable[list[Row]]], keys: Sequence[str]) -> dict[str, Row]:
    """Return rows by key, without the keys Upstox does not know.

    Whether one bad key fails a whole call is documented nowhere: where it does, the halves are asked.
    """
    try:
        return {row.instrument_token: row for row in await ask(keys)}
    except InstrumentNotFound:
        if len(keys) == 1:
            return {}
    half = len(keys) // 2
    return {**await _known(ask, keys[:half]), **await _known(ask, keys[half:])}


def _instant(value: date | datetime, at: time, name: str) -> datetime:
    """Return ``value`` in IST; a date means that day at ``at``."""
    if not isinstance(value, datetime):
        return datetime.combine(value, at, IST)
    if value.tzinfo is None:
        raise ConfigurationError(f"{name} {value} has no time zone; give an aware datetime or a date")
    return value.astimezone(IST)
