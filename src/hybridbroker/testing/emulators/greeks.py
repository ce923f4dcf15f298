"""Option greeks of the emulated market: Black and Scholes at one volatility, so that the numbers agree."""

from __future__ import annotations

import math
from datetime import datetime, time
from typing import Final

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument, InstrumentKind, OptionRight
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket

__all__ = ["IMPLIED_VOLATILITY", "Greeks", "greeks_of", "spot_of", "underlying_of", "with_greeks"]

IMPLIED_VOLATILITY: Final = 0.12
"""Of every option, as a fraction."""

_YEAR: Final = 365.0 * 86_400
_RATE: Final = 0.065


@attrs.frozen
class Greeks:
    """Per unit of the option; theta a day, vega and rho a percentage point."""

    delta: float
    theta: float
    gamma: float
    vega: float
    rho: float
    pop: float
    """Chance of ending out of the money, percent: what a seller hopes for."""


def underlying_of(market: EmulatedMarket, option: Instrument) -> ListedInstrument | None:
    """Return what an option is on: the index or share that the market lists by that symbol."""
    compact = (option.underlying or option.symbol).replace(" ", "").casefold()
    names = {compact, {"nifty": "nifty50", "banknifty": "niftybank"}.get(compact, compact)}
    for each in market.listed:
        kind = each.instrument.kind
        if kind in {InstrumentKind.OPTION, InstrumentKind.FUTURE}:
            continue
        if each.instrument.symbol.replace(" ", "").casefold() in names:
            return each
    return None


def spot_of(market: EmulatedMarket, option: Instrument) -> float | None:
    """Return the underlying's last price, rupees."""
    underlying = underlying_of(market, option)
    tick = None if underlying is None else market.tick(underlying)
    return None if tick is None else tick.last_price


def greeks_of(option: Instrument, spot: float, now: datetime) -> Greeks:
    """Return the greeks of an option at a price of its underlying; at expiry it has a minute to live."""
    assert option.expiry is not None  # noqa: S101 - an option has all three
    assert option.strike is not None  # noqa: S101
    expiry = datetime.combine(option.expiry, time(15, 30), IST)
    years = max((expiry - now).total_seconds(), 60.0) / _YEAR
    strike, deviation = float(option.strike), IMPLIED_VOLATILITY * math.sqrt(years)
    d1 = (math.log(spot / strike) + (_RATE + IMPLIED_VOLATILITY**2 / 2) * years) / deviation
    d2 = d1 - deviation
    sign = 1 if option.right is OptionRight.CALL else -1
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    discounted = strike * math.exp(-_RATE * years)
    decay = -spot * density * IMPLIED_VOLATILITY / (2 * math.sqrt(years)) - sign * _RATE * discounted * _below(
        sign * d2
    )
    return Greeks(
        delta=round(sign * _below(sign * d1), 4),
        theta=round(decay / 365, 4),
        gamma=round(density / (spot * deviation), 6),
        vega=round(spot * density * math.sqrt(years) / 100, 4),
        rho=round(sign * years * discounted * _below(sign * d2) / 100, 4),
        pop=round(100 * _below(-sign * d2), 2),
    )


def with_greeks(market: EmulatedMarket, listed: ListedInstrument, feed: pb.Feed) -> pb.Feed:
    """Return an option's entry with its greeks; anything else, and an entry that has them, as it is."""
    if listed.instrument.kind is not InstrumentKind.OPTION or feed.fullFeed.marketFF.optionGreeks.delta:
        return feed
    spot = spot_of(market, listed.instrument)
    if spot is None:
        return feed
    greeks = greeks_of(listed.instrument, spot, market.now)
    full = pb.Feed()
    full.CopyFrom(feed)
    full.fullFeed.marketFF.iv = IMPLIED_VOLATILITY
    full.fullFeed.marketFF.optionGreeks.CopyFrom(
        pb.OptionGreeks(delta=greeks.delta, theta=greeks.theta, gamma=greeks.gamma, vega=greeks.vega, rho=greeks.rho)
    )
    return full


def _below(deviations: float) -> float:
    return (1 + math.erf(deviations / math.sqrt(2))) / 2
