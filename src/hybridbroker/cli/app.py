"""The ``hybridbroker`` command and what it consists of."""

from __future__ import annotations

import typer

from hybridbroker.cli import brokers, demo, doctor, emulate, gauntlet, instruments, order, orders, watch

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
app.command()(order.order)
app.command()(orders.orders)
app.command()(doctor.doctor)
app.command()(brokers.brokers)
app.command()(emulate.emulate)
app.command()(gauntlet.gauntlet)
app.add_typer(instruments.app, name="instruments")
