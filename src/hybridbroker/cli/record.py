"""``hybridbroker record``: live ticks onto a tape, which backtests and emulators replay."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hybridbroker.domain.market import FeedMode
from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridbroker.protocols import MarketStream
    from hybridbroker.simulation.tape import TapeWriter

__all__ = ["record"]


def record(
    names: list[str] = typer.Argument(help="Instrument ids, such as NSE:RELIANCE."),
    *,
    out: Path = typer.Option(..., help="Directory of the tape; a recorder started again adds to it."),
    data: str = typer.Option("upstox", help="Which broker's feed to record."),
    mode: FeedMode = typer.Option(FeedMode.FULL, help="How much of each instrument to stream."),
    instruments: str | None = typer.Option(None, help="A registry, or 'builtin'; default: today's."),
    flush: float = typer.Option(10.0, help="Seconds between writes: what a crash may lose."),
    events: int = typer.Option(0, help="Stop after so many events; 0 goes on until Ctrl-C or SIGTERM."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object at the end."),
) -> None:
    """Record live ticks, gaps and market statuses to Parquet, one file an hour.

    A killed recorder loses at most the events of its last --flush seconds; every file is whole.

    Example: hybridbroker record NSE:RELIANCE NSE:TCS --out tapes/2026-11-23
    """
    if not flush > 0:
        raise ConfigurationError(f"--flush is seconds above zero, was {flush}")
    from hybridbroker.simulation.tape import TapeWriter

    with TapeWriter(out) as writer:
        asyncio.run(_record(names, writer, data=data, mode=mode, instruments=instruments, flush=flush, events=events))
    if as_json:
        print(json.dumps({"out": str(out), "events": writer.written, "instruments": names}))
    else:
        print(f"{writer.written:,} events of {', '.join(names)} are in {out}")


async def _record(
    names: list[str],
    writer: TapeWriter,
    *,
    data: str,
    mode: FeedMode,
    instruments: str | None,
    flush: float,
    events: int,
) -> None:
    from hybridbroker.protocols import Overflow
    from hybridbroker.session import connect, open_registry

    registry = await open_registry(instruments)
    wanted = [registry[name] for name in names]
    async with (
        connect(data=data, broker="paper", instruments=registry) as session,
        session.data.stream(wanted, mode=mode, overflow=Overflow.CONFLATE) as stream,
    ):
        taking = asyncio.create_task(_take(stream, writer, events), name="hybridbroker-record")
        _stop_on_signals(taking)
        while not taking.done():
            await asyncio.wait({taking}, timeout=flush)
            await asyncio.to_thread(writer.flush)
            print(f"\r{writer.written:,} events written", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        with suppress(asyncio.CancelledError):
            await taking


async def _take(stream: MarketStream, writer: TapeWriter, events: int) -> None:
    taken = 0
    async for event in stream:
        writer.add(event)
        taken += 1
        if events and taken >= events:
            return


def _stop_on_signals(task: asyncio.Task[None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # Windows, or not the main thread
            loop.add_signal_handler(number, task.cancel)
