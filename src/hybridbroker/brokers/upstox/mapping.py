"""How Upstox spells things, and what its payloads mean: tables and pure functions."""

from __future__ import annotations

from typing import Final

from hybridbroker.domain.market import FeedMode, Interval, MarketPhase

__all__ = ["FEED_MODES", "PHASES", "SEGMENTS"]

FEED_MODES: Final[dict[FeedMode, str]] = {
    FeedMode.LTP: "ltpc",
    FeedMode.FULL: "full",
    FeedMode.OPTION_GREEKS: "option_greeks",
    FeedMode.DEPTH_30: "full_d30",
}

SEGMENTS: Final[dict[str, str]] = {
    "NSE_EQ": "NSE:cash",
    "NSE_FO": "NSE:derivatives",
    "NSE_INDEX": "NSE:index",
    "NCD_FO": "NSE:currency",
    "NSE_COM": "NSE:commodity",
    "BSE_EQ": "BSE:cash",
    "BSE_FO": "BSE:derivatives",
    "BSE_INDEX": "BSE:index",
    "BCD_FO": "BSE:currency",
    "MCX_FO": "MCX:commodity",
    "MCX_INDEX": "MCX:index",
}

PHASES: Final[dict[str, MarketPhase]] = {
    "PRE_OPEN_START": MarketPhase.PRE_OPEN,
    "PRE_OPEN_END": MarketPhase.PRE_OPEN,
    "NORMAL_OPEN": MarketPhase.OPEN,
    "NORMAL_CLOSE": MarketPhase.CLOSED,
    "CLOSING_START": MarketPhase.CLOSING,
    "CLOSING_END": MarketPhase.CLOSED,
}
