"""A paper account that lives on: what is written down is all there is, and nothing that was told is lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import ACME, MONDAY, OPTION, TUESDAY, WEDNESDAY, ZETA, tick

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import MarketPhase, MarketStatus
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    OrderRequest,
    OrderStatus,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
)
from hybridbroker.domain.standing import BracketOrder, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import ConfigurationError, InstrumentNotFound, InvalidOrder, OrderNotFound, OrderRejected
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.protocols import Capability
from hybridbroker.session import connect
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.simulation.fills import FillModel
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.simulation.restoring import restore
from hybridbroker.simulation.state import StateWriter
from hybridbroker.simulation.statutory import STATUTORY_ONLY
from hybridbroker.testing.clock import ManualClock

BUY, SELL = Side.BUY, Side.SELL
VICTIM = Path(__file__).with_name("paper_state_victim.py")


class Listed:
    """An instrument registry of a few."""

    def __init__(self, *listed: Instrument) -> None:
        self._listed = {each.id: each for each in listed}

    def __getitem__(self, name: str) -> Instrument:
        try:
            return self._listed[name]
        except KeyError:
            raise InstrumentNotFound(f"no instrument is called {name}") from None

    def key(self, instrument: Instrument, broker: str) -> Any:
        raise AssertionError(broker)

    def by_key(self, broker: str, key: str) -> Any:
        raise AssertionError(key)


LISTED = Listed(ACME, ZETA, OPTION)


def exchange(clock: ManualClock, **options: Any) -> SimulatedExchange:
    terms: dict[str, Any] = {
        "cash": Decimal(50_000),
        "charges": STATUTORY_ONLY,
        "square_off": time_of_day(15, 15),
        "leverage": Decimal(2),
        "fill": FillModel(participation="0.5"),
    }
    return SimulatedExchange(clock=clock, **(terms | options))


def reopened(market: SimulatedExchange, clock: ManualClock, **options: Any) -> SimulatedExchange:
    """The same account, written down and read back."""
    fresh = exchange(clock, **options)
    restore(StateWriter().dump(market, at=clock.now()), fresh, instruments=LISTED, now=clock.now())
    return fresh


def told(market: SimulatedExchange) -> dict[str, Any]:
    """All that an account is ever shown."""
    return {
        name: getattr(market, name)()
        for name in (
            "orders",
            "all_orders",
            "trades",
            "all_trades",
            "positions",
            "holdings",
            "funds",
            "pnl",
            "charges",
            "gtts",
            "brackets",
        )
    }


PRICES = st.integers(95, 105)
UNITS = st.integers(1, 9)
SIDES = st.sampled_from(Side)
PRODUCTS = st.sampled_from([Product.DELIVERY, Product.INTRADAY])
NAMES = st.sampled_from([ACME, ZETA])
STEPS = st.one_of(
    st.tuples(st.just("tick"), NAMES, PRICES, st.one_of(st.none(), st.integers(0, 6))),
    st.tuples(st.just("limit"), NAMES, SIDES, PRICES, UNITS, PRODUCTS),
    st.tuples(st.just("market"), NAMES, SIDES, UNITS, PRODUCTS),
    st.tuples(st.just("stop"), NAMES, SIDES, PRICES, UNITS, PRODUCTS),
    st.tuples(st.just("later"), NAMES, UNITS, PRICES),
    st.tuples(st.just("modify"), st.integers(0, 9), PRICES, UNITS),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("gtt"), NAMES, SIDES, PRICES, UNITS),
    st.tuples(st.just("oco"), NAMES, PRICES, UNITS),
    st.tuples(st.just("bracket"), NAMES, PRICES, UNITS, PRODUCTS),
    st.tuples(st.just("unstand"), st.integers(0, 9), st.sampled_from(LegRole)),
    st.tuples(st.just("status"), st.sampled_from([MarketPhase.OPEN, MarketPhase.OPEN, MarketPhase.CLOSED])),
    st.tuples(st.just("band"), NAMES, PRICES),
    st.tuples(st.just("convert"), NAMES, UNITS),
    st.tuples(st.just("wait"), st.sampled_from([60, 3_600, 6 * 3_600, 86_400, 3 * 86_400, 366 * 86_400])),
)
SAVES = st.tuples(st.just("save"))


class Play:
    """A market to which anything can happen; what is refused is refused."""

    def __init__(self, *, interrupted: bool) -> None:
        self.clock = ManualClock(MONDAY)
        self.market = exchange(self.clock)
        self.interrupted = interrupted
        self.writer = StateWriter()

    def do(self, name: str, *arguments: Any) -> None:
        with suppress(OrderRejected, InvalidOrder, OrderNotFound):
            getattr(self, name)(*arguments)

    def save(self) -> None:
        if self.interrupted:
            raw = self.writer.dump(self.market, at=self.clock.now())
            assert raw == StateWriter().dump(self.market, at=self.clock.now())
            self.market, self.writer = exchange(self.clock), StateWriter()
            restore(raw, self.market, instruments=LISTED, now=self.clock.now())

    def tick(self, share: Instrument, price: int, depth: int | None) -> None:
        levels = None if depth is None else ((float(price), depth), (price + 0.05, depth))
        self.market.on_tick(tick(price, instrument=share, bids=levels, asks=levels))

    def limit(self, share: Instrument, side: Side, price: int, units: int, product: Product) -> None:
        self.market.place(LimitOrder(share, side, quantity=units, price=price, product=product))

    def market_order(self, share: Instrument, side: Side, units: int, product: Product) -> None:
        self.market.place(MarketOrder(share, side, quantity=units, product=product))

    def stop(self, share: Instrument, side: Side, price: int, units: int, product: Product) -> None:
        kind: type[OrderRequest] = StopLimitOrder if units % 2 else StopMarketOrder
        limit = price + side.sign if units % 2 else None
        self.market.place(kind(share, side, quantity=units, trigger_price=price, price=limit, product=product))

    def later(self, share: Instrument, units: int, price: int) -> None:
        self.market.on_status(MarketStatus(phases={"NSE:cash": MarketPhase.CLOSED}, at=self.clock.now()))
        self.market.place(LimitOrder(share, BUY, quantity=units, price=price, after_market=True))

    def modify(self, index: int, price: int, units: int) -> None:
        for each in [each for each in self.market.orders() if each.is_open][index : index + 1]:
            self.market.modify(each.id, quantity=units, price=Decimal(price))

    def cancel(self, index: int) -> None:
        for each in self.market.orders()[index : index + 1]:
            self.market.cancel(each.id)

    def gtt(self, share: Instrument, side: Side, price: int, units: int) -> None:
        self.market.place_gtt(GttOrder(share, side, quantity=units, trigger=Trigger(price)))

    def oco(self, share: Instrument, price: int, units: int) -> None:
        self.market.place_gtt(
            OcoOrder(share, SELL, quantity=units, target=Trigger(price + 2, price=price + 2), stop=Trigger(price - 2))
        )

    def bracket(self, share: Instrument, price: int, units: int, product: Product) -> None:
        self.market.place_bracket(
            BracketOrder(
                share, BUY, quantity=units, price=price, target_price=price + 3, stop_price=price - 3,
                trail=1 if units % 2 else None, product=product,
            )
        )  # fmt: skip

    def unstand(self, index: int, leg: LegRole) -> None:
        for each in self.market.brackets()[index : index + 1]:
            self.market.cancel_bracket(each.id, leg=leg)
        for gtt in self.market.gtts()[index : index + 1]:
            self.market.cancel_gtt(gtt.id)

    def status(self, phase: MarketPhase) -> None:
        self.market.on_status(MarketStatus(phases={"NSE:cash": phase}, at=self.clock.now()))

    def band(self, share: Instrument, price: int) -> None:
        self.market.set_band(share, lower=Decimal(price - 3), upper=Decimal(price + 3))

    def convert(self, share: Instrument, units: int) -> None:
        self.market.convert(share, units, from_product=Product.INTRADAY, to_product=Product.DELIVERY)

    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.market.advance()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(STEPS, STEPS, STEPS, SAVES), min_size=5, max_size=60))
def test_an_interrupted_account_goes_on_exactly_as_an_uninterrupted_one(steps: list[tuple[Any, ...]]) -> None:
    whole, broken = Play(interrupted=False), Play(interrupted=True)

    for name, *arguments in (*steps, ("save",), ("tick", ACME, 100, None), ("wait", 86_400)):
        for play in (whole, broken):
            play.do("market_order" if name == "market" else name, *arguments)

        assert told(broken.market) == told(whole.market)


def test_every_part_of_an_exchange_is_written_down_rebuilt_or_given_anew() -> None:
    market = exchange(ManualClock(MONDAY))

    assert set(vars(market)) - SETTINGS - CACHES == {
        "_account", "_orders", "_trades", "_ticks", "_ticked", "_books", "_bands", "_phases", "_opening", "_day",
        "_day_ends", "_squares_off_at", "_count", "_gtts", "_brackets", "_standing_count", "_standing_changes",
    }  # fmt: skip
    assert set(vars(market._account)) == {"cash", "realised", "_leverage", "_lines", "_shares"}
    assert set(vars(market._orders)) == {"today", "_orders", "_working", "_resting"}
    assert set(vars(market._trades)) == {
        "_schedule", "_trades", "_first_of_today", "_billed", "_note", "_turnover",
    }  # fmt: skip
    assert set(vars(market._gtts)) == set(vars(market._brackets)) == {"_venue", "_changed", "_all", "_live"}


SETTINGS = {
    "_charged", "_clock", "_calendar", "_leverage", "_square_off", "_fill", "_by_bars", "match_on_arrival",
}  # fmt: skip
"""What the caller chooses at every start."""
CACHES = {"_priced"}


def evening(clock: ManualClock) -> SimulatedExchange:
    """A Monday with a purchase, an open order, an intraday position and two standing orders."""
    market = exchange(clock)
    market.on_tick(tick(100))
    market.on_tick(tick(200, instrument=ZETA))
    market.place(MarketOrder(ACME, BUY, quantity=10), at=clock.now())
    market.on_tick(tick(100, asks=((100.0, 50),), bids=((99.95, 50),)))
    market.place(MarketOrder(ZETA, SELL, quantity=3, product=Product.INTRADAY))
    market.on_tick(tick(201, instrument=ZETA, asks=((201.0, 50),), bids=((200.95, 50),)))
    market.place(LimitOrder(ACME, BUY, quantity=5, price=90))
    market.place_gtt(OcoOrder(ACME, SELL, quantity=10, target=Trigger(110, price=110), stop=Trigger(95)))
    return market


def test_a_night_passes_between_two_runs() -> None:
    clock = ManualClock(MONDAY)
    market = evening(clock)
    clock.advance((TUESDAY - MONDAY).total_seconds())

    morning = reopened(market, clock)
    morning.advance()

    (holding,) = morning.holdings()
    assert (holding.quantity, holding.unsettled_quantity) == (10, 10)
    assert morning.positions() == []
    assert [each.status for each in morning.all_orders() if each.price == 90] == [OrderStatus.EXPIRED]
    assert morning.all_trades()[-1].traded_at == datetime.combine(MONDAY.date(), time_of_day(15, 15), IST)
    assert [each.is_live for each in morning.gtts()] == [True]
    morning.on_tick(tick(111, bids=((111.0, 50),), asks=((111.05, 50),)))
    assert morning.holdings() == []


def test_shares_are_settled_after_a_trading_day_that_nobody_saw() -> None:
    clock = ManualClock(MONDAY)
    market = evening(clock)
    clock.advance((WEDNESDAY - MONDAY).total_seconds())

    later = reopened(market, clock)
    later.advance()

    assert [each.unsettled_quantity for each in later.holdings()] == [0]


def test_a_weekend_does_not_settle_shares() -> None:
    friday = MONDAY + timedelta(days=4)
    clock = ManualClock(friday)
    market = evening(clock)
    clock.advance(3 * 86_400)

    later = reopened(market, clock)
    later.advance()

    assert [each.unsettled_quantity for each in later.holdings()] == [10]


def test_a_changed_order_keeps_its_place_behind_the_others() -> None:
    clock = ManualClock(MONDAY)
    market = exchange(clock)
    market.on_tick(tick(100, bids=((99.9, 5),), asks=((100.0, 5),)))
    first, second = (market.place(LimitOrder(ACME, BUY, quantity=5, price=99)) for _ in range(2))
    market.modify(first.id, quantity=6)

    again = reopened(market, clock)
    again.on_tick(tick(99, bids=((98.9, 5),), asks=((99.0, 5),)))

    assert (again.order(first.id).filled_quantity, again.order(second.id).filled_quantity) == (0, 5)


def test_a_stop_goes_on_trailing_from_where_it_was() -> None:
    clock = ManualClock(MONDAY)
    market = exchange(clock)
    market.on_tick(tick(100, bids=((99.95, 9),), asks=((100.0, 9),)))
    placed = market.place_bracket(
        BracketOrder(ACME, BUY, quantity=2, price=100, target_price=150, stop_price=90, trail=5)
    )
    market.on_tick(tick(107))

    again = reopened(market, clock)
    again.on_tick(tick(111))

    assert again.bracket(placed.id).legs[2].trigger_price == 100


def test_after_the_square_off_nothing_intraday_is_taken_nor_squared_off_again() -> None:
    clock = ManualClock(MONDAY)
    market = evening(clock)
    clock.advance(6 * 3600)
    market.advance()

    again = reopened(market, clock)
    again.advance()

    assert told(again) == told(market)
    with pytest.raises(OrderRejected, match="square-off"):
        again.place(LimitOrder(ACME, BUY, quantity=1, price=99, product=Product.INTRADAY))


def test_the_file_is_for_people_to_read() -> None:
    clock = ManualClock(MONDAY)

    text = StateWriter().dump(evening(clock), at=clock.now()).decode()

    found = json.loads(text)
    assert found["account"]["cash"] == "49602.85"
    assert all(isinstance(each["price"], str) for each in found["trades"])
    assert found["trades"][0]["traded_at"] == "2026-09-21T10:00:00+05:30"
    assert found["trades"][0]["instrument"] == "NSE:ACME"
    assert len(text.splitlines()) > len(found["orders"]) + len(found["trades"])


# The file.


class Prices:
    """A source of no prices."""

    name = "none"
    capabilities = Capability.QUOTES

    async def quotes(self, instruments: Iterable[Instrument]) -> dict[Instrument, Any]:
        return dict.fromkeys([], instruments)


def paper(path: Path, clock: ManualClock, *, instruments: Listed = LISTED, **options: Any) -> PaperBroker:
    source: Any = Prices()
    return PaperBroker(source, clock=clock, state=path, instruments=instruments, **options)


async def bought(path: Path, clock: ManualClock) -> None:
    """An account that holds ten shares, with an open order and a GTT."""
    async with paper(path, clock) as broker:
        broker.feed(tick(100))
        await broker.place_order(MarketOrder(ACME, BUY, quantity=10))
        await broker.place_order(LimitOrder(ACME, BUY, quantity=5, price=90))
        await broker.place_gtt(GttOrder(ACME, SELL, quantity=10, trigger=Trigger(110)))


async def test_paper_account_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "deep" / "paper.json"
    await bought(path, clock)

    async with paper(path, clock, cash=Decimal(1)) as broker:
        positions, orders, gtts = await broker.positions(), await broker.orders(), await broker.gtts()

        assert [each.quantity for each in positions] == [10]
        assert [each.status for each in orders] == [OrderStatus.FILLED, OrderStatus.OPEN]
        assert [each.is_live for each in gtts] == [True]
        assert (await broker.funds()).available > 90_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
async def test_paper_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "paper.json"

    await bought(path, ManualClock(MONDAY))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_an_order_after_a_restart_does_not_trade_on_a_price_of_before(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"
    await bought(path, clock)

    async with paper(path, clock) as broker:
        with pytest.raises(OrderRejected, match="no price of NSE:ACME is known today"):
            await broker.place_order(MarketOrder(ACME, BUY, quantity=1))
        resting = await broker.place_order(LimitOrder(ACME, BUY, quantity=1, price=105))
        assert resting.status is OrderStatus.OPEN
        broker.feed(tick(101))
        assert (await broker.order(resting.id)).status is OrderStatus.FILLED


async def test_every_change_is_in_the_file_before_it_is_told(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"

    def written() -> SimulatedExchange:
        fresh = SimulatedExchange(cash=Decimal(1), charges=STATUTORY_ONLY, clock=clock)
        restore(path.read_bytes(), fresh, instruments=LISTED, now=clock.now())
        return fresh

    async with paper(path, clock) as broker:
        broker.feed(tick(100))
        order = await broker.place_order(LimitOrder(ACME, BUY, quantity=5, price=99))
        assert written().order(order.id) == order
        order = await broker.modify_order(order.id, price=Decimal(98))
        assert written().order(order.id) == order
        broker.feed(tick(98))
        assert written().order(order.id).status is OrderStatus.FILLED
        with pytest.raises(OrderRejected):
            await broker.place_order(LimitOrder(ACME, SELL, quantity=50, price=99))
        assert [each.status for each in written().orders()] == [OrderStatus.FILLED, OrderStatus.REJECTED]
        gtt = await broker.place_gtt(GttOrder(ACME, SELL, quantity=5, trigger=Trigger(110)))
        assert written().gtt(gtt.id) == gtt
        gtt = await broker.cancel_gtt(gtt.id)
        assert written().gtt(gtt.id) == gtt
        bracket = await broker.place_bracket(
            BracketOrder(ACME, BUY, quantity=1, price=98, target_price=105, stop_price=95, trail=1)
        )
        broker.feed(tick(100))
        assert written().bracket(bracket.id) == (await broker.brackets())[0]
        clock.advance(86_400)
        broker.feed(tick(100))
        assert written().day == TUESDAY.date()


async def test_a_second_process_is_told_who_has_the_account(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"

    async with paper(path, clock):
        with pytest.raises(ConfigurationError, match=rf"another process \(id {os.getpid()}\) trades on the paper"):
            await paper(path, clock).__aenter__()
    async with paper(path, clock):
        pass


def edited(raw: bytes, old: bytes, new: bytes) -> bytes:
    assert old in raw
    return raw.replace(old, new, 1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda raw: raw[: len(raw) // 2], "is cut off or damaged", id="cut off"),
        pytest.param(lambda raw: b"", "is cut off or damaged", id="empty"),
        pytest.param(lambda raw: b"\xff\x00" + raw, "is cut off or damaged", id="no text"),
        pytest.param(lambda raw: b'{"cash": 5}', "is no paper account", id="something else"),
        pytest.param(lambda raw: b"[1, 2]", "is no paper account", id="a list"),
        pytest.param(lambda raw: edited(raw, b'"cash":"', b'"cash":"9'), "was changed since", id="edited"),
        pytest.param(lambda raw: json.dumps(json.loads(raw)).encode(), "was changed since", id="put in another form"),
        pytest.param(lambda raw: edited(raw, b'"version": 1', b'"version": 2'), "upgrade hybridbroker", id="newer"),
    ],
)
async def test_a_file_that_cannot_be_believed_is_refused_and_left_alone(spoil: Any, says: str, tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"
    await bought(path, clock)
    spoilt = spoil(path.read_bytes())
    path.write_bytes(spoilt)

    with pytest.raises(ConfigurationError, match=says) as caught:
        await paper(path, clock).__aenter__()

    assert str(path) in str(caught.value)
    assert path.read_bytes() == spoilt


@pytest.mark.parametrize(
    ("instruments", "says"),
    [
        pytest.param(Listed(ZETA), "NSE:ACME, which the instrument registry does not list", id="gone"),
        pytest.param(
            Listed(attrs.evolve(ACME, lot_size=3)), r"NSE:ACME had lots of 1 .* now it has 3 and 0\.05", id="lot"
        ),
        pytest.param(
            Listed(attrs.evolve(ACME, tick_size=Decimal("0.10"))),
            r"NSE:ACME had .* a tick of 0\.05 rupees; now it has 1 and 0\.10",
            id="tick",
        ),
    ],
)
async def test_an_instrument_that_changed_is_named_and_nothing_is_lost(
    instruments: Listed, says: str, tmp_path: Path
) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"
    await bought(path, clock)
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match=says):
        await paper(path, clock, instruments=instruments).__aenter__()

    assert path.read_bytes() == before
    async with paper(path, clock) as broker:
        assert [each.quantity for each in await broker.positions()] == [10]


async def test_an_instrument_of_the_past_may_be_gone(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"
    async with paper(path, clock, charges=None) as broker:
        broker.feed(tick(20, instrument=OPTION))
        for side in (BUY, SELL):
            await broker.place_order(MarketOrder(OPTION, side, quantity=50, product=Product.MARGIN))
        await broker.place_order(LimitOrder(OPTION, BUY, quantity=50, price=10, product=Product.MARGIN))
    clock.advance(30 * 86_400)

    async with paper(path, clock, charges=None, instruments=Listed(ACME)) as broker:
        assert len(broker.exchange.all_orders()) == 3
        assert broker.exchange.all_orders()[-1].status is OrderStatus.EXPIRED


async def test_a_tick_size_may_change_under_shares_that_are_held(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"
    async with paper(path, clock) as broker:
        broker.feed(tick(100.05))
        await broker.place_order(MarketOrder(ACME, BUY, quantity=10))
    finer = attrs.evolve(ACME, tick_size=Decimal("0.01"))

    async with paper(path, clock, instruments=Listed(finer)) as broker:
        broker.feed(tick(100.01, instrument=finer))
        sold = await broker.place_order(LimitOrder(finer, SELL, quantity=10, price="100.01"))

    assert sold.status is OrderStatus.FILLED


async def test_derivatives_cannot_be_taken_up_with_charges(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"
    async with paper(path, clock, charges=None) as broker:
        broker.feed(tick(20, instrument=OPTION))
        await broker.place_order(MarketOrder(OPTION, BUY, quantity=50, product=Product.MARGIN))

    with pytest.raises(ConfigurationError, match="open it without charges"):
        await paper(path, clock).__aenter__()


def test_a_file_needs_instruments_to_be_read_by(tmp_path: Path) -> None:
    source: Any = Prices()

    with pytest.raises(ConfigurationError, match="instruments="):
        PaperBroker(source, state=tmp_path / "paper.json")


async def test_an_account_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    clock, path = ManualClock(MONDAY), tmp_path / "paper.json"
    path.mkdir()

    with pytest.raises(ConfigurationError, match=r"paper\.json"):
        await paper(path, clock).__aenter__()


async def test_session_takes_a_paper_account_up_with_what_waits_in_it(tmp_path: Path) -> None:
    source: Any = Prices()
    registry, path = InstrumentRegistry.builtin(), tmp_path / "paper.json"
    share = registry["NSE:RELIANCE"]
    options: dict[str, Any] = {"data": source, "instruments": registry, "clock": ManualClock(MONDAY)}

    async with connect(**options, paper_state=path) as session:
        placed = await session.broker.place_order(LimitOrder(share, BUY, quantity=1, price=1000))
    async with connect(**options, paper_state=path) as session:
        found = await session.broker.orders()
        ended = await session.broker.cancel_order(placed.id)

    assert [(each.id, each.status) for each in found] == [(placed.id, OrderStatus.OPEN)]
    assert ended.status is OrderStatus.CANCELLED


async def test_session_keeps_no_paper_account_for_orders_that_go_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="paper_state="):
        async with connect(broker="dhan", paper_state=tmp_path / "paper.json"):
            pass


# Kills.


def lines_of(process: subprocess.Popen[str], seconds: float) -> list[dict[str, Any]]:
    """Let a process trade for a while, kill it, and return what it had told until then."""
    time.sleep(seconds)
    process.kill()
    out, _ = process.communicate(timeout=20)
    return [json.loads(each) for each in out.splitlines() if each.endswith("}")]


def test_nothing_that_was_told_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "paper.json"
    events = 0
    for pause in (0.02, 0.11, 0.17, 0.0):
        command = [sys.executable, str(VICTIM), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert len(ready["trades"]) >= events
            known = {each["id"]: each for each in ready["trades"]}
            reported = [each for each in lines_of(process, pause) if "trade" in each]

        clock = ManualClock(MONDAY)
        market = SimulatedExchange(cash=Decimal(1), charges=STATUTORY_ONLY, clock=clock)
        restore(path.read_bytes(), market, instruments=LISTED, now=clock.now())
        found = {each.id: each for each in market.all_trades()}
        events = len(found)
        assert set(known) <= set(found)
        assert [each["trade"] for each in reported if each["trade"] not in found] == []
        assert_consistent(market, cash=Decimal(10_000_000))
    assert events > 0


def assert_consistent(market: SimulatedExchange, *, cash: Decimal) -> None:
    """Money, shares and orders are those of the trades."""
    trades: Sequence[Any] = market.all_trades()
    flow = sum((each.side.sign * each.value for each in trades), Decimal(0))
    assert market.funds().available + market.pnl().charges + blocked(market) == cash - flow
    assert sum(each.side.sign * each.quantity for each in trades) == sum(each.quantity for each in market.positions())
    for order in market.all_orders():
        assert order.filled_quantity == sum(each.quantity for each in trades if each.order_id == order.id)
    assert [each.id for each in trades] == [f"{count + 1:08d}" for count in range(len(trades))]


def blocked(market: SimulatedExchange) -> Decimal:
    return sum(
        (each.remaining * (each.price or Decimal(0)) for each in market.orders() if each.is_open and each.side is BUY),
        Decimal(0),
    )
