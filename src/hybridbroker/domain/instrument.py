"""What can be traded: one instrument, whichever broker lists it."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from enum import StrEnum

import attrs

from hybridbroker.errors import InvalidOrder

__all__ = ["SYMBOL_SERIES", "BrokerKey", "Exchange", "Instrument", "InstrumentKind", "OptionRight", "Segment"]

SYMBOL_SERIES = frozenset({"EQ", "BE", "BZ", "SM", "ST"})
"""NSE series whose shares go by their symbol alone in an instrument id."""


class Exchange(StrEnum):
    """Where it trades."""

    NSE = "NSE"
    BSE = "BSE"
    MCX = "MCX"


class Segment(StrEnum):
    """Which market of the exchange; native ids are unique only inside one."""

    CASH = "cash"
    DERIVATIVES = "derivatives"
    INDEX = "index"
    CURRENCY = "currency"
    COMMODITY = "commodity"


class InstrumentKind(StrEnum):
    """What it is."""

    EQUITY = "equity"
    ETF = "etf"
    DEBT = "debt"
    OTHER_CASH = "other-cash"
    """Cash-segment paper that is none of the above: warrants, rights, fund units."""
    INDEX = "index"
    FUTURE = "future"
    OPTION = "option"
    UNLISTED = "unlisted"
    """Named by one broker in a position or an order, and by no master: shown, never tradable."""


class OptionRight(StrEnum):
    """What an option gives its holder."""

    CALL = "CE"
    PUT = "PE"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Instrument:
    """One tradable (or quotable) thing; compares and hashes by ``id``."""

    id: str
    """Canonical name: ``NSE:RELIANCE``, ``NSE:NIFTY 50:INDEX``, ``NSE:NIFTY:2026-11-24:25000:CE``."""
    exchange: Exchange
    segment: Segment
    kind: InstrumentKind
    symbol: str
    """The exchange's ticker; for a derivative, its underlying's."""
    name: str = ""
    isin: str | None = None
    series: str | None = None
    """NSE series or BSE group, cash segment only."""
    lot_size: int = 1
    """Units; every order quantity is a multiple of it."""
    tick_size: Decimal = Decimal("0.05")
    """Rupees; every order price is a multiple of it."""
    freeze_quantity: int | None = None
    """Largest quantity of one order, in units; None where nobody publishes it."""
    underlying: str | None = None
    """Derivatives: the underlying's symbol."""
    expiry: date | None = None
    """Derivatives: expiry date, in IST."""
    strike: Decimal | None = None
    """Options: rupees."""
    right: OptionRight | None = None

    @property
    def tradable(self) -> bool:
        """Say whether orders for it make sense at all."""
        return self.kind is not InstrumentKind.INDEX and self.kind is not InstrumentKind.UNLISTED

    def price(self, value: float | Decimal | str) -> Decimal:
        """Return the tick nearest to ``value``, in rupees: the one bridge from float to money.

        A double's shortest form is the price the exchange published, so it is read through
        ``str``. Halfway between two ticks goes to the even one.

        Raises:
            InvalidOrder: ``value`` is not a finite number.
        """
        try:
            exact = value if isinstance(value, Decimal) else Decimal(str(value))
        except InvalidOperation:
            raise InvalidOrder(f"{value!r} is no price") from None
        if not exact.is_finite():
            raise InvalidOrder(f"{value!r} is no price")
        steps = (exact / self.tick_size).to_integral_value(ROUND_HALF_EVEN)
        return steps * self.tick_size

    def is_on_tick(self, price: Decimal) -> bool:
        """Say whether ``price`` is a whole number of ticks."""
        return price % self.tick_size == 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instrument):
            return NotImplemented
        return self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Instrument {self.id}>"

    def __str__(self) -> str:
        return self.id


@attrs.frozen(kw_only=True)
class BrokerKey:
    """What one broker calls an instrument."""

    broker: str
    segment: str
    """The broker's own spelling of the segment, such as ``NSE_EQ``."""
    id: str
    """The broker's own id: ``NSE_EQ|INE002A01018`` at Upstox, ``2885`` at Dhan."""

    def __str__(self) -> str:
        """Return the one string that is unique at the broker, as `InstrumentRegistry.by_key` takes it."""
        return self.id if self.id.startswith(f"{self.segment}|") else f"{self.segment}:{self.id}"
