"""What a share trade costs, line by line."""

from __future__ import annotations

import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import ACME, MONDAY, OPTION, TUESDAY, share, trade

from hybridbroker.brokers.dhan import charges as dhan
from hybridbroker.brokers.upstox import charges as upstox
from hybridbroker.domain.instrument import Exchange, InstrumentKind
from hybridbroker.domain.orders import Product, Side, Trade
from hybridbroker.errors import ConfigurationError, Unsupported
from hybridbroker.simulation.charges import ChargeRow, Charges, ChargeSchedule, Per, Rounding
from hybridbroker.simulation.executions import squared_off
from hybridbroker.simulation.statutory import STATUTORY, STATUTORY_ONLY, schedule_with

DHAN = schedule_with(dhan.ROWS, name="dhan")
UPSTOX = schedule_with(upstox.ROWS, name="upstox")
TODAY = date(2026, 11, 20)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "charges.md"
LAKH = Decimal(100_000)


def amounts(charges: Charges) -> dict[str, str]:
    return {line.name: str(line.amount) for line in charges.lines}


@pytest.mark.parametrize(
    ("product", "side", "percentage", "depository"),
    [
        pytest.param(Product.DELIVERY, Side.BUY, "118.74", "0", id="delivery purchase"),
        pytest.param(Product.DELIVERY, Side.SELL, "103.74", "14.75", id="delivery sale"),
        pytest.param(Product.INTRADAY, Side.BUY, "30.34", "0", id="intraday purchase"),
        pytest.param(Product.INTRADAY, Side.SELL, "52.34", "0", id="intraday sale"),
    ],
)
@pytest.mark.parametrize("rounding", [Rounding.CONTRACT_NOTE, Rounding.PAISA])
def test_a_hundred_shares_at_a_thousand_rupees_at_dhan(
    product: Product, side: Side, percentage: str, depository: str, rounding: Rounding
) -> None:
    charges = DHAN.estimate(side, value=LAKH, on=TODAY, product=product, rounding=rounding)

    assert charges.percentage == Decimal(percentage)
    assert charges.depository == Decimal(depository)


def test_the_lines_of_a_delivery_purchase_are_those_of_a_contract_note() -> None:
    charges = DHAN.estimate(Side.BUY, value=LAKH, on=TODAY)

    assert amounts(charges) == {
        "Securities transaction tax": "100.00",
        "Exchange transaction charge": "3.07",
        "SEBI fee": "0.10",
        "Stamp duty": "15.00",
        "GST": "0.57",
    }
    assert charges.lines[0].basis == "0.1 % of 100000"


def test_brokerage_is_the_lower_of_flat_and_fraction_for_each_order() -> None:
    one = DHAN.estimate(Side.BUY, value=LAKH, on=TODAY, product=Product.INTRADAY, orders=1)
    ten = DHAN.estimate(Side.BUY, value=LAKH, on=TODAY, product=Product.INTRADAY, orders=10)

    assert amounts(one)["Brokerage"] == "20.00"
    assert amounts(ten)["Brokerage"] == "30.00"
    assert ten.lines[0].basis == "20 or 0.03 % per order, the lower, x 10"


def test_upstox_takes_twenty_rupees_for_a_delivery_order() -> None:
    charges = UPSTOX.estimate(Side.SELL, value=LAKH, on=TODAY)

    assert amounts(charges)["Brokerage"] == "20.00"
    assert charges.depository == Decimal("23.60")


@pytest.mark.parametrize(
    ("on", "lines"),
    [
        pytest.param(
            date(2026, 2, 28), {"Exchange transaction charge": "2.97", "Investor protection fund": "0.10"}, id="before"
        ),
        pytest.param(date(2026, 3, 1), {"Exchange transaction charge": "3.07"}, id="folded in"),
    ],
)
def test_the_investor_protection_fund_is_counted_once(on: date, lines: dict[str, str]) -> None:
    charges = STATUTORY_ONLY.estimate(Side.BUY, value=LAKH, on=on)

    shown = {name: amount for name, amount in amounts(charges).items() if "xchange" in name or "nvestor" in name}
    assert shown == lines
    assert charges.total == Decimal("118.74")


@pytest.mark.parametrize(
    ("group", "expected"),
    [("A", "3.75"), ("XT", "100.00"), ("ZP", "1000.00"), ("M", "2.75"), (None, "3.75")],
)
def test_the_transaction_charge_of_bse_goes_by_group(group: str | None, expected: str) -> None:
    charges = STATUTORY_ONLY.estimate(Side.BUY, value=LAKH, on=TODAY, exchange=Exchange.BSE, series=group)

    assert amounts(charges)["Exchange transaction charge"] == expected


def test_a_date_before_the_first_row_uses_it_and_says_so() -> None:
    old = STATUTORY_ONLY.estimate(Side.BUY, value=LAKH, on=date(2012, 1, 2))
    new = STATUTORY_ONLY.estimate(Side.BUY, value=LAKH, on=TODAY)

    assert amounts(old)["Securities transaction tax"] == "100.00"
    assert "Securities transaction tax: no rate before 2013-06-01 is tabulated, so that day's is used" in old.notes
    assert new.notes == ()


def test_transaction_tax_and_stamp_duty_are_rounded_to_the_rupee_once_per_day() -> None:
    small = [trade(Side.BUY, price="40", quantity=10, order_id=str(each)) for each in range(5)]

    note = STATUTORY_ONLY.charges_for(small)

    assert amounts(note)["Securities transaction tax"] == "2.00"
    assert amounts(note)["Stamp duty"] == "0.00"
    assert STATUTORY_ONLY.charges_for(small[:1]).lines[0].amount == Decimal("0.00")


@pytest.mark.parametrize(
    ("rounding", "total"),
    [(Rounding.NONE, "11.874060000"), (Rounding.PAISA, "11.88"), (Rounding.CONTRACT_NOTE, "12.38")],
)
def test_rounding_changes_the_total_of_a_small_trade(rounding: Rounding, total: str) -> None:
    charges = DHAN.estimate(Side.BUY, value=Decimal(10_000), on=TODAY, rounding=rounding)

    assert str(charges.total) == total
    assert charges.exact == Decimal("11.87406")


def test_the_depository_charges_once_per_share_and_day() -> None:
    sales = [
        trade(Side.SELL, order_id="1"),
        trade(Side.SELL, order_id="2"),
        trade(Side.SELL, order_id="3", instrument=share("ZETA")),
        trade(Side.SELL, order_id="4", at=TUESDAY),
    ]

    charges = DHAN.charges_for(sales)

    assert charges.depository == 3 * Decimal("14.75")


def test_delivery_bought_and_sold_on_one_day_is_billed_as_intraday() -> None:
    charges = DHAN.charges_for([trade(Side.BUY, price="1000"), trade(Side.SELL, price="1000")])

    assert charges.total == Decimal("30.34") + Decimal("52.34")
    assert charges.depository == 0
    assert charges.notes == ("delivery bought and sold on one day moves no shares: it is billed as intraday",)


def test_squared_off_splits_a_trade_that_is_only_partly_met() -> None:
    bought, sold = trade(Side.BUY, quantity=10), trade(Side.SELL, quantity=4)

    settled = squared_off([bought, sold])

    assert [(each.side, each.quantity, each.product) for each in settled] == [
        (Side.BUY, 4, Product.INTRADAY),
        (Side.BUY, 6, Product.DELIVERY),
        (Side.SELL, 4, Product.INTRADAY),
    ]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(trade(Side.SELL, at=TUESDAY), id="another day"),
        pytest.param(trade(Side.SELL, instrument=share(exchange=Exchange.BSE)), id="another exchange"),
        pytest.param(trade(Side.SELL, product=Product.INTRADAY), id="another product"),
    ],
)
def test_squared_off_meets_only_what_nets(other: Trade) -> None:
    trades = [trade(Side.BUY), other]

    assert squared_off(trades) == trades


def test_squared_off_leaves_trade_for_trade_shares_to_be_delivered() -> None:
    restricted = share(series="BE")
    trades = [trade(Side.BUY, instrument=restricted), trade(Side.SELL, instrument=restricted)]

    assert squared_off(trades) == trades


def test_fills_of_one_order_pay_one_brokerage() -> None:
    fills = [trade(Side.BUY, price="1000", product=Product.INTRADAY, order_id="1") for _ in range(3)]

    assert amounts(DHAN.charges_for(fills))["Brokerage"] == "20.00"


def test_derivatives_are_refused() -> None:
    with pytest.raises(Unsupported, match="derivatives"):
        DHAN.charges_for([trade(Side.BUY, quantity=50, instrument=OPTION, product=Product.MARGIN)])


@pytest.mark.parametrize(("product", "exchange"), [(Product.MARGIN, Exchange.NSE), (Product.DELIVERY, Exchange.MCX)])
def test_products_and_exchanges_without_rows_are_refused(product: Product, exchange: Exchange) -> None:
    with pytest.raises(Unsupported, match="not tabulated"):
        DHAN.estimate(Side.BUY, value=LAKH, on=TODAY, product=product, exchange=exchange)


def test_units_other_than_shares_are_charged_with_a_note() -> None:
    fund = attrs.evolve(ACME, kind=InstrumentKind.ETF)

    charges = DHAN.charges_for([trade(Side.BUY, instrument=fund)])

    assert charges.notes == ("etf units are charged as shares; some pay less, or no securities transaction tax",)


def test_a_schedule_refuses_a_charge_rounded_in_two_ways() -> None:
    row = STATUTORY[0]

    with pytest.raises(ConfigurationError, match="rounded in two ways"):
        ChargeSchedule([row, attrs.evolve(row, unit=Decimal("0.05"))])


def test_a_row_without_its_rate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lacks its rate"):
        ChargeRow(name="x", per=Per.VALUE, flat=Decimal(1), valid_from=TODAY, source="test")


@pytest.mark.parametrize("row", [*STATUTORY, *dhan.ROWS, *upstox.ROWS], ids=lambda row: f"{row.name} {row.valid_from}")
def test_every_row_names_its_source(row: ChargeRow) -> None:
    assert row.source


TRADES = st.lists(
    st.builds(
        trade,
        st.sampled_from(Side),
        price=st.integers(1, 5000).map(lambda paise: str(Decimal(paise) / 20)),
        quantity=st.integers(1, 500),
        at=st.integers(0, 3).map(lambda days: MONDAY + timedelta(days=days)),
        product=st.sampled_from([Product.DELIVERY, Product.INTRADAY]),
        order_id=st.sampled_from("abcdef"),
        instrument=st.sampled_from([ACME, share("ZETA"), share(exchange=Exchange.BSE, series="A")]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(trades=TRADES, rounding=st.sampled_from(Rounding))
def test_the_total_is_the_sum_of_the_lines_and_near_the_exact_one(trades: list[Trade], rounding: Rounding) -> None:
    charges = DHAN.charges_for(trades, rounding=rounding)

    assert charges.total == sum(line.amount for line in charges.lines)
    assert charges.total == charges.percentage + charges.depository
    days = len({each.traded_at.date() for each in trades})
    assert abs(charges.total - charges.exact) <= days * (2 * Decimal("0.5") + 7 * Decimal("0.005"))


@settings(deadline=None)
@given(trades=TRADES)
def test_squaring_off_keeps_quantity_and_value(trades: list[Trade]) -> None:
    settled = squared_off(trades)

    assert sum(each.quantity for each in settled) == sum(each.quantity for each in trades)
    assert sum(each.value for each in settled) == sum(each.value for each in trades)


def _table(heading: str) -> list[list[str]]:
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if re.match(r"\| [^-]", line)]
    return [[cell.strip(" *") for cell in row] for row in rows]


def test_the_page_about_charges_shows_the_lines_of_a_round_trip() -> None:
    bought = {
        rounding: DHAN.estimate(Side.BUY, value=Decimal(10_000), on=TODAY, rounding=rounding) for rounding in Rounding
    }
    sold = {
        rounding: DHAN.estimate(Side.SELL, value=Decimal(10_000), on=TODAY, rounding=rounding) for rounding in Rounding
    }
    expected = [["", "Line", "Basis", "Exact", "To the paisa", "Contract note"]]
    for label, side in (("buy", bought), ("sell", sold)):
        exact, paisa, note = (side[each].lines for each in (Rounding.NONE, Rounding.PAISA, Rounding.CONTRACT_NOTE))
        expected += [
            [label, one.name, one.basis, f"{one.exact.normalize():f}", f"{two.amount}", f"{three.amount}"]
            for one, two, three in zip(exact, paisa, note, strict=True)
        ]
    totals = [bought[each] + sold[each] for each in (Rounding.NONE, Rounding.PAISA, Rounding.CONTRACT_NOTE)]
    expected += [
        ["", "percentage charges", "", *(f"{each.percentage.normalize():f}" for each in totals)],
        ["", "depository", "", *(f"{each.depository:.2f}" for each in totals)],
        ["", "together", "", *(f"{each.total.normalize():f}" for each in totals)],
    ]

    assert _table("Ten thousand rupees there and back at Dhan") == expected


@pytest.mark.parametrize("schedule", [DHAN, UPSTOX], ids=lambda schedule: schedule.name)
def test_the_page_about_charges_compares_the_brokers(schedule: ChargeSchedule) -> None:
    rows = {row[0]: row[1:] for row in _table("A lakh, by broker and product")}

    expected = [
        f"{schedule.estimate(side, value=LAKH, on=TODAY, product=product).total}"
        for product in (Product.DELIVERY, Product.INTRADAY)
        for side in Side
    ]
    assert rows[schedule.name.title()] == expected
