"""What an Upstox answer looks like: envelopes, error bodies, and the documented text of each code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs
from starlette.responses import JSONResponse, Response

__all__ = ["ERRORS", "STATUS_ERRORS", "Call", "Refusal", "error", "moment", "one_error", "success"]

STATUS_ERRORS: Final = {
    400: "UDAPI10000",
    401: "UDAPI100050",
    403: "UDAPI100049",
    404: "UDAPI100060",
    423: "UDAPI100072",
    429: "UDAPI10005",
}
"""Which code a bare HTTP status goes with; any other is the code of 500."""

ERRORS: Final[Mapping[str, str]] = {
    "UDAPI10000": "This request is not supported by Upstox API",
    "UDAPI10005": "Too Many Request Sent",
    "UDAPI1003": "The 'order_id' is required",
    "UDAPI1004": "The 'order_type' is required",
    "UDAPI1007": "The 'validity' is required",
    "UDAPI1008": "The 'price' is required",
    "UDAPI1009": "Symbol is required",
    "UDAPI1010": "The order id accepts only alphanumeric characters and '-'",
    "UDAPI1011": "Instrument key is of invalid format",
    "UDAPI1015": "Date should be in valid format: yyyy-mm-dd",
    "UDAPI1021": "Instrument key is of invalid format",
    "UDAPI1023": "The 'order_id' is required",
    "UDAPI1026": "The 'instrument_key' is required",
    "UDAPI1027": "Interval is required",
    "UDAPI1028": "Invalid interval",
    "UDAPI1029": "Price is required",
    "UDAPI1030": "Price is not required",
    "UDAPI1031": "Price and trigger price are both required",
    "UDAPI1032": "Only the trigger price is required",
    "UDAPI1034": "No positions available",
    "UDAPI1035": "No matching position available",
    "UDAPI1036": "The 'trigger_price' is required",
    "UDAPI1039": "The disclosed quantity should be at least 10% of the quantity",
    "UDAPI1052": "The quantity cannot be zero",
    "UDAPI1054": "The 'product' is invalid",
    "UDAPI1055": "The 'validity' is invalid",
    "UDAPI1056": "The 'order_type' is invalid",
    "UDAPI1057": "The 'transaction_type' is invalid",
    "UDAPI1059": "The instrument token is of invalid format",
    "UDAPI1060": "The 'quantity' is required",
    "UDAPI1061": "The 'price' is required",
    "UDAPI1062": "The 'transaction_type' is required",
    "UDAPI1063": "The 'product' is required",
    "UDAPI1064": "The quantity cannot be zero",
    "UDAPI1065": "The price cannot be zero",
    "UDAPI1068": "The 'start_date' is required",
    "UDAPI1071": "The 'page_number' is required",
    "UDAPI1075": "The start date cannot be after the end date",
    "UDAPI1087": "One of either symbol or instrument_key is invalid",
    "UDAPI1088": "Date should be in valid format: yyyy-mm-dd",
    "UDAPI1089": "The exchange is invalid",
    "UDAPI1095": "The price should be above zero",
    "UDAPI1096": "The quantity should be above zero",
    "UDAPI1097": "The quantity is required",
    "UDAPI1098": "The instrument key is of invalid format",
    "UDAPI1099": "The instrument key is required",
    "UDAPI1100": "The product is required",
    "UDAPI1101": "The transaction type is required",
    "UDAPI1102": "The maximum number of instruments is 20",
    "UDAPI1103": "Duplicate instrument keys are not allowed",
    "UDAPI1104": "The quantity should be a multiple of the lot size",
    "UDAPI1106": "The page size should be at least 1",
    "UDAPI1107": "The page size should be at most 5000",
    "UDAPI1108": "The segment is invalid",
    "UDAPI1109": "No open orders available to cancel",
    "UDAPI1110": "Too many open orders for one call",
    "UDAPI1111": "No open position available to exit",
    "UDAPI1112": "Too many open positions for one call",
    "UDAPI1113": "The Exit Positions API is accessible during the market hours only.",
    "UDAPI1114": "The request holds no orders",
    "UDAPI1115": "The 'correlation_id' is required",
    "UDAPI1117": "The 'correlation_id' should be unique",
    "UDAPI1118": "The limit on the number of orders is exceeded",
    "UDAPI1119": "The tag should have at most 40 characters",
    "UDAPI1126": "The GTT type is invalid",
    "UDAPI1134": "The GTT order id is required",
    "UDAPI1135": "The GTT order id should start with GTT-",
    "UDAPI1136": "A SINGLE GTT order needs exactly one rule",
    "UDAPI1137": "A MULTIPLE GTT order needs two or three rules",
    "UDAPI1141": "The ENTRY rule is required",
    "UDAPI1143": "Rules other than ENTRY should have the trigger type IMMEDIATE",
    "UDAPI1146": "Invalid unit",
    "UDAPI1147": "Invalid interval",
    "UDAPI1148": "Invalid date range",
    "UDAPI1149": "This service is part of the Plus plan",
    "UDAPI1150": "The ENTRY rule of an open GTT order should have the trigger type IMMEDIATE",
    "UDAPI1151": "The trailing gap is below its minimum",
    "UDAPI1156": "The algo name is invalid",
    "UDAPI1158": "Market orders are not allowed through the API",
    "UDAPI1159": "The market protection should be at most 25",
    "UDAPI1160": "The market protection is invalid",
    "UDAPI1161": "MCX orders are disabled; use the NSE commodity segment",
    "UDAPI1184": "Close the open positions of the segment first",
    "UDAPI1185": "The segment is in its cooling period",
    "UDAPI1186": "The segment is invalid",
    "UDAPI1188": "The action is invalid",
    "UDAPI100010": "Order not found",
    "UDAPI100011": "Invalid Instrument key",
    "UDAPI100036": "Invalid Input",
    "UDAPI100039": "After market orders cannot be placed during market hours",
    "UDAPI100040": "The order cannot be cancelled: it is already cancelled, rejected or complete",
    "UDAPI100041": "The order cannot be modified: it is already cancelled, rejected or complete",
    "UDAPI100042": "The maximum number of instrument keys is 500",
    "UDAPI100043": "Too many instrument keys",
    "UDAPI100049": "Access to this API has been restricted for your account",
    "UDAPI100050": "Invalid token used to access API",
    "UDAPI100057": "Market is closed",
    "UDAPI100059": "The order_id or the tag is required",
    "UDAPI100060": "Resource not Found.",
    "UDAPI100067": "The API you are trying to access is not permitted with this token",
    "UDAPI100072": "The Funds service is accessible from 5:30 AM to 12:00 AM IST daily",
    "UDAPI100074": "The Order APIs are accessible from 5:30 AM to 12:00 AM IST daily",
    "UDAPI100076": "The maximum number of instrument keys is 50",
    "UDAPI100500": "Something went wrong... please contact us",
}
"""What each code means (documented); the words are documented or recorded where the client may show them, ours else."""


class Refusal(Exception):
    """A request that is answered with a documented error."""

    def __init__(
        self, code: str, message: str = "", *, status: int = 400, path: str | None = None, invalid: object = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.entry = one_error(code, message, path=path, invalid=invalid)

    @property
    def body(self) -> dict[str, Any]:
        """Return the whole answer."""
        return {"status": "error", "errors": [self.entry]}


@attrs.frozen(kw_only=True)
class Call:
    """One request that passed the gates."""

    query: Mapping[str, str]
    params: Mapping[str, str]
    """Parts of the path."""
    body: bytes
    host: str
    """What the client called this server: one that comes through a proxy is sent back through it."""
    token: str
    """The bearer token; empty where none was sent."""

    def json(self) -> Any:
        """Return the body read as JSON; what is none is refused."""
        try:
            return json.loads(self.body, parse_constant=_finite, parse_float=_finite)
        except ValueError:
            raise Refusal("UDAPI100036") from None

    def fields(self) -> dict[str, Any]:
        """Return the body read as a JSON object."""
        value = self.json()
        if not isinstance(value, dict):
            raise Refusal("UDAPI100036")
        return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def one_error(code: str, message: str = "", *, path: str | None = None, invalid: object = None) -> dict[str, Any]:
    """Return one entry of ``errors``, with the deprecated duplicates that are still sent."""
    text = message or ERRORS.get(code, ERRORS["UDAPI100500"])
    camel = {"errorCode": code, "message": text, "propertyPath": path, "invalidValue": invalid}
    return {**camel, "error_code": code, "property_path": path, "invalid_value": invalid}


def error(code: str, *, status: int = 400) -> Response:
    """Return a whole error answer."""
    return JSONResponse({"status": "error", "errors": [one_error(code)]}, status)


def success(data: object, **more: object) -> Response:
    """Return an answer in the usual envelope; ``more`` stands beside ``data``."""
    return JSONResponse({"status": "success", "data": data, **more})


def moment(instant: datetime | None) -> str | None:
    """Write an instant, in IST, as order rows do: without its offset."""
    return None if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"
