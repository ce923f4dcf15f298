"""One bot, three engines: the same day live (emulated brokers), on paper and in a backtest, order for order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from hybridbroker import Candles, InstrumentRegistry, Interval, Order, RiskLimits, Strategy, Tape, Trade, connect, run
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.cli.demo_day import load_bot
from hybridbroker.domain.market import MarketEvent
from hybridbroker.plugins import find_broker
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.tape import TapeWriter
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, UpstoxEmulator, listed_from
from hybridbroker.watching import WatchedData

REGISTRY = InstrumentRegistry.builtin()
NAMES = ("NSE:RELIANCE", "NSE:TCS")
CASH = Decimal(100_000)
_STILL, _LONGEST = 3, 400
LIMITS = RiskLimits(max_order_value=Decimal(95_000), price_collar="0.05")
Market = Callable[[], EmulatedMarket]


def bot(names: Sequence[str]) -> Strategy:
    strategy = load_bot().SwingBot(*names)
    strategy.busy = 1.1  # more of them
    return strategy  # type: ignore[no-any-return]


@attrs.frozen
class Outcome:
    orders: tuple[Any, ...]
    trades: tuple[Any, ...]

    @classmethod
    def of(cls, orders: Sequence[Order], trades: Sequence[Trade]) -> Outcome:
        """Return what happened to each instrument in turn, without the ids that each engine gives.

        Two instruments that act on the same instant may reach a broker in either order: there the
        news of a fill comes by a socket of its own.
        """
        return cls(
            tuple(
                (
                    each.instrument.id, each.side, each.type, each.product, each.quantity, each.filled_quantity,
                    each.price, each.trigger_price, each.average_price, each.status,
                )
                for each in sorted(orders, key=lambda order: order.instrument.id)
            ),
            tuple(
                (each.instrument.id, each.side, each.quantity, each.price, each.traded_at)
                for each in sorted(trades, key=lambda trade: trade.instrument.id)
            ),
        )  # fmt: skip


def names_of(market: EmulatedMarket) -> list[str]:
    return [name for name in NAMES if any(each.instrument.id == name for each in market.listed)]


class Lockstep:
    """Holds the market until the bot has done all that the last step made it do.

    At full speed a minute of the market is a few milliseconds, in which no bot could answer. So
    the market waits until every price of a step was heard, and nothing more comes of it.
    """

    def __init__(self, market: EmulatedMarket, dhan: DhanEmulator) -> None:
        self.heard = 0
        self._market = market
        self._dhan = dhan
        self._due = 0
        market.listen(self._wait)

    def hear(self, event: MarketEvent) -> None:
        if not self.heard:  # from here on after the feed, which has come since
            self._market.ignore(self._wait)
            self._market.listen(self._wait)
        self.heard += 1

    async def _wait(self, step: Any) -> None:
        if not self.heard:
            return
        self._due = max(self._due, self.heard) + len(step.updates)
        still, seen = 0, None
        for _ in range(_LONGEST):
            await asyncio.sleep(0.0005)
            now = (self.heard, len(self._dhan.requests), len(self._dhan.book()))
            still = still + 1 if now == seen and self.heard >= self._due else 0
            seen = now
            if still == _STILL:
                break
        self._due = self.heard


async def day_at_a_broker(
    market: EmulatedMarket, broker: str, state: Path, hear: Callable[[MarketEvent], None]
) -> Outcome:
    """Play the day through real sockets: Upstox's feed, and either Dhan's orders or the paper broker."""
    async with UpstoxEmulator(market) as upstox, DhanEmulator(market, cash=CASH) as dhan:
        settings = {
            "upstox": UpstoxSettings(access_token=upstox.access_token, base_url=upstox.rest_url),
            "dhan": DhanSettings(
                client_id=dhan.client_id,
                access_token=dhan.access_token,
                base_url=dhan.rest_url,
                order_updates_url=dhan.order_updates_url,
            ),
        }
        async with connect(
            data="upstox",
            broker=broker,
            instruments=REGISTRY,
            allow_old_instruments=True,
            settings=settings,
            state=state,
            limits=LIMITS,
            cash=CASH,
            charges=find_broker("dhan").charges(),  # type: ignore[misc]
            clock=market.clock,
        ) as session:
            lockstep = Lockstep(market, dhan)

            def both(event: MarketEvent) -> None:
                hear(event)
                lockstep.hear(event)

            heard = attrs.evolve(session, data=WatchedData(session.data, hear=both))
            await run(bot(names_of(market)), heard, until_close=True)
            return Outcome.of(await session.broker.orders(), await session.broker.trades())


async def history_of(market: EmulatedMarket) -> list[Candles]:
    """Return the bars of the days before, as the emulated Upstox has them."""
    async with UpstoxEmulator(market) as upstox:
        settings = {"upstox": UpstoxSettings(access_token=upstox.access_token, base_url=upstox.rest_url)}
        async with connect(data="upstox", instruments=REGISTRY, settings=settings, clock=market.clock) as session:
            day = market.now.date()
            return [
                await session.data.candles(REGISTRY[name], Interval.MINUTE_1, start=day.replace(day=1), end=day)
                for name in names_of(market)
            ]


def day_in_a_backtest(directory: Path, history: Sequence[Candles]) -> Outcome:
    result = simulate(
        bot([each.instrument.id for each in history]),
        Tape.open(directory),
        instruments=REGISTRY,
        history=history,
        cash=CASH,
        charges=find_broker("dhan").charges(),  # type: ignore[misc]
        limits=LIMITS,
    )
    assert result.failure is None
    return Outcome.of(result.orders, result.trades)


def synthetic() -> EmulatedMarket:
    return EmulatedMarket.random_walk(listed_from(REGISTRY, [REGISTRY[name] for name in NAMES]), seed=11)


async def in_three_engines(market: Market, directory: Path) -> tuple[Outcome, Outcome, Outcome]:
    history = await history_of(market())
    with TapeWriter(directory / "tape") as tape:
        live = await day_at_a_broker(market(), "dhan", directory / "live", tape.add)
    paper = await day_at_a_broker(market(), "paper", directory / "paper", lambda _: None)
    replayed = await asyncio.to_thread(day_in_a_backtest, directory / "tape", history)
    return live, paper, replayed


async def test_a_day_is_the_same_live_on_paper_and_in_a_backtest(tmp_path: Path) -> None:
    live, paper, replayed = await in_three_engines(synthetic, tmp_path)

    assert len(live.trades) >= 8
    assert paper == live
    assert replayed == live


async def test_a_real_day_is_the_same_live_on_paper_and_in_a_backtest(tmp_path: Path, shared_data: Path) -> None:
    (listed,) = listed_from(REGISTRY, [REGISTRY["NSE:RELIANCE"]])
    file = shared_data / "candles" / "minute1_2016" / "RELIANCE.json.gz"

    live, paper, replayed = await in_three_engines(lambda: EmulatedMarket.from_candles({listed: file}), tmp_path)

    assert live.trades
    assert paper == live
    assert replayed == live
