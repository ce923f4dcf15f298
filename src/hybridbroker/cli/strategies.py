"""Bots by name, ``FILE.py:Class``: how the commands find one and build it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import attrs

from hybridbroker.domain.instrument import Instrument
from hybridbroker.errors import ConfigurationError
from hybridbroker.strategy import Strategy

__all__ = ["StrategyMaker", "load_strategy", "parameters"]


def load_strategy(name: str) -> type[Strategy]:
    """Import ``FILE.py:Class`` and return the class; the only strategy of a file needs no ``:Class``.

    Raises:
        ConfigurationError: No such file or class, it is no `Strategy`, or the file does not load.
    """
    text, _, wanted = name.partition(":")
    path = Path(text)
    if path.suffix != ".py" or not path.is_file():
        raise ConfigurationError(f"{text} is no Python file; name a bot as FILE.py:Class")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it ends in .py
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError) as exc:
        raise ConfigurationError(f"{path} does not load: {type(exc).__name__}: {exc}") from exc
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    }
    if wanted and wanted in found:
        return found[wanted]
    if not wanted and len(found) == 1:
        return next(iter(found.values()))
    known = ", ".join(found) or "no class derived from hybridbroker.Strategy"
    raise ConfigurationError(f"{path} has no strategy {wanted!r}; it has {known}" if wanted else f"{path} has {known}")


@attrs.frozen(kw_only=True)
class StrategyMaker:
    """Builds a strategy from parameters, here or in another process.

    A constructor with ``*names`` gets the ids of the instruments; parameters it does not take
    are set as attributes where the class has them. A strategy without instruments of its own
    gets all of them.
    """

    name: str
    """``FILE.py:Class``."""
    instruments: tuple[Instrument, ...]
    fixed: Mapping[str, Any] = attrs.field(factory=dict)
    """Parameters of every run."""

    def __call__(self, parameters: Mapping[str, Any]) -> Strategy:
        """Build one.

        Raises:
            ConfigurationError: It does not load, or does not know a parameter.
        """
        kind = load_strategy(self.name)
        given = {key: _fitting(kind, key, value) for key, value in {**self.fixed, **parameters}.items()}
        accepted, names = _signature(kind)
        ids: Sequence[str] = [each.id for each in self.instruments] if names else ()
        taken = {key: value for key, value in given.items() if accepted is None or key in accepted}
        try:
            strategy = kind(*ids, **taken)
        except TypeError as exc:
            raise ConfigurationError(f"{kind.__name__} cannot be built: {exc}; give parameters as name=value") from exc
        for key, value in given.items():
            if key not in taken:
                if not hasattr(strategy, key):
                    raise ConfigurationError(f"{kind.__name__} has no parameter {key!r}")
                setattr(strategy, key, value)
        if not strategy.instruments and not names:
            strategy.instruments = self.instruments
        return strategy


def _fitting(kind: type[Strategy], name: str, value: Any) -> Any:
    """Return a number as the kind of number that the default of that name is."""
    default = getattr(kind, name, None)
    if kind.__init__ is not object.__init__ and name in (known := inspect.signature(kind).parameters):
        default = known[name].default
    if isinstance(default, float | Decimal) and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return type(default)(value)
    return value


def _signature(kind: type[Strategy]) -> tuple[frozenset[str] | None, bool]:
    """Return the keywords that a constructor takes (None: any), and whether it takes names."""
    if kind.__init__ is object.__init__:
        return frozenset(), False
    parameters = inspect.signature(kind).parameters.values()
    names = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None, names
    keywords = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return frozenset(each.name for each in parameters if each.kind in keywords), names


def parameters(given: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` as the commands take them; raise `ConfigurationError` for anything else."""
    from hybridbroker.simulation.sweep import read_value

    read: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"{each!r} is no parameter; write name=value")
        read[name] = read_value(value)
    return read
