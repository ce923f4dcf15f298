"""The same objects without ``await``: for notebooks and scripts, on a private event loop in a thread of its own.

```python
from hybridbroker import blocking

with blocking.connect(data="upstox", broker="paper", instruments="builtin") as session:
    reliance = session.instruments["NSE:RELIANCE"]
    print(session.data.quotes([reliance])[reliance].last_price)
```

Nothing is written twice: every call is handed to the asynchronous object behind it and waited
for, so what that object promises holds here too. A coroutine becomes a call, an asynchronous
context manager a ``with`` block, a stream an iterator. Ctrl-C while an order is on its way
cancels the wait, not the order: the journal looks it up.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Self, TypeVar

from hybridbroker.errors import ConfigurationError
from hybridbroker.protocols import Broker, MarketData

__all__ = ["Blocking", "LoopThread", "backtest", "connect", "load_instruments", "run"]

T = TypeVar("T")

_JOIN: Final = 30.0
"""Seconds that what is still running on the loop may take to end."""


class LoopThread:
    """An event loop in a daemon thread; enter it to start it, leave it to stop it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hybridbroker-loop", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait_for(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN)
        self._loop.close()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and return its result, or raise what it raised.

        Raises:
            ConfigurationError: Called from the loop's own thread, which would wait for ever.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise ConfigurationError("a blocking call inside a hook or callback would never return; await the call")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def enter(self, block: AbstractAsyncContextManager[T]) -> tuple[T, Callable[[BaseException | None], bool]]:
        """Enter ``block`` and return what it gave, and a function that leaves it."""
        stay = _Stay(block)
        value = self.wait_for(stay.begin())
        return value, lambda exc: self.wait_for(stay.end(exc))

    async def _cancel_all(self) -> None:
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


class _Stay:
    """An asynchronous context manager entered and left by one task, as some insist on."""

    def __init__(self, block: AbstractAsyncContextManager[Any]) -> None:
        self._block = block
        self._entered: asyncio.Future[Any] | None = None
        self._leave: asyncio.Future[BaseException | None] | None = None
        self._task: asyncio.Task[bool] | None = None

    async def begin(self) -> Any:
        loop = asyncio.get_running_loop()
        self._entered, self._leave = loop.create_future(), loop.create_future()
        self._task = asyncio.create_task(self._hold(), name="hybridbroker-block")
        try:
            await asyncio.wait({self._entered, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._task.done():
            await self._task  # raises what entering raised
        return self._entered.result()

    async def end(self, exc: BaseException | None) -> bool:
        assert self._leave is not None  # noqa: S101 - begun before
        assert self._task is not None  # noqa: S101 - begun before
        self._leave.set_result(exc)
        return await self._task

    async def _hold(self) -> bool:
        assert self._entered is not None  # noqa: S101 - begun before
        assert self._leave is not None  # noqa: S101 - begun before
        value = await self._block.__aenter__()
        self._entered.set_result(value)
        exc = await self._leave
        kind = None if exc is None else type(exc)
        return bool(await self._block.__aexit__(kind, exc, None if exc is None else exc.__traceback__))


class Blocking:
    """Any object of this library as seen from a thread that waits; built by `connect`, or around an object of yours.

    Attributes and methods are those of the object behind it; see its own documentation.
    """

    def __init__(self, inner: Any, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop
        self._leave: Callable[[BaseException | None], bool] | None = None

    def __getattr__(self, name: str) -> Any:
        inner, loop = self._inner, self._loop
        value = loop.wait_for(_read(inner, name))
        if not (inspect.ismethod(value) or inspect.isfunction(value)):
            return _view(value, loop)

        def call(*args: Any, **kwargs: Any) -> Any:
            return _view(loop.wait_for(_call(value, args, kwargs)), loop)

        call.__name__, call.__doc__ = name, value.__doc__
        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._inner) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<blocking {self._inner!r}>"

    def __enter__(self) -> Any:
        value, self._leave = self._loop.enter(self._inner)
        return self if value is self._inner else _view(value, self._loop)

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> bool:
        leave, self._leave = self._leave, None
        return leave(exc) if leave is not None else False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.wait_for(_call(self._inner.__anext__, (), {}))
        except StopAsyncIteration:
            raise StopIteration from None


@contextmanager
def connect(**options: Any) -> Iterator[Any]:
    """Open a session as `hybridbroker.connect` does, with the same arguments; leaving closes it."""
    from hybridbroker.session import connect as open_session

    ready = {name: _inner(each) for name, each in options.items()}
    with LoopThread() as loop, Blocking(open_session(**ready), loop) as session:
        yield Blocking(_inner(session), loop)


def run(strategy: Any, session: Any, *, until_close: bool = False) -> None:
    """Drive a strategy, whose hooks are coroutines as ever, until it ends; see `hybridbroker.run`."""
    from hybridbroker.strategy import run as drive

    loop: LoopThread = vars(session)["_loop"]
    loop.wait_for(drive(strategy, _inner(session), until_close=until_close))


def backtest(*args: Any, **options: Any) -> Any:
    """Run a strategy on history and return the result; see `hybridbroker.backtest`."""
    from hybridbroker import backtest as simulate

    with LoopThread() as loop:
        return loop.wait_for(simulate(*args, **options))


def load_instruments(**options: Any) -> Any:
    """Return today's registry, downloaded when needed; see `InstrumentRegistry.load`."""
    from hybridbroker.instruments.registry import InstrumentRegistry

    with LoopThread() as loop:
        return loop.wait_for(InstrumentRegistry.load(**options))


def _inner(value: Any) -> Any:
    return vars(value)["_inner"] if isinstance(value, Blocking) else value


async def _read(inner: Any, name: str) -> Any:
    return getattr(inner, name)


async def _call(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    return await value if isinstance(value, Awaitable) else value


def _view(value: Any, loop: LoopThread) -> Any:
    """Return what can be waited for as something that waits, and everything else as it is."""
    waits = isinstance(value, MarketData | Broker) or hasattr(value, "__aenter__") or hasattr(value, "__anext__")
    return Blocking(value, loop) if waits else value
