"""``hybridbroker candles``: history into CSV or Parquet files, a window at a time, resumed where it was cut off."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import typer

from hybridbroker.cli.candle_files import PartFile, check_format, write_candles
from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle, Interval
from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridbroker.protocols import CandleSource

__all__ = ["Download", "candles", "fetch", "windows"]

_DAY: Final = timedelta(days=1)
_SHORT: Final = frozenset({Interval.MINUTE_1, Interval.MINUTE_3, Interval.MINUTE_5, Interval.MINUTE_15})
_BY_CALENDAR: Final = frozenset({Interval.WEEK_1, Interval.MONTH_1})


@attrs.frozen(kw_only=True)
class Download:
    """One file to be made."""

    instrument: Instrument
    interval: Interval
    first: date
    last: date | None
    """None: up to now."""
    path: Path
    source: str

    @property
    def part(self) -> Path:
        """Return where finished windows are kept."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def subject(self) -> dict[str, str]:
        """Return what a part file must be of to be gone on with; the last day may move."""
        return {
            "candles": self.instrument.id,
            "interval": self.interval.value,
            "from": self.first.isoformat(),
            "source": self.source,
        }


def candles(
    names: list[str] = typer.Argument(help="Instrument ids, such as NSE:RELIANCE."),
    *,
    interval: Interval = typer.Option(Interval.DAY_1, help="How long one bar is."),
    first: datetime = typer.Option(..., "--from", formats=["%Y-%m-%d"], help="First day, IST."),
    last: datetime | None = typer.Option(None, "--to", formats=["%Y-%m-%d"], help="Last day; default: up to now."),
    out: Path = typer.Option(..., help="A .csv or .parquet file; for several instruments, a folder."),
    suffix: str = typer.Option("csv", "--format", help="csv or parquet: the format of files in a folder."),
    data: str = typer.Option("upstox", help="Whose history."),
    instruments: Path | None = typer.Option(
        None, help="A registry built by 'instruments build', or the word 'builtin'; default: today's."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON list, one object a file."),
) -> None:
    """Download candles, oldest first. A download that was cut off goes on with the same command.

    Finished windows wait in FILE.part; FILE itself appears when it is whole.

    Example: hybridbroker candles NSE:RELIANCE --interval 1m --from 2025-01-01 --out reliance.parquet
    """
    days = (first.date(), None if last is None else last.date())
    if days[1] is not None and days[0] > days[1]:
        raise ConfigurationError(f"from {days[0]} to {days[1]}: the first day is after the last")
    done = asyncio.run(_candles(names, interval, days, out, suffix, data=data, instruments=instruments))
    if as_json:
        print(json.dumps(done))
        return
    for each in done:
        span = f", {each['first']} to {each['last']}" if each["rows"] else ""
        print(f"{each['instrument']}: {each['rows']:,} bars of {each['interval']}{span} in {each['file']}")


async def _candles(
    names: list[str],
    interval: Interval,
    days: tuple[date, date | None],
    out: Path,
    suffix: str,
    *,
    data: str,
    instruments: Path | None,
) -> list[dict[str, object]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from hybridbroker.session import connect, open_registry

    registry = await open_registry(instruments)
    wanted = list(dict.fromkeys(registry[name] for name in names))
    paths = _paths(wanted, interval, out, suffix)
    for path in paths:
        check_format(path)
    console, done = Console(stderr=True), list[dict[str, object]]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with connect(data=data, broker="paper", instruments=registry) as session:
        with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
            for instrument, path in zip(wanted, paths, strict=True):
                asked = Download(
                    instrument=instrument, interval=interval, first=days[0], last=days[1], path=path, source=data
                )
                task = shown.add_task(instrument.id, total=None)

                def progress(count: int, total: int, task: TaskID = task) -> None:
                    shown.update(task, completed=count, total=total)

                try:
                    done.append(
                        await fetch(
                            session.data,
                            asked,
                            today=session.clock.now().astimezone(IST).date(),
                            progress=progress,
                        )
                    )
                except BaseException:
                    if asked.part.exists():
                        sys.stderr.write(f"{asked.part} keeps what is finished; the same command goes on from there\n")
                    raise
    return done


async def fetch(
    source: CandleSource, asked: Download, *, today: date, progress: Callable[[int, int], None]
) -> dict[str, object]:
    """Download one file, or what is missing of it, and return what ``--json`` prints.

    ``progress`` hears how many windows are done, and how many there are.
    """
    part = PartFile.open(asked.part, subject=asked.subject)
    resumed = part.through
    past, newest = _parts(asked, today=today)
    total = len(past) + (newest is not None)
    for count, (since, until) in enumerate(past):
        progress(count, total)
        if part.through is None or until > part.through:
            start = since if part.through is None else max(since, part.through + _DAY)
            part.append(await source.candles(asked.instrument, asked.interval, start=start, end=until), through=until)
    rest: list[Candle] = []
    if newest is not None:
        progress(len(past), total)
        rest = list(await source.candles(asked.instrument, asked.interval, start=newest[0], end=newest[1]))
    rows, first, last = write_candles(asked.path, part.rows(), rest)
    part.remove()
    progress(total, total)
    return {
        "instrument": asked.instrument.id,
        "interval": asked.interval.value,
        "file": str(asked.path),
        "rows": rows,
        "first": first,
        "last": last,
        "resumed_after": None if resumed is None else resumed.isoformat(),
    }


def windows(first: date, last: date, interval: Interval) -> Iterator[tuple[date, date]]:
    """Cut whole days into windows that are kept one by one: four weeks, twelve, or five years."""
    length = timedelta(days=28 if interval in _SHORT else 1825 if interval is Interval.DAY_1 else 84)
    while first <= last:
        end = min(first + length - _DAY, last)
        yield first, end
        first = end + _DAY


def _parts(asked: Download, *, today: date) -> tuple[list[tuple[date, date]], tuple[date, date | None] | None]:
    """Return the windows of days that are over, and what is not over yet and so is asked for each time."""
    last = today if asked.last is None else asked.last
    if asked.interval in _BY_CALENDAR:
        return [], (asked.first, asked.last)
    past = list(windows(asked.first, min(last, today - _DAY), asked.interval))
    return past, (max(asked.first, today), asked.last) if last >= today else None


def _paths(wanted: list[Instrument], interval: Interval, out: Path, suffix: str) -> list[Path]:
    if len(wanted) == 1 and not out.is_dir() and out.suffix:
        return [out]
    if out.exists() and not out.is_dir():
        raise ConfigurationError(f"{out} is a file; several instruments need a folder")
    names = [f"{each.id}_{interval.value}".translate(str.maketrans(": /", "___")) for each in wanted]
    return [out / f"{name}.{suffix.lstrip('.')}" for name in names]
