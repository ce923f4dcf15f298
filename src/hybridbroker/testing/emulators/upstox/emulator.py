"""Upstox on the loopback interface, written from Upstox's documentation and recorded frames.

Nothing here imports the client: an emulator that shares code with the client it tests can
only prove that the client agrees with itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Final, Literal, Self

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.calendar import TradingCalendar
from hybridbroker.domain.portfolio import Holding
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.base import Emulator
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.server import Peer
from hybridbroker.testing.emulators.steps import Step
from hybridbroker.testing.emulators.upstox.answers import STATUS_ERRORS, Call, Refusal, error, one_error, success
from hybridbroker.testing.emulators.upstox.calendar import UpstoxCalendar
from hybridbroker.testing.emulators.upstox.candles import UpstoxCandles
from hybridbroker.testing.emulators.upstox.desk import UpstoxDesk
from hybridbroker.testing.emulators.upstox.feed import FEED_PATH, PLANS, FeedHub, OneTimeCodes
from hybridbroker.testing.emulators.upstox.gates import SANDBOX_PATHS, Gates, Need, Rule, Tokens, bearer
from hybridbroker.testing.emulators.upstox.login import UpstoxLogin
from hybridbroker.testing.emulators.upstox.options import UpstoxOptions
from hybridbroker.testing.emulators.upstox.quotes import UpstoxQuotes
from hybridbroker.testing.emulators.upstox.stream import STREAM_PATH, read_update_types

__all__ = ["UpstoxEmulator"]

_BANNED: Final = "<html><head><title>Access denied</title></head><body>error code: 1010</body></html>"
_MTF_CASH: Final = Decimal(1_000_000)


class UpstoxEmulator(Emulator):
    """Upstox: login, feed, data, orders, GTT orders, portfolio and account, as documented.

    The market starts to play at the first subscription, unless ``autoplay`` is off. Orders
    rest in a `SimulatedExchange` and fill as the market moves. What the documentation leaves
    open is answered like this: a used or foreign feed URL with ``used_url_status``; a refused
    request on the feed with a JSON text frame; unknown keys with silence.

    Its parts are open to tests: ``login`` (dialog, token request, addresses), ``tokens``,
    ``gates`` (static IP, algo names, rate limits), ``feed`` (key limits, repeats), ``desk``
    with its ``book``, ``trading``, ``gtt``, ``account`` and ``stream``.

    Args:
        market: What trades; shared with the Dhan emulator.
        batch: Most instruments in one frame.
        access_token: The bearer token; a random one unless given. Assign another one and
            the old is refused from then on.
        used_url_status: 401 or 403, both of which users report.
        plan: ``"normal"`` or ``"plus"`` enforces that plan's documented sockets and keys; None allows anything.
        excess: What becomes of a subscription beyond the plan: a refusal in words, silence for
            the keys too many, or the end of the socket (all unconfirmed).
        cash: Rupees in the account.
        holdings: Shares in the account.
        charges: What trading costs; nothing unless given.
        square_off: When intraday positions are closed, in IST; never unless given.
        exchange: An exchange of one's own, in place of ``cash``, ``holdings``, ``charges`` and ``square_off``.
        mtf_cash: Rupees that MTF purchases may use.
        transit: Seconds that an order stays in each early status, and a change in its own; 0
            passes through all of them right after the reply, None waits for `release`.
        sandbox: Serve the seven sandbox calls and nothing else.
        calendar: What the calendar calls answer from; the built-in one unless given.
    """

    def __init__(
        self,
        market: EmulatedMarket,
        *,
        batch: int = 50,
        access_token: str | None = None,
        autoplay: bool = True,
        used_url_status: int = 403,
        plan: Literal["normal", "plus"] | None = None,
        excess: Literal["refuse", "ignore", "close"] = "refuse",
        cash: Decimal = Decimal(100_000),
        holdings: Iterable[Holding] = (),
        charges: ChargeSchedule | None = None,
        square_off: time | None = None,
        exchange: SimulatedExchange | None = None,
        mtf_cash: Decimal = _MTF_CASH,
        transit: float | None = 0.0,
        sandbox: bool = False,
        calendar: TradingCalendar | None = None,
        keep_alive: float = 5.0,
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        timer = clock or SystemClock()
        self.login = UpstoxLogin(timer)
        self.tokens = Tokens(self.login.tokens, timer, access_token or f"emulated-{secrets.token_hex(12)}")
        self.gates = Gates(self.tokens, timer, sandbox=sandbox)
        self.feed = FeedHub(
            market, batch=batch, autoplay=autoplay, plan=None if plan is None else PLANS[plan], excess=excess
        )
        self.exchange = exchange or SimulatedExchange(
            cash=cash, holdings=holdings, charges=charges, square_off=square_off, clock=market.clock
        )
        self.desk = UpstoxDesk(
            market,
            self.exchange,
            mtf_cash=mtf_cash,
            charges=charges,
            user_id=self.login.user_id,
            transit=transit,
            token=lambda: self.access_token,
            clock=timer,
        )
        self._calendar = calendar or TradingCalendar()
        self._used_url_status = used_url_status
        self._stream_codes = OneTimeCodes()
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(market, keep_alive=keep_alive, port=port, clock=timer)

    async def __aenter__(self) -> Self:
        self.desk.open()
        # First: whoever acts on a tick meets an exchange that has seen it.
        self.market.listen(self.desk.on_step, first=True)
        self.market.listen(self._on_step)
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        self.market.ignore(self.desk.on_step)
        self.market.ignore(self._on_step)
        if self._timer is not None:
            self._timer.cancel()
        await self.desk.close()
        await super().__aexit__(*exc)
        await self.market.stop()

    @property
    def access_token(self) -> str:
        """The bearer token that does everything; assign another one and the old is refused from then on."""
        return self.tokens.access

    @access_token.setter
    def access_token(self, token: str) -> None:
        self.tokens.access = token

    @property
    def user_id(self) -> str:
        """Return whose account it is."""
        return self.login.user_id

    @property
    def rest_url(self) -> str:
        """Return the base URL of the REST calls, orders included."""
        return f"http://{self.address}"

    @property
    def feed_url(self) -> str:
        """Return the URL that redirects a WebSocket handshake to the market feed."""
        return f"ws://{self.address}/v3/feed/market-data-feed"

    @property
    def portfolio_url(self) -> str:
        """Return the URL that redirects a WebSocket handshake to the portfolio stream."""
        return f"ws://{self.address}/v2/feed/portfolio-stream-feed"

    @property
    def feed_sockets(self) -> int:
        """Return how many sockets of the market feed are open."""
        return len(self.feed.sockets)

    @property
    def portfolio_sockets(self) -> int:
        """Return how many sockets of the portfolio stream are open."""
        return len(self.desk.stream.sockets)

    @property
    def subscriptions(self) -> Mapping[str, str]:
        """Return the mode of every key that some socket is subscribed to."""
        return self.feed.subscriptions

    @property
    def unknown_keys(self) -> list[str]:
        """Return the keys that were subscribed and that the market does not list."""
        return self.feed.unknown_keys

    @property
    def dropped(self) -> int:
        """Return how many frames were not sent because a client was too far behind."""
        return self.feed.dropped

    @property
    def transit(self) -> float | None:
        """Seconds in each early status; None waits for `release`."""
        return self.desk.transit

    @transit.setter
    def transit(self, seconds: float | None) -> None:
        self.desk.transit = seconds

    def book(self) -> list[dict[str, Any]]:
        """Return the day's order rows, as the order book call answers them."""
        return self.desk.rows()

    def release(self) -> None:
        """Carry every order and every change to its end, now."""
        self.desk.release()

    def refuse_changes(self, *reasons: str) -> None:
        """Have the exchange refuse the next modifications or cancellations, one for each reason."""
        self.desk.book.refusals.extend(reasons)

    def roll_over(self, *, at: datetime | None = None, token: str | None = None) -> str:
        """Have a new access token take the old one's place at an instant, now unless given; return it.

        From that instant of the emulator's clock on the old one is refused, and the sockets
        that are open then are cut (whether they are is unconfirmed).
        """
        new = token or f"emulated-{secrets.token_hex(12)}"
        instant = at or self._clock.now()
        self.tokens.replace(new, instant)
        self._wait_for(instant)
        return new

    def _wait_for(self, instant: datetime) -> None:
        """Roll over at an instant even if nothing happens; every request and step looks too, for clocks that jump."""
        self._roll()
        wait = (instant - self._clock.now()).total_seconds()
        if wait > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._wait_for, instant)

    async def send_raw(self, frame: bytes | str) -> None:
        """Send a frame, well-formed or not, to every feed socket, after what is queued already."""
        await self.feed.send(frame)

    async def send_feeds(self, feeds: Mapping[str, pb.Feed], *, snapshot: bool = False) -> None:
        """Send entries as they are, whole or partial, to every feed socket, subscribed or not."""
        await self.feed.send_feeds(feeds, snapshot=snapshot)

    async def close_feeds(self, code: int = 1000) -> None:
        """Close every feed socket with a close frame."""
        await self.feed.close(code)

    def send_update(self, frame: bytes | str) -> None:
        """Send a frame, well-formed or not, to every socket of the portfolio stream."""
        self.desk.stream.send(frame)

    def _build(self) -> ASGIApp:
        routes: list[BaseRoute] = [] if self.gates.sandbox else list(self.login.routes())
        routes += [
            Route(rule.path, self._endpoint(rule), methods=[rule.method])
            for rule in self._rules()
            if not self.gates.sandbox or rule.path in SANDBOX_PATHS
        ]
        if not self.gates.sandbox:
            routes += [
                WebSocketRoute("/v3/feed/market-data-feed", self._redirect_feed),
                WebSocketRoute(FEED_PATH, self._feed),
                WebSocketRoute("/v2/feed/portfolio-stream-feed", self._redirect_stream),
                WebSocketRoute(STREAM_PATH, self._stream),
            ]
        return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})

    def _rules(self) -> Iterable[Rule]:
        yield from self.desk.rules()
        for part in (UpstoxQuotes, UpstoxOptions, UpstoxCandles):
            yield from part(self.market).rules()
        yield from UpstoxCalendar(self.market, self._calendar).rules()
        yield Rule("GET", "/v3/feed/market-data-feed/authorize", self._authorize_feed, Need.DATA)
        yield Rule("GET", "/v3/feed/market-data-feed", self._go_to_feed, Need.DATA)
        yield Rule("GET", "/v2/feed/portfolio-stream-feed/authorize", self._authorize_stream, Need.CONTROL)
        yield Rule("GET", "/v2/feed/portfolio-stream-feed", self._go_to_stream, Need.CONTROL)

    def _endpoint(self, rule: Rule) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def endpoint(request: Request) -> Response:
            if self.gates.bans(request.headers):
                return HTMLResponse(_BANNED, 403)
            try:
                self.gates.check(rule, request.headers, peer=request.client.host if request.client else "")
                return rule.answer(await self._call(request))
            except Refusal as refusal:
                return JSONResponse(refusal.body, refusal.status)

        return endpoint

    async def _call(self, request: Request) -> Call:
        return Call(
            query=request.query_params,
            params=request.path_params,
            body=await request.body(),
            host=request.headers.get("host", self.address),
            token=bearer(request.headers),
        )

    def _error_body(self, status: int) -> bytes:
        code = STATUS_ERRORS.get(status, "UDAPI100500")
        return json.dumps({"status": "error", "errors": [one_error(code)]}).encode()

    async def _gate(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._roll()
        await super()._gate(scope, receive, send)

    def _authorize_feed(self, call: Call) -> Response:
        return _authorized(self.feed.codes.url(call.host, FEED_PATH))

    def _authorize_stream(self, call: Call) -> Response:
        return _authorized(self._stream_url(call.host, call.query.get("update_types", "")))

    def _go_to_feed(self, call: Call) -> Response:
        return RedirectResponse(self.feed.codes.url(call.host, FEED_PATH), 302)

    def _go_to_stream(self, call: Call) -> Response:
        return RedirectResponse(self._stream_url(call.host, call.query.get("update_types", "")), 302)

    def _stream_url(self, host: str, types: str) -> str:
        wanted = "%2C".join(sorted(read_update_types(types)))
        return self._stream_codes.url(host, STREAM_PATH, f"&update_types={wanted}")

    async def _redirect_feed(self, websocket: WebSocket) -> None:
        if not self.gates.may_stream(bearer(websocket.headers)):
            await websocket.send_denial_response(error("UDAPI100050", status=401))
            return
        await websocket.send_denial_response(
            RedirectResponse(self.feed.codes.url(_host(websocket, self.address), FEED_PATH), 302)
        )

    async def _redirect_stream(self, websocket: WebSocket) -> None:
        try:
            self.gates.check(_STREAM_RULE, websocket.headers, peer="")
            url = self._stream_url(_host(websocket, self.address), websocket.query_params.get("update_types", ""))
            answer: Response = RedirectResponse(url, 302)
        except Refusal as refusal:
            answer = JSONResponse(refusal.body, refusal.status)
        await websocket.send_denial_response(answer)

    async def _feed(self, websocket: WebSocket) -> None:
        if not self.feed.codes.take(websocket):
            await self._deny(websocket, self._used_url_status)
        elif self.feed.is_full:
            await self._deny(websocket, 403)
        else:
            await self.feed.serve(websocket)

    async def _stream(self, websocket: WebSocket) -> None:
        if not self._stream_codes.take(websocket):
            await self._deny(websocket, self._used_url_status)
            return
        await self.desk.stream.serve(websocket, read_update_types(websocket.query_params.get("update_types", "")))

    async def _deny(self, websocket: WebSocket, status: int) -> None:
        await websocket.send_denial_response(Response(self._error_body(status), status, media_type="application/json"))

    async def _on_step(self, step: Step) -> None:
        self._roll()
        await self.feed.on_step(step)
        if self.market.speed is None:
            await self.desk.stream.drained()

    def _roll(self) -> None:
        if self.tokens.is_due:
            self.tokens.settle()
            self._cut_sockets()

    def _cut_sockets(self) -> None:
        self.feed.codes.clear()
        self._stream_codes.clear()
        for websocket in (*self.feed.sockets.values(), *self.desk.stream.sockets.values()):
            peer: Peer = (websocket.scope["client"][0], websocket.scope["client"][1])
            self._server.drop(peer)


_STREAM_RULE: Final = Rule("GET", "/v2/feed/portfolio-stream-feed", lambda _: success(None), Need.CONTROL)


def _authorized(url: str) -> Response:
    return success({"authorized_redirect_uri": url, "authorizedRedirectUri": url})


def _host(connection: HTTPConnection, address: str) -> str:
    return connection.headers.get("host", address)


async def _not_found(_: Request, __: Exception) -> Response:
    return error("UDAPI100060", status=404)
