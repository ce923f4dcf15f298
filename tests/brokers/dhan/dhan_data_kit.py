"""What the tests of Dhan's prices share: instruments, packets as documented, and an emulated Dhan to open."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pydantic import SecretStr

from hybridbroker.brokers.dhan.data.feed import FeedDecoder
from hybridbroker.brokers.dhan.data.packets import feed_key
from hybridbroker.brokers.dhan.market_data import DhanMarketData
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import SystemClock
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.domain.market import MarketEvent, Tick
from hybridbroker.errors import InstrumentNotFound, InstrumentUnmapped
from hybridbroker.protocols import MarketStream
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import LISTED, DhanEmulator, EmulatedMarket, ListedInstrument

PATIENCE = 10.0
"""Seconds after which a test that waits for what never comes fails."""
WALL_S = 1_789_466_400
"""10:00 IST on 15 September 2026 as the feed writes it: the wall clock read as UTC."""
TRADED_MS = 1_789_446_600_000
"""The same instant, milliseconds since 1970 UTC."""
NOW_MS = TRADED_MS + 500
DAY_MS = 86_400_000

RELIANCE = Instrument(
    id="NSE:RELIANCE",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="RELIANCE",
    isin="INE002A01018",
    tick_size=Decimal("0.10"),
)
TCS = Instrument(
    id="NSE:TCS",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="TCS",
    tick_size=Decimal("0.10"),
)
NIFTY = Instrument(
    id="NSE:NIFTY 50:INDEX",
    exchange=Exchange.NSE,
    segment=Segment.INDEX,
    kind=InstrumentKind.INDEX,
    symbol="NIFTY 50",
)
EXPIRY = date(2026, 10, 27)


def option(strike: int, right: OptionRight) -> Instrument:
    return Instrument(
        id=f"NSE:NIFTY:{EXPIRY}:{strike}:{right}",
        exchange=Exchange.NSE,
        segment=Segment.DERIVATIVES,
        kind=InstrumentKind.OPTION,
        symbol="NIFTY",
        lot_size=65,
        underlying="NIFTY",
        expiry=EXPIRY,
        strike=Decimal(strike),
        right=right,
    )


CALL = option(25_000, OptionRight.CALL)
PUT = option(25_000, OptionRight.PUT)
FAR = option(25_100, OptionRight.CALL)
FUTURE = Instrument(
    id=f"NSE:RELIANCE:{EXPIRY}:FUT",
    exchange=Exchange.NSE,
    segment=Segment.DERIVATIVES,
    kind=InstrumentKind.FUTURE,
    symbol="RELIANCE",
    underlying="RELIANCE",
    expiry=EXPIRY,
)
KEYS = {
    RELIANCE: "NSE_EQ:2885",
    TCS: "NSE_EQ:11536",
    NIFTY: "IDX_I:13",
    CALL: "NSE_FNO:40001",
    PUT: "NSE_FNO:40002",
    FAR: "NSE_FNO:40003",
    FUTURE: "NSE_FNO:40009",
}
SEGMENTS = {"IDX_I": 0, "NSE_EQ": 1, "NSE_FNO": 2}
OPTIONS = tuple(
    ListedInstrument(each, f"NSE_FO|{KEYS[each].partition(':')[2]}", "NSE_FNO", KEYS[each].partition(":")[2])
    for each in (CALL, PUT, FAR)
)


class Lookup:
    """An `InstrumentLookup` on a dictionary."""

    def __init__(self, keys: dict[Instrument, str] | None = None) -> None:
        self._keys = {each.id: (each, key) for each, key in (KEYS if keys is None else keys).items()}

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the protocol's word
        if id not in self._keys:
            raise InstrumentNotFound(id)
        return self._keys[id][0]

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        if broker != "dhan" or instrument.id not in self._keys:
            raise InstrumentUnmapped(f"{broker} does not list {instrument}")
        segment, _, native = self._keys[instrument.id][1].partition(":")
        return BrokerKey(broker="dhan", segment=segment, id=native)

    def by_key(self, broker: str, key: str) -> Instrument:
        found = next((each for each, native in self._keys.values() if native == key), None)
        if found is None:
            raise InstrumentNotFound(f"{broker}: {key}")
        return found


def number(instrument: Instrument) -> int:
    segment, _, native = KEYS[instrument].partition(":")
    return feed_key(SEGMENTS[segment], int(native))


def decoder(*instruments: Instrument) -> FeedDecoder:
    made = FeedDecoder()
    made.add({number(each): each for each in instruments or KEYS})
    return made


def head(code: int, size: int, instrument: Instrument = RELIANCE) -> bytes:
    segment, _, native = KEYS[instrument].partition(":")
    return struct.pack("<BHBI", code, size, SEGMENTS[segment], int(native))


def ticker(price: float = 1402.5, *, second: int = WALL_S, instrument: Instrument = RELIANCE) -> bytes:
    return head(2, 16, instrument) + struct.pack("<fI", price, second)


def quote(
    price: float = 1402.5,
    *,
    second: int = WALL_S,
    volume: int = 1_234_567,
    close: float = 1390.5,
    instrument: Instrument = RELIANCE,
) -> bytes:
    return head(4, 50, instrument) + struct.pack(
        "<fHIfIIIffff", price, 25, second, 1399.75, volume, 45_000, 52_000, 1395.0, close, 1408.0, 1388.25
    )


def full(
    price: float = 1402.5,
    *,
    second: int = WALL_S,
    volume: int = 1_234_567,
    close: float = 1390.5,
    interest: int = 0,
    levels: int = 5,
    instrument: Instrument = RELIANCE,
) -> bytes:
    rows = b"".join(
        struct.pack("<IIHHff", 100 * n, 50 * n, n, 2 * n, price - n / 10, price + (n - 1) / 10)
        for n in range(1, levels + 1)
    )
    told = (price, 25, second, 1399.75, volume, 45_000, 52_000, interest, 0, 0, 1395.0, close, 1408.0, 1388.25)
    return head(8, 162, instrument) + struct.pack("<fHIfIIIIIIffff", *told) + rows.ljust(100, b"\0")


def interest(units: int, *, instrument: Instrument = CALL) -> bytes:
    return head(5, 12, instrument) + struct.pack("<I", units)


def previous_close(price: float, *, instrument: Instrument = NIFTY) -> bytes:
    return head(6, 16, instrument) + struct.pack("<fI", price, 0)


def goodbye(reason: int) -> bytes:
    return struct.pack("<BHBIH", 50, 10, 0, 0, reason)


class HastyClock(SystemClock):
    """The market's time of day, but nobody sleeps longer than a moment; remembers for how long they meant to."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.market: EmulatedMarket | None = None

    def now(self) -> datetime:
        return super().now() if self.market is None else self.market.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(min(seconds, 0.01))


class QuickClock(ManualClock):
    """The market's time of day, and sleeps that are over at once; for what has no stream."""

    market: EmulatedMarket | None = None

    def now(self) -> datetime:
        return super().now() if self.market is None else self.market.now


def settings(dhan: DhanEmulator, **changes: Any) -> DhanSettings:
    terms = {
        "client_id": dhan.client_id,
        "access_token": SecretStr(dhan.access_token),
        "base_url": dhan.rest_url,
        "feed_url": dhan.feed_url,
    }
    return DhanSettings(_env_file=None, **{**terms, **changes})


@asynccontextmanager
async def emulated(
    *, market: EmulatedMarket | None = None, lookup: Lookup | None = None, **terms: Any
) -> AsyncIterator[tuple[DhanEmulator, DhanMarketData]]:
    """An emulated Dhan on a market that moves when told to, and a source of prices on it."""
    market = market or EmulatedMarket.still([*LISTED, *OPTIONS])
    clock = terms.pop("clock", None) or HastyClock()
    clock.market = market
    async with DhanEmulator(market, **terms.pop("emulator", {})) as dhan:
        data = DhanMarketData(settings(dhan), instruments=lookup or Lookup(), clock=clock, **terms)
        async with data:
            yield dhan, data


async def take(events: MarketStream, count: int) -> list[MarketEvent]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(events) for _ in range(count)]


async def next_tick(events: MarketStream) -> Tick:
    async with asyncio.timeout(PATIENCE):
        return await anext(events.ticks())


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not met():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.005)
