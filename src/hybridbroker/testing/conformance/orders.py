"""What `OrderExecution` and `OrderBook` promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from hybridbroker.domain.market import Gap
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderStatus,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.errors import (
    InstrumentError,
    InvalidOrder,
    OrderNotFound,
    OrderRejected,
    Unsupported,
)
from hybridbroker.protocols import Capability
from hybridbroker.testing.conformance.kit import BrokerSubject, Check, Skipped, broken, expect, raises

__all__ = ["ORDER_CHECKS"]

_READS: Final = Capability.LIMIT_ORDERS | Capability.ORDER_BOOK
_TRADES: Final = _READS | Capability.FILLS
_NO_SUCH_ORDER: Final = "999999999999"


def _resting(subject: BrokerSubject) -> LimitOrder:
    """A purchase so far below the market that it rests, within any price band."""
    return LimitOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        price=subject.at("-0.04"),
        product=subject.product,
        client_order_id=subject.name(),
    )


def _waits(order: Order) -> bool:
    return order.status in {OrderStatus.TRIGGER_PENDING, OrderStatus.OPEN} and not order.filled_quantity


async def _rests(subject: BrokerSubject, request: OrderRequest) -> Order:
    order = await subject.broker.place_order(request)
    return await subject.settled(order.id, lambda each: each.status is OrderStatus.OPEN, "resting order")


async def _withdrawn(subject: BrokerSubject, order: Order) -> Order:
    await subject.broker.cancel_order(order.id)
    return await subject.settled(order.id, lambda each: each.is_final, "end of a cancelled order")


async def placing_returns_what_was_asked(subject: BrokerSubject) -> None:
    """The order that is returned has an id, the client order id, and the terms that were asked."""
    request = _resting(subject)

    order = await subject.broker.place_order(request)

    expect(order.id, "the order has no id")
    expect(
        order.client_order_id == request.client_order_id,
        f"client order id {order.client_order_id!r} instead of {request.client_order_id!r}",
    )
    asked = (request.instrument, request.side, request.type, request.quantity, request.price, request.product)
    got = (order.instrument, order.side, order.type, order.quantity, order.price, order.product)
    expect(asked == got, f"asked {asked}, got {got}")
    expect(order.status is not OrderStatus.UNKNOWN, f"status {order.raw!r} is not understood")
    await subject.broker.cancel_order(order.id)


async def names_are_made_where_none_is_given(subject: BrokerSubject) -> None:
    """An order without a client order id gets one before it is sent."""
    request = LimitOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        price=subject.at("-0.04"),
        product=subject.product,
    )

    order = await subject.broker.place_order(request)

    expect(order.client_order_id, "the order has no client order id")
    await subject.broker.cancel_order(order.id)


async def an_order_is_in_the_book(subject: BrokerSubject) -> None:
    """What was placed is shown by `order`, by `orders`, and by `find_order` with its client order id."""
    request = _resting(subject)
    order = await _rests(subject, request)
    assert request.client_order_id is not None  # noqa: S101 - given above

    in_book = [each for each in await subject.broker.orders() if each.id == order.id]
    found = await subject.broker.find_order(request.client_order_id)

    expect(len(in_book) == 1, f"orders() holds it {len(in_book)} times")
    expect(found is not None, "find_order() does not show it")
    assert found is not None  # noqa: S101 - narrowed above
    expect(found.id == order.id, f"find_order() shows {found.id} instead of {order.id}")
    for each in (order, in_book[0], found):
        expect(
            each.client_order_id == request.client_order_id, f"the client order id came back as {each.client_order_id}"
        )
        expect(each.filled_quantity == 0, f"{each.filled_quantity} units are filled")
        expect(each.average_price is None, f"the average price is {each.average_price} before any fill")
        expect(each.remaining == request.quantity, f"{each.remaining} units remain")
    await _withdrawn(subject, order)


async def an_unknown_order_is_not_found(subject: BrokerSubject) -> None:
    """An order id nobody knows is `OrderNotFound`, for reading, changing and cancelling."""
    await raises(OrderNotFound, subject.broker.order(_NO_SUCH_ORDER))
    await raises(OrderNotFound, subject.broker.cancel_order(_NO_SUCH_ORDER))
    await raises(OrderNotFound, subject.broker.modify_order(_NO_SUCH_ORDER, price=subject.price))


async def an_unknown_name_is_none(subject: BrokerSubject) -> None:
    """A client order id the broker does not show is None, not an error."""
    found = await subject.broker.find_order(subject.name())

    expect(found is None, f"it found {found}")


async def changes_are_applied(subject: BrokerSubject) -> None:
    """A changed order has its new price and total quantity, and keeps the terms that were not named."""
    order = await _rests(subject, _resting(subject))
    price, quantity = subject.at("-0.03"), subject.quantity * 2

    await subject.broker.modify_order(order.id, price=price, quantity=quantity)
    after = await subject.settled(
        order.id, lambda each: each.price == price and each.quantity == quantity, "change of the order"
    )

    expect(after.is_open, f"the order is {after.status.value} after the change")
    expect(after.side is order.side and after.product is order.product, "other terms changed as well")
    await _withdrawn(subject, after)


async def cancelling_ends_an_order(subject: BrokerSubject) -> None:
    """A cancelled order ends as `CANCELLED`, with what it filled."""
    order = await _rests(subject, _resting(subject))

    after = await _withdrawn(subject, order)

    expect(after.status is OrderStatus.CANCELLED, f"it is {after.status.value}")
    expect(after.filled_quantity == 0, f"{after.filled_quantity} units are filled")


async def cancelling_twice_is_no_error(subject: BrokerSubject) -> None:
    """Cancelling an order that is already final returns it unchanged."""
    order = await _rests(subject, _resting(subject))
    first = await _withdrawn(subject, order)

    again = await subject.broker.cancel_order(order.id)

    expect(again.status is first.status, f"it became {again.status.value}")


async def a_final_order_cannot_be_changed(subject: BrokerSubject) -> None:
    """Changing an order that is final is refused, and changes nothing."""
    order = await _rests(subject, _resting(subject))
    after = await _withdrawn(subject, order)

    await raises((OrderRejected, InvalidOrder), subject.broker.modify_order(order.id, price=subject.at("-0.03")))

    now = await subject.broker.order(order.id)
    expect(now.price == after.price, f"its price became {now.price}")


async def the_book_is_oldest_first(subject: BrokerSubject) -> None:
    """`orders` lists the orders of the day, the oldest first."""
    first = await _rests(subject, _resting(subject))
    second = await _rests(subject, _resting(subject))

    ids = [each.id for each in await subject.broker.orders()]

    expect(ids.index(first.id) < ids.index(second.id), "the newer order comes before the older")
    await _withdrawn(subject, first)
    await _withdrawn(subject, second)


async def a_marketable_order_fills(subject: BrokerSubject) -> None:
    """A limit through the market fills at its price or better, and its executions add up."""
    request = LimitOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        price=subject.at("0.01"),
        product=subject.product,
        client_order_id=subject.name(),
    )

    order = await subject.broker.place_order(request)
    filled = await subject.settled(order.id, lambda each: each.status is OrderStatus.FILLED, "fill")
    trades = [each for each in await subject.broker.trades() if each.order_id == order.id]

    expect(filled.filled_quantity == request.quantity, f"{filled.filled_quantity} units are filled")
    expect(filled.average_price is not None, "it has no average price")
    assert filled.average_price is not None  # noqa: S101 - narrowed above
    assert request.price is not None  # noqa: S101 - given above
    expect(0 < filled.average_price <= request.price, f"it filled at {filled.average_price}, above {request.price}")
    units = sum(each.quantity for each in trades)
    expect(units == request.quantity, f"its executions add up to {units} units")
    value = sum(each.value for each in trades)
    expect(
        abs(value - filled.average_price * units) <= units * subject.instrument.tick_size,
        f"executions of {value} rupees do not agree with the average {filled.average_price}",
    )
    await subject.trade(Side.SELL)


async def a_market_order_trades_or_rests_protected(subject: BrokerSubject) -> None:
    """A market order fills, or rests under price protection; it is never `UNKNOWN`."""
    request = MarketOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        product=subject.product,
        client_order_id=subject.name(),
    )

    order = await subject.broker.place_order(request)
    after = await subject.settled(
        order.id, lambda each: each.is_final or each.status is OrderStatus.OPEN, "fill or rest of a market order"
    )

    expect(after.status in {OrderStatus.FILLED, OrderStatus.OPEN}, f"it is {after.status.value}: {after.reason}")
    if after.status is OrderStatus.OPEN:
        await _withdrawn(subject, after)
    else:
        await subject.trade(Side.SELL)


async def a_stop_waits_for_its_trigger(subject: BrokerSubject) -> None:
    """A stop-limit order waits untraded for its trigger: `TRIGGER_PENDING`, or `OPEN` where no more is told."""
    request = StopLimitOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        trigger_price=subject.at("0.02"),
        price=subject.at("0.03"),
        product=subject.product,
        client_order_id=subject.name(),
    )

    order = await subject.broker.place_order(request)
    waiting = await subject.settled(order.id, _waits, "stop that waits for its trigger")

    expect(waiting.trigger_price == request.trigger_price, f"its trigger is {waiting.trigger_price}")
    expect(waiting.price == request.price, f"its price is {waiting.price}")
    await _withdrawn(subject, waiting)


async def a_stop_fires_at_its_trigger(subject: BrokerSubject) -> None:
    """A stop-limit order trades once the market has touched its trigger."""
    if subject.move is None:
        raise Skipped("the market of this subject cannot be moved")
    request = StopLimitOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        trigger_price=subject.at("0.01"),
        price=subject.at("0.02"),
        product=subject.product,
        client_order_id=subject.name(),
    )
    order = await subject.broker.place_order(request)
    await subject.settled(order.id, _waits, "waiting stop")

    try:
        await subject.moved(subject.at("0.012"))
        filled = await subject.settled(order.id, lambda each: each.status is OrderStatus.FILLED, "fill of the stop")
    finally:
        await subject.moved(subject.price)

    assert request.price is not None  # noqa: S101 - given above
    expect((filled.average_price or 0) <= request.price, f"it filled at {filled.average_price}")
    await subject.trade(Side.SELL)


async def an_ioc_order_does_not_rest(subject: BrokerSubject) -> None:
    """An immediate-or-cancel order that cannot trade ends at once, unfilled."""
    request = LimitOrder(
        subject.instrument,
        Side.BUY,
        quantity=subject.quantity,
        price=subject.at("-0.04"),
        product=subject.product,
        validity=Validity.IOC,
        client_order_id=subject.name(),
    )
    try:
        order = await subject.broker.place_order(request)
    except OrderRejected:
        return

    after = await subject.settled(order.id, lambda each: each.is_final, "end of an order that may not rest")

    expect(after.filled_quantity == 0, f"{after.filled_quantity} units are filled")


async def kinds_it_lacks_are_refused_unsent(subject: BrokerSubject) -> None:
    """An order of a kind whose flag is missing is `Unsupported`, and nothing is placed."""
    share, units, product = subject.instrument, subject.quantity, subject.product
    kinds: dict[Capability, OrderRequest] = {
        Capability.MARKET_ORDERS: MarketOrder(share, Side.BUY, quantity=units, product=product),
        Capability.STOP_LIMIT_ORDERS: StopLimitOrder(
            share,
            Side.BUY,
            quantity=units,
            trigger_price=subject.at("0.02"),
            price=subject.at("0.03"),
            product=product,
        ),
        Capability.STOP_MARKET_ORDERS: StopMarketOrder(
            share, Side.BUY, quantity=units, trigger_price=subject.at("0.02"), product=product
        ),
    }
    missing = [request for flag, request in kinds.items() if flag not in subject.broker.capabilities]
    if not missing:
        raise Skipped("it has every kind of order")
    before = len(await subject.broker.orders())

    for request in missing:
        await raises(Unsupported, subject.broker.place_order(request))

    expect(len(await subject.broker.orders()) == before, "an order was placed all the same")


async def what_it_does_not_list_is_refused_unsent(subject: BrokerSubject) -> None:
    """An instrument this broker does not list is an `InstrumentError` before anything is sent."""
    if subject.unmapped is None:
        raise Skipped("no instrument is known that this broker lacks")
    request = LimitOrder(
        subject.unmapped,
        Side.BUY,
        quantity=subject.unmapped.lot_size,
        price=subject.unmapped.price(subject.price),
        product=subject.product,
    )
    before = len(await subject.broker.orders())

    await raises((InstrumentError, OrderRejected), subject.broker.place_order(request))

    placed = [each for each in (await subject.broker.orders())[before:] if each.status is not OrderStatus.REJECTED]
    expect(not placed, "an order was placed all the same")


async def what_cannot_be_paid_is_rejected(subject: BrokerSubject) -> None:
    """An order far beyond the funds is refused with a reason, at once or in the book."""
    available = (await subject.broker.funds()).available
    price = subject.at("-0.04")
    quantity = int(available * 100 / price) // subject.quantity * subject.quantity
    freeze = subject.instrument.freeze_quantity
    if quantity <= 0 or (freeze is not None and quantity > freeze):
        raise Skipped("the freeze quantity is below what the funds can be exceeded with")
    request = LimitOrder(
        subject.instrument,
        Side.BUY,
        quantity=quantity,
        price=price,
        product=Product.DELIVERY,
        client_order_id=subject.name(),
    )

    try:
        order = await subject.broker.place_order(request)
    except OrderRejected as refusal:
        expect(refusal.reason, "the refusal has no reason")
        return
    after = await subject.settled(order.id, lambda each: each.is_final, "rejection")

    expect(after.status is OrderStatus.REJECTED, f"it is {after.status.value}")
    expect(after.reason, "the rejection has no reason")


async def updates_tell_every_change(subject: BrokerSubject) -> None:
    """`order_updates` tells of an order when it rests and when it ends, whole each time."""
    async with subject.broker.order_updates() as updates:
        request = _resting(subject)
        order = await subject.broker.place_order(request)

        rested = await _heard(updates, order.id, OrderStatus.OPEN, within=subject.within)
        await subject.broker.cancel_order(order.id)
        ended = await _heard(updates, order.id, OrderStatus.CANCELLED, within=subject.within)

    for each in (rested, ended):
        expect(each.client_order_id == request.client_order_id, f"an update names it {each.client_order_id!r}")
        expect(each.instrument == request.instrument, f"an update is about {each.instrument}")
        expect(each.quantity == request.quantity, f"an update states {each.quantity} units")


async def _heard(updates: AsyncIterator[Order | Gap], order_id: str, status: OrderStatus, *, within: float) -> Order:
    try:
        async with asyncio.timeout(within):
            async for update in updates:
                if not isinstance(update, Gap) and update.id == order_id and update.status is status:
                    return update
    except TimeoutError:
        pass
    raise broken(f"within {within:.0f} s no update said that {order_id} is {status.value}")


ORDER_CHECKS: Final[tuple[Check[BrokerSubject], ...]] = (
    Check(id="ORD-010", needs=Capability.LIMIT_ORDERS, body=placing_returns_what_was_asked),
    Check(id="ORD-020", needs=Capability.LIMIT_ORDERS, body=names_are_made_where_none_is_given),
    Check(id="ORD-030", needs=_READS, body=an_order_is_in_the_book),
    Check(id="ORD-040", needs=Capability.ORDER_BOOK, body=an_unknown_order_is_not_found),
    Check(id="ORD-050", needs=Capability.ORDER_BOOK, body=an_unknown_name_is_none, places=False),
    Check(id="ORD-060", needs=_READS, body=changes_are_applied),
    Check(id="ORD-070", needs=_READS, body=cancelling_ends_an_order),
    Check(id="ORD-080", needs=_READS, body=cancelling_twice_is_no_error),
    Check(id="ORD-090", needs=_READS, body=a_final_order_cannot_be_changed),
    Check(id="ORD-100", needs=_READS, body=the_book_is_oldest_first),
    Check(id="ORD-110", needs=_TRADES, body=a_marketable_order_fills),
    Check(id="ORD-120", needs=_TRADES | Capability.MARKET_ORDERS, body=a_market_order_trades_or_rests_protected),
    Check(id="ORD-130", needs=_READS | Capability.STOP_LIMIT_ORDERS, body=a_stop_waits_for_its_trigger),
    Check(id="ORD-140", needs=_TRADES | Capability.STOP_LIMIT_ORDERS, body=a_stop_fires_at_its_trigger),
    Check(id="ORD-150", needs=_TRADES | Capability.IOC, body=an_ioc_order_does_not_rest),
    Check(id="ORD-160", needs=Capability.ORDER_BOOK, body=kinds_it_lacks_are_refused_unsent),
    Check(id="ORD-170", needs=_READS, body=what_it_does_not_list_is_refused_unsent),
    Check(id="ORD-180", needs=_TRADES | Capability.PORTFOLIO, body=what_cannot_be_paid_is_rejected),
    Check(id="ORD-190", needs=_READS | Capability.ORDER_UPDATES, body=updates_tell_every_change),
)
