"""Telling a person: the `Notifier` protocol, a log by default, Telegram and the rest from an extra."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from hybridbroker.errors import ConfigurationError

__all__ = ["AppriseNotifier", "LogNotifier", "Notifier"]

logger = logging.getLogger(__name__)


class Notifier(Protocol):
    """Somewhere to send a short message."""

    async def notify(self, message: str) -> None:
        """Deliver ``message``, or log that it could not be; never raises, never holds up trading for long."""
        ...


class LogNotifier:
    """Alerts as log lines of level WARNING, logger ``hybridbroker.alerts``."""

    async def notify(self, message: str) -> None:
        """Write ``message`` to the log."""
        logger.warning("%s", message)


class AppriseNotifier:
    """Alerts through Apprise: Telegram, e-mail, Slack and a hundred others; needs the ``alerts`` extra.

    ``urls`` are Apprise's, such as ``tgram://<bot token>/<chat id>``; they hold secrets and
    are kept out of every log and repr.
    """

    def __init__(self, urls: Sequence[str], *, timeout: float = 10.0) -> None:
        try:
            import apprise
        except ImportError as exc:
            raise ConfigurationError("apprise is missing: pip install 'hybridbroker[alerts]'") from exc
        self._timeout = timeout
        self._target = apprise.Apprise()
        for index, url in enumerate(urls, start=1):
            if not self._target.add(url):
                raise ConfigurationError(f"alert address {index} of {len(urls)} is none that Apprise understands")

    async def notify(self, message: str) -> None:
        """Send ``message`` everywhere within the timeout; a failure becomes a log line that holds it."""
        try:
            async with asyncio.timeout(self._timeout):
                delivered = bool(await self._target.async_notify(body=message))
        except (TimeoutError, OSError):
            delivered = False
        if not delivered:
            logger.warning("delivering an alert failed: %s", message)
