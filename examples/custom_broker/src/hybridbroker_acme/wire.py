"""Acme's payloads as it documents them: amounts are decimal strings, instants ISO 8601 with a zone."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from hybridbroker import WireFormatError

__all__ = ["FundsRow", "HoldingRow", "OrderRow", "PositionRow", "Refusal", "TradeRow"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    @classmethod
    def read(cls, payload: Any) -> Self:
        """Read one object; what Acme never documented is a `WireFormatError`."""
        try:
            return cls.model_validate(payload)
        except ValidationError as exc:
            raise WireFormatError(_told(cls, exc)) from exc

    @classmethod
    def read_all(cls, payload: Any) -> list[Self]:
        """Read a list of objects."""
        try:
            return TypeAdapter(list[cls]).validate_python(payload)  # type: ignore[valid-type]
        except ValidationError as exc:
            raise WireFormatError(_told(cls, exc)) from exc


class OrderRow(_Row):
    """An order."""

    id: str
    tag: str
    symbol: str
    side: str
    kind: str
    product: str
    units: int
    filled: int
    limit: Decimal | None = None
    average: Decimal | None = None
    state: str
    note: str | None = None
    placed: datetime
    changed: datetime


class TradeRow(_Row):
    """An execution."""

    id: str
    order: str
    symbol: str
    side: str
    product: str
    units: int
    price: Decimal
    at: datetime


class PositionRow(_Row):
    """A position of the day."""

    symbol: str
    product: str
    net: int
    average: Decimal
    bought: int
    sold: int
    bought_for: Decimal
    sold_for: Decimal


class HoldingRow(_Row):
    """Shares in the demat account."""

    symbol: str
    units: int
    free: int


class FundsRow(_Row):
    """What can be spent."""

    free: Decimal
    blocked: Decimal


class Refusal(_Row):
    """Why Acme said no."""

    code: str
    text: str


def _told(kind: type[BaseModel], exc: ValidationError) -> str:
    fault = exc.errors(include_input=False)[0]
    return f"Acme sent a {kind.__name__} that its documentation does not allow: {fault['loc']} {fault['msg']}"
