"""Orders that wait at the broker for a price, for days: GTT ("forever") orders and bracket orders."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Self

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import is_aware
from hybridbroker.domain.orders import (
    LimitOrder,
    Product,
    Side,
    make_client_order_id,
    optional_rupees,
    rupees,
    to_product,
    to_side,
)
from hybridbroker.errors import InvalidOrder

__all__ = [
    "Bracket",
    "BracketOrder",
    "Crossing",
    "Gtt",
    "GttOrder",
    "Leg",
    "LegRole",
    "LegStatus",
    "OcoOrder",
    "Trigger",
]


class Crossing(StrEnum):
    """Which way the market has to go to reach a trigger price."""

    ABOVE = "above"
    """The last price rises to the trigger, or is there already."""
    BELOW = "below"
    """The last price falls to the trigger, or is there already."""


class LegRole(StrEnum):
    """What one leg is for."""

    ENTRY = "entry"
    """The order itself: the only leg of a single GTT, the opening one of a bracket."""
    TARGET = "target"
    """Closes with a profit."""
    STOP = "stop"
    """Closes with a loss."""


class LegStatus(StrEnum):
    """Where one leg is in its life."""

    INACTIVE = "inactive"
    """Waits for another leg to be filled."""
    ARMED = "armed"
    """Waits for its price."""
    SENT = "sent"
    """Its price came and its order is at the broker or at the exchange; the order may still rest or be rejected."""
    FILLED = "filled"
    CANCELLED = "cancelled"
    """By the account, or because the other leg came first."""
    REJECTED = "rejected"
    """Its order was refused when its price came; nothing protects the position any more."""
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """The broker said something nobody documented; its words are in ``Leg.raw``."""


@attrs.frozen
class Trigger:
    """A price to wait for, and the limit of the order that is sent then."""

    trigger_price: Decimal = attrs.field(converter=rupees)
    """Rupees per unit."""
    price: Decimal | None = attrs.field(default=None, converter=optional_rupees, kw_only=True)
    """Limit, rupees per unit; None sends a market order, which brokers turn into a protected limit."""


@attrs.frozen
class _StandingOrder:
    """What GTT and bracket orders have in common; quantities, prices and the name are checked as an order's."""

    instrument: Instrument
    side: Side = attrs.field(converter=to_side)
    quantity: int = attrs.field(kw_only=True)
    """Units of each leg."""
    product: Product = attrs.field(kw_only=True, default=Product.DELIVERY, converter=to_product)
    client_order_id: str | None = attrs.field(kw_only=True, default=None)
    """The caller's name for it; made before sending where it is None, and lost at brokers that keep none."""

    def named(self, now: datetime) -> Self:
        """Return the request with a client order id: its own, or a fresh one."""
        if self.client_order_id is not None:
            return self
        return attrs.evolve(self, client_order_id=make_client_order_id(now))

    def _check(self, price: Decimal, *, side: Side | None = None) -> None:
        """Raise what a limit order of these terms would."""
        LimitOrder(
            self.instrument,
            side or self.side,
            quantity=self.quantity,
            price=price,
            product=self.product,
            client_order_id=self.client_order_id,
        )

    def _check_trigger(self, trigger: Trigger) -> None:
        self._check(trigger.trigger_price)
        if trigger.price is not None:
            self._check(trigger.price)


@attrs.frozen
class GttOrder(_StandingOrder):
    """One order, sent once the market reaches ``trigger``; it waits up to a year.

    Raises:
        InvalidOrder: The order can never be right; the message says what to change.
    """

    trigger: Trigger = attrs.field(kw_only=True)
    crossing: Crossing | None = attrs.field(kw_only=True, default=None)
    """From which side the market comes; None leaves it to the broker, which looks at the price when it is placed."""

    def __attrs_post_init__(self) -> None:
        self._check_trigger(self.trigger)


@attrs.frozen
class OcoOrder(_StandingOrder):
    """Two orders of one side, of which the first to be reached cancels the other: target and stop of a position.

    ``side`` is the side of both: SELL protects shares that are held.

    Raises:
        InvalidOrder: The order can never be right, such as a target on the stop's side.
    """

    target: Trigger = attrs.field(kw_only=True)
    stop: Trigger = attrs.field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._check_trigger(self.target)
        self._check_trigger(self.stop)
        if (self.target.trigger_price - self.stop.trigger_price) * self.side.sign >= 0:
            relation = "above" if self.side is Side.SELL else "below"
            raise InvalidOrder(
                f"the target of a {self.side} OCO order must be {relation} its stop: "
                f"target {self.target.trigger_price}, stop {self.stop.trigger_price}"
            )


@attrs.frozen
class BracketOrder(_StandingOrder):
    """An entry with its target and stop: the exits are armed by the broker as the entry fills.

    Raises:
        InvalidOrder: The order can never be right, such as a stop on the profit side.
    """

    price: Decimal | None = attrs.field(kw_only=True, default=None, converter=optional_rupees)
    """Limit of the entry, rupees per unit; None enters at the market."""
    target_price: Decimal = attrs.field(kw_only=True, converter=rupees)
    stop_price: Decimal = attrs.field(kw_only=True, converter=rupees)
    trail: Decimal | None = attrs.field(kw_only=True, default=None, converter=optional_rupees)
    """Rupees by which the stop follows a price that moves in the position's favour; None keeps it where it is."""

    def __attrs_post_init__(self) -> None:
        self._check(self.target_price, side=self.side.opposite)
        self._check(self.stop_price, side=self.side.opposite)
        if self.price is not None:
            self._check(self.price)
        if self.trail is not None and (self.trail <= 0 or not self.instrument.is_on_tick(self.trail)):
            raise InvalidOrder(f"trail must be above zero and a multiple of the tick size, was {self.trail}")
        middle = self.price if self.price is not None else (self.target_price + self.stop_price) / 2
        if (self.target_price - middle) * self.side.sign <= 0 or (middle - self.stop_price) * self.side.sign <= 0:
            relation = "above the price, stop below" if self.side is Side.BUY else "below the price, stop above"
            raise InvalidOrder(
                f"a {self.side} bracket needs its target {relation}: "
                f"price {self.price}, target {self.target_price}, stop {self.stop_price}"
            )


@attrs.frozen(kw_only=True)
class Leg:
    """One leg of a standing order as the broker reports it."""

    role: LegRole
    side: Side
    quantity: int
    filled_quantity: int | None = None
    """None where the broker does not tell: read the order it sent."""
    trigger_price: Decimal | None = None
    """None for an entry that is sent at once."""
    price: Decimal | None = None
    """Limit of its order; None for market, or where the broker does not tell."""
    trail: Decimal | None = None
    status: LegStatus
    order_id: str | None = None
    """The order it became, once it was sent and the broker tells."""
    reason: str | None = None
    """In the broker's words."""
    raw: str = ""
    """The broker's own status text."""

    @property
    def is_live(self) -> bool:
        """Say whether it can still trade, as far as the broker told; `LegStatus.UNKNOWN` says no."""
        return self.status in {LegStatus.INACTIVE, LegStatus.ARMED, LegStatus.SENT}

    @property
    def may_trade(self) -> bool:
        """Say whether it can still trade for all that is known; `LegStatus.UNKNOWN` says yes."""
        return self.is_live or self.status is LegStatus.UNKNOWN


@attrs.frozen(kw_only=True)
class _Standing:
    id: str
    """The broker's id."""
    client_order_id: str | None
    instrument: Instrument
    side: Side
    product: Product
    quantity: int
    legs: tuple[Leg, ...]
    """In the order entry, target, stop."""
    placed_at: datetime | None = attrs.field(default=None, validator=is_aware)
    expires_at: datetime | None = attrs.field(default=None, validator=is_aware)

    @property
    def is_live(self) -> bool:
        """Say whether any leg can still trade."""
        return any(each.is_live for each in self.legs)

    @property
    def may_trade(self) -> bool:
        """Say whether any leg can still trade for all that is known."""
        return any(each.may_trade for each in self.legs)

    def leg(self, role: LegRole) -> Leg | None:
        """Return the leg of this role, or None where there is none."""
        return next((each for each in self.legs if each.role is role), None)


@attrs.frozen(kw_only=True)
class Gtt(_Standing):
    """A GTT order as the broker reports it: one entry leg, or a target and a stop."""

    @property
    def is_oco(self) -> bool:
        """Say whether one leg cancels the other."""
        return self.leg(LegRole.STOP) is not None

    @property
    def unfilled(self) -> int:
        """Return the units it has not traded, as far as the broker tells."""
        if any(each.status is LegStatus.FILLED for each in self.legs):
            return 0
        return max(0, self.quantity - sum(each.filled_quantity or 0 for each in self.legs))


@attrs.frozen(kw_only=True)
class Bracket(_Standing):
    """A bracket order as the broker reports it: entry, target and stop; cancelled exits are missing at some brokers."""
