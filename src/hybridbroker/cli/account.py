"""``hybridbroker positions``, ``holdings`` and ``funds``: what an account holds, at any broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from hybridbroker.domain.portfolio import Funds, Holding, Position

__all__ = ["funds", "holdings", "positions"]

_BROKER = typer.Option("dhan", help="Whose account.")
_INSTRUMENTS = typer.Option(None, help="A registry from 'instruments build', or the word 'builtin'; default: today's.")
_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")


def positions(*, broker: str = _BROKER, instruments: Path | None = _INSTRUMENTS, as_json: bool = _JSON) -> None:
    """List what was traded today, and derivatives that are carried; closed ones too.

    Example: hybridbroker positions --broker dhan
    """
    found = asyncio.run(_positions(broker, instruments))
    if as_json:
        _print_json(list(found))
        return
    rows = [
        (
            each.instrument.id,
            each.product.value,
            f"{each.quantity:+d}",
            _money(each.average_price) if each.quantity else "",
            f"{each.bought_quantity} for {_money(each.bought_value)}",
            f"{each.sold_quantity} for {_money(each.sold_value)}",
            _money(each.realised_pnl),
            _money(each.unrealised_pnl),
        )
        for each in found
    ]
    columns = ("instrument", "product", "net", "average", "bought", "sold", "realised", "unrealised")
    _print_table(columns, rows, empty="no positions today")


def holdings(*, broker: str = _BROKER, instruments: Path | None = _INSTRUMENTS, as_json: bool = _JSON) -> None:
    """List the shares in the demat account, and those on their way to it.

    Example: hybridbroker holdings --broker dhan --json
    """
    found = asyncio.run(_holdings(broker, instruments))
    if as_json:
        _print_json(list(found))
        return
    rows = [
        (
            each.instrument.id,
            f"{each.quantity}",
            f"{each.available_quantity}",
            f"{each.unsettled_quantity}",
            _money(each.average_price),
            _money(each.last_price),
            _money(None if each.last_price is None else each.last_price * each.quantity),
        )
        for each in found
    ]
    columns = ("instrument", "units", "can be sold", "unsettled", "average", "last", "value")
    _print_table(columns, rows, empty="no holdings")


def funds(*, broker: str = _BROKER, instruments: Path | None = _INSTRUMENTS, as_json: bool = _JSON) -> None:
    """Show what can be spent.

    Example: hybridbroker funds --broker upstox
    """
    found = asyncio.run(_funds(broker, instruments))
    if as_json:
        _print_json(found)
        return
    rows = [
        ("available", _money(found.available)),
        ("used", _money(found.used)),
        ("opening", _money(found.opening)),
        ("collateral, within available", _money(found.collateral)),
        ("withdrawable", _money(found.withdrawable)),
    ]
    _print_table(("funds", "rupees"), rows, empty="")


async def _positions(name: str, instruments: Path | None) -> Sequence[Position]:
    from hybridbroker.cli.opened import opened_broker

    async with opened_broker(name, instruments) as broker:
        return await broker.positions()


async def _holdings(name: str, instruments: Path | None) -> Sequence[Holding]:
    from hybridbroker.cli.opened import opened_broker

    async with opened_broker(name, instruments) as broker:
        return await broker.holdings()


async def _funds(name: str, instruments: Path | None) -> Funds:
    from hybridbroker.cli.opened import opened_broker

    async with opened_broker(name, instruments) as broker:
        return await broker.funds()


def _money(value: Any) -> str:
    return "" if value is None else f"{value:,.2f}"


def _print_json(found: object) -> None:
    import attrs

    from hybridbroker.domain.instrument import Instrument

    def plain(value: Any) -> Any:
        if attrs.has(type(value)) and not isinstance(value, Instrument):
            return attrs.asdict(value, recurse=False)
        return str(value)

    print(json.dumps(found, default=plain))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table if rows else empty)
