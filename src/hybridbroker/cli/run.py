"""``hybridbroker run`` and ``hybridbroker paper``: a bot on live prices, with real money or with simulated money."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing, suppress
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import typer

from hybridbroker.errors import ConfigurationError, HybridBrokerError

if TYPE_CHECKING:
    from hybridbroker.alerts import Notifier
    from hybridbroker.execution import RiskLimits
    from hybridbroker.session import Session
    from hybridbroker.simulation.charges import ChargeSchedule

__all__ = ["paper", "run"]

logger = logging.getLogger(__name__)

NOTIFY: Final = "HYBRIDBROKER_NOTIFY"
"""Variable that holds where alerts go, as Apprise writes it, separated by spaces: the addresses hold secrets."""


class Remains(StrEnum):
    """What becomes of positions when a bot fails."""

    KEEP = "keep"
    FLATTEN = "flatten"


_STRATEGY: Any = typer.Argument(help="The bot, as FILE.py:Class.")
_DATA: Any = typer.Option("upstox", help="Where prices come from.")
_INSTRUMENT: Any = typer.Option([], help="Instrument ids for the bot; repeat it.")
_INSTRUMENTS: Any = typer.Option(None, help="A registry, or the word 'builtin'; default: today's.")
_PARAM: Any = typer.Option([], help="A parameter of the bot, name=value; repeat it.")
_FOREVER: Any = typer.Option(False, "--forever", help="Go on over the close of the market, until Ctrl-C.")
_ORDER_VALUE: Any = typer.Option(None, "--max-order-value", help="Refuse orders above so many rupees.")
_DAILY_LOSS: Any = typer.Option(None, "--max-daily-loss", help="Refuse entries after losing so many rupees today.")
_POSITIONS: Any = typer.Option(None, "--max-positions", help="Refuse entries beyond so many open positions.")
_ON_FAILURE: Any = typer.Option(Remains.KEEP, help="What becomes of positions when the bot fails.")
_JSON: Any = typer.Option(False, "--json", help="Print one JSON object at the end instead of tables.")


def run(
    strategy: str = _STRATEGY,
    *,
    broker: str = typer.Option("dhan", help="Where orders go."),
    live: bool = typer.Option(False, "--live", help="Yes, with real money."),
    data: str = _DATA,
    instrument: list[str] = _INSTRUMENT,
    instruments: Path | None = _INSTRUMENTS,
    allow_old_instruments: bool = typer.Option(
        False, help="Let entries pass on a registry that is not of this trading day."
    ),
    param: list[str] = _PARAM,
    forever: bool = _FOREVER,
    max_order_value: str | None = _ORDER_VALUE,
    max_daily_loss: str | None = _DAILY_LOSS,
    max_positions: int | None = _POSITIONS,
    on_failure: Remains = _ON_FAILURE,
    journal: Path | None = typer.Option(None, help="File of the order journal; default: the account's own."),
    state: Path | None = typer.Option(None, help="Directory of the account's files; default: the platform's."),
    as_json: bool = _JSON,
) -> None:
    """Run a bot at a broker until the market closes, or it stops itself, or Ctrl-C.

    Real money needs --live; a sandbox does not. Every order passes the limits and the journal.
    Alerts go to the addresses in HYBRIDBROKER_NOTIFY (such as tgram://token/chat), else to stderr.

    Example: hybridbroker run examples/swing_bot.py:SwingBot --instrument NSE:RELIANCE --max-daily-loss 1500 --live
    """
    from hybridbroker.plugins import find_broker
    from hybridbroker.protocols import Capability

    plugin = find_broker(broker)
    if Capability.LIVE_MONEY in plugin.capabilities and not live:
        raise ConfigurationError(
            f"{plugin.title} trades real money: add --live if you mean it, or try the bot with 'hybridbroker paper'"
        )
    options = {
        "data": data,
        "broker": broker,
        "allow_old_instruments": allow_old_instruments,
        "journal": journal,
        "state": state,
    }
    limits = _limits(max_order_value, max_daily_loss, max_positions)
    task = _Task(strategy, tuple(instrument), tuple(param), until_close=not forever, on_failure=on_failure)
    _finish(asyncio.run(_drive(task, options, instruments=instruments, limits=limits)), as_json=as_json)


def paper(
    strategy: str = _STRATEGY,
    *,
    cash: str = typer.Option("100000", help="Rupees to start with."),
    charges: str = typer.Option("dhan", help="Whose charges: a broker's name, or statutory."),
    data: str = _DATA,
    instrument: list[str] = _INSTRUMENT,
    instruments: Path | None = _INSTRUMENTS,
    param: list[str] = _PARAM,
    forever: bool = _FOREVER,
    max_order_value: str | None = _ORDER_VALUE,
    max_daily_loss: str | None = _DAILY_LOSS,
    max_positions: int | None = _POSITIONS,
    on_failure: Remains = _ON_FAILURE,
    state: Path | None = typer.Option(
        None, help="File in which the account lives on from run to run; default: it ends with the run."
    ),
    journal: Path | None = typer.Option(None, help="Keep the order journal in this file; default: in memory."),
    as_json: bool = _JSON,
) -> None:
    """Run a bot on live prices with simulated money.

    With --state FILE the account goes on where the run before left it: shares, orders, GTT orders
    and money; --cash counts for a new file only. One process at a time has it.

    Example: hybridbroker paper examples/swing_bot.py:SwingBot --instrument NSE:RELIANCE --param risk=300
    """
    from hybridbroker.domain.orders import rupees

    options = {
        "data": data,
        "broker": "paper",
        "journal": journal,
        "paper_state": state,
        "cash": rupees(cash),
        "charges": _charges(charges),
    }
    limits = _limits(max_order_value, max_daily_loss, max_positions)
    task = _Task(strategy, tuple(instrument), tuple(param), until_close=not forever, on_failure=on_failure)
    _finish(asyncio.run(_drive(task, options, instruments=instruments, limits=limits)), as_json=as_json)


@attrs.frozen
class _Task:
    strategy: str
    instruments: tuple[str, ...]
    parameters: tuple[str, ...]
    until_close: bool = attrs.field(kw_only=True)
    on_failure: Remains = attrs.field(kw_only=True)


@attrs.frozen(kw_only=True)
class _Summary:
    orders: Sequence[dict[str, Any]]
    held: Sequence[str]
    available: str | None
    """Rupees."""
    unresolved: Sequence[str]
    failure: str | None
    problems: Sequence[str]


async def _drive(
    task: _Task, options: dict[str, Any], *, instruments: Path | None, limits: RiskLimits | None
) -> _Summary:
    from hybridbroker.cli.strategies import StrategyMaker, parameters
    from hybridbroker.session import connect, open_registry
    from hybridbroker.strategy import run as drive

    failure: str | None = None
    problems: Sequence[str] = ()
    async with AsyncExitStack() as stack:
        registry = stack.enter_context(closing(await open_registry(instruments)))
        wanted = tuple(registry[each] for each in task.instruments)
        bot = StrategyMaker(name=task.strategy, instruments=wanted)(parameters(task.parameters))
        session = await stack.enter_async_context(
            connect(**options, instruments=registry, limits=limits, notifier=_notifier())
        )
        _stop_on_sigterm()
        try:
            await drive(bot, session, until_close=task.until_close)
        except asyncio.CancelledError:
            _released()
        except Exception as exc:
            # A bot may raise anything, and what it leaves must be told all the same.
            failure = f"{type(exc).__name__}: {exc}"
            logger.warning("the bot failed", exc_info=exc)
            await session.notifier.notify(f"the bot failed: {failure}")
            if task.on_failure is Remains.FLATTEN:
                report = await session.flatten()
                problems = report.problems or report.left
        return await _summary(session, failure, problems)


def _stop_on_sigterm() -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    with suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, task.cancel)


def _released() -> None:
    """Go on after a wish to stop: what was asked for is done."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


async def _summary(session: Session, failure: str | None, problems: Sequence[str]) -> _Summary:
    from hybridbroker.execution.flatten import is_exposure
    from hybridbroker.execution.records import describe_order

    available = None
    try:
        orders = [json.loads(describe_order(each)) for each in await session.broker.orders()]
        held = [
            f"{each.instrument.id} {each.quantity:+d}" for each in await session.broker.positions() if is_exposure(each)
        ]
        available = str((await session.broker.funds()).available)
    except HybridBrokerError as exc:
        orders, held, problems = [], [], [*problems, f"the account could not be read at the end: {exc}"]
    unresolved = [each.client_order_id for each in session.broker.unresolved()]
    return _Summary(
        orders=orders, held=held, available=available, unresolved=unresolved, failure=failure, problems=problems
    )


def _finish(summary: _Summary, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(attrs.asdict(summary)))
    else:
        _print(summary)
    if summary.failure or summary.problems or summary.unresolved:
        raise typer.Exit(1)


def _print(summary: _Summary) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("id", "order", "filled", "average", "status", "reason", title="Orders of the day")
    for each in summary.orders:
        table.add_row(
            each["id"],
            f"{each['side']} {each['quantity']} {each['instrument']} at {each.get('price', 'market')}",
            str(each["filled_quantity"]),
            each.get("average_price", ""),
            each["status"],
            escape(each.get("reason", "")),
        )
    console.print(table if summary.orders else "no orders today")
    console.print(f"held: {', '.join(summary.held) or 'nothing of today'}")
    if summary.available is not None:
        console.print(f"available: {Decimal(summary.available):,.2f} rupees")
    for name in summary.unresolved:
        console.print(f"[yellow]order {name} may be live; 'hybridbroker orders --journal --order {name}' tells more[/]")
    for problem in summary.problems:
        console.print(f"[yellow]{escape(problem)}[/]")
    if summary.failure:
        print(f"hybridbroker: the bot failed: {summary.failure}", file=sys.stderr)


def _limits(order_value: str | None, daily_loss: str | None, positions: int | None) -> RiskLimits | None:
    from hybridbroker.domain.orders import optional_rupees
    from hybridbroker.execution import RiskLimits

    if order_value is None and daily_loss is None and positions is None:
        return None
    return RiskLimits(
        max_order_value=optional_rupees(order_value),
        max_daily_loss=optional_rupees(daily_loss),
        max_open_positions=positions,
    )


def _charges(name: str) -> ChargeSchedule:
    from hybridbroker.plugins import find_broker
    from hybridbroker.simulation.statutory import STATUTORY_ONLY

    if name == "statutory":
        return STATUTORY_ONLY
    charges = find_broker(name).charges
    if charges is None:
        raise ConfigurationError(f"{name} states no charges; take --charges statutory")
    schedule: ChargeSchedule = charges()
    return schedule


def _notifier() -> Notifier:
    from hybridbroker.alerts import AppriseNotifier, LogNotifier

    urls = os.environ.get(NOTIFY, "").split()
    return AppriseNotifier(urls) if urls else LogNotifier()
