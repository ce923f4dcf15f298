"""How long a token lives yet, in words."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from hybridbroker.clock import IST

__all__ = ["countdown"]

_DAYS: Final = timedelta(days=3)


def countdown(dies: datetime, *, now: datetime) -> str:
    """Return when a token dies (IST) and how far off that is: ``dies 16 Sep 2026 at 09:05 IST, in 3 h 20 min``."""
    when = f"{dies.astimezone(IST):%d %b %Y at %H:%M} IST"
    left = dies - now
    if left <= timedelta(0):
        return f"died {when}"
    if left >= _DAYS:
        return f"dies {when}, in {left.days} days"
    hours, minutes = divmod(int(left.total_seconds()) // 60, 60)
    return f"dies {when}, in {hours} h {minutes} min"
