"""The emulated Upstox takes orders, changes them and tells of them as documented."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from emulator_kit import RELIANCE, TCS
from upstox_orders_kit import client, order

from hybridbroker.domain.portfolio import Holding
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator
from hybridbroker.testing.emulators import feed_pb2 as pb


async def test_a_placed_order_passes_through_the_documented_statuses(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place()

        row = await call.details(order_id)
        history = await call("GET", "/v2/order/history", order_id=order_id)

    assert [each["status"] for each in history] == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
    ]
    assert "pending_quantity" not in history[0]
    assert (row["status"], row["pending_quantity"], row["exchange"], row["trading_symbol"], row["tag"]) == (
        "open",
        10,
        "NSE",
        "RELIANCE-EQ",
        "test-1",
    )


async def test_early_statuses_can_be_held(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.transit = None
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        held = (await call.details(order_id))["status"]
        upstox_emulator.release()
        released = (await call.details(order_id))["status"]

    assert (held, released) == ("put order req received", "open")


async def test_early_statuses_last_as_long_as_asked() -> None:
    clock = ManualClock()
    async with UpstoxEmulator(EmulatedMarket.still(), transit=2.0, clock=clock) as upstox, client(upstox) as call:
        order_id = await call.place()
        for _ in range(10):
            await call.details(order_id)

        statuses = await call.statuses(order_id)

    assert statuses[-1] == "open"
    assert clock.monotonic() == 6.0


async def test_a_crossing_order_completes_and_is_a_trade(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place(price=1410.0)

        row = await call.details(order_id)
        (trade,) = await call("GET", "/v2/order/trades", order_id=order_id)
        day = await call("GET", "/v2/order/trades/get-trades-for-day")

    assert (row["status"], row["filled_quantity"], row["average_price"]) == ("complete", 10, 1400.0)
    assert (trade["quantity"], trade["average_price"], trade["order_id"]) == (10, 1400.0, order_id)
    assert day == [trade]


async def test_a_completed_order_was_open_and_filled_without_an_average_before(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place(price=1410.0)
        rows = await call("GET", "/v2/order/history", order_id=order_id)

    assert [(row["status"], row["filled_quantity"], row["average_price"]) for row in rows[3:]] == [
        ("open", 0, 0.0),
        ("open", 10, 0.0),
        ("complete", 10, 1400.0),
    ]


async def test_a_large_order_fills_in_part_and_stays_open() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), cash=Decimal(10**8)) as upstox, client(upstox) as call:
        order_id = await call.place(price=1400.1, quantity=5000)

        row = await call.details(order_id)

    assert row["status"] == "open"
    assert 0 < row["filled_quantity"] < 5000
    assert row["pending_quantity"] == 5000 - row["filled_quantity"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"price": 1390.03}, "tick", id="off the tick"),
        pytest.param({"quantity": 200_000}, "freeze", id="above the freeze quantity"),
        pytest.param({"quantity": 1000}, "rupees", id="no money"),
        pytest.param(
            {"order_type": "SL", "price": 1400.0, "trigger_price": 1410.0}, "trigger", id="stop the wrong way"
        ),
        pytest.param({"transaction_type": "SELL"}, "shares", id="no shares"),
    ],
)
async def test_what_only_the_exchange_finds_shows_in_the_book(
    upstox_emulator: UpstoxEmulator, changes: dict[str, Any], reason: str
) -> None:
    async with client(upstox_emulator) as call:
        row = await call.details(await call.place(**changes))

    assert row["status"] == "rejected"
    assert reason in row["status_message"]
    assert row["status_message_raw"].startswith("RMS:")


async def test_a_market_order_is_protected_and_can_rest() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), cash=Decimal(10**8)) as upstox, client(upstox) as call:
        order_id = await call.place(order_type="MARKET", price=0, quantity=20_000, market_protection=1)

        row = await call.details(order_id)

    assert (row["status"], row["order_type"], row["price"]) == ("open", "MARKET", 1414.0)
    assert row["filled_quantity"] > 0


async def test_slicing_gives_several_ids() -> None:
    async with UpstoxEmulator(EmulatedMarket.still(), cash=Decimal(10**10)) as upstox, client(upstox) as call:
        ids = (await call("POST", "/v3/order/place", order(quantity=250_000, slice=True)))["order_ids"]

        sizes = [(await call.details(each))["quantity"] for each in ids]
        too_many = await call.refused("POST", "/v3/order/place", order(quantity=2_600_000, slice=True))

    assert sizes == [100_000, 100_000, 50_000]
    assert too_many == (400, "UDAPI1118")


async def test_the_old_calls_answer_in_their_own_shape(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = (await call("POST", "/v2/order/place", order()))["order_id"]
        changed = await call("PUT", "/v2/order/modify", {**order(price=1391.0), "order_id": order_id})
        cancelled = await call("DELETE", "/v2/order/cancel", order_id=order_id)

    assert changed == cancelled == {"order_id": order_id}


async def test_a_modification_passes_through_its_own_statuses(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        await call("PUT", "/v3/order/modify", {**order(price=1395.0, quantity=4), "order_id": order_id})

        statuses, row = await call.statuses(order_id), await call.details(order_id)

    assert statuses[4:] == ["modify validation pending", "modify pending", "modified", "open"]
    assert (row["price"], row["quantity"], row["order_request_id"]) == (1395.0, 4, "2")


async def test_a_modification_can_change_the_order_type(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        change = {"order_id": order_id, "order_type": "MARKET", "validity": "DAY", "price": 0, "trigger_price": 0}
        await call("PUT", "/v3/order/modify", change)

        row = await call.details(order_id)

    assert (row["status"], row["order_type"], row["average_price"]) == ("complete", "MARKET", 1400.0)


@pytest.mark.parametrize("stays", [False, True])
async def test_a_refused_change_leaves_the_order_working(upstox_emulator: UpstoxEmulator, *, stays: bool) -> None:
    upstox_emulator.desk.book.keeps_change_status = stays
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        upstox_emulator.refuse_changes("no change now", "no cancellation now")
        await call("PUT", "/v3/order/modify", {**order(price=1395.0), "order_id": order_id})
        after_change = await call.details(order_id)
        await call("DELETE", "/v3/order/cancel", order_id=order_id)
        after_cancel = await call.details(order_id)
        statuses = await call.statuses(order_id)

    assert (after_change["price"], after_change["filled_quantity"]) == (1390.0, 0)
    assert "not modified" in statuses
    assert "not cancelled" in statuses
    assert after_cancel["status"] == ("not cancelled" if stays else "open")


async def test_a_cancelled_order_is_final(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        await call("DELETE", "/v3/order/cancel", order_id=order_id)

        statuses = await call.statuses(order_id)
        again = await call.refused("DELETE", "/v3/order/cancel", order_id=order_id)
        late = await call.refused("PUT", "/v3/order/modify", {**order(), "order_id": order_id})

    assert statuses[-2:] == ["cancel pending", "cancelled"]
    assert (again, late) == ((400, "UDAPI100040"), (400, "UDAPI100041"))


async def test_a_fill_beats_a_cancellation_on_its_way(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        upstox_emulator.transit = None
        await call("DELETE", "/v3/order/cancel", order_id=order_id)
        await upstox_emulator.market.move("NSE:RELIANCE", 1380.0)
        upstox_emulator.release()

        statuses = await call.statuses(order_id)

    assert statuses[-1] == "complete"


async def test_orders_out_of_session_are_queued_and_go_out_at_the_opening() -> None:
    market = EmulatedMarket.still()
    async with UpstoxEmulator(market) as upstox, client(upstox) as call:
        await market.enter_phase(pb.PRE_OPEN_START)
        kept, dropped = await call.place(), await call.place(tag="test-2")
        await call("PUT", "/v3/order/modify", {**order(price=1385.0), "order_id": kept})
        await call("DELETE", "/v3/order/cancel", order_id=dropped)
        queued = await call.details(kept)
        await market.enter_phase(pb.NORMAL_OPEN)
        opened = await call.details(kept)
        dropped_statuses = await call.statuses(dropped)

    assert (queued["status"], queued["is_amo"]) == ("modify after market order req received", True)
    assert (opened["status"], opened["price"]) == ("open", 1385.0)
    assert dropped_statuses == ["after market order req received", "cancelled after market order"]


async def test_an_amo_flag_in_session_is_refused(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        assert await call.refused("POST", "/v3/order/place", order(is_amo=True)) == (400, "UDAPI100039")


async def test_history_by_tag_holds_every_order_of_it(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        first, second = await call.place(tag="one"), await call.place(tag="one")
        await call.place(tag="other")

        rows = await call("GET", "/v2/order/history", tag="one")
        unknown = await call.refused("GET", "/v2/order/history", tag="nobody")

    assert {row["order_id"] for row in rows} == {first, second}
    assert unknown == (400, "UDAPI100010")


@pytest.mark.parametrize(("as_null", "empty"), [(True, None), (False, [])])
async def test_an_empty_book_is_null_or_a_list(
    upstox_emulator: UpstoxEmulator, *, as_null: bool, empty: list[Any] | None
) -> None:
    upstox_emulator.desk.trading.empty_is_null = as_null
    async with client(upstox_emulator) as call:
        for path in (
            "/v2/order/retrieve-all",
            "/v2/order/trades/get-trades-for-day",
            "/v2/portfolio/short-term-positions",
        ):
            assert await call("GET", path) == empty


async def test_a_batch_is_placed_buys_first(upstox_emulator: UpstoxEmulator) -> None:
    sell = order(correlation_id="s", transaction_type="SELL", product="I", price=1420.0, slice=False)
    buy = order(correlation_id="b", instrument_token=TCS, price=3000.0, slice=False)
    async with client(upstox_emulator) as call:
        data = await call("POST", "/v2/order/multi/place", [sell, buy])

        book = await call("GET", "/v2/order/retrieve-all")

    assert [each["correlation_id"] for each in data] == ["b", "s"]
    assert [row["instrument_token"] for row in book] == [TCS, RELIANCE]


async def test_one_bad_line_refuses_the_whole_batch(upstox_emulator: UpstoxEmulator) -> None:
    lines = [order(correlation_id="a"), order(correlation_id="b", quantity=0)]
    async with client(upstox_emulator) as call:
        reply = await call.http.post("/v2/order/multi/place", json=lines)

    body = reply.json()
    assert (reply.status_code, body["summary"]["payload_error"]) == (400, 1)
    assert (body["errors"][0]["correlation_id"], body["errors"][0]["error_code"]) == ("b", "UDAPI1052")
    assert upstox_emulator.book() == []


async def test_open_orders_are_cancelled_together(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        kept = await call.place(tag="keep")
        gone = await call.place(tag="go")

        data = await call("DELETE", "/v2/order/multi/cancel", tag="go")
        none = await call.refused("DELETE", "/v2/order/multi/cancel", tag="go")
        wrong = await call.refused("DELETE", "/v2/order/multi/cancel", segment="NSE")
        status = (await call.details(kept))["status"]

    assert data == {"order_ids": [gone]}
    assert (none, wrong, status) == ((400, "UDAPI1109"), (400, "UDAPI1108"), "open")


async def test_positions_are_closed_together(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        nothing = await call.refused("POST", "/v2/order/positions/exit")
        await call.place(product="I", price=1410.0)
        await call("POST", "/v2/order/positions/exit")
        await upstox_emulator.market.move("NSE:RELIANCE", 1400.0)

        (position,) = await call("GET", "/v2/portfolio/short-term-positions")

    assert nothing == (400, "UDAPI1111")
    assert position["quantity"] == 0


async def test_exit_all_wants_the_session(upstox_emulator: UpstoxEmulator) -> None:
    await upstox_emulator.market.close_session()
    async with client(upstox_emulator) as call:
        assert await call.refused("POST", "/v2/order/positions/exit") == (400, "UDAPI1113")


async def test_day_orders_die_at_the_close(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        await upstox_emulator.market.close_session()

        row = await call.details(order_id)

    assert row["status"] == "cancelled"


async def test_past_trades_come_in_pages() -> None:
    market = EmulatedMarket.still()
    async with UpstoxEmulator(market) as upstox, client(upstox) as call:
        for _ in range(3):
            await call.place(price=1410.0, quantity=1)
        today = market.now.date().isoformat()
        same_day = await call(
            "GET", "/v2/charges/historical-trades", start_date=today, end_date=today, page_number=1, page_size=2
        )
        await market.move("NSE:RELIANCE", 1400.0, seconds=86_400)
        reply = await call.http.get(
            "/v2/charges/historical-trades",
            params={"start_date": today, "end_date": today, "page_number": 2, "page_size": 2, "segment": "EQ"},
        )

    body = reply.json()
    assert same_day == []
    assert len(body["data"]) == 1
    assert body["metaData"]["page"] == {"page_number": 2, "page_size": 2, "total_records": 3, "total_pages": 2}


async def test_order_calls_are_closed_at_night() -> None:
    market = EmulatedMarket.still(at=EmulatedMarket.still().now.replace(hour=2))
    async with UpstoxEmulator(market) as upstox, client(upstox) as call:
        placed = await call.refused("POST", "/v3/order/place", order())
        funds = await call.refused("GET", "/v3/user/get-funds-and-margin")

    assert (placed, funds) == ((423, "UDAPI100074"), (423, "UDAPI100072"))


async def test_mtf_orders_are_held_apart(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        await call.place(product="MTF", price=1410.0)

        (financed,) = await call("GET", "/v3/portfolio/mtf-positions")
        short_term = await call("GET", "/v2/portfolio/short-term-positions")

    assert (financed["product"], financed["quantity"], financed["instrument_token"]) == ("MTF", 10, RELIANCE)
    assert short_term is None


async def test_shares_can_be_sold_from_the_holdings() -> None:
    market = EmulatedMarket.still()
    reliance = market.by_instrument("NSE:RELIANCE").instrument
    held = Holding(instrument=reliance, quantity=12, available_quantity=12, average_price=Decimal("1266.7"))
    async with UpstoxEmulator(market, holdings=[held]) as upstox, client(upstox) as call:
        (before,) = await call("GET", "/v2/portfolio/long-term-holdings")
        await call.place(transaction_type="SELL", price=1390.0)
        (after,) = await call("GET", "/v2/portfolio/long-term-holdings")

    assert (before["quantity"], before["isin"], before["pnl"]) == (12, "INE002A01018", 1599.6)
    assert after["quantity"] == 2


async def test_any_status_can_be_shown(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place()
        upstox_emulator.desk.book.say(order_id, "lost in the post", "nobody knows")

        row = await call.details(order_id)

    assert (row["status"], row["status_message"]) == ("lost in the post", "nobody knows")


async def test_the_book_is_cleared_with_its_day(upstox_emulator: UpstoxEmulator) -> None:
    async with client(upstox_emulator) as call:
        order_id = await call.place(price=1410.0)
        await upstox_emulator.market.move("NSE:RELIANCE", 1400.0, seconds=86_400)

        gone = await call.refused("GET", "/v2/order/details", order_id=order_id)
        book = await call("GET", "/v2/order/retrieve-all")

    assert (gone, book) == ((400, "UDAPI100010"), None)


async def test_an_order_outside_the_band_is_rejected_on_demand(upstox_emulator: UpstoxEmulator) -> None:
    upstox_emulator.desk.book.price_band = Decimal(10)
    async with client(upstox_emulator) as call:
        outside, inside = await call.place(price=1250.0), await call.place(price=1270.0)

        assert "band" in (await call.details(outside))["status_message"]
        assert (await call.details(inside))["status"] == "open"


async def test_parts_of_a_batch_can_fail(upstox_emulator: UpstoxEmulator) -> None:
    failures = upstox_emulator.desk.trading.failures
    async with client(upstox_emulator) as call:
        failures.append("UDAPI100500")
        placed = await call.http.post(
            "/v2/order/multi/place", json=[order(correlation_id="a"), order(correlation_id="b")]
        )
        await call.place(product="I", price=1410.0)
        failures.append("UDAPI100500")
        exited = await call.http.post("/v2/order/positions/exit")
        await call.place()
        failures.append("UDAPI100500")
        cancelled = await call.http.delete("/v2/order/multi/cancel")

    assert [reply.status_code for reply in (placed, exited, cancelled)] == [207, 400, 207]
    assert placed.json()["status"] == cancelled.json()["status"] == "partial_success"
    assert placed.json()["errors"][0]["correlation_id"] == "a"
    assert cancelled.json()["errors"][0]["order_id"]
    assert cancelled.json()["summary"] == {"total": 2, "success": 1, "error": 1}
