"""Faults on demand: what an emulator does to the next request that comes for a path."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import attrs

__all__ = ["Ending", "Fault", "Faults"]

_PAGE = b"<html><head><title>%d Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


class Ending(StrEnum):
    """How the exchange on the connection ends."""

    ANSWER = "answer"
    """With a whole response."""
    TRUNCATE = "truncate"
    """With half of the response's body, then the end of the connection."""
    CLOSE = "close"
    """With the end of the connection (FIN), unanswered."""
    RESET = "reset"
    """With a reset of the connection (RST), unanswered."""
    HANG = "hang"
    """Not at all: nothing comes until the client gives up."""
    CUT = "cut"
    """A WebSocket only: the handshake succeeds, then the connection ends (FIN)."""
    CUT_RESET = "cut-reset"
    """As `CUT`, with a reset (RST)."""


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that goes wrong once; build it with a classmethod.

    ``accepted`` says whether the request is carried out all the same: an order that was
    accepted exists, whatever its sender was told.
    """

    accepted: bool
    ending: Ending = Ending.ANSWER
    before: float = 0.0
    """Seconds to wait before the request is looked at."""
    after: float = 0.0
    """Seconds to wait before it is answered."""
    status: int | None = None
    """HTTP status to answer with instead of the true one."""
    body: bytes | None = None
    """Body to answer with; None is the broker's own error body for ``status``."""
    content_type: str = "application/json"
    rewrite: Callable[[Any], Any] | None = None
    """Makes another JSON value of the true answer's."""

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        """Look at the request only after ``seconds``."""
        return cls(accepted=True, before=seconds)

    @classmethod
    def late_reply(cls, seconds: float) -> Fault:
        """Carry it out at once, answer after ``seconds``."""
        return cls(accepted=True, after=seconds)

    @classmethod
    def lost_reply(cls, *, accepted: bool = True) -> Fault:
        """Close the connection without an answer."""
        return cls(accepted=accepted, ending=Ending.CLOSE)

    @classmethod
    def reset(cls, *, accepted: bool = True) -> Fault:
        """Reset the connection without an answer."""
        return cls(accepted=accepted, ending=Ending.RESET)

    @classmethod
    def hang(cls, *, accepted: bool = True) -> Fault:
        """Never answer, and keep the connection."""
        return cls(accepted=accepted, ending=Ending.HANG)

    @classmethod
    def truncated(cls) -> Fault:
        """Carry it out and answer with half of the body."""
        return cls(accepted=True, ending=Ending.TRUNCATE)

    @classmethod
    def server_error(cls, status: int = 500, *, accepted: bool = True) -> Fault:
        """Answer with a 5xx in the broker's own shape."""
        return cls(accepted=accepted, status=status)

    @classmethod
    def garbage(cls, body: bytes = b'{"data": ', *, status: int = 200) -> Fault:
        """Carry it out and answer 2xx with something unreadable."""
        return cls(accepted=True, status=status, body=body)

    @classmethod
    def rate_limited(cls) -> Fault:
        """Refuse with 429 in the broker's own shape; nothing is carried out."""
        return cls(accepted=False, status=429)

    @classmethod
    def unauthorised(cls) -> Fault:
        """Refuse with 401 in the broker's own shape; nothing is carried out."""
        return cls(accepted=False, status=401)

    @classmethod
    def forbidden(cls) -> Fault:
        """Refuse with 403 in the broker's own shape; nothing is carried out."""
        return cls(accepted=False, status=403)

    @classmethod
    def html(cls, status: int = 502, *, accepted: bool = False) -> Fault:
        """Answer with a web page, as the network in front of a broker does."""
        return cls(accepted=accepted, status=status, body=_PAGE % status, content_type="text/html; charset=UTF-8")

    @classmethod
    def answer(cls, body: bytes, *, status: int = 200, accepted: bool = False) -> Fault:
        """Answer with ``body`` as JSON, whatever the truth is."""
        return cls(accepted=accepted, status=status, body=body)

    @classmethod
    def dropped(cls) -> Fault:
        """Lose the request on its way: the connection ends, nothing is carried out."""
        return cls.lost_reply(accepted=False)

    @classmethod
    def nulls(cls) -> Fault:
        """Carry it out and answer with null in the place of every value inside ``data``."""
        return cls(accepted=True, rewrite=_in_data(_nulls))

    @classmethod
    def wrong_types(cls) -> Fault:
        """Carry it out and answer with numbers as text, text as numbers, truth as text."""
        return cls(accepted=True, rewrite=_in_data(_wrong))

    @classmethod
    def cut_socket(cls, *, after: float = 0.0, with_reset: bool = False) -> Fault:
        """Let a WebSocket's handshake succeed and end the connection ``after`` seconds; repeated, a reconnect storm."""
        return cls(accepted=True, ending=Ending.CUT_RESET if with_reset else Ending.CUT, after=after)


def _in_data(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Spare the envelope of a broker that has one, so that the answer still looks like one."""

    def rewrite(answer: Any) -> Any:
        if isinstance(answer, dict) and "data" in answer:
            return {**answer, "data": change(answer["data"])}
        return change(answer)

    return rewrite


def _leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _leaves(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_leaves(each, change) for each in value]
    return change(value)


def _nulls(value: Any) -> Any:
    return _leaves(value, lambda _: None)


def _wrong(value: Any) -> Any:
    return _leaves(value, lambda leaf: 7 if isinstance(leaf, str) else str(leaf))


class Faults:
    """Which faults wait for which requests.

    A place is ``"POST /v2/orders"``: a method (``WS`` for the handshake of a WebSocket, ``*``
    for any) and a path, both of which may hold shell wildcards. Each fault happens once, in
    the order they were added.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[Fault]] = {}

    def add(self, place: str, *faults: Fault, times: int = 1) -> None:
        """Have ``faults`` happen to the next requests at ``place``, the whole list ``times`` over."""
        self._queues.setdefault(place, deque()).extend(faults * times)

    def clear(self) -> None:
        """Forget all faults that have not happened."""
        self._queues.clear()

    @property
    def pending(self) -> int:
        """Return how many faults have not happened yet."""
        return sum(map(len, self._queues.values()))

    def take(self, method: str, path: str) -> Fault | None:
        """Return the next fault for a request, and forget it; None lets the request be."""
        request = f"{method} {path}"
        for place, queue in self._queues.items():
            if queue and fnmatchcase(request, place):
                return queue.popleft()
        return None
