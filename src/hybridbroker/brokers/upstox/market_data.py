"""UpstoxMarketData: the `MarketData` on Upstox's feed V3, candles V3 and quotes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, time, timedelta
from typing import Final, Self, TypeVar

from hybridbroker.brokers.upstox import CAPABILITIES
from hybridbroker.brokers.upstox.auth import SettingsToken, TokenSource
from hybridbroker.brokers.upstox.data import wire
from hybridbroker.brokers.upstox.data.mapping import INTERVALS, candles_from_wire, quote_from_wire, windows
from hybridbroker.brokers.upstox.data.rest import UpstoxRest
from hybridbroker.brokers.upstox.data.stream import Modes, UpstoxStream
from hybridbroker.brokers.upstox.limits import FEED_LIMITS, check_subscription
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import IST, Clock, SystemClock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candles, FeedMode, Interval, Quote
from hybridbroker.errors import ConfigurationError, InstrumentNotFound, SubscriptionLimit, Unsupported
from hybridbroker.protocols import Capability, InstrumentLookup, MarketStream, Overflow

__all__ = ["UpstoxMarketData"]

_NAME: Final = "upstox"
_KEYS_PER_QUOTE: Final = 500
"""Documented for all quote calls but option greeks."""

Row = TypeVar("Row", wire.LtpQuote, wire.FullQuote)


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
      used from the next one on; without it the token of ``settings`` is used throughout.
    - A token found expired by its own date is refused here with `TokenExpired`, unsent.
    """

    name = _NAME

    def __init__(
        self,
        settings: UpstoxSettings,
        *,
        instruments: InstrumentLookup,
        clock: Clock | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        settings.require()
        has_depth_30 = settings.plan == "plus"
        self.capabilities = CAPABILITIES | (Capability.DEPTH_30 if has_depth_30 else Capability.NONE)
        self._plan = settings.plan
        self._instruments = instruments
        self._clock = clock or SystemClock()
        self._rest = UpstoxRest(
            base_url=settings.base_url,
            tokens=tokens or SettingsToken(lambda: settings, clock=self._clock),
            clock=self._clock,
        )
        self._streams: set[UpstoxStream] = set()

    async def __aenter__(self) -> Self:
        await self._rest.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._rest.__aexit__(*exc)

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
            instruments=self._instruments,
            clock=self._clock,
            admit=self._admit,
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
        self, instrument: Instrument, interval: Interval, *, start: date | datetime, end: date | datetime | None = None
    ) -> Candles:
        """Return the bars that open from ``start`` to ``end``, in as many calls as their span needs."""
        now = self._clock.now().astimezone(IST)
        first = _instant(start, time.min, "start")
        last = now if end is None else _instant(end, time.max, "end")
        if first > last:
            raise ConfigurationError(
                f"candles from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}: start is after end"
            )
        key, unit, today = self._key(instrument), INTERVALS[interval], now.date()
        rows: list[wire.CandleRow] = []
        newest_past = today - timedelta(days=1) if unit.has_today else today
        for since, until in windows(first.date(), min(last.date(), newest_past), span=unit.span):
            rows += await self._rest.candles(key, unit, first=since, last=until)
        if unit.has_today and first.date() <= today <= last.date():
            rows += await self._rest.candles_today(key, unit)
        return candles_from_wire(rows, instrument=instrument, interval=interval, first=first, last=last)

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        """Return a quote per instrument, two calls for every 500 of them."""
        named = {self._key(each): each for each in instruments}
        keys, quotes = list(named), dict[Instrument, Quote]()
        for first in range(0, len(keys), _KEYS_PER_QUOTE):
            chunk = keys[first : first + _KEYS_PER_QUOTE]
            ltp = await _known(self._rest.ltp, chunk)
            full = await _known(self._rest.full_quotes, chunk)
            as_of = self._clock.now()
            for key in chunk:
                quote = quote_from_wire(ltp.get(key), full.get(key), instrument=named[key], as_of=as_of)
                if quote is not None:
                    quotes[named[key]] = quote
        return quotes

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
