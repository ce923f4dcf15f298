"""``hybridbroker emulate``: both brokers on this machine, until interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, UpstoxEmulator

__all__ = ["emulate"]

_VARIABLES = {
    "UPSTOX_BASE_URL": ("upstox", "rest"),
    "UPSTOX_ACCESS_TOKEN": ("upstox", "access_token"),
    "DHAN_BASE_URL": ("dhan", "rest"),
    "DHAN_ORDER_UPDATES_URL": ("dhan", "order_updates"),
    "DHAN_CLIENT_ID": ("dhan", "client_id"),
    "DHAN_ACCESS_TOKEN": ("dhan", "access_token"),
    "DHAN_FEED_URL": ("dhan", "feed"),
    "DHAN_AUTH_URL": ("dhan", "auth"),
    "UPSTOX_ORDER_URL": ("upstox", "rest"),
}


def emulate(
    *,
    candles: list[Path] | None = typer.Option(None, help="Upstox candle JSON to play (.gz allowed); may be repeated."),
    ticks: list[Path] | None = typer.Option(None, help="A recorded V3 feed to play (.gz allowed); may be repeated."),
    instruments: Path | None = typer.Option(
        None, help="A registry built by 'instruments build'; default: the built-in handful."
    ),
    instrument: str | None = typer.Option(None, help="What --candles holds, where its file name does not say."),
    seed: int = typer.Option(7, help="Which synthetic day to play; the same seed is the same day."),
    speed: float = typer.Option(
        60.0, min=0.0, help="Market seconds in a real second; 0 is as fast as those who listen can take it."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the addresses as one JSON object."),
) -> None:
    """Run Upstox and Dhan on this machine until interrupted; the market starts at the first subscription.

    Example: hybridbroker emulate --candles RELIANCE.json.gz --speed 600
    """
    market = _market(candles or [], ticks or [], instruments, instrument, seed=seed, speed=speed or None)
    asyncio.run(_serve(market, as_json=as_json))


def _market(
    candles: list[Path], ticks: list[Path], database: Path | None, name: str | None, *, seed: int, speed: float | None
) -> EmulatedMarket:
    from hybridbroker.cli.demo_day import guess_instrument
    from hybridbroker.instruments.registry import InstrumentRegistry
    from hybridbroker.testing.emulators import EmulatedMarket, Recording, listed_from

    if candles and ticks:
        raise ConfigurationError("--candles and --ticks exclude each other; give one of them")
    if name and len(candles) != 1:
        raise ConfigurationError("--instrument names what one --candles file holds; give exactly one file")
    if not candles and not ticks:
        return EmulatedMarket.random_walk(seed=seed, speed=speed)
    registry = InstrumentRegistry.open(database) if database else InstrumentRegistry.builtin()
    if candles:
        held = [registry[name] if name else guess_instrument(path, registry) for path in candles]
        return EmulatedMarket.from_candles(dict(zip(listed_from(registry, held), candles, strict=True)), speed=speed)
    recording = Recording.open(*ticks)
    listed = listed_from(registry, (registry.by_key("upstox", key) for key in recording.keys))
    return EmulatedMarket.from_recording(recording, listed, speed=speed)


async def _serve(market: EmulatedMarket, *, as_json: bool) -> None:
    from hybridbroker.testing.emulators import DhanEmulator, UpstoxEmulator

    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends asyncio.run() instead
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, interrupted.set)
    async with UpstoxEmulator(market) as upstox, DhanEmulator(market) as dhan:
        addresses = _addresses(upstox, dhan)
        sys.stdout.write(json.dumps(addresses) + "\n" if as_json else _exports(addresses))
        sys.stdout.flush()
        await _until(interrupted, market)


async def _until(interrupted: asyncio.Event, market: EmulatedMarket) -> None:
    stop = asyncio.ensure_future(interrupted.wait())
    over = asyncio.ensure_future(market.finished())
    await asyncio.wait([stop, over], return_when=asyncio.FIRST_COMPLETED)
    if over.done():
        over.result()
        await stop
    over.cancel()


def _addresses(upstox: UpstoxEmulator, dhan: DhanEmulator) -> dict[str, dict[str, Any]]:
    listed = upstox.market.listed
    return {
        "upstox": {
            "rest": upstox.rest_url,
            "feed": upstox.feed_url,
            "portfolio": upstox.portfolio_url,
            "access_token": upstox.access_token,
            "instruments": {each.instrument.id: each.upstox_key for each in listed},
        },
        "dhan": {
            "rest": dhan.rest_url,
            "order_updates": dhan.order_updates_url,
            "feed": dhan.feed_url,
            "auth": dhan.auth_url,
            "client_id": dhan.client_id,
            "access_token": dhan.access_token,
            "instruments": {each.instrument.id: f"{each.dhan_segment}:{each.dhan_id}" for each in listed},
        },
    }


def _exports(addresses: dict[str, dict[str, Any]]) -> str:
    lines = [f"export {name}={addresses[broker][key]}" for name, (broker, key) in _VARIABLES.items()]
    traded = ", ".join(addresses["upstox"]["instruments"])
    return "\n".join(
        [
            "# Both brokers run on this machine. Set these in another terminal, then start a bot there.",
            *lines,
            f"# Instruments: {traded}",
            "# Ctrl-C ends it.\n",
        ]
    )
