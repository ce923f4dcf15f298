"""Rows of Dhan's books become the right domain values, and never silently the wrong ones."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from dhan_kit import OPTION, RELIANCE, order_row

from hybridbroker.brokers.dhan.orders import mapping, wire
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import InstrumentKind
from hybridbroker.domain.orders import Order, OrderStatus, OrderType, Product, Side, Validity
from hybridbroker.errors import WireFormatError


def read(**changes: Any) -> Order:
    return mapping.order_from_wire(wire.OrderRow.read(order_row(**changes), what="a row"), instrument=RELIANCE)


def test_order_row_is_read_whole() -> None:
    order = read(orderStatus="PART_TRADED", filledQty=4, remainingQuantity=6, averageTradedPrice=1402.35)

    assert order == Order(
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
        raw="PART_TRADED",
    )


def test_values_that_mean_nothing_become_none() -> None:
    order = read(
        exchangeOrderId="0",
        correlationId="NA",
        price=0.0,
        averageTradedPrice=0.0,
        orderType="MARKET",
        createTime="0001-01-01 00:00:00",
        updateTime=None,
    )

    assert (order.exchange_order_id, order.client_order_id, order.price, order.average_price) == (None,) * 4
    assert (order.trigger_price, order.placed_at, order.updated_at) == (None,) * 3


@pytest.mark.parametrize("status", ["REJECTED", "CANCELLED", "EXPIRED"])
def test_a_dead_order_says_why(status: str) -> None:
    text = "EXCH:16283: The order price is not multiple of the tick size."

    assert read(orderStatus=status, omsErrorDescription=text).reason == text


@pytest.mark.parametrize(("status", "text"), [("PENDING", "anything"), ("CANCELLED", "CONFIRMED"), ("REJECTED", None)])
def test_chatter_is_no_reason(status: str, text: str | None) -> None:
    assert read(orderStatus=status, omsErrorDescription=text).reason is None


@pytest.mark.parametrize(
    ("raw", "filled", "status"),
    [
        ("TRANSIT", 0, OrderStatus.PENDING),
        ("PENDING", 0, OrderStatus.OPEN),
        ("PENDING", 4, OrderStatus.PARTIALLY_FILLED),
        ("PART_TRADED", 4, OrderStatus.PARTIALLY_FILLED),
        ("TRADED", 10, OrderStatus.FILLED),
        ("TRADED", 4, OrderStatus.PARTIALLY_FILLED),
        ("TRADED", 0, OrderStatus.UNKNOWN),
        ("CANCELLED", 4, OrderStatus.CANCELLED),
        ("REJECTED", 0, OrderStatus.REJECTED),
        ("EXPIRED", 0, OrderStatus.EXPIRED),
        ("CONFIRM", 0, OrderStatus.TRIGGER_PENDING),
        ("CLOSED", 0, OrderStatus.UNKNOWN),
        ("TRIGGERED", 0, OrderStatus.UNKNOWN),
        ("MODIFIED", 0, OrderStatus.UNKNOWN),
        ("INACTIVE", 0, OrderStatus.UNKNOWN),
        ("SOMETHING_NEW", 0, OrderStatus.UNKNOWN),
        ("", 0, OrderStatus.UNKNOWN),
        ("Traded", 10, OrderStatus.FILLED),
        ("Part Traded", 4, OrderStatus.PARTIALLY_FILLED),
    ],
)
def test_every_status_is_read(raw: str, filled: int, status: OrderStatus) -> None:
    order = read(orderStatus=raw, filledQty=filled)

    assert (order.status, order.raw) == (status, raw)


def test_a_status_nobody_documented_is_neither_open_nor_final() -> None:
    order = read(orderStatus="SOMETHING_NEW")

    assert not order.is_open
    assert not order.is_final


def test_a_traded_order_without_a_quantity_traded_whole() -> None:
    assert read(orderStatus="TRADED", filledQty=None).filled_quantity == 10


@pytest.mark.parametrize(("legacy", "product"), [("CO", Product.INTRADAY), ("BO", Product.INTRADAY)])
def test_legacy_products_exist_within_the_day(legacy: str, product: Product) -> None:
    assert read(productType=legacy).product is product


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transactionType", "HOLD"),
        ("orderType", "SINGLE"),
        ("productType", "NRML"),
        ("validity", "GTC"),
        ("createTime", "yesterday"),
        ("quantity", "ten"),
        ("quantity", None),
        ("orderId", ""),
        ("orderId", "../x"),
        ("price", "NaN"),
        ("filledQty", 1e30),
    ],
)
def test_a_row_nobody_documented_is_an_error_that_names_it(field: str, value: object) -> None:
    with pytest.raises(WireFormatError):
        read(**{field: value})


def test_a_row_without_a_field_names_the_field() -> None:
    row = order_row()
    del row["filledQty"]

    with pytest.raises(WireFormatError, match="filledQty: Field required"):
        wire.OrderRow.read(row, what="order 1")


@pytest.mark.parametrize("side", Side)
def test_every_side_survives_the_round_trip(side: Side) -> None:
    assert read(transactionType=mapping.SIDE[side]).side is side


@pytest.mark.parametrize("kind", OrderType)
def test_every_order_type_survives_the_round_trip(kind: OrderType) -> None:
    assert read(orderType=mapping.TYPE[kind]).type is kind


@pytest.mark.parametrize("product", Product)
def test_every_product_survives_the_round_trip(product: Product) -> None:
    assert read(productType=mapping.PRODUCT[product]).product is product


@pytest.mark.parametrize("validity", Validity)
def test_every_validity_survives_the_round_trip(validity: Validity) -> None:
    assert read(validity=mapping.VALIDITY[validity]).validity is validity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-15 09:20:01", datetime(2026, 9, 15, 9, 20, 1, tzinfo=IST)),
        ("2026-09-15T09:20:01.500", datetime(2026, 9, 15, 9, 20, 1, 500_000, tzinfo=IST)),
        ("0001-01-01", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("NA", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_ist_and_far_ones_are_none(text: str | None, expected: datetime | None) -> None:
    assert mapping.instant(text) == expected


@pytest.mark.parametrize(
    ("expiry", "strike", "same"),
    [
        ("2026-09-29", Decimal(25000), True),
        ("2026-09-29 14:30:00", None, True),
        ("0001-01-01", Decimal(0), True),
        ("2026-10-06", Decimal(25000), False),
        ("2026-09-29", Decimal(25100), False),
    ],
)
def test_a_reused_derivative_id_is_told_by_its_terms(expiry: str, strike: Decimal | None, *, same: bool) -> None:
    assert mapping.same_terms(OPTION, expiry=expiry, strike=strike) is same


def test_what_no_master_knows_is_shown_but_not_tradable() -> None:
    stand_in = mapping.unlisted("NSE_FNO", "45548", symbol="NIFTY-Sep2026-25000-CE")

    assert (stand_in.id, stand_in.kind) == ("DHAN:NSE_FNO:45548", InstrumentKind.UNLISTED)
    assert stand_in.symbol == "NIFTY-Sep2026-25000-CE"
    assert not stand_in.tradable


def test_a_segment_nobody_documented_is_an_error() -> None:
    with pytest.raises(WireFormatError, match="LSE_EQ"):
        mapping.unlisted("LSE_EQ", "1", symbol=None)


def funds(**changes: Any) -> dict[str, Any]:
    return {
        "dhanClientId": "1100000001",
        "availabelBalance": 98440.0,
        "sodLimit": 113642,
        "collateralAmount": 0.0,
        "receiveableAmount": 0.0,
        "utilizedAmount": 15202.0,
        "blockedPayoutAmount": 0.0,
        "withdrawableBalance": 98310.0,
        **changes,
    }


def test_funds_are_read_by_the_misspelt_key() -> None:
    read = mapping.funds_from_wire(wire.Funds.read(funds(availableBalance=1), what="funds"))

    assert (read.available, read.used, read.opening) == (Decimal(98440), Decimal(15202), Decimal(113642))
    assert read.withdrawable == Decimal(98310)


def test_funds_are_read_by_the_correct_key_where_the_misspelt_one_is_gone() -> None:
    payload = funds(availableBalance=5)
    del payload["availabelBalance"]

    assert mapping.funds_from_wire(wire.Funds.read(payload, what="funds")).available == Decimal(5)


def test_funds_without_either_key_are_an_error_not_zero() -> None:
    payload = funds()
    del payload["availabelBalance"]

    with pytest.raises(WireFormatError, match="availabelBalance"):
        mapping.funds_from_wire(wire.Funds.read(payload, what="funds"))


def position(**changes: Any) -> wire.PositionRow:
    row = {
        "tradingSymbol": "RELIANCE",
        "securityId": "2885",
        "positionType": "LONG",
        "exchangeSegment": "NSE_EQ",
        "productType": "INTRADAY",
        "buyAvg": 1402.35,
        "costPrice": 1402.35,
        "buyQty": 4,
        "sellAvg": 0.0,
        "sellQty": 0,
        "netQty": 4,
        "realizedProfit": 0.0,
        "unrealizedProfit": 3.2,
        "drvExpiryDate": "0001-01-01",
        "drvStrikePrice": 0.0,
        **changes,
    }
    return wire.PositionRow.read(row, what="a position")


def test_a_long_position_is_read() -> None:
    read = mapping.position_from_wire(position(), instrument=RELIANCE)

    assert (read.quantity, read.average_price, read.bought_value) == (4, Decimal("1402.35"), Decimal("5609.40"))
    assert (read.realised_pnl, read.unrealised_pnl) == (Decimal(0), Decimal("3.2"))


def test_a_short_position_without_a_cost_price_uses_what_was_sold() -> None:
    row = position(positionType="SHORT", buyQty=0, buyAvg=0, sellQty=4, sellAvg=1410.5, netQty=-4, costPrice=0)

    assert mapping.position_from_wire(row, instrument=RELIANCE).average_price == Decimal("1410.5")


def test_a_closed_position_keeps_its_row_with_quantity_zero() -> None:
    row = position(positionType="CLOSED", sellQty=4, sellAvg=1410, netQty=0, realizedProfit=30.6)

    read = mapping.position_from_wire(row, instrument=RELIANCE)

    assert (read.quantity, read.average_price, read.realised_pnl) == (0, Decimal(0), Decimal("30.6"))


def trade(**changes: Any) -> wire.TradeRow:
    row = {
        "orderId": "3226091500012",
        "exchangeTradeId": "50123456",
        "transactionType": "BUY",
        "exchangeSegment": "NSE_EQ",
        "productType": "CNC",
        "securityId": "2885",
        "tradedQuantity": 4,
        "tradedPrice": 1402.35,
        "createTime": "2026-09-15 09:20:00",
        "updateTime": "2026-09-15 09:20:01",
        "exchangeTime": "2026-09-15 09:20:02",
        **changes,
    }
    return wire.TradeRow.read(row, what="a trade")


@pytest.mark.parametrize(
    ("changes", "second"),
    [({}, 2), ({"exchangeTime": "0001-01-01 00:00:00"}, 1), ({"exchangeTime": "NA", "updateTime": "NA"}, 0)],
)
def test_a_trade_has_the_exchanges_time_or_the_next_best(changes: dict[str, Any], second: int) -> None:
    read = mapping.trade_from_wire(trade(**changes), instrument=RELIANCE)

    assert read.traded_at == datetime(2026, 9, 15, 9, 20, second, tzinfo=IST)
    assert (read.id, read.price, read.quantity) == ("50123456", Decimal("1402.35"), 4)


def test_a_trade_without_any_time_is_an_error() -> None:
    row = trade(exchangeTime=None, updateTime=None, createTime=None)

    with pytest.raises(WireFormatError, match="no time"):
        mapping.trade_from_wire(row, instrument=RELIANCE)
