"""No secret reaches a log handler, whoever logged it."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import quote

__all__ = ["Redact", "SecretHeaders", "install", "scrub"]

_MASK: Final = "***"
_QUERY: Final = re.compile(r"(?<=[\w/])\?[^\s\"'<>]*=[^\s\"'<>]*")
_TOKEN: Final = re.compile(r"\beyJ[\w-]{5,}[\w.-]*")
_FIELD: Final = re.compile(
    r"((?:authorization|access[-_]token|cookie|api[-_]key|secret|token|\bpin|\btotp)[\"']?\s*[:=]\s*[\"']?(?:bearer\s+)?)"
    r"(?!\*\*\*)[^\s\"',;}&]+",
    re.IGNORECASE,
)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` with ``secrets``, web tokens, credential headers and query strings masked."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    text = _QUERY.sub(f"?{_MASK}", text)
    text = _TOKEN.sub(_MASK, text)
    return _FIELD.sub(rf"\g<1>{_MASK}", text)


class SecretHeaders(dict[str, str]):
    """Headers that show their names alone, since error reports print the variables of each frame."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


class Redact(logging.Filter):
    """Mask secrets in a record (message, arguments, traceback) before any handler sees it.

    Put on a logger, it sees what is logged to that very logger; put on a handler, all the
    handler gets. It lets every record pass.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        super().__init__()
        self._secrets: frozenset[str] = frozenset()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Mask ``secret`` too from now on, plain and percent-encoded; an empty one is ignored."""
        if secret:
            self._secrets |= {secret, quote(secret, safe="")}

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask, then let the record pass."""
        record.msg, record.args = scrub(record.getMessage(), self._secrets), None
        if record.exc_info and record.exc_info[0] is not None:
            trace = record.exc_text or logging.Formatter().formatException(record.exc_info)
            clean = scrub(trace, self._secrets)
            if clean != trace:
                record.exc_text, record.exc_info = clean, None
        return True

    def __repr__(self) -> str:
        return f"<Redact {len(self._secrets)} secrets>"


def install(logger_names: Iterable[str], secrets: Collection[str]) -> Redact:
    """Put one `Redact` on the named loggers, on those below them, and on the handlers they reach.

    Logging knows no filter that is inherited, so loggers and handlers made later are not
    covered: call it after logging is configured. Returns the filter, to ``add`` a fresh token to.
    """
    redact = Redact(secrets)
    for name in logger_names:
        named = logging.getLogger(name)
        for logger in (named, *_below(name)):
            logger.addFilter(redact)
        for handler in _reached(named):
            handler.addFilter(redact)
    return redact


def _below(name: str) -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.items()
    return [each for key, each in known if key.startswith(f"{name}.") and isinstance(each, logging.Logger)]


def _reached(logger: logging.Logger) -> list[logging.Handler]:
    handlers: list[logging.Handler] = []
    above: logging.Logger | None = logger
    while above is not None:
        handlers.extend(above.handlers)
        above = above.parent if above.propagate else None
    return handlers
