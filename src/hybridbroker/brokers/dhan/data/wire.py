"""Dhan's REST payloads for prices as documented, and no more of them than is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Generic, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hybridbroker.errors import WireFormatError

__all__ = [
    "Book",
    "Candles",
    "Chain",
    "ChainRow",
    "DepthRow",
    "Expiries",
    "LtpQuote",
    "MarketQuote",
    "Ohlc",
    "OhlcQuote",
    "OptionRow",
    "Quotes",
]

_LARGEST: Final = 2**63


def _empty_for_null(value: Any) -> Any:
    return {} if value is None else value


def _no_rows_for_null(value: Any) -> Any:
    return [] if value is None else value


def _whole(value: Any) -> Any:
    """Read counts that came as floats, in exponent form at that (recorded: ``1.7454579E7``)."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST else value


Count = Annotated[int, BeforeValidator(_whole)]
Column = Annotated[list[float], BeforeValidator(_no_rows_for_null)]
Counts = Annotated[list[Count], BeforeValidator(_no_rows_for_null)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)

    @classmethod
    def read(cls, payload: Any, *, what: str) -> Self:
        """Read one parsed payload; anything undocumented is a `WireFormatError` that begins with ``what``."""
        try:
            return cls.model_validate(payload)
        except ValidationError as exc:
            fault = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(each) for each in fault["loc"])
            raise WireFormatError(f"{what}: {where or 'the answer'}: {fault['msg']}") from None


class Candles(_Wire):
    """``POST /charts/historical`` and ``/charts/intraday``: columns of equal length, oldest first.

    https://dhanhq.co/docs/v2/historical-data/
    """

    timestamp: Counts
    """When each bar opened, seconds since 1970 UTC (recorded; not shifted like the feed's)."""
    open: Column
    high: Column
    low: Column
    close: Column
    volume: Counts
    open_interest: Counts = []

    @model_validator(mode="after")
    def _equally_long(self) -> Self:
        columns = (self.open, self.high, self.low, self.close, self.volume)
        if {len(each) for each in columns} != {len(self.timestamp)}:
            raise ValueError("the columns are not equally long")
        if self.open_interest and len(self.open_interest) != len(self.timestamp):
            raise ValueError("the columns are not equally long")
        return self


class LtpQuote(_Wire):
    """A row of ``POST /marketfeed/ltp``; 0 where nothing ever traded.

    https://dhanhq.co/docs/v2/market-quote/
    """

    last_price: float | None = None


class Ohlc(_Wire):
    """The day's prices inside a quote; ``close`` is the previous day's while the session runs (recorded)."""

    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None


class OhlcQuote(LtpQuote):
    """A row of ``POST /marketfeed/ohlc``."""

    ohlc: Ohlc | None = None


class DepthRow(_Wire):
    """One level of one side; sides are padded with zeros to five."""

    quantity: Count = 0
    price: float = 0.0
    orders: Count = 0


class Book(_Wire):
    """Both sides of the book inside a quote."""

    buy: list[DepthRow] = []
    sell: list[DepthRow] = []


class MarketQuote(OhlcQuote):
    """A row of ``POST /marketfeed/quote``."""

    net_change: float | None = None
    """Against the previous close, rupees."""
    volume: Count | None = None
    last_quantity: Count | None = None
    lower_circuit_limit: float | None = None
    upper_circuit_limit: float | None = None
    depth: Book | None = None


Row = TypeVar("Row", bound=_Wire)
Rows = Annotated[Mapping[str, Row], BeforeValidator(_empty_for_null)]


class Quotes(_Wire, Generic[Row]):
    """What every quote call answers: rows by segment, then by security id; unknown ids are left out."""

    data: Annotated[Mapping[str, Rows[Row]], BeforeValidator(_empty_for_null)]


class Expiries(_Wire):
    """``POST /optionchain/expirylist``.

    https://dhanhq.co/docs/v2/option-chain/
    """

    data: Annotated[list[date], BeforeValidator(_no_rows_for_null)]


class GreeksRow(_Wire):
    """Sensitivities inside an option's row, all zero where none were computed."""

    delta: float = 0.0
    theta: float = 0.0
    gamma: float = 0.0
    vega: float = 0.0


class OptionRow(_Wire):
    """One side of a strike; zeros where there is nothing."""

    security_id: Count | None = None
    """Missing in answers of 2025 (recorded)."""
    greeks: GreeksRow | None = None
    implied_volatility: float = 0.0
    """Per cent (inferred from its size)."""
    last_price: float = 0.0
    oi: Count = 0
    previous_close_price: float = 0.0
    previous_oi: Count = 0
    top_ask_price: float = 0.0
    top_ask_quantity: Count = 0
    top_bid_price: float = 0.0
    top_bid_quantity: Count = 0
    volume: Count = 0


class ChainRow(_Wire):
    """A strike; a side without contract is missing or null."""

    ce: OptionRow | None = None
    pe: OptionRow | None = None


_Strike = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]


class _ChainData(_Wire):
    last_price: float | None = None
    oc: Annotated[Mapping[_Strike, ChainRow], BeforeValidator(_empty_for_null)] = Field(default_factory=dict)
    """By strike, written with six decimals."""


class Chain(_Wire):
    """``POST /optionchain``."""

    data: _ChainData
