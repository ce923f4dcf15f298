"""Every recorded answer and documented example of a data call gives the right values, or the documented error."""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from dhan_data_kit import Lookup, option
from pydantic import SecretStr

from hybridbroker.brokers.dhan.data import wire
from hybridbroker.brokers.dhan.data.mapping import REQUEST_CODES
from hybridbroker.brokers.dhan.market_data import DhanMarketData
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.domain.market import Candles, FeedMode, Interval
from hybridbroker.errors import AuthenticationError, ConfigurationError, RateLimited, WireFormatError
from hybridbroker.testing.clock import ManualClock

BASE = "https://api.dhan.co/v2"
CLIENT = "1000000001"


def share(symbol: str) -> Instrument:
    return Instrument(
        id=f"NSE:{symbol}",
        exchange=Exchange.NSE,
        segment=Segment.CASH,
        kind=InstrumentKind.EQUITY,
        symbol=symbol,
        tick_size=Decimal("0.05"),
    )


HDFCBANK, TCS, UNTRADED = share("HDFCBANK"), share("TCS"), share("UNTRADED")
NIFTY = Instrument(
    id="NSE:NIFTY 50:INDEX",
    exchange=Exchange.NSE,
    segment=Segment.INDEX,
    kind=InstrumentKind.INDEX,
    symbol="NIFTY 50",
)
CALL, PUT = option(49_081, OptionRight.CALL), option(49_082, OptionRight.PUT)
LOOKUP = Lookup(
    {
        HDFCBANK: "NSE_EQ:1333",
        TCS: "NSE_EQ:11536",
        UNTRADED: "NSE_EQ:13247",
        NIFTY: "IDX_I:13",
        CALL: "NSE_FNO:49081",
        PUT: "NSE_FNO:49082",
    }
)
RECORDED = "dhan_rest/recorded"
EDITED = "dhan_rest/edited_or_doc_sample"
SAMPLES_OF_DATA_CALLS = {
    f"{RECORDED}/POST_charts_intraday_400.json",
    f"{RECORDED}/POST_v2_charts_historical_200.json",
    f"{RECORDED}/POST_v2_charts_historical_200_2.json",
    f"{RECORDED}/POST_v2_charts_historical_400.json",
    f"{RECORDED}/POST_v2_charts_intraday_200.json",
    f"{RECORDED}/POST_v2_charts_intraday_200_2.json",
    f"{RECORDED}/POST_v2_charts_intraday_200_3.json.gz",
    f"{RECORDED}/POST_v2_marketfeed_ltp_200.json",
    f"{RECORDED}/POST_v2_marketfeed_ltp_200_2.json",
    f"{RECORDED}/POST_v2_marketfeed_ltp_200_3.json",
    f"{RECORDED}/POST_v2_marketfeed_ohlc_200.json",
    f"{RECORDED}/POST_v2_marketfeed_ohlc_200_2.json",
    f"{RECORDED}/POST_v2_marketfeed_quote_200.json",
    f"{RECORDED}/POST_v2_marketfeed_quote_200_2.json",
    f"{RECORDED}/POST_v2_optionchain_200.json.gz",
    f"{RECORDED}/POST_v2_optionchain_200_2.json.gz",
    f"{RECORDED}/POST_v2_optionchain_200_3.json.gz",
    f"{RECORDED}/POST_v2_optionchain_expirylist_200.json",
    f"{RECORDED}/log_unknown_security_id_DH-905.txt",
    f"{EDITED}/POST_v2_marketfeed_ltp_200_4.json",
    f"{EDITED}/POST_v2_marketfeed_quote_429.json",
}
DATA_PAGES = {
    "14-market-quote.md": 6,
    "15-live-market-feed.md": 2,
    "17-historical-data.md": 4,
    "19-option-chain.md": 3,
}

Ask = Callable[[DhanMarketData], Awaitable[Any]]


def recording(samples: Path, name: str) -> dict[str, Any]:
    path = samples / name
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found: dict[str, Any] = json.loads(text)
    return found


async def answered(ask: Ask, *, status: int, body: str | bytes) -> Any:
    """Return what ``ask`` makes of one answer, whatever was asked."""
    settings = DhanSettings(_env_file=None, client_id=CLIENT, access_token=SecretStr("a-token"), base_url=BASE)
    clock = ManualClock(datetime(2026, 11, 20, 6, 0, tzinfo=UTC))
    with respx.mock(assert_all_called=False) as routes:
        routes.get(f"{BASE}/profile").mock(httpx.Response(200, json={"dataPlan": "Active"}))
        routes.post(url__startswith=BASE).mock(httpx.Response(status, content=body))
        async with DhanMarketData(settings, instruments=LOOKUP, clock=clock) as data:
            return await ask(data)


async def replayed(samples: Path, name: str, ask: Ask) -> Any:
    response = recording(samples, name)["response"]
    return await answered(ask, status=response["status"], body=response["body_text"])


def candles(instrument: Instrument, interval: Interval, first: date, last: date) -> Ask:
    return lambda data: data.candles(instrument, interval, start=first, end=last)


@pytest.fixture
def samples(shared_data: Path) -> Path:
    return shared_data / "samples"


@pytest.fixture
def documented(samples: Path) -> dict[str, Any]:
    pages: dict[str, Any] = json.loads((samples / "doc_samples" / "dhan_docs_json_examples.json").read_text())
    return pages


def test_no_sample_of_a_data_call_is_forgotten(samples: Path) -> None:
    words = ("charts", "marketfeed", "optionchain", "security_id")
    found = {
        str(path.relative_to(samples))
        for folder in (RECORDED, EDITED)
        for path in (samples / folder).iterdir()
        if any(word in path.name for word in words)
    }

    assert found == SAMPLES_OF_DATA_CALLS


def test_no_documented_example_of_a_data_call_is_forgotten(documented: dict[str, Any]) -> None:
    assert {page: len(documented[page]) for page in DATA_PAGES} == DATA_PAGES


def asked(instrument: Instrument, interval: Interval, first: str, last: str) -> tuple[Instrument, Interval, date, date]:
    return instrument, interval, date.fromisoformat(first), date.fromisoformat(last)


CHARTS = {
    "POST_v2_charts_historical_200.json": (asked(HDFCBANK, Interval.DAY_1, "2025-01-23", "2025-01-23"), 1),
    "POST_v2_charts_historical_200_2.json": (asked(HDFCBANK, Interval.DAY_1, "2024-01-01", "2024-01-30"), 21),
    "POST_v2_charts_intraday_200.json": (asked(NIFTY, Interval.MINUTE_5, "2024-01-15", "2024-01-15"), 76),
    "POST_v2_charts_intraday_200_2.json": (asked(HDFCBANK, Interval.MINUTE_15, "2024-09-11", "2024-09-13"), 75),
    "POST_v2_charts_intraday_200_3.json.gz": (asked(HDFCBANK, Interval.MINUTE_1, "2024-09-11", "2024-09-15"), 1125),
}


@pytest.mark.parametrize("name", CHARTS)
async def test_recorded_bars_are_read(samples: Path, name: str) -> None:
    told = json.loads(recording(samples, f"{RECORDED}/{name}")["response"]["body_text"])
    (instrument, interval, first, last), count = CHARTS[name]

    bars: Candles = await replayed(samples, f"{RECORDED}/{name}", candles(instrument, interval, first, last))

    assert len(bars) == count
    assert [bar.timestamp() for bar in bars.start] == told["timestamp"]
    for column in ("open", "high", "low", "close", "volume"):
        assert list(getattr(bars, column)) == told[column]
    assert all(isinstance(volume, int) for volume in bars.volume)
    assert bars.start[0].tzinfo is IST
    opens = (0, 0) if interval is Interval.DAY_1 else (9, 15)
    assert (bars.start[0].hour, bars.start[0].minute) == opens


async def test_a_recorded_dead_token_is_the_documented_error(samples: Path) -> None:
    day = date(2025, 1, 23)

    with pytest.raises(AuthenticationError, match="Invalid Token"):
        await replayed(
            samples, f"{RECORDED}/POST_v2_charts_historical_400.json", candles(HDFCBANK, Interval.DAY_1, day, day)
        )


async def test_recorded_absence_of_data_is_no_bars(samples: Path) -> None:
    day = date(2024, 1, 15)

    bars = await replayed(
        samples, f"{RECORDED}/POST_charts_intraday_400.json", candles(NIFTY, Interval.MINUTE_5, day, day)
    )

    assert len(bars) == 0


async def test_the_recorded_answer_for_an_unknown_id_says_so(samples: Path) -> None:
    log = (samples / f"{RECORDED}/log_unknown_security_id_DH-905.txt").read_text()
    bodies = {line.partition("400 - ")[2] for line in log.splitlines() if "400 - {" in line}
    assert len(bodies) == 1

    with pytest.raises(ConfigurationError, match="id it does not know"):
        await answered(
            candles(HDFCBANK, Interval.DAY_1, date(2025, 4, 24), date(2025, 4, 30)), status=400, body=bodies.pop()
        )


LAST_PRICES = [
    ("recorded/POST_v2_marketfeed_ltp_200.json", TCS),
    ("recorded/POST_v2_marketfeed_ltp_200_2.json", UNTRADED),
    ("recorded/POST_v2_marketfeed_ltp_200_3.json", TCS),
]


@pytest.mark.parametrize(("name", "instrument"), LAST_PRICES)
async def test_recorded_answers_without_a_price_are_empty(samples: Path, name: str, instrument: Instrument) -> None:
    assert await replayed(samples, f"dhan_rest/{name}", lambda data: data.last_prices([instrument])) == {}


OHLC = [("recorded/POST_v2_marketfeed_ohlc_200.json", CALL), ("recorded/POST_v2_marketfeed_ohlc_200_2.json", TCS)]


@pytest.mark.parametrize(("name", "instrument"), OHLC)
async def test_recorded_days_without_a_price_are_empty(samples: Path, name: str, instrument: Instrument) -> None:
    assert await replayed(samples, f"dhan_rest/{name}", lambda data: data.ohlc([instrument])) == {}


QUOTES = ["POST_v2_marketfeed_quote_200.json", "POST_v2_marketfeed_quote_200_2.json"]


@pytest.mark.parametrize("name", QUOTES)
async def test_recorded_quotes_of_ids_that_do_not_exist_are_empty(samples: Path, name: str) -> None:
    assert await replayed(samples, f"{RECORDED}/{name}", lambda data: data.quotes([CALL])) == {}


async def test_an_account_without_the_plan_is_an_error_even_with_status_200(samples: Path) -> None:
    with pytest.raises(AuthenticationError, match=r"Data API plan.*\[806\]"):
        await replayed(samples, f"{EDITED}/POST_v2_marketfeed_ltp_200_4.json", lambda data: data.last_prices([TCS]))


async def test_too_many_requests_is_the_documented_error(samples: Path) -> None:
    with pytest.raises(RateLimited):
        await replayed(samples, f"{EDITED}/POST_v2_marketfeed_quote_429.json", lambda data: data.quotes([TCS]))


async def test_recorded_expiries_are_read(samples: Path) -> None:
    expiries = await replayed(
        samples, f"{RECORDED}/POST_v2_optionchain_expirylist_200.json", lambda data: data.expiries(NIFTY)
    )

    assert (len(expiries), expiries[0], expiries[-1]) == (18, date(2025, 1, 30), date(2029, 12, 27))


CHAINS = [("_200.json.gz", 23092.2, 246), ("_200_2.json.gz", 23092.2, 246), ("_200_3.json.gz", 23482.15, 238)]


@pytest.mark.parametrize(("name", "spot", "strikes"), CHAINS)
async def test_a_recorded_chain_without_ids_is_counted_and_not_guessed(
    samples: Path, name: str, spot: float, strikes: int
) -> None:
    chain = await replayed(
        samples,
        f"{RECORDED}/POST_v2_optionchain{name}",
        lambda data: data.option_chain(NIFTY, expiry=date(2025, 1, 30)),
    )

    assert chain.underlying_price == spot
    assert (len(chain), chain.unlisted) == (0, 2 * strikes)


@pytest.mark.parametrize(("name", "spot", "strikes"), CHAINS)
def test_a_recorded_chain_is_read_number_by_number(samples: Path, name: str, spot: float, strikes: int) -> None:
    told = json.loads(recording(samples, f"{RECORDED}/POST_v2_optionchain{name}")["response"]["body_text"])

    chain = wire.Chain.read(told, what="the chain")

    assert len(chain.data.oc) == strikes
    for text, row in told["data"]["oc"].items():
        for side, read in (("ce", chain.data.oc[Decimal(text)].ce), ("pe", chain.data.oc[Decimal(text)].pe)):
            assert read is not None
            assert _same(read, row[side])


def _same(read: wire.OptionRow, told: dict[str, Any]) -> bool:
    mine = read.model_dump(exclude={"security_id", "greeks"})
    assert read.greeks is not None
    greeks = read.greeks.model_dump()
    return all(mine[key] == told[key] for key in mine) and all(greeks[key] == told["greeks"][key] for key in greeks)


async def test_a_recorded_chain_with_ids_gives_quotes(samples: Path) -> None:
    told = json.loads(recording(samples, f"{RECORDED}/POST_v2_optionchain_200_3.json.gz")["response"]["body_text"])
    call, put = option(23_550, OptionRight.CALL), option(23_550, OptionRight.PUT)
    told["data"]["oc"]["23550.000000"]["ce"]["security_id"] = 70_001
    told["data"]["oc"]["23550.000000"]["pe"]["security_id"] = 70_002
    assert call.expiry is not None
    body = json.dumps(told)
    lookup = Lookup({NIFTY: "IDX_I:13", call: "NSE_FNO:70001", put: "NSE_FNO:70002"})

    def ask(data: DhanMarketData) -> Awaitable[Any]:
        data._instruments = lookup
        return data.option_chain(NIFTY, expiry=call.expiry or date.min)

    chain = await answered(ask, status=200, body=body)

    (strike,) = chain.strikes
    assert strike.price == 23_550.0
    assert strike.call is not None
    quote = strike.call
    assert (quote.last_price, quote.open_interest, quote.volume) == (114.0, 2_501_700, 77_539_125)
    assert (quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity) == (114.0, 1050, 116.2, 75)
    assert (quote.previous_close, quote.previous_open_interest) == (253.35, 1_228_800)
    assert quote.greeks is not None
    assert (quote.greeks.delta, quote.greeks.vega) == (0.47536, 11.19759)
    assert quote.greeks.implied_volatility == pytest.approx(0.11081323669799227)


def example(documented: dict[str, Any], page: str, index: int) -> Any:
    return documented[page][index]["example"]


async def test_the_documented_last_prices_are_read(documented: dict[str, Any]) -> None:
    body = json.dumps(example(documented, "14-market-quote.md", 1))

    prices = await answered(lambda data: data.last_prices([TCS, CALL, PUT]), status=200, body=body)

    assert prices == {TCS: 4520.0, CALL: 368.15, PUT: 694.35}


async def test_the_documented_ohlc_is_read(documented: dict[str, Any]) -> None:
    body = json.dumps(example(documented, "14-market-quote.md", 3))

    quotes = await answered(lambda data: data.ohlc([TCS, CALL, PUT]), status=200, body=body)

    tcs = quotes[TCS]
    assert (tcs.last_price, tcs.open, tcs.high, tcs.low) == (4525.55, 4521.45, 4530.0, 4500.0)
    assert (quotes[CALL].last_price, quotes[CALL].open, quotes[CALL].high) == (368.15, None, None)


async def test_the_documented_quote_is_read(documented: dict[str, Any]) -> None:
    body = json.dumps(example(documented, "14-market-quote.md", 5))

    quotes = await answered(lambda data: data.quotes([CALL]), status=200, body=body)

    quote = quotes[CALL]
    assert (quote.last_price, quote.previous_close, quote.volume, quote.last_quantity) == (368.15, 368.15, 0, None)
    assert (quote.lower_circuit, quote.upper_circuit, quote.open) == (48.25, 510.85, None)
    assert quote.depth is not None
    assert [(level.price, level.quantity, level.orders) for level in quote.depth.bids] == [
        (77.0, 1800, 1),
        (50.0, 25, 1),
    ]
    assert quote.depth.asks == ()


@pytest.mark.parametrize("index", [0, 2, 4])
async def test_quote_requests_have_the_documented_shape(documented: dict[str, Any], index: int) -> None:
    told = example(documented, "14-market-quote.md", index)
    named = {"NSE_EQ": {11536: TCS}, "NSE_FNO": {49081: CALL, 49082: PUT}}
    wanted = [named[segment][each] for segment, ids in told.items() for each in ids]
    settings = DhanSettings(_env_file=None, client_id=CLIENT, access_token=SecretStr("a-token"), base_url=BASE)
    with respx.mock() as routes:
        routes.get(f"{BASE}/profile").mock(httpx.Response(200, json={"dataPlan": "Active"}))
        call = routes.post(f"{BASE}/marketfeed/ltp").mock(httpx.Response(200, json={"data": {}, "status": "success"}))
        async with DhanMarketData(settings, instruments=LOOKUP, clock=ManualClock()) as data:
            await data.last_prices(wanted)

    assert json.loads(call.calls[0].request.content) == told


def test_the_documented_feed_requests_are_those_we_send(documented: dict[str, Any]) -> None:
    subscribe, disconnect = (example(documented, "15-live-market-feed.md", index) for index in (0, 1))

    assert subscribe["RequestCode"] == REQUEST_CODES[FeedMode.LTP]
    assert disconnect == {"RequestCode": 12}  # we close the socket instead


async def test_the_documented_daily_bars_are_read(documented: dict[str, Any]) -> None:
    told = example(documented, "17-historical-data.md", 1)
    ask = candles(TCS, Interval.DAY_1, date(2012, 1, 1), date(2012, 12, 31))

    bars = await answered(ask, status=200, body=json.dumps(told))

    assert len(bars) == 20
    assert (bars.start[0], bars.open[0], bars.volume[0]) == (datetime(2012, 1, 11, tzinfo=IST), 3978.0, 3_937_092)
    assert list(bars.close) == told["close"]


async def test_the_documented_minute_bars_are_uneven_and_refused(documented: dict[str, Any]) -> None:
    told = example(documented, "17-historical-data.md", 3)
    ask = candles(TCS, Interval.MINUTE_1, date(2012, 2, 10), date(2012, 2, 10))

    with pytest.raises(WireFormatError, match="equally long"):
        await answered(ask, status=200, body=json.dumps(told))


@pytest.mark.parametrize(("index", "interval"), [(0, Interval.DAY_1), (2, Interval.MINUTE_1)])
async def test_chart_requests_have_the_documented_fields(
    documented: dict[str, Any], index: int, interval: Interval
) -> None:
    told = example(documented, "17-historical-data.md", index)
    settings = DhanSettings(_env_file=None, client_id=CLIENT, access_token=SecretStr("a-token"), base_url=BASE)
    empty: dict[str, list[float]] = {name: [] for name in ("open", "high", "low", "close", "volume", "timestamp")}
    with respx.mock() as routes:
        routes.get(f"{BASE}/profile").mock(httpx.Response(200, json={"dataPlan": "Active"}))
        call = routes.post(url__regex=rf"{BASE}/charts/.*").mock(httpx.Response(200, json=empty))
        clock = ManualClock(datetime(2026, 11, 20, 6, 0, tzinfo=UTC))
        async with DhanMarketData(settings, instruments=LOOKUP, clock=clock) as data:
            await data.candles(HDFCBANK, interval, start=date(2024, 9, 11), end=date(2024, 9, 14))

    sent = json.loads(call.calls[0].request.content)
    assert sent.keys() == told.keys()
    fixed = ("securityId", "exchangeSegment", "instrument", "oi", "expiryCode", "interval")
    assert {key: sent.get(key) for key in fixed} == {key: told.get(key) for key in fixed}


async def test_the_documented_option_chain_calls_are_understood(documented: dict[str, Any]) -> None:
    chain, listing, answer = (example(documented, "19-option-chain.md", index) for index in range(3))

    expiries = await answered(lambda data: data.expiries(NIFTY), status=200, body=json.dumps(answer))

    assert chain == {"UnderlyingScrip": 13, "UnderlyingSeg": "IDX_I", "Expiry": "2024-10-31"}
    assert listing == {"UnderlyingScrip": 13, "UnderlyingSeg": "IDX_I"}
    assert (len(expiries), expiries[0], expiries[-1]) == (18, date(2024, 10, 17), date(2029, 6, 28))
