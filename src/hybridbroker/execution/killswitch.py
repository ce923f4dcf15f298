"""One switch that ends entries: thrown by call, by a file, or by a signal; it stays thrown across restarts."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.events import tell

__all__ = ["KillSwitch"]

logger = logging.getLogger(__name__)


class KillSwitch:
    """While thrown, entries are refused; cancels and exits are not.

    The file *is* the switch where there is one: ``touch`` throws it, from any program, and
    deleting it releases it. Its text is the reason. ``path=None`` keeps it in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Return why the switch is thrown, or None while it is not.

        A file that cannot be looked at counts as thrown.
        """
        if self._reason is not None or self.path is None:
            return self._reason
        try:
            os.stat(self.path)  # noqa: PTH116 - asked before every order, and a quarter of the price of opening
            return self.path.read_text(encoding="utf-8", errors="replace").strip() or f"the file {self.path} exists"
        except FileNotFoundError:
            return None
        except OSError as exc:
            return f"the kill file {self.path} cannot be looked at: {exc}"

    def engage(self, reason: str) -> None:
        """Throw the switch; where its file cannot be written, it holds for this process."""
        tell("kill-switch-engaged", level=logging.WARNING, reason=reason)
        self._reason = reason
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(reason + "\n", encoding="utf-8")
            self._reason = None
        except OSError as exc:
            logger.warning("the kill switch holds in this process only, its file cannot be written: %s", exc)

    def release(self) -> None:
        """Allow entries again.

        Raises:
            ConfigurationError: The file cannot be deleted, so the switch stays thrown.
        """
        if self.path is not None:
            try:
                self.path.unlink(missing_ok=True)
            except OSError as exc:
                raise ConfigurationError(f"the kill file {self.path} cannot be deleted: {exc}") from exc
        self._reason = None
        tell("kill-switch-released")

    @contextmanager
    def on_signal(self, number: signal.Signals | None) -> Iterator[None]:
        """Throw the switch when the process gets this signal, while the context lasts.

        A signal that somebody handles already is left alone, and so is every signal outside
        the main thread, where Python hears none.
        """
        if (
            number is None
            or threading.current_thread() is not threading.main_thread()
            or signal.getsignal(number) is not signal.SIG_DFL
        ):
            yield
            return
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(number, self.engage, f"signal {number.name}")
        except NotImplementedError:
            # Windows' event loop: Python's own handlers work there, between two bytecodes.
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.engage, f"signal {number.name}"))
        try:
            yield
        finally:
            if not loop.remove_signal_handler(number):
                signal.signal(number, signal.SIG_DFL)


def default_signal() -> signal.Signals | None:
    """Return SIGUSR1, or what Windows has instead."""
    name = "SIGUSR1" if hasattr(signal, "SIGUSR1") else "SIGBREAK"
    return getattr(signal, name, None)
