"""DhanSandboxBroker: a `DhanBroker` at the sandbox, with what the sandbox can do."""

from __future__ import annotations

from hybridbroker.brokers.dhan import SANDBOX_CAPABILITIES
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.sandbox import refuse_live
from hybridbroker.brokers.dhan.settings import DhanSettings

__all__ = ["DhanSandboxBroker"]


class DhanSandboxBroker(DhanBroker):
    """As `DhanBroker`, without money: orders are accepted and never trade.

    It takes settings of the sandbox only (`DhanSettings.for_sandbox`). What the sandbox lacks is
    refused with `Unsupported`; delivery sales are not checked for approval.
    """

    name = "dhan-sandbox"
    capabilities = SANDBOX_CAPABILITIES

    def _check(self, settings: DhanSettings) -> None:
        refuse_live(settings)
