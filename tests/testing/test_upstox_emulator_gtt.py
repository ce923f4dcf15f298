"""The emulated Upstox watches prices for GTT orders, and sends what they say."""

from __future__ import annotations

from typing import Any

import pytest
from emulator_kit import RELIANCE
from upstox_orders_kit import Client, client, message, portfolio

from hybridbroker.testing.emulators import UpstoxEmulator

SHARE = "NSE:RELIANCE"
ENTRY = {"strategy": "ENTRY", "trigger_type": "BELOW", "trigger_price": 1390.0}
TARGET = {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 1450.0}
STOP = {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 1365.0}
NOW = ENTRY | {"trigger_type": "IMMEDIATE", "trigger_price": 1400.0}


def gtt(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    body = {
        "type": "SINGLE" if len(rules) == 1 else "MULTIPLE",
        "quantity": 5,
        "product": "D",
        "instrument_token": RELIANCE,
        "transaction_type": "BUY",
        "rules": list(rules),
    }
    return {**body, **changes}


async def place(call: Client, *rules: dict[str, Any], **changes: Any) -> str:
    (gtt_id,) = (await call("POST", "/v3/order/gtt/place", gtt(*rules, **changes)))["gtt_order_ids"]
    return str(gtt_id)


async def statuses(call: Client, gtt_id: str) -> dict[str, str]:
    (row,) = await call("GET", "/v3/order/gtt", gtt_order_id=gtt_id)
    return {rule["strategy"]: rule["status"] for rule in row["rules"]}


async def test_a_rule_waits_for_its_price_and_sends_an_order(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, ENTRY)
        before = await statuses(call, gtt_id)
        await upstox_emulator.market.move(SHARE, 1391.0)
        still = upstox_emulator.book()
        await upstox_emulator.market.move(SHARE, 1390.0)
        after = await statuses(call, gtt_id)
        (row,) = await call("GET", "/v2/order/retrieve-all")

    assert (before, still, after) == ({"ENTRY": "SCHEDULED"}, [], {"ENTRY": "COMPLETED"})
    assert (row["order_ref_id"], row["status"], row["quantity"], row["price"]) == (gtt_id, "complete", 5, 1403.9)


async def test_an_immediate_entry_rests_at_its_price(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, NOW | {"trigger_price": 1380.0}, TARGET)

        assert await statuses(call, gtt_id) == {"ENTRY": "OPEN", "TARGET": "INACTIVE"}
        assert upstox_emulator.book()[0]["price"] == 1380.0


@pytest.mark.parametrize(("price", "done"), [(1450.0, "TARGET"), (1365.0, "STOPLOSS")])
async def test_the_exit_that_triggers_cancels_the_other(
    upstox_emulator: UpstoxEmulator, price: float, done: str
) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, NOW, TARGET, STOP)
        held = await statuses(call, gtt_id)
        await upstox_emulator.market.move(SHARE, price)
        after = await statuses(call, gtt_id)
        (position,) = await call("GET", "/v2/portfolio/short-term-positions")

    assert held == {"ENTRY": "COMPLETED", "TARGET": "SCHEDULED", "STOPLOSS": "SCHEDULED"}
    assert after == {"ENTRY": "COMPLETED", "TARGET": "CANCELLED", "STOPLOSS": "CANCELLED"} | {done: "COMPLETED"}
    assert position["quantity"] == 0


async def test_a_trailing_stop_follows_the_price_by_whole_gaps(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, NOW, TARGET, STOP | {"trailing_gap": 5.0})
        for price in (1413.0, 1404.0):
            await upstox_emulator.market.move(SHARE, price)
        (row,) = await call("GET", "/v3/order/gtt", gtt_order_id=gtt_id)

    assert row["rules"][2]["trigger_price"] == 1375.0
    assert row["rules"][2]["trailing_gap"] == 5.0


async def test_a_refused_entry_fails_and_cancels_the_exits(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, NOW, TARGET, quantity=1000)

        (row,) = await call("GET", "/v3/order/gtt", gtt_order_id=gtt_id)

    assert [rule["status"] for rule in row["rules"]] == ["FAILED", "CANCELLED"]
    assert "rupees" in row["rules"][0]["message"]


async def test_a_gtt_order_can_be_changed_and_cancelled(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, ENTRY)
        change = {"gtt_order_id": gtt_id, "type": "SINGLE", "quantity": 7, "rules": [ENTRY | {"trigger_price": 1350.0}]}
        await call("PUT", "/v3/order/gtt/modify", change)
        (row,) = await call("GET", "/v3/order/gtt")
        await call("DELETE", "/v3/order/gtt/cancel", {"gtt_order_id": gtt_id})
        after = await statuses(call, gtt_id)
        again = await call.refused("DELETE", "/v3/order/gtt/cancel", {"gtt_order_id": gtt_id})
        late = await call.refused("PUT", "/v3/order/gtt/modify", change)

    assert (row["quantity"], row["rules"][0]["trigger_price"]) == (7, 1350.0)
    assert (row["exchange"], row["expires_at"] - row["created_at"]) == ("NSE_EQ", 365 * 86_400 * 10**6)
    assert after == {"ENTRY": "CANCELLED"}
    assert (again[1], late[1]) == ("UDAPI100040", "UDAPI100041")


async def test_an_open_entry_may_only_be_immediate(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, NOW | {"trigger_price": 1380.0}, STOP)
        change = {"gtt_order_id": gtt_id, "type": "MULTIPLE", "quantity": 9}
        refused = await call.refused("PUT", "/v3/order/gtt/modify", {**change, "rules": [ENTRY, STOP]})
        moved = NOW | {"trigger_price": 1385.0}
        await call("PUT", "/v3/order/gtt/modify", {**change, "rules": [moved, STOP, TARGET]})
        (row,) = upstox_emulator.book()

    assert refused == (400, "UDAPI1150")
    assert (row["price"], row["quantity"]) == (1385.0, 5)


async def test_a_gtt_order_expires_after_a_year(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        gtt_id = await place(call, ENTRY)
        await upstox_emulator.market.move(SHARE, 1400.0, seconds=366 * 86_400)

        assert await statuses(call, gtt_id) == {"ENTRY": "EXPIRED"}


async def test_changes_of_rules_are_streamed(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call, portfolio(upstox_emulator, "gtt_order") as socket:
        await place(call, NOW)
        told = [await message(socket) for _ in range(4)]

    assert [each["rules"][0]["status"] for each in told] == ["SCHEDULED", "TRIGGERED", "OPEN", "COMPLETED"]
    assert {each["update_type"] for each in told} == {"gtt_order"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(gtt(ENTRY, type="OCO"), "UDAPI1126", id="type"),
        pytest.param(gtt(ENTRY, TARGET, type="SINGLE"), "UDAPI1136", id="single with two"),
        pytest.param(gtt(ENTRY, type="MULTIPLE"), "UDAPI1137", id="multiple with one"),
        pytest.param(gtt(TARGET, STOP), "UDAPI1141", id="no entry"),
        pytest.param(gtt(ENTRY, TARGET | {"trigger_type": "ABOVE"}), "UDAPI1143", id="exit not immediate"),
        pytest.param(gtt(NOW, STOP | {"trailing_gap": 1.0}), "UDAPI1151", id="gap too small"),
        pytest.param(gtt(ENTRY | {"trigger_price": 0}), "UDAPI100036", id="no price"),
        pytest.param(gtt(ENTRY | {"market_protection": 0}), "UDAPI1158", id="no protection"),
        pytest.param(gtt(ENTRY, quantity=0), "UDAPI1052", id="quantity"),
        pytest.param(gtt(ENTRY, instrument_token="NSE_EQ|NOBODY"), "UDAPI100011", id="instrument"),
    ],
)
async def test_a_bad_gtt_order_is_refused(upstox_emulator: UpstoxEmulator, body: dict[str, Any], code: str) -> None:
    async with client(upstox_emulator) as call:
        assert await call.refused("POST", "/v3/order/gtt/place", body) == (400, code)


@pytest.mark.parametrize(("name", "code"), [(None, "UDAPI1134"), ("C26", "UDAPI1135"), ("GTT-C26", "UDAPI100010")])
async def test_an_unknown_gtt_order_is_refused(upstox_emulator: UpstoxEmulator, name: str | None, code: str) -> None:
    async with client(upstox_emulator) as call:
        assert await call.refused("DELETE", "/v3/order/gtt/cancel", {"gtt_order_id": name}) == (400, code)
