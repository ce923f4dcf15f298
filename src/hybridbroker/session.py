"""`connect()` puts a source of prices, a taker of orders and the instruments together: the one object a bot needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from hybridbroker.alerts import LogNotifier, Notifier
from hybridbroker.clock import IST, Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order
from hybridbroker.errors import ConfigurationError
from hybridbroker.execution import GuardedBroker, RiskLimits, guarded
from hybridbroker.execution.account import account_name
from hybridbroker.execution.flatten import FlattenReport
from hybridbroker.execution.metrics import MetricsSnapshot
from hybridbroker.execution.prices import LastPrices
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.plugins import BrokerPlugin, OpenContext, find_broker
from hybridbroker.protocols import Broker, Capability, MarketData

if TYPE_CHECKING:
    from hybridbroker.simulation.charges import ChargeSchedule
    from hybridbroker.simulation.paper import PaperBroker

__all__ = ["BUILTIN", "PAPER", "Session", "connect", "open_registry"]

BUILTIN = "builtin"
"""Names the handful of large NSE shares that come with the package, in place of a registry file."""

PAPER = "paper"
"""Name of the simulated broker: the default, so that nobody trades by accident."""


@attrs.frozen(kw_only=True)
class Session:
    """Prices, orders, instruments and time, as one bot sees them."""

    data: MarketData
    broker: GuardedBroker
    """Every order passes your limits and the journal before it reaches the broker."""
    instruments: InstrumentRegistry
    clock: Clock
    notifier: Notifier

    @property
    def metrics(self) -> MetricsSnapshot:
        """Counts, latencies by stage, and what entries are stopped by, at this instant."""
        return self.broker.snapshot()

    def override(self, instrument: Instrument | str | None = None, *, reason: str) -> Sequence[str]:
        """Let entries go on upon your own responsibility; see `GuardedBroker.override`."""
        return self.broker.override(instrument, reason=reason)

    async def flatten(self, *, within: float = 30.0) -> FlattenReport:
        """Cancel every open order, close every position of the day, and verify it."""
        return await self.broker.flatten(within=within)

    async def kill(self, reason: str, *, at_broker: bool = False) -> Sequence[Order]:
        """Throw the kill switch: no entry passes any more; see `GuardedBroker.kill`."""
        return await self.broker.kill(reason, at_broker=at_broker)


@asynccontextmanager
async def connect(
    *,
    data: str | MarketData = "upstox",
    broker: str | Broker = PAPER,
    instruments: InstrumentRegistry | Path | str | None = None,
    allow_old_instruments: bool = False,
    settings: Mapping[str, Any] | None = None,
    journal: Path | str | None = None,
    state: Path | None = None,
    limits: RiskLimits | None = None,
    calendar: TradingCalendar | None = None,
    cash: Decimal = Decimal(100_000),
    charges: ChargeSchedule | None = None,
    paper_state: Path | str | None = None,
    clock: Clock | None = None,
    notifier: Notifier | None = None,
) -> AsyncIterator[Session]:
    """Open a session; leaving the ``async with`` closes what it opened.

    Args:
        data: Name of an installed broker, or a `MarketData` that the caller has entered.
        broker: ``"paper"`` (simulated, the default), the name of an installed broker (real
            orders, real money), or a `Broker` that the caller has entered.
        instruments: A registry, the path of one built by ``hybridbroker instruments build``,
            ``"builtin"`` for the handful that comes with the package, or None for today's,
            downloaded when needed.
        allow_old_instruments: Let real orders pass on a registry that is not of this trading day.
            Otherwise entries are refused and exits pass, until ``session.override(reason=…)``,
            because ids of derivatives are given out again within weeks.
        settings: Settings objects by broker name; a broker not named reads its environment
            variables and ``.env``.
        journal: File of the order journal; without it the account's own place for real money,
            and memory for paper.
        state: Directory of the account's files (journal, write rate, kill switch); the platform's
            own place for state, unless given.
        limits: What is refused before it is sent; `RiskLimits`'s defaults, unless given.
        calendar: When the exchange is open, for real money; the built-in one, unless given. On
            paper the stream's market status opens and closes the market.
        cash: Rupees the paper broker starts with.
        charges: What the paper broker bills, such as ``find_broker("dhan").charges()``; without it
            what the state and the exchanges take, and no brokerage.
        paper_state: File in which the paper account lives on from run to run (see `PaperBroker`);
            without it the account ends with the session. Its journal is ``journal``'s matter.
        clock: What time it is; the system's, unless given.
        notifier: Where alerts go; the log, unless given.

    Raises:
        ConfigurationError: An unknown broker (in ``settings`` too), or one that lacks the ability
            asked of it; a journal or a paper account that another process has, or that cannot be
            read or written.
    """
    if paper_state is not None and broker != PAPER:
        raise ConfigurationError("paper_state= is the file of a paper account, and orders go elsewhere; leave it out")
    clock = clock or SystemClock()
    given = settings or {}
    for name in given:
        find_broker(name)  # a misspelt name would have the environment's account trade instead
    registry = await open_registry(instruments, clock=clock)

    notifier = notifier or LogNotifier()

    def context(name: str) -> OpenContext:
        return OpenContext(
            instruments=registry, clock=clock, settings=given.get(name), calendar=calendar, notifier=notifier
        )

    async with AsyncExitStack() as stack:
        if registry is not instruments:
            stack.callback(registry.close)
        source = data
        if isinstance(source, str):
            source = await stack.enter_async_context(_open_data(find_broker(source), context(source)))
        taker, account = broker, None
        if isinstance(taker, str) and taker == PAPER:
            paper = await stack.enter_async_context(
                _paper(source, cash=cash, charges=charges, clock=clock, state=paper_state, instruments=registry)
            )
            source, taker = paper.watch(source), paper
        elif isinstance(taker, str):
            plugin = find_broker(taker)
            chosen = given.get(taker) or plugin.settings()
            account = account_name(taker, chosen)
            taker = await stack.enter_async_context(_open_broker(plugin, attrs.evolve(context(taker), settings=chosen)))
        prices = LastPrices(clock)
        source = prices.watch(source)
        live = Capability.LIVE_MONEY in taker.capabilities
        calendar = calendar or TradingCalendar()
        guard = guarded(
            taker,
            account=account,
            journal=journal,
            directory=state,
            limits=limits,
            clock=clock,
            calendar=calendar if live else None,
            prices=prices,
            quotes=source,
            notifier=notifier,
        )
        await stack.enter_async_context(guard)
        if live and not allow_old_instruments:
            day = _trading_day(clock.now(), calendar)
            if not registry.is_of(day):
                guard.stop_entries("instruments", _outdated(registry, day))
        yield Session(data=source, broker=guard, instruments=registry, clock=clock, notifier=notifier)


def _trading_day(now: datetime, calendar: TradingCalendar) -> date:
    """Return the day whose masters count now: today, or the last day with a session."""
    day = now.astimezone(IST).date()
    while not calendar.is_trading_day(day):
        day -= timedelta(days=1)
    return day


def _outdated(registry: InstrumentRegistry, today: date) -> str:
    of = "the built-in handful" if registry.as_of is None else f"of {registry.as_of}"
    return f"the instrument registry is {of}, not of {today}: build it anew (hybridbroker instruments build)"


async def open_registry(
    instruments: InstrumentRegistry | Path | str | None, *, clock: Clock | None = None
) -> InstrumentRegistry:
    """Return a ready registry, the one at a path, the handful called ``builtin``, or (None) today's."""
    if isinstance(instruments, InstrumentRegistry):
        return instruments
    if instruments is None:
        return await InstrumentRegistry.load(clock=clock)
    if str(instruments) == BUILTIN:
        return InstrumentRegistry.builtin()
    return InstrumentRegistry.open(Path(instruments))


def _paper(
    source: MarketData,
    *,
    cash: Decimal,
    charges: ChargeSchedule | None,
    clock: Clock,
    state: Path | str | None,
    instruments: InstrumentRegistry,
) -> PaperBroker:
    from hybridbroker.simulation.paper import PaperBroker
    from hybridbroker.simulation.statutory import STATUTORY_ONLY

    return PaperBroker(
        source,
        cash=cash,
        charges=STATUTORY_ONLY if charges is None else charges,
        clock=clock,
        state=None if state is None else Path(state),
        instruments=instruments,
    )


def _open_data(plugin: BrokerPlugin, context: OpenContext) -> MarketData:
    if plugin.open_data is None:
        raise ConfigurationError(f"{plugin.title} is no source of market data here; name another for data=")
    return plugin.open_data(context)


def _open_broker(plugin: BrokerPlugin, context: OpenContext) -> Broker:
    if plugin.open_broker is None:
        raise ConfigurationError(f"{plugin.title} takes no orders here; name another for broker=")
    return plugin.open_broker(context)
