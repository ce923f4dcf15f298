"""The portfolio stream's language: how a message is read; no I/O.

Documented: https://upstox.com/developer/api-documentation/get-portfolio-stream-feed . Nothing is
sent by the client, nothing is replayed by the server. Positions name their segment where REST
names an exchange, and GTT orders know fewer statuses. A postback holds the same messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.errors import WireFormatError

__all__ = ["EVERYTHING", "ORDERS", "Message", "read_message"]

ORDERS: Final = ("order",)
EVERYTHING: Final = ("order", "gtt_order", "position", "holding")

Message = wire.OrderRow | wire.GttRow | wire.PositionRow | wire.HoldingRow

_KINDS: Final[Mapping[str, type[wire.OrderRow | wire.GttRow | wire.PositionRow | wire.HoldingRow]]] = {
    "order": wire.OrderRow,
    "gtt_order": wire.GttRow,
    "position": wire.PositionRow,
    "holding": wire.HoldingRow,
}


def read_message(frame: str | bytes) -> Message | None:
    """Read one message; None where it is of a kind that is not known.

    Raises:
        WireFormatError: It cannot be read; the message holds nothing of its content.
    """
    try:
        parsed = msgspec.json.decode(frame)
    except (ValueError, RecursionError):
        raise WireFormatError(f"a message of {len(frame)} characters is not JSON") from None
    if not isinstance(parsed, Mapping):
        raise WireFormatError("a message is not a JSON object")
    said = parsed.get("update_type")
    kind = _KINDS.get(said) if isinstance(said, str) else None
    return None if kind is None else kind.read(parsed, what=f"a message about {said}")
