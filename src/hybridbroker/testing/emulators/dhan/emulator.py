"""Dhan on the loopback interface, written from Dhan's documentation and recorded answers.

Nothing here imports the client: an emulator that shares code with the client it tests can
only prove that the client agrees with itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable
from datetime import time, timedelta
from decimal import Decimal
from typing import Any, Final, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from hybridbroker.clock import Clock, SystemClock, to_epoch_ms
from hybridbroker.domain.portfolio import Holding
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.base import Emulator
from hybridbroker.testing.emulators.dhan.account import DhanAccount
from hybridbroker.testing.emulators.dhan.book import DhanBook
from hybridbroker.testing.emulators.dhan.data import data_routes
from hybridbroker.testing.emulators.dhan.feed import FEED_PATH, DhanFeed
from hybridbroker.testing.emulators.dhan.forevers import DhanForevers
from hybridbroker.testing.emulators.dhan.gates import Call, DhanGates
from hybridbroker.testing.emulators.dhan.habits import DhanHabits
from hybridbroker.testing.emulators.dhan.login import DhanLogin
from hybridbroker.testing.emulators.dhan.order_socket import OrderSocket
from hybridbroker.testing.emulators.dhan.orders import Refusal, read_json, read_order
from hybridbroker.testing.emulators.dhan.postback import Postman
from hybridbroker.testing.emulators.dhan.rows import Entry, alert, order_row, postback, trade_row
from hybridbroker.testing.emulators.dhan.supers import DhanSupers
from hybridbroker.testing.emulators.faults import Fault
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.steps import Step

__all__ = ["DhanEmulator"]

_ERRORS: Final = {
    400: ("Input_Exception", "DH-905", "Missing required fields, bad values for parameters etc."),
    401: ("Invalid_Authentication", "DH-901", "Client ID or user generated access token is invalid or expired."),
    403: ("Access_Denied", "DH-902", "User has not subscribed to Data APIs or does not have access to Trading APIs."),
    429: ("Rate_Limit", "DH-904", "Too many requests on server from single user breaching rate limits."),
    500: ("Internal_Server_Error", "DH-908", "Server was not able to process API request."),
}
_NOT_IN_SANDBOX: Final = (
    "/v2/super/", "/v2/pnlExit", "/v2/ip/", "/v2/RenewToken", "/v2/margincalculator/multi", "/v2/marketfeed/",
    "/v2/optionchain",
)  # fmt: skip
_TOKEN_EXPIRED: Final = 807
_UNSETTLED: Final = Fault.answer(json.dumps(Refusal.order().body).encode(), status=500)


class DhanEmulator(Emulator):
    """Dhan's API: orders of all kinds, portfolio, funds, statements, switches, login, order updates, market data.

    Orders rest in a `SimulatedExchange` and fill as the market moves. A place call answers
    ``TRANSIT``, whatever becomes of the order; what the exchange refuses shows as
    ``REJECTED`` in the book. `habits` changes how it behaves while it runs. Day orders die at
    the close, forever orders and the exits of super orders live on, and delivery purchases are
    unsettled holdings at the next opening. Not played: conditional triggers, baskets, legacy
    bracket and cover orders, global stocks, super orders with one exit only.

    Args:
        market: What trades; shared with the Upstox emulator.
        cash: Rupees in the account.
        holdings: Shares in the account.
        charges: What trading costs; nothing unless given.
        exchange: An exchange of one's own, in place of ``cash``, ``holdings``, ``charges``
            and ``square_off``.
        square_off: When intraday positions are closed, in IST; never unless given.
        transit: Seconds of real time that an order needs to the exchange; 0 has it there
            right after the reply, None keeps it in transit until `release`.
        single_as_array: As in `DhanHabits`.
        habits: How it behaves; the documented way unless given.
        login: The login server of the account; ``access_token`` is added to its tokens.
        autoplay: Whether the market begins to play at the feed's first subscription.
        sandbox: Play the sandbox: nothing ever matches, and only its calls are there (measured).
    """

    def __init__(
        self,
        market: EmulatedMarket,
        *,
        cash: Decimal = Decimal(100_000),
        holdings: Iterable[Holding] = (),
        charges: ChargeSchedule | None = None,
        square_off: time | None = None,
        exchange: SimulatedExchange | None = None,
        client_id: str = "1100000001",
        access_token: str | None = None,
        transit: float | None = 0.0,
        single_as_array: bool = True,
        habits: DhanHabits | None = None,
        login: DhanLogin | None = None,
        sandbox: bool = False,
        autoplay: bool = True,
        keep_alive: float = 5.0,
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.habits = habits or DhanHabits(single_as_array=single_as_array)
        self.login = login or DhanLogin(clock, client_id=client_id)
        self.login.tokens.add(access_token or f"emulated-{secrets.token_hex(12)}")
        self.client_id = self.login.client_id
        self.sandbox = sandbox
        self.transit = transit
        self.postman = Postman()
        """Sends the postbacks to `DhanHabits.postback_url`."""
        self.exchange = exchange or SimulatedExchange(
            cash=cash, holdings=holdings, charges=charges, square_off=square_off, clock=market.clock
        )
        self.gates = DhanGates(self.login, habits=self.habits, clock=clock, is_killed=lambda: self.account.is_killed)
        self.feed = DhanFeed(
            market,
            accepts=self._accepts_login,
            has_plan=lambda: self.login.data_plan == "Active",
            autoplay=autoplay,
        )
        """The live market feed: its sockets, and ways of hanging up."""
        self._book = book = DhanBook(market, self.exchange, habits=self.habits, tell=self._tell, sandbox=sandbox)
        self.account = DhanAccount(
            market,
            self.exchange,
            book,
            habits=self.habits,
            client_id=self.client_id,
            address=self.gates.address,
            charges=charges,
            sandbox=sandbox,
        )
        self._supers = DhanSupers(
            market,
            self.exchange,
            book,
            habits=self.habits,
            gates=self.gates,
            client_id=self.client_id,
            send_off=self._send_off,
        )
        self._forevers = DhanForevers(
            market, self.exchange, book, habits=self.habits, gates=self.gates, client_id=self.client_id
        )
        self._sockets: set[OrderSocket] = set()
        self._travelling: set[asyncio.Task[None]] = set()
        super().__init__(market, keep_alive=keep_alive, port=port, clock=clock)

    async def __aenter__(self) -> Self:
        for listed in self.market.listed:
            if not self.sandbox and (tick := self.market.tick(listed)) is not None:
                self.exchange.on_tick(tick, at=self.market.now)
        # Before the feed: whoever acts on a tick meets an exchange that has seen it.
        self.market.listen(self._on_step, first=True)
        self.market.listen(self.feed.on_step)
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        self.market.ignore(self._on_step)
        self.market.ignore(self.feed.on_step)
        for task in tuple(self._travelling):
            task.cancel()
        await self.postman.stop()
        await super().__aexit__(*exc)

    @property
    def access_token(self) -> str:
        """Return the newest access token; at Dhan it is the only one that lives."""
        newest = self.login.tokens.newest
        assert newest is not None  # noqa: S101 - one was made at the start
        return newest.value

    @property
    def rest_url(self) -> str:
        """Return the base URL of the REST calls, which ends in ``/v2``."""
        return f"http://{self.address}/v2"

    @property
    def auth_url(self) -> str:
        """Return the base URL of the login server."""
        return f"http://{self.address}"

    @property
    def order_updates_url(self) -> str:
        """Return the URL of the order-update socket."""
        return f"ws://{self.address}"

    @property
    def feed_url(self) -> str:
        """Return the URL of the market feed, to which a client adds its token as the query."""
        return f"ws://{self.address}{FEED_PATH}"

    @property
    def update_sockets(self) -> int:
        """Return how many order-update sockets are logged in."""
        return sum(each.logged_in for each in self._sockets)

    def book(self) -> list[dict[str, Any]]:
        """Return the day's order rows, as ``GET /orders`` answers them."""
        return [order_row(each, self.client_id) for each in self._book.today()]

    def super_orders(self) -> list[dict[str, Any]]:
        """Return the rows of ``GET /super/orders``."""
        return self._supers.rows()

    def forever_orders(self) -> list[dict[str, Any]]:
        """Return the rows of ``GET /forever/orders``, one per leg."""
        return self._forevers.rows()

    def release(self) -> None:
        """Let every order in transit reach the exchange."""
        for entry in self._book.today():
            if entry.status == "TRANSIT":
                self._book.arrive(entry)

    def unsettle(self, times: int) -> None:
        """Have the next ``times`` reads and cancellations of orders fail with 500 DH-906, as measured in the sandbox.

        Such a cancellation is not carried out.
        """
        self.faults.add("[GD]E*T* /v2/orders*", _UNSETTLED, times=times)

    def new_token(self) -> str:
        """Make a token as a person does on the web: every older one is dead (documented).

        Sockets that were opened with one are hung up on, the feed's with 807 (our reading).
        """
        token = self.login.make_on_the_web()
        for each in tuple(self._sockets):
            each.refuse()
        self.feed.disconnect(_TOKEN_EXPIRED)
        return token

    def send_update(self, frame: bytes | str) -> None:
        """Send a frame, well-formed or not, to everyone who is logged in for order updates."""
        for each in self._sockets:
            if each.logged_in:
                each.put(frame)

    def _build(self) -> ASGIApp:
        calls = [*self._calls(), *self._supers.calls(), *self._forevers.calls(), *self.account.calls()]
        data = data_routes(
            self.market,
            authorise=self.gates.token,
            has_plan=lambda: self.login.data_plan == "Active",
            rate=self.gates.rate,
        )
        routes = [*map(self.gates.route, calls), *data, *self.login.routes(account=False)]
        if self.sandbox:
            routes = [each for each in routes if not each.path.startswith(_NOT_IN_SANDBOX) and not _is_absent(each)]
        sockets = [WebSocketRoute("/", self._updates), WebSocketRoute(FEED_PATH, self._feed)]
        return Starlette(routes=[*routes, *sockets], exception_handlers={404: self._not_found, 405: self._not_found})

    def _calls(self) -> list[Call]:
        return [
            Call("POST", "/orders", self._place, family="order"),
            Call("POST", "/orders/slicing", self._slice, family="order"),
            Call("GET", "/orders", lambda *_: self.book()),
            Call("GET", "/orders/external/{name}", self._external),
            Call("PUT", "/orders/{id}", self._modify, family="order"),
            Call("DELETE", "/orders/{id}", self._cancel, family="order"),
            Call("GET", "/orders/{id}", self._order),
            Call("GET", "/trades", self._trades),
            Call("GET", "/trades/", self._trades),
            Call("GET", "/trades/{id}", self._trades),
            Call("GET", "/profile", self._profile),
        ]

    def _error_body(self, status: int) -> bytes:
        kind, code, message = _ERRORS.get(status, _ERRORS[500])
        return json.dumps({"errorType": kind, "errorCode": code, "errorMessage": message}).encode()

    def _place(self, _: Request, body: bytes) -> object:
        (entry,) = self._take(body, sliced=False)
        return JSONResponse({"orderId": entry.id, "orderStatus": "TRANSIT"}, self.habits.accepted_status)

    def _slice(self, _: Request, body: bytes) -> object:
        rows = [{"orderId": each.id, "orderStatus": "TRANSIT"} for each in self._take(body, sliced=True)]
        return JSONResponse(rows, self.habits.accepted_status)

    def _take(self, body: bytes, *, sliced: bool) -> list[Entry]:
        fields = read_json(body)
        listed = self.market.by_id(str(fields.get("exchangeSegment")), str(fields.get("securityId")))
        terms = read_order(fields, client_id=self.client_id, listed=listed, address=self._address)
        self.gates.switch()
        self.account.check_money(terms)
        entries = [self._book.enter(each) for each in (terms.slices() if sliced else [terms])]
        for entry in entries:
            if not entry.terms.after_market:
                self._send_off(entry)
        return entries

    def _address(self) -> None:
        if not self.sandbox:
            self.gates.address()

    def _modify(self, request: Request, body: bytes) -> object:
        fields = read_json(body)
        self._address()
        entry = self._book.modify(request.path_params["id"], fields, client_id=self.client_id)
        return {"orderId": entry.id, "orderStatus": "TRANSIT"}

    def _cancel(self, request: Request, _: bytes) -> object:
        self._address()
        entry = self._book.cancel(request.path_params["id"])
        return JSONResponse({"orderId": entry.id, "orderStatus": "CANCELLED"}, self.habits.cancelled_status)

    def _order(self, request: Request, _: bytes) -> object:
        entry = self._book.get(request.path_params["id"])
        return self._single(entry) if entry else []

    def _external(self, request: Request, _: bytes) -> object:
        entry = self._book.find(request.path_params["name"])
        if entry is None:
            raise Refusal.order(status=self.habits.missing_status)
        return self._single(entry)

    def _single(self, entry: Entry) -> object:
        row = order_row(entry, self.client_id)
        return [row] if self.habits.single_as_array or self.sandbox else row

    def _trades(self, request: Request, _: bytes) -> object:
        self.account.stub("TRADE_RESOURCE_ERROR")
        wanted = request.path_params.get("id")
        rows = [
            trade_row(trade, entry, self.client_id)
            for trade, entry in self._book.trades()
            if wanted in {None, entry.id}
        ]
        alone = wanted is not None and len(rows) == 1 and self.habits.trade_as_object
        return rows[0] if alone else rows

    def _profile(self, _: Request, __: bytes) -> object:
        newest = self.login.tokens.newest
        left = newest.expires_at - self._clock.now() if newest else timedelta()
        ends = self.market.now + timedelta(minutes=round(left / timedelta(minutes=1)))
        common = {"dhanClientId": self.client_id, "tokenValidity": f"{ends:%d/%m/%Y %H:%M}"}
        if self.sandbox:
            words = "Equity, Derivative, Currency, Commodity"
            return {**common, "activeSegment": words, "ddpi": "Deactive", "dataPlan": "Deactive"}
        return {
            **common,
            "activeSegment": self.login.segments,
            "ddpi": self.login.ddpi if self.habits.ddpi else "Deactive",
            "mtf": "Deactive",
            "dataPlan": self.login.data_plan,
            "dataValidity": f"{self.market.now + timedelta(days=30):%Y-%m-%d %H:%M:%S}.0",
        }

    async def _updates(self, websocket: WebSocket) -> None:
        await websocket.accept()
        peer = (websocket.scope["client"][0], websocket.scope["client"][1])
        socket = OrderSocket(
            websocket, accepts=self._accepts_login, refuse=lambda: self._server.drop(peer, with_reset=True)
        )
        self._sockets.add(socket)
        try:
            await socket.serve()
        finally:
            self._sockets.discard(socket)

    async def _feed(self, websocket: WebSocket) -> None:
        peer = (websocket.scope["client"][0], websocket.scope["client"][1])
        await self.feed.serve(websocket, reset=lambda: self._server.drop(peer, with_reset=True))

    def _accepts_login(self, client_id: str, token: str) -> bool:
        return not self.sandbox and client_id == self.client_id and self.login.tokens.is_valid(token)

    def _send_off(self, entry: Entry) -> None:
        loop = asyncio.get_running_loop()
        if self.transit == 0:
            loop.call_soon(self._book.arrive, entry)
        elif self.transit is not None:
            task = loop.create_task(self._travel(entry, self.transit))
            self._travelling.add(task)
            task.add_done_callback(self._travelling.discard)

    async def _travel(self, entry: Entry, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._book.arrive(entry)

    def _tell(self, entry: Entry) -> None:
        if self.habits.postback_url is not None:
            self.postman.post(self.habits.postback_url, postback(entry, self.client_id))
        if not self._sockets:
            return
        tick = self.market.tick(entry.terms.listed)
        last = tick.last_price if tick else 0.0
        told = alert(entry, self.client_id, at=self.market.now, last_price=last, habits=self.habits)
        self.send_update(json.dumps(told))

    async def _on_step(self, step: Step) -> None:
        self._book.step(step)
        self.account.watch()

    async def _not_found(self, request: Request, _: Exception) -> Response:
        now = to_epoch_ms(self._clock.now())
        body = {"timestamp": now, "status": 404, "error": "Not Found", "path": request.url.path}
        return JSONResponse(body, 404)


def _is_absent(route: Route) -> bool:
    """Say whether the sandbox lacks one method of a call that it has (measured)."""
    methods = route.methods or set()
    return ("GET" in methods and route.path == "/v2/killswitch") or (
        "DELETE" in methods and route.path == "/v2/positions"
    )
