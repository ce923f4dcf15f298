"""The seams: what a source of prices and a taker of orders promise, in small pieces.

Implementations do not inherit; a function annotated ``-> Broker`` makes a type checker
prove the fit. Every method may raise, besides what it names: `AuthenticationError` (log in
again), `NetworkError` (see its kinds), `WireFormatError` (the broker broke its documentation).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, Flag, auto
from typing import Protocol, Self, runtime_checkable

from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.instrument import BrokerKey, Exchange, Instrument
from hybridbroker.domain.market import (
    Candles,
    FeedMode,
    FeedState,
    Gap,
    Interval,
    MarketEvent,
    MarketStatus,
    Quote,
    Tick,
)
from hybridbroker.domain.options import OptionChain
from hybridbroker.domain.orders import Order, OrderRequest, Product, Side, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Margin, Position
from hybridbroker.domain.sliced import Sliced, SlicedOrder
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, OcoOrder, Trigger

__all__ = [
    "BracketOrders",
    "Broker",
    "CandleSource",
    "Capability",
    "FeedHealth",
    "GttOrders",
    "InstrumentLookup",
    "KillSwitchControl",
    "Margins",
    "MarketData",
    "MarketSchedule",
    "MarketStream",
    "OptionChains",
    "OrderBook",
    "OrderExecution",
    "Overflow",
    "Portfolio",
    "PositionConversion",
    "QuoteSource",
    "SlicedOrders",
    "TickSource",
]


class Capability(Flag):
    """Optional abilities; a call that needs a missing one raises `Unsupported` before any I/O."""

    NONE = 0
    QUOTES = auto()
    CANDLES = auto()
    TICKS = auto()
    FULL_MODE = auto()
    OPTION_GREEKS = auto()
    DEPTH_30 = auto()
    MARKET_ORDERS = auto()
    LIMIT_ORDERS = auto()
    STOP_LIMIT_ORDERS = auto()
    STOP_MARKET_ORDERS = auto()
    AFTER_MARKET_ORDERS = auto()
    IOC = auto()
    ORDER_UPDATES = auto()
    LIVE_MONEY = auto()
    """Orders cost real money: such a broker is never chosen by default."""
    GTT_ORDERS = auto()
    """`GttOrders` with `GttOrder`."""
    OCO_ORDERS = auto()
    """`GttOrders` with `OcoOrder`."""
    BRACKET_ORDERS = auto()
    SLICED_ORDERS = auto()
    MARGINS = auto()
    KILL_SWITCH = auto()
    POSITION_CONVERSION = auto()
    OPTION_CHAINS = auto()
    MARKET_SCHEDULE = auto()
    ORDER_BOOK = auto()
    """`OrderBook` can be read; a sandbox may lack it."""
    PORTFOLIO = auto()
    """`Portfolio` can be read."""
    FILLS = auto()
    """Orders can trade; a sandbox may match nothing."""


class Overflow(Enum):
    """What a stream does when its consumer is slower than the market."""

    CONFLATE = "conflate"
    """Keep the newest tick per instrument, count the ones it replaced."""
    BLOCK = "block"
    """Stop reading the socket; nothing is lost here, the broker may hang up."""
    ERROR = "error"
    """Raise `FeedError` in the consumer."""


class InstrumentLookup(Protocol):
    """Finds instruments, and what each broker calls them; `InstrumentRegistry` is the real one."""

    def __getitem__(self, id: str) -> Instrument:  # noqa: A002 - the domain's word
        """Return the instrument with this id; raise `InstrumentError` rather than guess."""
        ...

    def key(self, instrument: Instrument, broker: str) -> BrokerKey:
        """Return what ``broker`` calls ``instrument``; raise `InstrumentUnmapped` or `InstrumentConflict`."""
        ...

    def by_key(self, broker: str, key: str) -> Instrument:
        """Return what ``broker`` means by ``key`` (``str(BrokerKey)``); raise `InstrumentNotFound`."""
        ...


class QuoteSource(Protocol):
    """Answers what the market is now."""

    async def quotes(self, instruments: Iterable[Instrument]) -> Mapping[Instrument, Quote]:
        """Return a quote per instrument; one the broker does not know is missing from the answer."""
        ...


class CandleSource(Protocol):
    """Answers what the market was."""

    async def candles(
        self, instrument: Instrument, interval: Interval, *, start: date | datetime, end: date | datetime | None = None
    ) -> Candles:
        """Return bars, oldest first, of any span; long spans are fetched in pieces.

        ``start`` and ``end`` are inclusive; a date means that whole day in IST; without
        ``end`` the answer goes up to now, the running bar included where the broker has it.
        """
        ...


class FeedHealth(Protocol):
    """How a stream is doing; read it at any time."""

    state: FeedState
    trouble: str | None
    """Why there is no connection, in words for a person; None while there is one."""
    refusals: int
    """How often the server turned a connection down instead of failing, such as with HTTP 403 or 429."""
    silent: bool
    """Whether nothing comes although a session is open, for longer than is usual."""
    last_frame: datetime | None
    """When anything came from the socket, pings included; None before the first."""
    last_data: datetime | None
    """When market data came last; a socket can live while the data is dead."""
    reconnects: int
    gaps: int
    conflated: int
    """Ticks replaced by a newer one before the consumer took them."""
    read_at: float
    """When the event the consumer took last was read from the socket, in the clock's monotonic seconds."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """What could not be delivered, by reason: malformed frames, unknown keys, repeated and late updates."""
        ...

    @property
    def unheard(self) -> Sequence[str]:
        """Ids of the instruments that have told nothing since they were subscribed."""
        ...

    def silence(self, instrument: Instrument | None = None) -> float:
        """Return the seconds in which something should have come and nothing did, of the feed or of one instrument.

        0 outside the instrument's session where the stream knows sessions, and counted from its
        opening at the earliest; infinite for an instrument that nobody subscribed.
        """
        ...

    def stale(self, instrument: Instrument | None = None, *, after: float = 30.0) -> bool:
        """Say whether `silence` is longer than ``after`` seconds: outside the session it never is.

        A stream that knows no calendar knows only time.
        """
        ...


class MarketStream(Protocol):
    """A live stream: iterate it for every `MarketEvent`, or `ticks()` for ticks alone.

    Ticks of one instrument come in the order the broker sent them. After a reconnection a
    `Gap` comes before the first tick. The iteration ends when the stream is closed, and
    raises `FeedError` when it cannot go on.
    """

    @property
    def health(self) -> FeedHealth:
        """How the stream is doing."""
        ...

    def __aiter__(self) -> AsyncIterator[MarketEvent]: ...

    async def __anext__(self) -> MarketEvent: ...

    def ticks(self) -> AsyncIterator[Tick]:
        """Iterate over ticks; gaps are counted in ``health`` but not shown."""
        ...

    async def subscribe(self, instruments: Iterable[Instrument], *, mode: FeedMode | None = None) -> None:
        """Add instruments, or change the mode of subscribed ones; kept across reconnections.

        Raises:
            SubscriptionLimit: The plan does not allow so many; nothing was sent.
            InstrumentUnmapped: The broker does not list one of them; nothing was sent.
        """
        ...

    async def unsubscribe(self, instruments: Iterable[Instrument]) -> None:
        """Remove instruments; unknown ones are ignored."""
        ...


class TickSource(Protocol):
    """Streams what the market does."""

    def stream(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        mode: FeedMode = FeedMode.LTP,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> AbstractAsyncContextManager[MarketStream]:
        """Open a stream on entry, close its socket on exit.

        The reader always drains the socket; what a slow consumer gets is ``overflow``'s
        matter. Entering waits for the first connection.

        Raises:
            FeedAuthenticationError: The credentials were refused.
            SubscriptionLimit: The plan does not allow so many instruments or sockets.
        """
        ...


@runtime_checkable
class MarketData(QuoteSource, CandleSource, TickSource, Protocol):
    """A source of prices. Constructing it is free; ``async with`` opens, leaving closes."""

    name: str
    capabilities: Capability

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...


class OrderExecution(Protocol):
    """Writes. Each call sends at most one request, ever; nothing is repeated on its own."""

    async def place_order(self, request: OrderRequest) -> Order:
        """Send one order and return it as the broker acknowledged it.

        Acknowledged is not executed: the status is often `PENDING` or `OPEN`, and a
        rejection by the exchange may come later, in `order()` or `order_updates()`.

        Raises:
            InvalidOrder: This broker can never take it; nothing was sent.
            Unsupported: This broker has no such order; nothing was sent.
            OrderRejected: The broker refused it; nothing was placed.
            OrderOutcomeUnknown: The reply was lost, unreadable or a server error; it may be live.
            NotSent: The connection was never made; it certainly never arrived.
            RateLimited: Refused unread, as far as is documented; repeat only after the book shows it absent.
        """
        ...

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an open order and return it; None leaves a term as it is.

        ``quantity`` is the new total, filled units included. Errors as `place_order`, and
        `OrderNotFound`.
        """
        ...

    async def cancel_order(self, order_id: str) -> Order:
        """Ask for cancellation and return the order; it may still fill before it dies.

        Cancelling an order that is already final returns it unchanged. Errors as
        `place_order`, and `OrderNotFound`.
        """
        ...


class OrderBook(Protocol):
    """Reads. Safe to repeat, and repeated inside on network trouble."""

    async def order(self, order_id: str) -> Order:
        """Return one order of today; raise `OrderNotFound`."""
        ...

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the order that carries this client order id, or None where the broker shows none *now*."""
        ...

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today, oldest first."""
        ...

    async def trades(self) -> Sequence[Trade]:
        """Return all executions of today, oldest first."""
        ...

    def order_updates(self) -> AbstractAsyncContextManager[AsyncIterator[Order | Gap]]:
        """Stream every change of every order of the account.

        An order is repeated whole at each change. After a reconnection a `Gap` comes, then
        the orders that changed meanwhile as the book shows them.
        """
        ...


class Portfolio(Protocol):
    """Reads of what the account holds."""

    async def positions(self) -> Sequence[Position]:
        """Return today's positions, closed ones (quantity 0) included."""
        ...

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held; an empty portfolio is an empty sequence, not an error."""
        ...

    async def funds(self) -> Funds:
        """Return what can be spent."""
        ...


@runtime_checkable
class Broker(OrderExecution, OrderBook, Portfolio, Protocol):
    """A venue that takes orders, live or simulated. ``async with`` opens, leaving closes."""

    name: str
    capabilities: Capability

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...


# Optional abilities. An object that has one says so in ``capabilities``; where the flag is missing the
# call raises `Unsupported` before any I/O, so that a wrapper can offer all of them.


@runtime_checkable
class GttOrders(Protocol):
    """Orders that wait at the broker for a price, for up to a year (`GTT_ORDERS`, `OCO_ORDERS`).

    Writes keep the promises of `OrderExecution`: sent at most once, three kinds of answers.
    """

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        """Leave one standing order with the broker; errors as `OrderExecution.place_order`."""
        ...

    async def modify_gtt(
        self,
        gtt_id: str,
        *,
        quantity: int | None = None,
        trigger: Trigger | None = None,
        target: Trigger | None = None,
        stop: Trigger | None = None,
    ) -> Gtt:
        """Change one, None leaves a term as it is: ``trigger`` of a single, ``target`` and ``stop`` of an OCO order.

        A broker that changes one leg a call sends as many as there are legs to change, target
        first; where a later one fails the error says that the earlier was done.
        """
        ...

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        """Cancel every leg that is not sent yet; one that has ended is returned unchanged."""
        ...

    async def gtts(self) -> Sequence[Gtt]:
        """Return the standing orders the broker shows, ended ones included where it shows them, oldest first."""
        ...

    async def find_gtt(self, client_order_id: str) -> Gtt | None:
        """Return the one that carries this id; None where the broker shows none, or keeps no such ids."""
        ...


@runtime_checkable
class BracketOrders(Protocol):
    """Entries that bring their own target and stop (`BRACKET_ORDERS`); promises as `GttOrders`."""

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        """Send an entry with its exits; errors as `OrderExecution.place_order`."""
        ...

    async def modify_bracket(
        self,
        bracket_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        target_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail: Decimal | None = None,
    ) -> Bracket:
        """Change what can still be changed: ``quantity`` and ``price`` only before the entry is filled.

        ``trail`` 0 ends the trailing. A broker that changes one leg a call sends as many as are
        needed, entry, target, stop.
        """
        ...

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY) -> Bracket:
        """Cancel one leg for good; the entry takes what is left of the others with it."""
        ...

    async def brackets(self) -> Sequence[Bracket]:
        """Return the bracket orders the broker shows, oldest first."""
        ...

    async def find_bracket(self, client_order_id: str) -> Bracket | None:
        """Return the one that carries this id; None where the broker shows none, or keeps no such ids."""
        ...


@runtime_checkable
class SlicedOrders(Protocol):
    """Orders above the exchange's freeze quantity, cut by the broker into several (`SLICED_ORDERS`)."""

    async def place_sliced(self, request: SlicedOrder) -> Sliced:
        """Send one request that becomes several orders; part of them may be refused. Errors as `place_order`."""
        ...


@runtime_checkable
class Margins(Protocol):
    """What an order would block (`MARGINS`)."""

    async def margin(self, requests: OrderRequest | Sequence[OrderRequest]) -> Margin:
        """Return what these orders would block together, by the broker's own calculation; nothing is placed."""
        ...


@runtime_checkable
class KillSwitchControl(Protocol):
    """The broker's own switch, which refuses all further orders of the account (`KILL_SWITCH`)."""

    async def activate_kill_switch(self) -> None:
        """Have the broker refuse orders; errors as `OrderExecution.place_order`.

        Raises:
            OrderRejected: The broker's conditions are not met, such as no open position.
        """
        ...

    async def deactivate_kill_switch(self) -> None:
        """Have the broker take orders again; some refuse for hours."""
        ...

    async def kill_switch_active(self) -> bool:
        """Say whether the broker refuses orders now."""
        ...


@runtime_checkable
class PositionConversion(Protocol):
    """Changing how a position of the day is held (`POSITION_CONVERSION`)."""

    async def convert_position(
        self, instrument: Instrument, *, side: Side, quantity: int, from_product: Product, to_product: Product
    ) -> None:
        """Convert ``quantity`` units of the position that ``side`` opened; errors as `OrderExecution.place_order`."""
        ...


@runtime_checkable
class OptionChains(Protocol):
    """All strikes of an expiry in one answer (`OPTION_CHAINS`)."""

    async def expiries(self, underlying: Instrument) -> Sequence[date]:
        """Return the expiries of an underlying's options, nearest first."""
        ...

    async def option_chain(self, underlying: Instrument, *, expiry: date) -> OptionChain:
        """Return every strike of one expiry."""
        ...


@runtime_checkable
class MarketSchedule(Protocol):
    """What the broker says of sessions to come (`MARKET_SCHEDULE`): for dates the built-in calendar does not cover."""

    async def extend_calendar(self, calendar: TradingCalendar) -> TradingCalendar:
        """Return ``calendar`` with what the broker knows of closed days and special sessions beyond it."""
        ...

    async def market_status(self, exchange: Exchange) -> MarketStatus:
        """Return what an exchange's segments are doing now."""
        ...
