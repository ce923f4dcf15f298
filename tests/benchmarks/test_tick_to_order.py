"""The tick-to-order benchmark measures what it says, and refuses to time a client that is wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("tick_to_order")


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("_market")


@asynccontextmanager
async def client(loopback: Any, market: Any, on_frame: Callable[[bytes], bytes]) -> AsyncIterator[None]:
    """Subscribe as ``test`` and send whatever orders ``on_frame`` makes of each frame's payload."""
    server = await asyncio.get_running_loop().create_server(lambda: loopback._Line(market), loopback.HOST, 0)
    address = server.sockets[0].getsockname()
    feed_in, feed_out = await asyncio.open_connection(*address)
    _, orders_out = await asyncio.open_connection(*address)
    feed_out.write(b"GET /feed/test HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n")
    await feed_in.readuntil(b"\r\n\r\n")
    feed_out.write(b"\x82\x82\0\0\0\0{}")

    async def trade() -> None:
        while True:
            head = await feed_in.readexactly(4)
            assert head[:2] == b"\x82\x7e"
            orders_out.write(on_frame(await feed_in.readexactly(int.from_bytes(head[2:], "big"))))

    trading = asyncio.create_task(trade())
    yield
    trading.cancel()
    for writer in (feed_out, orders_out):
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


def post(price: str) -> bytes:
    order = '{"securityId": "2885", "transactionType": "BUY", "orderType": "LIMIT", "quantity": 1, "price": %s}' % price  # noqa: UP031 - braces
    return f"POST /v2/orders HTTP/1.1\r\nContent-Length: {len(order)}\r\n\r\n{order}".encode()


def price_of(loopback: Any, payload: bytes) -> str:
    return repr(loopback.pb.FeedResponse.FromString(payload).feeds[loopback.KEY].fullFeed.marketFF.ltpc.ltp)


def test_smoke_runs_with_or_without_the_vendors_clients() -> None:
    command = [sys.executable, str(BENCHMARKS / "tick_to_order.py"), "--smoke", "--check", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {(row["instruments"], row["client"]) for row in told["rows"]} >= {(1, "ours"), (50, "ours"), (50, "floor")}
    assert "ours: order rate limits raised, order journal off" in told["notes"]


async def test_market_times_an_order_at_the_price_of_its_tick(loopback: Any) -> None:
    market = loopback.Market()

    async with client(loopback, market, lambda payload: post(price_of(loopback, payload))):
        spans = await market.run(loopback.Round("test", 1, 3))

    assert len(spans) == 3
    assert min(spans) > 0


async def test_market_refuses_an_order_at_another_price(loopback: Any) -> None:
    market = loopback.Market()

    async with client(loopback, market, lambda _: post("1399.95")):
        with pytest.raises(loopback.Fault, match="does not follow from the tick"):
            await market.run(loopback.Round("test", 1, 1))


async def test_market_refuses_a_second_order_for_one_frame(loopback: Any) -> None:
    market = loopback.Market()

    async with client(loopback, market, lambda payload: post(price_of(loopback, payload)) * 2):
        with pytest.raises(loopback.Fault, match="no frame asked for"):
            await market.run(loopback.Round("test", 1, 2))


def test_rows_compare_within_a_round_and_take_medians(script: Any) -> None:
    spans = {
        (1, "ours"): [[1000], [4000], [2000]],
        (1, "vendors"): [[2000], [4000], [6000]],
    }

    ours, _ = script.rows_of(spans)

    assert ours["vendors_to_this_p50"] == 2.0
    assert ours["us_p50"] == 2.0
    assert "this_to_floor_p50" not in ours


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (99, 4), (100, 4), (1, 1)])
def test_percentile_is_one_of_the_values(script: Any, percent: int, expected: int) -> None:
    assert script.percentile([4, 3, 2, 1], percent) == expected


def test_a_missed_bar_is_named_and_an_unjudged_one_is_no_pass(script: Any) -> None:
    rows = [
        {"instruments": 1, "client": "ours", "vendors_to_this_p50": 1.19},
        {"instruments": 50, "client": "ours"},
    ]

    below, unjudged = script.missed_bars(rows)

    assert "1.19" in below
    assert "not judged" in unjudged


def test_bars_are_met_at_their_figures(script: Any) -> None:
    rows = [{"instruments": each, "client": "ours", "vendors_to_this_p50": bar} for each, bar in script.BARS.items()]

    assert script.missed_bars(rows) == []
