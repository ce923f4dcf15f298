"""When silence means something: whether a market is open, and when to stop believing a quiet socket."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Final

import attrs

from hybridbroker.clock import IST, Clock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Segment
from hybridbroker.domain.market import MarketPhase, MarketStatus
from hybridbroker.errors import ConfigurationError, Unsupported

__all__ = ["OpenHours", "Patience", "SilenceWatch", "Verdict"]

_TRADES: Final = frozenset({MarketPhase.OPEN, MarketPhase.CLOSING})
_FOR_EVER: Final = float("inf")
_CLOSED: Final = 0.0


class OpenHours:
    """For how long a market has been open: by the calendar, and by the broker's word where the calendar has none.

    Where the calendar says closed it is closed. Where it says open, a broker that has said
    "closed" since the opening is believed: trading was halted.
    """

    def __init__(self, calendar: TradingCalendar, clock: Clock) -> None:
        self._calendar = calendar
        self._clock = clock
        self._told: dict[str, tuple[MarketPhase, datetime]] = {}

    def told(self, status: MarketStatus) -> None:
        """Note the broker's word; it counts from now, since brokers' clocks are not ours."""
        now = self._clock.now()
        for market, phase in status.phases.items():
            if self._told.get(market, (None, now))[0] is not phase:
                self._told[market] = (phase, now)

    def longest_open(self, markets: Iterable[tuple[Exchange, Segment]]) -> float:
        """Return the seconds since the first of these markets opened; 0 while all are closed.

        Infinite where neither calendar nor broker says anything: then only time is known.
        """
        now = self._clock.now()
        return max((self._open_for(exchange, segment, now) for exchange, segment in markets), default=_CLOSED)

    def _open_for(self, exchange: Exchange, segment: Segment, now: datetime) -> float:
        phase, since = self._told.get(f"{exchange}:{segment}", (None, now))
        try:
            session = self._calendar.session(now.astimezone(IST).date(), segment=segment, exchange=exchange)
        except (ConfigurationError, Unsupported):
            if phase is None or phase is MarketPhase.UNKNOWN:
                return _FOR_EVER
            return (now - since).total_seconds() if phase in _TRADES else _CLOSED
        stretches = session.stretches if session is not None else ()
        opened = next((opens for opens, closes in stretches if opens <= now < closes), None)
        if opened is None or (phase is MarketPhase.CLOSED and since >= opened):
            return _CLOSED
        return (now - opened).total_seconds()


@attrs.frozen(kw_only=True)
class Patience:
    """After how many seconds of silence in an open session a live socket is reported, and replaced.

    A replacement that finds nothing was missed doubles both, up to ``longest``: some instruments
    are that quiet. One that finds something was missed restores them.
    """

    report: float = 30.0
    replace: float = 60.0
    longest: float = 900.0
    every: float = 1.0
    """Seconds between two looks; real ones, since a clock that somebody moves must not be moved by looking."""


class Verdict(Enum):
    """What a silence calls for."""

    FINE = "fine"
    REPORT = "report"
    REPLACE = "replace"


class SilenceWatch:
    """Decides what a silence calls for; pure, told all it knows."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._factor = 1.0
        self._replace_at = patience.replace
        self._is_reported = False
        self._known_ms: int | None = None

    def judge(self, silence: float, *, connected: float, newest_trade_ms: int) -> Verdict:
        """Say what ``silence`` seconds call for.

        ``connected`` is how long there has been a connection, 0 while there is none;
        ``newest_trade_ms`` the newest exchange time known. `REPORT` comes once a silence.
        `REPLACE` comes again where the new connection is as silent, after twice the time.
        """
        if silence <= self._after(self._patience.report):
            self._heard(newest_trade_ms)
            return Verdict.FINE
        if min(silence, connected) > self._replace_at:
            self._replace_at = min(self._patience.longest, self._replace_at * 2)
            if self._known_ms is None:
                self._known_ms = newest_trade_ms
            return Verdict.REPLACE
        if not self._is_reported:
            self._is_reported = True
            return Verdict.REPORT
        return Verdict.FINE

    def restart(self) -> None:
        """Begin with the first patience again: other instruments are watched from now on."""
        self._factor, self._known_ms = 1.0, None
        self._replace_at = self._after(self._patience.replace)

    def _heard(self, newest_trade_ms: int) -> None:
        if self._known_ms is not None:
            was_missing = newest_trade_ms > self._known_ms
            self._factor = 1.0 if was_missing else self._factor * 2
            self._known_ms = None
        self._is_reported = False
        self._replace_at = self._after(self._patience.replace)

    def _after(self, seconds: float) -> float:
        return min(self._patience.longest, seconds * self._factor)
