"""``hybridbroker backtest``: a bot on history, with what it costs and what was assumed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import typer

from hybridbroker.domain.market import Interval
from hybridbroker.domain.orders import rupees
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.fills import BarFill

if TYPE_CHECKING:
    from hybridbroker.domain.instrument import Instrument
    from hybridbroker.domain.market import Candles
    from hybridbroker.instruments.registry import InstrumentRegistry
    from hybridbroker.simulation.backtest import Remains
    from hybridbroker.simulation.charges import ChargeSchedule
    from hybridbroker.simulation.sweep import SweepRow
    from hybridbroker.simulation.tape import Tape

__all__ = ["backtest"]


def backtest(
    strategy: str = typer.Argument(help="The bot, as FILE.py:Class."),
    *,
    candles: list[Path] = typer.Option([], help="Candle files (.json, .csv, .parquet), one per instrument; repeat it."),
    tape: Path | None = typer.Option(None, help="A tape written by 'hybridbroker record', in place of candles."),
    data: str | None = typer.Option(
        None, help="A broker to fetch candles from, with --instrument, --from, --interval."
    ),
    instrument: list[str] = typer.Option([], help="Instrument ids, in the order of the files; default: their names."),
    instruments: str = typer.Option("builtin", help="A registry from 'instruments build', or 'builtin'."),
    interval: Interval | None = typer.Option(None, help="Length of the bars; default: told by the file."),
    start: str | None = typer.Option(None, "--from", help="First day to trade, YYYY-MM-DD; earlier bars are history."),
    end: str | None = typer.Option(None, "--to", help="Last day to fetch, YYYY-MM-DD."),
    param: list[str] = typer.Option([], help="A parameter of the bot, name=value; repeat it."),
    grid: str | None = typer.Option(None, help="Try all of: ema=5:20,risk=300:1000 (values) or ema=5..20..5 (range)."),
    workers: int | None = typer.Option(None, help="Processes of a grid; default: all cores."),
    cash: str = typer.Option("100000", help="Rupees to start with."),
    charges: str = typer.Option("statutory", help="Whose charges: statutory, a broker's name, or none."),
    fill: BarFill = typer.Option(BarFill.NEXT_OPEN, help="At which prices of a bar orders trade."),
    participation: float | None = typer.Option(None, help="Largest part of the volume that orders can be: 0.1."),
    leverage: int = typer.Option(1, help="Value of an intraday position by the margin it needs."),
    square_off: str | None = typer.Option(None, help="When intraday positions are closed, HH:MM."),
    calendar: bool = typer.Option(False, help="Refuse orders outside the exchange's sessions."),
    limits: bool = typer.Option(True, help="Pass the default risk limits and the order journal, as live."),
    journal: Path | None = typer.Option(None, help="Keep the order journal in this file."),
    at_end: str = typer.Option("keep", help="What becomes of positions at the end: keep or flatten."),
    on_failure: str = typer.Option("flatten", help="What becomes of them when the bot fails: keep or flatten."),
    hook_seconds: float = typer.Option(30.0, help="Real seconds that a hook may take."),
    allow: str = typer.Option("", help="Defects of the data to trade in spite of: split,duplicate,…"),
    html: Path | None = typer.Option(None, help="Write the report as one self-contained page."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of tables."),
) -> None:
    """Run a bot over history: candle files, a tape, or candles fetched from a broker.

    Exit code 0: it went to its end; 1: the bot failed, and the report says how; 2: a setting is wrong.

    Example: hybridbroker backtest examples/swing_bot.py:SwingBot --candles RELIANCE.json.gz --html report.html
    """
    from hybridbroker.cli.strategies import StrategyMaker, load_strategy, parameters
    from hybridbroker.simulation.fills import FillModel
    from hybridbroker.simulation.report import check_plotting
    from hybridbroker.simulation.validate import to_defects

    if html:
        check_plotting()
    if sum(map(bool, (candles, tape, data))) != 1:
        raise ConfigurationError("say what to play: --candles FILE, --tape DIR or --data BROKER, one of them")
    length = interval or getattr(load_strategy(strategy), "interval", None)
    played, traded = _load(
        candles=candles, tape=tape, data=data, names=instrument, registry=instruments,
        interval=interval if data is None else length, start=_day(start), end=_day(end),
    )  # fmt: skip
    fixed = parameters(param)
    make = StrategyMaker(name=strategy, instruments=tuple(traded), fixed=fixed)
    options: dict[str, Any] = {
        "start": _day(start),
        "cash": rupees(cash),
        "charges": _charges(charges),
        "fill": FillModel(bars=fill, participation=None if participation is None else Decimal(str(participation))),
        "leverage": Decimal(leverage),
        "square_off": None if square_off is None else _time(square_off),
        "calendar": _calendar(wanted=calendar),
        "at_end": _remains(at_end),
        "on_failure": _remains(on_failure),
        "allow": to_defects([each for each in allow.split(",") if each]),
        "hook_seconds": hook_seconds,
    }
    if not limits:
        options["limits"] = None
    if grid is not None:
        _sweep(make, played, grid, fixed=fixed, workers=workers, options=options, as_json=as_json)
        return
    if journal is not None:
        options["journal"] = journal
    _run(make({}), played, options, html=html, as_json=as_json)


def _run(strategy: Any, played: Any, options: dict[str, Any], *, html: Path | None, as_json: bool) -> None:
    from rich.console import Console

    from hybridbroker.simulation.backtest import simulate

    with _bar("playing") as show:
        result = simulate(strategy, played, progress=lambda part: show(part, 1.0), **options)
    if html:
        result.to_html(html)
    if as_json:
        print(result.dumps())
    else:
        console = Console()
        console.print(result.report())
        if html:
            console.print(f"Report: {html}")
    if not result.ok:
        raise typer.Exit(1)


def _sweep(
    make: Any, played: Any, grid: str, *, fixed: dict[str, Any], workers: int | None, options: dict[str, Any],
    as_json: bool,
) -> None:  # fmt: skip
    from hybridbroker.simulation.sweep import parse_grid, sweep

    wanted = parse_grid(grid)
    doubled = sorted(set(wanted) & set(fixed))
    if doubled:
        raise ConfigurationError(f"{', '.join(doubled)} stands in --param and in --grid; give it once")
    make({name: values[0] for name, values in wanted.items()})
    with _bar("sweeping") as show:
        rows = sweep(make, played, wanted, workers=workers, progress=show, **options)
    rows.sort(key=lambda row: (row.failure is not None, -row.net))
    if as_json:
        print(json.dumps([_row_json(row) for row in rows]))
    else:
        _print_rows(rows)
    if any(row.failure for row in rows):
        raise typer.Exit(1)


def _load(
    *,
    candles: Sequence[Path],
    tape: Path | None,
    data: str | None,
    names: Sequence[str],
    registry: str,
    interval: Interval | None,
    start: date | None,
    end: date | None,
) -> tuple[list[Candles] | Tape, Sequence[Instrument]]:
    """Return what to play, and its instruments."""
    if tape is not None:
        from hybridbroker.simulation.tape import Tape

        opened = Tape.open(tape)
        return opened, opened.instruments
    return asyncio.run(
        _bars(candles, data=data, names=names, registry=registry, interval=interval, start=start, end=end)
    )


async def _bars(
    files: Sequence[Path],
    *,
    data: str | None,
    names: Sequence[str],
    registry: str,
    interval: Interval | None,
    start: date | None,
    end: date | None,
) -> tuple[list[Candles], Sequence[Instrument]]:
    from hybridbroker.cli.demo_day import guess_instrument
    from hybridbroker.session import connect, open_registry
    from hybridbroker.simulation.candle_files import read_candles

    known: InstrumentRegistry = await open_registry(registry)
    if data is None:
        if names and len(names) != len(files):
            raise ConfigurationError(f"{len(files)} files need {len(files)} --instrument, or none; got {len(names)}")
        traded = [known[name] for name in names] or [guess_instrument(path, known) for path in files]
        read = [
            read_candles(path, instrument=each, interval=interval) for path, each in zip(files, traded, strict=True)
        ]
        return read, traded
    if not names or start is None or interval is None:
        raise ConfigurationError("to fetch candles, say --instrument, --from and --interval")
    traded = [known[name] for name in names]
    async with connect(data=data, instruments=known) as session:
        fetched = [await session.data.candles(each, interval, start=start, end=end) for each in traded]
    return fetched, traded


def _charges(name: str) -> ChargeSchedule | None:
    from hybridbroker.plugins import find_broker
    from hybridbroker.simulation.statutory import STATUTORY_ONLY

    if name == "none":
        return None
    if name == "statutory":
        return STATUTORY_ONLY
    schedule = find_broker(name).charges
    if schedule is None:
        raise ConfigurationError(f"the charges of {name} are not tabulated; use statutory or none")
    found: ChargeSchedule = schedule()
    return found


def _calendar(*, wanted: bool) -> Any:
    if not wanted:
        return None
    from hybridbroker.domain.calendar import TradingCalendar

    return TradingCalendar()


def _remains(name: str) -> Remains:
    from hybridbroker.simulation.backtest import Remains

    try:
        return Remains(name)
    except ValueError:
        raise ConfigurationError(f"{name!r} is neither keep nor flatten") from None


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no day; write YYYY-MM-DD") from None


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time of day; write HH:MM") from None


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float, float], None]]:
    """Show progress on stderr while something runs."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda done, total: progress.update(task, completed=done / total)


def _row_json(row: SweepRow) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Decimal) else value
        for name, value in {
            **attrs.asdict(row, recurse=False),
            "parameters": {
                key: str(each) if isinstance(each, Decimal) else each for key, each in row.parameters.items()
            },
        }.items()
    }


def _print_rows(rows: Sequence[SweepRow]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        *rows[0].parameters, "net", "gross", "charges", "return", "drawdown", "Sharpe", "round trips", "won",
        title=f"{len(rows)} runs, the best first",
    )  # fmt: skip
    for row in rows:
        values = [str(each) for each in row.parameters.values()]
        if row.failure:
            table.add_row(*values, f"failed: {row.failure}", style="red")
            continue
        table.add_row(
            *values, f"{row.net:,.2f}", f"{row.gross:,.2f}", f"{row.charges:,.2f}", f"{row.total_return * 100:.2f} %",
            f"{row.max_drawdown * 100:.2f} %", "-" if row.sharpe is None else f"{row.sharpe:.2f}", str(row.trades),
            "-" if row.win_rate is None else f"{row.win_rate * 100:.1f} %",
        )  # fmt: skip
    Console().print(table)
