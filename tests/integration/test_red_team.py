"""What could make a bot trade wrongly, tell a secret or never end, tried on purpose: bot and emulators meet."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bot_support import BAR, BUY, REGISTRY, RELIANCE, EagerBot, ScriptedPrices

from hybridbroker import (
    ConfigurationError,
    Gap,
    HybridBrokerError,
    InvalidOrder,
    LimitOrder,
    NotSent,
    Order,
    OrderOutcomeUnknown,
    OrderStatus,
    RiskLimits,
    Session,
    Side,
    Strategy,
    SystemClock,
    Tick,
    connect,
    run,
    strategy,
)
from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.settings import DhanSettings, read_settings
from hybridbroker.brokers.upstox.market_data import UpstoxMarketData
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.cli import order as order_command
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault, UpstoxEmulator
from hybridbroker.testing.factories import make_tick
from hybridbroker.transport.http import HttpClient

PLACE = "POST /v2/orders"


class Day:
    """One bot at work, and what it works on."""

    def __init__(self, emulator: DhanEmulator, prices: ScriptedPrices, session: Session, said: list[str]) -> None:
        self.emulator = emulator
        self.prices = prices
        self.session = session
        self.said = said
        self.bot = EagerBot("NSE:RELIANCE")
        self.running = asyncio.create_task(run(self.bot, session))

    def sent(self, method: str = "POST") -> int:
        return len(self.emulator.received(method))

    def book(self, side: str) -> list[tuple[str, str]]:
        rows = self.emulator.book()
        return [(row["orderType"], row["orderStatus"]) for row in rows if row["transactionType"] == side]

    @property
    def held(self) -> int:
        return sum(each.quantity for each in self.emulator.exchange.positions())

    @property
    def protected(self) -> bool:
        exits = getattr(self.bot, "exits", None)
        return exits is not None and any(each.leg for each in exits.held.values())

    @property
    def is_out(self) -> bool:
        return not self.bot.exits.held and not self.bot.entries

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def bot_day(
    state: Path, *, broker: str = "dhan", cash: int = 100_000, limits: RiskLimits | None = None
) -> AsyncIterator[Day]:
    market = EmulatedMarket.still()
    prices, said = ScriptedPrices(market.now), list[str]()

    async def notify(message: str) -> None:
        said.append(message)

    async with (
        DhanEmulator(market, cash=Decimal(cash)) as emulator,
        connect(
            data=prices,  # type: ignore[arg-type]
            broker=broker,
            instruments=REGISTRY,
            allow_old_instruments=True,
            settings={"dhan": dhan_settings(emulator)},
            state=state,
            limits=limits,
            clock=market.clock,
            notifier=SimpleNamespace(notify=notify),
        ) as session,
    ):
        day = Day(emulator, prices, session, said)
        prices.tick(1400.0)
        try:
            yield day
        finally:
            await day.stop()


def dhan_settings(emulator: DhanEmulator) -> DhanSettings:
    return DhanSettings(
        client_id=emulator.client_id,
        access_token=emulator.access_token,
        base_url=emulator.rest_url,
        order_updates_url=emulator.order_updates_url,
        keep_warm_seconds=0,
    )


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what the emulator sees sets no event
            await asyncio.sleep(0.01)


async def settle() -> None:
    """Give what must not happen the time to happen."""
    await asyncio.sleep(0.3)


def stop_is_live(day: Day) -> bool:
    return day.book("SELL") == [("STOP_LOSS", "PENDING")]


# The example bot.


async def test_bot_protects_an_entry_that_filled_within_the_call(tmp_path: Path) -> None:
    async with bot_day(tmp_path, broker="paper") as day:
        day.prices.tick(1400.0, meaning=BUY)
        await until(lambda: day.protected)

        sells = [order for order in await day.session.broker.orders() if order.side is Side.SELL]

        assert [order.status for order in sells] == [OrderStatus.TRIGGER_PENDING]


async def test_bot_offers_a_refused_exit_once_a_bar(tmp_path: Path) -> None:
    async with bot_day(tmp_path) as day:
        day.prices.tick(1401.0, meaning=BUY)
        await until(lambda: stop_is_live(day))
        arrive = day.emulator._book.arrive
        day.emulator._book.arrive = lambda entry: day.emulator._book._reject(entry, "RMS: blocked")  # type: ignore[method-assign]

        day.prices.tick(1500.0)
        await until(lambda: ("LIMIT", "REJECTED") in day.book("SELL"))
        await settle()
        assert day.sent() == 3

        day.emulator._book.arrive = arrive  # type: ignore[method-assign]
        day.prices.tick(1400.0, meaning=BAR)
        await until(lambda: day.is_out)
        assert day.held == 0


async def test_bot_asks_once_for_a_cancellation_that_takes_its_time(tmp_path: Path) -> None:
    async with bot_day(tmp_path, cash=100_000_000) as day:
        day.bot.risk = Decimal(100_000_000)
        cancel, asked = day.emulator._book.cancel, list[str]()

        def acknowledge(order_id: str) -> Any:
            asked.append(order_id)
            return day.emulator._book.get(order_id)

        day.emulator._book.cancel = acknowledge  # type: ignore[method-assign]
        day.prices.tick(1400.0, meaning=BUY)
        await until(lambda: asked)
        await settle()
        assert len(asked) == 1

        cancel(asked[0])
        await until(lambda: stop_is_live(day))
        assert 0 < day.held == day.bot.exits.held[RELIANCE.id].quantity


@pytest.mark.parametrize("trouble", ["limit", "funds"])
async def test_bot_survives_an_entry_that_cannot_be_made(tmp_path: Path, trouble: str) -> None:
    limits = RiskLimits(max_order_value=1000) if trouble == "limit" else None
    async with bot_day(tmp_path, limits=limits) as day:
        if trouble == "funds":
            day.emulator.faults.add("GET /v2/fundlimit", Fault.html(), times=4)

        day.prices.tick(1400.0, meaning=BUY)
        await until(lambda: day.said)

        assert not day.running.done()
        assert day.sent() == 0


async def test_bot_sells_at_the_next_bar_what_its_refused_stop_left_bare(tmp_path: Path) -> None:
    async with bot_day(tmp_path) as day:
        day.emulator.faults.add(PLACE, Fault.delay(0), Fault.rate_limited())
        day.prices.tick(1401.0, meaning=BUY)
        await until(lambda: any("429" in text for text in day.said))

        day.prices.tick(1401.0, meaning=BAR)
        await until(lambda: day.is_out)

        assert day.held == 0


async def test_bot_sells_once_when_its_stop_fills_while_being_cancelled(tmp_path: Path) -> None:
    async with bot_day(tmp_path) as day:
        day.prices.tick(1401.0, meaning=BUY)
        await until(lambda: stop_is_live(day))
        day.emulator.faults.add("DELETE *", Fault.delay(0.2))

        day.prices.tick(1500.0)
        await until(lambda: day.sent("DELETE"))
        await day.emulator.market.move(RELIANCE, 1394.0)
        await until(lambda: day.is_out)
        await settle()

        assert day.held == 0
        assert day.book("SELL") == [("STOP_LOSS", "TRADED")]


async def test_bot_cancels_what_a_former_run_would_have_bought(tmp_path: Path) -> None:
    async with bot_day(tmp_path) as day:
        await day.stop()
        bid = LimitOrder(RELIANCE, Side.BUY, quantity=5, price=1390, product=day.bot.product)
        await day.session.broker.place_order(bid)
        await until(lambda: day.book("BUY") == [("LIMIT", "PENDING")])

        day.running = asyncio.create_task(run(EagerBot("NSE:RELIANCE"), day.session))

        await until(lambda: day.book("BUY") == [("LIMIT", "CANCELLED")])


async def test_bot_interrupted_while_its_entry_is_under_way_leaves_what_it_bought_protected(tmp_path: Path) -> None:
    async with bot_day(tmp_path) as day:
        day.emulator.faults.add(PLACE, Fault.late_reply(0.3))
        day.prices.tick(1401.0, meaning=BUY)
        await until(lambda: day.held)

        await day.stop()
        await until(lambda: stop_is_live(day))

        assert day.session.broker.unresolved() == []


async def test_bot_interrupted_before_its_entry_filled_takes_it_back(tmp_path: Path) -> None:
    async with bot_day(tmp_path) as day:
        day.prices.tick(1390.0, meaning=BUY)
        await until(lambda: day.book("BUY") == [("LIMIT", "PENDING")])

        await day.stop()

        assert day.book("BUY") == [("LIMIT", "CANCELLED")]
        assert day.held == 0


# The loop.


class Slow(Strategy):
    """Takes its time over a tick."""

    def __init__(self, seconds: float) -> None:
        self.instruments = [RELIANCE]
        self.lines: list[str] = []
        self._seconds = seconds

    async def on_tick(self, tick: Tick) -> None:
        self.lines.append("begun")
        await asyncio.sleep(self._seconds)
        self.lines.append("ended")

    async def on_stop(self) -> None:
        self.lines.append("stop")


class Market:
    """A session that ticks once and then says nothing."""

    def __init__(self) -> None:
        self.data = self.broker = self

    @asynccontextmanager
    async def stream(self, *_: object, **__: object) -> AsyncIterator[AsyncIterator[Any]]:
        yield self._events([make_tick(instrument=RELIANCE)])

    @asynccontextmanager
    async def order_updates(self) -> AsyncIterator[AsyncIterator[Order | Gap]]:
        yield self._events([])

    async def _events(self, events: list[Any]) -> AsyncIterator[Any]:
        for event in events:
            yield event
        await asyncio.Event().wait()


def started(bot: Slow) -> asyncio.Task[None]:
    session: Any = Market()
    return asyncio.create_task(run(bot, session))


async def test_cancelling_a_run_lets_the_running_hook_end() -> None:
    bot = Slow(0.1)
    running = started(bot)
    await until(lambda: bot.lines)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert bot.lines == ["begun", "ended", "stop"]


@pytest.mark.parametrize("again", [True, False], ids=["cancelled twice", "waited long enough"])
async def test_a_hook_that_does_not_end_cannot_keep_a_run_alive(monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    monkeypatch.setattr(strategy, "_LAST_HOOK", 60 if again else 0.05)
    bot = Slow(3600)
    running = started(bot)
    await until(lambda: bot.lines)

    running.cancel()
    if again:
        await asyncio.sleep(0.05)
        running.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(running, return_exceptions=True)

    assert bot.lines == ["begun", "stop"]


# Outcomes.


async def test_a_change_that_was_never_sent_is_told_so_at_once(tmp_path: Path) -> None:
    async with bot_day(tmp_path) as day:
        broker = day.session.broker
        order = await broker.place_order(LimitOrder(RELIANCE, Side.BUY, quantity=1, price=1300))
        day.emulator.faults.add("GET /v2/orders*", Fault.html(), times=40)

        with pytest.raises(NotSent):
            await broker.modify_order(order.id, price=Decimal(1301))

        assert day.sent("PUT") == 0


async def test_unreadable_quotes_do_not_leave_a_paper_order_in_doubt() -> None:
    async with UpstoxEmulator(EmulatedMarket.still()) as upstox:
        settings = {"upstox": UpstoxSettings(access_token=upstox.access_token, base_url=upstox.rest_url)}
        async with connect(instruments="builtin", settings=settings) as session:
            upstox.faults.add("GET *", Fault.garbage())

            order = await session.broker.place_order(LimitOrder(RELIANCE, Side.BUY, quantity=1, price=1300))

            assert order.is_open
            assert session.broker.unresolved() == []


async def test_interrupting_the_order_command_tells_which_order_may_be_live(monkeypatch: pytest.MonkeyPatch) -> None:
    sending, asked = asyncio.Event(), list[LimitOrder]()

    async def place_order(request: LimitOrder) -> Order:
        asked.append(request)
        sending.set()
        await asyncio.Event().wait()
        raise AssertionError

    @asynccontextmanager
    async def session(**_: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(broker=SimpleNamespace(place_order=place_order), clock=SystemClock())

    monkeypatch.setattr("hybridbroker.session.connect", session)
    terms: dict[str, Any] = {"price": "1300", "trigger": None, "product": "delivery", "validity": "day"}
    where: dict[str, Any] = {"instruments": "builtin", "data": "upstox", "broker": "dhan"}
    command = asyncio.create_task(order_command._order(Side.BUY, RELIANCE.id, "1", **terms, **where))
    await sending.wait()

    command.cancel()
    with pytest.raises(OrderOutcomeUnknown) as told:
        await command

    assert told.value.client_order_id == asked[0].client_order_id


# Input.


@pytest.mark.parametrize("price", ["1e30", "1e5000", "-1e30"])
def test_a_price_beyond_all_measure_is_refused(price: str) -> None:
    with pytest.raises(InvalidOrder):
        LimitOrder(RELIANCE, Side.BUY, quantity=1, price=price)


def test_a_quantity_beyond_all_measure_is_refused() -> None:
    with pytest.raises(InvalidOrder):
        LimitOrder(RELIANCE, Side.BUY, quantity=10**20, price=1300)


@pytest.mark.parametrize("address", ["https://a\x00b", "https://é..com", "https://api.dhan.co/v2\n/x"])
def test_an_address_that_cannot_be_one_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        HttpClient(base_url=address, headers={}, clock=SystemClock())


async def test_settings_for_an_unknown_broker_do_not_fall_back_to_the_environment() -> None:
    with pytest.raises(ConfigurationError, match="dahn"):
        async with connect(instruments=REGISTRY, settings={"dahn": object()}):
            pass


# Secrets.


def leaks(error: BaseException | None, secret: str) -> list[str]:
    """Return where ``secret`` shows in an exception, those behind it, and the variables of their frames."""
    found = []
    while error is not None:
        texts = {"text": f"{error!r} {error} {vars(error)!r}"}
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "hybridbroker" in frame.f_code.co_filename and "tests" not in frame.f_code.co_filename:
                texts |= {f"{frame.f_code.co_qualname}: {name}": repr(at) for name, at in frame.f_locals.items()}
        found += [f"{type(error).__name__}: {name}" for name, text in texts.items() if secret in text]
        error = error.__cause__ or error.__context__
    return found


async def failure(call: Awaitable[object]) -> BaseException:
    try:
        await call
    except HybridBrokerError as exc:
        return exc
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    "fault",
    [Fault.unauthorised(), Fault.html(), Fault.lost_reply(), Fault.garbage()],
    ids=lambda each: str(each.status),
)
async def test_no_error_report_shows_a_token_even_with_the_variables_of_each_frame(fault: Fault) -> None:
    market = EmulatedMarket.still()
    async with UpstoxEmulator(market) as upstox, DhanEmulator(market) as dhan:
        settings = UpstoxSettings(access_token=upstox.access_token, base_url=upstox.rest_url)
        async with (
            UpstoxMarketData(settings, instruments=REGISTRY) as data,
            DhanBroker(dhan_settings(dhan), instruments=REGISTRY, clock=SystemClock()) as broker,
        ):
            upstox.faults.add("GET *", fault, times=4)
            dhan.faults.add("* *", fault)

            quotes = await failure(data.quotes([RELIANCE]))
            placed = await failure(broker.place_order(LimitOrder(RELIANCE, Side.BUY, quantity=1, price=1300)))

            assert leaks(quotes, upstox.access_token) == []
            assert leaks(placed, dhan.access_token) == []


def test_a_token_with_a_line_break_is_not_behind_the_error_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", "1100000001")
    monkeypatch.setenv("DHAN_ACCESS_TOKEN", "first\nsecret")

    with pytest.raises(ConfigurationError) as told:
        read_settings()

    assert told.value.__context__ is None  # pydantic's error, which keeps its input
    assert leaks(told.value, "secret") == []
