"""Whatever Dhan sends, only errors of our tree come out, and nothing else is called an order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import pytest
import respx
from dhan_kit import API, RELIANCE, alert, dhan, limit_order, order_row
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.orders import update_feed as feed
from hybridbroker.domain.orders import LimitOrder, Order, Side
from hybridbroker.domain.sliced import SlicedOrder
from hybridbroker.domain.standing import BracketOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import HybridBrokerError, WireFormatError

ID = "3226091500012"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**18, 10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ERRORS = ("errorCode", "errorType", "status", "data")


def near_to(row: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """One row with one field changed, alone or in a list."""
    return st.builds(
        lambda key, value, wrapped: [{**row, key: value}] if wrapped else {**row, key: value},
        st.sampled_from([*row, *ERRORS]),
        anything,
        st.booleans(),
    )


LEG = {"orderId": ID, "legName": "TARGET_LEG", "totalQuatity": 10, "price": 1, "orderStatus": "TRADED"}
ROWS: Sequence[Mapping[str, Any]] = (
    order_row(),
    {**order_row(), "legDetails": [LEG, {**LEG, "legName": "STOP_LOSS_LEG", "trailingJump": 5}]},
    {**order_row(), "orderType": "OCO", "legName": "TARGET_LEG", "triggerPrice": 1450, "orderStatus": "CONFIRM"},
    {**order_row(), "exchangeTradeId": "1", "tradedQuantity": 1, "tradedPrice": 1.5, "stt": 0.1},
    {"totalMargin": 1, "availableBalance": 2, "availabelBalance": 3, "killSwitchStatus": "ACTIVATE"},
    {"pnlExitStatus": "ACTIVE", "profit": "1", "loss": 2, "productType": ["INTRADAY"], "enable_kill_switch": True},
    {
        "voucherdate": "Sep 02, 2026",
        "debit": "1",
        "credit": "0",
        "runbal": "2",
        "isin": "X",
        "totalQty": 1,
        "aprvdQty": 1,
    },
)
near_misses = st.one_of([near_to(row) for row in ROWS])
bodies = (anything | near_misses).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)

DAY = date(2026, 9, 1)
SALE = LimitOrder(RELIANCE, Side.SELL, quantity=1, price="1402.5")
PAIR = OcoOrder(RELIANCE, Side.SELL, quantity=10, target=Trigger(1450), stop=Trigger(1350))
BRACKET = BracketOrder(RELIANCE, Side.BUY, quantity=10, price=1400, target_price=1430, stop_price=1385)

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
    "place a delivery sale": lambda broker: broker.place_order(SALE),
    "sliced": lambda broker: broker.place_sliced(SlicedOrder(RELIANCE, Side.BUY, quantity=10, price=1400)),
    "place a pair": lambda broker: broker.place_gtt(PAIR),
    "modify gtt": lambda broker: broker.modify_gtt(ID, quantity=20),
    "cancel gtt": lambda broker: broker.cancel_gtt(ID),
    "gtts": lambda broker: broker.gtts(),
    "place bracket": lambda broker: broker.place_bracket(BRACKET),
    "modify bracket": lambda broker: broker.modify_bracket(ID, quantity=20),
    "cancel bracket": lambda broker: broker.cancel_bracket(ID, leg=LegRole.STOP),
    "brackets": lambda broker: broker.brackets(),
    "margin": lambda broker: broker.margin(limit_order()),
    "margin of several": lambda broker: broker.margin([limit_order(), limit_order()]),
    "kill switch": lambda broker: broker.activate_kill_switch(),
    "kill switch status": lambda broker: broker.kill_switch_active(),
    "exit all": lambda broker: broker.exit_all(),
    "P&L exit": lambda broker: broker.pnl_exit(),
    "trade history": lambda broker: broker.trade_history(start=DAY, end=DAY),
    "ledger": lambda broker: broker.ledger(start=DAY, end=DAY),
    "eDIS": lambda broker: broker.edis_approval(RELIANCE),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as each:
        yield each


@pytest.mark.parametrize("call", CALLS)
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
