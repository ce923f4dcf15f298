"""Whatever Dhan sends, only errors of our tree come out, and nothing else is called an order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import respx
from dhan_kit import API, RELIANCE, alert, dhan, limit_order, order_row
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.orders import update_feed as feed
from hybridbroker.domain.orders import Order
from hybridbroker.errors import HybridBrokerError, WireFormatError

ID = "3226091500012"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**18, 10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
near_misses = st.builds(
    lambda key, value, wrapped: [{**order_row(), key: value}] if wrapped else {**order_row(), key: value},
    st.sampled_from([*order_row(), "errorCode", "errorType", "status", "data", "availabelBalance", "exchangeTradeId"]),
    anything,
    st.booleans(),
)
bodies = (anything | near_misses).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)

CALLS: dict[str, Callable[[DhanBroker], Awaitable[Any]]] = {
    "orders": lambda broker: broker.orders(),
    "order": lambda broker: broker.order(ID),
    "find_order": lambda broker: broker.find_order("st1-42"),
    "trades": lambda broker: broker.trades(),
    "trades of an order": lambda broker: broker.trades(ID),
    "positions": lambda broker: broker.positions(),
    "holdings": lambda broker: broker.holdings(),
    "funds": lambda broker: broker.funds(),
    "place": lambda broker: broker.place_order(limit_order()),
    "modify": lambda broker: broker.modify_order(ID, quantity=20),
    "cancel": lambda broker: broker.cancel_order(ID),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as each:
        yield each


@pytest.mark.parametrize("call", CALLS)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, status=st.sampled_from([200, 200, 200, 202, 302, 400, 401, 404, 429, 500]))
def test_any_answer_is_a_value_or_one_of_our_errors(
    runner: asyncio.Runner, call: str, body: bytes, status: int
) -> None:
    async def ask() -> None:
        with respx.mock(base_url=API) as server:
            server.route().respond(status, content=body)
            async with dhan() as broker:
                await CALLS[call](broker)

    try:
        runner.run(ask())
    except HybridBrokerError as exc:
        assert str(exc)  # noqa: PT017 - that it is one of ours is the promise


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    frame=bodies
    | st.builds(lambda key, value: alert(**{key: value}), st.sampled_from([*json.loads(alert())["Data"]]), anything)
)
def test_any_frame_is_an_order_or_nothing_or_unreadable(frame: bytes | str) -> None:
    try:
        update = feed.read_frame(frame)
        order = update and feed.order_from_alert(update, instrument=RELIANCE, known=None)
    except WireFormatError:
        return

    assert order is None or isinstance(order, Order)
