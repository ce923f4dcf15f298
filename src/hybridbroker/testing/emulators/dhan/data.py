"""Dhan's data calls on the emulated market: quotes, charts, option chains; written from documentation and recordings.

What the documentation leaves open is answered as recorded: numbers of candles are floats in
columns, an id that does not exist is refused by the charts with DH-905 and left out by the
quotes, errors of quotes and chains have their code as a key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import InstrumentKind, OptionRight
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.candles import Bar, aggregate, on_days
from hybridbroker.testing.emulators.dhan.orders import Refusal
from hybridbroker.testing.emulators.greeks import IMPLIED_VOLATILITY, greeks_of, underlying_of
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket

__all__ = ["DataRefusal", "data_routes"]

_MOST_IDS: Final = 1_000
_MOST_DAYS: Final = 90
_LEVELS: Final = 5
_INTERVALS: Final = frozenset({"1", "5", "15", "25", "60"})
_TOO_MANY: Final = 429
_NO_CHARTS: Final = Refusal(403, "DH-902", "Access_Denied", "User has not subscribed to Data APIs")
_NEVER: Final = "01/01/1980 00:00:00"
_WORDS: Final = {
    "804": "Number of Instruments exceeds limit",
    "805": "Too many requests. Further requests may result in the user being blocked.",
    "806": "Data APIs not subscribed",
    "808": "Authentication Failed - Client ID or Access Token invalid",
    "811": "Invalid Expiry Date",
    "813": "Invalid SecurityId",
    "814": "Invalid Request",
}

Fields = Mapping[str, Any]
Answer = Callable[[EmulatedMarket, Fields], Any]


class DataRefusal(Exception):
    """A refusal of a quote or a chain: the code is a key."""

    def __init__(self, code: str, *, status: int = 400) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"status": "failed", "data": {code: _WORDS[code]}}


def data_routes(
    market: EmulatedMarket,
    *,
    authorise: Callable[[Request], object],
    has_plan: Callable[[], bool] = lambda: True,
    rate: Callable[[str], object] = lambda _: None,
) -> list[Route]:
    """Return the data calls under ``/v2``.

    Args:
        market: What trades.
        authorise: Raises `Refusal` where the token is no good.
        has_plan: Says whether the account has the Data API plan.
        rate: Is told the family of each call, ``quote`` or ``data``; raises `Refusal` where it is one too many.
    """
    calls: tuple[tuple[str, str, Answer], ...] = (
        ("/v2/marketfeed/ltp", "quote", _quotes(_ltp_row)),
        ("/v2/marketfeed/ohlc", "quote", _quotes(_ohlc_row)),
        ("/v2/marketfeed/quote", "quote", _quotes(_full_row)),
        ("/v2/charts/historical", "data", _historical),
        ("/v2/charts/intraday", "data", _intraday),
        ("/v2/optionchain/expirylist", "data", _expiries),
        ("/v2/optionchain", "data", _chain),
    )

    def check(request: Request, family: str, *, is_chart: bool) -> None:
        try:
            authorise(request)
            rate(family)
        except Refusal as refusal:
            if is_chart:
                raise
            raise DataRefusal("805" if refusal.status == _TOO_MANY else "808", status=refusal.status) from None
        if not has_plan():
            raise _NO_CHARTS if is_chart else DataRefusal("806", status=403)

    def endpoint(family: str, answer: Answer, *, is_chart: bool) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            try:
                check(request, family, is_chart=is_chart)
                return JSONResponse(answer(market, _fields(await request.body())))
            except (Refusal, DataRefusal) as refusal:
                return JSONResponse(refusal.body, refusal.status)

        return respond

    return [
        Route(path, endpoint(family, answer, is_chart="/charts/" in path), methods=["POST"])
        for path, family, answer in calls
    ]


def _fields(body: bytes) -> Fields:
    try:
        fields = json.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise Refusal.bad_input()
    return fields


def _quotes(row: Callable[[EmulatedMarket, ListedInstrument, pb.Feed], dict[str, Any]]) -> Answer:
    def answer(market: EmulatedMarket, fields: Fields) -> Any:
        asked = {name: ids for name, ids in fields.items() if name != "dhanClientId" and isinstance(ids, list)}
        if sum(map(len, asked.values())) > _MOST_IDS:
            raise DataRefusal("804")
        data: dict[str, dict[str, Any]] = {}
        for segment, ids in asked.items():
            rows = data.setdefault(segment, {})
            for each in ids:
                listed = market.by_id(segment, str(each))
                feed = None if listed is None else market.feed(listed.upstox_key)
                if listed is not None and feed is not None:
                    rows[str(each)] = row(market, listed, feed)
        return {"data": data, "status": "success"}

    return answer


def _ltp_row(_: EmulatedMarket, __: ListedInstrument, feed: pb.Feed) -> dict[str, Any]:
    return {"last_price": _parts(feed)[0].ltp}


def _ohlc_row(market: EmulatedMarket, listed: ListedInstrument, feed: pb.Feed) -> dict[str, Any]:
    ltpc, _, bars = _parts(feed)
    day = next((each for each in bars.ohlc if each.interval == "1d"), pb.OHLC())
    ohlc = {"open": day.open, "close": ltpc.cp, "high": day.high, "low": day.low}
    return {**_ltp_row(market, listed, feed), "ohlc": ohlc}


def _full_row(market: EmulatedMarket, listed: ListedInstrument, feed: pb.Feed) -> dict[str, Any]:
    ltpc, full, _ = _parts(feed)
    levels = list(full.marketLevel.bidAskQuote[:_LEVELS])
    levels += [pb.Quote()] * (_LEVELS - len(levels))
    return {
        **_ohlc_row(market, listed, feed),
        "average_price": full.atp,
        "buy_quantity": int(full.tbq),
        "sell_quantity": int(full.tsq),
        "depth": {
            "buy": [{"quantity": each.bidQ, "orders": min(each.bidQ, 1), "price": each.bidP} for each in levels],
            "sell": [{"quantity": each.askQ, "orders": min(each.askQ, 1), "price": each.askP} for each in levels],
        },
        "last_quantity": ltpc.ltq,
        "last_trade_time": _time(ltpc.ltt) if ltpc.ltt else _NEVER,
        "lower_circuit_limit": round(ltpc.cp * 0.9, 2),
        "upper_circuit_limit": round(ltpc.cp * 1.1, 2),
        "net_change": round(ltpc.ltp - ltpc.cp, 2),
        "oi": int(full.oi),
        "oi_day_high": 0,
        "oi_day_low": 0,
        "volume": full.vtt,
    }


def _historical(market: EmulatedMarket, fields: Fields) -> Any:
    """Return daily bars up to before ``toDate``, without that of a day that still runs."""
    listed = _listed(market, fields)
    if "expiryCode" not in fields:
        raise Refusal.bad_input("expiryCode is required")
    first, end = _day(fields, "fromDate"), _day(fields, "toDate")
    bars = market.past_bars(listed.upstox_key)
    if not market.is_open:
        bars = [*bars, *market.today_bars(listed.upstox_key)]
    return _columns(aggregate(on_days(bars, first, end - timedelta(days=1)), "days", 1), fields)


def _intraday(market: EmulatedMarket, fields: Fields) -> Any:
    """Return bars of today and before; a bare last day counts whole (recorded)."""
    listed = _listed(market, fields)
    minutes = str(fields.get("interval"))
    if minutes not in _INTERVALS:
        raise Refusal.bad_input()
    first, last = _instant(fields, "fromDate"), _instant(fields, "toDate", ends=True)
    if last - first > timedelta(days=_MOST_DAYS):
        raise Refusal.bad_input("Data for Intraday Charts can be fetched for 90 days at a time")
    bars = [*market.past_bars(listed.upstox_key), *market.today_bars(listed.upstox_key)]
    wanted = [bar for bar in bars if first <= bar.start <= last]
    return _columns(aggregate(wanted, "minutes", int(minutes)), fields)


def _columns(bars: list[Bar], fields: Fields) -> dict[str, list[float]]:
    columns = {
        "open": [bar.open for bar in bars],
        "high": [bar.high for bar in bars],
        "low": [bar.low for bar in bars],
        "close": [bar.close for bar in bars],
        "volume": [float(bar.volume) for bar in bars],
        "timestamp": [bar.start_ms / 1000 for bar in bars],
    }
    if fields.get("oi") is True:
        columns["open_interest"] = [float(bar.open_interest) for bar in bars]
    return columns


def _expiries(market: EmulatedMarket, fields: Fields) -> Any:
    options = _options(market, _underlying(market, fields))
    found = sorted({f"{each.instrument.expiry}" for each in options})
    return {"data": found, "status": "success"}


def _chain(market: EmulatedMarket, fields: Fields) -> Any:
    underlying = _underlying(market, fields)
    wanted = str(fields.get("Expiry"))
    options = [each for each in _options(market, underlying) if f"{each.instrument.expiry}" == wanted]
    if not options:
        raise DataRefusal("811")
    spot = market.tick(underlying)
    last = spot.last_price if spot is not None else 0.0
    strikes: dict[str, dict[str, Any]] = {}
    for each in sorted(options, key=lambda one: one.instrument.strike or 0):
        side = "ce" if each.instrument.right is OptionRight.CALL else "pe"
        strikes.setdefault(f"{each.instrument.strike:.6f}", {})[side] = _option(market, each, last)
    return {"data": {"last_price": last, "oc": strikes}, "status": "success"}


def _option(market: EmulatedMarket, listed: ListedInstrument, spot: float) -> dict[str, Any]:
    ltpc, full, _ = _parts(market.feed(listed.upstox_key) or pb.Feed())
    best = next(iter(full.marketLevel.bidAskQuote), pb.Quote())
    greeks = greeks_of(listed.instrument, spot, market.now) if spot else None
    names = ("delta", "theta", "gamma", "vega")
    return {
        "average_price": full.atp,
        "greeks": {name: 0 if greeks is None else getattr(greeks, name) for name in names},
        "implied_volatility": IMPLIED_VOLATILITY * 100,
        "last_price": ltpc.ltp,
        "oi": int(full.oi),
        "previous_close_price": ltpc.cp,
        "previous_oi": 0,
        "previous_volume": 0,
        "security_id": int(listed.dhan_id),
        "top_ask_price": best.askP,
        "top_ask_quantity": best.askQ,
        "top_bid_price": best.bidP,
        "top_bid_quantity": best.bidQ,
        "volume": full.vtt,
    }


def _options(market: EmulatedMarket, underlying: ListedInstrument) -> Iterator[ListedInstrument]:
    for each in market.listed:
        if each.instrument.kind is InstrumentKind.OPTION and underlying_of(market, each.instrument) is underlying:
            yield each


def _underlying(market: EmulatedMarket, fields: Fields) -> ListedInstrument:
    listed = market.by_id(str(fields.get("UnderlyingSeg")), str(fields.get("UnderlyingScrip")))
    if listed is None:
        raise DataRefusal("813")
    return listed


def _listed(market: EmulatedMarket, fields: Fields) -> ListedInstrument:
    listed = market.by_id(str(fields.get("exchangeSegment")), str(fields.get("securityId")))
    if listed is None or not fields.get("instrument"):
        raise Refusal.bad_input()
    return listed


def _day(fields: Fields, name: str) -> date:
    try:
        return date.fromisoformat(str(fields.get(name)))
    except ValueError:
        raise Refusal.bad_input() from None


def _instant(fields: Fields, name: str, *, ends: bool = False) -> datetime:
    text = str(fields.get(name))
    try:
        instant = datetime.fromisoformat(text).replace(tzinfo=IST)
    except ValueError:
        raise Refusal.bad_input() from None
    return instant + timedelta(days=1, seconds=-1) if ends and " " not in text else instant


def _time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms // 1000, IST):%d/%m/%Y %H:%M:%S}"


def _parts(feed: pb.Feed) -> tuple[pb.LTPC, pb.MarketFullFeed, pb.MarketOHLC]:
    full = feed.fullFeed
    if full.HasField("indexFF"):
        return full.indexFF.ltpc, pb.MarketFullFeed(), full.indexFF.marketOHLC
    return full.marketFF.ltpc, full.marketFF, full.marketFF.marketOHLC
