"""Terms that brokers state differently: the stricter value, or none."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.domain.instrument import Exchange, InstrumentKind
from hybridbroker.instruments.listings import Listing
from hybridbroker.instruments.merge import Irreconcilable, disagreements, merge


def share(broker: str, *, lot: int = 1, tick: str = "0.05", series: str = "EQ", kind: str = "equity") -> Listing:
    return Listing(
        broker, "NSE_EQ", "1", "1", Exchange.NSE, InstrumentKind(kind), "ALPHA", "ALPHA", "INE111A01011", series, lot,
        Decimal(tick),
    )  # fmt: skip


def future(broker: str, *, lot: int = 50, freeze: int | None = None) -> Listing:
    return Listing(
        broker, "NSE_FO", "9", "9", Exchange.NSE, InstrumentKind.FUTURE, "ALPHA", "", None, None, lot, Decimal("0.05"),
        freeze, date(2026, 11, 24),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("0.05", "0.05", "0.05"), ("0.01", "0.05", "0.05"), ("0.10", "0.05", "0.10"), ("0.20", "0.50", "1.00")],
)
def test_tick_is_good_at_both_brokers(one: str, other: str, expected: str) -> None:
    assert str(merge([share("a", tick=one), share("b", tick=other)]).tick_size) == expected


@given(st.sampled_from(["0.01", "0.05", "0.10", "0.50", "1.00"]), st.sampled_from(["0.01", "0.05", "0.10", "0.50"]))
def test_every_price_on_the_merged_tick_is_on_both(one: str, other: str) -> None:
    tick = merge([share("a", tick=one), share("b", tick=other)]).tick_size

    assert tick % Decimal(one) == 0
    assert tick % Decimal(other) == 0


def test_ticks_worlds_apart_are_irreconcilable() -> None:
    with pytest.raises(Irreconcilable, match="tick size"):
        merge([share("a", tick="0.01"), share("b", tick="5.00")])


@given(st.integers(1, 2_000), st.integers(1, 2_000))
def test_lot_of_a_share_is_good_at_both_brokers_or_refused(one: int, other: int) -> None:
    try:
        lot = merge([share("a", lot=one), share("b", lot=other)]).lot_size
    except Irreconcilable:
        lot = math.lcm(one, other)
        assert lot > 100 * max(one, other)

    assert lot % one == lot % other == 0


def test_lots_of_a_contract_must_be_equal() -> None:
    with pytest.raises(Irreconcilable, match="lot size"):
        merge([future("a", lot=400), future("b", lot=2_000)])


@pytest.mark.parametrize(
    ("one", "other", "expected"), [(None, 1000, 1000), (1000, None, 1000), (1000, 900, 900), (None, 1756, 1750)]
)
def test_freeze_quantity_is_the_smaller_in_whole_lots(one: int | None, other: int | None, expected: int) -> None:
    assert merge([future("a", freeze=one), future("b", freeze=other)]).freeze_quantity == expected


def test_freeze_quantity_below_a_lot_is_irreconcilable() -> None:
    with pytest.raises(Irreconcilable, match="freeze quantity"):
        merge([future("a", freeze=20), future("b")])


def test_fund_that_one_broker_calls_traded_is_traded() -> None:
    assert merge([share("a", kind="other-cash"), share("b", kind="etf")]).kind is InstrumentKind.ETF


def test_what_differs_is_told() -> None:
    told = dict(disagreements([share("a", tick="0.10", lot=10), share("b", tick="0.05", series="BE")]))

    assert told == {"tick size": "a 0.10, b 0.05", "lot size": "a 10, b 1", "series": "a EQ, b BE"}
