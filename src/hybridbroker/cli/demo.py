"""``hybridbroker demo``: a market day on your machine, from the frame to the fill."""

from __future__ import annotations

import asyncio
import json
import statistics
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Group

    from hybridbroker.cli.demo_day import DemoDay
    from hybridbroker.domain.instrument import Instrument
    from hybridbroker.instruments.registry import InstrumentRegistry
    from hybridbroker.testing.emulators import EmulatedMarket

__all__ = ["demo"]


def demo(
    *,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of tables."),
    candles: Path | None = typer.Option(
        None, help="Play the last session of an Upstox candle file (.json, .json.gz); earlier ones warm the bot."
    ),
    ticks: Path | None = typer.Option(None, help="Play a recorded V3 feed (.ndjson, .ndjson.gz)."),
    instruments: Path | None = typer.Option(
        None, help="A registry from 'instruments build'; default: the handful that comes with the package."
    ),
    instrument: str | None = typer.Option(None, help="Instrument id; default: what the file is named after."),
    html: Path | None = typer.Option(None, help="Write a chart page: price, averages, entries, exits, profit."),
    seed: int = typer.Option(7, help="Seed of the synthetic day."),
    cash: int = typer.Option(100_000, help="Rupees to start with."),
) -> None:
    """Start emulators of both brokers and run the example bot over a market day at high speed.

    Example: hybridbroker demo --html day.html
    """
    if candles and ticks:
        raise ConfigurationError("--candles and --ticks are two different days; give one")
    try:
        import hybridbroker.testing.emulators  # noqa: F401 - only whether it is there
    except ImportError as exc:
        raise ConfigurationError("the emulators are missing: pip install 'hybridbroker[emulators]'") from exc
    if html:
        from hybridbroker.simulation.report import check_plotting

        check_plotting()
    day = asyncio.run(
        _demo(
            candles=candles, ticks=ticks, instruments=instruments, instrument=instrument, seed=seed, cash=cash,
            quiet=as_json,
        )
    )  # fmt: skip
    if html:
        _write_page(html, day)
    if as_json:
        print(json.dumps(_as_json(day)))
    else:
        _print(day, html)


async def _demo(
    *,
    candles: Path | None,
    ticks: Path | None,
    instruments: Path | None,
    instrument: str | None,
    seed: int,
    cash: int,
    quiet: bool,
) -> DemoDay:
    from rich.console import Console
    from rich.live import Live

    from hybridbroker.cli.demo_day import DemoDay, load_bot, play_day
    from hybridbroker.session import BUILTIN, open_registry

    registry = await open_registry(instruments or BUILTIN)
    traded, market = _market(registry, candles=candles, ticks=ticks, instrument=instrument, seed=seed)
    day = DemoDay(
        instrument=traded,
        ids={name: registry.key(traded, name).id for name in ("upstox", "dhan")},
        bot=load_bot().SwingBot(traded.id),
    )
    console = Console(stderr=quiet)
    if not quiet:
        console.print(_preface(candles, ticks, instruments, seed))
    with (
        TemporaryDirectory(prefix="hybridbroker-demo-") as state,
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        playing = asyncio.create_task(play_day(day, market, registry, cash=Decimal(cash), state=Path(state)))
        try:
            while not playing.done():
                live.update(_progress(day, market), refresh=console.is_terminal)
                await asyncio.wait([playing], timeout=0.2)
        finally:
            playing.cancel()
        await playing
    return day


def _market(
    registry: InstrumentRegistry, *, candles: Path | None, ticks: Path | None, instrument: str | None, seed: int
) -> tuple[Instrument, EmulatedMarket]:
    from hybridbroker.cli.demo_day import guess_instrument
    from hybridbroker.testing.emulators import EmulatedMarket, Recording, listed_from

    if candles:
        traded = registry[instrument] if instrument else guess_instrument(candles, registry)
        return traded, EmulatedMarket.from_candles(dict.fromkeys(listed_from(registry, [traded]), candles))
    if ticks:
        recording = Recording.open(ticks)
        traded = registry[instrument] if instrument else registry.by_key("upstox", recording.keys[0])
        return traded, EmulatedMarket.from_recording(recording, listed_from(registry, [traded]))
    traded = registry[instrument or "NSE:RELIANCE"]
    return traded, EmulatedMarket.random_walk(listed_from(registry, [traded]), seed=seed)


def _preface(candles: Path | None, ticks: Path | None, instruments: Path | None, seed: int) -> str:
    day = (
        f"the last session of {candles.name}"
        if candles
        else f"the recorded feed {ticks.name}"
        if ticks
        else f"a synthetic day made from seed {seed}: no real prices"
    )
    table = f"the registry {instruments.name}" if instruments else "a built-in handful of instruments"
    return f"Playing {day}, with {table}. Both brokers are emulated on this machine; no money moves."


def _progress(day: DemoDay, market: EmulatedMarket) -> Group:
    from rich.console import Group
    from rich.table import Table

    head = Table("market time", day.instrument.id, "ticks", "bars", "signals", "orders", "feed")
    price = "" if day.last is None else f"{day.last.last_price:,.2f}"
    state = "" if day.health is None else day.health.state.value
    head.add_row(
        f"{market.now:%Y-%m-%d %H:%M:%S}", price, f"{day.ticks:,}", str(len(day.candles)), str(day.bot.signals),
        str(len(day.orders)), state,
    )  # fmt: skip
    return Group(head)


def _print(day: DemoDay, html: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    orders = Table(
        "placed", "side", "quantity", "type", "price", "trigger", "average", "status", title="Orders at Dhan"
    )
    for order in day.orders:
        orders.add_row(
            "" if order.placed_at is None else f"{order.placed_at:%H:%M:%S}", order.side.value, str(order.quantity),
            order.type.value, str(order.price or ""), str(order.trigger_price or ""), str(order.average_price or ""),
            order.status.value,
        )  # fmt: skip
    console.print(orders)
    charges = Table("charge", "rupees", "counted on", title="Charges of the day")
    for line in day.charges.lines:
        charges.add_row(line.name, f"{line.amount:.2f}", line.basis)
    charges.add_row("total", f"{day.charges.total:.2f}", "", style="bold")
    console.print(charges)
    latency = _latency(day)
    health = day.health
    summary = Table(
        "", "", title=f"{day.instrument.id} (Upstox {day.ids['upstox']}, Dhan {day.ids['dhan']})", show_header=False
    )
    summary.add_row("ticks, bars, signals", f"{day.ticks:,}, {len(day.candles)}, {day.bot.signals}")
    summary.add_row("fills", str(len(day.trades)))
    summary.add_row("gross, charges, net", f"{day.gross:.2f}, {day.charges.total:.2f}, {day.net:.2f} rupees")
    summary.add_row(
        "frame read to order acknowledged",
        f"{latency['n']} orders, median {latency['p50']} ms, 99th percentile {latency['p99']} ms (loopback)",
    )
    if health is not None:
        summary.add_row("feed", f"{health.reconnects} reconnects, {health.gaps} gaps, {health.conflated} conflated")
    summary.add_row("alerts", "\n".join(day.alerts) or "none")
    summary.add_row("took", f"{day.duration_s:.1f} s")
    console.print(summary)
    if html:
        console.print(f"Chart: {html}")


def _as_json(day: DemoDay) -> dict[str, Any]:
    health = day.health
    return {
        "instrument": day.instrument.id,
        "ids": day.ids,
        "ticks": day.ticks,
        "bars": len(day.candles),
        "signals": day.bot.signals,
        "orders": [
            {
                "id": order.id,
                "client_order_id": order.client_order_id,
                "side": order.side.value,
                "type": order.type.value,
                "quantity": order.quantity,
                "filled_quantity": order.filled_quantity,
                "price": None if order.price is None else str(order.price),
                "trigger_price": None if order.trigger_price is None else str(order.trigger_price),
                "average_price": None if order.average_price is None else str(order.average_price),
                "status": order.status.value,
            }
            for order in day.orders
        ],
        "fills": len(day.trades),
        "pnl": {"gross": f"{day.gross:.2f}", "charges": f"{day.charges.total:.2f}", "net": f"{day.net:.2f}"},
        "latency_ms": {"tick_to_order": _latency(day)},
        "feed": {
            "reconnects": health.reconnects if health else 0,
            "gaps": health.gaps if health else 0,
            "conflated": health.conflated if health else 0,
        },
        "alerts": day.alerts,
        "duration_s": round(day.duration_s, 3),
    }


def _latency(day: DemoDay) -> dict[str, Any]:
    values = sorted(day.latencies_ms)
    if not values:
        return {"n": 0, "p50": None, "p99": None}
    last = values[min(len(values) - 1, int(len(values) * 0.99))]
    return {"n": len(values), "p50": round(statistics.median(values), 3), "p99": round(last, 3)}


def _write_page(path: Path, day: DemoDay) -> None:
    from hybridbroker.simulation.report import write_chart

    lines = {f"EMA {length}": _ema([candle.close for candle in day.candles], length) for length in day.bot.lengths[:2]}
    title = f"{day.instrument.id}: gross {day.gross:.2f}, charges {day.charges.total:.2f}, net {day.net:.2f} rupees"
    write_chart(path, title=title, candles=day.candles, lines=lines, trades=day.trades)


def _ema(values: list[float], length: int) -> list[float]:
    averages: list[float] = []
    for value in values:
        before = averages[-1] if averages else value
        averages.append(before + 2 / (length + 1) * (value - before))
    return averages
