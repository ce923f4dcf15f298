"""Dhan's forever orders, single and OCO, over the GTT orders of a simulated exchange.

Documented, https://dhanhq.co/docs/v2/forever/ , which contradicts itself on the names of legs:
`DhanHabits` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs
from starlette.requests import Request

from hybridbroker.domain.orders import Order, Side
from hybridbroker.domain.standing import Gtt, GttOrder, Leg, LegRole, LegStatus, OcoOrder, Trigger
from hybridbroker.errors import HybridBrokerError, InvalidOrder, Unsupported
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.dhan.book import DhanBook, Origin
from hybridbroker.testing.emulators.dhan.gates import Call, DhanGates
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.orders import (
    PRODUCTS,
    Refusal,
    Terms,
    choice,
    known,
    positive,
    read_json,
    read_standing,
    whole,
)
from hybridbroker.testing.emulators.dhan.rows import derivative, symbol, time_text
from hybridbroker.testing.emulators.market import EmulatedMarket

__all__ = ["DhanForevers"]

_TYPES: Final = ("LIMIT", "MARKET")
_FOREVER_FIELDS: Final = frozenset({
    "dhanClientId", "correlationId", "orderFlag", "transactionType", "exchangeSegment", "productType", "orderType",
    "validity", "securityId", "quantity", "disclosedQuantity", "price", "triggerPrice", "price1", "triggerPrice1",
    "quantity1",
})  # fmt: skip
_FOREVER_CHANGES: Final = frozenset({
    "dhanClientId", "orderId", "orderFlag", "orderType", "legName", "quantity", "disclosedQuantity", "price",
    "triggerPrice", "validity",
})  # fmt: skip
_LEGS: Final = frozenset({"ENTRY_LEG", "TARGET_LEG", "STOP_LOSS_LEG"})
_OTHER: Final = {"TARGET_LEG": "STOP_LOSS_LEG", "STOP_LOSS_LEG": "TARGET_LEG"}
_STATUS: Final = {
    LegStatus.ARMED: "CONFIRM",
    LegStatus.SENT: "PENDING",
    LegStatus.FILLED: "TRADED",
    LegStatus.CANCELLED: "CANCELLED",
    LegStatus.REJECTED: "REJECTED",
    LegStatus.EXPIRED: "EXPIRED",
}
_LEG_FIELDS: Final = {"triggerPrice", "price1", "triggerPrice1", "quantity1"}


@attrs.define(kw_only=True)
class _Forever:
    """What Dhan knows of a forever order beside the exchange's GTT."""

    id: str
    gtt_id: str
    terms: Terms
    flag: str
    first: LegRole
    """What the first set of fields is, by its price."""
    created: datetime
    updated: datetime | None = None


class DhanForevers:
    """The forever orders of one account."""

    def __init__(
        self,
        market: EmulatedMarket,
        exchange: SimulatedExchange,
        book: DhanBook,
        *,
        habits: DhanHabits,
        gates: DhanGates,
        client_id: str,
    ) -> None:
        self._market = market
        self._exchange = exchange
        self._habits = habits
        self._gates = gates
        self._client_id = client_id
        self._forever: dict[str, _Forever] = {}
        book.origins.append(self._origin)

    def calls(self) -> list[Call]:
        """Return the calls under ``/forever``."""
        return [
            Call("POST", "/forever/orders", self._place, family="order"),
            Call("GET", "/forever/orders", lambda *_: self.rows()),
            Call("PUT", "/forever/orders/{id}", self._modify, family="order"),
            Call("DELETE", "/forever/orders/{id}", self._cancel, family="order"),
        ]

    def place(self, fields: Mapping[str, Any]) -> str:
        """Leave a forever order; return its id."""
        flag = choice(fields, "orderFlag", ("SINGLE", "OCO"))
        plain = {name: value for name, value in fields.items() if name not in _LEG_FIELDS | {"orderFlag"}}
        terms = read_standing(
            plain,
            fields,
            _FOREVER_FIELDS,
            client_id=self._client_id,
            market=self._market,
            address=self._gates.address,
        )
        if fields.get("orderType") not in _TYPES or terms.product not in {"CNC", "MTF", "MARGIN"}:
            raise Refusal.bad_input()
        triggers = [_trigger(fields, suffix) for suffix in ("", "1")[: 1 + (flag == "OCO")]]
        side = Side(terms.side.lower())
        first = LegRole.ENTRY
        common: dict[str, Any] = {"quantity": terms.quantity, "product": PRODUCTS[terms.product]}
        instrument = terms.listed.instrument
        request: GttOrder | OcoOrder
        try:
            if flag == "SINGLE":
                request = GttOrder(instrument, side, trigger=triggers[0], **common)
            else:
                rising = sorted(triggers, key=lambda each: each.trigger_price, reverse=side is Side.SELL)
                first = LegRole.TARGET if rising[0] is triggers[0] else LegRole.STOP
                request = OcoOrder(instrument, side, target=rising[0], stop=rising[1], **common)
            gtt = self._exchange.place_gtt(request, at=self._market.now)
            if flag == "OCO" and (second := whole(fields, "quantity1", least=1)) != terms.quantity:
                other = LegRole.STOP if first is LegRole.TARGET else LegRole.TARGET
                self._exchange.modify_gtt(gtt.id, quantity=second, quantity_of=other, at=self._market.now)
        except (InvalidOrder, Unsupported):
            raise Refusal.bad_input() from None
        now = self._market.now
        made = _Forever(
            id=f"51{now:%y%m%d}{len(self._forever) + 1:05d}",
            gtt_id=gtt.id,
            terms=terms,
            flag=flag,
            first=first,
            created=now,
        )
        self._forever[made.id] = made
        return made.id

    def modify(self, order_id: str, fields: Mapping[str, Any]) -> str:
        """Change one leg; return the id."""
        self._gates.address()
        known(fields, _FOREVER_CHANGES, self._client_id)
        made = self._one(order_id)
        if str(fields.get("orderId", order_id)) != order_id or fields.get("orderFlag", made.flag) != made.flag:
            raise Refusal.bad_input()
        choice(fields, "orderType", _TYPES)
        choice(fields, "validity", ("DAY", "IOC"))
        role = self._role(made, choice(fields, "legName", _LEGS))
        trigger = _trigger(fields, "")
        name = {LegRole.ENTRY: "trigger", LegRole.TARGET: "target", LegRole.STOP: "stop"}[role]
        changes: dict[str, Any] = {name: trigger}
        try:
            self._exchange.modify_gtt(
                made.gtt_id,
                quantity=whole(fields, "quantity", least=1),
                quantity_of=role,
                at=self._market.now,
                **changes,
            )
        except InvalidOrder:
            raise Refusal.bad_input() from None
        except HybridBrokerError:
            raise Refusal.order() from None
        made.updated = self._market.now
        return made.id

    def cancel(self, order_id: str) -> str:
        """Cancel what waits of one; return the id."""
        self._gates.address()
        made = self._one(order_id)
        if all(leg.status is not LegStatus.ARMED for leg in self._exchange.gtt(made.gtt_id).legs):
            raise Refusal.order()
        self._exchange.cancel_gtt(made.gtt_id, at=self._market.now)
        made.updated = self._market.now
        return made.id

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per leg of what is alive, or changed today."""
        self._note_changes()
        today = self._market.now.date()
        rows = []
        for made in self._forever.values():
            gtt = self._exchange.gtt(made.gtt_id)
            if gtt.is_live or (made.updated or made.created).date() == today:
                rows += [self._row(made, gtt, leg) for leg in self._in_order(made, gtt)]
        return rows

    def _place(self, _: Request, body: bytes) -> object:
        fields = read_json(body)
        self._gates.switch()
        return {"orderId": self.place(fields), "orderStatus": "PENDING"}

    def _modify(self, request: Request, body: bytes) -> object:
        return {"orderId": self.modify(request.path_params["id"], read_json(body)), "orderStatus": "PENDING"}

    def _cancel(self, request: Request, _: bytes) -> object:
        return {"orderId": self.cancel(request.path_params["id"]), "orderStatus": "CANCELLED"}

    def _note_changes(self) -> None:
        changed = {each.id for each in self._exchange.standing_changes()}
        for made in self._forever.values():
            if made.gtt_id in changed and made.created != self._market.now:
                made.updated = self._market.now

    def _one(self, order_id: str) -> _Forever:
        try:
            return self._forever[order_id]
        except KeyError:
            raise Refusal.order() from None

    def _role(self, made: _Forever, name: str) -> LegRole:
        """Return which leg the client means; a single order has one, called by either name."""
        if made.flag == "SINGLE":
            if name == "STOP_LOSS_LEG":
                raise Refusal.bad_input()
            return LegRole.ENTRY
        if name == "ENTRY_LEG":
            raise Refusal.bad_input()
        other = LegRole.STOP if made.first is LegRole.TARGET else LegRole.TARGET
        return made.first if name == self._habits.oco_first_leg else other

    def _label(self, made: _Forever, leg: Leg) -> str:
        if made.flag == "SINGLE":
            return self._habits.single_leg
        first = self._habits.oco_first_leg
        return first if leg.role is made.first else _OTHER[first]

    def _in_order(self, made: _Forever, gtt: Gtt) -> tuple[Leg, ...]:
        return gtt.legs if made.first is not LegRole.STOP else gtt.legs[::-1]

    def _row(self, made: _Forever, gtt: Gtt, leg: Leg) -> dict[str, Any]:
        listed = made.terms.listed
        cash = listed.instrument.expiry is None
        contract = derivative(listed.instrument)
        return {
            "dhanClientId": self._client_id,
            "orderId": made.id,
            "orderStatus": _STATUS[leg.status],
            "transactionType": made.terms.side,
            "exchangeSegment": listed.dhan_segment,
            "productType": made.terms.product,
            "orderType": made.flag,
            "tradingSymbol": symbol(gtt.instrument),
            "securityId": listed.dhan_id,
            "quantity": leg.quantity,
            "price": float(leg.price or 0),
            "triggerPrice": float(leg.trigger_price or 0),
            "legName": self._label(made, leg),
            "createTime": time_text(made.created),
            "updateTime": None if made.updated is None else time_text(made.updated),
            "exchangeTime": None,
            "drvExpiryDate": None if cash else contract["drvExpiryDate"],
            "drvOptionType": None if cash else contract["drvOptionType"],
            "drvStrikePrice": contract["drvStrikePrice"],
        }

    def _origin(self, order: Order) -> Origin | None:
        for made in reversed(self._forever.values()):
            if any(leg.order_id == order.id for leg in self._exchange.gtt(made.gtt_id).legs):
                return Origin(made.terms.correlation_id)
        return None


def _trigger(fields: Mapping[str, Any], suffix: str) -> Trigger:
    """Read one set of fields; a market leg is stored with price 0 (documented)."""
    price = None if fields.get("orderType") == "MARKET" else positive(fields, f"price{suffix}")
    return Trigger(positive(fields, f"triggerPrice{suffix}"), price=price)
