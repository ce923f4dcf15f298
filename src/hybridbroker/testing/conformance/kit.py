"""Checks, what they are run on, and what came of them."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import attrs

from hybridbroker.clock import Clock, SystemClock
from hybridbroker.domain.instrument import Instrument
from hybridbroker.domain.orders import LimitOrder, Order, OrderStatus, Product, Side, make_client_order_id
from hybridbroker.errors import HybridBrokerError
from hybridbroker.protocols import Broker, Capability, MarketData

__all__ = [
    "BrokerSubject",
    "Check",
    "DataSubject",
    "Outcome",
    "Report",
    "Result",
    "Skipped",
    "broken",
    "expect",
    "raises",
    "run_check",
    "run_checks",
]

S = TypeVar("S")

_POLL: Final = 0.02


class Skipped(Exception):
    """This subject offers no way to look at the promise, such as a market that cannot be moved."""


class BrokenPromise(AssertionError):
    """The subject does not do what it promises; the message says what it did instead."""


def expect(condition: object, message: str) -> None:
    """Raise `BrokenPromise` unless ``condition`` holds."""
    if not condition:
        raise BrokenPromise(message)


def broken(message: str) -> BrokenPromise:
    """Return the exception that says what was done instead of what is promised."""
    return BrokenPromise(message)


async def raises(wanted: type[Exception] | tuple[type[Exception], ...], call: Awaitable[object]) -> None:
    """Await ``call`` and see that it raises what is promised."""
    names = wanted.__name__ if isinstance(wanted, type) else " or ".join(each.__name__ for each in wanted)
    try:
        answer = await call
    except wanted:
        return
    raise broken(f"no {names} was raised; the answer was {answer!r}")


@attrs.frozen(kw_only=True)
class _Subject:
    within: float = 10.0
    """Real seconds in which what is promised to come must have come."""

    async def until(self, look: Callable[[], Awaitable[Any]], what: str) -> Any:
        """Look again and again until there is something; raise `BrokenPromise` when time is up."""
        ends = time.monotonic() + self.within
        while True:
            found = await look()
            if found:
                return found
            expect(time.monotonic() < ends, f"within {self.within:.0f} s there was no {what}")
            await asyncio.sleep(_POLL)


@attrs.frozen(kw_only=True)
class BrokerSubject(_Subject):
    """A broker that was entered, and what may be done with it.

    **Orders are placed**, of one or two lots: hand over a simulated, sandboxed or emulated
    account. Run on live money only what you would send by hand.
    """

    broker: Broker
    instrument: Instrument
    """A share that may be traded, with an open session."""
    price: Decimal
    """Its last price, rupees."""
    product: Product = Product.INTRADAY
    clock: Clock = attrs.field(factory=SystemClock)
    move: Callable[[Decimal], Awaitable[None]] | None = None
    """Make the market trade at a price, where that is possible."""
    unmapped: Instrument | None = None
    """An instrument this broker does not list."""

    @property
    def quantity(self) -> int:
        """Return one lot."""
        return self.instrument.lot_size

    def at(self, fraction: str) -> Decimal:
        """Return a price this far from the last one: ``"-0.05"`` is five per cent below it."""
        return self.instrument.price(self.price * (1 + Decimal(fraction)))

    def name(self) -> str:
        """Return a fresh client order id."""
        return make_client_order_id(self.clock.now(), prefix="conf")

    async def moved(self, price: Decimal) -> None:
        """Move the market, or skip the check where nobody can."""
        if self.move is None:
            raise Skipped("the market of this subject cannot be moved")
        await self.move(price)

    async def trade(self, side: Side) -> Order:
        """Buy or sell one lot through the market, and return the filled order."""
        price = self.at("0.01" if side is Side.BUY else "-0.01")
        order = await self.broker.place_order(
            LimitOrder(self.instrument, side, quantity=self.quantity, price=price, product=self.product)
        )
        return await self.settled(order.id, lambda each: each.status is OrderStatus.FILLED, f"fill of a {side.value}")

    async def settled(self, order_id: str, condition: Callable[[Order], bool], what: str) -> Order:
        """Read an order until it is as wanted."""
        last: list[Order] = []

        async def look() -> Order | None:
            last[:] = [await self.broker.order(order_id)]
            return last[0] if condition(last[0]) else None

        try:
            found: Order = await self.until(look, what)
        except BrokenPromise as exc:
            state = f"{last[0].status.value} ({last[0].raw!r}, {last[0].reason!r})" if last else "never read"
            raise BrokenPromise(f"order {order_id}: {exc}; it is {state}") from None
        return found


@attrs.frozen(kw_only=True)
class DataSubject(_Subject):
    """A source of prices that was entered, and what it can be asked for."""

    data: MarketData
    instruments: Sequence[Instrument]
    """At least two that trade now."""
    clock: Clock = attrs.field(factory=SystemClock)
    move: Callable[[Instrument, float], Awaitable[None]] | None = None
    """Make the market trade at a price, where that is possible."""
    cut: Callable[[], Awaitable[None]] | None = None
    """Cut the connections of the open streams, where that is possible."""
    unmapped: Instrument | None = None

    async def moved(self, instrument: Instrument, price: float) -> None:
        """Move the market, or skip the check where nobody can."""
        if self.move is None:
            raise Skipped("the market of this subject cannot be moved")
        await self.move(instrument, price)


@attrs.frozen(kw_only=True)
class Check(Generic[S]):
    """One promise."""

    id: str
    """Stable; spaced by ten, so that others can come between."""
    body: Callable[[S], Awaitable[None]]
    needs: Capability = Capability.NONE
    """Abilities without which it is not asked."""
    places: bool = True
    """Whether it places orders; reading checks may be run on anybody's account."""

    @property
    def promise(self) -> str:
        """Return the promise as a sentence."""
        return inspect.cleandoc(self.body.__doc__ or "").splitlines()[0]


class Outcome(StrEnum):
    """What came of a check."""

    KEPT = "kept"
    BROKEN = "broken"
    SKIPPED = "skipped"


@attrs.frozen(kw_only=True)
class Result:
    """One check and what came of it."""

    id: str
    promise: str
    outcome: Outcome
    detail: str = ""


@attrs.frozen(kw_only=True)
class Report:
    """All checks and what came of them."""

    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Say whether at least one promise was kept and none was broken."""
        outcomes = {each.outcome for each in self.results}
        return Outcome.KEPT in outcomes and Outcome.BROKEN not in outcomes

    def __str__(self) -> str:
        return "\n".join(f"{each.id} {each.outcome.value:8} {each.promise} {each.detail}" for each in self.results)


async def run_check(check: Check[S], subject: S) -> Result:
    """Run one check; what it raises is in the result, except what no library may swallow."""
    abilities = _abilities(subject)
    if check.needs not in abilities:
        missing = ", ".join(str(flag.name) for flag in check.needs & ~abilities)
        return _result(check, Outcome.SKIPPED, f"needs {missing}")
    try:
        await check.body(subject)
    except Skipped as reason:
        return _result(check, Outcome.SKIPPED, str(reason))
    except (BrokenPromise, HybridBrokerError, TimeoutError) as exc:
        detail = str(exc) if isinstance(exc, BrokenPromise) else f"{type(exc).__name__}: {exc}"
        return _result(check, Outcome.BROKEN, detail)
    return _result(check, Outcome.KEPT, "")


async def run_checks(
    checks: Iterable[Check[S]], subject: S, *, after: Callable[[Result], None] = lambda _: None
) -> Report:
    """Run the checks one after the other; ``after`` is told each result as it comes."""
    results = []
    for check in checks:
        results.append(await run_check(check, subject))
        after(results[-1])
    return Report(results=tuple(results))


def _abilities(subject: Any) -> Capability:
    thing = subject.broker if isinstance(subject, BrokerSubject) else subject.data
    abilities: Capability = thing.capabilities
    return abilities


def _result(check: Check[Any], outcome: Outcome, detail: str) -> Result:
    return Result(id=check.id, promise=check.promise, outcome=outcome, detail=detail)
