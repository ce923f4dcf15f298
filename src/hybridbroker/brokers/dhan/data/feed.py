"""Dhan's live feed without a socket: what to send to subscribe, and how to read what comes.

Documented: https://dhanhq.co/docs/v2/live-market-feed/
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from hybridbroker.brokers.dhan.data import packets
from hybridbroker.brokers.dhan.data.feed_tick import DAY_MS, IST_MS, FeedTick, midnight_ms
from hybridbroker.brokers.dhan.data.goodbye import Goodbye, read_goodbye
from hybridbroker.brokers.dhan.data.mapping import MARKETS, REQUEST_CODES
from hybridbroker.brokers.dhan.data.prices import PriceTable, PriceTables
from hybridbroker.brokers.dhan.limits import FEED_INSTRUMENTS_PER_MESSAGE
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import BrokerKey, Instrument, InstrumentKind
from hybridbroker.domain.market import FeedMode, MarketPhase, MarketStatus, Tick, TickDetails
from hybridbroker.errors import Unsupported
from hybridbroker.transport.redact import scrub

__all__ = ["FeedDecoder", "feed_key_of", "hello_frames", "subscribe_frames", "unsubscribe_frames"]

logger = logging.getLogger(__name__)

_LARGEST_ID: Final = 2**32
_NO_CODE: Final = 24
"""What a header is shifted by to leave segment and security id, as `packets.feed_key` makes it."""
_CODE_AND_LENGTH: Final = 0xFFFFFF
_TICKER_HEAD: Final = packets.TICKER | packets.SIZES[packets.TICKER] << 8
_TICKER_SIZE: Final = packets.SIZES[packets.TICKER]
_SHIFT_S: Final = IST_MS // 1000
_EARLIEST_S: Final = 946_684_800
"""The year 2000 on the feed's clock: earlier times (0, and 1980 as the quotes say it) mean that nothing traded."""
_LATEST_S: Final = 4_102_444_800
_CLOSES_MS: Final = (15 * 60 + 30) * 60_000
"""When trading ends in shares, indices and their derivatives, after midnight IST."""
_CLOSES_LATER_MS: Final = {packets.SEGMENTS[name]: 17 * 3_600_000 for name in ("NSE_CURRENCY", "BSE_CURRENCY")} | {
    packets.SEGMENTS["MCX_COMM"]: 23 * 3_600_000
}
_SEGMENT_NAMES: Final = {number: name for name, number in packets.SEGMENTS.items()}
_SEGMENT_BITS: Final = 0xFF
_CONVINCING: Final = 3
"""So many late packets in a row, in order among themselves, and it was the newest one that was wrong."""
_NO_DETAILS: Final = TickDetails()
_DETAILED: Final = {code | packets.SIZES[code] << 8: packets.SIZES[code] for code in packets.HEADLINE}
"""Sizes of the packets that tell everything, by code and length as the header has them."""
_new: Final = object.__new__
_word: Final = packets.WORD
_ticker: Final = packets.TICKER_FIELDS
_HEADLINE: Final = packets.HEADLINE


def feed_key_of(key: BrokerKey) -> int:
    """Return what packets call an instrument.

    Raises:
        Unsupported: The feed has no number for its segment, or its id is none of the feed's.
    """
    segment = packets.SEGMENTS.get(key.segment)
    if segment is None or not (key.id.isascii() and key.id.isdecimal() and int(key.id) < _LARGEST_ID):
        raise Unsupported(f"Dhan's feed has no number for {key}; quotes() may know it")
    return packets.feed_key(segment, int(key.id))


def subscribe_frames(keys: Iterable[BrokerKey], mode: FeedMode) -> Iterator[str]:
    """Ask for ``keys`` in ``mode``, a hundred to a message."""
    return _requests(REQUEST_CODES[mode], keys)


def unsubscribe_frames(keys: Iterable[BrokerKey], mode: FeedMode) -> Iterator[str]:
    """Ask for ``keys``, which are subscribed in ``mode``, no more."""
    return _requests(REQUEST_CODES[mode] + 1, keys)


def hello_frames(wanted: Mapping[BrokerKey, FeedMode]) -> Iterator[str]:
    """Ask for everything wanted, mode by key: a fresh connection knows of nothing."""
    for mode in REQUEST_CODES:
        yield from subscribe_frames((key for key, each in wanted.items() if each is mode), mode)


def _requests(code: int, keys: Iterable[BrokerKey]) -> Iterator[str]:
    rows = [{"ExchangeSegment": key.segment, "SecurityId": key.id} for key in keys]
    for first in range(0, len(rows), FEED_INSTRUMENTS_PER_MESSAGE):
        part = rows[first : first + FEED_INSTRUMENTS_PER_MESSAGE]
        yield json.dumps({"RequestCode": code, "InstrumentCount": len(part), "InstrumentList": part})


@attrs.define(eq=False)
class _Entry:
    """One instrument, and what is known of it beside its newest packet."""

    instrument: Instrument
    prices: PriceTable
    closes_ms: int
    is_new: bool = True
    """Nothing came of it on this connection yet."""
    previous_close: float | None = None
    known_until_ms: int = 0
    """The midnight when the previous close becomes that of the day before."""
    close: float = 0.0
    """The field ``close`` from which it was taken, as it came."""
    interest: int | None = None
    has_volume: bool = True
    packet: bytes = b""
    """The quote or full packet delivered last, as it came: to know what comes twice."""
    wire: float = 0.0
    """Last price, time of the last trade (seconds, as they came) and volume delivered last."""
    second: int = 0
    volume: int = 0
    late: int = 0
    """How many late packets came in a row."""
    newest_late: tuple[int, int] = (0, 0)

    def is_late(self, second: int, volume: int) -> bool:
        """Say whether a packet tells of a moment before the newest one known: by volume where told, else by time.

        A volume that falls while the time goes on is a new day. Zeros tell nothing.
        """
        known = self.volume if volume else 0
        if volume > known or second > self.second or (volume == known and second in {0, self.second}):
            return False
        if (second, volume) > self.newest_late:
            self.newest_late = (second, volume)
            self.late += 1
        return self.late < _CONVINCING

    def learn_previous_close(self, told: float, *, received_ms: int) -> None:
        """Take the previous close that came in a packet of its own."""
        self.previous_close = self.prices[told] or None
        self.known_until_ms = midnight_ms(received_ms) + DAY_MS

    def learn_close(self, told: float, *, traded_ms: int | None, received_ms: int) -> None:
        """Take the field ``close`` of a quote for the previous close, but only while the session runs.

        By the documentation it is the day's own close, and there only after the session; in
        practice (support, a recorded packet) it holds the previous close until then. So it
        counts where the instrument has traded today and the session is not over.
        """
        midnight = midnight_ms(received_ms)
        if received_ms >= self.known_until_ms:
            self.previous_close = None
        if traded_ms is not None and traded_ms >= midnight and received_ms - midnight < self.closes_ms:
            self.previous_close = self.prices[told] or self.previous_close
        if self.previous_close is not None:
            self.close, self.known_until_ms = told, midnight + DAY_MS


class FeedDecoder:
    """Turns frames into events, and remembers per instrument what packets leave out.

    No frame makes it raise: what cannot be delivered is counted in ``skipped`` by reason, and
    the other packets of the same frame are delivered all the same. Packets without a price
    of their own (open interest, previous close) make no tick; they show from the next one on.
    Packets that repeat the one before, and those that come late, are no new trades and are
    counted. The first tick of an instrument on a connection counts as a snapshot.
    """

    def __init__(self, *, skipped: Counter[str] | None = None) -> None:
        self.skipped: Counter[str] = Counter() if skipped is None else skipped
        self.unchanged: list[Instrument] = []
        """Instruments of which the last frame told nothing new: they live all the same."""
        self.goodbye: Goodbye | None = None
        """Why Dhan hangs up, once it has said so; whoever acts on it sets it back."""
        self._entries: dict[int, _Entry] = {}
        self._tables = PriceTables()

    def add(self, instruments: Mapping[int, Instrument]) -> None:
        """Deliver these instruments, by `feed_key_of`, from now on."""
        for key, instrument in instruments.items():
            if key not in self._entries:
                self._entries[key] = self._entry(key, instrument)

    def remove(self, keys: Iterable[int]) -> None:
        """Deliver these no more."""
        for key in keys:
            self._entries.pop(key, None)

    def reset(self) -> None:
        """Forget what was told before a connection was lost; the next one begins anew."""
        self._entries = {key: self._entry(key, entry.instrument) for key, entry in self._entries.items()}

    def feed(self, frame: bytes | str, received_ms: int) -> list[Tick | MarketStatus]:
        """Return the events of one frame, in order; ``received_ms`` is epoch milliseconds."""
        if self.unchanged:
            self.unchanged = []
        if isinstance(frame, str):
            return self._text(frame)
        events: list[Tick | MarketStatus] = []
        self._packets(frame, received_ms, events)
        return events

    def _packets(self, frame: bytes, received_ms: int, events: list[Tick | MarketStatus]) -> None:
        """Add the events of all packets of a frame."""
        at, end = 0, len(frame)
        while end - at >= _TICKER_SIZE:
            # By far the most frequent packet, and nothing but this runs for it.
            word, wire, second = _ticker(frame, at)
            head = word & _CODE_AND_LENGTH
            if head != _TICKER_HEAD:
                size = _DETAILED.get(head)
                if size is None or at + size > end:
                    at = self._other(frame, at, end, received_ms, events)
                    continue
                packet = frame if size == end else frame[at : at + size]
                at += size
                self._detailed(word >> _NO_CODE, packet, received_ms, events)
                continue
            at += _TICKER_SIZE
            entry = self._entries.get(word >> _NO_CODE)
            if entry is None:
                self.skipped["unknown key"] += 1
                continue
            price = entry.prices[wire]
            if not price or second > _LATEST_S:
                self._no_price(wire)
                continue
            if second <= entry.second and not self._is_news(entry, wire, second):
                continue
            tick = _new(Tick)
            tick.instrument = entry.instrument
            tick.last_price = price
            tick.last_quantity = None
            tick.traded_ms = (second - _SHIFT_S) * 1000 if second >= _EARLIEST_S else None
            tick.received_ms = received_ms
            tick.previous_close = entry.previous_close if received_ms < entry.known_until_ms else None
            tick.volume = None
            tick.is_snapshot = entry.is_new
            tick.details = _NO_DETAILS if entry.interest is None else TickDetails(open_interest=entry.interest)
            entry.is_new = False
            entry.wire, entry.second = wire, second
            if entry.late:
                entry.late, entry.newest_late = 0, (0, 0)
            events.append(tick)
        while at < end:
            at = self._other(frame, at, end, received_ms, events)

    def _other(self, frame: bytes, at: int, end: int, received_ms: int, events: list[Tick | MarketStatus]) -> int:
        """Read the packet at ``at``, whatever it is, and return where the next one begins."""
        left = end - at
        if left < packets.HEADER:
            return self._lost("truncated packet", end)
        word: int = _word(frame, at)[0]
        code, length = word & 0xFF, word >> 8 & 0xFFFF
        size = packets.SIZES.get(code)
        if size is None:
            return self._unknown(code, at + length if packets.HEADER <= length <= left else end)
        if length < size or length > left:
            if left != size:
                return self._lost("truncated packet", end)
            length = size
        packet = frame if length == size == len(frame) else frame[at : at + size]
        self._read(code, word >> _NO_CODE, packet, received_ms, events)
        return at + length

    def _read(self, code: int, key: int, packet: bytes, received_ms: int, events: list[Tick | MarketStatus]) -> None:
        if code == packets.DISCONNECT:
            self.goodbye = read_goodbye(packets.REASON(packet, packets.HEADER)[0])
            return
        if code == packets.STATUS:
            events.append(_market_status(key & _SEGMENT_BITS, received_ms))
            return
        if code in _HEADLINE:
            self._detailed(key, packet, received_ms, events)
            return
        entry = self._entries.get(key)
        if entry is None:
            self.skipped["unknown key"] += 1
        elif code == packets.OPEN_INTEREST:
            (entry.interest,) = packets.OPEN_INTEREST_OF(packet, packets.OPEN_INTEREST_AT[code])
        elif code == packets.PREVIOUS_CLOSE:
            entry.learn_previous_close(_ticker(packet)[1], received_ms=received_ms)
        else:  # a ticker whose length field is not the documented one
            self._packets(packet[:1] + b"\x10\x00" + packet[3:], received_ms, events)

    def _detailed(self, key: int, packet: bytes, received_ms: int, events: list[Tick | MarketStatus]) -> None:
        """Deliver a quote or full packet."""
        entry = self._entries.get(key)
        if entry is None:
            self.skipped["unknown key"] += 1
            return
        if packet == entry.packet:
            self._nothing_new(entry, "duplicate")
            return
        _, wire, quantity, second, _, volume, close = _HEADLINE[packet[0]](packet)
        prices = entry.prices
        price = prices[wire]
        if not price or second > _LATEST_S:
            self._no_price(wire)
            return
        if (second < entry.second or volume < entry.volume) and entry.is_late(second, volume):
            self._nothing_new(entry, "out of order")
            return
        entry.wire, entry.second, entry.volume, entry.packet = wire, second, volume, packet
        if entry.late:
            entry.late, entry.newest_late = 0, (0, 0)
        traded_ms = (second - _SHIFT_S) * 1000 if second >= _EARLIEST_S else None
        if close != entry.close or received_ms >= entry.known_until_ms:
            entry.learn_close(close, traded_ms=traded_ms, received_ms=received_ms)
        tick = _new(FeedTick)
        tick.instrument = entry.instrument
        tick.last_price = price
        tick.last_quantity = quantity or None
        tick.traded_ms = traded_ms
        tick.received_ms = received_ms
        tick.previous_close = entry.previous_close
        tick.volume = volume if entry.has_volume else None
        tick.is_snapshot = entry.is_new
        tick.packet = packet
        tick.prices = prices
        tick.interest = entry.interest
        tick.book = None
        entry.is_new = False
        events.append(tick)

    def _entry(self, key: int, instrument: Instrument) -> _Entry:
        closes_ms = _CLOSES_LATER_MS.get(key & _SEGMENT_BITS, _CLOSES_MS)
        has_volume = instrument.kind is not InstrumentKind.INDEX
        return _Entry(instrument, prices=self._tables.of(instrument), closes_ms=closes_ms, has_volume=has_volume)

    def _is_news(self, entry: _Entry, wire: float, second: int) -> bool:
        """Say whether a ticker that is no later than the newest one is to be delivered all the same."""
        if second == entry.second and wire == entry.wire:
            self._nothing_new(entry, "duplicate")
            return False
        if entry.is_late(second, 0):
            self._nothing_new(entry, "out of order")
            return False
        entry.volume, entry.packet = 0, b""
        return True

    def _nothing_new(self, entry: _Entry, reason: str) -> None:
        self.skipped[reason] += 1
        self.unchanged.append(entry.instrument)

    def _no_price(self, wire: float) -> None:
        self.skipped["no last price" if wire == 0 else "malformed packet"] += 1

    def _lost(self, reason: str, end: int) -> int:
        self.skipped[reason] += 1
        return end

    def _unknown(self, code: int, after: int) -> int:
        if code != packets.HEARTBEAT:
            self.skipped["unknown packet"] += 1
        return after

    def _text(self, text: str) -> list[Tick | MarketStatus]:
        """Count what is no packet; none of it is documented."""
        self.skipped["text frame"] += 1
        logger.info("the feed sent text: %s", scrub(text[:300]))
        return []


def _market_status(segment: int, received_ms: int) -> MarketStatus:
    """Return that something changed in a segment: which phase it entered is in no documented byte."""
    name = _SEGMENT_NAMES.get(segment, str(segment))
    market = MARKETS.get(name)
    phases = {} if market is None else {market: MarketPhase.UNKNOWN}
    return MarketStatus(phases=phases, at=from_epoch_ms(received_ms), raw={name: "market status without content"})
