"""The order-update socket's frames are read whatever their spelling, and filled up from what is known."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest
from dhan_kit import CLIENT, RELIANCE, TOKEN, alert
from pydantic import SecretStr

from hybridbroker.brokers.dhan.auth import AccessToken
from hybridbroker.brokers.dhan.orders import update_feed as feed
from hybridbroker.clock import IST
from hybridbroker.domain.orders import Order, OrderStatus, OrderType, Product, Side, Validity
from hybridbroker.errors import WireFormatError

KNOWN = Order(
    id="3226091500012",
    client_order_id="st1-42",
    instrument=RELIANCE,
    side=Side.BUY,
    type=OrderType.LIMIT,
    product=Product.INTRADAY,
    validity=Validity.DAY,
    quantity=10,
    filled_quantity=2,
    price=Decimal("1402.5"),
    average_price=Decimal("1402.4"),
    status=OrderStatus.PARTIALLY_FILLED,
    placed_at=datetime(2026, 9, 15, 9, 20, 1, tzinfo=IST),
    exchange_order_id="11",
)


def read(**changes: Any) -> Order | None:
    update = feed.read_frame(alert(**changes))
    assert update is not None
    return feed.order_from_alert(update, instrument=RELIANCE, known=None)


def test_login_is_what_dhan_documents() -> None:
    frame = feed.login_frame(AccessToken.of(client_id=CLIENT, secret=SecretStr(TOKEN)))

    assert json.loads(frame) == {
        "LoginReq": {"MsgCode": 42, "ClientId": CLIENT, "Token": TOKEN},
        "UserType": "SELF",
    }


def test_an_update_is_read_whole() -> None:
    assert read() == Order(
        id="3226091500012",
        client_order_id="st1-42",
        instrument=RELIANCE,
        side=Side.BUY,
        type=OrderType.LIMIT,
        product=Product.DELIVERY,
        validity=Validity.DAY,
        quantity=10,
        filled_quantity=4,
        price=Decimal("1402.5"),
        average_price=Decimal("1402.35"),
        status=OrderStatus.PARTIALLY_FILLED,
        placed_at=datetime(2026, 9, 15, 9, 20, 1, tzinfo=IST),
        updated_at=datetime(2026, 9, 15, 9, 20, 2, tzinfo=IST),
        exchange_order_id="1100000012345678",
        raw="Pending",
    )


def test_keys_are_read_in_any_case() -> None:
    data = json.loads(alert())["Data"]
    documented = {key[0].upper() + key[1:]: value for key, value in data.items()}

    update = feed.read_frame(json.dumps({"Data": documented, "Type": "order_alert"}))

    assert update == feed.read_frame(alert())


def test_of_two_spellings_of_one_key_the_one_that_says_something_wins() -> None:
    data = {**json.loads(alert(reasonDescription=""))["Data"], "ReasonDescription": "RMS: no", "REASONDESCRIPTION": ""}

    update = feed.read_frame(json.dumps({"data": data, "type": "order_alert"}))

    assert update is not None
    assert update.reason_description == "RMS: no"


@pytest.mark.parametrize(
    ("raw", "traded", "status"),
    [
        ("Transit", 0, OrderStatus.PENDING),
        ("Pending", 0, OrderStatus.OPEN),
        ("Pending", 4, OrderStatus.PARTIALLY_FILLED),
        ("Part_Traded", 4, OrderStatus.PARTIALLY_FILLED),
        ("Traded", 10, OrderStatus.FILLED),
        ("Traded", 4, OrderStatus.PARTIALLY_FILLED),
        ("TRADED", 10, OrderStatus.FILLED),
        ("Cancelled", 4, OrderStatus.CANCELLED),
        ("Rejected", 0, OrderStatus.REJECTED),
        ("Partially Done", 4, OrderStatus.UNKNOWN),
    ],
)
def test_every_status_is_read(raw: str, traded: int, status: OrderStatus) -> None:
    order = read(status=raw, tradedQty=traded)

    assert order is not None
    assert (order.status, order.raw) == (status, raw)


def test_a_rejection_says_why_and_a_pending_order_does_not() -> None:
    rejected = read(status="Rejected", tradedQty=0, reasonDescription="RMS: shortfall")
    pending = read(status="Pending", reasonDescription="CONFIRMED")

    assert rejected is not None
    assert pending is not None
    assert (rejected.reason, pending.reason) == ("RMS: shortfall", None)


def test_what_an_update_leaves_out_comes_from_what_is_known() -> None:
    data = {"orderNo": KNOWN.id, "status": "Pending", "tradedQty": 2}
    frame = json.dumps({"Data": data, "Type": "order_alert"})
    update = feed.read_frame(frame)
    assert update is not None

    order = feed.order_from_alert(update, instrument=None, known=KNOWN)

    assert order == attrs.evolve(KNOWN, raw="Pending")


def test_an_update_without_the_units_traded_makes_no_order() -> None:
    update = feed.read_frame(alert(status="Traded", tradedQty=None))

    assert update is not None
    assert feed.order_from_alert(update, instrument=RELIANCE, known=KNOWN) is None


def test_a_trade_without_a_quantity_fills_the_known_quantity() -> None:
    frame = json.dumps({"Data": {"orderNo": "1", "status": "Traded", "tradedQty": 10}, "Type": "order_alert"})
    update = feed.read_frame(frame)
    assert update is not None

    order = feed.order_from_alert(update, instrument=None, known=KNOWN)

    assert order is not None
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, 10)


@pytest.mark.parametrize("missing", ["txnType", "orderType", "product", "validity", "quantity"])
def test_an_update_of_an_unknown_order_that_is_not_whole_makes_no_order(missing: str) -> None:
    assert read(**{missing: None}) is None


def test_an_update_without_an_instrument_makes_no_order() -> None:
    update = feed.read_frame(alert())

    assert update is not None
    assert feed.order_from_alert(update, instrument=None, known=None) is None


@pytest.mark.parametrize(
    ("exchange", "segment", "name"),
    [
        ("NSE", "E", "NSE_EQ"),
        ("NSE", "D", "NSE_FNO"),
        ("bse", "e", "BSE_EQ"),
        ("BSE", "D", "BSE_FNO"),
        ("MCX", "M", "MCX_COMM"),
        ("NSE", None, None),
        ("LSE", "E", None),
    ],
)
def test_exchange_and_segment_letters_name_the_segment(exchange: str, segment: str | None, name: str | None) -> None:
    update = feed.read_frame(alert(exchange=exchange, segment=segment))

    assert update is not None
    assert feed.segment_of(update) == name


@pytest.mark.parametrize("field", ["txnType", "orderType", "product", "validity"])
def test_a_code_nobody_documented_is_an_error(field: str) -> None:
    with pytest.raises(WireFormatError, match=KNOWN.id):
        read(**{field: "Q"})


@pytest.mark.parametrize(
    "frame",
    ["{", "[]", "5", b"\xff\xfe", "[" * 100_000, '{"Type":"order_alert"}', '{"Type":"order_alert","Data":[]}'],
)
def test_an_unreadable_frame_is_an_error_without_its_content(frame: str | bytes) -> None:
    with pytest.raises(WireFormatError) as caught:
        feed.read_frame(frame)

    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("changes", [{"orderNo": None}, {"status": None}, {"quantity": "many"}, {"orderNo": "a b"}])
def test_an_update_without_its_essentials_is_an_error(changes: dict[str, object]) -> None:
    with pytest.raises(WireFormatError, match="order update"):
        feed.read_frame(alert(**changes))


@pytest.mark.parametrize("frame", ["{}", '{"Type":"login_ack","Data":{}}', '{"LoginResp":{"code":42}}'])
def test_a_frame_that_is_no_update_is_passed_over(frame: str) -> None:
    assert feed.read_frame(frame) is None
