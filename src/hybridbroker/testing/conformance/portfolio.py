"""What `Portfolio` and the abilities around money promise."""

from __future__ import annotations

from typing import Final

from hybridbroker.domain.orders import LimitOrder, Side
from hybridbroker.domain.portfolio import Position
from hybridbroker.protocols import Capability, Margins
from hybridbroker.testing.conformance.kit import BrokerSubject, Check, Skipped, expect

__all__ = ["PORTFOLIO_CHECKS"]

_TRADES: Final = Capability.LIMIT_ORDERS | Capability.ORDER_BOOK | Capability.PORTFOLIO | Capability.FILLS

_MARGINS: Final = Capability.MARGINS | Capability.ORDER_BOOK


async def funds_are_told(subject: BrokerSubject) -> None:
    """`funds` tells what can be spent, in rupees, nothing of it negative."""
    funds = await subject.broker.funds()

    expect(funds.available >= 0, f"{funds.available} rupees are available")
    expect(funds.used >= 0, f"{funds.used} rupees are used")
    expect(funds.collateral <= funds.available, "the collateral is more than what is available with it")


async def holdings_are_consistent(subject: BrokerSubject) -> None:
    """`holdings` is a sequence, empty or not, and nobody can sell more than he holds."""
    for each in await subject.broker.holdings():
        expect(
            0 <= each.available_quantity <= each.quantity, f"{each.available_quantity} of {each.quantity} can be sold"
        )
        expect(each.unsettled_quantity <= each.quantity, f"{each.unsettled_quantity} of {each.quantity} are unsettled")


async def a_purchase_is_a_position(subject: BrokerSubject) -> None:
    """What was bought is a position at its price, and what was sold again is closed with both sides counted."""
    before = await _position(subject)
    units = before.quantity if before else 0

    bought = await subject.trade(Side.BUY)

    async def opened() -> Position | None:
        now = await _position(subject)
        return now if now is not None and now.quantity == units + subject.quantity else None

    held = await subject.until(opened, "position of what was bought")
    if not units:
        average = bought.average_price or subject.price
        expect(
            abs(held.average_price - average) <= subject.instrument.tick_size,
            f"bought at {average}, the position says {held.average_price}",
        )

    await subject.trade(Side.SELL)

    async def closed() -> Position | None:
        now = await _position(subject)
        return now if now is not None and now.quantity == units else None

    after = await subject.until(closed, "closed position, which stays in the list for the day")
    expect(
        after.bought_quantity - after.sold_quantity == after.quantity,
        f"bought {after.bought_quantity}, sold {after.sold_quantity}, net {after.quantity}",
    )


async def an_open_order_blocks_money(subject: BrokerSubject) -> None:
    """A resting purchase takes its margin from what is available, and gives it back."""
    before = await subject.broker.funds()
    order = await subject.broker.place_order(
        LimitOrder(
            subject.instrument,
            Side.BUY,
            quantity=subject.quantity,
            price=subject.at("-0.04"),
            product=subject.product,
        )
    )

    async def less() -> bool:
        return (await subject.broker.funds()).available < before.available

    async def restored() -> bool:
        return (await subject.broker.funds()).available == before.available

    await subject.until(less, "smaller sum available while a purchase rests")
    await subject.broker.cancel_order(order.id)
    await subject.until(restored, "return of what a cancelled purchase had blocked")


async def margin_is_told_and_nothing_is_placed(subject: BrokerSubject) -> None:
    """`margin` tells what an order would block, and places nothing."""
    broker = subject.broker
    if not isinstance(broker, Margins):
        raise Skipped("it is no Margins")
    before = len(await broker.orders())

    margin = await broker.margin(
        LimitOrder(
            subject.instrument, Side.BUY, quantity=subject.quantity, price=subject.price, product=subject.product
        )
    )

    expect(margin.required > 0, f"it would block {margin.required} rupees")
    expect(len(await broker.orders()) == before, "an order was placed")


async def _position(subject: BrokerSubject) -> Position | None:
    for each in await subject.broker.positions():
        if each.instrument == subject.instrument and each.product is subject.product:
            return each
    return None


PORTFOLIO_CHECKS: Final[tuple[Check[BrokerSubject], ...]] = (
    Check(id="PRT-010", needs=Capability.PORTFOLIO, body=funds_are_told, places=False),
    Check(id="PRT-020", needs=Capability.PORTFOLIO, body=holdings_are_consistent, places=False),
    Check(id="PRT-030", needs=_TRADES, body=a_purchase_is_a_position),
    Check(id="PRT-040", needs=_TRADES, body=an_open_order_blocks_money),
    Check(
        id="PRT-050",
        needs=Capability.MARGINS | Capability.ORDER_BOOK,
        body=margin_is_told_and_nothing_is_placed,
        places=False,
    ),
)
