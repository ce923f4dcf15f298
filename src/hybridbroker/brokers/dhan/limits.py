"""Dhan's documented rate limits, as of November 2026.

Per user (client id), whatever the address or token. Documented:
https://dhanhq.co/docs/v2/#rate-limit (the new portal prints the daily figures of two
families the wrong way round). Enforced at 10 orders a second since 21 March 2026;
above that rate an algorithm must be registered with the exchange (SEBI, 4 February 2025).
Answers to a breach: HTTP 429 with DH-904, or 805 in the data calls; neither says how long
to wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hybridbroker.transport.limits import Window

__all__ = [
    "AS_OF",
    "FEED_INSTRUMENTS",
    "FEED_INSTRUMENTS_PER_MESSAGE",
    "FEED_SOCKETS",
    "LIMITS",
    "MODIFICATIONS_PER_ORDER",
    "QUOTES_PER_CALL",
    "SAME_CHAIN",
]

AS_OF: Final = "November 2026"
"""When Dhan's documentation of them was read last."""

# A hair above a second: requests bunch up on their way, and ten a second is a legal line.
_SECOND: Final = 1.05
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 86_400.0

LIMITS: Final[Mapping[str, Sequence[Window]]] = {
    # Place, modify, cancel, slicing, super, forever and conditional orders share these.
    "order": (
        Window(limit=10, seconds=_SECOND),
        Window(limit=250, seconds=_MINUTE),
        Window(limit=1_000, seconds=_HOUR),
        Window(limit=7_000, seconds=_DAY),
    ),
    # "Non-trading": funds, holdings, positions, statements; books are outside the order cap,
    # that they belong here is inferred.
    "read": (Window(limit=20, seconds=_SECOND),),
    # Charts and rolling options.
    "data": (Window(limit=5, seconds=_SECOND), Window(limit=100_000, seconds=_DAY)),
    # /marketfeed/*, all three calls together: a spacing of 1.0 s was refused, 1.1 s was not.
    "quote": (Window(limit=1, seconds=1.1),),
    # Whether chains count as data or as quotes is not documented: the slower of the two.
    "option-chain": (Window(limit=1, seconds=1.1),),
}
"""Windows by family; a request must fit into every window of its family."""

MODIFICATIONS_PER_ORDER: Final = 25
"""Dhan refuses the twenty-sixth change of one order."""

SAME_CHAIN: Final = Window(limit=1, seconds=3.05)
"""The same underlying and expiry; another one may be asked for within the same three seconds."""

QUOTES_PER_CALL: Final = 1_000
"""Instruments of one quote call, all segments together."""

FEED_SOCKETS: Final = 5
"""Sockets of one user; a sixth has the oldest hung up on (805). Whether the depth sockets count is disputed."""
FEED_INSTRUMENTS: Final = 5_000
"""Instruments of one socket, whatever their modes."""
FEED_INSTRUMENTS_PER_MESSAGE: Final = 100
