"""When the exchanges trade: sessions by exchange, segment and date, in IST, asked in any zone.

Written here although calendar libraries exist: exchange_calendars knows NSE and BSE closed days
but not their special sessions, derivatives hours or this year's closing auction, and needs
pandas. The tests compare against it; the data is in `sessions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Final

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Exchange, Segment
from hybridbroker.domain.sessions import CLOSED_DAYS, COVERED, HOURS, SPECIAL_SESSIONS, Hours, SpecialSession
from hybridbroker.errors import ConfigurationError, Unsupported

__all__ = ["Session", "TradingCalendar"]

_SATURDAY: Final = 5
_DAY: Final = timedelta(days=1)
_MARKET: Final = {Segment.CASH: Segment.CASH, Segment.INDEX: Segment.CASH, Segment.DERIVATIVES: Segment.DERIVATIVES}
_EXCHANGES: Final = frozenset({Exchange.NSE, Exchange.BSE})


@attrs.frozen(kw_only=True)
class Session:
    """Continuous trading of one segment on one day; every instant is in IST."""

    date: date
    segment: Segment
    stretches: tuple[tuple[datetime, datetime], ...]
    """Opening and closing of each part: one on nearly every day."""
    pre_open: tuple[datetime, datetime] | None = None
    """Opening and end of the call auction before the session; None where there is none or no source states it.

    What the auction is doing within it, only the feed's market status tells.
    """
    auction_from: datetime | None = None
    """From when shares with derivatives trade in the closing auction only, although the session goes on.

    Which shares those are, and what the auction is doing, only the feed's market status tells.
    """
    name: str = ""
    """What is special about it; empty on a regular day."""

    @property
    def opens(self) -> datetime:
        """Return when trading begins."""
        return self.stretches[0][0]

    @property
    def closes(self) -> datetime:
        """Return when trading has ended."""
        return self.stretches[-1][1]

    def __contains__(self, instant: datetime) -> bool:
        """Say whether trading runs at ``instant``; the opening belongs to the session, the closing does not."""
        return any(opens <= instant < closes for opens, closes in self.stretches)


def _closed_days() -> frozenset[date]:
    return frozenset(
        date(year, int(each[:2]), int(each[2:])) for year, days in CLOSED_DAYS.items() for each in days.split()
    )


@attrs.frozen(kw_only=True)
class TradingCalendar:
    """The trading days and hours of NSE and BSE.

    Without arguments it is the built-in calendar. It never guesses: a date outside `covered`,
    or one whose hours no source states, is a `ConfigurationError` that says what to supply.
    """

    covered: tuple[date, date] = COVERED
    """First and last date it answers for."""
    closed_days: frozenset[date] = attrs.field(factory=_closed_days, repr=False)
    hours: tuple[Hours, ...] = attrs.field(default=HOURS, repr=False)
    special: Mapping[date, SpecialSession] = attrs.field(default=SPECIAL_SESSIONS, repr=False)
    _known: dict[tuple[date, Segment], Session | None] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    def extended(
        self,
        *,
        through: date | None = None,
        closed_days: frozenset[date] = frozenset(),
        special: Mapping[date, SpecialSession] | None = None,
    ) -> TradingCalendar:
        """Return a calendar that knows more: a later last date, more closed days, other special sessions."""
        return attrs.evolve(
            self,
            covered=(self.covered[0], max(self.covered[1], through or self.covered[1])),
            closed_days=self.closed_days | closed_days,
            special={**self.special, **(special or {})},
        )

    def is_trading_day(self, on: date) -> bool:
        """Say whether there is any session on ``on``, be it an hour of Muhurat trading."""
        self._check_covered(on)
        return on in self.special or (on.weekday() < _SATURDAY and on not in self.closed_days)

    def session(
        self, on: date, segment: Segment = Segment.CASH, *, exchange: Exchange = Exchange.NSE
    ) -> Session | None:
        """Return the session of a date, or None on a day without one.

        Raises:
            ConfigurationError: The date is not covered, or its hours are not known.
            Unsupported: Sessions of this segment or exchange are not tabulated.
        """
        market = _market(segment, exchange)
        key = (on, market)
        if key not in self._known:
            self._known[key] = self._build(on, market) if self.is_trading_day(on) else None
        return self._known[key]

    def is_open(self, instant: datetime, segment: Segment = Segment.CASH, *, exchange: Exchange = Exchange.NSE) -> bool:
        """Say whether continuous trading runs at ``instant``. Errors as `session`."""
        session = self.session(_day(instant), segment=segment, exchange=exchange)
        return session is not None and instant in session

    def next_open(
        self, instant: datetime, segment: Segment = Segment.CASH, *, exchange: Exchange = Exchange.NSE
    ) -> datetime:
        """Return when trading begins next, strictly after ``instant``. Errors as `session`."""
        day = _day(instant)
        while True:
            session = self.session(day, segment=segment, exchange=exchange)
            starts = [opens for opens, _ in session.stretches if opens > instant] if session else []
            if starts:
                return starts[0]
            day += _DAY

    def previous_session(
        self, before: date, segment: Segment = Segment.CASH, *, exchange: Exchange = Exchange.NSE
    ) -> Session:
        """Return the session of the last trading day before the date ``before``. Errors as `session`."""
        day = before - _DAY
        while (session := self.session(day, segment=segment, exchange=exchange)) is None:
            day -= _DAY
        return session

    def sessions(
        self, start: date, end: date, segment: Segment = Segment.CASH, *, exchange: Exchange = Exchange.NSE
    ) -> Iterator[Session]:
        """Iterate over the sessions from ``start`` to ``end``, both included. Errors as `session`."""
        day = start
        while day <= end:
            session = self.session(day, segment=segment, exchange=exchange)
            if session is not None:
                yield session
            day += _DAY

    def _check_covered(self, on: date) -> None:
        first, last = self.covered
        if not first <= on <= last:
            raise ConfigurationError(
                f"the trading calendar covers {first} to {last}, not {on}; upgrade hybridbroker, or pass a "
                "TradingCalendar().extended(through=..., closed_days=...) built from the exchange's holiday circular"
            )

    def _build(self, on: date, market: Segment) -> Session:
        special = self.special.get(on)
        if special is not None:
            if not special.stretches:
                raise ConfigurationError(
                    f"{on} has a special session ({special.name}), but no source known here states its hours; pass "
                    "TradingCalendar().extended(special={...}) with the exchange's circular"
                )
            return Session(date=on, segment=market, stretches=_instants(on, special.stretches), name=special.name)
        known = [each for each in self.hours if each.segment is market and each.valid_from <= on]
        regular = max(known, key=lambda each: each.valid_from)
        return Session(
            date=on,
            segment=market,
            stretches=_instants(on, ((regular.opens, regular.closes),)),
            pre_open=None if regular.pre_open is None else _instants(on, (regular.pre_open,))[0],
            auction_from=None if regular.auction_from is None else datetime.combine(on, regular.auction_from, IST),
        )


def _market(segment: Segment, exchange: Exchange) -> Segment:
    market = _MARKET.get(segment)
    if market is None or exchange not in _EXCHANGES:
        raise Unsupported(
            f"sessions of {exchange} {segment} are not tabulated; cash, index and derivatives of NSE and BSE are"
        )
    return market


def _day(instant: datetime) -> date:
    if instant.tzinfo is None:
        raise ValueError(f"an instant must be timezone-aware, was {instant!r}")
    return instant.astimezone(IST).date()


def _instants(on: date, stretches: tuple[tuple[time, time], ...]) -> tuple[tuple[datetime, datetime], ...]:
    return tuple((datetime.combine(on, opens, IST), datetime.combine(on, closes, IST)) for opens, closes in stretches)
