"""``hybridbroker gauntlet``: what an order client does when the broker misbehaves, as a table."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import typer

from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridbroker.cli.gauntlet_kills import Kills
    from hybridbroker.cli.gauntlet_rows import Row

__all__ = ["gauntlet"]


def gauntlet(
    *,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of tables."),
    kills: int = typer.Option(0, min=0, help="Also kill so many processes around placing an order, and restart each."),
    seed: int = typer.Option(1, help="Seed of the kills."),
    faults: list[str] | None = typer.Option(None, "--fault", help="Only this fault; may be repeated."),
) -> None:
    """Put order clients through every fault an emulated Dhan can have: ours, and the vendor's where it is installed.

    Exit code 1 when our client sent something twice or told something untrue.

    Example: hybridbroker gauntlet --kills 50
    """
    try:
        from hybridbroker.cli.gauntlet_rows import FAULTS
    except ImportError as exc:
        raise ConfigurationError("the emulators are missing: pip install 'hybridbroker[emulators]'") from exc
    wanted = tuple(faults or FAULTS)
    unknown = sorted(set(wanted) - set(FAULTS))
    if unknown:
        raise ConfigurationError(f"no fault is called {', '.join(unknown)}; there are: {', '.join(FAULTS)}")
    logging.getLogger("hybridbroker").setLevel(logging.CRITICAL)
    rows, deaths = asyncio.run(_run(wanted, kills, seed))
    if as_json:
        report = {"rows": [_as_json(row) for row in rows], **({"kills": deaths.as_json()} if deaths else {})}
        print(json.dumps(report))
    else:
        _print(rows, deaths)
    kept = all(row.ok for row in rows if row.client == "hybridbroker") and (deaths is None or deaths.ok)
    if not kept:
        raise typer.Exit(1)


async def _run(faults: tuple[str, ...], kills: int, seed: int) -> tuple[list[Row], Kills | None]:
    from rich.console import Console
    from rich.progress import Progress

    from hybridbroker.cli.gauntlet_rows import CALLS, run_rows, vendor_installed

    with Progress(console=Console(stderr=True), transient=True) as progress:
        total = len(faults) * len(CALLS) * (2 if vendor_installed() else 1)
        bar = progress.add_task("faults", total=total)
        rows = await run_rows(faults=faults, progress=lambda _: progress.advance(bar))
        if not kills:
            return rows, None
        from hybridbroker.cli.gauntlet_kills import run_kills

        bar = progress.add_task("kills", total=kills)
        return rows, await run_kills(kills, seed=seed, progress=lambda: progress.advance(bar))


def _as_json(row: Row) -> dict[str, object]:
    import attrs

    return {**attrs.asdict(row), "ok": row.ok}


def _print(rows: list[Row], deaths: Kills | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("client", "fault", "call", "requests", "orders", "answer", "truth", "")
    for row in rows:
        verdict = "[green]ok[/]" if row.ok else "[red]wrong[/]"
        table.add_row(row.client, row.fault, row.call, str(row.posts), str(row.orders), row.answer, row.truth, verdict)
    console.print(table)
    if deaths is None:
        return
    spread = ", ".join(f"{state} {count}" for state, count in deaths.by_state.items())
    console.print(f"{deaths.runs} processes killed; died in: {spread}")
    console.print(
        f"after restart: {deaths.duplicates} duplicate orders, {deaths.lost} orders the journal does not know, "
        f"{deaths.unresolved} outcomes still unknown, {deaths.absent_but_live} orders called absent that exist"
    )
