"""Standing orders of one account: placed, changed, cancelled and read."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar

import attrs

from hybridbroker.brokers.upstox.orders import standing, wire
from hybridbroker.brokers.upstox.orders.book import NAME, Book, check_id
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.clock import Clock
from hybridbroker.domain.standing import (
    Bracket,
    BracketOrder,
    Crossing,
    Gtt,
    GttOrder,
    Leg,
    LegRole,
    LegStatus,
    OcoOrder,
    Trigger,
)
from hybridbroker.errors import (
    HybridBrokerError,
    InvalidOrder,
    NotSent,
    OrderNotFound,
    OrderRejected,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    Unsupported,
    WireFormatError,
)
from hybridbroker.protocols import InstrumentLookup

__all__ = ["GttDesk"]

logger = logging.getLogger(__name__)

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_UNREAD: Final = (ReplyLost, ServiceUnavailable, RateLimited, WireFormatError)
S = TypeVar("S", Gtt, Bracket)
T = TypeVar("T")


class GttDesk:
    """Keeps the client ids of the standing orders it placed: Upstox keeps none."""

    def __init__(
        self,
        rest: UpstoxOrderRest,
        *,
        book: Book,
        instruments: InstrumentLookup,
        clock: Clock,
        market_protection: Decimal,
    ) -> None:
        self._rest = rest
        self._book = book
        self._instruments = instruments
        self._clock = clock
        self._protection = market_protection
        self._names: dict[str, str] = {}

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        """Place one; where the request does not say from which side the market comes, the last price is read."""
        if isinstance(request, OcoOrder):
            raise Unsupported(
                "Upstox has no OCO order for shares that are held already, every GTT order needs an entry: "
                "place a stop order for the day, or a BracketOrder when entering"
            )
        now = self._clock.now()
        request = request.named(now)
        assert request.client_order_id is not None  # noqa: S101 - named above
        key = self._instruments.key(request.instrument, NAME)
        # Written once with any side, so that what Upstox can never take costs no reading.
        standing.gtt_to_wire(request, key=key, crossing=Crossing.ABOVE, market_protection=self._protection)
        crossing = request.crossing or await self._crossing(request, key.id)
        body = standing.gtt_to_wire(request, key=key, crossing=crossing, market_protection=self._protection)
        gtt_id = await self._rest.place_gtt(body, client_order_id=request.client_order_id)
        self._names[gtt_id] = request.client_order_id
        return standing.gtt_from_request(gtt_id, request, at=now)

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        """Place one."""
        now = self._clock.now()
        request = request.named(now)
        assert request.client_order_id is not None  # noqa: S101 - named above
        key = self._instruments.key(request.instrument, NAME)
        body = standing.bracket_to_wire(request, key=key, market_protection=self._protection)
        gtt_id = await self._rest.place_gtt(body, client_order_id=request.client_order_id)
        self._names[gtt_id] = request.client_order_id
        return standing.bracket_from_request(gtt_id, request, at=now)

    async def modify_gtt(self, gtt_id: str, *, quantity: int | None, trigger: Trigger | None) -> Gtt:
        """Change one: a read, one write that states every rule anew, and a read of what came of it."""
        row = await self._before(gtt_id, bracket=False)
        if trigger is not None and trigger.price is not None:
            raise Unsupported("Upstox's GTT orders take no limit of their own; leave Trigger.price out")
        price = None if trigger is None else trigger.trigger_price
        changed = await self._change(row, quantity=quantity, prices={LegRole.ENTRY: price}, trail=None)
        return _of(Gtt, changed)

    async def modify_bracket(
        self,
        bracket_id: str,
        *,
        quantity: int | None,
        price: Decimal | None,
        target_price: Decimal | None,
        stop_price: Decimal | None,
        trail: Decimal | None,
    ) -> Bracket:
        """Change one, all legs in one write; as `modify_gtt`."""
        row = await self._before(bracket_id, bracket=True)
        prices = {LegRole.ENTRY: price, LegRole.TARGET: target_price, LegRole.STOP: stop_price}
        return _of(Bracket, await self._change(row, quantity=quantity, prices=prices, trail=trail))

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        """Cancel one; one that has ended is returned as it is."""
        return _of(Gtt, await self._cancel(gtt_id, bracket=False))

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole) -> Bracket:
        """Cancel one as a whole."""
        if leg is not LegRole.ENTRY:
            raise Unsupported(
                f"Upstox cancels a bracket as a whole, not its {leg.value} alone; move the {leg.value} with "
                "modify_bracket, or cancel with leg=LegRole.ENTRY"
            )
        return _of(Bracket, await self._cancel(bracket_id, bracket=True))

    async def gtts(self) -> list[Gtt]:
        """Return all single ones, oldest first."""
        return [each for each in await self._all() if isinstance(each, Gtt)]

    async def brackets(self) -> list[Bracket]:
        """Return all that have exits, oldest first."""
        return [each for each in await self._all() if isinstance(each, Bracket)]

    async def find(self, client_order_id: str, kind: type[S]) -> S | None:
        """Return the one this object placed by that name."""
        gtt_id = next((gtt_id for gtt_id, name in self._names.items() if name == client_order_id), None)
        if gtt_id is None:
            return None
        rows = [row for row in await self._rest.gtts(gtt_id) if row.gtt_order_id == gtt_id]
        found = self.read(rows[0]) if rows else None
        return found if isinstance(found, kind) else None

    def read(self, row: wire.GttRow) -> Gtt | Bracket:
        """Return what a row or a message of the stream says."""
        instrument = self._book.instrument(row.instrument_key, exchange=row.exchange, symbol=row.trading_symbol)
        return standing.standing_from_wire(
            row, instrument=instrument, client_order_id=self._names.get(row.gtt_order_id)
        )

    async def _all(self) -> list[Gtt | Bracket]:
        found = [self.read(row) for row in await self._rest.gtts()]
        return sorted(found, key=lambda each: each.placed_at or _BEGINNING)

    async def _crossing(self, request: GttOrder, key: str) -> Crossing:
        last = await _before_writing(lambda: self._rest.last_price(key), what="the GTT order was not placed")
        if last is None:
            raise InvalidOrder(
                f"{request.instrument.id} has no last price to tell from which side the market comes; "
                "give the GttOrder a crossing"
            )
        above = request.trigger.trigger_price >= Decimal(str(last))
        return Crossing.ABOVE if above else Crossing.BELOW

    async def _row(self, gtt_id: str) -> wire.GttRow:
        check_id(gtt_id)
        row = next((each for each in await self._rest.gtts(gtt_id) if each.gtt_order_id == gtt_id), None)
        if row is None:
            raise OrderNotFound(f"Upstox shows no GTT order {gtt_id}")
        return row

    async def _before(self, gtt_id: str, *, bracket: bool) -> wire.GttRow:
        row = await _before_writing(lambda: self._row(gtt_id), what=f"GTT order {gtt_id} was not changed")
        if standing.is_bracket(row) is not bracket:
            kind, call = ("bracket", "a bracket's") if not bracket else ("GTT", "a GTT's")
            raise OrderNotFound(f"{gtt_id} is a {kind} order; use {call} own calls")
        return row

    async def _change(
        self, row: wire.GttRow, *, quantity: int | None, prices: dict[LegRole, Decimal | None], trail: Decimal | None
    ) -> Gtt | Bracket:
        before = self.read(row)
        if quantity is None and trail is None and all(price is None for price in prices.values()):
            return before
        rules = standing.changed_rules(row, instrument=before.instrument, prices=prices, trail=trail)
        body = standing.modification_to_wire(row, quantity=quantity, rules=rules, market_protection=self._protection)
        _check_lots(before, quantity)
        await self._rest.modify_gtt(row.gtt_order_id, body)
        wanted = row.model_copy(update={"rules": rules, "quantity": body["quantity"]})
        return await self._after(row.gtt_order_id, self.read(wanted))

    async def _cancel(self, gtt_id: str, *, bracket: bool) -> Gtt | Bracket:
        before = self.read(await self._before(gtt_id, bracket=bracket))
        if not before.is_live and all(leg.status is not LegStatus.UNKNOWN for leg in before.legs):
            return before
        try:
            await self._rest.cancel_gtt(gtt_id)
        except OrderRejected:
            now = await self._after(gtt_id, before)
            if now.is_live or any(leg.status is LegStatus.UNKNOWN for leg in now.legs):
                raise
            return now
        return await self._after(gtt_id, before)

    async def _after(self, gtt_id: str, wanted: Gtt | Bracket) -> Gtt | Bracket:
        """Return what Upstox shows after a write; where it cannot be read, no leg's status is known."""
        try:
            return self.read(await self._row(gtt_id))
        except HybridBrokerError as exc:
            logger.warning("GTT order %s was written, but could not be read back: %s", gtt_id, exc)
        return attrs.evolve(wanted, legs=tuple(_unknown(leg) for leg in wanted.legs))


def _unknown(leg: Leg) -> Leg:
    return attrs.evolve(leg, status=LegStatus.UNKNOWN, raw="")


def _check_lots(before: Gtt | Bracket, quantity: int | None) -> None:
    lot = before.instrument.lot_size
    if quantity is not None and (quantity <= 0 or quantity % lot):
        raise InvalidOrder(f"quantity must be a positive multiple of the lot size {lot}, was {quantity}")


def _of(kind: type[S], found: Gtt | Bracket) -> S:
    if not isinstance(found, kind):
        raise OrderNotFound(f"{found.id} is no {kind.__name__} order any more")
    return found


async def _before_writing(read: Callable[[], Awaitable[T]], *, what: str) -> T:
    """Return what has to be known before a write; where it cannot be read, nothing was written."""
    try:
        return await read()
    except _UNREAD as exc:
        # Passed on as it is, it would look like the lost answer to a write that was made.
        raise NotSent(f"{what}, since it could not be read before: {exc}") from exc
