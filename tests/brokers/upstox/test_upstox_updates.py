"""The portfolio stream over real sockets: whole, in order, honest about gaps, and no hammer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import attrs
import pytest
from upstox_desk_kit import ID, NOON, Answer, Asked, Server, message, order_row, serving, upstox
from upstox_kit import RELIANCE
from websockets.asyncio.server import ServerConnection, serve

from hybridbroker.brokers.upstox.broker import UpstoxBroker
from hybridbroker.brokers.upstox.orders.mapping import order_from_wire
from hybridbroker.brokers.upstox.orders.update_feed import read_message
from hybridbroker.brokers.upstox.orders.updates import is_stale
from hybridbroker.brokers.upstox.orders.wire import OrderRow
from hybridbroker.domain.market import FeedState, Gap
from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.domain.standing import Bracket, Gtt
from hybridbroker.errors import FeedAuthenticationError, NetworkError, WireFormatError
from hybridbroker.testing.clock import ManualClock

Visit = Callable[[ServerConnection], Awaitable[None]]
AUTHORIZE = "/v2/feed/portfolio-stream-feed/authorize"


@attrs.define
class Upstox:
    """Both doors on loopback: what REST answers, and what each visit to the socket meets; addresses work once."""

    book: list[Any] = attrs.field(factory=list)
    visits: list[Visit] = attrs.field(factory=list)
    paths: list[str] = attrs.field(factory=list)
    token_is_good: bool = True
    book_is_down: int = 0
    rest: Server = attrs.field(init=False)
    socket_port: int = 0

    def answer(self, asked: Asked) -> Answer:
        if not self.token_is_good:
            return Answer.refusal("UDAPI100050", status=401)
        if asked.path == AUTHORIZE:
            number = 1 + sum(each.path == AUTHORIZE for each in self.rest.asked)
            return Answer.data({"authorized_redirect_uri": f"ws://127.0.0.1:{self.socket_port}/feed?code={number}"})
        if self.book_is_down:
            self.book_is_down -= 1
            return Answer(status=200, body=b"{")
        if asked.path == "/v2/order/retrieve-all":
            return Answer.data(self.book or None)
        return Answer.data([row for row in self.book if row["order_id"] == asked.query["order_id"][0]])

    async def meet(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path not in self.paths, "an address was used twice"
        self.paths.append(connection.request.path)
        visit = self.visits.pop(0) if len(self.visits) > 1 else self.visits[0]
        await visit(connection)

    def asked_for(self, path: str) -> int:
        return sum(asked.path == path for asked in self.rest.asked)


def says(*frames: str | bytes, then: Visit | None = None) -> Visit:
    async def visit(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)
        await (then or stays)(connection)

    return visit


async def stays(connection: ServerConnection) -> None:
    await connection.wait_closed()


async def resets(connection: ServerConnection) -> None:
    connection.transport.abort()


@asynccontextmanager
async def account(world: Upstox) -> AsyncIterator[UpstoxBroker]:
    async with serving(world.answer) as rest, serve(world.meet, "127.0.0.1", 0) as listener:
        world.rest = rest
        world.socket_port = next(iter(listener.sockets)).getsockname()[1]
        async with upstox(rest.url) as broker:
            yield broker


async def take(stream: AsyncIterator[Any], count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


NEW = {"exchange_order_id": "", "exchange_timestamp": None}


async def test_updates_come_whole_and_in_order() -> None:
    world = Upstox(
        visits=[
            says(
                message(status="put order req received", **NEW),
                message(status="open pending", **NEW),
                message(),
                message(filled_quantity=4, average_price=1402.35).encode(),
                message(status="complete", filled_quantity=10, average_price=1402.4),
            )
        ]
    )
    async with account(world) as broker, broker.order_updates() as updates:
        orders = await take(updates, 5)

    assert [order.status for order in orders] == [
        OrderStatus.PENDING,
        OrderStatus.PENDING,
        OrderStatus.OPEN,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.FILLED,
    ]
    assert {(order.id, order.instrument, order.client_order_id) for order in orders} == {(ID, RELIANCE, "st1-42")}
    assert world.rest.asked[0].query == {"update_types": ["order"]}


async def test_what_the_book_holds_at_entry_is_not_repeated() -> None:
    world = Upstox(book=[order_row()], visits=[says(message(), message(status="cancelled"))])
    async with account(world) as broker, broker.order_updates() as updates:
        (order,) = await take(updates, 1)
        skipped = dict(updates.health.skipped)

    assert order.status is OrderStatus.CANCELLED
    assert skipped == {"duplicate": 1}


async def test_old_messages_never_take_an_order_back() -> None:
    filled = {"filled_quantity": 10, "average_price": 1402.4}
    world = Upstox(
        visits=[
            says(
                message(),
                message(status="open pending", **NEW),
                message(status="complete", **filled, exchange_timestamp="2026-10-01 11:59:59"),
                message(status="open", filled_quantity=4),
                message(status="open", **filled),
                message(status="cancelled", **filled),
                message(order_id="2"),
            )
        ]
    )
    async with account(world) as broker, broker.order_updates() as updates:
        first, second, other = await take(updates, 3)
        known = broker._book.known(ID)
        stale = updates.health.skipped["stale"]

    assert (first.status, second.status, other.id) == (OrderStatus.OPEN, OrderStatus.FILLED, "2")
    assert stale == 4
    assert known is not None
    assert known.status is OrderStatus.FILLED


async def test_a_gap_is_told_then_what_changed_in_it() -> None:
    world = Upstox(
        book=[order_row()],
        visits=[says(message(status="modified", price=1403.0), then=resets), stays],
    )
    async with account(world) as broker, broker.order_updates() as updates:
        rows = [order_row(status="complete", filled_quantity=10, price=1403.0), order_row(order_id="261001025000002")]
        world.book = rows
        changed, gap, filled, new = await take(updates, 4)
        health = updates.health

    assert isinstance(gap, Gap)
    assert changed.price == filled.price
    assert (filled.status, new.id) == (OrderStatus.FILLED, "261001025000002")
    assert (health.gaps, health.reconnects) == (1, 1)
    assert len(world.paths) == 2


async def test_a_book_that_is_down_after_a_gap_is_read_until_it_answers() -> None:
    world = Upstox(book=[order_row()], visits=[says(then=resets), stays])
    async with account(world) as broker, broker.order_updates() as updates:
        world.book = [order_row(status="cancelled")]
        world.book_is_down = 3
        gap, order = await take(updates, 2)

    assert isinstance(gap, Gap)
    assert order.status is OrderStatus.CANCELLED


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        b"\xff\xfe",
        message(quantity="ten"),
        message(transaction_type="HOLD"),
        json.dumps({"update_type": "order"}),
    ],
)
async def test_a_message_that_cannot_be_read_is_counted_and_the_book_read_instead(frame: str | bytes) -> None:
    world = Upstox(visits=[says(frame)])
    async with account(world) as broker, broker.order_updates() as updates:
        world.book = [order_row(status="rejected", status_message="no funds")]
        (order,) = await take(updates, 1)
        skipped = dict(updates.health.skipped)

    assert (order.status, order.reason) == (OrderStatus.REJECTED, "no funds")
    assert skipped == {"unreadable": 1}


async def test_a_status_nobody_documented_is_looked_up() -> None:
    world = Upstox(visits=[says(message(status="parked"))])
    async with account(world) as broker, broker.order_updates() as updates:
        world.book = [order_row(status="open")]
        (order,) = await take(updates, 1)

    assert order.status is OrderStatus.OPEN
    assert world.asked_for("/v2/order/details") == 1


async def test_messages_of_a_kind_that_is_not_known_are_counted() -> None:
    world = Upstox(visits=[says(json.dumps({"update_type": "weather"}), "{}", message())])
    async with account(world) as broker, broker.order_updates() as updates:
        await take(updates, 1)
        skipped = dict(updates.health.skipped)

    assert skipped == {"other": 2}


GTT = {
    "update_type": "gtt_order",
    "type": "SINGLE",
    "exchange": "NSE_EQ",
    "instrument_token": "NSE_EQ|INE000A01018",
    "quantity": 1,
    "product": "D",
    "gtt_order_id": "GTT-1",
    "created_at": 1790823600000000,
    "expires_at": 1822359600000000,
    "rules": [
        {"strategy": "ENTRY", "status": "PENDING", "trigger_price": 1390.0, "transaction_type": "BUY", "order_id": None}
    ],
}
HOLDING = {"update_type": "holding", "instrument_key": "NSE_EQ|INE000A01018", "quantity": 3, "exchange": "NSE"}
POSITION = {"update_type": "position", "instrument_key": "NSE_EQ|INE000A01018", "quantity": 2, "product": "D"}


async def test_the_portfolio_stream_tells_of_everything_by_type() -> None:
    exits = [
        {"strategy": each, "status": "PENDING", "trigger_price": 1, "transaction_type": "SELL"}
        for each in ("TARGET", "STOPLOSS")
    ]
    bracket = {**GTT, "type": "MULTIPLE", "rules": [*GTT["rules"], *exits]}  # type: ignore[misc]
    frames = [json.dumps(each) for each in (GTT, bracket, HOLDING, POSITION)]
    world = Upstox(visits=[says(*frames, message())])
    async with account(world) as broker, broker.portfolio_updates() as updates:
        events = await take(updates, 5)

    assert [type(event) for event in events] == [Gtt, Bracket, Holding, Position, Order]
    assert {event.instrument for event in events} == {RELIANCE}
    assert world.rest.asked[0].query == {"update_types": ["order,gtt_order,position,holding"]}


async def test_a_refused_token_ends_the_stream_at_entry() -> None:
    world = Upstox(visits=[stays], token_is_good=False)
    async with account(world) as broker:
        with pytest.raises(FeedAuthenticationError):
            async with broker.order_updates():
                pytest.fail("the stream was entered")

    assert world.paths == []


async def test_a_token_that_dies_while_the_stream_runs_ends_it_without_hammering() -> None:
    world = Upstox(visits=[says(message(), then=resets), stays])
    async with account(world) as broker, broker.order_updates() as updates:
        await take(updates, 1)
        world.token_is_good = False
        with pytest.raises(FeedAuthenticationError):
            await take(updates, 5)

    assert world.asked_for(AUTHORIZE) <= 3


async def test_an_unreachable_book_at_entry_is_an_error() -> None:
    world = Upstox(visits=[stays], book_is_down=99)
    async with account(world) as broker:
        with pytest.raises((NetworkError, WireFormatError)):
            async with broker.order_updates():
                pytest.fail("the stream was entered")


async def test_leaving_the_stream_ends_its_iteration() -> None:
    world = Upstox(visits=[stays])
    async with account(world) as broker:
        async with broker.order_updates() as updates:
            state = updates.health.state
        with pytest.raises(StopAsyncIteration):
            await anext(updates)

    assert state is FeedState.LIVE


def order(**changes: Any) -> Order:
    return order_from_wire(OrderRow.read(order_row(**changes), what="x"), instrument=RELIANCE)


@pytest.mark.parametrize(
    ("changes", "shown", "expected"),
    [
        pytest.param({"filled_quantity": 3}, {"filled_quantity": 4}, True, id="fewer fills"),
        pytest.param({"filled_quantity": 5}, {"filled_quantity": 4}, False, id="more fills"),
        pytest.param({}, {"status": "cancelled"}, True, id="life after death"),
        pytest.param({"status": "rejected"}, {"status": "cancelled"}, True, id="another death"),
        pytest.param({"status": "cancelled"}, {}, False, id="death"),
        pytest.param({"status": "cancelled", "exchange_timestamp": None}, {}, False, id="death without a time"),
        pytest.param(
            {"status": "cancelled", "order_timestamp": "2026-10-01 09:00:00", "exchange_timestamp": None},
            {},
            False,
            id="death of an earlier time",
        ),
        pytest.param({"status": "open pending"}, {}, True, id="back to on its way"),
        pytest.param({"status": "trigger pending"}, {}, False, id="waiting for its trigger again"),
        pytest.param({"status": "modified"}, {"status": "modify pending"}, False, id="modified"),
        pytest.param(
            {"order_timestamp": "2026-10-01 11:00:00", "exchange_timestamp": "2026-10-01 11:00:00"},
            {},
            True,
            id="an earlier time",
        ),
    ],
)
def test_an_update_is_stale_when_it_says_less(changes: dict[str, Any], shown: dict[str, Any], expected: bool) -> None:
    assert is_stale(order(**changes), order(**shown)) is expected


def test_a_postback_is_read_by_the_same_mapping() -> None:
    row = read_message(message())

    assert isinstance(row, OrderRow)
    assert order_from_wire(row, instrument=RELIANCE) == order()


def test_the_clock_of_these_tests_is_a_trading_day() -> None:
    assert ManualClock(NOON).now() - NOON == timedelta(0)
