"""Every answer of the emulated Upstox has the fields that the vendor's own examples have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from emulator_kit import NIFTY, RELIANCE
from upstox_orders_kit import Client, client, message, order, portfolio

from hybridbroker.domain.portfolio import Holding
from hybridbroker.testing.emulators import LISTED, EmulatedMarket, UpstoxEmulator, option_series

OPTION = "NSE_FO|40001"
SPAN = {"start_date": "2026-01-01", "end_date": "2026-12-31", "page_number": 1, "page_size": 10}
QUOTED = frozenset({"NSE_EQ:NHPC", "NSE_FO:NIFTY2543021600PE", "NSE_FO:NIFTY2540923000PE"})

READS: dict[str, tuple[str, dict[str, Any]]] = {
    "get-order-details": ("/v2/order/details", {"order_id": "{order}"}),
    "get-order-history": ("/v2/order/history", {"order_id": "{order}"}),
    "get-trade-history": ("/v2/order/trades/get-trades-for-day", {}),
    "get-trades-by-order": ("/v2/order/trades", {"order_id": "{order}"}),
    "get-historical-trades": ("/v2/charges/historical-trades", SPAN),
    "get-gtt-order-details": ("/v3/order/gtt", {}),
    "get-positions": ("/v2/portfolio/short-term-positions", {}),
    "get-mtf-positions": ("/v3/portfolio/mtf-positions", {}),
    "get-holdings": ("/v2/portfolio/long-term-holdings", {}),
    "get-user-fund-margin": ("/v2/user/get-funds-and-margin", {}),
    "get-profile": ("/v2/user/profile", {}),
    "get-full-market-quote": ("/v2/market-quote/quotes", {"instrument_key": RELIANCE}),
    "get-market-quote-ohlc-v3": ("/v3/market-quote/ohlc", {"instrument_key": RELIANCE, "interval": "I1"}),
    "ltp-v3": ("/v3/market-quote/ltp", {"instrument_key": RELIANCE}),
    "option-greek": ("/v3/market-quote/option-greek", {"instrument_key": OPTION}),
    "get-market-quote-ohlc": ("/v2/market-quote/ohlc", {"instrument_key": RELIANCE, "interval": "1d"}),
    "ltp": ("/v2/market-quote/ltp", {"instrument_key": RELIANCE}),
    "get-market-holidays": ("/v2/market/holidays/2026-02-01", {}),
    "get-market-timings": ("/v2/market/timings/2026-10-06", {}),
    "get-market-status": ("/v2/market/status/NSE", {}),
    "get-option-contracts": ("/v2/option/contract", {"instrument_key": NIFTY}),
    "get-pc-option-chain": ("/v2/option/chain", {"instrument_key": NIFTY, "expiry_date": "current_week"}),
    "get-portfolio-stream-feed-authorize": ("/v2/feed/portfolio-stream-feed/authorize", {}),
}


@pytest.fixture
def documented(shared_data: Path) -> dict[str, list[Any]]:
    path = shared_data / "samples" / "doc_samples" / "upstox_docs_json_examples.json"
    examples: dict[str, list[Any]] = json.loads(path.read_text())
    return examples


def missing(example: Any, answer: Any, place: str = "") -> Iterator[str]:
    """Yield the fields that the example has and the answer lacks; maps of quotes are compared by their rows."""
    if isinstance(example, dict) and isinstance(answer, dict):
        if QUOTED & set(example):
            yield from missing(next(iter(example.values())), next(iter(answer.values())), place + "/*")
            return
        for name, each in example.items():
            if name not in answer:
                yield f"{place}/{name}"
            elif each is not None:
                yield from missing(each, answer[name], f"{place}/{name}")
    elif isinstance(example, list) and example:
        if not isinstance(answer, list) or not answer:
            yield f"{place}[]"
        else:
            yield from missing(example[0], answer[0], place + "[0]")
    elif isinstance(example, dict):
        yield f"{place} is {type(answer).__name__}"


async def prepared(upstox: UpstoxEmulator, call: Client) -> str:
    """Trade a little of everything; return the id of a traded order."""
    traded = await call.place(price=1410.0, quantity=3)
    await call.place(product="MTF", price=1410.0, quantity=1)
    rule = {"strategy": "ENTRY", "trigger_type": "BELOW", "trigger_price": 1300.0}
    body = {"type": "SINGLE", "quantity": 1, "product": "D", "instrument_token": RELIANCE, "transaction_type": "BUY"}
    await call("POST", "/v3/order/gtt/place", {**body, "rules": [rule]})
    return traded


def market() -> EmulatedMarket:
    series = option_series(LISTED[-1], expiry=date(2026, 10, 13), strikes=(25_000,))
    return EmulatedMarket.still((*LISTED, *series), prices={series[0].instrument.id: 120.0})


@pytest.mark.parametrize("name", READS)
async def test_a_read_has_every_documented_field(documented: dict[str, list[Any]], name: str) -> None:
    path, query = READS[name]
    traded = market()
    tcs = traded.by_instrument("NSE:TCS").instrument
    held = Holding(instrument=tcs, quantity=2, available_quantity=2, average_price=Decimal(3000))
    async with UpstoxEmulator(traded, holdings=[held]) as upstox, client(upstox) as call:
        order_id = await prepared(upstox, call)
        if name == "get-historical-trades":
            await traded.move("NSE:RELIANCE", 1400.0, seconds=86_400)
        await traded.move("NSE:RELIANCE", 1400.0, seconds=60)
        reply = await call.http.get(path, params={key: str(v).format(order=order_id) for key, v in query.items()})

    assert reply.status_code == 200, reply.text
    examples = [each for each in documented[name] if isinstance(each, dict) and "data" in each]
    assert list(missing(examples[0], reply.json())) == []


async def test_an_order_book_row_has_every_documented_field(documented: dict[str, list[Any]]) -> None:
    async with UpstoxEmulator(market()) as upstox, client(upstox) as call:
        await call.place()
        (row,) = await call("GET", "/v2/order/retrieve-all")

    assert set(row) == set(documented["get-order-book"][0][0])


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("v3/place-order", "POST", "/v3/order/place"),
        ("place-order", "POST", "/v2/order/place"),
        ("v3/modify-order", "PUT", "/v3/order/modify"),
        ("modify-order", "PUT", "/v2/order/modify"),
        ("v3/cancel-order", "DELETE", "/v3/order/cancel"),
        ("cancel-order", "DELETE", "/v2/order/cancel"),
        ("place-multi-order", "POST", "/v2/order/multi/place"),
        ("cancel-multi-order", "DELETE", "/v2/order/multi/cancel"),
        ("exit-all-positions", "POST", "/v2/order/positions/exit"),
    ],
)
async def test_a_write_answers_in_the_documented_shape(
    documented: dict[str, list[Any]], name: str, method: str, path: str
) -> None:
    async with UpstoxEmulator(market()) as upstox, client(upstox) as call:
        await call.place(product="I", price=1410.0, quantity=1)
        order_id = await call.place()
        body: Any = {**order(), "order_id": order_id}
        if name == "place-multi-order":
            body = [order(correlation_id="1"), order(correlation_id="2")]
        query = {"order_id": order_id} if "cancel-order" in name else {}
        reply = await call.http.request(method, path, json=body if method != "DELETE" else None, params=query)

    example = documented[name][0]
    assert reply.status_code == 200, reply.text
    assert list(missing(example, reply.json())) == []
    answer = reply.json()["data"]
    assert type(answer) is type(example["data"])


async def test_stream_messages_have_every_documented_field(documented: dict[str, list[Any]]) -> None:
    told: dict[str, dict[str, Any]] = {}
    traded = market()
    reliance = traded.by_instrument("NSE:RELIANCE").instrument
    held = Holding(instrument=reliance, quantity=2, available_quantity=2, average_price=Decimal(1300))
    async with (
        UpstoxEmulator(traded, holdings=[held]) as upstox,
        client(upstox) as call,
        portfolio(upstox, "order,gtt_order,position,holding") as socket,
    ):
        await prepared(upstox, call)
        await call.place(transaction_type="SELL", quantity=4, price=1390.0)
        while len(told) < 4:
            each = await message(socket)
            told[each["update_type"]] = each

    for example in documented["get-portfolio-stream-feed"]:
        if isinstance(example, dict):
            assert list(missing(example, told[example["update_type"]])) == []
