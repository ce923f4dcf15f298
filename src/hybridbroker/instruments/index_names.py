"""Which index is which: a reviewed table of names, since brokers share neither ids nor spellings of indices.

Every line was checked by hand against both brokers' published lists. A name that is not here joins
only by being spelt alike, letters and digits compared.
"""

from __future__ import annotations

from typing import Final

from hybridbroker.domain.instrument import Exchange

__all__ = ["canonical_index", "normalised"]


def normalised(name: str) -> str:
    """Return the letters and digits of ``name``, in capitals."""
    return "".join(filter(str.isalnum, name.upper()))


_NSE: Final = {
    # Tickers of the indices that have derivatives.
    "NIFTY": "NIFTY 50",
    "BANKNIFTY": "NIFTY BANK",
    "FINNIFTY": "NIFTY FIN SERVICE",
    "MIDCPNIFTY": "NIFTY MID SELECT",
    "NIFTYNXT50": "NIFTY NEXT 50",
}
