"""The paper broker keeps every promise, and the kit notices brokers that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.market import TickDetails
from hybridbroker.domain.orders import Order, OrderRequest, OrderStatus
from hybridbroker.domain.standing import Gtt, GttOrder, LegRole, OcoOrder
from hybridbroker.errors import OrderRejected
from hybridbroker.protocols import Capability
from hybridbroker.simulation.paper import PaperBroker
from hybridbroker.testing.clock import ManualClock
from hybridbroker.testing.conformance import (
    BROKER_CHECKS,
    BrokerSubject,
    Check,
    Outcome,
    run_check,
    run_checks,
)
from hybridbroker.testing.factories import make_instrument, make_quote, make_tick

SHARE = make_instrument(symbol="RELIANCE")
PRICE = Decimal(1400)


def trades_at(broker: PaperBroker, clock: ManualClock, price: Decimal) -> None:
    at = to_epoch_ms(clock.now())
    broker.feed(
        make_tick(instrument=SHARE, last_price=float(price), traded_ms=at, received_ms=at, details=TickDetails())
    )


def subject_of(kind: type[PaperBroker] = PaperBroker) -> BrokerSubject:
    clock = ManualClock()

    async def quotes(_: object) -> dict[Any, Any]:
        return {SHARE: make_quote(instrument=SHARE, last_price=float(PRICE))}

    broker = kind(SimpleNamespace(quotes=quotes), clock=clock)

    async def move(price: Decimal) -> None:
        trades_at(broker, clock, price)

    trades_at(broker, clock, PRICE)
    return BrokerSubject(broker=broker, instrument=SHARE, price=PRICE, clock=clock, move=move, within=0.3)


@pytest.fixture
async def subject() -> AsyncIterator[BrokerSubject]:
    given = subject_of()
    async with given.broker:
        yield given


@pytest.mark.parametrize("check", BROKER_CHECKS, ids=lambda check: check.id)
async def test_paper_broker_keeps_every_promise(check: Check[BrokerSubject], subject: BrokerSubject) -> None:
    result = await run_check(check, subject)

    if result.outcome is Outcome.SKIPPED:
        pytest.skip(result.detail)
    assert result.outcome is Outcome.KEPT, result.detail


async def test_paper_broker_keeps_them_one_after_the_other(subject: BrokerSubject) -> None:
    told: list[str] = []

    report = await run_checks(BROKER_CHECKS, subject, after=lambda result: told.append(result.id))

    assert report.passed, report
    assert told == [check.id for check in BROKER_CHECKS]


class ForgetsNames(PaperBroker):
    async def place_order(self, request: OrderRequest) -> Order:
        return attrs.evolve(await super().place_order(request), client_order_id="other")


class FindsNothing(PaperBroker):
    async def find_order(self, client_order_id: str) -> Order | None:
        return None


class RefusesToCancelTwice(PaperBroker):
    async def cancel_order(self, order_id: str) -> Order:
        if (await self.order(order_id)).is_final:
            raise OrderRejected("it is over")
        return await super().cancel_order(order_id)


class IgnoresChanges(PaperBroker):
    async def modify_order(self, order_id: str, **_: Any) -> Order:
        return await self.order(order_id)


class NewestFirst(PaperBroker):
    async def orders(self) -> Sequence[Order]:
        return tuple(reversed(await super().orders()))


class SaysNothing(PaperBroker):
    def publish(self, orders: Any) -> None:
        pass


class CallsARejectionOpen(PaperBroker):
    async def place_order(self, request: OrderRequest) -> Order:
        try:
            return await super().place_order(request)
        except OrderRejected:
            return (await self.orders())[-1]

    async def order(self, order_id: str) -> Order:
        found = await super().order(order_id)
        return attrs.evolve(found, status=OrderStatus.OPEN) if found.status is OrderStatus.REJECTED else found


class SwapsLegs(PaperBroker):
    async def gtts(self) -> Sequence[Gtt]:
        swap = {LegRole.TARGET: LegRole.STOP, LegRole.STOP: LegRole.TARGET}
        return [
            attrs.evolve(gtt, legs=tuple(attrs.evolve(leg, role=swap.get(leg.role, leg.role)) for leg in gtt.legs))
            for gtt in await super().gtts()
        ]


class ForgetsTheOther(PaperBroker):
    """Two singles for one OCO: both may sell."""

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        if isinstance(request, GttOrder):
            return await super().place_gtt(request)
        for trigger in (request.target, request.stop):
            last = await super().place_gtt(
                GttOrder(request.instrument, request.side, quantity=request.quantity, trigger=trigger)
            )
        return last


class ClaimsWhatItCannot(PaperBroker):
    capabilities = PaperBroker.capabilities & ~Capability.STOP_MARKET_ORDERS


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        pytest.param(ForgetsNames, "ORD-010", id="forgets names"),
        pytest.param(FindsNothing, "ORD-030", id="finds nothing"),
        pytest.param(RefusesToCancelTwice, "ORD-080", id="refuses to cancel twice"),
        pytest.param(IgnoresChanges, "ORD-060", id="ignores changes"),
        pytest.param(NewestFirst, "ORD-100", id="newest first"),
        pytest.param(SaysNothing, "ORD-190", id="says nothing"),
        pytest.param(CallsARejectionOpen, "ORD-180", id="calls a rejection open"),
        pytest.param(ClaimsWhatItCannot, "ORD-160", id="does what it says it cannot"),
        pytest.param(SwapsLegs, "GTT-020", id="swaps target and stop"),
        pytest.param(ForgetsTheOther, "GTT-020", id="forgets the other leg"),
    ],
)
async def test_a_broken_promise_is_noticed(kind: type[PaperBroker], broken: str) -> None:
    (check,) = [each for each in BROKER_CHECKS if each.id == broken]

    result = await run_check(check, subject_of(kind))

    assert result.outcome is Outcome.BROKEN
    assert result.detail


def test_every_check_has_an_id_of_its_own_and_a_promise() -> None:
    ids = [check.id for check in BROKER_CHECKS]

    assert len(set(ids)) == len(ids)
    assert all(check.promise.endswith(".") for check in BROKER_CHECKS)


async def test_a_check_of_a_missing_ability_is_skipped(subject: BrokerSubject) -> None:
    (check,) = [each for each in BROKER_CHECKS if each.id == "PRT-050"]

    result = await run_check(check, subject)

    assert result.outcome is Outcome.SKIPPED
    assert "MARGINS" in result.detail


async def test_what_is_no_error_of_a_broker_is_not_swallowed(subject: BrokerSubject) -> None:
    async def defect(_: BrokerSubject) -> None:
        """Never."""
        raise KeyError("a defect")

    checks: Callable[[], Any] = lambda: Check(id="X", body=defect)  # noqa: E731

    with pytest.raises(KeyError):
        await run_check(checks(), subject)
