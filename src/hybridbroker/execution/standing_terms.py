"""The terms of a standing order as they are journalled, and whether what a broker shows is one of those; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, OcoOrder, Trigger

__all__ = ["Standing", "StandingOrder", "is_same", "kind_of", "terms_of"]

Standing = Gtt | Bracket
StandingOrder = GttOrder | OcoOrder | BracketOrder

_SKEW: Final = timedelta(seconds=5)


def terms_of(request: StandingOrder) -> dict[str, Any]:
    """Return what was asked for, as JSON takes it."""
    legs: dict[LegRole, Decimal | None]
    match request:
        case GttOrder():
            legs = {LegRole.ENTRY: request.trigger.trigger_price}
        case OcoOrder():
            legs = {LegRole.TARGET: request.target.trigger_price, LegRole.STOP: request.stop.trigger_price}
        case BracketOrder():
            legs = {LegRole.TARGET: request.target_price, LegRole.STOP: request.stop_price}
    return {
        "instrument": request.instrument.id,
        "side": request.side.value,
        "product": request.product.value,
        "quantity": request.quantity,
        "legs": {role.value: str(price) for role, price in legs.items()},
        "limits": [str(each.price) for each in _triggers(request)],
    }


def _triggers(request: StandingOrder) -> Sequence[Trigger]:
    match request:
        case GttOrder():
            return [request.trigger]
        case OcoOrder():
            return [request.target, request.stop]
        case BracketOrder():
            return [Trigger(request.price)] if request.price is not None else []


def kind_of(standing: Standing | StandingOrder) -> tuple[str, str, str]:
    """Return what it trades: instrument, side and product."""
    return standing.instrument.id, standing.side.value, standing.product.value


def is_same(shown: Standing, name: str, wanted: Mapping[str, Any], *, sent_at: datetime) -> bool:
    """Say whether what the broker shows is what was sent then: by its name, where it has one, else by its terms."""
    if shown.client_order_id is not None:
        return shown.client_order_id == name
    if shown.id in wanted.get("before", ()) or (shown.placed_at is not None and shown.placed_at < sent_at - _SKEW):
        return False
    if (*kind_of(shown), shown.quantity) != tuple(
        wanted[each] for each in ("instrument", "side", "product", "quantity")
    ):
        return False
    prices = {each.role.value: each.trigger_price for each in shown.legs}
    return all(prices.get(role) == Decimal(price) for role, price in wanted["legs"].items())
