"""Order bodies as Upstox reads them: what is refused at once, and the terms of what is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import attrs

from hybridbroker.domain.instrument import Segment
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    OrderRequest,
    OrderType,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.errors import InvalidOrder
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Refusal

__all__ = [
    "ORDER_TYPES",
    "PRODUCTS",
    "Terms",
    "check_order_id",
    "read_listed",
    "read_modification",
    "read_order",
    "read_protection",
    "slices",
]

PRODUCTS: Final = ("I", "D", "MTF")
ORDER_TYPES: Final = {
    "MARKET": OrderType.MARKET,
    "LIMIT": OrderType.LIMIT,
    "SL": OrderType.STOP_LIMIT,
    "SL-M": OrderType.STOP_MARKET,
}
_VALIDITIES: Final = ("DAY", "IOC")
_SIDES: Final = ("BUY", "SELL")
_PROTECTED: Final = frozenset({"MARKET", "SL-M"})
_TRIGGERED: Final = frozenset({"SL", "SL-M"})
_AUTOMATIC: Final = -1.0
_MOST_PROTECTION: Final = 25
_LONGEST_TAG: Final = 40
_LONGEST_ID: Final = 40
_LARGEST: Final = 10**12
_ZERO: Final = Decimal(0)


@attrs.frozen(kw_only=True)
class Terms:
    """What an order asks for, in Upstox's words."""

    listed: ListedInstrument
    side: str
    product: str
    type: str
    validity: str
    quantity: int
    price: Decimal = _ZERO
    """0 where there is none, as on the wire."""
    trigger: Decimal = _ZERO
    disclosed: int = 0
    tag: str | None = None
    protection: float = _AUTOMATIC
    """Percent; -1 is Upstox's own table."""
    slice: bool = False

    def held_as(self) -> Product:
        """Return the product as the simulated exchange knows it: MTF has an account of its own there."""
        if self.product == "I":
            return Product.INTRADAY
        return Product.DELIVERY if self.listed.instrument.segment is Segment.CASH else Product.MARGIN

    def request(self, last: Decimal | None) -> OrderRequest:
        """Return what the exchange is asked; a percentage of protection makes a limit order near ``last``.

        Raises:
            InvalidOrder: The exchange would refuse it: lot, tick, freeze quantity, a stop's relation.
        """
        instrument = self.listed.instrument
        kind: type[OrderRequest] = _KINDS[self.type]
        price = self.price if self.type in {"LIMIT", "SL"} else None
        trigger = self.trigger if self.type in _TRIGGERED else None
        if self.type in _PROTECTED and self.protection != _AUTOMATIC:
            anchor = trigger if trigger is not None else last
            if anchor is None:
                raise InvalidOrder(f"no price of {instrument.id} is known to protect a market order by")
            kind = LimitOrder if trigger is None else StopLimitOrder
            room = anchor * Decimal(str(self.protection)) / 100
            price = max(instrument.tick_size, instrument.price(anchor + room * Side(self.side.lower()).sign))
        return kind(
            instrument,
            Side(self.side.lower()),
            quantity=self.quantity,
            price=price,
            trigger_price=trigger,
            product=self.held_as(),
            validity=Validity(self.validity.lower()),
            disclosed_quantity=self.disclosed,
        )


_KINDS: Final[Mapping[str, type[OrderRequest]]] = {
    "MARKET": MarketOrder,
    "LIMIT": LimitOrder,
    "SL": StopLimitOrder,
    "SL-M": StopMarketOrder,
}


def read_order(fields: Mapping[str, Any], market: EmulatedMarket) -> Terms:
    """Read a place body; raise `Refusal`. What only the exchange finds out is not looked at."""
    listed = read_listed(fields.get("instrument_token"), market)
    quantity = _quantity(fields.get("quantity"))
    product = _one_of(fields.get("product"), PRODUCTS, missing="UDAPI1054", wrong="UDAPI1054", path="product")
    side = _one_of(
        fields.get("transaction_type"), _SIDES, missing="UDAPI1057", wrong="UDAPI1057", path="transaction_type"
    )
    tag = fields.get("tag")
    if tag is not None and len(str(tag)) > _LONGEST_TAG:
        raise Refusal("UDAPI1119", path="tag", invalid=tag)
    return Terms(
        listed=listed,
        side=side,
        product=product,
        quantity=quantity,
        tag=None if tag is None else str(tag),
        slice=fields.get("slice") is True,
        **_pricing(fields),
        disclosed=_disclosed(fields.get("disclosed_quantity"), quantity),
    )


def read_modification(fields: Mapping[str, Any], old: Terms) -> Terms:
    """Read a modify body against the order's terms; raise `Refusal`."""
    given = fields.get("quantity")
    quantity = old.quantity if given is None else _quantity(given)
    shown = fields.get("disclosed_quantity")
    disclosed = old.disclosed if shown is None else _disclosed(shown, quantity)
    pricing = _pricing(fields)
    if fields.get("market_protection") is None:
        pricing["protection"] = old.protection
    return attrs.evolve(old, quantity=quantity, disclosed=disclosed, **pricing)


def read_listed(key: object, market: EmulatedMarket) -> ListedInstrument:
    """Read an instrument key that can be traded; raise `Refusal`."""
    if not key:
        raise Refusal("UDAPI1026", path="instrument_key")
    text = str(key)
    if "|" not in text:
        raise Refusal("UDAPI1011", path="instrument_key", invalid=text)
    if text.startswith("MCX_"):
        raise Refusal("UDAPI1161", path="instrument_key", invalid=text)
    listed = market.by_key(text)
    if listed is None or not listed.instrument.tradable:
        raise Refusal("UDAPI100011", path="instrument_key", invalid=text)
    return listed


def read_protection(value: object) -> float:
    """Read market protection; absent is automatic, 0 is refused (later documentation)."""
    if value is None:
        return _AUTOMATIC
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Refusal("UDAPI1160", path="market_protection", invalid=value)
    if value > _MOST_PROTECTION:
        raise Refusal("UDAPI1159", path="market_protection", invalid=value)
    if value == 0:
        raise Refusal("UDAPI1158", path="market_protection", invalid=value)
    if value < 0 and value != _AUTOMATIC:
        raise Refusal("UDAPI1160", path="market_protection", invalid=value)
    return float(value)


def check_order_id(order_id: str, *, missing: str) -> str:
    """Return an order id that can be one; raise `Refusal`."""
    if not order_id:
        raise Refusal(missing, path="order_id")
    plain = order_id.replace("-", "").replace("_", "")
    if len(order_id) > _LONGEST_ID or not (plain.isascii() and plain.isalnum()):
        raise Refusal("UDAPI1010", path="order_id", invalid=order_id)
    return order_id


def slices(terms: Terms, *, most: int) -> list[Terms]:
    """Cut an order into parts that the exchange takes at once; more than ``most`` is refused."""
    freeze = terms.listed.instrument.freeze_quantity
    if not terms.slice or freeze is None or terms.quantity <= freeze:
        return [terms]
    lot = terms.listed.instrument.lot_size
    part = freeze // lot * lot
    count = -(-terms.quantity // part)
    if count > most:
        raise Refusal("UDAPI1118")
    sizes = [part] * (count - 1) + [terms.quantity - part * (count - 1)]
    return [attrs.evolve(terms, quantity=size, disclosed=min(terms.disclosed, size)) for size in sizes]


def _pricing(fields: Mapping[str, Any]) -> dict[str, Any]:
    kind = _one_of(
        fields.get("order_type"), tuple(ORDER_TYPES), missing="UDAPI1004", wrong="UDAPI1056", path="order_type"
    )
    validity = _one_of(fields.get("validity"), _VALIDITIES, missing="UDAPI1007", wrong="UDAPI1055", path="validity")
    price = _amount(fields.get("price"), missing="UDAPI1008", path="price")
    trigger = _amount(fields.get("trigger_price"), missing="UDAPI1036", path="trigger_price")
    match kind:
        case "MARKET" if price or trigger:
            raise Refusal("UDAPI1030", path="price", invalid=float(price or trigger))
        case "LIMIT" if not price:
            raise Refusal("UDAPI1029", path="price", invalid=float(price))
        case "SL" if not (price and trigger):
            raise Refusal("UDAPI1031", path="price", invalid=float(price))
        case "SL-M" if price or not trigger:
            raise Refusal("UDAPI1032", path="trigger_price", invalid=float(trigger))
    protection = read_protection(fields.get("market_protection")) if kind in _PROTECTED else _AUTOMATIC
    return {"type": kind, "validity": validity, "price": price, "trigger": trigger, "protection": protection}


def _one_of(value: object, known: tuple[str, ...], *, missing: str, wrong: str, path: str) -> str:
    if value is None or value == "":
        raise Refusal(missing, path=path)
    if value not in known:
        raise Refusal(wrong, path=path, invalid=value)
    return str(value)


def _quantity(value: object) -> int:
    if value is None or value == 0:
        raise Refusal("UDAPI1052", path="quantity", invalid=value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST:
        raise Refusal("UDAPI100036", path="quantity", invalid=value)
    return value


def _disclosed(value: object, quantity: int) -> int:
    if value is None or value == 0:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value > quantity:
        raise Refusal("UDAPI100036", path="disclosed_quantity", invalid=value)
    if value * 10 < quantity:
        raise Refusal("UDAPI1039", path="disclosed_quantity", invalid=value)
    return value


def _amount(value: object, *, missing: str, path: str) -> Decimal:
    if value is None:
        raise Refusal(missing, path=path)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LARGEST:
        raise Refusal("UDAPI100036", path=path, invalid=value)
    return Decimal(str(value))
