"""Upstox (https://upstox.com/developer/api-documentation/): `PLUGIN` and `SANDBOX`; opening them imports the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hybridbroker.plugins import BrokerPlugin, Check, LoginRequest, LoginResult, OpenContext
from hybridbroker.protocols import Capability

if TYPE_CHECKING:
    from hybridbroker.brokers.upstox.broker import UpstoxBroker
    from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
    from hybridbroker.brokers.upstox.sandbox import UpstoxSandboxBroker

__all__ = ["BROKER_CAPABILITIES", "CAPABILITIES", "PLUGIN", "SANDBOX", "SANDBOX_CAPABILITIES"]

CAPABILITIES: Final = (
    Capability.QUOTES
    | Capability.CANDLES
    | Capability.TICKS
    | Capability.FULL_MODE
    | Capability.OPTION_GREEKS
    | Capability.OPTION_CHAINS
    | Capability.MARKET_SCHEDULE
)
"""What `UpstoxMarketData` can do on every plan; Upstox Plus adds depth of thirty levels."""

_ORDERS: Final = (
    Capability.MARKET_ORDERS
    | Capability.LIMIT_ORDERS
    | Capability.STOP_LIMIT_ORDERS
    | Capability.STOP_MARKET_ORDERS
    | Capability.AFTER_MARKET_ORDERS
    | Capability.IOC
)

BROKER_CAPABILITIES: Final = (
    _ORDERS
    | Capability.ORDER_UPDATES
    | Capability.ORDER_BOOK
    | Capability.PORTFOLIO
    | Capability.FILLS
    | Capability.LIVE_MONEY
    | Capability.GTT_ORDERS
    | Capability.BRACKET_ORDERS
    | Capability.SLICED_ORDERS
    | Capability.MARGINS
    | Capability.KILL_SWITCH
    | Capability.POSITION_CONVERSION
)
"""What `UpstoxBroker` can do; an OCO order for shares already held is not among Upstox's GTT orders."""

SANDBOX_CAPABILITIES: Final = _ORDERS
"""What `UpstoxSandboxBroker` can do: orders are taken, nothing trades, nothing can be read."""


def _settings() -> Any:
    from hybridbroker.brokers.upstox.settings import read_settings

    return read_settings()


def _open_data(context: OpenContext) -> UpstoxMarketData:
    from hybridbroker.brokers.upstox.market_data import UpstoxMarketData

    settings = context.settings or _settings()
    return UpstoxMarketData(
        settings,
        instruments=context.instruments,
        clock=context.clock,
        calendar=context.calendar,
        notifier=context.notifier,
    )


def _open_broker(context: OpenContext) -> UpstoxBroker:
    from hybridbroker.brokers.upstox.broker import UpstoxBroker

    settings = context.settings or _settings()
    return UpstoxBroker(settings, instruments=context.instruments, clock=context.clock)


def _sandbox_settings() -> Any:
    from hybridbroker.brokers.upstox.settings import UpstoxSettings

    return UpstoxSettings.from_environment().for_sandbox()


def _open_sandbox(context: OpenContext) -> UpstoxSandboxBroker:
    from hybridbroker.brokers.upstox.sandbox import UpstoxSandboxBroker

    settings = context.settings or _sandbox_settings()
    if not settings.is_sandbox:
        settings = settings.for_sandbox()
    return UpstoxSandboxBroker(settings, instruments=context.instruments, clock=context.clock)


def _listings() -> Any:
    from hybridbroker.brokers.upstox.instruments import listings

    return listings()


def _charges() -> Any:
    from hybridbroker.brokers.upstox.charges import ROWS
    from hybridbroker.simulation.statutory import schedule_with

    return schedule_with(ROWS, name="upstox")


async def _login(request: LoginRequest) -> LoginResult:
    from hybridbroker.brokers.upstox.login import login

    return await login(request)


async def _checks(context: OpenContext) -> Sequence[Check]:
    from hybridbroker.brokers.upstox.checks import checks

    return await checks(context)


PLUGIN = BrokerPlugin(
    name="upstox",
    title="Upstox",
    capabilities=CAPABILITIES | BROKER_CAPABILITIES,
    settings=_settings,
    open_data=_open_data,
    open_broker=_open_broker,
    listings=_listings,
    charges=_charges,
    login=_login,
    checks=_checks,
)

SANDBOX = BrokerPlugin(
    name="upstox-sandbox",
    title="Upstox sandbox",
    capabilities=SANDBOX_CAPABILITIES,
    settings=_sandbox_settings,
    open_broker=_open_sandbox,
)
