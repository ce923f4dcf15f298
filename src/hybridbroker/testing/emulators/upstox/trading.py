"""Upstox's order calls: place, modify, cancel, batches, and every way of reading what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.upstox.answers import Call, Refusal, one_error, success
from hybridbroker.testing.emulators.upstox.book import UpstoxBook
from hybridbroker.testing.emulators.upstox.entries import Entry
from hybridbroker.testing.emulators.upstox.gates import Need, Rule
from hybridbroker.testing.emulators.upstox.names import SEGMENTS
from hybridbroker.testing.emulators.upstox.orders import (
    Terms,
    check_order_id,
    read_modification,
    read_order,
    slices,
)
from hybridbroker.testing.emulators.upstox.rows import (
    PRODUCT_NAMES,
    history_row,
    order_row,
    past_trade_row,
    trade_row,
)

__all__ = ["UpstoxTrading", "check_hours"]

_OPENS: Final = time(5, 30)
_LATENCY: Final = {"latency": 30}
_LONGEST_CORRELATION: Final = 20
_MOST_PAGE: Final = 5000


class UpstoxTrading:
    """Answers order calls from the book."""

    def __init__(self, market: EmulatedMarket, book: UpstoxBook, *, user_id: str) -> None:
        self.most_slices = 25
        self.most_lines = 10
        self.most_batch = 10
        """Limits of one call (documented in mirrors, which disagree: 25 lines and 50 orders in older ones)."""
        self.hours_status = 423
        """HTTP status of an order call outside 5:30 to 24:00 (unconfirmed)."""
        self.empty_is_null = True
        """Whether ``data`` is null where there is nothing to list (reported of production)."""
        self.failures: deque[str] = deque()
        """Codes with which parts of the next batches fail, one each: partial success, HTTP 207."""
        self.sandbox_closed = False
        """Whether every order call says that the market is closed, as users reported of the sandbox."""
        self._market = market
        self._book = book
        self._user_id = user_id

    def rules(self) -> Iterator[Rule]:
        """Return the calls."""
        for method, path, write in (
            ("POST", "/v3/order/place", self._place),
            ("PUT", "/v3/order/modify", self._modify),
            ("DELETE", "/v3/order/cancel", self._cancel),
            ("POST", "/v2/order/place", self._place_old),
            ("PUT", "/v2/order/modify", self._modify_old),
            ("DELETE", "/v2/order/cancel", self._cancel_old),
            ("POST", "/v2/order/multi/place", self._place_multi),
            ("DELETE", "/v2/order/multi/cancel", self._cancel_multi),
            ("POST", "/v2/order/positions/exit", self._exit),
        ):
            yield Rule(method, path, self._in_hours(write), Need.ORDER)
        for path, read in (
            ("/v2/order/details", self._details),
            ("/v2/order/history", self._history),
            ("/v2/order/retrieve-all", self._all),
        ):
            yield Rule("GET", path, read, Need.READ)
        yield Rule("GET", "/v2/order/trades/get-trades-for-day", self._trades, Need.ACCOUNT)
        yield Rule("GET", "/v2/order/trades", self._trades_of, Need.ACCOUNT)
        yield Rule("GET", "/v2/charges/historical-trades", self._past_trades, Need.ACCOUNT)

    def listing(self, rows: Iterable[object]) -> Response:
        """Return an answer that lists rows, or null for none."""
        found = list(rows)
        return success(found if found or not self.empty_is_null else None)

    def _in_hours(self, answer: Callable[[Call], Response]) -> Callable[[Call], Response]:
        def checked(call: Call) -> Response:
            if self.sandbox_closed:
                raise Refusal("UDAPI100057")
            check_hours(self._market, "UDAPI100074", status=self.hours_status)
            return answer(call)

        return checked

    def _enter(self, fields: Mapping[str, Any]) -> list[Entry]:
        terms = self._read(fields)
        return [self._book.enter(each) for each in slices(terms, most=self.most_slices)]

    def _read(self, fields: Mapping[str, Any]) -> Terms:
        terms = read_order(fields, self._market)
        if fields.get("is_amo") is True and self._market.is_open:
            raise Refusal("UDAPI100039", path="is_amo", invalid=True)
        return terms

    def _place(self, call: Call) -> Response:
        entries = self._enter(call.fields())
        return success({"order_ids": [each.id for each in entries]}, metadata=_LATENCY)

    def _place_old(self, call: Call) -> Response:
        (entry,) = self._enter({**call.fields(), "slice": False})
        return success({"order_id": entry.id})

    def _modify(self, call: Call) -> Response:
        return success({"order_id": self._modified(call)}, metadata=_LATENCY)

    def _modify_old(self, call: Call) -> Response:
        return success({"order_id": self._modified(call)})

    def _modified(self, call: Call) -> str:
        fields = call.fields()
        entry = self._book.get(check_order_id(str(fields.get("order_id") or ""), missing="UDAPI1003"))
        if entry.is_final:
            raise Refusal("UDAPI100041", path="order_id", invalid=entry.id)
        self._book.modify(entry, read_modification(fields, entry.terms))
        return entry.id

    def _cancel(self, call: Call) -> Response:
        return success({"order_id": self._cancelled(call)}, metadata=_LATENCY)

    def _cancel_old(self, call: Call) -> Response:
        return success({"order_id": self._cancelled(call)})

    def _cancelled(self, call: Call) -> str:
        entry = self._book.get(check_order_id(call.query.get("order_id", ""), missing="UDAPI1023"))
        self._book.cancel(entry)
        return entry.id

    def _place_multi(self, call: Call) -> Response:
        lines = call.json()
        if not isinstance(lines, list) or not lines:
            raise Refusal("UDAPI1114")
        if len(lines) > self.most_lines:
            raise Refusal("UDAPI1118")
        read = [self._read_line(line) for line in lines]
        names = [name for name, _ in read]
        errors = [{"correlation_id": name, **part.entry} for name, part in read if isinstance(part, Refusal)]
        if len(set(names)) < len(names):
            raise Refusal("UDAPI1117", path="correlation_id")
        if errors:
            summary = {"total": len(lines), "payload_error": len(errors), "success": 0, "error": 0}
            return JSONResponse({"status": "error", "errors": errors, "summary": summary}, 400)
        taken = [(name, part) for name, part in read if isinstance(part, Terms)]
        data = []
        for name, terms in sorted(taken, key=lambda pair: pair[1].side):  # BUY before SELL, as documented
            if self.failures:
                errors.append({"correlation_id": name, **one_error(self.failures.popleft())})
                continue
            parts = slices(terms, most=self.most_slices)
            for number, part in enumerate(parts, 1):
                correlation = name if len(parts) == 1 else f"{name}_{number}"
                data.append({"correlation_id": correlation, "order_id": self._book.enter(part).id})
        done = len(lines) - len(errors)
        summary = {"total": len(lines), "payload_error": 0, "success": done, "error": len(errors)}
        if not errors:
            return success(data, errors=None, summary=summary)
        status, code = ("partial_success", 207) if data else ("error", 400)
        return JSONResponse({"status": status, "data": data, "errors": errors, "summary": summary}, code)

    def _read_line(self, line: object) -> tuple[str, Terms | Refusal]:
        if not isinstance(line, dict):
            raise Refusal("UDAPI100036")
        name = str(line.get("correlation_id") or "")
        if not name or len(name) > _LONGEST_CORRELATION:
            raise Refusal("UDAPI1115", path="correlation_id", invalid=name or None)
        try:
            terms = self._read(line)
            slices(terms, most=self.most_slices)
        except Refusal as refusal:
            return name, refusal
        return name, terms

    def _cancel_multi(self, call: Call) -> Response:
        segment, tag = _segment(call), call.query.get("tag")
        entries = [
            each
            for each in self._book.today()
            if not each.is_final
            and segment in {None, each.terms.listed.upstox_segment}
            and tag in {None, each.terms.tag}
        ]
        if not entries:
            raise Refusal("UDAPI1109")
        if len(entries) > self.most_batch:
            raise Refusal("UDAPI1110")
        done, errors = [], []
        for each in entries:
            if self.failures:
                where = {"order_id": each.id, "instrument_key": each.terms.listed.upstox_key}
                errors.append({**one_error(self.failures.popleft()), **where})
            else:
                self._book.cancel(each)
                done.append(each.id)
        return _batch(done, errors)

    def _exit(self, call: Call) -> Response:
        segment, tag = _segment(call), call.query.get("tag")
        if not self._market.is_open:
            raise Refusal("UDAPI1113")
        found = list(self._open_positions(segment, tag))
        if not found:
            raise Refusal("UDAPI1111")
        if len(found) > self.most_batch:
            raise Refusal("UDAPI1112")
        done: list[str] = []
        errors: list[dict[str, Any]] = []
        for terms in sorted(found, key=lambda each: each.side):
            where = {"order_id": None, "instrument_key": terms.listed.upstox_key}
            if self.failures:
                errors.append({**one_error(self.failures.popleft()), **where})
                continue
            try:
                done += [self._book.enter(each).id for each in slices(terms, most=self.most_slices)]
            except Refusal as refusal:
                errors.append({**refusal.entry, **where})
        return _batch(done, errors)

    def _open_positions(self, segment: str | None, tag: str | None) -> Iterator[Terms]:
        tagged = None if tag is None else {each.terms.listed.upstox_key for each in self._book.tagged(tag)}
        for position in self._book.venues[0].positions():
            listed = self._market.by_instrument(position.instrument)
            product = PRODUCT_NAMES[position.product]
            if position.quantity == 0 or segment not in {None, listed.upstox_segment}:
                continue
            if tagged is not None and (product != "I" or listed.upstox_key not in tagged):
                continue
            if position.quantity < 0 and product == "D" and listed.instrument.isin:
                continue  # sold from the holdings: nothing to buy back
            yield Terms(
                listed=listed,
                side="SELL" if position.quantity > 0 else "BUY",
                product=product,
                type="MARKET",
                validity="DAY",
                quantity=abs(position.quantity),
                slice=True,
            )

    def _details(self, call: Call) -> Response:
        order_id = call.query.get("order_id", "")
        entry = self._book.get(check_order_id(order_id, missing="UDAPI100059"))
        return success(order_row(entry, self._user_id))

    def _history(self, call: Call) -> Response:
        order_id, tag = call.query.get("order_id", ""), call.query.get("tag")
        if not order_id and not tag:
            raise Refusal("UDAPI100059")
        if order_id:
            entries = [self._book.get(check_order_id(order_id, missing="UDAPI100059"))]
        else:
            entries = self._book.tagged(tag or "")
            if not entries:
                raise Refusal("UDAPI100010", path="tag", invalid=tag)
        return success([history_row(each, state, self._user_id) for each in entries for state in each.states])

    def _all(self, _: Call) -> Response:
        return self.listing(order_row(each, self._user_id) for each in self._book.today())

    def _trades(self, _: Call) -> Response:
        return self.listing(trade_row(trade, entry) for trade, entry in self._book.trades())

    def _trades_of(self, call: Call) -> Response:
        wanted = self._book.get(check_order_id(call.query.get("order_id", ""), missing="UDAPI1023"))
        return self.listing(trade_row(trade, entry) for trade, entry in self._book.trades() if entry is wanted)

    def _past_trades(self, call: Call) -> Response:
        first, last = (_date(call.query.get(name, "")) for name in ("start_date", "end_date"))
        if first > last:
            raise Refusal("UDAPI1075")
        number, size = (_number(call.query.get(name, ""), name) for name in ("page_number", "page_size"))
        if not 1 <= size <= _MOST_PAGE:
            raise Refusal("UDAPI1106" if size < 1 else "UDAPI1107", path="page_size", invalid=size)
        today = self._market.now.date()
        rows = [
            past_trade_row(trade, entry)
            for trade, entry in self._book.trades(ever=True)
            if first <= trade.traded_at.date() <= last and trade.traded_at.date() < today
        ]
        if (segment := call.query.get("segment")) is not None:
            rows = [row for row in rows if row["segment"] == segment]
        page = {
            "page_number": number,
            "page_size": size,
            "total_records": len(rows),
            "total_pages": -(-len(rows) // size),
        }
        chosen = rows[(number - 1) * size : number * size]
        return success(chosen, errors=None, metaData={"page": page}, meta_data={"page": page})


def check_hours(market: EmulatedMarket, code: str, *, status: int) -> None:
    """Refuse between midnight and 5:30 IST, by the market's clock (documented of orders and funds)."""
    if market.now.time() < _OPENS:
        raise Refusal(code, status=status)


def _batch(done: list[str], errors: list[dict[str, Any]]) -> Response:
    summary = {"total": len(done) + len(errors), "success": len(done), "error": len(errors)}
    if not errors:
        return success({"order_ids": done}, errors=None, summary=summary)
    if done:
        body = {"status": "partial_success", "data": {"order_ids": done}, "errors": errors, "summary": summary}
        return JSONResponse(body, 207)
    return JSONResponse({"status": "error", "data": None, "errors": errors, "summary": summary}, 400)


def _segment(call: Call) -> str | None:
    segment = call.query.get("segment")
    if segment is not None and segment not in SEGMENTS:
        raise Refusal("UDAPI1108", path="segment", invalid=segment)
    return segment


def _date(text: str) -> date:
    if not text:
        raise Refusal("UDAPI1068")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refusal("UDAPI1015", invalid=text) from None


def _number(text: str, name: str) -> int:
    if not text.lstrip("-").isdecimal():
        raise Refusal("UDAPI1071", path=name, invalid=text or None)
    return int(text)
