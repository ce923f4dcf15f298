"""A broker of simulated money on real prices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Self, cast

import pytest
from simulated import ACME, MONDAY, OPTION, tick

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import (
    Candles,
    FeedMode,
    Gap,
    Interval,
    MarketEvent,
    MarketPhase,
    MarketStatus,
    Quote,
    Tick,
)
from hybridbroker.domain.orders import LimitOrder, MarketOrder, Order, OrderStatus, Product, Side
from hybridbroker.errors import InvalidOrder, NotSent, OrderNotFound, OrderRejected, Unsupported
from hybridbroker.protocols import Broker, Capability, FeedHealth, MarketData, MarketStream, Overflow
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.streams import StreamHealth, only_ticks
from hybridbroker.testing.clock import ManualClock

BUY, SELL = Side.BUY, Side.SELL
GAP = Gap(since=MONDAY, until=MONDAY, reason="test")


class Scripted:
    """A source of prices that says what it is told to, and counts what it is asked."""

    name = "scripted"
    capabilities = Capability.TICKS | Capability.QUOTES

    def __init__(self, *events: MarketEvent, quotes: Mapping[Instrument, Quote] | Exception | None = None) -> None:
        self.events = events
        self.asked: list[Instrument] = []
        self.streams = 0
        self._quotes = quotes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        self.asked += instruments
        if isinstance(self._quotes, Exception):
            raise self._quotes
        return self._quotes or {}

    async def candles(
        self, instrument: Instrument, interval: Interval, *, start: date | datetime, end: date | datetime | None = None
    ) -> Candles:
        return Candles.from_rows([], instrument=instrument, interval=interval)

    def stream(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> AbstractAsyncContextManager[MarketStream]:
        return self._stream()

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[MarketStream]:
        self.streams += 1
        yield ScriptedStream(self.events)


class ScriptedStream:
    def __init__(self, events: Sequence[MarketEvent]) -> None:
        self.health = cast("FeedHealth", StreamHealth(ManualClock()))
        self.subscribed: list[Instrument] = []
        self._events = iter(events)

    def __aiter__(self) -> AsyncIterator[MarketEvent]:
        return self

    async def __anext__(self) -> MarketEvent:
        await asyncio.sleep(0)
        try:
            return next(self._events)
        except StopIteration:
            raise StopAsyncIteration from None

    def ticks(self) -> AsyncIterator[Tick]:
        return only_ticks(self)

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        self.subscribed += instruments

    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        self.subscribed = [each for each in self.subscribed if each not in set(instruments)]


def paper(data: MarketData, **terms: object) -> Broker:
    return PaperBroker(data, clock=ManualClock(MONDAY), **terms)  # type: ignore[arg-type]


def quote(price: float, *, lower: float | None = None, upper: float | None = None) -> dict[Instrument, Quote]:
    return {ACME: Quote(instrument=ACME, last_price=price, as_of=MONDAY, lower_circuit=lower, upper_circuit=upper)}


def limit(side: Side, quantity: int, price: str) -> LimitOrder:
    return LimitOrder(ACME, side, quantity=quantity, price=price)


async def test_an_order_fills_on_the_stream_that_the_strategy_reads() -> None:
    data = Scripted(tick(100), GAP, tick(98))
    broker = PaperBroker(data, clock=ManualClock(MONDAY))
    seen: list[OrderStatus] = []

    async with broker, broker.watch(data).stream([ACME]) as events:
        async for event in events:
            if not seen:
                seen.append((await broker.place_order(limit(BUY, 10, "99"))).status)
            elif isinstance(event, Tick):
                seen.append((await broker.orders())[0].status)

    assert seen == [OrderStatus.OPEN, OrderStatus.FILLED]
    assert (data.streams, data.asked) == (1, [])


async def test_ticks_of_a_watched_stream_reach_the_market_too() -> None:
    data = Scripted(tick(100), GAP, tick(98))
    broker = PaperBroker(data, clock=ManualClock(MONDAY))

    async with broker.watch(data).stream() as events:
        prices = [each.last_price async for each in events.ticks()]

    assert prices == [100, 98]
    assert broker.exchange.last_price(ACME) == Decimal(98)


async def test_a_watched_source_is_the_source_in_everything_else() -> None:
    data = Scripted(quotes=quote(100))
    watched = PaperBroker(data, clock=ManualClock(MONDAY)).watch(data)

    async with watched, watched.stream() as events:
        await events.subscribe([ACME])
        await events.unsubscribe([ACME])
        health = events.health

    assert (watched.name, watched.capabilities) == (data.name, data.capabilities)
    assert await watched.quotes([ACME]) == quote(100)
    assert len(await watched.candles(ACME, Interval.DAY_1, start=MONDAY)) == 0
    assert health.conflated == 0


async def test_an_instrument_that_has_not_ticked_is_priced_by_one_quote() -> None:
    data = Scripted(quotes=quote(100))
    broker = paper(data)

    first = await broker.place_order(MarketOrder(ACME, BUY, quantity=1))
    await broker.place_order(MarketOrder(ACME, BUY, quantity=1))

    assert (first.status, first.average_price) == (OrderStatus.FILLED, Decimal(100))
    assert data.asked == [ACME]


async def test_the_circuit_limits_of_the_quote_bound_the_price() -> None:
    broker = paper(Scripted(quotes=quote(100, lower=90, upper=110)))

    with pytest.raises(OrderRejected, match="band of 90"):
        await broker.place_order(limit(BUY, 1, "110.05"))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="the source does not know it"),
        pytest.param(NotSent("no network"), id="no network"),
        pytest.param(Unsupported("no quotes"), id="no quotes at all"),
    ],
)
async def test_without_a_quote_a_limit_order_waits_and_a_market_order_is_rejected(answer: Exception | None) -> None:
    broker = paper(Scripted(quotes=answer))

    order = await broker.place_order(limit(BUY, 1, "100"))

    assert order.status is OrderStatus.OPEN
    with pytest.raises(OrderRejected, match="no price"):
        await broker.place_order(MarketOrder(ACME, BUY, quantity=1))


async def test_every_listener_gets_every_change_and_ends_with_the_broker() -> None:
    broker = PaperBroker(Scripted(), clock=ManualClock(MONDAY))
    broker.feed(tick(100))

    async with broker.order_updates() as one, broker.order_updates() as two:
        async with broker:
            order = await broker.place_order(limit(BUY, 10, "99"))
            broker.feed(tick(98))
            await broker.cancel_order(order.id)
        seen = [[each.status async for each in listener if isinstance(each, Order)] for listener in (one, two)]

    assert seen == [[OrderStatus.OPEN, OrderStatus.FILLED]] * 2


async def test_a_listener_that_has_left_is_forgotten() -> None:
    broker = PaperBroker(Scripted(), clock=ManualClock(MONDAY))
    broker.feed(tick(100))

    async with broker.order_updates():
        pass
    await broker.place_order(limit(BUY, 10, "99"))

    assert broker._listeners == set()


async def test_a_refused_order_raises_and_stays_in_the_book_only() -> None:
    broker = PaperBroker(Scripted(), clock=ManualClock(MONDAY))
    broker.feed(tick(100))

    async with broker.order_updates() as updates:
        with pytest.raises(OrderRejected, match="needs shares"):
            await broker.place_order(limit(SELL, 1, "100"))
        await broker.__aexit__()
        seen = [each async for each in updates]

    assert seen == []
    assert [each.status for each in await broker.orders()] == [OrderStatus.REJECTED]


async def test_orders_that_die_with_the_day_are_told_when_time_is_next_looked_at() -> None:
    clock = ManualClock(MONDAY)
    broker = PaperBroker(Scripted(), clock=clock)
    broker.feed(tick(100))
    old = await broker.place_order(limit(BUY, 10, "99"))

    async with broker.order_updates() as updates:
        clock.advance(timedelta(days=1).total_seconds())
        new = await broker.place_order(limit(BUY, 10, "99"))
        await broker.__aexit__()
        seen = [(each.id, each.status) async for each in updates if isinstance(each, Order)]

    assert seen == [(old.id, OrderStatus.EXPIRED), (new.id, OrderStatus.OPEN)]


async def test_modify_refuses_what_can_never_be_right_and_does_the_rest() -> None:
    broker = paper(Scripted(quotes=quote(100)))
    order = await broker.place_order(limit(BUY, 10, "99"))

    with pytest.raises(InvalidOrder, match="tick"):
        await broker.modify_order(order.id, price=Decimal("99.01"))
    changed = await broker.modify_order(order.id, price=Decimal(100))

    assert (order.status, changed.status) == (OrderStatus.OPEN, OrderStatus.FILLED)


async def test_orders_are_found_by_either_id() -> None:
    broker = paper(Scripted(quotes=quote(100)))
    order = await broker.place_order(limit(BUY, 10, "99"))

    assert order.client_order_id is not None
    assert await broker.find_order(order.client_order_id) == await broker.order(order.id) == order
    assert await broker.find_order("unknown") is None
    with pytest.raises(OrderNotFound):
        await broker.order("unknown")


async def test_cancel_of_a_final_order_returns_it_unchanged_and_says_nothing() -> None:
    broker = PaperBroker(Scripted(quotes=quote(100)), clock=ManualClock(MONDAY))
    order = await broker.place_order(limit(BUY, 10, "100"))

    async with broker.order_updates() as updates:
        assert await broker.cancel_order(order.id) == order
        await broker.__aexit__()
        assert [each async for each in updates] == []


async def test_the_portfolio_is_that_of_the_simulated_account() -> None:
    broker = PaperBroker(Scripted(quotes=quote(100)), clock=ManualClock(MONDAY), cash=Decimal(50_000))
    await broker.place_order(limit(BUY, 100, "100"))
    broker.feed(tick(103))

    pnl = broker.pnl()

    assert [each.quantity for each in await broker.trades()] == [100]
    assert [each.quantity for each in await broker.positions()] == [100]
    assert await broker.holdings() == []
    assert (pnl.gross, pnl.charges) == (Decimal(300), Decimal("12.38"))
    assert (await broker.funds()).available == Decimal(40_000) - pnl.charges


async def test_the_market_status_of_the_stream_closes_the_paper_market() -> None:
    closed = MarketStatus(phases={"NSE:cash": MarketPhase.CLOSED}, at=MONDAY)
    data = Scripted(tick(100), closed)
    broker = PaperBroker(data, clock=ManualClock(MONDAY))

    async with broker.watch(data).stream() as events:
        async for _ in events:
            pass

    with pytest.raises(OrderRejected, match="closed"):
        await broker.place_order(limit(BUY, 1, "100"))


async def test_derivatives_trade_on_paper_only_without_charges() -> None:
    order = LimitOrder(OPTION, BUY, quantity=50, price="5", product=Product.MARGIN)

    with pytest.raises(Unsupported):
        await paper(Scripted()).place_order(order)
    placed = await paper(Scripted(), charges=None).place_order(order)

    assert placed.status is OrderStatus.OPEN


def test_paper_risks_no_live_money() -> None:
    assert not PaperBroker.capabilities & Capability.LIVE_MONEY
