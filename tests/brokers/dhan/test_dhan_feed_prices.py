"""Single-precision prices become the prices that were meant."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from dhan_data_kit import NIFTY, RELIANCE
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.brokers.dhan.data.prices import PriceTable, PriceTables

TICKS = [Decimal(text) for text in ("0.01", "0.05", "0.10", "0.5", "1", "5", "0.0025")]


def single(price: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", price))[0])


@given(steps=st.integers(min_value=1, max_value=2_600_000))
def test_every_price_up_to_130_thousand_survives(steps: int) -> None:
    price = float(steps * Decimal("0.05"))

    assert PriceTable(Decimal("0.05"))[single(price)] == price


@given(tick=st.sampled_from([each for each in TICKS if each >= Decimal("0.05")]), part=st.floats(0.26, 0.9999))
def test_every_tick_of_five_paise_or_more_survives_up_to_500_thousand(tick: Decimal, part: float) -> None:
    price = float(int(500_000 * part / float(tick)) * tick)

    assert PriceTable(tick)[single(price)] == price


@given(steps=st.integers(min_value=1, max_value=13_000_000))
def test_a_price_off_the_tick_keeps_its_paise(steps: int) -> None:
    price = steps / 100

    assert PriceTable(Decimal("0.05"))[single(price)] == price


@given(steps=st.integers(min_value=1, max_value=200_000))
def test_currency_prices_of_four_decimals_survive(steps: int) -> None:
    price = float(steps * Decimal("0.0025"))

    assert PriceTable(Decimal("0.0025"))[single(price)] == price


@given(wire=st.floats(width=32, min_value=0, exclude_min=True, allow_infinity=False))
def test_whatever_the_single_the_price_has_its_form_and_comes_out_again(wire: float) -> None:
    table = PriceTable(Decimal("0.05"))

    price = table[wire]

    assert single(price) == wire
    assert table[wire] == price


@pytest.mark.parametrize("wire", [0.0, -0.0, -1.5, float("nan"), float("inf"), float("-inf")])
def test_what_is_no_price_is_zero_and_not_remembered(wire: float) -> None:
    table = PriceTable(Decimal("0.05"))

    assert table[wire] == 0.0
    assert not table


def test_the_table_does_not_grow_without_end() -> None:
    table = PriceTable(Decimal(1))

    for price in range(1, 40_000):
        assert table[float(price)] == price

    assert len(table) <= 32_768


@pytest.mark.parametrize(
    ("told", "meant"),
    [(23092.19921875, 23092.2), (1402.35, 1402.35), (0.1 + 0.2, 0.3), (1e300, 1e300), (118.35, 118.35)],
)
def test_a_price_that_came_as_text_loses_its_noise(told: float, meant: float) -> None:
    assert PriceTable(Decimal("0.05")).settled(told) == meant


def test_instruments_of_one_tick_share_a_table_and_an_index_moves_by_paise() -> None:
    tables = PriceTables()

    assert tables.of(RELIANCE) is tables.of(RELIANCE)
    assert tables.of(NIFTY) is not tables.of(RELIANCE)
    assert tables.of(NIFTY)[single(24_541.17)] == 24_541.17
