"""``hybridbroker brokers``: which brokers are installed and what each can do."""

from __future__ import annotations

import json

import typer

__all__ = ["brokers"]


def brokers(*, as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table.")) -> None:
    """List the installed brokers and their abilities.

    Example: hybridbroker brokers --json
    """
    from rich.console import Console
    from rich.table import Table

    from hybridbroker.plugins import find_broker, installed_brokers

    found = [find_broker(name) for name in installed_brokers()]
    if as_json:
        print(json.dumps({each.name: _abilities(each.capabilities) for each in found}))
        return
    table = Table("name", "broker", "data", "orders", "abilities")
    for each in found:
        table.add_row(
            each.name,
            each.title,
            "yes" if each.open_data else "no",
            "yes" if each.open_broker else "no",
            ", ".join(_abilities(each.capabilities)),
        )
    Console().print(table)


def _abilities(capabilities: object) -> list[str]:
    return [str(flag.name).lower().replace("_", "-") for flag in capabilities]  # type: ignore[attr-defined]
