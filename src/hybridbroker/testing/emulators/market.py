"""The one market behind both emulators: what trades when, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Final

from hybridbroker.clock import Clock, SystemClock, from_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Tick
from hybridbroker.errors import ConfigurationError
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.candles import Bar, MinuteBars, aggregate
from hybridbroker.testing.emulators.listed import LISTED, ListedInstrument
from hybridbroker.testing.emulators.market_view import MarketClock, tick_of
from hybridbroker.testing.emulators.plans import DAY, Plan, candle_days, recorded_day, still_day, synthetic_day
from hybridbroker.testing.emulators.recording import Recording
from hybridbroker.testing.emulators.steps import Step, session_bounds

__all__ = ["EmulatedMarket"]

_YIELDS: Final = 32
_LONG_SILENCE_MS: Final = 3_600_000

Listener = Callable[[Step], Awaitable[None]]


class EmulatedMarket:
    """Instruments, their prices, and a day that passes in simulated time.

    Build it with `random_walk`, `from_candles`, `from_recording` or `still`. It moves when
    it is told to: `step`, `run`, `move`, or `play`, which the Upstox emulator calls at the
    first subscription.

    Args:
        speed: How many simulated seconds pass in a real one. None is as fast as those who
            listen can take it: after each step every frame has been handed to the
            operating system, no emulator is in the middle of a request, and the event loop
            went round some times, so that a bot in this process sees each tick and its
            orders arrive before the market has moved far. At this speed `play` waits while
            nobody is subscribed.
        clock: Real time, for pacing.
    """

    def __init__(self, plan: Plan, *, speed: float | None = None, clock: Clock | None = None) -> None:
        self.listed = plan.listed
        self.speed = speed
        self.status: pb.MarketStatus = pb.NORMAL_OPEN
        """Phase of every segment, as the feed numbers it."""
        self.pre_open: str | None = None
        """What the feed says of the pre-open session, such as ``PRE_OPEN_START``; None says nothing."""
        self.closing_auction: str | None = None
        """What the feed says of the closing auction, such as ``CAS_LM_START``; None says nothing."""
        self.phase_ms = plan.start_ms
        """When the phase last changed, milliseconds since 1970 UTC."""
        self.steps_done = 0
        self._by_key = {each.upstox_key: each for each in self.listed}
        self._by_id = {(each.dhan_segment, each.dhan_id): each for each in self.listed}
        self._by_instrument = {each.instrument.id: each for each in self.listed}
        self._books = plan.books
        self._steps = plan.steps
        self._now_ms = plan.start_ms
        self._real = clock or SystemClock()
        self._listeners: list[Listener] = []
        self._history = {key: list(bars) for key, bars in plan.history.items()}
        self._today: dict[str, MinuteBars] = {}
        self._feeds = {key: book.entry() for key, book in plan.books.items()}
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._answering = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._audience = 0
        self._heard = asyncio.Event()
        self.clock: Clock = MarketClock(lambda: self.now, self._real)
        """A clock whose ``now`` is this market's, while sleeping and measuring stay real."""

    @classmethod
    def random_walk(
        cls,
        listed: Iterable[ListedInstrument] = LISTED,
        *,
        seed: int = 7,
        day: date = DAY,
        history_days: int = 5,
        prices: Mapping[str, float] | None = None,
        levels: int = 5,
        speed: float | None = None,
        clock: Clock | None = None,
    ) -> EmulatedMarket:
        """Build a synthetic trading day with one clear trend; the same seed gives the same day.

        ``prices`` are the rupees to start from, by instrument id; ``levels`` of depth are
        up to 30.
        """
        plan = synthetic_day(listed, seed=seed, day=day, history_days=history_days, prices=prices or {}, levels=levels)
        return cls(plan, speed=speed, clock=clock)

    @classmethod
    def from_candles(
        cls,
        files: Mapping[ListedInstrument, Path],
        *,
        days: int | None = 1,
        levels: int = 5,
        speed: float | None = None,
        clock: Clock | None = None,
    ) -> EmulatedMarket:
        """Play the last ``days`` sessions of Upstox candle files (None: all); earlier ones are history.

        Raises:
            ConfigurationError: A file is unreadable, damaged, empty, or holds no intraday bars.
        """
        return cls(candle_days(files, days=days, levels=levels), speed=speed, clock=clock)

    @classmethod
    def from_recording(
        cls,
        recording: Recording,
        listed: Iterable[ListedInstrument],
        *,
        speed: float | None = None,
        clock: Clock | None = None,
    ) -> EmulatedMarket:
        """Play recorded feed entries as they are; entries of instruments not in ``listed`` are passed over.

        Raises:
            ConfigurationError: The recording knows none of ``listed``.
        """
        return cls(recorded_day(recording, listed), speed=speed, clock=clock)

    @classmethod
    def still(
        cls,
        listed: Iterable[ListedInstrument] = LISTED,
        *,
        prices: Mapping[str, float] | None = None,
        at: datetime | None = None,
        levels: int = 5,
        clock: Clock | None = None,
    ) -> EmulatedMarket:
        """Build a market in which nothing happens but what `move` makes happen.

        Everything has traded once, at ``prices`` by instrument id, and at 10:00 IST unless
        ``at`` says otherwise.
        """
        return cls(still_day(listed, prices=prices or {}, at=at, levels=levels), clock=clock)

    @property
    def now(self) -> datetime:
        """Return the simulated present, in IST."""
        return from_epoch_ms(self._now_ms)

    @property
    def now_ms(self) -> int:
        """Return the simulated present, milliseconds since 1970 UTC."""
        return self._now_ms

    @property
    def is_open(self) -> bool:
        """Say whether orders can trade now."""
        return self.status == pb.NORMAL_OPEN

    def by_key(self, upstox_key: str) -> ListedInstrument | None:
        """Return what Upstox calls ``upstox_key``."""
        return self._by_key.get(upstox_key)

    def by_id(self, dhan_segment: str, dhan_id: str) -> ListedInstrument | None:
        """Return what Dhan calls ``dhan_id`` in ``dhan_segment``."""
        return self._by_id.get((dhan_segment, dhan_id))

    def by_instrument(self, instrument: Instrument | str) -> ListedInstrument:
        """Return the listing of an instrument, or of its id.

        Raises:
            ConfigurationError: This market does not list it.
        """
        name = instrument if isinstance(instrument, str) else instrument.id
        try:
            return self._by_instrument[name]
        except KeyError:
            raise ConfigurationError(
                f"the emulated market does not list {name}; it has {', '.join(self._by_instrument)}"
            ) from None

    def feed(self, upstox_key: str) -> pb.Feed | None:
        """Return the newest entry of mode full, or None while it has none."""
        return self._feeds.get(upstox_key)

    def tick(self, listed: ListedInstrument) -> Tick | None:
        """Return the newest entry as a tick, or None while it has none."""
        feed = self._feeds.get(listed.upstox_key)
        return None if feed is None else tick_of(listed, feed, self._now_ms)

    def past_bars(self, upstox_key: str) -> list[Bar]:
        """Return minute bars of the sessions before this one, oldest first."""
        return self._history.get(upstox_key, [])

    def today_bars(self, upstox_key: str) -> list[Bar]:
        """Return minute bars of this session so far, the running one included."""
        minutes = self._today.get(upstox_key)
        return minutes.bars if minutes else []

    def today_bars_of(self, upstox_key: str, *, minutes: int) -> list[Bar]:
        """Return this session's bars of ``minutes`` so far, counted from 9:15, the running one included."""
        return aggregate(self.today_bars(upstox_key), "minutes", minutes)

    def listen(self, listener: Listener, *, first: bool = False) -> None:
        """Have ``listener`` awaited at every step; ``first`` puts it before those already there."""
        self._listeners.insert(0 if first else len(self._listeners), listener)

    def ignore(self, listener: Listener) -> None:
        """Stop awaiting ``listener``."""
        self._listeners.remove(listener)

    def audience(self, change: int) -> None:
        """Tell that ``change`` more (or fewer) clients are subscribed to something."""
        self._audience += change
        if self._audience > 0:
            self._heard.set()
        else:
            self._heard.clear()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Tell that a request is being answered; at full speed the market waits for it."""
        self._answering += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._answering -= 1
            if not self._answering:
                self._quiet.set()

    async def step(self) -> bool:
        """Do the next step; False says that there was none left."""
        for step in self._steps:
            await self._do(step)
            return True
        return False

    async def run(self) -> None:
        """Do all steps that are left, at the market's speed."""
        await self._run(wait=False)

    def play(self) -> None:
        """Run in the background; more than once is once. `stop` ends it and tells what went wrong."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(wait=True))
            self._task.add_done_callback(lambda _: self._over.set())

    async def finished(self) -> None:
        """Wait until playing has ended, even if it has not begun yet; raises what went wrong."""
        await self._over.wait()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """End playing; raises what the playing raised. The rest can be played later."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (failure := task.exception()) is not None:
                raise failure

    async def move(
        self, instrument: Instrument | str, price: float, *, quantity: int = 100, seconds: float = 1.0
    ) -> None:
        """Trade ``quantity`` units at ``price`` rupees, ``seconds`` from now, and tell everyone.

        Raises:
            ConfigurationError: Not listed, or this market plays a recording.
        """
        await self.move_all({instrument: price}, quantity=quantity, seconds=seconds)

    async def move_all(
        self, prices: Mapping[Instrument | str, float], *, quantity: int = 100, seconds: float = 1.0
    ) -> None:
        """Trade several instruments at one instant; as `move`."""
        at_ms = self._now_ms + round(seconds * 1000)
        updates = []
        for name, price in prices.items():
            listed = self.by_instrument(name)
            book = self._books.get(listed.upstox_key)
            if book is None:
                raise ConfigurationError("a recorded market only plays what was recorded; build one with still()")
            updates.append((listed, book.trade(price, 0 if listed.is_index else quantity, at_ms)))
        await self._do(Step(at_ms, tuple(updates)))

    async def enter_phase(
        self,
        status: pb.MarketStatus,
        *,
        pre_open: str | None = None,
        closing_auction: str | None = None,
        seconds: float = 1.0,
    ) -> None:
        """Have every segment enter a phase ``seconds`` from now, with what the feed says of auctions."""
        self.pre_open, self.closing_auction = pre_open, closing_auction
        await self._do(Step(self._now_ms + round(seconds * 1000), status=status))

    async def auction(
        self,
        instrument: Instrument | str,
        *,
        price: float,
        quantity: int,
        reference: float,
        imbalance: int = 0,
        market_imbalance: int = 0,
        seconds: float = 1.0,
    ) -> None:
        """Tell an indicative equilibrium, as in a pre-open or closing auction; nothing trades.

        ``price`` and ``reference`` are rupees, the imbalances units, positive where buyers are
        in excess. The next trade ends it.

        Raises:
            ConfigurationError: Not listed, an index, or it never ticked.
        """
        listed = self.by_instrument(instrument)
        before = self._feeds.get(listed.upstox_key)
        if before is None or not before.fullFeed.HasField("marketFF"):
            raise ConfigurationError(f"{listed.instrument.id} takes part in no auction; choose a share that has ticked")
        feed = pb.Feed()
        feed.CopyFrom(before)
        market = feed.fullFeed.marketFF
        market.ltpc.iep.value = market.iep = price
        market.rp, market.ieq, market.casEligible = reference, quantity, True
        market.iiqTotal, market.iiqM = imbalance, market_imbalance
        await self._do(Step(self._now_ms + round(seconds * 1000), ((listed, feed),)))

    async def close_session(self) -> None:
        """Close every segment, as at the end of a day."""
        _, closes = session_bounds(self.now.date())
        await self._do(Step(max(self._now_ms, closes), status=pb.NORMAL_CLOSE))

    async def _run(self, *, wait: bool) -> None:
        anchor: tuple[float, int] | None = None
        for step in self._steps:
            if self.speed is None:
                if wait:
                    await self._heard.wait()
            else:
                now = self._real.monotonic()
                if anchor is None or step.at_ms - self._now_ms > _LONG_SILENCE_MS:
                    anchor = now, step.at_ms
                due = anchor[0] + (step.at_ms - anchor[1]) / 1000 / self.speed
                if due > now:
                    await self._real.sleep(due - now)
            await self._do(step)
            if self.speed is None:
                await self._settle()

    async def _settle(self) -> None:
        for _ in range(_YIELDS if self._audience else 1):
            await asyncio.sleep(0)
        await self._quiet.wait()

    async def _do(self, step: Step) -> None:
        if step.status == pb.NORMAL_OPEN and from_epoch_ms(step.at_ms).date() > self.now.date():
            self._new_day()
        self._now_ms = max(self._now_ms, step.at_ms)
        if step.status is not None:
            self.status, self.phase_ms = step.status, self._now_ms
        for listed, feed in step.updates:
            self._note(listed.upstox_key, feed)
        self.steps_done += 1
        for listener in tuple(self._listeners):
            await listener(step)

    def _new_day(self) -> None:
        for key, minutes in self._today.items():
            self._history.setdefault(key, []).extend(minutes.bars)
        self._today.clear()

    def _note(self, key: str, feed: pb.Feed) -> None:
        full = feed.fullFeed
        market = full.marketFF if full.HasField("marketFF") else None
        entry = full.indexFF if market is None else market
        if not entry.HasField("ltpc"):
            return  # a recorded update of the depth alone is passed on, but is no state to start from
        before = self._feeds.get(key)
        self._feeds[key] = feed
        traded = market.vtt - before.fullFeed.marketFF.vtt if market is not None and before is not None else 0
        if market is not None and traded < 0:
            traded = market.vtt  # a new day: the count began again
        minutes = self._today.setdefault(key, MinuteBars())
        minutes.add(entry.ltpc.ltp, traded, entry.ltpc.ltt)
        for bar in entry.marketOHLC.ohlc:
            if bar.interval == "I1":
                minutes.replace(Bar(bar.ts, bar.open, bar.high, bar.low, bar.close, bar.vol))
