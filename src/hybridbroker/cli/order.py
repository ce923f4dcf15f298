"""``hybridbroker order``: check an order against the instrument, price its charges, and only on demand send it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import typer

from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    OrderRequest,
    Product,
    Side,
    StopLimitOrder,
    StopMarketOrder,
    Validity,
)
from hybridbroker.errors import ConfigurationError, InvalidOrder, OrderOutcomeUnknown

__all__ = ["order"]


def order(
    side: Side = typer.Argument(help="buy or sell."),
    name: str = typer.Argument(help="Instrument id, such as NSE:RELIANCE."),
    quantity: str = typer.Argument(help="Units, a multiple of the lot size."),
    *,
    price: str | None = typer.Option(None, help="Limit price in rupees; without it the order is a market order."),
    trigger: str | None = typer.Option(None, help="Trigger price in rupees; makes it a stop order."),
    market: bool = typer.Option(False, "--market", help="Say that a market order is meant."),
    product: Product = typer.Option(Product.DELIVERY),
    validity: Validity = typer.Option(Validity.DAY),
    instruments: Path | None = typer.Option(
        None, help="A registry built by 'instruments build', or the word 'builtin'; default: today's."
    ),
    data: str = typer.Option("upstox", help="Where prices come from, for the checks that need one."),
    broker: str = typer.Option("", help="Whom to send it to, such as dhan. Needs --live."),
    live: bool = typer.Option(False, "--live", help="Really send it: real money."),
) -> None:
    """Check an order, and send it only with both --broker and --live.

    Example: hybridbroker order buy NSE:RELIANCE 6 --price 1405.50 --broker dhan --live
    """
    if live != bool(broker):
        raise ConfigurationError("sending needs both --broker NAME and --live; checking needs neither")
    if market and price is not None:
        raise InvalidOrder("a market order takes no price; drop --market or --price")
    if not market and price is None and trigger is None:
        raise InvalidOrder("name a limit price with --price, or say --market")
    asyncio.run(
        _order(
            side, name, quantity, price=price, trigger=trigger, product=product, validity=validity,
            instruments=instruments, data=data, broker=broker,
        )
    )  # fmt: skip


async def _order(
    side: Side,
    name: str,
    quantity: str,
    *,
    price: str | None,
    trigger: str | None,
    product: Product,
    validity: Validity,
    instruments: Path | None,
    data: str,
    broker: str,
) -> None:
    from hybridbroker.session import open_registry

    registry = await open_registry(instruments)
    kind: type[OrderRequest]
    match price, trigger:
        case None, None:
            kind = MarketOrder
        case _, None:
            kind = LimitOrder
        case None, _:
            kind = StopMarketOrder
        case _:
            kind = StopLimitOrder
    request = kind(
        registry[name], side, quantity=_whole(quantity), price=_rupees(price), trigger_price=_rupees(trigger),
        product=product, validity=validity,
    )  # fmt: skip
    worth = "" if request.value is None else f", {request.value:,.2f} rupees"
    print(f"{request.type} {request.side} {request.quantity} {request.instrument.id} {request.product}{worth}")
    if not broker:
        print("checked, not sent; add --broker NAME --live to send it")
        return
    from hybridbroker.session import connect

    async with connect(data=data, broker=broker, instruments=registry) as session:
        request = request.named(session.clock.now())
        assert request.client_order_id is not None  # noqa: S101 - named above
        try:
            placed = await session.broker.place_order(request)
        except asyncio.CancelledError:
            # Ctrl-C, which would end without a word.
            raise OrderOutcomeUnknown(client_order_id=request.client_order_id) from None
        print(f"order {placed.id}: {placed.status} (client order id {placed.client_order_id})")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidOrder(f"quantity must be a whole number of units, was {text!r}") from None


def _rupees(text: str | None) -> Decimal | None:
    from hybridbroker.domain.orders import rupees

    return None if text is None else rupees(text)
