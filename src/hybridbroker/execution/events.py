"""What happens to orders, as log records a person and a machine can read, and the file they go to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from hybridbroker.errors import ConfigurationError
from hybridbroker.execution.records import scrubbed

__all__ = ["JsonLines", "rotating_log", "tell"]

logger = logging.getLogger("hybridbroker.orders")

_MEGABYTE: Final = 1 << 20


def tell(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log one event: ``order-accepted client_order_id=… order_id=…``, the fields also as data."""
    if logger.isEnabledFor(level):
        known = {name: _clean(value) for name, value in fields.items() if value is not None}
        text = " ".join(f"{name}={value}" for name, value in known.items())
        logger.log(level, "%s %s", event, text, extra={"event": event, "fields": known})


def _clean(value: Any) -> Any:
    return scrubbed(value) if isinstance(value, str) else value


class JsonLines(logging.Formatter):
    """One JSON object a line: ``at``, ``level``, ``logger``, ``message``, and an event's own fields."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = [secret for secret in secrets if secret]

    def format(self, record: logging.LogRecord) -> str:
        """Write the record, without secrets."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = scrubbed(json.dumps(line, default=str))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def rotating_log(
    path: Path, *, secrets: Iterable[str] = (), size: int = 10 * _MEGABYTE, kept: int = 10
) -> logging.Handler:
    """Return a handler that writes `JsonLines` to ``path``, starting anew every ``size`` bytes, ``kept`` old files.

    The library installs no handlers by itself: add it to ``logging.getLogger("hybridbroker")``.

    Raises:
        ConfigurationError: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=size, backupCount=kept, encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"the log file {path} cannot be written: {exc}") from exc
    handler.setFormatter(JsonLines(secrets))
    return handler
