"""When an order trades, and at what price: pure functions of order terms and one tick.

The model, and its limits. An order that *arrives* (just placed, changed or triggered) takes
what the other side offers: the visible levels of the depth, best first, at most their
quantities; without depth, any quantity at the last price. An order that *rests* trades when
an offer reaches its limit, and then at its own limit: whoever came to it met its price
first. It is never filled merely because its price was touched while the depth shows the
offer still away from it. What was taken from one tick's depth is gone for every other order
until the next tick, which shows the book anew. Queue position and hidden quantity are not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import attrs

from hybridbroker.domain.instrument import Instrument, InstrumentKind
from hybridbroker.domain.market import Tick
from hybridbroker.domain.orders import Side

__all__ = [
    "PROTECTION_BANDS",
    "Fill",
    "Offer",
    "is_triggered",
    "offers",
    "protected_price",
    "share_of",
    "take",
    "worst_price",
]

PROTECTION_BANDS: Final[dict[bool, tuple[tuple[Decimal, Decimal], ...]]] = {
    False: (
        (Decimal(100), Decimal("0.02")),
        (Decimal(500), Decimal("0.01")),
        (Decimal("Infinity"), Decimal("0.005")),
    ),
    True: (
        (Decimal(10), Decimal("0.05")),
        (Decimal(100), Decimal("0.03")),
        (Decimal(500), Decimal("0.02")),
        (Decimal("Infinity"), Decimal("0.01")),
    ),
}
"""How far a market order may run from the price it saw, as (price below, fraction), by "is an option".

Neither Dhan nor Upstox publishes its whole 2026 table; these bands are another broker's, as
OpenAlgo ships them (read in 2026, unconfirmed for both).
"""


@attrs.frozen
class Offer:
    """What the other side shows at one price; ``quantity`` None is any quantity."""

    price: Decimal
    quantity: int | None


@attrs.frozen
class Fill:
    """A part of an order that traded."""

    price: Decimal
    quantity: int


def offers(tick: Tick, side: Side, *, participation: Decimal | None = None) -> tuple[Offer, ...]:
    """Return what an order on ``side`` can take on ``tick``, best price first.

    A depth whose other side is empty offers nothing (an instrument locked at its price
    band); no depth at all offers any quantity at the last price, or ``participation`` of the
    last quantity.
    """
    depth = tick.depth
    instrument = tick.instrument
    if depth is None:
        quantity = share_of(tick.last_quantity or 0, instrument, participation)
        return () if quantity == 0 else (Offer(instrument.price(tick.last_price), quantity),)
    levels = depth.asks if side is Side.BUY else depth.bids
    return tuple(Offer(instrument.price(each.price), each.quantity) for each in levels if each.quantity > 0)


def share_of(volume: int, instrument: Instrument, participation: Decimal | None) -> int | None:
    """Return whole lots within ``participation`` of ``volume``; None, any quantity, where it is None."""
    if participation is None:
        return None
    return int(volume * participation) // instrument.lot_size * instrument.lot_size


def worst_price(side: Side, *, limit: Decimal, low: Decimal, high: Decimal) -> Decimal | None:
    """Return the worst price within ``limit`` of a bar from ``low`` to ``high``, or None where it was not passed."""
    if side is Side.BUY:
        return min(limit, high) if low < limit or high == limit else None
    return max(limit, low) if high > limit or low == limit else None


def take(
    book: Sequence[Offer], *, side: Side, limit: Decimal, quantity: int, resting: bool = False
) -> tuple[tuple[Fill, ...], tuple[Offer, ...]]:
    """Trade up to ``quantity`` at ``limit`` or better; return the fills and what is left of ``book``.

    ``book`` is best price first, as `offers` returns it. A ``resting`` order trades at its limit.
    """
    fills: list[Fill] = []
    left: list[Offer] = []
    wanted = quantity
    for offer in book:
        if wanted == 0 or (offer.price - limit) * side.sign > 0:
            left.append(offer)
            continue
        traded = wanted if offer.quantity is None else min(wanted, offer.quantity)
        fills.append(Fill(limit if resting else offer.price, traded))
        wanted -= traded
        if offer.quantity is None:
            left.append(offer)
        elif offer.quantity > traded:
            left.append(Offer(offer.price, offer.quantity - traded))
    return tuple(fills), tuple(left)


def is_triggered(side: Side, trigger: Decimal, last_price: Decimal) -> bool:
    """Say whether a stop wakes: the last price is at its trigger or beyond it."""
    return (last_price - trigger) * side.sign >= 0


def protected_price(instrument: Instrument, side: Side, reference: Decimal) -> Decimal:
    """Return the limit that price protection puts on a market order seen at ``reference``.

    On the tick, rounded towards ``reference`` but at least one tick away from it, and
    never below one tick.
    """
    bands = PROTECTION_BANDS[instrument.kind is InstrumentKind.OPTION]
    fraction = next(part for below, part in bands if reference < below)
    tick = instrument.tick_size
    room = (reference * fraction / tick).to_integral_value(ROUND_FLOOR)
    start = (reference / tick).to_integral_value(ROUND_FLOOR if side is Side.BUY else ROUND_CEILING)
    return max(tick, (start + side.sign * max(Decimal(1), room)) * tick)
