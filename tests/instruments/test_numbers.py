"""Masters' numbers are read exactly, or the row is refused."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.numbers import Malformed, day, paise, positive, refuse_if_mostly_malformed, units


@pytest.mark.parametrize(
    ("text", "rupees"), [(10.0, "0.10"), ("5.0000", "0.05"), (1, "0.01"), ("0.2500", "0.0025"), ("100.0", "1.00")]
)
def test_paise_become_rupees_with_two_decimals_at_least(text: str | float, rupees: str) -> None:
    assert str(paise(text)) == rupees


@pytest.mark.parametrize("text", ["", "NA", "-5", "0", "nan", "inf", "1,000"])
def test_amount_that_is_not_above_zero_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        positive(text, "strike")


@pytest.mark.parametrize(("text", "expected"), [("65.0", 65), (1, 1), ("100000.0", 100_000)])
def test_lots_are_whole_numbers_however_written(text: str | float, expected: int) -> None:
    assert units(text) == expected


def test_fraction_of_a_unit_is_malformed() -> None:
    with pytest.raises(Malformed, match="lot size"):
        units("1.5")


@pytest.mark.parametrize(
    "text", ["2026-03-30", "2026-03-30 14:30:00", "2026-03-30T14:30:00", "30-03-2026 14:30", "30-3-2026", "3/30/2026"]
)
def test_day_is_read_in_every_spelling_seen(text: str) -> None:
    assert day(text) == date(2026, 3, 30)


@pytest.mark.parametrize("text", ["", "NA", "2026-02-30", "30/3/2026", "tomorrow", "20260330"])
def test_day_that_is_none_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="expiry"):
        day(text)


def test_strikes_keep_four_decimals() -> None:
    assert positive("62.2500", "strike") == Decimal("62.25")


def test_file_of_which_most_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"x.csv: 6 of 100 rows"):
        refuse_if_mostly_malformed("x.csv", malformed=6, total=100)


def test_file_with_few_odd_rows_is_taken() -> None:
    assert refuse_if_mostly_malformed("x.csv", malformed=5, total=100) is None  # type: ignore[func-returns-value]
