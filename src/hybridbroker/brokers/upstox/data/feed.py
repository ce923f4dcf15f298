"""Market data feed V3 without a socket: what to send to subscribe, and how to read what comes.

https://upstox.com/developer/api-documentation/v3/get-market-data-feed
"""

from __future__ import annotations

import json
import logging
import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError

from hybridbroker.brokers.upstox.data import mapping
from hybridbroker.brokers.upstox.data.feed_merge import LTPC, Layout, Shape, fill, layout_of
from hybridbroker.brokers.upstox.data.feed_tick import FeedTick
from hybridbroker.brokers.upstox.data.mapping import MAX_EPOCH_MS
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import FeedMode, MarketPhase, MarketStatus, Tick
from hybridbroker.errors import ConfigurationError

__all__ = ["FeedDecoder", "change_mode_frames", "hello_frames", "subscribe_frames", "unsubscribe_frames"]

logger = logging.getLogger(__name__)

_KEYS_PER_MESSAGE: Final = 1000
"""Ours: the documentation sets no bound, and a thousand keys are about 25 kB of JSON."""
_cut: Final = pb.FeedFrame.FromString
_parse: Final = pb.Feed.FromString
_new: Final = object.__new__
_INFINITE: Final = math.inf
_REFUSALS: Final = ("failed", "error")
_LATE: Final = "out of order"
_SNAPSHOT: Final = int(pb.initial_feed)
_LIVE: Final = int(pb.live_feed)
_PHASES: Final = {number: name for name, number in pb.MarketStatus.items()}
_CONVINCING: Final = 3
"""So many late updates in a row, in order among themselves, and it was the newest one that was wrong."""


def subscribe_frames(keys: Iterable[str], mode: FeedMode) -> Iterator[bytes]:
    """Ask for ``keys`` in ``mode``; JSON, but documented to go out in binary frames."""
    return _requests("sub", keys, mode)


def change_mode_frames(keys: Iterable[str], mode: FeedMode) -> Iterator[bytes]:
    """Ask for subscribed ``keys`` in another mode from now on."""
    return _requests("change_mode", keys, mode)


def unsubscribe_frames(keys: Iterable[str]) -> Iterator[bytes]:
    """Ask for ``keys`` no more."""
    return _requests("unsub", keys, None)


def hello_frames(wanted: Mapping[str, FeedMode]) -> Iterator[bytes]:
    """Ask for everything wanted, mode by key, in about as many messages as there are modes."""
    for mode in FeedMode:
        yield from subscribe_frames((key for key, each in wanted.items() if each is mode), mode)


def _requests(method: str, keys: Iterable[str], mode: FeedMode | None) -> Iterator[bytes]:
    every = list(keys)
    for first in range(0, len(every), _KEYS_PER_MESSAGE):
        data: dict[str, object] = {} if mode is None else {"mode": mapping.FEED_MODES[mode]}
        data["instrumentKeys"] = every[first : first + _KEYS_PER_MESSAGE]
        yield json.dumps({"guid": uuid.uuid4().hex, "method": method, "data": data}).encode()


@attrs.define(eq=False)
class _Entry:
    """One instrument, and everything that is known of it."""

    instrument: Instrument
    layout: Layout = LTPC
    shape: Shape = ()
    previous_close: float = 0.0
    feed: pb.Feed | None = None
    body: bytes = b""
    """The update delivered last, as it came."""
    traded_ms: int = 0
    volume: int = 0
    late: int = 0
    """How many late updates came in a row."""
    newest_late: tuple[int, int] = (0, 0)
    late_after: bytes | None = None
    """The update that those came after."""

    def merge(self, feed: pb.Feed, *, fresh: bool) -> str | None:
        """Take ``feed`` in, filled up with what was known; return why it is not to be delivered."""
        layout = layout_of(feed)
        if layout is None:
            return "empty entry"
        part = layout.part(feed)
        if not _is_sane(part.ltpc):
            return "malformed entry"
        if not fresh and self.is_late(part.ltpc.ltt, part.vtt if layout.has_volume else 0):
            return _LATE
        if self.feed is not None and not fresh:
            fill(feed, self.feed)
        self.layout, self.shape, self.previous_close, self.feed = layout, layout.shape(part), part.ltpc.cp, feed
        return None if part.ltpc.ltp else "no last price"

    def is_late(self, traded_ms: int, volume: int) -> bool:
        """Say whether an update tells of a moment before the newest one known: by volume where told, else by time.

        Late updates are whole old states (recorded). A volume that falls while the time goes on
        is a new day. Zeros tell nothing.
        """
        known_volume = self.volume if volume else 0
        if volume > known_volume or (not traded_ms and volume == known_volume):
            return False
        if traded_ms > self.traded_ms or (traded_ms == self.traded_ms and volume == known_volume):
            return False
        if self.late_after is not self.body:
            self.late, self.newest_late, self.late_after = 0, (0, 0), self.body
        if not self.late or (traded_ms, volume) > self.newest_late:
            self.newest_late = (traded_ms, volume)
            self.late += 1
        return self.late < _CONVINCING


class FeedDecoder:
    """Turns frames into events, and remembers per instrument what partial updates leave out.

    No frame makes it raise: what cannot be delivered is counted in ``skipped`` by reason, and
    the other entries of the same frame are delivered all the same. So are updates that repeat
    the one before, and those that come late: neither is a new trade.
    """

    def __init__(self, *, skipped: Counter[str] | None = None) -> None:
        if api_implementation.Type() == "python":
            raise ConfigurationError(
                "protobuf runs on its pure-Python backend, too slow for a live feed: install a protobuf wheel for this "
                "platform, and unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
            )
        self.skipped: Counter[str] = Counter() if skipped is None else skipped
        self.unchanged: list[Instrument] = []
        """Instruments of which the last frame told nothing new: they live all the same."""
        self._entries: dict[str, _Entry] = {}

    def add(self, instruments: Mapping[str, Instrument]) -> None:
        """Deliver these instruments, by the broker's key, from now on."""
        for key, instrument in instruments.items():
            if key not in self._entries:
                self._entries[key] = _Entry(instrument)

    def remove(self, keys: Iterable[str]) -> None:
        """Deliver these no more."""
        for key in keys:
            self._entries.pop(key, None)

    def reset(self) -> None:
        """Forget what was told before a connection was lost; the next one begins with snapshots."""
        self._entries = {key: _Entry(entry.instrument) for key, entry in self._entries.items()}

    def feed(self, frame: bytes | str, received_ms: int) -> list[Tick | MarketStatus]:
        """Return the events of one frame, a market status first; ``received_ms`` is epoch milliseconds."""
        if self.unchanged:
            self.unchanged = []
        if isinstance(frame, str):
            return self._text(frame)
        try:
            cut = _cut(frame)
        except DecodeError:
            return self._unreadable(frame)
        events: list[Tick | MarketStatus] = []
        kind = cut.type
        if kind != _LIVE and cut.HasField("marketInfo"):
            events.append(_market_status(cut, received_ms))
        entries, feeds, snapshot = self._entries, cut.feeds, kind == _SNAPSHOT
        keys: Iterable[str] = feeds  # items() of a protobuf map takes twice as long
        if len(entries) < len(feeds):
            keys = [key for key in entries if key in feeds]
            self.skipped["unknown key"] += len(feeds) - len(keys)
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                self.skipped["unknown key"] += 1
                continue
            tick = self._tick(entry, feeds[key], received_ms, snapshot)
            if tick is not None:
                events.append(tick)
        if not events and not feeds:
            self.skipped["empty frame"] += 1
        return events

    # One function although it is long: a call more at each tick would show.
    def _tick(  # noqa: PLR0911
        self,
        entry: _Entry,
        body: bytes,
        received_ms: int,
        snapshot: bool,  # noqa: FBT001
    ) -> Tick | None:
        if body == entry.body and not snapshot:
            self._nothing_new(entry, "duplicate")
            return None
        try:
            feed = _parse(body)
        except DecodeError:
            self.skipped["malformed entry"] += 1
            return None
        layout = entry.layout
        part = layout.part(feed)
        ltpc = part.ltpc
        price = ltpc.ltp
        # An update that has all that the one before had is the whole truth, and needs no merging.
        if snapshot or not price or ltpc.cp != entry.previous_close or layout.shape(part) != entry.shape:
            reason = entry.merge(feed, fresh=snapshot)
            if reason is _LATE:
                self._nothing_new(entry, _LATE)
                return None
            if reason is not None:
                self.skipped[reason] += 1
                return None
            layout = entry.layout
            part = layout.part(feed)
            ltpc = part.ltpc
            price = ltpc.ltp
            entry.traded_ms = entry.volume = 0  # what merging has let pass is not late
        quantity, traded_ms = ltpc.ltq, ltpc.ltt
        if not (0 < price < _INFINITE and quantity >= 0 and 0 <= traded_ms < MAX_EPOCH_MS):
            self.skipped["malformed entry"] += 1
            return None
        told = part.vtt if layout.has_volume else 0
        if (traded_ms < entry.traded_ms or told < entry.volume) and entry.is_late(traded_ms, told):
            self._nothing_new(entry, _LATE)
            return None
        entry.feed = feed
        entry.body = body
        entry.traded_ms = traded_ms
        entry.volume = told
        volume: int | None = told
        if told <= 0:
            # Zero is left out on the wire: it is one only beside a book.
            volume = 0 if layout.has_volume and told == 0 and entry.shape[0] else None
        tick = _new(FeedTick)
        tick.instrument = entry.instrument
        tick.last_price = price
        tick.last_quantity = quantity or None
        tick.traded_ms = traded_ms or None
        tick.received_ms = received_ms
        tick.previous_close = entry.previous_close or None
        tick.volume = volume
        tick.is_snapshot = snapshot
        tick.part = part
        tick.book = None
        return tick

    def _nothing_new(self, entry: _Entry, reason: str) -> None:
        self.skipped[reason] += 1
        self.unchanged.append(entry.instrument)

    def _unreadable(self, frame: bytes) -> list[Tick | MarketStatus]:
        if frame[:1] == b"{":  # no message of this schema begins so
            return self._text(frame.decode(errors="replace"))
        self.skipped["unreadable frame"] += 1
        return []

    def _text(self, text: str) -> list[Tick | MarketStatus]:
        """Count what is no protobuf; one integrator reports refused requests as JSON text (unconfirmed)."""
        self.skipped["text frame"] += 1
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict) and (told.get("status") in _REFUSALS or "error" in told):
            self.skipped["refused request"] += 1
            logger.warning("the feed refused a request: %.300s", text)
        else:
            logger.info("the feed sent text: %.300s", text)
        return []


def _is_sane(ltpc: pb.LTPC) -> bool:
    """Say whether the last trade can be one; zero means that the wire says nothing."""
    return 0 <= ltpc.ltp < math.inf and 0 <= ltpc.cp < math.inf and 0 <= ltpc.ltt < MAX_EPOCH_MS and ltpc.ltq >= 0


def _market_status(frame: pb.FeedFrame, received_ms: int) -> MarketStatus:
    """Return the phase of every segment we have a name for, and the broker's words for all of them."""
    info = frame.marketInfo
    raw = {segment: _PHASES.get(number, str(number)) for segment, number in info.segmentStatus.items()}
    phases = {
        mapping.SEGMENTS[each]: mapping.PHASES.get(word, MarketPhase.UNKNOWN)
        for each, word in raw.items()
        if each in mapping.SEGMENTS
    }
    for name in ("casMarketStatus", "preOpenSessionStatus"):
        raw |= {f"{name}.{segment}": told.status for segment, told in getattr(info, name).items()}
    told_ms = frame.currentTs if 0 < frame.currentTs < MAX_EPOCH_MS else received_ms
    return MarketStatus(phases=phases, at=from_epoch_ms(told_ms), raw=raw)
