"""Whether shares can leave the demat account: without a DDPI, only as many as were approved by T-PIN today.

Dhan takes the order all the same and the depository's refusal comes later, so it is told before
anything is sent. Shares that are not in the demat account (bought today or yesterday) need no
approval. Never in the way: where the profile, the approval or the account cannot be read within
three seconds, the order is sent.

Documented: https://dhanhq.co/docs/v2/edis/ ; that the approved quantity is the day's is documented,
whether it shrinks with what was sold is unconfirmed.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import date
from typing import Final
from urllib.parse import quote

import attrs

from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.orders.account_wire import EdisRow
from hybridbroker.brokers.dhan.orders.portfolio import DhanPortfolio
from hybridbroker.brokers.dhan.orders.rest import DhanRest
from hybridbroker.clock import IST, Clock
from hybridbroker.domain.instrument import Instrument, Segment
from hybridbroker.domain.orders import Product, Side
from hybridbroker.errors import HybridBrokerError, InvalidOrder

__all__ = ["DeliveryCheck", "EdisApproval"]

logger = logging.getLogger(__name__)

_PATIENCE: Final = 3.0
_PAUSE: Final = 60.0


@attrs.frozen(kw_only=True)
class EdisApproval:
    """How much of one share may leave the demat account today."""

    isin: str
    total: int
    approved: int


class DeliveryCheck:
    """Asks at most once a day whether a DDPI is active; only without one, what is approved."""

    def __init__(self, client: DhanClient, rest: DhanRest, *, portfolio: DhanPortfolio, clock: Clock) -> None:
        self._client = client
        self._rest = rest
        self._portfolio = portfolio
        self._clock = clock
        self._day: date | None = None
        self._ddpi = ""
        self._not_before = 0.0

    async def approval(self, isin: str) -> EdisApproval:
        """Return today's eDIS approval of one share."""
        path = f"/edis/inquire/{quote(isin, safe='')}"
        row = EdisRow.read(await self._client.read(path), what=f"GET {path}")
        return EdisApproval(isin=row.isin, total=row.total_qty, approved=row.aprvd_qty)

    async def check(self, instrument: Instrument, *, side: Side, product: Product, quantity: int) -> None:
        """Raise `InvalidOrder` for a sale that the depository would refuse, as far as can be told."""
        if side is not Side.SELL or product is not Product.DELIVERY or instrument.segment is not Segment.CASH:
            return
        if instrument.isin is None or self._clock.monotonic() < self._not_before:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                if await self._has_ddpi():
                    return
                needed = quantity - await self._undelivered(instrument)
                approved = (await self.approval(instrument.isin)).approved if needed > 0 else 0
        except (HybridBrokerError, TimeoutError) as exc:
            self._not_before = self._clock.monotonic() + _PAUSE
            logger.warning("sending a delivery sale without knowing whether it is approved: %s", exc or "no answer")
            return
        if needed > approved:
            raise InvalidOrder(
                f"selling {quantity} {instrument.id} from the demat account needs an eDIS approval of {needed}, and "
                f"{approved} are approved today (DDPI: {self._ddpi}); approve them with the T-PIN in Dhan's app, or "
                "sign the DDPI form at web.dhan.co once"
            )

    async def _has_ddpi(self) -> bool:
        today = self._clock.now().astimezone(IST).date()
        if today != self._day:
            told = (await self._rest.profile()).ddpi
            # A profile that does not tell is no reason to hold an order back.
            self._ddpi, self._day = "Active" if told is None else told.strip(), today
        return self._ddpi.lower() == "active"

    async def _undelivered(self, instrument: Instrument) -> int:
        """Return the units that can be sold without touching the demat account: bought today, or not yet delivered."""
        bought = [
            each.bought_quantity - each.sold_quantity
            for each in await self._portfolio.positions()
            if each.instrument == instrument and each.product is Product.DELIVERY
        ]
        coming = [
            each.unsettled_quantity
            for each in await self._portfolio.holdings()
            if each.instrument.isin == instrument.isin
        ]
        return max(0, sum(bought)) + sum(coming)
