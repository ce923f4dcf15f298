"""What a run looked like: profit over time from bars and trades, and a page with the chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from hybridbroker.domain.market import Candle
from hybridbroker.domain.orders import Side, Trade
from hybridbroker.errors import ConfigurationError

__all__ = ["check_plotting", "gross_over_time", "write_chart"]

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
