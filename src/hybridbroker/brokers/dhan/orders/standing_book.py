"""What super and forever orders have in common: found by id or name, changed after a look, cancelled and looked at."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import attrs

from hybridbroker.domain.standing import Bracket, Gtt, LegStatus
from hybridbroker.errors import (
    HybridBrokerError,
    NotSent,
    OrderNotFound,
    OrderRejected,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)

__all__ = ["StandingBook", "also_done"]

logger = logging.getLogger(__name__)

S = TypeVar("S", Gtt, Bracket)

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


class StandingBook(Generic[S]):
    """Dhan's list of one kind of standing orders, and each as it was last seen.

    Whether Dhan's lists tell the client order id is unconfirmed, so those of orders placed
    through this object are remembered.
    """

    def __init__(self, read: Callable[[], Awaitable[Sequence[S]]], *, noun: str) -> None:
        self._read: Callable[[], Awaitable[Sequence[S]]] = read
        self._noun = noun
        self._seen: dict[str, S] = {}

    def note(self, standing: S) -> None:
        """Remember one as it was just seen."""
        self._seen[standing.id] = standing

    async def all(self) -> list[S]:
        """Return what Dhan shows, oldest first; a row that cannot be read fails the call."""
        found = [self._named(each) for each in await self._read()]
        for each in found:
            self.note(each)
        return sorted(found, key=lambda each: each.placed_at or _BEGINNING)

    async def one(self, standing_id: str) -> S:
        """Return one; raise `OrderNotFound`."""
        found = next((each for each in await self.all() if each.id == standing_id), None)
        if found is None:
            raise OrderNotFound(f"Dhan shows no {self._noun} order {standing_id[:40]}")
        return found

    async def find(self, client_order_id: str) -> S | None:
        """Return the newest that carries this client order id, as far as Dhan tells or this object remembers."""
        found = [each for each in await self.all() if each.client_order_id == client_order_id]
        return found[-1] if found else None

    async def before_change(self, standing_id: str) -> S:
        """Return one that is to be changed; a read that fails is `NotSent`, since nothing was changed."""
        try:
            return await self.one(standing_id)
        except (ReplyLost, ServiceUnavailable, WireFormatError) as exc:
            raise NotSent(
                f"{self._noun} order {standing_id} was not changed, since it could not be read before: {exc}"
            ) from exc

    async def cancel(self, standing_id: str, send: Callable[[], Awaitable[object]], *, over: Callable[[S], bool]) -> S:
        """Send one cancellation and return the order as Dhan shows it afterwards.

        Where it cannot be read back, it is as last seen with the live legs ``UNKNOWN``. One that was
        ``over`` already, which Dhan refuses to cancel, is returned as it is.
        """
        if not (standing_id.isascii() and standing_id.isalnum()):
            raise OrderNotFound(f"Dhan's order ids are digits; {standing_id[:40]!r} is none")
        try:
            await send()
        except OrderRejected as refused:
            return await self._over_already(standing_id, refused, over=over)
        try:
            return await self.one(standing_id)
        except HybridBrokerError as exc:
            known = self._seen.get(standing_id)
            if known is None:
                raise ReplyLost(
                    f"the cancellation of {self._noun} order {standing_id} was acknowledged, but it could not be "
                    f"read back: {exc}"
                ) from exc
            logger.warning("%s order %s was cancelled, but could not be read back: %s", self._noun, standing_id, exc)
            return _unsure(known)

    async def _over_already(self, standing_id: str, refused: OrderRejected, *, over: Callable[[S], bool]) -> S:
        try:
            found = await self.one(standing_id)
        except OrderNotFound as exc:
            raise exc from refused
        except HybridBrokerError as exc:
            raise refused from exc
        if not over(found):
            raise refused
        return found

    def _named(self, standing: S) -> S:
        known = self._seen.get(standing.id)
        if standing.client_order_id is not None or known is None:
            return standing
        return attrs.evolve(standing, client_order_id=known.client_order_id)


def _unsure(standing: S) -> S:
    legs = tuple(attrs.evolve(leg, status=LegStatus.UNKNOWN) if leg.is_live else leg for leg in standing.legs)
    return attrs.evolve(standing, legs=legs)


def also_done(error: HybridBrokerError, done: Sequence[str]) -> HybridBrokerError:
    """Return ``error``, its message telling what had been done before it."""
    if done:
        told = f"; changed before that: {', '.join(done)}"
        error.args = (f"{error}{told}", *error.args[1:])
        if isinstance(error, OrderRejected):
            error.reason += told
    return error
