"""One bot on history: the live loop, simulated time, and no way to look ahead."""

from __future__ import annotations

import asyncio
import time as real
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from backtest_kit import MORNING, Bot, Scripted, Ticking, bars, flat
from simulated import ACME, OPTION, ZETA

from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.market import Candle, Candles, Interval, Tick
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderStatus,
    Product,
    Side,
    StopMarketOrder,
    Validity,
)
from hybridbroker.errors import ConfigurationError, InvalidOrder, OrderRejected, RiskRefused
from hybridbroker.execution import OrderJournal, RiskLimits
from hybridbroker.simulation.backtest import Remains, backtest, simulate
from hybridbroker.simulation.fills import BarFill, FillModel
from hybridbroker.simulation.playback import HookTooLate
from hybridbroker.simulation.replay import ReplayMarketData
from hybridbroker.strategy import TradingSession

BUY_10 = MarketOrder(ACME, Side.BUY, quantity=10)
SELL_10 = MarketOrder(ACME, Side.SELL, quantity=10)
RISING = bars((100, 101, 99, 100.5), (102, 103, 101, 102.5), (104, 105, 103, 104.5), (106, 107, 105, 106.5))


def test_bars_come_when_they_are_over_and_the_next_one_opens() -> None:
    bot = Bot()

    simulate(bot, RISING)

    assert [candle.close for _, candle in bot.seen] == [100.5, 102.5, 104.5, 106.5]
    minutes = [(at - MORNING) / timedelta(minutes=1) for at, _ in bot.seen]
    assert minutes[:3] == [1, 2, 3]


def test_an_order_decided_on_a_bar_meets_the_open_of_the_next() -> None:
    bot = Scripted({0: [BUY_10], 2: [SELL_10]})

    result = simulate(bot, RISING, charges=None)

    assert [trade.price for trade in result.trades] == [Decimal("102.00"), Decimal("106.00")]
    assert result.trades[0].traded_at == MORNING + timedelta(minutes=1)
    assert result.pnl.net == Decimal(40)
    assert result.ok


def test_an_order_on_the_last_bar_finds_no_next_one() -> None:
    result = simulate(Scripted({3: [BUY_10]}), RISING)

    assert result.trades == ()
    assert result.orders[0].status is OrderStatus.OPEN


def test_a_resting_limit_fills_at_its_price_within_a_later_bar() -> None:
    dip = bars((100, 100, 100, 100), (100, 100, 100, 100), (100, 101, 95, 100), (100, 100, 100, 100))
    bot = Scripted({0: [LimitOrder(ACME, Side.BUY, quantity=10, price="96")]})

    result = simulate(bot, dip)

    assert result.trades[0].price == Decimal(96)
    assert MORNING + timedelta(minutes=2) < result.trades[0].traded_at < MORNING + timedelta(minutes=3)
    assert bot.orders[-1].status is OrderStatus.FILLED


@pytest.mark.parametrize("limits", [RiskLimits(), None], ids=["guarded", "bare"])
def test_a_stop_gapped_through_fills_at_the_open(limits: RiskLimits | None) -> None:
    gap = bars((100, 100, 100, 100), (100, 100, 100, 100), (98.5, 98.5, 97, 98), (98, 98, 98, 98))
    bot = Scripted({0: [BUY_10, StopMarketOrder(ACME, Side.SELL, quantity=10, trigger_price="99")]})

    result = simulate(bot, gap, limits=limits)

    assert [trade.price for trade in result.trades] == [Decimal(100), Decimal("98.5")]


def test_a_stop_gapped_through_beyond_its_protection_rests() -> None:
    crash = bars((100, 100, 100, 100), (100, 100, 100, 100), (90, 90, 89, 89), (89, 89, 89, 89))
    bot = Scripted({0: [BUY_10, StopMarketOrder(ACME, Side.SELL, quantity=10, trigger_price="99")]})

    result = simulate(bot, crash)

    assert len(result.trades) == 1
    assert result.orders[1].status is OrderStatus.OPEN
    assert result.orders[1].price == Decimal("97.05")  # two per cent, or one above a hundred


def test_worst_fills_trade_at_the_extreme_of_the_whole_next_bar() -> None:
    wide = bars((100, 100, 100, 100), (100, 101, 99, 100), (100, 101.5, 98.5, 100), (100, 100, 100, 100))
    bot = Scripted({0: [BUY_10], 1: [SELL_10]})

    result = simulate(bot, wide, fill=FillModel(bars=BarFill.WORST))

    assert [trade.price for trade in result.trades] == [
        Decimal(101),
        Decimal(99),
    ]  # the low was 98.5, the protected limit is 99
    assert "worst price" in result.assumptions()[0]


def test_a_limit_that_was_only_touched_does_not_fill_at_worst() -> None:
    touched = bars((100, 100, 100, 100), (100, 100, 96, 100), (100, 100, 95.95, 100), (100, 100, 100, 100))
    bot = Scripted({0: [LimitOrder(ACME, Side.BUY, quantity=10, price="96")]})

    result = simulate(bot, touched, fill=FillModel(bars=BarFill.WORST))

    assert [trade.price for trade in result.trades] == [Decimal(96)]
    assert result.trades[0].traded_at > MORNING + timedelta(minutes=2)


def test_participation_fills_an_order_piece_by_piece_at_the_market() -> None:
    thin = bars(*[(100, 100, 100, 100, 400)] * 2, (100, 100, 100, 100, 400), (100, 100, 100, 100, 400))
    bot = Scripted({0: [MarketOrder(ACME, Side.BUY, quantity=25)]})

    result = simulate(bot, thin, fill=FillModel(participation=Decimal("0.1")))

    assert [(trade.quantity, trade.price) for trade in result.trades] == [
        (10, Decimal(100)),
        (10, Decimal(100)),
        (5, Decimal(100)),
    ]


def test_immediate_or_cancel_takes_what_is_there_and_no_more() -> None:
    thin = bars(*[(100, 100, 100, 100, 400)] * 3)
    bot = Scripted({0: [MarketOrder(ACME, Side.BUY, quantity=25, validity=Validity.IOC)]})

    result = simulate(bot, thin, fill=FillModel(participation=Decimal("0.1")))

    assert result.orders[0].status is OrderStatus.CANCELLED
    assert result.orders[0].filled_quantity == 10


class Peeking(Bot):
    """Tries to learn of a bar before it is over, in every way there is."""

    interval = Interval.MINUTE_1

    def __init__(self) -> None:
        super().__init__()
        self.known: list[tuple[datetime, datetime]] = []
        self.prices: list[tuple[datetime, float]] = []

    async def on_candle(self, candle: Candle) -> None:
        await super().on_candle(candle)
        far = self.clock.now() + timedelta(days=30)
        for end in (None, far, far.date()):
            found = await self.session.data.candles(ACME, Interval.MINUTE_1, start=MORNING.date(), end=end)
            self.known += [(self.clock.now(), each.start + timedelta(minutes=1)) for each in found]
            day = await self.session.data.candles(ACME, Interval.DAY_1, start=MORNING.date(), end=end)
            assert len(day) == 0
        quote = (await self.session.data.quotes([ACME]))[ACME]
        self.prices.append((self.clock.now(), quote.last_price))
        assert quote.as_of == self.clock.now()


def test_a_bot_that_tries_to_peek_learns_nothing_of_later() -> None:
    bot = Peeking()

    simulate(bot, RISING)

    assert bot.known
    assert all(ended <= asked for asked, ended in bot.known)
    assert [price for _, price in bot.prices] == [102, 104, 106, 106.5]


def test_history_before_the_start_is_known_and_not_traded() -> None:
    class Warm(Bot):
        async def on_start(self, session: TradingSession) -> None:
            await super().on_start(session)
            self.warm = await session.data.candles(ACME, Interval.MINUTE_1, start=MORNING.date())

    bot = Warm()

    simulate(bot, RISING, start=MORNING + timedelta(minutes=2))

    assert [candle.close for candle in bot.warm] == [100.5, 102.5]
    assert [candle.close for _, candle in bot.seen] == [104.5, 106.5]


def test_events_of_many_instruments_come_by_time_and_then_by_id() -> None:
    bot = Ticking(ZETA, ACME)
    given = [flat(50, 3, instrument=ZETA), flat(100, 3)]

    simulate(bot, given)

    order = [(tick.traded_ms, tick.instrument.id) for tick in bot.ticks]
    assert order == sorted(order)
    assert len(order) == 24


def test_the_same_run_gives_the_same_result() -> None:
    def play() -> str:
        bot = Scripted({0: [BUY_10], 2: [SELL_10]}, ACME, ZETA)
        return simulate(bot, [RISING, flat(50, 4, instrument=ZETA)]).dumps()

    assert play() == play()


def test_whole_bars_and_bars_built_from_ticks_are_the_same() -> None:
    whole, built = Bot(), Ticking()
    wide = bars((100, 103, 98, 101, 401), (101, 102, 97, 98, 13), (98, 99, 98, 99, 0), (99, 99, 95, 96, 77))

    simulate(whole, wide)
    simulate(built, wide)

    assert [candle for _, candle in whole.seen] == [candle for _, candle in built.seen]
    assert [at for at, _ in whole.seen][:3] == [at for at, _ in built.seen][:3]


def test_longer_bars_are_built_from_shorter_ones() -> None:
    class Fives(Bot):
        interval = Interval.MINUTE_5

    bot = Fives()

    simulate(bot, flat(100, 10))

    assert [(candle.start, candle.volume) for _, candle in bot.seen] == [
        (MORNING, 5_000),
        (MORNING + timedelta(minutes=5), 5_000),
    ]


def test_daily_bars_play_over_the_session_and_buy_at_the_next_open() -> None:
    class Daily(Scripted):
        interval = Interval.DAY_1

    daily = bars(
        (100, 101, 99, 100), (102, 103, 101, 102), (104, 105, 103, 104),
        interval=Interval.DAY_1, start=MORNING.replace(hour=0, minute=0),
    )  # fmt: skip
    bot = Daily({0: [BUY_10]})

    result = simulate(bot, daily, calendar=TradingCalendar())

    assert result.trades[0].price == 102
    assert result.trades[0].traded_at == MORNING + timedelta(days=1)
    assert [holding.quantity for holding in result.holdings] == [10]


def test_sleeping_and_timers_go_by_simulated_time() -> None:
    class Sleepy(Bot):
        async def on_start(self, session: TradingSession) -> None:
            await super().on_start(session)
            self.rang: list[datetime] = []
            self.alarm = asyncio.create_task(self.ring())

        async def ring(self) -> None:
            while True:
                await self.clock.sleep(90)
                self.rang.append(self.clock.now())

        async def on_candle(self, candle: Candle) -> None:
            await asyncio.sleep(20)
            await super().on_candle(candle)

    bot = Sleepy()

    simulate(bot, flat(100, 6))

    assert [(at - MORNING).total_seconds() for at in bot.rang][:3] == [90, 180, 270]
    assert [(at - MORNING).total_seconds() for at, _ in bot.seen][:2] == [80, 140]


def test_the_market_goes_on_while_a_hook_sleeps() -> None:
    class Away(Ticking):
        async def on_tick(self, tick: Tick) -> None:
            if not self.ticks:
                await self.broker.place_order(LimitOrder(ACME, Side.BUY, quantity=10, price="95"))
                self.ticks.append(tick)
                await self.clock.sleep(170)
            else:
                await super().on_tick(tick)

    bot = Away()

    result = simulate(bot, bars((100, 100, 100, 100), (100, 100, 94, 100), (100, 100, 100, 100), (100, 100, 100, 100)))

    assert result.trades[0].price == 95
    assert result.trades[0].traded_at < MORNING + timedelta(minutes=2)
    assert [(tick.traded_at or MORNING) - MORNING for tick in bot.ticks[:2]] == [timedelta(0), timedelta(seconds=165)]


def test_delivery_shares_settle_and_a_short_delivery_sale_is_refused() -> None:
    bot = Scripted({0: [SELL_10, BUY_10], 2: [SELL_10]})

    result = simulate(bot, RISING)

    assert isinstance(bot.errors[0], OrderRejected)
    assert "needs shares" in str(bot.errors[0])
    assert [trade.side for trade in result.trades] == [Side.BUY, Side.SELL]


def test_an_order_beyond_the_cash_is_refused() -> None:
    bot = Scripted({0: [MarketOrder(ACME, Side.BUY, quantity=2_000)]})

    result = simulate(bot, RISING)

    assert "rupees" in str(bot.errors[0])
    assert result.orders[0].status is OrderStatus.REJECTED


def test_intraday_positions_are_closed_at_the_square_off_time_of_their_day() -> None:
    days = flat(100, 375, step=timedelta(minutes=1))
    bot = Scripted({0: [MarketOrder(ACME, Side.BUY, quantity=10, product=Product.INTRADAY)]})

    result = simulate(bot, days, square_off=time(15, 20))

    assert result.trades[-1].side is Side.SELL
    assert result.trades[-1].traded_at == MORNING.replace(hour=15, minute=20)
    assert result.positions == ()


def test_intraday_positions_end_with_their_day_without_a_square_off_time() -> None:
    first = flat(100, 3)
    second = flat(110, 3, start=MORNING + timedelta(days=1))
    joined = Candles.from_rows([*first, *second], instrument=ACME, interval=Interval.MINUTE_1)
    bot = Scripted({0: [MarketOrder(ACME, Side.BUY, quantity=10, product=Product.INTRADAY)]})

    result = simulate(bot, joined)

    assert [(trade.traded_at.date(), trade.price) for trade in result.trades] == [
        (date(2026, 9, 21), Decimal(100)),
        (date(2026, 9, 21), Decimal(100)),
    ]


def test_limits_refuse_as_they_do_live() -> None:
    bot = Scripted({0: [BUY_10]})

    simulate(bot, RISING, limits=RiskLimits(max_order_quantity=5))

    assert isinstance(bot.errors[0], RiskRefused)


def test_a_bare_run_and_a_guarded_one_trade_the_same() -> None:
    plan: dict[int, list[OrderRequest]] = {
        0: [BUY_10],
        1: [StopMarketOrder(ACME, Side.SELL, quantity=10, trigger_price="103.5")],
    }

    guarded = simulate(Scripted(plan), RISING)
    bare = simulate(Scripted(plan), RISING, limits=None)

    assert guarded.trades == bare.trades
    assert guarded.orders == bare.orders
    assert guarded.pnl == bare.pnl


def test_derivatives_trade_without_charges_and_are_refused_with_them() -> None:
    given = flat(100, 4, instrument=OPTION)
    plan = {0: [MarketOrder(OPTION, Side.BUY, quantity=50, product=Product.MARGIN)]}
    bot = Scripted(plan, OPTION)

    simulate(bot, given)
    free = simulate(Scripted(plan, OPTION), given, charges=None)

    assert "not tabulated" in str(bot.errors[0])
    assert len(free.trades) == 1


# Failures.


class Failing(Scripted):
    async def on_candle(self, candle: Candle) -> None:
        await super().on_candle(candle)
        if len(self.seen) == 2:
            raise RuntimeError("lost my nerve")


@pytest.mark.parametrize(("remains", "held"), [(Remains.FLATTEN, 0), (Remains.KEEP, 10)])
def test_a_bot_that_raises_ends_with_a_report_and_its_positions_as_configured(
    remains: Remains, held: int, tmp_path: Path
) -> None:
    plan: dict[int, list[OrderRequest]] = {0: [BUY_10, LimitOrder(ACME, Side.BUY, quantity=1, price="90")]}
    path = tmp_path / "journal.db"

    result = simulate(Failing(plan), RISING, on_failure=remains, journal=path)

    assert not result.ok
    assert str(result.failure) == "lost my nerve"
    assert sum(position.quantity for position in result.positions) == held
    assert result.statistics().trades == (1 if held == 0 else 0)
    with OrderJournal(path, read_only=True) as journal:
        entries = journal.entries()
    assert [each.client_order_id for each in entries] == [order.client_order_id for order in result.orders]
    if remains is Remains.FLATTEN:
        assert journal_is_settled(result.orders)


def journal_is_settled(orders: tuple[Order, ...]) -> bool:
    return all(order.is_final for order in orders)


def test_flattening_at_the_end_closes_everything_at_the_last_price() -> None:
    result = simulate(Scripted({0: [BUY_10]}), RISING, at_end=Remains.FLATTEN, charges=None)

    assert result.trades[-1].price == Decimal("106.50")
    assert result.pnl.net == Decimal(45)
    assert result.problems == ()


@pytest.mark.parametrize("blocked", [True, False], ids=["blocking", "waiting for ever"])
def test_a_hook_that_is_late_ends_the_run_with_a_report(blocked: bool) -> None:
    class Late(Scripted):
        async def on_candle(self, candle: Candle) -> None:
            await super().on_candle(candle)
            if len(self.seen) == 2:
                if blocked:
                    real.sleep(0.3)  # noqa: ASYNC251 - that is the mistake
                else:
                    await asyncio.Event().wait()

    result = simulate(Late({0: [BUY_10]}), flat(100, 5), hook_seconds=0.1)

    assert isinstance(result.failure, HookTooLate)
    assert len(result.trades) == 2
    assert result.positions == ()


def test_a_bot_that_places_orders_that_can_never_be_right_ends_with_a_report() -> None:
    class Wrong(Bot):
        async def on_candle(self, candle: Candle) -> None:
            await self.broker.place_order(LimitOrder(ACME, Side.BUY, quantity=10, price="100.03"))

    result = simulate(Wrong(), RISING)

    assert isinstance(result.failure, InvalidOrder)
    assert result.events > 0


def test_a_bot_that_stops_itself_is_no_failure() -> None:
    class Once(Bot):
        async def on_candle(self, candle: Candle) -> None:
            await super().on_candle(candle)
            self.stop()

    bot = Once()

    result = simulate(bot, RISING)

    assert result.ok
    assert len(bot.seen) == 1


# Settings.


def test_a_bot_with_an_on_candle_and_no_interval_is_told_so() -> None:
    bot = Bot()
    bot.interval = None  # type: ignore[assignment]

    with pytest.raises(ConfigurationError, match="set interval"):
        simulate(bot, RISING)


def test_bars_too_long_for_the_bot_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot give"):
        simulate(Bot(), flat(100, 4, interval=Interval.MINUTE_5))


def test_a_calendar_that_does_not_cover_the_bars_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="calendar covers"):
        simulate(Bot(), flat(100, 2, start=datetime(2010, 1, 4, 9, 15, tzinfo=IST)), calendar=TradingCalendar())


async def test_backtest_runs_beside_the_callers_loop_and_fetches_bars_from_a_source() -> None:
    source = ReplayMarketData.from_candles([RISING])
    source.playback.clock._now += timedelta(days=1)
    source.playback.clock._shown = 0.0
    bot = Scripted({0: [BUY_10]})

    result = await backtest(bot, source, instruments=[ACME], start=MORNING.date(), end=MORNING.date())

    assert len(bot.seen) == 4
    assert len(result.trades) == 1


async def test_cancelling_the_caller_ends_the_run() -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Endless(Bot):
        async def on_candle(self, candle: Candle) -> None:
            loop.call_soon_threadsafe(started.set)
            real.sleep(0.001)  # noqa: ASYNC251 - real time has to pass

    days = [candle for day in range(30) for candle in flat(100, 60, start=MORNING + timedelta(days=day))]
    given = Candles.from_rows(days, instrument=ACME, interval=Interval.MINUTE_1)
    task = asyncio.create_task(backtest(Endless(), given))
    await started.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
