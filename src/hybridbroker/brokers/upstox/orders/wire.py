"""Upstox's payloads about orders and the account, as documented and recorded; shapes only.

Documented: https://upstox.com/developer/api-documentation/ , the pages of the single calls.
Fields that Upstox leaves out or sends as null in some rows are optional; the others must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hybridbroker.errors import WireFormatError
from hybridbroker.transport.http import Response

__all__ = [
    "BatchAnswer",
    "Brokerage",
    "FundsV2",
    "FundsV3",
    "GttAck",
    "GttRow",
    "GttRule",
    "HoldingRow",
    "KillSwitchRow",
    "MarginAnswer",
    "OrderAck",
    "OrderRow",
    "PastTradeRow",
    "PositionRow",
    "TradeRow",
    "data_of",
    "payload_of",
    "refusals_in",
    "rows_of",
]

_MOST_FAULTS: Final = 3


def _whole(value: Any) -> Any:
    """Read ``10.0`` as the whole number it is; some rows carry quantities as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Units = Annotated[int, BeforeValidator(_whole), Field(gt=-(10**12), lt=10**12)]
Rupees = Annotated[Decimal, Field(gt=-(10**15), lt=10**15)]
OrNothing = Annotated[Rupees, BeforeValidator(lambda value: 0 if value is None else value)]
NoUnits = Annotated[Units, BeforeValidator(lambda value: 0 if value is None else value)]


class _Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    @classmethod
    def read(cls, payload: object, *, what: str) -> Self:
        """Read one parsed payload; ``what`` names it where it is not as documented.

        Raises:
            WireFormatError: Naming the fields at fault, without their values.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as exc:
            faults = exc.errors(include_url=False, include_input=False, include_context=False)
            told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults[:_MOST_FAULTS])
            raise WireFormatError(f"{what} is not as documented: {told}") from None


def payload_of(response: Response) -> Mapping[str, Any]:
    """Return the envelope of a success.

    Raises:
        WireFormatError: It is no JSON object, or says of itself that it is an error.
    """
    payload = response.json()
    if not isinstance(payload, Mapping):
        raise WireFormatError(f"{response.request}: the answer is no JSON object")
    if payload.get("status") not in ("success", "partial_success"):
        raise WireFormatError(f"{response.request}: HTTP {response.status}, but it does not say success")
    return payload


def data_of(response: Response) -> Any:
    """Return the ``data`` of a success; None where it is null or left out."""
    return payload_of(response).get("data")


def rows_of(response: Response) -> list[Mapping[str, Any]]:
    """Return the rows of a success; ``data`` may be null (nothing there) or one row alone.

    Raises:
        WireFormatError: Something in it is no object.
    """
    data = data_of(response)
    rows = data if isinstance(data, list) else [] if data is None else [data]
    if not all(isinstance(row, Mapping) for row in rows):
        raise WireFormatError(f"{response.request}: a row is no object")
    return rows


def refusals_in(payload: Mapping[str, Any]) -> str | None:
    """Return what the ``errors`` beside a success say, in one line; None where there are none.

    Never raises: what stands beside it has been done.
    """
    errors = payload.get("errors")
    if not isinstance(errors, list) or not errors:
        return None
    return "; ".join(dict.fromkeys(_told(each) for each in errors))


def _told(error: object) -> str:
    try:
        read = BatchError.read(error, what="an error beside a success")
    except WireFormatError:
        return "a refusal that cannot be read"
    return read.message or read.code or "no reason given"


class OrderAck(_Wire):
    """``data`` of a placed, changed or cancelled order: v3 lists ids when placing, the other calls name one."""

    order_ids: tuple[Id, ...] = ()
    order_id: Id | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Return every id, whichever spelling carried it."""
        return self.order_ids or (() if self.order_id is None else (self.order_id,))


class GttAck(_Wire):
    """``data`` of every write to GTT orders."""

    gtt_order_ids: tuple[Id, ...] = Field(min_length=1)


class BatchError(_Wire):
    """One refusal among the results of a batch."""

    code: str = Field(default="", validation_alias=AliasChoices("error_code", "errorCode"))
    message: str | None = None
    order_id: str | None = None
    instrument_key: str | None = None


class _BatchData(_Wire):
    order_ids: tuple[Id, ...] = ()


class BatchAnswer(_Wire):
    """The whole answer of cancel-all and exit-all, successes and refusals beside each other."""

    status: str
    data: _BatchData | None = None
    errors: tuple[BatchError, ...] | None = None


_Symbol = Field(default=None, validation_alias=AliasChoices("trading_symbol", "tradingsymbol"))
_Key = Field(min_length=1, max_length=64, validation_alias=AliasChoices("instrument_token", "instrument_key"))


class OrderRow(_Wire):
    """One order in the book, its details, a row of its history, or the ``order`` message of the portfolio stream."""

    order_id: Id
    exchange: str | None = None
    instrument_key: str = _Key
    trading_symbol: str | None = _Symbol
    product: str
    order_type: str
    validity: str
    transaction_type: str
    status: str
    quantity: Units
    filled_quantity: NoUnits = 0
    disclosed_quantity: NoUnits = 0
    price: Rupees | None = None
    trigger_price: Rupees | None = None
    average_price: Rupees | None = None
    tag: str | None = None
    status_message: str | None = None
    status_message_raw: str | None = None
    exchange_order_id: str | None = None
    """Empty or null until the exchange has it."""
    parent_order_id: str | None = None
    """``NA`` in places."""
    order_ref_id: str | None = None
    """The GTT order that sent it, where one did."""
    order_timestamp: str | None = None
    exchange_timestamp: str | None = None
    is_amo: bool | None = None


class TradeRow(_Wire):
    """One execution of today."""

    order_id: Id
    trade_id: Annotated[str, Field(min_length=1, max_length=64)]
    exchange: str | None = None
    instrument_key: str = _Key
    trading_symbol: str | None = _Symbol
    product: str
    transaction_type: str
    quantity: Units
    average_price: Rupees
    exchange_timestamp: str | None = None
    order_timestamp: str | None = None


class PastTradeRow(_Wire):
    """One execution of a past day, from ``/v2/charges/historical-trades``."""

    trade_id: Annotated[str, Field(min_length=1, max_length=64)]
    trade_date: str
    exchange: str
    segment: str
    instrument_key: str | None = Field(default=None, max_length=64, validation_alias="instrument_token")
    symbol: str | None = None
    scrip_name: str | None = None
    isin: str | None = None
    option_type: str | None = None
    strike_price: str | None = None
    expiry: str | None = None
    transaction_type: str
    quantity: Units
    price: Rupees
    amount: Rupees


class PositionRow(_Wire):
    """One position, from the calls or as the ``position`` message, which lacks profits and last price."""

    exchange: str | None = None
    instrument_key: str = _Key
    trading_symbol: str | None = _Symbol
    product: str
    quantity: Units
    multiplier: Rupees | None = None
    average_price: Rupees | None = None
    buy_price: Rupees | None = None
    sell_price: Rupees | None = None
    overnight_buy_quantity: NoUnits = 0
    overnight_buy_amount: OrNothing = Decimal(0)
    overnight_sell_quantity: NoUnits = 0
    overnight_sell_amount: OrNothing = Decimal(0)
    day_buy_quantity: NoUnits = 0
    day_buy_value: OrNothing = Decimal(0)
    day_sell_quantity: NoUnits = 0
    day_sell_value: OrNothing = Decimal(0)
    realised: Rupees | None = None
    unrealised: Rupees | None = None


class HoldingRow(_Wire):
    """One holding, from the call or as the ``holding`` message, which lacks prices of the market."""

    instrument_key: str = _Key
    exchange: str | None = None
    trading_symbol: str | None = _Symbol
    company_name: str | None = None
    isin: str | None = None
    quantity: Units
    t1_quantity: NoUnits = 0
    cnc_used_quantity: NoUnits = 0
    collateral_quantity: NoUnits = 0
    average_price: Rupees | None = None
    last_price: Rupees | None = None


class _Cash(_Wire):
    opening_balance: Rupees | None = None


class _Used(_Wire):
    total: Rupees | None = None


class _CashToTrade(_Wire):
    total: Rupees | None = None
    cash: _Cash | None = None
    margin_used: _Used | None = None


class _PledgeToTrade(_Wire):
    margin_from_pledge: _Used | None = None
    margin_used: _Used | None = None


class _ToTrade(_Wire):
    total: Rupees
    cash_available_to_trade: _CashToTrade | None = None
    pledge_available_to_trade: _PledgeToTrade | None = None


class FundsV3(_Wire):
    """``data`` of GET ``/v3/user/get-funds-and-margin``."""

    available_to_trade: _ToTrade


class _SegmentFunds(_Wire):
    available_margin: Rupees
    used_margin: Rupees | None = None


class FundsV2(_Wire):
    """``data`` of GET ``/v2/user/get-funds-and-margin``; ``equity`` has been the whole since 19 July 2025."""

    equity: _SegmentFunds


class GttRule(_Wire):
    """One leg of a GTT order."""

    strategy: str
    status: str
    trigger_type: str | None = None
    trigger_price: Rupees | None = None
    transaction_type: str | None = None
    message: str | None = None
    order_id: str | None = None
    trailing_gap: Rupees | None = None


class GttRow(_Wire):
    """One GTT order, from the call or as the ``gtt_order`` message."""

    gtt_order_id: Id
    type: str
    exchange: str | None = None
    instrument_key: str = _Key
    trading_symbol: str | None = _Symbol
    quantity: Units
    product: str
    rules: tuple[GttRule, ...]
    created_at: int | None = None
    """Microseconds since 1970."""
    expires_at: int | None = None


class MarginAnswer(_Wire):
    """``data`` of POST ``/v2/charges/margin``."""

    required_margin: Rupees
    final_margin: Rupees | None = None


class _Taxes(_Wire):
    gst: OrNothing = Decimal(0)
    stt: OrNothing = Decimal(0)
    stamp_duty: OrNothing = Decimal(0)


class _OtherCharges(_Wire):
    transaction: OrNothing = Decimal(0)
    clearing: OrNothing = Decimal(0)
    ipft: OrNothing = Decimal(0)
    sebi_turnover: OrNothing = Decimal(0)


class _DpPlan(_Wire):
    name: str | None = None
    min_expense: Rupees | None = None


class _ChargesOf(_Wire):
    total: Rupees
    brokerage: OrNothing = Decimal(0)
    taxes: _Taxes = _Taxes()
    other: _OtherCharges = Field(
        default=_OtherCharges(), validation_alias=AliasChoices("other_charges", "other_taxes", "otherTaxes")
    )
    dp_plan: _DpPlan | None = Field(default=None, validation_alias=AliasChoices("dp_plan", "dpPlan"))


class Brokerage(_Wire):
    """``data`` of GET ``/v2/charges/brokerage``; one of Upstox's own clients knows an older spelling."""

    charges: _ChargesOf


class KillSwitchRow(_Wire):
    """One segment in ``/v2/user/kill-switch``."""

    segment: Annotated[str, Field(pattern=r"^[A-Z_]{2,16}$")]
    segment_status: str | None = None
    kill_switch_enabled: bool
