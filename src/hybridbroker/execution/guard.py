"""What may be sent: limits as a value, facts as a value, and the verdict as a pure function of both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import OrderRequest, OrderType, Product, Side
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.rate import WRITES_PER_SECOND
from hybridbroker.execution.records import Entry

__all__ = [
    "Facts",
    "Limit",
    "Refusal",
    "RiskLimits",
    "Terms",
    "entry_refusal",
    "exit_refusal",
    "exitable",
    "needs_price",
    "pnl",
]

Terms = OrderRequest | SlicedOrder
"""What the limits look at: one order, or one that is cut into several."""

_HUNDRED: Final = 100


class Limit(StrEnum):
    """Names of the limits, as `RiskRefused.limit` tells them."""

    STOPPED = "entries-stopped"
    UNRESOLVED = "unresolved-order"
    INSTRUMENT = "instrument"
    PRODUCT = "product"
    QUANTITY = "order-quantity"
    ORDER_VALUE = "order-value"
    DAY_VALUE = "day-value"
    POSITIONS = "open-positions"
    PER_MINUTE = "orders-per-minute"
    COLLAR = "price-collar"
    STALE = "stale-data"
    CLOSED = "session-closed"
    LOSS = "daily-loss"
    DUPLICATE = "duplicate"


def _ids(value: Collection[object] | None) -> frozenset[str] | None:
    return None if value is None else frozenset(str(each) for each in value)


def _products(value: Collection[Product | str] | None) -> frozenset[Product] | None:
    return None if value is None else frozenset(Product(each) for each in value)


def _money(value: Decimal | str | int | None) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, float):
        raise ConfigurationError(f"limits in rupees are Decimal, str or int, was the float {value!r}")
    return Decimal(value)


def _positive(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value <= 0:
        raise ConfigurationError(
            f"the risk limit {attribute.name} must be above zero, was {value}; None switches it off"
        )


@attrs.frozen(kw_only=True)
class RiskLimits:
    """What the guard refuses; None switches a limit off.

    Exits (orders that only reduce what is held) are bound by the price collar alone.
    """

    max_order_value: Decimal | None = attrs.field(default=None, converter=_money, validator=_positive)
    """Rupees of one order."""
    max_day_value: Decimal | None = attrs.field(default=None, converter=_money, validator=_positive)
    """Rupees of all of today's orders together, this one included."""
    max_order_quantity: int | None = attrs.field(default=None, validator=_positive)
    """Units of one order."""
    max_open_positions: int | None = attrs.field(default=None, validator=_positive)
    """Instruments held, or about to be held because an order for them is open."""
    max_orders_per_minute: int | None = attrs.field(default=None, validator=_positive)
    price_collar: Decimal | None = attrs.field(default=None, converter=_money, validator=_positive)
    """How far a price may be on the wrong side of the market, as a fraction: ``"0.03"`` refuses to
    buy more than 3 % above, or sell more than 3 % below, the last price."""
    instruments: frozenset[str] | None = attrs.field(default=None, converter=_ids)
    """Instruments (or their ids) that may be traded."""
    products: frozenset[Product] | None = attrs.field(default=None, converter=_products)
    max_daily_loss: Decimal | None = attrs.field(default=None, converter=_money, validator=_positive)
    """Rupees of today's loss, realised and not, before charges, at which entries end for the day."""
    duplicate_window: float | None = attrs.field(default=1.0, validator=_positive)
    """Seconds within which the very same order is taken for a mistake."""
    max_data_age: float | None = attrs.field(default=30.0, validator=_positive)
    """Seconds after which the price of a streamed instrument is too old to enter on."""
    require_open_session: bool = True
    """Refuse entries while the calendar has the exchange closed (after-market orders excepted)."""
    writes_per_second: int = attrs.field(default=WRITES_PER_SECOND, validator=_positive)
    """Orders, modifications and cancellations a second, over all processes of the account; at most 10."""


@attrs.frozen(kw_only=True)
class Facts:
    """What the verdict depends on, gathered just before."""

    stopped: Mapping[str, str] = attrs.field(factory=dict)
    """Why entries are stopped, by kind."""
    unresolved: Sequence[Entry] = ()
    """Orders on the instrument that may be live."""
    price: Decimal | None = None
    """The last price, no older than ``max_data_age``; None where there is none."""
    stale_for: float | None = None
    """Seconds since a streamed instrument last ticked, where that is too long ago."""
    is_open: bool | None = None
    """Whether the exchange trades now; None where no calendar was given."""
    placed_within_minute: int = 0
    value_today: Decimal = Decimal(0)
    instruments_held: frozenset[str] = frozenset()
    """Instruments with a position or an open order."""
    pnl: Decimal | None = None
    twin: Entry | None = None
    """The very same order, placed within the window."""


@attrs.frozen
class Refusal:
    """Which limit said no, and the numbers."""

    limit: Limit
    message: str


def needs_price(request: Terms, limits: RiskLimits) -> bool:
    """Say whether the verdict on this order needs a market price."""
    if limits.price_collar is not None:
        return True
    wants_value = limits.max_order_value is not None or limits.max_day_value is not None
    return wants_value and request.value is None


def order_value(request: Terms, price: Decimal | None) -> Decimal | None:
    """Return the rupees the order counts for: at its own price, else at the market's."""
    own = request.value
    if own is not None or price is None:
        return own
    return price * request.quantity


def entry_refusal(request: Terms, limits: RiskLimits, facts: Facts) -> Refusal | None:
    """Return why an order may not be sent, or None if it may."""
    for check in (_blocked, _allowed, _sized, _timed, _exposed, _priced):
        refusal = check(request, limits, facts)
        if refusal is not None:
            return refusal
    return None


def exit_refusal(request: Terms, limits: RiskLimits, facts: Facts) -> Refusal | None:
    """Return why an exit may not be sent, or None: only a price nobody can have meant holds one up."""
    if limits.price_collar is None or facts.price is None:
        return None
    return _collared(request, limits.price_collar, facts.price)


def _blocked(request: Terms, _: RiskLimits, facts: Facts) -> Refusal | None:
    if facts.stopped:
        return Refusal(Limit.STOPPED, f"entries are stopped: {'; '.join(facts.stopped.values())}")
    if facts.unresolved:
        names = ", ".join(each.client_order_id for each in facts.unresolved)
        return Refusal(
            Limit.UNRESOLVED,
            f"order {names} on {request.instrument.id} may be live; wait until it is found or counts as absent, "
            "or take it upon yourself with override()",
        )
    return None


def _allowed(request: Terms, limits: RiskLimits, _: Facts) -> Refusal | None:
    name = request.instrument.id
    if limits.instruments is not None and name not in limits.instruments:
        return Refusal(Limit.INSTRUMENT, f"{name} is not among the {len(limits.instruments)} instruments allowed")
    if limits.products is not None and request.product not in limits.products:
        allowed = ", ".join(sorted(limits.products)) or "none"
        return Refusal(Limit.PRODUCT, f"product {request.product} is not allowed; allowed: {allowed}")
    return None


def _sized(request: Terms, limits: RiskLimits, facts: Facts) -> Refusal | None:
    most = limits.max_order_quantity
    if most is not None and request.quantity > most:
        return Refusal(Limit.QUANTITY, f"quantity {request.quantity} is above max_order_quantity {most}")
    value = order_value(request, facts.price)
    if value is None:
        if needs_price(request, limits) and limits.price_collar is None:
            return Refusal(Limit.STALE, f"no fresh price of {request.instrument.id} to value a market order at")
        return None
    if limits.max_order_value is not None and value > limits.max_order_value:
        return Refusal(
            Limit.ORDER_VALUE, f"value {value:,.2f} rupees is above max_order_value {limits.max_order_value:,.2f}"
        )
    if limits.max_day_value is not None and facts.value_today + value > limits.max_day_value:
        return Refusal(
            Limit.DAY_VALUE,
            f"value {value:,.2f} rupees on top of today's {facts.value_today:,.2f} is above max_day_value "
            f"{limits.max_day_value:,.2f}",
        )
    return None


def _timed(request: Terms, limits: RiskLimits, facts: Facts) -> Refusal | None:
    if limits.require_open_session and facts.is_open is False and not request.after_market:
        return Refusal(Limit.CLOSED, f"{request.instrument.exchange} is closed now; after_market=True queues an order")
    most = limits.max_orders_per_minute
    if most is not None and facts.placed_within_minute >= most:
        return Refusal(
            Limit.PER_MINUTE, f"{facts.placed_within_minute} orders in the last minute, max_orders_per_minute is {most}"
        )
    if facts.twin is not None:
        return Refusal(
            Limit.DUPLICATE,
            f"the same order was placed within {limits.duplicate_window} s as {facts.twin.client_order_id}",
        )
    return None


def _exposed(request: Terms, limits: RiskLimits, facts: Facts) -> Refusal | None:
    most = limits.max_open_positions
    held = facts.instruments_held
    if most is not None and request.instrument.id not in held and len(held) >= most:
        return Refusal(Limit.POSITIONS, f"{len(held)} positions are open or ordered, max_open_positions is {most}")
    if limits.max_daily_loss is not None:
        if facts.pnl is None:
            return Refusal(Limit.LOSS, "today's profit and loss could not be read, and max_daily_loss depends on it")
        if -facts.pnl >= limits.max_daily_loss:
            return Refusal(
                Limit.LOSS,
                f"today's loss {-facts.pnl:,.2f} rupees has reached max_daily_loss {limits.max_daily_loss:,.2f}",
            )
    return None


def _priced(request: Terms, limits: RiskLimits, facts: Facts) -> Refusal | None:
    # Outside the session silence is normal, and the price of the last session is all there is.
    quiet = request.after_market or facts.is_open is False
    if facts.stale_for is not None and not quiet:
        return Refusal(
            Limit.STALE,
            f"the last price of {request.instrument.id} is {facts.stale_for:.0f} s old, max_data_age is "
            f"{limits.max_data_age:.0f} s",
        )
    if limits.price_collar is None:
        return None
    if facts.price is not None:
        return _collared(request, limits.price_collar, facts.price)
    if quiet:
        return None
    return Refusal(Limit.STALE, f"no fresh price of {request.instrument.id} to hold the order's against")


def _collared(request: Terms, collar: Decimal, market: Decimal) -> Refusal | None:
    """Refuse a price on the wrong side of the market; a stop waits for its trigger, which is its market."""
    if request.price is None or request.type is OrderType.MARKET:
        return None
    reference = market if request.trigger_price is None else request.trigger_price
    limit = reference * (1 + collar * request.side.sign)
    if (request.price - limit) * request.side.sign <= 0:
        return None
    relation = "above" if request.side is Side.BUY else "below"
    return Refusal(
        Limit.COLLAR,
        f"{request.side} at {request.price} is more than {(collar * _HUNDRED).normalize():f} % {relation} {reference}",
    )


def exitable(
    request: Terms,
    *,
    positions: Sequence[Position],
    holdings: Sequence[Holding],
    claimed: int,
) -> int:
    """Return how many units this order's side could still close without opening anything.

    ``claimed`` are units that other orders on that side may close already: open ones, ones
    that may be live, and what filled since the positions were read.
    """
    name = request.instrument.id
    net = sum(each.quantity for each in positions if each.instrument.id == name and each.product is request.product)
    closable = max(0, -net * request.side.sign)
    if request.product is Product.DELIVERY:
        if request.side is Side.SELL:
            closable += sum(_sellable(each) for each in holdings if each.instrument.id == name)
        else:
            # Shares sold out of the holdings show as a negative position, which is no short to be covered.
            closable = 0
    return max(0, closable - claimed)


def _sellable(share: Holding) -> int:
    """Return the units whose sale opens nothing; those bought yesterday are ours, whether or not they count as free."""
    return min(share.quantity, share.available_quantity + share.unsettled_quantity)


def pnl(positions: Sequence[Position], price: Callable[[Instrument], Decimal | None]) -> Decimal:
    """Return today's profit or loss of all positions, before charges, rupees.

    The broker's own figures where it gives them; else from what was bought and sold, the open
    part at the price given, or at its own average where there is none.
    """
    total = Decimal(0)
    for each in positions:
        if each.realised_pnl is not None and each.unrealised_pnl is not None:
            total += each.realised_pnl + each.unrealised_pnl
        elif each.bought_quantity or each.sold_quantity:
            total += each.sold_value - each.bought_value
            last = price(each.instrument)
            total += each.quantity * (each.average_price if last is None else last)
    return total
