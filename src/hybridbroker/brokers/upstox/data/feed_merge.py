"""Filling a partial update with what earlier ones told: absence on this feed is never zero.

Updates may omit sub-messages (documented), and proto3 omits scalars at zero. So a zero beside
everything that was there before is a zero, and a zero beside a missing sub-message says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import attrs

from hybridbroker.brokers.upstox.proto import feed_pb2 as pb

__all__ = ["LTPC", "Layout", "Shape", "fill", "layout_of"]

Shape = tuple[bool, ...]
"""Which sub-messages besides ``ltpc`` a part has; first the one with the book."""


@attrs.frozen(eq=False)
class Layout:
    """One alternative of the schema's ``Feed``; its part is the message that holds ``ltpc``."""

    part: Callable[[pb.Feed], Any]
    shape: Callable[[Any], Shape]
    submessages: tuple[str, ...] = ()
    scalars: tuple[tuple[str, ...], ...] = ()
    """Those of one group are told together: a zero beside one that is none is a zero."""
    has_volume: bool = False


def _itself(feed: pb.Feed) -> pb.Feed:
    return feed


def _no_shape(_: pb.Feed) -> Shape:
    return ()


# Written out, since these run for every tick and a loop over the names would take twice as long.
def _market_shape(part: pb.MarketFullFeed) -> Shape:
    has = part.HasField
    return has("marketLevel"), has("optionGreeks"), has("marketOHLC")


def _greeks_shape(part: pb.FirstLevelWithGreeks) -> Shape:
    return part.HasField("firstDepth"), part.HasField("optionGreeks")


def _index_shape(part: pb.IndexFullFeed) -> Shape:
    return (part.HasField("marketOHLC"),)


LTPC: Final = Layout(_itself, _no_shape)
_MARKET: Final = Layout(
    attrgetter("fullFeed.marketFF"),
    _market_shape,
    submessages=("marketLevel", "optionGreeks", "marketOHLC"),
    scalars=(
        ("vtt",),
        ("atp",),
        ("oi",),
        ("iv",),
        ("tbq", "tsq"),
        ("iep", "ieq", "iiqTotal", "iiqM"),
        ("rp",),
        ("casEligible",),
    ),
    has_volume=True,
)
_GREEKS: Final = Layout(
    attrgetter("firstLevelWithGreeks"),
    _greeks_shape,
    submessages=("firstDepth", "optionGreeks"),
    scalars=(("vtt",), ("oi",), ("iv",)),
    has_volume=True,
)
_INDEX: Final = Layout(attrgetter("fullFeed.indexFF"), _index_shape, submessages=("marketOHLC",))


def layout_of(feed: pb.Feed) -> Layout | None:
    """Return how ``feed`` is built; None for one that holds nothing."""
    match feed.WhichOneof("FeedUnion"):
        case "ltpc":
            return LTPC
        case "firstLevelWithGreeks":
            return _GREEKS
        case "fullFeed":
            inner = feed.fullFeed.WhichOneof("FullFeedUnion")
            return None if inner is None else _MARKET if inner == "marketFF" else _INDEX
    return None


def fill(feed: pb.Feed, known: pb.Feed) -> None:
    """Add to ``feed`` what it leaves out and ``known`` has; sub-messages that it has stay as they are.

    Where the two are built differently (the mode has just changed) only what the last trade
    was is carried over.
    """
    layout, old_layout = layout_of(feed), layout_of(known)
    if layout is None or old_layout is None:
        return
    part, old = layout.part(feed), old_layout.part(known)
    is_partial = _fill_ltpc(part.ltpc, old.ltpc)
    if layout is not old_layout:
        return
    for name in layout.submessages:
        if old.HasField(name) and not part.HasField(name):
            getattr(part, name).CopyFrom(getattr(old, name))
            is_partial = True
    if is_partial:
        _fill_scalars(part, old, layout.scalars)


def _fill_ltpc(ltpc: pb.LTPC, old: pb.LTPC) -> bool:
    """Carry over the last trade where none is told, and the previous close, which holds all day."""
    close = ltpc.cp or old.cp
    is_missing = not ltpc.ltp and bool(old.ltp)
    if is_missing:
        ltpc.CopyFrom(old)
    if ltpc.cp != close:
        ltpc.cp = close
    return is_missing


def _fill_scalars(part: Any, old: Any, groups: tuple[tuple[str, ...], ...]) -> None:
    for group in groups:
        if not any(getattr(part, name) for name in group):
            for name in group:
                setattr(part, name, getattr(old, name))
