"""A backtest as one self-contained page: figures, charts, charges, months, every round trip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from hybridbroker.clock import from_epoch_ms, to_epoch_ms
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
    equity = _line("equity", *thinned(curve.at_ms, curve.equity), colour="#1f6feb")
    drawdown = _line("drawdown, %", *thinned(curve.at_ms, [each * 100 for each in curve.drawdown]), colour="#cf222e")
    drawdown |= {"fill": "tozeroy", "yaxis": "y2"}
    return _drawn(
        [equity, drawdown],
        height=520,
        xaxis={"anchor": "y2"},
        yaxis={"title": {"text": "rupees"}, "domain": [0.35, 1]},
        yaxis2={"title": {"text": "% below the high"}, "domain": [0, 0.3]},
    )


def _price_chart(result: BacktestResult, number: int) -> str:
    samples = result.samples
    instrument = samples.instruments[number]
    own = [
        (at, price)
        for at, index, price in zip(samples.at_ms, samples.index, samples.price, strict=True)
        if index == number
    ]
    traces = [_line(instrument.id, *thinned([at for at, _ in own], [price for _, price in own]), colour="#57606a")]
    for side, symbol, colour in ((Side.BUY, "triangle-up", "#1a7f37"), (Side.SELL, "triangle-down", "#cf222e")):
        chosen = [each for each in result.trades if each.side is side and each.instrument == instrument]
        traces.append(_markers(chosen, side, symbol, colour))
    return _drawn(traces, height=380, title={"text": instrument.id}, yaxis={"title": {"text": "rupees"}})


def _line(name: str, at_ms: Sequence[int], values: Sequence[float], *, colour: str) -> dict[str, Any]:
    line = {"color": colour, "width": 1.2}
    return {"type": "scatter", "name": name, "mode": "lines", "line": line, "x": _instants(at_ms), "y": values}


def _markers(trades: Sequence[Trade], side: Side, symbol: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": "purchases" if side is Side.BUY else "sales",
        "mode": "markers",
        "x": _instants(to_epoch_ms(each.traded_at) for each in trades),
        "y": [float(each.price) for each in trades],
        "text": [f"{side} {each.quantity} at {each.price}" for each in trades],
        "hoverinfo": "text+x",
        "marker": {"symbol": symbol, "size": 9, "color": colour},
    }


def _drawn(traces: Sequence[dict[str, Any]], *, height: int, **layout: Any) -> str:
    """Return a chart, made of plain data: plotly's own objects check and copy each point, for most of a second."""
    import plotly.io

    axes = {name: {"gridcolor": "#eaeef2", **layout.pop(name, {})} for name in ("xaxis", "yaxis", "yaxis2")}
    look = {"height": height, "hovermode": "x unified", "margin": {"t": 40, "b": 30}, "plot_bgcolor": "#fff"}
    if all("yaxis" not in each for each in traces):
        del axes["yaxis2"]
    figure = {"data": traces, "layout": {**look, **axes, **layout}}
    text: str = plotly.io.to_html(figure, validate=False, include_plotlyjs=False, full_html=False)
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


def _instants(at_ms: Iterable[int]) -> list[str]:
    """Return wall-clock times of India: charts shift aware ones to UTC."""
    return [from_epoch_ms(each).replace(tzinfo=None).isoformat() for each in at_ms]


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
