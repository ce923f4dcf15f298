"""Upstox's REST payloads as documented, and no more of them than is read."""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, Self, TypeVar

from pydantic import AliasChoices, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hybridbroker.errors import WireFormatError
from hybridbroker.transport.http import Response

__all__ = ["Book", "CandleRow", "Candles", "DepthRow", "ErrorBody", "FeedAddress", "FullQuote", "LtpQuote", "Quotes"]


_FIELDS: Final = 7


def _empty_for_null(value: Any) -> Any:
    return {} if value is None else value


def _no_rows_for_null(value: Any) -> Any:
    return [] if value is None else value


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

    data: Annotated[dict[str, Row], BeforeValidator(_empty_for_null)]
