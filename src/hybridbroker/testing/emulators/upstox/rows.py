"""What Upstox shows of an order, a trade and the account, field by field as documented."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from hybridbroker.clock import to_epoch_ms
from hybridbroker.domain.orders import Product, Trade
from hybridbroker.domain.portfolio import Holding, Position
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.upstox.answers import moment
from hybridbroker.testing.emulators.upstox.entries import FINAL, Entry, State
from hybridbroker.testing.emulators.upstox.names import exchange_code, order_symbol, quote_symbol

__all__ = [
    "PRODUCT_NAMES",
    "history_row",
    "holding_message",
    "holding_row",
    "micros",
    "order_message",
    "order_row",
    "past_trade_row",
    "position_message",
    "position_row",
    "trade_row",
]

PRODUCT_NAMES: Final = {Product.INTRADAY: "I", Product.DELIVERY: "D", Product.MARGIN: "D", Product.MTF: "MTF"}
_RAW: Final = "RMS:{id}:{reason}"
_HAIRCUT: Final = 0.2


def order_row(entry: Entry, user_id: str, state: State | None = None) -> dict[str, Any]:
    """Return an order as the book and the details show it."""
    now = state or entry.state
    return {
        **_terms(entry, now, user_id),
        "guid": None,
        "pending_quantity": 0 if now.status in FINAL - {"cancelled"} else now.quantity - now.filled,
        "status_message_raw": now.message and _RAW.format(id=entry.id, reason=now.message),
        "exchange_order_id": now.exchange_id or "",
        "parent_order_id": None,
        "order_ref_id": entry.gtt_id or f"57{entry.id}",
    }


def history_row(entry: Entry, state: State, user_id: str) -> dict[str, Any]:
    """Return one state of an order as the history shows it: without pending quantity and guid."""
    return {
        **_terms(entry, state, user_id),
        "status_message_raw": state.message and _RAW.format(id=entry.id, reason=state.message),
        "exchange_order_id": state.exchange_id,
        "parent_order_id": "NA",
        "order_ref_id": entry.gtt_id or f"57{entry.id}",
    }


def order_message(entry: Entry, user_id: str) -> dict[str, Any]:
    """Return an order's newest state as the portfolio stream tells it."""
    row = order_row(entry, user_id)
    return {
        "update_type": "order",
        "user_id": user_id,
        "userId": user_id,
        **row,
        "instrument_key": row["instrument_token"],
        "status_message": row["status_message"] or "",
    }


def trade_row(trade: Trade, entry: Entry) -> dict[str, Any]:
    """Return a trade of the day; its exchange time is written unlike an order's (documented sample)."""
    listed = entry.terms.listed
    return {
        "exchange": exchange_code(listed),
        "product": entry.terms.product,
        "trading_symbol": order_symbol(listed.instrument),
        "tradingsymbol": order_symbol(listed.instrument),
        "instrument_token": listed.upstox_key,
        "order_type": entry.terms.type,
        "transaction_type": entry.terms.side,
        "quantity": trade.quantity,
        "exchange_order_id": entry.state.exchange_id or "",
        "order_id": entry.id,
        "exchange_timestamp": f"{trade.traded_at:%d-%b-%Y %H:%M:%S}",
        "average_price": float(trade.price),
        "trade_id": trade.id,
        "order_ref_id": entry.gtt_id or f"57{entry.id}",
        "order_timestamp": moment(entry.created),
    }


def past_trade_row(trade: Trade, entry: Entry) -> dict[str, Any]:
    """Return a trade as the history of trades shows it."""
    instrument = entry.terms.listed.instrument
    return {
        "exchange": instrument.exchange.value,
        "segment": "EQ" if instrument.expiry is None else "FO",
        "option_type": instrument.right.value if instrument.right else "",
        "quantity": trade.quantity,
        "amount": float(trade.value),
        "trade_id": trade.id,
        "trade_date": trade.traded_at.date().isoformat(),
        "transaction_type": entry.terms.side,
        "scrip_name": instrument.name or instrument.symbol,
        "strike_price": str(float(instrument.strike or 0)),
        "expiry": instrument.expiry.isoformat() if instrument.expiry else "",
        "price": float(trade.price),
        "isin": instrument.isin or "",
        "symbol": instrument.symbol,
        "instrument_token": entry.terms.listed.upstox_key,
    }


def position_row(position: Position, listed: ListedInstrument, *, product: str, close: float | None) -> dict[str, Any]:
    """Return a position; what is carried from yesterday is all that today's trades do not explain."""
    today = position.bought_quantity - position.sold_quantity
    overnight = position.quantity - today
    bought, sold = float(position.bought_value), float(position.sold_value)
    carried = float(position.average_price * overnight)
    row = _sides(position, carried=carried, overnight=overnight)
    unrealised = float(position.unrealised_pnl or 0)
    realised = float(position.realised_pnl or 0)
    last = float(position.average_price) + (unrealised / position.quantity if position.quantity else 0.0)
    return {
        "exchange": exchange_code(listed),
        "multiplier": 1.0,
        "value": round(bought - sold + carried, 2),
        "pnl": round(unrealised + realised, 2),
        "product": product,
        "instrument_token": listed.upstox_key,
        "average_price": float(position.average_price),
        **row,
        "quantity": position.quantity,
        "last_price": round(last, 4),
        "close_price": close,
        "unrealised": round(unrealised, 2),
        "realised": round(realised, 2),
        "trading_symbol": quote_symbol(listed.instrument),
        "tradingsymbol": quote_symbol(listed.instrument),
    }


def position_message(position: Position, listed: ListedInstrument, *, product: str) -> dict[str, Any]:
    """Return a position as the portfolio stream tells it: no prices of the market, the segment as exchange."""
    overnight = position.quantity - position.bought_quantity + position.sold_quantity
    return {
        "update_type": "position",
        "instrument_token": listed.upstox_key,
        "instrument_key": listed.upstox_key,
        "average_price": float(position.average_price),
        **_sides(position, carried=float(position.average_price * overnight), overnight=overnight),
        "multiplier": 1,
        "quantity": position.quantity,
        "product": product,
        "exchange": listed.upstox_segment,
    }


def holding_row(holding: Holding, listed: ListedInstrument, *, product: str, close: float | None) -> dict[str, Any]:
    """Return a holding; its quantity includes what is not settled yet (unconfirmed)."""
    last = float(holding.last_price or 0)
    average = float(holding.average_price or 0)
    change = last - close if close and last else 0.0
    return {
        **_held(holding, listed, product),
        "trading_symbol": listed.instrument.symbol,
        "tradingsymbol": listed.instrument.symbol,
        "last_price": last,
        "close_price": close if close is not None else last,
        "pnl": round((last - average) * holding.quantity, 2),
        "day_change": round(change, 2),
        "day_change_percentage": round(100 * change / close, 2) if close else 0.0,
    }


def holding_message(holding: Holding, listed: ListedInstrument, *, product: str) -> dict[str, Any]:
    """Return a holding as the portfolio stream tells it."""
    return {"update_type": "holding", **_held(holding, listed, product), "instrument_key": listed.upstox_key}


def micros(instant: datetime) -> int:
    """Write an instant as GTT orders do: microseconds since 1970 UTC."""
    return to_epoch_ms(instant) * 1000


def _terms(entry: Entry, state: State, user_id: str) -> dict[str, Any]:
    listed = entry.terms.listed
    return {
        "exchange": exchange_code(listed),
        "product": entry.terms.product,
        "price": float(state.price),
        "quantity": state.quantity,
        "status": state.status,
        "tag": entry.terms.tag,
        "instrument_token": listed.upstox_key,
        "placed_by": user_id,
        "trading_symbol": order_symbol(listed.instrument),
        "tradingsymbol": order_symbol(listed.instrument),
        "order_type": state.terms.type,
        "validity": state.terms.validity,
        "trigger_price": float(state.trigger),
        "disclosed_quantity": state.terms.disclosed,
        "transaction_type": entry.terms.side,
        "average_price": float(round(state.average, 4)),
        "filled_quantity": state.filled,
        "status_message": state.message,
        "order_id": entry.id,
        "variety": "SIMPLE",
        "order_timestamp": moment(state.at),
        "exchange_timestamp": moment(state.exchanged_at),
        "is_amo": entry.amo,
        "order_request_id": str(entry.requests),
    }


def _sides(position: Position, *, carried: float, overnight: int) -> dict[str, Any]:
    bought, sold = float(position.bought_value), float(position.sold_value)
    long, short = max(overnight, 0), max(-overnight, 0)
    return {
        "buy_value": round(bought, 2),
        "sell_value": round(sold, 2),
        "buy_price": _each(bought + (carried if long else 0), position.bought_quantity + long),
        "sell_price": _each(sold - (carried if short else 0), position.sold_quantity + short),
        "overnight_quantity": overnight,
        "overnight_buy_amount": round(carried, 2) if long else 0.0,
        "overnight_buy_quantity": long,
        "overnight_sell_amount": round(-carried, 2) if short else 0.0,
        "overnight_sell_quantity": short,
        "day_buy_value": round(bought, 2),
        "day_buy_price": _each(bought, position.bought_quantity),
        "day_buy_quantity": position.bought_quantity,
        "day_sell_value": round(sold, 2),
        "day_sell_price": _each(sold, position.sold_quantity),
        "day_sell_quantity": position.sold_quantity,
    }


def _held(holding: Holding, listed: ListedInstrument, product: str) -> dict[str, Any]:
    average = holding.average_price
    return {
        "isin": listed.instrument.isin or "",
        "cnc_used_quantity": holding.quantity - holding.available_quantity,
        "collateral_type": "WC",
        "company_name": (listed.instrument.name or listed.instrument.symbol).upper(),
        "haircut": _HAIRCUT,
        "product": product,
        "quantity": holding.quantity,
        "instrument_token": listed.upstox_key,
        "average_price": None if average is None else float(average),
        "collateral_quantity": 0,
        "collateral_update_quantity": 0,
        "t1_quantity": holding.unsettled_quantity,
        "exchange": exchange_code(listed),
    }


def _each(value: float, quantity: int) -> float:
    return round(value / quantity, 4) if quantity else 0.0
