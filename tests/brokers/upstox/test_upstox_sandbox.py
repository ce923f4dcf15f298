"""The sandbox keeps the promises it can keep, and what it refuses is refused in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from pydantic import SecretStr
from upstox_desk_kit import ID, Answer, always, limit_order, script, serving
from upstox_kit import Lookup

from hybridbroker.brokers.upstox import SANDBOX_CAPABILITIES
from hybridbroker.brokers.upstox.sandbox import UpstoxSandboxBroker
from hybridbroker.brokers.upstox.settings import SANDBOX_URL, UpstoxSettings
from hybridbroker.domain.orders import OrderStatus, Side
from hybridbroker.errors import OrderNotFound, OrderOutcomeUnknown, OrderRejected
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.conformance import BROKER_CHECKS, BrokerSubject, Check, Outcome, run_check
from hybridbroker.testing.emulators import EmulatedMarket, UpstoxEmulator

CHECKS = [check for check in BROKER_CHECKS if check.needs in SANDBOX_CAPABILITIES]


TOKEN = "a-token-of-the-sandbox"


def sandbox_settings(url: str, *, token: str = TOKEN) -> UpstoxSettings:
    return UpstoxSettings(_env_file=None, sandbox_token=SecretStr(token), base_url=url, order_url=url).for_sandbox()


def sandbox_at(url: str) -> UpstoxSandboxBroker:
    return UpstoxSandboxBroker(sandbox_settings(url), instruments=Lookup(), clock=ManualClock())


@pytest.fixture
async def exchange() -> AsyncIterator[UpstoxEmulator]:
    async with UpstoxEmulator(EmulatedMarket.still(), sandbox=True) as exchange:
        yield exchange


@pytest.fixture
async def subject(exchange: UpstoxEmulator) -> AsyncIterator[BrokerSubject]:
    registry = InstrumentRegistry.builtin()
    settings = sandbox_settings(exchange.rest_url, token=exchange.access_token)
    async with UpstoxSandboxBroker(settings, instruments=registry, clock=ManualClock()) as broker:
        yield BrokerSubject(broker=broker, instrument=registry["NSE:RELIANCE"], price=Decimal(1400))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
async def test_the_sandbox_keeps_the_promise(check: Check[BrokerSubject], subject: BrokerSubject) -> None:
    result = await run_check(check, subject)

    assert result.outcome is Outcome.KEPT, result.detail


def test_some_promises_are_asked_of_it() -> None:
    assert CHECKS


async def test_a_market_that_the_sandbox_calls_closed_is_a_rejection(
    exchange: UpstoxEmulator, subject: BrokerSubject
) -> None:
    exchange.desk.trading.sandbox_closed = True

    with pytest.raises(OrderRejected) as caught:
        await subject.trade(Side.BUY)

    assert caught.value.code == "UDAPI100057"


async def test_an_empty_refusal_of_the_sandbox_is_no_answer() -> None:
    async with serving(always(Answer(status=400))) as server, sandbox_at(server.url) as broker:
        with pytest.raises(OrderOutcomeUnknown):
            await broker.place_order(limit_order())

    assert len(server.asked) == 1


async def test_only_what_was_placed_here_can_be_changed_or_cancelled() -> None:
    done = Answer.data({"order_ids": [ID], "order_id": ID})
    async with serving(always(done)) as server, sandbox_at(server.url) as broker:
        for change in (broker.modify_order("1", quantity=5), broker.cancel_order("1")):
            with pytest.raises(OrderNotFound, match="placed through this object"):
                await change
        placed = await broker.place_order(limit_order(disclosed_quantity=5))
        unchanged = await broker.modify_order(placed.id)
        changed = await broker.modify_order(placed.id, quantity=20)
        await broker.cancel_order(placed.id)
        again = await broker.cancel_order(placed.id)

    assert unchanged == placed
    assert (changed.quantity, again.status) == (20, OrderStatus.CANCELLED)
    assert [each.method for each in server.asked] == ["POST", "PUT", "DELETE"]
    assert server.asked[1].json()["disclosed_quantity"] == 5
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_refused_cancellation_in_the_sandbox_changes_nothing() -> None:
    answers = script(("POST", Answer.data({"order_ids": [ID]})), ("DELETE", Answer.refusal("UDAPI100040")))
    async with serving(answers) as server, sandbox_at(server.url) as broker:
        placed = await broker.place_order(limit_order())
        with pytest.raises(OrderRejected):
            await broker.cancel_order(placed.id)


def test_the_sandbox_is_at_its_own_address() -> None:
    settings = sandbox_settings("https://api.upstox.com")

    assert (settings.base_url, settings.order_url) == (SANDBOX_URL, SANDBOX_URL)
    assert settings.access_token.get_secret_value() == TOKEN
