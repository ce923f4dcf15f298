"""Candles and quotes over HTTP: which calls are made, and what their answers become."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import respx
from pydantic import SecretStr
from upstox_kit import KEYS, NIFTY, RELIANCE, TCS, TOKEN, UNLISTED, Lookup, error_body, settings, share

from hybridbroker.brokers.upstox.auth import AccessToken
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Interval
from hybridbroker.errors import (
    ConfigurationError,
    InstrumentNotFound,
    InstrumentUnmapped,
    RateLimited,
    ServiceUnavailable,
    TokenExpired,
    WireFormatError,
)
from hybridbroker.testing.clock import ManualClock

HOST = "https://api.upstox.com"
NOW = datetime(2026, 10, 1, 10, 15, tzinfo=IST)
HISTORY = r"/v3/historical-candle/(?P<key>[^/]+)/(?P<unit>[a-z]+)/(?P<interval>\d+)/(?P<to>[\d-]+)/(?P<since>[\d-]+)$"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def data(clock: ManualClock) -> AsyncIterator[UpstoxMarketData]:
    async with UpstoxMarketData(settings(HOST), instruments=Lookup(), clock=clock) as data:
        yield data


@pytest.fixture
def upstox() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=HOST, assert_all_called=False) as router:
        yield router


def success(data: object) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": data})


def daily(first: date, last: date) -> list[list[Any]]:
    """One bar a day, newest first."""
    count = (last - first).days + 1
    days = [last - timedelta(days=n) for n in range(count)]
    return [[f"{day}T00:00:00+05:30", 1.0, 2.0, 0.5, 1.5, 100, 0] for day in days]


def history(router: respx.MockRouter, bars: Callable[[date, date], list[list[Any]]] = daily) -> respx.Route:
    def answer(_: httpx.Request, to: str, since: str, **__: str) -> httpx.Response:
        return success({"candles": bars(date.fromisoformat(since), date.fromisoformat(to))})

    return router.get(path__regex=HISTORY).mock(side_effect=answer)


def intraday(router: respx.MockRouter, rows: list[list[Any]] | None) -> respx.Route:
    return router.get(path__startswith="/v3/historical-candle/intraday/").mock(return_value=success({"candles": rows}))


async def test_history_and_today_join_oldest_first(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    past, today = history(upstox), intraday(upstox, daily(date(2026, 10, 1), date(2026, 10, 1)))

    candles = await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 9, 28))

    assert [f"{start:%m-%d}" for start in candles.start] == ["09-28", "09-29", "09-30", "10-01"]
    assert [unquote(call.request.url.raw_path.decode()) for call in (*past.calls, *today.calls)] == [
        f"/v3/historical-candle/{KEYS[RELIANCE]}/days/1/2026-09-30/2026-09-28",
        f"/v3/historical-candle/intraday/{KEYS[RELIANCE]}/days/1",
    ]


async def test_keys_are_percent_encoded_and_the_token_goes_in_a_header(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    past = history(upstox)

    await data.candles(NIFTY, Interval.MINUTE_1, start=date(2026, 9, 1), end=date(2026, 9, 2))

    request = past.calls.last.request
    assert request.url.raw_path == b"/v3/historical-candle/NSE_INDEX%7CNifty%2050/minutes/1/2026-09-02/2026-09-01"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["User-Agent"].startswith("hybridbroker/")


@pytest.mark.parametrize(
    ("interval", "span", "calls"),
    [
        (Interval.MINUTE_1, 28, 15),
        (Interval.MINUTE_15, 28, 15),
        (Interval.MINUTE_30, 89, 5),
        (Interval.HOUR_1, 89, 5),
        (Interval.DAY_1, 3650, 1),
        (Interval.WEEK_1, 10_000, 1),
        (Interval.MONTH_1, 10_000, 1),
    ],
)
async def test_a_long_span_is_cut_into_documented_windows_without_seams(
    upstox: respx.MockRouter, data: UpstoxMarketData, interval: Interval, span: int, calls: int
) -> None:
    past, first, last = history(upstox), date(2025, 3, 1), date(2026, 3, 31)

    candles = await data.candles(RELIANCE, interval, start=first, end=last)

    assert past.call_count == calls
    assert [start.date() for start in candles.start] == [first + timedelta(days=n) for n in range(396)]
    for call in past.calls:
        to, since = (date.fromisoformat(part) for part in call.request.url.path.split("/")[-2:])
        assert 0 <= (to - since).days < span


async def test_overlapping_answers_make_no_duplicates(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    history(upstox, lambda first, last: daily(first - timedelta(days=3), last))
    intraday(upstox, daily(date(2026, 9, 29), date(2026, 10, 1)))

    candles = await data.candles(RELIANCE, Interval.MINUTE_1, start=date(2026, 8, 1))

    days = [start.date() for start in candles.start]
    assert days == [date(2026, 8, 1) + timedelta(days=n) for n in range(62)]


async def test_an_earlier_end_asks_for_nothing_of_today(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    history(upstox)
    today = intraday(upstox, [])

    await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 9, 1), end=date(2026, 9, 30))

    assert today.call_count == 0


async def test_today_alone_asks_for_no_history(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    past = history(upstox)
    rows = [[f"2026-10-01T09:{minute}:00+05:30", 1, 1, 1, 1, 0, 0] for minute in (17, 16, 15)]
    intraday(upstox, rows)

    candles = await data.candles(
        RELIANCE, Interval.MINUTE_1, start=datetime(2026, 10, 1, 3, 46, tzinfo=IST), end=NOW - timedelta(minutes=59)
    )

    assert past.call_count == 0
    assert [f"{start:%H:%M}" for start in candles.start] == ["09:15", "09:16"]


async def test_weeks_and_months_come_from_history_up_to_today(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    past = history(upstox, lambda *_: daily(date(2026, 9, 28), date(2026, 9, 28)))
    today = intraday(upstox, [])

    await data.candles(RELIANCE, Interval.WEEK_1, start=date(2026, 9, 1))

    assert past.calls.last.request.url.path.endswith("/weeks/1/2026-10-01/2026-09-01")
    assert today.call_count == 0


@pytest.mark.parametrize(
    "body", [{"candles": []}, {"candles": None}, {}, None], ids=["no rows", "null rows", "no list", "null data"]
)
async def test_an_empty_answer_is_an_empty_series(
    upstox: respx.MockRouter, data: UpstoxMarketData, body: object
) -> None:
    upstox.get(path__regex=HISTORY).mock(return_value=success(body))

    candles = await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 9, 1), end=date(2026, 9, 2))

    assert len(candles) == 0


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([["2026-09-01T09:15:00", 1, 1, 1, 1, 1, 1]], id="a time without a zone"),
        pytest.param([["yesterday", 1, 1, 1, 1, 1, 1]], id="no time"),
        pytest.param([["2026-09-01T09:15:00+05:30", "x", 1, 1, 1, 1, 1]], id="no price"),
        pytest.param([{"open": 1}], id="an object"),
        pytest.param({"a": 1}, id="no list"),
    ],
)
async def test_rows_that_are_not_as_documented_are_an_error(
    upstox: respx.MockRouter, data: UpstoxMarketData, rows: object
) -> None:
    upstox.get(path__regex=HISTORY).mock(return_value=success({"candles": rows}))

    with pytest.raises(WireFormatError, match="historical-candle"):
        await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 9, 1), end=date(2026, 9, 2))


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        (date(2026, 9, 2), date(2026, 9, 1), "start is after end"),
        (date(2026, 10, 2), None, "start is after end"),
        (datetime(2026, 9, 1), None, "no time zone"),  # noqa: DTZ001
        (date(2026, 9, 1), datetime(2026, 9, 2), "no time zone"),  # noqa: DTZ001
    ],
)
async def test_an_impossible_span_is_refused_unsent(
    data: UpstoxMarketData, start: date, end: date | None, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        await data.candles(RELIANCE, Interval.DAY_1, start=start, end=end)


async def test_an_instrument_upstox_does_not_list_is_refused_unsent(data: UpstoxMarketData) -> None:
    with pytest.raises(InstrumentUnmapped):
        await data.candles(UNLISTED, Interval.DAY_1, start=date(2026, 9, 1))
    with pytest.raises(InstrumentUnmapped):
        await data.quotes([UNLISTED])


@pytest.mark.parametrize(
    ("reply", "expected", "calls"),
    [
        (httpx.Response(400, content=error_body("UDAPI100011")), InstrumentNotFound, 1),
        (httpx.Response(400, content=error_body("UDAPI1148")), ConfigurationError, 1),
        (httpx.Response(401, content=error_body("UDAPI100050")), TokenExpired, 1),
        (httpx.Response(429, content=error_body("UDAPI10005")), RateLimited, 4),
        (httpx.Response(403, html="<title>Access denied | Cloudflare</title>"), ServiceUnavailable, 4),
        (httpx.Response(500, content=error_body("UDAPI100500")), ServiceUnavailable, 4),
    ],
)
async def test_a_refusal_is_typed_and_repeated_only_where_that_can_help(
    upstox: respx.MockRouter,
    data: UpstoxMarketData,
    reply: httpx.Response,
    expected: type[Exception],
    calls: int,
) -> None:
    route = upstox.get(path__regex=HISTORY).mock(return_value=reply)

    with pytest.raises(expected):
        await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 9, 1), end=date(2026, 9, 2))

    assert route.call_count == calls


class Tokens:
    """A `TokenSource` that is renewed."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = list(secrets)

    async def token(self) -> AccessToken:
        secret = self._secrets.pop(0) if len(self._secrets) > 1 else self._secrets[0]
        return AccessToken.of(SecretStr(secret), seen_at=NOW)

    async def renewed(self, refused: AccessToken) -> AccessToken:
        return await self.token()


async def test_a_token_renewed_meanwhile_is_tried_after_a_401(upstox: respx.MockRouter, clock: ManualClock) -> None:
    def answer(request: httpx.Request, **_: str) -> httpx.Response:
        is_fresh = request.headers["Authorization"] == "Bearer fresh"
        return success({"candles": []}) if is_fresh else httpx.Response(401, content=error_body("UDAPI100050"))

    route = upstox.get(path__regex=HISTORY).mock(side_effect=answer)
    tokens = Tokens("stale", "fresh")

    async with UpstoxMarketData(settings(HOST), instruments=Lookup(), clock=clock, tokens=tokens) as data:
        await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 9, 1), end=date(2026, 9, 2))

    assert route.call_count == 2


def quotes_by(router: respx.MockRouter, path: str, row: Callable[[str], dict[str, Any] | None]) -> respx.Route:
    def answer(request: httpx.Request) -> httpx.Response:
        keys = request.url.params["instrument_key"].split(",")
        rows = {f"NSE_EQ:SYMBOL{n}": row(key) for n, key in enumerate(keys)}
        return success({name: each for name, each in rows.items() if each is not None})

    return router.get(path).mock(side_effect=answer)


def ltp_row(key: str) -> dict[str, Any]:
    return {"last_price": 1404.9, "instrument_token": key, "ltq": 12, "volume": 6841203, "cp": 1398.1}


def full_row(key: str) -> dict[str, Any]:
    day = {"open": 1399.0, "high": 1409.4, "low": 1394.2, "close": 1404.9}
    return {"last_price": 1404.9, "instrument_token": key, "volume": 6841203, "ohlc": day, "symbol": "WRONG"}


async def test_quotes_are_found_by_the_key_inside_not_by_the_name_outside(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    quotes_by(upstox, "/v3/market-quote/ltp", ltp_row)
    quotes_by(upstox, "/v3/market-quote/quotes", full_row)

    quotes = await data.quotes([RELIANCE, TCS])

    assert set(quotes) == {RELIANCE, TCS}
    assert quotes[TCS].instrument is TCS
    assert quotes[TCS].previous_close == 1398.1
    assert quotes[TCS].high == 1409.4
    assert quotes[TCS].as_of == NOW


async def test_twelve_hundred_quotes_are_three_calls_of_each_kind(upstox: respx.MockRouter, clock: ManualClock) -> None:
    shares: dict[Instrument, str] = {share(f"S{n}"): f"NSE_EQ|INE{n:09}" for n in range(1200)}
    ltp, full = (
        quotes_by(upstox, "/v3/market-quote/ltp", ltp_row),
        quotes_by(upstox, "/v3/market-quote/quotes", full_row),
    )

    async with UpstoxMarketData(settings(HOST), instruments=Lookup(shares), clock=clock) as data:
        quotes = await data.quotes(shares)

    assert len(quotes) == 1200
    sizes = [len(call.request.url.params["instrument_key"].split(",")) for call in (*ltp.calls, *full.calls)]
    assert sizes == [500, 500, 200] * 2


async def test_without_full_quotes_v3_those_of_v2_are_asked_from_then_on(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    quotes_by(upstox, "/v3/market-quote/ltp", ltp_row)
    new = upstox.get("/v3/market-quote/quotes").mock(
        return_value=httpx.Response(404, content=error_body("UDAPI100060"))
    )
    old = quotes_by(upstox, "/v2/market-quote/quotes", full_row)

    first, second = await data.quotes([RELIANCE]), await data.quotes([RELIANCE])

    assert first[RELIANCE].low == second[RELIANCE].low == 1394.2
    assert (new.call_count, old.call_count) == (1, 2)


async def test_an_instrument_that_never_traded_is_missing(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    rows = {KEYS[TCS]: None}
    quotes_by(upstox, "/v3/market-quote/ltp", lambda key: rows.get(key, ltp_row(key)))
    quotes_by(upstox, "/v3/market-quote/quotes", lambda key: rows.get(key, full_row(key)))

    assert set(await data.quotes([RELIANCE, TCS])) == {RELIANCE}


async def test_one_bad_key_costs_only_itself(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        keys = request.url.params["instrument_key"].split(",")
        if KEYS[TCS] in keys:
            return httpx.Response(400, content=error_body("UDAPI1087"))
        return success({key: full_row(key) for key in keys})

    upstox.get(path__startswith="/v3/market-quote/").mock(side_effect=answer)

    assert set(await data.quotes([RELIANCE, TCS, NIFTY])) == {RELIANCE, NIFTY}


async def test_no_instruments_are_no_calls(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    assert not await data.quotes([])
    assert not upstox.calls


async def test_quotes_of_null_are_no_quotes(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    upstox.get(path__startswith="/v3/market-quote/").mock(return_value=success(None))

    assert not await data.quotes([RELIANCE])


async def test_a_documented_example_reads_as_documented(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    row = {"last_price": 303.9, "instrument_token": KEYS[RELIANCE], "ltq": 75, "volume": 170325, "cp": 29.0}
    upstox.get("/v3/market-quote/ltp").mock(return_value=success({"NSE_FO:SOMETHING": row}))
    upstox.get("/v3/market-quote/quotes").mock(return_value=httpx.Response(200, content=json.dumps({"data": {}})))

    quote = (await data.quotes([RELIANCE]))[RELIANCE]

    assert (quote.last_price, quote.last_quantity, quote.volume, quote.previous_close) == (303.9, 75, 170325, 29.0)
