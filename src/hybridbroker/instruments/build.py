"""From masters to a registry file: read, join, write."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hybridbroker.instruments.join import join
from hybridbroker.instruments.listings import Listings
from hybridbroker.instruments.writer import write

__all__ = ["build", "nothing_to_collect"]


def build(
    path: Path,
    readers: Sequence[Callable[[], Listings]],
    *,
    built_at: datetime | None,
    check: Callable[[Sequence[Listings]], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Read every master, join them, and put the registry at ``path``, whole or not at all.

    Raises:
        ConfigurationError: A file is not what it should be, or ``path`` cannot be written.
        HybridBrokerError: ``check`` did not like what was read.
    """
    with nothing_to_collect():
        masters = [read() for read in readers]
        if check is not None:
            check(masters)
        write(path, join(masters), masters, built_at=built_at, extra=extra)


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """Stop the garbage collector for the time of a build.

    Its many rows live until the end of it, and walking them over and over took a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
