"""Upstox's REST calls for orders and the account: wire in, wire out, and what counts as an answer.

A write is *accepted* only by a readable 2xx with an order id; see `client` for what is a refusal.
Single orders go to the host that is made for them, everything else to the common one.

Documented: https://upstox.com/developer/api-documentation/ , the pages named at each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from hybridbroker.brokers.upstox.client import Method, UpstoxClient, unknown
from hybridbroker.brokers.upstox.faults import Call
from hybridbroker.brokers.upstox.orders import wire
from hybridbroker.errors import OrderNotFound, OrderRejected, Unsupported, WireFormatError
from hybridbroker.transport.http import Response

__all__ = ["Placed", "UpstoxOrderRest"]

R = TypeVar("R", wire.TradeRow, wire.PositionRow, wire.HoldingRow, wire.GttRow, wire.KillSwitchRow)

_THEIR_FAILURE: Final = "UDAPI100500"
_UPDATES: Final = "/v2/feed/portfolio-stream-feed/authorize"


@attrs.frozen(kw_only=True)
class Placed:
    """What became of one request to place."""

    ids: tuple[str, ...]
    refused: str | None = None
    """Why some slices were not taken, where some were not."""


class UpstoxOrderRest:
    """The calls of one account about orders, on a client that is entered elsewhere."""

    def __init__(self, client: UpstoxClient) -> None:
        self._client = client
        self._funds_v3 = True

    async def place(self, body: Mapping[str, Any], *, client_order_id: str) -> Placed:
        """POST ``/v3/order/place``: the ids, several where the order was sliced, and why others are missing."""
        what = f"order {client_order_id}"
        response = await self._client.write(
            "POST", "/v3/order/place", json=body, what=what, subject=client_order_id, call="place", fast=True
        )
        ids = self._ids(response, what=what, subject=client_order_id)
        return Placed(ids=ids, refused=wire.refusals_in(wire.payload_of(response)))

    async def modify(self, order_id: str, body: Mapping[str, Any]) -> None:
        """PUT ``/v3/order/modify``; the answer says that it was taken, not that it was done."""
        what = f"the change of order {order_id}"
        response = await self._client.write(
            "PUT", "/v3/order/modify", json=body, what=what, subject=order_id, call="modify", fast=True
        )
        self._ids(response, what=what, subject=order_id)

    async def cancel(self, order_id: str) -> None:
        """DELETE ``/v3/order/cancel?order_id=``; the answer says that it was taken, not that it was done."""
        what = f"the cancellation of order {order_id}"
        response = await self._client.write(
            "DELETE",
            "/v3/order/cancel",
            params={"order_id": order_id},
            what=what,
            subject=order_id,
            call="cancel",
            fast=True,
            urgent=True,
        )
        self._ids(response, what=what, subject=order_id)

    async def cancel_all(self, *, tag: str | None, segment: str | None) -> wire.BatchAnswer:
        """DELETE ``/v2/order/multi/cancel``: what was cancelled, and what was not."""
        return await self._batch("DELETE", "/v2/order/multi/cancel", call="cancel-all", tag=tag, segment=segment)

    async def exit_all(self, *, tag: str | None, segment: str | None) -> wire.BatchAnswer:
        """POST ``/v2/order/positions/exit``: the orders that close positions, and what was not closed."""
        return await self._batch("POST", "/v2/order/positions/exit", call="exit-all", tag=tag, segment=segment)

    async def order(self, order_id: str) -> Mapping[str, Any] | None:
        """GET ``/v2/order/details``: the latest state, or None where Upstox knows no such order."""
        try:
            rows = await self._rows("/v2/order/details", call="book", params={"order_id": order_id})
        except OrderNotFound:
            return None
        return rows[-1] if rows else None

    async def history(self, *, order_id: str | None = None, tag: str | None = None) -> list[Mapping[str, Any]]:
        """GET ``/v2/order/history``: a row for each state of one order, or of all that carry a tag."""
        params = {"order_id": order_id} if order_id is not None else {"tag": tag}
        try:
            return await self._rows("/v2/order/history", call="book", params=params)
        except OrderNotFound:
            return []

    async def orders(self) -> list[Mapping[str, Any]]:
        """GET ``/v2/order/retrieve-all``: the day's rows, as they are."""
        return await self._rows("/v2/order/retrieve-all", call="book")

    async def trades(self, order_id: str | None = None) -> list[wire.TradeRow]:
        """GET ``/v2/order/trades/get-trades-for-day``, or ``/v2/order/trades`` for one order."""
        if order_id is None:
            rows = await self._rows("/v2/order/trades/get-trades-for-day", call="book")
        else:
            rows = await self._rows("/v2/order/trades", call="book", params={"order_id": order_id})
        return [wire.TradeRow.read(row, what="a trade") for row in rows]

    async def past_trades(self, params: Mapping[str, Any]) -> tuple[list[wire.PastTradeRow], int]:
        """GET ``/v2/charges/historical-trades``: one page, and how many there are."""
        response = await self._client.read("/v2/charges/historical-trades", call="report", params=params)
        rows = [wire.PastTradeRow.read(row, what="a past trade") for row in wire.rows_of(response)]
        payload = wire.payload_of(response)
        about: Any = next((payload[name] for name in ("metaData", "meta_data", "metadata") if payload.get(name)), {})
        page = about.get("page") if isinstance(about, Mapping) else None
        pages = page.get("total_pages") if isinstance(page, Mapping) else None
        if rows and not isinstance(pages, int):
            raise WireFormatError(f"{response.request}: it does not say how many pages there are")
        return rows, pages if isinstance(pages, int) else 0

    async def positions(self) -> list[wire.PositionRow]:
        """GET ``/v2/portfolio/short-term-positions``."""
        return await self._read(wire.PositionRow, "/v2/portfolio/short-term-positions", call="portfolio")

    async def mtf_positions(self) -> list[wire.PositionRow]:
        """GET ``/v3/portfolio/mtf-positions``."""
        return await self._read(wire.PositionRow, "/v3/portfolio/mtf-positions", call="portfolio")

    async def holdings(self) -> list[wire.HoldingRow]:
        """GET ``/v2/portfolio/long-term-holdings``."""
        return await self._read(wire.HoldingRow, "/v2/portfolio/long-term-holdings", call="portfolio")

    async def convert(self, body: Mapping[str, Any], *, what: str, subject: str) -> None:
        """PUT ``/v2/portfolio/convert-position``."""
        response = await self._client.write(
            "PUT", "/v2/portfolio/convert-position", json=body, what=what, subject=subject, call="convert"
        )
        data = self._answered(response, what=what, subject=subject)
        if not isinstance(data, Mapping) or data.get("status") != "complete":
            raise unknown(what, subject, "it was acknowledged without the word 'complete'")

    async def funds(self) -> wire.FundsV3 | wire.FundsV2:
        """GET ``/v3/user/get-funds-and-margin``, or v2 where the newer call is not there (it came in April 2026)."""
        if self._funds_v3:
            try:
                response = await self._client.read("/v3/user/get-funds-and-margin", call="funds")
                return wire.FundsV3.read(wire.data_of(response), what=response.request)
            except Unsupported:
                self._funds_v3 = False
        response = await self._client.read("/v2/user/get-funds-and-margin", call="funds")
        return wire.FundsV2.read(wire.data_of(response), what=response.request)

    async def margin(self, lines: Sequence[Mapping[str, Any]]) -> wire.MarginAnswer:
        """POST ``/v2/charges/margin``, which only reads."""
        response = await self._client.query("/v2/charges/margin", json={"instruments": lines}, call="margin")
        return wire.MarginAnswer.read(wire.data_of(response), what=response.request)

    async def brokerage(self, params: Mapping[str, Any]) -> wire.Brokerage:
        """GET ``/v2/charges/brokerage``."""
        response = await self._client.read("/v2/charges/brokerage", call="brokerage", params=params)
        return wire.Brokerage.read(wire.data_of(response), what=response.request)

    async def kill_switch(self) -> list[wire.KillSwitchRow]:
        """GET ``/v2/user/kill-switch``."""
        return await self._read(wire.KillSwitchRow, "/v2/user/kill-switch", call="kill-switch")

    async def set_kill_switch(self, segments: Sequence[str], *, action: str) -> None:
        """POST ``/v2/user/kill-switch``."""
        what = f"setting the kill switch ({action})"
        body = [{"segment": segment, "action": action} for segment in segments]
        response = await self._client.write(
            "POST",
            "/v2/user/kill-switch",
            json=body,
            what=what,
            subject="kill-switch",
            call="kill-switch",
            urgent=True,
        )
        self._answered(response, what=what, subject="kill-switch")

    async def place_gtt(self, body: Mapping[str, Any], *, client_order_id: str) -> str:
        """POST ``/v3/order/gtt/place``: the id."""
        what = f"GTT order {client_order_id}"
        response = await self._client.write(
            "POST", "/v3/order/gtt/place", json=body, what=what, subject=client_order_id, call="gtt"
        )
        return self._gtt_id(response, what=what, subject=client_order_id)

    async def modify_gtt(self, gtt_id: str, body: Mapping[str, Any]) -> None:
        """PUT ``/v3/order/gtt/modify``."""
        what = f"the change of GTT order {gtt_id}"
        response = await self._client.write(
            "PUT", "/v3/order/gtt/modify", json=body, what=what, subject=gtt_id, call="gtt"
        )
        self._gtt_id(response, what=what, subject=gtt_id)

    async def cancel_gtt(self, gtt_id: str) -> None:
        """DELETE ``/v3/order/gtt/cancel``, whose id is in a JSON body."""
        what = f"the cancellation of GTT order {gtt_id}"
        response = await self._client.write(
            "DELETE",
            "/v3/order/gtt/cancel",
            json={"gtt_order_id": gtt_id},
            what=what,
            subject=gtt_id,
            call="gtt",
            urgent=True,
        )
        self._gtt_id(response, what=what, subject=gtt_id)

    async def gtts(self, gtt_id: str | None = None) -> list[wire.GttRow]:
        """GET ``/v3/order/gtt``: all, or one; none where Upstox knows no such id."""
        params = None if gtt_id is None else {"gtt_order_id": gtt_id}
        try:
            return await self._read(wire.GttRow, "/v3/order/gtt", call="gtt-book", params=params)
        except OrderNotFound:
            return []

    async def last_price(self, key: str) -> float | None:
        """GET ``/v3/market-quote/ltp`` of one key; None where it never traded."""
        response = await self._client.read(
            "/v3/market-quote/ltp", call="quotes", params={"instrument_key": key}, family="quotes"
        )
        data = wire.data_of(response)
        rows = data.values() if isinstance(data, Mapping) else ()
        row = next((each for each in rows if isinstance(each, Mapping) and each.get("instrument_token") == key), {})
        price = row.get("last_price")
        return price if isinstance(price, int | float) and price > 0 else None

    async def updates_address(self, kinds: Sequence[str]) -> str:
        """Return a WebSocket address that works once; connect to it at once."""
        params = {"update_types": ",".join(kinds)}
        response = await self._client.read(_UPDATES, call="feed", params=params, family="feed", once=True)
        data = wire.data_of(response)
        names = ("authorized_redirect_uri", "authorizedRedirectUri")
        address = next((data[name] for name in names if data.get(name)), None) if isinstance(data, Mapping) else None
        if not isinstance(address, str):
            raise WireFormatError(f"{response.request}: it names no address to connect to")
        return address

    async def _batch(
        self, method: Method, path: str, *, call: Call, tag: str | None, segment: str | None
    ) -> wire.BatchAnswer:
        named = {"tag": tag, "segment": segment}
        params = {name: value for name, value in named.items() if value is not None}
        response = await self._client.write(
            method, path, params=params or None, what=call, subject=tag or call, call=call, urgent=True
        )
        try:
            answer = wire.BatchAnswer.read(response.json(), what=response.request)
        except WireFormatError as exc:
            raise unknown(call, tag or call, f"it was answered unreadably ({exc})") from exc
        if answer.data is None and answer.errors:
            first = answer.errors[0]
            if any(each.code == _THEIR_FAILURE for each in answer.errors):
                raise unknown(call, tag or call, f"Upstox tells of a failure of its own: {first.message}")
            raise OrderRejected(first.message or first.code, code=first.code)
        return answer

    async def _rows(self, path: str, *, call: Call, params: Mapping[str, Any] | None = None) -> list[Mapping[str, Any]]:
        return wire.rows_of(await self._client.read(path, call=call, params=params))

    async def _read(self, kind: type[R], path: str, *, call: Call, params: Mapping[str, Any] | None = None) -> list[R]:
        rows = await self._rows(path, call=call, params=params)
        return [kind.read(row, what=f"a row of GET {path}") for row in rows]

    def _ids(self, response: Response, *, what: str, subject: str) -> tuple[str, ...]:
        data = self._answered(response, what=what, subject=subject)
        try:
            ids = wire.OrderAck.read(data, what="the acknowledgement").ids
        except WireFormatError as exc:
            raise unknown(what, subject, f"it was acknowledged unreadably ({exc})") from exc
        if not ids:
            raise unknown(what, subject, "it was acknowledged without an order id")
        return ids

    def _gtt_id(self, response: Response, *, what: str, subject: str) -> str:
        data = self._answered(response, what=what, subject=subject)
        try:
            return wire.GttAck.read(data, what="the acknowledgement").gtt_order_ids[0]
        except WireFormatError as exc:
            raise unknown(what, subject, f"it was acknowledged unreadably ({exc})") from exc

    def _answered(self, response: Response, *, what: str, subject: str) -> Any:
        try:
            return wire.data_of(response)
        except WireFormatError as exc:
            raise unknown(what, subject, str(exc)) from exc
