"""What GTT and bracket orders promise, where a broker has them."""

from __future__ import annotations

from typing import Final

from hybridbroker.domain.orders import Product, Side
from hybridbroker.domain.standing import (
    Bracket,
    BracketOrder,
    Gtt,
    GttOrder,
    LegRole,
    LegStatus,
    OcoOrder,
    Trigger,
)
from hybridbroker.protocols import BracketOrders, Capability, GttOrders
from hybridbroker.testing.conformance.kit import BrokerSubject, Check, expect

__all__ = ["STANDING_CHECKS"]


def _gtts(subject: BrokerSubject) -> GttOrders:
    broker = subject.broker
    expect(isinstance(broker, GttOrders), "it states the ability, and lacks the methods of GttOrders")
    assert isinstance(broker, GttOrders)  # noqa: S101 - narrowed above
    return broker


async def a_gtt_waits_and_can_be_cancelled(subject: BrokerSubject) -> None:
    """A GTT order is listed with its terms while it waits, and is no longer live once cancelled."""
    broker = _gtts(subject)
    request = GttOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        trigger=Trigger(subject.at("-0.04")),
        client_order_id=subject.name(),
    )

    placed = await broker.place_gtt(request)
    shown = await _listed(subject, placed.id)

    expect(shown.is_live and not shown.is_oco, f"it is shown as {shown}")
    got = (shown.instrument, shown.side, shown.quantity)
    expect(got == (request.instrument, request.side, request.quantity), f"its terms are shown as {got}")
    leg = shown.leg(LegRole.ENTRY)
    expect(leg is not None, "a single GTT has one entry leg")
    assert leg is not None  # noqa: S101 - narrowed above
    expect(leg.status is LegStatus.ARMED, f"its leg is {leg.status.value} ({leg.raw!r})")
    expect(leg.trigger_price == request.trigger.trigger_price, f"its trigger is {leg.trigger_price}")
    await _cancelled(subject, placed.id)


async def an_oco_has_a_target_and_a_stop(subject: BrokerSubject) -> None:
    """An OCO order is listed with its target above and its stop below, each at its own price."""
    broker = _gtts(subject)
    held = await _bought(subject)
    request = OcoOrder(
        subject.instrument,
        Side.SELL,
        quantity=held,
        target=Trigger(subject.at("0.04"), price=subject.at("0.035")),
        stop=Trigger(subject.at("-0.04"), price=subject.at("-0.045")),
        client_order_id=subject.name(),
    )

    placed = await broker.place_gtt(request)
    shown = await _listed(subject, placed.id)

    target, stop = shown.leg(LegRole.TARGET), shown.leg(LegRole.STOP)
    expect(target is not None and stop is not None, f"its legs are {shown.legs}")
    assert target is not None  # noqa: S101 - narrowed above
    assert stop is not None  # noqa: S101 - narrowed above
    expect(target.trigger_price == request.target.trigger_price, f"its target is {target.trigger_price}")
    expect(stop.trigger_price == request.stop.trigger_price, f"its stop is {stop.trigger_price}")
    await _cancelled(subject, placed.id)


async def one_leg_of_an_oco_cancels_the_other(subject: BrokerSubject) -> None:
    """When the stop of an OCO order is reached it sells once, and the target is dead."""
    broker = _gtts(subject)
    held = await _bought(subject)
    placed = await broker.place_gtt(
        OcoOrder(
            subject.instrument,
            Side.SELL,
            quantity=held,
            target=Trigger(subject.at("0.02"), price=subject.at("0.015")),
            stop=Trigger(subject.at("-0.02"), price=subject.at("-0.03")),
            client_order_id=subject.name(),
        )
    )

    async def over() -> Gtt | None:
        shown = await _found(subject, placed.id)
        return shown if shown is None or not shown.is_live else None

    async def sold() -> bool:
        return await _units(subject) == 0

    try:
        await subject.moved(subject.at("-0.022"))
        await subject.until(sold, "sale by the stop")
        await subject.moved(subject.at("0.025"))
        after = await subject.until(over, "end of the OCO order")
    finally:
        await subject.moved(subject.price)

    target = after.leg(LegRole.TARGET)
    expect(target is None or target.status is not LegStatus.FILLED, "both legs sold")
    expect(await _units(subject) == 0, f"{await _units(subject)} units are held after one sale")


async def a_bracket_is_listed_with_its_legs(subject: BrokerSubject) -> None:
    """A bracket order is listed with its entry, and is no longer live once its entry is cancelled."""
    broker = subject.broker
    expect(isinstance(broker, BracketOrders), "it states the ability, and lacks the methods of BracketOrders")
    assert isinstance(broker, BracketOrders)  # noqa: S101 - narrowed above
    request = BracketOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        price=subject.at("-0.03"),
        target_price=subject.at("0.01"),
        stop_price=subject.at("-0.045"),
        product=Product.INTRADAY,
        client_order_id=subject.name(),
    )

    placed = await broker.place_bracket(request)

    async def listed() -> Bracket | None:
        return next((each for each in await broker.brackets() if each.id == placed.id), None)

    shown = await subject.until(listed, "bracket order in the list")
    expect(shown.is_live, f"it is shown as {shown}")
    expect(shown.quantity == request.quantity, f"it is for {shown.quantity} units")
    await broker.cancel_bracket(placed.id)

    async def over() -> bool:
        found = await listed()
        return found is None or not found.is_live

    await subject.until(over, "end of a cancelled bracket order")


async def _bought(subject: BrokerSubject) -> int:
    """Hold one lot as delivery, and return its units."""
    if not await _units(subject):
        delivery = BrokerSubject(
            broker=subject.broker,
            instrument=subject.instrument,
            price=subject.price,
            product=Product.DELIVERY,
            clock=subject.clock,
            within=subject.within,
        )
        await delivery.trade(Side.BUY)
    return subject.quantity


async def _units(subject: BrokerSubject) -> int:
    return sum(
        each.quantity
        for each in await subject.broker.positions()
        if each.instrument == subject.instrument and each.product is Product.DELIVERY
    )


async def _found(subject: BrokerSubject, gtt_id: str) -> Gtt | None:
    return next((each for each in await _gtts(subject).gtts() if each.id == gtt_id), None)


async def _listed(subject: BrokerSubject, gtt_id: str) -> Gtt:
    found: Gtt = await subject.until(lambda: _found(subject, gtt_id), "standing order in the list")
    return found


async def _cancelled(subject: BrokerSubject, gtt_id: str) -> None:
    await _gtts(subject).cancel_gtt(gtt_id)

    async def over() -> bool:
        shown = await _found(subject, gtt_id)
        return shown is None or not shown.is_live

    await subject.until(over, "end of a cancelled standing order")


_FILLS: Final = Capability.FILLS | Capability.PORTFOLIO | Capability.ORDER_BOOK

STANDING_CHECKS: Final[tuple[Check[BrokerSubject], ...]] = (
    Check(id="GTT-010", needs=Capability.GTT_ORDERS, body=a_gtt_waits_and_can_be_cancelled),
    Check(id="GTT-020", needs=Capability.OCO_ORDERS | _FILLS, body=an_oco_has_a_target_and_a_stop),
    Check(id="GTT-030", needs=Capability.OCO_ORDERS | _FILLS, body=one_leg_of_an_oco_cancels_the_other),
    Check(id="BRK-010", needs=Capability.BRACKET_ORDERS, body=a_bracket_is_listed_with_its_legs),
)
