"""Why Dhan's feed hung up: the reasons of its disconnect packet as exceptions; pure.

Documented: https://dhanhq.co/docs/v2/annexure/#data-api-error . 820 and 821 (plan) and 401
(token) are told of by one integrator (unconfirmed).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from hybridbroker.errors import FeedAuthenticationError, FeedError, SubscriptionLimit

__all__ = ["NO_PLAN", "TOKEN_REASONS", "TOO_MANY", "Goodbye", "read_goodbye"]

NO_PLAN: Final = (
    "this account has no active Data API plan, which Dhan wants for every price; subscribe at web.dhan.co -> "
    "My Profile -> Access DhanHQ APIs (`hybridbroker doctor` shows the plan)"
)
TOO_MANY: Final = 805
"""Too many sockets (or requests): the oldest is hung up on, and insisting may get the user blocked."""
TOKEN_REASONS: Final = frozenset({401, 807, 808, 809})
"""Another token may help."""

_Build = Callable[[str], FeedError]

_FATAL: Final[dict[int, tuple[_Build, str]]] = {
    401: (FeedAuthenticationError, "the token is not accepted; log in again"),
    804: (SubscriptionLimit, "too many instruments on one socket; subscribe fewer"),
    806: (FeedAuthenticationError, NO_PLAN),
    807: (FeedAuthenticationError, "the access token has expired; log in again"),
    808: (FeedAuthenticationError, "client id or token is wrong; log in again"),
    809: (FeedAuthenticationError, "the token is invalid, perhaps replaced by a newer one; log in again"),
    810: (FeedAuthenticationError, "the client id is invalid; check DHAN_CLIENT_ID"),
    811: (FeedError, "an expiry date in a request was invalid"),
    812: (FeedError, "a date in a request was invalid"),
    813: (FeedError, "a security id is invalid; refresh the instruments (`hybridbroker instruments build`)"),
    814: (FeedError, "a request was invalid"),
    820: (FeedAuthenticationError, NO_PLAN),
    821: (FeedAuthenticationError, NO_PLAN),
}
_PASSING: Final = {800: "internal error", TOO_MANY: "too many connections of this account"}


@attrs.frozen
class Goodbye:
    """What one disconnect packet means."""

    code: int
    error: FeedError | None
    """What ends the stream; None where a new connection may well live."""
    reason: str


def read_goodbye(code: int) -> Goodbye:
    """Return what reason ``code`` means; one that nobody documented is taken for a passing trouble."""
    if code in _FATAL:
        build, words = _FATAL[code]
        return Goodbye(code, build(f"the Dhan feed hung up: {words} [{code}]"), words)
    return Goodbye(code, None, _PASSING.get(code, "a reason that is not documented"))
