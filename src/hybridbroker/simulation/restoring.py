"""A saved account back in a simulated exchange, on the instruments as they are now."""

# ruff: noqa: SLF001 - with `state` the one reader of the exchange's insides, so that the exchange knows nothing of files

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument, Segment
from hybridbroker.domain.market import Tick, TickDetails
from hybridbroker.domain.orders import (
    LimitOrder,
    MarketOrder,
    Order,
    OrderRequest,
    OrderType,
    StopLimitOrder,
    StopMarketOrder,
    Trade,
)
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, OcoOrder
from hybridbroker.errors import ConfigurationError, InstrumentError, InvalidOrder
from hybridbroker.protocols import InstrumentLookup
from hybridbroker.simulation.account import _Line, _Shares
from hybridbroker.simulation.brackets import _Held
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.simulation.gtt import _Waiting
from hybridbroker.simulation.state import ANEW, Row, State, read_state
from hybridbroker.simulation.working import Working

__all__ = ["restore"]

_REQUESTS: Final[dict[OrderType, type[OrderRequest]]] = {
    each.type: each for each in (MarketOrder, LimitOrder, StopLimitOrder, StopMarketOrder)
}
_T = TypeVar("_T")


def restore(raw: bytes, exchange: SimulatedExchange, *, instruments: InstrumentLookup, now: datetime) -> None:
    """Bring a fresh exchange to where `StateWriter.dump` found one; call `SimulatedExchange.advance` then.

    Raises:
        ConfigurationError: It is damaged, was changed by hand, or is of a newer version; an
            instrument that is held or waited for is gone, or has another lot or tick size.
    """
    state = read_state(raw)
    try:
        known = _Known(state, instruments, today=now.astimezone(IST).date())
        if exchange._charged and (strange := known.not_cash()):
            raise ConfigurationError(
                f"the account trades {', '.join(strange)}, and charges of derivatives are not tabulated; "
                "open it without charges"
            )
        _restore_account(state, exchange, known)
        _restore_orders(state, exchange, known)
        _restore_market(state, exchange, known)
        _restore_standing(state, exchange, known)
    except (msgspec.ValidationError, InvalidOrder, KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"holds what this version cannot read ({exc}); {ANEW}") from exc


class _Known:
    """The instruments of the file, as the registry has them now and as they were."""

    def __init__(self, state: State, lookup: InstrumentLookup, *, today: date) -> None:
        self._then = {each.id: each for each in state.instruments}
        self._now: dict[str, Instrument] = {}
        self._state = state
        waiting, held = _waiting(state, today=today), _held(state)
        for name, then in self._then.items():
            try:
                now = lookup[name]
            except InstrumentError as exc:
                if name in waiting or name in held:
                    raise ConfigurationError(
                        f"holds, or has orders waiting for, {name}, which the instrument registry does not list "
                        f"({exc}); open it with the registry of an earlier day (instruments=PATH), or begin a new "
                        "account with another file"
                    ) from exc
                now = then
            _require_same(then, now, waits=name in waiting, units=held.get(name, ()))
            self._now[name] = now

    def read(self, kind: type[_T], row: Row) -> _T:
        """Read a row that names its instrument."""
        return msgspec.convert(row | {"instrument": self[row["instrument"]]}, kind)

    def read_request(self, kind: type[_T], row: Row) -> _T:
        """Read a request, which checks itself against lot and tick size: one that is over, by those of its time."""
        now, then = self[row["instrument"]], self._then[row["instrument"]]
        return msgspec.convert(row | {"instrument": now if _terms(now) == _terms(then) else then}, kind)

    def __getitem__(self, name: str) -> Instrument:
        return self._now[name]

    def not_cash(self) -> list[str]:
        """Return the instruments outside the cash segment that today's orders, positions or standing orders name."""
        of_today = set(self._state.account.orders_of_today)
        orders = {each["instrument"] for each in self._state.orders if each["id"] in of_today}
        live = _waiting(self._state, today=date.max) | set(_held(self._state))
        return sorted(name for name in orders | live if self._now[name].segment is not Segment.CASH)


def _terms(instrument: Instrument) -> tuple[int, Decimal]:
    return instrument.lot_size, instrument.tick_size


def _waiting(state: State, *, today: date) -> set[str]:
    """Return instruments of orders that go on waiting: the day orders of a day that is over do not."""
    live = {each.request["instrument"] for each in state.open if each.queued or state.account.day == today}
    ended = {"filled", "cancelled", "rejected", "expired", "unknown"}
    return live | {
        each.request["instrument"]
        for each in state.standing
        if any(leg["status"] not in ended for leg in each.shown["legs"])
    }


def _held(state: State) -> dict[str, list[int]]:
    """Return the units held, by instrument."""
    held: dict[str, list[int]] = {}
    for row in state.positions:
        if row["open"]["quantity"]:
            held.setdefault(row["instrument"], []).append(row["open"]["quantity"])
    for row in state.holdings:
        if row["lot"]["quantity"]:
            held.setdefault(row["instrument"], []).append(row["lot"]["quantity"])
    return held


def _require_same(then: Instrument, now: Instrument, *, waits: bool, units: Sequence[int]) -> None:
    """Refuse terms under which what the account has could not be traded; a tick size may change under shares."""
    broken = (waits and _terms(now) != _terms(then)) or any(each % now.lot_size for each in units)
    if broken:
        raise ConfigurationError(
            f"was written when {then.id} had lots of {then.lot_size} and a tick of {then.tick_size} rupees; now it has "
            f"{now.lot_size} and {now.tick_size}, and what the account holds or waits for does not fit; open it with "
            "the registry of that day (instruments=PATH), cancel or close it, and come back"
        )


def _restore_account(state: State, exchange: SimulatedExchange, known: _Known) -> None:
    told, account = state.account, exchange._account
    account.cash, account.realised = told.cash, told.realised
    lines = [known.read(_Line, row) for row in state.positions]
    account._lines = {(each.instrument.id, each.product): each for each in lines}
    shares = [known.read(_Shares, row) for row in state.holdings]
    account._shares = {each.instrument.isin or each.instrument.id: each for each in shares}
    exchange._opening = told.opening
    exchange._count, exchange._standing_count = told.orders_counted, told.standing_counted
    if told.day is not None:
        exchange._begin_day(told.day)
    if told.squared_off:
        exchange._squares_off_at = None


def _restore_orders(state: State, exchange: SimulatedExchange, known: _Known) -> None:
    log, trades = exchange._orders, exchange._trades
    orders = [known.read(Order, row) for row in state.orders]
    log._orders = {each.id: each for each in orders}
    log.today = list(state.account.orders_of_today)
    for row in state.open:
        log._working[row.order_id] = Working(
            known.read_request(_REQUESTS[row.type], row.request),
            log._orders[row.order_id],
            row.limit,
            arriving=row.arriving,
            queued=row.queued,
            value=row.value,
        )
    for row in sorted(state.open, key=lambda each: each.place):
        log._resting[row.request["instrument"]].append(log._working[row.order_id])
    trades._trades = [known.read(Trade, row) for row in state.trades]
    trades._first_of_today = state.account.trades_of_past_days
    trades._billed, trades._note = state.account.billed, None
    trades._turnover = sum((each.value for each in trades.today()), Decimal(0))


def _restore_market(state: State, exchange: SimulatedExchange, known: _Known) -> None:
    exchange._bands = dict(state.account.bands)
    exchange._phases = dict(state.account.phases)
    exchange._ticked = set(state.account.ticked_today)
    for each in state.prices:
        exchange._ticks[each.instrument] = Tick(
            instrument=known[each.instrument],
            last_price=each.last_price,
            last_quantity=each.last_quantity,
            traded_ms=each.traded_ms,
            received_ms=each.received_ms,
            details=TickDetails(depth=each.depth),
        )
        if each.left:
            exchange._books[each.instrument] = dict(each.left)


def _restore_standing(state: State, exchange: SimulatedExchange, known: _Known) -> None:
    gtts, brackets = exchange._gtts, exchange._brackets
    for each in state.standing:
        if each.kind == "bracket":
            bracket = known.read(Bracket, each.shown)
            held = _Held(known.read_request(BracketOrder, each.request), bracket, each.reference)
            held.note_bounds()
            brackets._all[bracket.id] = held
            if bracket.is_live:
                brackets._live.setdefault(bracket.instrument.id, []).append(held)
            continue
        gtt = known.read(Gtt, each.shown)
        asked: GttOrder | OcoOrder = (
            known.read_request(OcoOrder, each.request)
            if each.kind == "oco"
            else known.read_request(GttOrder, each.request)
        )
        waiting = _Waiting(asked, gtt, each.crossing)
        waiting.note_bounds()
        gtts._all[gtt.id] = waiting
        if gtt.is_live:
            gtts._live.setdefault(gtt.instrument.id, []).append(waiting)
