"""The file in which a paper account lives on: one process at a time, whole after a crash, never overwritten unread."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

from hybridbroker.clock import Clock
from hybridbroker.errors import ConfigurationError
from hybridbroker.files import FileLock, replace_file
from hybridbroker.protocols import InstrumentLookup
from hybridbroker.simulation.exchange import SimulatedExchange
from hybridbroker.simulation.restoring import restore
from hybridbroker.simulation.state import StateWriter

__all__ = ["PaperFile"]

logger = logging.getLogger(__name__)


class PaperFile:
    """Keeps one `SimulatedExchange` on disk."""

    def __init__(self, path: Path, *, instruments: InstrumentLookup, clock: Clock) -> None:
        self._path = path
        self._instruments = instruments
        self._clock = clock
        self._writer = StateWriter()
        self._stack = ExitStack()

    def open(self, exchange: SimulatedExchange) -> None:
        """Take the file for this process, and bring ``exchange``, which must be fresh, to where it was left.

        A night that passed meanwhile passes now. What the market said before counts as old:
        an order that comes now asks for a price anew.

        Raises:
            ConfigurationError: Another process has it, or it cannot be read; it stays as it is.
        """
        with ExitStack() as stack:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(
                    FileLock(
                        self._path.with_name(f"{self._path.name}.lock"),
                        use="trades on the paper account",
                        instead="give this one an account of its own with another file",
                    )
                )
                raw = self._path.read_bytes() if self._path.exists() else None
            except OSError as exc:
                raise ConfigurationError(f"{self._path}: {exc.strerror}; choose another place") from exc
            if raw is not None:
                self._restore(raw, exchange)
            self.save(exchange)
            self._stack = stack.pop_all()

    def save(self, exchange: SimulatedExchange) -> None:
        """Put the account as it is now into the file; when this returns, it survives a power cut.

        Raises:
            ConfigurationError: It cannot be written; the file holds what it held.
        """
        content = self._writer.dump(exchange, at=self._clock.now())
        try:
            replace_file(self._path, content)
        except OSError as exc:
            raise ConfigurationError(
                f"{self._path} cannot be written ({exc.strerror}); check the folder and its space"
            ) from exc

    def close(self) -> None:
        """Give the file back."""
        self._stack.close()

    def _restore(self, raw: bytes, exchange: SimulatedExchange) -> None:
        try:
            restore(raw, exchange, instruments=self._instruments, now=self._clock.now())
        except ConfigurationError as exc:
            raise ConfigurationError(f"{self._path} {exc}") from exc
        exchange.distrust_prices()
        changed = exchange.advance()
        logger.info("taking the paper account of %s up again; %d orders ended meanwhile", self._path, len(changed))
