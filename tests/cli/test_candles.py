"""Downloading candles: whole files, windows kept, resumed after a crash."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hybridbroker import IST, Candle, Candles, Exchange, Instrument, InstrumentKind, Interval, NotSent, Segment
from hybridbroker.cli.candle_files import COLUMNS, PartFile, write_candles
from hybridbroker.cli.candles import Download, fetch, windows
from hybridbroker.errors import ConfigurationError
from hybridbroker.testing.emulators import EmulatedMarket, Fault, UpstoxEmulator

RELIANCE = Instrument(
    id="NSE:RELIANCE",
    exchange=Exchange.NSE,
    segment=Segment.CASH,
    kind=InstrumentKind.EQUITY,
    symbol="RELIANCE",
    tick_size=Decimal("0.10"),
)
TODAY = date(2026, 10, 1)


class History:
    """A `CandleSource` with one bar a day, which fails when told to."""

    def __init__(self, *, failing_after: int | None = None) -> None:
        self.asked: list[tuple[date, date]] = []
        self._left = failing_after

    async def candles(
        self, instrument: Instrument, interval: Interval, *, start: date | datetime, end: date | datetime | None = None
    ) -> Candles:
        if self._left == 0:
            raise NotSent("the line is down")
        self._left = None if self._left is None else self._left - 1
        self.asked.append((start, end or TODAY))
        days = every_day(start, end or TODAY)
        return Candles.from_rows([bar(day) for day in days], instrument=instrument, interval=interval)


def bar(day: date) -> Candle:
    start = datetime(day.year, day.month, day.day, 9, 15, tzinfo=IST)
    return Candle(
        instrument=RELIANCE, start=start, open=0.1 + 0.2, high=2.0, low=0.05, close=1.5, volume=day.toordinal()
    )


def download(path: Path, **terms: Any) -> Download:
    asked = {"first": date(2026, 1, 1), "last": None, "interval": Interval.MINUTE_1, **terms}
    return Download(instrument=RELIANCE, path=path, source="test", **asked)


def nobody(_: int, __: int) -> None:
    """Hear, and do nothing."""


def days_in(path: Path) -> list[date]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [datetime.fromisoformat(row["start"]).date() for row in rows]


def every_day(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


async def test_a_file_has_every_bar_once_and_oldest_first(tmp_path: Path) -> None:
    path, heard = tmp_path / "deep" / "reliance.csv", list[tuple[int, int]]()

    told = await fetch(History(), download(path), today=TODAY, progress=lambda *each: heard.append(each))

    assert days_in(path) == every_day(date(2026, 1, 1), TODAY)
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert path.read_text().splitlines()[1].split(",")[1] == repr(0.1 + 0.2)
    assert told["rows"] == 274
    assert heard[-1] == (11, 11)
    assert sorted(each.name for each in path.parent.iterdir()) == ["reliance.csv"]


async def test_what_was_finished_is_not_asked_for_again(tmp_path: Path) -> None:
    path, broken = tmp_path / "reliance.csv", History(failing_after=4)
    with pytest.raises(NotSent):
        await fetch(broken, download(path), today=TODAY, progress=nobody)
    assert not path.exists()
    assert download(path).part.exists()

    whole = History()
    told = await fetch(whole, download(path), today=TODAY, progress=nobody)

    assert days_in(path) == every_day(date(2026, 1, 1), TODAY)
    assert whole.asked[0][0] == broken.asked[-1][1] + timedelta(days=1)
    assert told["resumed_after"] == str(broken.asked[-1][1])
    assert not download(path).part.exists()


async def test_a_download_goes_on_the_next_day(tmp_path: Path) -> None:
    path = tmp_path / "reliance.csv"
    with pytest.raises(NotSent):
        await fetch(History(failing_after=10), download(path), today=TODAY - timedelta(days=3), progress=nobody)

    await fetch(History(), download(path), today=TODAY, progress=nobody)

    assert days_in(path) == every_day(date(2026, 1, 1), TODAY)


@pytest.mark.parametrize("damage", [b"2026-05-01T09:15:00+05:30,1,2", b"# through 2026-0", b"\xff\xfe\n", b""])
async def test_a_window_cut_off_in_the_middle_is_fetched_again(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "reliance.csv"
    with pytest.raises(NotSent):
        await fetch(History(failing_after=4), download(path), today=TODAY, progress=nobody)
    with download(path).part.open("ab") as part:
        part.write(damage)

    await fetch(History(), download(path), today=TODAY, progress=nobody)

    assert days_in(path) == every_day(date(2026, 1, 1), TODAY)


@pytest.mark.parametrize(
    "other", [{"interval": Interval.MINUTE_3}, {"first": date(2026, 2, 1)}], ids=["interval", "first day"]
)
async def test_the_part_of_another_download_is_begun_anew(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "reliance.csv"
    with pytest.raises(NotSent):
        await fetch(History(failing_after=4), download(path), today=TODAY, progress=nobody)

    told = await fetch(History(), download(path, **other), today=TODAY, progress=nobody)

    assert told["resumed_after"] is None
    assert days_in(path)[0] == other.get("first", date(2026, 1, 1))


async def test_weeks_come_in_one_piece(tmp_path: Path) -> None:
    source = History()

    await fetch(source, download(tmp_path / "a.csv", interval=Interval.WEEK_1), today=TODAY, progress=nobody)

    assert source.asked == [(date(2026, 1, 1), TODAY)]


async def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "reliance.parquet"

    await fetch(History(), download(path), today=TODAY, progress=nobody)

    table = parquet.read_table(path)
    assert table.column_names == list(COLUMNS)
    assert [each.as_py().date() for each in table["start"]] == every_day(date(2026, 1, 1), TODAY)
    assert str(table.schema.field("start").type) == "timestamp[ms, tz=Asia/Kolkata]"
    assert table["open"][0].as_py() == 0.1 + 0.2
    assert table["volume"][0].as_py() == date(2026, 1, 1).toordinal()


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "reliance.csv"
    path.write_text("old")

    def cut_off() -> Iterable[list[str]]:
        yield ["1"] * 7
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_candles(path, cut_off(), [])

    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["reliance.csv"]


def test_a_folder_that_cannot_be_written_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="cannot be written"):
        PartFile.open(tmp_path / "file" / "a.csv.part", subject={})


@pytest.mark.parametrize(("interval", "days"), [(Interval.MINUTE_1, 28), (Interval.HOUR_1, 84), (Interval.DAY_1, 1825)])
def test_windows_cover_every_day_once(interval: Interval, days: int) -> None:
    cut = list(windows(date(2020, 1, 1), date(2026, 9, 30), interval))

    assert [day for since, until in cut for day in every_day(since, until)] == every_day(
        date(2020, 1, 1), date(2026, 9, 30)
    )
    assert max((until - since).days + 1 for since, until in cut) <= days


@pytest.fixture
async def emulator() -> AsyncIterator[UpstoxEmulator]:
    async with UpstoxEmulator(EmulatedMarket.random_walk()) as upstox:
        yield upstox


def command(emulator: UpstoxEmulator, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        "UPSTOX_ACCESS_TOKEN": emulator.access_token,
        "UPSTOX_BASE_URL": emulator.rest_url,
        "PATH": "/usr/bin:/bin",
    }
    program = [sys.executable, "-m", "hybridbroker", "candles", *arguments, "--instruments", "builtin"]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


async def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    import asyncio

    return await asyncio.to_thread(process.communicate)


async def test_a_killed_command_goes_on_where_it_was(emulator: UpstoxEmulator, tmp_path: Path) -> None:
    import asyncio

    out = tmp_path / "reliance.csv"
    terms = ("NSE:RELIANCE", "--interval", "1m", "--from", "2023-10-01", "--out", str(out), "--json")
    emulator.faults.add("GET /v3/historical-candle/*", Fault.delay(0.02), times=200)
    first = command(emulator, *terms)
    deadline = time.monotonic() + 20
    while len(calls(emulator)) < 8 and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    await finished(first)
    asked_before = calls(emulator)

    told, errors = await finished(command(emulator, *terms))

    asked_after = calls(emulator)[len(asked_before) :]
    assert not errors
    (summary,) = json.loads(told)
    assert summary["resumed_after"] is not None
    assert len(set(asked_before) & set(asked_after)) <= 1  # the one that was under way
    days = days_in(out)
    assert days == sorted(days)
    assert summary["rows"] == len(days)


def calls(emulator: UpstoxEmulator) -> list[str]:
    return [each.path for each in emulator.received("GET") if each.path.startswith("/v3/historical-candle/")]


async def test_several_instruments_go_into_a_folder(emulator: UpstoxEmulator, tmp_path: Path) -> None:
    terms = ("NSE:RELIANCE", "NSE:TCS", "--from", "2026-01-01", "--out", str(tmp_path / "day"))

    told, errors = await finished(command(emulator, *terms))

    assert errors == ""
    assert sorted(each.name for each in (tmp_path / "day").iterdir()) == ["NSE_RELIANCE_1d.csv", "NSE_TCS_1d.csv"]
    assert told.count("bars of 1d") == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "2026-02-01", "--to", "2026-01-01", "--out", "a.csv"), "the first day is after the last"),
        (("--from", "2026-02-01", "--out", "a.txt"), ".csv or .parquet"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "hybridbroker", "candles", "NSE:RELIANCE", "--instruments", "builtin", *arguments]

    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
