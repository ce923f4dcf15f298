"""What only some brokers can do, behind the same limits and the same journal as an ordinary order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from string import ascii_lowercase, digits
from typing import Any, Final

import attrs

from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import (
    CLIENT_ORDER_ID_LENGTH,
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderStatus,
    Product,
    Side,
)
from hybridbroker.domain.portfolio import Margin
from hybridbroker.domain.sliced import Sliced, SlicedOrder
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import HybridBrokerError, InvalidOrder, OrderNotFound, OrderOutcomeUnknown, Unsupported
from hybridbroker.execution.facts import FactFinder
from hybridbroker.execution.guard import (
    Facts,
    Limit,
    Refusal,
    RiskLimits,
    Terms,
    entry_refusal,
    exit_refusal,
    order_value,
)
from hybridbroker.execution.journalled import JournalledBroker
from hybridbroker.execution.standing_terms import Standing
from hybridbroker.protocols import Broker, Capability

__all__ = ["GuardedAbilities"]

logger = logging.getLogger(__name__)

_ROLES: Final = {"trigger": LegRole.ENTRY, "target": LegRole.TARGET, "stop": LegRole.STOP}
_SLICES: Final = digits + ascii_lowercase
"""One more character of a client order id each."""


class GuardedAbilities:
    """The part of `GuardedBroker` that stands for optional abilities; each is `Unsupported` where its flag is missing.

    A standing order that opens something is checked as an entry would be, at its own trigger
    price and whatever the hour. One that can only close what is held and not claimed by other
    orders passes as an exit, also while entries are stopped.
    """

    limits: RiskLimits
    name: str
    capabilities: Capability
    _broker: JournalledBroker
    _bare: Broker
    _clock: Clock
    _facts: FactFinder
    _last_look: Callable[[], None]
    _refuse: Callable[[Refusal, Terms], None]

    # Orders that wait for a price.

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        """Check, journal and leave one standing order with the broker; see `GttOrders.place_gtt`."""
        flag = Capability.OCO_ORDERS if isinstance(request, OcoOrder) else Capability.GTT_ORDERS
        bare = self._able(flag, type(request).__name__)
        request = request.named(self._clock.now())
        await self._broker.desk.gtts()
        triggers = [request.target, request.stop] if isinstance(request, OcoOrder) else [request.trigger]
        is_exit = await self._check_triggers(request, triggers)
        if not is_exit:
            self._check_twin(request)
        return await self._broker.desk.place(
            "gtt",
            request,
            lambda: bare.place_gtt(request),
            value=None if is_exit else max(request.quantity * (each.price or each.trigger_price) for each in triggers),
            urgent=is_exit,
            last_look=None if is_exit else self._last_look,
        )

    async def modify_gtt(
        self,
        gtt_id: str,
        *,
        quantity: int | None = None,
        trigger: Trigger | None = None,
        target: Trigger | None = None,
        stop: Trigger | None = None,
    ) -> Gtt:
        """Check the standing order as it would be, then change it, once; see `GttOrders.modify_gtt`."""
        bare = self._able(Capability.GTT_ORDERS | Capability.OCO_ORDERS, "GTT orders")
        shown = await self._broker.desk.gtts()
        standing = _one(shown, gtt_id, "GTT")
        given = {"trigger": trigger, "target": target, "stop": stop}
        changed = {name: each for name, each in given.items() if each is not None}
        more = quantity is not None and quantity > standing.quantity
        is_exit = True
        if more or changed:
            triggers = [*changed.values()] or [
                Trigger(each.trigger_price, price=each.price) for each in standing.legs if each.trigger_price
            ]
            wanted = GttOrder(
                standing.instrument,
                standing.side,
                quantity=quantity or standing.quantity,
                product=standing.product,
                trigger=triggers[0],
            )
            is_exit = await self._check_triggers(wanted, triggers, changes=gtt_id)

        def done(after: Gtt) -> bool:
            legs = {name: after.leg(_ROLES[name]) for name in changed}
            return (quantity is None or after.quantity == quantity) and all(
                leg is not None
                and leg.trigger_price == changed[name].trigger_price
                and leg.price in {None, changed[name].price}
                for name, leg in legs.items()
            )

        return await self._broker.desk.change(
            "modify",
            "gtt",
            gtt_id,
            {"quantity": quantity, **{name: [each.trigger_price, each.price] for name, each in changed.items()}},
            lambda: bare.modify_gtt(gtt_id, quantity=quantity, trigger=trigger, target=target, stop=stop),
            done=done,
            last_look=None if is_exit else self._last_look,
        )

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        """Cancel; no limit stands in the way."""
        bare = self._able(Capability.GTT_ORDERS | Capability.OCO_ORDERS, "GTT orders")
        return await self._broker.desk.change(
            "cancel", "gtt", gtt_id, {}, lambda: bare.cancel_gtt(gtt_id), done=_is_over, urgent=True
        )

    async def gtts(self) -> Sequence[Gtt]:
        """Return the standing orders the broker shows; see `GttOrders.gtts`."""
        self._able(Capability.GTT_ORDERS | Capability.OCO_ORDERS, "GTT orders")
        return await self._broker.desk.gtts()

    async def find_gtt(self, client_order_id: str) -> Gtt | None:
        """Return the one that carries this id; see `GttOrders.find_gtt`."""
        bare = self._able(Capability.GTT_ORDERS | Capability.OCO_ORDERS, "GTT orders")
        found: Gtt | None = await bare.find_gtt(client_order_id)
        return found

    # Entries that bring their exits.

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        """Check the entry as any other, then journal and send the whole, once; see `BracketOrders.place_bracket`."""
        bare = self._able(Capability.BRACKET_ORDERS, "bracket orders")
        request = request.named(self._clock.now())
        entry = _entry_of(request)
        price = await self._facts.prepare(entry)
        refusal = entry_refusal(entry, self.limits, self._facts.of(entry, price))
        if refusal is not None:
            self._refuse(refusal, entry)
        self._check_twin(request)
        return await self._broker.desk.place(
            "bracket",
            request,
            lambda: bare.place_bracket(request),
            value=order_value(entry, price) or Decimal(0),
            last_look=self._last_look,
        )

    async def modify_bracket(
        self,
        bracket_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        target_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail: Decimal | None = None,
    ) -> Bracket:
        """Check a larger or dearer entry, then change what was asked, once; exits may be moved at any time."""
        bare = self._able(Capability.BRACKET_ORDERS, "bracket orders")
        is_entry = False
        if quantity is not None or price is not None:
            standing = _one(await self._broker.desk.brackets(), bracket_id, "bracket")
            entry = standing.leg(LegRole.ENTRY)
            limit = price or (entry.price if entry else None)
            units = quantity or standing.quantity
            wanted = _entry(standing.instrument, standing.side, units, limit, standing.product)
            market = await self._facts.prepare(wanted)
            facts = attrs.evolve(self._facts.of(wanted, market), twin=None, placed_within_minute=0)
            refusal = entry_refusal(wanted, self.limits, facts)
            is_entry = price is not None or units > standing.quantity
            if refusal is not None and is_entry:
                self._refuse(refusal, wanted)
        terms: dict[str, Decimal | int | None] = {
            "quantity": quantity,
            "price": price,
            "target_price": target_price,
            "stop_price": stop_price,
            "trail": trail,
        }
        given = {name: value for name, value in terms.items() if value is not None}

        def done(after: Bracket) -> bool:
            return all(_shows(after, name, value) for name, value in given.items())

        return await self._broker.desk.change(
            "modify",
            "bracket",
            bracket_id,
            {name: str(value) for name, value in given.items()},
            lambda: bare.modify_bracket(
                bracket_id,
                quantity=quantity,
                price=price,
                target_price=target_price,
                stop_price=stop_price,
                trail=trail,
            ),
            done=done,
            last_look=self._last_look if is_entry else None,
        )

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY) -> Bracket:
        """Cancel one leg, or with the entry the whole; no limit stands in the way."""
        bare = self._able(Capability.BRACKET_ORDERS, "bracket orders")

        def done(after: Bracket) -> bool:
            one = after.leg(leg)
            return one is None or not one.may_trade

        return await self._broker.desk.change(
            "cancel",
            "bracket",
            bracket_id,
            {"leg": leg.value},
            lambda: bare.cancel_bracket(bracket_id, leg=leg),
            done=done,
            urgent=True,
        )

    async def brackets(self) -> Sequence[Bracket]:
        """Return the bracket orders the broker shows; see `BracketOrders.brackets`."""
        self._able(Capability.BRACKET_ORDERS, "bracket orders")
        return await self._broker.desk.brackets()

    async def find_bracket(self, client_order_id: str) -> Bracket | None:
        """Return the one that carries this id; see `BracketOrders.find_bracket`."""
        bare = self._able(Capability.BRACKET_ORDERS, "bracket orders")
        found: Bracket | None = await bare.find_bracket(client_order_id)
        return found

    # More than one order takes.

    async def place_sliced(self, request: SlicedOrder) -> Sliced:
        """Check the whole against the limits, then place it as so many ordinary orders, one after the other.

        Cut here, by the registry's freeze quantity, so that each slice has its own line in the
        journal and its own certain answer, at every broker. The first slice that is refused ends
        it: what was taken is returned with the reason. Each slice's client order id is the
        name's with one character more, so that a name of yours has at most 23.

        Raises:
            OrderOutcomeUnknown: A slice may be live; those before it are in the book.
        """
        request = request.named(self._clock.now())
        name, parts = request.client_order_id or "", request.parts()
        if len(parts) > len(_SLICES) or len(name) + 2 > CLIENT_ORDER_ID_LENGTH:
            raise InvalidOrder(
                f"a sliced order comes to at most {len(_SLICES)} orders and its client order id has at most "
                f"{CLIENT_ORDER_ID_LENGTH - 2} characters; this one makes {len(parts)} and has {len(name)}"
            )
        price = await self._facts.prepare(request)
        refusal = entry_refusal(request, self.limits, self._facts.of(request, price))
        is_exit = refusal is not None and await self._facts.is_exit(request)
        refusal = exit_refusal(request, self.limits, Facts(price=price)) if is_exit else refusal
        if refusal is not None:
            self._refuse(refusal, request)
        taken: list[Order] = []
        for mark, part in zip(_SLICES, parts, strict=False):
            one = attrs.evolve(part, client_order_id=f"{name}-{mark}")
            try:
                if taken and not is_exit:
                    self._last_look()
                order = await self._broker.place(
                    one,
                    value=order_value(one, price),
                    urgent=is_exit,
                    last_look=None if is_exit else self._last_look,
                )
            except OrderOutcomeUnknown:
                raise
            except HybridBrokerError as exc:
                if not taken:
                    raise
                logger.warning("slicing %s ends after %d of %d orders: %s", name, len(taken), len(parts), exc)
                return _sliced(request, taken, reason=str(exc))
            taken.append(order)
            if order.status is OrderStatus.REJECTED:
                return _sliced(request, taken, reason=order.reason or "rejected")
        return _sliced(request, taken)

    # The account.

    async def margin(self, requests: OrderRequest | Sequence[OrderRequest]) -> Margin:
        """Return what these orders would block; see `Margins.margin`."""
        found: Margin = await self._able(Capability.MARGINS, "margins").margin(requests)
        return found

    async def convert_position(
        self, instrument: Instrument, *, side: Side, quantity: int, from_product: Product, to_product: Product
    ) -> None:
        """Convert a position, once; see `PositionConversion.convert_position`. Nothing is bought or sold by it."""
        bare = self._able(Capability.POSITION_CONVERSION, "conversion")
        await bare.convert_position(
            instrument, side=side, quantity=quantity, from_product=from_product, to_product=to_product
        )
        try:
            await self._broker.positions()
        except HybridBrokerError as exc:
            # It was done: a failure here would look like one of the conversion, and be repeated.
            logger.warning("the positions could not be read after a conversion: %s", exc)

    async def activate_kill_switch(self) -> None:
        """Have the broker itself refuse orders; `kill` throws ours as well."""
        await self._able(Capability.KILL_SWITCH, "kill switch").activate_kill_switch()

    async def deactivate_kill_switch(self) -> None:
        """Have the broker take orders again; ours stays as it is."""
        await self._able(Capability.KILL_SWITCH, "kill switch").deactivate_kill_switch()

    async def kill_switch_active(self) -> bool:
        """Say whether the broker itself refuses orders."""
        return bool(await self._able(Capability.KILL_SWITCH, "kill switch").kill_switch_active())

    # How it is done.

    def _able(self, flag: Capability, what: str) -> Any:
        if not flag & self.capabilities:
            raise Unsupported(f"{self.name} has no {what}")
        return self._bare

    async def _check_triggers(
        self, request: GttOrder | OcoOrder, triggers: Sequence[Trigger], *, changes: str | None = None
    ) -> bool:
        """Refuse what the limits do not allow; say whether it is an exit. ``changes`` is the one that becomes it.

        After the last reading nothing else runs, so that two placed at once cannot both claim the same shares.
        """
        likes = [_at_trigger(request, each) for each in triggers]
        claimed = partial(self._broker.desk.claimed, request, besides=changes)
        is_exit = await self._facts.is_exit(likes[0], also_claimed=claimed)
        for like, trigger in zip(likes, triggers, strict=True):
            if is_exit:
                refusal = exit_refusal(like, self.limits, Facts(price=trigger.trigger_price))
            else:
                facts = self._facts.of(like, trigger.trigger_price)
                refusal = entry_refusal(like, self.limits, attrs.evolve(facts, twin=None, is_open=None))
            if refusal is not None:
                self._refuse(refusal, like)
        return is_exit

    def _check_twin(self, request: GttOrder | OcoOrder | BracketOrder) -> None:
        window = self.limits.duplicate_window
        twin = None if window is None else self._broker.desk.twin(request, within=window)
        if twin is not None:
            why = f"the same standing order was placed within {window} s as {twin}"
            entry = _entry(request.instrument, request.side, request.quantity, None, request.product)
            self._refuse(Refusal(Limit.DUPLICATE, why), entry)

    async def _cancel_standing(self, spare: Callable[[Standing], bool]) -> list[str]:
        """Cancel the live standing orders but those to ``spare``; return what could not be cancelled, in words."""
        problems: list[str] = []
        flags = Capability.GTT_ORDERS | Capability.OCO_ORDERS
        try:
            gtts = await self.gtts() if flags & self.capabilities else ()
            brackets = await self.brackets() if Capability.BRACKET_ORDERS in self.capabilities else ()
        except HybridBrokerError as exc:
            return [f"the standing orders could not be read, so they were left alone: {exc}"]
        for gtt in gtts:
            if gtt.may_trade and not spare(gtt):
                problems += await _tried(self.cancel_gtt(gtt.id), f"GTT order {gtt.id}")
        for bracket in brackets:
            if bracket.may_trade and not spare(bracket):
                problems += await _tried(self.cancel_bracket(bracket.id), f"bracket order {bracket.id}")
        return problems


async def _tried(cancelling: Any, what: str) -> list[str]:
    try:
        await cancelling
    except HybridBrokerError as exc:
        return [f"cancelling {what}: {exc}"]
    return []


def _at_trigger(request: GttOrder | OcoOrder, trigger: Trigger) -> LimitOrder:
    return LimitOrder(
        request.instrument,
        request.side,
        quantity=request.quantity,
        price=trigger.price or trigger.trigger_price,
        product=request.product,
        client_order_id=request.client_order_id,
        after_market=True,  # it waits, whatever the hour
    )


def _entry_of(request: BracketOrder) -> OrderRequest:
    return _entry(request.instrument, request.side, request.quantity, request.price, request.product)


def _entry(
    instrument: Instrument, side: Side, quantity: int, price: Decimal | None, product: Product
) -> LimitOrder | MarketOrder:
    if price is None:
        return MarketOrder(instrument, side, quantity=quantity, product=product)
    return LimitOrder(instrument, side, quantity=quantity, price=price, product=product)


def _one(shown: Sequence[Any], standing_id: str, noun: str) -> Any:
    found = next((each for each in shown if each.id == standing_id), None)
    if found is None:
        raise OrderNotFound(f"the broker shows no {noun} order {standing_id}")
    return found


def _is_over(standing: Standing) -> bool:
    return not standing.may_trade


def _shows(after: Bracket, name: str, value: Decimal | int) -> bool:
    """Say whether one term of a bracket is as it was asked to be."""
    where: Mapping[str, LegRole] = {
        "price": LegRole.ENTRY,
        "target_price": LegRole.TARGET,
        "stop_price": LegRole.STOP,
        "trail": LegRole.STOP,
    }
    if name == "quantity":
        return after.quantity == value
    leg = after.leg(where[name])
    if leg is None:
        return False
    if name == "trail":
        return (leg.trail or Decimal(0)) == value
    return value in {leg.trigger_price, leg.price}


def _sliced(request: SlicedOrder, taken: Sequence[Order], *, reason: str | None = None) -> Sliced:
    return Sliced(
        client_order_id=request.client_order_id or "",
        quantity=request.quantity,
        orders=tuple(taken),
        reason=reason,
    )
