"""A tape of `hybridbroker record` as an emulated market: the brokers' emulators send what was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from hybridbroker.clock import Clock, to_epoch_ms
from hybridbroker.domain.market import Candle, Depth, MarketPhase, MarketStatus, Tick
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.tape import Tape
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.plans import Plan
from hybridbroker.testing.emulators.steps import Step

__all__ = ["market_from_tape"]

_PHASES: Final[Mapping[MarketPhase, Any]] = {
    MarketPhase.PRE_OPEN: pb.PRE_OPEN_START,
    MarketPhase.OPEN: pb.NORMAL_OPEN,
    MarketPhase.CLOSING: pb.CLOSING_START,
    MarketPhase.CLOSED: pb.NORMAL_CLOSE,
}


def market_from_tape(
    tape: Tape, listed: Iterable[ListedInstrument], *, speed: float | None = None, clock: Clock | None = None
) -> EmulatedMarket:
    """Play a tape's ticks of ``listed`` when they were received; a status moves every segment, gaps are left out.

    Raises:
        ConfigurationError: The tape holds none of ``listed``.
    """
    by_id = {each.instrument.id: each for each in listed}
    if not by_id.keys() & {each.id for each in tape.instruments}:
        known = ", ".join(each.id for each in tape.instruments)
        raise ConfigurationError(f"the tape holds only {known}; list one of these instruments")
    first = next(tape.events())[0]
    return EmulatedMarket(
        Plan(listed=tuple(by_id.values()), start_ms=first, steps=_steps(tape, by_id)), speed=speed, clock=clock
    )


def _steps(tape: Tape, listed: Mapping[str, ListedInstrument]) -> Iterator[Step]:
    at_ms = 0
    for at_ms, event in tape.events():
        if isinstance(event, Tick) and event.instrument.id in listed:
            one = listed[event.instrument.id]
            yield Step(at_ms, ((one, feed_of(event, is_index=one.is_index)),))
        elif isinstance(event, MarketStatus):
            phases = [_PHASES[each] for each in event.phases.values() if each in _PHASES]
            if phases:
                yield Step(at_ms, status=phases[0])
    yield Step(at_ms, status=pb.NORMAL_CLOSE)


def feed_of(tick: Tick, *, is_index: bool = False) -> pb.Feed:
    """Return a tick as the V3 feed sends it in mode full; absent is protobuf's 0."""
    ltpc = pb.LTPC(
        ltp=tick.last_price, ltt=tick.traded_ms or 0, ltq=tick.last_quantity or 0, cp=tick.previous_close or 0.0
    )
    bars = pb.MarketOHLC(ohlc=[_bar(each, name) for each, name in ((tick.day, "1d"), (tick.minute, "I1")) if each])
    if is_index:
        return pb.Feed(
            fullFeed=pb.FullFeed(indexFF=pb.IndexFullFeed(ltpc=ltpc, marketOHLC=bars)), requestMode=pb.full_d5
        )
    market = pb.MarketFullFeed(
        ltpc=ltpc,
        marketLevel=pb.MarketLevel(bidAskQuote=_levels(tick.depth)),
        marketOHLC=bars,
        atp=tick.average_price or 0.0,
        vtt=tick.volume or 0,
        oi=tick.open_interest or 0.0,
        tbq=tick.total_buy_quantity or 0.0,
        tsq=tick.total_sell_quantity or 0.0,
    )
    greeks = tick.greeks
    if greeks is not None:
        market.optionGreeks.CopyFrom(
            pb.OptionGreeks(
                delta=greeks.delta, theta=greeks.theta, gamma=greeks.gamma, vega=greeks.vega, rho=greeks.rho or 0.0
            )
        )
        market.iv = greeks.implied_volatility or 0.0
    return pb.Feed(fullFeed=pb.FullFeed(marketFF=market), requestMode=pb.full_d5)


def _levels(depth: Depth | None) -> list[pb.Quote]:
    if depth is None:
        return []
    quotes = []
    for number in range(max(len(depth.bids), len(depth.asks))):
        quote = pb.Quote()
        if number < len(depth.bids):
            quote.bidP, quote.bidQ = depth.bids[number].price, depth.bids[number].quantity
        if number < len(depth.asks):
            quote.askP, quote.askQ = depth.asks[number].price, depth.asks[number].quantity
        quotes.append(quote)
    return quotes


def _bar(candle: Candle, name: str) -> pb.OHLC:
    return pb.OHLC(
        interval=name,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        vol=candle.volume,
        ts=to_epoch_ms(candle.start),
    )
