"""Acme Securities, an invented broker, as a plugin: `PLUGIN`; the rest is imported when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridbroker import BrokerPlugin, Capability, OpenContext

if TYPE_CHECKING:
    from hybridbroker_acme.broker import AcmeBroker

__all__ = ["CAPABILITIES", "PLUGIN"]

CAPABILITIES = (
    Capability.LIMIT_ORDERS
    | Capability.MARKET_ORDERS
    | Capability.ORDER_BOOK
    | Capability.PORTFOLIO
    | Capability.FILLS
    | Capability.LIVE_MONEY
)
"""No stop orders and no update stream: hybridbroker polls the book instead."""


def _settings() -> Any:
    from hybridbroker_acme.settings import read_settings

    return read_settings()


def _open_broker(context: OpenContext) -> AcmeBroker:
    from hybridbroker_acme.broker import AcmeBroker

    return AcmeBroker(context.settings or _settings(), instruments=context.instruments, clock=context.clock)


PLUGIN = BrokerPlugin(
    name="acme",
    title="Acme Securities",
    capabilities=CAPABILITIES,
    settings=_settings,
    open_broker=_open_broker,
)
