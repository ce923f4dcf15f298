"""Upstox's quote calls over the emulated market's newest entries: LTP, OHLC, full, greeks; V3 and V2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from starlette.responses import Response

from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.greeks import with_greeks
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal, success
from hybridbroker.testing.emulators.upstox.gates import Need, Rule
from hybridbroker.testing.emulators.upstox.names import quote_symbol

__all__ = ["UpstoxQuotes"]

_MOST: Final = 500
_MOST_GREEKS: Final = 50
_INTERVALS: Final = frozenset({"1d", "I1", "I30"})
_LEVELS: Final = 5

Row = Callable[[ListedInstrument, pb.Feed, str], dict[str, Any]]


class UpstoxQuotes:
    """Answers quote calls, keyed ``SEGMENT:SYMBOL``; what the market does not list is missing (unconfirmed)."""

    def __init__(self, market: EmulatedMarket) -> None:
        self._market = market

    def rules(self) -> Iterator[Rule]:
        """Return the calls."""
        calls: Iterable[tuple[str, Row, str, int]] = (
            ("/v3/market-quote/ltp", self._ltp, "UDAPI100043", _MOST),
            ("/v3/market-quote/ohlc", self._ohlc, "UDAPI100043", _MOST),
            ("/v3/market-quote/quotes", self._full, "UDAPI100042", _MOST),
            ("/v3/market-quote/option-greek", self._greek, "UDAPI100076", _MOST_GREEKS),
            ("/v2/market-quote/ltp", self._old_ltp, "UDAPI100043", _MOST),
            ("/v2/market-quote/ohlc", self._old_ohlc, "UDAPI100043", _MOST),
            ("/v2/market-quote/quotes", self._old_full, "UDAPI100042", _MOST),
        )
        for path, row, code, most in calls:
            yield Rule("GET", path, self._answer(row, code=code, most=most, bars=path.endswith("ohlc")), Need.DATA)

    def _answer(self, row: Row, *, code: str, most: int, bars: bool) -> Callable[[Call], Response]:
        def answer(call: Call) -> Response:
            given = call.query.get("instrument_key") or call.query.get("symbol", "")
            keys = [key for key in given.split(",") if key]
            if not keys:
                raise Refusal("UDAPI1009")
            if len(keys) > most:
                raise Refusal(code)
            if bad := [key for key in keys if "|" not in key]:
                raise Refusal("UDAPI1087", invalid=bad[0])
            interval = call.query.get("interval", "1d" if not bars else "")
            if bars and not interval:
                raise Refusal("UDAPI1027")
            if interval not in _INTERVALS:
                raise Refusal("UDAPI1028", invalid=interval)
            return success(dict(self._rows(keys, row, interval)))

        return answer

    def _rows(self, keys: Iterable[str], row: Row, interval: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for key in keys:
            listed, feed = self._market.by_key(key), self._market.feed(key)
            if listed is not None and feed is not None:
                found = row(listed, with_greeks(self._market, listed, feed), interval)
                if found:
                    yield f"{listed.upstox_segment}:{quote_symbol(listed.instrument)}", found

    def _ltp(self, listed: ListedInstrument, feed: pb.Feed, _: str) -> dict[str, Any]:
        ltpc, market, _bars = _parts(feed)
        return {**_last(listed, ltpc), "ltq": ltpc.ltq, "volume": market.vtt, "cp": ltpc.cp}

    def _ohlc(self, listed: ListedInstrument, feed: pb.Feed, interval: str) -> dict[str, Any]:
        ltpc, _market, bars = _parts(feed)
        if interval == "1d":
            previous, live = None, _bar(bars, "1d")
        else:
            previous, live = self._minute_bars(listed, minutes=30 if interval == "I30" else 1)
        return {**_last(listed, ltpc), "prev_ohlc": previous, "live_ohlc": live}

    def _minute_bars(
        self, listed: ListedInstrument, *, minutes: int
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        bars = [
            {"open": b.open, "high": b.high, "low": b.low, "close": b.close, "volume": b.volume, "ts": b.start_ms}
            for b in self._market.today_bars_of(listed.upstox_key, minutes=minutes)[-2:]
        ]
        live = bars.pop() if bars else None
        return (bars.pop() if bars else None), live

    def _greek(self, listed: ListedInstrument, feed: pb.Feed, _: str) -> dict[str, Any]:
        if listed.instrument.kind is not InstrumentKind.OPTION:
            return {}
        ltpc, market, _bars = _parts(feed)
        greeks = market.optionGreeks
        return {
            **_last(listed, ltpc),
            "ltq": ltpc.ltq,
            "volume": market.vtt,
            "cp": ltpc.cp,
            "iv": market.iv,
            "vega": greeks.vega,
            "gamma": greeks.gamma,
            "theta": greeks.theta,
            "delta": greeks.delta,
            "oi": market.oi,
        }

    def _old_ltp(self, listed: ListedInstrument, feed: pb.Feed, _: str) -> dict[str, Any]:
        return _last(listed, _parts(feed)[0])

    def _old_ohlc(self, listed: ListedInstrument, feed: pb.Feed, interval: str) -> dict[str, Any]:
        live = self._ohlc(listed, feed, interval)["live_ohlc"]
        return {"ohlc": _prices(live), **_last(listed, _parts(feed)[0])}

    def _old_full(self, listed: ListedInstrument, feed: pb.Feed, _: str) -> dict[str, Any]:
        ltpc, market, bars = _parts(feed)
        quotes = list(market.marketLevel.bidAskQuote[:_LEVELS])
        quotes += [pb.Quote()] * (_LEVELS - len(quotes))
        return {
            "ohlc": _prices(_bar(bars, "1d")),
            "depth": {
                "buy": [{"quantity": each.bidQ, "price": each.bidP, "orders": min(each.bidQ, 1)} for each in quotes],
                "sell": [{"quantity": each.askQ, "price": each.askP, "orders": min(each.askQ, 1)} for each in quotes],
            },
            "timestamp": self._market.now.isoformat(timespec="milliseconds"),
            "instrument_token": listed.upstox_key,
            "symbol": quote_symbol(listed.instrument),
            "last_price": ltpc.ltp,
            "volume": market.vtt,
            "average_price": market.atp,
            "oi": market.oi,
            "net_change": round(ltpc.ltp - ltpc.cp, 2),
            "total_buy_quantity": market.tbq,
            "total_sell_quantity": market.tsq,
            "lower_circuit_limit": round(ltpc.cp * 0.9, 2),
            "upper_circuit_limit": round(ltpc.cp * 1.1, 2),
            "last_trade_time": str(ltpc.ltt),
            "oi_day_high": 0.0,
            "oi_day_low": 0.0,
        }

    def _full(self, listed: ListedInstrument, feed: pb.Feed, interval: str) -> dict[str, Any]:
        ltpc, market, bars = _parts(feed)
        past = self._market.past_bars(listed.upstox_key)
        return {
            **self._old_full(listed, feed, interval),
            "ohlc": _bar(bars, "1d"),
            "prev_close_price": ltpc.cp,
            "year_high": max((bar.high for bar in past), default=ltpc.ltp),
            "year_low": min((bar.low for bar in past), default=ltpc.ltp),
            "previous_oi": 0.0,
            "indicative_equilibrium_price": ltpc.iep.value if ltpc.HasField("iep") else None,
            "reference_price": market.rp or None,
            "indicative_equilibrium_quantity": market.ieq or None,
            "indicative_imbalance_quantity_total": market.iiqTotal or None,
            "indicative_imbalance_quantity_market": market.iiqM or None,
            "cas_eligible": market.casEligible or None,
        }


def _parts(feed: pb.Feed) -> tuple[pb.LTPC, pb.MarketFullFeed, pb.MarketOHLC]:
    full = feed.fullFeed
    if full.HasField("indexFF"):
        return full.indexFF.ltpc, pb.MarketFullFeed(), full.indexFF.marketOHLC
    return full.marketFF.ltpc, full.marketFF, full.marketFF.marketOHLC


def _last(listed: ListedInstrument, ltpc: pb.LTPC) -> dict[str, Any]:
    return {"last_price": ltpc.ltp, "instrument_token": listed.upstox_key}


def _bar(bars: pb.MarketOHLC, interval: str) -> dict[str, Any] | None:
    for bar in bars.ohlc:
        if bar.interval == interval:
            prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
            return {**prices, "volume": bar.vol, "ts": bar.ts}
    return None


def _prices(bar: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if bar is None else {name: bar[name] for name in ("open", "high", "low", "close")}
