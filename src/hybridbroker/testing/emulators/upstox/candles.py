"""Upstox's candle calls over the emulated market's bars: V3, the deprecated V2, and the documented windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Final

from starlette.responses import Response

from hybridbroker.testing.emulators.candles import Bar, aggregate, on_days
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal, success
from hybridbroker.testing.emulators.upstox.gates import Need, Rule

__all__ = ["UpstoxCandles"]

_UNITS: Final = {"minutes": 300, "hours": 5, "days": 1, "weeks": 1, "months": 1}
_INTRADAY_UNITS: Final = frozenset({"minutes", "hours", "days"})
_SHORT_MINUTES: Final = 15
_SINCE: Final = date(2000, 1, 1)
_V2: Final = {
    "1minute": ("minutes", "1"),
    "30minute": ("minutes", "30"),
    "day": ("days", "1"),
    "week": ("weeks", "1"),
    "month": ("months", "1"),
}


class UpstoxCandles:
    """Answers candle calls: newest first, today only from the intraday call, wide spans refused."""

    def __init__(self, market: EmulatedMarket) -> None:
        self._market = market

    def rules(self) -> Iterable[Rule]:
        """Return the calls; none wants a token (unconfirmed: the vendor's SDK declares none)."""
        for path, answer in (
            ("/v3/historical-candle/intraday/{key}/{unit}/{interval}", self._intraday),
            ("/v3/historical-candle/{key}/{unit}/{interval}/{to}", self._historical),
            ("/v3/historical-candle/{key}/{unit}/{interval}/{to}/{start}", self._historical),
            ("/v2/historical-candle/intraday/{key}/{old}", self._intraday),
            ("/v2/historical-candle/{key}/{old}/{to}", self._historical),
            ("/v2/historical-candle/{key}/{old}/{to}/{start}", self._historical),
        ):
            yield Rule("GET", path, answer, Need.NOTHING)

    def _intraday(self, call: Call) -> Response:
        return self._answer(call, self._market.today_bars, known=_INTRADAY_UNITS)

    def _historical(self, call: Call) -> Response:
        unit, interval = _unit(call)
        yesterday = self._market.now.date() - timedelta(days=1)
        try:
            last = date.fromisoformat(call.params["to"])
            given = call.params.get("start")
            first = _default_start(unit, last) if given is None else date.fromisoformat(given)
        except ValueError:
            raise Refusal("UDAPI1015") from None
        if first > last:
            raise Refusal("UDAPI1015", "to_date must be greater than or equal to from_date")
        if (last - first).days > _window(unit, interval):
            raise Refusal("UDAPI1148")
        return self._answer(call, lambda key: on_days(self._market.past_bars(key), first, min(last, yesterday)))

    def _answer(
        self, call: Call, bars: Callable[[str], list[Bar]], *, known: frozenset[str] = frozenset(_UNITS)
    ) -> Response:
        key = call.params["key"]
        unit, interval = _unit(call)
        if "|" not in key:
            raise Refusal("UDAPI1021")
        if unit not in known:
            raise Refusal("UDAPI1146")
        if not interval.isdecimal() or not 1 <= int(interval) <= _UNITS[unit]:
            raise Refusal("UDAPI1147")
        if self._market.by_key(key) is None:
            raise Refusal("UDAPI100011")
        rows = [bar.row() for bar in aggregate(bars(key), unit, int(interval))]
        return success({"candles": rows[::-1]})


def _unit(call: Call) -> tuple[str, str]:
    old = call.params.get("old")
    if old is None:
        return call.params["unit"], call.params["interval"]
    if old not in _V2:
        raise Refusal("UDAPI1147")
    return _V2[old]


def _default_start(unit: str, last: date) -> date:
    match unit:
        case "minutes" | "hours":
            return last - timedelta(days=30)
        case "days":
            return last - timedelta(days=3652)
        case _:
            return _SINCE


def _window(unit: str, interval: str) -> int:
    """Return the most days a call may span (documented; the day counts are recorded)."""
    match unit:
        case "minutes" if interval.isdecimal() and int(interval) <= _SHORT_MINUTES:
            return 31
        case "minutes" | "hours":
            return 92
        case "days":
            return 3653
        case _:
            return 100_000
