"""A published file brought to this disk: asked for only if it changed, bounded, and put in place whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from hybridbroker.clock import IST, Clock
from hybridbroker.errors import NetworkError, ServiceUnavailable, WireFormatError
from hybridbroker.transport.http import HttpClient
from hybridbroker.transport.policy import Timeouts

__all__ = ["MAX_BYTES", "Downloaded", "download"]

MAX_BYTES: Final = 256 * 1024 * 1024
"""Largest file that is taken unless the caller says otherwise."""

_TIMEOUTS: Final = Timeouts(read=30.0, total=600.0)


@attrs.frozen(kw_only=True)
class Downloaded:
    """A file on this disk, as current as its server says."""

    path: Path
    published: date | None
    """Day (IST) the server said it was last modified; None where it did not say."""
    changed: bool
    """Whether it came now, or was here already."""


async def download(
    url: str,
    *,
    to: Path,
    clock: Clock,
    progress: Callable[[str, int, int | None], None] | None = None,
    limit: int = MAX_BYTES,
) -> Downloaded:
    """Fetch ``url`` into the file ``to``, or leave the file alone where the server says it is current.

    The server's validators are kept beside the file (``.validators.json``), so that the next call
    asks conditionally; delete the file to have it come again. ``progress`` is told the file's name,
    bytes received and bytes expected.

    Raises:
        NetworkError: It could not be had after a few tries; a file that was there is untouched.
        WireFormatError: It is larger than ``limit``.
    """
    place = urlsplit(url)
    path = place.path + (f"?{place.query}" if place.query else "")
    beside = to.with_name(f"{to.name}.validators.json")
    known = _known(beside, url, file=to)

    def told(received: int, expected: int | None) -> None:
        if received > limit:
            raise WireFormatError(f"{url}: sends more than {limit:,} bytes; that is not the file it should be")
        if progress is not None:
            progress(to.name, received, expected)

    # Not JSON, and not compressed once more where it is a .gz already.
    client = HttpClient(
        base_url=f"{place.scheme}://{place.netloc}", headers={"Accept": "*/*"}, clock=clock, timeouts=_TIMEOUTS
    )
    async with client:
        try:
            reply = await client.get(path, headers=_conditions(known), progress=told)
        except NetworkError as exc:
            exc.args = (f"{place.hostname}: {exc}", *exc.args[1:])
            raise
    if reply.status == HTTPStatus.NOT_MODIFIED and known:
        return Downloaded(path=to, published=_day(known.get("last_modified")), changed=False)
    if reply.status != HTTPStatus.OK:
        raise ServiceUnavailable(f"{url}: HTTP {reply.status}: {reply.excerpt}", response=reply)
    last_modified = reply.headers.get("last-modified")
    beside.unlink(missing_ok=True)
    _put(to, reply.body)
    validators = {"url": url, "etag": reply.headers.get("etag"), "last_modified": last_modified}
    _put(beside, json.dumps(validators).encode())
    return Downloaded(path=to, published=_day(last_modified), changed=True)


def _known(beside: Path, url: str, *, file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        known = json.loads(beside.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and known.get("url") == url else {}


def _conditions(known: dict[str, Any]) -> dict[str, str]:
    names = {"If-None-Match": "etag", "If-Modified-Since": "last_modified"}
    return {header: known[name] for header, name in names.items() if known.get(name)}


def _day(last_modified: str | None) -> date | None:
    if last_modified is None:
        return None
    try:
        return parsedate_to_datetime(last_modified).astimezone(IST).date()
    except (TypeError, ValueError):
        return None


def _put(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
