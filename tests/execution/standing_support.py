"""A scripted broker that keeps GTT and bracket orders as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any

import attrs
from execution_support import ABC, FakeBroker, VirtualClock

from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import LimitOrder, OrderStatus, Product, Side
from hybridbroker.domain.standing import (
    Bracket,
    BracketOrder,
    Gtt,
    GttOrder,
    Leg,
    LegRole,
    LegStatus,
    OcoOrder,
    Trigger,
)
from hybridbroker.errors import OrderNotFound
from hybridbroker.protocols import Capability

ABILITIES = (
    Capability.LIMIT_ORDERS
    | Capability.MARKET_ORDERS
    | Capability.ORDER_UPDATES
    | Capability.LIVE_MONEY
    | Capability.GTT_ORDERS
    | Capability.OCO_ORDERS
    | Capability.BRACKET_ORDERS
    | Capability.SLICED_ORDERS
    | Capability.KILL_SWITCH
    | Capability.POSITION_CONVERSION
)


def protection(quantity: int = 10, *, instrument: Instrument = ABC, name: str | None = None) -> OcoOrder:
    return OcoOrder(
        instrument,
        Side.SELL,
        quantity=quantity,
        target=Trigger("110", price="109.5"),
        stop=Trigger("95", price="94.5"),
        client_order_id=name,
    )


def dip(quantity: int = 10, *, name: str | None = None) -> GttOrder:
    return GttOrder(ABC, Side.BUY, quantity=quantity, trigger=Trigger("90", price="90.5"), client_order_id=name)


def bracket(quantity: int = 10, *, name: str | None = None, price: str = "100") -> BracketOrder:
    return BracketOrder(
        ABC,
        Side.BUY,
        quantity=quantity,
        price=price,
        target_price="110",
        stop_price="95",
        product=Product.INTRADAY,
        client_order_id=name,
    )


class StandingBroker(FakeBroker):
    """``script`` holds how the next writes behave, standing ones included."""

    def __init__(self, clock: VirtualClock, *, keeps_names: bool = True) -> None:
        super().__init__(clock, capabilities=ABILITIES)
        self.standing: dict[str, Any] = {}
        self.sent: list[Any] = []
        self.switched: list[bool] = []
        self._keeps_names = keeps_names

    def _keep(self, kind: type[Any], request: Any, legs: Sequence[Leg]) -> Any:
        number = f"G{len(self.standing) + 1}"
        self.standing[number] = kind(
            id=number,
            client_order_id=request.client_order_id if self._keeps_names else None,
            instrument=request.instrument,
            side=request.side,
            product=request.product,
            quantity=request.quantity,
            legs=tuple(legs),
            placed_at=self.clock.now(),
        )
        return self.standing[number]

    async def _carried_out(self, work: Callable[[], Any]) -> Any:
        behave: Callable[[Any], Awaitable[Any]] | None = self.script.popleft() if self.script else None
        return work() if behave is None else await behave(work)

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        self.sent.append(request)
        if isinstance(request, OcoOrder):
            roles = [(LegRole.TARGET, request.target), (LegRole.STOP, request.stop)]
        else:
            roles = [(LegRole.ENTRY, request.trigger)]
        legs = [
            Leg(
                role=role,
                side=request.side,
                quantity=request.quantity,
                trigger_price=each.trigger_price,
                price=each.price,
                status=LegStatus.ARMED,
            )
            for role, each in roles
        ]
        found: Gtt = await self._carried_out(lambda: self._keep(Gtt, request, legs))
        return found

    async def modify_gtt(self, gtt_id: str, *, quantity: int | None = None, **_: Trigger | None) -> Gtt:
        self.sent.append(("modify", gtt_id))

        def work() -> Any:
            old = self.standing[gtt_id]
            self.standing[gtt_id] = attrs.evolve(old, quantity=quantity or old.quantity)
            return self.standing[gtt_id]

        found: Gtt = await self._carried_out(work)
        return found

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        self.sent.append(("cancel", gtt_id))
        found: Gtt = await self._carried_out(lambda: self.end(gtt_id, LegStatus.CANCELLED))
        return found

    async def gtts(self) -> Sequence[Gtt]:
        self._read("gtts")
        return [each for each in self.standing.values() if isinstance(each, Gtt)]

    async def find_gtt(self, client_order_id: str) -> Gtt | None:
        return next((each for each in await self.gtts() if each.client_order_id == client_order_id), None)

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        self.sent.append(request)
        units = request.quantity
        legs = [
            Leg(role=LegRole.ENTRY, side=request.side, quantity=units, price=request.price, status=LegStatus.SENT),
            Leg(
                role=LegRole.TARGET,
                side=request.side.opposite,
                quantity=units,
                trigger_price=request.target_price,
                status=LegStatus.INACTIVE,
            ),
            Leg(
                role=LegRole.STOP,
                side=request.side.opposite,
                quantity=units,
                trigger_price=request.stop_price,
                status=LegStatus.INACTIVE,
            ),
        ]
        found: Bracket = await self._carried_out(lambda: self._keep(Bracket, request, legs))
        return found

    async def modify_bracket(self, bracket_id: str, **_: Any) -> Bracket:
        self.sent.append(("modify", bracket_id))
        found: Bracket = self.standing[bracket_id]
        return found

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY) -> Bracket:
        self.sent.append(("cancel", bracket_id))
        found: Bracket = await self._carried_out(lambda: self.end(bracket_id, LegStatus.CANCELLED))
        return found

    async def brackets(self) -> Sequence[Bracket]:
        self._read("brackets")
        return [each for each in self.standing.values() if isinstance(each, Bracket)]

    async def find_bracket(self, client_order_id: str) -> Bracket | None:
        return next((each for each in await self.brackets() if each.client_order_id == client_order_id), None)

    async def convert_position(self, instrument: Instrument, **terms: Any) -> None:
        self.sent.append(("convert", instrument.id, terms["quantity"]))

    async def activate_kill_switch(self) -> None:
        self.switched.append(True)

    def end(self, standing_id: str, status: LegStatus) -> Any:
        if standing_id not in self.standing:
            raise OrderNotFound(standing_id)
        old = self.standing[standing_id]
        legs = tuple(attrs.evolve(each, status=status) for each in old.legs)
        self.standing[standing_id] = attrs.evolve(old, legs=legs)
        return self.standing[standing_id]

    def spring(self, gtt_id: str, role: LegRole) -> str:
        """Let one leg become an order and fill; return the order's id."""
        gtt = self.standing[gtt_id]
        leg = gtt.leg(role)
        order = self.enter(LimitOrder(gtt.instrument, gtt.side, quantity=gtt.quantity, price=leg.price or Decimal(1)))
        legs = tuple(
            attrs.evolve(
                each,
                status=LegStatus.FILLED if each.role is role else LegStatus.CANCELLED,
                order_id=order.id if each.role is role else None,
            )
            for each in gtt.legs
        )
        self.standing[gtt_id] = attrs.evolve(gtt, legs=legs)
        assert self.fill(order.id, gtt.quantity).status is OrderStatus.FILLED
        return order.id
