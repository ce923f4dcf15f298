"""A simulated account as text and back: JSON that a person can read, one row a line, and a seal that tells of changes.

Kept is everything that the exchange knows of the account and of the market: cash, positions,
holdings and which of them are unsettled, every order and trade of every day, what was billed,
GTT and bracket orders with what they wait for, last prices and what is left of their books,
bands, phases, and the counters of the ids. Not kept is what the caller chooses at every start:
charges, leverage, square-off time, calendar and fill model.

Rows are the library's own values. A field more, with a default, can still be read; anything
else needs a new `VERSION`.
"""

# ruff: noqa: SLF001 - the one reader of the exchange's insides, so that the exchange knows nothing of files

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Literal

import attrs
import msgspec

from hybridbroker.clock import IST
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.market import Depth, MarketPhase
from hybridbroker.domain.orders import Order, OrderType, Side
from hybridbroker.domain.standing import Crossing, OcoOrder
from hybridbroker.errors import ConfigurationError
from hybridbroker.simulation.charges import Charges
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.simulation.matching import Offer

__all__ = ["ANEW", "VERSION", "Row", "State", "StateWriter", "read_state"]

VERSION: Final = 1

_FORMAT: Final = "hybridbroker paper account"
ANEW: Final = "put a copy of it back, or begin a new account with another file"
"""What to do about a file that cannot be read."""

Row = dict[str, Any]
"""One line of the file, before the instrument it names by id is looked up."""


@attrs.frozen(kw_only=True)
class _Account:
    """What there is one of."""

    day: date | None
    squared_off: bool
    cash: Decimal
    realised: Decimal
    opening: Decimal
    billed: Charges
    """The contract notes of all days that are over."""
    orders_counted: int
    standing_counted: int
    trades_of_past_days: int
    orders_of_today: list[str]
    ticked_today: list[str]
    bands: dict[str, tuple[Decimal, Decimal]]
    phases: dict[str, MarketPhase]


@attrs.frozen(kw_only=True)
class _Open:
    """What the exchange alone knows of an open order."""

    order_id: str
    place: int
    """In the queue of its instrument."""
    limit: Decimal | None
    arriving: bool
    queued: bool
    value: Decimal
    type: OrderType
    request: Row


@attrs.frozen(kw_only=True)
class _Price:
    """The last tick of one instrument, as far as it prices anything."""

    instrument: str
    last_price: float
    last_quantity: int | None
    traded_ms: int | None
    received_ms: int
    depth: Depth | None
    left: dict[Side, tuple[Offer, ...]]
    """What our own orders left of its book."""


@attrs.frozen(kw_only=True)
class _Standing:
    """A GTT or bracket order: what was asked for, and how it stands."""

    kind: Literal["gtt", "oco", "bracket"]
    request: Row
    shown: Row
    crossing: Crossing | None = None
    reference: Decimal | None = None


@attrs.frozen(kw_only=True)
class State:
    """Everything; positions, holdings, orders and trades are rows of their own types, by instrument id."""

    account: _Account
    instruments: list[Instrument]
    positions: list[Row]
    holdings: list[Row]
    open: list[_Open]
    """Oldest first."""
    standing: list[_Standing]
    """GTT orders, then brackets, oldest first."""
    prices: list[_Price]
    orders: list[Row]
    trades: list[Row]


class StateWriter:
    """Writes one exchange down, again and again; rows of what did not change meanwhile are not made anew."""

    def __init__(self) -> None:
        self._orders: dict[str, tuple[Order, bytes]] = {}
        self._trades: list[bytes] = []

    def dump(self, exchange: SimulatedExchange, *, at: datetime) -> bytes:
        """Return the file that `read_state` reads; ``at`` is told in it for a person."""
        rows: dict[str, Iterable[Any]] = {
            "instruments": _instruments(exchange).values(),
            "positions": map(_row, exchange._account._lines.values()),
            "holdings": map(_row, exchange._account._shares.values()),
            "open": _open(exchange),
            "standing": _standing(exchange),
            "prices": _prices(exchange),
        }
        blocks = {name: [msgspec.json.encode(each) for each in given] for name, given in rows.items()}
        blocks["orders"] = [self._order(each) for each in exchange.all_orders()]
        blocks["trades"] = self._all_trades(exchange)
        head = f'"saved_at": "{at.astimezone(IST).isoformat()}",\n"account": '.encode() + msgspec.json.encode(
            _account(exchange)
        )
        parts = [head, *(b'"%s": [%s]' % (name.encode(), _lines(each)) for name, each in blocks.items())]
        body = b",\n".join(parts) + b"\n}\n"
        seal = hashlib.sha256(body).hexdigest()
        return f'{{"format": "{_FORMAT}", "version": {VERSION}, "seal": "{seal}",\n'.encode() + body

    def _order(self, order: Order) -> bytes:
        known = self._orders.get(order.id)
        if known is None or known[0] is not order:
            known = self._orders[order.id] = order, msgspec.json.encode(_row(order))
        return known[1]

    def _all_trades(self, exchange: SimulatedExchange) -> list[bytes]:
        new = exchange._trades._trades[len(self._trades) :]
        self._trades += [msgspec.json.encode(_row(each)) for each in new]
        return self._trades


def read_state(raw: bytes) -> State:
    """Read what `StateWriter.dump` wrote.

    Raises:
        ConfigurationError: It is damaged, was changed by hand, or is of another version; the
            message begins with the verb, for a path to stand before.
    """
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"is cut off or damaged ({exc}); {ANEW}") from exc
    if not isinstance(told, dict) or told.get("format") != _FORMAT:
        raise ConfigurationError("is no paper account; give the file of one, or of none yet")
    version = told.get("version")
    if not isinstance(version, int) or version != VERSION:
        raise ConfigurationError(
            f"is of version {version}, and this hybridbroker reads {VERSION}; upgrade hybridbroker"
        )
    if hashlib.sha256(raw.partition(b"\n")[2]).hexdigest() != told.get("seal"):
        raise ConfigurationError(f"was changed since it was written, by hand or by a fault; {ANEW}")
    try:
        return msgspec.convert(told, State)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"holds what this version cannot read ({exc}); {ANEW}") from exc


def _lines(rows: Sequence[bytes]) -> bytes:
    return b"\n%s\n" % b",\n".join(rows) if rows else b""


def _row(value: Any) -> Row:
    """Return any value with an instrument as a row that names it by its id."""
    row: Row = msgspec.to_builtins(value)
    return row | {"instrument": value.instrument.id}


def _instruments(exchange: SimulatedExchange) -> Mapping[str, Instrument]:
    found: dict[str, Instrument] = {}
    for values in (
        exchange.all_orders(),
        exchange._ticks.values(),
        exchange._account._lines.values(),
        exchange._account._shares.values(),
        exchange.gtts(),
        exchange.brackets(),
    ):
        found |= {each.instrument.id: each.instrument for each in values}
    return found


def _account(exchange: SimulatedExchange) -> _Account:
    return _Account(
        day=exchange._day,
        squared_off=exchange._square_off is not None and exchange._squares_off_at is None,
        cash=exchange._account.cash,
        realised=exchange._account.realised,
        opening=exchange._opening,
        billed=exchange._trades._billed,
        orders_counted=exchange._count,
        standing_counted=exchange._standing_count,
        trades_of_past_days=exchange._trades._first_of_today,
        orders_of_today=exchange._orders.today,
        ticked_today=sorted(exchange._ticked),
        bands=exchange._bands,
        phases=exchange._phases,
    )


def _open(exchange: SimulatedExchange) -> list[_Open]:
    log = exchange._orders
    places = {each.order.id: place for queue in log._resting.values() for place, each in enumerate(queue)}
    return [
        _Open(
            order_id=each.order.id,
            place=places[each.order.id],
            limit=each.limit,
            arriving=each.arriving,
            queued=each.queued,
            value=each.value,
            type=each.request.type,
            request=_row(each.request),
        )
        for each in log.open()
    ]


def _prices(exchange: SimulatedExchange) -> list[_Price]:
    return [
        _Price(
            instrument=name,
            last_price=tick.last_price,
            last_quantity=tick.last_quantity,
            traded_ms=tick.traded_ms,
            received_ms=tick.received_ms,
            depth=tick.depth,
            left=exchange._books.get(name, {}),
        )
        for name, tick in exchange._ticks.items()
    ]


def _standing(exchange: SimulatedExchange) -> list[_Standing]:
    gtts = [
        _Standing(
            kind="oco" if isinstance(each.request, OcoOrder) else "gtt",
            request=_row(each.request),
            shown=_row(each.gtt),
            crossing=each.crossing,
        )
        for each in exchange._gtts._all.values()
    ]
    brackets = [
        _Standing(kind="bracket", request=_row(each.request), shown=_row(each.bracket), reference=each.reference)
        for each in exchange._brackets._all.values()
    ]
    return [*gtts, *brackets]
