"""Every recorded answer and every documented example about orders and the account, by name.

Files and pages about market data are named in a test of their own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import respx
from dhan_kit import API, CLIENT, RELIANCE, Table, dhan, limit_order

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.orders import forever_mapping, super_mapping, terms, update_feed
from hybridbroker.brokers.dhan.orders.account_wire import EdisRow
from hybridbroker.brokers.dhan.orders.postback import read_postback
from hybridbroker.domain.orders import LimitOrder, OrderStatus, Product, Side
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import BracketOrder, GttOrder, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import (
    ConfigurationError,
    HybridBrokerError,
    OrderNotFound,
    OrderRejected,
    ServiceUnavailable,
    TokenExpired,
    WireFormatError,
)

Call = Callable[[DhanBroker], Awaitable[Any]]
Expected = Any

ID = "112111182198"
HISTORY = {"start": date(2024, 12, 1), "end": date(2024, 12, 31)}


def place(broker: DhanBroker) -> Awaitable[Any]:
    return broker.place_order(limit_order())


def order(broker: DhanBroker) -> Awaitable[Any]:
    return broker.order(ID)


def profile(broker: DhanBroker) -> Awaitable[Any]:
    return broker._rest.profile()


def history(broker: DhanBroker) -> Awaitable[Any]:
    return broker._statements.trade_history(**HISTORY)


def ledger(broker: DhanBroker) -> Awaitable[Any]:
    return broker.ledger(**HISTORY)


def convert(broker: DhanBroker) -> Awaitable[Any]:
    terms: dict[str, Any] = {"from_product": Product.INTRADAY, "to_product": Product.DELIVERY}
    return broker.convert_position(RELIANCE, side=Side.BUY, quantity=1, **terms)


FILES: Mapping[str, tuple[Call, Expected]] = {
    "edited_or_doc_sample/DELETE_v2_orders_112111182198_200": (
        lambda b: b._rest.cancel(ID),
        "order_status='CANCELLED'",
    ),
    "edited_or_doc_sample/GET_v2_orders_112111182198_200": (order, "status=<OrderStatus.OPEN"),
    "edited_or_doc_sample/GET_v2_orders_112111182198_200_2": (order, OrderNotFound),
    "edited_or_doc_sample/GET_v2_orders_112111182198_400": (order, ServiceUnavailable),
    "edited_or_doc_sample/GET_v2_profile_200_2": (profile, "ddpi='Active'"),
    "edited_or_doc_sample/GET_v2_trades_123456789_200": (lambda b: b.trades("123456789"), WireFormatError),
    "edited_or_doc_sample/POST_v2_orders_200_2": (place, "id='112111182198'"),
    "edited_or_doc_sample/POST_v2_positions_convert_200": (convert, "None"),
    "edited_or_doc_sample/PUT_v2_orders_112111182198_201": (lambda b: b._rest.modify(ID, {}), "'PENDING'"),
    "edited_or_doc_sample/PUT_v2_orders_112111182198_400": (lambda b: b._rest.modify(ID, {}), OrderRejected),
    "recorded/GET_orders_200": (lambda b: b.orders(), "[]"),
    "recorded/GET_v2_fundlimit_200": (lambda b: b.funds(), "available=Decimal('1000000.0')"),
    "recorded/GET_v2_fundlimit_200_2": (lambda b: b.funds(), "available=Decimal('115.64')"),
    "recorded/GET_v2_ledger_from-date-2023-01-01_to-date-2023-01-31_200": (ledger, "CLOSING BALANCE"),
    "recorded/GET_v2_ledger_from-date-2024-07-01_to-date-2024-07-31_200": (ledger, "OPENING BALANCE"),
    "recorded/GET_v2_orders_200": (lambda b: b.orders(), "id='952502167319'"),
    "recorded/GET_v2_orders_401": (lambda b: b.orders(), TokenExpired),
    "recorded/GET_v2_orders_952502167319_200": (lambda b: b.order("952502167319"), "price=Decimal('0.36')"),
    "recorded/GET_v2_positions_200": (lambda b: b.positions(), "[]"),
    "recorded/GET_v2_profile_200": (profile, "ddpi='Deactive'"),
    "recorded/GET_v2_server_error_endpoint_404": (lambda b: b.orders(), ConfigurationError),
    "recorded/GET_v2_trades_200": (lambda b: b.trades(), "order_id='312507074433'"),
    "recorded/GET_v2_trades_2023-01-01_2023-01-31_0_200": (history, "[]"),
    "recorded/GET_v2_unknown_error_endpoint_404": (lambda b: b.orders(), ConfigurationError),
    "recorded/POST_v2_margincalculator_200": (lambda b: b.margin(limit_order()), "required=Decimal('7140.0')"),
    "recorded/POST_v2_orders_200": (place, "id='752502167405'"),
    "recorded/POST_v2_orders_400": (place, OrderRejected),
}
PAGED = "recorded/GET_v2_trades_2024-12-01_2024-12-31_0_200"
MARKET_DATA = ("charts", "marketfeed", "optionchain")


@pytest.fixture
def samples(shared_data: Path) -> Path:
    return shared_data / "samples"


async def ask(call: Call, *, status: int, content: bytes) -> Any:
    with respx.mock(base_url=API) as server:
        server.route().respond(status, content=content)
        async with dhan() as broker:
            return await call(broker)


async def outcome(call: Call, expected: Expected, *, status: int, content: bytes) -> None:
    if isinstance(expected, str):
        assert expected in repr(await ask(call, status=status, content=content))
        return
    with pytest.raises(HybridBrokerError) as caught:
        await ask(call, status=status, content=content)
    assert type(caught.value) is expected


@pytest.mark.parametrize("name", FILES)
async def test_a_recorded_answer_becomes(samples: Path, name: str) -> None:
    call, expected = FILES[name]
    response = json.loads((samples / "dhan_rest" / f"{name}.json").read_text())["response"]

    await outcome(call, expected, status=response["status"], content=response["body_text"].encode())


async def test_a_recorded_page_of_the_trade_history_is_read(samples: Path) -> None:
    response = json.loads((samples / "dhan_rest" / f"{PAGED}.json").read_text())["response"]
    rows = json.loads(response["body_text"])
    with respx.mock(base_url=API) as server:
        server.get(url__regex=".*/0$").respond(content=response["body_text"].encode())
        server.get(url__regex=".*/1$").respond(json=[])
        async with dhan() as broker:
            found = await broker.trade_history(**HISTORY)

    assert len(found) == len(rows)
    assert sum(each.brokerage for each in found) == sum(Decimal(str(row["brokerageCharges"])) for row in rows)
    assert sum(each.trade.value for each in found) == sum(
        Decimal(str(row["tradedPrice"])) * row["tradedQuantity"] for row in rows
    )


def test_every_recording_is_named(samples: Path) -> None:
    files = {f"{path.parent.name}/{path.name.partition('.')[0]}" for path in (samples / "dhan_rest").rglob("*.json*")}
    ours = {name for name in files if not any(word in name for word in MARKET_DATA)}

    assert ours == {*FILES, PAGED}


async def test_what_repositories_report_becomes_the_right_error(samples: Path) -> None:
    reported = json.loads((samples / "reported_errors_and_incidents.json").read_text())["dhan_rest_error_bodies"]
    reads = {"Invalid Token": TokenExpired, "DH-901": TokenExpired, "Not Found": ConfigurationError}
    for each in reported:
        text = json.dumps(each["body"])
        as_read = next((error for word, error in reads.items() if word in text), ServiceUnavailable)
        as_write = as_read if as_read is not ServiceUnavailable else OrderRejected

        await outcome(lambda b: b.funds(), as_read, status=each["http"], content=text.encode())
        if each["http"] < 500:
            await outcome(place, as_write, status=each["http"], content=text.encode())


# Documented examples: page -> heading -> what its answers become, in order. None is a request, see below.

DOCS: Mapping[str, Mapping[str, list[tuple[Call, Expected] | None]]] = {
    "03-orders.md": {
        "Orders > Order Placement": [None],
        "Order Placement > Order Modification": [None, (lambda b: b._rest.modify("1", {}), "TRANSIT")],
        "Order Modification > Order Cancellation": [(lambda b: b._rest.cancel("1"), "CANCELLED")],
        "Order Cancellation > Order Slicing": [None],
        "Trade Book > Trades of an Order": [(lambda b: b.trades("112111182045"), "quantity=40")],
    },
    "04-super-order.md": {
        "Super Order > Place Super Order": [None],
        "Place Super Order > Modify Super Order": [
            None,
            None,
            None,
            (lambda b: b._supers._rest.modify_super("1", {"legName": "x"}), "TRANSIT"),
        ],
        "Modify Super Order > Cancel Super Order": [
            (lambda b: b._supers._rest.cancel_super("1", "ENTRY_LEG"), "CANCELLED")
        ],
        "Cancel Super Order > Super Order List": [(lambda b: b.brackets(), "trail=Decimal('10')")],
    },
    "05-forever-order.md": {
        "Forever Order > Create Forever Order": [
            (lambda b: b._forevers._rest.place_forever({}, client_order_id="x"), "5132208051112")
        ],
        "Create Forever Order > Modify Forever Order": [
            None,
            (lambda b: b._forevers._rest.modify_forever("1", {"legName": "x"}), "PENDING"),
        ],
        "Modify Forever Order > Delete Forever Order": [(lambda b: b._forevers._rest.cancel_forever("1"), "CANCELLED")],
        "Delete Forever Order > All Forever Order Detail": [(lambda b: b.gtts(), "trigger_price=Decimal('1427')")],
    },
    "07-portfolio-and-positions.md": {
        "Portfolio and Positions > Holdings": [(lambda b: b.holdings(), "quantity=1000")],
        "Positions > Convert Position": [None],
        "Convert Position > Exit All Positions": [(lambda b: b.exit_all(), "None")],
    },
    "08-edis.md": {
        "Generate T-PIN > Generate eDIS Form": [None],
        "Generate eDIS Form > EDIS Status & Inquiry": [(lambda b: b.edis_approval(RELIANCE), "approved=4")],
    },
    "09-traders-control.md": {
        "Trader's Control > Manage Kill Switch": [(lambda b: b.activate_kill_switch(), "None")],
        "Manage Kill Switch > Kill Switch Status": [(lambda b: b.kill_switch_active(), "True")],
        "Kill Switch Status > P&L Based Exit": [None, (lambda b: b.set_pnl_exit(profit=1, loss=1), "None")],
        "P&L Based Exit > Stop P&L Based Exit": [(lambda b: b.cancel_pnl_exit(), "None")],
        "Stop P&L Based Exit > Get P&L Based Exit": [(lambda b: b.pnl_exit(), "loss=Decimal('500.00')")],
    },
    "10-funds-and-margin.md": {
        "Margin Calculator > Single Order": [(lambda b: b.margin(limit_order()), "required=Decimal('2800.0')")],
        "Single Order > Multi Order": [None, None],
        "Multi Order > Fund Limit": [(lambda b: b.funds(), "available=Decimal('98440.0')")],
    },
    "11-statement.md": {
        "Statement > Ledger Report": [(ledger, "balance=Decimal('957.29')")],
        "Ledger Report > Trade History": [None],
    },
    "12-postback.md": {"Postback > Postback Payload": [None]},
    "13-live-order-update.md": {"Establishing Connection > For Individual": [None]},
}
NOT_SUPPORTED = {"06-conditional-trigger.md"}
LOGIN_AND_DATA = {
    "01-introduction.md",
    "02-authentication.md",
    "14-market-quote.md",
    "15-live-market-feed.md",
    "16-full-market-depth.md",
    "17-historical-data.md",
    "18-expired-options-data.md",
    "19-option-chain.md",
}


def documented(samples: Path) -> Mapping[str, list[dict[str, Any]]]:
    pages: Mapping[str, list[dict[str, Any]]] = json.loads(
        (samples / "doc_samples" / "dhan_docs_json_examples.json").read_text()
    )
    return pages


def example(samples: Path, page: str, under: str, index: int = 0) -> Any:
    return [each["example"] for each in documented(samples)[page] if each["under"] == under][index]


def test_every_documented_page_and_example_is_named(samples: Path) -> None:
    pages = documented(samples)

    assert set(pages) == {*DOCS, *NOT_SUPPORTED, *LOGIN_AND_DATA}
    for page, headings in DOCS.items():
        counted: dict[str, int] = {}
        for each in pages[page]:
            counted[each["under"]] = counted.get(each["under"], 0) + 1
        assert counted == {under: len(answers) for under, answers in headings.items()}


@pytest.mark.parametrize(
    ("page", "under", "index"),
    [
        (page, under, index)
        for page, headings in DOCS.items()
        for under, answers in headings.items()
        for index, answer in enumerate(answers)
        if answer is not None
    ],
)
async def test_a_documented_answer_becomes(samples: Path, page: str, under: str, index: int) -> None:
    answer = DOCS[page][under][index]
    assert answer is not None

    await outcome(*answer, status=200, content=json.dumps(example(samples, page, under, index)).encode())


async def test_the_documented_page_of_the_trade_history_is_read(samples: Path) -> None:
    rows = example(samples, "11-statement.md", "Ledger Report > Trade History")
    with respx.mock(base_url=API) as server:
        server.get(url__regex=".*/0$").respond(json=rows)
        server.get(url__regex=".*/1$").respond(json=[])
        async with dhan() as broker:
            (found,) = await broker.trade_history(**HISTORY)

    assert (found.trade.instrument.symbol, found.charges) == ("Tata Motors", Decimal("0.0164"))


async def test_the_documented_margin_of_several_is_read(samples: Path) -> None:
    answer = example(samples, "10-funds-and-margin.md", "Single Order > Multi Order", 1)
    with respx.mock(base_url=API) as server:
        server.post("/margincalculator/multi").respond(json=answer)
        server.get("/fundlimit").respond(json=example(samples, "10-funds-and-margin.md", "Multi Order > Fund Limit"))
        async with dhan() as broker:
            margin = await broker.margin([limit_order(), limit_order()])

    assert margin.required == Decimal("150000.00")


async def test_the_documented_lists_are_told_leg_by_leg(samples: Path) -> None:
    supers = example(samples, "04-super-order.md", "Cancel Super Order > Super Order List")
    forevers = example(samples, "05-forever-order.md", "Delete Forever Order > All Forever Order Detail")
    with respx.mock(base_url=API) as server:
        server.get("/super/orders").respond(json=supers)
        server.get("/forever/orders").respond(json=forevers)
        async with dhan() as broker:
            (bracket,), (gtt,) = await broker.brackets(), await broker.gtts()

    assert [(leg.role, leg.trigger_price, leg.quantity) for leg in bracket.legs] == [
        (LegRole.ENTRY, None, 10),
        (LegRole.TARGET, Decimal(1550), 10),
        (LegRole.STOP, Decimal(1400), 10),
    ]
    assert [(leg.role, leg.status, leg.price) for leg in gtt.legs] == [(LegRole.ENTRY, LegStatus.ARMED, Decimal(1428))]


def test_the_documented_postback_is_an_order(samples: Path) -> None:
    body = json.dumps(example(samples, "12-postback.md", "Postback > Postback Payload")).encode()

    found = read_postback(body, instruments=Table())

    assert (found.id, found.status, found.filled_quantity) == ("112111182198", OrderStatus.PARTIALLY_FILLED, 1)


def test_the_documented_edis_answer_is_read_with_text_too(samples: Path) -> None:
    answer = example(samples, "08-edis.md", "Generate eDIS Form > EDIS Status & Inquiry")

    assert EdisRow.read({**answer, "totalQty": "10", "aprvdQty": "4"}, what="it") == EdisRow.read(answer, what="it")


def test_what_we_ask_has_the_documented_fields_and_no_others(samples: Path) -> None:
    key = Table().key(RELIANCE, "dhan")
    me: dict[str, Any] = {"client_id": CLIENT}
    shares: dict[str, Any] = {"quantity": 10, "client_order_id": "x"}
    amo = LimitOrder(RELIANCE, Side.BUY, price=1400, after_market=True, disclosed_quantity=4, **shares)
    bracket = BracketOrder(RELIANCE, Side.BUY, price=1400, target_price=1430, stop_price=1385, **shares)
    sliced = SlicedOrder(RELIANCE, Side.BUY, price=1400, **shares)
    asked = [
        (terms.order_to_wire(amo, key=key, **me), "03-orders.md", "Orders > Order Placement", 0),
        (
            terms.modification_to_wire("1", amo, **me),
            "03-orders.md",
            "Order Placement > Order Modification",
            0,
        ),
        (terms.sliced_to_wire(sliced, key=key, **me), "03-orders.md", "Order Cancellation > Order Slicing", 0),
        (
            super_mapping.super_to_wire(bracket, key=key, **me),
            "04-super-order.md",
            "Super Order > Place Super Order",
            0,
        ),
    ]
    for body, page, under, index in asked:
        fields = example(samples, page, under, index)
        assert set(body) <= set(fields), page
        assert not {name for name, value in body.items() if value in ("", None)}


def test_forever_orders_are_asked_for_with_the_documented_fields() -> None:
    documented_fields = {
        "dhanClientId", "correlationId", "orderFlag", "transactionType", "exchangeSegment", "productType", "orderType",
        "validity", "securityId", "quantity", "disclosedQuantity", "price", "triggerPrice", "price1", "triggerPrice1",
        "quantity1",
    }  # fmt: skip
    key = Table().key(RELIANCE, "dhan")
    single = GttOrder(RELIANCE, Side.SELL, quantity=1, trigger=Trigger(1350), client_order_id="x")
    pair = OcoOrder(RELIANCE, Side.SELL, quantity=1, target=Trigger(1450), stop=Trigger(1350), client_order_id="x")

    for request in (single, pair):
        assert set(forever_mapping.forever_to_wire(request, key=key, client_id=CLIENT)) <= documented_fields


def test_the_documented_login_is_the_one_we_send(samples: Path) -> None:
    login = example(samples, "13-live-order-update.md", "Establishing Connection > For Individual")

    assert set(json.loads(update_feed.login_frame(_token()))) == set(login)


def _token() -> Any:
    from pydantic import SecretStr

    from hybridbroker.brokers.dhan.auth import AccessToken

    return AccessToken(client_id=CLIENT, secret=SecretStr("x"))
