"""What Dhan's order calls accept, and the documented words with which they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import attrs

from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    OrderRequest,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket

__all__ = [
    "ORDER_TYPES",
    "PRODUCTS",
    "Refusal",
    "Terms",
    "choice",
    "known",
    "number",
    "positive",
    "read_json",
    "read_modification",
    "read_order",
    "read_standing",
    "whole",
]

PRODUCTS: Final = {
    "CNC": Product.DELIVERY,
    "INTRADAY": Product.INTRADAY,
    "MARGIN": Product.MARGIN,
    "MTF": Product.MTF,
}
ORDER_TYPES: Final = {
    "LIMIT": LimitOrder,
    "MARKET": MarketOrder,
    "STOP_LOSS": StopLimitOrder,
    "STOP_LOSS_MARKET": StopMarketOrder,
}
_PRICED: Final = frozenset({"LIMIT", "STOP_LOSS"})
_TRIGGERED: Final = frozenset({"STOP_LOSS", "STOP_LOSS_MARKET"})
_CASH: Final = frozenset({"NSE_EQ", "BSE_EQ"})
_SEGMENTS: Final = _CASH | {"NSE_FNO", "BSE_FNO", "MCX_COMM", "NSE_CURRENCY", "BSE_CURRENCY", "NSE_COMM"}
_PLACE_FIELDS: Final = frozenset({
    "dhanClientId", "correlationId", "transactionType", "exchangeSegment", "productType", "orderType", "validity",
    "securityId", "quantity", "disclosedQuantity", "price", "triggerPrice", "afterMarketOrder", "amoTime",
    "boProfitValue", "boStopLossValue",
})  # fmt: skip
_MODIFY_FIELDS: Final = frozenset({
    "dhanClientId", "orderId", "orderType", "legName", "quantity", "price", "disclosedQuantity", "triggerPrice",
    "validity",
})  # fmt: skip
_CORRELATION: Final = re.compile(r"[A-Za-z0-9 _-]{1,25}")
_AMO_TIMES: Final = frozenset({"PRE_OPEN", "OPEN", "OPEN_30", "OPEN_60"})


class Refusal(Exception):
    """A request that Dhan refuses at once, in the documented shape of its errors."""

    def __init__(self, status: int, code: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"errorType": kind, "errorCode": code, "errorMessage": message}

    @classmethod
    def bad_input(cls, message: str = "Missing required fields, bad values for parameters etc.") -> Refusal:
        """DH-905, which names no field except for a missing quantity (recorded)."""
        return cls(400, "DH-905", "Input_Exception", message)

    @classmethod
    def order(
        cls, message: str = "Incorrect request for order and cannot be processed", *, status: int = 400
    ) -> Refusal:
        """DH-906, the catch-all of order errors (recorded)."""
        return cls(status, "DH-906", "Order_Error", message)

    @classmethod
    def limited(cls) -> Refusal:
        """DH-904 (recorded); there is no Retry-After."""
        message = "Too many requests on server from single user breaching rate limits. Try throttling API calls."
        return cls(429, "DH-904", "Rate_Limit", message)

    @classmethod
    def bad_login(cls) -> Refusal:
        """DH-901 (recorded)."""
        message = "Client ID or user generated access token is invalid or expired."
        return cls(401, "DH-901", "Invalid_Authentication", message)


@attrs.frozen(kw_only=True)
class Terms:
    """An order as Dhan understood it."""

    listed: ListedInstrument
    side: str
    product: str
    type: str
    validity: str
    quantity: int
    disclosed: int = 0
    price: Decimal = Decimal(0)
    """0 where the type takes none."""
    trigger: Decimal = Decimal(0)
    after_market: bool = False
    correlation_id: str = "NA"

    @property
    def is_on_tick(self) -> bool:
        """Say whether the exchange will take its prices."""
        instrument = self.listed.instrument
        return instrument.is_on_tick(self.price) and instrument.is_on_tick(self.trigger)

    def request(self) -> OrderRequest:
        """Return the order for the simulated exchange; raises `InvalidOrder`."""
        return ORDER_TYPES[self.type](
            self.listed.instrument,
            Side(self.side.lower()),
            quantity=self.quantity,
            price=self.price if self.type in _PRICED else None,
            trigger_price=self.trigger if self.type in _TRIGGERED else None,
            product=PRODUCTS[self.product],
            validity=Validity(self.validity.lower()),
            disclosed_quantity=self.disclosed,
            after_market=self.after_market,
        )

    def slices(self) -> list[Terms]:
        """Return it in pieces of at most the exchange's freeze quantity."""
        instrument = self.listed.instrument
        most = (instrument.freeze_quantity or self.quantity) // instrument.lot_size * instrument.lot_size
        whole_ones, rest = divmod(self.quantity, most)
        sizes = [most] * whole_ones + [rest] * (rest > 0)
        return [attrs.evolve(self, quantity=each, disclosed=min(self.disclosed, each)) for each in sizes]


def read_json(body: bytes) -> dict[str, Any]:
    """Return a JSON object without its nulls; an empty string anywhere is refused (measured)."""
    try:
        fields = json.loads(body)
    except ValueError:
        raise Refusal.bad_input() from None
    if not isinstance(fields, dict) or "" in fields.values():
        raise Refusal.bad_input()
    return {name: value for name, value in fields.items() if value is not None}


def read_order(
    fields: Mapping[str, Any],
    *,
    client_id: str,
    listed: ListedInstrument | None,
    address: Callable[[], None] = lambda: None,
) -> Terms:
    """Check the body of ``POST /orders`` in the measured order: quantity present, ``address``, fields, instrument."""
    if "quantity" not in fields:
        raise Refusal.bad_input("quantity is required")
    address()
    known(fields, _PLACE_FIELDS, client_id)
    kind = choice(fields, "orderType", ORDER_TYPES)
    segment = choice(fields, "exchangeSegment", _SEGMENTS)
    product = choice(fields, "productType", PRODUCTS)
    if product in {"CNC", "MTF"} and segment not in _CASH:
        raise Refusal.bad_input()
    correlation = fields.get("correlationId", "NA")
    if not isinstance(correlation, str) or not _CORRELATION.fullmatch(correlation):
        raise Refusal.bad_input()
    after_market = _flag(fields, "afterMarketOrder")
    if after_market:
        choice({"amoTime": "OPEN", **fields}, "amoTime", _AMO_TIMES)
    side, validity = choice(fields, "transactionType", ("BUY", "SELL")), choice(fields, "validity", ("DAY", "IOC"))
    quantity = whole(fields, "quantity", least=1)
    disclosed = _disclosed(fields, quantity)
    price, trigger = _prices(fields, kind, side)
    if listed is None or not listed.instrument.tradable:
        raise Refusal.order("Transaction has Failed")
    return Terms(
        listed=listed,
        side=side,
        product=product,
        type=kind,
        validity=validity,
        quantity=quantity,
        disclosed=disclosed,
        price=price,
        trigger=trigger,
        after_market=after_market,
        correlation_id=correlation,
    )


def read_standing(
    plain: Mapping[str, Any],
    fields: Mapping[str, Any],
    allowed: Collection[str],
    *,
    client_id: str,
    market: EmulatedMarket,
    address: Callable[[], None],
) -> Terms:
    """Check what a standing order's ``fields`` share with an ordinary one, in the same order; ``plain`` are those."""
    if "quantity" not in fields:
        raise Refusal.bad_input("quantity is required")
    address()
    known(fields, allowed, client_id)
    listed = market.by_id(str(fields.get("exchangeSegment")), str(fields.get("securityId")))
    return read_order(plain, client_id=client_id, listed=listed)


def read_modification(fields: Mapping[str, Any], *, client_id: str, order_id: str, old: Terms) -> Terms:
    """Check the body of ``PUT /orders/{id}``; the result replaces ``old``.

    ``quantity`` is the new total. What is not stated stays, but for prices that the old type had none of.
    """
    known(fields, _MODIFY_FIELDS, client_id)
    if str(fields.get("orderId", order_id)) != order_id:
        raise Refusal.bad_input()
    kind = choice(fields, "orderType", ORDER_TYPES)
    quantity = whole({"quantity": old.quantity, **fields}, "quantity", least=1)
    price, trigger = _prices({"price": old.price, "triggerPrice": old.trigger, **fields}, kind, old.side)
    return attrs.evolve(
        old,
        type=kind,
        validity=choice(fields, "validity", ("DAY", "IOC")),
        quantity=quantity,
        disclosed=_disclosed({"disclosedQuantity": old.disclosed, **fields}, quantity),
        price=price,
        trigger=trigger,
    )


def known(fields: Mapping[str, Any], allowed: Collection[str], client_id: str) -> None:
    """Refuse fields that the call does not have, and another client's id."""
    if not fields.keys() <= set(allowed) or fields.get("dhanClientId") != client_id:
        raise Refusal.bad_input()


def choice(fields: Mapping[str, Any], name: str, allowed: Collection[str]) -> str:
    """Read one of the ``allowed`` words."""
    value = fields.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise Refusal.bad_input()
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise Refusal.bad_input()
    return value


def whole(fields: Mapping[str, Any], name: str, *, least: int) -> int:
    """Read a whole number of at least ``least``; 0 where it is absent."""
    value = number(fields, name)
    if value != int(value) or value < least:
        raise Refusal.bad_input()
    return int(value)


def number(fields: Mapping[str, Any], name: str) -> Decimal:
    """Read a JSON number, or a string of one, both of which Dhan takes (documented); 0 where it is absent."""
    value = fields.get(name, 0)
    try:
        read = Decimal(str(value))
    except InvalidOperation:
        raise Refusal.bad_input() from None
    if isinstance(value, bool) or not read.is_finite() or read < 0:
        raise Refusal.bad_input()
    return read


def positive(fields: Mapping[str, Any], name: str) -> Decimal:
    """Read a number above zero."""
    value = number(fields, name)
    if not value:
        raise Refusal.bad_input()
    return value


def _disclosed(fields: Mapping[str, Any], quantity: int) -> int:
    """Read the disclosed quantity: none, or more than 30 % of the quantity (documented)."""
    disclosed = whole(fields, "disclosedQuantity", least=0)
    if disclosed and not 0.3 * quantity < disclosed <= quantity:
        raise Refusal.bad_input()
    return disclosed


def _prices(fields: Mapping[str, Any], kind: str, side: str) -> tuple[Decimal, Decimal]:
    price = number(fields, "price") if kind in _PRICED else Decimal(0)
    trigger = number(fields, "triggerPrice") if kind in _TRIGGERED else Decimal(0)
    if (kind in _PRICED and not price) or (kind in _TRIGGERED and not trigger):
        raise Refusal.bad_input()
    if kind == "STOP_LOSS" and (price < trigger if side == "BUY" else price > trigger):
        raise Refusal.order("Trigger Price should be greater than Price")
    return price, trigger
