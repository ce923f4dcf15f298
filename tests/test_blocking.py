"""The blocking facade is the same objects, waited for: whole by reflection, and in use."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from hybridbroker import (
    Capability,
    ConfigurationError,
    FeedMode,
    InstrumentRegistry,
    LimitOrder,
    OrderNotFound,
    OrderStatus,
    Overflow,
    Side,
    Strategy,
    Tick,
    blocking,
    protocols,
)
from hybridbroker.blocking_stub import stub
from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.market import Gap, Quote, TickDetails
from hybridbroker.testing.factories import make_gap, make_quote, make_tick

REGISTRY = InstrumentRegistry.builtin()
SHARE = REGISTRY["NSE:RELIANCE"]
PROTOCOLS = [
    getattr(protocols, name)
    for name in protocols.__all__
    if isinstance(getattr(protocols, name), type) and getattr(getattr(protocols, name), "_is_protocol", False)
]
STUBBED = (Path(blocking.__file__).with_suffix(".pyi")).read_text()


def now_tick(price: float) -> Tick:
    at = to_epoch_ms(datetime.now(UTC))
    return make_tick(instrument=SHARE, last_price=price, traded_ms=at, received_ms=at, details=TickDetails())


class ThreePrices:
    """A source of prices that says three things and remembers on which thread it was asked."""

    name = "three"
    capabilities = Capability.QUOTES | Capability.TICKS

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.open = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def quotes(self, instruments: Iterable[Any]) -> Mapping[Any, Quote]:
        self.threads.add(threading.current_thread().name)
        await asyncio.sleep(0)
        return {each: make_quote(instrument=each) for each in instruments}

    async def candles(self, *_: Any, **__: Any) -> Any:
        raise OrderNotFound("whatever is raised comes through")

    @asynccontextmanager
    async def stream(
        self, _: Iterable[Any] = (), *, mode: FeedMode = FeedMode.LTP, overflow: Overflow = Overflow.CONFLATE
    ) -> AsyncIterator[Any]:
        self.open += 1
        try:
            yield _Events([now_tick(1400.0), make_gap(), now_tick(1401.0)])
        finally:
            self.open -= 1


class _Events:
    def __init__(self, events: list[Any]) -> None:
        self.health = SimpleNamespace(stale=lambda *_, **__: False, read_at=0.0)
        self._events = iter(events)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        for event in self._events:
            return event
        raise StopAsyncIteration

    async def ticks(self) -> AsyncIterator[Tick]:
        async for event in self:
            if isinstance(event, Tick):
                yield event

    async def subscribe(self, *_: Any, **__: Any) -> None: ...

    async def unsubscribe(self, *_: Any) -> None: ...


@pytest.fixture
def prices() -> ThreePrices:
    return ThreePrices()


@pytest.fixture
def session(prices: ThreePrices) -> Iterator[Any]:
    with blocking.connect(data=prices, instruments=REGISTRY) as opened:  # type: ignore[arg-type]
        yield opened


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_every_member_of_a_protocol_has_its_blocking_counterpart(protocol: type) -> None:
    if protocol.__name__ in {"FeedHealth", "InstrumentLookup"}:
        pytest.skip("has nothing to wait for")
    members = [name for name in dir(protocol) if not name.startswith("_") and callable(getattr(protocol, name, None))]

    missing = [name for name in members if f"def {name}(self" not in STUBBED]

    assert members
    assert missing == []


def test_the_stub_is_what_the_protocols_say() -> None:
    assert stub() == STUBBED


def test_a_coroutine_becomes_a_call_on_one_private_thread(session: Any, prices: ThreePrices) -> None:
    first = session.data.quotes([SHARE])
    second = session.data.quotes([SHARE])

    assert first[SHARE].last_price == second[SHARE].last_price == 1400.0
    assert prices.threads == {"hybridbroker-loop"}


def test_what_is_raised_comes_through(session: Any) -> None:
    with pytest.raises(OrderNotFound):
        session.data.candles(SHARE, None, start=None)


def test_a_stream_becomes_an_iterator_and_closes(session: Any, prices: ThreePrices) -> None:
    with session.data.stream([SHARE]) as events:
        found = list(events)
        was_open = prices.open

    assert [type(each) for each in found] == [Tick, Gap, Tick]
    assert (was_open, prices.open) == (1, 0)


def test_ticks_become_an_iterator(session: Any) -> None:
    with session.data.stream([SHARE]) as events:
        assert [tick.last_price for tick in events.ticks()] == [1400.0, 1401.0]


def test_a_stream_left_by_an_error_closes(session: Any, prices: ThreePrices) -> None:
    with pytest.raises(ZeroDivisionError), session.data.stream([SHARE]):
        raise ZeroDivisionError

    assert prices.open == 0


def test_orders_go_through_the_guard_and_come_back(session: Any) -> None:
    with session.data.stream([SHARE]) as events:
        next(events)
        order = session.broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=1, price=Decimal(1405)))
        trades = session.broker.trades()

    assert order.status is OrderStatus.FILLED
    assert sum(each.quantity for each in trades) == 1
    assert session.metrics.orders["placed"] == 1
    assert session.broker.find_order(order.client_order_id).id == order.id


def test_order_updates_become_an_iterator(session: Any) -> None:
    with session.data.stream([SHARE]) as events, session.broker.order_updates() as updates:
        next(events)
        order = session.broker.place_order(LimitOrder(SHARE, Side.BUY, quantity=1, price=Decimal(1300)))
        session.broker.cancel_order(order.id)
        statuses = [next(updates).status, next(updates).status]

    assert statuses[-1] is OrderStatus.CANCELLED


def test_a_strategy_runs_to_its_end(session: Any) -> None:
    class Watcher(Strategy):
        def __init__(self) -> None:
            self.instruments = [SHARE]
            self.seen: list[float] = []

        async def on_tick(self, tick: Tick) -> None:
            self.seen.append(tick.last_price)

    watcher = Watcher()
    blocking.run(watcher, session)

    assert watcher.seen == [1400.0, 1401.0]


def test_a_blocking_call_inside_a_hook_says_so_instead_of_hanging(session: Any) -> None:
    class Careless(Strategy):
        async def on_start(self, _: Any) -> None:
            session.broker.funds()

    with pytest.raises(ConfigurationError, match="never return"):
        blocking.run(Careless(), session)


def test_leaving_ends_the_thread(prices: ThreePrices) -> None:
    with blocking.connect(data=prices, instruments=REGISTRY):  # type: ignore[arg-type]
        during = [each.name for each in threading.enumerate()]

    assert "hybridbroker-loop" in during
    assert "hybridbroker-loop" not in [each.name for each in threading.enumerate()]


def test_an_error_while_opening_leaves_no_thread(prices: ThreePrices) -> None:
    with pytest.raises(ConfigurationError), blocking.connect(data=prices, broker="nobody", instruments=REGISTRY):  # type: ignore[arg-type]
        pytest.fail("it opened")

    assert "hybridbroker-loop" not in [each.name for each in threading.enumerate()]


def test_the_facade_keeps_names_and_documentation(session: Any) -> None:
    assert inspect.getdoc(session.broker.place_order)
    assert session.broker.name == "paper"
    assert "place_order" in dir(session.broker)
