"""`ReplayMarketData`: a `MarketData` out of recorded bars or ticks, which knows only what was known then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Final, Self, cast

from hybridbroker.clock import IST, to_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import BrokerKey, Instrument
from hybridbroker.domain.market import Candles, FeedMode, FeedState, Interval, MarketEvent, Quote, Tick
from hybridbroker.errors import ConfigurationError, InstrumentNotFound, InstrumentUnmapped, Unsupported
from hybridbroker.protocols import Capability, MarketStream, Overflow
from hybridbroker.simulation.history import History, SessionHours
from hybridbroker.simulation.playback import Listener, Move, Playback, bar_moves, merge_moves
from hybridbroker.simulation.tape import Tape
from hybridbroker.streams import StreamHealth, only_ticks

__all__ = ["GivenInstruments", "ReplayMarketData", "ReplayStream"]

_NEEDS: Final = {FeedMode.OPTION_GREEKS: Capability.OPTION_GREEKS, FeedMode.DEPTH_30: Capability.DEPTH_30}
_PLAYABLE: Final = frozenset(Interval) - {Interval.WEEK_1, Interval.MONTH_1}


class ReplayMarketData:
    """Bars or a tape as a source of prices, on the simulated clock of its `Playback`.

    ``candles()`` returns bars that had ended by now, ``quotes()`` the last price by now, and
    streams hand out what happens next: there is no way to ask for later. Each bar is played
    as four trades at equal distances: its open, its extremes (the low first where it closed
    higher), its close; they share its volume. Bars of a day are played over its session.
    Nothing but `Playback.run` moves time.
    """

    name: str = "replay"
    capabilities: Capability = Capability.QUOTES | Capability.CANDLES | Capability.TICKS | Capability.FULL_MODE

    def __init__(
        self,
        playback: Playback,
        *,
        instruments: Sequence[Instrument],
        history: History,
        hours: SessionHours,
        interval: Interval | None,
    ) -> None:
        self.playback = playback
        self.instruments = tuple(instruments)
        self.interval = interval
        """Length of the bars it plays; None for a tape."""
        self.hours = hours
        self.wants: Callable[[], tuple[bool, bool]] = lambda: (True, False)
        """Whether streams carry ticks, and whether they carry whole bars."""
        self._history = history
        self._open_streams: list[ReplayStream] = []

    @classmethod
    def from_candles(
        cls,
        candles: Iterable[Candles],
        *,
        start: date | datetime | None = None,
        calendar: TradingCalendar | None = None,
        patience: float = 30.0,
    ) -> Self:
        """Replay bars of any number of instruments, all of one interval; those before ``start`` are history.

        Raises:
            ConfigurationError: There are none, or they cannot be played together.
        """
        given = [each for each in candles if len(each)]
        intervals = {each.interval for each in given}
        if len(intervals) > 1:
            raise ConfigurationError(f"bars of one interval can be played together, not of {sorted(intervals)}")
        if not intervals <= _PLAYABLE:
            raise ConfigurationError(f"bars of {intervals.pop()} are too long to be played; give bars of a day or less")
        names = [each.instrument.id for each in given]
        if len(set(names)) < len(names):
            raise ConfigurationError("each instrument can be given once; join its candles before")
        hours = SessionHours(calendar)
        played = [_since(each, start) for each in given]
        played = [each for each in played if len(each)]
        if not played:
            raise ConfigurationError("there are no bars to play" + ("" if start is None else f" from {start} on"))
        moves = merge_moves([bar_moves(each, hours=hours) for each in played])
        first = min(_first_ms(each, hours) for each in played)
        return cls(
            Playback(moves, start_ms=first, patience=patience),
            instruments=[each.instrument for each in given],
            history=History(given, hours=hours),
            hours=hours,
            interval=intervals.pop(),
        )

    @classmethod
    def from_tape(
        cls,
        tape: Tape,
        *,
        history: Iterable[Candles] = (),
        calendar: TradingCalendar | None = None,
        patience: float = 30.0,
    ) -> Self:
        """Replay a tape; ``history`` are bars for ``candles()``, since a tape remembers none.

        Raises:
            ConfigurationError: The tape holds no events.
        """
        moves = _tape_moves(tape)
        first = next(moves, None)
        if first is None:
            raise ConfigurationError(f"the tape {tape.path} holds no events")
        hours = SessionHours(calendar)
        replay = cls(
            Playback(_chained(first, moves), start_ms=first[0], patience=patience),
            instruments=tape.instruments,
            history=History(history, hours=hours),
            hours=hours,
            interval=None,
        )
        replay.capabilities |= Capability.OPTION_GREEKS | Capability.DEPTH_30  # whatever was recorded
        return replay

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for stream in self._open_streams:
            stream.listener.close()

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        """Return the last prices by now; what has not traded yet is missing."""
        now = self.playback.clock.now()
        ticks = {each: self.playback.last.get(each.id) for each in instruments}
        return {
            instrument: Quote(
                instrument=instrument,
                last_price=tick.last_price,
                as_of=now,
                previous_close=tick.previous_close,
                volume=tick.volume,
                last_quantity=tick.last_quantity,
                depth=tick.depth,
            )
            for instrument, tick in ticks.items()
            if tick is not None
        }

    async def candles(
        self, instrument: Instrument, interval: Interval, *, start: date | datetime, end: date | datetime | None = None
    ) -> Candles:
        """Return bars that have ended by now; the running one is never shown."""
        now = self.playback.clock.now()
        _check_span(start, now if end is None else end)
        return self._history.candles(instrument, interval, start=start, end=end, now=now)

    @asynccontextmanager
    async def stream(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,  # noqa: ARG002 - a replay waits for nobody, so nothing overflows
    ) -> AsyncIterator[MarketStream]:
        """Stream what happens from now on; every mode carries all there is.

        Raises:
            InstrumentNotFound: The replay does not hold one of them.
            Unsupported: Greeks or thirty levels are wanted of bars, which have none.
        """
        if _NEEDS.get(mode, Capability.NONE) not in self.capabilities:
            raise Unsupported(f"bars hold nothing of mode {mode.value}; play a tape that was recorded in it")
        ticks, bars = self.wants()
        listener = Listener(ticks=ticks, bars=bars)
        stream = ReplayStream(self, listener)
        await stream.subscribe(instruments, mode=mode)
        self.playback.listen(listener)
        self._open_streams.append(stream)
        try:
            yield cast("MarketStream", stream)
        finally:
            self._open_streams.remove(stream)
            self.playback.leave(listener)
            listener.close()
            stream.health.state = FeedState.CLOSED

    def require(self, instruments: Iterable[Instrument]) -> list[Instrument]:
        """Return the instruments; raise `InstrumentNotFound` where the replay lacks one."""
        known = {each.id for each in self.instruments}
        wanted = list(instruments)
        for each in wanted:
            if each.id not in known:
                raise InstrumentNotFound(f"the replay holds no prices of {each.id}; it has {', '.join(sorted(known))}")
        return wanted


class ReplayStream:
    """A `MarketStream` of a replay; it may also carry whole bars, where the loop asks for them."""

    def __init__(self, data: ReplayMarketData, listener: Listener) -> None:
        self.listener = listener
        self.health = _Health(data.playback)
        listener.told = self.health.dropped
        self._data = data
        self._playback = data.playback
        self.next_now: Callable[[], MarketEvent | None] = iter(data.playback.at_hand(listener)).__next__
        """Return the next event if it comes before anybody else has anything to do, else None."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MarketEvent:
        listener, playback = self.listener, self._playback
        while not listener.events:
            if listener.closed:
                raise StopAsyncIteration
            if not playback.try_step():
                listener.waiter = asyncio.get_running_loop().create_future()
                try:
                    await listener.waiter
                finally:
                    listener.waiter = None
        return cast("MarketEvent", listener.take(playback))

    def ticks(self) -> AsyncIterator[Tick]:
        """Iterate over ticks alone."""
        return only_ticks(self)

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Add instruments; raise `InstrumentNotFound` where the replay lacks one."""
        del mode
        self.listener.wanted.update(each.id for each in self._data.require(instruments))

    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        """Remove instruments."""
        self.listener.wanted.difference_update(each.id for each in instruments)


class _Health(StreamHealth):
    """The health of a stream that cannot break: fresh when the last tick is."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback
        super().__init__(playback.clock)
        self.state = FeedState.LIVE

    def dropped(self, ticks: int) -> None:
        """Count ticks that a late consumer never saw."""
        self.conflated += ticks

    def stale(self, instrument: Instrument | None = None, *, after: float = 30.0) -> bool:
        """Say whether nothing came for ``after`` simulated seconds."""
        last = self._playback.last
        ticks = list(last.values()) if instrument is None else [last[instrument.id]] if instrument.id in last else []
        newest = max((each.received_ms for each in ticks), default=None)
        return newest is None or self._playback.now_ms - newest > after * 1000


class GivenInstruments:
    """An `InstrumentLookup` over a few instruments, for a replay without a registry."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._known = {each.id: each for each in instruments}

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the domain's word
        """Return one of the instruments given; raise `InstrumentNotFound`."""
        try:
            return self._known[id]
        except KeyError:
            raise InstrumentNotFound(f"{id!r} is not in this replay; it has {', '.join(sorted(self._known))}") from None

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        """Refuse: no broker's names are known here."""
        raise InstrumentUnmapped(f"{instrument.id} has no key at {broker} in a replay; pass instruments=registry")

    def by_key(self, broker: str, key: str) -> Instrument:
        """Refuse: no broker's names are known here."""
        raise InstrumentNotFound(f"{broker} key {key!r} is not known in a replay; pass instruments=registry")


def _check_span(start: date | datetime, end: date | datetime) -> None:
    for each in (start, end):
        if isinstance(each, datetime) and each.tzinfo is None:
            raise ConfigurationError(f"{each} has no time zone; give an aware datetime or a date")
    first, last = (each.astimezone(IST).date() if isinstance(each, datetime) else each for each in (start, end))
    both = isinstance(start, datetime) and isinstance(end, datetime)
    if first > last or (both and start > end):
        raise ConfigurationError(f"candles from {start} to {end}: start is after end")


def _since(candles: Candles, start: date | datetime | None) -> Candles:
    if start is None:
        return candles
    first = next((i for i, at in enumerate(candles.start) if _is_from(at, start)), len(candles))
    return cast("Candles", candles[first:])


def _is_from(at: datetime, start: date | datetime) -> bool:
    return at >= start if isinstance(start, datetime) else at.date() >= start


def _first_ms(candles: Candles, hours: SessionHours) -> int:
    if candles.interval.duration is None:
        return to_epoch_ms(hours.of(candles.start[0].date(), candles.instrument)[0])
    return to_epoch_ms(candles.start[0])


def _tape_moves(tape: Tape) -> Iterator[Move]:
    for at_ms, event in tape.events():
        yield at_ms, event.instrument.id if isinstance(event, Tick) else "", 0, event


def _chained(first: Move, rest: Iterator[Move]) -> Iterator[Move]:
    yield first
    yield from rest
