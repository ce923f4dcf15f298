"""Faults on demand: what the client sees, and what became of its request."""

from __future__ import annotations

import httpx
import pytest
from emulator_kit import limit_order, one_time_url, rest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus

from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault, Faults, UpstoxEmulator

PLACE = "POST /v2/orders"
FEED = "WS /market-data-feeder/*"


async def post(dhan: DhanEmulator, *, timeout: float = 10.0) -> httpx.Response:
    async with rest(dhan) as http:
        return await http.post("/orders", json=limit_order(dhan), timeout=timeout)


@pytest.mark.parametrize("fault", [Fault.lost_reply(), Fault.reset()], ids=["closed", "reset"])
async def test_a_lost_reply_leaves_the_order_in_the_book(dhan_emulator: DhanEmulator, fault: Fault) -> None:
    dhan_emulator.faults.add(PLACE, fault)

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await post(dhan_emulator)

    assert len(dhan_emulator.book()) == 1
    assert len(dhan_emulator.received("POST")) == 1


async def test_a_connection_dropped_before_acceptance_leaves_nothing(dhan_emulator: DhanEmulator) -> None:
    dhan_emulator.faults.add(PLACE, Fault.lost_reply(accepted=False))

    with pytest.raises(httpx.RemoteProtocolError):
        await post(dhan_emulator)

    assert dhan_emulator.book() == []


@pytest.mark.parametrize(
    ("fault", "status", "booked"),
    [
        pytest.param(Fault.server_error(), 500, 1, id="500 after acceptance"),
        pytest.param(Fault.server_error(503, accepted=False), 503, 0, id="503 before"),
        pytest.param(Fault.rate_limited(), 429, 0, id="429"),
        pytest.param(Fault.unauthorised(), 401, 0, id="401"),
        pytest.param(Fault.forbidden(), 403, 0, id="403"),
        pytest.param(Fault.garbage(), 200, 1, id="garbage"),
        pytest.param(Fault.html(), 502, 0, id="html"),
        pytest.param(Fault.html(403), 403, 0, id="html 403"),
        pytest.param(Fault.answer(b"[]"), 200, 0, id="a lie"),
    ],
)
async def test_an_answer_can_be_replaced(dhan_emulator: DhanEmulator, fault: Fault, status: int, booked: int) -> None:
    dhan_emulator.faults.add(PLACE, fault)

    reply = await post(dhan_emulator)

    assert reply.status_code == status
    assert len(dhan_emulator.book()) == booked
    assert dhan_emulator.faults.pending == 0


async def test_refusals_have_the_brokers_own_shape(
    dhan_emulator: DhanEmulator, upstox_emulator: UpstoxEmulator
) -> None:
    dhan_emulator.faults.add(PLACE, Fault.rate_limited())
    upstox_emulator.faults.add("GET *", Fault.rate_limited())

    dhan = await post(dhan_emulator)
    async with rest(upstox_emulator) as http:
        upstox = await http.get("/v3/market-quote/ltp")

    assert dhan.json()["errorCode"] == "DH-904"
    assert upstox.json()["errors"][0]["errorCode"] == "UDAPI10005"


async def test_a_truncated_body_ends_early(dhan_emulator: DhanEmulator) -> None:
    dhan_emulator.faults.add(PLACE, Fault.truncated())

    with pytest.raises(httpx.RemoteProtocolError):
        await post(dhan_emulator)

    assert len(dhan_emulator.book()) == 1


async def test_a_hanging_server_never_answers(dhan_emulator: DhanEmulator) -> None:
    dhan_emulator.faults.add(PLACE, Fault.hang())

    with pytest.raises(httpx.ReadTimeout):
        await post(dhan_emulator, timeout=0.05)

    assert len(dhan_emulator.book()) == 1


async def test_delays_use_the_given_clock() -> None:
    clock = ManualClock()
    async with DhanEmulator(EmulatedMarket.still(), clock=clock) as dhan:
        dhan.faults.add(PLACE, Fault.delay(3), Fault.late_reply(4))

        replies = [await post(dhan), await post(dhan)]

    assert [reply.status_code for reply in replies] == [200, 200]
    assert clock.monotonic() == 7


@pytest.mark.parametrize("fault", [Fault.unauthorised(), Fault.forbidden(), Fault.rate_limited()])
async def test_a_handshake_can_be_refused(upstox_emulator: UpstoxEmulator, fault: Fault) -> None:
    upstox_emulator.faults.add(FEED, fault)

    with pytest.raises(InvalidStatus) as caught:
        async with connect(await one_time_url(upstox_emulator), proxy=None):
            pass

    assert caught.value.response.status_code == fault.status


async def test_a_handshake_can_be_dropped(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.faults.add(FEED, Fault.lost_reply())

    with pytest.raises(InvalidMessage):
        async with connect(await one_time_url(upstox_emulator), proxy=None):
            pass


async def test_a_delayed_handshake_goes_on() -> None:
    clock = ManualClock()
    async with UpstoxEmulator(EmulatedMarket.still(), clock=clock) as upstox:
        upstox.faults.add(FEED, Fault.delay(2))
        async with connect(await one_time_url(upstox), proxy=None) as socket:
            await socket.recv()

    assert clock.monotonic() == 2


async def test_an_order_is_refused_while_the_emulator_is_down(dhan_emulator: DhanEmulator) -> None:
    await dhan_emulator.stop()

    with pytest.raises(httpx.ConnectError):
        await post(dhan_emulator)

    await dhan_emulator.start()
    assert (await post(dhan_emulator)).status_code == 200


async def test_a_restart_keeps_the_book(dhan_emulator: DhanEmulator) -> None:
    await post(dhan_emulator)

    await dhan_emulator.restart(after=0.01)

    assert len(dhan_emulator.book()) == 1
    assert (await post(dhan_emulator)).status_code == 200


def test_faults_happen_once_and_in_order() -> None:
    faults = Faults()
    faults.add("POST /a", Fault.garbage(), Fault.hang())
    faults.add("* /a", Fault.rate_limited(), times=2)

    taken = [faults.take("POST", "/a") for _ in range(5)]

    assert taken == [Fault.garbage(), Fault.hang(), Fault.rate_limited(), Fault.rate_limited(), None]


def test_faults_stay_where_they_were_put() -> None:
    faults = Faults()
    faults.add("POST /a", Fault.hang())

    assert faults.take("GET", "/a") is None
    assert faults.take("POST", "/a/b") is None
    faults.clear()
    assert faults.pending == 0
