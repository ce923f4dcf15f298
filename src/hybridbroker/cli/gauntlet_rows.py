"""Each fault against each order call: what the broker received, what the caller was told, what is true."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from hybridbroker.brokers.dhan.broker import DhanBroker
from hybridbroker.brokers.dhan.settings import DhanSettings
from hybridbroker.clock import SystemClock
from hybridbroker.domain.orders import LimitOrder, Order, Side
from hybridbroker.errors import HybridBrokerError, NotSent, OrderOutcomeUnknown, RateLimited
from hybridbroker.execution import GuardedBroker, Patience, RiskLimits, guarded
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.testing.emulators import DhanEmulator, EmulatedMarket, Fault

__all__ = ["CALLS", "FAULTS", "Row", "at_emulator", "run_rows", "vendor_installed"]

CALLS: Final = ("place", "modify", "cancel")
_PLACES: Final = {"place": "POST /v2/orders", "modify": "PUT /v2/orders/*", "cancel": "DELETE /v2/orders/*"}
_ACCEPTED: Final = "accepted"
_UNKNOWN: Final = "unknown"
_AT_ONCE: Final = 9
_GIVE_UP: Final = 3.0
_REFUSAL: Final = b'{"errorType":"Order_Error","errorCode":"DH-906","errorMessage":"RMS: margin shortfall"}'

FAULTS: Final[dict[str, Fault | None]] = {
    "none": None,
    "slow answer": Fault.late_reply(0.5),
    "reply lost": Fault.lost_reply(),
    "request lost": Fault.lost_reply(accepted=False),
    "connection reset": Fault.reset(),
    "half a reply": Fault.truncated(),
    "hangs after accepting": Fault.hang(),
    "hangs": Fault.hang(accepted=False),
    "caller gives up": Fault.hang(),
    "500 after accepting": Fault.server_error(),
    "500": Fault.server_error(accepted=False),
    "502 page after accepting": Fault.html(accepted=True),
    "502 page": Fault.html(),
    "200 with garbage": Fault.garbage(),
    "429": Fault.rate_limited(),
    "401": Fault.unauthorised(),
    "refused": Fault.answer(_REFUSAL, status=400),
    "no connection": None,
}
"""What happens to the one request, by name; ``accepted`` ones are carried out all the same."""


@attrs.frozen(kw_only=True)
class Row:
    """One call under one fault."""

    client: str
    fault: str
    call: str
    posts: int
    """Requests of this call that the broker received."""
    orders: int
    """Orders at the exchange afterwards."""
    answer: str
    """What the caller was told: accepted, unknown, or why it was not done."""
    truth: str
    """Whether the exchange did it: done, or not done."""

    @property
    def ok(self) -> bool:
        """Say whether nothing was sent twice and the answer does not contradict the truth.

        ``unknown`` is right only about what the broker has nothing to show of.
        """
        done = self.truth == "done"
        return self.posts <= 1 and self.orders <= 1 and done == (self.answer == _ACCEPTED)


class Client(Protocol):
    """An order client under test; every call returns what its user would believe."""

    async def place(self) -> str: ...

    async def modify(self, order_id: str) -> str: ...

    async def cancel(self, order_id: str) -> str: ...

    async def settled(self) -> None: ...


def at_emulator(emulator: DhanEmulator) -> DhanBroker:
    """Return our Dhan slice pointed at the emulator."""
    settings = DhanSettings(
        client_id=emulator.client_id,
        access_token=emulator.access_token,
        base_url=emulator.rest_url,
        order_updates_url=emulator.order_updates_url,
        keep_warm_seconds=0,
    )
    return DhanBroker(settings, instruments=_REGISTRY, clock=SystemClock())


_REGISTRY: Final = InstrumentRegistry.builtin()
_RELIANCE: Final = _REGISTRY["NSE:RELIANCE"]


class _Ours:
    """A session's broker, as a strategy has it."""

    def __init__(self, broker: GuardedBroker) -> None:
        self._broker = broker

    async def place(self) -> str:
        order = LimitOrder(_RELIANCE, Side.BUY, quantity=1, price=1300)
        return await self._told(self._broker.place_order(order), done=lambda _: not self._broker.unresolved())

    async def modify(self, order_id: str) -> str:
        changing = self._broker.modify_order(order_id, price=Decimal(1310))
        return await self._told(changing, done=lambda order: order.price == Decimal(1310))

    async def cancel(self, order_id: str) -> str:
        return await self._told(self._broker.cancel_order(order_id), done=lambda order: order.is_final)

    async def settled(self) -> None:
        """Return at once: nothing of ours goes on that the answer did not wait for."""

    async def _told(self, call: Awaitable[Order], *, done: Callable[[Order], bool]) -> str:
        """Return what the caller learnt; one that gave up looks at the book a little later."""
        try:
            await call
        except OrderOutcomeUnknown:
            return _UNKNOWN
        except NotSent:
            return "not sent"
        except RateLimited:
            return "rate limited"
        except HybridBrokerError as exc:
            return type(exc).__name__
        except asyncio.CancelledError:
            await asyncio.sleep(_GIVE_UP)
            return _ACCEPTED if any(done(order) for order in await self._broker.orders()) else _UNKNOWN
        return _ACCEPTED


class _Vendor:
    """Dhan's own Python client; its base URL is all that is changed."""

    def __init__(self, emulator: DhanEmulator) -> None:
        import dhanhq

        context = dhanhq.DhanContext(emulator.client_id, emulator.access_token)
        http = context.get_dhan_http()
        http.base_url = emulator.rest_url
        http.session.trust_env = False
        http.timeout = 3
        self._client = dhanhq.dhanhq(context)
        self._thread = ThreadPoolExecutor(1)
        self._working: asyncio.Future[Any] | None = None

    async def place(self) -> str:
        return await self._call(
            "place_order", security_id="2885", exchange_segment="NSE_EQ", transaction_type="BUY", quantity=1,
            order_type="LIMIT", product_type="CNC", price=1300.0, tag="gauntlet",
        )  # fmt: skip

    async def modify(self, order_id: str) -> str:
        return await self._call("modify_order", order_id, "LIMIT", "ENTRY_LEG", 1, 1310.0, 0, 0, "DAY")

    async def cancel(self, order_id: str) -> str:
        return await self._call("cancel_order", order_id)

    async def _call(self, method: str, *arguments: Any, **options: Any) -> str:
        call = functools.partial(getattr(self._client, method), *arguments, **options)
        self._working = asyncio.get_running_loop().run_in_executor(self._thread, call)
        reply = await asyncio.shield(self._working)
        return _ACCEPTED if reply.get("status") == "success" else "failure"

    async def settled(self) -> None:
        """Wait for a call that its caller gave up: a thread cannot be told to stop."""
        if self._working is not None:
            await asyncio.wait([self._working])
        self._thread.shutdown()


def vendor_installed() -> bool:
    """Say whether Dhan's own client can be put through it as well."""
    from importlib.util import find_spec

    return find_spec("dhanhq") is not None


async def run_rows(*, faults: Sequence[str] = tuple(FAULTS), progress: Callable[[Row], None]) -> list[Row]:
    """Run every fault against every call and client, each on an emulator of its own."""
    clients = ["hybridbroker", *(["dhanhq"] if vendor_installed() else [])]
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(client: str, fault: str, call: str) -> Row:
        async with turns:
            row = await _run(client, fault, call)
        progress(row)
        return row

    wanted = [(client, fault, call) for client in clients for fault in faults for call in CALLS]
    return list(await asyncio.gather(*(one(*each) for each in wanted)))


async def _run(name: str, fault: str, call: str) -> Row:
    async with DhanEmulator(EmulatedMarket.still()) as emulator, _client(name, emulator) as client:
        order_id = ""
        if call != "place":
            await client.place()
            order_id = emulator.book()[0]["orderId"]
        method = _PLACES[call].partition(" ")[0]
        before = len(emulator.received(method))
        planned = FAULTS[fault]
        if planned is not None:
            emulator.faults.add(_PLACES[call], planned)
        if fault == "no connection":
            await emulator.stop()
        answer = await _answer(client, call, order_id, gives_up=fault == "caller gives up")
        await client.settled()
        if fault == "no connection":
            await emulator.start()
        book = emulator.book()
        return Row(
            client=name,
            fault=fault,
            call=call,
            posts=len(emulator.received(method)) - before,
            orders=len(book),
            answer=answer,
            truth="done" if _is_done(call, book) else "not done",
        )


async def _answer(client: Client, call: str, order_id: str, *, gives_up: bool) -> str:
    work = client.place() if call == "place" else getattr(client, call)(order_id)
    task: asyncio.Task[str] = asyncio.ensure_future(work)
    if gives_up:
        await asyncio.sleep(0.2)
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return _UNKNOWN


def _is_done(call: str, book: Sequence[dict[str, Any]]) -> bool:
    match call:
        case "place":
            return bool(book)
        case "modify":
            return any(row["price"] == 1310.0 for row in book)  # noqa: PLR2004 - what the calls above ask for
        case _:
            return any(row["orderStatus"] == "CANCELLED" for row in book)


@asynccontextmanager
async def _client(name: str, emulator: DhanEmulator) -> AsyncIterator[Client]:
    if name != "hybridbroker":
        yield _Vendor(emulator)
        return
    with tempfile.TemporaryDirectory(prefix="hybridbroker-gauntlet-") as directory:
        async with at_emulator(emulator) as bare:
            broker = guarded(
                bare,
                directory=Path(directory),
                limits=RiskLimits(duplicate_window=None),
                patience=Patience(deadline=_GIVE_UP),
            )
            async with broker:
                yield _Ours(broker)
