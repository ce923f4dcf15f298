"""Numbers as masters write them, read exactly or refused: paise, lots, strikes, days."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Final, NoReturn

from hybridbroker.errors import ConfigurationError

__all__ = ["Malformed", "day", "paise", "positive", "refuse", "refuse_if_mostly_malformed", "units"]

# The caches here have no bound: a master holds a few thousand different values, and keeping
# track of which was used last would cost more than looking one up.
_PAISA: Final = Decimal("0.01")
_WORST: Final = 0.05
_DAYS: Final = (
    re.compile(r"(?P<y>\d{4})-(?P<m>\d\d?)-(?P<d>\d\d?)(?:[ T].*)?"),
    re.compile(r"(?P<d>\d\d?)-(?P<m>\d\d?)-(?P<y>\d{4})(?: .*)?"),
    re.compile(r"(?P<m>\d\d?)/(?P<d>\d\d?)/(?P<y>\d{4})(?: .*)?"),
)


class Malformed(ValueError):
    """One row cannot be read; ``args[0]`` names the field."""


def refuse(field: str) -> NoReturn:
    """Refuse a row for one of its fields."""
    raise Malformed(field)


@cache
def positive(text: str | float, field: str) -> Decimal:
    """Read a finite number above zero exactly; a float by its shortest form."""
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        raise Malformed(field) from None
    if not value.is_finite() or value <= 0:
        raise Malformed(field)
    return value.normalize() + 0  # plus zero: 79000 rather than 7.9E+4


@cache
def paise(text: str | float, field: str = "tick size") -> Decimal:
    """Read an amount of paise above zero, as rupees with at least two decimals."""
    rupees = positive(text, field) / 100
    rounded = rupees.quantize(_PAISA)
    return rounded if rounded == rupees else rupees


@cache
def units(text: str | float, field: str = "lot size") -> int:
    """Read a whole number above zero, which masters like to write as ``65.0``."""
    value = positive(text, field)
    if value != value.to_integral_value():
        raise Malformed(field)
    return int(value)


@cache
def day(text: str, field: str = "expiry") -> date:
    """Read a day as masters and spreadsheets write it.

    ``2026-03-30``, ``2026-03-30 14:30:00``, ``30-03-2026 14:30``, and with slashes month first
    (``3/30/2026``), as spreadsheets save it.
    """
    for form in _DAYS:
        if (found := form.fullmatch(text)) is not None:
            try:
                return date(int(found["y"]), int(found["m"]), int(found["d"]))
            except ValueError:
                raise Malformed(field) from None
    raise Malformed(field)


def refuse_if_mostly_malformed(source: str, *, malformed: int, total: int) -> None:
    """Refuse a file of which more than a twentieth cannot be read: its columns have moved.

    Raises:
        ConfigurationError: So many rows are malformed.
    """
    if malformed > total * _WORST:
        raise ConfigurationError(
            f"{source}: {malformed:,} of {total:,} rows cannot be read; its columns are not what they are called"
        )
