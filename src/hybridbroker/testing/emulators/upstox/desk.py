"""The trading half of the emulated Upstox: book, GTT orders, account and portfolio stream, tied together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from hybridbroker.clock import Clock
from hybridbroker.simulation.charges import ChargeSchedule
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.testing.emulators.market import EmulatedMarket
from hybridbroker.testing.emulators.steps import Step
from hybridbroker.testing.emulators.upstox.account import UpstoxAccount
from hybridbroker.testing.emulators.upstox.book import UpstoxBook
from hybridbroker.testing.emulators.upstox.entries import Entry
from hybridbroker.testing.emulators.upstox.gates import Rule
from hybridbroker.testing.emulators.upstox.gtt import Gtt, UpstoxGtt
from hybridbroker.testing.emulators.upstox.rows import (
    PRODUCT_NAMES,
    holding_message,
    order_message,
    order_row,
    position_message,
)
from hybridbroker.testing.emulators.upstox.stream import PortfolioStream
from hybridbroker.testing.emulators.upstox.trading import UpstoxTrading

__all__ = ["UpstoxDesk"]


class UpstoxDesk:
    """Takes orders, carries them from one status to the next, and tells the stream."""

    def __init__(
        self,
        market: EmulatedMarket,
        exchange: SimulatedExchange,
        *,
        mtf_cash: Decimal,
        charges: ChargeSchedule | None,
        user_id: str,
        transit: float | None,
        token: Callable[[], str],
        clock: Clock,
    ) -> None:
        self.transit = transit
        self.exchange = exchange
        self.mtf = SimulatedExchange(cash=mtf_cash, clock=market.clock)
        self.stream = PortfolioStream()
        self._market = market
        self._user_id = user_id
        self._token = token
        self._clock = clock
        self._travelling: dict[Entry, asyncio.Task[None]] = {}
        self._filled: dict[Entry, int] = {}
        self._held: dict[str, dict[str, Any]] = {}
        self.book = UpstoxBook(
            market, exchange, self.mtf, tell=self._tell_order, moved=self._move, blocked=self._is_blocked
        )
        self.trading = UpstoxTrading(market, self.book, user_id=user_id)
        self.gtt = UpstoxGtt(market, self.book, tell=self._tell_gtt)
        self.account = UpstoxAccount(market, self.book, charges=charges, listing=self.trading.listing)

    def rules(self) -> Iterator[Rule]:
        """Return the calls."""
        for part in (self.trading, self.gtt, self.account):
            yield from part.rules()

    def open(self) -> None:
        """Note what is held, so that only changes are told."""
        self.book.open()
        self._held = dict(self._holdings())

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._travelling.values())
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def rows(self) -> list[dict[str, Any]]:
        """Return the day's orders as the order book shows them, oldest first."""
        return [order_row(each, self._user_id) for each in self.book.today()]

    def release(self) -> None:
        """Carry every order to where it is going, now."""
        for entry in self.book.today():
            while self.book.move(entry):
                pass

    async def on_step(self, step: Step) -> None:
        """Let the market move: first the orders, then the rules that wait for prices."""
        self.book.step(step)
        self.gtt.step(step)
        if step.status is not None:
            self._tell_holdings()

    def _is_blocked(self, segment: str) -> bool:
        return self.account.kill_switch.blocks(segment, self._token())

    def _move(self, entry: Entry) -> None:
        if self.transit == 0:
            asyncio.get_running_loop().call_soon(self._move_on, entry)
        elif self.transit is not None and entry not in self._travelling:
            task = asyncio.get_running_loop().create_task(self._travel(entry))
            self._travelling[entry] = task
            task.add_done_callback(lambda _: self._travelling.pop(entry, None))

    def _move_on(self, entry: Entry) -> None:
        while self.book.move(entry):
            pass

    async def _travel(self, entry: Entry) -> None:
        while entry.moves:
            await self._clock.sleep(self.transit or 0.0)
            self.book.move(entry)

    def _tell_order(self, entry: Entry) -> None:
        self.stream.tell(order_message(entry, self._user_id))
        filled = entry.state.filled
        if filled != self._filled.get(entry, 0):
            self._filled[entry] = filled
            self._tell_position(entry)
            self._tell_holdings()
        if entry.gtt_id is not None:
            self.gtt.on_order(entry)

    def _tell_gtt(self, gtt: Gtt) -> None:
        self.stream.tell({"update_type": "gtt_order", **gtt.row()})

    def _tell_position(self, entry: Entry) -> None:
        for each in entry.venue.positions():
            if each.instrument == entry.terms.listed.instrument and each.product == entry.terms.held_as():
                product = "MTF" if entry.venue is self.mtf else PRODUCT_NAMES[each.product]
                self.stream.tell(position_message(each, entry.terms.listed, product=product))

    def _holdings(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for each in self.exchange.holdings():
            listed = self._market.by_instrument(each.instrument)
            yield listed.upstox_key, holding_message(each, listed, product="D")

    def _tell_holdings(self) -> None:
        held = dict(self._holdings())
        for key, message in held.items():
            if message != self._held.get(key):
                self.stream.tell(message)
        for key in self._held.keys() - held.keys():
            self.stream.tell({**self._held[key], "quantity": 0, "t1_quantity": 0})
        self._held = held
