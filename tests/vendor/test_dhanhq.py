"""Dhan's own Python client, pointed at the emulator, does its work: the emulator is what that client expects."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from waiting import until

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import SystemClock
from hybridbroker.domain.orders import LimitOrder, Product, Side
from hybridbroker.domain.standing import OcoOrder, Trigger
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.testing.emulators import DhanEmulator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the vendor's imports are not ours to mend
    dhanhq = pytest.importorskip("dhanhq", reason="needs pip install 'hybridbroker[vendor]'")

pytestmark = [pytest.mark.vendor, pytest.mark.filterwarnings("default")]

ORDER = {
    "security_id": "2885",
    "exchange_segment": "NSE_EQ",
    "transaction_type": "BUY",
    "quantity": 10,
    "order_type": "LIMIT",
    "product_type": "CNC",
    "price": 1390.0,
}


class Client:
    """The vendor's blocking client, called from a thread; its base URL is the only thing changed."""

    def __init__(self, dhan: DhanEmulator) -> None:
        self.context = dhanhq.DhanContext(dhan.client_id, dhan.access_token)
        self._http = self.context.get_dhan_http()
        self._http.base_url = dhan.rest_url
        self._http.session.trust_env = False
        self._client = dhanhq.dhanhq(self.context)

    async def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        call: Callable[..., Any] = getattr(self._client, method)
        reply = await asyncio.to_thread(call, *arguments, **options)
        assert reply["status"] == "success", reply
        return reply["data"]

    async def refused(self, method: str, *arguments: Any, **options: Any) -> Any:
        call: Callable[..., Any] = getattr(self._client, method)
        reply = await asyncio.to_thread(call, *arguments, **options)
        assert reply["status"] == "failure", reply
        return reply["remarks"]

    def close(self) -> None:
        self._http.session.close()


@pytest.fixture
async def client(dhan_emulator: DhanEmulator) -> AsyncIterator[Client]:
    client = Client(dhan_emulator)
    yield client
    client.close()


async def test_it_places_modifies_cancels_and_reads_back(client: Client, dhan_emulator: DhanEmulator) -> None:
    placed = await client("place_order", **ORDER, tag="vendor-1")
    order_id = placed["orderId"]
    await client("modify_order", order_id, "LIMIT", "ENTRY_LEG", 12, 1391.5, 0, 0, "DAY")
    modified = await client("get_order_by_correlationID", "vendor-1")
    await client("cancel_order", order_id)
    (cancelled,) = await client("get_order_by_id", order_id)

    assert placed["orderStatus"] == "TRANSIT"
    assert [(row["quantity"], row["price"]) for row in modified] == [(12, 1391.5)]
    assert cancelled["orderStatus"] == "CANCELLED"
    assert await client("get_order_list") == dhan_emulator.book()


async def test_both_clients_see_the_same_book(client: Client, dhan_emulator: DhanEmulator) -> None:
    await client("place_order", **ORDER)
    await client("place_order", **ORDER | {"price": 1410.0})

    headers = {"access-token": dhan_emulator.access_token}
    async with httpx.AsyncClient(base_url=dhan_emulator.rest_url, headers=headers, trust_env=False) as http:
        for method, path in [("get_order_list", "/orders"), ("get_positions", "/positions")]:
            assert await client(method) == (await http.get(path)).json()


async def test_it_reads_trades_positions_and_funds(client: Client) -> None:
    order_id = (await client("place_order", **ORDER | {"price": 1410.0}))["orderId"]

    (trade,) = await client("get_trade_book", order_id)
    (position,) = await client("get_positions")
    funds = await client("get_fund_limits")

    assert (trade["tradedQuantity"], trade["tradedPrice"]) == (10, 1400.0)
    assert position["netQty"] == 10
    assert funds["availabelBalance"] == 86_000.0


async def test_it_is_told_of_errors_in_the_shape_it_reads(client: Client) -> None:
    remarks = await client.refused("place_order", **ORDER, tag="x" * 26)

    assert remarks["error_code"] == "DH-905"
    assert remarks["error_type"] == "Input_Exception"
    assert (await client.refused("get_holdings"))["error_code"] == "DH-1111"


async def test_its_order_updates_arrive(client: Client, dhan_emulator: DhanEmulator) -> None:
    updates: list[dict[str, Any]] = []
    socket = dhanhq.OrderUpdate(client.context)
    socket.order_feed_wss = dhan_emulator.order_updates_url
    socket.on_update = updates.append
    listening = asyncio.create_task(socket.connect_order_update())
    await until(lambda: dhan_emulator.update_sockets)

    await client("place_order", **ORDER | {"price": 1410.0})
    await until(lambda: len(updates) == 2)

    listening.cancel()
    await asyncio.wait([listening])
    assert [update["Data"]["status"] for update in updates] == ["Transit", "Traded"]


SUPER = {**ORDER, "product_type": "INTRADAY", "price": 1400.0, "targetPrice": 1430.0, "stopLossPrice": 1385.0}
FOREVER = {
    "security_id": "2885",
    "exchange_segment": "NSE_EQ",
    "transaction_type": "SELL",
    "product_type": "CNC",
    "order_type": "LIMIT",
    "quantity": 10,
    "price": 1430.0,
    "trigger_Price": 1429.0,
}


async def test_it_slices(client: Client, dhan_emulator: DhanEmulator) -> None:
    placed = await client("place_slice_order", **ORDER | {"quantity": 250_000})

    assert [each["quantity"] for each in dhan_emulator.book()] == [100_000, 100_000, 50_000]
    assert [each["orderId"] for each in placed] == [each["orderId"] for each in dhan_emulator.book()]


async def test_it_keeps_super_orders(client: Client, dhan_emulator: DhanEmulator) -> None:
    order_id = (await client("place_super_order", **SUPER, trailingJump=5.0, tag="super-1"))["orderId"]
    await client("modify_super_order", order_id, "LIMIT", "TARGET_LEG", targetPrice=1440.0)
    await client("modify_super_order", order_id, "LIMIT", "STOP_LOSS_LEG", stopLossPrice=1390.0, trailingJump=0.0)
    (row,) = await client("get_super_order_list")
    await client("cancel_super_order", order_id, "TARGET_LEG")
    (after,) = await client("get_super_order_list")

    assert (row["orderId"], row["orderStatus"], row["correlationId"]) == (order_id, "TRADED", "super-1")
    assert {each["legName"]: each["price"] for each in row["legDetails"]} == {
        "STOP_LOSS_LEG": 1390.0,
        "TARGET_LEG": 1440.0,
    }
    assert [each["orderStatus"] for each in after["legDetails"]] == ["PENDING", "CANCELLED"]


async def test_it_keeps_forever_orders(client: Client) -> None:
    single = (await client("place_forever", **FOREVER))["orderId"]
    oco = (
        await client(
            "place_forever",
            **FOREVER,
            order_flag="OCO",
            price1=1379.0,
            trigger_Price1=1380.0,
            quantity1=10,
            tag="oco-1",
        )
    )["orderId"]
    await client("modify_forever", oco, "OCO", "LIMIT", "STOP_LOSS_LEG", 8, 1374.0, 1375.0, 0, "DAY")
    rows = await client("get_forever")
    await client("cancel_forever", single)
    after = await client("get_forever")

    assert [(each["orderId"], each["legName"], each["triggerPrice"], each["quantity"]) for each in rows] == [
        (single, "ENTRY_LEG", 1429.0, 10),
        (oco, "TARGET_LEG", 1429.0, 10),
        (oco, "STOP_LOSS_LEG", 1375.0, 8),
    ]
    assert [each["orderStatus"] for each in after] == ["CANCELLED", "CONFIRM", "CONFIRM"]


async def test_it_calculates_margins_and_reads_statements(client: Client) -> None:
    await client("place_order", **ORDER | {"price": 1410.0})
    leg = {
        "exchangeSegment": "NSE_EQ",
        "transactionType": "BUY",
        "quantity": 10,
        "productType": "CNC",
        "securityId": "2885",
        "price": 1400.0,
    }

    one = await client("margin_calculator", "2885", "NSE_EQ", "BUY", 10, "CNC", 1400.0)
    two = await client("margin_calculator_multi", [leg, leg])
    ledger = await client("ledger_report", "2026-10-01", "2026-10-31")
    (trade,) = await client("get_trade_history", "2026-10-01", "2026-10-31")

    assert (one["totalMargin"], two["totalMargin"]) == (14_000.0, 28_000.0)
    assert [each["runbal"] for each in ledger] == ["100000.00", "86000.00"]
    assert trade["tradedQuantity"] == 10


async def test_it_controls_the_account(client: Client) -> None:
    order_id = (await client("place_order", **ORDER | {"price": 1410.0, "product_type": "INTRADAY"}))["orderId"]
    await client("set_pnl_exit", 5000, 5000, ["INTRADAY"])
    watched = await client("get_pnl_exit")
    await client("stop_pnl_exit")
    busy = await client.refused("kill_switch", "activate")
    await client("exit_all_positions")

    switched = await client("kill_switch", "activate")
    status = await client("status_kill_switch")
    refused = await client.refused("place_order", **ORDER)
    await client("kill_switch", "deactivate")

    assert (await client("get_order_by_id", order_id))[0]["orderStatus"] == "TRADED"
    assert (watched["pnlExitStatus"], watched["profit"]) == ("ACTIVE", "5000.00")
    assert busy["error_code"] == refused["error_code"] == "DH-906"
    assert switched["killSwitchStatus"] == "Kill Switch has been successfully activated"
    assert status["killSwitchStatus"] == "ACTIVATE"
    assert (await client("place_order", **ORDER))["orderStatus"] == "TRANSIT"


async def test_our_broker_and_it_see_the_same_state(client: Client, dhan_emulator: DhanEmulator) -> None:
    settings = DhanSettings(
        client_id=dhan_emulator.client_id,
        access_token=SecretStr(dhan_emulator.access_token),
        base_url=dhan_emulator.rest_url,
        order_updates_url=dhan_emulator.order_updates_url,
    )
    instruments = InstrumentRegistry.builtin()
    reliance = instruments["NSE:RELIANCE"]
    async with DhanBroker(settings, instruments=instruments, clock=SystemClock()) as broker:
        ours = await broker.place_order(LimitOrder(reliance, Side.BUY, quantity=10, price="1410"))
        theirs = (await client("place_order", **ORDER, tag="vendor-1"))["orderId"]
        gtt = await broker.place_gtt(
            OcoOrder(
                reliance,
                Side.SELL,
                quantity=10,
                target=Trigger("1430", price="1430"),
                stop=Trigger("1380", price="1379"),
            )
        )
        bracket_id = (await client("place_super_order", **SUPER))["orderId"]
        book, rows = await broker.orders(), await client("get_order_list")
        (position,) = [each for each in await broker.positions() if each.product is Product.DELIVERY]
        (shown,) = [each for each in await client("get_positions") if each["productType"] == "CNC"]
        funds, limits = await broker.funds(), await client("get_fund_limits")
        gtts, forever = await broker.gtts(), await client("get_forever")
        brackets, supers = await broker.brackets(), await client("get_super_order_list")

    assert {each.id for each in book} == {each["orderId"] for each in rows} >= {ours.id, theirs}
    assert {each.id: each.filled_quantity for each in book} == {each["orderId"]: each["filledQty"] for each in rows}
    assert {each.id: each.client_order_id for each in book}[theirs] == "vendor-1"
    assert (position.quantity, float(position.average_price)) == (shown["netQty"], shown["costPrice"])
    assert float(funds.available) == limits["availabelBalance"]
    assert [each.id for each in gtts] == [gtt.id]
    assert {each["orderId"] for each in forever} == {gtt.id}
    assert [leg.trigger_price for each in gtts for leg in each.legs] == [each["triggerPrice"] for each in forever]
    assert [each.id for each in brackets] == [each["orderId"] for each in supers] == [bracket_id]
