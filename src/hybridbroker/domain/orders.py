"""Orders as a caller asks for them and as a broker reports them; money is ``Decimal``."""

from __future__ import annotations

import secrets
from base64 import b32encode
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import ClassVar, Self, TypeVar

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import is_aware
from hybridbroker.errors import InvalidOrder

__all__ = [
    "CLIENT_ORDER_ID_LENGTH",
    "LimitOrder",
    "MarketOrder",
    "Order",
    "OrderRequest",
    "OrderStatus",
    "OrderType",
    "Product",
    "Side",
    "StopLimitOrder",
    "StopMarketOrder",
    "Trade",
    "Validity",
    "make_client_order_id",
    "optional_rupees",
    "rupees",
    "to_product",
    "to_side",
    "to_validity",
]

CLIENT_ORDER_ID_LENGTH = 25
"""Longest client order id that every supported broker takes (Dhan: measured 25, documented 30)."""


_DIGITS = 12
"""Before the point, of any price or quantity that can be meant; longer ones overflow on their way."""


_Enum = TypeVar("_Enum", bound=StrEnum)


class Side(StrEnum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        """Return the other side."""
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def sign(self) -> int:
        """Return +1 for a buy and -1 for a sell."""
        return 1 if self is Side.BUY else -1


class Product(StrEnum):
    """How the position is held."""

    DELIVERY = "delivery"
    """Cash shares kept overnight (CNC)."""
    INTRADAY = "intraday"
    """Squared off the same day (MIS)."""
    MARGIN = "margin"
    """Derivatives carried forward (NRML)."""
    MTF = "mtf"
    """Cash shares partly financed by the broker."""


class Validity(StrEnum):
    """How long an order rests."""

    DAY = "day"
    IOC = "ioc"


class OrderType(StrEnum):
    """How an order is priced."""

    MARKET = "market"
    LIMIT = "limit"
    STOP_LIMIT = "stop-limit"
    STOP_MARKET = "stop-market"


class OrderStatus(StrEnum):
    """Where an order is in its life; `UNKNOWN` is not open, not final, and must be read again."""

    PENDING = "pending"
    """With the broker, not yet at the exchange."""
    OPEN = "open"
    """Resting at the exchange."""
    TRIGGER_PENDING = "trigger-pending"
    """A stop order that waits for its trigger."""
    PARTIALLY_FILLED = "partially-filled"
    """Part traded, the rest still rests."""
    FILLED = "filled"
    CANCELLED = "cancelled"
    """May hold fills: read ``filled_quantity``."""
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """The broker said something nobody documented; its words are in ``Order.raw``."""


_FINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED})
_OPEN = frozenset({OrderStatus.PENDING, OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING, OrderStatus.PARTIALLY_FILLED})


def rupees(value: Decimal | str | int) -> Decimal:
    """Read an amount of money exactly; a float is read by its shortest form.

    Raises:
        InvalidOrder: It is not a finite number.
    """
    try:
        amount = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        raise InvalidOrder(f"{value!r} is no amount of rupees") from None
    if not amount.is_finite() or amount.adjusted() >= _DIGITS:
        raise InvalidOrder(f"{value!r} is no amount of rupees")
    return amount


def make_client_order_id(now: datetime, *, prefix: str = "hb") -> str:
    """Return a fresh id: readable, at most 25 characters, letters, digits and hyphens only.

    ``hb-0915-092001-7f3k9q2m``: prefix, month and day, IST time, forty random bits.
    """
    local = now.astimezone(IST)
    suffix = b32encode(secrets.token_bytes(5)).decode().lower()
    return f"{prefix[:4]}-{local:%m%d-%H%M%S}-{suffix}"


def _member(kind: type[_Enum], value: _Enum | str) -> _Enum:
    if isinstance(value, kind):
        return value
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(each) for each in kind)
        raise InvalidOrder(f"{value!r} is no {kind.__name__.lower()}; there are {known}") from None


def to_side(value: Side | str) -> Side:
    """Read a side; raise `InvalidOrder` for anything else."""
    return _member(Side, value)


def to_product(value: Product | str) -> Product:
    """Read a product; raise `InvalidOrder` for anything else."""
    return _member(Product, value)


def to_validity(value: Validity | str) -> Validity:
    """Read a validity; raise `InvalidOrder` for anything else."""
    return _member(Validity, value)


def optional_rupees(value: Decimal | str | int | None) -> Decimal | None:
    """Read an amount of money exactly where there is one; see `rupees`."""
    return None if value is None else rupees(value)


@attrs.frozen
class OrderRequest:
    """An order the caller wants to exist; build one of its four kinds, not this.

    It checks itself on construction, against the instrument: whole positive lots, prices
    on the tick, prices given exactly where the kind takes them.

    Raises:
        InvalidOrder: The order can never be right; the message says what to change.
    """

    instrument: Instrument
    side: Side = attrs.field(converter=to_side)
    quantity: int = attrs.field(kw_only=True)
    """Units (shares), a multiple of the lot size."""
    price: Decimal | None = attrs.field(kw_only=True, default=None, converter=optional_rupees)
    """Limit price, rupees per unit."""
    trigger_price: Decimal | None = attrs.field(kw_only=True, default=None, converter=optional_rupees)
    """Rupees per unit at which a stop order wakes."""
    product: Product = attrs.field(kw_only=True, default=Product.DELIVERY, converter=to_product)
    validity: Validity = attrs.field(kw_only=True, default=Validity.DAY, converter=to_validity)
    client_order_id: str | None = attrs.field(kw_only=True, default=None)
    """The caller's name for the order; made before sending where it is None."""
    after_market: bool = attrs.field(kw_only=True, default=False)
    """Queue it for the next session."""
    disclosed_quantity: int = attrs.field(kw_only=True, default=0)
    """Units shown in the book; 0 shows all."""

    type: ClassVar[OrderType]
    _takes_price: ClassVar[bool] = False
    _takes_trigger: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        if type(self) is OrderRequest:
            raise InvalidOrder("build a MarketOrder, LimitOrder, StopLimitOrder or StopMarketOrder")
        self._check_quantity()
        self._check_price("price", self.price, wanted=self._takes_price)
        self._check_price("trigger_price", self.trigger_price, wanted=self._takes_trigger)
        self._check_id()
        if not self.instrument.tradable:
            raise InvalidOrder(f"{self.instrument.id} cannot be traded; it is {self.instrument.kind.value}")

    def _check_quantity(self) -> None:
        quantity, lot = self.quantity, self.instrument.lot_size
        if isinstance(quantity, bool) or not isinstance(quantity, int):
            raise InvalidOrder(f"quantity must be a whole number of units, was {quantity!r}")
        if quantity <= 0:
            raise InvalidOrder(f"quantity must be at least {lot}, was {quantity}")
        if quantity >= 10**_DIGITS:
            raise InvalidOrder(f"quantity {quantity:.0e} is more than any exchange trades")
        if quantity % lot:
            raise InvalidOrder(f"quantity {quantity} is not a multiple of the lot size {lot} of {self.instrument.id}")
        freeze = self.instrument.freeze_quantity
        if freeze is not None and quantity > freeze:
            raise InvalidOrder(f"quantity {quantity} is above the freeze quantity {freeze} of {self.instrument.id}")
        if not 0 <= self.disclosed_quantity <= quantity:
            raise InvalidOrder(f"disclosed_quantity must be between 0 and {quantity}, was {self.disclosed_quantity}")

    def _check_price(self, name: str, value: Decimal | None, *, wanted: bool) -> None:
        kind = type(self).__name__
        if value is None:
            if wanted:
                raise InvalidOrder(f"a {kind} needs {name}")
            return
        if not wanted:
            hint = "; use LimitOrder" if name == "price" else "; use StopLimitOrder"
            raise InvalidOrder(f"a {kind} takes no {name}{hint}")
        if value <= 0:
            raise InvalidOrder(f"{name} must be above zero, was {value}")
        if not self.instrument.is_on_tick(value):
            nearest = self.instrument.price(value)
            raise InvalidOrder(
                f"{name} {value} is off the {self.instrument.tick_size}-rupee tick of {self.instrument.id}; "
                f"the nearest price is {nearest} (instrument.price() rounds)"
            )

    def _check_id(self) -> None:
        name = self.client_order_id
        if name is None:
            return
        if not 1 <= len(name) <= CLIENT_ORDER_ID_LENGTH:
            raise InvalidOrder(f"client_order_id must have 1 to {CLIENT_ORDER_ID_LENGTH} characters, has {len(name)}")
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise InvalidOrder(f"client_order_id may hold letters, digits, hyphens and underscores, was {name!r}")

    def named(self, now: datetime) -> Self:
        """Return the request with a client order id: its own, or a fresh one."""
        if self.client_order_id is not None:
            return self
        return attrs.evolve(self, client_order_id=make_client_order_id(now))

    @property
    def value(self) -> Decimal | None:
        """Return rupees at the limit (or trigger) price; None for a market order."""
        price = self.price if self.price is not None else self.trigger_price
        return None if price is None else price * self.quantity


@attrs.frozen
class MarketOrder(OrderRequest):
    """Trade now at what the book offers; brokers turn it into a protected limit that may rest."""

    type = OrderType.MARKET


@attrs.frozen
class LimitOrder(OrderRequest):
    """Trade at ``price`` or better."""

    type = OrderType.LIMIT
    _takes_price = True


@attrs.frozen
class StopLimitOrder(OrderRequest):
    """Once the market touches ``trigger_price``, trade at ``price`` or better."""

    type = OrderType.STOP_LIMIT
    _takes_price = True
    _takes_trigger = True

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        assert self.price is not None  # noqa: S101 - narrowed by the check above
        assert self.trigger_price is not None  # noqa: S101 - narrowed by the check above
        if (self.price - self.trigger_price) * self.side.sign < 0:
            relation = "at or below" if self.side is Side.BUY else "at or above"
            raise InvalidOrder(
                f"a {self.side} stop needs its trigger {relation} its price: "
                f"trigger_price {self.trigger_price}, price {self.price}"
            )


@attrs.frozen
class StopMarketOrder(OrderRequest):
    """Once the market touches ``trigger_price``, trade at what the book offers."""

    type = OrderType.STOP_MARKET
    _takes_trigger = True


@attrs.frozen(kw_only=True)
class Order:
    """An order as the broker reports it."""

    id: str
    """The broker's id."""
    client_order_id: str | None
    instrument: Instrument
    side: Side
    type: OrderType
    product: Product
    validity: Validity
    quantity: int
    """Units asked for."""
    filled_quantity: int = 0
    price: Decimal | None = None
    """Limit price; a market order under price protection may show one."""
    trigger_price: Decimal | None = None
    average_price: Decimal | None = None
    """Rupees per unit over all fills; None before the first."""
    status: OrderStatus
    reason: str | None = None
    """Why it was rejected, cancelled or expired, in the broker's words."""
    placed_at: datetime | None = attrs.field(default=None, validator=is_aware)
    updated_at: datetime | None = attrs.field(default=None, validator=is_aware)
    exchange_order_id: str | None = None
    """None until the exchange has it."""
    raw: str = ""
    """The broker's own status text."""

    @property
    def remaining(self) -> int:
        """Return units not filled; on a final order they never will be."""
        return self.quantity - self.filled_quantity

    @property
    def is_open(self) -> bool:
        """Say whether it can still trade, as far as the broker told; `UNKNOWN` says neither."""
        return self.status in _OPEN

    @property
    def is_final(self) -> bool:
        """Say whether nothing about it can change any more."""
        return self.status in _FINAL


@attrs.frozen(kw_only=True)
class Trade:
    """One execution against an order."""

    id: str
    """The exchange's trade id."""
    order_id: str
    instrument: Instrument
    side: Side
    product: Product
    quantity: int
    price: Decimal
    """Rupees per unit."""
    traded_at: datetime = attrs.field(validator=is_aware)
    """When the exchange traded it."""

    @property
    def value(self) -> Decimal:
        """Return rupees: price times quantity."""
        return self.price * self.quantity
