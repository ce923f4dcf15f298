"""What the answer to a write can mean, in the words of the error tree."""

from __future__ import annotations

from typing import Final

from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    InstrumentError,
    InvalidOrder,
    NotSent,
    OrderNotFound,
    OrderRejected,
    RiskRefused,
    Unsupported,
)

__all__ = ["REFUSALS", "told"]

REFUSALS: Final = (
    AuthenticationError,
    ConfigurationError,
    InstrumentError,
    InvalidOrder,
    NotSent,
    OrderNotFound,
    OrderRejected,
    RiskRefused,
    Unsupported,
)
"""After one of these nothing was placed; after anything else it may have been."""


def told(exc: BaseException) -> str:
    """Return an exception in one line, its kind first."""
    return f"{type(exc).__name__}: {exc}"
