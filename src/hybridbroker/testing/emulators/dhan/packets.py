"""The packets of Dhan's live feed, little-endian, written from their documentation (live market feed, version 2)."""

from __future__ import annotations

import struct
from typing import Final

from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = ["SEGMENTS", "disconnect", "full", "in_mode", "open_interest", "previous_close", "quote", "status", "ticker"]

SEGMENTS: Final = {
    "IDX_I": 0,
    "NSE_EQ": 1,
    "NSE_FNO": 2,
    "NSE_CURRENCY": 3,
    "BSE_EQ": 4,
    "MCX_COMM": 5,
    "BSE_CURRENCY": 7,
    "BSE_FNO": 8,
}
_LEVELS: Final = 5
_IST_S: Final = 19_800
_LARGEST_U16: Final = 0xFFFF
_LARGEST_U32: Final = 0xFFFFFFFF


def in_mode(listed: ListedInstrument, feed: pb.Feed, code: int) -> list[bytes]:
    """Return what a subscription with request ``code`` shows of an entry: 15 ticker, 17 quote, 21 full."""
    match code:
        case 15:
            return [ticker(listed, feed)]
        case 17:
            packets = [quote(listed, feed)]
            if listed.instrument.expiry is not None:
                packets.append(open_interest(listed, feed))
            return packets
        case _:
            return [full(listed, feed)]


def ticker(listed: ListedInstrument, feed: pb.Feed) -> bytes:
    """Return last price and time."""
    ltpc, _, _ = _parts(feed)
    return _packet(2, listed, "fI", ltpc.ltp, _wall(ltpc.ltt))


def quote(listed: ListedInstrument, feed: pb.Feed) -> bytes:
    """Return all but book and open interest; what waits to be sold comes before what waits to be bought."""
    return _packet(4, listed, "fHIfIIIffff", *_headline(feed), *_day(feed))


def full(listed: ListedInstrument, feed: pb.Feed) -> bytes:
    """Return everything."""
    _, market, _ = _parts(feed)
    oi = _u32(market.oi)
    return _packet(8, listed, "fHIfIIIIIIffff", *_headline(feed), oi, oi, oi, *_day(feed), tail=_book(market))


def open_interest(listed: ListedInstrument, feed: pb.Feed) -> bytes:
    """Return the open interest; goes with quotes of derivatives."""
    return _packet(5, listed, "I", _u32(_parts(feed)[1].oi))


def previous_close(listed: ListedInstrument, feed: pb.Feed) -> bytes:
    """Return the previous close; sent once, to who subscribes an index (told by a vendor ticket)."""
    ltpc, _, _ = _parts(feed)
    return _packet(6, listed, "fI", ltpc.cp, 0)


def status(segment: int) -> bytes:
    """Return that a segment's market changed; there is no payload."""
    return struct.pack("<BHBI", 7, 8, segment, 0)


def disconnect(reason: int) -> bytes:
    """Return the goodbye with its reason."""
    return struct.pack("<BHBIH", 50, 10, 0, 0, reason)


def _packet(code: int, listed: ListedInstrument, form: str, *fields: float, tail: bytes = b"") -> bytes:
    body = struct.pack("<" + form, *fields) + tail
    return struct.pack("<BHBI", code, 8 + len(body), SEGMENTS[listed.dhan_segment], int(listed.dhan_id)) + body


def _headline(feed: pb.Feed) -> tuple[float, ...]:
    ltpc, market, bars = _parts(feed)
    day = _bar(bars)
    volume = market.vtt or (day.vol if day is not None else 0)
    # Sixteen bits for a quantity: it wraps around.
    quantity = ltpc.ltq & _LARGEST_U16
    return ltpc.ltp, quantity, _wall(ltpc.ltt), market.atp, _u32(volume), _u32(market.tsq), _u32(market.tbq)


def _day(feed: pb.Feed) -> tuple[float, ...]:
    """Return open, close, high, low; close is the previous day's (recorded during a session)."""
    ltpc, _, bars = _parts(feed)
    day = _bar(bars)
    return (0.0, ltpc.cp, 0.0, 0.0) if day is None else (day.open, ltpc.cp, day.high, day.low)


def _book(market: pb.MarketFullFeed) -> bytes:
    levels = list(market.marketLevel.bidAskQuote[:_LEVELS])
    levels += [pb.Quote()] * (_LEVELS - len(levels))
    return b"".join(
        struct.pack(
            "<IIHHff",
            _u32(each.bidQ),
            _u32(each.askQ),
            min(each.bidQ, 1),
            min(each.askQ, 1),
            each.bidP,
            each.askP,
        )
        for each in levels
    )


def _parts(feed: pb.Feed) -> tuple[pb.LTPC, pb.MarketFullFeed, pb.MarketOHLC]:
    entry = feed.fullFeed
    if entry.HasField("indexFF"):
        return entry.indexFF.ltpc, pb.MarketFullFeed(), entry.indexFF.marketOHLC
    return entry.marketFF.ltpc, entry.marketFF, entry.marketFF.marketOHLC


def _bar(bars: pb.MarketOHLC) -> pb.OHLC | None:
    return next((each for each in bars.ohlc if each.interval == "1d"), None)


def _wall(epoch_ms: int) -> int:
    """Return the seconds of the Indian wall clock read as UTC, which is what Dhan sends (decoded from a capture)."""
    return epoch_ms // 1000 + _IST_S if epoch_ms else 0


def _u32(value: float) -> int:
    return min(max(int(value), 0), _LARGEST_U32)
