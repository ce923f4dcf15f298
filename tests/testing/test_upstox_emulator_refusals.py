"""The emulated Upstox refuses bad requests with the documented codes."""

from __future__ import annotations

from typing import Any

import pytest
from emulator_kit import RELIANCE
from upstox_orders_kit import client, order

from hybridbroker.testing.emulators import UpstoxEmulator


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"instrument_token": None}, "UDAPI1026", id="no instrument"),
        pytest.param({"instrument_token": "RELIANCE"}, "UDAPI1011", id="no key"),
        pytest.param({"instrument_token": "NSE_EQ|NOBODY"}, "UDAPI100011", id="unknown"),
        pytest.param({"instrument_token": "NSE_INDEX|Nifty 50"}, "UDAPI100011", id="an index"),
        pytest.param({"instrument_token": "MCX_FO|1"}, "UDAPI1161", id="MCX"),
        pytest.param({"quantity": 0}, "UDAPI1052", id="quantity 0"),
        pytest.param({"quantity": None}, "UDAPI1052", id="no quantity"),
        pytest.param({"quantity": -5}, "UDAPI100036", id="negative quantity"),
        pytest.param({"quantity": "5"}, "UDAPI100036", id="quantity as text"),
        pytest.param({"product": "CO"}, "UDAPI1054", id="product"),
        pytest.param({"validity": None}, "UDAPI1007", id="no validity"),
        pytest.param({"validity": "GTC"}, "UDAPI1055", id="validity"),
        pytest.param({"order_type": None}, "UDAPI1004", id="no type"),
        pytest.param({"order_type": "limit"}, "UDAPI1056", id="type"),
        pytest.param({"transaction_type": "buy"}, "UDAPI1057", id="side"),
        pytest.param({"price": None}, "UDAPI1008", id="price absent"),
        pytest.param({"price": 0}, "UDAPI1029", id="limit without price"),
        pytest.param({"trigger_price": None}, "UDAPI1036", id="trigger absent"),
        pytest.param({"order_type": "MARKET"}, "UDAPI1030", id="market with price"),
        pytest.param({"order_type": "SL"}, "UDAPI1031", id="stop without trigger"),
        pytest.param({"order_type": "SL-M", "trigger_price": 1410}, "UDAPI1032", id="stop-market with price"),
        pytest.param({"disclosed_quantity": 1, "quantity": 100}, "UDAPI1039", id="disclosed"),
        pytest.param({"tag": "x" * 41}, "UDAPI1119", id="tag"),
        pytest.param({"order_type": "MARKET", "price": 0, "market_protection": 0}, "UDAPI1158", id="protection 0"),
        pytest.param({"order_type": "MARKET", "price": 0, "market_protection": 26}, "UDAPI1159", id="protection 26"),
        pytest.param({"order_type": "MARKET", "price": 0, "market_protection": -2}, "UDAPI1160", id="protection -2"),
    ],
)
async def test_a_bad_order_is_refused_at_once(
    upstox_emulator: UpstoxEmulator, changes: dict[str, Any], code: str
) -> None:
    async with client(upstox_emulator) as call:
        assert await call.refused("POST", "/v3/order/place", order(**changes)) == (400, code)

    assert upstox_emulator.book() == []


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"null"])
async def test_a_body_that_is_no_object_is_refused(upstox_emulator: UpstoxEmulator, body: bytes) -> None:
    async with client(upstox_emulator) as call:
        reply = await call.http.post("/v3/order/place", content=body)

    assert reply.json()["errors"][0]["errorCode"] == "UDAPI100036"


@pytest.mark.parametrize(
    ("call_to", "body", "query", "code"),
    [
        ("PUT /v3/order/modify", order(), {}, "UDAPI1003"),
        ("PUT /v3/order/modify", {**order(), "order_id": "1"}, {}, "UDAPI100010"),
        ("DELETE /v3/order/cancel", None, {}, "UDAPI1023"),
        ("DELETE /v3/order/cancel", None, {"order_id": "a b"}, "UDAPI1010"),
        ("DELETE /v3/order/cancel", None, {"order_id": "1"}, "UDAPI100010"),
        ("GET /v2/order/details", None, {}, "UDAPI100059"),
        ("GET /v2/order/details", None, {"order_id": "1"}, "UDAPI100010"),
        ("GET /v2/order/history", None, {}, "UDAPI100059"),
        ("GET /v2/order/trades", None, {}, "UDAPI1023"),
        ("POST /v2/order/multi/place", [], {}, "UDAPI1114"),
        ("POST /v2/order/multi/place", [order()], {}, "UDAPI1115"),
        ("POST /v2/order/multi/place", [order(correlation_id="a")] * 2, {}, "UDAPI1117"),
        ("POST /v2/order/multi/place", [order(correlation_id=str(n)) for n in range(11)], {}, "UDAPI1118"),
        ("GET /v2/charges/historical-trades", None, {}, "UDAPI1068"),
        ("GET /v2/user/get-funds-and-margin", None, {"segment": "EQ"}, "UDAPI1019"),
        ("GET /v2/charges/brokerage", None, {"instrument_token": "x"}, "UDAPI1059"),
        ("GET /v2/charges/brokerage", None, {"instrument_token": RELIANCE}, "UDAPI1060"),
        ("POST /v2/charges/margin", {}, {}, "UDAPI100036"),
        ("POST /v2/charges/margin", {"instruments": [{}]}, {}, "UDAPI1099"),
        ("POST /v2/charges/margin", {"instruments": [{}] * 21}, {}, "UDAPI1102"),
        ("POST /v2/charges/margin", {"instruments": [{"instrument_key": RELIANCE}] * 2}, {}, "UDAPI1103"),
        ("PUT /v2/portfolio/convert-position", {}, {}, "UDAPI1026"),
        ("POST /v2/user/kill-switch", [{"segment": "NSE"}], {}, "UDAPI1186"),
        ("POST /v2/user/kill-switch", [{"segment": "NSE_EQ", "action": "OFF"}], {}, "UDAPI1188"),
        ("GET /v2/market/status/NSE_EQ", None, {}, "UDAPI1089"),
        ("GET /v2/market/holidays/tomorrow", None, {}, "UDAPI1088"),
        ("GET /v2/market/timings/01-01-2026", None, {}, "UDAPI1088"),
        ("GET /v2/option/contract", None, {}, "UDAPI1011"),
        ("GET /v2/option/chain", None, {"instrument_key": RELIANCE}, "UDAPI1088"),
        ("GET /v3/market-quote/ltp", None, {}, "UDAPI1009"),
        ("GET /v3/market-quote/ohlc", None, {"instrument_key": RELIANCE}, "UDAPI1027"),
        ("GET /v3/market-quote/ohlc", None, {"instrument_key": RELIANCE, "interval": "2d"}, "UDAPI1028"),
        ("GET /v3/market-quote/ltp", None, {"instrument_key": ",".join([RELIANCE] * 501)}, "UDAPI100043"),
        ("GET /v3/market-quote/quotes", None, {"instrument_key": ",".join([RELIANCE] * 501)}, "UDAPI100042"),
        ("GET /v3/market-quote/option-greek", None, {"instrument_key": ",".join([RELIANCE] * 51)}, "UDAPI100076"),
    ],
)
async def test_a_bad_call_is_refused(
    upstox_emulator: UpstoxEmulator, call_to: str, body: Any, query: dict[str, str], code: str
) -> None:
    method, path = call_to.split()
    async with client(upstox_emulator) as call:
        assert await call.refused(method, path, body, **query) == (400, code)
