"""Upstox's market status, holidays and timings, from the emulated market's phase and the trading calendar."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, Final

from starlette.responses import Response

from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Segment
from hybridbroker.errors import ConfigurationError
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal, success
from hybridbroker.testing.emulators.upstox.gates import Need, Rule

__all__ = ["UpstoxCalendar"]

_EXCHANGES: Final = {
    "MCX": None,
    "NSE": Segment.CASH,
    "NFO": Segment.DERIVATIVES,
    "CDS": None,
    "BSE": Segment.CASH,
    "BCD": None,
    "BFO": Segment.DERIVATIVES,
}
"""Exchange codes of the timings call; None is not tabulated here, and left out of its answers."""

_STATUS_EXCHANGES: Final = frozenset({"NSE", "NFO", "CDS", "BSE", "BFO", "BCD", "MCX", "NSCOM"})
_AUCTIONED: Final = frozenset({"NSE", "BSE"})


class UpstoxCalendar:
    """Answers calendar calls; special sessions show as holidays with open exchanges, as documented."""

    def __init__(self, market: EmulatedMarket, calendar: TradingCalendar) -> None:
        self._market = market
        self._calendar = calendar

    def rules(self) -> Iterator[Rule]:
        """Return the calls; only the status wants a token (documented by the vendor's SDK)."""
        yield Rule("GET", "/v2/market/status/{exchange}", self._status, Need.DATA)
        yield Rule("GET", "/v2/market/holidays", self._holidays, Need.NOTHING)
        yield Rule("GET", "/v2/market/holidays/{date}", self._holidays, Need.NOTHING)
        yield Rule("GET", "/v2/market/timings/{date}", self._timings, Need.NOTHING)

    def _status(self, call: Call) -> Response:
        exchange = call.params["exchange"]
        if exchange not in _STATUS_EXCHANGES:
            raise Refusal("UDAPI1089", path="exchange", invalid=exchange)
        market = self._market
        row: dict[str, Any] = {
            "exchange": exchange,
            "status": pb.MarketStatus.Name(market.status),
            "last_updated": market.phase_ms,
        }
        if exchange in _AUCTIONED and market.closing_auction is not None:
            row["cas_eligible_status"] = {"status": market.closing_auction, "last_updated": market.phase_ms}
        return success(row)

    def _holidays(self, call: Call) -> Response:
        if (given := call.params.get("date")) is not None:
            day = _day(given)
            return success([self._holiday(day)] if self._is_special(day) else [])
        first = date(self._market.now.year, 1, 1)
        days = (first + timedelta(days=n) for n in range(366))
        return success([self._holiday(day) for day in days if day.year == first.year and self._is_special(day)])

    def _is_special(self, day: date) -> bool:
        return day in self._calendar.closed_days or day in self._calendar.special

    def _holiday(self, day: date) -> dict[str, Any]:
        hours = self._hours(day)
        return {
            "date": day.isoformat(),
            "description": self._calendar.special[day].name if day in self._calendar.special else "Exchange holiday",
            "holiday_type": "SPECIAL_TIMING" if hours else "TRADING_HOLIDAY",
            "closed_exchanges": [] if hours else [name for name, segment in _EXCHANGES.items() if segment is not None],
            "open_exchanges": hours,
        }

    def _timings(self, call: Call) -> Response:
        return success(self._hours(_day(call.params["date"])))

    def _hours(self, day: date) -> list[dict[str, Any]]:
        hours = []
        for name, segment in _EXCHANGES.items():
            if segment is None:
                continue
            try:
                session = self._calendar.session(day, segment)
            except ConfigurationError:
                return []  # not covered, or its hours are not published yet
            if session is not None:
                hours.append(
                    {
                        "exchange": name,
                        "start_time": to_epoch_ms(session.opens),
                        "end_time": to_epoch_ms(session.closes),
                    }
                )
        return hours


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a date has no zone
    except ValueError:
        raise Refusal("UDAPI1088", invalid=text) from None
