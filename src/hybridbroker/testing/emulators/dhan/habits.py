"""What the emulated Dhan does differently on demand: choices between readings, and things that go wrong."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Literal

import attrs

__all__ = ["DhanHabits"]


@attrs.define(kw_only=True)
class DhanHabits:
    """Each may be changed at any time; what is said of the broker is documented unless marked otherwise."""

    single_as_array: bool = True
    """Answer one order as an array of one (recorded), or as the bare object of the documentation."""
    trade_as_object: bool = False
    """Answer the only trade of an order as a bare object (documented), or as an array of one (recorded)."""
    missing_status: int = 404
    """HTTP status for a correlation id that is unknown or in transit (measured: 404)."""
    accepted_status: int = 200
    """HTTP status of accepted orders; 201 was seen too."""
    cancelled_status: int = 200
    """HTTP status of accepted cancellations; documented as 202, observed as 200."""
    refuse_address: Literal["DH-905", "DH-911"] | None = None
    """Refuse order writes for their IP address, with this code (DH-905 measured, DH-911 unconfirmed)."""
    refuse_poor_at_once: bool = False
    """Refuse an order that lacks money in the reply (recorded in 2026), not later in the book."""
    enforce_limits: bool = False
    """Answer 429 beyond the documented rates, in real time."""
    market_orders_rest: bool = False
    """Let price protection miss: a market order becomes a limit order that nobody meets (reported)."""
    stop_market: Literal["waits", "fires", "refused"] = "waits"
    """What ``STOP_LOSS_MARKET`` does: wait as documented, or what was reported live: trade at once as a limit
    order 5 % through, or be refused."""
    liquidity: int | None = None
    """Units that anyone offers at each instant, at the best price; None is the market's own depth."""
    rejections: deque[str] = attrs.field(factory=deque)
    """Reasons by which the exchange rejects the next orders to arrive, told only in the book and the updates."""
    update_keys: Literal["camel", "pascal", "mixed"] = "camel"
    """Spelling of the order updates' keys: production's, the documentation's, or every other one."""
    update_statuses: Literal["title", "upper"] = "title"
    part_traded_as: str = "PENDING"
    """Status of a part-filled order in the updates before it is spelt (unconfirmed: ``PART_TRADED``)."""
    postback_url: str | None = None
    """Where a POST goes at every change of an order; the real Dhan takes no loopback address."""
    ddpi: bool = True
    """Whether delivery stock can be sold without a T-PIN."""
    approved: dict[str, int] = attrs.field(factory=dict)
    """Units by ISIN that were approved with the T-PIN today."""
    oco_first_leg: Literal["TARGET_LEG", "STOP_LOSS_LEG"] = "TARGET_LEG"
    """What the book calls an OCO order's first set of fields; the documentation says both."""
    single_leg: Literal["ENTRY_LEG", "TARGET_LEG"] = "ENTRY_LEG"
    """What the book calls the leg of a single forever order; the documentation says both."""
    quantity_key: Literal["totalQuatity", "totalQuantity"] = "totalQuatity"
    """Spelling in the legs of super orders (unconfirmed)."""
    super_cancel_body: bool = True
    """Whether cancelling a super order's leg is answered with JSON, or by 202 without a body."""
    pnl_as_numbers: bool = False
    """Whether ``GET /pnlExit`` tells numbers and camelCase, or the text and snake_case of the older page."""
    margin_style: Literal["camel", "snake"] = "camel"
    """Whether ``/margincalculator/multi`` answers camelCase numbers or snake_case text."""
    ledger_as_array: bool = True
    """Answer the ledger as an array (recorded), or as one object (documented)."""
    history_page: int = 20
    """Rows of a page of the trade history (unconfirmed)."""
    sandbox_stubs: bool = False
    """Whether the sandbox answers funds, positions and trades with 500, as it did on one day of 2026 (measured)."""
    circuit: Decimal = Decimal("0.1")
    """How far from the previous close the sandbox's circuit limits lie."""
