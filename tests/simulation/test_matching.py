"""When an order trades and at what price."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import ACME, OPTION, share, tick

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Side
from hybridbroker.simulation.matching import Fill, Offer, is_triggered, offers, protected_price, take

BOOK = (Offer(Decimal("100.00"), 10), Offer(Decimal("100.05"), 20), Offer(Decimal("100.20"), 50))


def fills(*pairs: tuple[str, int]) -> tuple[Fill, ...]:
    return tuple(Fill(Decimal(price), quantity) for price, quantity in pairs)


@pytest.mark.parametrize(
    ("limit", "quantity", "resting", "expected"),
    [
        pytest.param("99.95", 10, False, (), id="too low a limit takes nothing"),
        pytest.param("100.00", 4, False, (("100.00", 4),), id="the best price first"),
        pytest.param("100.10", 25, False, (("100.00", 10), ("100.05", 15)), id="levels are walked"),
        pytest.param("100.10", 99, False, (("100.00", 10), ("100.05", 20)), id="no deeper than the limit"),
        pytest.param("100.10", 25, True, (("100.10", 10), ("100.10", 15)), id="a resting order trades at its limit"),
        pytest.param("100.10", 0, False, (), id="nothing wanted"),
    ],
)
def test_take_of_a_purchase(limit: str, quantity: int, resting: bool, expected: tuple[tuple[str, int], ...]) -> None:
    taken, _ = take(BOOK, side=Side.BUY, limit=Decimal(limit), quantity=quantity, resting=resting)

    assert taken == fills(*expected)


def test_take_leaves_what_was_not_taken_for_the_next_order() -> None:
    _, left = take(BOOK, side=Side.BUY, limit=Decimal(101), quantity=15)

    assert left == (Offer(Decimal("100.05"), 15), Offer(Decimal("100.20"), 50))


def test_take_of_a_sale_reads_bids_downwards() -> None:
    bids = (Offer(Decimal("100.00"), 10), Offer(Decimal("99.90"), 20))

    taken, _ = take(bids, side=Side.SELL, limit=Decimal("99.90"), quantity=15)

    assert taken == fills(("100.00", 10), ("99.90", 5))


def test_offers_without_depth_are_any_quantity_at_the_last_price() -> None:
    assert offers(tick(101.23), Side.BUY) == (Offer(Decimal("101.25"), None),)


def test_offers_are_the_other_side_of_the_depth() -> None:
    seen = tick(100, bids=((99.95, 5),), asks=((100.05, 7), (100.1, 0)))

    assert offers(seen, Side.BUY) == (Offer(Decimal("100.05"), 7),)
    assert offers(seen, Side.SELL) == (Offer(Decimal("99.95"), 5),)


def test_offers_of_an_empty_side_are_none_even_at_the_last_price() -> None:
    assert offers(tick(100, bids=((100, 5),)), Side.BUY) == ()


@pytest.mark.parametrize(
    ("side", "last", "expected"),
    [
        pytest.param(Side.BUY, "99.95", False, id="buy stop below"),
        pytest.param(Side.BUY, "100.00", True, id="buy stop touched"),
        pytest.param(Side.SELL, "100.05", False, id="sell stop above"),
        pytest.param(Side.SELL, "99.00", True, id="sell stop gapped through"),
    ],
)
def test_a_stop_wakes_at_its_trigger(side: Side, last: str, expected: bool) -> None:
    assert is_triggered(side, Decimal(100), Decimal(last)) is expected


@pytest.mark.parametrize(
    ("instrument", "side", "reference", "expected"),
    [
        pytest.param(ACME, Side.BUY, "90.00", "91.80", id="2 % below a hundred"),
        pytest.param(ACME, Side.SELL, "90.00", "88.20", id="2 % down for a sale"),
        pytest.param(ACME, Side.BUY, "250.00", "252.50", id="1 % to five hundred"),
        pytest.param(ACME, Side.BUY, "1402.35", "1409.35", id="0.5 % above, on the tick"),
        pytest.param(ACME, Side.BUY, "1.00", "1.05", id="at least one tick"),
        pytest.param(ACME, Side.SELL, "0.05", "0.05", id="never below one tick"),
        pytest.param(OPTION, Side.BUY, "8.00", "8.40", id="5 % for cheap options"),
    ],
)
def test_protected_price(instrument: Instrument, side: Side, reference: str, expected: str) -> None:
    assert protected_price(instrument, side, Decimal(reference)) == Decimal(expected)


@settings(deadline=None)
@given(
    ticks=st.integers(min_value=1, max_value=10_000_000),
    size=st.sampled_from(["0.01", "0.05", "0.10", "1"]),
    side=st.sampled_from(Side),
)
def test_protected_price_is_on_the_tick_and_not_against_the_order(ticks: int, size: str, side: Side) -> None:
    instrument = share(tick=size)
    reference = ticks * instrument.tick_size

    price = protected_price(instrument, side, reference)

    assert instrument.is_on_tick(price)
    assert price >= instrument.tick_size
    assert (price - reference) * side.sign > 0 or price == instrument.tick_size


@settings(deadline=None)
@given(
    book=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 50)), max_size=6),
    limit=st.integers(1, 200),
    quantity=st.integers(0, 300),
    side=st.sampled_from(Side),
    resting=st.booleans(),
)
def test_take_never_trades_more_than_offered_or_wanted_or_worse_than_the_limit(
    book: list[tuple[int, int]], limit: int, quantity: int, side: Side, resting: bool
) -> None:
    shown = sorted(book, reverse=side is Side.SELL)
    levels = tuple(Offer(Decimal(price), offered) for price, offered in shown)

    taken, left = take(levels, side=side, limit=Decimal(limit), quantity=quantity, resting=resting)

    bought = sum(each.quantity for each in taken)
    assert bought <= quantity
    assert bought + sum(each.quantity or 0 for each in left) == sum(each.quantity or 0 for each in levels)
    assert all((each.price - limit) * side.sign <= 0 for each in taken)
