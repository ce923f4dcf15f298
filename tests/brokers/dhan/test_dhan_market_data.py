"""DhanMarketData over real HTTP, against the emulated data calls: quotes, candles, option chains, plan, limits."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from dhan_data_kit import (
    CALL,
    EXPIRY,
    FAR,
    FUTURE,
    KEYS,
    NIFTY,
    OPTIONS,
    PUT,
    RELIANCE,
    TCS,
    Lookup,
    QuickClock,
    emulated,
    settings,
)
from pydantic import SecretStr

from hybridbroker.brokers.dhan import CAPABILITIES, DATA_CAPABILITIES, PLUGIN
from hybridbroker.brokers.dhan.market_data import DhanMarketData
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import IST
from hybridbroker.domain.market import FeedMode, Interval
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    InstrumentNotFound,
    RateLimited,
    ServiceUnavailable,
    Unsupported,
    WireFormatError,
)
from hybridbroker.plugins import OpenContext
from hybridbroker.protocols import Capability, MarketData, OptionChains
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import LISTED, DhanEmulator, EmulatedMarket, Fault, invent


def proves_the_fit(data: DhanMarketData) -> MarketData:
    return data


def proves_the_chains(data: DhanMarketData) -> OptionChains:
    return data


def walking() -> EmulatedMarket:
    return EmulatedMarket.random_walk(LISTED, history_days=3)


def bodies(dhan: DhanEmulator, path: str) -> list[Any]:
    return [each.json() for each in dhan.received("POST", path)]


def failed(code: str) -> bytes:
    return json.dumps({"status": "failed", "data": {code: "words"}}).encode()


async def test_quotes_tell_everything() -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        await dhan.market.move(RELIANCE, 1402.3, quantity=40)

        quotes = await data.quotes([RELIANCE, NIFTY, CALL])

        quote = quotes[RELIANCE]
        assert (quote.last_price, quote.previous_close, quote.volume, quote.last_quantity) == (1402.3, 1400.0, 41, 40)
        assert (quote.open, quote.high, quote.low) == (1400.0, 1402.3, 1400.0)
        assert (quote.lower_circuit, quote.upper_circuit) == (1260.0, 1540.0)
        assert quote.depth is not None
        assert quote.depth.best_bid is not None
        assert len(quote.depth.bids) == 5
        assert quotes[NIFTY].last_price == 25_000.0
        assert (quotes[NIFTY].volume, quotes[NIFTY].depth) == (None, None)
        assert bodies(dhan, "/v2/marketfeed/quote") == [{"NSE_EQ": [2885], "IDX_I": [13], "NSE_FNO": [40001]}]
        request = dhan.received("POST")[0]
        assert request.headers["client-id"] == dhan.client_id
        assert request.headers["access-token"] == dhan.access_token


async def test_last_prices_and_the_days_prices_come_by_calls_of_their_own() -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        prices = await data.last_prices([RELIANCE])
        quotes = await data.ohlc([RELIANCE])

        assert prices == {RELIANCE: 1400.0}
        quote = quotes[RELIANCE]
        assert (quote.last_price, quote.open, quote.previous_close, quote.depth) == (1400.0, 1400.0, None, None)
        assert [each.path for each in dhan.received("POST")] == ["/v2/marketfeed/ltp", "/v2/marketfeed/ohlc"]


async def test_what_dhan_does_not_know_is_missing_from_the_quotes() -> None:
    async with emulated(clock=QuickClock()) as (_, data):
        assert set(await data.quotes([RELIANCE, FUTURE])) == {RELIANCE}


async def test_no_instruments_are_no_call() -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        assert await data.quotes([]) == {}
        assert dhan.received("POST") == []


async def test_many_quotes_are_asked_a_thousand_at_a_time_and_one_call_a_second() -> None:
    listed, clock = invent(1100), ManualClock()
    keys = {each.instrument: f"{each.dhan_segment}:{each.dhan_id}" for each in listed}
    async with DhanEmulator(EmulatedMarket.still(listed)) as dhan:
        data = DhanMarketData(settings(dhan), instruments=Lookup(keys), clock=clock)
        async with data:
            begin = clock.monotonic()
            quotes = await data.quotes(keys)

        assert len(quotes) == 1100
        assert [len(each["NSE_EQ"]) for each in bodies(dhan, "/v2/marketfeed/quote")] == [1000, 100]
        assert clock.monotonic() - begin >= 1.1


async def test_intraday_bars_are_oldest_first_with_the_running_one() -> None:
    market = walking()
    for _ in range(80):
        await market.step()
    async with emulated(market=market, clock=QuickClock()) as (dhan, data):
        yesterday = market.now.date() - timedelta(days=1)
        first = max(bar.start.date() for bar in market.past_bars("NSE_EQ|INE002A01018"))

        bars = await data.candles(RELIANCE, Interval.MINUTE_1, start=first)

        assert first <= yesterday
        expected = [bar for bar in market.past_bars("NSE_EQ|INE002A01018") if bar.start.date() >= first]
        expected += market.today_bars("NSE_EQ|INE002A01018")
        assert [bar.start for bar in bars] == [bar.start for bar in expected]
        assert [bar.close for bar in bars] == [bar.close for bar in expected]
        assert [bar.volume for bar in bars] == [bar.volume for bar in expected]
        (body,) = bodies(dhan, "/v2/charts/intraday")
        assert body == {
            "securityId": "2885",
            "exchangeSegment": "NSE_EQ",
            "instrument": "EQUITY",
            "oi": False,
            "interval": "1",
            "fromDate": f"{first} 00:00:00",
            "toDate": f"{market.now.date()} 23:59:59",
        }


async def test_a_long_span_is_asked_ninety_days_at_a_time_without_gap_or_overlap() -> None:
    seen: list[tuple[int, int]] = []
    async with emulated(market=walking(), clock=QuickClock()) as (dhan, data):
        start = date(2026, 2, 1)
        await data.candles(RELIANCE, Interval.MINUTE_15, start=start, progress=lambda done, of: seen.append((done, of)))

        asked = bodies(dhan, "/v2/charts/intraday")
        spans = [(each["fromDate"][:10], each["toDate"][:10]) for each in asked]
        days = [(date.fromisoformat(a), date.fromisoformat(b)) for a, b in spans]
        assert days[0][0] == start
        assert days[-1][1] == dhan.market.now.date()
        assert all((b - a).days < 90 for a, b in days)
        assert all(after[0] == before[1] + timedelta(days=1) for before, after in pairwise(days))
        assert seen == [(n, len(days)) for n in range(1, len(days) + 1)]


async def test_daily_bars_are_asked_to_before_the_day_after_and_lack_the_running_one() -> None:
    market = walking()
    for _ in range(40):
        await market.step()
    async with emulated(market=market, clock=QuickClock()) as (dhan, data):
        first = market.past_bars("NSE_EQ|INE002A01018")[0].start.date()

        bars = await data.candles(RELIANCE, Interval.DAY_1, start=first)

        assert len(bars) == 3
        assert [bar.start.hour for bar in bars] == [0] * 3
        assert bars[0].start == datetime(first.year, first.month, first.day, tzinfo=IST)
        assert bars[-1].start.date() < market.now.date()
        (body,) = bodies(dhan, "/v2/charts/historical")
        assert (body["fromDate"], body["toDate"]) == (f"{first}", f"{market.now.date() + timedelta(days=1)}")
        assert body["expiryCode"] == 0


async def test_bars_outside_the_asked_instants_are_left_out() -> None:
    market = walking()
    for _ in range(60):
        await market.step()
    async with emulated(market=market, clock=QuickClock()) as (_, data):
        start = datetime.combine(market.now.date(), datetime.min.time(), IST) + timedelta(hours=9, minutes=20)

        bars = await data.candles(RELIANCE, Interval.MINUTE_1, start=start, end=start + timedelta(minutes=3))

        assert [bar.start for bar in bars] == [start + timedelta(minutes=n) for n in range(4)]


@pytest.mark.parametrize("interval", [Interval.MINUTE_3, Interval.MINUTE_30, Interval.WEEK_1, Interval.MONTH_1])
async def test_bars_that_dhan_lacks_are_refused_before_anything_is_sent(interval: Interval) -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        with pytest.raises(Unsupported, match="1m, 5m, 15m, 1h, 1d"):
            await data.candles(RELIANCE, interval, start=date(2026, 10, 1))

        assert dhan.received("POST") == []


async def test_a_span_that_ends_before_it_begins_or_has_no_zone_is_refused() -> None:
    async with emulated(clock=QuickClock()) as (_, data):
        with pytest.raises(ConfigurationError, match="start is after end"):
            await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 10, 5), end=date(2026, 10, 1))
        with pytest.raises(ConfigurationError, match="no time zone"):
            await data.candles(RELIANCE, Interval.DAY_1, start=datetime(2026, 10, 5))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("instrument", "kind", "interest"),
    [(RELIANCE, "EQUITY", False), (NIFTY, "INDEX", False), (CALL, "OPTIDX", True), (FUTURE, "FUTSTK", True)],
)
async def test_a_chart_names_the_kind_of_its_instrument(instrument: Any, kind: str, interest: bool) -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        dhan.faults.add("POST /v2/charts/intraday", Fault.answer(_no_bars()))
        await data.candles(instrument, Interval.HOUR_1, start=date(2026, 10, 6))

        (body,) = bodies(dhan, "/v2/charts/intraday")
        assert (body["instrument"], body["oi"], body["interval"]) == (kind, interest, "60")


def _no_bars() -> bytes:
    return json.dumps({name: [] for name in ("open", "high", "low", "close", "volume", "timestamp")}).encode()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, _no_bars()),
        (400, b'{"errorType":"Input_Exception","errorCode":"DH-907","errorMessage":"no data"}'),
        (400, b'{"errorCode":"NONE","internalErrorCode":"RS-9005","internalErrorMessage":"Data not available"}'),
    ],
)
async def test_no_data_is_no_bars(status: int, body: bytes) -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        dhan.faults.add("POST /v2/charts/intraday", Fault.answer(body, status=status))

        assert len(await data.candles(RELIANCE, Interval.MINUTE_5, start=date(2026, 10, 6))) == 0


async def test_expiries_come_nearest_first() -> None:
    async with emulated(clock=QuickClock()) as (_, data):
        assert list(await data.expiries(NIFTY)) == [EXPIRY]


async def test_a_chain_has_every_strike_lowest_first() -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        chain = await data.option_chain(NIFTY, expiry=EXPIRY)

        assert [strike.price for strike in chain] == [25_000.0, 25_100.0]
        assert chain.underlying_price == 25_000.0
        assert chain.unlisted == 0
        first, second = chain.strikes
        assert first.call is not None
        assert first.put is not None
        assert (first.call.instrument, first.put.instrument, second.put) == (CALL, PUT, None)
        assert first.call.greeks is not None
        assert first.call.greeks.implied_volatility == pytest.approx(0.12)
        assert 0.4 < first.call.greeks.delta < 0.7
        assert first.call.bid_price is not None
        assert bodies(dhan, "/v2/optionchain") == [
            {"UnderlyingScrip": 13, "UnderlyingSeg": "IDX_I", "Expiry": f"{EXPIRY}"}
        ]


async def test_a_contract_whose_id_or_terms_do_not_agree_is_left_out_and_counted() -> None:
    keys = {each: key for each, key in KEYS.items() if each != PUT}
    keys[FAR], keys[CALL] = keys[CALL], keys[FAR]  # ids that were given out again
    async with emulated(lookup=Lookup(keys), clock=QuickClock()) as (_, data):
        chain = await data.option_chain(NIFTY, expiry=EXPIRY)

        assert len(chain) == 0
        assert chain.unlisted == len(OPTIONS)


async def test_the_same_chain_waits_three_seconds_and_another_does_not() -> None:
    clock = ManualClock()
    async with DhanEmulator(EmulatedMarket.still([*LISTED, *OPTIONS])) as dhan:
        async with DhanMarketData(settings(dhan), instruments=Lookup(), clock=clock) as data:
            await data.option_chain(NIFTY, expiry=EXPIRY)
            begin = clock.monotonic()
            await data.expiries(NIFTY)
            between = clock.monotonic() - begin
            await data.option_chain(NIFTY, expiry=EXPIRY)

        assert between < 2
        assert clock.monotonic() - begin >= 3


async def test_an_account_without_the_plan_shows_no_capability_and_sends_nothing() -> None:
    async with DhanEmulator(EmulatedMarket.still()) as dhan:
        dhan.login.data_plan = "Deactive"
        data = DhanMarketData(settings(dhan), instruments=Lookup(), clock=QuickClock())
        assert data.capabilities == DATA_CAPABILITIES
        async with data:
            assert data.capabilities is Capability.NONE
            with pytest.raises(Unsupported, match="Data API plan"):
                await data.quotes([RELIANCE])
            with pytest.raises(Unsupported, match="Data API plan"):
                await data.candles(RELIANCE, Interval.DAY_1, start=date(2026, 10, 1))
            with pytest.raises(Unsupported, match="Data API plan"):
                await data.expiries(NIFTY)
            with pytest.raises(Unsupported, match="Data API plan"):
                async with data.stream([RELIANCE], mode=FeedMode.FULL):
                    pass

        assert [each.path for each in dhan.requests] == ["/v2/profile"]


async def test_a_profile_that_cannot_be_read_leaves_the_plan_to_the_first_call() -> None:
    async with DhanEmulator(EmulatedMarket.still()) as dhan:
        dhan.faults.add("GET /v2/profile", Fault.server_error(), times=9)
        async with DhanMarketData(settings(dhan), instruments=Lookup(), clock=QuickClock()) as data:
            assert data.capabilities == DATA_CAPABILITIES
            assert await data.last_prices([RELIANCE]) == {RELIANCE: 1400.0}


async def test_a_dead_token_is_said_on_entry() -> None:
    async with DhanEmulator(EmulatedMarket.still()) as dhan:
        data = DhanMarketData(settings(dhan), instruments=Lookup(), clock=QuickClock())
        dhan.new_token()
        with pytest.raises(AuthenticationError):
            async with data:
                pass


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (200, b'{"errorCode":806,"errorMessage":"Data APIs not subscribed"}', AuthenticationError, "Data API plan"),
        (403, failed("806"), AuthenticationError, "Data API plan"),
        (401, failed("808"), AuthenticationError, "Dhan"),
        (401, failed("810"), AuthenticationError, "Dhan"),
        (400, failed("813"), InstrumentNotFound, "security id"),
        (400, failed("811"), ConfigurationError, "refused the request"),
        (400, failed("812"), ConfigurationError, "refused the request"),
        (400, failed("814"), ConfigurationError, "refused the request"),
        (400, failed("804"), ConfigurationError, "refused the request"),
        (500, failed("800"), ServiceUnavailable, "500"),
        (200, b'{"data": {"NSE_EQ": [1]}, "status": "success"}', WireFormatError, "data.NSE_EQ"),
        (200, b'{"data": {"NSE_EQ": {"2885": {"last_price": "x"}}}}', WireFormatError, "last_price"),
        (200, b"[]", WireFormatError, "marketfeed"),
        (200, b'{"data"', WireFormatError, "marketfeed"),
    ],
)
async def test_a_refused_quote_is_the_documented_exception(
    status: int, body: bytes, error: type[Exception], words: str
) -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        dhan.faults.add("POST /v2/marketfeed/*", Fault.answer(body, status=status), times=9)

        with pytest.raises(error, match=words):
            await data.quotes([RELIANCE])


@pytest.mark.parametrize("status", [200, 400, 429])
async def test_an_805_is_waited_for_longer_and_longer_under_whatever_status(status: int) -> None:
    clock = QuickClock()
    async with emulated(clock=clock) as (dhan, data):
        dhan.faults.add("POST /v2/marketfeed/*", Fault.answer(failed("805"), status=status), times=3)
        begin = clock.monotonic()

        assert await data.last_prices([RELIANCE]) == {RELIANCE: 1400.0}
        assert len(dhan.received("POST")) == 4
        assert clock.monotonic() - begin >= 14

        dhan.faults.add("POST /v2/marketfeed/*", Fault.answer(failed("805"), status=status), times=9)
        with pytest.raises(RateLimited):
            await data.last_prices([RELIANCE])


async def test_an_id_that_charts_do_not_know_is_said_so() -> None:
    async with emulated(clock=QuickClock()) as (_, data):
        with pytest.raises(ConfigurationError, match="id it does not know"):
            await data.candles(FUTURE, Interval.MINUTE_5, start=date(2026, 10, 6))


async def test_columns_of_unequal_length_are_refused() -> None:
    uneven = json.dumps({**json.loads(_no_bars()), "open": [1.0]}).encode()
    async with emulated(clock=QuickClock()) as (dhan, data):
        dhan.faults.add("POST /v2/charts/*", Fault.answer(uneven))

        with pytest.raises(WireFormatError, match="equally long"):
            await data.candles(RELIANCE, Interval.MINUTE_5, start=date(2026, 10, 6))


async def test_bars_without_price_or_time_are_left_out() -> None:
    columns: dict[str, list[float]] = {
        "timestamp": [1.7912e9, 1.79126e9, -1.0, 1e12],
        "open": [0.0, 1400.0, 1.0, 1.0],
        "high": [0.0, 1401.0, 1.0, 1.0],
        "low": [0.0, 1399.0, 1.0, 1.0],
        "close": [0.0, 1400.5, 1.0, 1.0],
        "volume": [1.0, 1.7454579e7, 1.0, 1.0],
    }
    async with emulated(clock=QuickClock()) as (dhan, data):
        dhan.faults.add("POST /v2/charts/*", Fault.answer(json.dumps(columns).encode()))

        bars = await data.candles(RELIANCE, Interval.MINUTE_5, start=date(2026, 10, 6))

        assert [(bar.close, bar.volume) for bar in bars] == [(1400.5, 17_454_579)]


async def test_the_token_of_the_moment_is_used_after_one_is_refused() -> None:
    async with emulated(clock=QuickClock()) as (dhan, data):
        dhan.faults.add("POST /v2/marketfeed/*", Fault.unauthorised())
        with pytest.raises(AuthenticationError):
            await data.quotes([TCS])


def test_settings_of_the_sandbox_are_refused() -> None:
    terms: dict[str, Any] = {
        "client_id": "1100000001",
        "sandbox_client_id": "1100000002",
        "sandbox_token": SecretStr("sandbox-token"),
    }
    sandbox = DhanSettings(_env_file=None, **terms).for_sandbox()

    with pytest.raises(ConfigurationError, match="sandbox"):
        DhanMarketData(sandbox, instruments=Lookup())


async def test_the_plugin_opens_it() -> None:
    assert PLUGIN.open_data is not None
    assert PLUGIN.capabilities == CAPABILITIES | DATA_CAPABILITIES
    async with DhanEmulator(EmulatedMarket.still()) as dhan:
        context = OpenContext(instruments=Lookup(), clock=QuickClock(), settings=settings(dhan))
        async with PLUGIN.open_data(context) as data:
            assert data.name == "dhan"
            assert set(await data.quotes([RELIANCE])) == {RELIANCE}
