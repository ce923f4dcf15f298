"""`backtest()`: the live loop, the live limits and the paper broker's exchange, on history and simulated time."""

from __future__ import annotations

import asyncio
import time as real
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

import attrs

from hybridbroker.alerts import Notifier
from hybridbroker.clock import Clock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candles, Interval
from hybridbroker.domain.orders import MarketOrder, Order, OrderRequest, Product, Side
from hybridbroker.domain.unchecked import Unchecked
from hybridbroker.errors import ConfigurationError, HybridBrokerError
from hybridbroker.execution import GuardedBroker, LastPrices, RiskLimits, guarded
from hybridbroker.protocols import Broker, InstrumentLookup, MarketData
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.fills import FillModel
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.simulation.playback import HookTooLate
from hybridbroker.simulation.replay import GivenInstruments, ReplayMarketData
from hybridbroker.simulation.result import BacktestResult
from hybridbroker.simulation.statutory import STATUTORY_ONLY
from hybridbroker.simulation.tape import Tape
from hybridbroker.simulation.validate import Defect, playable
from hybridbroker.strategy import Strategy, run

__all__ = ["BacktestSession", "Remains", "backtest", "simulate"]

_LIMITS: Final = RiskLimits()
_CASH: Final = Decimal(100_000)
_ORDER: Final = tuple(Interval)
_REQUESTS: Final = Unchecked(OrderRequest)


class Remains(StrEnum):
    """What becomes of open orders and positions when a run is over."""

    KEEP = "keep"
    """They stay, and count at the last price."""
    FLATTEN = "flatten"
    """Orders are cancelled, positions and holdings sold at the market."""


@attrs.frozen(kw_only=True)
class BacktestSession:
    """What a strategy sees of a backtest: the same as live."""

    data: MarketData
    broker: Broker
    instruments: InstrumentLookup
    clock: Clock
    notifier: Notifier


@attrs.define
class Alerts:
    """A `Notifier` that keeps what it is told for the report."""

    messages: list[str] = attrs.field(factory=list)

    async def notify(self, message: str) -> None:
        """Keep it."""
        self.messages.append(message)


class _Numbered:
    """A broker whose orders are named by counting, so that the same run gives the same names."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._count = 0

    async def place_order(self, request: OrderRequest) -> Order:
        if request.client_order_id is None:
            self._count += 1
            request = _REQUESTS.changed(request, client_order_id=f"bt-{self._count:08d}")
        return await self._broker.place_order(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


async def backtest(
    strategy: Strategy,
    data: Candles | Iterable[Candles] | Tape | MarketData,
    *,
    instruments: Iterable[Instrument] | InstrumentLookup | None = None,
    interval: Interval | None = None,
    start: date | datetime | None = None,
    end: date | datetime | None = None,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> BacktestResult:
    """Run a strategy over history and return what came of it; the same call gives the same result.

    The run has an event loop and a thread of its own, in which ``clock.sleep``, ``asyncio.sleep``
    and every timer go by simulated time.

    Args:
        strategy: The bot, as it would trade.
        data: Bars (of one interval, one or many instruments), a `Tape`, or a source of bars such as
            ``session.data``, which is asked for ``instruments`` from ``start`` to ``end``.
        instruments: What the session's ``instruments`` finds; for a source of bars, what to fetch.
        interval: Length of the bars to fetch; the strategy's own, unless given.
        start: First day that is traded; what comes before is history, for ``candles()``.
        end: Last day; only where bars are fetched.
        progress: Told of the fraction done, from another thread.
        options: As of `simulate`.

    Raises:
        ConfigurationError: The data cannot be played, or holds defects that were not allowed.
    """
    traded = start
    lookup = instruments if instruments is None or hasattr(instruments, "by_key") else None
    if isinstance(data, MarketData):
        if start is None or instruments is None or not isinstance(instruments, Iterable):
            raise ConfigurationError("to fetch bars, say which: instruments=[…], start=…, and interval= or the bot's")
        length = interval or strategy.interval
        if length is None:
            raise ConfigurationError("to fetch bars, say of what length: interval=Interval.MINUTE_1, or set the bot's")
        data = [await data.candles(each, length, start=start, end=end) for each in instruments]
        traded = None
    replayed = data if isinstance(data, Candles | Tape) else list(data)
    stopped = _Stop()
    try:
        return await asyncio.to_thread(
            simulate,
            strategy,
            replayed,
            instruments=cast("InstrumentLookup | None", lookup),
            start=traded,
            progress=progress,
            stop=stopped,
            **options,
        )
    except asyncio.CancelledError:
        stopped.now = True
        raise


@attrs.define
class _Stop:
    """Asks a run in another thread to end."""

    now: bool = False


def simulate(
    strategy: Strategy,
    data: Candles | Sequence[Candles] | Tape,
    *,
    instruments: InstrumentLookup | None = None,
    start: date | datetime | None = None,
    history: Iterable[Candles] = (),
    cash: Decimal = _CASH,
    charges: ChargeSchedule | None = STATUTORY_ONLY,
    limits: RiskLimits | None = _LIMITS,
    fill: FillModel | None = None,
    leverage: Decimal = Decimal(1),
    square_off: time | None = None,
    calendar: TradingCalendar | None = None,
    journal: Path | str | None = None,
    at_end: Remains = Remains.KEEP,
    on_failure: Remains = Remains.FLATTEN,
    allow: Collection[Defect | str] = (),
    hook_seconds: float = 30.0,
    progress: Callable[[float], None] | None = None,
    stop: _Stop | None = None,
) -> BacktestResult:
    """Run a backtest in this thread, which must not run an event loop; `backtest` is for those that do.

    Args:
        strategy: The bot, as it would trade.
        data: Bars or a tape.
        instruments: What the session's ``instruments`` finds; those of the data, unless given.
        start: First day that is traded.
        history: Bars for ``candles()`` beside a tape.
        cash: Rupees at the start.
        charges: What trades cost; what the state and the exchanges take, unless given. None trades
            for free, and admits derivatives.
        limits: Orders pass these and an order journal, as live; on bars ``max_data_age`` does not
            apply. None goes straight to the exchange, which is faster.
        fill: What is assumed where the data shows no book.
        leverage: Value of an intraday position by the margin it needs.
        square_off: When intraday positions are closed, IST; else with the day.
        calendar: Outside its sessions orders are refused; none, unless given. It also says when
            bars of a day begin and end.
        journal: File of the order journal; kept in memory, unless given. Needs limits.
        at_end: What becomes of positions at the end of the data.
        on_failure: What becomes of them when the strategy fails.
        allow: Defects of the data to trade in spite of; see `Defect`.
        hook_seconds: Real seconds that a hook may take; a run that waits longer is ended.
        progress: Told of the fraction done, now and then.
        stop: Set from another thread to end the run.
    """
    began = real.perf_counter()
    notes: list[str] = []
    replay, total = _replayed(
        data, strategy, start=start, history=history, calendar=calendar, allow=allow, patience=hook_seconds, notes=notes
    )
    paper = PaperBroker(
        cast("MarketData", replay),
        cash=cash,
        charges=charges,
        clock=replay.playback.clock,
        calendar=calendar,
        leverage=leverage,
        square_off=square_off,
        fill=fill,
    )
    stage = _Stage.set(replay, paper, instruments=instruments, limits=limits, journal=journal)
    day_ends = _DayEnds(paper)

    def new_day(day: date) -> None:
        day_ends.begin(day, replay.playback.clock.now())
        if progress is not None:
            progress(min(1.0, replay.playback.moved / max(1, total)))
        if stop is not None and stop.now:
            replay.playback.stop = True

    replay.playback.new_day = new_day
    failure, problems = stage.play(strategy, at_end=at_end, on_failure=on_failure)
    day_ends.finish()
    if progress is not None:
        progress(1.0)
    exchange = paper.exchange
    return BacktestResult(
        strategy=type(strategy).__name__,
        instruments=replay.instruments,
        interval=replay.interval,
        cash=cash,
        fill=fill or FillModel(),
        limits=stage.limits,
        charges_name=None if charges is None else charges.name,
        leverage=leverage,
        square_off=square_off,
        orders=tuple(exchange.all_orders()),
        trades=tuple(exchange.all_trades()),
        positions=tuple(each for each in exchange.positions() if each.quantity),
        holdings=tuple(exchange.holdings()),
        pnl=exchange.pnl(),
        charges=exchange.charges(),
        charges_by_day=dict(day_ends.charges),
        samples=replay.playback.samples,
        events=replay.playback.moved,
        first=replay.playback.days[0][1] if replay.playback.days else None,
        last=replay.playback.clock.now(),
        days=tuple(day for day, _ in replay.playback.days),
        failure=failure,
        problems=tuple(problems),
        alerts=tuple(stage.alerts.messages),
        notes=(*notes, *_told_of_hours(replay, calendar)),
        seconds=real.perf_counter() - began,
    )


def _replayed(
    data: Candles | Sequence[Candles] | Tape,
    strategy: Strategy,
    *,
    start: date | datetime | None,
    history: Iterable[Candles],
    calendar: TradingCalendar | None,
    allow: Collection[Defect | str],
    patience: float,
    notes: list[str],
) -> tuple[ReplayMarketData, int]:
    """Return the data as a source of prices that gives the strategy what it wants, and how much there is of it."""
    if isinstance(data, Tape):
        return ReplayMarketData.from_tape(data, history=history, calendar=calendar, patience=patience), len(data)
    series = [data] if isinstance(data, Candles) else list(data)
    played = [playable(each, allow=allow, calendar=calendar, notes=notes) for each in series]
    replay = ReplayMarketData.from_candles(played, start=start, calendar=calendar, patience=patience)
    _check_interval(strategy, replay.interval)
    _check_covered(calendar, played)
    whole = strategy.interval is replay.interval
    ticks = not whole or _overrides(strategy, "on_tick")
    replay.wants = lambda: (ticks, whole and strategy.interval is replay.interval)
    return replay, sum(map(len, played))


@attrs.frozen(kw_only=True)
class _Stage:
    """What a run is made of."""

    replay: ReplayMarketData
    paper: PaperBroker
    guard: GuardedBroker | None
    limits: RiskLimits | None
    session: BacktestSession
    alerts: Alerts

    @classmethod
    def set(
        cls,
        replay: ReplayMarketData,
        paper: PaperBroker,
        *,
        instruments: InstrumentLookup | None,
        limits: RiskLimits | None,
        journal: Path | str | None,
    ) -> _Stage:
        """Put it together as `connect()` would."""
        playback, clock, alerts = replay.playback, replay.playback.clock, Alerts()
        source, broker, guard = cast("MarketData", replay), cast("Broker", paper), None
        playback.broker = paper
        if limits is not None:
            prices = LastPrices(clock)
            if replay.interval is None:
                source = prices.watch(source)
            else:
                playback.heard = prices.note
                limits = attrs.evolve(limits, max_data_age=None)
            guard = guarded(
                broker, journal=journal, limits=limits, clock=clock, prices=prices, quotes=source, notifier=alerts
            )
            broker = cast("Broker", guard)
        elif journal is not None:
            raise ConfigurationError("a journal is kept by the guard: give limits= as well, or leave journal= out")
        session = BacktestSession(
            data=source,
            broker=cast("Broker", _Numbered(broker)),
            instruments=instruments or GivenInstruments(replay.instruments),
            clock=clock,
            notifier=alerts,
        )
        return cls(replay=replay, paper=paper, guard=guard, limits=limits, session=session, alerts=alerts)

    def play(
        self, strategy: Strategy, *, at_end: Remains, on_failure: Remains
    ) -> tuple[BaseException | None, list[str]]:
        """Run the strategy to the end of the data; return what it failed of, and what could not be closed."""
        playback, problems = self.replay.playback, list[str]()

        async def main() -> BaseException | None:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.paper)
                if self.guard is not None:
                    await stack.enter_async_context(self.guard)
                build_bars = not self.replay.wants()[1]
                failed = await _outcome(run(strategy, self.session, build_bars=build_bars))
                failed = playback.failure or failed
                if (on_failure if failed else at_end) is Remains.FLATTEN:
                    self.paper.exchange.match_on_arrival = True
                    problems.extend(await _flatten(self.session.broker))
                return failed

        try:
            return playback.run(main), problems
        except (HookTooLate, asyncio.CancelledError) as exc:
            return playback.failure or exc, problems


class _DayEnds:
    """What each day's contract note came to."""

    def __init__(self, paper: PaperBroker) -> None:
        self.charges: dict[date, Decimal] = {}
        self._paper = paper
        self._day: date | None = None
        self._billed = Decimal(0)

    def begin(self, day: date, now: datetime) -> None:
        """Let the exchange end its day, and note what the day before cost."""
        self._paper.publish(self._paper.exchange.advance(at=now))
        self.finish()
        self._day = day

    def finish(self) -> None:
        """Note what the day cost so far."""
        total = self._paper.exchange.charges().total
        if self._day is not None and total != self._billed:
            self.charges[self._day] = self.charges.get(self._day, Decimal(0)) + total - self._billed
            self._billed = total


async def _outcome(running: Awaitable[None]) -> BaseException | None:
    """Await a run and return what it raised; a cancelled one is cancelled in turn, and waited for."""
    task = asyncio.ensure_future(running)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError as cancelled:
        task.cancel()
        await asyncio.wait({task})
        return cancelled
    return task.exception() if not task.cancelled() else asyncio.CancelledError()


async def _flatten(broker: Broker) -> list[str]:
    """Cancel what is open, sell what is held at the market; return what went wrong, in words."""
    problems: list[str] = []

    async def attempt(what: str, call: Awaitable[Order]) -> None:
        try:
            order = await call
        except HybridBrokerError as exc:
            problems.append(f"{what}: {exc}")
            return
        if order.is_open:
            problems.append(f"{what}: order {order.id} is {order.status.value}")

    for order in await broker.orders():
        if order.is_open:
            await attempt(f"cancelling {order.id}", broker.cancel_order(order.id))
    held = [(each.instrument, each.product, each.quantity) for each in await broker.positions()]
    held = [each for each in held if each[2] > 0 or (each[2] < 0 and each[1] is not Product.DELIVERY)]
    held += [(each.instrument, Product.DELIVERY, each.available_quantity) for each in await broker.holdings()]
    for instrument, product, quantity in held:
        most = instrument.freeze_quantity or abs(quantity)
        left = abs(quantity)
        while left > 0:
            request = MarketOrder(
                instrument, Side.SELL if quantity > 0 else Side.BUY, quantity=min(most, left), product=product
            )
            await attempt(f"closing {quantity:+d} {instrument.id} ({product})", broker.place_order(request))
            left -= min(most, left)
    return problems


def _overrides(strategy: Strategy, hook: str) -> bool:
    return hook in vars(strategy) or getattr(type(strategy), hook) is not getattr(Strategy, hook)


def _check_interval(strategy: Strategy, played: Interval | None) -> None:
    if played is None:
        return
    if strategy.interval is None:
        if _overrides(strategy, "on_candle"):
            raise ConfigurationError(
                f"{type(strategy).__name__} has an on_candle, and no interval: set interval = Interval('{played}')"
            )
        return
    if _ORDER.index(strategy.interval) < _ORDER.index(played):
        raise ConfigurationError(
            f"{type(strategy).__name__} wants bars of {strategy.interval}, which bars of {played} cannot give"
        )


def _check_covered(calendar: TradingCalendar | None, played: Sequence[Candles]) -> None:
    if calendar is None:
        return
    for candles in played:
        first, last = candles.start[0].date(), candles.start[-1].date()
        if first < calendar.covered[0] or last > calendar.covered[1]:
            raise ConfigurationError(
                f"the bars of {candles.instrument.id} go from {first} to {last}, the calendar covers "
                f"{calendar.covered[0]} to {calendar.covered[1]}: leave the calendar out, or extend it"
            )


def _told_of_hours(replay: ReplayMarketData, calendar: TradingCalendar | None) -> list[str]:
    if calendar is None:
        return ["no calendar: the market is open whenever the data has prices"]
    if replay.hours.guessed:
        first, last = min(replay.hours.guessed), max(replay.hours.guessed)
        return [f"regular hours were assumed on {len(replay.hours.guessed)} days from {first} to {last}"]
    return ["trading hours are the built-in calendar's, or the one given"]
