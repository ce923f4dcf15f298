"""Orders are sent at most once, and every answer to one becomes the outcome it proves.

Over real loopback sockets; the server counts what reached it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

import pytest
from dhan_kit import CLIENT, NOON, RELIANCE, TOKEN, Answer, Asked, dhan, jwt, limit_order, order_row, refusal, serving
from pydantic import SecretStr

from hybridbroker.brokers.dhan.orders import changes
from hybridbroker.domain.orders import MarketOrder, OrderStatus, Side, StopMarketOrder, Validity
from hybridbroker.errors import (
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
)
from hybridbroker.testing.clock import ManualClock

ID = "3226091500012"
ACK = Answer.of({"orderId": ID, "orderStatus": "TRANSIT"})
CANCELLED = Answer.of({"orderId": ID, "orderStatus": "CANCELLED"})
PAGE = b"<!DOCTYPE html><html><title>Just a moment</title></html>"
GATEWAY = {"timestamp": 1, "status": 404, "error": "Not Found", "path": "/v2/orders"}
IN_TRANSIT = Answer.of(refusal("Order is in Transit state"), 400)


def always(answer: Answer) -> Callable[[Asked], Answer]:
    return lambda _: answer


def script(*answers: tuple[str, Answer]) -> Callable[[Asked], Answer]:
    """Answer each method's requests in turn, the last answer for ever."""
    by_method: dict[str, list[Answer]] = {}
    for method, answer in answers:
        by_method.setdefault(method, []).append(answer)

    def answer_one(asked: Asked) -> Answer:
        left = by_method[asked.method]
        return left.pop(0) if len(left) > 1 else left[0]

    return answer_one


async def test_an_accepted_order_is_returned_as_acknowledged() -> None:
    async with serving(always(ACK)) as server, dhan(base_url=server.url) as broker:
        order = await broker.place_order(limit_order())

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v2/orders")
    assert (asked.headers["access-token"], asked.headers["client-id"]) == (TOKEN, CLIENT)
    assert asked.json()["correlationId"] == "st1-42"
    assert b'"price":1402.5}' in asked.body
    assert (order.id, order.status, order.raw) == (ID, OrderStatus.PENDING, "TRANSIT")
    assert (order.client_order_id, order.quantity, order.price) == ("st1-42", 10, Decimal("1402.5"))


async def test_an_order_without_a_name_is_given_one_that_dhan_takes() -> None:
    async with serving(always(ACK)) as server, dhan(base_url=server.url) as broker:
        order = await broker.place_order(limit_order(client_order_id=None))

    sent = server.asked[0].json()["correlationId"]
    assert sent == order.client_order_id
    assert len(sent) <= 25
    assert sent.startswith("hb-0915-120000-")


@pytest.mark.parametrize(
    ("status", "raw", "expected"),
    [
        (200, "PENDING", OrderStatus.OPEN),
        (201, "REJECTED", OrderStatus.REJECTED),
        (200, "TRADED", OrderStatus.UNKNOWN),
        (200, "SOMETHING_NEW", OrderStatus.UNKNOWN),
    ],
)
async def test_the_status_in_an_acknowledgement_is_kept(status: int, raw: str, expected: OrderStatus) -> None:
    answer = Answer.of({"orderId": ID, "orderStatus": raw}, status)
    async with serving(always(answer)) as server, dhan(base_url=server.url) as broker:
        order = await broker.place_order(limit_order())

    assert (order.status, order.raw) == (expected, raw)


OUTCOMES = [
    pytest.param(Answer.of(refusal("no funds"), 400), OrderRejected, id="refused"),
    pytest.param(Answer.of(refusal("new", "DH-999"), 422), OrderRejected, id="refused with an unknown code"),
    pytest.param(Answer.of([refusal("no")], 400), OrderRejected, id="refused inside an array"),
    pytest.param(Answer.of(refusal("Invalid IP", "DH-905"), 400), StaticIpRequired, id="wrong address"),
    pytest.param(Answer.of(refusal("Invalid Token"), 400), TokenExpired, id="dead token"),
    pytest.param(Answer.of(refusal("bad", "DH-901"), 401), TokenExpired, id="401"),
    pytest.param(Answer.of(refusal("slow down", "DH-904"), 429), RateLimited, id="429"),
    pytest.param(Answer(status=429, body=PAGE), RateLimited, id="429 page"),
    pytest.param(Answer.of({"status": "failed", "data": {"805": "Too many"}}, 400), RateLimited, id="805 in 400"),
    pytest.param(Answer.of(GATEWAY, 404), ConfigurationError, id="unknown path"),
    pytest.param(Answer(status=None), OrderOutcomeUnknown, id="hung up"),
    pytest.param(Answer(status=200, body=b'{"ord', promised=90), OrderOutcomeUnknown, id="reply cut short"),
    pytest.param(Answer(status=200, body=b"{"), OrderOutcomeUnknown, id="200 garbage"),
    pytest.param(Answer(status=200, body=b""), OrderOutcomeUnknown, id="200 empty"),
    pytest.param(Answer(status=200, body=PAGE), OrderOutcomeUnknown, id="200 page"),
    pytest.param(Answer.of({"orderStatus": "TRANSIT"}), OrderOutcomeUnknown, id="200 without an id"),
    pytest.param(Answer.of({"orderId": None}), OrderOutcomeUnknown, id="200 null id"),
    pytest.param(Answer.of({"orderId": "0"}), OrderOutcomeUnknown, id="200 id zero"),
    pytest.param(Answer.of([]), OrderOutcomeUnknown, id="200 empty array"),
    pytest.param(Answer.of(["text"]), OrderOutcomeUnknown, id="200 array of text"),
    pytest.param(Answer.of(refusal("oops")), OrderOutcomeUnknown, id="200 with an error in it"),
    pytest.param(Answer(status=302, body=b""), OrderOutcomeUnknown, id="redirect"),
    pytest.param(Answer(status=400, body=PAGE), OrderOutcomeUnknown, id="400 page"),
    pytest.param(Answer(status=403, body=b"denied"), OrderOutcomeUnknown, id="403 text"),
    pytest.param(Answer(status=400, body=b""), OrderOutcomeUnknown, id="400 empty"),
    pytest.param(Answer.of({"hint": "?"}, 400), OrderOutcomeUnknown, id="400 undocumented"),
    pytest.param(Answer.of(refusal("oops", "DH-909"), 400), OrderOutcomeUnknown, id="400 but Dhan's own failure"),
    pytest.param(Answer.of(refusal("Invalid Token"), 500), OrderOutcomeUnknown, id="500 with a reason"),
    pytest.param(Answer(status=500, body=b""), OrderOutcomeUnknown, id="500 after acceptance"),
    pytest.param(Answer(status=502, body=PAGE), OrderOutcomeUnknown, id="502 page"),
]


@pytest.mark.parametrize(("answer", "expected"), OUTCOMES)
async def test_every_answer_to_an_order_has_its_outcome_and_costs_one_post(
    answer: Answer, expected: type[HybridBrokerError]
) -> None:
    async with serving(always(answer)) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(expected) as caught:
            await broker.place_order(limit_order())

    assert [each.method for each in server.asked] == ["POST"]
    assert type(caught.value) is expected
    assert TOKEN not in f"{caught.value} {caught.value!r}"
    if isinstance(caught.value, OrderOutcomeUnknown):
        assert caught.value.client_order_id == "st1-42"
        assert "st1-42" in str(caught.value)


async def test_an_unknown_outcome_names_the_id_that_was_made_up() -> None:
    async with serving(always(Answer(status=None))) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await broker.place_order(limit_order(client_order_id=None))

    assert caught.value.client_order_id == server.asked[0].json()["correlationId"]


async def test_an_order_that_met_no_server_was_not_sent() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with dhan(base_url=f"http://127.0.0.1:{reserved.getsockname()[1]}/v2") as broker:
            with pytest.raises(NotSent):
                await broker.place_order(limit_order())


async def test_a_cancelled_task_says_that_the_order_may_be_live(caplog: pytest.LogCaptureFixture) -> None:
    arrived = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v2"
    async with dhan(base_url=url) as broker:
        task = asyncio.create_task(broker.place_order(limit_order()))
        await arrived.wait()
        task.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await task
    listener.close()
    await listener.wait_closed()

    (record,) = [record for record in caplog.records if record.name.startswith("hybridbroker.brokers.dhan")]
    assert record.levelno == logging.WARNING
    assert "st1-42" in record.getMessage()


async def test_the_order_connection_is_opened_by_asking_for_the_profile() -> None:
    async with serving(always(ACK)) as server, dhan(base_url=server.url, keep_warm_seconds=15) as broker:
        await broker.place_order(limit_order())

    assert [(each.method, each.path) for each in server.asked] == [("GET", "/v2/profile"), ("POST", "/v2/orders")]
    assert server.connections == 1


REFUSED_HERE = [
    pytest.param(
        lambda: StopMarketOrder(RELIANCE, Side.SELL, quantity=1, trigger_price="0.10", product="intraday"),
        InvalidOrder,
        id="SL-M without a price below its trigger",
    ),
    pytest.param(lambda: limit_order(quantity=10, disclosed_quantity=1), InvalidOrder, id="disclosed"),
]


@pytest.mark.parametrize(("build", "expected"), REFUSED_HERE)
async def test_what_can_never_be_right_is_refused_without_a_post(
    build: Callable[[], Any], expected: type[HybridBrokerError]
) -> None:
    async with serving(always(ACK)) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(expected):
            await broker.place_order(build())

    assert server.asked == []


async def test_an_unmapped_instrument_is_refused_without_a_post(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhan_kit.Table.keys", {})
    async with serving(always(ACK)) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(InstrumentUnmapped):
            await broker.place_order(limit_order())

    assert server.asked == []


async def test_a_token_over_by_its_own_date_sends_no_order() -> None:
    dead = SecretStr(jwt(exp=1_789_446_600))
    async with serving(always(ACK)) as server, dhan(base_url=server.url, access_token=dead) as broker:
        with pytest.raises(TokenExpired):
            await broker.place_order(MarketOrder(RELIANCE, Side.BUY, quantity=1))

    assert server.asked == []


async def test_a_change_reads_the_order_and_states_every_term() -> None:
    row = order_row(orderStatus="PART_TRADED", filledQty=4, disclosedQuantity=10)
    answers = script(("GET", Answer.of([row])), ("PUT", ACK))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        order = await broker.modify_order(ID, price=Decimal(1404))

    read, written = server.asked
    assert (read.path, written.path) == (f"/v2/orders/{ID}",) * 2
    assert json.loads(written.body) == {
        "dhanClientId": CLIENT,
        "orderId": ID,
        "orderType": "LIMIT",
        "validity": "DAY",
        "quantity": 10,
        "price": 1404,
        "disclosedQuantity": 10,
    }
    assert (order.price, order.filled_quantity) == (Decimal(1404), 4)
    assert (order.status, order.raw) == (OrderStatus.PARTIALLY_FILLED, "TRANSIT")


async def test_a_change_of_validity_alone_keeps_the_rest() -> None:
    answers = script(("GET", Answer.of(order_row())), ("PUT", ACK))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        order = await broker.modify_order(ID, validity=Validity.IOC)

    assert server.asked[-1].json()["validity"] == "IOC"
    assert (order.validity, order.price) == (Validity.IOC, Decimal("1402.5"))


async def test_a_change_of_nothing_writes_nothing() -> None:
    async with serving(always(Answer.of(order_row()))) as server, dhan(base_url=server.url) as broker:
        order = await broker.modify_order(ID)

    assert server.count("PUT") == 0
    assert order.price == Decimal("1402.5")


async def test_a_change_of_an_order_that_is_over_writes_nothing() -> None:
    filled = Answer.of(order_row(orderStatus="TRADED", filledQty=10))
    async with serving(always(filled)) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(InvalidOrder, match="filled"):
            await broker.modify_order(ID, quantity=20)

    assert server.count("PUT") == 0


async def test_a_change_of_an_unknown_order_writes_nothing() -> None:
    async with serving(always(Answer.of([]))) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(OrderNotFound):
            await broker.modify_order(ID, quantity=20)

    assert server.count("PUT") == 0


@pytest.mark.parametrize(("answer", "expected"), OUTCOMES)
async def test_every_answer_to_a_change_has_its_outcome_and_costs_one_put(
    answer: Answer, expected: type[HybridBrokerError]
) -> None:
    answers = script(("GET", Answer.of(order_row())), ("PUT", answer))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(expected) as caught:
            await broker.modify_order(ID, quantity=20)

    assert server.count("PUT") == 1
    if isinstance(caught.value, OrderOutcomeUnknown):
        assert caught.value.client_order_id == ID


async def test_the_twenty_sixth_change_is_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MODIFICATIONS_PER_ORDER", 3)
    answers = script(
        ("GET", Answer.of(order_row())),
        ("PUT", ACK),
        ("PUT", Answer.of(refusal("no"), 400)),
        ("PUT", Answer(status=500)),
        ("PUT", ACK),
    )
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        await broker.modify_order(ID, quantity=20)
        for expected in (OrderRejected, OrderOutcomeUnknown):
            with pytest.raises(expected):
                await broker.modify_order(ID, quantity=20)
        await broker.modify_order(ID, quantity=20)

        with pytest.raises(InvalidOrder, match="cancel it and place a new one"):
            await broker.modify_order(ID, quantity=20)

    assert server.count("PUT") == 4


@pytest.mark.parametrize("ack", [CANCELLED, Answer(status=202, body=b"")], ids=["200 with a body", "202 without"])
async def test_a_cancelled_order_is_returned_as_the_book_shows_it(ack: Answer) -> None:
    row = order_row(orderStatus="CANCELLED", filledQty=4, remainingQuantity=0, averageTradedPrice=1402.4)
    answers = script(("DELETE", ack), ("GET", Answer.of([row])))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        order = await broker.cancel_order(ID)

    assert [each.method for each in server.asked] == ["DELETE", "GET"]
    assert (server.asked[0].path, server.asked[0].body) == (f"/v2/orders/{ID}", b"")
    assert (order.status, order.filled_quantity, order.remaining) == (OrderStatus.CANCELLED, 4, 6)


async def test_a_cancellation_that_came_too_late_returns_what_filled() -> None:
    answers = script(
        ("DELETE", Answer.of(refusal("Incorrect request for order and cannot be processed"), 400)),
        ("GET", Answer.of([order_row(orderStatus="TRADED", filledQty=10)])),
    )
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        order = await broker.cancel_order(ID)

    assert order.status is OrderStatus.FILLED
    assert server.count("DELETE") == 1


async def test_a_refused_cancellation_of_a_living_order_is_rejected() -> None:
    answers = script(
        ("DELETE", Answer.of(refusal("Market is Closed! You cannot modify/cancel an order now."), 400)),
        ("GET", Answer.of([order_row()])),
    )
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(OrderRejected, match="Market is Closed"):
            await broker.cancel_order(ID)

    assert server.count("DELETE") == 1


async def test_a_refused_cancellation_stays_refused_where_the_book_cannot_be_read() -> None:
    answers = script(("DELETE", Answer.of(refusal("no"), 400)), ("GET", Answer(status=500)))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(OrderRejected):
            await broker.cancel_order(ID)

    assert server.count("DELETE") == 1


@pytest.mark.parametrize("order_id", [ID, "../1"])
async def test_cancelling_an_unknown_order_says_so(order_id: str) -> None:
    answers = script(
        ("DELETE", Answer.of(refusal("Incorrect request for order and cannot be processed"), 400)),
        ("GET", Answer.of([])),
    )
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(OrderNotFound):
            await broker.cancel_order(order_id)

    assert server.count("DELETE") == (order_id == ID)


async def test_a_cancellation_refused_in_transit_is_asked_again() -> None:
    answers = script(
        ("DELETE", IN_TRANSIT),
        ("DELETE", IN_TRANSIT),
        ("DELETE", CANCELLED),
        ("GET", Answer.of([order_row(orderStatus="CANCELLED")])),
    )
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        order = await broker.cancel_order(ID)

    assert order.status is OrderStatus.CANCELLED
    assert server.count("DELETE") == 3


async def test_a_cancellation_in_transit_gives_up_after_three_times() -> None:
    answers = script(("DELETE", IN_TRANSIT), ("GET", Answer.of([order_row(orderStatus="TRANSIT")])))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(OrderRejected, match="Transit"):
            await broker.cancel_order(ID)

    assert server.count("DELETE") == 3


async def test_a_lost_reply_ends_the_cancellation_in_transit() -> None:
    answers = script(("DELETE", IN_TRANSIT), ("DELETE", Answer(status=None)))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await broker.cancel_order(ID)

    assert caught.value.client_order_id == ID
    assert server.count("DELETE") == 2


@pytest.fixture(params=[Answer(status=500), Answer(status=None), Answer(body=b"{"), Answer.of([])], ids=str)
def unreadable(request: pytest.FixtureRequest) -> Answer:
    return cast("Answer", request.param)


async def test_an_acknowledged_cancellation_of_a_known_order_is_unknown_only_in_its_fills(unreadable: Answer) -> None:
    answers = script(("POST", ACK), ("DELETE", CANCELLED), ("GET", unreadable))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        placed = await broker.place_order(limit_order())
        order = await broker.cancel_order(placed.id)

    assert (order.id, order.status, order.raw) == (ID, OrderStatus.UNKNOWN, "CANCELLED")
    assert server.count("DELETE") == 1


async def test_an_acknowledged_cancellation_of_an_unseen_order_lost_only_its_reading(unreadable: Answer) -> None:
    answers = script(("DELETE", CANCELLED), ("GET", unreadable))
    async with serving(answers) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(ReplyLost, match="was acknowledged"):
            await broker.cancel_order(ID)

    assert server.count("DELETE") == 1


CANCEL_OUTCOMES = [case for case in OUTCOMES if case.values[1] is not OrderRejected and case.id != "200 empty"]


@pytest.mark.parametrize(("answer", "expected"), CANCEL_OUTCOMES)
async def test_every_other_answer_to_a_cancellation_has_its_outcome_and_costs_one_delete(
    answer: Answer, expected: type[HybridBrokerError]
) -> None:
    async with serving(script(("DELETE", answer))) as server, dhan(base_url=server.url) as broker:
        with pytest.raises(expected) as caught:
            await broker.cancel_order(ID)

    assert [each.method for each in server.asked] == ["DELETE"]
    if isinstance(caught.value, OrderOutcomeUnknown):
        assert caught.value.client_order_id == ID


async def test_what_was_seen_yesterday_is_forgotten() -> None:
    clock = ManualClock(NOON)
    today = Answer.of({"orderId": "777", "orderStatus": "TRANSIT"})
    answers = script(("POST", ACK), ("POST", today), ("DELETE", CANCELLED), ("GET", Answer(status=500)))
    async with serving(answers) as server, dhan(base_url=server.url, clock=clock) as broker:
        await broker.place_order(limit_order())
        clock.advance(86_400)
        await broker.place_order(limit_order())

        with pytest.raises(ReplyLost):
            await broker.cancel_order(ID)
