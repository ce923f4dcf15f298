"""The emulated Upstox's sockets: limits of a plan, auctions, repeats, and the portfolio stream."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from emulator_kit import RELIANCE, feed, receive, receive_text, request, rest
from upstox_orders_kit import client, message, portfolio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hybridbroker.domain.portfolio import Holding
from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator, invent
from hybridbroker.testing.emulators import feed_pb2 as pb

SHARES = invent(60)
KEYS = [each.upstox_key for each in SHARES]


async def subscribe(socket: ClientConnection, keys: list[str], mode: str) -> Any:
    await socket.send(request("sub", keys, mode))
    frame = await socket.recv()
    return json.loads(frame) if isinstance(frame, str) else pb.FeedResponse.FromString(frame)


async def test_a_plan_limits_the_keys_of_a_mode() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(SHARES), plan="plus", batch=100) as upstox, feed(upstox) as socket:
        await receive(socket)
        taken = await subscribe(socket, KEYS[:50], "full_d30")
        refused = await subscribe(socket, KEYS[50:51], "full_d30")

    assert len(taken.feeds) == 50
    assert refused["status"] == "failed"
    assert upstox.feed.refused_keys == KEYS[50:51]


async def test_thirty_levels_are_for_plus_alone() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(SHARES), plan="normal") as upstox, feed(upstox) as socket:
        await receive(socket)

        assert (await subscribe(socket, KEYS[:1], "full_d30"))["status"] == "failed"


async def test_limits_are_counted_over_all_sockets_and_tighter_when_mixed() -> None:
    shares = invent(2000)
    keys = [each.upstox_key for each in shares]
    market = EmulatedMarket.still(shares)
    async with UpstoxEmulator(market, plan="normal", batch=5000) as upstox, feed(upstox) as one, feed(upstox) as two:
        await receive(one)
        await receive(two)
        await subscribe(one, keys[:1], "ltpc")
        taken = await subscribe(two, keys[1:1501], "full")
        refused = await subscribe(two, keys[1501:1502], "full")

    assert len(taken.feeds) == 1500
    assert refused["status"] == "failed"


async def test_excess_can_be_met_with_silence_or_a_close() -> None:
    market = EmulatedMarket.still(SHARES)
    async with UpstoxEmulator(market, plan="plus", excess="ignore", batch=100) as upstox, feed(upstox) as socket:
        await receive(socket)
        taken = await subscribe(socket, KEYS, "full_d30")
        upstox.feed.excess = "close"
        await socket.send(request("sub", KEYS[50:], "full_d30"))
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    assert len(taken.feeds) == 50


async def test_a_plan_limits_the_sockets() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), plan="normal") as upstox, feed(upstox), feed(upstox):
        with pytest.raises(InvalidStatus) as caught:
            async with feed(upstox):
                pass

    assert caught.value.response.status_code == 403


async def test_a_pre_open_session_is_told_phase_by_phase(upstox_emulator: UpstoxEmulator) -> None:
    market = upstox_emulator.market
    async with feed(upstox_emulator) as socket:
        await receive(socket)
        await market.enter_phase(pb.PRE_OPEN_START, pre_open="PRE_OPEN_START")
        phase = (await receive(socket)).marketInfo
        await socket.send(request("sub", [RELIANCE], "full"))
        await receive(socket)
        await market.auction(
            "NSE:RELIANCE", price=1402.5, quantity=91_000, reference=1400.0, imbalance=300, market_imbalance=-20
        )
        auction = (await receive(socket)).feeds[RELIANCE].fullFeed.marketFF
        await market.enter_phase(pb.NORMAL_OPEN)
        await receive(socket)
        await market.move("NSE:RELIANCE", 1402.5)
        trading = (await receive(socket)).feeds[RELIANCE].fullFeed.marketFF

    assert phase.segmentStatus["NSE_EQ"] == pb.PRE_OPEN_START
    assert phase.preOpenSessionStatus["NSE_EQ"].status == "PRE_OPEN_START"
    assert auction.ltpc.iep.value == auction.iep == 1402.5
    assert (auction.ieq, auction.rp, auction.iiqTotal, auction.iiqM) == (91_000, 1400.0, 300, -20)
    assert auction.casEligible
    assert not trading.ltpc.HasField("iep")


async def test_a_closing_auction_is_told_apart_from_the_segment(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as socket:
        await receive(socket)
        await upstox_emulator.market.enter_phase(pb.NORMAL_CLOSE, closing_auction="CAS_LM_START")
        info = (await receive(socket)).marketInfo

    assert info.casMarketStatus["NSE_EQ"].status == "CAS_LM_START"
    assert not info.preOpenSessionStatus


async def test_updates_can_be_repeated_and_come_out_of_order(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as socket:
        await receive(socket)
        await socket.send(request("sub", [RELIANCE]))
        await receive(socket)
        upstox_emulator.feed.repeats = 1
        await upstox_emulator.market.move("NSE:RELIANCE", 1401.0)
        await upstox_emulator.market.move("NSE:RELIANCE", 1402.0)
        await upstox_emulator.feed.send_stale()
        prices = [(await receive(socket)).feeds[RELIANCE].ltpc.ltp for _ in range(5)]

    assert prices == [1401.0, 1401.0, 1402.0, 1402.0, 1401.0]


async def test_orders_are_streamed_state_by_state(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call, portfolio(upstox_emulator) as socket:
        order_id = await call.place(price=1410.0)
        told = [await message(socket) for _ in range(6)]

    assert [each["status"] for each in told] == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
        "open",
        "complete",
    ]
    assert {each["order_id"] for each in told} == {order_id}
    assert (told[0]["exchange_order_id"], told[0]["user_id"]) == ("", upstox_emulator.user_id)


async def test_fills_are_streamed_as_positions_and_sales_as_holdings() -> None:
    market = EmulatedMarket.still()
    reliance = market.by_instrument("NSE:RELIANCE").instrument
    held = Holding(instrument=reliance, quantity=12, available_quantity=12, average_price=Decimal(1200))
    async with (
        UpstoxEmulator(market, holdings=[held]) as upstox,
        client(upstox) as call,
        portfolio(upstox, "position,holding") as socket,
    ):
        await call.place(transaction_type="SELL", price=1390.0)
        position, holding = await message(socket), await message(socket)

    assert (position["update_type"], position["exchange"], position["day_sell_quantity"]) == ("position", "NSE_EQ", 10)
    assert "last_price" not in position
    assert (holding["update_type"], holding["quantity"]) == ("holding", 2)


async def test_the_stream_can_be_reached_by_redirect(upstox_emulator: UpstoxEmulator) -> None:
    url = f"{upstox_emulator.portfolio_url}?update_types=order%2Cgtt_order"
    headers = {"Authorization": f"Bearer {upstox_emulator.access_token}"}
    async with client(upstox_emulator) as call, connect(url, additional_headers=headers, proxy=None) as socket:
        await call.place()

        assert (await message(socket))["update_type"] == "order"

    with pytest.raises(InvalidStatus):
        await connect(url, proxy=None)


async def test_a_stream_url_works_once(upstox_emulator: UpstoxEmulator) -> None:
    async with rest(upstox_emulator) as http:
        reply = await http.get("/v2/feed/portfolio-stream-feed/authorize")
    url = reply.json()["data"]["authorized_redirect_uri"]
    async with connect(url, proxy=None):
        pass

    with pytest.raises(InvalidStatus):
        await connect(url, proxy=None)


async def test_an_unknown_update_type_is_refused(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        path = "/v2/feed/portfolio-stream-feed/authorize"
        assert await call.refused("GET", path, update_types="order,trade") == (400, "UDAPI100036")


async def test_any_update_can_be_sent(upstox_emulator: UpstoxEmulator) -> None:
    async with portfolio(upstox_emulator) as socket:
        upstox_emulator.send_update('{"update_type": "novelty"}')

        assert await receive_text(socket) == {"update_type": "novelty"}
