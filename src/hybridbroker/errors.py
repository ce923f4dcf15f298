"""Every exception the library raises, grouped by what the caller should do next.

```
HybridBrokerError
├── ConfigurationError          fix the settings or the input, then start again
├── AuthenticationError         log in again; repeating the request cannot help
│   ├── TokenExpired            the daily token is over; get a new one
│   └── StaticIpRequired        orders must leave from the registered address
├── Unsupported                 this broker cannot do that; read ``capabilities`` first
├── InstrumentError             fail closed: nothing was looked up by guess
│   ├── InstrumentNotFound      no such instrument; search for it
│   ├── InstrumentAmbiguous     several fit; name one of ``candidates``
│   ├── InstrumentUnmapped      it exists, but not at this broker
│   └── InstrumentConflict      the brokers disagree about it; do not trade it
├── NetworkError
│   ├── NotSent                 it certainly never arrived; sending again is safe
│   ├── RateLimited             refused unread; a read may repeat after ``retry_after``,
│   │                           a write only after the book shows the order absent
│   ├── ReplyLost               it was sent and no answer came; only reads may repeat
│   └── ServiceUnavailable      the server answered that it cannot; only reads may repeat
├── OrderError
│   ├── InvalidOrder            refused here, before anything was sent
│   ├── OrderRejected           the broker said no; nothing was placed
│   ├── OrderOutcomeUnknown     it may be live; look it up by ``client_order_id``
│   ├── OrderNotFound           the broker knows no such order
│   └── RiskRefused             a limit of yours said no; nothing was sent
├── FeedError
│   ├── FeedAuthenticationError the feed refused the credentials; it will not hammer
│   └── SubscriptionLimit       more instruments or sockets than the plan allows
└── WireFormatError             the broker sent something its documentation does not allow
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "FeedAuthenticationError",
    "FeedError",
    "HybridBrokerError",
    "InstrumentAmbiguous",
    "InstrumentConflict",
    "InstrumentError",
    "InstrumentNotFound",
    "InstrumentUnmapped",
    "InvalidOrder",
    "NetworkError",
    "NotSent",
    "OrderError",
    "OrderNotFound",
    "OrderOutcomeUnknown",
    "OrderRejected",
    "RateLimited",
    "ReplyLost",
    "RiskRefused",
    "ServiceUnavailable",
    "StaticIpRequired",
    "SubscriptionLimit",
    "TokenExpired",
    "Unsupported",
    "WireFormatError",
]


class HybridBrokerError(Exception):
    """Base of every exception this library raises on purpose."""


class ConfigurationError(HybridBrokerError):
    """A setting, a file or an argument is wrong; the message says how to mend it."""


class AuthenticationError(HybridBrokerError):
    """The broker does not accept these credentials; repeating cannot help."""


class TokenExpired(AuthenticationError):
    """The access token is over; log in again."""


class StaticIpRequired(AuthenticationError):
    """Orders were refused because they did not leave from the registered address."""


class Unsupported(HybridBrokerError):
    """This broker cannot do that; nothing was sent."""


class InstrumentError(HybridBrokerError):
    """An instrument could not be named without guessing."""


class InstrumentNotFound(InstrumentError):
    """No instrument has this name."""


class InstrumentAmbiguous(InstrumentError):
    """Several instruments fit the name; none was chosen."""

    def __init__(self, message: str, *, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)
        """Ids of the instruments that fit."""


class InstrumentUnmapped(InstrumentError):
    """The instrument exists, but this broker's list has no counterpart."""


class InstrumentConflict(InstrumentError):
    """The brokers' lists disagree about this instrument, so it is quarantined."""


class NetworkError(HybridBrokerError):
    """Something failed between this process and the broker."""


class NotSent(NetworkError):
    """The request certainly never arrived; sending it again is safe."""


class RateLimited(NetworkError):
    """The broker refused the request unread because too many came before it."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the server asked to wait, or None where it did not say."""


class ReplyLost(NetworkError):
    """The request was sent and no answer came; it may have been carried out."""


class ServiceUnavailable(NetworkError):
    """The server answered that it cannot serve; a write may still have happened."""

    def __init__(self, message: str, *, response: Any = None) -> None:
        super().__init__(message)
        self.response = response
        """What the server answered, as the transport read it; None where nothing readable came."""


class OrderError(HybridBrokerError):
    """An order did not go the way the caller asked."""


class InvalidOrder(OrderError):
    """The order can never be right, so it was refused here; nothing was sent."""


class OrderRejected(OrderError):
    """The broker or the exchange said no; nothing was placed."""

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(reason if code is None else f"{reason} [{code}]")
        self.reason = reason
        """The broker's own words."""
        self.code = code
        """The broker's error code, where it gave one."""


class OrderOutcomeUnknown(OrderError):
    """The answer to an order call was lost; the order may be live.

    Look it up with ``find_order(client_order_id)`` or in ``orders()``. Never send it
    again before the book has been read.
    """

    def __init__(self, message: str = "", *, client_order_id: str, looks: Sequence[Any] = ()) -> None:
        super().__init__(message or f"order {client_order_id} may or may not be live; look it up, do not resend it")
        self.client_order_id = client_order_id
        """The id to look the order up by (the order id, for modify and cancel)."""
        self.looks = tuple(looks)
        """Where it was looked for and when (`hybridbroker.execution.reconcile.Look`); empty from a bare broker."""


class OrderNotFound(OrderError):
    """The broker knows no order by this id."""


class RiskRefused(OrderError):
    """One of the caller's own limits refused the order; nothing was sent."""

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit
        """Name of the limit that refused."""


class FeedError(HybridBrokerError):
    """The market-data stream cannot go on by itself."""


class FeedAuthenticationError(FeedError):
    """The feed refused the credentials; it stopped instead of hammering."""


class SubscriptionLimit(FeedError):
    """More instruments or sockets than the data plan allows; nothing was sent."""


class WireFormatError(HybridBrokerError):
    """The broker sent something its documentation does not allow."""
