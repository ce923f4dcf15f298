"""The order-update socket's language: the login frame, and how an update is read; no I/O.

Documented: https://dhanhq.co/docs/v2/order-update/ . Recorded: production sends camelCase
keys where the documentation prints PascalCase, and Title-case statuses. How a partial fill is
spelled is unconfirmed, so quantities decide. No trade ids are sent, nothing is replayed, and
no answer to the login is documented: only the first update proves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, TypeVar

from hybridbroker.brokers.dhan import mapping
from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.wire import OrderAlert
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, OrderType, Product, Side, Validity
from hybridbroker.errors import WireFormatError

__all__ = ["login_frame", "order_from_alert", "read_frame", "segment_of"]

T = TypeVar("T")

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
        parsed = json.loads(frame)
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

    None where the two together do not make an order: it has to be read.

    Raises:
        WireFormatError: A code nobody documented.
    """
    what = f"update of order {alert.order_no}"
    where = instrument or (known and known.instrument)
    side = _told(_SIDE, alert.txn_type, known and known.side, what)
    kind = _told(_TYPE, alert.order_type, known and known.type, what)
    product = _told(_PRODUCT, alert.product, known and known.product, what)
    validity = _told(_VALIDITY, alert.validity, known and known.validity, what)
    quantity = alert.quantity or (known and known.quantity)
    if not (where and side and kind and product and validity and quantity):
        return None
    told = alert.traded_qty if alert.traded_qty is not None or known is None else known.filled_quantity
    filled = mapping.units_filled(told, alert.status, quantity)
    status = mapping.status_from_wire(alert.status, quantity=quantity, filled=filled)
    return Order(
        id=alert.order_no,
        client_order_id=mapping.identifier(alert.correlation_id) or (known and known.client_order_id),
        instrument=where,
        side=side,
        type=kind,
        product=product,
        validity=validity,
        quantity=quantity,
        filled_quantity=filled,
        price=mapping.money(alert.price) if alert.price is not None else known and known.price,
        trigger_price=mapping.money(alert.trigger_price)
        if alert.trigger_price is not None
        else known and known.trigger_price,
        average_price=mapping.money(alert.avg_traded_price) or (known and known.average_price),
        status=status,
        reason=mapping.reason(alert.reason_description, status),
        placed_at=mapping.instant(alert.order_date_time) or (known and known.placed_at),
        updated_at=mapping.instant(alert.last_updated_time),
        exchange_order_id=mapping.identifier(alert.exch_order_no) or (known and known.exchange_order_id),
        raw=alert.status,
    )


def _told(table: Mapping[str, T], text: str | None, fallback: T | None, what: str) -> T | None:
    return mapping.look_up(table, text.upper(), what=what) if text else fallback
