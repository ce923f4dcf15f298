"""What Upstox allows: requests per window, and keys and sockets of the market data feed.

Documented, as of October 2026: https://upstox.com/developer/api-documentation/rate-limiting/
and https://upstox.com/developer/api-documentation/v3/get-market-data-feed. Limits hold per
user and per API; two processes on one account share them, and no counter is shown. Answer
to a breach: HTTP 429 with UDAPI10005, which does not say how long to wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from hybridbroker.domain.market import FeedMode
from hybridbroker.errors import SubscriptionLimit
from hybridbroker.transport.limits import Window

__all__ = ["AS_OF", "FEED_LIMITS", "LIMITS", "FeedLimits", "Plan", "check_subscription"]

AS_OF: Final = "October 2026"
"""When Upstox's documentation of them was read last."""

Plan = Literal["normal", "plus"]

# A hair above the documented second: requests bunch up on their way.
_SECOND: Final = 1.05
_MINUTE: Final = 60.0
_HALF_HOUR: Final = 1800.0

_PER_HALF_HOUR: Final = (Window(limit=500, seconds=_MINUTE), Window(limit=2000, seconds=_HALF_HOUR))
_STANDARD: Final = (Window(limit=50, seconds=_SECOND), *_PER_HALF_HOUR)

LIMITS: Final[Mapping[str, tuple[Window, ...]]] = {
    # Counted per API, which is taken as per kind of call: a long download of candles holds up
    # neither the order book nor a reconnection.
    "read": _STANDARD,  # books, portfolio, funds, charges, profile
    "quotes": _STANDARD,
    "candles": _STANDARD,
    "options": _STANDARD,
    "feed": _STANDARD,  # the authorize calls of both feeds
    # Place, modify, cancel, multi, GTT and exits together, for an algorithm that is not registered
    # with the exchange, and for one that is and says its name.
    "order": (Window(limit=10, seconds=_SECOND), *_PER_HALF_HOUR),
    "order-registered": _STANDARD,
}
"""Windows by family; a request must fit into every window of its family."""


@attrs.frozen(kw_only=True)
class FeedLimits:
    """What one plan may ask of the market data feed."""

    sockets: int
    alone: Mapping[FeedMode, int]
    """Most keys of a mode while no other mode is used."""
    mixed: Mapping[FeedMode, int]
    """Most keys of a mode beside another mode."""


_ALONE: Final = {FeedMode.LTP: 5000, FeedMode.OPTION_GREEKS: 3000, FeedMode.FULL: 2000, FeedMode.DEPTH_30: 0}
_MIXED: Final = {FeedMode.LTP: 2000, FeedMode.OPTION_GREEKS: 2000, FeedMode.FULL: 1500, FeedMode.DEPTH_30: 0}

FEED_LIMITS: Final[Mapping[Plan, FeedLimits]] = {
    "normal": FeedLimits(sockets=2, alone=_ALONE, mixed=_MIXED),
    # The page gives 50 keys of depth-30 alone and 1500 in its combined column, which cannot both be meant.
    "plus": FeedLimits(sockets=5, alone=_ALONE | {FeedMode.DEPTH_30: 50}, mixed=_MIXED | {FeedMode.DEPTH_30: 50}),
}
"""Read as limits of the user, not of the socket: the page does not say which (unconfirmed)."""


def check_subscription(counts: Mapping[FeedMode, int], *, plan: Plan) -> None:
    """Check that keys of each mode, of all sockets together, are within the plan.

    Raises:
        SubscriptionLimit: Naming the mode, the limit and what was asked.
    """
    limits = FEED_LIMITS[plan]
    used = {mode: count for mode, count in counts.items() if count}
    table, how = (limits.mixed, "beside other modes") if len(used) > 1 else (limits.alone, "alone")
    for mode, count in used.items():
        if count > table[mode]:
            raise SubscriptionLimit(
                f"Upstox's {plan} plan allows {table[mode]} instruments in mode {mode.value} {how}, "
                f"this makes {count}; subscribe fewer, or in a lighter mode"
            )
