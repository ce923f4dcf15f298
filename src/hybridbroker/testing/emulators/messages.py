"""Upstox feed messages: entries in each mode, snapshots, updates and market phases, as wire bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hybridbroker.testing.emulators import feed_pb2 as pb

__all__ = ["MODES", "SEGMENTS", "feed_frames", "in_mode", "market_info"]

MODES: Final = ("ltpc", "full", "option_greeks", "full_d30")
"""Names of the modes in a subscribe request (documented)."""

SEGMENTS: Final = (
    "BCD_FO",
    "BSE_EQ",
    "BSE_FO",
    "BSE_INDEX",
    "MCX_FO",
    "MCX_INDEX",
    "NCD_FO",
    "NSE_COM",
    "NSE_EQ",
    "NSE_FO",
    "NSE_INDEX",
)
"""Segments that a recorded ``market_info`` names."""

_FULL_LEVELS: Final = 5
_AUCTIONED: Final = ("BSE_EQ", "NSE_EQ")


def in_mode(feed: pb.Feed, mode: str) -> pb.Feed:
    """Return an entry of mode full as ``mode`` shows it (documented, Upstox market data feed V3)."""
    full = feed.fullFeed
    market = full.marketFF if full.HasField("marketFF") else None
    match mode:
        case "ltpc":
            return pb.Feed(ltpc=full.indexFF.ltpc if market is None else market.ltpc, requestMode=pb.ltpc)
        case "option_greeks":
            return pb.Feed(firstLevelWithGreeks=_first_level(full), requestMode=pb.option_greeks)
        case "full_d30":
            deep = pb.Feed()
            deep.CopyFrom(feed)
            deep.requestMode = pb.full_d30
            return deep
        case _:
            if market is None or len(market.marketLevel.bidAskQuote) <= _FULL_LEVELS:
                return feed
            shallow = pb.Feed()
            shallow.CopyFrom(feed)
            del shallow.fullFeed.marketFF.marketLevel.bidAskQuote[_FULL_LEVELS:]
            return shallow


def _first_level(full: pb.FullFeed) -> pb.FirstLevelWithGreeks:
    if not full.HasField("marketFF"):
        return pb.FirstLevelWithGreeks(ltpc=full.indexFF.ltpc)
    market = full.marketFF
    entry = pb.FirstLevelWithGreeks(
        ltpc=market.ltpc, optionGreeks=market.optionGreeks, vtt=market.vtt, oi=market.oi, iv=market.iv
    )
    if market.marketLevel.bidAskQuote:
        entry.firstDepth.CopyFrom(market.marketLevel.bidAskQuote[0])
    return entry


def feed_frames(entries: Sequence[tuple[str, pb.Feed]], *, at_ms: int, snapshot: bool, batch: int) -> Iterator[bytes]:
    """Encode ``entries`` (by Upstox key), at most ``batch`` of them a frame."""
    for start in range(0, len(entries), batch):
        message = pb.FeedResponse(type=pb.initial_feed if snapshot else pb.live_feed, currentTs=at_ms)
        for key, feed in entries[start : start + batch]:
            message.feeds[key].CopyFrom(feed)
        yield message.SerializeToString()


def market_info(
    status: pb.MarketStatus,
    *,
    at_ms: int,
    pre_open: str | None = None,
    closing_auction: str | None = None,
    since_ms: int | None = None,
) -> bytes:
    """Encode the message that tells every segment's phase, and what the cash segments' auctions do."""
    message = pb.FeedResponse(type=pb.market_info, currentTs=at_ms)
    info = message.marketInfo
    info.segmentStatus.update(dict.fromkeys(SEGMENTS, status))
    since = at_ms if since_ms is None else since_ms
    for text, statuses in ((pre_open, info.preOpenSessionStatus), (closing_auction, info.casMarketStatus)):
        for segment in _AUCTIONED if text else ():
            statuses[segment].CopyFrom(pb.StatusInfo(status=text, updatedTime=since))
    return message.SerializeToString()
