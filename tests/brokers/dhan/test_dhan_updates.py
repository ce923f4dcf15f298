"""The order-update stream over real sockets: whole, in order, honest about gaps, and no hammer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from dhan_kit import (
    CLIENT,
    NOON,
    TOKEN,
    Answer,
    Asked,
    Server,
    Table,
    alert,
    dhan,
    order_row,
    refusal,
    serving,
    settings,
)
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.domain.market import FeedState, Gap
from hybridbroker.domain.orders import Order, OrderStatus
from hybridbroker.errors import FeedAuthenticationError, NetworkError
from hybridbroker.testing.clock import ManualClock

Visit = Callable[[ServerConnection], Awaitable[None]]

ID = "3226091500012"


@attrs.define
class Dhan:
    """Both of Dhan's doors on loopback: what REST answers, and what each visit to the socket meets."""

    book: list[dict[str, Any]] = attrs.field(factory=list)
    visits: list[Visit] = attrs.field(factory=list)
    logins: list[str | bytes] = attrs.field(factory=list)
    token_is_good: bool = True
    book_is_down: int = 0
    was_read: asyncio.Event = attrs.field(factory=asyncio.Event)
    rest: Server = attrs.field(init=False)
    socket_url: str = ""

    def answer(self, asked: Asked) -> Answer:
        if not self.token_is_good:
            return Answer.of(refusal("Invalid Token"), 400)
        if asked.path == "/v2/profile":
            return Answer.of({"dhanClientId": CLIENT})
        if self.book_is_down:
            self.book_is_down -= 1
            return Answer(status=503, body=b"")
        if asked.path == "/v2/orders":
            self.was_read.set()
            return Answer.of(self.book)
        return Answer.of([row for row in self.book if asked.path.endswith(str(row["orderId"]))])

    async def meet(self, connection: ServerConnection) -> None:
        self.logins.append(await connection.recv())
        visit = self.visits.pop(0) if len(self.visits) > 1 else self.visits[0]
        await visit(connection)

    def asked_for(self, path: str) -> int:
        return sum(asked.path == f"/v2{path}" for asked in self.rest.asked)


def says(*frames: str, then: Visit | None = None) -> Visit:
    async def visit(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)
        await (then or stays)(connection)

    return visit


async def stays(connection: ServerConnection) -> None:
    await connection.wait_closed()


async def resets(connection: ServerConnection) -> None:
    connection.transport.abort()


async def hangs_up(connection: ServerConnection) -> None:
    await connection.close()


@asynccontextmanager
async def account(world: Dhan) -> AsyncIterator[DhanBroker]:
    async with serving(world.answer) as rest, serve(world.meet, "127.0.0.1", 0) as listener:
        world.rest = rest
        port = next(iter(listener.sockets)).getsockname()[1]
        async with dhan(base_url=rest.url, order_updates_url=f"ws://127.0.0.1:{port}") as broker:
            yield broker


async def take(stream: AsyncIterator[Order | Gap], count: int) -> list[Order | Gap]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def test_updates_come_whole_and_in_order() -> None:
    world = Dhan(
        visits=[
            says(
                alert(status="Transit", tradedQty=0, avgTradedPrice=0),
                alert(),
                alert(status="Traded", tradedQty=10, lastUpdatedTime="2026-09-15 09:20:03"),
            )
        ]
    )

    async with account(world) as broker, broker.order_updates() as updates:
        orders = await take(updates, 3)

    assert [(order.status, order.filled_quantity) for order in orders if isinstance(order, Order)] == [
        (OrderStatus.PENDING, 0),
        (OrderStatus.PARTIALLY_FILLED, 4),
        (OrderStatus.FILLED, 10),
    ]
    assert world.logins == [
        f'{{"LoginReq": {{"MsgCode": 42, "ClientId": "{CLIENT}", "Token": "{TOKEN}"}}, "UserType": "SELF"}}'
    ]


async def test_orders_wait_for_a_slow_consumer_without_being_dropped() -> None:
    sent = asyncio.Event()

    async def floods(connection: ServerConnection) -> None:
        await says(*(alert(orderNo=str(number)) for number in range(1, 2001)), then=noted)(connection)

    async def noted(connection: ServerConnection) -> None:
        await (await connection.ping())
        sent.set()
        await stays(connection)

    async with account(Dhan(visits=[floods])) as broker, broker.order_updates() as updates:
        async with asyncio.timeout(20):
            await sent.wait()
        orders = await take(updates, 2000)

    assert [order.id for order in orders if isinstance(order, Order)] == [str(number) for number in range(1, 2001)]


async def test_a_reconnection_is_a_gap_followed_by_the_orders_that_changed() -> None:
    world = Dhan(book=[order_row(), order_row(orderId="7")])

    async def breaks(connection: ServerConnection) -> None:
        await world.was_read.wait()
        await connection.send(alert(tradedQty=2))
        world.book = [
            order_row(orderStatus="TRADED", filledQty=10, updateTime="2026-09-15 09:25:00"),
            order_row(orderId="7"),
            order_row(orderId="8", createTime="2026-09-15 09:24:00"),
        ]
        await resets(connection)

    world.visits = [breaks, says(alert(orderNo="9"))]
    async with account(world) as broker, broker.order_updates() as updates:
        before, gap, filled, new, live = await take(updates, 5)

        assert updates.health.state is FeedState.LIVE
        assert (updates.health.reconnects, updates.health.gaps) == (1, 1)

    assert isinstance(before, Order)
    assert isinstance(gap, Gap)
    assert gap.since <= gap.until
    assert [(order.id, order.status) for order in (filled, new, live) if isinstance(order, Order)] == [
        (ID, OrderStatus.FILLED),
        ("8", OrderStatus.OPEN),
        ("9", OrderStatus.PARTIALLY_FILLED),
    ]
    assert len(world.logins) == 2


async def test_a_book_that_cannot_be_read_after_a_gap_is_read_later() -> None:
    world = Dhan()

    async def breaks(connection: ServerConnection) -> None:
        await world.was_read.wait()
        await connection.send(alert(orderNo="1"))
        world.book = [order_row(orderStatus="REJECTED", omsErrorDescription="RMS: no")]
        world.book_is_down = 6
        await resets(connection)

    world.visits = [breaks, says(alert(orderNo="2"))]
    async with account(world) as broker, broker.order_updates() as updates:
        events = await take(updates, 4)

    assert isinstance(events[1], Gap)
    assert {(order.id, order.status) for order in events[2:] if isinstance(order, Order)} == {
        ("2", OrderStatus.PARTIALLY_FILLED),
        (ID, OrderStatus.REJECTED),
    }


async def test_an_update_that_says_less_than_the_last_is_stale() -> None:
    late = {"lastUpdatedTime": "2026-09-15 09:20:01"}
    world = Dhan(
        visits=[
            says(
                alert(),
                alert(tradedQty=2),
                alert(**late),
                alert(status="Cancelled", tradedQty=4, lastUpdatedTime="2026-09-15 09:21:00"),
                alert(status="Pending", tradedQty=4, lastUpdatedTime="2026-09-15 09:22:00"),
                alert(status="Cancelled", tradedQty=5, lastUpdatedTime="2026-09-15 09:21:00"),
            )
        ]
    )

    async with account(world) as broker, broker.order_updates() as updates:
        orders = await take(updates, 3)
        stale = updates.health.skipped["stale"]

    assert [(order.status, order.filled_quantity) for order in orders if isinstance(order, Order)] == [
        (OrderStatus.PARTIALLY_FILLED, 4),
        (OrderStatus.CANCELLED, 4),
        (OrderStatus.CANCELLED, 5),
    ]
    assert stale == 3


async def test_an_update_that_is_not_an_order_by_itself_is_read_from_the_book() -> None:
    world = Dhan()

    async def appears(connection: ServerConnection) -> None:
        await world.was_read.wait()
        world.book = [order_row(filledQty=4, orderStatus="PART_TRADED")]
        await says(alert(quantity=None, txnType=None))(connection)

    world.visits = [appears]
    async with account(world) as broker, broker.order_updates() as updates:
        (order,) = await take(updates, 1)

    assert isinstance(order, Order)
    assert (order.quantity, order.status) == (10, OrderStatus.PARTIALLY_FILLED)


async def test_a_status_nobody_documented_is_looked_up() -> None:
    world = Dhan()

    async def appears(connection: ServerConnection) -> None:
        await world.was_read.wait()
        world.book = [order_row(filledQty=4, orderStatus="PART_TRADED")]
        await says(alert(status="Partially Done"))(connection)

    world.visits = [appears]
    async with account(world) as broker, broker.order_updates() as updates:
        (order,) = await take(updates, 1)

    assert isinstance(order, Order)
    assert order.raw == "PART_TRADED"


async def test_an_unreadable_frame_is_counted_and_the_book_read_instead(caplog: pytest.LogCaptureFixture) -> None:
    world = Dhan()

    async def appears(connection: ServerConnection) -> None:
        await world.was_read.wait()
        world.book = [order_row(orderStatus="REJECTED")]
        await says(f'{{"Data": "{TOKEN}"', '{"Type":"hello"}')(connection)

    world.visits = [appears]
    with caplog.at_level(logging.DEBUG):
        async with account(world) as broker, broker.order_updates() as updates:
            (order,) = await take(updates, 1)

            assert updates.health.skipped == {"unreadable": 1, "other": 1}

    assert isinstance(order, Order)
    assert order.status is OrderStatus.REJECTED


async def test_no_log_record_shows_the_token(caplog: pytest.LogCaptureFixture) -> None:
    world = Dhan(visits=[says(alert(), then=resets), says(alert(tradedQty=5))])
    logging.getLogger("websockets.server").setLevel(logging.WARNING)

    with caplog.at_level(logging.DEBUG, logger="hybridbroker"):
        async with account(world) as broker, broker.order_updates() as updates:
            await take(updates, 3)

    ours = [record for record in caplog.records if record.name.startswith("hybridbroker")]
    assert ours
    assert not any(TOKEN in record.getMessage() for record in ours)
    assert TOKEN not in f"{broker!r} {updates!r} {updates.health!r}"


async def test_a_token_that_died_stops_the_stream_instead_of_hammering() -> None:
    world = Dhan()

    async def dies(connection: ServerConnection) -> None:
        await world.was_read.wait()
        await connection.send(alert())
        world.token_is_good = False
        await resets(connection)

    world.visits = [dies, resets]
    async with account(world) as broker, broker.order_updates() as updates:
        first, gap = await take(updates, 2)
        with pytest.raises(FeedAuthenticationError, match="Invalid Token"):
            await take(updates, 1)
        with pytest.raises(FeedAuthenticationError):
            await take(updates, 1)

    assert isinstance(first, Order)
    assert isinstance(gap, Gap)
    assert len(world.logins) <= 2


async def test_a_silent_reset_is_followed_by_one_check_of_the_token() -> None:
    world = Dhan(visits=[resets, resets, says(alert())])

    async with account(world) as broker, broker.order_updates() as updates:
        events = await take(updates, 3)

    assert [type(event) for event in events] == [Gap, Gap, Order]
    assert world.asked_for("/profile") == 2


async def test_a_bad_token_is_found_on_entry() -> None:
    world = Dhan(visits=[resets], token_is_good=False)

    async with account(world) as broker:
        with pytest.raises(FeedAuthenticationError, match="Invalid Token"):
            async with broker.order_updates():
                pytest.fail("the stream was entered")

    assert len(world.logins) <= 1


async def test_entering_without_a_server_fails() -> None:
    async with serving(Dhan().answer) as rest, serve(stays, "127.0.0.1", 0) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        listener.close()
        async with dhan(base_url=rest.url, order_updates_url=f"ws://127.0.0.1:{port}") as broker:
            with pytest.raises(NetworkError):
                async with broker.order_updates():
                    pytest.fail("the stream was entered")


async def test_leaving_closes_the_socket_and_ends_the_iteration() -> None:
    left = asyncio.Event()

    async def watches(connection: ServerConnection) -> None:
        await connection.wait_closed()
        left.set()

    async with account(Dhan(visits=[watches])) as broker:
        async with broker.order_updates() as updates:
            pass
        async with asyncio.timeout(5):
            await left.wait()

            assert [event async for event in updates] == []

    assert updates.health.state is FeedState.CLOSED


async def test_a_token_replaced_by_another_is_renewed_and_the_next_login_has_it() -> None:
    world = Dhan(visits=[says(then=resets), says(alert())])
    tokens = Two("old", "new")

    def answer(asked: Asked) -> Answer:
        if asked.path == "/v2/profile" and asked.headers["access-token"] == "old":
            return Answer.of(refusal("Invalid Token"), 400)
        return world.answer(asked)

    async with serving(answer) as rest, serve(world.meet, "127.0.0.1", 0) as listener:
        world.rest = rest
        port = next(iter(listener.sockets)).getsockname()[1]
        chosen = settings(base_url=rest.url, order_updates_url=f"ws://127.0.0.1:{port}")
        broker = DhanBroker(chosen, instruments=Table(), clock=ManualClock(NOON), tokens=tokens)
        async with broker, broker.order_updates() as updates:
            gap, order = await take(updates, 2)

    assert isinstance(gap, Gap)
    assert isinstance(order, Order)
    assert [json.loads(login)["LoginReq"]["Token"] for login in world.logins] == ["old", "new"]


class Two:
    """A `TokenSource` whose first token is dead on the server."""

    def __init__(self, *names: str) -> None:
        self.left = [AccessToken(client_id=CLIENT, secret=SecretStr(name)) for name in names]

    async def token(self) -> AccessToken:
        return self.left[0]

    async def renewed(self, refused: AccessToken) -> AccessToken:
        assert refused is self.left.pop(0)
        return self.left[0]
