"""Standing orders of a simulated exchange: what it promises of GTT, OCO and bracket orders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, OrderRequest, Validity
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import OrderRejected
from hybridbroker.simulation.brackets import BracketDesk
from hybridbroker.simulation.gtt import GttDesk

__all__ = ["StandingOrders"]


class StandingOrders(ABC):
    """The part of `SimulatedExchange` that keeps orders waiting for a price, for days.

    A trigger is judged on the last price of a tick, in session only; a single GTT order takes
    its side from the last price known when it was placed or changed, else from the first tick.
    What is reached becomes an ordinary day order, limit or protected market, by the same checks
    as any other: without shares or money the leg is `REJECTED` and says why. The first leg of an
    OCO order to be reached cancels the other at once, also when its own order is then rejected,
    rests, is filled in part only, or dies at the close; nothing is armed again. The order of a
    GTT carries the client order id of the GTT.

    The entry of a bracket is an ordinary day order, carries the bracket's client order id, and
    its id is the bracket's. Its exits are armed as it fills, for as many units as are filled and
    not closed. Reaching the target sends a limit order at it, and the stop stays armed; reaching
    the stop cancels what is left of the target and sends a protected market order. Either cancels
    what is left of the entry, and one that closes everything cancels the other, so that never
    more is closed than was opened. A trailing stop follows by whole steps of ``trail``, from the
    average price of the entry. Exits outlive the day, but those of intraday positions end with
    the squaring off. What the account does to the position by other orders is not seen.

    Nights change nothing; after 365 days what still waits is `EXPIRED`. Ids are counted.
    """

    def __init__(self) -> None:
        self._gtts = GttDesk(self, changed=self._note)
        self._brackets = BracketDesk(self, changed=self._note)
        self._standing_changes: dict[str, Gtt | Bracket] = {}
        self._standing_count = 0

    @abstractmethod
    def advance(self, *, at: datetime | None = None) -> list[Order]:
        """Let time pass; return the orders that changed."""

    @abstractmethod
    def submit(self, request: OrderRequest, *, at: datetime | None = None) -> Order:
        """Take an order, or return it refused."""

    @abstractmethod
    def modify(
        self,
        order_id: str,
        *,
        at: datetime | None = None,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an open order."""

    @abstractmethod
    def cancel(self, order_id: str, *, at: datetime | None = None) -> Order:
        """Cancel what is open of an order."""

    @abstractmethod
    def order(self, order_id: str) -> Order:
        """Return any order."""

    @abstractmethod
    def last_price(self, instrument: Instrument) -> Decimal | None:
        """Return the last price seen, or None before the first tick."""

    @abstractmethod
    def _now(self, at: datetime | None) -> datetime: ...

    @abstractmethod
    def _require_priced(self, instrument: Instrument) -> None: ...

    def place_gtt(self, request: GttOrder | OcoOrder, *, at: datetime | None = None) -> Gtt:
        """Leave a GTT or OCO order; neither money nor shares are asked for before its price comes.

        Raises:
            Unsupported: Charges are wanted, and those of its segment are not tabulated.
        """
        self._require_priced(request.instrument)
        now = self._now(at)
        self.advance(at=now)
        self._standing_count += 1
        return self._gtts.place(request, number=f"5{now:%y%m%d}{self._standing_count:06d}", now=now)

    def modify_gtt(
        self,
        gtt_id: str,
        *,
        at: datetime | None = None,
        quantity: int | None = None,
        quantity_of: LegRole | None = None,
        trigger: Trigger | None = None,
        target: Trigger | None = None,
        stop: Trigger | None = None,
    ) -> Gtt:
        """Change one of which nothing was sent yet; ``quantity`` is that of ``quantity_of``, of each leg without it.

        Raises:
            InvalidOrder: The new terms can never be right; nothing changed.
            OrderRejected: A leg was sent or has ended.
            OrderNotFound: No such GTT order.
        """
        self.advance(at=self._now(at))
        return self._gtts.modify(
            gtt_id, quantity=quantity, quantity_of=quantity_of, trigger=trigger, target=target, stop=stop
        )

    def cancel_gtt(self, gtt_id: str, *, at: datetime | None = None) -> Gtt:
        """Cancel what still waits; one that was sent or has ended is returned unchanged.

        Raises:
            OrderNotFound: No such GTT order.
        """
        self.advance(at=self._now(at))
        return self._gtts.cancel(gtt_id)

    def gtt(self, gtt_id: str) -> Gtt:
        """Return any GTT order, live or ended; raise `OrderNotFound`."""
        return self._gtts[gtt_id]

    def gtts(self) -> list[Gtt]:
        """Return every GTT order ever placed, oldest first."""
        return list(self._gtts)

    def find_gtt(self, client_order_id: str) -> Gtt | None:
        """Return the newest with this client order id, or None."""
        return next((each for each in reversed(self.gtts()) if each.client_order_id == client_order_id), None)

    def place_bracket(self, request: BracketOrder, *, at: datetime | None = None) -> Bracket:
        """Send an entry with its exits; it may come back filled and its exits armed.

        Raises:
            OrderRejected: The entry was refused; the bracket stays in the book as ended.
            Unsupported: Charges are wanted, and those of its segment are not tabulated.
        """
        bracket = self.submit_bracket(request, at=at)
        entry = bracket.legs[0]
        if entry.status is LegStatus.REJECTED:
            raise OrderRejected(entry.reason or "rejected")
        return bracket

    def submit_bracket(self, request: BracketOrder, *, at: datetime | None = None) -> Bracket:
        """As `place_bracket`, but return a refused one instead of raising."""
        return self._brackets.place(request, now=self._now(at))

    def modify_bracket(
        self,
        bracket_id: str,
        *,
        at: datetime | None = None,
        quantity: int | None = None,
        price: Decimal | None = None,
        target_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail: Decimal | None = None,
    ) -> Bracket:
        """Change what waits: terms of an entry until it is filled, of an exit until it is sent; ``trail`` 0 ends that.

        Raises:
            InvalidOrder: The new terms can never be right; nothing changed.
            OrderRejected: It is too late for one of them; nothing changed.
            OrderNotFound: No such bracket.
        """
        now = self._now(at)
        self.advance(at=now)
        return self._brackets.modify(
            bracket_id,
            now=now,
            quantity=quantity,
            price=price,
            target_price=target_price,
            stop_price=stop_price,
            trail=trail,
        )

    def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY, at: datetime | None = None) -> Bracket:
        """Cancel one leg for good, and with the entry all others; ended legs stay as they are.

        Raises:
            OrderNotFound: No such bracket.
        """
        now = self._now(at)
        self.advance(at=now)
        return self._brackets.cancel(bracket_id, leg, now=now)

    def bracket(self, bracket_id: str) -> Bracket:
        """Return any bracket, live or ended; raise `OrderNotFound`."""
        return self._brackets[bracket_id]

    def brackets(self) -> list[Bracket]:
        """Return every bracket ever placed, refused ones included, oldest first."""
        return list(self._brackets)

    def find_bracket(self, client_order_id: str) -> Bracket | None:
        """Return the newest with this client order id, or None."""
        return next((each for each in reversed(self.brackets()) if each.client_order_id == client_order_id), None)

    def standing_changes(self) -> Sequence[Gtt | Bracket]:
        """Return what changed since this was last asked, each once and as it stands now, and forget it."""
        changed, self._standing_changes = list(self._standing_changes.values()), {}
        return changed

    def _note(self, standing: Gtt | Bracket) -> None:
        self._standing_changes[standing.id] = standing

    def _review_standing(self) -> None:
        """Bring the legs to where their orders are; after anything that may have changed orders."""
        self._gtts.review()
        self._brackets.review()

    def _square_off_standing(self) -> None:
        """Follow the orders that the squaring off or the close ended, and disarm what protected closed positions."""
        self._review_standing()
        self._brackets.close_intraday()

    def _waits(self, instrument: Instrument) -> bool:
        """Say whether any standing order of it is live."""
        return self._gtts.waits(instrument) or self._brackets.waits(instrument)

    def _is_near(self, instrument: Instrument, price: float) -> bool:
        """Say whether a tick at ``price`` may change any standing order."""
        return self._gtts.is_near(instrument, price) or self._brackets.is_near(instrument, price)

    @property
    def _has_standing(self) -> bool:
        """Say whether any standing order is live."""
        return self._gtts.has_live or self._brackets.has_live

    def _judge_standing(self, instrument: Instrument, now: datetime) -> list[Order]:
        """Send what the last price reaches; return the orders that changed."""
        last = self.last_price(instrument)
        if last is None:
            return []
        changed = self._gtts.judge(instrument, last, now) + self._brackets.judge(instrument, last, now)
        return [self.order(each) for each in dict.fromkeys(order.id for order in changed)]

    def _expire_standing(self, now: datetime) -> None:
        self._gtts.expire(now)
        self._brackets.expire(now)
