"""The emulated Upstox serves options, calendar, quotes and candles as documented."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from emulator_kit import NIFTY, RELIANCE, feed, receive, request
from upstox_orders_kit import Client, client, order

from hybridbroker.testing.emulators import LISTED, EmulatedMarket, UpstoxEmulator, option_series
from hybridbroker.testing.emulators import feed_pb2 as pb

CALL, PUT = "NSE_FO|40001", "NSE_FO|40002"
EXPIRIES = (date(2026, 10, 13), date(2026, 10, 20), date(2026, 10, 27), date(2026, 11, 24))
SERIES = tuple(
    option
    for place, expiry in enumerate(EXPIRIES)
    for option in option_series(LISTED[-1], expiry=expiry, strikes=(25_000, 25_100), first_token=40_001 + 10 * place)
)
PRICES = {option.instrument.id: 120.0 for option in SERIES}


@pytest.fixture
async def options() -> AsyncIterator[UpstoxEmulator]:
    market = EmulatedMarket.still((*LISTED, *SERIES), prices=PRICES)
    async with UpstoxEmulator(market, cash=Decimal(10**7)) as upstox:
        yield upstox


@pytest.fixture
async def call(options: UpstoxEmulator) -> AsyncIterator[Client]:
    async with client(options) as each:
        yield each


async def test_contracts_can_be_narrowed_to_an_expiry(call: Client) -> None:
    every = await call("GET", "/v2/option/contract", instrument_key=NIFTY)
    first = await call("GET", "/v2/option/contract", instrument_key=NIFTY, expiry_date="2026-10-13")

    assert (len(every), len(first)) == (16, 4)
    assert (first[0]["instrument_key"], first[0]["tick_size"], first[0]["lot_size"], first[0]["underlying_key"]) == (
        CALL,
        5.0,
        75,
        NIFTY,
    )


@pytest.mark.parametrize(
    ("expiry", "found"),
    [
        ("2026-10-13", "2026-10-13"),
        ("current_week", "2026-10-13"),
        ("next_week", "2026-10-20"),
        ("far_week", "2026-10-27"),
        ("current_month", "2026-10-27"),
        ("next_month", "2026-11-24"),
    ],
)
async def test_a_chain_has_both_sides_of_each_strike(call: Client, expiry: str, found: str) -> None:
    rows = await call("GET", "/v2/option/chain", instrument_key=NIFTY, expiry_date=expiry)

    assert [row["strike_price"] for row in rows] == [25_000.0, 25_100.0]
    assert {row["expiry"] for row in rows} == {found}
    row = rows[0]
    assert row["underlying_spot_price"] == 25_000.0
    assert row["call_options"]["market_data"]["ltp"] == 120.0
    assert row["call_options"]["option_greeks"]["iv"] == 12.0
    assert 0 < row["call_options"]["option_greeks"]["delta"] < 1
    assert -1 < row["put_options"]["option_greeks"]["delta"] < 0


async def test_greeks_agree_between_quote_feed_and_chain(options: UpstoxEmulator, call: Client) -> None:
    quotes = await call("GET", "/v3/market-quote/option-greek", instrument_key=f"{CALL},{RELIANCE}")
    chain = await call("GET", "/v2/option/chain", instrument_key=NIFTY, expiry_date="2026-10-13")
    async with feed(options) as socket:
        await receive(socket)
        await socket.send(request("sub", [CALL], "option_greeks"))
        entry = (await receive(socket)).feeds[CALL].firstLevelWithGreeks

    (key,) = quotes
    quote = quotes[key]
    assert key == "NSE_FO:NIFTY26O1325000CE"
    assert quote["delta"] == entry.optionGreeks.delta == chain[0]["call_options"]["option_greeks"]["delta"]
    assert (quote["iv"], entry.iv) == (0.12, 0.12)


async def test_options_are_traded_in_lots_and_carried(call: Client) -> None:
    bought = await call.place(instrument_token=CALL, quantity=75, price=130.0)
    odd = await call.place(instrument_token=CALL, quantity=70, price=130.0)

    (position,) = await call("GET", "/v2/portfolio/short-term-positions")
    assert (await call.details(bought))["trading_symbol"] == "NIFTY26O1325000CE"
    assert "lot" in (await call.details(odd))["status_message"]
    assert (position["exchange"], position["product"], position["quantity"]) == ("NFO", "D", 75)


async def test_a_margin_counts_every_line(call: Client) -> None:
    lines = [
        {"instrument_key": RELIANCE, "quantity": 10, "transaction_type": "BUY", "product": "I", "price": 1405.0},
        {"instrument_key": CALL, "quantity": 75, "transaction_type": "BUY", "product": "D"},
    ]

    data = await call("POST", "/v2/charges/margin", {"instruments": lines})

    assert [row["total_margin"] for row in data["margins"]] == [2810.0, 9000.0]
    assert data["required_margin"] == data["final_margin"] == 11_810.0


async def test_the_status_follows_the_phase_and_tells_the_auction(options: UpstoxEmulator, call: Client) -> None:
    before = await call("GET", "/v2/market/status/NSE")
    await options.market.enter_phase(pb.NORMAL_CLOSE, closing_auction="CAS_LM_START")
    after = [await call("GET", f"/v2/market/status/{exchange}") for exchange in ("NSE", "NFO")]

    assert (before["status"], "cas_eligible_status" in before) == ("NORMAL_OPEN", False)
    assert [row["status"] for row in after] == ["NORMAL_CLOSE"] * 2
    assert after[0]["cas_eligible_status"]["status"] == "CAS_LM_START"
    assert "cas_eligible_status" not in after[1]


async def test_holidays_and_timings_come_from_the_calendar(call: Client) -> None:
    year = await call("GET", "/v2/market/holidays")
    republic_day = await call("GET", "/v2/market/holidays/2026-01-26")
    plain = await call("GET", "/v2/market/holidays/2026-10-06")
    hours = await call("GET", "/v2/market/timings/2026-10-06")
    closed = await call("GET", "/v2/market/timings/2026-01-26")

    assert republic_day[0] in year
    assert (republic_day[0]["holiday_type"], plain, closed) == ("TRADING_HOLIDAY", [], [])
    lengths = {row["exchange"]: (row["end_time"] - row["start_time"]) / 60_000 for row in hours}
    assert lengths == {"NSE": 375, "NFO": 385, "BSE": 375, "BFO": 385}


async def test_calendar_calls_want_no_token(options: UpstoxEmulator) -> None:
    async with client(options, token="nobody's") as call:
        assert await call("GET", "/v2/market/timings/2026-10-06")
        assert await call.refused("GET", "/v2/market/status/NSE") == (401, "UDAPI100050")


async def test_minute_quotes_show_the_last_whole_minute_and_the_running_one(
    options: UpstoxEmulator, call: Client
) -> None:
    for price in (1401.0, 1402.0, 1403.0):
        await options.market.move("NSE:RELIANCE", price, seconds=40)

    quote = (await call("GET", "/v3/market-quote/ohlc", instrument_key=RELIANCE, interval="I1"))["NSE_EQ:RELIANCE"]

    assert (quote["prev_ohlc"]["close"], quote["live_ohlc"]["close"]) == (1402.0, 1403.0)
    assert quote["live_ohlc"]["ts"] - quote["prev_ohlc"]["ts"] == 60_000


@pytest.mark.parametrize("path", ["/v2/market-quote/ltp", "/v2/market-quote/ohlc", "/v2/market-quote/quotes"])
async def test_the_old_quotes_still_answer(call: Client, path: str) -> None:
    quote = (await call("GET", path, symbol=RELIANCE, interval="1d"))["NSE_EQ:RELIANCE"]

    assert (quote["last_price"], quote["instrument_token"]) == (1400.0, RELIANCE)


async def test_full_quotes_carry_the_auction(options: UpstoxEmulator, call: Client) -> None:
    await options.market.auction("NSE:RELIANCE", price=1399.5, quantity=52_000, reference=1400.0, imbalance=-700)

    quote = (await call("GET", "/v3/market-quote/quotes", instrument_key=RELIANCE))["NSE_EQ:RELIANCE"]

    assert quote["indicative_equilibrium_price"] == 1399.5
    assert quote["indicative_equilibrium_quantity"] == 52_000
    assert quote["indicative_imbalance_quantity_total"] == -700
    assert quote["reference_price"] == 1400.0
    assert quote["cas_eligible"] is True


@pytest.mark.parametrize(
    ("unit", "interval", "days", "allowed"),
    [
        ("minutes", 1, 31, True),
        ("minutes", 15, 32, False),
        ("minutes", 30, 92, True),
        ("hours", 1, 93, False),
        ("days", 1, 3653, True),
        ("days", 1, 3654, False),
        ("weeks", 1, 9000, True),
    ],
)
async def test_wide_spans_of_candles_are_refused(
    call: Client, unit: str, interval: int, days: int, *, allowed: bool
) -> None:
    last = date(2026, 10, 5)
    path = f"/v3/historical-candle/{RELIANCE}/{unit}/{interval}/{last}/{last - timedelta(days=days)}"

    if allowed:
        assert await call("GET", path) == {"candles": []}
    else:
        assert await call.refused("GET", path) == (400, "UDAPI1148")


async def test_the_old_candle_calls_still_answer() -> None:
    async with UpstoxEmulator(EmulatedMarket.random_walk()) as upstox, client(upstox) as call:
        days = await call("GET", f"/v2/historical-candle/{RELIANCE}/day/2026-10-05/2026-10-01")
        wrong = await call.refused("GET", f"/v2/historical-candle/intraday/{RELIANCE}/5minute")

    assert [row[0][:10] for row in days["candles"]] == ["2026-10-05", "2026-10-01"]
    assert wrong == (400, "UDAPI1147")


async def test_brokerage_is_itemised(call: Client) -> None:
    query: dict[str, Any] = {"instrument_token": RELIANCE, "quantity": 10, "price": 1400, "product": "D"}

    charges = (await call("GET", "/v2/charges/brokerage", transaction_type="BUY", **query))["charges"]

    assert (charges["brokerage"], charges["taxes"]["gst"], charges["total"]) == (14.0, 2.52, 16.52)


async def test_a_position_can_be_converted(options: UpstoxEmulator, call: Client) -> None:
    await call("POST", "/v3/order/place", order(product="I", price=1410.0))
    body = {"instrument_token": RELIANCE, "new_product": "D", "old_product": "I", "transaction_type": "BUY"}

    done = await call("PUT", "/v2/portfolio/convert-position", {**body, "quantity": 4})
    too_many = await call.refused("PUT", "/v2/portfolio/convert-position", {**body, "quantity": 40})
    rows = await call("GET", "/v2/portfolio/short-term-positions")

    assert done == {"status": "complete"}
    assert too_many == (400, "UDAPI1035")
    assert {row["product"]: row["quantity"] for row in rows} == {"I": 6, "D": 4}
    assert options.exchange.pnl().gross == 0


async def test_funds_say_what_is_left(call: Client) -> None:
    await call("POST", "/v3/order/place", order(price=1410.0))

    old = (await call("GET", "/v2/user/get-funds-and-margin"))["equity"]
    new = (await call("GET", "/v3/user/get-funds-and-margin"))["available_to_trade"]

    assert old["available_margin"] == new["total"] == 10**7 - 14_000.0
    assert new["cash_available_to_trade"]["cash"]["opening_balance"] == 10**7
    assert "total" not in new["pledge_available_to_trade"]
