"""The emulated Upstox lets in whom the documentation lets in: tokens, addresses, names, rates, the sandbox."""

from __future__ import annotations

from datetime import timedelta

import pytest
from emulator_kit import RELIANCE, feed, one_time_url, receive, rest
from upstox_orders_kit import client, message, order, portfolio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator
from hybridbroker.testing.emulators.upstox.gates import RATE_LIMITS

QUOTE = ("GET", "/v3/market-quote/ltp")


@pytest.mark.parametrize(
    ("method", "path", "analytics", "extended"),
    [
        ("GET", "/v3/feed/market-data-feed/authorize", 200, 401),
        ("GET", "/v2/market/status/NSE", 200, 401),
        ("GET", "/v2/order/retrieve-all", 200, 200),
        ("GET", "/v2/portfolio/short-term-positions", 200, 200),
        ("GET", "/v2/order/trades/get-trades-for-day", 200, 401),
        ("GET", "/v3/user/get-funds-and-margin", 401, 401),
        ("GET", "/v2/feed/portfolio-stream-feed/authorize", 401, 401),
        ("POST", "/v3/order/place", 401, 401),
    ],
)
async def test_each_token_has_its_reach(
    upstox_emulator: UpstoxEmulator, method: str, path: str, analytics: int, extended: int
) -> None:
    tokens = upstox_emulator.tokens
    replies = []
    for token in (tokens.analytics, tokens.extended):
        async with rest(upstox_emulator, token=token) as http:
            replies.append(await http.request(method, path))

    assert [reply.status_code for reply in replies] == [analytics, extended]
    codes = {reply.json()["errors"][0]["errorCode"] for reply in replies if reply.status_code == 401}
    assert codes <= {"UDAPI100067"}


async def test_tokens_that_the_login_made_are_good(upstox_emulator: UpstoxEmulator) -> None:
    issued = upstox_emulator.login.tokens.issue()
    async with client(upstox_emulator, token=issued) as call:
        await call.place()
        await call("DELETE", "/v2/logout")
        refused = await call.refused(*QUOTE, instrument_key=RELIANCE)

    assert refused == (401, "UDAPI100050")


async def test_order_writes_want_a_registered_address(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.gates.static_ips = ("203.0.113.7",)
    async with client(upstox_emulator) as call:
        reply = await call.http.post("/v3/order/place", json=order())
        await call("GET", "/v2/order/retrieve-all")
        upstox_emulator.gates.origin = "203.0.113.7"
        await call.place()

    error = reply.json()["errors"][0]
    assert (reply.status_code, error["error_code"]) == (403, "UDAPI1154")
    assert "203.0.113.7" in error["message"]
    assert "127.0.0.1" in error["message"]


async def test_an_analytics_token_reads_the_account_from_a_registered_address_only(
    upstox_emulator: UpstoxEmulator,
) -> None:
    upstox_emulator.gates.static_ips = ()
    async with client(upstox_emulator, token=upstox_emulator.tokens.analytics) as call:
        assert await call.refused("GET", "/v2/order/retrieve-all") == (403, "UDAPI1154")
        await call(*QUOTE, instrument_key=RELIANCE)


async def test_an_unknown_algo_name_is_refused(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.gates.algo_names = frozenset({"swing"})
    async with client(upstox_emulator) as call:
        call.http.headers["X-Algo-Name"] = "scalp"
        refused = await call.refused("POST", "/v3/order/place", order())
        call.http.headers["X-Algo-Name"] = "swing"
        await call.place()

    assert refused == (400, "UDAPI1156")


async def test_rates_are_limited_on_demand_by_call_and_window() -> None:
    clock = ManualClock()
    async with UpstoxEmulator(EmulatedMarket.still(), clock=clock) as upstox, client(upstox) as call:
        upstox.gates.rate_limits = RATE_LIMITS
        for _ in range(10):
            await call.place(quantity=1)
        refused = await call.refused("POST", "/v3/order/place", order())
        await call("GET", "/v2/order/retrieve-all")
        clock.advance(1.0)
        await call.place(quantity=1)

    assert refused == (429, "UDAPI10005")


async def test_the_sandbox_serves_seven_calls() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), sandbox=True) as upstox, client(upstox) as call:
        order_id = await call.place()
        await call("PUT", "/v3/order/modify", {**order(price=1391.0), "order_id": order_id})
        await call("DELETE", "/v3/order/cancel", order_id=order_id)
        absent = [
            await call.refused(method, path)
            for method, path in (QUOTE, ("GET", "/v2/order/retrieve-all"), ("GET", "/v3/order/gtt"))
        ]
        upstox.desk.trading.sandbox_closed = True
        closed = await call.refused("POST", "/v3/order/place", order())

    assert absent == [(404, "UDAPI100060")] * 3
    assert closed == (400, "UDAPI100057")


async def test_a_token_rolls_over_at_its_instant_and_sockets_are_cut() -> None:
    clock = ManualClock()
    async with UpstoxEmulator(EmulatedMarket.still(), clock=clock) as upstox, client(upstox) as call:
        old = upstox.access_token
        new = upstox.roll_over(at=clock.now() + timedelta(hours=1))
        async with feed(upstox) as market, portfolio(upstox) as account:
            await receive(market)
            url = await one_time_url(upstox)
            clock.advance(3600)
            await upstox.market.move("NSE:RELIANCE", 1401.0)
            for socket in (market, account):
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
        refused = await call.refused(*QUOTE, instrument_key=RELIANCE)
        with pytest.raises(InvalidStatus):
            await connect(url, proxy=None)
        async with client(upstox, token=new) as renewed:
            await renewed(*QUOTE, instrument_key=RELIANCE)

    assert refused == (401, "UDAPI100050")
    assert upstox.access_token == new != old


async def test_a_roll_over_may_happen_now(upstox_emulator: UpstoxEmulator) -> None:
    async with portfolio(upstox_emulator) as socket:
        upstox_emulator.roll_over(token="tomorrow's")

        with pytest.raises(ConnectionClosed):
            await message(socket)

    assert upstox_emulator.access_token == "tomorrow's"


async def test_a_kill_switch_bites_once_the_token_was_renewed(upstox_emulator: UpstoxEmulator) -> None:
    off = [{"segment": "NSE_EQ", "action": "DISABLE"}]
    async with client(upstox_emulator) as call:
        resting = await call.place()
        rows = await call("POST", "/v2/user/kill-switch", off)
        cancelled = (await call.details(resting))["status"]
        before = (await call.details(await call.place()))["status"]
    upstox_emulator.roll_over()
    async with client(upstox_emulator) as call:
        after = await call.details(await call.place())
        cooling = await call.refused("POST", "/v2/user/kill-switch", [{"segment": "NSE_EQ", "action": "ENABLE"}])
        await upstox_emulator.market.move("NSE:RELIANCE", 1400.0, seconds=43_200)
        rows_later = await call("POST", "/v2/user/kill-switch", [{"segment": "NSE_EQ", "action": "ENABLE"}])

    assert [row["kill_switch_enabled"] for row in rows] == [True] + [False] * 7
    assert (cancelled, before, after["status"]) == ("cancelled", "open", "rejected")
    assert "kill switch" in after["status_message"]
    assert cooling == (400, "UDAPI1185")
    assert not any(row["kill_switch_enabled"] for row in rows_later)


async def test_a_segment_with_positions_is_not_switched_off(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        await call.place(price=1410.0)
        refused = await call.refused("POST", "/v2/user/kill-switch", [{"segment": "NSE_EQ", "action": "DISABLE"}])

    assert refused == (400, "UDAPI1184")


async def test_default_agents_can_be_met_with_a_page(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.gates.banned_agents = ("python-httpx",)
    async with rest(upstox_emulator) as http:
        banned = await http.get(QUOTE[1], params={"instrument_key": RELIANCE})
        http.headers["User-Agent"] = "a bot of mine"
        known = await http.get(QUOTE[1], params={"instrument_key": RELIANCE})

    assert (banned.status_code, known.status_code) == (403, 200)
    assert "1010" in banned.text
