"""An event loop whose time is the simulation's: it never waits, and knows when nothing is left to do at an instant."""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, Final

from hybridbroker.clock import IST

__all__ = ["SimulatedClock", "VirtualLoop"]

_MS: Final = 1000.0
_RESOLUTION: Final = 1e-5


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs tasks exactly as asyncio does, in simulated time.

    ``asyncio.sleep``, ``asyncio.timeout`` and ``call_later`` go by ``elapsed``. Whenever every
    task waits, ``idle`` is called; it moves time on, or makes somebody ready, and says so. If
    it returns False the loop waits a little, in real time, for a thread or a socket.
    """

    def __init__(self, idle: Callable[[], bool]) -> None:
        self.elapsed = 0.0
        """Simulated seconds since the start."""
        self.scheduled = 0
        """How often anything was made ready to run: unchanged means that nobody else is."""
        self.in_threads = 0
        """Calls that run in threads now; what they return depends on real time."""
        self._timers: list[float] = []
        super().__init__(_IdleSelector(idle))
        # asyncio adds this to the time before it compares: a nanosecond would vanish in years of seconds.
        self._clock_resolution = _RESOLUTION

    def time(self) -> float:
        """Return simulated seconds since the start."""
        return self.elapsed

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """As asyncio's, and counted."""
        self.scheduled += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, and remembered."""
        heapq.heappush(self._timers, when)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """As asyncio's, and counted while it runs."""
        future = super().run_in_executor(executor, func, *args)
        self.in_threads += 1
        future.add_done_callback(self._left_thread)
        return future

    def next_timer(self) -> float | None:
        """Return when the next timer may be due, in simulated seconds; a cancelled one still counts."""
        timers = self._timers
        while timers and timers[0] <= self.elapsed:
            heapq.heappop(timers)
        return timers[0] if timers else None

    def _left_thread(self, _: object) -> None:
        self.in_threads -= 1


class _IdleSelector(selectors.DefaultSelector):
    """Asks the simulation to go on where asyncio would sleep."""

    def __init__(self, idle: Callable[[], bool]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0 or self._idle():
            return ready
        return super().select(0.01)


class SimulatedClock:
    """A `Clock` that shows a loop's simulated time, from ``start`` on, in IST."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self._start = datetime.fromtimestamp(start_ms / _MS, IST)
        self._loop: VirtualLoop | None = None
        self._shown = 0.0
        self._now = self._start

    def attach(self, loop: VirtualLoop) -> None:
        """Go by this loop from now on."""
        self._loop = loop

    @property
    def elapsed(self) -> float:
        """Return simulated seconds since the start."""
        return 0.0 if self._loop is None else self._loop.elapsed

    def now(self) -> datetime:
        """Return the simulated present, in IST."""
        elapsed = self.elapsed
        if elapsed != self._shown:
            self._now = self._start + timedelta(seconds=elapsed)
            self._shown = elapsed
        return self._now

    def monotonic(self) -> float:
        """Return simulated seconds since the start."""
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of simulated time."""
        await asyncio.sleep(max(0.0, seconds))
