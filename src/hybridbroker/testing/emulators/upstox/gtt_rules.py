"""GTT bodies as Upstox reads them: which rules there must be, and what each may say."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import attrs

from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Refusal
from hybridbroker.testing.emulators.upstox.orders import PRODUCTS, read_listed, read_protection

__all__ = ["GttFields", "GttRule", "check_gap", "read_gtt", "read_rules"]

_STRATEGIES: Final = ("ENTRY", "TARGET", "STOPLOSS")
_TRIGGERS: Final = ("ABOVE", "BELOW", "IMMEDIATE")
_OPPOSITE: Final = {"BUY": "SELL", "SELL": "BUY"}
_LEAST_GAP: Final = Decimal("0.1")
"""Least trailing gap, as a part of the way from the last price to the stop (documented)."""


@attrs.define(eq=False, kw_only=True)
class GttRule:
    """One rule, and what became of it."""

    strategy: str
    trigger_type: str
    price: Decimal
    side: str
    trailing_gap: Decimal = Decimal(0)
    protection: float = -1.0
    status: str = "INACTIVE"
    message: str | None = None
    order_id: str | None = None

    def is_met(self, last: Decimal) -> bool:
        """Say whether the last price is at the trigger or beyond it."""
        if self.strategy == "ENTRY":
            return last >= self.price if self.trigger_type == "ABOVE" else last <= self.price
        rises = (self.strategy == "TARGET") is (self.side == "SELL")
        return last >= self.price if rises else last <= self.price

    def row(self) -> dict[str, Any]:
        """Return it as the details show it."""
        return {
            "strategy": self.strategy,
            "status": self.status,
            "trigger_type": self.trigger_type,
            "trigger_price": float(self.price),
            "transaction_type": self.side,
            "message": self.message,
            "order_id": self.order_id,
            "trailing_gap": float(self.trailing_gap) or None,
        }


@attrs.frozen(kw_only=True)
class GttFields:
    """A place body that is right."""

    type: str
    quantity: int
    product: str
    listed: ListedInstrument
    rules: list[GttRule]


def read_gtt(fields: Mapping[str, Any], market: EmulatedMarket) -> GttFields:
    """Read a place body; raise `Refusal`."""
    listed = read_listed(fields.get("instrument_token"), market)
    side, product, quantity = (fields.get(name) for name in ("transaction_type", "product", "quantity"))
    if side not in tuple(_OPPOSITE):
        raise Refusal("UDAPI1057", path="transaction_type", invalid=side)
    if product not in PRODUCTS:
        raise Refusal("UDAPI1054", path="product", invalid=product)
    if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity <= 0:
        raise Refusal("UDAPI1052", path="quantity", invalid=quantity)
    rules = read_rules(fields.get("type"), fields.get("rules"), side=str(side))
    return GttFields(type=str(fields["type"]), quantity=quantity, product=str(product), listed=listed, rules=rules)


def read_rules(kind: object, given: object, *, side: str) -> list[GttRule]:
    """Read a rule list for an entry on ``side``; raise `Refusal`."""
    if kind not in ("SINGLE", "MULTIPLE"):
        raise Refusal("UDAPI1126", path="type", invalid=kind)
    rules = given if isinstance(given, list) else []
    if kind == "SINGLE" and len(rules) != 1:
        raise Refusal("UDAPI1136", path="rules")
    if kind == "MULTIPLE" and len(rules) not in {2, 3}:
        raise Refusal("UDAPI1137", path="rules")
    read = [_rule(each, side) for each in rules]
    strategies = [each.strategy for each in read]
    if "ENTRY" not in strategies:
        raise Refusal("UDAPI1141", path="rules")
    if len(set(strategies)) < len(strategies):
        raise Refusal("UDAPI100036", "Each strategy may be given once", path="rules")
    return read


def check_gap(rules: list[GttRule], last: Decimal | None) -> None:
    """Refuse a trailing gap below a tenth of the way from the last price to the stop."""
    for rule in rules:
        if rule.trailing_gap and last is not None and rule.trailing_gap < abs(last - rule.price) * _LEAST_GAP:
            raise Refusal("UDAPI1151", path="trailing_gap", invalid=float(rule.trailing_gap))


def _rule(given: object, side: str) -> GttRule:
    if not isinstance(given, dict) or given.get("strategy") not in _STRATEGIES:
        raise Refusal("UDAPI100036", path="rules")
    strategy, trigger = given["strategy"], given.get("trigger_type")
    if trigger not in _TRIGGERS:
        raise Refusal("UDAPI100036", path="trigger_type", invalid=trigger)
    if strategy != "ENTRY" and trigger != "IMMEDIATE":
        raise Refusal("UDAPI1143", path="trigger_type", invalid=trigger)
    gap = given.get("trailing_gap")
    if gap and strategy != "STOPLOSS":
        raise Refusal("UDAPI100036", path="trailing_gap", invalid=gap)
    return GttRule(
        strategy=strategy,
        trigger_type=str(trigger),
        price=_positive(given.get("trigger_price"), "trigger_price"),
        side=side if strategy == "ENTRY" else _OPPOSITE[side],
        trailing_gap=_positive(gap, "trailing_gap") if gap else Decimal(0),
        protection=read_protection(given.get("market_protection")),
    )


def _positive(value: object, path: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise Refusal("UDAPI100036", path=path, invalid=value)
    return Decimal(str(value))
