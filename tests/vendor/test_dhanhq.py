"""Dhan's own Python client, pointed at the emulator, does its work: the emulator is what that client expects."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from waiting import until

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
