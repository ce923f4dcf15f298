"""What we ask of Dhan: orders and changes of orders, checked and spelled its way; pure.

Documented: https://dhanhq.co/docs/v2/orders/ . Prices stay `Decimal` and are written as JSON
numbers digit by digit (Dhan takes numbers and strings; its own client sends numbers), so no
binary fraction is ever in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from hybridbroker.brokers.dhan.orders.mapping import PRODUCT, SIDE, TYPE, VALIDITY
from hybridbroker.domain.instrument import BrokerKey, Instrument, Segment
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderType,
    Product,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.errors import InvalidOrder, Unsupported

__all__ = ["amended", "check_product", "modification_to_wire", "order_to_wire", "plain", "sliced_to_wire"]

_KINDS: Final[Mapping[OrderType, type[OrderRequest]]] = {
    OrderType.MARKET: MarketOrder,
    OrderType.LIMIT: LimitOrder,
    OrderType.STOP_LIMIT: StopLimitOrder,
    OrderType.STOP_MARKET: StopMarketOrder,
}
_PRICED: Final = frozenset({LimitOrder, StopLimitOrder})
_STOPS: Final = frozenset({StopLimitOrder, StopMarketOrder})
_CASH_ONLY: Final = frozenset({Product.DELIVERY, Product.MTF})
_UNSAFE_STOP: Final = (
    "Dhan's own stop-market orders are unsafe (reported in July 2026: the trigger was dropped and the order filled at "
    "once, or it was refused), so they are left alone unless the broker is opened with raw_stop_market=True"
)


def order_to_wire(
    request: OrderRequest, *, key: BrokerKey, client_id: str, raw_stop_market: bool = False
) -> dict[str, Any]:
    """Write a named request the way POST ``/orders`` wants it; prices stay `Decimal`.

    A field that does not apply is left out: an empty string was refused. A market order is
    sent with price 0, and since 21 March 2026 Dhan turns it into a limit with a band that it
    does not publish, which may rest.

    Raises:
        InvalidOrder: Dhan can never take it.
        Unsupported: It is a stop-market order, and those are not to be sent as they are.
    """
    check_product(request.instrument, request.product)
    body = {
        "dhanClientId": client_id,
        "correlationId": request.client_order_id,
        "transactionType": SIDE[request.side],
        "exchangeSegment": key.segment,
        "productType": PRODUCT[request.product],
        "securityId": key.id,
        "afterMarketOrder": request.after_market,
        **_terms(request, raw_stop_market=raw_stop_market),
    }
    if request.after_market:
        body["amoTime"] = "OPEN"
    return body


def sliced_to_wire(request: SlicedOrder, *, key: BrokerKey, client_id: str) -> dict[str, Any]:
    """Write a named order of any size the way POST ``/orders/slicing`` wants it.

    Raises:
        InvalidOrder: Dhan can never take it.
    """
    check_product(request.instrument, request.product)
    return {
        "dhanClientId": client_id,
        "correlationId": request.client_order_id,
        "transactionType": SIDE[request.side],
        "exchangeSegment": key.segment,
        "productType": PRODUCT[request.product],
        "securityId": key.id,
        "afterMarketOrder": False,
        "orderType": TYPE[request.type],
        "validity": VALIDITY[Validity.DAY],
        "quantity": request.quantity,
        "price": 0 if request.price is None else plain(request.price),
    }


def modification_to_wire(
    order_id: str, request: OrderRequest, *, client_id: str, raw_stop_market: bool = False
) -> dict[str, Any]:
    """Write the body of PUT ``/orders/{id}``, which replaces every term: all of them are stated."""
    terms = _terms(request, raw_stop_market=raw_stop_market)
    return {"dhanClientId": client_id, "orderId": order_id, **terms}


def _terms(request: OrderRequest, *, raw_stop_market: bool) -> dict[str, Any]:
    if request.type is OrderType.STOP_MARKET and not raw_stop_market:
        raise Unsupported(_UNSAFE_STOP)
    terms: dict[str, Any] = {
        "orderType": TYPE[request.type],
        "validity": VALIDITY[request.validity],
        "quantity": request.quantity,
        "price": 0 if request.price is None else plain(request.price),
    }
    if request.trigger_price is not None:
        terms["triggerPrice"] = plain(request.trigger_price)
    if disclosed := request.disclosed_quantity:
        if disclosed * 10 <= request.quantity * 3:
            least = request.quantity * 3 // 10 + 1
            raise InvalidOrder(
                f"disclosed_quantity {disclosed} is too little: Dhan wants more than 30 % of {request.quantity}, "
                f"so at least {least}, or 0 to show all"
            )
        terms["disclosedQuantity"] = disclosed
    return terms


def plain(price: Decimal) -> Decimal:
    """Return the same price without an exponent, which JSON allows and few expect."""
    return Decimal(f"{price:f}")


def check_product(instrument: Instrument, product: Product) -> None:
    """Raise `InvalidOrder` for a product that Dhan does not have in this segment."""
    cash = instrument.segment is Segment.CASH
    if product in _CASH_ONLY and not cash:
        raise InvalidOrder(
            f"Dhan takes product {product.value!r} for shares only; for {instrument.id} use "
            "Product.MARGIN (carried forward) or Product.INTRADAY"
        )
    if product is Product.MARGIN and cash:
        raise InvalidOrder(
            f"Dhan's product 'margin' is for derivatives; for {instrument.id} use Product.DELIVERY, "
            "Product.INTRADAY or Product.MTF"
        )


def amended(
    order: Order,
    *,
    quantity: int | None,
    price: Decimal | None,
    trigger_price: Decimal | None,
    validity: Validity | None,
    disclosed_quantity: int,
    raw_stop_market: bool = False,
) -> OrderRequest:
    """Return all terms of ``order`` with the given ones changed, checked like a new order's.

    A market order that Dhan has turned into a limit is changed as the limit it has become.

    Raises:
        InvalidOrder: The order is over, or the terms do not fit it.
        Unsupported: It is a stop-market order, and those are not to be sent as they are.
    """
    if order.is_final:
        raise InvalidOrder(f"order {order.id} is {order.status.value} and cannot be changed; place a new one")
    kind = _KINDS.get(order.type)
    if kind is None or (kind is StopMarketOrder and not raw_stop_market):
        raise Unsupported(f"order {order.id}: {_UNSAFE_STOP}; cancel it first")
    total = order.quantity if quantity is None else quantity
    if price is None and kind in _PRICED:
        price = order.price
    if trigger_price is None and kind in _STOPS:
        trigger_price = order.trigger_price
    request = kind(
        order.instrument,
        order.side,
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
