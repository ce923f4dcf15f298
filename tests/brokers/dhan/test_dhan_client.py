"""How one call is made: with the token of the moment, within the account's limits, a write never twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx
from dhan_kit import API, CLIENT, NOON, Table, dhan, limit_order, order_row, refusal, settings
from pydantic import SecretStr

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.errors import (
    AuthenticationError,
    InvalidOrder,
    NotSent,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    StaticIpRequired,
    TokenExpired,
    WireFormatError,
)
from hybridbroker.testing.clock import ManualClock

DEAD = [
    pytest.param(401, refusal("expired", "DH-901", "Invalid_Authentication"), id="401 DH-901"),
    pytest.param(400, refusal("Invalid Token"), id="400 DH-906"),
    pytest.param(401, {"status": "failed", "data": {"807": "Token expired"}}, id="807"),
    pytest.param(401, {"status": "failed", "data": {"808": "Client id or token wrong"}}, id="808"),
    pytest.param(200, {"status": "failed", "data": {"809": "Token invalid"}}, id="809 under 200"),
    pytest.param(500, {"errorCode": "INTERNAL_SERVER_ERROR", "internalErrorMessage": "bad JWT"}, id="500 of old"),
    pytest.param(401, None, id="401 without a word"),
]
ALIVE = [
    pytest.param(403, {"status": "failed", "data": {"806": "Not subscribed"}}, AuthenticationError, id="no plan"),
    pytest.param(400, refusal("Invalid IP", "DH-905"), StaticIpRequired, id="address"),
    pytest.param(401, refusal("Invalid IP", "DH-911"), StaticIpRequired, id="address under 401"),
    pytest.param(401, {"status": "failed", "data": {"810": "Client id invalid"}}, AuthenticationError, id="client id"),
]


def token(name: str) -> AccessToken:
    return AccessToken(client_id=CLIENT, secret=SecretStr(name))


class Tokens:
    """A `TokenSource` with one token after another."""

    def __init__(self, *names: str) -> None:
        self.left = [token(name) for name in names]
        self.refused: list[str] = []

    async def token(self) -> AccessToken:
        return self.left[0]

    async def renewed(self, refused: AccessToken) -> AccessToken:
        self.refused.append(refused.secret.get_secret_value())
        if len(self.left) == 1:
            raise TokenExpired("there is no other")
        if refused is self.left[0]:
            self.left.pop(0)
        return self.left[0]


def broker(tokens: Tokens, clock: ManualClock | None = None) -> DhanBroker:
    return DhanBroker(settings(), instruments=Table(), clock=clock or ManualClock(NOON), tokens=tokens)


def only_for(name: str, status: int, body: Any, accepted: Any) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["access-token"] == name:
            return httpx.Response(200, json=accepted)
        return httpx.Response(status, json=body) if body is not None else httpx.Response(status)

    return answer


@pytest.mark.parametrize(("status", "body"), DEAD)
async def test_a_read_with_a_dead_token_is_repeated_once_with_a_fresh_one(status: int, body: Any) -> None:
    tokens = Tokens("old", "new")
    with respx.mock(base_url=API) as server:
        route = server.get("/orders").mock(side_effect=only_for("new", status, body, []))
        async with broker(tokens) as dhan_broker:
            assert await dhan_broker.orders() == []

    assert [call.request.headers["access-token"] for call in route.calls] == ["old", "new"]
    assert tokens.refused == ["old"]


@pytest.mark.parametrize(("status", "body"), DEAD)
async def test_a_read_is_not_repeated_twice(status: int, body: Any) -> None:
    with respx.mock(base_url=API) as server:
        route = server.get("/orders").mock(side_effect=only_for("none", status, body, []))
        async with broker(Tokens("old", "new", "newer")) as dhan_broker:
            with pytest.raises((AuthenticationError, ServiceUnavailable)):
                await dhan_broker.orders()

    assert len(route.calls) == 2


async def test_a_dead_token_without_a_successor_tells_both_reasons() -> None:
    with respx.mock(base_url=API) as server:
        server.get("/orders").respond(400, json=refusal("Invalid Token"))
        async with broker(Tokens("old")) as dhan_broker:
            with pytest.raises(TokenExpired, match=r"Invalid Token .*there is no other"):
                await dhan_broker.orders()


@pytest.mark.parametrize(("status", "body", "expected"), ALIVE)
async def test_no_token_is_renewed_for_what_is_no_fault_of_it(
    status: int, body: Any, expected: type[Exception]
) -> None:
    tokens = Tokens("old", "new")
    with respx.mock(base_url=API) as server:
        server.get("/orders").respond(status, json=body)
        async with broker(tokens) as dhan_broker:
            with pytest.raises(expected):
                await dhan_broker.orders()

    assert tokens.refused == []


@pytest.mark.parametrize(("status", "body"), [each for each in DEAD if each.id != "401 without a word"])
async def test_a_write_with_a_dead_token_is_never_repeated_and_the_next_has_a_fresh_one(status: int, body: Any) -> None:
    tokens = Tokens("old", "new")
    with respx.mock(base_url=API) as server:
        ack = {"orderId": "1", "orderStatus": "TRANSIT"}
        route = server.post("/orders").mock(side_effect=only_for("new", status, body, ack))
        async with broker(tokens) as dhan_broker:
            with pytest.raises((AuthenticationError, OrderOutcomeUnknown)) as caught:
                await dhan_broker.place_order(limit_order(client_order_id="a"))
            assert len(route.calls) == 1
            await dhan_broker.place_order(limit_order(client_order_id="b"))

    assert isinstance(caught.value, AuthenticationError) is (status in {400, 401})
    assert [call.request.headers["access-token"] for call in route.calls] == ["old", "new"]


async def test_a_write_goes_on_with_a_refused_token_where_there_is_no_other() -> None:
    with respx.mock(base_url=API) as server:
        route = server.delete("/orders/1").respond(400, json=refusal("Invalid Token"))
        async with broker(Tokens("old")) as dhan_broker:
            for _ in range(2):
                with pytest.raises(TokenExpired):
                    await dhan_broker.cancel_order("1")

    assert len(route.calls) == 2


@pytest.mark.parametrize("failure", [ReplyLost("login"), ServiceUnavailable("login"), WireFormatError("login")])
async def test_an_order_without_a_token_is_not_sent_whatever_the_login_server_did(failure: Exception) -> None:
    class Down(Tokens):
        async def renewed(self, refused: AccessToken) -> AccessToken:
            raise failure

    with respx.mock(base_url=API) as server:
        route = server.post("/orders").respond(400, json=refusal("Invalid Token"))
        async with broker(Down("old")) as dhan_broker:
            with pytest.raises(TokenExpired):
                await dhan_broker.place_order(limit_order())
            for _ in range(2):
                with pytest.raises(NotSent, match="token"):
                    await dhan_broker.place_order(limit_order())

    assert len(route.calls) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, refusal("Too many requests", "DH-904", "Rate_Limit")),
        (429, {"status": "failed", "data": {"805": "Too many requests"}}),
        (200, {"status": "failed", "data": {"805": "Too many requests"}}),
        (400, {"status": "failed", "data": {"805": "Too many requests"}}),
    ],
)
async def test_a_throttled_read_waits_longer_each_time(status: int, body: Any) -> None:
    clock = ManualClock(NOON)
    with respx.mock(base_url=API) as server:
        route = server.get("/orders")
        route.side_effect = [*[httpx.Response(status, json=body)] * 3, httpx.Response(200, json=[])]
        async with broker(Tokens("t"), clock) as dhan_broker:
            assert await dhan_broker.orders() == []

    assert clock.monotonic() == pytest.approx(2 + 4 + 8)


async def test_a_read_that_stays_throttled_gives_up_and_keeps_the_family_waiting() -> None:
    clock = ManualClock(NOON)
    with respx.mock(base_url=API) as server:
        server.get("/orders").respond(429, json=refusal("Too many", "DH-904"))
        server.get("/fundlimit").respond(json={"availabelBalance": 1})
        async with broker(Tokens("t"), clock) as dhan_broker:
            with pytest.raises(RateLimited):
                await dhan_broker.orders()
            gave_up = clock.monotonic()
            await dhan_broker.funds()

    assert gave_up == pytest.approx(14)
    assert clock.monotonic() == pytest.approx(30)


async def test_a_throttled_write_is_not_repeated() -> None:
    with respx.mock(base_url=API) as server:
        route = server.post("/orders").respond(400, json={"status": "failed", "data": {"805": "Too many"}})
        async with dhan() as dhan_broker:
            with pytest.raises(RateLimited):
                await dhan_broker.place_order(limit_order())

    assert len(route.calls) == 1


async def test_clients_of_one_account_share_its_limits() -> None:
    clock = ManualClock(NOON)
    with respx.mock(base_url=API) as server:
        server.get("/orders").respond(json=[])
        async with broker(Tokens("t"), clock) as one, broker(Tokens("t"), clock) as other:
            for _ in range(10):
                await one.orders()
                await other.orders()
            before = clock.monotonic()
            await other.orders()

    assert before == 0
    assert clock.monotonic() == pytest.approx(1.05)


async def test_a_client_that_is_not_open_sends_nothing() -> None:
    client = DhanClient(base_url=API, tokens=Tokens("t"), clock=ManualClock(NOON), account=CLIENT)

    with pytest.raises(NotSent, match="async with"):
        await client.read("/orders")
    with pytest.raises(NotSent, match="async with"):
        await client.write("DELETE", "/orders/1", what="it", subject="1")


async def test_a_token_that_came_meanwhile_is_used_at_once() -> None:
    tokens = Tokens("old", "new")
    with respx.mock(base_url=API) as server:
        route = server.get("/orders").respond(json=[order_row()])
        async with broker(tokens) as dhan_broker:
            await dhan_broker.orders()
            tokens.left.pop(0)
            await dhan_broker.orders()

    assert [call.request.headers["access-token"] for call in route.calls] == ["old", "new"]


async def test_many_reads_with_a_dead_token_all_end_well() -> None:
    tokens = Tokens("old", "new")
    with respx.mock(base_url=API) as server:
        server.get("/orders").mock(side_effect=only_for("new", 400, refusal("Invalid Token"), []))
        async with broker(tokens) as dhan_broker:
            assert await asyncio.gather(*(dhan_broker.orders() for _ in range(5))) == [[]] * 5


async def test_a_name_used_today_is_refused_unless_its_order_was() -> None:
    refused, taken = httpx.Response(400, json=refusal("no funds")), httpx.Response(200, json={"orderId": "1"})
    with respx.mock(base_url=API) as server:
        route = server.post("/orders")
        route.side_effect = [refused, taken]
        async with dhan() as dhan_broker:
            with pytest.raises(OrderRejected):
                await dhan_broker.place_order(limit_order())
            await dhan_broker.place_order(limit_order())
            with pytest.raises(InvalidOrder, match="used today"):
                await dhan_broker.place_order(limit_order())

    assert len(route.calls) == 2
