"""The ``hybridbroker`` command and what it consists of."""

from __future__ import annotations

import typer

from hybridbroker.cli import (
    account,
    backtest,
    brokers,
    candles,
    conformance,
    demo,
    doctor,
    emulate,
    gauntlet,
    instruments,
    login,
    order,
    orders,
    record,
    run,
    watch,
)

__all__ = ["app"]

app = typer.Typer(
    name="hybridbroker",
    help="Prices from one broker, orders to another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(watch.watch)
app.command()(candles.candles)
app.command()(record.record)
app.command()(backtest.backtest)
app.command()(run.paper)
app.command()(run.run)
app.command()(order.order)
app.command()(orders.orders)
app.command()(account.positions)
app.command()(account.holdings)
app.command()(account.funds)
app.command()(login.login)
app.command()(doctor.doctor)
app.command()(brokers.brokers)
app.command()(conformance.conformance)
app.command()(emulate.emulate)
app.command()(gauntlet.gauntlet)
app.add_typer(instruments.app, name="instruments")
