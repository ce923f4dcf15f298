"""Dhan (https://dhanhq.co/docs/v2/) as a broker: `PLUGIN`; the rest is imported when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hybridbroker.plugins import BrokerPlugin, Check, LoginRequest, LoginResult, OpenContext
from hybridbroker.protocols import Capability

if TYPE_CHECKING:
    from hybridbroker.brokers.dhan.broker import DhanBroker
    from hybridbroker.brokers.dhan.market_data import DhanMarketData
    from hybridbroker.brokers.dhan.sandbox_broker import DhanSandboxBroker

__all__ = ["CAPABILITIES", "DATA_CAPABILITIES", "PLUGIN", "SANDBOX", "SANDBOX_CAPABILITIES"]

SANDBOX_CAPABILITIES: Final = (
    Capability.MARKET_ORDERS
    | Capability.LIMIT_ORDERS
    | Capability.STOP_LIMIT_ORDERS
    | Capability.STOP_MARKET_ORDERS
    | Capability.AFTER_MARKET_ORDERS
    | Capability.IOC
    | Capability.SLICED_ORDERS
    | Capability.GTT_ORDERS
    | Capability.OCO_ORDERS
    | Capability.MARGINS
    | Capability.POSITION_CONVERSION
    | Capability.ORDER_BOOK
    | Capability.PORTFOLIO
)
"""What `DhanSandboxBroker` can do: nothing trades there, there are no sockets, super orders or kill switch."""

CAPABILITIES: Final = (
    SANDBOX_CAPABILITIES
    | Capability.BRACKET_ORDERS
    | Capability.KILL_SWITCH
    | Capability.ORDER_UPDATES
    | Capability.FILLS
    | Capability.LIVE_MONEY
)
"""What `DhanBroker` can do; stop-market orders are sent as stop-limit orders, since Dhan's own are unsafe."""

DATA_CAPABILITIES: Final = (
    Capability.QUOTES | Capability.CANDLES | Capability.TICKS | Capability.FULL_MODE | Capability.OPTION_CHAINS
)
"""What `DhanMarketData` can do with the Data API plan; nothing without it. Depth of 20 and 200 levels is left out."""


def _settings() -> Any:
    from hybridbroker.brokers.dhan.settings import read_settings

    return read_settings()


def _open_data(context: OpenContext) -> DhanMarketData:
    from hybridbroker.brokers.dhan.market_data import DhanMarketData

    settings = context.settings or _settings()
    return DhanMarketData(
        settings,
        instruments=context.instruments,
        clock=context.clock,
        calendar=context.calendar,
        notifier=context.notifier,
    )


def _open_broker(context: OpenContext) -> DhanBroker:
    from hybridbroker.brokers.dhan.broker import DhanBroker

    settings = context.settings or _settings()
    return DhanBroker(settings, instruments=context.instruments, clock=context.clock)


def _sandbox_settings() -> Any:
    from hybridbroker.brokers.dhan.settings import read_sandbox_settings

    return read_sandbox_settings()


def _open_sandbox(context: OpenContext) -> DhanSandboxBroker:
    from hybridbroker.brokers.dhan.sandbox_broker import DhanSandboxBroker

    settings = context.settings or _sandbox_settings()
    return DhanSandboxBroker(settings, instruments=context.instruments, clock=context.clock)


def _listings() -> Any:
    from hybridbroker.brokers.dhan.instruments import listings

    return listings()


def _charges() -> Any:
    from hybridbroker.brokers.dhan.charges import ROWS
    from hybridbroker.simulation.statutory import schedule_with

    return schedule_with(ROWS, name="dhan")


async def _login(request: LoginRequest) -> LoginResult:
    from hybridbroker.brokers.dhan.login import login

    return await login(request)


async def _checks(context: OpenContext) -> Sequence[Check]:
    from hybridbroker.brokers.dhan.checks import checks

    return await checks(context)


PLUGIN = BrokerPlugin(
    name="dhan",
    title="Dhan",
    capabilities=CAPABILITIES | DATA_CAPABILITIES,
    settings=_settings,
    open_data=_open_data,
    open_broker=_open_broker,
    listings=_listings,
    charges=_charges,
    login=_login,
    checks=_checks,
)

SANDBOX = BrokerPlugin(
    name="dhan-sandbox",
    title="Dhan's sandbox",
    capabilities=SANDBOX_CAPABILITIES,
    settings=_sandbox_settings,
    open_broker=_open_sandbox,
    checks=_checks,
)
