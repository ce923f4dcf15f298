"""What we ask of Upstox: orders and changes of orders, checked and spelled its way; pure.

Documented: https://upstox.com/developer/api-documentation/v3/place-order and
https://upstox.com/developer/api-documentation/v3/modify-order. Prices stay `Decimal` and are
written as JSON numbers digit by digit, so no binary fraction is ever in between. Every term is
stated, be it 0: the sandbox refuses orders that leave one out.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from hybridbroker.brokers.upstox.orders.mapping import PRODUCT, SIDE, TYPE, VALIDITY
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument, Segment
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderType,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.errors import ConfigurationError, InvalidOrder, Unsupported

__all__ = [
    "AUTOMATIC",
    "amended",
    "check_band",
    "check_instrument",
    "check_product",
    "check_protection",
    "modification_to_wire",
    "order_to_wire",
    "plain",
    "sliced_to_wire",
]

AUTOMATIC: Final = Decimal(-1)
"""Market protection by Upstox's own table."""
_WIDEST: Final = 25

_KINDS: Final[Mapping[OrderType, type[OrderRequest]]] = {
    OrderType.MARKET: MarketOrder,
    OrderType.LIMIT: LimitOrder,
    OrderType.STOP_LIMIT: StopLimitOrder,
    OrderType.STOP_MARKET: StopMarketOrder,
}
_AT_MARKET: Final = frozenset({OrderType.MARKET, OrderType.STOP_MARKET})
_CASH_ONLY: Final = frozenset({Product.DELIVERY, Product.MTF})


def check_protection(percent: Decimal) -> Decimal:
    """Return the market protection if Upstox takes it: -1, or a percentage above 0 up to 25.

    0 is refused here: the announcement of March 2026 calls it "no protection", later pages say
    that orders with it are refused.

    Raises:
        ConfigurationError: Anything else.
    """
    if percent != AUTOMATIC and not 0 < percent <= _WIDEST:
        raise ConfigurationError(f"market_protection must be -1 (by Upstox's table) or above 0 to 25, was {percent}")
    return percent


def order_to_wire(request: OrderRequest, *, key: BrokerKey, market_protection: Decimal = AUTOMATIC) -> dict[str, Any]:
    """Write a named request the way POST ``/v3/order/place`` wants it.

    Raises:
        InvalidOrder: Upstox can never take it.
        Unsupported: It trades at MCX.
    """
    check_instrument(request.instrument)
    check_product(request.product, request.instrument)
    return {
        "quantity": request.quantity,
        "product": PRODUCT[request.product],
        **_terms(request, market_protection),
        "tag": request.client_order_id,
        "instrument_token": key.id,
        "transaction_type": SIDE[request.side],
        "is_amo": request.after_market,
        "slice": False,
    }


def sliced_to_wire(request: SlicedOrder, *, key: BrokerKey, market_protection: Decimal = AUTOMATIC) -> dict[str, Any]:
    """Write a named request that Upstox cuts by the freeze quantity; errors as `order_to_wire`."""
    first = request.parts()[0]
    body = order_to_wire(first, key=key, market_protection=market_protection)
    return {**body, "quantity": request.quantity, "slice": True}


def modification_to_wire(
    order_id: str, request: OrderRequest, *, market_protection: Decimal = AUTOMATIC
) -> dict[str, Any]:
    """Write the body of PUT ``/v3/order/modify``: all terms are stated, changed or not."""
    return {"order_id": order_id, "quantity": request.quantity, **_terms(request, market_protection)}


def _terms(request: OrderRequest, market_protection: Decimal) -> dict[str, Any]:
    disclosed = request.disclosed_quantity
    if disclosed and disclosed * 10 < request.quantity:
        raise InvalidOrder(
            f"disclosed_quantity {disclosed} is too little: Upstox wants at least 10 % of {request.quantity}, "
            f"so at least {-(-request.quantity // 10)}, or 0 to show all"
        )
    terms: dict[str, Any] = {
        "order_type": TYPE[request.type],
        "validity": VALIDITY[request.validity],
        "price": 0 if request.price is None else plain(request.price),
        "trigger_price": 0 if request.trigger_price is None else plain(request.trigger_price),
        "disclosed_quantity": disclosed,
    }
    if request.type in _AT_MARKET:
        terms["market_protection"] = plain(market_protection)
    return terms


def plain(number: Decimal) -> Decimal:
    """Return the same number without an exponent, which JSON allows and few expect."""
    return Decimal(f"{number:f}")


def check_instrument(instrument: Instrument) -> None:
    """Raise `Unsupported` for what Upstox's API does not trade: MCX (UDAPI1161)."""
    if instrument.exchange is Exchange.MCX:
        raise Unsupported(
            f"Upstox takes no MCX orders through its API, so not for {instrument.id}; NSE's commodity segment is open"
        )


def check_product(product: Product, instrument: Instrument) -> None:
    """Raise `InvalidOrder` for a product that is not for this kind of instrument."""
    cash = instrument.segment is Segment.CASH
    if product in _CASH_ONLY and not cash:
        raise InvalidOrder(
            f"product {product.value!r} is for shares only; for {instrument.id} use Product.MARGIN "
            "(carried forward) or Product.INTRADAY"
        )
    if product is Product.MARGIN and cash:
        raise InvalidOrder(
            f"product 'margin' is for derivatives; for {instrument.id} use Product.DELIVERY, Product.INTRADAY "
            "or Product.MTF"
        )


def check_band(request: OrderRequest | SlicedOrder, band: tuple[Decimal, Decimal] | None) -> None:
    """Raise `InvalidOrder` for a limit price outside the day's circuit limits, where they are known.

    A price beyond them on the safe side (a buy below the lower limit) could never trade and is
    refused by the exchange as well.
    """
    if band is None or request.price is None:
        return
    lower, upper = band
    if not lower <= request.price <= upper:
        word = "raise" if request.price < lower else "lower"
        raise InvalidOrder(
            f"price {request.price} of {request.instrument.id} is outside today's circuit limits {lower} to {upper}; "
            f"{word} it"
        )


def amended(
    order: Order,
    *,
    quantity: int | None = None,
    price: Decimal | None = None,
    trigger_price: Decimal | None = None,
    validity: Validity | None = None,
    disclosed_quantity: int = 0,
) -> OrderRequest:
    """Return all terms of ``order`` with the given ones changed, checked like a new order's.

    A market order that rests under its protection becomes a limit order by being given a price.

    Raises:
        InvalidOrder: The order is over, or the terms do not fit it.
    """
    if order.is_final:
        raise InvalidOrder(f"order {order.id} is {order.status.value} and cannot be changed; place a new one")
    kind = _KINDS[order.type]
    if kind is MarketOrder and price is not None:
        kind = LimitOrder
    if price is None and kind in (LimitOrder, StopLimitOrder):
        price = order.price
    if trigger_price is None and kind in (StopLimitOrder, StopMarketOrder):
        trigger_price = order.trigger_price
    total = order.quantity if quantity is None else quantity
    request = kind(
        order.instrument,
        Side(order.side),
        quantity=total,
        price=price,
        trigger_price=trigger_price,
        product=order.product,
        validity=order.validity if validity is None else validity,
        disclosed_quantity=disclosed_quantity,
    )
    if total <= order.filled_quantity:
        raise InvalidOrder(
            f"quantity is the new total, and {order.filled_quantity} of order {order.id} have traded; "
            "ask for more than that, or cancel the rest"
        )
    return request
