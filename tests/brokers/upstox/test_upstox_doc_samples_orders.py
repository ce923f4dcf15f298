"""Every JSON example of Upstox's documentation about orders, portfolio, funds and account, read by the client.

`READ` names each example this module covers and what it must become; those about prices are in
the module for data. Examples of requests are compared with what the client sends.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
import pytest
import respx
from upstox_kit import Lookup, settings, share

from hybridbroker.brokers.upstox.broker import UpstoxBroker
from hybridbroker.brokers.upstox.faults import Call, fault
from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.mapping import (
    holding_from_wire,
    order_from_wire,
    position_from_wire,
    unlisted,
)
from hybridbroker.brokers.upstox.orders.standing import standing_from_wire
from hybridbroker.brokers.upstox.orders.update_feed import read_message
from hybridbroker.clock import IST
from hybridbroker.domain.orders import LimitOrder, MarketOrder, OrderStatus, Product, Side
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import Bracket, Gtt, GttOrder, LegRole, LegStatus, Trigger
from hybridbroker.errors import HybridBrokerError, OrderOutcomeUnknown, OrderRejected, TokenExpired, Unsupported
from hybridbroker.testing.clock import ManualClock
from hybridbroker.transport.http import Response

HOST: Final = "https://api.upstox.com"
HFT: Final = "https://api-hft.upstox.com"

SBIN = attrs.evolve(share("SBIN"), isin="INE062A01020", tick_size=Decimal("0.05"))
NHPC = attrs.evolve(share("NHPC"), isin="INE848E01016", tick_size=Decimal("0.01"))
IDEA = attrs.evolve(share("IDEA"), isin="INE669E01016", tick_size=Decimal("0.01"))
KEYS = {each: f"NSE_EQ|{each.isin}" for each in (SBIN, NHPC, IDEA)}

Sample = Any
Read = Callable[["Desk", Sample], Awaitable[None]]
READ: dict[str, Read] = {}


@attrs.frozen
class Desk:
    broker: UpstoxBroker
    router: respx.MockRouter

    def answers(self, method: str, path: str, body: Sample, *, host: str = HOST, status: int = 200) -> respx.Route:
        return self.router.request(method, url__startswith=host + path).mock(
            return_value=httpx.Response(status, json=body)
        )


def reads(*names: str) -> Callable[[Read], Read]:
    def keep(read: Read) -> Read:
        READ.update(dict.fromkeys(names, read))
        return read

    return keep


@pytest.fixture(scope="module")
def samples(shared_data: Path) -> Mapping[str, list[Sample]]:
    text = (shared_data / "samples" / "doc_samples" / "upstox_docs_json_examples.json").read_text()
    found: Mapping[str, list[Sample]] = json.loads(text)
    return found


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    with respx.mock(assert_all_called=False) as router:
        at_home = settings(HOST, keep_warm_seconds=0)
        async with UpstoxBroker(at_home, instruments=Lookup(KEYS), clock=ManualClock()) as broker:
            yield Desk(broker, router)


# Orders


@reads("v3/place-order[0]")
async def _placed(desk: Desk, sample: Sample) -> None:
    desk.answers("POST", "/v3/order/place", sample, host=HFT)
    book = [
        {**_ROW, "order_id": each, "quantity": quantity}
        for each, quantity in zip(sample["data"]["order_ids"], (40, 40, 20), strict=True)
    ]
    desk.answers("GET", "/v2/order/retrieve-all", {"status": "success", "data": book})

    sliced = await desk.broker.place_sliced(SlicedOrder(SBIN, Side.BUY, quantity=100))

    assert [each.id for each in sliced.orders] == ["1644490272000", "1644490272001", "1644490272003"]
    assert sliced.placed_quantity == 100


_ROW: Final = {
    "order_id": "1",
    "instrument_token": "NSE_EQ|INE062A01020",
    "product": "D",
    "order_type": "MARKET",
    "validity": "DAY",
    "transaction_type": "BUY",
    "status": "open",
    "quantity": 1,
}


@reads("v3/place-order[1]")
async def _place_body(desk: Desk, sample: Sample) -> None:
    answer = {"status": "success", "data": {"order_ids": ["1", "2"]}}
    route = desk.answers("POST", "/v3/order/place", answer, host=HFT)
    desk.answers(
        "GET",
        "/v2/order/retrieve-all",
        {"status": "success", "data": [{**_ROW, "order_id": each} for each in ("1", "2")]},
    )

    await desk.broker.place_sliced(SlicedOrder(NHPC, Side.BUY, quantity=1, client_order_id="string"))

    # The example is older than market protection, which is stated always.
    assert json.loads(route.calls.last.request.content) == {**sample, "market_protection": -1}


@reads("place-order[1]")
async def _old_place_body(desk: Desk, sample: Sample) -> None:
    route = desk.answers("POST", "/v3/order/place", {"status": "success", "data": {"order_ids": ["1"]}}, host=HFT)

    await desk.broker.place_order(MarketOrder(NHPC, Side.BUY, quantity=1, client_order_id="string"))

    assert json.loads(route.calls.last.request.content) == {**sample, "slice": False, "market_protection": -1}


@reads("place-order[0]")
async def _old_ack(desk: Desk, sample: Sample) -> None:
    desk.answers("POST", "/v3/order/place", sample, host=HFT)

    order = await desk.broker.place_order(LimitOrder(SBIN, Side.BUY, quantity=1, price="571"))

    assert (order.id, order.status) == ("1644490272000", OrderStatus.PENDING)


@reads("v3/modify-order[0]", "modify-order[0]")
async def _modified(desk: Desk, sample: Sample) -> None:
    row = {**_ROW, "order_id": "1644490272000", "order_type": "LIMIT", "price": 120.0}
    desk.answers("GET", "/v2/order/details", {"status": "success", "data": {**row, "price": 120.05}})
    desk.answers("PUT", "/v3/order/modify", sample, host=HFT)

    order = await desk.broker.modify_order("1644490272000", price=Decimal("120.05"))

    assert order.price == Decimal("120.05")


@reads("v3/modify-order[1]", "modify-order[1]")
async def _modify_body(desk: Desk, sample: Sample) -> None:
    row = {**_ROW, "order_id": "1644490272000", "instrument_token": "NSE_EQ|INE669E01016", "price": 120.5}
    desk.answers("GET", "/v2/order/details", {"status": "success", "data": row})
    route = desk.answers("PUT", "/v3/order/modify", {"status": "success", "data": {"order_id": "1"}}, host=HFT)

    await desk.broker.modify_order("1644490272000", price=Decimal("120.01"))

    # The example gives a market order a price; here that makes it the limit order it has to be.
    assert json.loads(route.calls.last.request.content) == {**sample, "order_type": "LIMIT"}


@reads("v3/cancel-order[0]", "cancel-order[0]")
async def _cancelled(desk: Desk, sample: Sample) -> None:
    route = desk.answers("DELETE", "/v3/order/cancel", sample, host=HFT)
    row = {**_ROW, "order_id": "1644490272000", "status": "cancelled"}
    desk.answers("GET", "/v2/order/details", {"status": "success", "data": row})

    order = await desk.broker.cancel_order("1644490272000")

    assert order.status is OrderStatus.CANCELLED
    assert route.calls.last.request.url.query == b"order_id=1644490272000"


@reads("cancel-multi-order[0]")
async def _all_cancelled(desk: Desk, sample: Sample) -> None:
    desk.answers("DELETE", "/v2/order/multi/cancel", sample)

    batch = await desk.broker.cancel_all()

    assert batch.order_ids == ("1644490272000", "1644490272001", "1644490272003")
    assert batch.is_complete


@reads("cancel-multi-order[1]")
async def _some_cancelled(desk: Desk, sample: Sample) -> None:
    desk.answers("DELETE", "/v2/order/multi/cancel", sample, status=207)

    batch = await desk.broker.cancel_all()

    assert len(batch.order_ids) == 3
    assert [(each.order_id, each.key, each.code) for each in batch.refused] == [
        ("240923010689802", "MCX_FO|436245", "UDAPI100500")
    ]


@reads("cancel-multi-order[2]")
async def _none_cancelled(desk: Desk, sample: Sample) -> None:
    desk.answers("DELETE", "/v2/order/multi/cancel", sample)

    # What their own failure left of an order nobody can tell.
    with pytest.raises(OrderOutcomeUnknown, match="Something went wrong"):
        await desk.broker.cancel_all()


@reads("exit-all-positions[0]")
async def _all_exited(desk: Desk, sample: Sample) -> None:
    desk.answers("POST", "/v2/order/positions/exit", sample)

    assert len((await desk.broker.exit_all()).order_ids) == 3


@reads("exit-all-positions[1]")
async def _some_exited(desk: Desk, sample: Sample) -> None:
    desk.answers("POST", "/v2/order/positions/exit", sample, status=207)

    batch = await desk.broker.exit_all()

    assert [each.code for each in batch.refused] == ["UDAPI1113", "UDAPI100500"]
    assert batch.refused[0].key == "NSE_EQ|INE002A01018"


@reads("exit-all-positions[2]")
async def _nothing_to_exit(desk: Desk, sample: Sample) -> None:
    desk.answers("POST", "/v2/order/positions/exit", sample, status=400)
    desk.answers("GET", "/v2/portfolio/short-term-positions", {"status": "success", "data": None})

    assert (await desk.broker.exit_all()).order_ids == ()


@reads("get-order-details[0]")
async def _details(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/order/details", sample)

    order = await desk.broker.order("231019025562880")

    assert (order.instrument, order.side, order.product) == (SBIN, Side.BUY, Product.DELIVERY)
    assert (order.status, order.filled_quantity, order.average_price) == (OrderStatus.FILLED, 1, Decimal("570.95"))
    assert order.exchange_order_id == "1300000025660919"
    assert order.updated_at == datetime(2023, 10, 19, 13, 25, 13, tzinfo=IST)
    assert order.client_order_id is None


@reads("get-order-history[0]")
async def _history(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/order/history", sample)

    states = await desk.broker.order_history("231019025564798")

    assert [order.raw for order in states] == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
        "open",
        "complete",
    ]
    assert [order.status for order in states[2:]] == [
        OrderStatus.PENDING,
        OrderStatus.OPEN,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.FILLED,
    ]


@reads("get-order-book[0]")
async def _book(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/order/retrieve-all", {"status": "success", "data": sample})

    orders = await desk.broker.orders()

    assert [order.id for order in orders] == ["231019025000398", "231019025000428", "231019025057849"]
    refused, cancelled, filled = orders
    assert refused.status is OrderStatus.REJECTED
    assert (refused.reason or "").startswith("You need to add Rs. 138385.27")
    assert refused.exchange_order_id is None
    assert cancelled.status is OrderStatus.CANCELLED
    assert (filled.status, filled.instrument.id) == (OrderStatus.FILLED, "UPSTOX:BSE_EQ|INE220J01025")


@reads("get-trade-history[0]", "get-trades-by-order[0]")
async def _trades(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/order/trades", sample)

    (by_order,) = await desk.broker.trades("221013001021539")
    (by_day,) = await desk.broker.trades()

    assert by_order == by_day
    assert (by_day.id, by_day.price, by_day.quantity) == ("50091502", Decimal("299.4"), 1)
    assert by_day.traded_at == datetime(2017, 8, 3, 15, 3, 42, tzinfo=IST)
    assert by_day.instrument.id == "UPSTOX:151064324"


@reads("get-historical-trades[0]")
async def _past_trades(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/charges/historical-trades", sample)

    (trade,) = await desk.broker.past_trades(start=date(2023, 3, 28), end=date(2023, 3, 29))

    assert (trade.id, trade.traded_on, trade.side) == ("75217259", date(2023, 3, 28), Side.BUY)
    assert trade.amount == Decimal("2252.35")


# Standing orders


@reads("place-gtt-order[0]")
async def _gtt_placed(desk: Desk, sample: Sample) -> None:
    desk.answers("POST", "/v3/order/gtt/place", sample)
    quote = {"instrument_token": KEYS[SBIN], "last_price": 600.0}
    desk.answers("GET", "/v3/market-quote/ltp", {"status": "success", "data": {"NSE_EQ:SBIN": quote}})

    gtt = await desk.broker.place_gtt(GttOrder(SBIN, Side.BUY, quantity=1, trigger=Trigger("590")))

    assert gtt.id == "GTT-CU25280200021013"


@reads("modify-gtt-order[0]", "modify-gtt-order[1]")
async def _gtt_modified(desk: Desk, sample: Sample) -> None:
    gtt_id = "GTT-CU25090600027002"
    rule = {"strategy": "ENTRY", "status": "SCHEDULED", "trigger_type": "BELOW", "transaction_type": "BUY"}
    row = {
        "gtt_order_id": gtt_id,
        "type": "SINGLE",
        "quantity": 2,
        "product": "D",
        "instrument_token": "NSE_EQ|INE669E01016",
        "rules": [{**rule, "trigger_price": 31}],
    }
    desk.answers("GET", "/v3/order/gtt", {"status": "success", "data": [row]})
    answer = sample if "data" in sample else {"status": "success", "data": {"gtt_order_ids": [gtt_id]}}
    route = desk.answers("PUT", "/v3/order/gtt/modify", answer)

    await desk.broker.modify_gtt(gtt_id, quantity=1, trigger=Trigger("30"))

    if "data" not in sample:
        (rule,) = sample["rules"]
        expected = {**sample, "rules": [{**rule, "market_protection": -1}]}
        assert json.loads(route.calls.last.request.content) == expected


@reads("cancel-gtt-order[0]")
async def _gtt_cancelled(desk: Desk, sample: Sample) -> None:
    gtt_id = "GTT-CU25280200018007"
    rule = {"strategy": "ENTRY", "status": "SCHEDULED", "transaction_type": "BUY", "trigger_price": 30}
    row = {
        "gtt_order_id": gtt_id,
        "type": "SINGLE",
        "quantity": 1,
        "product": "D",
        "instrument_token": KEYS[IDEA],
        "rules": [rule],
    }
    desk.answers("GET", "/v3/order/gtt", {"status": "success", "data": [row]})
    route = desk.answers("DELETE", "/v3/order/gtt/cancel", sample)

    await desk.broker.cancel_gtt(gtt_id)

    assert json.loads(route.calls.last.request.content) == {"gtt_order_id": gtt_id}


@reads("get-gtt-order-details[0]")
async def _gtt_details(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v3/order/gtt", sample)

    (gtt,) = await desk.broker.gtts()

    assert (gtt.id, gtt.instrument, gtt.side) == ("GTT-C25090600141213", IDEA, Side.BUY)
    assert gtt.legs[0].status is LegStatus.ARMED
    assert gtt.legs[0].trigger_price == Decimal(100)
    assert gtt.placed_at == datetime(2025, 6, 9, 16, 16, 50, tzinfo=IST)
    assert gtt.expires_at is not None
    assert (gtt.expires_at - gtt.placed_at).days == 365


# Portfolio and money


@reads("get-positions[0]")
async def _positions(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/portfolio/short-term-positions", sample)

    option, share_, _, currency, closed = await desk.broker.positions()

    assert (option.quantity, option.average_price, option.product) == (15, Decimal("2.65"), Product.MARGIN)
    assert (option.bought_quantity, option.bought_value) == (15, Decimal("39.75"))
    assert (share_.quantity, share_.average_price, share_.product) == (1, Decimal("0.8"), Product.DELIVERY)
    assert currency.bought_value == Decimal(5)
    assert (closed.quantity, closed.average_price, closed.instrument) == (0, Decimal(0), SBIN)
    assert (closed.bought_value, closed.sold_value) == (Decimal("570.95"), Decimal("571.4"))


@reads("get-mtf-positions[0]")
async def _mtf_positions(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v3/portfolio/mtf-positions", sample)

    first, second = await desk.broker.mtf_positions()

    assert (first.product, first.quantity, first.bought_quantity) == (Product.MTF, 7, 7)
    assert first.bought_value == Decimal("4285.00")
    assert second.average_price == Decimal(2915)


@reads("convert-positions[0]")
async def _converted(desk: Desk, sample: Sample) -> None:
    desk.answers("PUT", "/v2/portfolio/convert-position", sample)

    await desk.broker.convert_position(
        SBIN, side=Side.BUY, quantity=5, from_product=Product.INTRADAY, to_product=Product.DELIVERY
    )


@reads("get-holdings[0]")
async def _holdings(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/portfolio/long-term-holdings", sample)

    first, second = await desk.broker.holdings()

    assert (first.quantity, first.available_quantity, first.average_price) == (36, 36, Decimal("18.75"))
    assert (first.instrument.symbol, first.instrument.isin) == ("YESBANK", "INE528G01035")
    assert second.last_price == Decimal("174.85")


@reads("get-user-fund-margin[0]")
async def _funds(desk: Desk, sample: Sample) -> None:
    gone = {"status": "error", "errors": [{"errorCode": "UDAPI100060", "message": "Resource not Found."}]}
    desk.answers("GET", "/v3/user/get-funds-and-margin", gone, status=404)
    desk.answers("GET", "/v2/user/get-funds-and-margin", sample)

    funds = await desk.broker.funds()

    assert (funds.available, funds.used) == (Decimal("15507.46"), Decimal("0.8"))


@reads("margin[0]")
async def _margin(desk: Desk, sample: Sample) -> None:
    desk.answers("POST", "/v2/charges/margin", sample)

    margin = await desk.broker.margin(LimitOrder(SBIN, Side.BUY, quantity=1, price="571"))

    assert margin.required == Decimal("33.6")


# The portfolio stream, and postbacks, which are the same messages


@reads("get-portfolio-stream-feed[0]", "webhook[0]")
async def _order_message(_: Desk, sample: Sample) -> None:
    row = read_message(json.dumps(sample))

    assert isinstance(row, wire.OrderRow)
    order = order_from_wire(row, instrument=NHPC)
    assert (order.id, order.status, order.type.value) == ("240221025997024", OrderStatus.PENDING, "market")
    assert order.exchange_order_id is None


@reads("get-portfolio-stream-feed[1]", "webhook[1]")
async def _gtt_message(_: Desk, sample: Sample) -> None:
    row = read_message(json.dumps(sample))

    assert isinstance(row, wire.GttRow)
    stand_in = unlisted(row.instrument_key, exchange=row.exchange, symbol=None)
    bracket = standing_from_wire(row, instrument=stand_in, client_order_id=None)
    assert isinstance(bracket, Bracket)
    assert [leg.role for leg in bracket.legs] == [LegRole.ENTRY, LegRole.TARGET, LegRole.STOP]
    assert [leg.status for leg in bracket.legs] == [LegStatus.REJECTED, LegStatus.CANCELLED, LegStatus.CANCELLED]
    assert (bracket.legs[0].reason or "").startswith("The price set should be within the circuit limits")
    assert bracket.legs[0].order_id == "250228010168535"
    assert not bracket.is_live


@reads("get-portfolio-stream-feed[2]")
async def _holding_message(_: Desk, sample: Sample) -> None:
    row = read_message(json.dumps(sample))

    assert isinstance(row, wire.HoldingRow)
    assert holding_from_wire(row, instrument=NHPC).quantity == 3


@reads("get-portfolio-stream-feed[3]")
async def _position_message(_: Desk, sample: Sample) -> None:
    row = read_message(json.dumps(sample))

    assert isinstance(row, wire.PositionRow)
    position = position_from_wire(row, instrument=NHPC)
    assert (position.quantity, position.average_price) == (2, Decimal("92.925"))
    assert position.unrealised_pnl is None


@reads("get-portfolio-stream-feed-authorize[0]")
async def _address(desk: Desk, sample: Sample) -> None:
    desk.answers("GET", "/v2/feed/portfolio-stream-feed/authorize", sample)

    address = await desk.broker._rest.updates_address(["order"])

    assert address == "wss://REDACTED"


COVERED: Final = frozenset(READ)


@pytest.mark.parametrize("name", sorted(READ))
async def test_an_example_of_the_documentation_is_read(
    name: str, samples: Mapping[str, list[Sample]], desk: Desk
) -> None:
    page, _, index = name.rstrip("]").rpartition("[")

    await READ[name](desk, samples[page][int(index)])


ABOUT_ORDERS: Final = (
    "v3/place-order",
    "v3/modify-order",
    "v3/cancel-order",
    "place-order",
    "modify-order",
    "cancel-order",
    "cancel-multi-order",
    "exit-all-positions",
    "get-order-details",
    "get-order-history",
    "get-order-book",
    "get-trade-history",
    "get-trades-by-order",
    "get-historical-trades",
    "place-gtt-order",
    "modify-gtt-order",
    "cancel-gtt-order",
    "get-gtt-order-details",
    "get-positions",
    "get-mtf-positions",
    "convert-positions",
    "get-holdings",
    "get-user-fund-margin",
    "margin",
    "get-portfolio-stream-feed",
    "get-portfolio-stream-feed-authorize",
    "webhook",
)


def test_no_example_about_orders_is_left_out(samples: Mapping[str, list[Sample]]) -> None:
    every = {f"{page}[{index}]" for page in ABOUT_ORDERS for index in range(len(samples[page]))}

    assert every == COVERED


@pytest.mark.parametrize(
    ("page", "index", "call", "expected"),
    [
        pytest.param("place-multi-order", 2, "order", OrderRejected, id="two errors in one body"),
        pytest.param("cancel-multi-order", 2, "read", HybridBrokerError, id="an error with data null"),
        pytest.param("exit-all-positions", 2, "exit-all", OrderRejected, id="both spellings"),
        pytest.param("access-token-request", 1, "login", HybridBrokerError, id="no notifier"),
    ],
)
def test_an_error_of_the_documentation_is_an_exception(
    samples: Mapping[str, list[Sample]], page: str, index: int, call: Call, expected: type[HybridBrokerError]
) -> None:
    body = json.dumps(samples[page][index]).encode()

    error = fault(Response(status=400, body=body, request="GET /v2/x"), call=call)

    assert isinstance(error, expected)


def test_the_recorded_refusals_are_exceptions(shared_data: Path) -> None:
    folder = shared_data / "samples" / "upstox_rest"
    logout = json.loads((folder / "LoginApi_logout_401_UDAPI100050.json").read_text())["response"]
    wrong = (folder / "instrument_master_wrong_url_body_saved_as_NSE.json.gz.bin").read_bytes()

    refused = fault(Response(status=logout["status"], body=logout["body_text"].encode(), request="x"), call="login")
    missing = fault(Response(status=404, body=wrong, request="x"), call="read")

    assert type(refused) is TokenExpired
    assert type(missing) is Unsupported


def test_gtt_orders_are_two_kinds() -> None:
    assert not issubclass(Gtt, Bracket)
