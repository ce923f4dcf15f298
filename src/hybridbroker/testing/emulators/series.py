"""Options that do not exist, on an instrument that does: chains for tests of both brokers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Final

from hybridbroker.domain.instrument import Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = ["option_series"]

_FIRST_TOKEN: Final = 40_001
_FREEZE_LOTS: Final = 24
_SYMBOLS: Final = {"NIFTY 50": "NIFTY", "NIFTY BANK": "BANKNIFTY"}


def option_series(
    underlying: ListedInstrument,
    *,
    expiry: date,
    strikes: Iterable[int | str | Decimal],
    lot_size: int = 75,
    first_token: int = _FIRST_TOKEN,
) -> tuple[ListedInstrument, ...]:
    """Return a call and a put of each strike, with tokens counted from ``first_token``.

    List them beside ``underlying``, with prices by instrument id, so that they are quoted,
    traded, and found in option chains.
    """
    return tuple(
        _option(underlying.instrument, expiry, Decimal(strike), right, lot_size, token=first_token + 2 * place + odd)
        for place, strike in enumerate(strikes)
        for odd, right in enumerate((OptionRight.CALL, OptionRight.PUT))
    )


def _option(
    underlying: Instrument, expiry: date, strike: Decimal, right: OptionRight, lot_size: int, *, token: int
) -> ListedInstrument:
    symbol = _SYMBOLS.get(underlying.symbol, underlying.symbol)
    option = Instrument(
        id=f"{underlying.exchange}:{symbol}:{expiry:%Y-%m-%d}:{strike.normalize():f}:{right}",
        exchange=underlying.exchange,
        segment=Segment.DERIVATIVES,
        kind=InstrumentKind.OPTION,
        symbol=symbol,
        name=symbol,
        lot_size=lot_size,
        tick_size=Decimal("0.05"),
        freeze_quantity=lot_size * _FREEZE_LOTS,
        underlying=symbol,
        expiry=expiry,
        strike=strike,
        right=right,
    )
    segment = f"{underlying.exchange}_FO"
    dhan = f"{underlying.exchange}_FNO"
    return ListedInstrument(option, f"{segment}|{token}", dhan, str(token))
