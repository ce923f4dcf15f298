"""What the emulated Dhan looks at before a call: token, address, kill switch and rate."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybridbroker.clock import Clock
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.login import DhanLogin
from hybridbroker.testing.emulators.dhan.orders import Refusal

__all__ = ["LIMITS", "Call", "DhanGates"]

LIMITS: Final = {
    "order": ((10, 1.0), (250, 60.0), (1_000, 3_600.0), (7_000, 86_400.0)),
    "reading": ((20, 1.0),),
    "data": ((5, 1.0), (100_000, 86_400.0)),
    "quote": ((1, 1.0),),
}
"""Requests and seconds by family, per account (documented, https://dhanhq.co/docs/v2/ , read in 2026)."""


@attrs.frozen
class Call:
    """One call under ``/v2``; ``answer`` gets the request and its body, and returns JSON or a whole response."""

    method: str
    path: str
    answer: Callable[[Request, bytes], Any]
    family: str = "reading"
    """Whose rate it counts for."""


class DhanGates:
    """Refuses what may not pass, in the words that were documented or recorded."""

    def __init__(self, login: DhanLogin, *, habits: DhanHabits, clock: Clock, is_killed: Callable[[], bool]) -> None:
        self._login = login
        self._habits = habits
        self._clock = clock
        self._is_killed = is_killed
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def route(self, call: Call) -> Route:
        """Return the route of a call: token and rate first, refusals in their documented shape."""

        async def endpoint(request: Request) -> Response:
            try:
                self.token(request)
                self.rate(call.family)
                told = call.answer(request, await request.body())
            except Refusal as refusal:
                return JSONResponse(refusal.body, refusal.status)
            return told if isinstance(told, Response) else JSONResponse(told)

        return Route(f"/v2{call.path}", endpoint, methods=[call.method])

    def token(self, request: Request) -> None:
        """Refuse a dead token or another client's; the profile says it in its own way (recorded)."""
        if self._login.accepts(request):
            return
        if request.url.path.endswith("/profile"):
            raise Refusal.order("Invalid Token")
        raise Refusal.bad_login()

    def address(self) -> None:
        """Refuse an order write from an address that is not registered."""
        code = self._habits.refuse_address
        if code is not None:
            raise Refusal(400 if code == "DH-905" else 403, code, "Input_Exception", "Invalid IP")

    def switch(self) -> None:
        """Refuse new orders while the kill switch is on; the words are this emulator's own."""
        if self._is_killed():
            raise Refusal.order("Kill Switch is active, trading is disabled for the day")

    def rate(self, family: str) -> None:
        """Count one request and refuse it beyond the family's rates; a refused one counts for nothing."""
        if not self._habits.enforce_limits:
            return
        now, seen = self._clock.monotonic(), self._seen[family]
        for most, seconds in LIMITS[family]:
            if sum(now - each < seconds for each in seen) >= most:
                raise Refusal.limited()
        seen.append(now)
        while now - seen[0] >= LIMITS[family][-1][1]:
            seen.popleft()
