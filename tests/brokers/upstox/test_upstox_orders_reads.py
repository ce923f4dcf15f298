"""Books, portfolio, money: which calls are made, and what their answers become."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from upstox_desk_kit import ID, Answer, Asked, always, limit_order, order_row, script, serving, upstox
from upstox_kit import CALL, RELIANCE, TCS, TOKEN

from hybridbroker.clock import IST
from hybridbroker.domain.orders import LimitOrder, MarketOrder, OrderStatus, Product, Side
from hybridbroker.errors import (
    ConfigurationError,
    HybridBrokerError,
    InvalidOrder,
    OrderNotFound,
    ServiceUnavailable,
    StaticIpRequired,
    TokenExpired,
    WireFormatError,
)
from hybridbroker.simulation.charges import Part


async def test_an_order_is_read_by_itself() -> None:
    async with serving(always(Answer.data(order_row()))) as server, upstox(server.url) as broker:
        order = await broker.order(ID)

    assert [each.target for each in server.asked] == [f"/v2/order/details?order_id={ID}"]
    assert (order.instrument, order.client_order_id) == (RELIANCE, "st1-42")
    assert order.placed_at == datetime(2026, 10, 1, 11, 59, 58, tzinfo=IST)


@pytest.mark.parametrize(
    "details",
    [
        Answer.refusal("UDAPI100010"),
        Answer.refusal("UDAPI1010"),
        Answer.data(None),
        Answer.data([]),
        Answer.data(order_row(order_id="261001025000009")),
    ],
)
async def test_an_order_that_is_not_found_by_itself_is_looked_for_in_the_book(details: Answer) -> None:
    answers = script(("/v2/order/details", details), ("/v2/order/retrieve-all", Answer.data([order_row()])))
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.order(ID)
        with pytest.raises(OrderNotFound):
            await broker.order("261001025000007")

    assert order.id == ID


async def test_an_order_is_found_by_its_tag_and_read_as_it_is_now() -> None:
    history = [order_row(status="put order req received"), order_row(status="open")]
    now = order_row(status="complete", filled_quantity=10, average_price=1402.4)
    answers = script(("/v2/order/history", Answer.data(history)), ("/v2/order/details", Answer.data(now)))
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.find_order("st1-42")

    assert server.asked[0].target == "/v2/order/history?tag=st1-42"
    assert order is not None
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, 10)


async def test_of_several_orders_with_one_tag_the_newest_is_found() -> None:
    older, newer = "261001025000001", "261001025000002"
    history = [order_row(order_id=newer), order_row(order_id=older), order_row(order_id=older, status="cancelled")]

    def answer(asked: Asked) -> Answer:
        if asked.path == "/v2/order/history":
            return Answer.data(history)
        return Answer.data(order_row(order_id=asked.query["order_id"][0]))

    async with serving(answer) as server, upstox(server.url) as broker:
        order = await broker.find_order("st1-42")

    assert order is not None
    assert order.id == newer


@pytest.mark.parametrize(
    "history",
    [
        Answer.data(None),
        Answer.refusal("UDAPI100010"),
        Answer.refusal("UDAPI1010"),
        Answer.refusal("UDAPI1119"),
        Answer.refusal("UDAPI100060", status=404),
        Answer(body=b"{"),
        Answer.data([order_row(tag="x")]),
    ],
)
async def test_what_the_history_does_not_show_is_looked_for_in_the_book(history: Answer) -> None:
    rows = [order_row(tag=None), order_row(order_id="261001025000002"), order_row(order_id="261001025000003", tag="y")]
    answers = script(("/v2/order/history", history), ("/v2/order/retrieve-all", Answer.data(rows)))
    async with serving(answers) as server, upstox(server.url) as broker:
        found = await broker.find_order("st1-42")
        missing = await broker.find_order("nobody")

    assert found is not None
    assert found.id == "261001025000002"
    assert missing is None


async def test_a_book_that_cannot_be_read_is_no_proof_that_an_order_is_missing() -> None:
    answers = script(("/v2/order/history", Answer.data(None)), ("/v2/order/retrieve-all", Answer(status=503)))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(ServiceUnavailable):
            await broker.find_order("st1-42")


async def test_orders_are_listed_by_age_though_their_times_are_those_of_their_last_state() -> None:
    rows = [
        order_row(order_id="261001025000003", order_timestamp="2026-10-01 09:20:00"),
        order_row(order_id="261001025000001", order_timestamp="2026-10-01 09:30:00"),
        order_row(order_id="261001025000001_2"),
        order_row(order_id="261001025000001_1"),
    ]
    async with serving(always(Answer.data(rows))) as server, upstox(server.url) as broker:
        orders = await broker.orders()

    assert [order.id.removeprefix("26100102500000") for order in orders] == ["1", "1_1", "1_2", "3"]


async def test_the_earliest_time_an_order_was_seen_with_is_kept() -> None:
    later = order_row(status="cancelled", order_timestamp="2026-10-01 12:30:00", exchange_timestamp=None)
    answers = script(("GET", Answer.data([order_row()])), ("GET", Answer.data([later])))
    async with serving(answers) as server, upstox(server.url) as broker:
        await broker.orders()
        (order,) = await broker.orders()

    assert order.placed_at == datetime(2026, 10, 1, 11, 59, 58, tzinfo=IST)
    assert order.updated_at == datetime(2026, 10, 1, 12, 30, tzinfo=IST)


@pytest.mark.parametrize("data", [None, []])
async def test_empty_books_are_empty(data: Any) -> None:
    async with serving(always(Answer.data(data))) as server, upstox(server.url) as broker:
        assert list(await broker.orders()) == []
        assert list(await broker.trades()) == []
        assert list(await broker.positions()) == []
        assert list(await broker.mtf_positions()) == []
        assert list(await broker.holdings()) == []
        assert list(await broker.gtts()) == []
        assert list(await broker.brackets()) == []
        assert list(await broker.past_trades(start=date(2026, 9, 1), end=date(2026, 9, 2))) == []


@pytest.mark.parametrize(
    "row",
    [
        order_row(transaction_type="HOLD"),
        order_row(order_type="ICEBERG"),
        order_row(product="X"),
        order_row(validity="GTC"),
        order_row(quantity="ten"),
        order_row(quantity=None),
        order_row(order_timestamp="yesterday"),
        order_row(order_id=None),
        order_row(instrument_token="NOWHERE|1", exchange="NOWHERE"),
        "text",
    ],
)
async def test_a_row_that_cannot_be_read_fails_the_book_rather_than_be_missing(row: Any) -> None:
    async with serving(always(Answer.data([order_row(), row]))) as server, upstox(server.url) as broker:
        with pytest.raises(WireFormatError):
            await broker.orders()


async def test_a_status_nobody_documented_is_unknown_with_its_text() -> None:
    async with serving(always(Answer.data([order_row(status="parked")]))) as server, upstox(server.url) as broker:
        (order,) = await broker.orders()

    assert (order.status, order.raw) == (OrderStatus.UNKNOWN, "parked")
    assert not order.is_open
    assert not order.is_final


async def test_a_key_the_registry_does_not_know_is_shown_and_not_tradable() -> None:
    rows = [
        order_row(instrument_token="NSE_FO|999", exchange="NFO", trading_symbol="NIFTY26N2425000CE"),
        order_row(order_id="2", instrument_token="NSE_FO|40001", exchange="NFO", trading_symbol="NIFTY26N2425000PE"),
        order_row(
            order_id="3", instrument_token="NSE_FO|40001", exchange="NFO", trading_symbol="NIFTY 25000 CE 24 NOV"
        ),
    ]
    async with serving(always(Answer.data(rows))) as server, upstox(server.url) as broker:
        by_id = {order.id: order for order in await broker.orders()}

    assert by_id[ID].instrument.id == "UPSTOX:NSE_FO|999"
    assert not by_id[ID].instrument.tradable
    assert by_id[ID].product is Product.MARGIN
    assert by_id["2"].instrument.id == "UPSTOX:NSE_FO|40001"
    assert by_id["3"].instrument == CALL


async def test_a_history_that_does_not_exist_is_not_found() -> None:
    async with serving(always(Answer.refusal("UDAPI100010"))) as server, upstox(server.url) as broker:
        with pytest.raises(OrderNotFound):
            await broker.order_history(ID)


FUNDS = {
    "available_to_trade": {
        "total": 51245.0,
        "cash_available_to_trade": {
            "total": 41245.0,
            "cash": {"opening_balance": 50000.0},
            "margin_used": {"total": 8755.0},
        },
        "pledge_available_to_trade": {"margin_from_pledge": {"total": 10000.0}, "margin_used": {"total": 500.0}},
    }
}


async def test_funds_are_cash_and_pledge_together() -> None:
    async with serving(always(Answer.data(FUNDS))) as server, upstox(server.url) as broker:
        funds = await broker.funds()

    assert [each.path for each in server.asked] == ["/v3/user/get-funds-and-margin"]
    assert (funds.available, funds.used, funds.opening) == (Decimal(51245), Decimal(9255), Decimal(50000))
    assert funds.collateral == Decimal(9500)


async def test_funds_with_parts_left_out_are_still_funds() -> None:
    slim = {"available_to_trade": {"total": 5.5, "cash_available_to_trade": None}}
    async with serving(always(Answer.data(slim))) as server, upstox(server.url) as broker:
        funds = await broker.funds()

    assert (funds.available, funds.used, funds.opening) == (Decimal("5.5"), Decimal(0), None)


async def test_funds_fall_back_to_the_older_call_and_stay_there() -> None:
    old = Answer.data({"equity": {"available_margin": 100.5, "used_margin": None}, "commodity": None})
    answers = script(
        ("/v3/user/get-funds-and-margin", Answer.refusal("UDAPI100060", status=404)),
        ("/v2/user/get-funds-and-margin", old),
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        first = await broker.funds()
        again = await broker.funds()

    assert first == again
    assert first.available == Decimal("100.5")
    assert [each.path.split("/")[1] for each in server.asked] == ["v3", "v2", "v2"]


async def test_funds_at_night_are_not_available() -> None:
    closed = Answer.refusal("UDAPI100072", status=423)
    async with serving(always(closed)) as server, upstox(server.url) as broker:
        with pytest.raises(ServiceUnavailable, match="UDAPI100072"):
            await broker.funds()


POSITION = {
    "exchange": "NSE",
    "multiplier": 1.0,
    "product": "I",
    "instrument_token": "NSE_EQ|INE000A01018",
    "quantity": -5,
    "average_price": 0,
    "buy_price": 0.0,
    "sell_price": 1405.4,
    "day_sell_quantity": 5,
    "day_sell_value": 7027.0,
    "realised": 0.0,
    "unrealised": None,
}


@pytest.mark.parametrize(
    ("changes", "average"),
    [
        ({}, Decimal("1405.4")),
        ({"average_price": None}, Decimal("1405.4")),
        ({"average_price": 1400.1}, Decimal("1400.1")),
        ({"quantity": 5, "buy_price": 1390.5}, Decimal("1390.5")),
        ({"quantity": 5, "buy_price": None}, Decimal(0)),
        ({"quantity": 0}, Decimal(0)),
    ],
)
async def test_a_missing_average_is_the_price_of_the_side(changes: dict[str, Any], average: Decimal) -> None:
    async with serving(always(Answer.data([{**POSITION, **changes}]))) as server, upstox(server.url) as broker:
        (position,) = await broker.positions()

    assert position.average_price == average
    assert (position.sold_quantity, position.sold_value) == (5, Decimal(7027))
    assert (position.realised_pnl, position.unrealised_pnl) == (Decimal(0), None)


HOLDING = {
    "isin": "INE000A01018",
    "instrument_token": "NSE_EQ|INE000A01018",
    "exchange": "NSE",
    "company_name": "RELIANCE INDUSTRIES LTD",
    "trading_symbol": "RELIANCE",
    "product": "D",
    "quantity": 12,
    "t1_quantity": 0,
    "cnc_used_quantity": 0,
    "collateral_quantity": 0,
    "average_price": 1266.7,
    "last_price": 1404.9,
}


@pytest.mark.parametrize(
    ("changes", "quantity", "available"),
    [
        ({}, 12, 12),
        ({"t1_quantity": 2}, 12, 10),
        ({"quantity": 0, "t1_quantity": 2}, 2, 0),
        ({"cnc_used_quantity": 3, "collateral_quantity": 4}, 12, 5),
        ({"t1_quantity": None, "cnc_used_quantity": None}, 12, 12),
    ],
)
async def test_what_can_be_sold_is_never_counted_too_high(
    changes: dict[str, Any], quantity: int, available: int
) -> None:
    async with serving(always(Answer.data([{**HOLDING, **changes}]))) as server, upstox(server.url) as broker:
        (holding,) = await broker.holdings()

    assert (holding.instrument, holding.quantity, holding.available_quantity) == (RELIANCE, quantity, available)


@pytest.mark.parametrize("average", [None, 0])
async def test_shares_from_a_bonus_have_no_average(average: Any) -> None:
    row = {**HOLDING, "average_price": average}
    async with serving(always(Answer.data([row]))) as server, upstox(server.url) as broker:
        (holding,) = await broker.holdings()

    assert holding.average_price is None


async def test_margin_asks_for_several_orders_in_one_reading_call() -> None:
    answer = Answer.data({"required_margin": 100.0, "final_margin": 80.5, "margins": []})
    orders = [limit_order(), MarketOrder(TCS, Side.SELL, quantity=3, product=Product.INTRADAY)]
    async with serving(always(answer)) as server, upstox(server.url) as broker:
        margin = await broker.margin(orders)

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v2/charges/margin")
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    first = {"instrument_key": "NSE_EQ|INE000A01018", "quantity": 10, "transaction_type": "BUY", "product": "D"}
    assert asked.json() == {
        "instruments": [
            {**first, "price": 1402.5},
            {"instrument_key": "NSE_EQ|INE000B01029", "quantity": 3, "transaction_type": "SELL", "product": "I"},
        ]
    }
    assert margin.required == Decimal("80.5")


async def test_margin_is_repeated_like_any_read() -> None:
    answers = script(("POST", Answer(status=503)), ("POST", Answer.data({"required_margin": 1})))
    async with serving(answers) as server, upstox(server.url) as broker:
        margin = await broker.margin(limit_order())

    assert server.count("POST") == 2
    assert margin.required == Decimal(1)


@pytest.mark.parametrize("count", [0, 21])
async def test_margin_of_more_than_upstox_calculates_is_refused_here(count: int) -> None:
    async with serving(always(Answer.data(None))) as server, upstox(server.url) as broker:
        with pytest.raises(InvalidOrder, match="1 to 20"):
            await broker.margin([limit_order()] * count)

    assert server.asked == []


@pytest.mark.parametrize(("others", "plan"), [("other_charges", "dp_plan"), ("otherTaxes", "dpPlan")])
async def test_charges_are_lines(others: str, plan: str) -> None:
    charges = {
        "total": 48.5,
        "brokerage": 20.0,
        "taxes": {"gst": 4.2, "stt": 14.0, "stamp_duty": 2.0},
        others: {"transaction": 8.2, "clearing": 0, "ipft": None, "sebi_turnover": 0.1},
        plan: {"name": "BASIC", "min_expense": 18.5},
    }
    async with serving(always(Answer.data({"charges": charges}))) as server, upstox(server.url) as broker:
        told = await broker.brokerage(limit_order())

    assert server.asked[0].query["price"] == ["1402.5"]
    lines = {line.name: line.amount for line in told.lines}
    assert (lines["stt"], lines["brokerage"], lines["ipft"]) == (Decimal(14), Decimal(20), Decimal(0))
    assert told.percentage == Decimal("48.5")
    assert told.depository == Decimal("18.5")
    assert [line.name for line in told.lines if line.part is Part.DEPOSITORY] == ["depository"]
    assert told.notes == ()


async def test_charges_that_do_not_add_up_say_so() -> None:
    async with serving(always(Answer.data({"charges": {"total": 5}}))) as server, upstox(server.url) as broker:
        told = await broker.brokerage(MarketOrder(RELIANCE, Side.BUY, quantity=1), price=Decimal(1400))
        with pytest.raises(InvalidOrder, match="price"):
            await broker.brokerage(MarketOrder(RELIANCE, Side.BUY, quantity=1))

    assert told.notes == ("Upstox states a total of 5",)


def past_trade(number: int, day: str) -> dict[str, Any]:
    return {
        "exchange": "NSE",
        "segment": "EQ",
        "quantity": 1,
        "amount": 10.5,
        "trade_id": str(number),
        "trade_date": day,
        "transaction_type": "SELL",
        "scrip_name": "RELIANCE",
        "price": 10.5,
        "isin": "INE000A01018",
        "symbol": "RELIANCE",
        "instrument_token": "NSE_EQ|INE000A01018",
    }


async def test_past_trades_are_read_page_by_page_oldest_first() -> None:
    pages = {"1": [past_trade(1, "2026-09-03"), past_trade(2, "2026-09-02")], "2": [past_trade(3, "2026-09-01")]}

    def answer(asked: Asked) -> Answer:
        rows = pages[asked.query["page_number"][0]]
        return Answer.of({"status": "success", "data": rows, "metaData": {"page": {"total_pages": 2}}})

    async with serving(answer) as server, upstox(server.url) as broker:
        trades = await broker.past_trades(start=date(2026, 9, 1), end=date(2026, 9, 3), segment="EQ")
        with pytest.raises(ConfigurationError, match="start is after end"):
            await broker.past_trades(start=date(2026, 9, 2), end=date(2026, 9, 1))

    assert [trade.id for trade in trades] == ["3", "2", "1"]
    assert (trades[0].instrument, trades[0].side, trades[0].traded_on) == (RELIANCE, Side.SELL, date(2026, 9, 1))
    assert server.asked[0].query["segment"] == ["EQ"]
    assert len(server.asked) == 2


READS = ["orders", "trades", "positions", "holdings", "funds", "mtf_positions", "gtts", "kill_switch_active"]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer.refusal("UDAPI100050", status=401), TokenExpired),
        (Answer.refusal("UDAPI1154", status=403), StaticIpRequired),
        (Answer(status=200, body=b"{"), WireFormatError),
        (Answer(status=200, body=b"[]"), WireFormatError),
        (Answer.of({"status": "success", "data": "text"}), WireFormatError),
        (Answer(status=200, body=b"<html></html>"), ServiceUnavailable),
    ],
)
async def test_a_refused_or_unreadable_read_is_one_of_our_errors(
    read: str, answer: Answer, expected: type[HybridBrokerError]
) -> None:
    async with serving(always(answer)) as server, upstox(server.url) as broker:
        with pytest.raises(expected):
            await getattr(broker, read)()


async def test_a_trade_of_one_order_is_asked_for_by_id() -> None:
    row = {
        "exchange": "NSE",
        "product": "D",
        "instrument_token": "NSE_EQ|INE000A01018",
        "transaction_type": "BUY",
        "quantity": 10,
        "order_id": ID,
        "exchange_timestamp": "01-Oct-2026 09:21:03",
        "average_price": 1405.4,
        "trade_id": "50201234",
        "order_timestamp": "2026-10-01 09:20:11",
    }
    async with serving(always(Answer.data([row]))) as server, upstox(server.url) as broker:
        (trade,) = await broker.trades(ID)
        with pytest.raises(OrderNotFound):
            await broker.trades("../x")

    assert [each.target for each in server.asked] == [f"/v2/order/trades?order_id={ID}"]
    assert trade.traded_at == datetime(2026, 10, 1, 9, 21, 3, tzinfo=IST)
    assert isinstance(trade.price, Decimal)


async def test_a_limit_order_of_a_stand_in_is_impossible() -> None:
    row = order_row(instrument_token="NSE_FO|999", exchange="NFO")
    async with serving(always(Answer.data(row))) as server, upstox(server.url) as broker:
        order = await broker.order(ID)
        with pytest.raises(InvalidOrder, match="cannot be traded"):
            LimitOrder(order.instrument, Side.BUY, quantity=1, price="10")
