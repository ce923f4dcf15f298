"""Dhan's live market feed on the emulated market: subscriptions in, binary packets out, and its ways of hanging up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Literal

from starlette.websockets import WebSocket

from hybridbroker.testing.emulators.dhan import packets
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.outbox import Outbox
from hybridbroker.testing.emulators.steps import Step

__all__ = ["FEED_PATH", "DhanFeed"]

FEED_PATH: Final = "/feed"
"""Where an emulator serves it; the true one has a host of its own."""

_SUBSCRIBE: Final = frozenset({15, 17, 21})
_DISCONNECT: Final = 12
_PER_MESSAGE: Final = 100
_PER_SOCKET: Final = 5_000
_SOCKETS: Final = 5
_TOO_MANY_INSTRUMENTS, _TOO_MANY_SOCKETS, _NO_PLAN, _BAD_TOKEN, _BAD_REQUEST = 804, 805, 806, 809, 814

Key = tuple[str, str]


class FeedSocket(Outbox):
    """One client: what it is subscribed to, by segment and security id."""

    def __init__(self, websocket: WebSocket, *, on_request: Callable[[FeedSocket, Any], None]) -> None:
        super().__init__(websocket)
        self.modes: dict[Key, int] = {}
        self._on_request = on_request

    def read(self, message: bytes | str) -> None:
        """Take a request: JSON, in a text frame by the documentation."""
        try:
            request = json.loads(message)
        except ValueError:
            request = None
        self._on_request(self, request)

    def goodbye(self, reason: int) -> None:
        """Tell the reason and close."""
        self.put(packets.disconnect(reason))
        self.hang_up(1000)


class DhanFeed:
    """The feed's sockets and what goes out to them.

    A bad token is let in and hung up on after its first request (recorded), with a packet or
    with a bare reset as ``bad_login`` says. A sixth socket has the oldest hung up on with 805.
    What a message asks beyond 100 instruments, or a socket beyond 5,000, is answered with 804
    (the documented code; the reaction itself is unconfirmed).

    Args:
        market: What trades.
        accepts: Whether a client id and token are good.
        has_plan: Whether the account has the Data API plan; without it a request is answered with 806.
        autoplay: Whether the market begins to play at the first subscription.
    """

    def __init__(
        self,
        market: EmulatedMarket,
        *,
        accepts: Callable[[str, str], bool],
        has_plan: Callable[[], bool] = lambda: True,
        autoplay: bool = False,
    ) -> None:
        self.bad_login: Literal["packet", "reset"] = "packet"
        self.per_frame = 1
        """How many packets travel in one frame."""
        self.sockets: list[FeedSocket] = []
        """Open sockets, oldest first."""
        self.received: list[Any] = []
        """Every request, as it was understood."""
        self.unknown: list[Key] = []
        """What was asked for and is not listed: answered with silence."""
        self._market = market
        self._accepts = accepts
        self._has_plan = has_plan
        self._autoplay = autoplay

    @property
    def subscriptions(self) -> dict[Key, int]:
        """Return the request code of every instrument that some socket is subscribed to."""
        return {key: code for each in self.sockets for key, code in each.modes.items()}

    async def serve(self, websocket: WebSocket, *, reset: Callable[[], object]) -> None:
        """Serve one client until it is gone; ``reset`` cuts its connection."""
        query = websocket.query_params
        good = self._accepts(query.get("clientId", ""), query.get("token", ""))
        good = good and query.get("version") == "2" and query.get("authType") == "2"
        await websocket.accept()

        def on_request(socket: FeedSocket, request: Any) -> None:
            if good:
                self._on_request(socket, request)
            elif self.bad_login == "reset":
                reset()
            else:
                socket.goodbye(_BAD_TOKEN)

        socket = FeedSocket(websocket, on_request=on_request)
        self.sockets.append(socket)
        if len(self.sockets) > _SOCKETS:
            self.sockets[0].goodbye(_TOO_MANY_SOCKETS)
        try:
            await socket.serve()
        finally:
            self.sockets.remove(socket)
            self._count_audience(before=bool(socket.modes), after=False)

    async def on_step(self, step: Step) -> None:
        """Tell every socket what happened; `EmulatedMarket.listen` calls this."""
        for socket in tuple(self.sockets):
            if step.status is not None:
                for number in {packets.SEGMENTS[segment] for segment, _ in socket.modes}:
                    socket.put(packets.status(number))
            frames = [
                packet
                for listed, feed in step.updates
                if (code := socket.modes.get((listed.dhan_segment, listed.dhan_id))) is not None
                for packet in packets.in_mode(listed, feed, code)
            ]
            self._put(socket, frames)
            if self._market.speed is None:
                await socket.drained()

    async def send(self, frame: bytes | str) -> None:
        """Send a frame, well-formed or not, to every socket, after what is queued already."""
        for each in tuple(self.sockets):
            each.put(frame)
            await each.drained()

    def disconnect(self, reason: int) -> None:
        """Hang up on every socket for a reason of the documented table."""
        for each in tuple(self.sockets):
            each.goodbye(reason)

    def _on_request(self, socket: FeedSocket, request: Any) -> None:
        self.received.append(request)
        if not self._has_plan():
            socket.goodbye(_NO_PLAN)
            return
        try:
            code = int(request["RequestCode"])
            if code == _DISCONNECT:
                socket.hang_up(1000)
                return
            keys = [(str(each["ExchangeSegment"]), str(each["SecurityId"])) for each in request["InstrumentList"]]
        except (TypeError, KeyError, ValueError):
            socket.goodbye(_BAD_REQUEST)
            return
        before = bool(socket.modes)
        if len(keys) > _PER_MESSAGE:
            socket.goodbye(_TOO_MANY_INSTRUMENTS)
        elif code in _SUBSCRIBE:
            self._subscribe(socket, keys, code)
        elif code - 1 in _SUBSCRIBE:
            for key in keys:
                if socket.modes.get(key) == code - 1:
                    del socket.modes[key]
        else:
            socket.goodbye(_BAD_REQUEST)
        self._count_audience(before=before, after=bool(socket.modes))

    def _subscribe(self, socket: FeedSocket, keys: list[Key], code: int) -> None:
        frames = []
        for segment, security_id in keys:
            listed = self._market.by_id(segment, security_id)
            if listed is None:
                self.unknown.append((segment, security_id))
                continue
            socket.modes[segment, security_id] = code
            feed = self._market.feed(listed.upstox_key)
            if feed is None:
                continue
            if segment == "IDX_I":
                frames.append(packets.previous_close(listed, feed))
            frames += packets.in_mode(listed, feed, code)
        if len(socket.modes) > _PER_SOCKET:
            socket.goodbye(_TOO_MANY_INSTRUMENTS)
            return
        self._put(socket, frames)

    def _put(self, socket: FeedSocket, frames: list[bytes]) -> None:
        for first in range(0, len(frames), self.per_frame):
            socket.put(b"".join(frames[first : first + self.per_frame]))

    def _count_audience(self, *, before: bool, after: bool) -> None:
        if before != after:
            self._market.audience(1 if after else -1)
        if after and self._autoplay:
            self._market.play()
