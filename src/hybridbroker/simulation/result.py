"""What a backtest came to: orders, trades and money, the equity over time, and how to look at them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Interval
from hybridbroker.domain.orders import Order, Trade
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.errors import ConfigurationError
from hybridbroker.execution import RiskLimits
from hybridbroker.simulation.charges import Charges
from hybridbroker.simulation.equity import EquityCurve, RoundTrip, Statistics, equity_curve, round_trips, statistics
from hybridbroker.simulation.exchange import PnL
from hybridbroker.simulation.fills import FillModel
from hybridbroker.simulation.playback import Samples

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group

__all__ = ["BacktestResult"]


@attrs.frozen(kw_only=True, eq=False)
class BacktestResult:
    """A finished run; money is exact, curves and ratios are floats."""

    strategy: str
    instruments: tuple[Instrument, ...]
    interval: Interval | None
    """Length of the bars played; None for a tape."""
    cash: Decimal
    """Rupees at the start."""
    fill: FillModel
    limits: RiskLimits | None
    charges_name: str | None
    leverage: Decimal
    square_off: time | None
    orders: tuple[Order, ...]
    """Of every day, refused ones included, oldest first."""
    trades: tuple[Trade, ...]
    positions: tuple[Position, ...]
    """Open at the end."""
    holdings: tuple[Holding, ...]
    pnl: PnL
    charges: Charges
    charges_by_day: Mapping[date, Decimal] = attrs.field(repr=False)
    samples: Samples = attrs.field(repr=False)
    events: int
    """Bars, or events of a tape, that were played."""
    first: datetime | None
    last: datetime
    days: tuple[date, ...] = attrs.field(repr=False)
    """Trading days played."""
    failure: BaseException | None
    """What ended the run early; None when it went to its end."""
    problems: tuple[str, ...]
    """What went wrong while positions were closed."""
    alerts: tuple[str, ...]
    """What the strategy told its person."""
    notes: tuple[str, ...]
    """What a reader must know before believing the figures."""
    seconds: float
    """Real seconds that the run took."""
    _kept: dict[str, Any] = attrs.field(factory=dict, init=False, repr=False)

    @property
    def ok(self) -> bool:
        """Say whether the run went to its end."""
        return self.failure is None

    @property
    def final_equity(self) -> Decimal:
        """Return rupees at the end: cash and what is held, after charges."""
        return self.cash + self.pnl.net

    def equity(self) -> EquityCurve:
        """Return equity and drawdown over time, after charges (each day's at its end)."""
        if "equity" not in self._kept:
            self._kept["equity"] = equity_curve(
                self.samples, self.trades, cash=self.cash, charges_by_day=self.charges_by_day
            )
        curve: EquityCurve = self._kept["equity"]
        return curve

    def round_trips(self) -> list[RoundTrip]:
        """Return trades from flat to flat, oldest first, and what is still open."""
        if "trips" not in self._kept:
            self._kept["trips"] = round_trips(self.trades, charges_by_day=self.charges_by_day)
        return list(self._kept["trips"])

    def statistics(self) -> Statistics:
        """Return the usual figures."""
        if "figures" not in self._kept:
            self._kept["figures"] = statistics(self.equity(), self.round_trips(), cash=self.cash, days=len(self.days))
        told: Statistics = self._kept["figures"]
        return told

    def assumptions(self) -> list[str]:
        """Say what was assumed: fills, charges, hours, and what was found in the data."""
        said = [f"fills: {self.fill.describe()}"]
        billed = "nothing is charged" if self.charges_name is None else f"charges: {self.charges_name} rows"
        said.append(billed if self.charges_name is None else f"{billed}, each day by the row in force")
        said.append(
            "orders go straight to the exchange, without limits or journal"
            if self.limits is None
            else "orders pass the risk limits and the order journal, as live"
        )
        if self.leverage != 1:
            said.append(f"intraday margin: value by {self.leverage}")
        said.append(f"intraday positions are closed {self._closed()}, at the last price")
        return [*said, *self.charges.notes, *self.notes]

    def _closed(self) -> str:
        return "with the day" if self.square_off is None else f"at {self.square_off:%H:%M} IST"

    def report(self) -> Group:
        """Return tables for a rich console: ``rich.print(result.report())``."""
        from hybridbroker.simulation.report import report

        return report(self)

    def to_html(self, path: Path | str) -> None:
        """Write one self-contained page; needs the ``plot`` extra.

        Raises:
            ConfigurationError: plotly is missing, or ``path`` cannot be written.
        """
        from hybridbroker.simulation.page import page

        text = page(self)
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as exc:
            raise ConfigurationError(f"cannot write {path}: {exc.strerror}") from exc

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; rupees as strings, times in ISO form. The same run gives the same text."""
        from hybridbroker.simulation.report import as_json

        return as_json(self)

    def dumps(self) -> str:
        """Return `to_json` as text."""
        return json.dumps(self.to_json())

    def to_pandas(self) -> pd.DataFrame:
        """Return the equity curve as a frame (time, equity, drawdown); needs the ``pandas`` extra."""
        try:
            import pandas as pd
        except ImportError as exc:
            raise ConfigurationError("pandas is missing: pip install 'hybridbroker[pandas]'") from exc
        curve = self.equity()
        index = pd.to_datetime(curve.at_ms, unit="ms", utc=True).tz_convert("Asia/Kolkata")
        return pd.DataFrame({"equity": curve.equity, "drawdown": curve.drawdown}, index=index.rename("time"))

    def trades_to_pandas(self) -> pd.DataFrame:
        """Return the round trips as a frame, one row each; needs the ``pandas`` extra."""
        try:
            import pandas as pd
        except ImportError as exc:
            raise ConfigurationError("pandas is missing: pip install 'hybridbroker[pandas]'") from exc
        rows = [attrs.asdict(each, recurse=False) for each in self.round_trips()]
        return pd.DataFrame([{**row, "instrument": row["instrument"].id} for row in rows])
