"""Upstox's words and ours: every spelling is in a table, and nothing is guessed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstox_desk_kit import order_row
from upstox_kit import CALL, NIFTY, RELIANCE

from hybridbroker.brokers.upstox.orders import mapping, wire
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import InstrumentKind, Segment
from hybridbroker.domain.orders import OrderStatus, OrderType, Product, Side, Validity
from hybridbroker.errors import WireFormatError

DOCUMENTED = {
    "put order req received": OrderStatus.PENDING,
    "validation pending": OrderStatus.PENDING,
    "open pending": OrderStatus.PENDING,
    "open": OrderStatus.OPEN,
    "trigger pending": OrderStatus.TRIGGER_PENDING,
    "modify pending": OrderStatus.OPEN,
    "modify validation pending": OrderStatus.OPEN,
    "modified": OrderStatus.OPEN,
    "not modified": OrderStatus.OPEN,
    "cancel pending": OrderStatus.OPEN,
    "not cancelled": OrderStatus.OPEN,
    "complete": OrderStatus.FILLED,
    "cancelled": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
    "after market order req received": OrderStatus.PENDING,
    "modify after market order req received": OrderStatus.PENDING,
    "cancelled after market order": OrderStatus.CANCELLED,
}


def row(**changes: Any) -> wire.OrderRow:
    return wire.OrderRow.read(order_row(**changes), what="a row")


def test_all_seventeen_statuses_are_mapped_and_no_more() -> None:
    assert dict(mapping.STATUS) == DOCUMENTED
    assert len(DOCUMENTED) == 17


@pytest.mark.parametrize("text", DOCUMENTED)
def test_a_status_is_read_in_any_case_and_spacing(text: str) -> None:
    filled = 10 if text == "complete" else 0

    assert mapping.status_from_wire(f" {text.title()} ", quantity=10, filled=filled) is DOCUMENTED[text]


@pytest.mark.parametrize(
    ("text", "filled", "expected"),
    [
        ("open", 4, OrderStatus.PARTIALLY_FILLED),
        ("modify pending", 4, OrderStatus.PARTIALLY_FILLED),
        ("trigger pending", 4, OrderStatus.PARTIALLY_FILLED),
        ("open", 10, OrderStatus.PARTIALLY_FILLED),
        ("complete", 4, OrderStatus.PARTIALLY_FILLED),
        ("complete", 0, OrderStatus.UNKNOWN),
        ("cancelled", 4, OrderStatus.CANCELLED),
        ("partially filled", 4, OrderStatus.UNKNOWN),
        ("", 0, OrderStatus.UNKNOWN),
    ],
)
def test_quantities_decide_what_is_partly_filled(text: str, filled: int, expected: OrderStatus) -> None:
    assert mapping.status_from_wire(text, quantity=10, filled=filled) is expected


@pytest.mark.parametrize(
    ("table", "kind"),
    [(mapping.SIDE, Side), (mapping.TYPE, OrderType), (mapping.PRODUCT, Product), (mapping.VALIDITY, Validity)],
)
def test_every_member_has_a_spelling(table: dict[Any, str], kind: Any) -> None:
    assert set(table) == set(kind)


@pytest.mark.parametrize(
    ("text", "instrument", "expected"),
    [
        ("D", RELIANCE, Product.DELIVERY),
        ("D", CALL, Product.MARGIN),
        ("I", RELIANCE, Product.INTRADAY),
        ("I", CALL, Product.INTRADAY),
        ("MTF", RELIANCE, Product.MTF),
        ("CO", CALL, Product.INTRADAY),
        ("OCO", CALL, Product.INTRADAY),
    ],
)
def test_a_product_depends_on_the_market(text: str, instrument: Any, expected: Product) -> None:
    assert mapping.product_from_wire(text, instrument, what="x") is expected


def test_an_order_is_read_whole() -> None:
    order = mapping.order_from_wire(
        row(
            order_type="SL",
            product="I",
            price=1389.5,
            trigger_price=1390.0,
            filled_quantity=4,
            average_price=1389.65,
            status_message="chatter",
        ),
        instrument=RELIANCE,
    )

    assert (order.type, order.product, order.side) == (OrderType.STOP_LIMIT, Product.INTRADAY, Side.BUY)
    assert (order.price, order.trigger_price, order.average_price) == (
        Decimal("1389.5"),
        Decimal(1390),
        Decimal("1389.65"),
    )
    assert (order.status, order.reason, order.raw) == (OrderStatus.PARTIALLY_FILLED, None, "open")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "rejected", "status_message": " no funds ", "status_message_raw": "RMS"}, "no funds"),
        ({"status": "rejected", "status_message": "", "status_message_raw": "RMS: no"}, "RMS: no"),
        ({"status": "rejected", "status_message": None, "status_message_raw": "NA"}, None),
        ({"status": "not modified", "status_message": "too far"}, "too far"),
        ({"status": "open", "status_message": "fine"}, None),
    ],
)
def test_a_reason_is_told_where_there_is_something_to_explain(changes: dict[str, Any], reason: str | None) -> None:
    assert mapping.order_from_wire(row(**changes), instrument=RELIANCE).reason == reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01 09:20:11", datetime(2026, 10, 1, 9, 20, 11, tzinfo=IST)),
        ("01-Oct-2026 09:20:11", datetime(2026, 10, 1, 9, 20, 11, tzinfo=IST)),
        ("1-oct-2026 09:20:11", datetime(2026, 10, 1, 9, 20, 11, tzinfo=IST)),
        ("2026-10-01T09:20:11+05:30", datetime(2026, 10, 1, 9, 20, 11, tzinfo=IST)),
        ("", None),
        ("NA", None),
        (None, None),
        ("0001-01-01 00:00:00", None),
    ],
)
def test_times_are_read_in_both_spellings(text: str | None, expected: datetime | None) -> None:
    assert mapping.instant(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "32-Oct-2026 09:20:11", "01-Okt-2026 09:20:11", "2026-13-01 00:00:00"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(WireFormatError, match="no time"):
        mapping.instant(text)


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_every_time_survives_either_spelling(seconds: int) -> None:
    moment = datetime(1990, 1, 1, tzinfo=IST) + timedelta(seconds=seconds)
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    named = f"{moment.day:02}-{months[moment.month - 1]}-{moment.year} {moment:%H:%M:%S}"

    assert mapping.instant(f"{moment:%Y-%m-%d %H:%M:%S}") == moment
    assert mapping.instant(named) == moment


@pytest.mark.parametrize(
    ("key", "exchange", "segment"),
    [
        ("NSE_EQ|X", None, Segment.CASH),
        ("NCD_FO|1", "CDS", Segment.CURRENCY),
        ("MCX_FO|1", "MCX", Segment.COMMODITY),
        ("NSE_COM|1", "NSCOM", Segment.COMMODITY),
        ("151064324", "NFO", Segment.DERIVATIVES),
        ("151064324", "NSE_EQ", Segment.CASH),
    ],
)
def test_a_stand_in_is_of_the_segment_that_is_told(key: str, exchange: str | None, segment: Segment) -> None:
    instrument = mapping.unlisted(key, exchange=exchange, symbol="ABC")

    assert (instrument.segment, instrument.kind, instrument.symbol) == (segment, InstrumentKind.UNLISTED, "ABC")
    assert not instrument.tradable


@pytest.mark.parametrize(("key", "exchange"), [("151064324", None), ("NOWHERE|1", "NSE"), ("1", "LSE")])
def test_a_stand_in_of_no_segment_is_an_error(key: str, exchange: str | None) -> None:
    with pytest.raises(WireFormatError):
        mapping.unlisted(key, exchange=exchange, symbol=None)


@pytest.mark.parametrize(
    ("instrument", "symbol", "expected"),
    [
        (CALL, "NIFTY26N2425000CE", False),
        (CALL, "NIFTY 25000 CE 24 NOV 26", False),
        (CALL, "NIFTY26N2425000PE", True),
        (CALL, "NIFTY26N2425100CE", True),
        (CALL, "NIFTY26NOVFUT", False),
        (CALL, None, False),
        (RELIANCE, "RELIANCE-EQ", False),
        (NIFTY, "NIFTY 25000 CE", False),
    ],
)
def test_a_symbol_of_another_option_contradicts(instrument: Any, symbol: str | None, expected: bool) -> None:
    assert mapping.contradicts(instrument, symbol) is expected


def test_quantities_written_as_floats_are_whole() -> None:
    assert row(quantity=10.0, filled_quantity=None).quantity == 10
    with pytest.raises(WireFormatError):
        row(quantity=10.5)


@given(st.integers(min_value=1, max_value=5_000_000))
def test_every_price_on_a_tick_survives_the_wire(steps: int) -> None:
    price = steps * Decimal("0.05")

    read = wire.OrderRow.read(order_row(price=float(price)), what="a row")

    assert read.price == price


@pytest.mark.parametrize("bad", [{"price": float("nan")}, {"price": 1e20}, {"quantity": 10**13}, {"order_id": "a b"}])
def test_values_that_nobody_can_mean_are_errors_without_the_value(bad: dict[str, Any]) -> None:
    with pytest.raises(WireFormatError) as caught:
        row(**bad)

    assert next(iter(bad)) in str(caught.value)
    assert "1e+20" not in str(caught.value)
