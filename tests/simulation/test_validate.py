"""Bad bars are found, told with row and reason, and never traded unless it was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from backtest_kit import MORNING, Bot, bars, flat
from simulated import ACME

from hybridbroker.clock import IST
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.market import Candle, Candles, Interval
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.backtest import simulate
from hybridbroker.simulation.candle_files import infer_interval, read_candles
from hybridbroker.simulation.validate import BadData, Defect, playable, validate

GOOD = [(100.0, 101.0, 99.0, 100.0)] * 4


def of(rows: list[Candle]) -> Candles:
    return Candles.from_rows(rows, instrument=ACME, interval=Interval.MINUTE_1)


def with_row(number: int, first: float, high: float, low: float, last: float) -> Candles:
    rows = list(GOOD)
    rows[number] = (first, high, low, last)
    return bars(*rows)


def doubled() -> Candles:
    rows = list(bars(*GOOD))
    return of([*rows[:2], rows[1], *rows[2:]])


def shuffled() -> Candles:
    rows = list(bars(*GOOD))
    return of([rows[0], rows[2], rows[1], rows[3]])


def split() -> Candles:
    before, after = flat(1000, 3), flat(500, 3, start=MORNING + timedelta(days=1))
    return of([*before, *after])


@pytest.mark.parametrize(
    ("candles", "defect", "row"),
    [
        pytest.param(lambda: with_row(2, 100, math.nan, 99, 100), Defect.NOT_A_NUMBER, 2, id="nan"),
        pytest.param(lambda: with_row(1, 100, math.inf, 99, 100), Defect.NOT_A_NUMBER, 1, id="infinite"),
        pytest.param(lambda: with_row(1, 0, 101, 0, 100), Defect.NOT_POSITIVE, 1, id="zero"),
        pytest.param(lambda: with_row(3, 100, 101, -1, 100), Defect.NOT_POSITIVE, 3, id="negative"),
        pytest.param(lambda: with_row(0, 100, 98, 99, 100), Defect.INCONSISTENT, 0, id="high below low"),
        pytest.param(lambda: with_row(0, 105, 101, 99, 100), Defect.INCONSISTENT, 0, id="open outside"),
        pytest.param(doubled, Defect.DUPLICATE, 2, id="duplicate"),
        pytest.param(shuffled, Defect.OUT_OF_ORDER, 2, id="out of order"),
        pytest.param(split, Defect.SPLIT, 3, id="split"),
    ],
)
def test_a_defect_is_told_with_row_and_reason_and_not_traded(
    candles: Callable[[], Candles], defect: Defect, row: int
) -> None:
    given = candles()

    found = [each for each in validate(given) if each.blocks]

    assert [(each.defect, each.row) for each in found] == [(defect, row)]
    assert found[0].reason
    with pytest.raises(BadData, match=f"row {row} .*{defect.value}"):
        simulate(Bot(), given)


@pytest.mark.parametrize("candles", [doubled, shuffled, lambda: with_row(2, 100, math.nan, 99, 100)])
def test_allowed_defects_are_left_out_and_told(candles: Callable[[], Candles]) -> None:
    bot = Bot()

    result = simulate(bot, candles(), allow=list(Defect))

    assert any("left out" in note for note in result.notes)
    assert [candle.close for _, candle in bot.seen] == [100.0] * len(bot.seen)
    assert len(bot.seen) == (4 if candles is doubled else 3)


def test_missing_bars_are_told_and_played() -> None:
    rows = list(flat(100, 6))

    result = simulate(Bot(), of([*rows[:2], *rows[4:]]))

    assert any("2 bars before it" in note for note in result.notes)
    assert result.ok


def test_missing_days_are_found_by_the_calendar() -> None:
    monday, wednesday = MORNING, MORNING + timedelta(days=2)
    rows = [*flat(100, 2, start=monday), *flat(100, 2, start=wednesday)]

    found = validate(of(rows), calendar=TradingCalendar())

    assert [each.reason for each in found] == ["2026-09-22 has no bars"]


def test_a_large_but_uneven_fall_is_no_split() -> None:
    assert validate(of([*flat(1000, 2), *flat(570, 2, start=MORNING + timedelta(days=1))])) == []


def test_unknown_names_of_defects_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="out-of-order"):
        playable(doubled(), allow=["typo"])


def test_real_candles_have_no_defects_that_block(shared_data: Path) -> None:
    files = [*(shared_data / "candles" / "daily").glob("*.gz"), *(shared_data / "candles" / "minute1").glob("*.gz")]

    found = {
        path.name: [each for each in validate(read_candles(path, instrument=ACME)) if each.blocks] for path in files
    }

    assert len(found) > 10
    assert {name: list(map(str, each)) for name, each in found.items() if each} == {}


# Files.


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_as_the_candles_command_writes_them_are_read(tmp_path: Path, suffix: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / f"x{suffix}"
    names = ["timestamp", "open", "high", "low", "close", "volume", "open_interest"]
    row = ["2026-09-21T09:15:00+05:30", 1.0, 2.0, 0.5, 1.5, 10, 3]
    after = ["2026-09-21T09:16:00+05:30", *row[1:]]
    if suffix == ".csv":
        path.write_text("\n".join([",".join(names), ",".join(map(str, row)), ",".join(map(str, after))]))
    else:
        pq.write_table(pa.table({name: [a, b] for name, a, b in zip(names, row, after, strict=True)}), path)

    candles = read_candles(path, instrument=ACME)

    assert candles.interval is Interval.MINUTE_1
    assert list(candles) == [
        Candle(instrument=ACME, start=MORNING + timedelta(minutes=n), open=1.0, high=2.0, low=0.5, close=1.5, volume=10,
               open_interest=3)
        for n in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [
        ("x.json", b"<html>", "no candle file"),
        ("x.json", b'{"data":{"candles":[]}}', "no candles"),
        ("x.json.gz", b"no gzip", "damaged"),
        ("x.csv", b"a,b\n1,2\n", "lacks the columns timestamp"),
        ("x.csv", b"timestamp,open,high,low,close,volume\nmonday,1,1,1,1,1\n", "row 0"),
        ("x.parquet", b"PAR1", "Parquet"),
        ("x.txt", b"", "by its name"),
    ],
)
def test_unreadable_files_are_refused_with_the_fix(tmp_path: Path, name: str, content: bytes, fix: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=fix):
        read_candles(path, instrument=ACME)


@pytest.mark.parametrize(
    ("step", "interval"),
    [
        (timedelta(minutes=1), Interval.MINUTE_1),
        (timedelta(minutes=15), Interval.MINUTE_15),
        (timedelta(days=1), Interval.DAY_1),
        (timedelta(days=7), Interval.WEEK_1),
    ],
)
def test_the_interval_is_the_commonest_distance(step: timedelta, interval: Interval) -> None:
    first = datetime.combine(date(2026, 1, 5), datetime.min.time(), IST)

    assert infer_interval([first + number * step for number in range(5)]) is interval
