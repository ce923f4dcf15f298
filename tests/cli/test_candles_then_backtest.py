"""What ``hybridbroker candles`` writes is what ``hybridbroker backtest`` reads."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hybridbroker import IST, Candle, InstrumentRegistry
from hybridbroker.cli.candle_files import write_candles
from hybridbroker.simulation.candle_files import read_candles


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_downloaded_file_can_be_played(suffix: str, tmp_path: Path) -> None:
    share, opens = InstrumentRegistry.builtin()["NSE:RELIANCE"], datetime(2026, 11, 20, 9, 15, tzinfo=IST)
    bars = [
        Candle(
            instrument=share,
            start=opens + timedelta(minutes=each),
            open=1400,
            high=1401,
            low=1399,
            close=1400.5,
            volume=7,
        )
        for each in range(3)
    ]
    file = tmp_path / f"RELIANCE.{suffix}"
    write_candles(file, [], bars)

    read = read_candles(file, instrument=share)

    assert list(read) == bars
