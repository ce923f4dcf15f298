"""Option chains, greeks, OHLC quotes, bars of any length, and market hours over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import attrs
import httpx
import pytest
import respx
from upstox_kit import CALL, KEYS, NIFTY, RELIANCE, TCS, Lookup, error_body, settings

from hybridbroker.brokers.upstox import PLUGIN
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Instrument, OptionRight
from hybridbroker.domain.market import Interval, MarketPhase
from hybridbroker.errors import ConfigurationError, InstrumentNotFound, ServiceUnavailable, WireFormatError
from hybridbroker.protocols import Capability, MarketSchedule, OptionChains
from hybridbroker.testing.clock import ManualClock

HOST = "https://api.upstox.com"
NOW = datetime(2026, 10, 1, 10, 15, tzinfo=IST)
EXPIRY = date(2026, 11, 24)
PUT = attrs.evolve(CALL, id="NSE:NIFTY:2026-11-24:25000:PE", right=OptionRight.PUT)
HIGHER = attrs.evolve(CALL, id="NSE:NIFTY:2026-11-24:25100:CE", strike=Decimal(25100))
LISTED: dict[Instrument, str] = {**KEYS, PUT: "NSE_FO|40002", HIGHER: "NSE_FO|40003"}


@pytest.fixture
async def data() -> AsyncIterator[UpstoxMarketData]:
    async with UpstoxMarketData(settings(HOST), instruments=Lookup(LISTED), clock=ManualClock(NOW)) as data:
        yield data


@pytest.fixture
def upstox() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=HOST, assert_all_called=False) as router:
        yield router


def success(data: object) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": data})


def side(key: str, **market: Any) -> dict[str, Any]:
    told = {"ltp": 118.4, "volume": 9120000, "oi": 4387500.0, "close_price": 131.2, "bid_price": 118.35, "bid_qty": 750,
            "ask_price": 118.45, "ask_qty": 300, "prev_oi": 4012500.0}  # fmt: skip
    letters = {"vega": 11.2, "theta": -9.8, "gamma": 0.0006, "delta": 0.52, "iv": 11.8, "pop": 47.1}
    return {"instrument_key": key, "market_data": {**told, **market}, "option_greeks": letters}


def strike(price: float, call: str | None, put: str | None) -> dict[str, Any]:
    return {
        "expiry": "2026-11-24",
        "strike_price": price,
        "underlying_key": KEYS[NIFTY],
        "underlying_spot_price": 25012.4,
        "call_options": None if call is None else side(call),
        "put_options": None if put is None else side(put, bid_price=0, bid_qty=0),
    }


def a_year(year: int, *, count: int = 14) -> list[dict[str, Any]]:
    mondays = [date(year, 1, 1) + timedelta(days=n) for n in range(365)]
    return [
        {"date": str(day), "holiday_type": "TRADING_HOLIDAY", "closed_exchanges": ["NSE", "NFO", "BSE", "BFO"]}
        for day in [each for each in mondays if each.weekday() == 0][:count]
    ]


def hours(day: date, opens: time, closes: time, exchange: str = "NSE") -> dict[str, Any]:
    start, end = (int(datetime.combine(day, at, IST).timestamp() * 1000) for at in (opens, closes))
    return {"exchange": exchange, "start_time": start, "end_time": end}


def test_chains_and_hours_are_abilities_of_the_source() -> None:
    chains: OptionChains = UpstoxMarketData(settings(HOST), instruments=Lookup(LISTED))
    schedule: MarketSchedule = UpstoxMarketData(settings(HOST), instruments=Lookup(LISTED))

    assert isinstance(chains, OptionChains)
    assert isinstance(schedule, MarketSchedule)
    assert Capability.OPTION_CHAINS | Capability.MARKET_SCHEDULE in PLUGIN.capabilities


async def test_a_chain_has_its_strikes_lowest_first_and_counts_what_is_unlisted(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    rows = [strike(25100, LISTED[HIGHER], "NSE_FO|99999"), strike(25000, LISTED[CALL], LISTED[PUT])]
    route = upstox.get("/v2/option/chain").mock(return_value=success(rows))

    chain = await data.option_chain(NIFTY, expiry=EXPIRY)

    assert dict(route.calls.last.request.url.params) == {"instrument_key": KEYS[NIFTY], "expiry_date": "2026-11-24"}
    assert [each.price for each in chain] == [25000.0, 25100.0]
    assert (chain.underlying, chain.underlying_price, chain.unlisted, chain.read_at) == (NIFTY, 25012.4, 1, NOW)
    call, put = chain.strikes[0].call, chain.strikes[0].put
    assert call is not None
    assert put is not None
    assert (call.instrument, call.open_interest, call.previous_open_interest) == (CALL, 4387500, 4012500)
    assert (put.bid_price, put.bid_quantity, put.ask_price) == (None, None, 118.45)
    assert call.greeks is not None
    assert call.greeks.implied_volatility == pytest.approx(0.118)
    assert chain.strikes[1].put is None


async def test_a_recycled_token_is_not_taken_for_the_contract_it_was(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    upstox.get("/v2/option/chain").mock(return_value=success([strike(26000, LISTED[CALL], None)]))

    chain = await data.option_chain(NIFTY, expiry=EXPIRY)

    assert (chain.strikes[0].call, chain.unlisted) == (None, 1)


async def test_expiries_and_contracts_come_in_order(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    rows = [
        {"instrument_key": key, "expiry": expiry}
        for key, expiry in (
            (LISTED[HIGHER], "2026-11-24"),
            ("NSE_FO|7", "2026-10-06"),
            (LISTED[PUT], "2026-11-24"),
            (LISTED[CALL], "2026-11-24"),
        )
    ]
    upstox.get("/v2/option/contract").mock(return_value=success(rows))

    assert await data.expiries(NIFTY) == (date(2026, 10, 6), EXPIRY)
    assert await data.option_contracts(NIFTY, expiry=EXPIRY) == [CALL, PUT, HIGHER]


async def test_greeks_are_asked_fifty_at_a_time(upstox: respx.MockRouter) -> None:
    options = {
        attrs.evolve(CALL, id=f"NSE:NIFTY:2026-11-24:{n}:CE", strike=Decimal(n)): f"NSE_FO|{n}" for n in range(1, 121)
    }

    def answer(request: httpx.Request) -> httpx.Response:
        keys = request.url.params["instrument_key"].split(",")
        row = {"last_price": 118.4, "ltq": 75, "volume": 9, "cp": 131.2, "iv": 0.118, "delta": 0.52, "gamma": 0.0006,
               "theta": -9.8, "vega": 11.2, "oi": 4387500.0}  # fmt: skip
        return success({f"NSE_FO:X{key}": {**row, "instrument_token": key} for key in keys})

    route = upstox.get("/v3/market-quote/option-greek").mock(side_effect=answer)
    async with UpstoxMarketData(settings(HOST), instruments=Lookup(options), clock=ManualClock(NOW)) as data:
        quotes = await data.greeks(options)

    assert [len(call.request.url.params["instrument_key"].split(",")) for call in route.calls] == [50, 50, 20]
    assert set(quotes) == set(options)
    greeks = next(iter(quotes.values())).greeks
    assert greeks is not None
    assert (greeks.delta, greeks.implied_volatility) == (0.52, 0.118)


async def test_ohlc_quotes_have_the_running_bar_and_nothing_for_null(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    bar = {"open": 1399.0, "high": 1409.4, "low": 1394.2, "close": 1404.9, "volume": 6841203, "ts": 1790793000000}
    row = {"last_price": 1404.9, "instrument_token": KEYS[RELIANCE], "prev_ohlc": None, "live_ohlc": bar}
    route = upstox.get("/v3/market-quote/ohlc").mock(return_value=success({"NSE_EQ:WRONG": row, "NSE_EQ:TCS": None}))

    quotes = await data.ohlc([RELIANCE, TCS], interval="I1")

    assert set(quotes) == {RELIANCE}
    running = quotes[RELIANCE].running
    assert running is not None
    assert (running.high, running.start.tzinfo) == (1409.4, IST)
    assert quotes[RELIANCE].previous is None
    assert route.calls.last.request.url.params["interval"] == "I1"


async def test_last_prices_are_one_call_and_leave_out_what_never_traded(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    rows = {"A": {"last_price": 1404.9, "instrument_token": KEYS[RELIANCE]},
            "B": {"last_price": 0, "instrument_token": KEYS[TCS]},
            "C": {"last_price": 1.0, "instrument_token": "NSE_EQ|NOBODY"}}  # fmt: skip
    upstox.get("/v3/market-quote/ltp").mock(return_value=success(rows))

    assert await data.last_prices([RELIANCE, TCS]) == {RELIANCE: 1404.9}


async def test_bars_of_any_length_tell_their_progress(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    route = upstox.get(path__regex=r"/v3/historical-candle/[^/]+/minutes/7/").mock(
        return_value=success({"candles": []})
    )
    upstox.get(path__startswith="/v3/historical-candle/intraday/").mock(
        return_value=success({"candles": [["2026-10-01T09:15:00+05:30", 1, 2, 1, 2, 5, 0]]})
    )
    heard: list[tuple[int, int]] = []

    bars = await data.bars(
        RELIANCE, unit="minutes", interval=7, start=date(2026, 8, 1), progress=lambda *told: heard.append(told)
    )

    assert [(bar.close, bar.volume) for bar in bars] == [(2.0, 5)]
    assert route.call_count == 3
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(("unit", "interval"), [("minutes", 301), ("minutes", 0), ("hours", 6), ("days", 2)])
async def test_bars_upstox_has_not_are_refused_unsent(data: UpstoxMarketData, unit: Any, interval: int) -> None:
    with pytest.raises(ConfigurationError, match="1 to 300 minutes"):
        await data.bars(RELIANCE, unit=unit, interval=interval, start=date(2026, 9, 1))


async def test_days_before_there_was_data_are_not_asked_for(upstox: respx.MockRouter, data: UpstoxMarketData) -> None:
    route = upstox.get(path__startswith="/v3/historical-candle/").mock(return_value=success({"candles": []}))

    await data.candles(RELIANCE, Interval.MINUTE_1, start=date(1999, 1, 1), end=date(2022, 1, 10))
    nothing = await data.candles(RELIANCE, Interval.MINUTE_1, start=date(1999, 1, 1), end=date(2021, 12, 31))

    assert [call.request.url.path.rsplit("/", 2)[1:] for call in route.calls] == [["2022-01-10", "2022-01-01"]]
    assert len(nothing) == 0


async def test_market_status_joins_the_segments_of_an_exchange(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    words = {"NSE": "CLOSING_START", "NFO": "NORMAL_OPEN", "CDS": "NORMAL_CLOSE", "NSCOM": "SOMETHING_NEW"}
    for name, word in words.items():
        told: dict[str, Any] = {"exchange": name, "status": word, "last_updated": 1790826300000}
        if name == "NSE":
            told["cas_eligible_status"] = {"status": "CAS_M_STOP", "last_updated": 1790847900000}
        upstox.get(f"/v2/market/status/{name}").mock(return_value=success(told))

    status = await data.market_status(Exchange.NSE)

    assert status.phases == {
        "NSE:cash": MarketPhase.CLOSING,
        "NSE:derivatives": MarketPhase.OPEN,
        "NSE:currency": MarketPhase.CLOSED,
        "NSE:commodity": MarketPhase.UNKNOWN,
    }
    assert status.raw == {**words, "NSE.cas_eligible_status": "CAS_M_STOP"}
    assert status.at == datetime.fromtimestamp(1790826300, IST)


async def test_a_year_the_calendar_lacks_comes_from_the_list_of_holidays(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    diwali = date(2027, 10, 29)
    rows = [
        *a_year(2027),
        {"date": str(diwali), "description": "Muhurat", "holiday_type": "SPECIAL_TIMING", "closed_exchanges": ["NSE"],
         "open_exchanges": [hours(diwali, time(18, 15), time(19, 15)), hours(diwali, time(9), time(23), "MCX")]},
        {"date": "2027-06-05", "description": "Budget", "holiday_type": "SPECIAL_TIMING",
         "open_exchanges": [hours(date(2027, 6, 5), time(9, 15), time(15, 30))]},
        {"date": "2027-01-27", "description": "not a holiday at all", "holiday_type": "TRADING_HOLIDAY",
         "open_exchanges": [hours(date(2027, 1, 27), time(9, 15), time(15, 30))]},
        {"date": "2027-03-31", "holiday_type": "SETTLEMENT_HOLIDAY", "closed_exchanges": None},
    ]  # fmt: skip
    upstox.get("/v2/market/holidays").mock(return_value=success(rows))
    upstox.get(path__startswith="/v2/market/timings/").mock(return_value=success([]))

    calendar = await data.extend_calendar(TradingCalendar())

    assert calendar.covered[1] == date(2027, 12, 31)
    assert not calendar.is_trading_day(date(2027, 1, 4))
    session = calendar.session(diwali)
    assert session is not None
    assert (session.opens.time(), session.closes.time(), session.name) == (time(18, 15), time(19, 15), "Muhurat")
    assert calendar.is_trading_day(date(2027, 6, 5))
    assert calendar.is_trading_day(date(2027, 1, 27))
    assert calendar.is_trading_day(date(2027, 3, 31))
    assert calendar.session(date(2026, 10, 1)) == TradingCalendar().session(date(2026, 10, 1))


@pytest.mark.parametrize("rows", [[], a_year(2026), a_year(2027, count=3)], ids=["none", "of this year", "a few"])
async def test_a_list_that_is_no_whole_new_year_extends_nothing(
    upstox: respx.MockRouter, data: UpstoxMarketData, rows: list[Any]
) -> None:
    upstox.get("/v2/market/holidays").mock(return_value=success(rows))
    upstox.get(path__startswith="/v2/market/timings/").mock(return_value=success([]))
    known = TradingCalendar()

    calendar = await data.extend_calendar(known)

    assert (calendar.covered, calendar.closed_days) == (known.covered, known.closed_days)


async def test_hours_of_a_special_session_that_nobody_stated_are_asked_for(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    muhurat = date(2026, 11, 8)
    upstox.get("/v2/market/holidays").mock(return_value=success([]))
    upstox.get(f"/v2/market/timings/{muhurat}").mock(
        return_value=success([hours(muhurat, time(18), time(19)), hours(muhurat, time(18), time(23), "MCX")])
    )

    session = (await data.extend_calendar(TradingCalendar())).session(muhurat)

    assert session is not None
    assert (session.opens.time(), session.closes.time()) == (time(18), time(19))


async def test_market_hours_are_told_by_exchange_and_empty_on_a_holiday(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    day = date(2026, 9, 30)
    upstox.get(f"/v2/market/timings/{day}").mock(return_value=success([hours(day, time(9, 15), time(15, 40), "NFO")]))
    upstox.get("/v2/market/timings/2026-10-02").mock(return_value=success([]))

    assert await data.market_hours(day) == {
        "NFO": (datetime(2026, 9, 30, 9, 15, tzinfo=IST), datetime(2026, 9, 30, 15, 40, tzinfo=IST))
    }
    assert await data.market_hours(date(2026, 10, 2)) == {}


CALLS = {
    "chain": lambda data: data.option_chain(NIFTY, expiry=EXPIRY),
    "expiries": lambda data: data.expiries(NIFTY),
    "greeks": lambda data: data.greeks([CALL]),
    "ohlc": lambda data: data.ohlc([RELIANCE]),
    "last prices": lambda data: data.last_prices([RELIANCE]),
    "status": lambda data: data.market_status(Exchange.MCX),
    "hours": lambda data: data.market_hours(date(2026, 9, 30)),
    "calendar": lambda data: data.extend_calendar(TradingCalendar()),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(httpx.Response(200, content=b'{"status": "succ'), WireFormatError, id="cut off"),
        pytest.param(httpx.Response(200, json={"data": {"a": {"instrument_token": 5}}}), WireFormatError, id="types"),
        pytest.param(httpx.Response(200, json={"data": 7}), WireFormatError, id="a number"),
        pytest.param(httpx.Response(200, json=[1, 2]), WireFormatError, id="a list"),
        pytest.param(httpx.Response(200, html="<title>hello</title>"), ServiceUnavailable, id="a page"),
        pytest.param(httpx.Response(400, content=error_body("UDAPI1088")), ConfigurationError, id="a refusal"),
    ],
)
async def test_bad_answers_are_typed_errors(
    upstox: respx.MockRouter, data: UpstoxMarketData, call: Any, reply: httpx.Response, expected: type[Exception]
) -> None:
    upstox.get(path__startswith="/").mock(return_value=reply)

    with pytest.raises(expected):
        await call(data)


async def test_an_underlying_upstox_does_not_know_is_not_found(
    upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    upstox.get("/v2/option/chain").mock(return_value=httpx.Response(400, content=error_body("UDAPI100011")))

    with pytest.raises(InstrumentNotFound):
        await data.option_chain(NIFTY, expiry=EXPIRY)
