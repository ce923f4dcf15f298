"""Upstox's GTT orders: rules that wait for the emulated market's prices and then send orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import attrs
from starlette.responses import Response

from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.steps import Step
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal, success
from hybridbroker.testing.emulators.upstox.book import UpstoxBook
from hybridbroker.testing.emulators.upstox.entries import Entry
from hybridbroker.testing.emulators.upstox.gates import Need, Rule
from hybridbroker.testing.emulators.upstox.gtt_rules import GttRule, check_gap, read_gtt, read_rules
from hybridbroker.testing.emulators.upstox.orders import Terms
from hybridbroker.testing.emulators.upstox.rows import micros

__all__ = ["Gtt", "UpstoxGtt"]

_LIFE: Final = timedelta(days=365)
_LATENCY: Final = {"latency": 24}
_WAITING: Final = frozenset({"SCHEDULED", "INACTIVE"})
_SENT: Final = frozenset({"TRIGGERED", "OPEN"})
_BUFFER: Final = Decimal(1)
"""Percent of protection on a triggered leg where the client named none (Upstox's own value is not published)."""


@attrs.define(eq=False, kw_only=True)
class Gtt:
    """One GTT order."""

    id: str
    type: str
    quantity: int
    product: str
    listed: ListedInstrument
    rules: list[GttRule]
    created: datetime
    expires: datetime
    anchor: Decimal | None = None
    """The price that a trailing stop last moved at."""

    @property
    def entry(self) -> GttRule:
        """Return the rule that opens."""
        return next(each for each in self.rules if each.strategy == "ENTRY")

    @property
    def exits(self) -> list[GttRule]:
        """Return the rules that close."""
        return [each for each in self.rules if each.strategy != "ENTRY"]

    @property
    def is_alive(self) -> bool:
        """Say whether any rule may still do something."""
        return any(each.status in _WAITING | _SENT for each in self.rules)

    def row(self) -> dict[str, Any]:
        """Return it as the details and the portfolio stream show it; times are microseconds."""
        return {
            "type": self.type,
            "exchange": self.listed.upstox_segment,
            "quantity": self.quantity,
            "product": self.product,
            "trading_symbol": self.listed.instrument.symbol,
            "instrument_token": self.listed.upstox_key,
            "gtt_order_id": self.id,
            "expires_at": micros(self.expires),
            "created_at": micros(self.created),
            "rules": [each.row() for each in self.rules],
        }


class UpstoxGtt:
    """Answers GTT calls and watches prices; ``tell`` is called with each order whenever a rule changed.

    A rule is ``SCHEDULED`` while it watches (exits are ``INACTIVE`` before the entry filled),
    ``TRIGGERED`` once its order is sent, ``OPEN`` while that rests, then ``COMPLETED`` or
    ``FAILED``; of two exits the one that completes cancels the other. The words are
    documented; which of them stands when is our reading.
    """

    def __init__(self, market: EmulatedMarket, book: UpstoxBook, *, tell: Callable[[Gtt], None]) -> None:
        self._market = market
        self._book = book
        self._tell = tell
        self._orders: dict[str, Gtt] = {}

    def rules(self) -> Iterator[Rule]:
        """Return the calls; they are not bound to market hours (unconfirmed)."""
        yield Rule("POST", "/v3/order/gtt/place", self._place, Need.ORDER)
        yield Rule("PUT", "/v3/order/gtt/modify", self._modify, Need.ORDER)
        yield Rule("DELETE", "/v3/order/gtt/cancel", self._cancel, Need.ORDER)
        yield Rule("GET", "/v3/order/gtt", self._details, Need.ACCOUNT)

    def step(self, step: Step) -> None:
        """Let the market move: rules trigger, stops trail, orders expire."""
        alive = [each for each in self._orders.values() if each.is_alive]
        for gtt in alive:
            if self._market.now >= gtt.expires and self._end(gtt, "EXPIRED"):
                self._tell(gtt)
        if not alive or not self._market.is_open:
            return
        moved = {listed.upstox_key for listed, _ in step.updates}
        for gtt in alive:
            if gtt.listed.upstox_key in moved and (last := self._last(gtt.listed)) is not None:
                self._watch(gtt, last)

    def on_order(self, order: Entry) -> None:
        """Take note of what became of an order that a rule has sent."""
        gtt = self._orders.get(order.gtt_id or "")
        rule = None if gtt is None else next((each for each in gtt.rules if each.order_id == order.id), None)
        if gtt is None or rule is None or rule.status not in _SENT:
            return
        match order.status:
            case "complete":
                rule.status = "COMPLETED"
                self._completed(gtt, rule)
            case "rejected" | "cancelled" | "cancelled after market order":
                rule.status = "FAILED" if order.status == "rejected" else "CANCELLED"
                rule.message = order.state.message or ""
                if rule.strategy == "ENTRY":
                    self._end(gtt, "CANCELLED")
            case "open" | "trigger pending" if rule.status == "TRIGGERED":
                rule.status = "OPEN"
            case _:
                return
        self._tell(gtt)

    def _completed(self, gtt: Gtt, rule: GttRule) -> None:
        if rule.strategy != "ENTRY":
            self._end(gtt, "CANCELLED")
            return
        gtt.anchor = self._last(gtt.listed)
        for each in gtt.exits:
            each.status = "SCHEDULED"

    def _watch(self, gtt: Gtt, last: Decimal) -> None:
        moved = self._trail(gtt, last)
        for rule in gtt.rules:
            if rule.status == "SCHEDULED" and rule.is_met(last):
                self._send(gtt, rule)
                return
        if moved:
            self._tell(gtt)

    def _trail(self, gtt: Gtt, last: Decimal) -> bool:
        """Move a trailing stop by whole gaps as the price moves in favour of the position (our reading)."""
        stop = next((each for each in gtt.exits if each.trailing_gap and each.status == "SCHEDULED"), None)
        if stop is None or gtt.anchor is None:
            return False
        sign = -1 if stop.side == "BUY" else 1
        gaps = int((last - gtt.anchor) * sign / stop.trailing_gap)
        if gaps <= 0:
            return False
        gtt.anchor += sign * gaps * stop.trailing_gap
        stop.price += sign * gaps * stop.trailing_gap
        return True

    def _send(self, gtt: Gtt, rule: GttRule) -> None:
        others = [each for each in gtt.exits if each is not rule and rule.strategy != "ENTRY"]
        for each in others:
            each.status = "CANCELLED" if each.status in _WAITING else each.status
        rule.status = "TRIGGERED"
        order = self._book.enter(
            Terms(
                listed=gtt.listed,
                side=rule.side,
                product=gtt.product,
                type="LIMIT",
                validity="DAY",
                quantity=gtt.quantity,
                price=self._limit(gtt, rule),
            ),
            gtt_id=gtt.id,
        )
        rule.order_id = order.id
        self._tell(gtt)

    def _limit(self, gtt: Gtt, rule: GttRule) -> Decimal:
        if rule.strategy == "ENTRY" and rule.trigger_type == "IMMEDIATE":
            return rule.price
        percent = _BUFFER if rule.protection < 0 else Decimal(str(rule.protection))
        sign = 1 if rule.side == "BUY" else -1
        return gtt.listed.instrument.price(rule.price * (1 + sign * percent / 100))

    def _place(self, call: Call) -> Response:
        fields = read_gtt(call.fields(), self._market)
        last = self._last(fields.listed)
        check_gap(fields.rules, last)
        now = self._market.now
        gtt = Gtt(
            id=f"GTT-C{now:%y%m%d}{len(self._orders) + 1:08d}",
            type=fields.type,
            quantity=fields.quantity,
            product=fields.product,
            listed=fields.listed,
            rules=fields.rules,
            created=now,
            expires=now + _LIFE,
        )
        self._orders[gtt.id] = gtt
        gtt.entry.status = "SCHEDULED"
        self._tell(gtt)
        if gtt.entry.trigger_type == "IMMEDIATE":
            self._send(gtt, gtt.entry)
        return _ids(gtt)

    def _modify(self, call: Call) -> Response:
        fields = call.fields()
        gtt = self._get(fields.get("gtt_order_id"))
        if not gtt.is_alive:
            raise Refusal("UDAPI100041", path="gtt_order_id", invalid=gtt.id)
        rules = read_rules(fields.get("type"), fields.get("rules"), side=gtt.entry.side)
        entry = next(each for each in rules if each.strategy == "ENTRY")
        started = gtt.entry.status != "SCHEDULED"
        if started and entry.trigger_type != "IMMEDIATE":
            raise Refusal("UDAPI1150", path="rules", invalid=entry.trigger_type)
        check_gap(rules, self._last(gtt.listed))
        quantity = fields.get("quantity")
        if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity <= 0:
            raise Refusal("UDAPI1052", path="quantity", invalid=quantity)
        if not started:
            gtt.quantity = quantity
        self._take_over(gtt, rules)
        gtt.type = str(fields["type"])
        self._tell(gtt)
        if not started and entry.trigger_type == "IMMEDIATE":
            self._send(gtt, gtt.entry)
        return _ids(gtt)

    def _take_over(self, gtt: Gtt, rules: list[GttRule]) -> None:
        """Put new rules in the place of old ones, which keep what they have done already."""
        old = {each.strategy: each for each in gtt.rules}
        filled = gtt.entry.status == "COMPLETED"
        for rule in rules:
            before = old.get(rule.strategy)
            if before is not None:
                rule.status, rule.order_id, rule.message = before.status, before.order_id, before.message
            elif filled:
                rule.status = "SCHEDULED"
        entry, before = next(each for each in rules if each.strategy == "ENTRY"), old["ENTRY"]
        if before.status == "OPEN" and before.order_id is not None and entry.price != before.price:
            order = self._book.get(before.order_id)
            self._book.modify(order, attrs.evolve(order.terms, price=entry.price))
        gtt.rules = rules

    def _cancel(self, call: Call) -> Response:
        gtt = self._get(call.fields().get("gtt_order_id"))
        if not self._end(gtt, "CANCELLED"):
            raise Refusal("UDAPI100040", path="gtt_order_id", invalid=gtt.id)
        self._tell(gtt)
        return _ids(gtt)

    def _details(self, call: Call) -> Response:
        wanted = call.query.get("gtt_order_id")
        found = [self._get(wanted)] if wanted else list(self._orders.values())
        return success([each.row() for each in found], metadata=_LATENCY)

    def _get(self, gtt_id: object) -> Gtt:
        if not gtt_id:
            raise Refusal("UDAPI1134", path="gtt_order_id")
        name = str(gtt_id)
        if not name.startswith("GTT-"):
            raise Refusal("UDAPI1135", path="gtt_order_id", invalid=name)
        if name not in self._orders:
            raise Refusal("UDAPI100010", path="gtt_order_id", invalid=name)
        return self._orders[name]

    def _end(self, gtt: Gtt, status: str) -> bool:
        """End what still waits, and cancel what rests; say whether there was anything."""
        found = False
        for rule in gtt.rules:
            if rule.status in _WAITING:
                rule.status, found = status, True
            elif rule.status in _SENT and rule.order_id is not None:
                found = True
                order = self._book.get(rule.order_id)
                if not order.is_final:
                    self._book.cancel(order)
        return found

    def _last(self, listed: ListedInstrument) -> Decimal | None:
        tick = self._market.tick(listed)
        return None if tick is None else listed.instrument.price(tick.last_price)


def _ids(gtt: Gtt) -> Response:
    return success({"gtt_order_ids": [gtt.id]}, metadata=_LATENCY)
