"""DhanBroker: the `Broker` on Dhan's order API, and what Dhan has beyond it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from decimal import Decimal
from typing import Self

from hybridbroker.brokers.dhan import CAPABILITIES
from hybridbroker.brokers.dhan.auth import TokenSource, token_source
from hybridbroker.brokers.dhan.client import DhanClient
from hybridbroker.brokers.dhan.orders.book import Book
from hybridbroker.brokers.dhan.orders.changes import Changes
from hybridbroker.brokers.dhan.orders.control import PnlExit, TraderControl
from hybridbroker.brokers.dhan.orders.desk import OrderDesk
from hybridbroker.brokers.dhan.orders.edis import DeliveryCheck, EdisApproval
from hybridbroker.brokers.dhan.orders.forevers import ForeverOrders
from hybridbroker.brokers.dhan.orders.names import Names
from hybridbroker.brokers.dhan.orders.portfolio import DhanPortfolio
from hybridbroker.brokers.dhan.orders.rest import DhanRest
from hybridbroker.brokers.dhan.orders.standing_rest import StandingRest
from hybridbroker.brokers.dhan.orders.statements import LedgerEntry, PastTrade, Statements
from hybridbroker.brokers.dhan.orders.stop_band import STOP_BAND, StopBand
from hybridbroker.brokers.dhan.orders.supers import SuperOrders
from hybridbroker.brokers.dhan.orders.updates import OrderUpdates
from hybridbroker.brokers.dhan.sandbox import refuse_sandbox
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import Clock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import Order, OrderRequest, Product, Side, Trade, Validity
from hybridbroker.domain.portfolio import Funds, Holding, Margin, Position
from hybridbroker.domain.sliced import Sliced, SlicedOrder
from hybridbroker.domain.standing import Bracket, BracketOrder, Gtt, GttOrder, LegRole, OcoOrder, Trigger
from hybridbroker.errors import Unsupported
from hybridbroker.protocols import Capability, InstrumentLookup

__all__ = ["DhanBroker"]


class DhanBroker:
    """A `Broker` on one Dhan account. Constructing it sends nothing; ``async with`` opens it.

    Where it differs from the protocol or adds to it:

    - An accepted order is mostly ``PENDING`` at first (Dhan: TRANSIT); a rejection by Dhan's risk
      checks or the exchange shows only in the book or in an update.
    - Market orders become limits with a band that Dhan does not publish, and may rest.
    - Stop-market orders are sent as stop-limit orders, ``stop_band`` beyond the trigger, since Dhan's
      own lose their trigger (`StopBand`); the order returned says so. ``raw_stop_market`` sends them
      as they are.
    - Client order ids are no idempotency keys at Dhan; one used today through this object is
      refused here.
    - Orders are taken only from the account's registered address (`StaticIpRequired`); reads
      from anywhere. Do not go on sending after that.
    - Where the profile says that there is no DDPI, a sale of shares out of the demat account that
      today's eDIS approval does not cover is `InvalidOrder`; see `DeliveryCheck`.
    - A token found expired by its own date is refused here with `TokenExpired`, unsent.
    - What an instrument registry does not know shows as an `Instrument` of kind ``UNLISTED``.
    """

    name = "dhan"
    capabilities = CAPABILITIES

    def __init__(
        self,
        settings: DhanSettings,
        *,
        instruments: InstrumentLookup,
        clock: Clock,
        tokens: TokenSource | None = None,
        stop_band: StopBand = STOP_BAND,
        raw_stop_market: bool = False,
    ) -> None:
        settings.require()
        self._check(settings)
        self._settings = settings
        self._clock = clock
        self._tokens = tokens or token_source(settings, clock=clock)
        self._client = DhanClient(
            base_url=settings.base_url,
            tokens=self._tokens,
            clock=clock,
            account=settings.client_id,
            keep_warm_seconds=settings.keep_warm_seconds,
        )
        self._rest = DhanRest(self._client)
        me, names, changes = settings.client_id, Names(instruments), Changes()
        standing = StandingRest(self._client)
        self._book = Book(self._rest, names=names, clock=clock)
        self._desk = OrderDesk(
            self._rest,
            book=self._book,
            clock=clock,
            client_id=me,
            changes=changes,
            stop_band=None if raw_stop_market else stop_band,
        )
        self._forevers = ForeverOrders(standing, names=names, clock=clock, client_id=me, changes=changes)
        self._supers = SuperOrders(standing, names=names, clock=clock, client_id=me, changes=changes)
        self._portfolio = DhanPortfolio(self._client, self._rest, names=names, client_id=me)
        self._delivery = DeliveryCheck(self._client, self._rest, portfolio=self._portfolio, clock=clock)
        self._control = TraderControl(self._client, client_id=me)
        self._statements = Statements(self._client, names=names)

    def _check(self, settings: DhanSettings) -> None:
        refuse_sandbox(settings)

    def _need(self, ability: Capability, what: str) -> None:
        if not ability & self.capabilities:
            raise Unsupported(f"{self.name} has no {what}")

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)

    # Orders.

    async def place_order(self, request: OrderRequest) -> Order:
        """Send one order; one POST at most, whatever happens."""
        if self.capabilities & Capability.LIVE_MONEY:
            await self._delivery.check(
                request.instrument, side=request.side, product=request.product, quantity=request.quantity
            )
        return await self._desk.place(request)

    async def place_sliced(self, request: SlicedOrder) -> Sliced:
        """Send one POST that Dhan cuts into several orders, then read them back.

        The slices carry one client order id (unconfirmed: each of them). Where some are refused the
        answer holds the others and the reason.

        Raises:
            OrderRejected: No slice was taken.
            OrderOutcomeUnknown: Which slices are live is not known.
        """
        self._need(Capability.SLICED_ORDERS, "slicing")
        if self.capabilities & Capability.LIVE_MONEY:
            await self._delivery.check(
                request.instrument, side=request.side, product=request.product, quantity=request.quantity
            )
        return await self._desk.place_sliced(request)

    async def modify_order(
        self,
        order_id: str,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        validity: Validity | None = None,
    ) -> Order:
        """Change an open order: one read, then one PUT at most, which states every term anew.

        The answer holds the new terms and the fills read just before. Without anything to
        change nothing is written. Dhan allows 25 changes of an order; those made (or perhaps
        made) through this object are counted, and the next is `InvalidOrder`. Where the read
        fails, the answer is `NotSent`.
        """
        return await self._desk.modify(
            order_id, quantity=quantity, price=price, trigger_price=trigger_price, validity=validity
        )

    async def cancel_order(self, order_id: str) -> Order:
        """Ask for cancellation, and return the order as the book shows it afterwards.

        A cancellation that Dhan refuses because the order is still on its way to the exchange
        is asked again, twice at most and within two seconds: it was refused unread, and asking
        twice cannot cancel more. An order that is over already is returned as it is.

        Where the cancellation was acknowledged but the order could not be read back, the
        answer is the order as last seen with status ``UNKNOWN`` (how much of it filled is not
        known), or `ReplyLost` where this object has never seen it. Only a cancellation that
        was not acknowledged raises `OrderOutcomeUnknown`.
        """
        return await self._desk.cancel(order_id)

    async def order(self, order_id: str) -> Order:
        """Return one order of today; raise `OrderNotFound`."""
        return await self._book.order(order_id)

    async def find_order(self, client_order_id: str) -> Order | None:
        """Return the order that carries this client order id; where two do, the newer one.

        None where Dhan shows it neither by that id (it does not while the order is in transit)
        nor in the book. Right after a lost reply that is no proof that it does not exist.
        """
        return await self._book.find(client_order_id)

    async def orders(self) -> Sequence[Order]:
        """Return all orders of today, oldest first; a row that cannot be read fails the call."""
        return await self._book.orders()

    async def trades(self, order_id: str | None = None) -> Sequence[Trade]:
        """Return all executions of today, or those of one order, oldest first."""
        return await self._book.trades(order_id)

    def order_updates(self) -> OrderUpdates:
        """Stream every change of every order of the account, whichever platform it came from.

        What happened before it was entered is not repeated: enter it, then read `orders`.
        """
        self._need(Capability.ORDER_UPDATES, "order updates")
        return OrderUpdates(
            url=self._settings.address("order_updates_url"),
            tokens=self._tokens,
            clock=self._clock,
            book=self._book,
            verify=self._rest.profile,
        )

    # Forever and super orders.

    async def place_gtt(self, request: GttOrder | OcoOrder) -> Gtt:
        """Leave one forever order with Dhan; an OCO pair is read back until it shows which leg is which.

        Raises:
            OrderRejected: Also where Dhan had the legs of a pair swapped, and it was cancelled.
            OrderOutcomeUnknown: Also where a pair was taken and its legs could not be told.
        """
        self._need(Capability.OCO_ORDERS if isinstance(request, OcoOrder) else Capability.GTT_ORDERS, "forever orders")
        return await self._forevers.place_gtt(request)

    async def modify_gtt(
        self,
        gtt_id: str,
        *,
        quantity: int | None = None,
        trigger: Trigger | None = None,
        target: Trigger | None = None,
        stop: Trigger | None = None,
    ) -> Gtt:
        """Change a forever order: one read, then a PUT for each leg that changes, target first."""
        self._need(Capability.GTT_ORDERS, "forever orders")
        return await self._forevers.modify_gtt(gtt_id, quantity=quantity, trigger=trigger, target=target, stop=stop)

    async def cancel_gtt(self, gtt_id: str) -> Gtt:
        """Cancel a forever order, all legs; one that has ended is returned unchanged."""
        self._need(Capability.GTT_ORDERS, "forever orders")
        return await self._forevers.cancel_gtt(gtt_id)

    async def gtts(self) -> Sequence[Gtt]:
        """Return the forever orders Dhan shows, oldest first."""
        self._need(Capability.GTT_ORDERS, "forever orders")
        return await self._forevers.gtts()

    async def find_gtt(self, client_order_id: str) -> Gtt | None:
        """Return the one that carries this id; Dhan's list may not tell (unconfirmed), then only ours are found."""
        self._need(Capability.GTT_ORDERS, "forever orders")
        return await self._forevers.find_gtt(client_order_id)

    async def place_bracket(self, request: BracketOrder) -> Bracket:
        """Send one super order."""
        self._need(Capability.BRACKET_ORDERS, "super orders")
        return await self._supers.place_bracket(request)

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
        """Change a super order: one read, then a PUT for each leg that changes; ``trail`` 0 ends the trailing."""
        self._need(Capability.BRACKET_ORDERS, "super orders")
        return await self._supers.modify_bracket(
            bracket_id, quantity=quantity, price=price, target_price=target_price, stop_price=stop_price, trail=trail
        )

    async def cancel_bracket(self, bracket_id: str, *, leg: LegRole = LegRole.ENTRY) -> Bracket:
        """Cancel one leg for good, the entry with all that is left."""
        self._need(Capability.BRACKET_ORDERS, "super orders")
        return await self._supers.cancel_bracket(bracket_id, leg=leg)

    async def brackets(self) -> Sequence[Bracket]:
        """Return the super orders Dhan shows, oldest first."""
        self._need(Capability.BRACKET_ORDERS, "super orders")
        return await self._supers.brackets()

    async def find_bracket(self, client_order_id: str) -> Bracket | None:
        """Return the one that carries this client order id, or None."""
        self._need(Capability.BRACKET_ORDERS, "super orders")
        return await self._supers.find_bracket(client_order_id)

    # The account.

    async def positions(self) -> Sequence[Position]:
        """Return today's positions; shares bought for delivery are here today and in `holdings` tomorrow."""
        return await self._portfolio.positions()

    async def holdings(self) -> Sequence[Holding]:
        """Return shares held; Dhan's HTTP 500 for an empty portfolio is an empty sequence."""
        return await self._portfolio.holdings()

    async def funds(self) -> Funds:
        """Return what can be spent; ``available`` includes collateral (unconfirmed)."""
        return await self._portfolio.funds()

    async def margin(self, requests: OrderRequest | Sequence[OrderRequest]) -> Margin:
        """Return what these orders would block together, with positions and open orders where there are several."""
        self._need(Capability.MARGINS, "margin calculator")
        several = [requests] if isinstance(requests, OrderRequest) else list(requests)
        if len(several) > 1 and not self.capabilities & Capability.LIVE_MONEY:
            raise Unsupported(f"{self.name} tells the margin of one order at a time")
        return await self._portfolio.margin(several)

    async def convert_position(
        self, instrument: Instrument, *, side: Side, quantity: int, from_product: Product, to_product: Product
    ) -> None:
        """Convert ``quantity`` units of the position that ``side`` opened."""
        self._need(Capability.POSITION_CONVERSION, "conversion of positions")
        await self._portfolio.convert(
            instrument, side=side, quantity=quantity, from_product=from_product, to_product=to_product
        )

    async def activate_kill_switch(self) -> None:
        """Have Dhan refuse orders for the rest of the day; it wants no open position and no pending order before."""
        self._need(Capability.KILL_SWITCH, "kill switch")
        await self._control.switch(on=True)

    async def deactivate_kill_switch(self) -> None:
        """Have Dhan take orders again."""
        self._need(Capability.KILL_SWITCH, "kill switch")
        await self._control.switch(on=False)

    async def kill_switch_active(self) -> bool:
        """Say whether Dhan refuses orders now."""
        self._need(Capability.KILL_SWITCH, "kill switch")
        return await self._control.is_on()

    async def exit_all(self) -> None:
        """Have Dhan close every position and cancel every open order of the account; read the book afterwards.

        Whether pending orders go too is told differently by two copies of the documentation. What goes
        wrong raises as for an order, with ``client_order_id`` "positions".
        """
        self._need(Capability.KILL_SWITCH, "exit-all")
        await self._control.exit_all()

    async def set_pnl_exit(
        self,
        *,
        profit: Decimal | str | int,
        loss: Decimal | str | int,
        products: Collection[Product] = (Product.INTRADAY, Product.DELIVERY),
        kill_switch: bool = False,
    ) -> None:
        """Have Dhan close positions once the day's P&L reaches ``profit`` or falls to ``-loss``, in rupees.

        It fires at once where that is so already, ends with the day, and can activate the kill switch too.
        """
        self._need(Capability.KILL_SWITCH, "P&L exit")
        await self._control.set_pnl_exit(profit=profit, loss=loss, products=products, kill_switch=kill_switch)

    async def cancel_pnl_exit(self) -> None:
        """End the P&L exit."""
        self._need(Capability.KILL_SWITCH, "P&L exit")
        await self._control.cancel_pnl_exit()

    async def pnl_exit(self) -> PnlExit | None:
        """Return the P&L exit in force, or None."""
        self._need(Capability.KILL_SWITCH, "P&L exit")
        return await self._control.pnl_exit()

    async def trade_history(self, *, start: date, end: date) -> Sequence[PastTrade]:
        """Return the executions of past days with what was billed for each, oldest first."""
        return await self._statements.trade_history(start=start, end=end)

    async def ledger(self, *, start: date, end: date) -> Sequence[LedgerEntry]:
        """Return the ledger's lines of these days, in Dhan's order."""
        return await self._statements.ledger(start=start, end=end)

    async def edis_approval(self, instrument: Instrument) -> EdisApproval:
        """Return how many units of a share may leave the demat account today without a DDPI."""
        if instrument.isin is None:
            raise Unsupported(f"{instrument.id} has no ISIN, so it is in no demat account")
        return await self._delivery.approval(instrument.isin)
