"""What worker processes of the sweep tests import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backtest_kit import Scripted
from simulated import ACME

from hybridbroker.domain.orders import MarketOrder, Side


def make(parameters: Mapping[str, Any]) -> Scripted:
    """Buys ``units`` after bar ``at``, sells them after the next."""
    units, at = parameters["units"], parameters["at"]
    if units < 0:
        raise ValueError("units")
    return Scripted(
        {
            at: [MarketOrder(ACME, Side.BUY, quantity=units)],
            at + 1: [MarketOrder(ACME, Side.SELL, quantity=units)],
        }
    )
