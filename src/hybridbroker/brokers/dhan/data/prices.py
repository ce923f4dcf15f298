"""From the feed's single-precision prices to the prices that were meant; pure.

A price of 1402.35 rupees arrives as 1402.3499755859375. What was meant is the decimal price
that has this very single-precision form: first of all one on the instrument's tick, else one
of two, then of four decimals (averages; prices from before a change of tick). Above 131,072
rupees several prices of two decimals share one form; the tick still tells which was meant,
as long as it is wider than the form's own steps (5 paise: up to 524,288).
"""

from __future__ import annotations

from decimal import Decimal
from math import inf
from struct import Struct
from typing import Final

from hybridbroker.domain.instrument import Instrument, InstrumentKind

__all__ = ["PriceTable", "PriceTables"]

_MOST: Final = 32_768
_PAISE: Final = Decimal("0.01")
_FINEST: Final = Decimal("0.0001")
_SINGLE: Final = Struct("<f")


class PriceTable(dict[float, float]):
    """Prices by their single-precision form, worked out when first seen; 0.0 for what is no price.

    One serves every instrument of a tick size; a day has few prices, so nearly every look-up is
    one of a dictionary.
    """

    def __init__(self, tick: Decimal) -> None:
        super().__init__()
        self._grids = tuple(step.as_integer_ratio() for step in dict.fromkeys((tick, _PAISE, _FINEST)))

    def __missing__(self, wire: float) -> float:
        if not 0 < wire < inf:
            return 0.0
        price = self._meant(wire)
        if len(self) >= _MOST:
            self.clear()
        self[wire] = price
        return price

    def settled(self, price: float) -> float:
        """Return a price that came as text without its noise: some of them are singles written out."""
        try:
            is_single = _SINGLE.unpack(_SINGLE.pack(price))[0] == price
        except OverflowError:
            return price
        return self[price] if is_single and price > 0 else round(price, 4)

    def _meant(self, wire: float) -> float:
        for numerator, denominator in self._grids:
            # Integers divided by integers: the nearest double to the decimal price.
            price = round(wire * denominator / numerator) * numerator / denominator
            if _SINGLE.unpack(_SINGLE.pack(price))[0] == wire:
                return price
        return wire


class PriceTables:
    """The tables of one feed, made as they are needed."""

    def __init__(self) -> None:
        self._tables: dict[Decimal, PriceTable] = {}

    def of(self, instrument: Instrument) -> PriceTable:
        """Return the table of the instrument's tick; an index moves by paise, whatever its tick is said to be."""
        tick = _PAISE if instrument.kind is InstrumentKind.INDEX or instrument.tick_size <= 0 else instrument.tick_size
        if tick not in self._tables:
            self._tables[tick] = PriceTable(tick)
        return self._tables[tick]
