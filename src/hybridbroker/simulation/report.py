"""What a run looked like: profit over time from bars and trades, and a page with the chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Candle
from hybridbroker.domain.orders import Order, OrderStatus, Side, Trade
from hybridbroker.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Group

    from hybridbroker.simulation.equity import RoundTrip
    from hybridbroker.simulation.result import BacktestResult

__all__ = [
    "TRIP_COLUMNS",
    "as_json",
    "check_plotting",
    "failure_text",
    "figures",
    "gross_over_time",
    "report",
    "trip_cells",
    "write_chart",
]

TRIP_COLUMNS: Final = ("instrument", "units", "entry", "at", "exit", "at", "gross", "charges", "net")
"""Heads of the columns of a round trip."""
_SHOWN: Final = 20
_NAMED: Final = 4

_LINES: Final = ("#1f6feb", "#fb8500", "#8250df", "#57606a")


def check_plotting() -> None:
    """Raise `ConfigurationError` with the fix where charts cannot be drawn."""
    try:
        import plotly  # noqa: F401 - only whether it is there
    except ImportError as exc:
        raise ConfigurationError("plotly is missing: pip install 'hybridbroker[plot]'") from exc


def gross_over_time(candles: Sequence[Candle], trades: Sequence[Trade]) -> list[Decimal]:
    """Return rupees won or lost, before charges, at the end of each bar of one instrument.

    Open positions count at the bar's close; ``trades`` are of the same instrument.
    """
    pending = sorted(trades, key=lambda trade: trade.traded_at)
    cash, held, done = Decimal(0), 0, 0
    curve: list[Decimal] = []
    for index, candle in enumerate(candles):
        ends = candles[index + 1].start if index + 1 < len(candles) else None
        while done < len(pending) and (ends is None or pending[done].traded_at < ends):
            trade = pending[done]
            cash -= trade.side.sign * trade.value
            held += trade.side.sign * trade.quantity
            done += 1
        curve.append(cash + held * candle.instrument.price(candle.close))
    return curve


def write_chart(
    path: Path,
    *,
    title: str,
    candles: Sequence[Candle],
    lines: Mapping[str, Sequence[float]],
    trades: Sequence[Trade],
) -> None:
    """Write one self-contained page: bars with ``lines`` over them, entries, exits, and profit below.

    Raises:
        ConfigurationError: plotly (extra ``plot``) is not installed, or ``path`` cannot be written.
    """
    check_plotting()
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    times = [candle.start for candle in candles]
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.04,
        subplot_titles=(title, "equity: profit and loss before charges, rupees"),
    )  # fmt: skip
    figure.add_trace(
        go.Candlestick(
            name="price", x=times, open=[c.open for c in candles], high=[c.high for c in candles],
            low=[c.low for c in candles], close=[c.close for c in candles],
        ),
        row=1, col=1,
    )  # fmt: skip
    for (name, values), colour in zip(lines.items(), _LINES, strict=False):
        style = {"color": colour, "width": 1.5}
        figure.add_trace(go.Scatter(name=name, x=times, y=list(values), mode="lines", line=style), row=1, col=1)
    for side, symbol, colour in ((Side.BUY, "triangle-up", "#1a7f37"), (Side.SELL, "triangle-down", "#cf222e")):
        chosen = [trade for trade in trades if trade.side is side]
        figure.add_trace(
            go.Scatter(
                name="entries" if side is Side.BUY else "exits", mode="markers",
                x=[trade.traded_at for trade in chosen], y=[float(trade.price) for trade in chosen],
                text=[f"{side} {trade.quantity} at {trade.price}" for trade in chosen], hoverinfo="text+x",
                marker={"symbol": symbol, "size": 14, "color": colour, "line": {"width": 1, "color": "white"}},
            ),
            row=1, col=1,
        )  # fmt: skip
    curve = [float(value) for value in gross_over_time(candles, trades)]
    equity = go.Scatter(name="equity", x=times, y=curve, fill="tozeroy", line={"color": _LINES[0]})
    figure.add_trace(equity, row=2, col=1)
    figure.update_layout(height=860, xaxis_rangeslider_visible=False, hovermode="x unified", template="plotly_white")
    figure.update_yaxes(title_text="rupees", row=1, col=1)
    figure.update_xaxes(title_text="Indian Standard Time", row=2, col=1)
    try:
        path.write_text(figure.to_html(include_plotlyjs=True, full_html=True), encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"cannot write {path}: {exc.strerror}") from exc


def report(result: BacktestResult) -> Group:
    """Return a backtest's tables: figures, charges as on a contract note, round trips, assumptions."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    summary = Table(title=f"{result.strategy} on {_named(result.instruments)}", show_header=False)
    for name, value in figures(result).items():
        summary.add_row(name, value)
    charges = Table("charge", "rupees", "counted on", title="Charges, as on the contract notes")
    for line in result.charges.lines:
        charges.add_row(line.name, f"{line.amount:,.2f}", line.basis)
    charges.add_row("total", f"{result.charges.total:,.2f}", "", style="bold")
    trips = result.round_trips()
    table = Table(*TRIP_COLUMNS, title=f"Round trips: the last {min(_SHOWN, len(trips))} of {len(trips)}")
    for trip in trips[-_SHOWN:]:
        table.add_row(*trip_cells(trip))
    assumed = Text("\n".join(f"- {each}" for each in result.assumptions()))
    parts: list[Table | Text] = [summary, charges, table, Text("What was assumed:", style="bold"), assumed]
    if result.failure is not None:
        parts.append(Text(f"The run ended early: {failure_text(result)}", style="bold red"))
    parts.extend(Text(f"Not closed: {problem}", style="red") for problem in result.problems)
    return Group(*parts)


def figures(result: BacktestResult) -> dict[str, str]:
    """Return the figures by name, as they are shown."""
    told, pnl = result.statistics(), result.pnl
    span = "" if result.first is None else f"{result.first:%Y-%m-%d} to {result.last:%Y-%m-%d}"
    what = "tape events" if result.interval is None else f"bars of {result.interval}"
    return {
        "period": f"{span}, {len(result.days):,} trading days, {result.events:,} {what}",
        "cash at the start": f"{result.cash:,.2f} rupees",
        "equity at the end": f"{result.final_equity:,.2f} rupees ({_percent(told.total_return)})",
        "gross, charges, net": f"{pnl.gross:,.2f}, {pnl.charges:,.2f}, {pnl.net:,.2f} rupees",
        "of it unrealised": f"{pnl.unrealised:,.2f} rupees",
        "return a year": _percent(told.annual_return),
        "volatility a year": _percent(told.volatility),
        "Sharpe, Sortino": f"{_ratio(told.sharpe)}, {_ratio(told.sortino)}",
        "worst drawdown": f"{_percent(told.max_drawdown)}, longest {told.longest_drawdown_days} days",
        "exposure": _percent(told.exposure),
        "orders, trades": f"{len(result.orders):,} ({_refused(result)} refused), {len(result.trades):,}",
        "round trips": f"{told.trades:,} closed, {_percent(told.win_rate)} won, profit factor "
        f"{_ratio(told.profit_factor)}",
        "average win, loss": f"{_rupees(told.average_win)}, {_rupees(told.average_loss)}",
        "open at the end": f"{len(result.positions)} positions, {len(result.holdings)} holdings",
        "alerts": str(len(result.alerts)),
        "took": f"{result.seconds:.2f} s, {result.events / max(result.seconds, 1e-9):,.0f} a second",
    }


def trip_cells(trip: RoundTrip) -> tuple[str, ...]:
    """Return a round trip as cells of a row."""
    return (
        trip.instrument.id,
        f"{'long' if trip.side is Side.BUY else 'short'} {trip.quantity}",
        f"{trip.entry_at:%Y-%m-%d %H:%M}",
        f"{trip.entry_price:.2f}",
        "open" if trip.exit_at is None else f"{trip.exit_at:%Y-%m-%d %H:%M}",
        "" if trip.exit_price is None else f"{trip.exit_price:.2f}",
        f"{trip.gross:,.2f}",
        f"{trip.charges:,.2f}",
        f"{trip.net:,.2f}",
    )


def failure_text(result: BacktestResult) -> str:
    """Say what ended a run early."""
    return f"{type(result.failure).__name__}: {result.failure}"


def as_json(result: BacktestResult) -> dict[str, Any]:
    """Return a result as JSON can hold it: everything but the curve, and nothing that depends on real time."""
    told = result.statistics()
    return {
        "strategy": result.strategy,
        "instruments": [each.id for each in result.instruments],
        "interval": result.interval,
        "from": None if result.first is None else result.first.isoformat(),
        "to": result.last.isoformat(),
        "days": len(result.days),
        "events": result.events,
        "ok": result.ok,
        "failure": None if result.failure is None else failure_text(result),
        "problems": list(result.problems),
        "cash": str(result.cash),
        "equity": f"{result.final_equity:.2f}",
        "pnl": {
            "gross": f"{result.pnl.gross:.2f}",
            "unrealised": f"{result.pnl.unrealised:.2f}",
            "charges": f"{result.pnl.charges:.2f}",
            "net": f"{result.pnl.net:.2f}",
        },
        "charges": [{"name": line.name, "amount": f"{line.amount:.2f}"} for line in result.charges.lines],
        "statistics": {
            name: f"{value:.2f}" if isinstance(value, Decimal) else value for name, value in attrs.asdict(told).items()
        },
        "orders": [_order_json(each) for each in result.orders],
        "trades": [_trade_json(each) for each in result.trades],
        "alerts": list(result.alerts),
        "assumptions": result.assumptions(),
    }


def _order_json(order: Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "instrument": order.instrument.id,
        "side": order.side,
        "type": order.type,
        "product": order.product,
        "quantity": order.quantity,
        "filled_quantity": order.filled_quantity,
        "price": None if order.price is None else str(order.price),
        "trigger_price": None if order.trigger_price is None else str(order.trigger_price),
        "average_price": None if order.average_price is None else str(order.average_price),
        "status": order.status,
        "reason": order.reason,
        "placed_at": None if order.placed_at is None else order.placed_at.isoformat(),
        "updated_at": None if order.updated_at is None else order.updated_at.isoformat(),
    }


def _trade_json(trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.id,
        "order_id": trade.order_id,
        "instrument": trade.instrument.id,
        "side": trade.side,
        "product": trade.product,
        "quantity": trade.quantity,
        "price": str(trade.price),
        "traded_at": trade.traded_at.isoformat(),
    }


def _refused(result: BacktestResult) -> int:
    return sum(each.status is OrderStatus.REJECTED for each in result.orders)


def _named(instruments: Sequence[Instrument]) -> str:
    if len(instruments) > _NAMED:
        return f"{len(instruments)} instruments"
    return ", ".join(each.id for each in instruments)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.2f} %"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _rupees(value: Decimal | None) -> str:
    return "-" if value is None else f"{value:,.2f}"
