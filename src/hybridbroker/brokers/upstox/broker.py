"""UpstoxBroker: the `Broker` on Upstox's order API v3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import date
from decimal import Decimal
from typing import Self

from hybridbroker.brokers.upstox import BROKER_CAPABILITIES
from hybridbroker.brokers.upstox.account import Addresses, Profile, UpstoxAccount
from hybridbroker.brokers.upstox.auth import Reach, TokenSource, token_source
from hybridbroker.brokers.upstox.client import UpstoxClient
from hybridbroker.brokers.upstox.orders.account import AccountReads
from hybridbroker.brokers.upstox.orders.batch import Batch
from hybridbroker.brokers.upstox.orders.book import NAME, Book
from hybridbroker.brokers.upstox.orders.controls import Controls
from hybridbroker.brokers.upstox.orders.desk import OrderDesk
from hybridbroker.brokers.upstox.orders.gtt import GttDesk
from hybridbroker.brokers.upstox.orders.reports import PastTrade
from hybridbroker.brokers.upstox.orders.rest import UpstoxOrderRest
from hybridbroker.brokers.upstox.orders.terms import AUTOMATIC, check_protection
from hybridbroker.brokers.upstox.orders.updates import OrderUpdates, PortfolioUpdates
from hybridbroker.brokers.upstox.settings import UpstoxSettings
from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, OrderRequest, Product, Side, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Margin, Position
from hybridbroker.domain.sliced import Sliced, SlicedOrder
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import ConfigurationError, InvalidOrder
from hybridbroker.protocols import InstrumentLookup
from hybridbroker.simulation.charges import Charges

__all__ = ["PriceBands", "UpstoxBroker"]

PriceBands = Callable[[Instrument], tuple[Decimal, Decimal] | None]
"""Tells the day's circuit limits of an instrument in rupees, lower and upper; None where they are not known."""


class UpstoxBroker:
    """A `Broker` on one Upstox account. Constructing it sends nothing; ``async with`` opens it.

    Where it differs from the protocol or adds to it:

    - An accepted order is ``PENDING``, nothing is known of it but its id; a rejection by
      Upstox's risk checks or the exchange shows only in the book or in an update.
    - A change or cancellation is acknowledged before the exchange has decided: the order is read
      back, for about a second while it is on its way, and returned as the book shows it then.
      Its terms may still be the old ones; the update stream tells the end.
    - Market orders and stop-market orders go with market protection (``market_protection``: -1 by
      Upstox's own table, or a percentage up to 25): they become limits, and may rest.
    - The client order id goes as ``tag``, which is no idempotency key: two orders may carry one.
    - Orders are taken only from the account's registered address (`StaticIpRequired`), at most 10
      a second unless ``UPSTOX_ALGO_NAME`` names a registered algorithm, and between 05:30 and
      24:00 IST: outside these hours Upstox refuses them, here they are not held back.
    - MCX is not traded through the API; GTT orders need an entry, so there is no OCO order.
    - Upstox keeps no client ids of GTT orders: `find_gtt` and `find_bracket` know those that
      were placed through this object.
    - The kill switch takes effect once a new token is made, and cannot be lifted for 12 hours.
    - What an instrument registry does not know shows as an `Instrument` of kind ``UNLISTED``.
    """

    name = NAME
    capabilities = BROKER_CAPABILITIES

    def __init__(
        self,
        settings: UpstoxSettings,
        *,
        instruments: InstrumentLookup,
        clock: Clock | None = None,
        tokens: TokenSource | None = None,
        market_protection: Decimal | int = AUTOMATIC,
        price_bands: PriceBands | None = None,
    ) -> None:
        if settings.is_sandbox:
            raise ConfigurationError("these settings lead to the sandbox: open the broker 'upstox-sandbox' with them")
        if tokens is None:
            settings.require()
        protection = check_protection(Decimal(market_protection))
        self._clock = clock or SystemClock()
        source = tokens or token_source(settings, clock=self._clock, reach=Reach.ORDERS)
        self._client = UpstoxClient(
            base_url=settings.base_url,
            order_url=settings.address("order_url"),
            tokens=source,
            clock=self._clock,
            algo_name=settings.algo_name,
            keep_warm_seconds=settings.keep_warm_seconds,
        )
        self._rest = UpstoxOrderRest(self._client)
        self._book = Book(self._rest, instruments=instruments, clock=self._clock)
        self._desk = OrderDesk(
            self._rest,
            book=self._book,
            instruments=instruments,
            clock=self._clock,
            market_protection=protection,
            price_bands=price_bands or (lambda _: None),
        )
        self._gtts = GttDesk(
            self._rest, book=self._book, instruments=instruments, clock=self._clock, market_protection=protection
        )
        self._owner = UpstoxAccount(settings, clock=self._clock, tokens=source)
        self._account = AccountReads(self._rest, book=self._book, instruments=instruments)
        self._controls = Controls(self._rest, book=self._book, instruments=instruments)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._client)
            await opening.enter_async_context(self._owner)
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    async def place_order(self, request: OrderRequest) -> Order:
        """Send one order; one POST at most, whatever happens."""
        return await self._desk.place(request)

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an open order: one read, one PUT at most, which states every term anew, and reads of what came of it.

        Returned is what the book shows then, be it the old terms of an order whose change is on
        its way. A change that the exchange is seen to refuse ("not modified") raises
        `OrderRejected`, with the order standing as it was. Where the order cannot be read back
        it is returned with the terms asked for and status ``UNKNOWN``. Without anything to change
        nothing is written. Where the read before fails, the answer is `NotSent`. A price given to
        a resting market order makes it a limit order.
        """
        return await self._desk.modify(
            order_id, quantity=quantity, price=price, trigger_price=trigger_price, validity=validity
        )

    async def cancel_order(self, order_id: str) -> Order:
        """Ask for cancellation, and return the order as the book shows it afterwards; see `modify_order`.

        An order that is over already is returned as it is. A cancellation that the exchange is
        seen to refuse ("not cancelled") raises `OrderRejected`. Where it was acknowledged but the
        order could not be read back, the answer is the order as last seen with status
        ``UNKNOWN``, or `ReplyLost` where this object has never seen it. Only a cancellation that
        was not acknowledged raises `OrderOutcomeUnknown`.
        """
        return await self._desk.cancel(order_id)

    async def place_sliced(self, request: SlicedOrder) -> Sliced:
        """Send one order that Upstox cuts by the exchange's freeze quantity.

        Upstox names the slices and not their sizes: where their number is not what the registry's
        freeze quantity makes, the book is read for them. Every slice carries the same tag.
        """
        return await self._desk.place_sliced(request)

    async def cancel_all(self, *, tag: str | None = None, segment: str | None = None) -> Batch:
        """Cancel all open orders, or those with this client order id, or of this segment (``NSE_EQ`` ...), in one call.

        Upstox takes so many in one call and no more (pages differ: 10, 50); where it refuses for
        that, they are cancelled one by one. An empty batch: the book shows none open.
        """
        return await self._desk.cancel_all(tag=tag, segment=segment)

    async def exit_all(self, *, tag: str | None = None, segment: str | None = None) -> Batch:
        """Close all positions at the market in one call, during market hours; holdings stay (unconfirmed).

        With ``tag`` only intraday positions that orders with this client order id opened. Ten
        positions a call (older pages: 50); a refusal for that raises `OrderRejected`. An empty
        batch: no position is open.
        """
        return await self._controls.exit_all(tag=tag, segment=segment)

    async def order(self, order_id: str) -> Order:
        """Return one order of today; raise `OrderNotFound`."""
        return await self._book.order(order_id)

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the order that carries this client order id as its tag; where several do (slices), the newest.

        Asked are the history by tag, then the book. None right after a lost reply is no proof
        that the order does not exist.
        """
        return await self._book.find(client_order_id)

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today, oldest first; a row that cannot be read fails the call."""
        return await self._book.orders()

    async def order_history(self, order_id: str) -> Sequence[Order]:
        """Return every state one order has been in, first to last; raise `OrderNotFound`."""
        return await self._book.history(order_id)

    async def trades(self, order_id: str | None = None) -> Sequence[Trade]:
        """Return all executions of today, or those of one order, oldest first."""
        return await self._book.trades(order_id)

    async def past_trades(self, *, start: date, end: date, segment: str | None = None) -> Sequence[PastTrade]:
        """Return executions of past days, both included, oldest first; of one segment (``EQ``, ``FO`` ...) or all."""
        return await self._account.past_trades(start=start, end=end, segment=segment)

    def order_updates(self) -> OrderUpdates:
        """Stream every change of every order of the account, whichever platform it came from.

        What happened before it was entered is not repeated: enter it, then read `orders`.
        """
        return OrderUpdates(rest=self._rest, clock=self._clock, book=self._book, desk=self._gtts)

    def portfolio_updates(self) -> PortfolioUpdates:
        """Stream orders, GTT and bracket orders, positions and holdings as they change."""
        return PortfolioUpdates(rest=self._rest, clock=self._clock, book=self._book, desk=self._gtts)

    async def positions(self) -> Sequence[Position]:
        """Return today's positions; shares bought for delivery are here today and in `holdings` later."""
        return await self._account.positions()

    async def mtf_positions(self) -> Sequence[Position]:
        """Return positions in shares that Upstox finances, of whatever day."""
        return await self._account.mtf_positions()

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held; see `holding_from_wire` for what is unconfirmed about units bought yesterday."""
        return await self._account.holdings()

    async def funds(self) -> Funds:
        """Return what can be spent, pledge included; closed from 00:00 to 05:30 IST (`ServiceUnavailable`)."""
        return await self._account.funds()

    async def margin(self, requests: OrderRequest | Sequence[OrderRequest]) -> Margin:
        """Return what up to twenty orders would block together, benefits of the combination taken off."""
        return await self._account.margin(requests)

    async def brokerage(self, request: OrderRequest, *, price: Decimal | None = None) -> Charges:
        """Return what an order would cost by Upstox's own calculation; ``price`` where it has none of its own.

        Raises:
            InvalidOrder: There is no price to calculate with.
        """
        counted = request.price if price is None else price
        if counted is None:
            raise InvalidOrder(f"a {request.type.value} order has no price to calculate charges with; give one")
        return await self._account.brokerage(request, price=counted)

    async def profile(self) -> Profile:
        """Return whose account it is and what it may trade."""
        return await self._owner.profile()

    async def addresses(self) -> Addresses:
        """Return the addresses that orders are taken from."""
        return await self._owner.addresses()

    async def activate_kill_switch(self) -> None:
        """Have Upstox refuse orders in every active segment, once a new token is made; pending orders are cancelled.

        Raises:
            OrderRejected: A position is open, or the switch was used within 12 hours.
        """
        await self._controls.kill(active=True)

    async def deactivate_kill_switch(self) -> None:
        """Have Upstox take orders again, once a new token is made; refused for 12 hours after the activation."""
        await self._controls.kill(active=False)

    async def kill_switch_active(self) -> bool:
        """Say whether the switch is on in every active segment (that ``kill_switch_enabled`` says so: unconfirmed)."""
        return await self._controls.killed()

    async def convert_position(
        self, instrument: Instrument, *, side: Side, quantity: int, from_product: Product, to_product: Product
    ) -> None:
        """Convert units of the position that ``side`` opened; documented between intraday and delivery."""
        await self._controls.convert(
            instrument, side=side, quantity=quantity, from_product=from_product, to_product=to_product
        )

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        """Leave a single order with Upstox for a year.

        Where the request does not say from which side the market comes, the last price is read
        first. The limit of the order that is sent then is Upstox's, from the trigger and the
        market protection: a `Trigger` with a price of its own is `Unsupported`.
        """
        return await self._gtts.place_gtt(request)

    async def modify_gtt(
        self,
        gtt_id: str,
        *,
        quantity: int | None = None,
        trigger: Trigger | None = None,
        target: Trigger | None = None,
        stop: Trigger | None = None,
    ) -> Gtt:
        """Change a single GTT order: one read, one write, one read of what came of it."""
        if target is not None or stop is not None:
            raise InvalidOrder("a single GTT order has a trigger only; target and stop are a bracket's")
        return await self._gtts.modify_gtt(gtt_id, quantity=quantity, trigger=trigger)

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        """Cancel a single GTT order; one that has ended is returned as it is."""
        return await self._gtts.cancel_gtt(gtt_id)

    async def gtts(self) -> Sequence[Gtt]:
        """Return the single GTT orders, oldest first."""
        return await self._gtts.gtts()

    async def find_gtt(self, client_order_id: str) -> Gtt | None:
        """Return the one this object placed by that name; Upstox keeps no such ids."""
        return await self._gtts.find(client_order_id, Gtt)

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        """Send an entry, a limit order, with target and stop, which stay for a year and may trail.

        Upstox wants the trailing gap to be at least a tenth of the way from the last price to the stop.
        """
        return await self._gtts.place_bracket(request)

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
        """Change all legs in one write; the quantity only before the entry was sent."""
        return await self._gtts.modify_bracket(
            bracket_id,
            quantity=quantity,
            price=price,
            target_price=target_price,
            stop_price=stop_price,
            trail=trail,
        )

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY) -> Bracket:
        """Cancel a bracket as a whole, its exits with it: a position it has opened is no longer protected.

        Raises:
            Unsupported: One of its exits alone, which Upstox does not do.
        """
        return await self._gtts.cancel_bracket(bracket_id, leg=leg)

    async def brackets(self) -> Sequence[Bracket]:
        """Return the GTT orders that have exits, oldest first."""
        return await self._gtts.brackets()

    async def find_bracket(self, client_order_id: str) -> Bracket | None:
        """Return the one this object placed by that name; Upstox keeps no such ids."""
        return await self._gtts.find(client_order_id, Bracket)
