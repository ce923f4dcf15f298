"""Recorded bars, as a source of prices, keep the promises of one."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from math import sin

import pytest

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Candles, Interval
from hybridbroker.simulation.replay import ReplayMarketData
from hybridbroker.testing.conformance import (
    MARKET_DATA_CHECKS,
    Check,
    DataSubject,
    Outcome,
    Result,
    run_check,
)
from hybridbroker.testing.factories import make_instrument

FIRST = datetime(2026, 1, 5, 9, 15, tzinfo=IST)
SHARES = (make_instrument(symbol="ONE"), make_instrument(symbol="TWO"))


def minutes(share: Instrument, *, level: float) -> Candles:
    rows = []
    for day in range(10):
        for minute in range(375):
            start = FIRST + timedelta(days=day + 2 * (day // 5), minutes=minute)
            price = round(level + 5 * sin(day * 375 + minute), 1)
            bar = Candle(
                instrument=share, start=start, open=price, high=price + 1, low=price - 1, close=price + 0.5, volume=100
            )
            rows.append(bar)
    return Candles.from_rows(rows, instrument=share, interval=Interval.MINUTE_1)


@pytest.mark.parametrize("check", MARKET_DATA_CHECKS, ids=lambda check: check.id)
def test_replay_keeps_every_promise(check: Check[DataSubject]) -> None:
    data = ReplayMarketData.from_candles(
        [minutes(SHARES[0], level=1400), minutes(SHARES[1], level=500)], start=FIRST + timedelta(days=9)
    )

    async def look() -> Result:
        async with data:
            await asyncio.sleep(3600)  # an hour of the market
            subject = DataSubject(
                data=data,
                instruments=SHARES,
                clock=data.playback.clock,
                unmapped=make_instrument(symbol="NOWHERE"),
                within=30.0,
            )
            return await run_check(check, subject)

    result = data.playback.run(look)

    if result.outcome is Outcome.SKIPPED:
        pytest.skip(result.detail)
    assert result.outcome is Outcome.KEPT, result.detail
