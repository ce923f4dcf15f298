"""Dhan's payloads exactly as documented and recorded; shapes only, nothing is interpreted here.

Documented: https://dhanhq.co/docs/v2/orders/ , /portfolio/ , /funds/ , /order-update/ .
Fields that Dhan leaves out or sends as null in some rows are optional; the others must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, Self

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from hybridbroker.errors import WireFormatError

__all__ = [
    "Funds",
    "HoldingRow",
    "Id",
    "OrderAck",
    "OrderAlert",
    "OrderRow",
    "PositionRow",
    "Profile",
    "Rupees",
    "TradeRow",
    "Units",
    "WireModel",
]

_MOST_FAULTS: Final = 3

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Digits in practice; stays a string."""
Units = Annotated[int, Field(gt=-(10**12), lt=10**12)]
Rupees = Annotated[Decimal, Field(gt=-(10**15), lt=10**15)]


class WireModel(BaseModel):
    """A payload, or a part of one; fields are spelled in camelCase on the wire, and unknown ones are passed over."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=to_camel),
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


class OrderAck(WireModel):
    """Answer to POST, PUT and DELETE ``/orders``."""

    order_id: Id
    order_status: str | None = None


class OrderRow(WireModel):
    """One element of GET ``/orders``, and of the calls for one order."""

    order_id: Id
    exchange_order_id: str | None = None
    """``"0"`` before the exchange has it."""
    correlation_id: str | None = None
    """``"NA"``, or made by Dhan, where the caller gave none."""
    order_status: str
    transaction_type: str
    exchange_segment: str
    product_type: str
    order_type: str
    validity: str
    trading_symbol: str | None = None
    security_id: Id
    quantity: Units
    disclosed_quantity: Units | None = None
    price: Rupees | None = None
    trigger_price: Rupees | None = None
    create_time: str | None = None
    update_time: str | None = None
    drv_expiry_date: str | None = None
    drv_strike_price: Rupees | None = None
    oms_error_description: str | None = None
    average_traded_price: Rupees | None = None
    filled_qty: Units | None = Field(validation_alias=AliasChoices("filledQty", "filled_qty"))


class TradeRow(WireModel):
    """One element of GET ``/trades`` and ``/trades/{orderId}``."""

    order_id: Id
    exchange_trade_id: Annotated[str, Field(min_length=1, max_length=64)]
    transaction_type: str
    exchange_segment: str
    product_type: str
    trading_symbol: str | None = None
    security_id: Id
    traded_quantity: Units
    traded_price: Rupees
    create_time: str | None = None
    update_time: str | None = None
    exchange_time: str | None = None
    drv_expiry_date: str | None = None
    drv_strike_price: Rupees | None = None


class PositionRow(WireModel):
    """One element of GET ``/positions``."""

    trading_symbol: str | None = None
    security_id: Id
    exchange_segment: str
    product_type: str
    buy_avg: Rupees
    sell_avg: Rupees
    cost_price: Rupees | None = None
    buy_qty: Units
    sell_qty: Units
    net_qty: Units
    realized_profit: Rupees | None = None
    unrealized_profit: Rupees | None = None
    drv_expiry_date: str | None = None
    drv_strike_price: Rupees | None = None


class HoldingRow(WireModel):
    """One element of GET ``/holdings``."""

    exchange: str | None = None
    """``ALL`` in practice."""
    trading_symbol: str | None = None
    security_id: Id
    isin: str | None = None
    total_qty: Units
    t1_qty: Units | None = None
    available_qty: Units
    avg_cost_price: Rupees | None = None
    last_traded_price: Rupees | None = None


class Funds(WireModel):
    """GET ``/fundlimit``; the misspelt key is what the wire carries."""

    availabel_balance: Rupees | None = None
    available_balance: Rupees | None = None
    sod_limit: Rupees | None = None
    collateral_amount: Rupees | None = None
    utilized_amount: Rupees | None = None
    withdrawable_balance: Rupees | None = None


class Profile(WireModel):
    """GET ``/profile``: the cheapest proof that a token lives."""

    dhan_client_id: Id
    token_validity: str | None = None
    """``DD/MM/YYYY HH:MM``, IST."""
    active_segment: str | None = None
    ddpi: str | None = None
    mtf: str | None = None
    data_plan: str | None = None


class OrderAlert(WireModel):
    """The ``Data`` of one order update; keys are compared in lower case.

    The documentation prints ``OrderNo``, the wire carries ``orderNo``, and samples mix both.
    """

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=lambda name: name.replace("_", "")),
    )

    order_no: Id
    status: str
    exchange: str | None = None
    segment: str | None = None
    security_id: str | None = None
    exch_order_no: str | None = None
    correlation_id: str | None = None
    product: str | None = None
    txn_type: str | None = None
    order_type: str | None = None
    validity: str | None = None
    quantity: Units | None = None
    traded_qty: Units | None = None
    price: Rupees | None = None
    trigger_price: Rupees | None = None
    avg_traded_price: Rupees | None = None
    order_date_time: str | None = None
    last_updated_time: str | None = None
    reason_description: str | None = None
    symbol: str | None = None
    expiry_date: str | None = None
    strike_price: Rupees | None = None

    @classmethod
    def of(cls, data: Mapping[str, object]) -> Self:
        """Read ``data`` whatever the case of its keys; of two spellings the one that says something wins."""
        lowered: dict[str, object] = {}
        for key, value in data.items():
            if lowered.get(key.lower()) in (None, ""):
                lowered[key.lower()] = value
        return cls.read(lowered, what="an order update")
