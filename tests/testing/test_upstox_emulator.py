"""The emulated Upstox answers as documented and recorded."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest
from emulator_kit import NIFTY, RELIANCE, TCS, feed, one_time_url, receive, receive_text, request, rest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.messages import SEGMENTS


def error_of(reply: httpx.Response) -> dict[str, Any]:
    body = reply.json()
    assert body["status"] == "error"
    assert "data" not in body
    error: dict[str, Any] = body["errors"][0]
    assert error["errorCode"] == error["error_code"]
    return error


async def test_authorize_gives_a_fresh_url_each_time(upstox_emulator: UpstoxEmulator) -> None:
    first, second = await one_time_url(upstox_emulator), await one_time_url(upstox_emulator)

    assert first != second
    assert first.startswith(
        f"ws://{upstox_emulator.address}/market-data-feeder/v3/upstox-developer-api/feeds?requestId="
    )


async def test_a_bad_token_is_the_recorded_401(upstox_emulator: UpstoxEmulator) -> None:
    async with rest(upstox_emulator, token="old") as http:
        reply = await http.get("/v3/feed/market-data-feed/authorize")

    assert reply.status_code == 401
    assert error_of(reply) == {
        "errorCode": "UDAPI100050",
        "message": "Invalid token used to access API",
        "propertyPath": None,
        "invalidValue": None,
        "error_code": "UDAPI100050",
        "property_path": None,
        "invalid_value": None,
    }


async def test_a_token_can_be_replaced_while_running(upstox_emulator: UpstoxEmulator) -> None:
    async with rest(upstox_emulator) as http:
        before = await http.get("/v3/feed/market-data-feed/authorize")
        upstox_emulator.access_token = "tomorrow's"
        after = await http.get("/v3/feed/market-data-feed/authorize")

    assert (before.status_code, after.status_code) == (200, 401)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_feed_url_works_once(status: int) -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), used_url_status=status) as upstox:
        url = await one_time_url(upstox)
        async with connect(url, proxy=None):
            pass

        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, proxy=None):
                pass

    assert caught.value.response.status_code == status


async def test_the_redirecting_url_sends_the_handshake_on(upstox_emulator: UpstoxEmulator) -> None:
    headers = {"Authorization": f"Bearer {upstox_emulator.access_token}"}

    async with connect(upstox_emulator.feed_url, additional_headers=headers, proxy=None) as client:
        message = await receive(client)

    assert message.type == pb.market_info
    assert [each.method for each in upstox_emulator.requests] == ["WS", "WS"]


async def test_the_redirecting_url_wants_a_token(upstox_emulator: UpstoxEmulator) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(upstox_emulator.feed_url, proxy=None):
            pass

    assert caught.value.response.status_code == 401


async def test_the_redirect_of_a_plain_request_names_the_socket(upstox_emulator: UpstoxEmulator) -> None:
    async with rest(upstox_emulator) as http:
        reply = await http.get("/v3/feed/market-data-feed")

    assert reply.status_code == 302
    assert reply.headers["location"].startswith("ws://")


async def test_the_feed_begins_with_the_market_phase(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        message = await receive(client)

    assert message.type == pb.market_info
    assert dict(message.marketInfo.segmentStatus) == dict.fromkeys(SEGMENTS, pb.NORMAL_OPEN)


async def test_a_subscription_is_answered_by_a_snapshot_then_updates(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        await client.send(request("sub", [RELIANCE], "full"))
        snapshot = await receive(client)
        await upstox_emulator.market.move("NSE:RELIANCE", 1401.0)
        update = await receive(client)

    assert (snapshot.type, update.type) == (pb.initial_feed, pb.live_feed)
    assert snapshot.feeds[RELIANCE].fullFeed.marketFF.ltpc.ltp == 1400.0
    assert update.feeds[RELIANCE].fullFeed.marketFF.ltpc.ltp == 1401.0
    assert update.currentTs == upstox_emulator.market.now_ms


@pytest.mark.parametrize(
    ("mode", "union", "answered"),
    [
        ("ltpc", "ltpc", pb.ltpc),
        ("full", "fullFeed", pb.full_d5),
        ("full_d30", "fullFeed", pb.full_d30),
        ("option_greeks", "firstLevelWithGreeks", pb.option_greeks),
    ],
)
async def test_each_mode_has_its_own_union_member(mode: str, union: str, answered: int) -> None:
    async with UpstoxEmulator(EmulatedMarket.still(levels=30)) as upstox, feed(upstox) as client:
        await receive(client)
        await client.send(request("sub", [RELIANCE], mode))
        entry = (await receive(client)).feeds[RELIANCE]

    assert entry.WhichOneof("FeedUnion") == union
    assert entry.requestMode == answered
    assert len(entry.fullFeed.marketFF.marketLevel.bidAskQuote) == {"full": 5, "full_d30": 30}.get(mode, 0)


async def test_a_subscription_without_mode_is_ltpc(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        await client.send(request("sub", [RELIANCE]))
        entry = (await receive(client)).feeds[RELIANCE]

    assert entry.WhichOneof("FeedUnion") == "ltpc"


async def test_an_index_has_neither_depth_nor_volume(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        await client.send(request("sub", [NIFTY], "full"))
        entry = (await receive(client)).feeds[NIFTY]

    assert entry.fullFeed.WhichOneof("FullFeedUnion") == "indexFF"


async def test_unsubscribed_and_changed_keys_follow_the_request(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        await client.send(request("sub", [RELIANCE, TCS], "full"))
        await receive(client)
        await client.send(request("unsub", [TCS]))
        await client.send(request("change_mode", [RELIANCE, TCS], "ltpc"))
        changed = await receive(client)

    assert list(changed.feeds) == [RELIANCE]
    assert changed.feeds[RELIANCE].requestMode == pb.ltpc


async def test_unknown_keys_are_met_with_silence_and_counted(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        await client.send(request("sub", ["NSE_EQ|NOBODY", RELIANCE]))
        snapshot = await receive(client)

    assert list(snapshot.feeds) == [RELIANCE]
    assert upstox_emulator.unknown_keys == ["NSE_EQ|NOBODY"]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(request("sub", [RELIANCE]).decode(), id="text frame"),
        pytest.param(b"not json", id="no JSON"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"method":"sub"}', id="no data"),
        pytest.param(request("subscribe", [RELIANCE]), id="unknown method"),
        pytest.param(request("sub", [RELIANCE], "everything"), id="unknown mode"),
        pytest.param(request("change_mode", [RELIANCE]), id="no mode"),
    ],
)
async def test_a_bad_request_is_refused_in_words(upstox_emulator: UpstoxEmulator, frame: str | bytes) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        await client.send(frame)
        refusal = await receive_text(client)

    assert refusal["status"] == "failed"
    assert refusal["error"]


async def test_frames_hold_at_most_a_batch() -> None:
    keys = [each.upstox_key for each in EmulatedMarket.still().listed]
    async with UpstoxEmulator(EmulatedMarket.still(), batch=3) as upstox, feed(upstox) as client:
        await receive(client)
        await client.send(request("sub", keys))
        sizes = [len((await receive(client)).feeds) for _ in range(3)]

    assert sizes == [3, 3, 1]


async def test_the_day_plays_from_the_first_subscription_to_the_close() -> None:
    market = EmulatedMarket.random_walk()
    async with UpstoxEmulator(market) as upstox, feed(upstox) as client:
        assert market.steps_done == 0
        await client.send(request("sub", [RELIANCE], "full"))
        updates, phases = 0, []
        while pb.NORMAL_CLOSE not in phases:
            message = await receive(client)
            updates += RELIANCE in message.feeds
            phases += [message.marketInfo.segmentStatus["NSE_EQ"]] if message.type == pb.market_info else []

    assert updates == 1 + 375 * 4


async def test_without_autoplay_nothing_moves_by_itself() -> None:
    market = EmulatedMarket.random_walk()
    async with UpstoxEmulator(market, autoplay=False) as upstox, feed(upstox) as client:
        await receive(client)
        await client.send(request("sub", [RELIANCE]))
        await receive(client)
        await market.step()
        await market.step()

        message = await receive(client)

    assert message.type == pb.market_info
    assert market.steps_done == 2


async def test_any_frame_can_be_sent(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)

        await upstox_emulator.send_raw(b"\xff\x01broken")
        await upstox_emulator.send_raw('{"text": true}')

        assert await client.recv() == b"\xff\x01broken"
        assert await client.recv() == '{"text": true}'


async def test_a_partial_entry_can_be_sent(upstox_emulator: UpstoxEmulator) -> None:
    depth = pb.MarketFullFeed(marketLevel=pb.MarketLevel(bidAskQuote=[pb.Quote(bidP=1399.0, bidQ=5)]))
    partial = pb.Feed(fullFeed=pb.FullFeed(marketFF=depth), requestMode=pb.full_d5)
    async with feed(upstox_emulator) as client:
        await receive(client)

        await upstox_emulator.send_feeds({RELIANCE: partial})

        assert (await receive(client)).feeds[RELIANCE] == partial


async def test_feeds_can_be_closed_with_a_code(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        await upstox_emulator.close_feeds(1012)

        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()

    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012


async def test_small_frames_and_replies_are_not_held_back(upstox_emulator: UpstoxEmulator) -> None:
    async with feed(upstox_emulator) as client:
        await receive(client)
        server = upstox_emulator._server._server
        assert server is not None

        sockets = [each.transport.get_extra_info("socket") for each in server.server_state.connections]

        assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets)
        assert sockets


async def test_it_comes_back_on_the_same_port_and_wants_a_new_url(upstox_emulator: UpstoxEmulator) -> None:
    url = await one_time_url(upstox_emulator)
    port = upstox_emulator.port
    async with connect(url, proxy=None) as client:
        await receive(client)

        await upstox_emulator.restart()

        with pytest.raises(ConnectionClosed):
            await client.recv()
    assert upstox_emulator.port == port
    async with feed(upstox_emulator) as client:
        assert (await receive(client)).type == pb.market_info


async def test_intraday_candles_are_newest_first(upstox_emulator: UpstoxEmulator) -> None:
    for price in (1401.0, 1402.0, 1399.0):
        await upstox_emulator.market.move("NSE:RELIANCE", price, seconds=30)

    async with rest(upstox_emulator) as http:
        reply = await http.get(f"/v3/historical-candle/intraday/{RELIANCE.replace('|', '%7C')}/minutes/1")

    assert reply.json() == {
        "status": "success",
        "data": {
            "candles": [
                ["2026-10-06T10:01:00+05:30", 1402.0, 1402.0, 1399.0, 1399.0, 200, 0],
                ["2026-10-06T10:00:00+05:30", 1400.0, 1401.0, 1400.0, 1401.0, 101, 0],
            ]
        },
    }


async def test_historical_candles_leave_today_out() -> None:
    market = EmulatedMarket.random_walk(history_days=3)
    await market.run()
    async with UpstoxEmulator(market) as upstox, rest(upstox) as http:
        reply = await http.get(f"/v3/historical-candle/{RELIANCE}/days/1/2026-10-06/2026-10-01")

    assert [row[0][:10] for row in reply.json()["data"]["candles"]] == ["2026-10-05", "2026-10-01"]


async def test_a_key_with_a_space_finds_its_candles() -> None:
    market = EmulatedMarket.random_walk(history_days=1)
    async with UpstoxEmulator(market) as upstox, rest(upstox) as http:
        reply = await http.get("/v3/historical-candle/NSE_INDEX%7CNifty%2050/hours/1/2026-10-05")

    assert len(reply.json()["data"]["candles"]) == 7


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("NSE_EQ|X/minutes/1/2026-10-05", "UDAPI100011"),
        ("RELIANCE/minutes/1/2026-10-05", "UDAPI1021"),
        (f"{RELIANCE}/seconds/1/2026-10-05", "UDAPI1146"),
        (f"{RELIANCE}/minutes/301/2026-10-05", "UDAPI1147"),
        (f"{RELIANCE}/minutes/one/2026-10-05", "UDAPI1147"),
        (f"{RELIANCE}/minutes/1/05-10-2026", "UDAPI1015"),
        (f"{RELIANCE}/minutes/1/2026-10-01/2026-10-05", "UDAPI1015"),
        (f"{RELIANCE}/minutes/1/2026-10-05/2026-09-01", "UDAPI1148"),
        (f"{RELIANCE}/minutes/16/2026-10-05/2026-07-01", "UDAPI1148"),
        (f"{RELIANCE}/days/1/2026-10-05/2016-10-01", "UDAPI1148"),
    ],
)
async def test_candle_errors_have_their_documented_codes(upstox_emulator: UpstoxEmulator, path: str, code: str) -> None:
    async with rest(upstox_emulator) as http:
        reply = await http.get(f"/v3/historical-candle/{path}")

    assert reply.status_code == 400
    assert error_of(reply)["errorCode"] == code


@pytest.mark.parametrize("call", ["ltp", "ohlc", "quotes"])
async def test_quotes_are_keyed_by_segment_and_symbol(upstox_emulator: UpstoxEmulator, call: str) -> None:
    wanted = {"instrument_key": f"{RELIANCE},{TCS},NSE_EQ|NOBODY", "interval": "1d"}
    async with rest(upstox_emulator) as http:
        reply = await http.get(f"/v3/market-quote/{call}", params=wanted)

    data = reply.json()["data"]
    assert sorted(data) == ["NSE_EQ:RELIANCE", "NSE_EQ:TCS"]
    assert data["NSE_EQ:RELIANCE"]["instrument_token"] == RELIANCE
    assert data["NSE_EQ:RELIANCE"]["last_price"] == 1400.0


async def test_the_full_quote_has_five_levels_a_side(upstox_emulator: UpstoxEmulator) -> None:
    async with rest(upstox_emulator) as http:
        reply = await http.get("/v3/market-quote/quotes", params={"instrument_key": f"{RELIANCE},{NIFTY}"})

    for row in reply.json()["data"].values():
        assert [len(row["depth"][side]) for side in ("buy", "sell")] == [5, 5]


async def test_a_malformed_quote_key_is_refused(upstox_emulator: UpstoxEmulator) -> None:
    async with rest(upstox_emulator) as http:
        reply = await http.get("/v3/market-quote/ltp", params={"instrument_key": "RELIANCE"})

    assert error_of(reply)["errorCode"] == "UDAPI1087"


async def test_an_unknown_path_is_the_gateways_404(upstox_emulator: UpstoxEmulator) -> None:
    async with rest(upstox_emulator) as http:
        reply = await http.get("/v3/nothing")

    assert reply.status_code == 404
    assert error_of(reply)["errorCode"] == "UDAPI100060"


def test_the_schema_holds_every_documented_field() -> None:
    documented = (
        "ltpc marketLevel optionGreeks marketOHLC atp vtt oi iv tbq tsq "
        "iep rp ieq iiqTotal iiqM casEligible"  # since September 2026
    )

    numbers = {name: field.number for name, field in pb.MarketFullFeed.DESCRIPTOR.fields_by_name.items()}

    assert numbers == {name: number for number, name in enumerate(documented.split(), 1)}
    assert pb.LTPC(iep={"value": 1.5}).iep.value == 1.5
    assert pb.MarketInfo.DESCRIPTOR.fields_by_name["preOpenSessionStatus"].number == 3
    assert pb.FeedResponse.DESCRIPTOR.file.package == "hybridbroker.testing.emulators"


def test_the_request_of_the_documentation_is_understood() -> None:
    documented = (
        '{"guid":"7d0c2f1e-0001","method":"sub","data":{"mode":"full","instrumentKeys":["NSE_EQ|INE002A01018"]}}'
    )

    assert json.loads(request("sub", [RELIANCE], "full")) | {"guid": "7d0c2f1e-0001"} == json.loads(documented)
