"""`connect()` puts a source of prices, a taker of orders and the instruments together: the one object a bot needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from hybridbroker.alerts import LogNotifier, Notifier
from hybridbroker.clock import Clock, SystemClock
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.plugins import BrokerPlugin, OpenContext, find_broker
from hybridbroker.protocols import Broker, MarketData

if TYPE_CHECKING:
    from hybridbroker.simulation.charges import ChargeSchedule

__all__ = ["BUILTIN", "PAPER", "Session", "connect", "open_registry"]

BUILTIN = "builtin"
"""Names the handful of large NSE shares that come with the package, in place of a registry file."""

PAPER = "paper"
"""Name of the simulated broker: the default, so that nobody trades by accident."""


@attrs.frozen(kw_only=True)
class Session:
    """Prices, orders, instruments and time, as one bot sees them."""

    data: MarketData
    broker: Broker
    instruments: InstrumentRegistry
    clock: Clock
    notifier: Notifier


@asynccontextmanager
async def connect(
    *,
    data: str | MarketData = "upstox",
    broker: str | Broker = PAPER,
    instruments: InstrumentRegistry | Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    cash: Decimal = Decimal(100_000),
    charges: ChargeSchedule | None = None,
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
        settings: Settings objects by broker name; a broker not named reads its environment
            variables and ``.env``.
        cash: Rupees the paper broker starts with.
        charges: What the paper broker bills, such as ``find_broker("dhan").charges()``; without it
            what the state and the exchanges take, and no brokerage.
        clock: What time it is; the system's, unless given.
        notifier: Where alerts go; the log, unless given.

    Raises:
        ConfigurationError: An unknown broker, or one that lacks the ability asked of it.
    """
    clock = clock or SystemClock()
    registry = await open_registry(instruments)
    given = settings or {}

    def context(name: str) -> OpenContext:
        return OpenContext(instruments=registry, clock=clock, settings=given.get(name))

    async with AsyncExitStack() as stack:
        source = data
        if isinstance(source, str):
            source = await stack.enter_async_context(_open_data(find_broker(source), context(source)))
        if broker == PAPER:
            from hybridbroker.simulation.paper import PaperBroker
            from hybridbroker.simulation.statutory import STATUTORY_ONLY

            billed = STATUTORY_ONLY if charges is None else charges
            paper = await stack.enter_async_context(PaperBroker(source, cash=cash, charges=billed, clock=clock))
            source, taker = paper.watch(source), paper
        elif isinstance(broker, str):
            taker = await stack.enter_async_context(_open_broker(find_broker(broker), context(broker)))
        else:
            taker = broker
        yield Session(data=source, broker=taker, instruments=registry, clock=clock, notifier=notifier or LogNotifier())


async def open_registry(instruments: InstrumentRegistry | Path | str | None) -> InstrumentRegistry:
    """Return a ready registry, the one at a path, the handful called ``builtin``, or (None) today's."""
    if isinstance(instruments, InstrumentRegistry):
        return instruments
    if instruments is None:
        return await InstrumentRegistry.load()
    if str(instruments) == BUILTIN:
        return InstrumentRegistry.builtin()
    return InstrumentRegistry.open(Path(instruments))


def _open_data(plugin: BrokerPlugin, context: OpenContext) -> MarketData:
    if plugin.open_data is None:
        raise ConfigurationError(f"{plugin.title} is no source of market data here; name another for data=")
    return plugin.open_data(context)


def _open_broker(plugin: BrokerPlugin, context: OpenContext) -> Broker:
    if plugin.open_broker is None:
        raise ConfigurationError(f"{plugin.title} takes no orders here; name another for broker=")
    return plugin.open_broker(context)
