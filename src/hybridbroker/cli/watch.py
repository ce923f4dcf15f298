"""``hybridbroker watch``: live ticks of the configured data source, with feed state and delay."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hybridbroker.domain.market import FeedMode, Gap, MarketStatus, Tick

if TYPE_CHECKING:
    from rich.table import Table

    from hybridbroker.protocols import FeedHealth

__all__ = ["watch"]


def watch(
    names: list[str] = typer.Argument(help="Instrument ids, such as NSE:RELIANCE."),
    *,
    data: str = typer.Option("upstox", help="Which broker's feed to watch."),
    mode: FeedMode = typer.Option(FeedMode.FULL, help="How much of each instrument to stream."),
    instruments: Path | None = typer.Option(
        None, help="A registry built by 'instruments build', or the word 'builtin'; default: today's."
    ),
    ticks: int = typer.Option(0, help="Stop after so many ticks; 0 goes on until Ctrl-C."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object per event."),
) -> None:
    """Show live ticks, the state of the feed and how late each tick is.

    Example: hybridbroker watch NSE:RELIANCE NSE:TCS --mode full
    """
    asyncio.run(_watch(names, data=data, mode=mode, instruments=instruments, ticks=ticks, as_json=as_json))


async def _watch(
    names: list[str], *, data: str, mode: FeedMode, instruments: Path | None, ticks: int, as_json: bool
) -> None:
    from rich.console import Console
    from rich.live import Live

    from hybridbroker.session import connect, open_registry

    registry = await open_registry(instruments)
    wanted = [registry[name] for name in names]
    console = Console()
    async with (
        connect(data=data, broker="paper", instruments=registry) as session,
        session.data.stream(wanted, mode=mode) as events,
    ):
        latest: dict[str, Tick] = {}
        seen = 0

        async def follow(show: Callable[[Tick | Gap | MarketStatus], None]) -> None:
            nonlocal seen
            async for event in events:
                if isinstance(event, Tick):
                    latest[event.instrument.id] = event
                    seen += 1
                show(event)
                if ticks and seen >= ticks:
                    return

        if as_json or not console.is_terminal:
            await follow(lambda event: _print_line(event, events.health, as_json=as_json))
            return
        with Live(console=console, auto_refresh=False) as live:
            await follow(lambda _: live.update(_table(latest, events.health), refresh=True))


def _print_line(event: Tick | Gap | MarketStatus, health: FeedHealth, *, as_json: bool) -> None:
    row: dict[str, object]
    match event:
        case Tick():
            row = {
                "instrument": event.instrument.id,
                "last_price": event.last_price,
                "volume": event.volume,
                "traded_at": None if event.traded_at is None else event.traded_at.isoformat(),
                "delay_ms": _delay_ms(event),
                "feed": health.state.value,
            }
        case Gap():
            row = {"gap": event.reason, "since": event.since.isoformat(), "until": event.until.isoformat()}
        case MarketStatus():
            row = {"market": {name: phase.value for name, phase in event.phases.items()}}
    sys.stdout.write(json.dumps(row) + "\n" if as_json else "  ".join(f"{k}={v}" for k, v in row.items()) + "\n")
    sys.stdout.flush()


def _table(latest: dict[str, Tick], health: FeedHealth) -> Table:
    from rich.table import Table

    table = Table(
        "instrument", "last", "change", "bid", "ask", "volume", "traded", "delay",
        caption=f"feed {health.state.value}, reconnects {health.reconnects}, gaps {health.gaps}, "
        f"conflated {health.conflated}, skipped {sum(health.skipped.values())}",
    )  # fmt: skip
    for tick in latest.values():
        change = (tick.last_price / tick.previous_close - 1) * 100 if tick.previous_close else None
        depth = tick.depth
        bid, ask = (depth.best_bid, depth.best_ask) if depth else (None, None)
        delay = _delay_ms(tick)
        table.add_row(
            tick.instrument.id,
            f"{tick.last_price:,.2f}",
            "" if change is None else f"{change:+.2f} %",
            "" if bid is None else f"{bid.price:,.2f}",
            "" if ask is None else f"{ask.price:,.2f}",
            "" if tick.volume is None else f"{tick.volume:,}",
            "" if tick.traded_at is None else f"{tick.traded_at:%H:%M:%S}",
            "" if delay is None else f"{delay / 1000:.1f} s",
        )
    return table


def _delay_ms(tick: Tick) -> int | None:
    """Milliseconds from the exchange's stamp to our reading; the clocks differ, so it may be below zero."""
    return None if tick.traded_ms is None else tick.received_ms - tick.traded_ms
