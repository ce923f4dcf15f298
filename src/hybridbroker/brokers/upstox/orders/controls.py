"""Switches and conversions: closing everything, refusing all orders, holding a position another way."""

from __future__ import annotations

import logging
from typing import Final

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.batch import Batch, batch_from_wire
from hybridbroker.brokers.upstox.orders.book import NAME, Book
from hybridbroker.brokers.upstox.orders.mapping import PRODUCT, SIDE
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.brokers.upstox.orders.terms import check_instrument, check_product
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Product, Side
from hybridbroker.errors import (
    HybridBrokerError,
    InvalidOrder,
    NotSent,
    OrderRejected,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.protocols import InstrumentLookup

__all__ = ["Controls"]

logger = logging.getLogger(__name__)

_NOTHING_OPEN: Final = "UDAPI1111"
_UNREAD: Final = (ReplyLost, ServiceUnavailable, RateLimited, WireFormatError)


class Controls:
    """Writes to the account as a whole."""

    def __init__(self, rest: UpstoxOrderRest, *, book: Book, instruments: InstrumentLookup) -> None:
        self._rest = rest
        self._book = book
        self._instruments = instruments

    async def exit_all(self, *, tag: str | None, segment: str | None) -> Batch:
        """Close all positions."""
        try:
            return batch_from_wire(await self._rest.exit_all(tag=tag, segment=segment))
        except OrderRejected as refused:
            if refused.code != _NOTHING_OPEN or await self._still_open(refused, segment=segment, tag=tag):
                raise
        return Batch()

    async def _still_open(self, refused: OrderRejected, *, segment: str | None, tag: str | None) -> bool:
        if tag is not None:
            return False  # positions do not tell whose they are
        try:
            rows = await self._rest.positions()
        except HybridBrokerError as exc:
            raise refused from exc
        return any(row.quantity and segment in (None, row.instrument_key.partition("|")[0]) for row in rows)

    async def killed(self) -> bool:
        """Say whether the switch is on in every active segment."""
        active = _active(await self._rest.kill_switch())
        return bool(active) and all(row.kill_switch_enabled for row in active)

    async def kill(self, *, active: bool) -> None:
        """Turn the switch on in every active segment, or off where it is on."""
        try:
            rows = await self._rest.kill_switch()
        except _UNREAD as exc:
            raise NotSent(f"the kill switch was not set, since it could not be read before: {exc}") from exc
        # Turned on everywhere, be it on already: what the flag means was never seen on a live account.
        segments = [row.segment for row in (_active(rows) if active else rows) if active or row.kill_switch_enabled]
        if not segments:
            if active:
                raise OrderRejected("Upstox names no segment that could be stopped")
            return
        await self._rest.set_kill_switch(segments, action="DISABLE" if active else "ENABLE")
        logger.warning("setting Upstox's kill switch takes effect once a new token is made: log in again")

    async def convert(
        self, instrument: Instrument, *, side: Side, quantity: int, from_product: Product, to_product: Product
    ) -> None:
        """Convert units of a position."""
        check_instrument(instrument)
        for product in (from_product, to_product):
            check_product(product, instrument)
        if PRODUCT[from_product] == PRODUCT[to_product]:
            raise InvalidOrder(f"the position is held as {from_product.value} already")
        if quantity <= 0 or quantity % instrument.lot_size:
            raise InvalidOrder(
                f"quantity must be a positive multiple of the lot size {instrument.lot_size}, was {quantity}"
            )
        body = {
            "instrument_token": self._instruments.key(instrument, NAME).id,
            "new_product": PRODUCT[to_product],
            "old_product": PRODUCT[from_product],
            "transaction_type": SIDE[side],
            "quantity": quantity,
        }
        what = f"the conversion of {quantity} {instrument.id}"
        await self._rest.convert(body, what=what, subject=instrument.id)


def _active(rows: list[wire.KillSwitchRow]) -> list[wire.KillSwitchRow]:
    """Return the segments of the account; one that was stopped may no longer be called active."""
    return [row for row in rows if row.kill_switch_enabled or (row.segment_status or "ACTIVE").upper() == "ACTIVE"]
