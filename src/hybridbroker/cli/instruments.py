"""``hybridbroker instruments``: build the registry, look into it, compare two."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hybridbroker.errors import ConfigurationError, HybridBrokerError

if TYPE_CHECKING:
    from hybridbroker.domain.instrument import Instrument
    from hybridbroker.instruments.changes import Changes
    from hybridbroker.instruments.listings import ListingSource, Progress
    from hybridbroker.instruments.registry import InstrumentRegistry

__all__ = ["app"]

app = typer.Typer(
    help="Instruments: one identity, and what every broker calls it.", no_args_is_help=True, add_completion=False
)

_WHERE = "A registry built by 'instruments build', or the word 'builtin'; default: today's."
_JSON = "Print one JSON object."


@app.command()
def build(
    *,
    upstox: list[Path] = typer.Option([], help="Upstox's JSON master, complete or of one exchange, .gz or not."),
    dhan: list[Path] = typer.Option([], help="Dhan's CSV master, detailed or of one segment."),
    dhan_compact: list[Path] = typer.Option([], help="Dhan's compact CSV: lends tickers the detailed one lacks."),
    master: list[str] = typer.Option([], help="NAME=FILE: the master of another installed broker."),
    upstox_date: str | None = typer.Option(None, help="The trading day Upstox's master is of, 2026-09-15."),
    dhan_date: str | None = typer.Option(None, help="The trading day Dhan's master is of."),
    out: Path | None = typer.Option(None, help="Where to write the registry; default: the user's cache."),
    as_json: bool = typer.Option(False, "--json", help=_JSON),
) -> None:
    """Join the brokers' instrument masters into one registry file; without files they are downloaded.

    Example: hybridbroker instruments build --upstox complete.json.gz --dhan api-scrip-master-detailed.csv
    """
    from hybridbroker.instruments.registry import InstrumentRegistry

    started = time.perf_counter()
    given = _given({"upstox": upstox, "dhan": [*dhan, *dhan_compact]}, master)
    if given:
        days = {"upstox": _day(upstox_date), "dhan": _day(dhan_date)}
        path = _build_from_files(given, days, out)
    elif upstox_date or dhan_date:
        raise ConfigurationError("a date says how old a file is; give the file too (--upstox, --dhan)")
    else:
        path = asyncio.run(_build_from_servers(out))
    registry = InstrumentRegistry.open(path)
    seconds, peak = time.perf_counter() - started, _peak_memory()
    if as_json:
        print(json.dumps(_report(registry, seconds=seconds, peak=peak)))
    else:
        _print_report(registry, seconds=seconds, peak=peak)


@app.command()
def find(
    names: list[str] = typer.Argument(
        help="Ids (NSE:RELIANCE), tickers, ISINs, or a broker's key after its name and a slash (dhan/NSE_EQ:2885)."
    ),
    *,
    instruments: Path | None = typer.Option(None, help=_WHERE),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON list."),
) -> None:
    """Show instruments and what every broker calls them; a name that fits several shows them all.

    Example: hybridbroker instruments find NSE:RELIANCE dhan/NSE_EQ:2885 INE002A01018
    """
    registry = _open(instruments)
    found = dict.fromkeys(each for name in names for each in _found(registry, name))
    _show(registry, list(found), as_json=as_json)


@app.command()
def search(
    query: list[str] = typer.Argument(help="Part of a name, misspelt or not; or a contract: nifty 25000 ce."),
    *,
    limit: int = typer.Option(10, min=1, help="How many to show."),
    instruments: Path | None = typer.Option(None, help=_WHERE),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON list."),
) -> None:
    """Search by name, best fit first.

    Example: hybridbroker instruments search relianc
    """
    registry = _open(instruments)
    _show(registry, registry.search(" ".join(query), limit=limit), as_json=as_json)


@app.command()
def diff(
    old: Path = typer.Argument(help="The earlier registry."),
    new: Path = typer.Argument(help="The later registry."),
    *,
    limit: int = typer.Option(5, min=0, help="How many of each kind to show."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object with every change."),
) -> None:
    """Say what changed between two builds: new, gone, renamed, other terms, tokens given out again.

    Example: hybridbroker instruments diff yesterday.sqlite today.sqlite
    """
    from hybridbroker.instruments.registry import InstrumentRegistry

    changes = InstrumentRegistry.open(new).changes_since(InstrumentRegistry.open(old))
    if as_json:
        print(json.dumps(_changes(changes)))
        return
    for kind, count in changes.counts.items():
        print(f"{kind}: {count:,}")
        for change in changes.of(kind)[:limit]:
            print(f"  {change.id}{_from_to(change.before, change.after)}")
    if not len(changes):
        print("nothing changed")


def _open(path: Path | None) -> InstrumentRegistry:
    from hybridbroker.session import open_registry

    return asyncio.run(open_registry(path))


def _given(known: Mapping[str, Sequence[Path]], others: Sequence[str]) -> dict[str, list[Path]]:
    given = {name: list(paths) for name, paths in known.items() if paths}
    for each in others:
        name, equals, path = each.partition("=")
        if not equals:
            raise ConfigurationError(f"--master takes NAME=FILE, was {each!r}")
        given.setdefault(name, []).append(Path(path))
    return given


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no date; write it as 2026-09-15") from None


def _build_from_files(given: Mapping[str, Sequence[Path]], days: Mapping[str, date | None], out: Path | None) -> Path:
    from hybridbroker.clock import SystemClock
    from hybridbroker.instruments.build import build as make
    from hybridbroker.instruments.refresh import cache_folder, new_build_path

    now = SystemClock().now()
    path = out or new_build_path(cache_folder(), now=now)
    readers = [partial(_source(name).read, paths, published=days.get(name)) for name, paths in given.items()]
    make(path, readers, built_at=now)
    return path


def _source(name: str) -> ListingSource:
    from hybridbroker.instruments.refresh import source_of

    source = source_of(name)
    if source is None:
        raise ConfigurationError(f"{name} publishes no instrument master that this library can read")
    return source


async def _build_from_servers(out: Path | None) -> Path:
    from hybridbroker.clock import SystemClock
    from hybridbroker.instruments import store
    from hybridbroker.instruments.refresh import cache_folder, installed_sources, newest_build, refresh

    folder = cache_folder()
    try:
        with _progress_bar() as progress:
            path = await refresh(folder, installed_sources(), clock=SystemClock(), progress=progress)
    except HybridBrokerError:
        if (last := newest_build(folder)) is not None:
            print(f"the last build is kept: {last}", file=sys.stderr)
        raise
    if out is None:
        return path
    store.copy(path, out)
    return out


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        tasks: dict[str, TaskID] = {}

        def progress(name: str, received: int, expected: int | None) -> None:
            task = tasks.setdefault(name, bar.add_task(name, total=expected)) if name not in tasks else tasks[name]
            bar.update(task, completed=received, total=expected)

        yield progress


def _found(registry: InstrumentRegistry, name: str) -> Sequence[Instrument]:
    from hybridbroker.errors import InstrumentAmbiguous
    from hybridbroker.instruments.identity import is_isin

    broker, slash, key = name.partition("/")
    try:
        if slash:
            return [registry.by_key(broker, key)]
        if ":" in name:
            return [registry[name]]
        return [registry.isin(name)] if is_isin(name) else [registry.equity(name)]
    except InstrumentAmbiguous as several:
        return [registry[each] for each in several.candidates]


def _shown(registry: InstrumentRegistry, instrument: Instrument) -> dict[str, Any]:
    return {
        "id": instrument.id,
        "kind": instrument.kind.value,
        "name": instrument.name,
        "isin": instrument.isin,
        "series": instrument.series,
        "lot_size": instrument.lot_size,
        "tick_size": str(instrument.tick_size),
        "freeze_quantity": instrument.freeze_quantity,
        "expiry": None if instrument.expiry is None else instrument.expiry.isoformat(),
        "strike": None if instrument.strike is None else str(instrument.strike),
        "keys": {broker: str(key) for broker, key in registry.keys_of(instrument).items()},
    }


def _show(registry: InstrumentRegistry, found: Sequence[Instrument], *, as_json: bool) -> None:
    rows = [_shown(registry, each) for each in found]
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print("nothing resembles that", file=sys.stderr)
        return
    for row in rows:
        words = (row["kind"], row["series"], row["isin"], f"lot {row['lot_size']}", f"tick {row['tick_size']}")
        print(f"{row['id']}  {row['name']}  ({', '.join(filter(None, words))})")
        for broker, key in row["keys"].items():
            print(f"    {broker}  {key}")


def _report(registry: InstrumentRegistry, *, seconds: float, peak: float | None) -> dict[str, Any]:
    import attrs

    masters = {
        each.broker: {
            "files": list(each.files),
            "published": _iso(each.published),
            "not_after": _iso(each.not_after),
        }
        for each in registry.masters
    }
    return {
        "path": str(registry.path),
        "masters": masters,
        "days_apart": registry.days_apart,
        **attrs.asdict(registry.coverage()),
        "seconds": round(seconds, 3),
        "peak_mb": peak,
    }


def _print_report(registry: InstrumentRegistry, *, seconds: float, peak: float | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    coverage = registry.coverage()
    for master in registry.masters:
        of = f"of {master.published}" if master.published else f"not after {master.not_after or 'any known day'}"
        console.print(f"{master.broker}: {', '.join(master.files)}, {of}", highlight=False)
    if registry.days_apart:
        console.print(f"the masters are at least {registry.days_apart} days apart", highlight=False)
    table = Table("broker", "rows", "what became of them", box=None)
    for broker, read in coverage.read.items():
        table.add_row(broker, f"{sum(read.values()):,}", "read")
        for place, count in sorted(coverage.mapped[broker].items()):
            table.add_row("", f"{count:,}", f"mapped: {place}")
        for reason, count in sorted(coverage.unmapped[broker].items(), key=lambda each: -each[1]):
            table.add_row("", f"{count:,}", reason)
    console.print(table)
    for title, tallies in (("conflict", coverage.conflicts), ("difference", coverage.disagreements)):
        for kind, tally in tallies.items():
            console.print(
                f"{title}: {kind}: {tally.count:,}, such as {tally.examples[0]}", highlight=False, soft_wrap=True
            )
    memory = "" if peak is None else f", at most {peak:.0f} MB"
    console.print(
        f"{len(registry):,} instruments in {registry.path} ({seconds:.1f} s{memory})", highlight=False, soft_wrap=True
    )


def _changes(changes: Changes) -> dict[str, Any]:
    return {
        "counts": {str(kind): count for kind, count in changes.counts.items()},
        "changes": [
            {"kind": str(each.kind), "id": each.id, "before": each.before, "after": each.after} for each in changes.all
        ],
    }


def _from_to(before: str | None, after: str | None) -> str:
    if before is None and after is None:
        return ""
    return f"  {before or 'none'} -> {after or 'none'}"


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _peak_memory() -> float | None:
    # A process inherits the resource counter of the one that started it; Linux also keeps one that is its own.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in lines:
            return round(int(lines["VmHWM"].split()[0]) / 1024, 1)
    try:
        import resource
    except ImportError:  # Windows does not tell
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
