"""Canonical ids read well, are exact, and say what the thing is."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbroker.domain.instrument import Exchange, Instrument, InstrumentKind, OptionRight, Segment
from hybridbroker.instruments.identity import instrument_id, is_isin, kind_from_isin, strike_text
from hybridbroker.instruments.listings import Listing
from hybridbroker.instruments.rows import unpack
from hybridbroker.instruments.writer import _cash_terms, _contract_terms

DAY = date(2026, 11, 24)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((Exchange.NSE, InstrumentKind.EQUITY, "RELIANCE", "EQ"), "NSE:RELIANCE"),
        ((Exchange.NSE, InstrumentKind.EQUITY, "JETFREIGHT", "BE"), "NSE:JETFREIGHT"),
        ((Exchange.NSE, InstrumentKind.DEBT, "CHOLAFIN", "D1"), "NSE:CHOLAFIN:D1"),
        ((Exchange.NSE, InstrumentKind.DEBT, "PAPER", "NA"), "NSE:PAPER:NA"),
        ((Exchange.BSE, InstrumentKind.EQUITY, "RELIANCE", "A"), "BSE:RELIANCE"),
        ((Exchange.NSE, InstrumentKind.INDEX, "NIFTY 50"), "NSE:NIFTY 50:INDEX"),
        ((Exchange.NSE, InstrumentKind.FUTURE, "NIFTY", None, DAY), "NSE:NIFTY:2026-11-24:FUT"),
        (
            (Exchange.NSE, InstrumentKind.OPTION, "NIFTY", None, DAY, Decimal("25000.00"), OptionRight.CALL),
            "NSE:NIFTY:2026-11-24:25000:CE",
        ),
    ],
)
def test_id_is_written_as_documented(arguments: tuple[object, ...], expected: str) -> None:
    assert instrument_id(*arguments) == expected  # type: ignore[arg-type]


def test_id_of_an_option_without_its_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="strike"):
        instrument_id(Exchange.NSE, InstrumentKind.OPTION, "NIFTY", None, DAY)


@pytest.mark.parametrize(
    ("strike", "text"), [("62.2500", "62.25"), ("100", "100"), ("1E+3", "1000"), ("0.50", "0.5"), ("7.9E+4", "79000")]
)
def test_strike_has_neither_trailing_zeros_nor_exponent(strike: str, text: str) -> None:
    assert strike_text(Decimal(strike)) == text


@pytest.mark.parametrize(
    ("isin", "traded_fund", "kind"),
    [
        ("INE002A01018", False, InstrumentKind.EQUITY),
        ("IN9397D01014", False, InstrumentKind.EQUITY),
        ("INE002A07AB1", False, InstrumentKind.DEBT),
        ("IN0020250123", False, InstrumentKind.DEBT),
        ("INF204KB14I2", True, InstrumentKind.ETF),
        ("INF204KB14I2", False, InstrumentKind.OTHER_CASH),
        ("INE0CCU25019", False, InstrumentKind.OTHER_CASH),
    ],
)
def test_kind_follows_the_isin(isin: str, traded_fund: bool, kind: InstrumentKind) -> None:
    assert kind_from_isin(isin, traded_fund=traded_fund) is kind


@pytest.mark.parametrize(
    ("text", "answer"), [("INE002A01018", True), ("NA", False), ("0", False), ("INEl48I07QA5", False)]
)
def test_isin_is_known_by_its_form(text: str, answer: bool) -> None:
    assert is_isin(text) is answer


_SYMBOLS = st.from_regex(r"[A-Z0-9&$. -]{1,12}", fullmatch=True)


@given(
    symbol=_SYMBOLS,
    series=st.sampled_from(["EQ", "BE", "D1", "NA", "N0"]),
    exchange=st.sampled_from([Exchange.NSE, Exchange.BSE]),
    name=st.text(max_size=20).filter(lambda text: "\t" not in text),
    lot=st.integers(1, 10_000),
)
def test_stored_paper_comes_back_as_it_was(symbol: str, series: str, exchange: Exchange, name: str, lot: int) -> None:
    row = Listing(
        "upstox", "X", "1", "1", exchange, InstrumentKind.DEBT, symbol, name, "INE002A07AB1", series, lot,
        Decimal("0.01"),
    )  # fmt: skip

    assert_same(unpack(row.id, _cash_terms(row)), row.instrument())


@given(
    symbol=_SYMBOLS,
    expiry=st.dates(date(2020, 1, 1), date(2040, 1, 1)),
    strike=st.decimals("0.0025", "200000", places=4).map(lambda value: value.normalize() + 0),
    right=st.sampled_from(OptionRight),
    freeze=st.none() | st.integers(1, 10_000),
)
def test_stored_option_comes_back_as_it_was(
    symbol: str, expiry: date, strike: Decimal, right: OptionRight, freeze: int | None
) -> None:
    row = Listing(
        "upstox", "X", "1", "1", Exchange.NSE, InstrumentKind.OPTION, symbol, "", None, None, 75, Decimal("0.05"),
        freeze, expiry, strike, right,
    )  # fmt: skip

    read = unpack(row.id, _contract_terms(row))

    assert_same(read, row.instrument())
    assert read.segment is Segment.DERIVATIVES


def assert_same(read: Instrument, expected: Instrument) -> None:
    fields = [each.name for each in attrs.fields(Instrument) if each.name != "name"]
    assert {name: getattr(read, name) for name in fields} == {name: getattr(expected, name) for name in fields}
