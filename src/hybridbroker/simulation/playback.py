"""The market's moves in the order of time: each reaches the simulated exchange first, then whoever streams."""

from __future__ import annotations

import asyncio
import heapq
import time as real
from array import array
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import repeat
from typing import Any, Final, TypeVar

from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Candles, MarketEvent, Tick
from hybridbroker.domain.unchecked import Unchecked
from hybridbroker.errors import HybridBrokerError
from hybridbroker.simulation.history import SessionHours
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.simulation.virtual import SimulatedClock, VirtualLoop

__all__ = ["HookTooLate", "Listener", "Move", "Playback", "Samples", "bar_moves", "merge_moves"]

T = TypeVar("T")

Move = tuple[int, str, int, Any]
"""Milliseconds since 1970 UTC, instrument id, milliseconds between a bar's four trades, and the event or the bar."""

_POINTS: Final = 4
_LAST: Final = 3
_MS: Final = 1000.0
_MINUTE_MS: Final = 60_000
_ONE_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = from_epoch_ms(0)
_BARS: Final = Unchecked(Candle)


class HookTooLate(HybridBrokerError):
    """A hook did not come back within its real-time limit."""


class Samples:
    """Prices kept for the report: one per bar, or one per instrument and minute."""

    def __init__(self) -> None:
        self.at_ms = array("q")
        self.index = array("H")
        self.price = array("d")
        self.instruments: list[Instrument] = []
        self._index: dict[str, int] = {}
        self._minute: dict[str, int] = {}

    def add(self, at_ms: int, instrument: Instrument, price: float) -> None:
        """Keep a price."""
        index = self._index.get(instrument.id)
        if index is None:
            index = self._index[instrument.id] = len(self.instruments)
            self.instruments.append(instrument)
        self.at_ms.append(at_ms)
        self.index.append(index)
        self.price.append(price)

    def add_minute(self, at_ms: int, instrument: Instrument, price: float) -> None:
        """Keep a price unless one of this minute is kept."""
        minute = at_ms // _MINUTE_MS
        if self._minute.get(instrument.id) != minute:
            self._minute[instrument.id] = minute
            self.add(at_ms, instrument, price)


class Listener:
    """What one stream wants and has not taken yet."""

    def __init__(self, *, ticks: bool, bars: bool, lag_ms: int = 250) -> None:
        self.wanted: set[str] = set()
        """Ids of the instruments subscribed."""
        self.ticks = ticks
        self.bars = bars
        self.events: deque[Any] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.closed = False
        self.conflated = 0
        self.told: Callable[[int], None] | None = None
        """Told how many ticks were replaced by newer ones."""
        self._lag_ms = lag_ms

    def put(self, event: Any) -> None:
        """Hand an event over, and wake whoever waits for it."""
        self.events.append(event)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def close(self) -> None:
        """End the stream after what is left."""
        self.closed = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def take(self, playback: Playback) -> Any:
        """Return the next event; a consumer that comes late meets the newest tick of each instrument."""
        events = self.events
        if len(events) > 1:
            first = events[0]
            if type(first) is Tick and playback.now_ms - first.received_ms > self._lag_ms:
                self._conflate()
        return self.events.popleft()

    def _conflate(self) -> None:
        newest = {each.instrument.id: each for each in self.events if isinstance(each, Tick)}
        kept = deque(each for each in self.events if not isinstance(each, Tick))
        kept.extend(newest.values())
        dropped = len(self.events) - len(kept)
        self.conflated += dropped
        if self.told is not None:
            self.told(dropped)
        self.events = kept


class _Series:
    """Where the replay stands in one instrument's bars, each of which is played as four trades."""

    __slots__ = (
        "at_ms", "bar", "before", "before_bar", "day", "instrument", "previous_close", "pushed", "quarter",
        "volume",
    )  # fmt: skip

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.bar: Any = None
        self.before: Candle | None = None
        self.at_ms = self.quarter = 0
        self.day: date | None = None
        self.previous_close: float | None = None
        self.volume = self.before_bar = 0
        self.pushed = False
        """Whether the rest of the bar is played trade by trade."""

    def begin(self, bar: Candle, at_ms: int, quarter: int) -> Tick:
        """Turn to the next bar, and return the first of its four trades."""
        day = bar.start.date()
        if day != self.day:
            self.day = day
            self.volume = 0
            self.previous_close = None if self.bar is None else self.bar.close
        tick = self.go_on(bar, at_ms, quarter)
        assert tick is not None  # noqa: S101 - this is its day
        return tick

    def go_on(self, bar: Candle, at_ms: int, quarter: int) -> Tick | None:
        """As `begin`, if the bar is one of the same instrument and day; else do nothing."""
        instrument = self.instrument
        if bar.instrument is not instrument or bar.start.date() != self.day:
            return None
        self.before, self.bar, self.at_ms, self.quarter, self.pushed = self.bar, bar, at_ms, quarter, False
        before_bar, volume = self.volume, bar.volume
        self.before_bar = before_bar
        self.volume = before_bar + volume
        part = volume // _POINTS
        return Tick(instrument, bar.open, part, at_ms, at_ms, self.previous_close, before_bar + part)

    @property
    def ends_ms(self) -> int:
        """Return when the close is traded."""
        return self.at_ms + _LAST * self.quarter

    def tick(self, rank: int) -> Tick:
        """Return a later one of the four trades."""
        bar = self.bar
        path = (bar.open, bar.low, bar.high, bar.close)
        if bar.close < bar.open:
            path = (bar.open, bar.high, bar.low, bar.close)
        volume = bar.volume
        part = volume // _POINTS
        at_ms = self.at_ms + rank * self.quarter
        if rank == _LAST:
            part, total = volume - _LAST * part, self.volume
        else:
            total = self.before_bar + (rank + 1) * part
        return Tick(self.instrument, path[rank], part, at_ms, at_ms, self.previous_close, total)


class Playback:
    """Moves time and the market on; everything else happens in between.

    Moves come by exchange time, then by instrument id, so that a replay of any number of
    instruments is one fixed sequence. Timers that are due at the instant of a move come
    after it. While a hook is waiting for simulated time, the market goes on and the exchange
    sees all of it; what the strategy missed is conflated, as live.

    Args:
        moves: What happens, in order.
        start_ms: When simulated time begins, milliseconds since 1970 UTC.
        patience: Real seconds that a hook may take.
    """

    def __init__(self, moves: Iterator[Move], *, start_ms: int, patience: float = 30.0) -> None:
        self.clock = SimulatedClock(start_ms)
        self.broker: PaperBroker | None = None
        """The simulated broker that hears every move first."""
        self.heard: Callable[[Tick], None] | None = None
        """Told of every tick, before the streams are."""
        self.samples = Samples()
        self.moved = 0
        """Bars, or events of a tape, that were played."""
        self.days: list[tuple[date, datetime]] = []
        """Trading days that were begun, each with its first instant."""
        self.new_day: Callable[[date], None] | None = None
        self.failure: HookTooLate | None = None
        self.stop = False
        """Set from another thread: end as soon as possible."""
        self.last: dict[str, Tick] = {}
        self._moves = moves
        self._next: Move | None = next(moves, None)
        self._patience = patience
        self._loop: VirtualLoop | None = None
        self._listeners: list[Listener] = []
        self._series: dict[str, _Series] = {}
        self._unfinished: list[_Series] = []
        self._idles = True
        self._points: list[tuple[int, str, int, _Series]] = []
        self._quiet = -1
        self._ended = False
        self._stepped_at = 0.0
        self._main: asyncio.Task[Any] | None = None
        self._day: date | None = None

    # Running.

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on simulated time, in a loop of its own, and return what it returns.

        Must not be called from a running event loop; from one, call it in a thread.
        """
        loop = self._loop = VirtualLoop(self._idle)
        self.clock.attach(loop)
        try:
            task = self._main = loop.create_task(main(), name="hybridbroker-playback")
            self._stepped_at = real.perf_counter()
            done: T = loop.run_until_complete(task)
            return done
        finally:
            try:
                self._cancel_rest(loop)
            finally:
                loop.close()

    def _cancel_rest(self, loop: VirtualLoop) -> None:
        self._main = None
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.wait(rest, timeout=1.0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if not loop.in_threads:
            loop.run_until_complete(loop.shutdown_default_executor())

    def _idle(self) -> bool:
        """Go on, since everybody waits; return False to wait a little in real time."""
        loop = self._loop
        assert loop is not None  # noqa: S101 - only a running loop is idle
        timer = loop.next_timer()
        if self._main is None:
            loop.elapsed = loop.elapsed if timer is None else timer
            return timer is not None
        if (loop.in_threads and self.failure is None) or not self._can_go_on(loop):
            return self._too_late()
        before = loop.scheduled
        if not self._advance(loop, timer):
            over = self._next is None and not self._points and not self._ended
            if timer is None or (over and self._is_awaited()):
                self._end()
            else:
                if self._ended and self._too_late():
                    return True
                self._pass(self.clock.start_ms + timer * _MS)
                loop.elapsed = timer
                self._quiet = -1
                return True
        self._quiet = loop.scheduled if loop.scheduled - before == 1 else -1
        return True

    def _can_go_on(self, loop: VirtualLoop) -> bool:
        return loop.next_timer() is not None or (self._is_awaited() and not self._ended)

    def _is_awaited(self) -> bool:
        """Say whether any stream waits for what comes next."""
        return any(each.waiter is not None and not each.waiter.done() for each in self._listeners)

    def _too_late(self) -> bool:
        """Say whether something was done about a hook that waits for something real; give up in the end."""
        waited = real.perf_counter() - self._stepped_at
        if waited > 2 * self._patience:
            raise HookTooLate(f"a hook held the run up for {waited:.0f} s and could not be cancelled")
        if waited > self._patience and self.failure is None:
            self._give_up(waited)
            return True
        return False

    def _give_up(self, waited: float) -> None:
        self.failure = HookTooLate(
            f"a hook took {waited:.1f} s of real time, more than the {self._patience:.1f} s it may take; "
            "compute in a thread, precompute in on_start, or raise hook_seconds"
        )
        assert self._main is not None  # noqa: S101 - something runs
        self._main.cancel()

    @property
    def now_ms(self) -> float:
        """Return the simulated present, milliseconds since 1970 UTC."""
        return self.clock.start_ms + (0.0 if self._loop is None else self._loop.elapsed) * _MS

    @property
    def is_quiet(self) -> bool:
        """Say whether nobody but the consumer of the stream has had anything to do since the last move."""
        return self._loop is not None and self._loop.scheduled == self._quiet

    def try_step(self) -> bool:
        """Make the next move at once, if nobody else has anything to do before it."""
        loop = self._loop
        if loop is None or loop.scheduled != self._quiet or self.failure is not None:
            return False
        return self._advance(loop, loop.next_timer())

    def at_hand(self, listener: Listener) -> Iterator[Any]:
        """Yield, whenever asked, a stream's next event if it comes before anybody else has anything to do, else None.

        While nobody is ready to run, no timer is due, no order waits, and this stream alone takes
        the bars of one instrument, nothing comes of a bar but a price: most bars of most runs. That
        move is made here, in one frame that keeps what it needs; `try_step` makes it, as any other,
        at more than twice the cost.
        """
        loop, broker, heard, start_ms = self._loop, self.broker, self.heard, self.clock.start_ms
        unfinished, points, listeners, keep = self._unfinished, self._points, self._listeners, self.samples.add
        assert loop is not None  # noqa: S101 - only who runs asks
        while True:
            move, tick = self._next, None
            if (
                loop.scheduled == self._quiet
                and move is not None
                and len(unfinished) == 1
                and len(listeners) == 1
                and not (points or listener.events or listener.ticks)
            ):
                at_ms, name, quarter, bar = move
                series, timer, now = unfinished[0], loop.next_timer(), real.perf_counter()
                elapsed, ended, ends_ms = (at_ms - start_ms) / _MS, series.bar, series.ends_ms
                if (
                    type(bar) is Candle
                    and ends_ms <= at_ms
                    and (timer is None or elapsed <= timer)
                    and (broker is None or broker.exchange.is_idle_until(bar.start))
                    and now - self._stepped_at <= self._patience
                    and name in listener.wanted
                ):
                    tick = series.go_on(bar, at_ms, quarter)
            if tick is None:
                yield self._step_to_event(listener)
                continue
            self._stepped_at, loop.elapsed = now, elapsed
            # Nobody can ask for the close between here and the open, so that no tick of it is made.
            keep(ends_ms, series.instrument, ended.close)
            self.moved += 1
            self.last[name] = tick
            if broker is not None:
                broker.exchange.mark(tick)
            if heard is not None:
                heard(tick)
            self._next = next(self._moves, None)
            yield ended

    def _step_to_event(self, listener: Listener) -> Any:
        while not listener.events:
            if not self.try_step():
                return None
        return listener.take(self) if self.is_quiet else None

    def _advance(self, loop: VirtualLoop, timer: float | None) -> bool:
        """Make the next move, unless a timer is due before it; say whether one was made."""
        now = real.perf_counter()
        if now - self._stepped_at > self._patience and self.failure is None:
            self._give_up(now - self._stepped_at)
        self._idles = self.broker is None or self.broker.exchange.is_idle
        if not self._idles:
            self._push_waited_for()
        move, start_ms = self._next, self.clock.start_ms
        if self._points and (move is None or self._points[0][:2] < move[:2]):
            at_ms, _, rank, series = self._points[0]
            elapsed = (at_ms - start_ms) / _MS
            if timer is not None and elapsed > timer:
                return False
            heapq.heappop(self._points)
            self._stepped_at = now
            loop.elapsed = max(loop.elapsed, elapsed)
            self._play_point(series, rank)
            return True
        if move is None:
            return False
        at_ms, _, quarter, event = move
        elapsed = (at_ms - start_ms) / _MS
        if timer is not None and elapsed > timer:
            return False
        self._stepped_at = now
        if elapsed > loop.elapsed:  # noqa: PLR1730 - max() costs a call for every bar
            loop.elapsed = elapsed
        if type(event) is Candle:
            self._begin_bar(event, at_ms, quarter)
        else:
            self._event(at_ms, event)
        self._next = next(self._moves, None)
        return True

    def _end(self) -> None:
        self._pass(float("inf"))
        if self.broker is not None:
            self.broker.exchange.match_on_arrival = False
        self._ended = True
        for listener in self._listeners:
            for name, series in self._series.items():
                if listener.bars and series.bar is not None and name in listener.wanted:
                    listener.put(series.bar)
            listener.close()

    # Listeners.

    def listen(self, listener: Listener) -> None:
        """Send a stream what it wants from now on."""
        self._listeners.append(listener)
        if self._ended:
            listener.close()

    def leave(self, listener: Listener) -> None:
        """Send it no more."""
        self._listeners.remove(listener)

    # Moving.

    def _begin_day(self, day: date) -> None:
        self._day = day
        self.days.append((day, self.clock.now()))
        if self.new_day is not None:
            self.new_day(day)
        if self.stop and self._main is not None:
            self._main.cancel()

    def _begin_bar(self, bar: Candle, at_ms: int, quarter: int) -> None:
        """Let a bar open: the exchange hears its first price, the streams get the bar before."""
        instrument, broker = bar.instrument, self.broker
        series = self._series.get(instrument.id)
        if series is None:
            series = self._series[instrument.id] = _Series(instrument)
        quiet = broker is None or (self._idles and not broker.exchange.is_due(bar.start))
        self._pass(at_ms)
        self._unfinished.append(series)
        self.moved += 1
        tick = self.last[instrument.id] = series.begin(bar, at_ms, quarter)
        if series.day != self._day and (self._day is None or bar.start.date() > self._day):
            self._begin_day(bar.start.date())
        if broker is not None:
            if quiet:
                broker.exchange.mark(tick)
            else:
                broker.publish(broker.exchange.on_tick(tick, at=self.clock.now()))
        if self.heard is not None:
            self.heard(tick)
        self._tell_of(series, tick)

    def _tell_of(self, series: _Series, tick: Tick) -> None:
        """Hand the streams the bar before the one that opened, and the tick it opened with."""
        name, before = tick.instrument.id, series.before
        for listener in self._listeners:
            if name in listener.wanted:
                if listener.bars and before is not None:
                    listener.put(before)
                if listener.ticks:
                    self._push(series)
                    listener.put(tick)

    def _push(self, series: _Series) -> None:
        """Have the rest of the running bar played trade by trade."""
        if not series.pushed:
            series.pushed = True
            for rank in range(1, _POINTS):
                at_ms = series.at_ms + rank * series.quarter
                if at_ms > self.now_ms:
                    heapq.heappush(self._points, (at_ms, series.instrument.id, rank, series))

    def _push_waited_for(self) -> None:
        assert self.broker is not None  # noqa: S101 - asked by whoever knows
        exchange = self.broker.exchange
        for series in self._unfinished:
            if not series.pushed and exchange.is_waited_for(series.instrument):
                self._push(series)

    def _play_point(self, series: _Series, rank: int) -> None:
        """Let a later trade of the running bar come."""
        tick = series.tick(rank)
        name = series.instrument.id
        self.last[name] = tick
        if self.broker is not None:
            now, exchange = self.clock.now(), self.broker.exchange
            changed = exchange.on_tick(tick, at=now)
            if rank == _LAST and series.bar is not None:
                changed += exchange.on_bar(series.bar, at=now)
            self.broker.publish(changed)
        if rank == _LAST:
            self._unfinished.remove(series)
            self.samples.add(series.ends_ms, series.instrument, tick.last_price)
        if self.heard is not None:
            self.heard(tick)
        for listener in self._listeners:
            if listener.ticks and name in listener.wanted:
                listener.put(tick)

    def _pass(self, until_ms: float) -> None:
        """Close the bars that nobody watched and that are over by then."""
        unfinished = self._unfinished
        for series in tuple(unfinished):
            at_ms = series.ends_ms
            if at_ms > until_ms:
                continue
            unfinished.remove(series)
            tick = series.tick(_LAST)
            self.last[series.instrument.id] = tick
            self.samples.add(at_ms, series.instrument, tick.last_price)
            if self.broker is not None:
                self.broker.exchange.mark(tick)

    def _event(self, at_ms: int, event: MarketEvent) -> None:
        self.moved += 1
        day = self.clock.now().date()
        if self._day is None or day > self._day:
            self._begin_day(day)
        if self.broker is not None:
            self.broker.feed(event)
        if isinstance(event, Tick):
            self.last[event.instrument.id] = event
            self.samples.add_minute(at_ms, event.instrument, event.last_price)
            if self.heard is not None:
                self.heard(event)
            for listener in self._listeners:
                if event.instrument.id in listener.wanted:
                    listener.put(event)
            return
        for listener in self._listeners:
            listener.put(event)


def bar_moves(candles: Candles, *, hours: SessionHours) -> Iterator[Move]:
    """Play bars one by one, each in four trades at equal distances: open, the extremes in likely order, close."""
    instrument, length = candles.instrument, candles.interval.duration
    name = instrument.id
    bars = _BARS.rows(
        repeat(instrument, len(candles)),
        candles.start,
        candles.open,
        candles.high,
        candles.low,
        candles.close,
        candles.volume,
        candles.open_interest,
    )
    quarter = 0 if length is None else int(length / timedelta(milliseconds=_POINTS))
    for bar in bars:
        if length is None:
            opens, closes = hours.of(bar.start.date(), instrument)
            at = (opens - _EPOCH) // _ONE_MS
            quarter = int((closes - opens) / timedelta(milliseconds=_POINTS))
        else:
            at = (bar.start - _EPOCH) // _ONE_MS
        yield at, name, quarter, bar


def merge_moves(sources: Sequence[Iterator[Move]]) -> Iterator[Move]:
    """Merge ordered sources by time, then by instrument id."""
    return sources[0] if len(sources) == 1 else heapq.merge(*sources, key=_order)


def _order(move: Move) -> tuple[int, str]:
    return move[:2]
