"""Postbacks: the order as Dhan posts it to the address bound to a token; read by the mapping of the order book.

They carry no signature and no secret, so a postback is a hint: read the order before acting on it.
Documented: https://dhanhq.co/docs/v2/postback/ ; fills are spelled ``filled_qty`` there, and what
the book calls ``"NA"`` is null.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hybridbroker.brokers.dhan.orders import wire
from hybridbroker.brokers.dhan.orders.mapping import order_from_wire
from hybridbroker.brokers.dhan.orders.names import Names
from hybridbroker.domain.orders import Order
from hybridbroker.errors import WireFormatError
from hybridbroker.protocols import InstrumentLookup

__all__ = ["read_postback"]


def read_postback(body: bytes | str, *, instruments: InstrumentLookup) -> Order:
    """Return the order that the body of one postback tells of.

    Raises:
        WireFormatError: It is none.
    """
    try:
        payload = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise WireFormatError(f"a postback of {len(body)} characters is not JSON") from None
    if not isinstance(payload, Mapping):
        raise WireFormatError("a postback is not a JSON object")
    row = wire.OrderRow.read(payload, what="a postback")
    instrument = Names(instruments).instrument(
        row.exchange_segment,
        row.security_id,
        symbol=row.trading_symbol,
        expiry=row.drv_expiry_date,
        strike=row.drv_strike_price,
    )
    return order_from_wire(row, instrument=instrument)
