"""Domain values made without their checks, for code that makes many of them and knows them to be right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, Generic, TypeVar

import attrs

__all__ = ["Unchecked"]

T = TypeVar("T")


class Unchecked(Generic[T]):
    """Makes values of one frozen attrs class without its converters and validators.

    A frozen class has to set each field through ``object.__setattr__``. A subclass without that
    rule need not, and what it makes is then given the frozen class, since both have the same slots.
    Measured: a `Candle` in 0.5 µs instead of 1.6, an `Order` with a field changed in 2 µs instead of 7.
    """

    def __init__(self, kind: type[T]) -> None:
        names = [each.name for each in attrs.fields(kind)]  # type: ignore[arg-type,misc,unused-ignore]
        plain: Any = attrs.make_class(kind.__name__, names)
        body = {
            "__slots__": (),
            "__init__": plain.__init__,
            "__setattr__": object.__setattr__,
            # Nobody deletes; but Python takes its short way of setting only where neither is overridden.
            "__delattr__": object.__delattr__,
        }
        self._kind = kind
        self._twin: Any = type(kind.__name__, (kind,), body)
        self._read = attrgetter(*names)

    def __call__(self, *values: Any) -> T:
        """Return a value of all these fields, in the order of the class; none has a default."""
        new = self._twin(*values)
        new.__class__ = self._kind
        made: T = new
        return made

    def rows(self, *columns: Iterable[Any]) -> Iterator[T]:
        """Yield one value per row of columns of equal length, one for each field."""
        twin, kind = self._twin, self._kind
        for values in zip(*columns, strict=True):
            new = twin(*values)
            new.__class__ = kind
            yield new

    def draft(self, *values: Any) -> T:
        """Return one whose fields can still be set, by whoever made it, until it is `frozen`."""
        made: T = self._twin(*values)
        return made

    def frozen(self, draft: T) -> T:
        """Make a draft, if it still is one, the frozen value that it stands for; it stays the same object."""
        if type(draft) is self._twin:
            draft.__class__ = self._kind
        return draft

    def changed(self, value: T, **changes: Any) -> T:
        """Return ``value``, which may be of a subclass without fields of its own, with some fields changed."""
        new = self._twin(*self._read(value))
        for name, change in changes.items():
            setattr(new, name, change)
        new.__class__ = type(value)
        made: T = new
        return made
