"""Upstox's market feed: one-time URLs, subscriptions, key limits, and frames out as the market moves."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import attrs
from starlette.websockets import WebSocket

from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.greeks import with_greeks
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.messages import feed_frames, in_mode, market_info
from hybridbroker.testing.emulators.steps import Step
from hybridbroker.testing.emulators.upstox.feed_socket import FeedSocket

__all__ = ["FEED_PATH", "PLANS", "FeedHub", "FeedPlan", "OneTimeCodes"]

FEED_PATH: Final = "/market-data-feeder/v3/upstox-developer-api/feeds"

Excess = Literal["refuse", "ignore", "close"]


@attrs.frozen(kw_only=True)
class FeedPlan:
    """How much one account may stream, over all its sockets (documented; per account is our reading)."""

    sockets: int
    alone: Mapping[str, int]
    """Keys allowed in a mode that is the only one used."""
    mixed: Mapping[str, int]
    """Keys allowed in a mode while another is used too."""


PLANS: Final = {
    "normal": FeedPlan(
        sockets=2,
        alone={"ltpc": 5000, "option_greeks": 3000, "full": 2000, "full_d30": 0},
        mixed={"ltpc": 2000, "option_greeks": 2000, "full": 1500, "full_d30": 0},
    ),
    "plus": FeedPlan(
        sockets=5,
        alone={"ltpc": 5000, "option_greeks": 3000, "full": 2000, "full_d30": 50},
        mixed={"ltpc": 2000, "option_greeks": 2000, "full": 1500, "full_d30": 1500},
    ),
}


class OneTimeCodes:
    """Codes in socket URLs, each good for one handshake."""

    def __init__(self) -> None:
        self._codes: set[str] = set()

    def url(self, host: str, path: str, more: str = "") -> str:
        """Return a fresh URL on ``host``."""
        code = secrets.token_urlsafe(12)
        self._codes.add(code)
        return f"ws://{host}{path}?requestId={secrets.token_hex(8)}&code={code}{more}"

    def take(self, websocket: WebSocket) -> bool:
        """Use up the code of a handshake; False where it is none, or used."""
        code = websocket.query_params.get("code", "")
        known = code in self._codes
        self._codes.discard(code)
        return known

    def clear(self) -> None:
        """Forget every code that was not used."""
        self._codes.clear()


class FeedHub:
    """The sockets of the market feed, and what each is subscribed to."""

    def __init__(
        self, market: EmulatedMarket, *, batch: int, autoplay: bool, plan: FeedPlan | None, excess: Excess
    ) -> None:
        self.batch = batch
        self.plan = plan
        self.excess: Excess = excess
        self.repeats = 0
        """How many times each update comes again."""
        self.unknown_keys: list[str] = []
        self.refused_keys: list[str] = []
        """Keys that were beyond the plan's limits."""
        self.codes = OneTimeCodes()
        self.sockets: dict[FeedSocket, WebSocket] = {}
        self.dropped = 0
        self._market = market
        self._autoplay = autoplay
        self._stale: dict[str, pb.Feed] = {}
        self._newest: dict[str, pb.Feed] = {}

    @property
    def subscriptions(self) -> dict[str, str]:
        """Return the mode of every key that some socket is subscribed to."""
        return {key: mode for each in self.sockets for key, mode in each.modes.items()}

    @property
    def is_full(self) -> bool:
        """Say whether the plan allows no further socket."""
        return self.plan is not None and len(self.sockets) >= self.plan.sockets

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it is gone."""
        await websocket.accept()
        socket = FeedSocket(websocket, on_request=self._on_request)
        socket.put(self._phase(self._market.now_ms))
        self.sockets[socket] = websocket
        try:
            await socket.serve()
        finally:
            del self.sockets[socket]
            self.dropped += socket.dropped
            self._count_audience(before=bool(socket.modes), after=False)

    async def send(self, frame: bytes | str) -> None:
        """Send a frame, well-formed or not, to every socket, after what is queued already."""
        for each in tuple(self.sockets):
            each.put(frame)
            await each.drained()

    async def send_feeds(self, feeds: Mapping[str, pb.Feed], *, snapshot: bool) -> None:
        """Send entries as they are, subscribed or not."""
        for frame in feed_frames(list(feeds.items()), at_ms=self._market.now_ms, snapshot=snapshot, batch=self.batch):
            await self.send(frame)

    async def send_stale(self) -> None:
        """Send again, in their mode, the entries before the newest: updates that come out of order."""
        for socket in tuple(self.sockets):
            modes = socket.modes
            entries = [(key, in_mode(feed, modes[key])) for key, feed in self._stale.items() if key in modes]
            for frame in feed_frames(entries, at_ms=self._market.now_ms, snapshot=False, batch=self.batch):
                socket.put(frame)
            await socket.drained()

    async def close(self, code: int) -> None:
        """Close every socket with a close frame."""
        for each in tuple(self.sockets):
            await each.close(code)

    async def on_step(self, step: Step) -> None:
        """Tell every socket what happened."""
        for listed, feed in step.updates:
            if (newest := self._newest.get(listed.upstox_key)) is not None:
                self._stale[listed.upstox_key] = newest
            self._newest[listed.upstox_key] = feed
        for socket in tuple(self.sockets):
            if step.status is not None:
                socket.put(self._phase(step.at_ms))
            modes = socket.modes
            entries = [
                (listed.upstox_key, in_mode(with_greeks(self._market, listed, feed), modes[listed.upstox_key]))
                for listed, feed in step.updates
                if listed.upstox_key in modes
            ]
            for frame in feed_frames(entries, at_ms=step.at_ms, snapshot=False, batch=self.batch):
                for _ in range(1 + self.repeats):
                    socket.put(frame)
            if self._market.speed is None:
                await socket.drained()

    def _phase(self, at_ms: int) -> bytes:
        market = self._market
        return market_info(
            market.status,
            at_ms=at_ms,
            pre_open=market.pre_open,
            closing_auction=market.closing_auction,
            since_ms=market.phase_ms,
        )

    def _count_audience(self, *, before: bool, after: bool) -> None:
        if before != after:
            self._market.audience(1 if after else -1)
        if after and self._autoplay:
            self._market.play()

    def _on_request(self, socket: FeedSocket, method: str, keys: list[str], mode: str) -> None:
        before = bool(socket.modes)
        if method == "unsub":
            for key in keys:
                socket.modes.pop(key, None)
        else:
            self._subscribe(socket, method, keys, mode)
        self._count_audience(before=before, after=bool(socket.modes))

    def _subscribe(self, socket: FeedSocket, method: str, keys: list[str], mode: str) -> None:
        known = [key for key in keys if self._market.by_key(key) is not None]
        self.unknown_keys += [key for key in keys if key not in known]
        if method == "change_mode":
            known = [key for key in known if key in socket.modes]
        allowed = self._allowed(known, mode)
        if len(allowed) < len(known):
            self.refused_keys += known[len(allowed) :]
            known = self._refuse_excess(socket, method, mode, allowed)
        socket.modes.update(dict.fromkeys(known, mode))
        for frame in feed_frames(
            list(self._snapshots(known, mode)), at_ms=self._market.now_ms, snapshot=True, batch=self.batch
        ):
            socket.put(frame)

    def _snapshots(self, keys: list[str], mode: str) -> Iterator[tuple[str, pb.Feed]]:
        for key in keys:
            listed, feed = self._market.by_key(key), self._market.feed(key)
            if listed is not None and feed is not None:
                yield key, in_mode(with_greeks(self._market, listed, feed), mode)

    def _allowed(self, keys: list[str], mode: str) -> list[str]:
        """Return as many of ``keys`` as the plan still has room for in ``mode``."""
        if self.plan is None:
            return keys
        wanted = set(keys)
        used = Counter(other for key, other in self.subscriptions.items() if key not in wanted)
        limits = self.plan.alone if set(used) <= {mode} else self.plan.mixed
        return keys[: max(0, limits[mode] - used[mode])]

    def _refuse_excess(self, socket: FeedSocket, method: str, mode: str, allowed: list[str]) -> list[str]:
        """Do to a request beyond the limits what was chosen; return the keys that are taken all the same."""
        match self.excess:
            case "ignore":
                return allowed
            case "close":
                socket.hang_up()
            case "refuse":
                text = f"the key limit of mode {mode} is exceeded"
                socket.put(json.dumps({"status": "failed", "method": method, "error": text}))
        return []
