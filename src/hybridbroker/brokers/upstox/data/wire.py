"""Upstox's REST payloads as documented, and no more of them than is read."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Generic, Self, TypeVar

from pydantic import AliasChoices, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hybridbroker.errors import WireFormatError
from hybridbroker.transport.http import Response

__all__ = [
    "Book",
    "CandleRow",
    "Candles",
    "ChainGreeks",
    "ChainRow",
    "ChainSide",
    "DepthRow",
    "ErrorBody",
    "FeedAddress",
    "FullQuote",
    "GreekQuote",
    "Holiday",
    "Holidays",
    "LtpQuote",
    "OhlcBar",
    "OhlcQuote",
    "OpenExchange",
    "OptionChain",
    "OptionContract",
    "OptionContracts",
    "Quotes",
    "Status",
    "Timings",
]


_FIELDS: Final = 7


def _empty_for_null(value: Any) -> Any:
    return {} if value is None else value


def _no_rows_for_null(value: Any) -> Any:
    return [] if value is None else value


def _without_nulls(value: Any) -> Any:
    """Leave out rows that are null: Upstox names an instrument and says nothing of it."""
    if isinstance(value, dict):
        return {key: row for key, row in value.items() if row is not None}
    return _empty_for_null(value)


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)

    @classmethod
    def read(cls, response: Response) -> Self:
        """Read one payload; anything undocumented is a `WireFormatError`."""
        try:
            return cls.model_validate_json(response.body)
        except ValidationError as exc:
            fault = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(each) for each in fault["loc"])
            raise WireFormatError(f"{response.request}: {where or 'the answer'}: {fault['msg']}") from None


class Error(_Wire):
    """One entry of ``errors``; both spellings are sent, the camel-case one is deprecated.

    https://upstox.com/developer/api-documentation/response-structure/
    """

    code: str = Field(default="", validation_alias=AliasChoices("error_code", "errorCode"))
    message: str = ""
    property_path: str | None = Field(default=None, validation_alias=AliasChoices("property_path", "propertyPath"))


class ErrorBody(_Wire):
    """What every refusal carries, and batches beside their successes."""

    errors: list[Error] = Field(min_length=1)


class _Address(_Wire):
    uri: str = Field(validation_alias=AliasChoices("authorized_redirect_uri", "authorizedRedirectUri"))


class FeedAddress(_Wire):
    """``GET /v3/feed/market-data-feed/authorize``: where to connect, once.

    https://upstox.com/developer/api-documentation/v3/get-market-data-feed-authorize
    """

    data: _Address


CandleRow = tuple[AwareDatetime, float | None, float | None, float | None, float | None, float | None, float | None]
"""Start, open, high, low, close, volume, open interest."""


def _seven_fields(row: Any) -> Any:
    """Add what old answers leave out at the end: the open interest."""
    return [*row, *[None] * (_FIELDS - len(row))] if isinstance(row, list) else row


class _CandleData(_Wire):
    candles: Annotated[
        list[Annotated[CandleRow, BeforeValidator(_seven_fields)]], BeforeValidator(_no_rows_for_null)
    ] = []


class Candles(_Wire):
    """``GET /v3/historical-candle/...``: rows, newest first.

    https://upstox.com/developer/api-documentation/v3/get-historical-candle-data
    """

    data: Annotated[_CandleData, BeforeValidator(_empty_for_null)]


class LtpQuote(_Wire):
    """A row of ``GET /v3/market-quote/ltp``.

    https://upstox.com/developer/api-documentation/v3/ltp
    """

    instrument_token: str
    last_price: float | None
    ltq: int | None = None
    volume: int | None = None
    cp: float | None = None


class Ohlc(_Wire):
    """The day's bar inside a full quote."""

    open: float | None = None
    high: float | None = None
    low: float | None = None


class DepthRow(_Wire):
    """One level of one side; sides are padded with zeros to five."""

    quantity: int = 0
    price: float = 0.0
    orders: int = 0


class Book(_Wire):
    """Both sides of the book inside a full quote."""

    buy: list[DepthRow] = []
    sell: list[DepthRow] = []


class FullQuote(_Wire):
    """A row of ``GET /v3/market-quote/quotes`` (since September 2026) or of its v2 sibling.

    https://upstox.com/developer/api-documentation/get-full-market-quote
    """

    instrument_token: str
    last_price: float | None
    volume: int | None = None
    ohlc: Ohlc | None = None
    depth: Book | None = None
    lower_circuit_limit: float | None = None
    upper_circuit_limit: float | None = None
    prev_close_price: float | None = None


Row = TypeVar("Row", bound=_Wire)


class Quotes(_Wire, Generic[Row]):
    """What every quote call answers: rows by ``SEGMENT:SYMBOL``, which is not the key that was asked for."""

    data: Annotated[dict[str, Row], BeforeValidator(_without_nulls)]


class OhlcBar(_Wire):
    """One bar inside an OHLC quote; ``ts`` is its start, epoch milliseconds."""

    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    volume: int | None = None
    ts: int | None = None


class OhlcQuote(_Wire):
    """A row of ``GET /v3/market-quote/ohlc``; ``prev_ohlc`` is null for days (recorded).

    https://upstox.com/developer/api-documentation/v3/get-market-quote-ohlc
    """

    instrument_token: str
    last_price: float | None
    prev_ohlc: OhlcBar | None = None
    live_ohlc: OhlcBar | None = None


class GreekQuote(LtpQuote):
    """A row of ``GET /v3/market-quote/option-greek``; ``iv`` is a fraction (documented example).

    https://upstox.com/developer/api-documentation/v3/option-greek
    """

    iv: float | None = None
    delta: float | None = None
    gamma: float | None = None
    theta: float | None = None
    vega: float | None = None
    oi: float | None = None


class OptionContract(_Wire):
    """A row of ``GET /v2/option/contract``; its terms come from the instrument master, not from here.

    https://upstox.com/developer/api-documentation/get-option-contracts
    """

    instrument_key: str
    expiry: date


class OptionContracts(_Wire):
    """What the contract call answers."""

    data: Annotated[list[OptionContract], BeforeValidator(_no_rows_for_null)]


class ChainQuote(_Wire):
    """Prices and book of one contract of a chain."""

    ltp: float | None = None
    volume: int | None = None
    oi: float | None = None
    close_price: float | None = None
    bid_price: float | None = None
    bid_qty: int | None = None
    ask_price: float | None = None
    ask_qty: int | None = None
    prev_oi: float | None = None


class ChainGreeks(_Wire):
    """Sensitivities of one contract of a chain; ``iv`` is in percent here (documented example)."""

    vega: float | None = None
    theta: float | None = None
    gamma: float | None = None
    delta: float | None = None
    iv: float | None = None


class ChainSide(_Wire):
    """One contract of a chain."""

    instrument_key: str
    market_data: Annotated[ChainQuote, BeforeValidator(_empty_for_null)] = ChainQuote()
    option_greeks: Annotated[ChainGreeks, BeforeValidator(_empty_for_null)] = ChainGreeks()


class ChainRow(_Wire):
    """One strike of ``GET /v2/option/chain``.

    https://upstox.com/developer/api-documentation/get-pc-option-chain
    """

    expiry: date
    strike_price: float
    underlying_spot_price: float | None = None
    call_options: ChainSide | None = None
    put_options: ChainSide | None = None


class OptionChain(_Wire):
    """What the chain call answers."""

    data: Annotated[list[ChainRow], BeforeValidator(_no_rows_for_null)]


class _CasStatus(_Wire):
    status: str = ""


class _StatusData(_Wire):
    exchange: str
    status: str
    last_updated: int | None = None
    cas_eligible_status: _CasStatus | None = None


class Status(_Wire):
    """``GET /v2/market/status/{exchange}``.

    https://upstox.com/developer/api-documentation/get-market-status
    """

    data: _StatusData


class OpenExchange(_Wire):
    """When an exchange trades on one day, epoch milliseconds."""

    exchange: str
    start_time: int
    end_time: int


class Holiday(_Wire):
    """A row of ``GET /v2/market/holidays``.

    https://upstox.com/developer/api-documentation/get-market-holidays
    """

    date: date
    description: str = ""
    holiday_type: str = ""
    closed_exchanges: Annotated[list[str], BeforeValidator(_no_rows_for_null)] = []
    open_exchanges: Annotated[list[OpenExchange], BeforeValidator(_no_rows_for_null)] = []


class Holidays(_Wire):
    """What the holiday call answers: the days of the current year (documented)."""

    data: Annotated[list[Holiday], BeforeValidator(_no_rows_for_null)]


class Timings(_Wire):
    """``GET /v2/market/timings/{date}``: empty on a full holiday (documented).

    https://upstox.com/developer/api-documentation/get-market-timings
    """

    data: Annotated[list[OpenExchange], BeforeValidator(_no_rows_for_null)]
