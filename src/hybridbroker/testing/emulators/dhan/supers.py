"""Dhan's super orders over the brackets of a simulated exchange.

Documented, https://dhanhq.co/docs/v2/super-order/ ; nobody has published a real row. Not played:
super orders with one exit only, which this emulator refuses as DH-905.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import attrs
from starlette.requests import Request
from starlette.responses import Response

from hybridbroker.domain.orders import Order, Side
from hybridbroker.domain.standing import Bracket, BracketOrder, LegRole, LegStatus
from hybridbroker.errors import InvalidOrder, OrderError
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.dhan.book import DhanBook, Origin
from hybridbroker.testing.emulators.dhan.gates import Call, DhanGates
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.orders import (
    PRODUCTS,
    Refusal,
    choice,
    known,
    number,
    positive,
    read_json,
    read_standing,
    whole,
)
from hybridbroker.testing.emulators.dhan.rows import Entry, order_row
from hybridbroker.testing.emulators.market import EmulatedMarket

__all__ = ["DhanSupers"]

_TYPES: Final = ("LIMIT", "MARKET")
_SUPER_FIELDS: Final = frozenset({
    "dhanClientId", "correlationId", "transactionType", "exchangeSegment", "productType", "orderType", "securityId",
    "quantity", "price", "targetPrice", "stopLossPrice", "trailingJump",
})  # fmt: skip
_SUPER_CHANGES: Final = frozenset({
    "dhanClientId", "orderId", "orderType", "legName", "quantity", "price", "targetPrice", "stopLossPrice",
    "trailingJump",
})  # fmt: skip
_LEGS: Final = {"ENTRY_LEG": LegRole.ENTRY, "TARGET_LEG": LegRole.TARGET, "STOP_LOSS_LEG": LegRole.STOP}
_LEG_NAMES: Final = {role: name for name, role in _LEGS.items()}
_EXIT_STATUS: Final = {
    LegStatus.INACTIVE: "PENDING",
    LegStatus.ARMED: "PENDING",
    LegStatus.SENT: "TRIGGERED",
    LegStatus.FILLED: "TRADED",
    LegStatus.CANCELLED: "CANCELLED",
    LegStatus.REJECTED: "REJECTED",
    LegStatus.EXPIRED: "EXPIRED",
}
_STOPS: Final = {"stopLossPrice", "trailingJump"}
_EXITS: Final = {"targetPrice", *_STOPS}
_CHANGES: Final = {"price": "price", "targetPrice": "target_price", "stopLossPrice": "stop_price"}
_OPPOSITE: Final = {"BUY": "SELL", "SELL": "BUY"}
_SUPER_ROW: Final = (
    "dhanClientId", "orderId", "correlationId", "orderStatus", "transactionType", "exchangeSegment", "productType",
    "orderType", "validity", "tradingSymbol", "securityId", "quantity", "remainingQuantity", "price",
    "afterMarketOrder", "legName", "exchangeOrderId", "createTime", "updateTime", "exchangeTime",
    "omsErrorDescription", "averageTradedPrice", "filledQty", "algoId",
)  # fmt: skip


class DhanSupers:
    """The super orders of one account; ``send_off`` lets a new entry travel to the exchange."""

    def __init__(
        self,
        market: EmulatedMarket,
        exchange: SimulatedExchange,
        book: DhanBook,
        *,
        habits: DhanHabits,
        gates: DhanGates,
        client_id: str,
        send_off: Callable[[Entry], None],
    ) -> None:
        self._market = market
        self._exchange = exchange
        self._book = book
        self._habits = habits
        self._gates = gates
        self._client_id = client_id
        self._send_off = send_off
        book.origins.append(self._origin)

    def calls(self) -> list[Call]:
        """Return the calls under ``/super``."""
        return [
            Call("POST", "/super/orders", self._place, family="order"),
            Call("GET", "/super/orders", lambda *_: self.rows()),
            Call("PUT", "/super/orders/{id}", self._modify, family="order"),
            Call("DELETE", "/super/orders/{id}/{leg}", self._cancel, family="order"),
        ]

    def place(self, fields: Mapping[str, Any]) -> Entry:
        """Enter a super order; it still has to arrive."""
        plain = {name: value for name, value in fields.items() if name in _SUPER_FIELDS - _EXITS}
        kind = fields.get("orderType")
        terms = read_standing(
            {**plain, "validity": "DAY"},
            fields,
            _SUPER_FIELDS,
            client_id=self._client_id,
            market=self._market,
            address=self._gates.address,
        )
        if kind not in _TYPES or not number(fields, "price"):
            raise Refusal.bad_input()
        try:
            bracket = BracketOrder(
                terms.listed.instrument,
                Side(terms.side.lower()),
                quantity=terms.quantity,
                product=PRODUCTS[terms.product],
                price=terms.price if kind == "LIMIT" else None,
                target_price=positive(fields, "targetPrice"),
                stop_price=positive(fields, "stopLossPrice"),
                trail=number(fields, "trailingJump") or None,
            )
        except InvalidOrder as exc:
            raise Refusal.order(str(exc)) from None
        return self._book.enter(terms, bracket=bracket)

    def modify(self, order_id: str, fields: Mapping[str, Any]) -> Entry:
        """Change one leg (documented): 0 leaves a price as it is, and ends the trailing."""
        self._gates.address()
        known(fields, _SUPER_CHANGES, self._client_id)
        entry = self._super(order_id)
        leg = choice(fields, "legName", _LEGS)
        names = {"ENTRY_LEG": _EXITS | {"quantity", "price"}, "TARGET_LEG": {"targetPrice"}}.get(leg, _STOPS)
        changes: dict[str, Any] = {
            _CHANGES[name]: number(fields, name) for name in names if name in _CHANGES and number(fields, name)
        }
        if "quantity" in names and fields.get("quantity"):
            changes["quantity"] = whole(fields, "quantity", least=1)
        if "trailingJump" in names:
            changes["trail"] = number(fields, "trailingJump")
        self._book.count_modification(entry)
        try:
            if entry.order is None:
                assert entry.bracket is not None  # noqa: S101 - a super order
                entry.bracket = attrs.evolve(entry.bracket, **changes | {"trail": changes.get("trail") or None})
            else:
                self._exchange.modify_bracket(entry.order.id, at=self._market.now, **changes)
        except OrderError as exc:
            raise Refusal.order(str(exc)) from None
        if leg == "ENTRY_LEG":
            entry.terms = attrs.evolve(
                entry.terms,
                quantity=changes.get("quantity", entry.terms.quantity),
                price=changes.get("price", entry.terms.price),
            )
        self._book.refresh(entry)
        return entry

    def cancel(self, order_id: str, leg: str) -> Entry:
        """Cancel a leg for good; with the entry goes everything (documented)."""
        self._gates.address()
        entry = self._super(order_id)
        if leg not in _LEGS:
            raise Refusal.bad_input()
        if entry.status == "TRANSIT":
            raise Refusal.order("Order is in Transit state")
        if entry.order is None:
            raise Refusal.order()
        bracket = self._exchange.bracket(entry.order.id)
        found = bracket.leg(_LEGS[leg])
        if not bracket.is_live or (leg != "ENTRY_LEG" and (found is None or not found.is_live)):
            raise Refusal.order()
        after = self._exchange.cancel_bracket(bracket.id, leg=_LEGS[leg], at=self._market.now)
        self._book.follow(
            self._exchange.order(new.order_id)
            for old, new in zip(bracket.legs, after.legs, strict=True)
            if new.order_id is not None and new != old
        )
        return entry

    def rows(self) -> list[dict[str, Any]]:
        """Return the day's super orders and those still alive, with their legs nested."""
        today = self._market.now.date()
        return [
            self._super_row(each)
            for each in self._book.all()
            if each.bracket is not None and (each.created.date() == today or self._is_live(each))
        ]

    def _place(self, _: Request, body: bytes) -> object:
        fields = read_json(body)
        self._gates.switch()
        entry = self.place(fields)
        self._send_off(entry)
        return {"orderId": entry.id, "orderStatus": "PENDING"}

    def _modify(self, request: Request, body: bytes) -> object:
        entry = self.modify(request.path_params["id"], read_json(body))
        return {"orderId": entry.id, "orderStatus": "TRANSIT"}

    def _cancel(self, request: Request, _: bytes) -> object:
        entry = self.cancel(request.path_params["id"], request.path_params["leg"])
        if not self._habits.super_cancel_body:
            return Response(status_code=202)
        return {"orderId": entry.id, "orderStatus": "CANCELLED"}

    def _super(self, order_id: str) -> Entry:
        entry = self._book.get(order_id)
        if entry is None or entry.bracket is None:
            raise Refusal.order()
        return entry

    def _is_live(self, entry: Entry) -> bool:
        return not entry.is_final if entry.order is None else self._exchange.bracket(entry.order.id).is_live

    def _super_row(self, entry: Entry) -> dict[str, Any]:
        row = order_row(entry, self._client_id)
        tick = self._market.tick(entry.terms.listed)
        bracket = None if entry.order is None else self._exchange.bracket(entry.order.id)
        kept = {name: row[name] for name in _SUPER_ROW}
        return {
            **kept,
            "orderStatus": _entry_status(entry, bracket),
            "ltp": tick.last_price if tick else 0.0,
            "legDetails": [self._leg_row(entry, bracket, role) for role in (LegRole.STOP, LegRole.TARGET)],
        }

    def _leg_row(self, entry: Entry, bracket: Bracket | None, role: LegRole) -> dict[str, Any]:
        wanted = entry.bracket
        assert wanted is not None  # noqa: S101 - a super order
        leg = None if bracket is None else bracket.leg(role)
        stop = role is LegRole.STOP
        price = (wanted.stop_price if stop else wanted.target_price) if leg is None else leg.trigger_price
        trail = (wanted.trail if leg is None else leg.trail) if stop else None
        quantity = wanted.quantity if leg is None else leg.quantity
        filled = 0 if leg is None else leg.filled_quantity or 0
        status = "PENDING" if leg is None else _EXIT_STATUS[leg.status]
        return {
            "orderId": entry.id,
            "legName": _LEG_NAMES[role],
            "transactionType": _OPPOSITE[entry.terms.side],
            self._habits.quantity_key: quantity,
            "remainingQuantity": quantity - filled,
            "triggeredQuantity": filled,
            "price": float(price or Decimal(0)),
            "orderStatus": "PART_TRADED" if filled and status == "TRIGGERED" else status,
            "trailingJump": float(trail or 0),
        }

    def _origin(self, order: Order) -> Origin | None:
        for bracket in reversed(self._exchange.brackets()):
            for leg in bracket.legs:
                if leg.order_id == order.id:
                    entry = self._book.of(self._exchange.order(bracket.id))
                    return Origin(entry.terms.correlation_id, entry.id, _LEG_NAMES[leg.role])
        return None


def _entry_status(entry: Entry, bracket: Bracket | None) -> str:
    """Return the status of the whole: ``CLOSED`` once the exits closed what the entry opened (our reading)."""
    closed = bracket is not None and not bracket.is_live
    return "CLOSED" if closed and entry.status == "TRADED" else entry.status
