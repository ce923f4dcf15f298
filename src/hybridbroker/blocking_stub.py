"""Writes ``blocking.pyi``: what a type checker sees of `hybridbroker.blocking`, taken from the protocols themselves.

``python -m hybridbroker.blocking_stub`` prints it; a test compares it with the file.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final

from hybridbroker import protocols
from hybridbroker.execution.guarded import GuardedBroker
from hybridbroker.instruments.registry import InstrumentRegistry
from hybridbroker.session import Session, connect
from hybridbroker.strategy import run

__all__ = ["stub"]

_CLASSES: Final[dict[str, tuple[type, ...]]] = {
    "MarketStream": (protocols.MarketStream,),
    "MarketData": (protocols.MarketData, protocols.OptionChains, protocols.MarketSchedule),
    "Broker": (GuardedBroker,),
    "Session": (Session,),
}
_HEAD: Final = '''"""Written by `hybridbroker.blocking_stub`: do not edit."""

'''
_TAIL: Final = """
def backtest(*args: Any, **options: Any) -> Any: ...

class LoopThread:
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def wait_for(self, work: Coroutine[Any, Any, T]) -> T: ...

class Blocking:
    def __init__(self, inner: Any, loop: LoopThread) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> bool: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
"""
_WAITING: Final = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncIterator": "Iterator",
    "GuardedBroker": "Broker",
    "TradingSession": "Session",
}
_DUNDERS: Final = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}


def stub() -> str:
    """Return the text of ``blocking.pyi``."""
    wanted: dict[str, set[str]] = {
        "collections.abc": {"Coroutine", "Iterator"},
        "contextlib": {"AbstractContextManager"},
        "typing": {"Any", "Self", "TypeVar"},
    }
    body = []
    for name, sources in _CLASSES.items():
        lines = [line for source in sources for line in _members(source, wanted)]
        body.append(f"class {name}:\n" + "\n".join(dict.fromkeys(lines)) + "\n")
    opened = _function("connect", inspect.unwrap(connect), wanted, returns="AbstractContextManager[Session]")
    driven = _function("run", run, wanted, returns="None")
    load: Any = InstrumentRegistry.load
    loaded = _function("load_instruments", load.__func__, wanted, returns="InstrumentRegistry")
    wanted.setdefault("hybridbroker.instruments.registry", set()).add("InstrumentRegistry")
    imports = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(wanted.items()) if names]
    functions = f"{opened}\n{driven}\n{loaded}\n"
    return _HEAD + "\n".join(imports) + '\n\nT = TypeVar("T")\n\n' + "\n".join(body) + "\n" + functions + _TAIL


def _members(source: type, wanted: dict[str, set[str]]) -> Iterator[str]:
    for name in dir(source):
        value = inspect.getattr_static(source, name)
        if name.startswith("_") and name not in _DUNDERS:
            continue
        if isinstance(value, property):
            returns = _waiting(value.fget.__annotations__["return"], value.fget, wanted)
            yield f"    @property\n    def {name}(self) -> {returns}: ..."
        elif isinstance(value, FunctionType):
            text = _function(_DUNDERS.get(name, name), value, wanted)
            yield f"    {text}"
    for base in reversed(source.__mro__):
        for name, annotation in vars(base).get("__annotations__", {}).items():
            if not name.startswith("_") and "Callable" not in annotation:
                yield f"    {name}: {_waiting(annotation, base, wanted)}"


def _function(name: str, function: Any, wanted: dict[str, set[str]], *, returns: str | None = None) -> str:
    parts, star = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in {"self", "cls"}:
            if returns is None:
                parts.append("self")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        prefix = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        prefix = "**" if parameter.kind is parameter.VAR_KEYWORD else prefix
        star = star or prefix == "*"
        default = "" if parameter.default is parameter.empty else " = ..."
        parts.append(f"{prefix}{parameter.name}: {_waiting(parameter.annotation, function, wanted)}{default}")
    answer = returns or _waiting(inspect.signature(function).return_annotation, function, wanted)
    return f"def {name}({', '.join(parts)}) -> {answer}: ..."


def _waiting(annotation: str, where: Any, wanted: dict[str, set[str]]) -> str:
    """Return an annotation in the words of a caller who waits, noting what it needs imported."""
    tree = ast.parse(str(annotation), mode="eval")
    scope = vars(sys.modules[where.__module__])
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = _WAITING.get(node.id, node.id)
            _note(node.id, scope, wanted)
    return ast.unparse(tree)


def _note(name: str, scope: dict[str, Any], wanted: dict[str, set[str]]) -> None:
    if name in _CLASSES or name in _WAITING.values() or hasattr(builtins, name):
        return
    home = _HOMES.get(name) or str(getattr(scope.get(name), "__module__", "typing"))
    wanted.setdefault(home, set()).add(name)


_HOMES: Final = {
    "Any": "typing",
    "ChargeSchedule": "hybridbroker.simulation.charges",
    "MarketEvent": "hybridbroker.domain.market",
    "Progress": "hybridbroker.instruments.listings",
    "Self": "typing",
}
"""Where names live that do not say so: unions, and what is imported for type checkers alone."""


if __name__ == "__main__":
    sys.stdout.write(stub())
