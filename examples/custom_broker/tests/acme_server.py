"""Acme on the loopback interface, written from its documentation; shares nothing with the plugin it tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybridbroker import InstrumentRegistry, LimitOrder, MarketOrder, OrderNotFound, OrderRejected, Tick
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.server import HOST, LoopbackServer

TOKEN = "acme-secret"
SIDE = {"B": "buy", "S": "sell"}
PRODUCT = {"carry": "delivery", "day": "intraday"}
STATE = {
    "pending": "new",
    "open": "live",
    "partially-filled": "part",
    "filled": "done",
    "cancelled": "gone",
    "rejected": "no",
}


class AcmeServer:
    """Enter it to start it; ``loses_replies`` swallows the answers to that many orders."""

    def __init__(self, registry: InstrumentRegistry, *, cash: Decimal = Decimal(100_000)) -> None:
        self.exchange = SimulatedExchange(cash=cash)
        self.loses_replies = 0
        self.posts = 0
        self._registry = registry
        routes = [
            Route("/orders", self._place, methods=["POST"]),
            Route("/orders", self._orders),
            Route("/orders/{id}", self._order),
            Route("/orders/{id}", self._change, methods=["PUT"]),
            Route("/orders/{id}", self._cancel, methods=["DELETE"]),
            Route("/trades", self._trades),
            Route("/positions", self._positions),
            Route("/holdings", self._holdings),
            Route("/funds", self._funds),
        ]
        refusals: Any = {OrderRejected: _refused, OrderNotFound: _missing}
        self._server = LoopbackServer(Starlette(routes=routes, exception_handlers=refusals))

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.port}"

    def trade_at(self, tick: Tick) -> None:
        self.exchange.on_tick(tick)

    async def _place(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"code": "A1", "text": "who are you"}, status_code=401)
        body = await request.json()
        self.posts += 1
        name, _, exchange = body["symbol"].rpartition(".")
        terms: dict[str, Any] = {
            "quantity": body["units"],
            "product": PRODUCT[body["product"]],
            "client_order_id": body["tag"],
        }
        share, side = self._registry[f"{exchange}:{name}"], SIDE[body["side"]]
        wanted = (
            MarketOrder(share, side, **terms)
            if body["kind"] == "market"
            else LimitOrder(share, side, price=Decimal(body["limit"]), **terms)
        )
        order = self.exchange.place(wanted)
        if self.loses_replies:
            self.loses_replies -= 1
            return Response(b"<html>bad gateway</html>", status_code=502, media_type="text/html")
        return JSONResponse(_row(order), status_code=201)

    async def _orders(self, request: Request) -> Response:
        tag = request.query_params.get("tag")
        rows = [_row(each) for each in self.exchange.orders() if tag in {None, each.client_order_id}]
        return JSONResponse(rows)

    async def _order(self, request: Request) -> Response:
        return JSONResponse(_row(self.exchange.order(request.path_params["id"])))

    async def _change(self, request: Request) -> Response:
        body = await request.json()
        price = Decimal(body["limit"]) if "limit" in body else None
        order = self.exchange.modify(request.path_params["id"], quantity=body.get("units"), price=price)
        return JSONResponse(_row(order))

    async def _cancel(self, request: Request) -> Response:
        return JSONResponse(_row(self.exchange.cancel(request.path_params["id"])))

    async def _trades(self, _: Request) -> Response:
        rows = [
            {
                "id": each.id,
                "order": each.order_id,
                "symbol": _symbol(each),
                "side": "B" if each.side == "buy" else "S",
                "product": _word(PRODUCT, each.product),
                "units": each.quantity,
                "price": str(each.price),
                "at": each.traded_at.isoformat(),
            }
            for each in self.exchange.trades()
        ]
        return JSONResponse(rows)

    async def _positions(self, _: Request) -> Response:
        rows = [
            {
                "symbol": _symbol(each),
                "product": _word(PRODUCT, each.product),
                "net": each.quantity,
                "average": str(each.average_price),
                "bought": each.bought_quantity,
                "sold": each.sold_quantity,
                "bought_for": str(each.bought_value),
                "sold_for": str(each.sold_value),
            }
            for each in self.exchange.positions()
        ]
        return JSONResponse(rows)

    async def _holdings(self, _: Request) -> Response:
        rows = [
            {"symbol": _symbol(each), "units": each.quantity, "free": each.available_quantity}
            for each in self.exchange.holdings()
        ]
        return JSONResponse(rows)

    async def _funds(self, _: Request) -> Response:
        funds = self.exchange.funds()
        return JSONResponse({"free": str(funds.available), "blocked": str(funds.used)})


def _row(order: Any) -> dict[str, Any]:
    return {
        "id": order.id,
        "tag": order.client_order_id,
        "symbol": _symbol(order),
        "side": "B" if order.side == "buy" else "S",
        "kind": "market" if order.type == "market" else "limit",
        "product": _word(PRODUCT, order.product),
        "units": order.quantity,
        "filled": order.filled_quantity,
        "limit": None if order.price is None else str(order.price),
        "average": None if order.average_price is None else str(order.average_price),
        "state": STATE[order.status],
        "note": order.reason,
        "placed": order.placed_at.isoformat(),
        "changed": order.updated_at.isoformat(),
    }


def _symbol(row: Any) -> str:
    return f"{row.instrument.symbol}.{row.instrument.exchange}"


def _word(table: dict[str, str], ours: str) -> str:
    return next(theirs for theirs, name in table.items() if name == ours)


async def _refused(_: Request, exc: Exception) -> Response:
    return JSONResponse({"code": "R1", "text": str(exc)}, status_code=422)


async def _missing(_: Request, exc: Exception) -> Response:
    return JSONResponse({"code": "R2", "text": str(exc)}, status_code=404)
