"""Dhan on the loopback interface, written from Dhan's documentation and recorded answers.

Nothing here imports the client: an emulator that shares code with the client it tests can
only prove that the client agrees with itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterable
from datetime import time, timedelta
from decimal import Decimal
from typing import Any, Final, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from hybridbroker.clock import Clock, to_epoch_ms
from hybridbroker.domain.portfolio import Holding
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.base import Emulator
from hybridbroker.testing.emulators.dhan_book import DhanBook
from hybridbroker.testing.emulators.dhan_orders import Refusal, read_json, read_order
from hybridbroker.testing.emulators.dhan_rows import (
    Entry,
    alert,
    funds_row,
    holding_row,
    order_row,
    position_row,
    trade_row,
)
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.order_socket import OrderSocket
from hybridbroker.testing.emulators.steps import Step

__all__ = ["DhanEmulator"]

_ERRORS: Final = {
    400: ("Input_Exception", "DH-905", "Missing required fields, bad values for parameters etc."),
    401: ("Invalid_Authentication", "DH-901", "Client ID or user generated access token is invalid or expired."),
    403: ("Access_Denied", "DH-902", "User has not subscribed to Data APIs or does not have access to Trading APIs."),
    429: ("Rate_Limit", "DH-904", "Too many requests on server from single user breaching rate limits."),
    500: ("Internal_Server_Error", "DH-908", "Server was not able to process API request."),
}


class DhanEmulator(Emulator):
    """The Dhan calls that trading needs: orders, trades, positions, holdings, funds, profile, order updates.

    Orders rest in a `SimulatedExchange` and fill as the market moves. A place call answers
    ``TRANSIT``, whatever becomes of the order; what the exchange refuses shows as
    ``REJECTED`` in the book. Not played: slicing, super and forever orders, eDIS,
    statements, and modifications that change the order type.

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
        single_as_array: Answer one order as an array of one, as production was recorded to
            do, or as the bare object of the documentation.
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
        keep_alive: float = 5.0,
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(market, keep_alive=keep_alive, port=port, clock=clock)
        self.client_id = client_id
        self.access_token = access_token or f"emulated-{secrets.token_hex(12)}"
        self.transit = transit
        self.exchange = exchange or SimulatedExchange(
            cash=cash, holdings=holdings, charges=charges, square_off=square_off, clock=market.clock
        )
        self._single_as_array = single_as_array
        self._book = DhanBook(market, self.exchange, tell=self._tell)
        self._sockets: set[OrderSocket] = set()
        self._travelling: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for listed in self.market.listed:
            if (tick := self.market.tick(listed)) is not None:
                self.exchange.on_tick(tick, at=self.market.now)
        # Before the feed: whoever acts on a tick meets an exchange that has seen it.
        self.market.listen(self._on_step, first=True)
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        self.market.ignore(self._on_step)
        for task in tuple(self._travelling):
            task.cancel()
        await super().__aexit__(*exc)

    @property
    def rest_url(self) -> str:
        """Return the base URL of the REST calls, which ends in ``/v2``."""
        return f"http://{self.address}/v2"

    @property
    def order_updates_url(self) -> str:
        """Return the URL of the order-update socket."""
        return f"ws://{self.address}"

    @property
    def update_sockets(self) -> int:
        """Return how many order-update sockets are logged in."""
        return sum(each.logged_in for each in self._sockets)

    def book(self) -> list[dict[str, Any]]:
        """Return the day's order rows, as ``GET /orders`` answers them."""
        return [order_row(each, self.client_id) for each in self._book.today()]

    def release(self) -> None:
        """Let every order in transit reach the exchange."""
        for entry in self._book.today():
            if entry.status == "TRANSIT":
                self._book.arrive(entry)

    def send_update(self, frame: bytes | str) -> None:
        """Send a frame, well-formed or not, to everyone who is logged in for order updates."""
        for each in self._sockets:
            if each.logged_in:
                each.put(frame)

    def _build(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/v2/orders", self._call(self._place), methods=["POST"]),
                Route("/v2/orders", self._call(self._orders)),
                Route("/v2/orders/external/{name}", self._call(self._external)),
                Route("/v2/orders/{id}", self._call(self._modify), methods=["PUT"]),
                Route("/v2/orders/{id}", self._call(self._cancel), methods=["DELETE"]),
                Route("/v2/orders/{id}", self._call(self._order)),
                Route("/v2/trades", self._call(self._trades)),
                Route("/v2/trades/{id}", self._call(self._trades)),
                Route("/v2/positions", self._call(self._positions)),
                Route("/v2/holdings", self._call(self._holdings)),
                Route("/v2/fundlimit", self._call(self._funds)),
                Route("/v2/profile", self._call(self._profile)),
                WebSocketRoute("/", self._updates),
            ],
            exception_handlers={404: self._not_found},
        )

    def _error_body(self, status: int) -> bytes:
        kind, code, message = _ERRORS.get(status, _ERRORS[500])
        return json.dumps({"errorType": kind, "errorCode": code, "errorMessage": message}).encode()

    def _call(self, answer: Callable[[Request, bytes], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            try:
                self._authorise(request)
                return JSONResponse(answer(request, await request.body()))
            except Refusal as refusal:
                return JSONResponse(refusal.body, refusal.status)

        return endpoint

    def _authorise(self, request: Request) -> None:
        headers = request.headers
        good = headers.get("access-token") == self.access_token
        if good and headers.get("client-id", self.client_id) == self.client_id:
            return
        if request.url.path == "/v2/profile":
            raise Refusal.order("Invalid Token")  # recorded: this call says it in its own way
        raise Refusal.bad_login()

    def _place(self, _: Request, body: bytes) -> object:
        fields = read_json(body)
        listed = self.market.by_id(str(fields.get("exchangeSegment")), str(fields.get("securityId")))
        entry = self._book.enter(read_order(fields, client_id=self.client_id, listed=listed))
        if not entry.terms.after_market:
            self._send_off(entry)
        return {"orderId": entry.id, "orderStatus": "TRANSIT"}

    def _modify(self, request: Request, body: bytes) -> object:
        entry = self._book.modify(request.path_params["id"], read_json(body), client_id=self.client_id)
        return {"orderId": entry.id, "orderStatus": "TRANSIT"}

    def _cancel(self, request: Request, _: bytes) -> object:
        entry = self._book.cancel(request.path_params["id"])
        return {"orderId": entry.id, "orderStatus": "CANCELLED"}

    def _orders(self, _: Request, __: bytes) -> object:
        return self.book()

    def _order(self, request: Request, _: bytes) -> object:
        entry = self._book.get(request.path_params["id"])
        return self._single(entry) if entry else []

    def _external(self, request: Request, _: bytes) -> object:
        entry = self._book.find(request.path_params["name"])
        if entry is None:
            raise Refusal.order(status=404)
        return self._single(entry)

    def _single(self, entry: Entry) -> object:
        row = order_row(entry, self.client_id)
        return [row] if self._single_as_array else row

    def _trades(self, request: Request, _: bytes) -> object:
        wanted = request.path_params.get("id")
        return [
            trade_row(trade, entry, self.client_id)
            for trade, entry in self._book.trades()
            if wanted in {None, entry.id}
        ]

    def _positions(self, _: Request, __: bytes) -> object:
        return [
            position_row(each, self.market.by_instrument(each.instrument), self.client_id)
            for each in self.exchange.positions()
        ]

    def _holdings(self, _: Request, __: bytes) -> object:
        rows = [holding_row(each, self.market.by_instrument(each.instrument)) for each in self.exchange.holdings()]
        if not rows:
            raise Refusal(500, "DH-1111", "HOLDING_ERROR", "No holdings available")
        return rows

    def _funds(self, _: Request, __: bytes) -> object:
        return funds_row(self.exchange.funds(), self.client_id)

    def _profile(self, _: Request, __: bytes) -> object:
        now = self.market.now
        return {
            "dhanClientId": self.client_id,
            "tokenValidity": f"{now + timedelta(days=1):%d/%m/%Y %H:%M}",
            "activeSegment": "E, D, C, M, ",
            "ddpi": "Active",
            "mtf": "Deactive",
            "dataPlan": "Active",
            "dataValidity": f"{now + timedelta(days=30):%Y-%m-%d %H:%M:%S}.0",
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

    def _accepts_login(self, client_id: str, token: str) -> bool:
        return client_id == self.client_id and token == self.access_token

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
        if not self._sockets:
            return
        tick = self.market.tick(entry.terms.listed)
        last = tick.last_price if tick else 0.0
        self.send_update(json.dumps(alert(entry, self.client_id, at=self.market.now, last_price=last)))

    async def _on_step(self, step: Step) -> None:
        self._book.step(step)

    async def _not_found(self, request: Request, _: Exception) -> Response:
        now = to_epoch_ms(self._clock.now())
        body = {"timestamp": now, "status": 404, "error": "Not Found", "path": request.url.path}
        return JSONResponse(body, 404)
