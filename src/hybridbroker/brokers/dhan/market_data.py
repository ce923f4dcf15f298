"""DhanMarketData: the `MarketData` on Dhan's live feed, charts, quotes and option chains."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, time, timedelta
from typing import Final, Self

from hybridbroker.alerts import Notifier
from hybridbroker.brokers.dhan import DATA_CAPABILITIES
from hybridbroker.brokers.dhan.auth import TokenSource, token_source
from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.data.goodbye import NO_PLAN
from hybridbroker.brokers.dhan.data.mapping import (
    INTERVALS,
    REQUEST_CODES,
    candles_from_wire,
    chain_from_wire,
    chart_kind,
    is_active,
    option_segment,
    quote_from_wire,
    windows,
)
from hybridbroker.brokers.dhan.data.prices import PriceTables
from hybridbroker.brokers.dhan.data.rest import DataRest, Detail
from hybridbroker.brokers.dhan.data.stream import DhanStream, Modes
from hybridbroker.brokers.dhan.limits import FEED_INSTRUMENTS, FEED_SOCKETS, QUOTES_PER_CALL
from hybridbroker.brokers.dhan.sandbox import refuse_sandbox
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.streaming import Watch
from hybridbroker.clock import IST, Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import BrokerKey, Instrument
from hybridbroker.domain.market import Candles, FeedMode, Interval, Quote
from hybridbroker.domain.options import OptionChain
from hybridbroker.errors import ConfigurationError, NetworkError, SubscriptionLimit, Unsupported, WireFormatError
from hybridbroker.protocols import Capability, InstrumentLookup, MarketStream, Overflow
from hybridbroker.silence import Patience

__all__ = ["DhanMarketData", "Progress"]

logger = logging.getLogger(__name__)

_NAME: Final = "dhan"
_DAY: Final = timedelta(days=1)

Progress = Callable[[int, int], None]
"""Hears how many calls of a download are done, and how many it takes."""


class DhanMarketData:
    """A `MarketData` on one Dhan account. Constructing it sends nothing; ``async with`` opens it.

    Where it differs from the protocol or adds to it:

    - Every price needs Dhan's Data API plan. Entering asks the profile for it: without the
      plan ``capabilities`` is empty from then on, and every call is refused unsent with
      `Unsupported`. Where the profile cannot be read, the first call tells.
    - The feed sends snapshots, not every trade; times of trades are whole seconds. Mode LTP has
      last price and time alone (ticker packets; an index its previous close, too), FULL all
      that Dhan sends: five levels, day's bar, open interest. There are no greeks, no minute bars
      and no auctions. The size of a last trade above 65,535 wraps around (Dhan sends 16 bits).
    - The previous close of shares comes with FULL only, and only while the session runs.
    - Each stream is a socket of its own; five are allowed, with 5,000 instruments each. More is
      `SubscriptionLimit`, before anything is sent.
    - Bars are of 1, 5, 15 and 60 minutes (about five years back) and of a day (since the
      listing); others are `Unsupported`. Today's daily bar comes after the session. The newest
      minute or two may be missing. An index may have a bar at 15:30.
    - Quotes come once a second at most, and the same option chain every three seconds.
    - ``tokens`` is asked before every connection and request, and for another token where Dhan
      calls one dead.
    - A stream that brings nothing while a session is open (by ``calendar``) is reported to the log
      and to ``notifier``, then its socket is replaced; ``patience`` says after how many seconds.
    - It is also an `OptionChains`.
    """

    name = _NAME

    def __init__(
        self,
        settings: DhanSettings,
        *,
        instruments: InstrumentLookup,
        clock: Clock | None = None,
        tokens: TokenSource | None = None,
        calendar: TradingCalendar | None = None,
        patience: Patience | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        settings.require()
        refuse_sandbox(settings)
        self.capabilities = DATA_CAPABILITIES
        self._instruments = instruments
        self._clock = clock or SystemClock()
        self._tokens = tokens or token_source(settings, clock=self._clock)
        self._settings = settings
        self._client = DhanClient(
            base_url=settings.base_url, tokens=self._tokens, clock=self._clock, account=settings.client_id
        )
        self._rest = DataRest(self._client, clock=self._clock)
        self._watch = Watch(calendar=calendar or TradingCalendar(), patience=patience or Patience(), notifier=notifier)
        self._prices = PriceTables()
        self._streams: set[DhanStream] = set()

    async def __aenter__(self) -> Self:
        """Open, and ask for the plan.

        Raises:
            AuthenticationError: The token is dead.
        """
        await self._client.__aenter__()
        try:
            await self._read_plan()
        except BaseException:
            await self._client.__aexit__(None, None, None)
            raise
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
        self._need(Capability.TICKS)
        if len(self._streams) >= FEED_SOCKETS:
            raise SubscriptionLimit(
                f"Dhan allows {FEED_SOCKETS} feed sockets, and all are open; "
                "subscribe on an open stream instead of opening another"
            )
        stream = DhanStream(
            url=self._settings.address("feed_url"),
            tokens=self._tokens,
            data_plan=self._rest.data_plan,
            instruments=self._instruments,
            clock=self._clock,
            admit=_admit,
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
        self._need(Capability.CANDLES)
        unit = INTERVALS.get(interval)
        if unit is None:
            known = ", ".join(INTERVALS)
            raise Unsupported(f"Dhan has no bars of {interval}, only of {known}; ask for shorter ones and join them")
        now = self._clock.now().astimezone(IST)
        first = _instant(start, time.min, "start")
        last = now if end is None else _instant(end, time.max, "end")
        if first > last:
            raise ConfigurationError(
                f"candles from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}: start is after end"
            )
        chart = (self._key(instrument), chart_kind(instrument, lookup=self._instruments))
        interest = instrument.expiry is not None
        calls = windows(first.date(), min(last.date(), now.date()), span=unit.span)
        answers = []
        for done, (since, until) in enumerate(calls, start=1):
            if unit.minutes is None:
                told = await self._rest.daily(chart, first=since, end=until + _DAY, interest=interest)
            else:
                told = await self._rest.intraday(
                    chart, minutes=unit.minutes, first=since, last=until, interest=interest
                )
            answers.append(told)
            if progress is not None:
                progress(done, len(calls))
        return candles_from_wire(answers, instrument=instrument, interval=interval, first=first, last=last)

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        """Return a quote per instrument, one call for every thousand of them."""
        return await self._quotes(instruments, "quote")

    async def ohlc(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        """Return quotes of the last and the day's prices alone; no sooner answered than `quotes`."""
        return await self._quotes(instruments, "ohlc")

    async def last_prices(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, float]:
        """Return last prices in rupees; those that never traded are missing."""
        return {each: quote.last_price for each, quote in (await self._quotes(instruments, "ltp")).items()}

    async def _quotes(self, instruments: Iterable[Instrument], detail: Detail) -> dict[Instrument, Quote]:
        self._need(Capability.QUOTES)
        named = {self._key(each): each for each in instruments}
        keys, quotes = list(named), dict[Instrument, Quote]()
        for first in range(0, len(keys), QUOTES_PER_CALL):
            rows = await self._rest.quotes(keys[first : first + QUOTES_PER_CALL], detail=detail)
            as_of = self._clock.now()
            for key, row in rows.items():
                instrument = named[key]
                prices = self._prices.of(instrument)
                quote = quote_from_wire(row, instrument=instrument, prices=prices, as_of=as_of)
                if quote is not None:
                    quotes[instrument] = quote
        return quotes

    async def expiries(self, underlying: Instrument) -> Sequence[date]:
        """Return the expiries of an underlying's options, nearest first."""
        self._need(Capability.OPTION_CHAINS)
        return tuple(sorted(await self._rest.expiries(self._key(underlying))))

    async def option_chain(self, underlying: Instrument, *, expiry: date) -> OptionChain:
        """Return every strike of one expiry."""
        self._need(Capability.OPTION_CHAINS)
        told = await self._rest.chain(self._key(underlying), expiry=expiry)
        return chain_from_wire(
            told,
            underlying=underlying,
            segment=option_segment(underlying),
            expiry=expiry,
            prices=self._prices.of(underlying),
            lookup=self._instruments,
            read_at=self._clock.now(),
        )

    async def _read_plan(self) -> None:
        self.capabilities = DATA_CAPABILITIES
        try:
            plan = await self._rest.data_plan()
        except (NetworkError, WireFormatError) as exc:
            logger.warning("opening without knowing the Data API plan, the first call will tell: %s", exc)
            return
        if plan is not None and not is_active(plan):
            logger.warning("opening without prices: %s", NO_PLAN)
            self.capabilities = Capability.NONE

    def _need(self, capability: Capability) -> None:
        if capability not in self.capabilities:
            raise Unsupported(NO_PLAN)

    def _key(self, instrument: Instrument) -> BrokerKey:
        return self._instruments.key(instrument, _NAME)


def _admit(_: DhanStream, modes: Modes) -> None:
    """Refuse what the feed does not have, and more than a socket may carry."""
    for mode in set(modes.values()):
        if mode not in REQUEST_CODES:
            raise Unsupported(f"Dhan's feed has no mode {mode.value}, only {', '.join(REQUEST_CODES)}")
    if len(modes) > FEED_INSTRUMENTS:
        raise SubscriptionLimit(
            f"Dhan allows {FEED_INSTRUMENTS} instruments on one socket, this makes {len(modes)}; "
            f"open another stream, up to {FEED_SOCKETS}"
        )


def _instant(value: date | datetime, at: time, name: str) -> datetime:
    """Return ``value`` in IST; a date means that day at ``at``."""
    if not isinstance(value, datetime):
        return datetime.combine(value, at, IST)
    if value.tzinfo is None:
        raise ConfigurationError(f"{name} {value} has no time zone; give an aware datetime or a date")
    return value.astimezone(IST)
