"""From prices and trades to equity, drawdown, round trips and the usual figures: pure arithmetic."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final

import attrs

from hybridbroker.clock import IST, from_epoch_ms, to_epoch_ms
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Product, Side, Trade
from hybridbroker.simulation.playback import Samples

__all__ = ["EquityCurve", "RoundTrip", "Statistics", "equity_curve", "round_trips", "statistics"]

_ZERO: Final = Decimal(0)
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000
_YEAR: Final = 252
"""Trading days by which ratios are annualised."""


@attrs.frozen
class EquityCurve:
    """Rupees over time; columns of equal length."""

    at_ms: Sequence[int]
    """Milliseconds since 1970 UTC."""
    equity: Sequence[float]
    """Cash and what is held at the last price, after charges."""
    drawdown: Sequence[float]
    """Fraction below the highest equity before, 0 or less."""

    def by_day(self) -> dict[date, float]:
        """Return the equity at the end of each day, in IST."""
        last: dict[int, float] = {}
        for at, value in zip(self.at_ms, self.equity, strict=True):
            last[(at + _IST_MS) // _DAY_MS] = value
        return {from_epoch_ms(day * _DAY_MS - _IST_MS).date(): value for day, value in last.items()}

    def by_month(self, start: float) -> dict[tuple[int, int], float]:
        """Return the return of each calendar month, as a fraction; ``start`` is the equity before the first."""
        last: dict[tuple[int, int], float] = {}
        for day, value in self.by_day().items():
            last[day.year, day.month] = value
        returns: dict[tuple[int, int], float] = {}
        before = start
        for month, value in last.items():
            returns[month] = value / before - 1 if before else math.nan
            before = value
        return returns


@attrs.frozen(kw_only=True)
class RoundTrip:
    """From flat to flat in one instrument and product, at average prices."""

    instrument: Instrument
    product: Product
    side: Side
    """Of the entry."""
    quantity: int
    """Most that was held at once."""
    entry_at: datetime
    entry_price: Decimal
    """Average, rupees."""
    exit_at: datetime | None
    """None while it is open."""
    exit_price: Decimal | None
    gross: Decimal
    """Rupees of the part that was closed, before charges."""
    charges: Decimal
    """Its share of the days' contract notes, by value."""

    @property
    def net(self) -> Decimal:
        """Return rupees after charges."""
        return self.gross - self.charges

    @property
    def is_open(self) -> bool:
        """Say whether a part is still held."""
        return self.exit_at is None


@attrs.frozen(kw_only=True)
class Statistics:
    """The usual figures; ratios are None where there is too little to compute them from."""

    total_return: float
    """Fraction of the cash at the start."""
    annual_return: float | None
    """Compound, over 252 trading days a year."""
    volatility: float | None
    """Standard deviation of daily returns, annualised."""
    sharpe: float | None
    """Annualised, against a rate of nothing."""
    sortino: float | None
    max_drawdown: float
    """Fraction, 0 or less."""
    longest_drawdown_days: int
    """Calendar days from a high to the next higher one, or to the end."""
    trades: int
    """Round trips that were closed."""
    win_rate: float | None
    profit_factor: float | None
    average_win: Decimal | None
    average_loss: Decimal | None
    exposure: float
    """Part of the prices seen at which anything was held."""


def equity_curve(
    samples: Samples, trades: Sequence[Trade], *, cash: Decimal, charges_by_day: Mapping[date, Decimal]
) -> EquityCurve:
    """Return equity at every price that was kept; a day's charges fall due with its last price."""
    index = {each.id: number for number, each in enumerate(samples.instruments)}
    held, last = [0.0] * len(index), [0.0] * len(index)
    times = [to_epoch_ms(trade.traded_at) for trade in trades]
    due = [(_day_number(day) + 1, float(amount)) for day, amount in sorted(charges_by_day.items())]
    value, done, billed = float(cash), 0, 0
    ends = _day_ends(samples.at_ms)
    equity, drawdown, highest = array("d"), array("d"), float(cash)
    for at, number, price, ends_day in zip(samples.at_ms, samples.index, samples.price, ends, strict=True):
        while done < len(trades) and times[done] <= at:
            trade = trades[done]
            other = index[trade.instrument.id]
            signed, paid = trade.side.sign * trade.quantity, float(trade.price)
            if not last[other]:
                last[other] = paid
            value += signed * (last[other] - paid)
            held[other] += signed
            done += 1
        value += held[number] * (price - last[number])
        last[number] = price
        if ends_day:
            today = (at + _IST_MS) // _DAY_MS
            while billed < len(due) and due[billed][0] <= today + 1:
                value -= due[billed][1]
                billed += 1
        if value > highest:  # noqa: PLR1730 - max() costs a call for every price
            highest = value
        equity.append(value)
        drawdown.append(value / highest - 1 if highest else 0.0)
    return EquityCurve(samples.at_ms, equity, drawdown)


def _day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _day_ends(at_ms: Sequence[int]) -> list[bool]:
    """Say of each time whether it is the last of its day, in IST."""
    days = [(at + _IST_MS) // _DAY_MS for at in at_ms]
    return [day != after for day, after in zip(days, [*days[1:], -1], strict=True)]


@attrs.define
class _Trip:
    """A round trip while it goes on."""

    first: Trade
    quantity: int = 0
    most: int = 0
    bought: int = 0
    paid: Decimal = _ZERO
    closed: int = 0
    received: Decimal = _ZERO
    charges: Decimal = _ZERO
    last: datetime | None = None


def round_trips(trades: Sequence[Trade], *, charges_by_day: Mapping[date, Decimal]) -> list[RoundTrip]:
    """Return what was opened and closed, oldest entry first; NSE and BSE shares and products apart.

    A trade that turns a position around closes one round trip and opens another.
    """
    values: dict[date, Decimal] = defaultdict(lambda: _ZERO)
    for trade in trades:
        values[_day(trade)] += trade.value
    open_: dict[tuple[str, Product], _Trip] = {}
    done: list[RoundTrip] = []
    for trade in trades:
        day = _day(trade)
        cost = charges_by_day.get(day, _ZERO) / values[day] * trade.price
        left = trade.quantity
        while left:
            key = (trade.instrument.id, trade.product)
            trip = open_.get(key)
            if trip is None:
                trip = open_[key] = _Trip(trade)
            if trade.side is trip.first.side:
                trip.quantity += left
                trip.most = max(trip.most, trip.quantity)
                trip.bought += left
                trip.paid += trade.price * left
                trip.charges += cost * left
                left = 0
            else:
                part = min(left, trip.quantity)
                trip.quantity -= part
                trip.closed += part
                trip.received += trade.price * part
                trip.charges += cost * part
                trip.last = trade.traded_at
                left -= part
                if not trip.quantity:
                    done.append(_finished(open_.pop(key)))
                elif not part:
                    break
    done.extend(_finished(each) for each in open_.values())
    return sorted(done, key=lambda each: each.entry_at)


def _finished(trip: _Trip) -> RoundTrip:
    entry = trip.paid / trip.bought
    gross = (trip.received - entry * trip.closed) * trip.first.side.sign
    return RoundTrip(
        instrument=trip.first.instrument,
        product=trip.first.product,
        side=trip.first.side,
        quantity=trip.most,
        entry_at=trip.first.traded_at,
        entry_price=entry,
        exit_at=None if trip.quantity else trip.last,
        exit_price=trip.received / trip.closed if trip.closed else None,
        gross=gross,
        charges=trip.charges,
    )


def _day(trade: Trade) -> date:
    return trade.traded_at.astimezone(IST).date()


def statistics(curve: EquityCurve, trips: Sequence[RoundTrip], *, cash: Decimal, days: int) -> Statistics:
    """Return the usual figures of a run over ``days`` trading days."""
    start = float(cash)
    by_day = list(curve.by_day().values())
    final = by_day[-1] if by_day else start
    returns = [after / before - 1 for before, after in zip([start, *by_day], by_day, strict=False) if before > 0]
    mean = sum(returns) / len(returns) if returns else 0.0
    spread = _spread(returns, mean)
    falls = [each for each in returns if each < 0]
    downside = math.sqrt(sum(each * each for each in falls) / len(returns)) if falls else None
    closed = [each for each in trips if not each.is_open]
    wins = [each.net for each in closed if each.net > 0]
    losses = [each.net for each in closed if each.net <= 0]
    lost = -sum(losses, _ZERO)
    return Statistics(
        total_return=final / start - 1,
        annual_return=(final / start) ** (_YEAR / days) - 1 if days and final > 0 else None,
        volatility=None if spread is None else spread * math.sqrt(_YEAR),
        sharpe=mean / spread * math.sqrt(_YEAR) if spread else None,
        sortino=mean / downside * math.sqrt(_YEAR) if downside else None,
        max_drawdown=min(curve.drawdown, default=0.0),
        longest_drawdown_days=_longest_drawdown(curve),
        trades=len(closed),
        win_rate=len(wins) / len(closed) if closed else None,
        profit_factor=float(sum(wins, _ZERO) / lost) if lost else None,
        average_win=sum(wins, _ZERO) / len(wins) if wins else None,
        average_loss=-lost / len(losses) if losses else None,
        exposure=_exposure(curve, trips),
    )


def _spread(returns: Sequence[float], mean: float) -> float | None:
    if len(returns) < 2:  # noqa: PLR2004 - one return has no spread
        return None
    return math.sqrt(sum((each - mean) ** 2 for each in returns) / (len(returns) - 1))


def _longest_drawdown(curve: EquityCurve) -> int:
    longest, high_at = 0, curve.at_ms[0] if len(curve.at_ms) else 0
    for at, below in zip(curve.at_ms, curve.drawdown, strict=True):
        if below >= 0:
            high_at = at
        longest = max(longest, at - high_at)
    return longest // _DAY_MS


def _exposure(curve: EquityCurve, trips: Sequence[RoundTrip]) -> float:
    """Return the part of the kept prices that fall into any round trip."""
    if not len(curve.at_ms):
        return 0.0
    spans = sorted(
        (to_epoch_ms(each.entry_at), curve.at_ms[-1] + 1 if each.exit_at is None else to_epoch_ms(each.exit_at))
        for each in trips
    )
    inside, position = 0, 0
    until = -1
    for at in curve.at_ms:
        while position < len(spans) and spans[position][0] <= at:
            until = max(until, spans[position][1])
            position += 1
        inside += at < until
    return inside / len(curve.at_ms)
