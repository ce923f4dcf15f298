"""An answer over HTTP, and how to say in one line what it was."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

from hybridbroker.errors import WireFormatError
from hybridbroker.transport.redact import scrub

__all__ = ["Response"]

_EXCERPT: Final = 80
_HEAD: Final = 4096
_BOM: Final = b"\xef\xbb\xbf"
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


@attrs.frozen(kw_only=True)
class Response:
    """A whole answer, whatever its status."""

    status: int
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """As received; names are lower case."""
    request: str = ""
    """Method and path of what was asked, for error messages."""

    @property
    def is_html(self) -> bool:
        """Whether a page for humans came (an error page of the vendor's front), not data."""
        return self.body[:64].lstrip(_BOM + b" \t\r\n")[:1] == b"<"

    @property
    def excerpt(self) -> str:
        """The page's title, or else how the body begins: one short line, credentials masked."""
        text = self.body[:_HEAD].decode("utf-8", "replace")
        title = _TITLE.search(text) if self.is_html else None
        words = " ".join((html.unescape(title[1]) if title else text).split())
        return scrub(words)[:_EXCERPT]

    def json(self) -> Any:
        """Return the body read as JSON.

        Raises:
            WireFormatError: It is none: a page, cut short, or empty.
        """
        try:
            return msgspec.json.decode(self.body.removeprefix(_BOM))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            message = f"{self.request}: HTTP {self.status} with {len(self.body)} bytes that are not JSON"
            raise WireFormatError(f"{message} ({exc}): {self.excerpt!r}") from None
