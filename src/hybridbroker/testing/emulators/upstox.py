"""Upstox on the loopback interface, written from Upstox's documentation and recorded frames.

Nothing here imports the client: an emulator that shares code with the client it tests can
only prove that the client agrees with itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any, Final, Self

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from hybridbroker.clock import Clock
from hybridbroker.testing.emulators import feed_pb2 as pb
from hybridbroker.testing.emulators.base import Emulator
from hybridbroker.testing.emulators.candles import Bar, aggregate, on_days
from hybridbroker.testing.emulators.feed_socket import FeedSocket
from hybridbroker.testing.emulators.listed import ListedInstrument
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.messages import feed_frames, in_mode, market_info
from hybridbroker.testing.emulators.steps import Step

__all__ = ["UpstoxEmulator"]

_FEED: Final = "/market-data-feeder/v3/upstox-developer-api/feeds"
_ERRORS: Final = {
    400: ("UDAPI10000", "This request is not supported by Upstox API"),
    401: ("UDAPI100050", "Invalid token used to access API"),
    403: ("UDAPI100049", "Access to this API has been restricted for your account"),
    404: ("UDAPI100060", "Resource not Found."),
    429: ("UDAPI10005", "Too Many Request Sent"),
    500: ("UDAPI100500", "Something went wrong... please contact us"),
}
_UNITS: Final = {"minutes": 300, "hours": 5, "days": 1, "weeks": 1, "months": 1}
_SHORT_MINUTES: Final = 15
_MAX_QUOTES: Final = 500


class UpstoxEmulator(Emulator):
    """The Upstox calls that prices need: authorize, feed V3, candles V3, quotes V3.

    The market starts to play at the first subscription, unless ``autoplay`` is off. What the
    documentation leaves open is answered like this: a used or foreign feed URL with
    ``used_url_status``; a refused request on the feed with a JSON text frame; unknown keys
    with silence.

    Args:
        market: What trades; shared with the Dhan emulator.
        batch: Most instruments in one frame.
        access_token: The bearer token; a random one unless given. Assign another one and
            the old is refused from then on.
        used_url_status: 401 or 403, both of which users report.
    """

    def __init__(
        self,
        market: EmulatedMarket,
        *,
        batch: int = 50,
        access_token: str | None = None,
        autoplay: bool = True,
        used_url_status: int = 403,
        keep_alive: float = 5.0,
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(market, keep_alive=keep_alive, port=port, clock=clock)
        self.access_token = access_token or f"emulated-{secrets.token_hex(12)}"
        self.batch = batch
        self.unknown_keys: list[str] = []
        """Keys that were subscribed and that the market does not list."""
        self.dropped = 0
        """Frames not sent because a client was too far behind."""
        self._autoplay = autoplay
        self._used_url_status = used_url_status
        self._codes: set[str] = set()
        self._sockets: set[FeedSocket] = set()

    async def __aenter__(self) -> Self:
        self.market.listen(self._on_step)
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        self.market.ignore(self._on_step)
        await super().__aexit__(*exc)
        await self.market.stop()

    @property
    def rest_url(self) -> str:
        """Return the base URL of the REST calls."""
        return f"http://{self.address}"

    @property
    def feed_url(self) -> str:
        """Return the URL that redirects a WebSocket handshake to the feed."""
        return f"ws://{self.address}/v3/feed/market-data-feed"

    @property
    def feed_sockets(self) -> int:
        """Return how many feed sockets are open."""
        return len(self._sockets)

    @property
    def subscriptions(self) -> Mapping[str, str]:
        """Return the mode of every key that some socket is subscribed to."""
        return {key: mode for each in self._sockets for key, mode in each.modes.items()}

    async def send_raw(self, frame: bytes | str) -> None:
        """Send a frame, well-formed or not, to every feed socket, after what is queued already."""
        for each in tuple(self._sockets):
            each.put(frame)
            await each.drained()

    async def send_feeds(self, feeds: Mapping[str, pb.Feed], *, snapshot: bool = False) -> None:
        """Send entries as they are, whole or partial, to every feed socket, subscribed or not."""
        entries = list(feeds.items())
        for frame in feed_frames(entries, at_ms=self.market.now_ms, snapshot=snapshot, batch=self.batch):
            await self.send_raw(frame)

    async def close_feeds(self, code: int = 1000) -> None:
        """Close every feed socket with a close frame."""
        for each in tuple(self._sockets):
            await each.close(code)

    def _build(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/v3/feed/market-data-feed/authorize", self._bearer(self._authorize)),
                Route("/v3/feed/market-data-feed", self._bearer(self._redirect)),
                WebSocketRoute("/v3/feed/market-data-feed", self._redirect_socket),
                WebSocketRoute(_FEED, self._feed),
                Route("/v3/historical-candle/intraday/{key}/{unit}/{interval}", self._intraday),
                Route("/v3/historical-candle/{key}/{unit}/{interval}/{to}", self._historical),
                Route("/v3/historical-candle/{key}/{unit}/{interval}/{to}/{start}", self._historical),
                Route("/v3/market-quote/ltp", self._bearer(self._quotes(_ltp_row))),
                Route("/v3/market-quote/ohlc", self._bearer(self._quotes(_ohlc_row))),
                Route("/v3/market-quote/quotes", self._bearer(self._quotes(_full_row))),
            ],
            exception_handlers={404: _not_found},
        )

    def _error_body(self, status: int) -> bytes:
        code, message = _ERRORS.get(status, _ERRORS[500])
        return json.dumps(_error(code, message)).encode()

    def _accepts(self, connection: HTTPConnection) -> bool:
        return connection.headers.get("authorization") == f"Bearer {self.access_token}"

    def _bearer(self, endpoint: Callable[[Request], Response]) -> Callable[[Request], Any]:
        async def checked(request: Request) -> Response:
            return endpoint(request) if self._accepts(request) else _refuse(401, *_ERRORS[401])

        return checked

    def _one_time_url(self, connection: HTTPConnection) -> str:
        code = secrets.token_urlsafe(12)
        self._codes.add(code)
        # The Host header: a client that comes through a proxy is sent back through it.
        host = connection.headers.get("host", self.address)
        return f"ws://{host}{_FEED}?requestId={secrets.token_hex(8)}&code={code}"

    def _authorize(self, request: Request) -> Response:
        url = self._one_time_url(request)
        return _success({"authorized_redirect_uri": url, "authorizedRedirectUri": url})

    def _redirect(self, request: Request) -> Response:
        return RedirectResponse(self._one_time_url(request), 302)

    async def _redirect_socket(self, websocket: WebSocket) -> None:
        if self._accepts(websocket):
            await websocket.send_denial_response(RedirectResponse(self._one_time_url(websocket), 302))
        else:
            await websocket.send_denial_response(_refuse(401, *_ERRORS[401]))

    async def _feed(self, websocket: WebSocket) -> None:
        code = websocket.query_params.get("code", "")
        if code not in self._codes:
            status = self._used_url_status
            await websocket.send_denial_response(
                Response(self._error_body(status), status, media_type="application/json")
            )
            return
        self._codes.discard(code)
        await websocket.accept()
        socket = FeedSocket(websocket, on_request=self._on_request)
        socket.put(market_info(self.market.status, at_ms=self.market.now_ms))
        self._sockets.add(socket)
        try:
            await socket.serve()
        finally:
            self._sockets.discard(socket)
            self.dropped += socket.dropped
            self._count_audience(before=bool(socket.modes), after=False)

    def _count_audience(self, *, before: bool, after: bool) -> None:
        if before != after:
            self.market.audience(1 if after else -1)
        if after and self._autoplay:
            self.market.play()

    def _on_request(self, socket: FeedSocket, method: str, keys: list[str], mode: str) -> None:
        before = bool(socket.modes)
        if method == "unsub":
            for key in keys:
                socket.modes.pop(key, None)
        else:
            known = [key for key in keys if self.market.by_key(key) is not None]
            self.unknown_keys += [key for key in keys if key not in known]
            if method == "change_mode":
                known = [key for key in known if key in socket.modes]
            socket.modes.update(dict.fromkeys(known, mode))
            entries = [(key, in_mode(feed, mode)) for key in known if (feed := self.market.feed(key)) is not None]
            for frame in feed_frames(entries, at_ms=self.market.now_ms, snapshot=True, batch=self.batch):
                socket.put(frame)
        self._count_audience(before=before, after=bool(socket.modes))

    async def _on_step(self, step: Step) -> None:
        for socket in tuple(self._sockets):
            if step.status is not None:
                socket.put(market_info(step.status, at_ms=step.at_ms))
            modes = socket.modes
            entries = [
                (listed.upstox_key, in_mode(feed, modes[listed.upstox_key]))
                for listed, feed in step.updates
                if listed.upstox_key in modes
            ]
            for frame in feed_frames(entries, at_ms=step.at_ms, snapshot=False, batch=self.batch):
                socket.put(frame)
            if self.market.speed is None:
                await socket.drained()

    async def _intraday(self, request: Request) -> Response:
        return self._candles(request, lambda listed: self.market.today_bars(listed.upstox_key))

    async def _historical(self, request: Request) -> Response:
        yesterday = self.market.now.date() - timedelta(days=1)
        try:
            last = date.fromisoformat(request.path_params["to"])
            first = request.path_params.get("start")
            start = _default_start(request.path_params["unit"], last) if first is None else date.fromisoformat(first)
        except ValueError:
            return _refuse(400, "UDAPI1015", "Date should be in valid format: yyyy-mm-dd")
        if start > last:
            return _refuse(400, "UDAPI1015", "to_date must be greater than or equal to from_date")
        if (last - start).days > _window(request.path_params["unit"], request.path_params["interval"]):
            return _refuse(400, "UDAPI1148", "Invalid date range")
        return self._candles(
            request, lambda listed: on_days(self.market.past_bars(listed.upstox_key), start, min(last, yesterday))
        )

    def _candles(self, request: Request, bars: Callable[[ListedInstrument], list[Bar]]) -> Response:
        key, unit, interval = (request.path_params[name] for name in ("key", "unit", "interval"))
        if "|" not in key:
            return _refuse(400, "UDAPI1021", "Instrument key is of invalid format")
        if unit not in _UNITS:
            return _refuse(400, "UDAPI1146", "Invalid unit")
        if not interval.isdecimal() or not 1 <= int(interval) <= _UNITS[unit]:
            return _refuse(400, "UDAPI1147", "Invalid interval")
        listed = self.market.by_key(key)
        if listed is None:
            return _refuse(400, "UDAPI100011", "Invalid Instrument key")
        rows = [bar.row() for bar in aggregate(bars(listed), unit, int(interval))]
        return _success({"candles": rows[::-1]})

    def _quotes(
        self, row: Callable[[EmulatedMarket, ListedInstrument, pb.Feed], dict[str, Any]]
    ) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            keys = [key for key in request.query_params.get("instrument_key", "").split(",") if key]
            if not keys:
                return _refuse(400, "UDAPI1009", "Symbol is required")
            if len(keys) > _MAX_QUOTES:
                return _refuse(400, "UDAPI100043", "Too many instrument keys")
            if bad := [key for key in keys if "|" not in key]:
                return _refuse(400, "UDAPI1087", "One of either symbol or instrument_key is invalid", invalid=bad[0])
            data = {}
            for key in keys:
                listed, feed = self.market.by_key(key), self.market.feed(key)
                if listed is not None and feed is not None:
                    data[f"{listed.upstox_segment}:{listed.instrument.symbol}"] = row(self.market, listed, feed)
            return _success(data)

        return answer


def _success(data: object) -> Response:
    return JSONResponse({"status": "success", "data": data})


def _error(code: str, message: str, invalid: str | None = None) -> dict[str, Any]:
    """Return the documented error body, with the deprecated duplicates that are still sent."""
    camel = {"errorCode": code, "message": message, "propertyPath": None, "invalidValue": invalid}
    return {
        "status": "error",
        "errors": [{**camel, "error_code": code, "property_path": None, "invalid_value": invalid}],
    }


def _refuse(status: int, code: str, message: str, *, invalid: str | None = None) -> Response:
    return JSONResponse(_error(code, message, invalid), status)


async def _not_found(_: Request, __: Exception) -> Response:
    return _refuse(404, *_ERRORS[404])


def _default_start(unit: str, last: date) -> date:
    match unit:
        case "minutes" | "hours":
            return last - timedelta(days=30)
        case "days":
            return last - timedelta(days=3652)
        case _:
            return date(2000, 1, 1)


def _window(unit: str, interval: str) -> int:
    """Return the most days a call may span (documented; the day counts are recorded)."""
    match unit:
        case "minutes" if interval.isdecimal() and int(interval) <= _SHORT_MINUTES:
            return 31
        case "minutes" | "hours":
            return 92
        case "days":
            return 3653
        case _:
            return 100_000


def _parts(feed: pb.Feed) -> tuple[pb.LTPC, pb.MarketFullFeed, pb.MarketOHLC]:
    full = feed.fullFeed
    if full.HasField("indexFF"):
        return full.indexFF.ltpc, pb.MarketFullFeed(), full.indexFF.marketOHLC
    return full.marketFF.ltpc, full.marketFF, full.marketFF.marketOHLC


def _ltp_row(_: EmulatedMarket, listed: ListedInstrument, feed: pb.Feed) -> dict[str, Any]:
    ltpc, market, _bars = _parts(feed)
    return {
        "last_price": ltpc.ltp,
        "instrument_token": listed.upstox_key,
        "ltq": ltpc.ltq,
        "volume": market.vtt,
        "cp": ltpc.cp,
    }


def _day(bars: pb.MarketOHLC) -> dict[str, Any] | None:
    for bar in bars.ohlc:
        if bar.interval == "1d":
            prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
            return {**prices, "volume": bar.vol, "ts": bar.ts}
    return None


def _ohlc_row(_: EmulatedMarket, listed: ListedInstrument, feed: pb.Feed) -> dict[str, Any]:
    ltpc, _market, bars = _parts(feed)
    return {
        "last_price": ltpc.ltp,
        "instrument_token": listed.upstox_key,
        "prev_ohlc": None,
        "live_ohlc": _day(bars),
    }


def _full_row(emulated: EmulatedMarket, listed: ListedInstrument, feed: pb.Feed) -> dict[str, Any]:
    ltpc, market, bars = _parts(feed)
    quotes = list(market.marketLevel.bidAskQuote[:5])
    quotes += [pb.Quote()] * (5 - len(quotes))
    return {
        "instrument_token": listed.upstox_key,
        "symbol": listed.instrument.symbol,
        "last_price": ltpc.ltp,
        "volume": market.vtt,
        "average_price": market.atp,
        "oi": market.oi,
        "net_change": round(ltpc.ltp - ltpc.cp, 2),
        "total_buy_quantity": market.tbq,
        "total_sell_quantity": market.tsq,
        "lower_circuit_limit": round(ltpc.cp * 0.9, 2),
        "upper_circuit_limit": round(ltpc.cp * 1.1, 2),
        "last_trade_time": str(ltpc.ltt),
        "oi_day_high": 0.0,
        "oi_day_low": 0.0,
        "timestamp": emulated.now.isoformat(timespec="milliseconds"),
        "ohlc": _day(bars),
        "depth": {
            "buy": [{"quantity": each.bidQ, "price": each.bidP, "orders": min(each.bidQ, 1)} for each in quotes],
            "sell": [{"quantity": each.askQ, "price": each.askP, "orders": min(each.askQ, 1)} for each in quotes],
        },
        "prev_close_price": ltpc.cp,
    }
