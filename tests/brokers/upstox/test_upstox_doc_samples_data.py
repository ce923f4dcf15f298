"""Upstox's own JSON examples of everything that prices need, each read into the values it documents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import respx
from google.protobuf.json_format import ParseDict
from upstox_kit import CALL, NIFTY, RECEIVED_MS, Lookup, settings, share

from hybridbroker.brokers.upstox.data import wire
from hybridbroker.brokers.upstox.data.feed import FeedDecoder, subscribe_frames
from hybridbroker.brokers.upstox.data.mapping import quote_from_wire
from hybridbroker.brokers.upstox.data.schedule import calendar_from_wire
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.brokers.upstox.proto import feed_pb2 as pb
from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, OptionRight
from hybridbroker.domain.market import FeedMode, Interval, MarketPhase, MarketStatus, Tick
from hybridbroker.errors import TokenExpired, Unsupported
from hybridbroker.testing.clock import ManualClock

HOST = "https://api.upstox.com"
NHPC = share("NHPC")
BANK = attrs.evolve(NIFTY, id="NSE:NIFTY BANK:INDEX", symbol="NIFTY BANK")


def option(key: str, expiry: date, strike: int, right: OptionRight) -> tuple[Instrument, str]:
    name = f"NSE:NIFTY:{expiry}:{strike}:{right}"
    return attrs.evolve(CALL, id=name, expiry=expiry, strike=Decimal(strike), right=right), f"NSE_FO|{key}"


LISTED: dict[Instrument, str] = dict(
    [
        (NHPC, "NSE_EQ|INE848E01016"),
        (NIFTY, "NSE_INDEX|Nifty 50"),
        (BANK, "NSE_INDEX|Nifty Bank"),
        option("51834", date(2025, 4, 30), 21600, OptionRight.PUT),
        option("43885", date(2025, 4, 9), 23000, OptionRight.PUT),
        option("37590", date(2024, 2, 15), 19650, OptionRight.CALL),
        option("37668", date(2024, 2, 15), 19700, OptionRight.CALL),
        option("51059", date(2025, 2, 13), 21100, OptionRight.CALL),
        option("51060", date(2025, 2, 13), 21100, OptionRight.PUT),
        option("45450", date(2025, 3, 6), 22000, OptionRight.CALL),
        option("61755", date(2025, 5, 29), 24800, OptionRight.CALL),
    ]
)
BY_KEY = {key: instrument for instrument, key in LISTED.items()}
PUT_21600, PUT_23000 = BY_KEY["NSE_FO|51834"], BY_KEY["NSE_FO|43885"]


@pytest.fixture(scope="session")
def examples(shared_data: Path) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = json.loads(
        (shared_data / "samples" / "doc_samples" / "upstox_docs_json_examples.json").read_text()
    )
    return told


@pytest.fixture
def upstox() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=HOST, assert_all_called=False) as router:
        yield router


@pytest.fixture
async def data() -> AsyncIterator[UpstoxMarketData]:
    clock = ManualClock(datetime(2026, 10, 1, 10, 15, tzinfo=IST))
    async with UpstoxMarketData(settings(HOST), instruments=Lookup(LISTED), clock=clock) as data:
        yield data


async def historical(data: UpstoxMarketData) -> None:
    candles = await data.candles(NHPC, Interval.MONTH_1, start=date(2025, 1, 1), end=date(2025, 2, 28))
    assert [(f"{row.start:%Y-%m-%d}", row.open, row.high, row.low, row.close, row.volume) for row in candles] == [
        ("2025-01-01", 53.1, 53.95, 51.6, 52.05, 235519861),
        ("2025-02-01", 50.35, 56.85, 49.35, 52.8, 1004998611),
    ]


async def historical_v2(data: UpstoxMarketData) -> None:
    candles = await data.candles(NHPC, Interval.MONTH_1, start=date(2023, 9, 1), end=date(2023, 10, 28))
    assert [(f"{row.start:%Y-%m-%d}", row.close) for row in candles] == [("2023-09-01", 52.8), ("2023-10-01", 52.05)]


async def intraday(data: UpstoxMarketData) -> None:
    candles = await data.candles(NHPC, Interval.MINUTE_30, start=date(2025, 1, 12), end=date(2025, 1, 12))
    assert [(f"{row.start:%H:%M}", row.close, row.volume) for row in candles] == [
        ("14:45", 2305.3, 740124),
        ("15:15", 2304.65, 559982),
    ]


async def intraday_v2(data: UpstoxMarketData) -> None:
    candles = await data.candles(NHPC, Interval.MINUTE_30, start=date(2023, 10, 19), end=date(2023, 10, 19))
    assert [f"{row.start:%H:%M}" for row in candles] == ["14:45", "15:15"]


async def full_quote(data: UpstoxMarketData) -> None:
    quote = (await data.quotes([NHPC]))[NHPC]
    assert quote.last_price == pytest.approx(52.05, abs=1e-5)  # the example carries a 32-bit float
    assert (quote.volume, quote.open, quote.high, quote.low) == (24123697, 53.4, 53.8, 51.75)
    assert (quote.lower_circuit, quote.upper_circuit, quote.previous_close) == (42.5, 63.7, None)
    assert quote.depth is not None
    assert [(each.price, each.quantity, each.orders) for each in quote.depth.bids] == [(52.05, 6917, 20)]
    assert quote.depth.asks == ()


async def ohlc(data: UpstoxMarketData) -> None:
    quote = (await data.ohlc([PUT_21600], interval="I1"))[PUT_21600]
    assert quote.last_price == 303.9
    assert quote.running is not None
    assert quote.previous is not None
    assert (quote.running.low, quote.running.volume) == (302.75, 2250)
    assert (quote.previous.close, quote.previous.volume) == (304.3, 300)
    assert (quote.running.start - quote.previous.start).total_seconds() == 60


async def ltp(data: UpstoxMarketData) -> None:
    quote = (await data.quotes([PUT_21600]))[PUT_21600]
    assert (quote.last_price, quote.last_quantity, quote.volume, quote.previous_close) == (303.9, 75, 170325, 29.0)
    assert await data.last_prices([PUT_21600]) == {PUT_21600: 303.9}


async def greek(data: UpstoxMarketData) -> None:
    quote = (await data.greeks([PUT_23000]))[PUT_23000]
    assert (quote.last_price, quote.volume, quote.open_interest, quote.previous_close) == (
        412.2,
        3609600,
        2476650,
        831.2,
    )
    greeks = quote.greeks
    assert greeks is not None
    assert (greeks.delta, greeks.gamma, greeks.theta, greeks.vega) == (-0.8081, 0.0005, -51.848, 3.3899)
    assert greeks.implied_volatility == 0.33599853515625


async def timings(data: UpstoxMarketData) -> None:
    hours = await data.market_hours(date(2024, 1, 1))
    assert len(hours) == 7
    assert hours["NSE"] == (datetime(2024, 1, 1, 9, 15, tzinfo=IST), datetime(2024, 1, 1, 15, 30, tzinfo=IST))
    assert hours["MCX"][1] == datetime(2024, 1, 1, 17, 0, tzinfo=IST)


async def status(data: UpstoxMarketData) -> None:
    told = await data.market_status(Exchange.NSE)
    assert told.phases == {"NSE:cash": MarketPhase.OPEN}
    assert told.at == datetime(2024, 1, 18, 9, 15, tzinfo=IST)


async def contracts(data: UpstoxMarketData) -> None:
    assert await data.expiries(NIFTY) == (date(2024, 2, 15),)
    assert [each.strike for each in await data.option_contracts(NIFTY)] == [19650, 19700]


async def chain(data: UpstoxMarketData) -> None:
    told = await data.option_chain(NIFTY, expiry=date(2025, 2, 13))
    (strike,) = told
    assert (told.underlying_price, strike.price, told.unlisted) == (22976.2, 21100.0, 0)
    assert strike.call is not None
    assert strike.put is not None
    assert (strike.call.last_price, strike.call.volume, strike.call.open_interest) == (2449.9, 0, 750)
    assert (strike.put.bid_price, strike.put.ask_quantity, strike.put.previous_open_interest) == (0.3, 2152500, 5797500)
    assert strike.call.greeks is not None
    assert strike.put.greeks is not None
    assert strike.call.greeks.implied_volatility == pytest.approx(2.6231)
    assert strike.put.greeks.implied_volatility == pytest.approx(0.5078)


async def holidays(data: UpstoxMarketData) -> None:
    # Days of 2024, which the calendar covers: it stays as it is.
    known = TradingCalendar(special={})
    assert await data.extend_calendar(known) == known


CALLS: dict[str, Callable[[UpstoxMarketData], Awaitable[None]]] = {
    "v3/get-historical-candle-data": historical,
    "v3/get-intra-day-candle-data": intraday,
    "get-historical-candle-data": historical_v2,  # the same rows; V3 is what is called
    "get-intra-day-candle-data": intraday_v2,
    "get-full-market-quote": full_quote,
    "get-market-quote-ohlc-v3": ohlc,
    "ltp-v3": ltp,
    "option-greek": greek,
    "get-market-holidays": holidays,
    "get-market-timings": timings,
    "get-market-status": status,
    "get-option-contracts": contracts,
    "get-pc-option-chain": chain,
}

READ_BELOW = {
    "v3/get-market-data-feed",
    "get-market-data-feed-authorize",
    "ltp",
    "get-market-quote-ohlc",
    "response-structure",
}

OF_NO_CALL = {
    "get-market-data-feed": "feed V2, which Upstox switched off on 22 August 2025",
    "instruments": "rows of the instrument master, read by its own tests",
    "get-expiries": "expired instruments are not offered",
    "get-expired-option-contracts": "expired instruments are not offered",
    "get-expired-future-contracts": "expired instruments are not offered",
    "get-expired-historical-candle-data": "expired instruments are not offered",
}

OF_THE_ACCOUNT = {
    "access-token-request", "logout", "get-profile", "get-user-fund-margin", "margin", "v3/place-order",
    "place-multi-order", "v3/modify-order", "v3/cancel-order", "cancel-multi-order", "exit-all-positions",
    "get-order-details", "get-order-history", "get-order-book", "get-trade-history", "get-trades-by-order",
    "get-historical-trades", "place-order", "modify-order", "cancel-order", "place-gtt-order", "modify-gtt-order",
    "cancel-gtt-order", "get-gtt-order-details", "get-positions", "get-mtf-positions", "convert-positions",
    "get-holdings", "get-report-meta-data", "get-profit-and-loss-report", "get-trade-charges",
    "get-portfolio-stream-feed", "get-portfolio-stream-feed-authorize", "webhook",
}  # fmt: skip
"""Orders, portfolio and login, which are read by tests of their own."""


def test_every_page_of_the_documentation_is_somewhere(examples: dict[str, list[Any]]) -> None:
    assert set(examples) == set(CALLS) | READ_BELOW | set(OF_NO_CALL) | OF_THE_ACCOUNT


@pytest.mark.parametrize("page", CALLS)
async def test_an_example_is_read_as_it_is_documented(
    page: str, examples: dict[str, list[Any]], upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    (example,) = examples[page]
    upstox.get(path__regex=r"/v[23]/market-quote/(ltp|quotes)$").mock(
        side_effect=lambda request: httpx.Response(
            200, json=example if ("ltp" in request.url.path) == page.startswith("ltp") else {"data": {}}
        )
    )
    upstox.get(path__regex=r"/v2/market/status/(NFO|CDS|NSCOM)").mock(
        return_value=httpx.Response(200, json={"data": {"exchange": "-", "status": "NORMAL_CLOSE"}})
    )
    upstox.get(path__startswith="/").mock(return_value=httpx.Response(200, json=example))

    await CALLS[page](data)


def test_an_older_example_of_last_prices_and_bars_is_read_too(examples: dict[str, list[Any]]) -> None:
    (prices,), (day,) = examples["ltp"], examples["get-market-quote-ohlc"]
    now = datetime(2026, 10, 1, tzinfo=IST)

    row = wire.Quotes[wire.LtpQuote].model_validate(prices).data["NSE_EQ:NHPC"]
    full = wire.Quotes[wire.FullQuote].model_validate(day).data["NSE_EQ:NHPC"]
    quote = quote_from_wire(row, full, instrument=NHPC, as_of=now)

    assert quote is not None
    assert (quote.last_price, quote.high, quote.low, quote.previous_close) == (52.05, 53.8, 51.75, None)


def test_the_holidays_are_read_from_their_lists_of_exchanges(examples: dict[str, list[Any]]) -> None:
    (example,) = examples["get-market-holidays"]
    rows = wire.Holidays.model_validate(example).data
    known = TradingCalendar()
    early = attrs.evolve(known, covered=(known.covered[0], date(2023, 12, 31)), closed_days=frozenset(), special={})

    assert [row.date.isoformat() for row in rows] == ["2024-01-01", "2024-01-20", "2024-01-26"]
    assert calendar_from_wire(rows, early).covered == early.covered  # three days are no whole year
    assert rows[1].open_exchanges[0].exchange == "NSE"
    saturday = calendar_from_wire(rows, attrs.evolve(early, special={date(2024, 1, 20): UNKNOWN_HOURS}, covered=WHOLE))
    session = saturday.session(date(2024, 1, 20))
    assert session is not None
    assert (session.opens.time(), session.closes.time(), session.name) == (
        time(9, 15),
        time(12, 30),
        "Special DR Trading",
    )


WHOLE = TradingCalendar().covered
UNKNOWN_HOURS = attrs.evolve(next(iter(TradingCalendar().special.values())), stretches=())


def decoded(message: dict[str, Any], decoder: FeedDecoder) -> list[Any]:
    # One example has requestMode in the wrong place, which the wire has not.
    return decoder.feed(
        ParseDict(message, pb.FeedResponse(), ignore_unknown_fields=True).SerializeToString(), RECEIVED_MS
    )


def test_the_feed_examples_are_what_is_sent_and_what_is_read(examples: dict[str, list[Any]]) -> None:
    request, info, price, _same, greeks, full, deep = examples["v3/get-market-data-feed"]
    decoder = FeedDecoder()
    decoder.add({key: instrument for key, instrument in BY_KEY.items() if instrument.kind is InstrumentKind.OPTION})

    (sent,) = subscribe_frames(["NSE_INDEX|Nifty Bank"], FeedMode.FULL)
    (status,) = decoded(info, decoder)
    (first,) = decoded(price, decoder)
    again = decoded(price, decoder)
    decoder.reset()
    (second,) = decoded(greeks, decoder)
    decoder.reset()
    (third,) = decoded(full, decoder)
    (fourth,) = decoded(deep, decoder)

    assert {**json.loads(sent), "guid": request["guid"]} == request
    assert isinstance(status, MarketStatus)
    assert set(status.phases.values()) == {MarketPhase.OPEN}
    assert status.at == datetime.fromtimestamp(1732775008.661, IST)
    assert isinstance(first, Tick)
    assert (first.last_price, first.traded_ms, first.last_quantity, first.previous_close) == (
        219.3,
        1740729552723,
        75,
        494.05,
    )
    assert again == []
    assert decoder.skipped["duplicate"] == 1
    assert (second.last_price, second.volume, second.open_interest) == (225.7, 919725, 256800)
    assert (second.depth.best_bid.price, second.depth.best_ask.quantity) == (225.4, 150)
    assert (second.greeks.delta, second.greeks.implied_volatility) == (0.5078, 0.1334381103515625)
    assert (third.last_price, third.volume, third.average_price, third.total_buy_quantity) == (
        213.75,
        779625,
        272.9,
        46050,
    )
    assert [each.price for each in third.depth.asks] == [213.9, 213.95, 214.0, 214.05, 214.1]
    assert (third.day.high, third.minute.close, third.minute.volume) == (400, 212.15, 8475)
    assert (fourth.last_price, len(fourth.depth.bids)) == (181.95, 30)


def test_the_address_of_the_feed_is_read(examples: dict[str, list[Any]]) -> None:
    (example,) = examples["get-market-data-feed-authorize"]

    assert wire.FeedAddress.model_validate(example).data.uri == "wss://REDACTED"


def test_the_documented_shape_of_an_error_is_read(examples: dict[str, list[Any]]) -> None:
    (example,) = examples["response-structure"]

    assert wire.ErrorBody.model_validate(example).errors[0].code == "string"


async def test_recorded_refusals_are_their_documented_exceptions(
    shared_data: Path, upstox: respx.MockRouter, data: UpstoxMarketData
) -> None:
    folder = shared_data / "samples" / "upstox_rest"
    bad_token = json.loads((folder / "LoginApi_logout_401_UDAPI100050.json").read_text())["response"]
    wrong_url = (folder / "instrument_master_wrong_url_body_saved_as_NSE.json.gz.bin").read_bytes()
    route = upstox.get(path__startswith="/")

    route.mock(return_value=httpx.Response(bad_token["status"], content=bad_token["body_text"].encode()))
    with pytest.raises(TokenExpired):
        await data.last_prices([NHPC])
    route.mock(return_value=httpx.Response(404, content=wrong_url))
    with pytest.raises(Unsupported):
        await data.last_prices([NHPC])
