"""Orders are sent at most once, and every answer to one becomes the outcome it proves.

Over real loopback sockets; the server counts what reached it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest
from pydantic import SecretStr
from upstox_desk_kit import (
    ACK,
    CHANGE_ACK,
    ID,
    NOON,
    Answer,
    Asked,
    always,
    limit_order,
    order_row,
    script,
    serving,
    upstox,
)
from upstox_kit import CALL, RELIANCE, TOKEN, UNLISTED, Lookup

from hybridbroker.brokers.upstox.auth import AccessToken, TokenKind
from hybridbroker.domain.instrument import Exchange, Segment
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    OrderStatus,
    OrderType,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.errors import (
    AuthenticationError,
    ConfigurationError,
    HybridBrokerError,
    InstrumentUnmapped,
    InvalidOrder,
    NotSent,
    OrderNotFound,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
    ReplyLost,
    StaticIpRequired,
    TokenExpired,
    Unsupported,
)
from hybridbroker.protocols import InstrumentLookup
from hybridbroker.testing.clock import ManualClock

PAGE = b"<!DOCTYPE html><html><title>Just a moment</title></html>"


async def test_an_accepted_order_is_returned_as_acknowledged() -> None:
    async with serving(always(ACK)) as server, upstox(server.url, algo_name="ema-cross") as broker:
        order = await broker.place_order(limit_order())

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v3/order/place")
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["x-algo-name"] == "ema-cross"
    assert "hybridbroker" in asked.headers["user-agent"]
    assert asked.json() == {
        "quantity": 10,
        "product": "D",
        "order_type": "LIMIT",
        "validity": "DAY",
        "price": 1402.5,
        "trigger_price": 0,
        "disclosed_quantity": 0,
        "tag": "st1-42",
        "instrument_token": "NSE_EQ|INE000A01018",
        "transaction_type": "BUY",
        "is_amo": False,
        "slice": False,
    }
    assert b'"price":1402.5,' in asked.body
    assert (order.id, order.status, order.raw) == (ID, OrderStatus.PENDING, "")
    assert (order.client_order_id, order.quantity, order.price) == ("st1-42", 10, Decimal("1402.5"))


async def test_single_orders_go_to_their_own_host_and_batches_to_the_common_one() -> None:
    empty = Answer.of({"status": "success", "data": {"order_ids": []}})
    async with (
        serving(always(ACK)) as fast,
        serving(always(empty)) as common,
        upstox(common.url, order_url=fast.url) as broker,
    ):
        await broker.place_order(limit_order())
        await broker.cancel_all()
        await broker.exit_all()

    assert [each.path for each in fast.asked] == ["/v3/order/place"]
    assert [each.path for each in common.asked] == ["/v2/order/multi/cancel", "/v2/order/positions/exit"]


async def test_no_algo_name_is_sent_where_there_is_none() -> None:
    async with serving(always(ACK)) as server, upstox(server.url) as broker:
        await broker.place_order(limit_order())

    assert "x-algo-name" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("request_", "terms"),
    [
        pytest.param(
            MarketOrder(RELIANCE, Side.SELL, quantity=1, product=Product.INTRADAY),
            {"order_type": "MARKET", "price": 0, "trigger_price": 0, "market_protection": -1, "product": "I"},
            id="market",
        ),
        pytest.param(
            StopMarketOrder(RELIANCE, Side.SELL, quantity=1, trigger_price="1390"),
            {"order_type": "SL-M", "price": 0, "trigger_price": 1390, "market_protection": -1},
            id="stop market",
        ),
        pytest.param(
            StopLimitOrder(RELIANCE, Side.SELL, quantity=1, trigger_price="1390", price="1389.5", product=Product.MTF),
            {"order_type": "SL", "price": 1389.5, "trigger_price": 1390, "product": "MTF"},
            id="stop limit",
        ),
        pytest.param(
            LimitOrder(CALL, Side.BUY, quantity=75, price="118.4", product=Product.MARGIN, validity=Validity.IOC),
            {"order_type": "LIMIT", "price": 118.4, "product": "D", "validity": "IOC", "quantity": 75},
            id="option carried forward",
        ),
        pytest.param(
            LimitOrder(RELIANCE, Side.BUY, quantity=10, price="1402.5", after_market=True, disclosed_quantity=1),
            {"is_amo": True, "disclosed_quantity": 1},
            id="after market",
        ),
    ],
)
async def test_every_kind_of_order_is_spelled_as_documented(request_: Any, terms: dict[str, Any]) -> None:
    async with serving(always(ACK)) as server, upstox(server.url) as broker:
        await broker.place_order(request_)

    body = server.asked[0].json()
    assert {name: body[name] for name in terms} == terms
    assert ("market_protection" in body) == (body["order_type"] in {"MARKET", "SL-M"})


async def test_market_protection_can_be_chosen() -> None:
    async with serving(always(ACK)) as server, upstox(server.url, market_protection=Decimal("2.5")) as broker:
        await broker.place_order(MarketOrder(RELIANCE, Side.BUY, quantity=1))

    assert server.asked[0].json()["market_protection"] == 2.5


@pytest.mark.parametrize("percent", [0, -2, 26, "0.0"])
def test_a_market_protection_that_upstox_refuses_is_a_mistake_of_the_settings(percent: Any) -> None:
    with pytest.raises(ConfigurationError, match="market_protection"):
        upstox("http://127.0.0.1:1", market_protection=percent)


async def test_an_order_without_a_name_is_given_one_that_fits_the_tag() -> None:
    async with serving(always(ACK)) as server, upstox(server.url) as broker:
        order = await broker.place_order(limit_order(client_order_id=None))

    sent = server.asked[0].json()["tag"]
    assert sent == order.client_order_id
    assert sent.startswith("hb-1001-120000-")
    assert len(sent) <= 40


OUTCOMES = [
    pytest.param(Answer.refusal("UDAPI1052"), OrderRejected, id="refused"),
    pytest.param(Answer.refusal("UDAPI9999", status=422), OrderRejected, id="refused with an unknown code"),
    pytest.param(Answer.refusal("UDAPI1054", "UDAPI1040"), OrderRejected, id="refused for two reasons"),
    pytest.param(Answer.refusal("UDAPI100074", status=423), OrderRejected, id="outside the hours"),
    pytest.param(Answer.refusal("UDAPI100072", status=423), OrderRejected, id="outside the hours, other code"),
    pytest.param(Answer.refusal("UDAPI1154", status=403), StaticIpRequired, id="wrong address"),
    pytest.param(Answer.refusal("UDAPI100050", status=401), TokenExpired, id="dead token"),
    pytest.param(Answer.refusal("UDAPI100067", status=401), AuthenticationError, id="token of the wrong kind"),
    pytest.param(Answer.refusal("UDAPI100049", status=403), AuthenticationError, id="restricted account"),
    pytest.param(Answer.refusal("UDAPI1156"), ConfigurationError, id="algo name"),
    pytest.param(Answer.refusal("UDAPI10005", status=429), RateLimited, id="429"),
    pytest.param(Answer(status=429, body=PAGE), RateLimited, id="429 page"),
    pytest.param(Answer.refusal("UDAPI10005"), RateLimited, id="too many, in a 400"),
    pytest.param(Answer.refusal("UDAPI100060", status=404), Unsupported, id="unknown path"),
    pytest.param(Answer(status=None), OrderOutcomeUnknown, id="hung up"),
    pytest.param(Answer(status=200, body=b'{"sta', promised=90), OrderOutcomeUnknown, id="reply cut short"),
    pytest.param(Answer(status=200, body=b"{"), OrderOutcomeUnknown, id="200 garbage"),
    pytest.param(Answer(status=200, body=b""), OrderOutcomeUnknown, id="200 empty"),
    pytest.param(Answer(status=200, body=PAGE), OrderOutcomeUnknown, id="200 page"),
    pytest.param(Answer.of(["text"]), OrderOutcomeUnknown, id="200 array"),
    pytest.param(Answer.of({"data": {"order_ids": [ID]}}), OrderOutcomeUnknown, id="200 that does not say success"),
    pytest.param(Answer.data(None), OrderOutcomeUnknown, id="200 without data"),
    pytest.param(Answer.data({"order_ids": []}), OrderOutcomeUnknown, id="200 without an id"),
    pytest.param(Answer.data({"order_ids": [None]}), OrderOutcomeUnknown, id="200 null id"),
    pytest.param(Answer.data({"order_ids": {"a": 1}}), OrderOutcomeUnknown, id="200 wrong type"),
    pytest.param(Answer.refusal("UDAPI1052", status=200), OrderOutcomeUnknown, id="200 with an error in it"),
    pytest.param(Answer(status=302, body=b""), OrderOutcomeUnknown, id="redirect"),
    pytest.param(Answer(status=400, body=PAGE), OrderOutcomeUnknown, id="400 page"),
    pytest.param(Answer(status=403, body=PAGE), OrderOutcomeUnknown, id="403 page of the front"),
    pytest.param(Answer(status=403, body=b"denied"), OrderOutcomeUnknown, id="403 text"),
    pytest.param(Answer(status=400, body=b""), OrderOutcomeUnknown, id="400 empty"),
    pytest.param(Answer(status=401, body=b""), OrderOutcomeUnknown, id="401 empty"),
    pytest.param(Answer.of({"errors": []}, 400), OrderOutcomeUnknown, id="400 without an error"),
    pytest.param(Answer.refusal("UDAPI100500"), OrderOutcomeUnknown, id="400 but Upstox's own failure"),
    pytest.param(
        Answer.refusal("UDAPI100010", "UDAPI100500"), OrderOutcomeUnknown, id="400 with a failure of theirs as well"
    ),
    pytest.param(Answer.refusal("UDAPI1052", status=500), OrderOutcomeUnknown, id="500 with a reason"),
    pytest.param(Answer(status=500, body=b""), OrderOutcomeUnknown, id="500 after acceptance"),
    pytest.param(Answer(status=502, body=PAGE), OrderOutcomeUnknown, id="502 page"),
]


@pytest.mark.parametrize(("answer", "expected"), OUTCOMES)
async def test_every_answer_to_an_order_has_its_outcome_and_costs_one_post(
    answer: Answer, expected: type[HybridBrokerError]
) -> None:
    async with serving(always(answer)) as server, upstox(server.url) as broker:
        with pytest.raises(expected) as caught:
            await broker.place_order(limit_order())

    assert [each.method for each in server.asked] == ["POST"]
    assert type(caught.value) is expected
    assert TOKEN not in f"{caught.value} {caught.value!r}"
    if isinstance(caught.value, OrderOutcomeUnknown):
        assert caught.value.client_order_id == "st1-42"
        assert "st1-42" in str(caught.value)


async def test_several_ids_for_an_order_that_was_not_to_be_cut_are_no_outcome() -> None:
    async with serving(always(Answer.data({"order_ids": ["1", "2"]}))) as server, upstox(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown, match="2 orders"):
            await broker.place_order(limit_order())


async def test_no_secret_is_in_what_a_failed_order_leaves_behind(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(always(Answer(status=500, body=TOKEN.encode()))) as server, upstox(server.url) as broker:
            with pytest.raises(OrderOutcomeUnknown) as caught:
                await broker.place_order(limit_order())

    told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(broker)
    assert f"Bearer {TOKEN}" not in told


async def test_an_order_that_met_no_server_was_not_sent() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with upstox(f"http://127.0.0.1:{reserved.getsockname()[1]}") as broker:
            with pytest.raises(NotSent):
                await broker.place_order(limit_order())


async def test_a_broker_that_is_not_open_sends_nothing() -> None:
    broker = upstox("http://127.0.0.1:1")

    with pytest.raises(NotSent, match="async with"):
        await broker.place_order(limit_order())


async def test_a_cancelled_task_says_that_the_order_may_be_live(caplog: pytest.LogCaptureFixture) -> None:
    arrived = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with upstox(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as broker:
        task = asyncio.create_task(broker.place_order(limit_order()))
        await arrived.wait()
        task.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await task
    listener.close()
    await listener.wait_closed()

    (record,) = [record for record in caplog.records if record.name.startswith("hybridbroker.brokers.upstox")]
    assert "st1-42" in record.getMessage()


MCX_GOLD = attrs.evolve(CALL, id="MCX:GOLD:FUT", exchange=Exchange.MCX, segment=Segment.COMMODITY)
REFUSED_HERE = [
    pytest.param(lambda: limit_order(quantity=100, disclosed_quantity=9), InvalidOrder, id="disclosed"),
    pytest.param(lambda: limit_order(product=Product.MARGIN), InvalidOrder, id="margin on shares"),
    pytest.param(lambda: LimitOrder(CALL, Side.BUY, quantity=75, price="10"), InvalidOrder, id="delivery of an option"),
    pytest.param(lambda: LimitOrder(UNLISTED, Side.BUY, quantity=1, price="10"), InstrumentUnmapped, id="unmapped"),
    pytest.param(
        lambda: LimitOrder(MCX_GOLD, Side.BUY, quantity=75, price="10", product=Product.MARGIN), Unsupported, id="MCX"
    ),
    pytest.param(lambda: limit_order(price="1600"), InvalidOrder, id="above the circuit limit"),
    pytest.param(lambda: limit_order(price="1200"), InvalidOrder, id="below the circuit limit"),
]


@pytest.mark.parametrize(("build", "expected"), REFUSED_HERE)
async def test_what_can_never_be_right_is_refused_without_a_post(
    build: Callable[[], Any], expected: type[HybridBrokerError]
) -> None:
    listed = Lookup({RELIANCE: "NSE_EQ|INE000A01018", CALL: "NSE_FO|40001", MCX_GOLD: "MCX_FO|1"})
    bands = {RELIANCE: (Decimal(1260), Decimal(1540))}
    async with (
        serving(always(ACK)) as server,
        upstox(server.url, instruments=listed, price_bands=bands.get) as broker,
    ):
        with pytest.raises(expected):
            await broker.place_order(build())

    assert server.asked == []


async def test_a_token_that_cannot_trade_sends_no_order() -> None:
    class ReadOnly:
        async def token(self) -> AccessToken:
            return AccessToken.of(SecretStr(TOKEN), seen_at=NOON, kind=TokenKind.ANALYTICS)

        async def renewed(self, refused: AccessToken) -> AccessToken:
            return refused

    async with serving(always(ACK)) as server, upstox(server.url, tokens=ReadOnly()) as broker:
        with pytest.raises(AuthenticationError, match="analytics"):
            await broker.place_order(limit_order())

    assert server.asked == []


async def test_a_change_reads_the_order_states_every_term_and_reads_what_came_of_it() -> None:
    before = order_row(filled_quantity=4, disclosed_quantity=10)
    after = {**before, "price": 1404.0, "status": "modified"}
    answers = script(("GET", Answer.data(before)), ("GET", Answer.data(after)), ("PUT", CHANGE_ACK))
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.modify_order(ID, price=Decimal(1404))

    read, written, again = server.asked
    assert (read.path, read.query) == ("/v2/order/details", {"order_id": [ID]})
    assert (written.path, again.path) == ("/v3/order/modify", "/v2/order/details")
    assert written.json() == {
        "order_id": ID,
        "quantity": 10,
        "order_type": "LIMIT",
        "validity": "DAY",
        "price": 1404,
        "trigger_price": 0,
        "disclosed_quantity": 10,
    }
    assert (order.price, order.filled_quantity, order.raw) == (Decimal(1404), 4, "modified")
    assert order.status is OrderStatus.PARTIALLY_FILLED


async def test_a_change_on_its_way_is_read_again_for_about_a_second() -> None:
    row = order_row()
    answers = script(
        ("GET", Answer.data(row)),
        ("GET", Answer.data({**row, "status": "modify validation pending"})),
        ("GET", Answer.data({**row, "status": "modify pending"})),
        ("GET", Answer.data({**row, "status": "modified", "quantity": 20})),
        ("PUT", CHANGE_ACK),
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.modify_order(ID, quantity=20)

    assert server.count("GET") == 4
    assert (order.quantity, order.raw) == (20, "modified")


async def test_a_change_that_was_refused_before_is_not_refused_again() -> None:
    row = order_row(status="not modified", status_message="too far")
    answers = script(
        ("GET", Answer.data(row)),
        ("GET", Answer.data(row)),
        ("PUT", CHANGE_ACK),
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.modify_order(ID, quantity=20)

    assert (order.quantity, order.status, order.reason) == (10, OrderStatus.OPEN, "too far")
    assert server.count("PUT") == 1


@pytest.mark.parametrize("unreadable", [Answer(status=200, body=b"{"), Answer.data(None), Answer.refusal("UDAPI1")])
async def test_a_change_that_cannot_be_read_back_is_unknown_and_not_lost(unreadable: Answer) -> None:
    answers = script(
        ("/v2/order/details", Answer.data(order_row())),
        ("/v2/order/details", unreadable),
        ("/v2/order/retrieve-all", Answer.data([])),
        ("PUT", CHANGE_ACK),
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.modify_order(ID, quantity=20)

    assert (order.status, order.quantity) == (OrderStatus.UNKNOWN, 20)


async def test_a_market_order_that_rests_becomes_a_limit_order_by_a_price() -> None:
    row = order_row(order_type="MARKET", price=0)
    answers = script(("GET", Answer.data(row)), ("PUT", CHANGE_ACK))
    async with serving(answers) as server, upstox(server.url) as broker:
        await broker.modify_order(ID, price=Decimal(1404))
        await broker.modify_order(ID, quantity=20)

    first, second = (each.json() for each in server.asked if each.method == "PUT")
    assert (first["order_type"], first["price"]) == ("LIMIT", 1404)
    assert "market_protection" not in first
    assert (second["order_type"], second["price"], second["market_protection"]) == ("MARKET", 0, -1)


async def test_a_change_of_nothing_writes_nothing() -> None:
    async with serving(always(Answer.data(order_row()))) as server, upstox(server.url) as broker:
        order = await broker.modify_order(ID)

    assert server.count("PUT") == 0
    assert (order.price, order.type) == (Decimal("1402.5"), OrderType.LIMIT)


@pytest.mark.parametrize(
    ("row", "change", "expected"),
    [
        ({"status": "complete", "filled_quantity": 10}, {"quantity": 20}, InvalidOrder),
        ({"filled_quantity": 6}, {"quantity": 6}, InvalidOrder),
        ({}, {"price": Decimal("1402.53")}, InvalidOrder),
        ({}, {"trigger_price": Decimal(1400)}, InvalidOrder),
    ],
)
async def test_a_change_that_does_not_fit_the_order_writes_nothing(
    row: dict[str, Any], change: dict[str, Any], expected: type[HybridBrokerError]
) -> None:
    async with serving(always(Answer.data(order_row(**row)))) as server, upstox(server.url) as broker:
        with pytest.raises(expected):
            await broker.modify_order(ID, **change)

    assert server.count("PUT") == 0


@pytest.mark.parametrize("order_id", [ID, "../../v2/user/profile", "", "x" * 80, "1?2"])
async def test_an_unknown_order_is_neither_changed_nor_cancelled(order_id: str) -> None:
    answers = script(
        ("/v2/order/details", Answer.refusal("UDAPI100010")),
        ("/v2/order/retrieve-all", Answer.data(None)),
        ("DELETE", Answer.refusal("UDAPI100010")),
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(OrderNotFound):
            await broker.modify_order(order_id, quantity=20)
        with pytest.raises(OrderNotFound):
            await broker.cancel_order(order_id)

    assert server.count("PUT") == 0


@pytest.mark.parametrize("lost", [Answer(status=None), Answer(status=503), Answer(status=200, body=b"{")])
async def test_a_change_whose_reading_before_fails_was_not_sent(lost: Answer) -> None:
    async with serving(always(lost)) as server, upstox(server.url) as broker:
        with pytest.raises(NotSent, match="was not changed"):
            await broker.modify_order(ID, quantity=20)

    assert server.count("PUT") == 0


@pytest.mark.parametrize(("answer", "expected"), OUTCOMES)
async def test_every_answer_to_a_change_has_its_outcome_and_costs_one_put(
    answer: Answer, expected: type[HybridBrokerError]
) -> None:
    if b"order_ids" in answer.body or answer.body == b'{"errors": []}':
        expected = OrderOutcomeUnknown
    if b"UDAPI100010" in answer.body and b"UDAPI100500" not in answer.body:
        expected = OrderNotFound
    answers = script(("GET", Answer.data(order_row())), ("PUT", answer))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(expected) as caught:
            await broker.modify_order(ID, quantity=20)

    assert server.count("PUT") == 1
    if isinstance(caught.value, OrderOutcomeUnknown):
        assert caught.value.client_order_id == ID


async def test_a_cancellation_is_acknowledged_and_read_back() -> None:
    answers = script(
        ("GET", Answer.data(order_row(status="cancel pending"))),
        ("GET", Answer.data(order_row(status="cancelled", filled_quantity=3))),
        ("DELETE", CHANGE_ACK),
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.cancel_order(ID)

    assert (server.asked[0].path, server.asked[0].query) == ("/v3/order/cancel", {"order_id": [ID]})
    assert (order.status, order.filled_quantity) == (OrderStatus.CANCELLED, 3)


async def test_a_refusal_that_may_be_of_an_earlier_cancellation_is_shown_and_not_raised() -> None:
    answers = script(
        ("GET", Answer.data(order_row(status="Not Cancelled", status_message="late"))), ("DELETE", CHANGE_ACK)
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.cancel_order(ID)

    assert (order.status, order.raw, order.reason) == (OrderStatus.OPEN, "Not Cancelled", "late")
    assert server.count("DELETE") == 1


async def test_cancelling_what_is_over_returns_it() -> None:
    answers = script(
        ("GET", Answer.data(order_row(status="complete", filled_quantity=10))),
        ("DELETE", Answer.refusal("UDAPI100040")),
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        order = await broker.cancel_order(ID)

    assert order.status is OrderStatus.FILLED
    assert server.count("DELETE") == 1


async def test_a_refused_cancellation_of_a_living_order_is_a_rejection() -> None:
    answers = script(("GET", Answer.data(order_row())), ("DELETE", Answer.refusal("UDAPI100040")))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(OrderRejected):
            await broker.cancel_order(ID)


async def test_a_cancellation_without_an_answer_is_unknown_and_sent_once() -> None:
    async with serving(always(Answer(status=None))) as server, upstox(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await broker.cancel_order(ID)

    assert [each.method for each in server.asked] == ["DELETE"]
    assert caught.value.client_order_id == ID


async def test_a_cancelled_order_that_cannot_be_read_back_is_unknown_where_it_was_seen_before() -> None:
    answers = script(("POST", ACK), ("DELETE", CHANGE_ACK), ("GET", Answer(status=503)))
    async with serving(answers) as server, upstox(server.url) as broker:
        await broker.place_order(limit_order())
        order = await broker.cancel_order(ID)
        with pytest.raises(ReplyLost, match="acknowledged"):
            await broker.cancel_order("261001025000002")

    assert (order.status, order.quantity) == (OrderStatus.UNKNOWN, 10)


async def test_cancel_all_beyond_the_limit_of_one_call_goes_one_by_one() -> None:
    rows = [order_row(order_id=f"26100102500000{n}", tag="a" if n % 2 else "b") for n in range(4)]
    rows[0]["status"] = "complete"
    rows[0]["filled_quantity"] = 10

    def answer(asked: Asked) -> Answer:
        match asked.path:
            case "/v2/order/multi/cancel":
                return Answer.refusal("UDAPI1110")
            case "/v2/order/retrieve-all":
                return Answer.data(rows)
        (order_id,) = asked.query["order_id"]
        return Answer.refusal("UDAPI100040") if order_id.endswith("3") else Answer.data({"order_id": order_id})

    async with serving(answer) as server, upstox(server.url) as broker:
        batch = await broker.cancel_all()
        of_a = await broker.cancel_all(tag="a", segment="NSE_EQ")
        of_none = await broker.cancel_all(segment="NSE_FO")

    assert batch.order_ids == ("261001025000001", "261001025000002")
    assert [(each.order_id, each.code) for each in batch.refused] == [("261001025000003", "UDAPI100040")]
    assert of_a.order_ids == ("261001025000001",)
    assert of_none.order_ids == ()
    assert server.asked[0].query == {}


@pytest.mark.parametrize("code", ["UDAPI1108", "UDAPI1109"])
async def test_cancel_all_believes_the_book_where_pages_disagree_about_a_code(code: str) -> None:
    none = script(("DELETE", Answer.refusal(code)), ("GET", Answer.data(None)))
    async with serving(none) as server, upstox(server.url) as broker:
        assert (await broker.cancel_all()).order_ids == ()

    def some(asked: Asked) -> Answer:
        if asked.path == "/v2/order/multi/cancel":
            return Answer.refusal(code)
        return Answer.data([order_row()]) if asked.method == "GET" else CHANGE_ACK

    async with serving(some) as server, upstox(server.url) as broker:
        if code == "UDAPI1108":  # may mean a segment that does not exist
            with pytest.raises(OrderRejected):
                await broker.cancel_all(segment="NSE_EQ")
        else:
            assert (await broker.cancel_all()).order_ids == (ID,)


async def test_exit_all_does_not_say_nothing_is_open_while_something_is() -> None:
    position = {"instrument_token": "NSE_EQ|INE000A01018", "product": "I", "quantity": 5}
    answers = script(("POST", Answer.refusal("UDAPI1111")), ("GET", Answer.data([position])))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(OrderRejected):
            await broker.exit_all()


@pytest.mark.parametrize("answer", [Answer(status=None), Answer(status=500), Answer(body=b"{"), Answer(body=PAGE)])
async def test_a_batch_without_a_readable_answer_is_unknown_and_sent_once(answer: Answer) -> None:
    async with serving(always(answer)) as server, upstox(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await broker.cancel_all()
        with pytest.raises(OrderOutcomeUnknown):
            await broker.exit_all()

    assert len(server.asked) == 2


async def test_a_batch_whose_every_line_was_refused_is_a_rejection() -> None:
    line = {"error_code": "UDAPI1113", "message": "market hours only", "order_id": None}
    answer = Answer.of({"status": "error", "data": None, "errors": [line]})
    async with serving(always(answer)) as server, upstox(server.url) as broker:
        with pytest.raises(OrderRejected, match="market hours only"):
            await broker.exit_all()


async def test_an_order_at_night_is_sent_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    at_night = ManualClock(NOON.replace(hour=5, minute=29))
    refused = Answer.refusal("UDAPI100074", status=423)
    async with serving(always(refused)) as server, upstox(server.url, clock=at_night) as broker:
        with caplog.at_level(logging.WARNING), pytest.raises(OrderRejected):
            await broker.place_order(limit_order())

    assert "05:30" in caplog.text
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"error_code": "UDAPI1118", "message": "too many orders"}, "too many orders"),
        ({"errorCode": "UDAPI1118"}, "UDAPI1118"),
        ("text", "a refusal that cannot be read"),
    ],
)
async def test_slices_that_were_refused_are_told_beside_those_that_were_taken(line: Any, told: str) -> None:
    partial = {"status": "partial_success", "data": {"order_ids": ["1", "2"]}, "errors": [line, line]}
    rows = [order_row(order_id=each, quantity=4) for each in ("2", "1")]
    answers = script(("POST", Answer.of(partial, 207)), ("GET", Answer.data(rows)))
    async with serving(answers) as server, upstox(server.url) as broker:
        sliced = await broker.place_sliced(SlicedOrder(RELIANCE, Side.BUY, quantity=10))

    assert [each.id for each in sliced.orders] == ["1", "2"]
    assert (sliced.placed_quantity, sliced.reason) == (8, told)


async def test_slices_that_cannot_be_read_are_unknown_and_named() -> None:
    answers = script(("POST", Answer.data({"order_ids": ["1", "2", "3"]})), ("GET", Answer.data(None)))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown, match="1, 2, 3") as caught:
            await broker.place_sliced(SlicedOrder(RELIANCE, Side.BUY, quantity=10, client_order_id="s-1"))

    assert caught.value.client_order_id == "s-1"
    assert server.count("POST") == 1


async def test_a_conversion_is_checked_here_and_sent_once() -> None:
    convert: dict[str, Any] = {"side": Side.BUY, "from_product": Product.INTRADAY, "to_product": Product.DELIVERY}
    async with serving(always(Answer.data({"status": "complete"}))) as server, upstox(server.url) as broker:
        await broker.convert_position(RELIANCE, quantity=5, **convert)
        with pytest.raises(InvalidOrder, match="lot"):
            await broker.convert_position(RELIANCE, quantity=0, **convert)
        with pytest.raises(InvalidOrder, match="already"):
            await broker.convert_position(
                RELIANCE, side=Side.BUY, quantity=5, from_product=Product.INTRADAY, to_product=Product.INTRADAY
            )

    (asked,) = server.asked
    assert asked.json() == {
        "instrument_token": "NSE_EQ|INE000A01018",
        "new_product": "D",
        "old_product": "I",
        "transaction_type": "BUY",
        "quantity": 5,
    }


async def test_a_conversion_that_is_not_complete_is_unknown() -> None:
    async with serving(always(Answer.data({"status": "queued"}))) as server, upstox(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown, match="complete"):
            await broker.convert_position(
                RELIANCE, side=Side.BUY, quantity=5, from_product=Product.INTRADAY, to_product=Product.DELIVERY
            )


SEGMENTS = [
    {"segment": "NSE_EQ", "segment_status": "ACTIVE", "kill_switch_enabled": False},
    {"segment": "NSE_FO", "segment_status": "ACTIVE", "kill_switch_enabled": True},
    {"segment": "MCX_FO", "segment_status": "INACTIVE", "kill_switch_enabled": False},
]


async def test_the_kill_switch_is_set_in_every_active_segment_at_once() -> None:
    answers = script(("GET", Answer.data(SEGMENTS)), ("POST", Answer.data(SEGMENTS)))
    async with serving(answers) as server, upstox(server.url) as broker:
        killed = await broker.kill_switch_active()
        await broker.activate_kill_switch()
        await broker.deactivate_kill_switch()

    on, off = (each.json() for each in server.asked if each.method == "POST")
    assert killed is False
    assert on == [{"segment": each, "action": "DISABLE"} for each in ("NSE_EQ", "NSE_FO")]
    assert off == [{"segment": "NSE_FO", "action": "ENABLE"}]


@pytest.mark.parametrize("code", ["UDAPI1184", "UDAPI1185"])
async def test_a_refused_kill_switch_is_a_rejection(code: str) -> None:
    answers = script(("GET", Answer.data(SEGMENTS)), ("POST", Answer.refusal(code)))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(OrderRejected) as caught:
            await broker.activate_kill_switch()

    assert caught.value.code == code


async def test_a_kill_switch_that_names_no_segment_does_not_pretend() -> None:
    async with serving(always(Answer.data(None))) as server, upstox(server.url) as broker:
        with pytest.raises(OrderRejected, match="no segment"):
            await broker.activate_kill_switch()
        assert await broker.kill_switch_active() is False


def test_lookups_fit_their_protocol() -> None:
    lookup: InstrumentLookup = Lookup()

    assert lookup[RELIANCE.id] is RELIANCE
