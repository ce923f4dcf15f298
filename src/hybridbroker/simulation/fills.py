"""What a simulated fill assumes where the market shows no book: stated, chosen, and told in every report."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import attrs

from hybridbroker.errors import ConfigurationError

__all__ = ["BarFill", "FillModel"]


class BarFill(StrEnum):
    """At which prices of a bar an order can trade."""

    NEXT_OPEN = "next-open"
    """An order decided on a finished bar meets the next bar's open; what rests after that meets
    the bar's path: open, the extreme nearer to the open's side, the other extreme, close."""
    WORST = "worst"
    """An order waits for the whole bar and trades at its worst price (a purchase at the high),
    never worse than its limit; a limit that was only touched does not trade."""


def _fraction(_: object, attribute: attrs.Attribute[Any], value: Decimal | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise ConfigurationError(f"{attribute.name} is a fraction above 0 and at most 1, was {value}")


def _decimal(value: Decimal | float | str | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


@attrs.frozen(kw_only=True)
class FillModel:
    """How orders fill. With depth in the stream they meet the depth, whatever is chosen here for bars."""

    bars: BarFill = attrs.field(default=BarFill.NEXT_OPEN, converter=BarFill)
    participation: Decimal | None = attrs.field(default=None, converter=_decimal, validator=_fraction)
    """Largest part of the volume traded (of a bar's path, or of a tick without depth) that our
    orders of one side can be; what is above it fills later or not at all. None: any quantity."""

    def describe(self) -> str:
        """Say what is assumed, in words for a report."""
        said = {
            BarFill.NEXT_OPEN: "orders decided on a finished bar meet the next bar's open; resting ones meet the "
            "bar's path (open, extremes in the likely order, close)",
            BarFill.WORST: "orders wait for the whole next bar and trade at its worst price within their limit; a "
            "limit only touched does not trade",
        }[self.bars]
        size = (
            "any quantity"
            if self.participation is None
            else f"at most {(self.participation * 100).normalize():f} % of the volume traded"
        )
        return f"with depth: against the visible book; with bars: {said}; without depth: {size}"
