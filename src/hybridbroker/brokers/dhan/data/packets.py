"""The binary packets of Dhan's live feed, as documented; no meaning is given to anything here.

Little-endian, a header of eight bytes first: code, length with the header, segment, security
id. Documented: https://dhanhq.co/docs/v2/live-market-feed/ . That lengths count the header
was seen on full packets; a frame that ends where a packet's documented size ends is taken for
one whole packet whatever its length field says.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

__all__ = [
    "AVERAGE_AT",
    "BOOK_AT",
    "BOOK_ROWS",
    "DAY",
    "DAY_AT",
    "DISCONNECT",
    "FULL",
    "HEADER",
    "HEADLINE",
    "HEARTBEAT",
    "OPEN_INTEREST",
    "OPEN_INTEREST_AT",
    "OPEN_INTEREST_OF",
    "PREVIOUS_CLOSE",
    "PRICE",
    "QUOTE",
    "REASON",
    "SEGMENTS",
    "SIZES",
    "STATUS",
    "TICKER",
    "TICKER_FIELDS",
    "TOTALS",
    "TOTALS_AT",
    "WORD",
    "feed_key",
]

HEARTBEAT: Final = 0
TICKER: Final = 2
QUOTE: Final = 4
OPEN_INTEREST: Final = 5
PREVIOUS_CLOSE: Final = 6
STATUS: Final = 7
FULL: Final = 8
DISCONNECT: Final = 50

SIZES: Final = {
    TICKER: 16,
    QUOTE: 50,
    OPEN_INTEREST: 12,
    PREVIOUS_CLOSE: 16,
    STATUS: 8,
    FULL: 162,
    DISCONNECT: 10,
}
"""Bytes of each packet, header included. Code 1 is listed for indices, but its layout was never published."""

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
"""Segments by the number that packets carry; those without one cannot be subscribed."""

HEADER: Final = 8
WORD: Final = Struct("<Q").unpack_from
"""The header as one number: its low byte is the code, and what is left after `feed_key`'s shift the instrument."""
TICKER_FIELDS: Final = Struct("<QfI").unpack_from
"""Header, last price, time of the last trade; a previous-close packet has its price and open interest there."""
HEADLINE: Final = {
    QUOTE: Struct("<QfHIfI12xf").unpack_from,
    FULL: Struct("<QfHIfI24xf").unpack_from,
}
"""Header, last price, last quantity, time, average price, volume and, further on, close."""
TOTALS: Final = Struct("<II").unpack_from
"""Quote and full: what waits to be sold, and only then what waits to be bought."""
TOTALS_AT: Final = 26
OPEN_INTEREST_OF: Final = Struct("<I").unpack_from
OPEN_INTEREST_AT: Final = {FULL: 34, OPEN_INTEREST: 8}
DAY: Final = Struct("<ffff").unpack_from
"""Quote and full: open, close, high, low."""
DAY_AT: Final = {QUOTE: 34, FULL: 46}
PRICE: Final = Struct("<f").unpack_from
AVERAGE_AT: Final = 18
"""Quote and full."""
BOOK_ROWS: Final = Struct("<IIHHff").iter_unpack
"""Full: five rows, best first, each bid and ask quantity, bid and ask orders, bid and ask price."""
BOOK_AT: Final = 62
REASON: Final = Struct("<H").unpack_from
"""Disconnect: why, after the header."""


def feed_key(segment: int, security_id: int) -> int:
    """Return what identifies an instrument in a packet: the header as a number, without code and length."""
    return segment | security_id << 8
