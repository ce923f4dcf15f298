"""Upstox's account calls: positions, holdings, conversion, funds, charges, margin and the kill switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import attrs
from starlette.responses import Response

from hybridbroker.domain.orders import Product, Side
from hybridbroker.errors import InvalidOrder, OrderRejected
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.simulation.executions import Execution
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal, success
from hybridbroker.testing.emulators.upstox.book import UpstoxBook
from hybridbroker.testing.emulators.upstox.gates import Need, Rule
from hybridbroker.testing.emulators.upstox.names import SEGMENTS
from hybridbroker.testing.emulators.upstox.orders import PRODUCTS, read_listed
from hybridbroker.testing.emulators.upstox.rows import PRODUCT_NAMES, holding_row, position_row
from hybridbroker.testing.emulators.upstox.trading import check_hours

__all__ = ["KillSwitch", "UpstoxAccount"]

_COOLING: Final = timedelta(hours=12)
_MOST_MARGINS: Final = 20
_DEAREST: Final = 10**12
_CLOSED: Final = 423


@attrs.define
class KillSwitch:
    """Which segments are disabled; what was toggled bites once the token was renewed (documented)."""

    since: dict[str, datetime] = attrs.field(factory=dict)
    tokens: dict[str, str] = attrs.field(factory=dict)
    """The token that each segment was disabled with."""

    def blocks(self, segment: str, token: str) -> bool:
        """Say whether orders of a segment are refused under the token of now."""
        return segment in self.since and self.tokens[segment] != token


class UpstoxAccount:
    """Answers account calls from the exchange that holds the account, and the one that holds what MTF finances."""

    def __init__(
        self,
        market: EmulatedMarket,
        book: UpstoxBook,
        *,
        charges: ChargeSchedule | None,
        listing: Callable[[Iterator[object]], Response],
    ) -> None:
        self.kill_switch = KillSwitch()
        self._market = market
        self._book = book
        self._charges = charges
        self._listing = listing

    @property
    def _exchange(self) -> SimulatedExchange:
        return self._book.venues[0]

    def rules(self) -> Iterator[Rule]:
        """Return the calls."""
        yield Rule("GET", "/v2/portfolio/short-term-positions", self._positions, Need.READ)
        yield Rule("GET", "/v2/portfolio/long-term-holdings", self._holdings, Need.READ)
        yield Rule("GET", "/v3/portfolio/mtf-positions", self._mtf_positions, Need.ACCOUNT)
        yield Rule("PUT", "/v2/portfolio/convert-position", self._convert, Need.CONTROL)
        yield Rule("GET", "/v2/user/get-funds-and-margin", self._funds_old, Need.CONTROL)
        yield Rule("GET", "/v3/user/get-funds-and-margin", self._funds, Need.CONTROL)
        yield Rule("GET", "/v2/charges/brokerage", self._brokerage, Need.DATA)
        yield Rule("POST", "/v2/charges/margin", self._margin, Need.DATA)
        yield Rule("GET", "/v2/user/kill-switch", self._switches, Need.CONTROL)
        yield Rule("POST", "/v2/user/kill-switch", self._switch, Need.CONTROL)

    def position_rows(self, venue: SimulatedExchange) -> Iterator[dict[str, Any]]:
        """Return the rows of one exchange."""
        for each in venue.positions():
            listed = self._market.by_instrument(each.instrument)
            product = PRODUCT_NAMES[each.product] if venue is self._exchange else "MTF"
            yield position_row(each, listed, product=product, close=self._close(listed))

    def _close(self, listed: ListedInstrument) -> float | None:
        tick = self._market.tick(listed)
        return None if tick is None else tick.previous_close

    def _positions(self, _: Call) -> Response:
        self._book.advance()
        return self._listing(self.position_rows(self._exchange))

    def _mtf_positions(self, _: Call) -> Response:
        self._book.advance()
        return self._listing(self.position_rows(self._book.venues[1]))

    def _holdings(self, _: Call) -> Response:
        self._book.advance()
        return self._listing(
            holding_row(each, listed, product="D", close=self._close(listed))
            for each in self._exchange.holdings()
            for listed in [self._market.by_instrument(each.instrument)]
        )

    def _convert(self, call: Call) -> Response:
        fields = call.fields()
        listed = read_listed(fields.get("instrument_token"), self._market)
        old, new = (fields.get(name) for name in ("old_product", "new_product"))
        if (old, new) not in (("I", "D"), ("D", "I")):
            raise Refusal("UDAPI1054", path="new_product", invalid=new)
        side = fields.get("transaction_type")
        if side not in ("BUY", "SELL"):
            raise Refusal("UDAPI1057", path="transaction_type", invalid=side)
        quantity = fields.get("quantity")
        if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity <= 0:
            raise Refusal("UDAPI1052", path="quantity", invalid=quantity)
        if not self._exchange.positions():
            raise Refusal("UDAPI1034")
        try:
            self._exchange.convert(
                listed.instrument,
                quantity * Side(side.lower()).sign,
                from_product=_product(str(old), listed),
                to_product=_product(str(new), listed),
                at=self._market.now,
            )
        except InvalidOrder as exc:
            raise Refusal("UDAPI1035", str(exc), path="quantity", invalid=quantity) from None
        except OrderRejected as exc:
            raise Refusal("UDAPI100500", exc.reason, status=500) from None
        return success({"status": "complete"})

    def _funds_old(self, call: Call) -> Response:
        check_hours(self._market, "UDAPI100072", status=_CLOSED)
        segment = call.query.get("segment")
        if segment not in {None, "SEC", "COM"}:
            raise Refusal("UDAPI1019", "The segment is invalid", path="segment", invalid=segment)
        funds = self._exchange.funds()
        empty = dict.fromkeys(
            (
                "used_margin",
                "payin_amount",
                "span_margin",
                "adhoc_margin",
                "notional_cash",
                "available_margin",
                "exposure_margin",
            ),
            0.0,
        )
        equity = {**empty, "used_margin": float(funds.used), "available_margin": float(funds.available)}
        both = {"equity": equity, "commodity": empty}
        wanted = {"SEC": "equity", "COM": "commodity"}.get(segment or "")
        return success({wanted: both[wanted]} if wanted else both)

    def _funds(self, _: Call) -> Response:
        check_hours(self._market, "UDAPI100072", status=_CLOSED)
        funds, pnl = self._exchange.funds(), self._exchange.pnl()
        lost = {name: round(max(0.0, -float(value)), 2) for name, value in _losses(pnl.realised, pnl.unrealised)}
        used = float(funds.used)
        cash = {
            "opening_balance": float(funds.opening or 0),
            "added_today": 0.0,
            "withdrawn_today": 0.0,
            "amount_from_stock_sale": 0.0,
            "unpaid_charges": float(self._exchange.charges().total),
        }
        margin = {
            "total": used,
            "mtf": 0.0,
            "span_exposure": 0.0,
            "cash_margin_var_elm": used,
            "premium_present": 0.0,
            "delivery_margin": {"total": 0.0, "equity": 0.0, "fo_settlement": 0.0},
        }
        nothing = {**margin, "total": 0.0, "cash_margin_var_elm": 0.0}
        available = float(funds.available)
        return success(
            {
                "available_to_trade": {
                    "total": available,
                    "cash_available_to_trade": {
                        "total": available,
                        "cash": cash,
                        "margin_used": {**margin, "loss": {"total": sum(lost.values()), **lost}},
                    },
                    "pledge_available_to_trade": {
                        "margin_from_pledge": {"total": 0.0, "equity": 0.0, "mutual_funds": 0.0},
                        "margin_used": nothing,
                    },
                },
                "unavailable_to_trade": {
                    "cash_unavailable_to_trade": {"unsettled_profit": {"todays_profit": 0.0, "previous_days": 0.0}},
                    "pledge_unavailable_to_trade": {"equity": 0.0, "mutual_funds": 0.0},
                },
            }
        )

    def _brokerage(self, call: Call) -> Response:
        query = call.query
        if "|" not in query.get("instrument_token", ""):
            raise Refusal("UDAPI1059", path="instrument_token", invalid=query.get("instrument_token"))
        for name, code in (
            ("quantity", "UDAPI1060"),
            ("price", "UDAPI1061"),
            ("transaction_type", "UDAPI1062"),
            ("product", "UDAPI1063"),
        ):
            if not query.get(name):
                raise Refusal(code, path=name)
        listed = read_listed(query["instrument_token"], self._market)
        if query["product"] not in PRODUCTS:
            raise Refusal("UDAPI1054", path="product", invalid=query["product"])
        if query["transaction_type"] not in {"BUY", "SELL"}:
            raise Refusal("UDAPI1057", path="transaction_type", invalid=query["transaction_type"])
        quantity = _decimal(query["quantity"], zero="UDAPI1064", path="quantity")
        price = _decimal(query["price"], zero="UDAPI1065", path="price")
        return success({"charges": self._costs(listed, query, int(quantity), price)})

    def _costs(self, listed: ListedInstrument, query: Any, quantity: int, price: Decimal) -> dict[str, Any]:
        lines: dict[str, Decimal] = {}
        if self._charges is not None:
            execution = Execution(
                side=Side(query["transaction_type"].lower()),
                value=price * quantity,
                product=_product(query["product"], listed),
                on=self._market.now.date(),
                exchange=listed.instrument.exchange,
                series=listed.instrument.series,
                share=listed.instrument.isin or listed.instrument.id,
                kind=listed.instrument.kind,
            )
            lines = {line.name: line.amount for line in self._charges.charges_for([execution]).lines}
        return charge_rows(lines, price * quantity)

    def _margin(self, call: Call) -> Response:
        instruments = call.fields().get("instruments")
        if not isinstance(instruments, list) or not instruments:
            raise Refusal("UDAPI100036", path="instruments")
        if len(instruments) > _MOST_MARGINS:
            raise Refusal("UDAPI1102", path="instruments", invalid=len(instruments))
        keys = [str(each.get("instrument_key")) for each in instruments if isinstance(each, dict)]
        if len(keys) < len(instruments):
            raise Refusal("UDAPI100036", path="instruments")
        if len(set(keys)) < len(keys):
            raise Refusal("UDAPI1103", path="instruments")
        margins = [self._margin_of(each) for each in instruments]
        total = round(sum(each["total_margin"] for each in margins), 2)
        return success({"margins": margins, "required_margin": total, "final_margin": total})

    def _margin_of(self, fields: dict[str, Any]) -> dict[str, Any]:
        if not fields.get("instrument_key"):
            raise Refusal("UDAPI1099", path="instrument_key")
        listed = read_listed(fields["instrument_key"], self._market)
        for name, code in (("quantity", "UDAPI1097"), ("product", "UDAPI1100"), ("transaction_type", "UDAPI1101")):
            if fields.get(name) is None:
                raise Refusal(code, path=name)
        quantity, lot = fields["quantity"], listed.instrument.lot_size
        if not isinstance(quantity, int) or not 0 < quantity < _DEAREST:
            raise Refusal("UDAPI1096", path="quantity", invalid=quantity)
        if quantity % lot:
            raise Refusal("UDAPI1104", path="quantity", invalid=quantity)
        tick = self._market.tick(listed)
        price = fields.get("price") or (tick.last_price if tick else 0.0)
        if not isinstance(price, (int, float)) or not 0 <= price < _DEAREST:
            raise Refusal("UDAPI1095", path="price", invalid=price)
        needed = round(quantity * float(price) * (0.2 if fields["product"] == "I" else 1.0), 2)
        derivative = listed.instrument.expiry is not None
        return {
            "span_margin": needed if derivative else 0,
            "exposure_margin": 0,
            "equity_margin": 0 if derivative else needed,
            "net_buy_premium": 0,
            "additional_margin": 0,
            "total_margin": needed,
            "tender_margin": 0,
        }

    def _switches(self, _: Call) -> Response:
        return success([self._switch_row(each) for each in SEGMENTS])

    def _switch_row(self, segment: str) -> dict[str, Any]:
        disabled = segment in self.kill_switch.since
        return {"segment": segment, "segment_status": "ACTIVE", "kill_switch_enabled": disabled}

    def _switch(self, call: Call) -> Response:
        wanted = call.json()
        if not isinstance(wanted, list) or not wanted or not all(isinstance(each, dict) for each in wanted):
            raise Refusal("UDAPI100036")
        for each in wanted:
            self._check_switch(each.get("segment"), each.get("action"))
        for each in wanted:
            self._toggle(each["segment"], disable=each["action"] == "DISABLE", token=call.token)
        return success([self._switch_row(each) for each in SEGMENTS])

    def _check_switch(self, segment: object, action: object) -> None:
        """Refuse all where one may not be toggled (documented: all or nothing)."""
        if segment not in SEGMENTS:
            raise Refusal("UDAPI1186", path="segment", invalid=segment)
        if action not in ("ENABLE", "DISABLE"):
            raise Refusal("UDAPI1188", path="action", invalid=action)
        if action == "DISABLE":
            held = (p for p in self._exchange.positions() if p.quantity)
            if any(self._market.by_instrument(p.instrument).upstox_segment == segment for p in held):
                raise Refusal("UDAPI1184", path="segment", invalid=segment)
        since = self.kill_switch.since.get(str(segment))
        if action == "ENABLE" and since is not None and self._market.now < since + _COOLING:
            raise Refusal("UDAPI1185", path="segment", invalid=segment)

    def _toggle(self, segment: str, *, disable: bool, token: str) -> None:
        switch = self.kill_switch
        if not disable:
            switch.since.pop(segment, None)
            return
        switch.since[segment], switch.tokens[segment] = self._market.now, token
        for each in self._book.today():
            if not each.is_final and each.terms.listed.upstox_segment == segment:
                self._book.cancel(each)


def charge_rows(lines: dict[str, Decimal], value: Decimal) -> dict[str, Any]:
    """Return charges in their documented groups; without a schedule a flat brokerage and its tax."""
    if not lines:
        brokerage = min(Decimal(20), value / 1000)
        lines = {"brokerage": brokerage, "gst": brokerage * Decimal("0.18")}

    def amount(*names: str) -> float:
        found = sum((each for name, each in lines.items() if any(part in name.lower() for part in names)), Decimal(0))
        return round(float(found), 2)

    return {
        "total": round(float(sum(lines.values(), Decimal(0))), 2),
        "brokerage": amount("brokerage"),
        "taxes": {"gst": amount("gst"), "stt": amount("stt", "securities transaction"), "stamp_duty": amount("stamp")},
        "other_charges": {
            "transaction": amount("exchange", "transaction"),
            "clearing": 0.0,
            "ipft": amount("protection"),
            "sebi_turnover": amount("sebi"),
        },
        "dp_plan": {"name": "DEFAULT", "min_expense": amount("depository", "dp")},
    }


def _losses(realised: Decimal, unrealised: Decimal) -> tuple[tuple[str, Decimal], tuple[str, Decimal]]:
    return ("realised", realised), ("unrealised", unrealised)


def _product(name: str, listed: ListedInstrument) -> Product:
    if name == "I":
        return Product.INTRADAY
    if name == "MTF":
        return Product.MTF
    return Product.MARGIN if listed.instrument.expiry is not None else Product.DELIVERY


def _decimal(text: str, *, zero: str, path: str) -> Decimal:
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise Refusal("UDAPI100036", path=path, invalid=text) from None
    if not value.is_finite() or value <= 0:
        raise Refusal(zero, path=path, invalid=text)
    return value
