"""``hybridbroker conformance NAME``: does an installed broker keep every promise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridbroker.instruments.registry import InstrumentRegistry
    from hybridbroker.plugins import BrokerPlugin
    from hybridbroker.testing.conformance import Result

__all__ = ["conformance"]


def conformance(
    name: str = typer.Argument(help="An installed broker; 'hybridbroker brokers' lists them."),
    *,
    instrument: str = typer.Option("NSE:RELIANCE", help="The share to look at, and to order."),
    second: str = typer.Option("NSE:TCS", help="Another share, for streams."),
    price: str | None = typer.Option(None, help="The share's last price; default: a quote of this broker."),
    live: bool = typer.Option(
        False, "--live", help="Place orders although it is real money: one lot or two, cancelled or sold again."
    ),
    instruments: Path | None = typer.Option(None, help="A registry, or the word 'builtin'; default: today's."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
) -> None:
    """Run the promises of `hybridbroker.testing.conformance` on a broker. Exit code 1 when one is broken.

    At a broker of real money only the checks that place nothing are run, unless --live is given.

    Example: hybridbroker conformance dhan-sandbox --price 1402.5
    """
    results = asyncio.run(
        _run(name, (instrument, second), price=price, live=live, instruments=instruments, as_json=as_json)
    )
    broken = [each for each in results if each.outcome == "broken"]
    if as_json:
        rows = [{"id": r.id, "outcome": r.outcome.value, "promise": r.promise, "detail": r.detail} for r in results]
        print(json.dumps({"broker": name, "ok": not broken, "checks": rows}))
    if broken:
        raise typer.Exit(1)


async def _run(
    name: str, shares: tuple[str, str], *, price: str | None, live: bool, instruments: Path | None, as_json: bool
) -> Sequence[Result]:
    from hybridbroker.plugins import find_broker
    from hybridbroker.session import open_registry

    plugin = find_broker(name)
    if plugin.open_data is None and plugin.open_broker is None:
        raise ConfigurationError(f"{plugin.title} has neither prices nor orders to look at")
    registry = await open_registry(instruments)
    say = _silent if as_json else _printer()
    try:
        return await _examine(plugin, registry, shares, price=price, live=live, say=say)
    finally:
        registry.close()


async def _examine(
    plugin: BrokerPlugin,
    registry: InstrumentRegistry,
    shares: tuple[str, str],
    *,
    price: str | None,
    live: bool,
    say: Callable[[Result], None],
) -> Sequence[Result]:
    from hybridbroker.plugins import OpenContext
    from hybridbroker.protocols import Capability
    from hybridbroker.testing.conformance import (
        BROKER_CHECKS,
        MARKET_DATA_CHECKS,
        BrokerSubject,
        DataSubject,
        run_checks,
    )

    context = OpenContext(instruments=registry, settings=plugin.settings())
    wanted = [registry[each] for each in shares]
    results: list[Result] = []
    async with AsyncExitStack() as stack:
        last = None if price is None else _rupees(price)
        if plugin.open_data is not None:
            data = await stack.enter_async_context(plugin.open_data(context))
            results += (
                await run_checks(MARKET_DATA_CHECKS, DataSubject(data=data, instruments=wanted), after=say)
            ).results
            if last is None and plugin.open_broker is not None:
                quotes = await data.quotes(wanted[:1])
                last = wanted[0].price(quotes[wanted[0]].last_price) if wanted[0] in quotes else None
        if plugin.open_broker is not None:
            if last is None:
                raise ConfigurationError(
                    f"{plugin.title} has no quote of {wanted[0]}; give its last price with --price"
                )
            broker = await stack.enter_async_context(plugin.open_broker(context))
            careful = Capability.LIVE_MONEY in broker.capabilities and not live
            checks = [each for each in BROKER_CHECKS if not (careful and each.places)]
            subject = BrokerSubject(broker=broker, instrument=wanted[0], price=last)
            results += (await run_checks(checks, subject, after=say)).results
    return results


def _rupees(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ConfigurationError(f"--price {text!r} is no amount of rupees") from None


def _silent(_: Result) -> None:
    pass


def _printer() -> Callable[[Result], None]:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    colours: dict[Any, str] = {"kept": "green", "broken": "red", "skipped": "yellow"}

    def say(result: Result) -> None:
        detail = f" [dim]{escape(result.detail)}[/dim]" if result.detail else ""
        outcome = f"[{colours[result.outcome.value]}]{result.outcome.value:8}[/]"
        console.print(f"{result.id} {outcome} {escape(result.promise)}{detail}")

    return say
