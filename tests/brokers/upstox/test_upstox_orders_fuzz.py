"""Mutated books, messages and answers: errors of ours, or values that hold together; never anything else."""

from __future__ import annotations

import json
import random
from typing import Any, Final

import pytest
from upstox_desk_kit import message, order_row
from upstox_kit import RELIANCE

from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.brokers.upstox.orders.mapping import (
    funds_from_v3,
    holding_from_wire,
    order_from_wire,
    position_from_wire,
    trade_from_wire,
)
from hybridbroker.brokers.upstox.orders.standing import standing_from_wire
from hybridbroker.brokers.upstox.orders.update_feed import read_message
from hybridbroker.domain.orders import Order
from hybridbroker.errors import HybridBrokerError
from hybridbroker.transport.http import Response

STRANGE: Final[tuple[Any, ...]] = (
    None,
    "",
    "NA",
    0,
    -1,
    1.5,
    1e308,
    10**30,
    True,
    [],
    {},
    "\x00",
    "x" * 5000,
    "2026-13-45 99:99:99",
    "99999-01-01 00:00:00",
    [[]],
    {"a": None},
    "१२३",
)
GTT: Final = {
    "type": "SINGLE",
    "instrument_token": "NSE_EQ|INE000A01018",
    "quantity": 1,
    "product": "D",
    "gtt_order_id": "GTT-1",
    "created_at": 1790823600000000,
    "expires_at": 1822359600000000,
    "rules": [{"strategy": "ENTRY", "status": "SCHEDULED", "trigger_price": 5, "transaction_type": "BUY"}],
}
TRADE: Final = {
    "order_id": "1",
    "trade_id": "2",
    "instrument_token": "NSE_EQ|INE000A01018",
    "product": "I",
    "transaction_type": "BUY",
    "quantity": 1,
    "average_price": 1.5,
    "exchange_timestamp": "01-Oct-2026 09:20:11",
}
POSITION: Final = {"instrument_token": "NSE_EQ|INE000A01018", "product": "I", "quantity": 1, "buy_price": 2.5}
HOLDING: Final = {"instrument_token": "NSE_EQ|INE000A01018", "quantity": 1, "t1_quantity": 0}
FUNDS: Final = {"available_to_trade": {"total": 1.5, "cash_available_to_trade": {"margin_used": {"total": 1}}}}


def read(kind: str, payload: Any) -> None:
    match kind:
        case "order":
            order_from_wire(wire.OrderRow.read(payload, what="x"), instrument=RELIANCE)
        case "gtt":
            standing_from_wire(wire.GttRow.read(payload, what="x"), instrument=RELIANCE, client_order_id=None)
        case "trade":
            trade_from_wire(wire.TradeRow.read(payload, what="x"), instrument=RELIANCE)
        case "position":
            position_from_wire(wire.PositionRow.read(payload, what="x"), instrument=RELIANCE)
        case "holding":
            holding_from_wire(wire.HoldingRow.read(payload, what="x"), instrument=RELIANCE)
        case "funds":
            funds_from_v3(wire.FundsV3.read(payload, what="x"))


SAMPLES: Final = {
    "order": order_row(),
    "gtt": GTT,
    "trade": TRADE,
    "position": POSITION,
    "holding": HOLDING,
    "funds": FUNDS,
}


def mutated(value: Any, dice: random.Random) -> Any:
    """Return ``value`` with a part of it replaced, dropped or nested deeper."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(sorted(value))
        copy = dict(value)
        if dice.random() < 0.15:
            del copy[key]
        else:
            copy[key] = mutated(copy[key], dice)
        return copy
    if isinstance(value, list) and value and dice.random() < 0.7:
        index = dice.randrange(len(value))
        return [*value[:index], mutated(value[index], dice), *value[index + 1 :]]
    return dice.choice(STRANGE)


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_mutated_row_is_read_or_refused_in_our_words(kind: str) -> None:
    dice, longest = random.Random(kind), 0
    for _ in range(1500):
        payload = SAMPLES[kind]
        for _ in range(dice.randint(1, 3)):
            payload = mutated(payload, dice)
        try:
            read(kind, payload)
        except HybridBrokerError as exc:
            longest = max(longest, len(str(exc)))

    assert 0 < longest < 1000


def test_mutated_bytes_of_a_message_are_read_or_refused_in_our_words() -> None:
    dice = random.Random(7)
    whole = bytearray(message().encode())
    read_well = 0
    for _ in range(3000):
        frame = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(frame))
            match dice.randrange(3):
                case 0:
                    frame[at] = dice.randrange(256)
                case 1:
                    del frame[at : at + dice.randrange(1, 30)]
                case _:
                    frame[at:at] = bytes([dice.randrange(256)])
        try:
            row = read_message(bytes(frame))
            if isinstance(row, wire.OrderRow):
                read_well += isinstance(order_from_wire(row, instrument=RELIANCE), Order)
        except HybridBrokerError:
            continue

    assert read_well


@pytest.mark.parametrize("body", [b"", b"[", b"null", b"[]", b'"x"', b'{"status":"success","data":5}', b"[" * 100_000])
def test_an_answer_that_is_none_is_refused_in_our_words(body: bytes) -> None:
    with pytest.raises(HybridBrokerError):
        wire.rows_of(Response(status=200, body=body, request="GET /x"))


def test_the_samples_are_good() -> None:
    assert SAMPLES
    for kind, payload in SAMPLES.items():
        read(kind, json.loads(json.dumps(payload)))
