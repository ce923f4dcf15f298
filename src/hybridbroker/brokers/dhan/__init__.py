"""Dhan (https://dhanhq.co/docs/v2/) as a broker: `PLUGIN`; the rest is imported when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hybridbroker.plugins import BrokerPlugin, Check, OpenContext
from hybridbroker.protocols import Capability

if TYPE_CHECKING:
    from hybridbroker.brokers.dhan.broker import DhanBroker

__all__ = ["CAPABILITIES", "PLUGIN"]

CAPABILITIES: Final = (
    Capability.MARKET_ORDERS
    | Capability.LIMIT_ORDERS
    | Capability.STOP_LIMIT_ORDERS
    | Capability.AFTER_MARKET_ORDERS
    | Capability.IOC
    | Capability.ORDER_UPDATES
    | Capability.ORDER_BOOK
    | Capability.PORTFOLIO
    | Capability.FILLS
    | Capability.LIVE_MONEY
)
"""What `DhanBroker` can do; stop-market orders are left out because Dhan's are unsafe."""


def _settings() -> Any:
    from hybridbroker.brokers.dhan.settings import read_settings

    return read_settings()


def _open_broker(context: OpenContext) -> DhanBroker:
    from hybridbroker.brokers.dhan.broker import DhanBroker

    settings = context.settings or _settings()
    return DhanBroker(settings, instruments=context.instruments, clock=context.clock)


def _listings() -> Any:
    from hybridbroker.brokers.dhan.instruments import listings

    return listings()


def _charges() -> Any:
    from hybridbroker.brokers.dhan.charges import ROWS
    from hybridbroker.simulation.statutory import schedule_with

    return schedule_with(ROWS, name="dhan")


async def _checks(context: OpenContext) -> Sequence[Check]:
    from hybridbroker.brokers.dhan.checks import checks

    return await checks(context)


PLUGIN = BrokerPlugin(
    name="dhan",
    title="Dhan",
    capabilities=CAPABILITIES,
    settings=_settings,
    open_broker=_open_broker,
    listings=_listings,
    charges=_charges,
    checks=_checks,
)
