"""``hybridbroker orders``: the broker's book, the order journal, and the whole history of one order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridbroker.domain.orders import Order
    from hybridbroker.execution.journal import Event
    from hybridbroker.execution.records import Entry

__all__ = ["orders"]


def orders(
    file: Path | None = typer.Argument(None, help="A journal file; default: the configured account's."),
    *,
    journal: bool = typer.Option(False, "--journal", help="Read the order journal on this machine, not the broker."),
    broker: str = typer.Option("dhan", help="Whose orders."),
    instruments: Path | None = typer.Option(
        None, help="A registry from 'instruments build', or the word 'builtin'; default: today's."
    ),
    order: str | None = typer.Option(None, help="A client order id: show the order's whole history in the journal."),
    days: int = typer.Option(1, min=1, help="How many days of the journal, today included."),
    unresolved: bool = typer.Option(False, "--unresolved", help="Only journalled orders that may be live, unfound."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """List today's orders as the broker has them, or with --journal as this machine wrote them down.

    Reading the journal is safe while a bot writes to it.

    Example: hybridbroker orders --journal --unresolved
    """
    if not (journal or file or order or unresolved):
        _print_book(asyncio.run(_book(broker, instruments)), as_json=as_json)
        return
    from hybridbroker.clock import IST, SystemClock
    from hybridbroker.execution.journal import OrderJournal

    path = file or _path_of(broker)
    if not path.exists():
        raise ConfigurationError(f"there is no order journal at {path}; name its file: orders --journal FILE")
    today = SystemClock().now().astimezone(IST).replace(hour=0, minute=0, second=0, microsecond=0)
    with OrderJournal(path, read_only=True) as reader:
        if order is not None:
            history = reader.history(order)
            if not history:
                raise ConfigurationError(f"the journal {path} holds no order {order!r}")
            _print_history(history, as_json=as_json)
            return
        found = reader.unfinished() if unresolved else reader.entries(since=today - timedelta(days=days - 1))
    _print_entries([each for each in found if each.is_unresolved or not unresolved], as_json=as_json)


async def _book(name: str, instruments: Path | None) -> Sequence[Order]:
    from hybridbroker.cli.opened import opened_broker

    async with opened_broker(name, instruments) as broker:
        return await broker.orders()


def _path_of(broker: str) -> Path:
    from hybridbroker.execution.account import AccountFiles, account_name
    from hybridbroker.plugins import find_broker

    return AccountFiles.of(account_name(broker, find_broker(broker).settings())).journal


def _print_book(orders_: Sequence[Order], *, as_json: bool) -> None:
    if as_json:
        from hybridbroker.execution.records import describe_order

        print(json.dumps([json.loads(describe_order(each)) for each in orders_]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("placed (IST)", "id", "client order id", "order", "filled", "status", "reason")
    for each in orders_:
        price = "market" if each.price is None else f"{each.price}"
        table.add_row(
            _time(each.placed_at) if each.placed_at else "",
            each.id,
            each.client_order_id or "",
            f"{each.side.value} {each.quantity} {each.instrument.id} at {price}",
            f"{each.filled_quantity}",
            each.status.value,
            each.reason or "",
        )
    Console().print(table if orders_ else "no orders today")


def _print_entries(entries: Sequence[Entry], *, as_json: bool) -> None:
    if as_json:
        import attrs

        print(json.dumps([attrs.asdict(each, value_serializer=_plain) for each in entries]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("made (IST)", "client order id", "state", "broker id", "order", "filled", "status", "reason")
    for each in entries:
        price = "market" if each.price is None else f"{each.price}"
        table.add_row(
            _time(each.created_at),
            each.client_order_id,
            each.state.value,
            each.order_id or "",
            f"{each.side.value} {each.quantity} {each.instrument} at {price}",
            f"{each.filled_quantity}",
            each.status.value if each.status else "",
            each.reason or "",
        )
    Console().print(table if entries else "no orders")


def _print_history(history: Sequence[Event], *, as_json: bool) -> None:
    if as_json:
        import attrs

        print(json.dumps([attrs.asdict(each, value_serializer=_plain) for each in history]))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("at (IST)", "event", "detail")
    for each in history:
        table.add_row(_time(each.at, millis=True), each.kind, escape(each.detail))
    Console().print(table)


def _time(instant: datetime, *, millis: bool = False) -> str:
    from hybridbroker.clock import IST

    local = instant.astimezone(IST)
    return f"{local:%Y-%m-%d %H:%M:%S}" + (f".{local.microsecond // 1000:03d}" if millis else "")


def _plain(_: object, __: object, value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
