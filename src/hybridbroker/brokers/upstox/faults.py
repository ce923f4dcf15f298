"""What Upstox means when it says no: its error codes, by call, read into our exceptions; pure.

The same number can mean different things in different calls, several errors can come in
one body, and each is spelled twice. Codes decide; texts are only passed on.

Documented: https://upstox.com/developer/api-documentation/error-codes/ and the tables of the
single calls, as of October 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from hybridbroker.brokers.upstox.data.wire import ErrorBody
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    InstrumentNotFound,
    InvalidOrder,
    OrderNotFound,
    OrderRejected,
    RateLimited,
    ServiceUnavailable,
    StaticIpRequired,
    TokenExpired,
    Unsupported,
    WireFormatError,
)
from hybridbroker.transport.http import Response

__all__ = ["Call", "fault", "is_refusal"]

Call = Literal[
    "feed", "quotes", "candles", "options", "schedule", "login",
    "read", "account", "book", "gtt-book", "portfolio", "funds", "margin", "brokerage", "report",
    "order", "place", "modify", "cancel", "gtt", "cancel-all", "exit-all", "convert", "kill-switch",
]  # fmt: skip
"""What was asked; the last line are writes, whose codes mean something else than those of reads."""

_WRITES: Final = frozenset(
    {"order", "place", "modify", "cancel", "gtt", "cancel-all", "exit-all", "convert", "kill-switch"}
)

Kind = type[HybridBrokerError]

# Whatever was asked.
_ANYWHERE: Final[Mapping[str, Kind]] = {
    "UDAPI10000": Unsupported,  # the request is not recognised
    "UDAPI10005": RateLimited,
    "UDAPI100012": Unsupported,  # no such endpoint (recorded)
    "UDAPI100015": ConfigurationError,  # API version
    "UDAPI100016": AuthenticationError,
    "UDAPI100050": TokenExpired,  # invalid or expired; the code does not say which
    "UDAPI100060": Unsupported,  # no such path
    "UDAPI100067": AuthenticationError,  # not for an extended token
    "UDAPI100073": AuthenticationError,  # the app is inactive
    "UDAPI100072": ServiceUnavailable,  # outside 05:30 to 24:00 IST
    "UDAPI100500": ServiceUnavailable,
    "UDAPI1149": Unsupported,  # needs Upstox Plus
    "UDAPI1154": StaticIpRequired,
    "UDAPI100011": InstrumentNotFound,
    "UDAPI1009": InstrumentNotFound,
    "UDAPI1011": InstrumentNotFound,
    "UDAPI1021": InstrumentNotFound,
    "UDAPI1087": InstrumentNotFound,
}

# Of every write, and there before the table above.
_OF_WRITES: Final[Mapping[str, Kind]] = {
    "UDAPI100010": OrderNotFound,
    "UDAPI100011": InvalidOrder,
    "UDAPI1026": InvalidOrder,
    "UDAPI100049": AuthenticationError,  # the account may not trade through this API
    "UDAPI100057": OrderRejected,  # "market is closed" (reported of the sandbox)
    "UDAPI100072": OrderRejected,  # outside 05:30 to 24:00 IST, and refused for that
    "UDAPI100074": OrderRejected,
    "UDAPI1156": ConfigurationError,  # X-Algo-Name
}

_BOOK: Final[Mapping[str, Kind]] = {
    "UDAPI100010": OrderNotFound,
    "UDAPI1003": OrderNotFound,  # an order id is required
    "UDAPI1010": OrderNotFound,  # an id has characters that no id has
    "UDAPI1023": OrderNotFound,  # an order id is required; in the login: a grant type
    "UDAPI100059": OrderNotFound,  # an order id or a tag is required
}
_GTT: Final[Mapping[str, Kind]] = {"UDAPI1134": OrderNotFound, "UDAPI1135": OrderNotFound}

# Only of one call, and there before all others.
_BY_CALL: Final[Mapping[Call, Mapping[str, Kind]]] = {
    "book": _BOOK,
    "modify": {"UDAPI1010": OrderNotFound},
    "cancel": {"UDAPI1010": OrderNotFound},
    "gtt-book": {**_BOOK, **_GTT},
    "gtt": _GTT,
    "read": {
        "UDAPI100010": OrderNotFound,
        "UDAPI100058": AuthenticationError,  # no active segment
    },
    "account": {"UDAPI100058": AuthenticationError},
    "login": {
        "UDAPI100057": AuthenticationError,
        "UDAPI100068": ConfigurationError,
        "UDAPI100069": ConfigurationError,
        "UDAPI100070": ConfigurationError,
    },
}

_BY_STATUS: Final[Mapping[int, Kind]] = {
    401: AuthenticationError,
    # Also Cloudflare's and the network's word; Upstox says 401 where it means the token.
    403: ServiceUnavailable,
    404: Unsupported,
    423: ServiceUnavailable,
    429: RateLimited,
}


_HINTS: Final[Mapping[Kind, str]] = {
    StaticIpRequired: (
        ": orders must leave from the address registered at account.upstox.com/developer/apps; "
        "a token made before the address was changed keeps the old one"
    ),
}


def is_refusal(response: Response) -> bool:
    """Say whether the body tells an error of Upstox's own, readably."""
    try:
        return any(each.code or each.message for each in ErrorBody.read(response).errors)
    except WireFormatError:
        return False


def fault(response: Response, *, call: Call) -> HybridBrokerError:
    """Return the exception that ``response``, a refusal, stands for.

    Of several errors the first with a known code decides; the message tells them all. Of a
    write, an error of Upstox's own making decides before the others, since it leaves open what
    was done. A code nobody documented becomes `OrderRejected` for a write, else what the status
    says, else `ConfigurationError`: the request was understood and is wrong.
    """
    try:
        errors = ErrorBody.read(response).errors
    except WireFormatError:
        return _by_status(response, call=call)(f"{response.request}: HTTP {response.status} {response.excerpt}")
    told = "; ".join(f"{each.message} [{each.code}]" for each in errors)
    message = f"{response.request}: {told}"
    tables = (_BY_CALL.get(call, {}), _OF_WRITES if call in _WRITES else {}, _ANYWHERE)
    found = (next((table[each.code] for table in tables if each.code in table), None) for each in errors)
    known = [kind for kind in found if kind is not None]
    if call in _WRITES and ServiceUnavailable in known:
        return ServiceUnavailable(message, response=response)
    kind = known[0] if known else _by_status(response, call=call)
    if kind is OrderRejected:
        return OrderRejected("; ".join(each.message or each.code for each in errors), code=errors[0].code)
    if kind is TokenExpired:
        return TokenExpired(f"{message}: the token is wrong or over (03:30 IST); log in again, set UPSTOX_ACCESS_TOKEN")
    return kind(message + _HINTS.get(kind, ""))


def _by_status(response: Response, *, call: Call) -> Kind:
    return _BY_STATUS.get(response.status, OrderRejected if call in _WRITES else ConfigurationError)
