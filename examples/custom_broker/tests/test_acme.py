"""The plugin keeps every promise of a broker, and never sends an order twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from acme_server import TOKEN, AcmeServer
from hybridbroker_acme.broker import AcmeBroker
from hybridbroker_acme.settings import AcmeSettings

from hybridbroker import (
    InstrumentKind,
    InstrumentRegistry,
    LimitOrder,
    OrderOutcomeUnknown,
    RiskLimits,
    Side,
    SystemClock,
    Tick,
    find_broker,
)
from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.market import TickDetails
from hybridbroker.execution import guarded
from hybridbroker.testing.conformance import BROKER_CHECKS, BrokerSubject, Check, Outcome, run_check
from hybridbroker.testing.factories import make_instrument, make_tick

REGISTRY = InstrumentRegistry.builtin()
SHARE = REGISTRY["NSE:RELIANCE"]
CLOCK = SystemClock()


def tick_at(price: Decimal) -> Tick:
    at = to_epoch_ms(CLOCK.now())
    return make_tick(instrument=SHARE, last_price=float(price), traded_ms=at, received_ms=at, details=TickDetails())


def settings(server: AcmeServer) -> AcmeSettings:
    return AcmeSettings(token=TOKEN, base_url=server.url)


@pytest.fixture
async def server() -> AsyncIterator[AcmeServer]:
    async with AcmeServer(REGISTRY) as running:
        running.trade_at(tick_at(Decimal(1400)))
        yield running


@pytest.mark.parametrize("check", BROKER_CHECKS, ids=lambda check: check.id)
async def test_acme_keeps_every_promise(check: Check[BrokerSubject], server: AcmeServer) -> None:
    async def move(price: Decimal) -> None:
        server.trade_at(tick_at(price))

    async with AcmeBroker(settings(server), instruments=REGISTRY, clock=CLOCK) as broker:
        subject = BrokerSubject(
            broker=broker,
            instrument=SHARE,
            price=Decimal(1400),
            move=move,
            unmapped=make_instrument(id="NSE:X:2026-11-24:FUT", symbol="X", kind=InstrumentKind.FUTURE),
            within=2.0,
        )
        result = await run_check(check, subject)

    if result.outcome is Outcome.SKIPPED:
        pytest.skip(result.detail)
    assert result.outcome is Outcome.KEPT, result.detail


async def test_a_lost_answer_is_unknown_and_not_sent_again(server: AcmeServer) -> None:
    server.loses_replies = 1
    async with AcmeBroker(settings(server), instruments=REGISTRY, clock=CLOCK) as broker:
        order = LimitOrder(SHARE, Side.BUY, quantity=1, price=Decimal(1380), client_order_id="lost-1")

        with pytest.raises(OrderOutcomeUnknown):
            await broker.place_order(order)
        found = await broker.find_order("lost-1")

    assert found is not None
    assert server.posts == 1


async def test_the_entry_point_leads_to_the_plugin() -> None:
    assert find_broker("acme").title == "Acme Securities"


async def test_behind_the_guard_a_lost_answer_is_found(server: AcmeServer) -> None:
    server.loses_replies = 1
    async with (
        AcmeBroker(settings(server), instruments=REGISTRY, clock=CLOCK) as broker,
        guarded(broker, journal=":memory:", limits=RiskLimits(require_open_session=False)) as guard,
    ):
        order = await guard.place_order(LimitOrder(SHARE, Side.BUY, quantity=1, price=Decimal(1380)))

    assert order.is_open
    assert server.posts == 1
