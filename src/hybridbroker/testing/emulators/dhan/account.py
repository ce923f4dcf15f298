"""Dhan's calls beside orders: portfolio, funds, margin, trader control, statements and eDIS (documented)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from html import escape
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Segment
from hybridbroker.domain.orders import Product, Side, Trade
from hybridbroker.domain.portfolio import Position
from hybridbroker.errors import HybridBrokerError
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.dhan.book import DhanBook
from hybridbroker.testing.emulators.dhan.gates import Call
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.orders import PRODUCTS, Refusal, Terms, choice, known, number, read_json, whole
from hybridbroker.testing.emulators.dhan.rows import Entry, funds_row, holding_row, position_row, trade_row
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket

__all__ = ["DhanAccount"]

_NAMES: Final = {product: name for name, product in PRODUCTS.items()}
_CONVERT_FIELDS: Final = frozenset({
    "dhanClientId", "fromProductType", "exchangeSegment", "positionType", "securityId", "tradingSymbol", "convertQty",
    "toProductType",
})  # fmt: skip
_MARGIN_FIELDS: Final = frozenset({
    "dhanClientId", "exchangeSegment", "transactionType", "quantity", "productType", "securityId", "price",
    "triggerPrice",
})  # fmt: skip
_MULTI_FIELDS: Final = frozenset({
    "dhanClientId", "includePosition", "includeOrder", "includeOrders", "scripList", "scripts",
})  # fmt: skip
_EXIT_FIELDS: Final = frozenset({"dhanClientId", "profitValue", "lossValue", "productType", "enableKillSwitch"})
_EXIT_PRODUCTS: Final = {
    "INTRADAY": frozenset({Product.INTRADAY}),
    "DELIVERY": frozenset({Product.DELIVERY, Product.MARGIN, Product.MTF}),
}
_TAXES: Final = {
    "sebiTax": "SEBI fee",
    "stt": "Securities transaction tax",
    "brokerageCharges": "Brokerage",
    "serviceTax": "GST",
    "exchangeTransactionCharges": "Exchange",
    "stampDuty": "Stamp duty",
}
_PAISA: Final = Decimal("0.01")


class DhanAccount:
    """One account's money, shares and switches."""

    def __init__(
        self,
        market: EmulatedMarket,
        exchange: SimulatedExchange,
        book: DhanBook,
        *,
        habits: DhanHabits,
        client_id: str,
        address: Callable[[], None],
        charges: ChargeSchedule | None = None,
        leverage: Decimal = Decimal(1),
        sandbox: bool = False,
    ) -> None:
        self._market = market
        self._exchange = exchange
        self._book = book
        self._habits = habits
        self._client_id = client_id
        self._address = address
        self._charges = charges
        self._leverage = leverage
        self._sandbox = sandbox
        self._killed_on: date | None = None
        self._exit: dict[str, Any] | None = None
        self._exit_day: date | None = None

    def calls(self) -> list[Call]:
        """Return the calls beside orders."""
        return [
            Call("GET", "/positions", lambda *_: self.positions()),
            Call("DELETE", "/positions", self._exit_all, family="order"),
            Call("POST", "/positions/convert", self._convert),
            Call("GET", "/holdings", lambda *_: self.holdings()),
            Call("GET", "/fundlimit", lambda *_: self.funds()),
            Call("POST", "/margincalculator", lambda _, body: self.margin(read_json(body))),
            Call("POST", "/margincalculator/multi", lambda _, body: self.margins(read_json(body))),
            Call("POST", "/killswitch", self._set_kill_switch),
            Call("GET", "/killswitch", lambda *_: self.kill_switch()),
            Call("POST", "/pnlExit", lambda _, body: self.set_pnl_exit(read_json(body))),
            Call("GET", "/pnlExit", lambda *_: self.pnl_exit()),
            Call("DELETE", "/pnlExit", lambda *_: self.stop_pnl_exit()),
            Call("GET", "/ledger", lambda request, _: self.ledger(request.query_params)),
            Call("GET", "/trades/{first}/{last}/{page:int}", self._history),
            Call("GET", "/edis/tpin", lambda *_: Response(status_code=202)),
            Call("POST", "/edis/form", lambda _, body: self.edis_form(read_json(body))),
            Call("POST", "/edis/bulkform", lambda _, body: self.edis_form(read_json(body))),
            Call("GET", "/edis/inquire/{isin}", lambda request, _: self.edis_status(request.path_params["isin"])),
        ]

    @property
    def is_killed(self) -> bool:
        """Say whether the kill switch is on; it ends with the day."""
        return self._killed_on == self._market.now.date()

    def stub(self, kind: str) -> None:
        """Fail as the sandbox did on one day, where told to; code and words are this emulator's own."""
        if self._sandbox and self._habits.sandbox_stubs:
            raise Refusal(500, "DH-908", kind, "Internal server error")

    def check_money(self, terms: Terms) -> None:
        """Refuse an order that costs more than there is, where `DhanHabits` has it so."""
        if not self._habits.refuse_poor_at_once or (terms.product == "CNC" and terms.side == "SELL"):
            return
        value = terms.quantity * (terms.price or self._last(terms.listed))
        short = (value if terms.product == "CNC" else value / self._leverage) - self._exchange.funds().available
        if short > 0:
            raise Refusal.order(f"You have insufficient funds. Please add Rs.{short:.2f} to trade.")

    def positions(self) -> list[dict[str, Any]]:
        """Return the day's rows."""
        self.stub("CONVERT_POSITION_ERROR")
        return [
            position_row(each, self._market.by_instrument(each.instrument), self._client_id)
            for each in self._exchange.positions()
        ]

    def holdings(self) -> list[dict[str, Any]]:
        """Return what was bought on earlier days; nothing is a 500 (recorded), in the sandbox an empty array."""
        rows = [holding_row(each, self._market.by_instrument(each.instrument)) for each in self._exchange.holdings()]
        if not rows and not self._sandbox:
            raise Refusal(500, "DH-1111", "HOLDING_ERROR", "No holdings available")
        return rows

    def funds(self) -> dict[str, Any]:
        """Return the balance; the sandbox has a million and nothing else (recorded)."""
        self.stub("FUND_LIMIT_ERROR")
        if self._sandbox:
            row = dict.fromkeys(funds_row(self._exchange.funds(), self._client_id), 0.0)
            return {**row, "dhanClientId": self._client_id, "availabelBalance": 1_000_000.0}
        return funds_row(self._exchange.funds(), self._client_id)

    def convert(self, fields: Mapping[str, Any]) -> None:
        """Hold part of a position as another product."""
        known(fields, _CONVERT_FIELDS, self._client_id)
        old, new = (choice(fields, name, PRODUCTS) for name in ("fromProductType", "toProductType"))
        sign = {"LONG": 1, "SHORT": -1}[choice(fields, "positionType", ("LONG", "SHORT"))]
        quantity = sign * whole(fields, "convertQty", least=1)
        try:
            self._exchange.convert(
                self._listed(fields).instrument,
                quantity,
                from_product=PRODUCTS[old],
                to_product=PRODUCTS[new],
                at=self._market.now,
            )
        except HybridBrokerError as exc:
            raise Refusal(400, "DH-906", "CONVERT_POSITION_ERROR", str(exc)) from None

    def exit_all(self, products: frozenset[Product] = frozenset(Product)) -> list[Entry]:
        """Cancel the open orders and close the day's positions at the market; return the closing orders."""
        for entry in self._book.today():
            if entry.order is not None and entry.order.is_open and entry.order.product in products:
                self._book.cancel(entry.id)
        closing = []
        for position in self._exchange.positions():
            quantity = self._open(position)
            if quantity and position.product in products:
                side = Side.SELL if quantity > 0 else Side.BUY
                entry = self._book.enter(
                    Terms(
                        listed=self._market.by_instrument(position.instrument),
                        side=side.value.upper(),
                        product=_NAMES[position.product],
                        type="MARKET",
                        validity="DAY",
                        quantity=abs(quantity),
                    )
                )
                self._book.arrive(entry)
                closing.append(entry)
        return closing

    def margin(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return what one order would block."""
        known(fields, _MARGIN_FIELDS, self._client_id)
        needed, value = self._needed(fields)
        available = self._exchange.funds().available
        return {
            "totalMargin": float(needed),
            "spanMargin": 0.0,
            "exposureMargin": 0.0,
            "availableBalance": float(available),
            "variableMargin": float(needed),
            "insufficientBalance": float(max(Decimal(0), needed - available)),
            "brokerage": 0.0,
            "leverage": f"{int(value / needed) if needed else 1}X",
        }

    def margins(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return what several orders would block together; hedges are not recognised."""
        if not fields.keys() <= _MULTI_FIELDS or fields.get("dhanClientId", self._client_id) != self._client_id:
            raise Refusal.bad_input()
        listed = fields.get("scripList", fields.get("scripts"))
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise Refusal.bad_input()
        total = sum((self._needed(each)[0] for each in listed), Decimal(0))
        if self._habits.margin_style == "snake":
            text = f"{total:.2f}"
            zero = dict.fromkeys(("span_margin", "exposure_margin", "fo_margin", "commodity_margin"), "0.00")
            return {"total_margin": text, "equity_margin": text, **zero, "currency": "INR", "hedge_benefit": ""}
        zeros = dict.fromkeys(("spanMargin", "exposure", "foMargin", "commodity", "currency"), 0.0)
        return {"totalMargin": float(total), "equityMargin": float(total), **zeros, "clientId": self._client_id}

    def set_kill_switch(self, action: str | None) -> dict[str, Any]:
        """Switch trading off or on; off needs no open position and no pending order (documented)."""
        if action not in {"ACTIVATE", "DEACTIVATE"}:
            raise Refusal.bad_input()
        if action == "ACTIVATE":
            busy = any(self._open(each) for each in self._exchange.positions())
            pending = any(not each.is_final for each in self._book.today())
            if busy or pending:
                raise Refusal.order("Kill switch needs all positions closed and no pending orders")
        self._killed_on = self._market.now.date() if action == "ACTIVATE" else None
        word = "activated" if action == "ACTIVATE" else "deactivated"
        return self._switch(f"Kill Switch has been successfully {word}")

    def kill_switch(self) -> dict[str, Any]:
        """Return the state of the switch."""
        return self._switch("ACTIVATE" if self.is_killed else "DEACTIVATE")

    def set_pnl_exit(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Watch the day's result from now on; it exits at once where the bound is passed already."""
        known(fields, _EXIT_FIELDS, self._client_id)
        products = fields.get("productType")
        if not isinstance(products, list) or not products or not set(map(str, products)) <= set(_EXIT_PRODUCTS):
            raise Refusal.bad_input()
        self._exit = {
            "profit": number(fields, "profitValue"),
            "loss": number(fields, "lossValue"),
            "products": products,
            "kill": bool(fields.get("enableKillSwitch", False)),
        }
        self._exit_day = self._market.now.date()
        self.watch()
        return {"pnlExitStatus": "ACTIVE", "message": "P&L based exit configured successfully"}

    def pnl_exit(self) -> dict[str, Any]:
        """Return what is watched."""
        if not self._watches():
            return {"pnlExitStatus": "DISABLED"}
        assert self._exit is not None  # noqa: S101 - it watches
        numbers = self._habits.pnl_as_numbers
        profit, loss = (each if not numbers else float(each) for each in (self._exit["profit"], self._exit["loss"]))
        return {
            "pnlExitStatus": "ACTIVE",
            "profit": profit if numbers else f"{profit:.2f}",
            "loss": loss if numbers else f"{loss:.2f}",
            "productType": self._exit["products"],
            "enableKillSwitch" if numbers else "enable_kill_switch": self._exit["kill"],
        }

    def stop_pnl_exit(self) -> dict[str, Any]:
        """Watch no longer."""
        self._exit = None
        return {"pnlExitStatus": "DISABLED", "message": "P&L based exit stopped successfully"}

    def watch(self) -> None:
        """Exit if the day's result is beyond what was set."""
        if not self._watches() or not self._market.is_open:
            return
        assert self._exit is not None  # noqa: S101 - it watches
        products = frozenset[Product]().union(*(_EXIT_PRODUCTS[each] for each in self._exit["products"]))
        result = sum(
            (
                (each.realised_pnl or Decimal(0)) + (each.unrealised_pnl or Decimal(0))
                for each in self._exchange.positions()
                if each.product in products
            ),
            Decimal(0),
        )
        profit, loss, kill = self._exit["profit"], self._exit["loss"], self._exit["kill"]
        if not ((profit and result >= profit) or (loss and result <= -loss)):
            return
        self._exit = None
        self.exit_all(products)
        if kill:
            self._killed_on = self._market.now.date()

    def ledger(self, query: Mapping[str, str]) -> object:
        """Return an opening row and a bill per day with trades (recorded shape)."""
        first, last = _day(query.get("from-date")), _day(query.get("to-date"))
        trades = list(self._exchange.all_trades())
        cash = self._exchange.funds().opening or Decimal(0)
        today = self._market.now.date()
        change = {day: self._net(day, trades) for day in sorted({_traded_on(each) for each in trades})}
        balance = cash - sum((net for day, net in change.items() if day < today), Decimal(0))
        rows = [self._ledger_row("OPENING BALANCE", None, Decimal(0), balance)]
        for number_, (day, net) in enumerate(change.items(), start=1):
            balance += net
            if first <= day <= last:
                rows.append(self._ledger_row("TRADE BILL", day, net, balance, number=number_))
        return rows if self._habits.ledger_as_array else rows[-1]

    def history(self, first: str, last: str, page: int) -> list[dict[str, Any]]:
        """Return a page of the trades between two days, newest page last; beyond the end is empty (documented)."""
        start, end = _day(first), _day(last)
        rows = [
            self._history_row(trade, entry)
            for trade, entry in self._book.all_trades()
            if start <= _traded_on(trade) <= end
        ]
        size = self._habits.history_page
        return rows[page * size : (page + 1) * size]

    def edis_form(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a page for the depository; approving is done by `DhanHabits.approved`."""
        isins = fields.get("isin")
        if not isins or (not fields.get("bulk") and isinstance(isins, str) and not fields.get("qty")):
            raise Refusal.bad_input()
        page = f'<!DOCTYPE html><form name="frmDIS" method="post" action="https://edis.invalid/">{isins}</form>'
        return {"dhanClientId": self._client_id, "edisFormHtml": escape(page)}

    def edis_status(self, isin: str) -> dict[str, Any]:
        """Return how many units of a holding may be sold today."""
        held = {each.instrument.isin or "": each.quantity for each in self._exchange.holdings()}
        total = sum(held.values()) if isin == "ALL" else held.get(isin, 0)
        approved = self._habits.approved
        allowed = sum(approved.values()) if isin == "ALL" else approved.get(isin, 0)
        remarks = "eDIS transaction done successfully" if allowed else "eDIS transaction not done"
        return {
            "clientId": self._client_id,
            "isin": isin,
            "totalQty": total,
            "aprvdQty": total if self._habits.ddpi else allowed,
            "status": "SUCCESS",
            "remarks": remarks,
        }

    def _exit_all(self, _: Request, __: bytes) -> object:
        self._address()
        self.exit_all()
        return {"status": "SUCCESS", "message": "All orders and positions exited successfully"}

    def _convert(self, _: Request, body: bytes) -> object:
        self._address()
        self.convert(read_json(body))
        return Response(status_code=202)

    def _set_kill_switch(self, request: Request, _: bytes) -> object:
        return self.set_kill_switch(request.query_params.get("killSwitchStatus"))

    def _history(self, request: Request, _: bytes) -> object:
        place = request.path_params
        return self.history(place["first"], place["last"], place["page"])

    def _open(self, position: Position) -> int:
        """Return the units that exit-all would close: of a delivery row, what was bought today and not sold."""
        return max(0, position.quantity) if position.product is Product.DELIVERY else position.quantity

    def _listed(self, fields: Mapping[str, Any]) -> ListedInstrument:
        listed = self._market.by_id(str(fields.get("exchangeSegment")), str(fields.get("securityId")))
        if listed is None or not listed.instrument.tradable:
            raise Refusal.order("Transaction has Failed")
        return listed

    def _needed(self, fields: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
        """Return the margin and the value of one order."""
        listed = self._listed(fields)
        side = choice(fields, "transactionType", ("BUY", "SELL"))
        product = choice(fields, "productType", PRODUCTS)
        value = whole(fields, "quantity", least=1) * (number(fields, "price") or self._last(listed))
        if product == "CNC" and side == "SELL":
            return Decimal(0), value
        return (value if product == "CNC" else value / self._leverage), value

    def _last(self, listed: ListedInstrument) -> Decimal:
        tick = self._market.tick(listed)
        return Decimal(0) if tick is None else listed.instrument.price(tick.last_price)

    def _switch(self, text: str) -> dict[str, Any]:
        return {"dhanClientId": self._client_id, "killSwitchStatus": text}

    def _watches(self) -> bool:
        return self._exit is not None and self._exit_day == self._market.now.date()

    def _net(self, day: date, trades: list[Trade]) -> Decimal:
        of_day = [each for each in trades if _traded_on(each) == day]
        charges = self._charges.charges_for(of_day).total if self._charges else Decimal(0)
        return sum((-each.side.sign * each.value for each in of_day), Decimal(0)) - charges

    def _ledger_row(
        self, words: str, day: date | None, net: Decimal, balance: Decimal, *, number: int = 0
    ) -> dict[str, str]:
        return {
            "dhanClientId": self._client_id,
            "narration": words,
            "voucherdate": "Jan 01, 1970" if day is None else f"{day:%b %d, %Y}",
            "exchange": "NSE-CAPITAL",
            "voucherdesc": words if day is None else "BILL",
            "vouchernumber": "" if day is None else f"{day:%Y}{number:09d}",
            "debit": f"{max(Decimal(0), -net).quantize(_PAISA)}",
            "credit": f"{max(Decimal(0), net).quantize(_PAISA)}",
            "runbal": f"{balance.quantize(_PAISA)}",
        }

    def _history_row(self, trade: Trade, entry: Entry) -> dict[str, Any]:
        row = trade_row(trade, entry, self._client_id)
        lines = self._charges.charges_for([trade]).lines if self._charges else ()
        billed = {
            name: float(sum((line.amount for line in lines if line.name.startswith(word)), Decimal(0)))
            for name, word in _TAXES.items()
        }
        cash = trade.instrument.segment is Segment.CASH
        return {
            **row,
            "tradingSymbol": None,
            "customSymbol": trade.instrument.name,
            "isin": trade.instrument.isin,
            "instrument": "EQUITY" if cash else "DERIVATIVES",
            **billed,
            "createTime": "NA",
            "updateTime": "NA",
            "drvExpiryDate": "NA" if cash else f"{row['drvExpiryDate']} 00:00:00",
        }


def _day(text: str | None) -> date:
    try:
        return datetime.strptime(text or "", "%Y-%m-%d").replace(tzinfo=IST).date()
    except ValueError:
        raise Refusal.bad_input() from None


def _traded_on(trade: Trade) -> date:
    return trade.traded_at.astimezone(IST).date()
