"""One emulated market day with the example bot: real sockets, real frames, both brokers played on loopback."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import attrs

from hybridbroker.alerts import Notifier
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Gap, Tick
from hybridbroker.domain.orders import Order, OrderRequest, Trade
from hybridbroker.errors import ConfigurationError
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.protocols import Broker, FeedHealth, MarketData, MarketStream
from hybridbroker.simulation.charges import Charges
from hybridbroker.strategy import Strategy
from hybridbroker.watching import WatchedData

if TYPE_CHECKING:
    from hybridbroker.testing.emulators import EmulatedMarket

__all__ = ["DemoDay", "guess_instrument", "load_bot", "play_day"]

_ISIN = re.compile(r"IN[A-Z0-9]{10}")
_DOWNLOADED = re.compile(r"(?P<exchange>NSE|BSE)_(?P<symbol>[^_]+)_\d+[a-z]+")


@attrs.define
class DemoDay:
    """What has happened so far; filled while the day runs."""

    instrument: Instrument
    ids: dict[str, str]
    bot: Any
    ticks: int = 0
    last: Tick | None = None
    candles: list[Candle] = attrs.field(factory=list)
    orders: list[Order] = attrs.field(factory=list)
    trades: list[Trade] = attrs.field(factory=list)
    latencies_ms: list[float] = attrs.field(factory=list)
    """From the reading of the newest frame to the broker's acknowledgement of the order it led to."""
    charges: Charges = attrs.field(factory=Charges)
    alerts: list[str] = attrs.field(factory=list)
    """What the bot told its person."""
    health: FeedHealth | None = None
    duration_s: float = 0.0

    def watch(self, stream: MarketStream) -> None:
        """Remember how the newest stream is doing."""
        self.health = stream.health

    async def notify(self, message: str) -> None:
        """Take an alert of the bot: the day is its own `Notifier`."""
        self.alerts.append(message)

    @property
    def gross(self) -> Decimal:
        """Return rupees before charges; an open position counts at the last price."""
        cash = sum((-trade.side.sign * trade.value for trade in self.trades), Decimal(0))
        held = sum(trade.side.sign * trade.quantity for trade in self.trades)
        return cash if self.last is None else cash + held * self.instrument.price(self.last.last_price)

    @property
    def net(self) -> Decimal:
        """Return rupees after charges."""
        return self.gross - self.charges.total


def load_bot() -> ModuleType:
    """Import the example bot, which ships beside the commands and stands in ``examples/`` of a checkout."""
    try:
        from hybridbroker.cli import swing_bot  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        from importlib.util import module_from_spec, spec_from_file_location

        path = Path(__file__).parents[3] / "examples" / "swing_bot.py"
        spec = spec_from_file_location("swing_bot", path)
        if spec is None or spec.loader is None or not path.exists():
            raise ConfigurationError("the example bot is missing; reinstall the package") from None
        module = module_from_spec(spec)
        import sys

        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module
    return swing_bot  # type: ignore[no-any-return,unused-ignore]


def guess_instrument(path: Path, registry: InstrumentRegistry) -> Instrument:
    """Return the instrument a candle file is named after.

    By ISIN (``BSE_INE…``), as ``hybridbroker candles`` names it (``NSE_RELIANCE_1m``), else by NSE symbol.

    Raises:
        ConfigurationError: The name says nothing the registry knows; the message says what to add.
    """
    from hybridbroker.domain.instrument import Exchange
    from hybridbroker.errors import InstrumentError

    name = path.name.partition(".")[0]
    found = _ISIN.search(name)
    try:
        if found:
            return registry.isin(found.group(), exchange=Exchange("BSE" if name.startswith("BSE") else "NSE"))
        if downloaded := _DOWNLOADED.fullmatch(name):
            return registry[f"{downloaded['exchange']}:{downloaded['symbol']}"]
        return registry[f"NSE:{name.partition('_20')[0].replace('_and_', '&')}"]
    except InstrumentError as exc:
        raise ConfigurationError(
            f"cannot tell which instrument {path.name} holds ({exc}); name it with --instrument NSE:SYMBOL"
        ) from exc


async def play_day(
    day: DemoDay, market: EmulatedMarket, registry: InstrumentRegistry, *, cash: Decimal, state: Path
) -> None:
    """Run the bot over ``market`` until it closes, filling ``day``; the order journal goes to ``state``."""
    from hybridbroker.brokers.dhan.settings import DhanSettings
    from hybridbroker.brokers.upstox.settings import UpstoxSettings
    from hybridbroker.plugins import find_broker
    from hybridbroker.session import connect
    from hybridbroker.strategy import run
    from hybridbroker.testing.emulators import DhanEmulator, UpstoxEmulator

    clock = market.clock
    began = clock.monotonic()
    async with UpstoxEmulator(market) as upstox, DhanEmulator(market, cash=cash) as dhan:
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
            broker="dhan",
            instruments=registry,
            allow_old_instruments=True,
            settings=settings,
            state=state,
            clock=clock,
            notifier=day,
        ) as session:
            watched = _WatchedSession(
                data=WatchedData(session.data, opened=day.watch),
                broker=cast("Broker", _TimedBroker(session.broker, day, clock)),
                instruments=registry,
                clock=clock,
                notifier=day,
            )
            try:
                await run(_WatchedBot(day.bot, day), watched, until_close=True)
            finally:
                day.orders = list(await session.broker.orders())
                day.trades = list(await session.broker.trades())
                schedule = find_broker("dhan").charges
                day.charges = schedule().charges_for(day.trades) if schedule else Charges()
                day.duration_s = clock.monotonic() - began


@attrs.frozen(kw_only=True)
class _WatchedSession:
    """The session as the bot sees it, with notes taken in passing."""

    data: MarketData
    broker: Broker
    instruments: InstrumentRegistry
    clock: Clock
    notifier: Notifier


class _WatchedBot(Strategy):
    """The example bot, with a note taken of what it is told."""

    def __init__(self, bot: Strategy, day: DemoDay) -> None:
        self._bot = bot
        self._day = day
        self.mode, self.interval = bot.mode, bot.interval

    async def on_start(self, session: Any) -> None:
        await self._bot.on_start(session)
        self.instruments = self._bot.instruments

    async def on_tick(self, tick: Tick) -> None:
        self._day.ticks += 1
        self._day.last = tick
        await self._bot.on_tick(tick)

    async def on_candle(self, candle: Candle) -> None:
        self._day.candles.append(candle)
        await self._bot.on_candle(candle)

    async def on_order(self, order: Order) -> None:
        await self._bot.on_order(order)

    async def on_gap(self, gap: Gap) -> None:
        await self._bot.on_gap(gap)

    async def on_stop(self) -> None:
        await self._bot.on_stop()


class _TimedBroker:
    """A taker of orders that notes how long after the newest frame each was acknowledged."""

    def __init__(self, broker: Broker, day: DemoDay, clock: Clock) -> None:
        self._broker = broker
        self._day = day
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def place_order(self, request: OrderRequest) -> Order:
        read_at = None if self._day.health is None else self._day.health.read_at
        order = await self._broker.place_order(request)
        if read_at is not None:
            self._day.latencies_ms.append((self._clock.monotonic() - read_at) * 1000)
        self._day.orders.append(order)
        return order
