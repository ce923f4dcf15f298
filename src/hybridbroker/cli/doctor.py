"""``hybridbroker doctor``: would trading work now, and if not, what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hybridbroker.plugins import CHECKED_BY_BROKERS, Check, CheckStatus

if TYPE_CHECKING:
    from hybridbroker.plugins import BrokerPlugin

__all__ = ["doctor"]

_HERE = "this machine"


def doctor(
    brokers: list[str] | None = typer.Argument(
        None, help="Brokers that must work, such as upstox dhan; default: those that are configured."
    ),
    *,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
    instruments: Path | None = typer.Option(None, help="A registry to look at; default: the cached one."),
    journal: Path | None = typer.Option(None, help="An order journal to look at; default: each account's own."),
) -> None:
    """Look at everything trading depends on. Exit code 1 when trading would fail.

    Example: hybridbroker doctor upstox dhan
    """
    findings = asyncio.run(_examine(tuple(brokers or ()), instruments, journal))
    healthy = all(check.status is not CheckStatus.FAILED for _, check in findings)
    if as_json:
        rows = [
            {"about": about, "subject": c.subject, "status": c.status.value, "message": c.message, "fix": c.fix}
            for about, c in findings
        ]
        print(json.dumps({"ok": healthy, "checks": rows}))
    else:
        _print(findings)
    if not healthy:
        raise typer.Exit(1)


async def _examine(wanted: Sequence[str], instruments: Path | None, journal: Path | None) -> list[tuple[str, Check]]:
    from hybridbroker.cli.doctor_checks import check_disk, check_dotenv, check_registry, check_session
    from hybridbroker.clock import SystemClock
    from hybridbroker.domain.calendar import TradingCalendar
    from hybridbroker.execution.account import AccountFiles
    from hybridbroker.plugins import find_broker, installed_brokers
    from hybridbroker.protocols import Capability

    now = SystemClock().now()
    local = [
        *check_session(TradingCalendar(), now=now),
        check_registry(instruments, now=now),
        check_disk(AccountFiles.of("any").rate.parent),
        *check_dotenv(Path(".env")),
    ]
    findings = [(_HERE, check) for check in local]
    configured = 0
    for name in wanted or installed_brokers():
        plugin = find_broker(name)
        checks, is_configured = await _examine_broker(plugin, must=name in wanted, journal=journal)
        if not (is_configured or wanted or Capability.LIVE_MONEY in plugin.capabilities):
            continue  # nobody needs a sandbox
        configured += is_configured
        findings.extend((name, check) for check in checks)
    if not configured:
        message = "no broker is configured, so only broker='paper' can take orders"
        none = Check(subject="brokers", status=CheckStatus.FAILED, message=message, fix="see 'settings' above")
        findings.append((_HERE, none))
    return findings


async def _examine_broker(plugin: BrokerPlugin, *, must: bool, journal: Path | None) -> tuple[list[Check], bool]:
    from hybridbroker.cli.doctor_checks import check_clock, check_journal, check_kill_switch
    from hybridbroker.clock import SystemClock
    from hybridbroker.errors import ConfigurationError
    from hybridbroker.execution.account import AccountFiles, account_name

    try:
        settings = plugin.settings()
    except ConfigurationError as exc:
        status = CheckStatus.FAILED if must else CheckStatus.WARNING
        return [Check(subject="settings", status=status, message=str(exc))], False
    checks = [Check(subject="settings", status=CheckStatus.OK, message="complete")]
    base_url = getattr(settings, "base_url", None)
    if base_url is not None:
        checks.append(await check_clock(str(base_url), clock=SystemClock()))
    checks.extend(await _ask(plugin, settings))
    if plugin.open_broker is not None:
        files = AccountFiles.of(account_name(plugin.name, settings), journal=journal)
        checks += [check_journal(files), check_kill_switch(files)]
    return checks, True


async def _ask(plugin: BrokerPlugin, settings: Any) -> list[Check]:
    """Ask the slice, and say what it does not answer."""
    from hybridbroker.errors import HybridBrokerError
    from hybridbroker.instruments.registry import InstrumentRegistry
    from hybridbroker.plugins import OpenContext

    answered: list[Check] = []
    if plugin.checks is not None:
        try:
            context = OpenContext(instruments=InstrumentRegistry.builtin(), settings=settings)
            answered = list(await plugin.checks(context))
        except HybridBrokerError as exc:
            answered = [Check(subject="account", status=CheckStatus.FAILED, message=str(exc))]
    told = {check.subject for check in answered}
    unanswered = [
        Check(subject=subject, status=CheckStatus.UNKNOWN, message=f"{plugin.title} does not tell")
        for subject in CHECKED_BY_BROKERS
        if subject not in told
    ]
    return [*answered, *unanswered]


def _print(findings: Sequence[tuple[str, Check]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {
        CheckStatus.OK: "green",
        CheckStatus.WARNING: "yellow",
        CheckStatus.FAILED: "red",
        CheckStatus.UNKNOWN: "dim",
    }
    table = Table("about", "subject", "", "finding")
    for about, check in findings:
        colour = colours[check.status]
        text = escape(check.message) + (f"\n-> {escape(check.fix)}" if check.fix else "")
        table.add_row(about, check.subject, f"[{colour}]{check.status.value}[/]", text)
    Console().print(table)
