"""The order-update socket's language: the login frame, and how an update is read; no I/O.

Documented: https://dhanhq.co/docs/v2/order-update/ . Recorded: production sends camelCase
keys where the documentation prints PascalCase, and Title-case statuses. How a partial fill is
spelled is unconfirmed, so quantities decide. No trade ids are sent, nothing is replayed, and
no answer to the login is documented: only the first update proves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import attrs
import msgspec

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.orders import mapping
from hybridbroker.brokers.dhan.orders.wire import OrderAlert
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, OrderStatus, OrderType, Product, Side, Validity
from hybridbroker.errors import WireFormatError

__all__ = ["login_frame", "order_from_alert", "read_frame", "segment_of"]

_LOGIN: Final = 42
_SEGMENTS: Final = {
    ("NSE", "E"): "NSE_EQ",
    ("NSE", "D"): "NSE_FNO",
    ("NSE", "C"): "NSE_CURRENCY",
    ("NSE", "M"): "NSE_COMM",
    ("BSE", "E"): "BSE_EQ",
    ("BSE", "D"): "BSE_FNO",
    ("BSE", "C"): "BSE_CURRENCY",
    ("MCX", "M"): "MCX_COMM",
}
_SIDE: Final = {"B": Side.BUY, "S": Side.SELL}
_TYPE: Final = {
    "MKT": OrderType.MARKET,
    "LMT": OrderType.LIMIT,
    "SL": OrderType.STOP_LIMIT,
    "SLM": OrderType.STOP_MARKET,
}
_PRODUCT: Final = {
    "C": Product.DELIVERY,
    "I": Product.INTRADAY,
    "M": Product.MARGIN,
    "F": Product.MTF,
    "V": Product.INTRADAY,
    "B": Product.INTRADAY,
}
_VALIDITY: Final = {"DAY": Validity.DAY, "IOC": Validity.IOC}


def login_frame(token: AccessToken) -> str:
    """Return the first frame of a connection; it holds the token."""
    request = {"MsgCode": _LOGIN, "ClientId": token.client_id, "Token": token.secret.get_secret_value()}
    return json.dumps({"LoginReq": request, "UserType": "SELF"})


def read_frame(frame: str | bytes) -> OrderAlert | None:
    """Read one frame; None where it is no order update (a login answer, something new).

    Raises:
        WireFormatError: It cannot be read; the message holds nothing of its content.
    """
    try:
        parsed = msgspec.json.decode(frame)
    except (ValueError, RecursionError):
        raise WireFormatError(f"a frame of {len(frame)} characters is not JSON") from None
    if not isinstance(parsed, Mapping):
        raise WireFormatError("a frame is not a JSON object")
    top = {str(key).lower(): value for key, value in parsed.items()}
    if str(top.get("type", "order_alert")).lower() != "order_alert":
        return None
    data = top.get("data")
    if not isinstance(data, Mapping):
        if "type" in top:
            raise WireFormatError("an order update has no data")
        return None
    return OrderAlert.of(data)


def segment_of(alert: OrderAlert) -> str | None:
    """Return Dhan's segment name of an update, or None where it does not say."""
    return _SEGMENTS.get(((alert.exchange or "").upper(), (alert.segment or "").upper()))


def order_from_alert(alert: OrderAlert, *, instrument: Instrument | None, known: Order | None) -> Order | None:
    """Return the order as an update leaves it; what the update leaves out comes from ``known``.

    None where the two together do not make an order, or where the units traded are left out:
    it has to be read.

    Raises:
        WireFormatError: A code nobody documented.
    """
    base = known or _first_sight(alert, instrument=instrument)
    filled = alert.traded_qty
    if base is None or filled is None:
        return None
    what = f"update of order {alert.order_no}"
    quantity = alert.quantity or base.quantity
    status = mapping.status_from_wire(alert.status, quantity=quantity, filled=filled)
    trigger = alert.trigger_price
    return attrs.evolve(
        base,
        client_order_id=mapping.identifier(alert.correlation_id) or base.client_order_id,
        instrument=instrument or base.instrument,
        type=mapping.look_up(_TYPE, alert.order_type, what=what) if alert.order_type else base.type,
        product=mapping.look_up(_PRODUCT, alert.product, what=what) if alert.product else base.product,
        validity=mapping.look_up(_VALIDITY, alert.validity, what=what) if alert.validity else base.validity,
        quantity=quantity,
        filled_quantity=filled,
        price=base.price if alert.price is None else mapping.money(alert.price),
        trigger_price=base.trigger_price if trigger is None else mapping.money(trigger),
        average_price=mapping.money(alert.avg_traded_price) or base.average_price,
        status=status,
        reason=mapping.reason(alert.reason_description, status),
        placed_at=mapping.instant(alert.order_date_time) or base.placed_at,
        updated_at=mapping.instant(alert.last_updated_time),
        exchange_order_id=mapping.identifier(alert.exch_order_no) or base.exchange_order_id,
        raw=alert.status,
    )


def _first_sight(alert: OrderAlert, *, instrument: Instrument | None) -> Order | None:
    """Return what never changes of an order that nobody has seen before, or None where that is not all there."""
    if instrument is None or alert.quantity is None:
        return None
    if not (alert.txn_type and alert.order_type and alert.product and alert.validity):
        return None
    what = f"update of order {alert.order_no}"
    return Order(
        id=alert.order_no,
        client_order_id=None,
        instrument=instrument,
        side=mapping.look_up(_SIDE, alert.txn_type, what=what),
        type=mapping.look_up(_TYPE, alert.order_type, what=what),
        product=mapping.look_up(_PRODUCT, alert.product, what=what),
        validity=mapping.look_up(_VALIDITY, alert.validity, what=what),
        quantity=alert.quantity,
        status=OrderStatus.UNKNOWN,
    )
