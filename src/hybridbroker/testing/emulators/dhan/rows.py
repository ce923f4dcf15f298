"""Dhan's rows: orders, trades, positions, holdings, funds and order alerts, as documented and recorded."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import attrs

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Exchange, Instrument, OptionRight, Segment
from hybridbroker.domain.orders import Order, OrderStatus, Trade
from hybridbroker.domain.portfolio import Funds, Holding, Position
from hybridbroker.domain.standing import BracketOrder
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.orders import PRODUCTS, Terms
from hybridbroker.testing.emulators.listed import ListedInstrument

__all__ = [
    "Entry",
    "alert",
    "derivative",
    "funds_row",
    "holding_row",
    "order_row",
    "position_row",
    "postback",
    "symbol",
    "time_text",
    "trade_row",
]

_STATUS: Final = {
    OrderStatus.PENDING: "PENDING",
    OrderStatus.OPEN: "PENDING",
    OrderStatus.TRIGGER_PENDING: "PENDING",
    OrderStatus.PARTIALLY_FILLED: "PART_TRADED",
    OrderStatus.FILLED: "TRADED",
    OrderStatus.CANCELLED: "CANCELLED",
    OrderStatus.REJECTED: "REJECTED",
    OrderStatus.EXPIRED: "EXPIRED",
}
_PRODUCT_CODE: Final = {"CNC": "C", "INTRADAY": "I", "MARGIN": "M", "MTF": "F"}
_TYPE_CODE: Final = {"LIMIT": "LMT", "MARKET": "MKT", "STOP_LOSS": "SL", "STOP_LOSS_MARKET": "SLM"}
_SEGMENT_CODE: Final = {
    Segment.CASH: "E",
    Segment.DERIVATIVES: "D",
    Segment.CURRENCY: "C",
    Segment.COMMODITY: "M",
    Segment.INDEX: "I",
}
_PRODUCT_NAME: Final = {product: name for name, product in PRODUCTS.items()}
_LEG_NUMBERS: Final = {"NA": 1, "ENTRY_LEG": 1, "STOP_LOSS_LEG": 2, "TARGET_LEG": 3}
_NOT_POSTED: Final = frozenset({"filledQty", "remainingQuantity", "averageTradedPrice", "exchangeOrderId"})
_ENDED_BADLY: Final = frozenset({"REJECTED", "CANCELLED", "EXPIRED"})
_NEVER: Final = "0001-01-01 00:00:00"


@attrs.define(kw_only=True)
class Entry:
    """One order of the book: what Dhan knows of it, and the exchange's side once it is there."""

    id: str
    terms: Terms
    created: datetime
    updated: datetime
    order: Order | None = None
    """None while in transit, and for what never reached the exchange."""
    ended: str | None = None
    """Final status where the exchange does not know it: refused on the way, or expired."""
    reason: str = ""
    modifications: int = 0
    parked: bool = False
    """Whether it rests without ever reaching an exchange, as all orders of the sandbox do."""
    bracket: BracketOrder | None = None
    """The super order whose entry it is."""
    parent: str = ""
    """Id of the super order whose exit it is."""
    leg: str = "NA"
    """What it is in a super order."""

    @property
    def status(self) -> str:
        """Return the order's status in Dhan's words."""
        if self.ended is not None:
            return self.ended
        if self.order is None:
            return "PENDING" if self.terms.after_market or self.parked else "TRANSIT"
        return _STATUS[self.order.status]

    @property
    def is_final(self) -> bool:
        """Say whether nothing of it can change."""
        return self.status in {"TRADED", "CANCELLED", "REJECTED", "EXPIRED"}

    @property
    def filled(self) -> int:
        """Return units traded."""
        return self.order.filled_quantity if self.order else 0

    @property
    def exchange_id(self) -> str:
        """Return the exchange's number; ``"0"`` before the exchange has it (recorded)."""
        return (self.order.exchange_order_id if self.order else None) or "0"

    @property
    def description(self) -> str:
        """Return the reason of its end; a healthy order says ``CONFIRMED`` (recorded)."""
        if self.reason:
            return self.reason
        if self.order is not None and self.order.reason:
            return self.order.reason
        return "CONFIRMED" if self.order else ""

    @property
    def price(self) -> Decimal:
        """Return the limit price; of a market order, the one that price protection gave it."""
        return (self.order.price if self.order else None) or self.terms.price

    @property
    def type(self) -> str:
        """Return the order type; a market order under price protection shows as a limit (reported)."""
        return "LIMIT" if self.terms.type == "MARKET" and self.price else self.terms.type


def order_row(entry: Entry, client_id: str) -> dict[str, Any]:
    """Return a row of the order book (recorded field names and sentinels)."""
    terms, order = entry.terms, entry.order
    return {
        "dhanClientId": client_id,
        "orderId": entry.id,
        "exchangeOrderId": entry.exchange_id,
        "correlationId": terms.correlation_id,
        "orderStatus": entry.status,
        **_contract_head(terms),
        "productType": terms.product,
        "orderType": entry.type,
        "validity": terms.validity,
        "tradingSymbol": symbol(terms.listed.instrument),
        "securityId": terms.listed.dhan_id,
        "quantity": terms.quantity,
        "disclosedQuantity": terms.disclosed,
        "price": float(entry.price),
        "triggerPrice": float(terms.trigger),
        "afterMarketOrder": terms.after_market,
        "boProfitValue": 0.0,
        "boStopLossValue": 0.0,
        "legName": entry.leg,
        "createTime": time_text(entry.created),
        "updateTime": time_text(entry.updated),
        "exchangeTime": time_text(order.placed_at) if order and order.placed_at else _NEVER,
        **derivative(terms.listed.instrument),
        "omsErrorCode": "0",
        "omsErrorDescription": entry.description,
        "algoId": "0",
        "remainingQuantity": 0
        if entry.status in {"CANCELLED", "REJECTED", "EXPIRED"}
        else terms.quantity - entry.filled,
        "averageTradedPrice": _average(order),
        "filledQty": entry.filled,
    }


def trade_row(trade: Trade, entry: Entry, client_id: str) -> dict[str, Any]:
    """Return a row of the day's trade book (recorded): without correlation id and charges."""
    at = time_text(trade.traded_at)
    return {
        "dhanClientId": client_id,
        "orderId": entry.id,
        "exchangeOrderId": entry.exchange_id,
        "exchangeTradeId": trade.id,
        **_contract_head(entry.terms),
        "productType": entry.terms.product,
        "orderType": entry.type,
        "tradingSymbol": symbol(trade.instrument),
        "customSymbol": None,
        "securityId": entry.terms.listed.dhan_id,
        "tradedQuantity": trade.quantity,
        "tradedPrice": float(trade.price),
        "createTime": at,
        "updateTime": at,
        "exchangeTime": at,
        **derivative(trade.instrument),
    }


def postback(entry: Entry, client_id: str) -> dict[str, Any]:
    """Return the payload of a postback (documented): null where REST says ``NA``, and ``filled_qty``."""
    row = order_row(entry, client_id)
    filled = row["filledQty"]
    row = {name: value for name, value in row.items() if name not in _NOT_POSTED}
    null = {"drvExpiryDate": None, "drvOptionType": None, "omsErrorCode": None, "algoId": None, "legName": None}
    if entry.terms.listed.instrument.expiry is not None:
        null = {"omsErrorCode": None, "algoId": None}
    reason = row["omsErrorDescription"] if entry.status in _ENDED_BADLY else None
    return {**row, **null, "omsErrorDescription": reason, "filled_qty": filled}


def alert(entry: Entry, client_id: str, *, at: datetime, last_price: float, habits: DhanHabits) -> dict[str, Any]:
    """Return the order-update frame, by default with the camelCase keys that production sends (recorded)."""
    terms, order, instrument = entry.terms, entry.order, entry.terms.listed.instrument
    status = habits.part_traded_as if entry.status == "PART_TRADED" else entry.status
    average = _average(order)
    data = {
        "exchange": instrument.exchange.value,
        "segment": _SEGMENT_CODE[instrument.segment],
        "source": "P",
        "securityId": terms.listed.dhan_id,
        "clientId": client_id,
        "exchOrderNo": entry.exchange_id,
        "orderNo": entry.id,
        "product": _PRODUCT_CODE[terms.product],
        "txnType": terms.side[0],
        "orderType": _TYPE_CODE[entry.type],
        "validity": terms.validity,
        "discQuantity": terms.disclosed,
        "discQtyRem": 0,
        "remainingQuantity": terms.quantity - entry.filled,
        "quantity": terms.quantity,
        "tradedQty": entry.filled,
        "price": float(entry.price),
        "triggerPrice": float(terms.trigger),
        "tradedPrice": average,
        "avgTradedPrice": average,
        "algoOrdNo": int(entry.parent or 0),
        "offMktFlag": "1" if terms.after_market else "0",
        "orderDateTime": time_text(entry.created),
        "exchOrderTime": time_text(order.placed_at) if order and order.placed_at else _NEVER,
        "lastUpdatedTime": time_text(at),
        "remarks": "Super Order" if entry.leg != "NA" else "NR",
        "mktType": "NL",
        "reasonDescription": entry.description or "CONFIRMED",
        "legNo": _LEG_NUMBERS[entry.leg],
        "instrument": "EQUITY" if instrument.segment is Segment.CASH else instrument.kind.value.upper(),
        "symbol": instrument.symbol,
        "productName": terms.product,
        "status": status if habits.update_statuses == "upper" else status.title(),
        "lotSize": instrument.lot_size,
        "strikePrice": float(instrument.strike or 0),
        "expiryDate": f"{instrument.expiry} 00:00:00" if instrument.expiry else _NEVER,
        "optType": instrument.right.value if instrument.right else "XX",
        "displayName": instrument.name,
        "isin": instrument.isin or "NA",
        "series": instrument.series or "NA",
        "goodTillDaysDate": time_text(at),
        "refLtp": last_price,
        "tickSize": float(instrument.tick_size),
        "algoId": "0",
        "multiplier": 1,
        "correlationId": "" if terms.correlation_id == "NA" else terms.correlation_id,
    }
    return {"Data": {_spelt(name, habits): value for name, value in data.items()}, "Type": "order_alert"}


def position_row(position: Position, listed: ListedInstrument, client_id: str) -> dict[str, Any]:
    """Return a row of the positions (documented); ``netQty`` is bought less sold."""
    bought, sold = position.bought_quantity, position.sold_quantity
    net = position.quantity
    return {
        "dhanClientId": client_id,
        "tradingSymbol": symbol(position.instrument),
        "securityId": listed.dhan_id,
        "positionType": "CLOSED" if net == 0 else "LONG" if net > 0 else "SHORT",
        "exchangeSegment": listed.dhan_segment,
        "productType": _PRODUCT_NAME[position.product],
        "buyAvg": float(position.bought_value / bought) if bought else 0.0,
        "costPrice": float(position.average_price),
        "buyQty": bought,
        "sellAvg": float(position.sold_value / sold) if sold else 0.0,
        "sellQty": sold,
        "netQty": net,
        "realizedProfit": float(position.realised_pnl or 0),
        "unrealizedProfit": float(position.unrealised_pnl or 0),
        "rbiReferenceRate": 1.0,
        "multiplier": 1,
        "carryForwardBuyQty": 0,
        "carryForwardSellQty": 0,
        "carryForwardBuyValue": 0.0,
        "carryForwardSellValue": 0.0,
        "dayBuyQty": bought,
        "daySellQty": sold,
        "dayBuyValue": float(position.bought_value),
        "daySellValue": float(position.sold_value),
        **derivative(position.instrument),
        "crossCurrency": False,
    }


def holding_row(holding: Holding, listed: ListedInstrument) -> dict[str, Any]:
    """Return a row of the holdings (documented and recorded)."""
    return {
        "exchange": "ALL",
        "tradingSymbol": symbol(holding.instrument),
        "securityId": listed.dhan_id,
        "isin": holding.instrument.isin,
        "totalQty": holding.quantity,
        "dpQty": holding.quantity - holding.unsettled_quantity,
        "t1Qty": holding.unsettled_quantity,
        "mtf_t1_qty": 0,
        "mtf_qty": 0,
        "availableQty": holding.available_quantity,
        "collateralQty": 0,
        "avgCostPrice": float(holding.average_price or 0),
        "lastTradedPrice": float(holding.last_price or 0),
    }


def funds_row(funds: Funds, client_id: str) -> dict[str, Any]:
    """Return the funds; the misspelt keys are the real ones (recorded)."""
    return {
        "dhanClientId": client_id,
        "availabelBalance": float(funds.available),
        "sodLimit": float(funds.opening or 0),
        "collateralAmount": float(funds.collateral),
        "receiveableAmount": 0.0,
        "utilizedAmount": float(funds.used),
        "blockedPayoutAmount": 0.0,
        "withdrawableBalance": float(funds.withdrawable or 0),
    }


def _spelt(name: str, habits: DhanHabits) -> str:
    """Spell a key as production does, as the documentation does, or now so and now so."""
    pascal = habits.update_keys == "pascal" or (habits.update_keys == "mixed" and len(name) % 2)
    return name[0].upper() + name[1:] if pascal else name


def _contract_head(terms: Terms) -> dict[str, Any]:
    return {"transactionType": terms.side, "exchangeSegment": terms.listed.dhan_segment}


def derivative(instrument: Instrument) -> dict[str, Any]:
    """Return the contract fields, with the recorded sentinels for what is no derivative."""
    right = {None: "NA", OptionRight.CALL: "CALL", OptionRight.PUT: "PUT"}[instrument.right]
    return {
        "drvExpiryDate": instrument.expiry.isoformat() if instrument.expiry else "0001-01-01",
        "drvOptionType": right,
        "drvStrikePrice": float(instrument.strike or 0),
    }


def symbol(instrument: Instrument) -> str:
    """Return what Dhan shows as the trading symbol."""
    if instrument.expiry is None or instrument.exchange is Exchange.MCX:
        return instrument.symbol
    terms = "FUT" if instrument.right is None else f"{instrument.strike}-{instrument.right.value}"
    return f"{instrument.symbol}-{instrument.expiry:%b%Y}-{terms}"


def _average(order: Order | None) -> float:
    return float(order.average_price) if order and order.average_price else 0.0


def time_text(instant: datetime) -> str:
    """Return an instant as Dhan writes it: IST, without a zone."""
    return f"{instant.astimezone(IST):%Y-%m-%d %H:%M:%S}"
