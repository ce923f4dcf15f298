"""A backtest as one self-contained page: figures, charts, charges, months, every round trip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from hybridbroker.clock import from_epoch_ms
from hybridbroker.domain.orders import Side, Trade
from hybridbroker.simulation.report import TRIP_COLUMNS, check_plotting, failure_text, figures, trip_cells

if TYPE_CHECKING:
    from hybridbroker.simulation.equity import EquityCurve
    from hybridbroker.simulation.result import BacktestResult

__all__ = ["page"]

_POINTS: Final = 4_000
"""Points a line is drawn with at most: the extremes of each stretch are kept."""
_CHARTED: Final = 12
"""Instruments whose prices are drawn at most."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STYLE: Final = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#1f2328;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;margin:.5rem 0}
td,th{padding:.25rem .6rem;border-bottom:1px solid #d8dee4;text-align:right}
td:first-child,th:first-child{text-align:left}
.failed{background:#ffebe9;padding:.6rem;border-left:4px solid #cf222e}.lost{color:#cf222e}.won{color:#1a7f37}
.scroll{max-height:32rem;overflow:auto}
"""


def page(result: BacktestResult) -> str:
    """Return the page; everything it needs is in it.

    Raises:
        ConfigurationError: plotly (extra ``plot``) is not installed.
    """
    check_plotting()
    curve = result.equity()
    title = f"{result.strategy}: net {result.pnl.net:,.2f} rupees"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _failure(result),
        _table(("", ""), figures(result).items()),
        "<h2>Equity and drawdown</h2>",
        _equity_chart(curve),
        "<h2>Prices, entries and exits</h2>",
        *(_price_chart(result, number) for number in range(min(_CHARTED, len(result.samples.instruments)))),
        "<h2>Returns by month</h2>",
        _months(curve, float(result.cash)),
        "<h2>Charges, as on the contract notes</h2>",
        _table(
            ("charge", "rupees", "counted on"),
            [
                *((line.name, f"{line.amount:,.2f}", line.basis) for line in result.charges.lines),
                ("total", f"{result.charges.total:,.2f}", ""),
            ],
        ),
        "<h2>Round trips</h2><div class=scroll>",
        _table(TRIP_COLUMNS, (trip_cells(each) for each in result.round_trips())),
        "</div><h2>What was assumed</h2><ul>",
        *(f"<li>{escape(each)}</li>" for each in result.assumptions()),
        "</ul>",
    ]
    head = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
    return f"{head}<style>{_STYLE}</style>{_plotly()}</head><body>{''.join(parts)}</body></html>"


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _failure(result: BacktestResult) -> str:
    if result.failure is None:
        return ""
    return f"<p class=failed>The run ended early: {escape(failure_text(result))}</p>"


def _equity_chart(curve: EquityCurve) -> str:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.05)
    times, values = thinned(curve.at_ms, curve.equity)
    line = {"color": "#1f6feb", "width": 1.5}
    figure.add_trace(go.Scatter(name="equity", x=_instants(times), y=values, mode="lines", line=line), row=1, col=1)
    times, values = thinned(curve.at_ms, [each * 100 for each in curve.drawdown])
    below = {"color": "#cf222e", "width": 1}
    figure.add_trace(
        go.Scatter(name="drawdown, %", x=_instants(times), y=values, fill="tozeroy", mode="lines", line=below),
        row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(title_text="rupees", row=1, col=1)
    figure.update_yaxes(title_text="% below the high", row=2, col=1)
    return _drawn(figure, height=520)


def _price_chart(result: BacktestResult, number: int) -> str:
    import plotly.graph_objects as go

    samples = result.samples
    instrument = samples.instruments[number]
    own = [
        (at, price)
        for at, index, price in zip(samples.at_ms, samples.index, samples.price, strict=True)
        if index == number
    ]
    times, values = thinned([at for at, _ in own], [price for _, price in own])
    figure = go.Figure()
    line = {"color": "#57606a", "width": 1}
    figure.add_trace(go.Scatter(name=instrument.id, x=_instants(times), y=values, mode="lines", line=line))
    for side, symbol, colour in ((Side.BUY, "triangle-up", "#1a7f37"), (Side.SELL, "triangle-down", "#cf222e")):
        chosen = [each for each in result.trades if each.side is side and each.instrument == instrument]
        figure.add_trace(_markers(chosen, side, symbol, colour))
    figure.update_layout(title=instrument.id)
    figure.update_yaxes(title_text="rupees")
    return _drawn(figure, height=380)


def _markers(trades: Sequence[Trade], side: Side, symbol: str, colour: str) -> Any:
    import plotly.graph_objects as go

    return go.Scatter(
        name="purchases" if side is Side.BUY else "sales",
        mode="markers",
        x=[each.traded_at.replace(tzinfo=None) for each in trades],
        y=[float(each.price) for each in trades],
        text=[f"{side} {each.quantity} at {each.price}" for each in trades],
        hoverinfo="text+x",
        marker={"symbol": symbol, "size": 9, "color": colour},
    )


def _drawn(figure: Any, *, height: int) -> str:
    figure.update_layout(height=height, template="plotly_white", hovermode="x unified", margin={"t": 40, "b": 30})
    text: str = figure.to_html(include_plotlyjs=False, full_html=False)
    return text


def thinned(at_ms: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return so many points as a screen can show, the lowest and the highest of each stretch among them."""
    if len(at_ms) <= _POINTS:
        return list(at_ms), list(values)
    step = -(-len(at_ms) // (_POINTS // 2))
    times: list[int] = []
    kept: list[float] = []
    for begin in range(0, len(at_ms), step):
        stretch = values[begin : begin + step]
        low, high = min(stretch), max(stretch)
        for index in sorted({list(stretch).index(low), list(stretch).index(high)}):
            times.append(at_ms[begin + index])
            kept.append(stretch[index])
    return times, kept


def _instants(at_ms: Iterable[int]) -> list[Any]:
    """Return wall-clock times of India: charts shift aware ones to UTC."""
    return [from_epoch_ms(each).replace(tzinfo=None) for each in at_ms]


def _months(curve: EquityCurve, start: float) -> str:
    returns = curve.by_month(start)
    rows = []
    for year in sorted({year for year, _ in returns}):
        cells = [f"{returns[year, month] * 100:+.2f}" if (year, month) in returns else "" for month in range(1, 13)]
        whole = 1.0
        for month in range(1, 13):
            whole *= 1 + returns.get((year, month), 0.0)
        rows.append((str(year), *cells, f"{(whole - 1) * 100:+.2f}"))
    return _table(("%", *_MONTHS, "year"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
