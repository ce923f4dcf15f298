"""Which index is which: a reviewed table of names, since brokers share neither ids nor spellings of indices.

Every line was checked by hand against both brokers' published lists of 2026. A name that is not
here joins only by being spelt alike, letters and digits compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hybridbroker.domain.instrument import Exchange

__all__ = ["canonical_index", "index_of_underlying", "normalised"]

_ALIASES: Final = {
    # The tickers that derivatives use.
    (Exchange.NSE, "NIFTY"): "NIFTY 50",
    (Exchange.NSE, "BANKNIFTY"): "NIFTY BANK",
    (Exchange.NSE, "FINNIFTY"): "NIFTY FIN SERVICE",
    (Exchange.NSE, "MIDCPNIFTY"): "NIFTY MID SELECT",
    (Exchange.NSE, "NIFTYNXT50"): "NIFTY NEXT 50",
    (Exchange.BSE, "SNSX50"): "SENSEX50",
    (Exchange.BSE, "BSESENSEX50"): "SENSEX50",
    # The same words, shortened in other places.
    (Exchange.NSE, "NIFTYMIDSMALLCAP400"): "NIFTY MIDSML 400",
    (Exchange.NSE, "NIFTYSMALLCAP50"): "NIFTY SMLCAP 50",
    (Exchange.NSE, "NIFTYSMALLCAP100"): "NIFTY SMLCAP 100",
    (Exchange.NSE, "NIFTYSMALLCAP250"): "NIFTY SMLCAP 250",
    (Exchange.NSE, "NIFTY100LOWVOLATILITY30"): "NIFTY100 LOWVOL30",
    (Exchange.NSE, "NIFTY100EQUALWEIGHT"): "NIFTY100 EQL WGT",
    (Exchange.NSE, "NIFTYMCAP50"): "NIFTY MIDCAP 50",
    (Exchange.NSE, "NIFTYMID100FREE"): "NIFTY MIDCAP 100",
    # One spelling each, so that an id is the same whichever broker's list it came from.
    (Exchange.NSE, "NIFTY50"): "NIFTY 50",
    (Exchange.NSE, "NIFTYIT"): "NIFTY IT",
    (Exchange.NSE, "NIFTYPSE"): "NIFTY PSE",
    (Exchange.NSE, "NIFTYCPSE"): "NIFTY CPSE",
    (Exchange.NSE, "NIFTYINFRA"): "NIFTY INFRA",
    (Exchange.BSE, "BSEHC"): "BSEHC",
    (Exchange.BSE, "BSEIT"): "BSEIT",
    (Exchange.BSE, "BSECG"): "BSECG",
    (Exchange.BSE, "BSECD"): "BSECD",
    # Dhan has two indices by the ticker CAPINS; only their long names tell them apart.
    (Exchange.BSE, "BSECAPITALMARKETSINSURANCE"): "CAPINS",
    (Exchange.BSE, "BSECAPITALGOODSINDUSTRIALSOLUTIONS"): "BSE CAPITAL GOODS INDUSTRIAL SOLUTIONS",
}
"""Exchange and normalised name to the name our ids carry, which is Upstox's in capitals."""


def normalised(name: str) -> str:
    """Return the letters and digits of ``name``, in capitals."""
    return "".join(filter(str.isalnum, name.upper()))


def canonical_index(exchange: Exchange, names: Iterable[str]) -> str | None:
    """Return the name our ids carry for an index known by ``names``; None where the table is silent."""
    for name in names:
        if (found := _ALIASES.get((exchange, normalised(name)))) is not None:
            return found
    return None


def index_of_underlying(exchange: Exchange, symbol: str) -> str:
    """Return the name our ids carry for the index that derivatives call ``symbol``."""
    return _ALIASES.get((exchange, normalised(symbol)), symbol)
