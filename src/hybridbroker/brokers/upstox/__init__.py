"""Upstox (https://upstox.com/developer/api-documentation/) as a broker: `PLUGIN`; the rest is imported when opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hybridbroker.plugins import BrokerPlugin, Check, OpenContext
from hybridbroker.protocols import Capability

if TYPE_CHECKING:
    from hybridbroker.brokers.upstox.market_data import UpstoxMarketData

__all__ = ["CAPABILITIES", "PLUGIN"]

CAPABILITIES: Final = (
    Capability.QUOTES | Capability.CANDLES | Capability.TICKS | Capability.FULL_MODE | Capability.OPTION_GREEKS
)
"""What `UpstoxMarketData` can do on every plan; Upstox Plus adds depth of thirty levels."""


def _settings() -> Any:
    from hybridbroker.brokers.upstox.settings import read_settings

    return read_settings()


def _open_data(context: OpenContext) -> UpstoxMarketData:
    from hybridbroker.brokers.upstox.auth import SettingsToken
    from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
    from hybridbroker.brokers.upstox.settings import read_settings

    if context.settings is not None:
        return UpstoxMarketData(context.settings, instruments=context.instruments, clock=context.clock)
    # Read anew for each connection: a token written to .env at night reaches a stream that is running.
    tokens = SettingsToken(read_settings, clock=context.clock)
    return UpstoxMarketData(read_settings(), instruments=context.instruments, clock=context.clock, tokens=tokens)


def _listings() -> Any:
    from hybridbroker.brokers.upstox.instruments import listings

    return listings()


def _charges() -> Any:
    from hybridbroker.brokers.upstox.charges import ROWS
    from hybridbroker.simulation.statutory import schedule_with

    return schedule_with(ROWS, name="upstox")


async def _checks(context: OpenContext) -> Sequence[Check]:
    from hybridbroker.brokers.upstox.checks import checks

    return await checks(context)


PLUGIN = BrokerPlugin(
    name="upstox",
    title="Upstox",
    capabilities=CAPABILITIES,
    settings=_settings,
    open_data=_open_data,
    listings=_listings,
    charges=_charges,
    checks=_checks,
)
