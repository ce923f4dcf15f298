"""What Dhan means when it says no: error bodies of every shape, read into our exceptions; pure.

Dhan answers errors in at least six shapes, under almost any HTTP status, and two of its
codes (DH-905 and DH-906) stand for nearly everything, a dead token included. So the body
decides before the status, and the text decides where the code says nothing.

Documented: https://dhanhq.co/docs/v2/annexure/ (codes). Recorded: "Invalid Token" under
DH-906 with HTTP 400, "Invalid IP" under DH-905, codes as keys of a ``data`` map, the
gateway's 404, ``DH-1111`` with HTTP 500 for an empty portfolio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    OrderRejected,
    RateLimited,
    ServiceUnavailable,
    StaticIpRequired,
    TokenExpired,
    WireFormatError,
)

__all__ = ["Fault", "fault_in", "read_error", "token_is_dead", "write_error"]

_UNAUTHORIZED: Final = 401
_LONGEST: Final = 300
_LARGEST_CODE: Final = 10**9


@attrs.frozen(kw_only=True)
class Fault:
    """What an error body says, whatever its shape."""

    code: str | None
    """``DH-905``, ``807``, ``INTERNAL_SERVER_ERROR``; None where the body names none."""
    message: str
    """Dhan's own words, on one line."""
    gateway: bool = False
    """It came from the gateway, which knows no such path."""

    def __str__(self) -> str:
        return self.message if self.code is None else f"{self.message} [{self.code}]"

    def says(self, text: str) -> bool:
        """Say whether the message holds ``text``, whatever the case."""
        return text in self.message.lower()

    @property
    def no_such_order(self) -> bool:
        """Whether it may mean that the order is not there (or not there yet)."""
        return self.code == "DH-906" and self.says("incorrect request for order")

    @property
    def in_transit(self) -> bool:
        """Whether an order was still on its way to the exchange, so that nothing was done to it."""
        return self.code == "DH-906" and self.says("transit")

    @property
    def empty_portfolio(self) -> bool:
        """Whether it is Dhan's way of saying that there are no holdings."""
        return self.code == "DH-1111"

    @property
    def throttled(self) -> bool:
        """Whether Dhan asks for fewer requests, under whatever HTTP status."""
        return self.code in {"DH-904", "805"}


def fault_in(payload: object) -> Fault | None:
    """Return the error a parsed body holds, or None where it holds none.

    An error is an object (or an element of an array) that carries a code or an error type,
    or a ``status`` other than success.
    """
    if isinstance(payload, Mapping):
        return _fault(payload)
    if isinstance(payload, list):
        return next((found for each in payload if isinstance(each, Mapping) and (found := _fault(each))), None)
    return None


def _fault(body: Mapping[str, object]) -> Fault | None:
    code = body.get("errorCode") or body.get("internalErrorCode")
    status = body.get("status")
    if code or body.get("errorType"):
        return Fault(code=_text(code) or None, message=_message(body))
    if status is None or (isinstance(status, str) and status.lower() == "success"):
        return None
    data = body.get("data")
    if isinstance(data, Mapping) and data:
        key, value = next(iter(data.items()))
        return Fault(code=_text(key), message=_text(value) or _text(status))
    return Fault(code=None, message=_message(body), gateway="path" in body and isinstance(status, int))


def _message(body: Mapping[str, object]) -> str:
    for key in ("errorMessage", "internalErrorMessage", "message", "error", "remarks", "errorType"):
        if text := _text(body.get(key)):
            return text
    return "no reason given"


def _text(value: object) -> str:
    """Return ``value`` as one short printable line; it goes into messages and logs."""
    if isinstance(value, int) and abs(value) < _LARGEST_CODE:
        return str(value)
    if not isinstance(value, str):
        return ""
    return "".join(each if each.isprintable() else " " for each in value[:_LONGEST]).strip()


def _token(fault: Fault) -> HybridBrokerError:
    return TokenExpired(f"Dhan does not accept the token: {fault}; make a new one and set DHAN_ACCESS_TOKEN")


def _credentials(fault: Fault) -> HybridBrokerError:
    return AuthenticationError(f"Dhan does not accept these credentials: {fault}")


def _plan(fault: Fault) -> HybridBrokerError:
    return AuthenticationError(f"this Dhan account has no access to that: {fault}")


def _address(fault: Fault) -> HybridBrokerError:
    return StaticIpRequired(
        "Dhan takes orders only from the address registered at web.dhan.co -> My Profile -> Access DhanHQ APIs: "
        f"{fault}"
    )


def _throttled(fault: Fault) -> HybridBrokerError:
    return RateLimited(f"Dhan: {fault}")


def _down(fault: Fault) -> HybridBrokerError:
    return ServiceUnavailable(f"Dhan: {fault}")


_BY_CODE: Final[Mapping[str, Callable[[Fault], HybridBrokerError]]] = {
    "DH-901": _token,
    "DH-902": _plan,
    "DH-904": _throttled,
    "DH-908": _down,
    "DH-909": _down,
    "DH-910": _down,
    "DH-911": _address,
    "INTERNAL_SERVER_ERROR": _down,
    "800": _down,
    "805": _throttled,
    "806": _plan,
    "807": _token,
    "808": _credentials,
    "809": _credentials,
    "810": _credentials,
}
_ABOUT_ACCESS: Final = (_token, _credentials, _plan, _address)
_TOKEN_OR_CLIENT: Final = frozenset({"808", "809"})
_BY_TEXT: Final = (("invalid token", _token), ("jwt", _token), ("invalid ip", _address))


def token_is_dead(fault: Fault | None, *, status: int) -> bool:
    """Say whether a fresh token may help: not where the plan, the address or the client id is at fault."""
    if fault is None:
        return status == _UNAUTHORIZED
    build = _build(fault)
    if build in _ABOUT_ACCESS:
        return build is _token or fault.code in _TOKEN_OR_CLIENT
    return status == _UNAUTHORIZED


def _build(fault: Fault) -> Callable[[Fault], HybridBrokerError] | None:
    return next((build for text, build in _BY_TEXT if fault.says(text)), None) or _BY_CODE.get(fault.code or "")


def _known(fault: Fault, *, status: int) -> HybridBrokerError | None:
    """Return what the fault means in any call, or None where that depends on the call."""
    build = _build(fault)
    if status == _UNAUTHORIZED and build not in _ABOUT_ACCESS:
        return _credentials(fault)
    if build is not None:
        return build(fault)
    if fault.gateway:
        return ConfigurationError(f"Dhan has no such path, check DHAN_BASE_URL: {fault}")
    return None


def read_error(fault: Fault | None, *, status: int, call: str) -> HybridBrokerError:
    """Return the exception for a read that was refused; ``call`` names it in the message."""
    if fault is None:
        said = f"{call}: Dhan answered HTTP {status} without saying why"
        return AuthenticationError(said) if status == _UNAUTHORIZED else WireFormatError(said)
    return _known(fault, status=status) or ServiceUnavailable(f"{call}: Dhan refused it: {fault}")


def write_error(fault: Fault, *, status: int) -> HybridBrokerError:
    """Return the exception for a write that was refused with a 4xx and a reason.

    A `ServiceUnavailable` among the answers means that Dhan told of a failure of its own,
    and not whether the order exists.
    """
    return _known(fault, status=status) or OrderRejected(fault.message, code=fault.code)
