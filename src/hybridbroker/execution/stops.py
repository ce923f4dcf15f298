"""Why entries are stopped, remembered across restarts, and the voice that says so."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from hybridbroker.alerts import LogNotifier, Notifier
from hybridbroker.clock import IST, Clock
from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.events import tell
from hybridbroker.execution.journal import OrderJournal

__all__ = ["Alarm", "Stops"]

_NOTE = "stops"


class Alarm:
    """Alerts from code that cannot wait for them to be delivered."""

    def __init__(self, notifier: Notifier | None = None) -> None:
        self._notifier = notifier or LogNotifier()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, message: str) -> None:
        """Deliver ``message`` in the background."""
        task = asyncio.get_running_loop().create_task(self._notifier.notify(message), name="hybridbroker-alert")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until what was said is delivered."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Stops:
    """The reasons for which entries are refused now; exits and cancels never are for these."""

    def __init__(self, journal: OrderJournal, *, clock: Clock, alarm: Alarm) -> None:
        self._journal = journal
        self._clock = clock
        self._alarm = alarm
        self._reasons: dict[str, dict[str, Any]] = {}

    def load(self) -> None:
        """Take up the reasons that a former process left; those of one day end with it."""
        kept = json.loads(self._journal.note(_NOTE) or "{}")
        self._reasons = {key: why for key, why in kept.items() if why["day"] in {"", self._today()}}

    @property
    def reasons(self) -> Mapping[str, str]:
        """Return what stops entries, by kind; empty while they are allowed."""
        if not self._reasons:
            return {}
        today = self._today()
        return {key: str(why["message"]) for key, why in self._reasons.items() if why["day"] in {"", today}}

    def stop(self, key: str, message: str, *, day_only: bool = False, kept: bool = True) -> None:
        """Refuse entries from now on because of ``message``; repeated calls alert once.

        ``day_only`` ends with the trading day, ``kept=False`` with this process.
        """
        if key in self.reasons:
            return
        self._reasons[key] = {"message": message, "day": self._today() if day_only else "", "kept": kept}
        self._keep(f"entries stopped: {message}")
        tell("entries-stopped", level=logging.WARNING, cause=key, reason=message)
        self._alarm(f"entries stopped: {message}")

    def lift(self, key: str, *, why: str) -> None:
        """Allow entries again as far as this reason goes."""
        if self._reasons.pop(key, None) is not None:
            self._keep(f"{key} lifted: {why}")
            tell("entries-allowed", cause=key, reason=why)

    def _keep(self, why: str) -> None:
        lasting = {key: reason for key, reason in self._reasons.items() if reason["kept"]}
        try:
            self._journal.keep(_NOTE, json.dumps(lasting), why=why)
        except ConfigurationError as exc:
            # The reason holds in this process all the same, and a journal that cannot be written stops entries anyway.
            self._reasons.setdefault("journal", {"message": str(exc), "day": "", "kept": False})

    def _today(self) -> str:
        return f"{self._clock.now().astimezone(IST):%Y-%m-%d}"
