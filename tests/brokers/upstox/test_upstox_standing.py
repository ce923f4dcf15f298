"""GTT and bracket orders: what is sent, what is read, and what is refused before it is sent."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from upstox_desk_kit import Answer, Asked, always, script, serving, upstox
from upstox_kit import RELIANCE

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.standing import standing_from_wire
from hybridbroker.domain.orders import Product, Side
from hybridbroker.domain.standing import (
    Bracket,
    BracketOrder,
    Crossing,
    Gtt,
    GttOrder,
    LegRole,
    LegStatus,
    OcoOrder,
    Trigger,
)
from hybridbroker.errors import (
    HybridBrokerError,
    InvalidOrder,
    NotSent,
    OrderNotFound,
    OrderOutcomeUnknown,
    OrderRejected,
    Unsupported,
    WireFormatError,
)

GTT_ID = "GTT-C26100100000001"
GTT_ACK = Answer.data({"gtt_order_ids": [GTT_ID]})


def rule(strategy: str = "ENTRY", **changes: Any) -> dict[str, Any]:
    side = "BUY" if strategy == "ENTRY" else "SELL"
    return {
        "strategy": strategy,
        "status": "SCHEDULED",
        "trigger_type": "BELOW" if strategy == "ENTRY" else "IMMEDIATE",
        "trigger_price": 1390.0,
        "transaction_type": side,
        "message": None,
        "order_id": None,
        "trailing_gap": None,
        **changes,
    }


def single(**changes: Any) -> dict[str, Any]:
    return {
        "type": "SINGLE",
        "exchange": "NSE_EQ",
        "quantity": 1,
        "product": "D",
        "trading_symbol": "RELIANCE",
        "instrument_token": "NSE_EQ|INE000A01018",
        "gtt_order_id": GTT_ID,
        "expires_at": 1822359600000000,
        "created_at": 1790823600000000,
        "rules": [rule()],
        **changes,
    }


def multiple(entry: str = "OPEN", **changes: Any) -> dict[str, Any]:
    rules = [
        rule("STOPLOSS", status="INACTIVE", trigger_price=1365.0, trailing_gap=5.0),
        rule("ENTRY", status=entry, trigger_type="IMMEDIATE", trigger_price=1400.0, order_id="261001025000001"),
        rule("TARGET", status="INACTIVE", trigger_price=1450.0),
    ]
    return single(type="MULTIPLE", rules=rules, **changes)


BRACKET = BracketOrder(
    RELIANCE,
    Side.BUY,
    quantity=2,
    product=Product.INTRADAY,
    price="1400",
    target_price="1450",
    stop_price="1365",
    trail="5",
)


async def test_a_single_order_is_spelled_as_documented() -> None:
    request = GttOrder(RELIANCE, Side.SELL, quantity=3, trigger=Trigger("1390"), crossing=Crossing.BELOW)
    async with serving(always(GTT_ACK)) as server, upstox(server.url, algo_name="ema") as broker:
        gtt = await broker.place_gtt(request)

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v3/order/gtt/place")
    assert asked.headers["x-algo-name"] == "ema"
    assert asked.json() == {
        "type": "SINGLE",
        "quantity": 3,
        "product": "D",
        "instrument_token": "NSE_EQ|INE000A01018",
        "transaction_type": "SELL",
        "rules": [
            {"strategy": "ENTRY", "trigger_type": "BELOW", "trigger_price": 1390, "market_protection": -1},
        ],
    }
    assert (gtt.id, gtt.legs[0].status, gtt.is_live) == (GTT_ID, LegStatus.ARMED, True)
    assert (gtt.client_order_id or "").startswith("hb-")


async def test_a_bracket_is_spelled_as_documented() -> None:
    async with (
        serving(always(GTT_ACK)) as server,
        upstox(server.url, market_protection=Decimal(3)) as broker,
    ):
        bracket = await broker.place_bracket(BRACKET)

    body = server.asked[0].json()
    assert (body["type"], body["product"], body["quantity"]) == ("MULTIPLE", "I", 2)
    assert body["rules"] == [
        {"strategy": "ENTRY", "trigger_type": "IMMEDIATE", "trigger_price": 1400, "market_protection": 3},
        {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 1450, "market_protection": 3},
        {
            "strategy": "STOPLOSS",
            "trigger_type": "IMMEDIATE",
            "trigger_price": 1365,
            "market_protection": 3,
            "trailing_gap": 5,
        },
    ]
    assert [leg.status for leg in bracket.legs] == [LegStatus.SENT, LegStatus.INACTIVE, LegStatus.INACTIVE]
    assert bracket.legs[2].trail == Decimal(5)


@pytest.mark.parametrize(
    ("last", "expected"), [(1400.0, "BELOW"), (1390.0, "ABOVE"), (1380.0, "ABOVE")], ids=["down", "there", "up"]
)
async def test_from_which_side_the_market_comes_is_read_where_it_is_not_said(last: float, expected: str) -> None:
    quotes = Answer.data({"NSE_EQ:RELIANCE": {"instrument_token": "NSE_EQ|INE000A01018", "last_price": last}})
    async with serving(script(("GET", quotes), ("POST", GTT_ACK))) as server, upstox(server.url) as broker:
        await broker.place_gtt(GttOrder(RELIANCE, Side.BUY, quantity=1, trigger=Trigger("1390")))

    assert server.asked[-1].json()["rules"][0]["trigger_type"] == expected


@pytest.mark.parametrize(
    ("quotes", "expected"),
    [
        (Answer.data({}), InvalidOrder),
        (Answer.data({"X": {"instrument_token": "other", "last_price": 5}}), InvalidOrder),
        (Answer(status=503), NotSent),
        (Answer(status=200, body=b"{"), NotSent),
    ],
)
async def test_without_a_last_price_nothing_is_placed(quotes: Answer, expected: type[HybridBrokerError]) -> None:
    async with serving(always(quotes)) as server, upstox(server.url) as broker:
        with pytest.raises(expected):
            await broker.place_gtt(GttOrder(RELIANCE, Side.BUY, quantity=1, trigger=Trigger("1390")))

    assert server.count("POST") == 0


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (
            lambda broker: broker.place_gtt(
                GttOrder(RELIANCE, Side.BUY, quantity=1, trigger=Trigger("1390", price="1391"))
            ),
            Unsupported,
        ),
        (
            lambda broker: broker.place_gtt(
                OcoOrder(RELIANCE, Side.SELL, quantity=1, target=Trigger("1450"), stop=Trigger("1365"))
            ),
            Unsupported,
        ),
        (
            lambda broker: broker.place_bracket(
                BracketOrder(RELIANCE, Side.BUY, quantity=1, target_price="1450", stop_price="1365")
            ),
            Unsupported,
        ),
        (
            lambda broker: broker.place_gtt(
                GttOrder(RELIANCE, Side.BUY, quantity=1, trigger=Trigger("1390"), product=Product.MARGIN)
            ),
            InvalidOrder,
        ),
        (lambda broker: broker.modify_gtt(GTT_ID, stop=Trigger("1390")), InvalidOrder),
        (lambda broker: broker.cancel_bracket(GTT_ID, leg=LegRole.STOP), Unsupported),
        (lambda broker: broker.cancel_gtt("../x"), OrderNotFound),
    ],
)
async def test_what_upstox_cannot_do_is_refused_without_io(place: Any, expected: type[HybridBrokerError]) -> None:
    async with serving(always(GTT_ACK)) as server, upstox(server.url) as broker:
        with pytest.raises(expected):
            await place(broker)

    assert server.asked == []


UNKNOWN = [
    Answer(status=None),
    Answer(status=500),
    Answer(status=200, body=b"{"),
    Answer.data({"gtt_order_ids": []}),
    Answer.data(None),
]


@pytest.mark.parametrize("answer", UNKNOWN)
async def test_a_placing_without_a_readable_answer_is_unknown_and_sent_once(answer: Answer) -> None:
    request = GttOrder(
        RELIANCE, Side.BUY, quantity=1, trigger=Trigger("1390"), crossing=Crossing.BELOW, client_order_id="g-1"
    )
    async with serving(always(answer)) as server, upstox(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await broker.place_gtt(request)
        assert await broker.find_gtt("g-1") is None

    assert caught.value.client_order_id == "g-1"
    assert len(server.asked) == 1


@pytest.mark.parametrize("answer", UNKNOWN)
async def test_a_change_without_a_readable_answer_is_unknown_and_sent_once(answer: Answer) -> None:
    answers = script(("GET", Answer.data([single()])), ("PUT", answer), ("DELETE", answer))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown) as changed:
            await broker.modify_gtt(GTT_ID, quantity=2)
        with pytest.raises(OrderOutcomeUnknown) as cancelled:
            await broker.cancel_gtt(GTT_ID)

    assert changed.value.client_order_id == cancelled.value.client_order_id == GTT_ID
    assert (server.count("PUT"), server.count("DELETE")) == (1, 1)


async def test_a_change_states_all_rules_and_reads_what_came_of_it() -> None:
    after = multiple("COMPLETED")
    after["rules"][2]["trigger_price"] = 1440.0
    answers = script(("GET", Answer.data([multiple("COMPLETED")])), ("GET", Answer.data([after])), ("PUT", GTT_ACK))
    async with serving(answers) as server, upstox(server.url) as broker:
        bracket = await broker.modify_bracket(GTT_ID, target_price=Decimal(1440), trail=Decimal(0))

    body = server.asked[1].json()
    assert (body["gtt_order_id"], body["type"], body["quantity"]) == (GTT_ID, "MULTIPLE", 1)
    by_strategy = {each["strategy"]: each for each in body["rules"]}
    assert by_strategy["TARGET"]["trigger_price"] == 1440
    assert by_strategy["ENTRY"]["trigger_price"] == 1400
    assert "trailing_gap" not in by_strategy["STOPLOSS"]
    assert [leg.role for leg in bracket.legs] == [LegRole.ENTRY, LegRole.TARGET, LegRole.STOP]


async def test_a_change_keeps_the_trailing_it_does_not_speak_of() -> None:
    answers = script(("GET", Answer.data([multiple()])), ("PUT", GTT_ACK))
    async with serving(answers) as server, upstox(server.url) as broker:
        await broker.modify_bracket(GTT_ID, price=Decimal(1401))

    by_strategy = {each["strategy"]: each for each in server.asked[1].json()["rules"]}
    assert by_strategy["STOPLOSS"]["trailing_gap"] == 5
    assert by_strategy["ENTRY"]["trigger_price"] == 1401


@pytest.mark.parametrize(
    ("row", "change", "expected"),
    [
        (multiple("OPEN"), {"quantity": 2}, InvalidOrder),
        (multiple("COMPLETED"), {"price": Decimal(1401)}, InvalidOrder),
        (multiple("CANCELLED"), {"target_price": Decimal("1450.05")}, InvalidOrder),
        (multiple(), {"stop_price": Decimal(-1)}, InvalidOrder),
        (multiple(), {"trail": Decimal("0.07")}, InvalidOrder),
        (single(type="MULTIPLE", rules=[rule(), rule("TARGET")]), {"stop_price": Decimal(1)}, InvalidOrder),
        (single(type="MULTIPLE", rules=[rule(), rule("TARGET")]), {"quantity": 0}, InvalidOrder),
        (single(), {"target_price": Decimal(1440)}, OrderNotFound),
    ],
)
async def test_a_change_that_does_not_fit_writes_nothing(
    row: dict[str, Any], change: dict[str, Any], expected: type[HybridBrokerError]
) -> None:
    async with serving(always(Answer.data([row]))) as server, upstox(server.url) as broker:
        with pytest.raises(expected):
            await broker.modify_bracket(GTT_ID, **change)

    assert server.count("PUT") == 0


async def test_a_bracket_is_no_gtt_order_and_the_lists_are_apart() -> None:
    rows = [multiple(gtt_order_id="GTT-2", created_at=1790823700000000), single()]
    async with serving(always(Answer.data(rows))) as server, upstox(server.url) as broker:
        gtts, brackets = await broker.gtts(), await broker.brackets()
        with pytest.raises(OrderNotFound, match="bracket"):
            await broker.modify_gtt("GTT-2", quantity=2)
        unchanged = await broker.modify_gtt(GTT_ID)

    assert [each.id for each in gtts] == [GTT_ID]
    assert [each.id for each in brackets] == ["GTT-2"]
    assert unchanged == gtts[0]
    assert server.count("PUT") == 0


async def test_an_order_that_is_not_there_is_not_found() -> None:
    for answer in (Answer.data(None), Answer.refusal("UDAPI1135"), Answer.refusal("UDAPI100010")):
        async with serving(always(answer)) as server, upstox(server.url) as broker:
            with pytest.raises(OrderNotFound):
                await broker.cancel_gtt(GTT_ID)

        assert server.count("DELETE") == 0


async def test_cancelling_reads_back_and_what_cannot_be_read_is_unknown() -> None:
    answers = script(("GET", Answer.data([multiple()])), ("GET", Answer(status=503)), ("DELETE", GTT_ACK))
    async with serving(answers) as server, upstox(server.url) as broker:
        bracket = await broker.cancel_bracket(GTT_ID)

    (delete,) = [each for each in server.asked if each.method == "DELETE"]
    assert (delete.path, delete.json()) == ("/v3/order/gtt/cancel", {"gtt_order_id": GTT_ID})
    assert {leg.status for leg in bracket.legs} == {LegStatus.UNKNOWN}


async def test_cancelling_what_ended_meanwhile_returns_it_and_a_refusal_of_a_living_one_raises() -> None:
    ended = single(rules=[rule(status="COMPLETED", order_id="1")])

    def meanwhile(asked: Asked) -> Answer:
        if asked.method == "DELETE":
            return Answer.refusal("UDAPI1140")
        return Answer.data([ended if any(each.method == "DELETE" for each in server.asked) else single()])

    async with serving(meanwhile) as server, upstox(server.url) as broker:
        gtt = await broker.cancel_gtt(GTT_ID)
    answers = script(("GET", Answer.data([single()])), ("DELETE", Answer.refusal("UDAPI1140")))
    async with serving(answers) as server, upstox(server.url) as broker:
        with pytest.raises(OrderRejected):
            await broker.cancel_gtt(GTT_ID)

    assert gtt.legs[0].status is LegStatus.FILLED


async def test_a_standing_order_is_found_by_the_name_it_was_placed_with() -> None:
    answers = script(("POST", GTT_ACK), ("GET", Answer.data([single()])))
    request = GttOrder(
        RELIANCE, Side.BUY, quantity=1, trigger=Trigger("1390"), crossing=Crossing.BELOW, client_order_id="g-1"
    )
    async with serving(answers) as server, upstox(server.url) as broker:
        await broker.place_gtt(request)
        found = await broker.find_gtt("g-1")
        as_bracket = await broker.find_bracket("g-1")
        (listed,) = await broker.gtts()

    assert found is not None
    assert (found.id, found.client_order_id) == (GTT_ID, "g-1")
    assert as_bracket is None
    assert listed.client_order_id == "g-1"


def read(row: dict[str, Any]) -> Gtt | Bracket:
    return standing_from_wire(wire.GttRow.read(row, what="a row"), instrument=RELIANCE, client_order_id=None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("SCHEDULED", LegStatus.ARMED),
        ("PENDING", LegStatus.ARMED),
        ("TRIGGERED", LegStatus.SENT),
        ("OPEN", LegStatus.SENT),
        ("COMPLETED", LegStatus.FILLED),
        ("CANCELLED", LegStatus.CANCELLED),
        ("EXPIRED", LegStatus.EXPIRED),
        ("FAILED", LegStatus.REJECTED),
        ("INACTIVE", LegStatus.INACTIVE),
        ("PAUSED", LegStatus.UNKNOWN),
    ],
)
def test_every_status_of_a_rule_is_mapped(status: str, expected: LegStatus) -> None:
    (leg,) = read(single(rules=[rule(status=status)])).legs

    assert (leg.status, leg.raw) == (expected, status)


def test_an_exit_that_is_pending_waits_for_the_entry_first() -> None:
    def exits(entry: str) -> LegStatus:
        rules = [rule(status=entry), rule("TARGET", status="PENDING")]
        return read(single(type="MULTIPLE", rules=rules)).legs[1].status

    assert exits("PENDING") is LegStatus.INACTIVE
    assert exits("COMPLETED") is LegStatus.ARMED
    (leg,) = read(single(rules=[rule(status="PENDING", order_id="1")])).legs
    assert leg.status is LegStatus.SENT


def test_times_are_microseconds_and_an_immediate_entry_has_a_limit() -> None:
    gtt, bracket = read(single()), read(multiple())

    assert gtt.placed_at is not None
    assert gtt.expires_at is not None
    assert gtt.expires_at - gtt.placed_at == timedelta(days=365)
    assert (gtt.legs[0].trigger_price, gtt.legs[0].price) == (Decimal(1390), None)
    assert isinstance(bracket, Bracket)
    assert (bracket.legs[0].trigger_price, bracket.legs[0].price) == (None, Decimal(1400))
    assert (bracket.legs[1].side, bracket.legs[2].trail) == (Side.SELL, Decimal(5))
    assert read(single(created_at="1790823600000000", expires_at=None)).expires_at is None
    assert read(single(created_at=10**30)).placed_at is None


@pytest.mark.parametrize(
    "row",
    [
        single(rules=[rule("HEDGE")]),
        single(rules=[rule(transaction_type=None)]),
        single(rules=[]),
        single(product="X"),
    ],
)
def test_a_standing_order_that_nobody_documented_is_an_error(row: dict[str, Any]) -> None:
    with pytest.raises(WireFormatError):
        read(row)
